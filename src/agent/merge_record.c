/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * Merging: the step "record". What will be done is decided, checked and written down, in the
 * journal and in the manifest, before anything is changed.
 */
#include "agent/merge.h"

#include "agent/verify.h"

#include "base/clock.h"
#include "base/fault.h"
#include "base/text.h"
#include "model/plan.h"
#include "model/verbs.h"

bool
merge_params(const json_t *params, GError **error)
{
    static const char *const keys[] = { "disk_id", "base", "top", NULL };
    Strategy strategy;
    Verify verify;

    if (!required_texts(params, keys, error) ||
        !strategy_from_word(json_text(params, "strategy"), &strategy, error) ||
        !verify_from_word(json_text(params, "verify"), &verify, error))
        return false;
    if (json_number(params, "bandwidth") < 0)
        return error_set(error, ERR_INVALID, "the bandwidth is negative");
    return true;
}

static bool
asks_for_forward(const Operation *op)
{
    return strategy_is_forward(op_text(op, "strategy"));
}

/* What will it be, given how the VM is now? The manager's plan may be older than the VM's state. */
static const char *
choose_strategy(const Operation *op, const HvDomain *hv, bool has_leaf)
{
    if (asks_for_forward(op))
        return op_text(op, "strategy");
    if (hv->instance == NULL)
        return "cold-commit";
    return has_leaf ? "commit-active" : "commit";
}

static bool
check_strategy(const Operation *op, const HvDomain *hv, bool has_leaf, GError **error)
{
    if (hv->instance == NULL && hv->state != VM_DOWN)
        return error_set(error, ERR_BUSY, "VM '%s' is starting or stopping just now", hv->name);
    return has_leaf || !asks_for_forward(op) ||
           error_set(error, ERR_REFUSED, "VM '%s': %s goes up to the leaf; plan again", hv->name,
                     op_text(op, "strategy"));
}

/* Nobody else may stand on a volume that changes or vanishes. */
static bool
nobody_else_uses(Operation *op, const Disk *disk, int base, int top, GError **error)
{
    g_autoptr(Vm) seen = agent_vm_shown(op->agent, op->row.vm_id);
    g_autoptr(GPtrArray) own = g_ptr_array_new();

    for (guint i = 0; i < disk->volumes->len; i++)
        g_ptr_array_add(own, ((Volume *)disk->volumes->pdata[i])->path);
    g_ptr_array_add(own, NULL);
    for (int i = base; i <= top; i++) {
        const Volume *volume = disk->volumes->pdata[i];
        const Disk *seen_disk = seen != NULL ? vm_disk(seen, disk->id) : NULL;
        const Volume *seen_volume = seen_disk != NULL ? disk_volume(seen_disk, volume->id) : NULL;
        Domain *domain = agent_domain(op->agent, volume->path, false, error);
        g_autofree char *user = NULL;

        if (domain == NULL)
            return false;
        if (seen_volume != NULL && seen_volume->used_by != NULL)
            user = g_strdup(seen_volume->used_by);
        else if (!volume_find_user(domain, volume->path, (const char *const *)own->pdata, &user,
                                   error))
            return false;
        if (user != NULL)
            return error_set(error, ERR_REFUSED,
                             "disk %s: volume %s is used by %s, which the merge would break; "
                             "remove that user first",
                             disk->target, volume->path, user);
    }
    return true;
}

/* By what their headers say now; the manager's plan may be older. */
static bool
commit_keeps_all(const Disk *disk, int base, int top, bool runs, GError **error)
{
    g_autofree char *why =
        commit_size_blocker(disk->volumes->pdata[base], disk->volumes->pdata[top]);

    if (why == NULL)
        why = commit_snapshots_blocker(disk, (unsigned)base, (unsigned)top);
    if (why == NULL && !runs)
        why = commit_bitmaps_blocker(disk, (unsigned)base, (unsigned)top);

    return why == NULL ||
           error_set(error, ERR_REFUSED, "disk %s cannot be merged so: %s; nothing was changed",
                     disk->target, why);
}

static json_t *
paths_of(const Disk *disk, int from, int to)
{
    json_t *list = json_array();

    for (int i = from; i <= to; i++)
        json_array_append_new(list, json_string(((Volume *)disk->volumes->pdata[i])->path));
    return list;
}

static void
remember_plan(Operation *op, const HvDomain *hv, const Disk *disk, int base, int top,
              const char *strategy)
{
    int leaf = (int)disk->volumes->len - 1;
    g_autoptr(json_t) after = paths_of(disk, 0, base);
    g_autoptr(json_t) above = paths_of(disk, top + 1, leaf);

    json_array_extend(after, above);
    op_remember(op, "target", json_string(disk->target));
    op_remember(op, "strategy", json_string(strategy));
    op_remember(op, "before", paths_of(disk, 0, leaf));
    op_remember(op, "run", paths_of(disk, base, top));
    op_remember(op, "after", g_steal_pointer(&after));
    op_remember(op, "base_format", json_string(((Volume *)disk->volumes->pdata[base])->format));
    op_remember(op, "instance", hv->instance != NULL ? json_string(hv->instance) : NULL);
    op_remember(op, "began", json_integer(clock_wall_ms()));
    if (merge_is_forward(op))
        graft_plan(op, disk, base);
}

