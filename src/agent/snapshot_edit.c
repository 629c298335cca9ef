/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * Small changes of the tree in the manifest: a new name, and forgetting a snapshot whose volumes
 * are merged (its memory volume goes last).
 */
#include "agent/operation.h"

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
    g_autoptr(Vm) vm = op_manifest(op, &home, error);

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

/* Not while a volume of it is still in a chain: that would hide a restore point, not delete it. */
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
    g_autoptr(Vm) vm = op_manifest(op, &home, error);
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
forget_one(Vm *vm, Snapshot *snapshot, GError **error)
{
    if (snapshot->memory != NULL &&
        !volume_unlink((const char *const[]){ snapshot->memory, NULL }, error))
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

static bool
forget_act(void *self, GError **error)
{
    Operation *op = self;
    Domain *home = NULL;
    g_autoptr(Vm) vm = op_manifest(op, &home, error);

    if (vm == NULL)
        return false;
    for (size_t i = 0; i < how_many(op); i++) {
        Snapshot *snapshot = to_forget(op, vm, i);
        if (snapshot != NULL && !forget_one(vm, snapshot, error))
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
