/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * Merging: the step "record". What will be done is decided, checked and written down, in the
 * journal and in the manifest, before anything is changed.
 */
#include "agent/merge.h"

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

    if (!required_texts(params, keys, error) ||
        !strategy_from_word(json_text(params, "strategy"), &strategy, error))
        return false;
    if (json_number(params, "bandwidth") < 0)
        return error_set(error, ERR_INVALID, "the bandwidth is negative");
    return true;
}

/* What will it be, given how the VM is now? The manager's plan may be older than the VM's state. */
static const char *
choose_strategy(const Operation *op, const HvDomain *hv, bool has_leaf)
{
    if (hv->instance == NULL)
        return "cold-commit";
    if (!has_leaf)
        return "commit";
    if (g_strcmp0(op_text(op, "strategy"), "graft") == 0)
        return "graft";
    return g_strcmp0(op_text(op, "strategy"), "copy") == 0 ? "copy" : "commit-active";
}

static bool
check_strategy(const Operation *op, const Vm *vm, const char *chosen, GError **error)
{
    const char *asked = op_text(op, "strategy");

    if ((g_str_equal(asked, "copy") || g_str_equal(asked, "graft")) && !g_str_equal(chosen, asked))
        return error_set(error, ERR_REFUSED,
                         "VM '%s': %s needs a running VM and a run that holds the leaf; plan again",
                         vm->name, asked);
    return true;
}

/* Nobody else may stand on a volume that changes or vanishes. */
static bool
nobody_else_uses(Operation *op, const Disk *disk, int base, int top, bool base_changes,
                 GError **error)
{
    g_autoptr(Vm) seen = agent_vm_copy(op->agent, op->row.vm_id);
    g_autoptr(GPtrArray) own = g_ptr_array_new();

    for (guint i = 0; i < disk->volumes->len; i++)
        g_ptr_array_add(own, ((Volume *)disk->volumes->pdata[i])->path);
    g_ptr_array_add(own, NULL);
    for (int i = base_changes ? base : base + 1; i <= top; i++) {
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
    bool copy = g_str_equal(strategy, "copy");
    g_autoptr(json_t) after = paths_of(disk, 0, copy ? base - 1 : base);
    g_autoptr(json_t) above = paths_of(disk, top + 1, leaf);
    g_autofree char *dest = new_file_name(disk_leaf(disk)->path, op->row.id, "qcow2");

    if (copy) {
        g_autofree char *id = id_new();
        json_array_append_new(after, json_string(dest));
        op_remember(op, "dest", json_string(dest));
        op_remember(op, "dest_id", json_string(id));
    }
    json_array_extend(after, above);
    op_remember(op, "target", json_string(disk->target));
    op_remember(op, "strategy", json_string(strategy));
    op_remember(op, "before", paths_of(disk, 0, leaf));
    op_remember(op, "run", paths_of(disk, base, top));
    op_remember(op, "after", g_steal_pointer(&after));
    op_remember(op, "base_format", json_string(((Volume *)disk->volumes->pdata[base])->format));
    op_remember(op, "instance", hv->instance != NULL ? json_string(hv->instance) : NULL);
    op_remember(op, "began", json_integer(clock_wall_ms()));
    if (merge_is(op, "graft"))
        graft_plan(op, disk, base);
}

/* Restore points in [base, top) are changed by a commit as soon as it begins (H7). */
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
    g_autoptr(Vm) vm = op_manifest(op, &home, error);

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

    if (!agent_look(op->agent, op->entry, error) || (hv = op_hv(op, error)) == NULL ||
        (vm = op_manifest(op, &home, error)) == NULL ||
        !op_allowed(op, VERB_SNAPSHOT_DELETE, hv, vm, error) ||
        !find_run(op, vm, &disk, &base, &top, error))
        return false;
    g_assert(disk != NULL); /* found */
    bool has_leaf = top == (int)disk->volumes->len - 1;
    const char *strategy = choose_strategy(op, hv, has_leaf);
    bool graft = g_str_equal(strategy, "graft"), forward = graft || g_str_equal(strategy, "copy");
    /* a graft deletes the base too, so nobody may stand on it */
    if (!check_strategy(op, vm, strategy, error) ||
        !nobody_else_uses(op, disk, base, top, graft || !forward, error) ||
        (graft && !graft_is_possible(op, disk, base, error)))
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
