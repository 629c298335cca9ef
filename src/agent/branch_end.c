/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * The end of a preview. Either way one write of the manifest decides (branch.h), and what is not
 * needed any more is a leftover from then on, which the manager has deleted (delete-volumes).
 *
 *   commit ─► (end)           on refusal ─► failed ─► (end, failed): it is previewed as before
 *   undo ─► define ─► (end)                   └─► (end), or define: it was done all the same
 *
 * What they remember (row.data): result.volumes_left; undo also disks: [{"target", "leaf",
 * "format"}] and former (domain XML), to which the definition goes back, and configured (it has).
 */
#include "agent/branch.h"
#include "agent/inventory.h"

#include "base/fault.h"
#include "base/log.h"
#include "base/text.h"
#include "model/verbs.h"

#define START_LOCK_MS 5000

/* ---- what both begin with; also preview.c ---- */

void
branch_hold_clear(BranchHold *hold)
{
    hv_domain_free(hold->hv);
    vm_free(hold->vm);
    if (hold->start_lock >= 0)
        autofd_close(&hold->start_lock);
    lease_drop(&hold->lease);
}

static bool
knows_leaves(const Vm *vm, const HvDomain *hv)
{
    for (guint i = 0; i < vm->disks->len; i++) {
        const Disk *disk = vm->disks->pdata[i];
        const HvDisk *now = hv_domain_disk(hv, disk->target);
        if (disk->volumes->len > 0 && now != NULL && now->source != NULL &&
            agent_known_volume(disk, now->source) == NULL)
            return false;
    }
    return true;
}

/* The VM may have been powered off before anybody had looked at what somebody else has put on it:
 * whoever made the definition name the leaf that the manifest knows would throw that away. */
static bool
learn_leaves(Operation *op, BranchHold *hold, GError **error)
{
    if (knows_leaves(hold->vm, hold->hv))
        return true;
    vm_free(hold->vm);
    hold->vm = agent_build_vm(op->agent, op->entry, hold->hv, &hold->home, error);
    return hold->vm != NULL &&
           (hold->home != NULL ||
            error_set(error, ERR_BUSY, "VM '%s': none of its disks can be managed just now",
                      hold->hv->name));
}

bool
branch_hold(Operation *op, int verb, BranchHold *hold, GError **error)
{
    if ((hold->vm = op_manifest(op, &hold->home, error)) == NULL ||
        !op_lease(op, hold->home, &hold->lease, error))
        return false;
    hold->start_lock = vm_start_lock(hold->home, op->row.vm_id, START_LOCK_MS, error);
    return hold->start_lock >= 0 && (hold->hv = op_hv(op, error)) != NULL &&
           learn_leaves(op, hold, error) && op_allowed(op, verb, hold->hv, hold->vm, error);
}

bool
branch_is_on(const HvDomain *hv, const json_t *disks, const char *key)
{
    size_t i;
    json_t *disk;

    json_array_foreach ((json_t *)disks, i, disk) {
        const HvDisk *now = hv_domain_disk(hv, json_text(disk, "target"));
        if (now == NULL || g_strcmp0(now->source, json_text(disk, key)) != 0)
            return false;
    }
    return true;
}

bool
branch_define(Operation *op, const json_t *disks, const char *key, const char *format_key,
              GError **error)
{
    return op_define(op, NULL, disks, key, format_key, error);
}

bool
branch_is_refused(const GError *problem)
{
    return g_error_matches(problem, ERR, ERR_HYPERVISOR) ||
           g_error_matches(problem, ERR, ERR_CORRUPT) || g_error_matches(problem, ERR, ERR_INVALID);
}

bool
branch_configure(Operation *op, const char *config, const json_t *disks, const char *key,
                 const char *format_key, GError **error)
{
    g_autoptr(GError) problem = NULL;

    if (!op_define(op, config, disks, key, format_key, &problem)) {
        if (config == NULL || !branch_is_refused(problem)) {
            g_propagate_error(error, g_steal_pointer(&problem));
            return false;
        }
        log_vm_warn(op->row.vm_id, op->row.id, "its configuration stays as it is now: %s",
                    problem->message);
        op_result(op, "configuration_kept", json_string(problem->message));
        if (!branch_define(op, disks, key, format_key, error))
            return false;
    }
    op_remember(op, "configured", json_true());
    return true;
}

