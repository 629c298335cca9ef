/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * Trying a snapshot: a VM that is off gets a new leaf above the snapshot's volumes.
 *
 *   prepare ─► enter ─► define ─► (end)
 *      │         │        │
 *      └─────────┴────────┴─────► undo ─► (end, failed), or define: somebody has started it from
 * the new leaf already
 *
 * prepare records the operation and makes the empty leaves; enter is the moment (branch.h); define
 * makes libvirt's definition follow. Only a VM that somebody has started from its old leaf at that
 * very moment, past the start guard, makes it go back.
 *
 * Of a snapshot of the configuration alone (preview_alone.c) there are no leaves.
 *
 * What it remembers (row.data): disks: [{"id", "target", "leaf" (the snapshot's volume), "format"
 * (of that), "overlay" (the new leaf), "overlay_id", "overlay_format", "old", "old_format"}],
 * generation (of the manifest before it), prepared (all leaves were made), configured (the
 * definition is that of the snapshot's time); for an undo: former (domain XML, as it was before),
 * returned (the definition has gone back to it).
 */
#include "agent/branch.h"
#include "agent/overlay.h"
#include "agent/snapshot.h"

#include "base/clock.h"
#include "base/fault.h"
#include "base/text.h"
#include "model/verbs.h"
#include "qcow2/qcow2.h"

bool
preview_params(const json_t *params, GError **error)
{
    const json_t *disks = json_object_get(params, "disks");

    if (!id_is_valid(json_text(params, "snapshot_id")))
        return error_set(error, ERR_INVALID, "'snapshot_id' is missing, or not a UUID");
    for (size_t i = 0; i < json_array_size(disks); i++)
        if (json_string_value(json_array_get(disks, i)) == NULL)
            return error_set(error, ERR_INVALID, "member %zu of 'disks' is not text", i);
    return disks == NULL || json_array_size(disks) > 0 ||
           error_set(error, ERR_INVALID, "'disks' names none");
}

/* ---- prepare ---- */

static bool
is_listed(const json_t *list, const Disk *disk)
{
    size_t i;
    json_t *id;

    json_array_foreach (list, i, id)
        if (g_strcmp0(json_string_value(id), disk->id) == 0)
            return true;
    return false;
}

/* Where its new leaf will stand; NULL = the reason is told. */
static const Volume *
base_of(const Vm *vm, const Snapshot *snapshot, const Disk *disk, GError **error)
{
    const SnapshotDisk *part = snapshot_disk(snapshot, disk->id);
    int at = part != NULL ? disk_volume_index(disk, part->volume_id) : -1;

    if (part != NULL && part->unusable)
        error_set(
            error, ERR_REFUSED,
            "snapshot '%s' of VM '%s' is unusable on disk %s: a merge has begun to change its "
            "volume; it can only be deleted",
            snapshot->name, vm->name, disk->target);
    else if (part == NULL && snapshot_is_config_only(snapshot))
        error_set(error, ERR_REFUSED,
                  "snapshot '%s' of VM '%s' holds the configuration alone, and nothing of disk %s; "
                  "name no disk: all go on from what they have. Nothing was changed",
                  snapshot->name, vm->name, disk->target);
    else if (part == NULL)
        error_set(error, ERR_REFUSED,
                  "snapshot '%s' of VM '%s' holds nothing of disk %s, which would go on from what "
                  "it has now. If that is wanted, name the disks that shall go back "
                  "(--disk); nothing was changed",
                  snapshot->name, vm->name, disk->target);
    else if (at < 0 || at + 1 == (int)disk->volumes->len)
        error_set(error, ERR_REFUSED,
                  "snapshot '%s' of VM '%s': its volume of disk %s is not below the leaf any more; "
                  "look what livemerge doctor %s says",
                  snapshot->name, vm->name, disk->target, vm->id);
    else
        return disk->volumes->pdata[at];
    return NULL;
}

static json_t *
disk_plan(const Operation *op, const Disk *disk, const Volume *base)
{
    const Volume *old = disk_leaf(disk);
    g_autofree char *overlay = new_file_name(old->path, op->row.id, "qcow2");
    g_autofree char *id = id_new();

    return json_pack("{s:s, s:s, s:s, s:s, s:s, s:s, s:s, s:s, s:s}", "id", disk->id, "target",
                     disk->target, "leaf", base->path, "format", base->format, "overlay", overlay,
                     "overlay_id", id, "overlay_format", "qcow2", "old", old->path, "old_format",
                     old->format);
}

/* Memory fits all disks as they were, and nothing else. */
static bool
has_memory(const Vm *vm, const Snapshot *snapshot, bool some_disks, GError **error)
{
    if (snapshot->memory == NULL || !g_file_test(snapshot->memory, G_FILE_TEST_EXISTS))
        return error_set(error, ERR_REFUSED, "snapshot '%s' of VM '%s' has no memory",
                         snapshot->name, vm->name);
    return !some_disks ||
           error_set(error, ERR_INVALID, "with memory all disks go back, not only some of them");
}

static bool
make_plan(Operation *op, const Vm *vm, GError **error)
{
    const Snapshot *snapshot = vm_snapshot(vm, op_text(op, "snapshot_id"));
    const json_t *list = json_object_get(op->row.params, "disks");
    g_autoptr(json_t) disks = json_array();

    if (snapshot == NULL)
        return error_set(error, ERR_NOT_FOUND, "VM '%s' has no snapshot %s", vm->name,
                         op_text(op, "snapshot_id"));
    bool no_disks = list == NULL && snapshot_is_config_only(snapshot);
    if (json_flag(op->row.params, "memory") && !has_memory(vm, snapshot, list != NULL, error))
        return false;
    for (guint i = 0; !no_disks && i < vm->disks->len; i++) {
        const Disk *disk = vm->disks->pdata[i];
        if (!disk_is_managed(disk) || disk->read_only || (list != NULL && !is_listed(list, disk)))
            continue;
        const Volume *base = base_of(vm, snapshot, disk, error);
        if (base == NULL)
            return false;
        json_array_append_new(disks, disk_plan(op, disk, base));
    }
    if ((json_array_size(disks) == 0 && !no_disks) ||
        (list != NULL && json_array_size(list) != json_array_size(disks)))
        return error_set(error, ERR_NOT_FOUND,
                         "VM '%s' has not all of these disks, or they cannot be managed", vm->name);
    op_remember(op, "disks", g_steal_pointer(&disks));
    op_remember(op, "generation", json_integer(vm->generation));
    return true;
}

/* As the start will read it: a relative name through a symbolic link can mean another file. */
static bool
make_leaf(Operation *op, const json_t *disk, GError **error)
{
    const char *overlay = json_text(disk, "overlay"), *base = json_text(disk, "leaf");
    const Domain *domain = agent_domain(op->agent, overlay, false, error);
    g_autoptr(GPtrArray) layers = NULL;

    if (domain == NULL || !snapshot_make_overlay(disk, error) || !volume_sync(overlay, error) ||
        (layers = qcow2_chain_walk(overlay, "qcow2", domain->path, error)) == NULL)
        return false;
    return (layers->len > 1 &&
            file_is_same(((Qcow2Layer *)layers->pdata[layers->len - 2])->path, base)) ||
           error_set(error, ERR_REFUSED,
                     "the new volume %s does not stand on %s; nothing was changed", overlay, base);
}

static bool
prepare_act(void *self, GError **error)
{
    Operation *op = self;
    g_autoptr(HvDomain) hv = op_hv(op, error);
    Domain *home = NULL;
    g_autoptr(Vm) vm = NULL;
    size_t i;
    json_t *disk;

    if (hv == NULL || (vm = op_manifest(op, &home, error)) == NULL ||
        !op_allowed(op, VERB_SNAPSHOT_PREVIEW, hv, vm, error) ||
        (json_object_get(op->row.data, "disks") == NULL && !make_plan(op, vm, error)) ||
        !operation_save(op, error)) /* the names are durable before the files exist */
        return false;
    op_record(op, vm);
    if (!manifest_save(home, vm, error) || !fault_point("agent.preview.before-create", error))
        return false;
    json_array_foreach (json_object_get(op->row.data, "disks"), i, disk)
        if (!make_leaf(op, disk, error))
            return false;
    op_remember(op, "prepared", json_true());
    return true;
}

/* ---- enter ---- */

static bool
is_ours(const Operation *op, const Vm *vm)
{
    const json_t *disk = json_array_get(json_object_get(op->row.data, "disks"), 0);
    const PreviewDisk *part = preview_disk(vm->preview, json_text(disk, "id"));

    if (preview_is_alone(op))
        return preview_alone_is_ours(op, vm);
    return part != NULL && g_strcmp0(part->leaf, json_text(disk, "overlay_id")) == 0;
}

static StepState
enter_check(void *self, GError **error)
{
    Operation *op = self;
    Domain *home = NULL;
    g_autoptr(Vm) vm = op_manifest_look(op, &home, error);

    if (vm == NULL)
        return STEP_UNKNOWN;
    return is_ours(op, vm) ? STEP_DONE : STEP_TODO;
}

static bool
leaves_are_empty(Operation *op, GError **error)
{
    bool open = false;
    const char *used = snapshot_overlay_in_use(op, &open);

    return used == NULL ||
           error_set(error, ERR_REFUSED, "VM %s: the new volume %s is in use already",
                     op->row.vm_id, used);
}

static bool
old_leaves_are_still(Operation *op, const BranchHold *hold, GError **error)
{
    size_t i;
    json_t *disk;

    if (!branch_is_on(hold->hv, json_object_get(op->row.data, "disks"), "old"))
        return error_set(error, ERR_REFUSED,
                         "VM '%s' does not stand on the leaves any more that it had a moment ago; "
                         "nothing was changed, try again",
                         hold->vm->name);
    json_array_foreach (json_object_get(op->row.data, "disks"), i, disk)
        if (volume_is_open(json_text(disk, "old")))
            return error_set(error, ERR_BUSY, "VM '%s': some process has its volume %s open",
                             hold->vm->name, json_text(disk, "old"));
    return true;
}

static bool
begin_preview(const Operation *op, Vm *vm, const char *former, GError **error)
{
    g_autoptr(GPtrArray) disks = g_ptr_array_new();
    g_autoptr(GPtrArray) leaves = g_ptr_array_new_with_free_func((GDestroyNotify)volume_free);
    size_t i;
    json_t *entry;

    json_array_foreach (json_object_get(op->row.data, "disks"), i, entry) {
        Disk *disk = vm_disk(vm, json_text(entry, "id"));
        const Volume *base =
            disk != NULL ? disk_volume_by_path(disk, json_text(entry, "leaf")) : NULL;
        if (base == NULL)
            return error_set(error, ERR_REFUSED, "VM '%s': disk %s has changed; try again",
                             vm->name, json_text(entry, "target"));
        g_ptr_array_add(disks, disk);
        g_ptr_array_add(leaves,
                        volume_new(json_text(entry, "overlay_id"), json_text(entry, "overlay"),
                                   "qcow2", base->virtual_size));
    }
    if (!vm_begin_preview(vm, op_text(op, "snapshot_id"), clock_wall_ms(), disks, leaves, error))
        return false;
    vm->preview->memory = json_flag(op->row.params, "memory");
    vm->preview->begun_by = preview_is_alone(op) ? g_strdup(op->row.id) : NULL;
    if (vm_snapshot(vm, vm->preview->snapshot)->config != NULL)
        vm->preview->former = g_strdup(former);
    return true;
}

static bool
enter_act(void *self, GError **error)
{
    Operation *op = self;
    g_auto(BranchHold) hold = BRANCH_HOLD_NONE;

    return branch_hold(op, VERB_SNAPSHOT_PREVIEW, &hold, error) &&
           old_leaves_are_still(op, &hold, error) && leaves_are_empty(op, error) &&
           begin_preview(op, hold.vm, hold.hv->inactive_xml, error) &&
           fault_point("agent.preview.before-manifest", error) && lease_check(&hold.lease, error) &&
           manifest_save(hold.home, hold.vm, error) &&
           fault_point("agent.preview.after-manifest", error);
}

/* ---- define ---- */

/* Who was faster (starting.c) has put the leaves in alone. A VM that was started since stays as it
 * is. */
static bool
is_unconfigured(const Operation *op, const HvDomain *hv, const Vm *vm)
{
    return hv->state == VM_DOWN && vm->preview != NULL && vm->preview->former != NULL &&
           !json_flag(op->row.data, "configured") &&
           branch_is_on(hv, json_object_get(op->row.data, "disks"), "overlay");
}

/* It was started from the new leaves, and is on them, or on what somebody else has put on top. */
static bool
is_on_new(const Operation *op, const HvDomain *hv)
{
    const json_t *disks = json_object_get(op->row.data, "disks");

    return branch_is_on(hv, disks, "overlay") ||
           (!branch_is_on(hv, disks, "old") && overlay_count(disks, hv) == json_array_size(disks));
}

static StepState
define_check(void *self, GError **error)
{
    Operation *op = self;
    g_autoptr(HvDomain) hv = op_hv(op, error);
    Domain *home = NULL;
    g_autoptr(Vm) vm = hv != NULL ? op_manifest_look(op, &home, error) : NULL;

    if (vm == NULL)
        return STEP_UNKNOWN;
    StepState alone = preview_is_alone(op) ? preview_alone_check(op, hv, vm, error) : STEP_DONE;
    if (alone != STEP_DONE)
        return alone;
    if (is_on_new(op, hv))
        return op_is_recorded(op, vm) || is_unconfigured(op, hv, vm) ? STEP_TODO : STEP_DONE;
    if (hv->state == VM_DOWN)
        return STEP_TODO;
    error_set(error, hv->instance != NULL ? ERR_REFUSED : ERR_BUSY,
              "VM '%s' was started from its old leaf just then: the preview did not begin",
              hv->name);
    return hv->instance != NULL ? STEP_FAILED : STEP_UNKNOWN;
}

static bool
define_act(void *self, GError **error)
{
    Operation *op = self;
    const json_t *disks = json_object_get(op->row.data, "disks");
    g_autoptr(HvDomain) hv = op_hv(op, error);
    Domain *home = NULL;
    g_autoptr(Vm) vm = hv != NULL ? op_manifest(op, &home, error) : NULL;

    if (vm == NULL)
        return false;
    const Snapshot *snapshot = vm_snapshot(vm, op_text(op, "snapshot_id"));
    const char *config = snapshot != NULL ? snapshot->config : NULL;
    if ((!is_on_new(op, hv) || is_unconfigured(op, hv, vm)) &&
        !(preview_is_alone(op)
              ? preview_alone_define(op, hv, config, error)
              : branch_configure(op, config, disks, "overlay", "overlay_format", error)))
        return false;
    if (!fault_point("agent.preview.after-define", error))
        return false;
    op_unrecord(op, vm);
    return manifest_save(home, vm, error) && agent_look(op->agent, op->entry, error);
}

/* Its leaf may be the VM's by now, or have been thrown away. */
bool
preview_is_old(Operation *op, bool *ret_old, GError **error)
{
    static const char *const recorded[] = { "enter", NULL };
    g_autoptr(Vm) vm = NULL;

    if (!g_str_equal(op->row.step, "define"))
        return snapshot_is_old(op, recorded, ret_old, error);
    if (!op_manifest_if_any(op, &vm, error))
        return false;
    *ret_old = vm != NULL && !op_is_recorded(op, vm) && !is_ours(op, vm);
    return true;
}

/* ---- undo: of a preview that did not begin ---- */

/* The preview had begun, and what a guest has written there since is not to be lost. */
static bool
is_used(Operation *op)
{
    g_autoptr(HvDomain) hv = op_hv(op, NULL);
    bool open = false;

    return hv != NULL && snapshot_overlay_in_use(op, &open) != NULL &&
           (hv->instance == NULL || is_on_new(op, hv));
}

static StepState
undo_check(void *self, GError **error)
{
    Operation *op = self;
    g_autoptr(Vm) vm = NULL;

    if (!op_manifest_if_any(op, &vm, error))
        return STEP_UNKNOWN;
    if (vm != NULL && is_ours(op, vm) && is_used(op)) {
        machine_forgive(&op->machine); /* it was done all the same */
        return STEP_BACK;
    }
    if (vm != NULL) /* not recorded: done before, and what has these names now is the VM's */
        return is_ours(op, vm) || op_is_recorded(op, vm) ? STEP_TODO : STEP_DONE;
    return overlay_is_any_left(json_object_get(op->row.data, "disks")) ? STEP_TODO : STEP_DONE;
}

/* As the definition was before: the manifest is about to forget it. */
static bool
remember_former(Operation *op, const Vm *vm, GError **error)
{
    if (vm->preview->former == NULL)
        return true;
    op_remember(op, "former", json_string(vm->preview->former));
    return operation_save(op, error);
}

/* The manifest first: from then on the definition that names a new leaf is stale. */
static bool
leave_preview(Operation *op, const HvDomain *hv, GError **error)
{
    const json_t *disks = json_object_get(op->row.data, "disks");
    g_autoptr(GPtrArray) left = g_ptr_array_new_with_free_func(g_free);
    Domain *home = NULL;
    g_autoptr(Vm) vm = op_manifest(op, &home, error);

    if (vm == NULL)
        return false;
    if (is_ours(op, vm) && (!remember_former(op, vm, error) || !vm_undo_preview(vm, left, error) ||
                            !manifest_save(home, vm, error)))
        return false;
    if (hv->state != VM_DOWN && !preview_is_alone(op)) /* else nothing else tells what it was */
        return true;
    if (op_data(op, "former") == NULL || json_flag(op->row.data, "returned"))
        return branch_is_on(hv, disks, "old") ||
               branch_define(op, disks, "old", "old_format", error);
    if (!branch_configure(op, op_data(op, "former"), disks, "old", "old_format", error))
        return false;
    op_remember(op, "returned", json_true());
    return true;
}

static bool
undo_act(void *self, GError **error)
{
    Operation *op = self;
    g_autoptr(HvDomain) hv = op_hv(op, error);
    Domain *home = NULL;
    g_autoptr(Vm) vm = NULL;
    size_t i;
    json_t *disk;

    if (hv == NULL && !g_error_matches(*error, ERR, ERR_NOT_FOUND))
        return false;
    g_clear_error(error);
    if (!leaves_are_empty(op, error) || (hv != NULL && !leave_preview(op, hv, error)))
        return false;
    json_array_foreach (json_object_get(op->row.data, "disks"), i, disk)
        if (!volume_unlink((const char *const[]){ json_text(disk, "overlay"), NULL }, error))
            return false;
    if (hv == NULL)
        return true;
    if ((vm = op_manifest(op, &home, error)) == NULL)
        return false;
    json_array_foreach (json_object_get(op->row.data, "disks"), i, disk)
        vm_remove_leftover(vm, json_text(disk, "overlay"));
    op_unrecord(op, vm);
    return manifest_save(home, vm, error) && agent_look(op->agent, op->entry, error);
}

/* clang-format off */
const Step preview_steps[] = {
    /* name       check                    act           tries  cancel  if it failed  next      back */
    { "prepare",  snapshot_prepare_check,  prepare_act,  3,     true,   "undo",       NULL     },
    { "enter",    enter_check,             enter_act,    5,     true,   "undo",       NULL     },
    { "define",   define_check,            define_act,   0,     false,  "undo",       STEP_END },
    { "undo",     undo_check,              undo_act,     0,     false,  NULL,         STEP_END, "define" },
    { NULL },
};
/* clang-format on */
