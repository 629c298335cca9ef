/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * Removing a VM that is off: its definition, and its volumes unless they are to stay.
 *
 *   record ─► undefine ─► delete ─► forget ─► (end)
 *      └─────────┴───► keep ─► (end, failed); undefine: or on to delete, it was done all the same
 *
 * record looks at everything and writes down what will go; undefine is the moment. Then the volumes
 * go into the trash, the leaf of each disk first; what other VMs or files stand on stays, and so
 * does all that is below. The manifest goes last: until then a lost journal leaves the VM's
 * snapshots readable.
 *
 * What it remembers (row.data): volumes: [path...] (in the order in which they go), home, kept:
 * [{"path", "why"}], deleted, forgotten, recorded, noted (in the manifest).
 */
#include "agent/operation.h"
#include "agent/starting.h"

#include "base/fault.h"
#include "base/text.h"
#include "model/verbs.h"

#define START_LOCK_MS 5000

bool
vm_remove_params(const json_t *params, GError **error)
{
    const json_t *keep = json_object_get(params, "keep_disks");

    return keep == NULL || json_is_boolean(keep) ||
           error_set(error, ERR_INVALID, "'keep_disks' must be true or false");
}

static bool
keeps_disks(const Operation *op)
{
    return json_flag(op->row.params, "keep_disks");
}

/* ---- record ---- */

static bool
nobody_stands_on(Operation *op, const Vm *vm, const Disk *disk, GError **error)
{
    const Volume *leaf = disk_leaf(disk);
    const Domain *domain = agent_domain(op->agent, leaf->path, false, error);
    g_autofree char *user = agent_user_of(op->agent, vm->id, leaf->path, false);
    g_autofree char *file = NULL;

    if (domain == NULL ||
        (user == NULL && !volume_find_user(domain, leaf->path, NULL, &file, error)))
        return false;
    if (user == NULL && file == NULL)
        return true;
    g_autofree char *name = shell_word(vm->name);
    return error_set(
        error, ERR_REFUSED,
        "VM '%s' was not removed: %s%s%s stands on its disk %s (%s). Remove that first, "
        "or keep the disks: livemerge vm remove %s --keep-disks",
        vm->name, user != NULL ? "VM '" : "", user != NULL ? user : file, user != NULL ? "'" : "",
        disk->target, leaf->path, name);
}

static void
add_from_top(json_t *list, const GPtrArray *volumes)
{
    for (guint i = volumes->len; i > 0; i--)
        json_array_append_new(list, json_string(((Volume *)volumes->pdata[i - 1])->path));
}

/* Disks that are read-only or not managed are not the VM's alone. */
static json_t *
volumes_of(const Vm *vm)
{
    json_t *list = json_array();

    for (guint i = 0; i < vm->disks->len; i++) {
        const Disk *disk = vm->disks->pdata[i];
        if (disk_is_managed(disk) && !disk->read_only)
            add_from_top(list, disk->volumes);
    }
    for (guint i = 0; i < vm->snapshots->len; i++)
        if (((Snapshot *)vm->snapshots->pdata[i])->memory != NULL)
            json_array_append_new(list, json_string(((Snapshot *)vm->snapshots->pdata[i])->memory));
    for (guint i = 0; i < vm->leftovers->len; i++)
        json_array_append_new(list, json_string(((Leftover *)vm->leftovers->pdata[i])->path));
    return list;
}

static bool
can_be_removed(Operation *op, const Vm *vm, GError **error)
{
    if (keeps_disks(op) && vm->snapshots->len > 0)
        return error_set(
            error, ERR_REFUSED,
            "VM '%s' has %u snapshots, which its disks alone would not tell of: delete "
            "them first, or remove the VM with its disks",
            vm->name, vm->snapshots->len);
    if (!keeps_disks(op) && !outside_look_again(op->agent, error))
        return false;
    for (guint i = 0; !keeps_disks(op) && i < vm->disks->len; i++) {
        const Disk *disk = vm->disks->pdata[i];
        if (disk_is_managed(disk) && !disk->read_only && !nobody_stands_on(op, vm, disk, error))
            return false;
    }
    return true;
}

static StepState
record_check(void *self, GError **error)
{
    Operation *op = self;

    if (!op_connected(op, error))
        return STEP_UNKNOWN;
    return json_object_get(op->row.data, "recorded") != NULL ? STEP_DONE : STEP_TODO;
}

/* A VM none of whose disks can be managed has no manifest: it is undefined, and that is all. */
static bool
has_manifest(Operation *op, const HvDomain *hv, Domain **ret_home, Vm **ret_vm, GError **error)
{
    bool home = false;

    if (!agent_disks_can_be_read(hv, error) || !op_has_home(op, hv, &home, error))
        return false;
    if (home)
        *ret_vm = op_manifest(op, ret_home, error);
    return !home || *ret_vm != NULL;
}

/* A disk that is not there may be on a storage that is not mounted, with snapshots and a manifest
 * of which nothing is known now. */