bool
branch_end_params(const json_t *params, GError **error)
{
    return id_is_valid(json_text(params, "snapshot_id")) ||
           error_set(error, ERR_INVALID, "'snapshot_id' is missing, or not a UUID");
}

/* ---- the moment ---- */

static bool
has_begun(const Operation *op)
{
    return json_object_get(json_object_get(op->row.data, "result"), "volumes_left") != NULL;
}

static StepState
end_check(void *self, GError **error)
{
    Operation *op = self;
    Domain *home = NULL;
    g_autoptr(Vm) vm = op_manifest_look(op, &home, error);

    if (vm == NULL || !op_connected(op, error))
        return STEP_UNKNOWN;
    if (vm->preview == NULL && has_begun(op))
        return STEP_DONE;
    if (vm->preview == NULL || !g_str_equal(vm->preview->snapshot, op_text(op, "snapshot_id"))) {
        error_set(error, ERR_INVALID, "VM '%s' does not preview snapshot %s", vm->name,
                  op_text(op, "snapshot_id"));
        return STEP_FAILED;
    }
    return STEP_TODO;
}

static bool
stands_on(const Vm *vm, const json_t *disks)
{
    size_t i;
    json_t *entry;

    json_array_foreach ((json_t *)disks, i, entry) {
        const Disk *disk = vm_disk(vm, json_text(entry, "target"));
        const Volume *leaf = disk != NULL ? disk_leaf(disk) : NULL;
        if (leaf == NULL || g_strcmp0(leaf->path, json_text(entry, "leaf")) != 0)
            return false;
    }
    return true;
}

/* What is tried by now was begun after this was asked for; and once it has ended, the VM goes on
 * from other leaves. */
bool
branch_end_is_old(Operation *op, bool *ret_old, GError **error)
{
    g_autoptr(Vm) vm = NULL;

    if (!op_manifest_if_any(op, &vm, error))
        return false;
    if (vm == NULL)
        return true;
    *ret_old = vm->preview != NULL && vm->preview->date > op->row.created;
    if (g_str_equal(op->row.step, "define"))
        *ret_old = vm->preview != NULL || !stands_on(vm, json_object_get(op->row.data, "disks"));
    return true;
}

/* The leaves of the previewed disks as they are now in vm. */
static json_t *
leaves_of(const Vm *vm, const Preview *preview)
{
    json_t *list = json_array();

    for (guint i = 0; i < preview->disks->len; i++) {
        const PreviewDisk *part = preview->disks->pdata[i];
        const Disk *disk = vm_disk(vm, part->disk_id);
        const Volume *leaf = disk != NULL ? disk_leaf(disk) : NULL;
        if (leaf != NULL)
            json_array_append_new(list, json_pack("{s:s, s:s, s:s}", "target", disk->target, "leaf",
                                                  leaf->path, "format", leaf->format));
    }
    return list;
}

static void
remember_left(Operation *op, const GPtrArray *left)
{
    json_t *list = json_array();

    for (guint i = 0; i < left->len; i++)
        json_array_append_new(list, json_string(left->pdata[i]));
    op_result(op, "volumes_left", list);
}

/* What is not needed any more is durable in the journal before anybody could look for it. */
static bool
decide(Operation *op, BranchHold *hold, const GPtrArray *left, GError **error)
{
    remember_left(op, left);
    return operation_save(op, error) && fault_point("agent.branch.before-manifest", error) &&
           lease_check(&hold->lease, error) && manifest_save(hold->home, hold->vm, error) &&
           fault_point("agent.branch.after-manifest", error);
}

