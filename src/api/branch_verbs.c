/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * Trying snapshots: previewsnapshot, commitsnapshot, undosnapshot, restore.
 *
 * Scripts of oVirt's day wait with async=false, or poll. It mostly takes a moment, so these answer
 * when it is done; with async=true at once.
 */
#include "api/media.h"
#include "api/snapshots.h"

static bool
finish(Reply *reply, const char *job_id)
{
    reply_job(reply, job_id);
    reply->waits = true;
    return true;
}

/* ---- which disks ---- */

/* oVirt can mix images of several snapshots; here each disk goes back to the one snapshot. */
static bool
is_of_snapshot(const Snapshot *snapshot, const Disk *disk, const json_t *member, GError **error)
{
    const SnapshotDisk *part = snapshot_disk(snapshot, disk->id);
    g_autofree char *image = NULL;

    if (!body_text(member, "image_id", &image, error))
        return false;
    return image == NULL || (part != NULL && g_str_equal(part->volume_id, image)) ||
           error_set(error, ERR_INVALID,
                     "image %.40s of disk '%s' is not that of snapshot '%s'; images of several "
                     "snapshots cannot be mixed",
                     image, disk->target, snapshot->name);
}

/* NULL in *ret_ids = all */
static bool
read_disks(const Call *call, const Vm *vm, const Snapshot *snapshot, GPtrArray **ret_ids,
           GError **error)
{
    g_autoptr(json_t) list = NULL;
    g_autoptr(GPtrArray) ids = g_ptr_array_new_with_free_func(g_free);
    json_t *member;
    size_t i;

    if (!body_list(call->body, "disks", "disk", &list, error))
        return false;
    if (json_array_size(list) == 0)
        return true;
    json_array_foreach (list, i, member) {
        g_autofree char *id = NULL;
        if (!body_text(member, "id", &id, error))
            return false;
        const Disk *disk = id != NULL ? disk_find(vm, id) : NULL;
        if (disk == NULL)
            return error_set(error, ERR_NOT_FOUND, "VM '%s' has no disk '%.40s'", vm->name,
                             id != NULL ? id : "(one has no id)");
        if (!is_of_snapshot(snapshot, disk, member, error))
            return false;
        g_ptr_array_add(ids, g_strdup(disk->id));
    }
    g_ptr_array_add(ids, NULL);
    *ret_ids = g_steal_pointer(&ids);
    return true;
}

/* ---- preview and restore ---- */

static bool
go_back(Call *call, Reply *reply, BranchVerb verb, const Vm *vm, const char *snapshot_id,
        GError **error)
{
    const Snapshot *snapshot = vm_snapshot(vm, snapshot_id);
    g_autofree char *active = active_snapshot_id(vm);
    g_autoptr(GPtrArray) disks = NULL;
    bool memory = false;

    if (g_str_equal(active, snapshot_id)) {
        VerbContext asked = { .active = true };
        return manager_allowed(
            call->manager, verb == BRANCH_PREVIEW ? VERB_SNAPSHOT_PREVIEW : VERB_SNAPSHOT_RESTORE,
            vm, &asked, error);
    }
    if (snapshot == NULL)
        return error_set(error, ERR_NOT_FOUND, "VM '%s' has no snapshot '%.40s'", vm->name,
                         snapshot_id);
    call->in_body = true;
    if (!body_flag(call->body, "restore_memory", &memory, error) ||
        !read_disks(call, vm, snapshot, &disks, error))
        return false;
    memory = memory && snapshot->memory != NULL; /* as oVirt: what is not there is not missed */
    const BranchDeed what = { .vm_id = vm->id,
                              .snapshot_id = snapshot->id,
                              .disks = disks != NULL ? (const char *const *)disks->pdata : NULL,
                              .memory = memory,
                              .correlation_id = call->correlation_id,
                              .user = call->user };
    g_autofree char *job_id = manager_snapshot_branch(call->manager, verb, &what, error);
    return job_id != NULL && finish(reply, job_id);
}

bool
post_previewsnapshot(Call *call, Reply *reply, GError **error)
{
    g_autoptr(Vm) vm = manager_vm(call->manager, call->id, error);
    g_autofree char *id = NULL;

    if (vm == NULL)
        return false;
    call->in_body = true;
    /* others send the whole document of the snapshot: its id counts */
    if (!body_text(json_object_get(call->body, "snapshot"), "id", &id, error))
        return false;
    if (id == NULL) {
        reply->reason = "Incomplete parameters";
        return error_set(error, ERR_INVALID, "Action [snapshot.id] required for previewsnapshot");
    }
    return go_back(call, reply, BRANCH_PREVIEW, vm, id, error);
}

bool
post_restore(Call *call, Reply *reply, GError **error)
{
    g_autoptr(Vm) vm = manager_vm(call->manager, call->id, error);

    return vm != NULL && go_back(call, reply, BRANCH_RESTORE, vm, call->sub_id, error);
}

/* ---- commit and undo ---- */

static bool
end_preview(Call *call, Reply *reply, BranchVerb verb, GError **error)
{
    const BranchDeed what = { .vm_id = call->id,
                              .correlation_id = call->correlation_id,
                              .user = call->user };
    g_autofree char *job_id = manager_snapshot_branch(call->manager, verb, &what, error);

    return job_id != NULL && finish(reply, job_id);
}

bool
post_commitsnapshot(Call *call, Reply *reply, GError **error)
{
    return end_preview(call, reply, BRANCH_COMMIT, error);
}

bool
post_undosnapshot(Call *call, Reply *reply, GError **error)
{
    return end_preview(call, reply, BRANCH_UNDO, error);
}
