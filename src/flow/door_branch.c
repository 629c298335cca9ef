/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * The door for trying snapshots: preview, commit, undo, and restore, which is the first two in one.
 */
#include "flow/core.h"

static char *
begin(Manager *m, const char *kind, const BranchDeed *what, const Vm *vm, const Snapshot *snapshot,
      json_t *disks, char *take_description, GError **error)
{
    json_t *params = door_params(vm, what->user);

    json_object_set_new(params, "status", json_string("image_locked"));
    json_object_set_new(params, "snapshot_id", json_string(snapshot->id));
    json_object_set_new(params, "snapshots", json_pack("[s]", snapshot->id));
    json_object_set_new(params, "names", json_pack("[s]", snapshot->name));
    if (what->memory)
        json_object_set_new(params, "memory", json_true());
    if (disks != NULL)
        json_object_set(params, "disks", disks);
    return door_begin(m, flow_row_new(kind, vm->id, NULL, params), what->correlation_id,
                      take_description, error);
}

static char *
go_back(Manager *m, bool restore, const BranchDeed *what, const Vm *vm, GError **error)
{
    const Snapshot *snapshot = vm_snapshot(vm, what->snapshot_id);
    VerbContext asked = { .snapshot = snapshot };
    g_autoptr(json_t) disks = NULL;

    if (snapshot == NULL) {
        error_set(error, ERR_NOT_FOUND, "VM '%s' has no snapshot %s", vm->name,
                  what->snapshot_id != NULL ? what->snapshot_id : "(none is named)");
        return NULL;
    }
    if (!door_disk_ids(vm, what->disks, &disks, &asked, error) ||
        !manager_allowed(m, restore ? VERB_SNAPSHOT_RESTORE : VERB_SNAPSHOT_PREVIEW, vm, &asked,
                         error))
        return NULL;
    return begin(m, restore ? "restore-snapshot" : "preview-snapshot", what, vm, snapshot, disks,
                 g_strdup_printf(restore ? "Restoring VM '%s' to snapshot '%s'"
                                         : "Previewing on VM '%s' snapshot '%s'",
                                 vm->name, snapshot->name),
                 error);
}

static char *
end_preview(Manager *m, bool commit, const BranchDeed *what, const Vm *vm, GError **error)
{
    const Snapshot *snapshot;

    if (!manager_allowed(m, commit ? VERB_SNAPSHOT_COMMIT : VERB_SNAPSHOT_UNDO, vm, NULL, error))
        return NULL;
    snapshot = vm_snapshot(vm, vm->preview->snapshot);
    if (snapshot == NULL) {
        error_set(error, ERR_CORRUPT, "VM '%s' previews a snapshot that is not in its manifest: %s",
                  vm->name, vm->preview->snapshot);
        return NULL;
    }
    return begin(m, commit ? "commit-snapshot" : "undo-snapshot", what, vm, snapshot, NULL,
                 g_strdup_printf(commit ? "Committing on VM '%s' the preview of snapshot '%s'"
                                        : "Undoing on VM '%s' the preview of snapshot '%s'",
                                 vm->name, snapshot->name),
                 error);
}

char *
manager_snapshot_branch(Manager *m, BranchVerb verb, const BranchDeed *what, GError **error)
{
    static const char *const kinds[] = { [BRANCH_PREVIEW] = "preview-snapshot",
                                         [BRANCH_RESTORE] = "restore-snapshot",
                                         [BRANCH_COMMIT] = "commit-snapshot",
                                         [BRANCH_UNDO] = "undo-snapshot" };
    g_autoptr(Vm) vm = door_vm_now(m, what->vm_id, error);
    WITH_LOCK(&m->door);
    GError *why = NULL;
    const Snapshot *snapshot;
    char *id;

    if (vm == NULL)
        return NULL;
    id = verb == BRANCH_PREVIEW || verb == BRANCH_RESTORE
             ? go_back(m, verb == BRANCH_RESTORE, what, vm, &why)
             : end_preview(m, verb == BRANCH_COMMIT, what, vm, &why);
    if (id != NULL)
        return id;
    snapshot = what->snapshot_id != NULL ? vm_snapshot(vm, what->snapshot_id) : NULL;
    return door_refuse(m, kinds[verb], vm, snapshot != NULL ? snapshot->name : NULL,
                       what->correlation_id, what->user, why, error);
}
