/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * Small changes of the tree in the manifest: a new name, and forgetting a snapshot whose volumes
 * are merged (its memory volume goes last).
 */
#include "agent/operation.h"

#include "base/log.h"
#include "base/text.h"

static const char *const id_key[] = { "snapshot_id", NULL };

bool
snapshot_rename_params(const json_t *params, GError **error)
{
    return required_texts(params, id_key, error) &&
           name_check("the snapshot's name", json_text(params, "name"), error);
}

bool
snapshot_forget_params(const json_t *params, GError **error)
{
    json_t *list = json_object_get(params, "snapshots");

    if (!json_is_array(list))
        return error_set(error, ERR_INVALID, "the operation lacks 'snapshots'");
    for (size_t i = 0; i < json_array_size(list); i++)
        if (!id_is_valid(json_string_value(json_array_get(list, i))))
            return error_set(error, ERR_INVALID, "member %zu of 'snapshots' is not a UUID", i);
    return true;
}

static StepState
rename_check(void *self, GError **error)
{
    Operation *op = self;
    Domain *home = NULL;
    g_autoptr(Vm) vm = op_manifest_look(op, &home, error);

    if (vm == NULL)
        return STEP_UNKNOWN;
    Snapshot *snapshot = vm_snapshot(vm, op_text(op, "snapshot_id"));
    if (snapshot == NULL) {
        error_set(error, ERR_NOT_FOUND, "VM '%s' has no snapshot %s", vm->name,
                  op_text(op, "snapshot_id"));
        return STEP_FAILED;
    }
    return g_str_equal(snapshot->name, op_text(op, "name")) ? STEP_DONE : STEP_TODO;
}

static bool
rename_act(void *self, GError **error)
{
    Operation *op = self;
    Domain *home = NULL;
    g_autoptr(Vm) vm = op_manifest(op, &home, error);
    Snapshot *snapshot = vm != NULL ? vm_snapshot(vm, op_text(op, "snapshot_id")) : NULL;

    if (vm == NULL)
        return false;
    if (snapshot == NULL)
        return error_set(error, ERR_NOT_FOUND, "VM '%s' has no snapshot %s", vm->name,
                         op_text(op, "snapshot_id"));
    g_free(snapshot->name);
    snapshot->name = g_strdup(op_text(op, "name"));
    return manifest_save(home, vm, error) && agent_look(op->agent, op->entry, error);
}

/* The i-th snapshot to forget; NULL = it is forgotten already. */
static Snapshot *
to_forget(const Operation *op, const Vm *vm, size_t i)
{
    json_t *list = json_object_get(op->row.params, "snapshots");

    return vm_snapshot(vm, json_string_value(json_array_get(list, i)));
}

static size_t
how_many(const Operation *op)
{
    return json_array_size(json_object_get(op->row.params, "snapshots"));
}

/* Not while a volume of it is still in a chain: that would hide a snapshot, not delete it. */
static bool
has_nothing_left(const Vm *vm, const Snapshot *snapshot, GError **error)
{
    for (guint i = 0; i < snapshot->disks->len; i++) {
        SnapshotDisk *sd = snapshot->disks->pdata[i];
        Disk *disk = vm_disk(vm, sd->disk_id);
        if (disk != NULL && disk_volume_index(disk, sd->volume_id) >= 0)
            return error_set(error, ERR_REFUSED,
                             "snapshot '%s' of VM '%s' still has a volume of disk %s",
                             snapshot->name, vm->name, disk->target);
    }
    return true;
}

static StepState
forget_check(void *self, GError **error)
{
    Operation *op = self;
    Domain *home = NULL;
    g_autoptr(Vm) vm = op_manifest_look(op, &home, error);
    bool any = false;

    if (vm == NULL)
        return STEP_UNKNOWN;
    for (size_t i = 0; i < how_many(op); i++) {
        Snapshot *snapshot = to_forget(op, vm, i);
        if (snapshot != NULL && !has_nothing_left(vm, snapshot, error))
            return STEP_FAILED;
        any = any || snapshot != NULL;
    }
    return any ? STEP_TODO : STEP_DONE;
}