/* Snapshots in [base, top) are changed by a commit as soon as it begins (H7). */
static void
mark_unusable(Operation *op, Vm *vm, const Disk *disk, int base, int top)
{
    g_autoptr(json_t) marked = json_array();

    for (guint i = 0; i < vm->snapshots->len; i++) {
        Snapshot *snapshot = vm->snapshots->pdata[i];
        SnapshotDisk *sd = snapshot_disk(snapshot, disk->id);
        if (sd == NULL || sd->unusable)
            continue;
        int at = disk_volume_index(disk, sd->volume_id);
        if (at < base || at >= top)
            continue;
        sd->unusable = true;
        json_array_append_new(marked, json_string(snapshot->id));
    }
    op_remember(op, "marked", g_steal_pointer(&marked));
}

StepState
merge_record_check(void *self, GError **error)
{
    Operation *op = self;
    Domain *home = NULL;
    g_autoptr(Vm) vm = op_manifest_look(op, &home, error);

    if (vm == NULL || !op_connected(op, error))
        return STEP_UNKNOWN;
    return op_is_recorded(op, vm) && op_data(op, "target") != NULL ? STEP_DONE : STEP_TODO;
}

static bool
find_run(Operation *op, const Vm *vm, Disk **ret_disk, int *ret_base, int *ret_top, GError **error)
{
    Disk *disk = vm_disk(vm, op_text(op, "disk_id"));

    if (disk == NULL || !disk_is_managed(disk))
        return error_set(error, ERR_NOT_FOUND, "VM '%s' has no managed disk %s", vm->name,
                         op_text(op, "disk_id"));
    *ret_disk = disk;
    *ret_base = disk_volume_index(disk, op_text(op, "base"));
    *ret_top = disk_volume_index(disk, op_text(op, "top"));
    if (*ret_base < 0 || *ret_top <= *ret_base)
        return error_set(
            error, ERR_REFUSED,
            "VM '%s', disk %s: the chain has changed since the plan was made; nothing was "
            "changed, plan again",
            vm->name, disk->target);
    return true;
}

/* From record to settle the manifest names it. A job of ours that runs outdoes a manifest that is
 * an old copy itself. */
bool
merge_is_old(Operation *op, bool *ret_old, GError **error)
{
    static const char *const between[] = { "seal",   "prefill", "verify-built", "start", "transfer",
                                           "verify", NULL };
    g_autoptr(Vm) vm = NULL;
    HvJob job = { 0 };

    if (!g_strv_contains(between, op->row.step))
        return true;
    if (!op_manifest_if_any(op, &vm, error))
        return false;
    if (vm == NULL || op_is_recorded(op, vm)) /* NULL: nothing that would tell */
        return true;
    if (!op->agent->hv->ops->job_look(op->agent->hv, op->row.vm_id, op_data(op, "target"), &job,
                                      error))
        return false;
    *ret_old = job.type == HV_JOB_NONE && !cold_is_running(op);
    return true;
}

bool
merge_record_act(void *self, GError **error)
{
    Operation *op = self;
    g_autoptr(HvDomain) hv = NULL;
    Domain *home = NULL;
    g_autoptr(Vm) vm = NULL;
    Disk *disk = NULL;
    int base = -1, top = -1;
    ChainState state;

    if ((hv = op_hv_published(op, error)) == NULL || !outside_look_again(op->agent, error) ||
        (vm = op_manifest(op, &home, error)) == NULL ||
        !op_allowed(op, VERB_SNAPSHOT_DELETE, hv, vm, error) ||
        !find_run(op, vm, &disk, &base, &top, error))
        return false;
    g_assert(disk != NULL); /* found */
    bool has_leaf = top == (int)disk->volumes->len - 1;
    const char *strategy = choose_strategy(op, hv, has_leaf);
    bool forward = asks_for_forward(op);
    /* what others stand on stays where it is, if it is not written into */
    if (!check_strategy(op, hv, has_leaf, error) ||
        !verify_is_possible(op, disk, (unsigned)top, strategy, error) ||
        !(forward ? graft_is_possible(op, hv, disk, base, error)
                  : nobody_else_uses(op, disk, base, top, error) &&
                        commit_keeps_all(disk, base, top, hv->instance != NULL, error)))
        return false;
    remember_plan(op, hv, disk, base, top, strategy);
    if (!merge_chain_state(op, hv, &state, error))
        return false;
    if (state != CHAIN_BEFORE)
        return error_set(error, ERR_REFUSED,
                         "VM '%s', disk %s: the chain is not as the manifest says", vm->name,
                         disk->target);
    if (!forward)
        mark_unusable(op, vm, disk, base, top);
    if (!operation_save(op, error))
        return false;
    op_record(op, vm);
    return fault_point("agent.merge.before-record", error) && manifest_save(home, vm, error);
}