static bool
disks_are_there(const HvDomain *hv, const Vm *vm, GError **error)
{
    for (guint i = 0; i < hv->disks->len; i++) {
        const HvDisk *disk = hv->disks->pdata[i];
        if (g_strcmp0(disk->type, "file") != 0 || g_strcmp0(disk->device, "disk") != 0 ||
            disk->read_only || disk->source == NULL || file_may_be_there(disk->source))
            continue;
        if (vm != NULL)
            return error_set(error, ERR_REFUSED,
                             "VM '%s' was not removed: %s of its disk %s is not there; is its "
                             "storage mounted? If that disk is gone for ever, take it out of the "
                             "VM first: virsh detach-disk %s %s --config",
                             hv->name, disk->source, disk->target, hv->name, disk->target);
        return error_set(error, ERR_REFUSED,
                         "VM '%s' was not removed: %s of its disk %s is not there; is its storage "
                         "mounted? If the disk is gone for ever, remove the VM alone: livemerge vm "
                         "remove %s --keep-disks",
                         hv->name, disk->source, disk->target, hv->name);
    }
    return true;
}

static bool
record_act(void *self, GError **error)
{
    Operation *op = self;
    g_autoptr(HvDomain) hv = op_hv_published(op, error);
    Domain *home = NULL;
    g_autoptr(Vm) vm = NULL;

    if (op->agent->hv->ops->undefine == NULL)
        return error_set(error, ERR_UNSUPPORTED, "VMs cannot be removed here");
    if (hv == NULL || !has_manifest(op, hv, &home, &vm, error))
        return false;
    if (!keeps_disks(op) && !disks_are_there(hv, vm, error))
        return false;
    if (vm == NULL) {
        op_remember(op, "recorded", json_true());
        return true;
    }
    if (!op_allowed(op, VERB_VM_REMOVE, hv, vm, error) || !can_be_removed(op, vm, error))
        return false;
    op_remember(op, "home", json_string(home->path));
    op_remember(op, "volumes", keeps_disks(op) ? json_array() : volumes_of(vm));
    op_remember(op, "recorded", json_true());
    if (!operation_save(op, error))
        return false;
    op_record(op, vm); /* no start from now on, even if this agent dies */
    if (!manifest_save(home, vm, error) || !fault_point("agent.remove.recorded", error))
        return false;
    op_remember(op, "noted", json_true());
    return true;
}

static Domain *
home_of(Operation *op, GError **error)
{
    g_autofree char *inside = g_build_filename(op_data(op, "home"), "x", NULL);

    return agent_domain(op->agent, inside, false, error);
}

/* A VM that is there again after its removal was made anew: its manifest does not know of that. */
bool
vm_remove_is_old(Operation *op, bool *ret_old, GError **error)
{
    g_autoptr(GError) problem = NULL;
    Domain *home = NULL;

    *ret_old = false;
    if (!json_flag(op->row.data, "noted") || !g_str_equal(op->row.step, "undefine"))
        return true;
    g_autoptr(HvDomain) hv = op_hv(op, &problem);
    if (hv == NULL && g_error_matches(problem, ERR, ERR_NOT_FOUND))
        return true;
    if (hv == NULL || (home = home_of(op, &problem)) == NULL) {
        g_propagate_error(error, g_steal_pointer(&problem));
        return false;
    }
    g_autoptr(Vm) stored = manifest_load(home, op->row.vm_id, &problem);
    if (problem != NULL) {
        g_propagate_error(error, g_steal_pointer(&problem));
        return false;
    }
    *ret_old = stored == NULL || !op_is_recorded(op, stored);
    return true;
}

/* ---- undefine: the moment ---- */

/* Is it defined? UNKNOWN: it cannot be asked. */
static StepState
defined(Operation *op, StepState if_there, StepState if_gone, GError **error)
{
    g_autoptr(GError) problem = NULL;
    g_autoptr(HvDomain) hv = op_hv(op, &problem);

    if (hv != NULL)
        return if_there;
    if (g_error_matches(problem, ERR, ERR_NOT_FOUND))
        return if_gone;
    g_propagate_error(error, g_steal_pointer(&problem));
    return STEP_UNKNOWN;
}

static StepState
undefine_check(void *self, GError **error)
{
    return defined(self, STEP_TODO, STEP_DONE, error);
}

static bool
undefine_act(void *self, GError **error)
{
    Operation *op = self;
    Hypervisor *hv = op->agent->hv;
    Domain *home = op_data(op, "home") != NULL ? home_of(op, error) : NULL;
    autofd int lock = -1;

    if (op_data(op, "home") != NULL &&
        (home == NULL || (lock = vm_start_lock(home, op->row.vm_id, START_LOCK_MS, error)) < 0))
        return false;
    g_autoptr(HvDomain) now = op_hv(op, error);
    if (now == NULL)
        return false;
    if (now->state != VM_DOWN)
        return error_set(error, ERR_REFUSED, "VM '%s' was started; it was not removed", now->name);
    return fault_point("agent.remove.before-undefine", error) &&
           hv->ops->undefine(hv, op->row.vm_id, !keeps_disks(op), error) &&
           fault_point("agent.remove.after-undefine", error);
}