static bool
commit_act(void *self, GError **error)
{
    Operation *op = self;
    g_auto(BranchHold) hold = BRANCH_HOLD_NONE;
    g_autoptr(GPtrArray) left = g_ptr_array_new_with_free_func(g_free);
    g_autoptr(json_t) leaves = NULL;

    if (!branch_hold(op, VERB_SNAPSHOT_COMMIT, &hold, error))
        return false;
    /* one that was lost with the host's power is made once more */
    leaves = leaves_of(hold.vm, hold.vm->preview);
    return preview_alone_define_lost(op, hold.hv, hold.vm, error) &&
           vm_commit_preview(hold.vm, left, error) &&
           branch_define(op, leaves, "leaf", "format", error) && decide(op, &hold, left, error) &&
           agent_look(op->agent, op->entry, error);
}

static bool
undo_act(void *self, GError **error)
{
    Operation *op = self;
    g_auto(BranchHold) hold = BRANCH_HOLD_NONE;
    g_autoptr(GPtrArray) left = g_ptr_array_new_with_free_func(g_free);
    g_autoptr(Preview) preview = NULL;

    if (!branch_hold(op, VERB_SNAPSHOT_UNDO, &hold, error))
        return false;
    g_autoptr(Vm) before = vm_copy(hold.vm);
    preview = g_steal_pointer(&before->preview);
    if (!vm_undo_preview(hold.vm, left, error))
        return false;
    op_remember(op, "disks", leaves_of(hold.vm, preview));
    if (preview->former != NULL)
        op_remember(op, "former", json_string(preview->former));
    return decide(op, &hold, left, error);
}

/* ---- undo: the definition follows ---- */

static StepState
define_check(void *self, GError **error)
{
    Operation *op = self;
    const json_t *disks = json_object_get(op->row.data, "disks");
    g_autoptr(HvDomain) hv = op_hv(op, error);

    if (hv == NULL)
        return STEP_UNKNOWN;
    /* one that has been started meanwhile stays as it is; without disks nothing but its definition
     * tells what it was, and that goes back beside a VM that runs, too */
    bool may_be_defined = hv->state == VM_DOWN || json_array_size(disks) == 0;
    if (branch_is_on(hv, disks, "leaf") &&
        (op_data(op, "former") == NULL || json_flag(op->row.data, "configured") || !may_be_defined))
        return STEP_DONE;
    if (may_be_defined)
        return STEP_TODO;
    error_set(error, ERR_BUSY,
              "VM '%s' was started from the preview just when that was undone: shut it down to go "
              "on; what it writes there is thrown away",
              hv->name);
    return STEP_UNKNOWN;
}

static bool
define_act(void *self, GError **error)
{
    Operation *op = self;

    return branch_configure(op, op_data(op, "former"), json_object_get(op->row.data, "disks"),
                            "leaf", "format", error) &&
           fault_point("agent.branch.after-define", error) &&
           agent_look(op->agent, op->entry, error);
}

/* Did it happen all the same? Then the cancel came too late, or what failed came after it. */
static StepState
failed_check(void *self, GError **error)
{
    Operation *op = self;
    Domain *home = NULL;
    g_autoptr(Vm) vm = has_begun(op) ? op_manifest_look(op, &home, error) : NULL;

    if (!has_begun(op) || (vm != NULL && vm->preview != NULL))
        return STEP_DONE;
    if (vm == NULL)
        return STEP_UNKNOWN;
    machine_forgive(&op->machine);
    return op->kind->steps == branch_undo_steps ? STEP_BACK : STEP_DONE;
}

/* clang-format off */
const Step branch_commit_steps[] = {
    /* name     check         act         tries  cancel  if it failed  next      if it was done */
    { "commit", end_check,    commit_act, 5,     true,   "failed",     STEP_END },
    { "failed", failed_check, NULL,       0,     false,  NULL,         STEP_END, "commit" },
    { NULL },
};
const Step branch_undo_steps[] = {
    { "undo",   end_check,    undo_act,   5,     true,   "failed",     "define" },
    { "define", define_check, define_act, 0,     false,  NULL,         STEP_END },
    { "failed", failed_check, NULL,       0,     false,  NULL,         STEP_END, "define" },
    { NULL },
};
/* clang-format on */