static bool
remove_memory(Operation *op, const Domain *home, const Snapshot *snapshot, GError **error)
{
    g_auto(LeaseHold) lease = { 0 };

    if (snapshot->memory == NULL)
        return true;
    if (!op_lease(op, home, &lease, error) || !lease_check(&lease, error))
        return false;
    return volume_unlink((const char *const[]){ snapshot->memory, NULL }, error);
}

bool
op_forget_snapshot(Operation *op, const Domain *home, Vm *vm, Snapshot *snapshot, GError **error)
{
    if (!remove_memory(op, home, snapshot, error))
        return false;
    for (guint i = 0; i < vm->snapshots->len; i++) {
        Snapshot *child = vm->snapshots->pdata[i];
        if (g_strcmp0(child->parent, snapshot->id) == 0) {
            g_free(child->parent);
            child->parent = g_strdup(snapshot->parent);
        }
    }
    g_ptr_array_remove(vm->snapshots, snapshot);
    return true;
}

/* Does libvirt's record tell of a volume that the VM still has? Then it is of another snapshot. */
static bool
record_fits(const Vm *vm, const HvSnapshotRecord *record)
{
    for (guint i = 0; i < record->files->len; i++)
        if (vm_disk_by_path(vm, record->files->pdata[i]) != NULL)
            return true;
    return false;
}

/* One that was adopted: what libvirt keeps of it goes, too, as with "virsh snapshot-delete
 * --metadata". If libvirt does not want that, the doctor will find it. */
static bool
drop_record(Operation *op, const Vm *vm, const Snapshot *snapshot, GError **error)
{
    Hypervisor *hv = op->agent->hv;
    g_autoptr(GPtrArray) records = NULL;
    g_autoptr(GError) why = NULL;

    if (snapshot->record == NULL || hv->ops->snapshot_records == NULL)
        return true;
    records = hv->ops->snapshot_records(hv, op->row.vm_id, &why);
    for (guint i = 0; records != NULL && i < records->len; i++) {
        const HvSnapshotRecord *record = records->pdata[i];
        if (g_str_equal(record->name, snapshot->record) && !record_fits(vm, record))
            hv->ops->snapshot_record_forget(hv, op->row.vm_id, record->name, &why);
    }
    if (g_error_matches(why, ERR, ERR_UNREACHABLE)) {
        g_propagate_error(error, g_steal_pointer(&why));
        return false;
    }
    if (why != NULL)
        log_vm_warn(op->row.vm_id, op->row.id, "libvirt's record of snapshot '%s' stays: %s",
                    snapshot->record, why->message);
    return true;
}

static bool
forget_act(void *self, GError **error)
{
    Operation *op = self;
    Domain *home = NULL;
    g_autoptr(Vm) vm = op_manifest(op, &home, error);

    if (vm == NULL)
        return false;
    for (size_t i = 0; i < how_many(op); i++) {
        const Snapshot *snapshot = to_forget(op, vm, i);
        if (snapshot != NULL && !drop_record(op, vm, snapshot, error))
            return false;
    }
    for (size_t i = 0; i < how_many(op); i++) {
        Snapshot *snapshot = to_forget(op, vm, i);
        if (snapshot != NULL && !op_forget_snapshot(op, home, vm, snapshot, error))
            return false;
    }
    return manifest_save(home, vm, error) && agent_look(op->agent, op->entry, error);
}

static StepState
failed_check(void *self, GError **error)
{
    return STEP_DONE;
}

/* clang-format off */
const Step snapshot_rename_steps[] = {
    /* name     check         act         tries  cancel  if it failed  next     */
    { "rename", rename_check, rename_act, 5,     true,   "failed",     STEP_END },
    { "failed", failed_check, NULL,       0,     false,  NULL,         STEP_END },
    { NULL },
};
const Step snapshot_forget_steps[] = {
    { "forget", forget_check, forget_act, 5,     true,   "failed",     STEP_END },
    { "failed", failed_check, NULL,       0,     false,  NULL,         STEP_END },
    { NULL },
};
/* clang-format on */