/* ---- delete ---- */

static StepState
delete_check(void *self, GError **error)
{
    Operation *op = self;

    if (json_object_get(op->row.data, "deleted") != NULL)
        return STEP_DONE;
    return op_connected(op, error) ? STEP_TODO : STEP_UNKNOWN;
}

/* One that somebody needs stays; that is no failure. */
static bool
delete_one(Operation *op, const HvDomain *hv, const char *path, json_t *removed, json_t *kept,
           GError **error)
{
    g_autoptr(GError) why = NULL;

    if (op_delete_volume(op, hv, path, &why)) {
        json_array_append_new(removed, json_string(path));
        return true;
    }
    if (g_error_matches(why, ERR, ERR_REFUSED)) {
        json_array_append_new(kept, json_pack("{s:s, s:s}", "path", path, "why", why->message));
        return true;
    }
    g_propagate_error(error, g_steal_pointer(&why));
    return false;
}

/* Somebody may have defined it again meanwhile: what that names stays. */
static bool
delete_act(void *self, GError **error)
{
    Operation *op = self;
    const json_t *volumes = json_object_get(op->row.data, "volumes");
    g_autoptr(json_t) removed = json_array(), kept = json_array();
    g_autoptr(GError) problem = NULL;
    g_autoptr(HvDomain) hv = NULL;
    Domain *home = json_array_size(volumes) > 0 ? home_of(op, error) : NULL;
    g_auto(LeaseHold) lease = { 0 };
    autofd int lock = -1;

    if (json_array_size(volumes) > 0 &&
        (home == NULL || !op_lease(op, home, &lease, error) ||
         (lock = vm_start_lock(home, op->row.vm_id, START_LOCK_MS, error)) < 0))
        return false;
    hv = op_hv(op, &problem);
    if (hv == NULL && !g_error_matches(problem, ERR, ERR_NOT_FOUND)) {
        g_propagate_error(error, g_steal_pointer(&problem));
        return false;
    }
    if (json_array_size(volumes) > 0 && !outside_look_again(op->agent, error))
        return false;
    for (size_t i = 0; i < json_array_size(volumes); i++)
        if (!delete_one(op, hv, json_string_value(json_array_get(volumes, i)), removed, kept,
                        error))
            return false;
    op_sweep_trash(op, removed);
    op_result(op, "volumes_removed", json_incref(removed));
    op_result(op, "kept", json_incref(kept));
    op_remember(op, "deleted", json_true());
    return true;
}

/* ---- forget ---- */

/* That the manifest is not there proves nothing: an earlier life may have died before that was
 * durable. */
static StepState
forget_check(void *self, GError **error)
{
    Operation *op = self;

    if (op_data(op, "home") == NULL || json_flag(op->row.data, "forgotten"))
        return STEP_DONE;
    return home_of(op, error) != NULL ? STEP_TODO : STEP_UNKNOWN;
}

static bool
forget_act(void *self, GError **error)
{
    Operation *op = self;
    Domain *home = home_of(op, error);

    if (home == NULL || !fault_point("agent.remove.before-forget", error) ||
        !manifest_remove(home, op->row.vm_id, error))
        return false;
    op_remember(op, "forgotten", json_true());
    return agent_look(op->agent, op->entry, error);
}

/* ---- keep: it was refused ---- */

static StepState
keep_check(void *self, GError **error)
{
    Operation *op = self;
    StepState there = defined(op, STEP_DONE, STEP_BACK, error);
    Domain *home = NULL;

    if (op_data(op, "home") == NULL || there == STEP_UNKNOWN)
        return there == STEP_BACK ? STEP_DONE : there;
    if (there == STEP_BACK) {
        machine_forgive(&op->machine);
        return STEP_BACK;
    }
    g_autoptr(Vm) vm = op_manifest_look(op, &home, error);
    if (vm == NULL)
        return STEP_UNKNOWN;
    return op_is_recorded(op, vm) ? STEP_TODO : STEP_DONE;
}

static bool
keep_act(void *self, GError **error)
{
    Operation *op = self;
    Domain *home = NULL;
    g_autoptr(Vm) vm = op_manifest(op, &home, error);

    if (vm == NULL)
        return false;
    op_unrecord(op, vm);
    return manifest_save(home, vm, error) && agent_look(op->agent, op->entry, error);
}

/* clang-format off */
const Step vm_remove_steps[] = {
    /* name        check           act           tries  cancel  if it failed  next      back */
    { "record",    record_check,   record_act,   3,     true,   "keep",       NULL },
    { "undefine",  undefine_check, undefine_act, 5,     true,   "keep",       NULL },
    { "delete",    delete_check,   delete_act,   0,     false,  NULL,         NULL },
    { "forget",    forget_check,   forget_act,   0,     false,  NULL,         STEP_END },
    { "keep",      keep_check,     keep_act,     0,     false,  NULL,         STEP_END, "delete" },
    { NULL },
};
/* clang-format on */
