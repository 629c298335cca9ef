/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * Merging: which chain does the disk have, and whose is its block job?
 *
 * Everything here only looks, but for merge_save_chain() and merge_sync_changed(), which make the
 * merged chain known and durable.
 */
#include "agent/merge.h"

bool
merge_is(const Operation *op, const char *strategy)
{
    return g_strcmp0(op_data(op, "strategy"), strategy) == 0;
}

bool
merge_is_forward(const Operation *op)
{
    return merge_is(op, "copy") || merge_is(op, "graft");
}

bool
merge_has_leaf(const Operation *op)
{
    json_t *run = json_object_get(op->row.data, "run"),
           *before = json_object_get(op->row.data, "before");
    const char *top = json_string_value(json_array_get(run, json_array_size(run) - 1));
    const char *leaf = json_string_value(json_array_get(before, json_array_size(before) - 1));

    return g_strcmp0(top, leaf) == 0;
}

const char *
merge_new_leaf(const Operation *op)
{
    json_t *after = json_object_get(op->row.data, "after");

    return json_string_value(json_array_get(after, json_array_size(after) - 1));
}

/* ---- which chain is it? ---- */

static bool
same_paths(char **paths, const json_t *list)
{
    size_t i;
    json_t *path;

    if (g_strv_length(paths) != json_array_size(list))
        return false;
    json_array_foreach (list, i, path)
        if (!g_str_equal(paths[i], json_string_value(path)))
            return false;
    return true;
}

/* The merged chain, perhaps with volumes on top that somebody else's snapshot has added since. */
static bool
is_merged_chain(const Operation *op, char **paths)
{
    json_t *after = json_object_get(op->row.data, "after"),
           *before = json_object_get(op->row.data, "before");
    size_t n = g_strv_length(paths), n_after = json_array_size(after), i;
    json_t *path;

    if (n_after == 0 || n < n_after)
        return false;
    for (i = 0; i < n_after; i++)
        if (g_strcmp0(paths[i], json_string_value(json_array_get(after, i))) != 0)
            return false;
    json_array_foreach (before, i, path) {
        if (g_strv_contains((const char *const *)paths + n_after, json_string_value(path)))
            return false;
    }
    return true;
}

bool
merge_chain_state(Operation *op, const HvDomain *hv, ChainState *ret_state, GError **error)
{
    g_auto(GStrv) now = NULL;

    *ret_state = CHAIN_UNKNOWN;
    graft_note_seal(op, hv);
    now = op_chain(op, hv, op_data(op, "target"), error);
    if (now == NULL)
        return false;
    if (same_paths(now, json_object_get(op->row.data, "before"))) {
        *ret_state = CHAIN_BEFORE;
        return true;
    }
    if (is_merged_chain(op, now)) {
        *ret_state = CHAIN_AFTER;
        return true;
    }
    *ret_state = CHAIN_OTHER;
    g_autofree char *text = g_strjoinv(" <- ", now);
    return error_set(
        error, ERR_REFUSED,
        "VM '%s', disk %s: its chain is neither the one before the merge nor the merged one: %s; "
        "somebody else changed it. No data were removed",
        hv->name, op_data(op, "target"), text);
}

bool
merge_save_chain(Operation *op, bool conclude, GError **error)
{
    Domain *home = NULL;
    g_autoptr(Vm) vm = op_manifest(op, &home, error);
    g_autoptr(Volume) replacement = NULL;
    const char *disk_id = op_text(op, "disk_id");
    Disk *disk = vm != NULL ? vm_disk(vm, disk_id) : NULL;

    if (vm == NULL)
        return false;
    if (disk == NULL)
        return error_set(error, ERR_NOT_FOUND, "VM '%s' has no disk %s any more", vm->name,
                         disk_id);
    if (merge_is(op, "copy"))
        replacement = volume_new(op_data(op, "dest_id"), op_data(op, "dest"), "qcow2",
                                 disk_leaf(disk)->virtual_size);
    if (merge_is(op, "graft")) {
        if (!graft_apply(op, vm, disk, error))
            return false;
    } else if (disk_volume(disk, op_text(op, "top")) !=
                   NULL && /* else an earlier try has done it */
               !vm_apply_merge(vm, disk_id, op_text(op, "base"), op_text(op, "top"), replacement,
                               error)) {
        return false;
    }
    if (conclude)
        op_unrecord(op, vm);
    return manifest_save(home, vm, error);
}

bool
merge_sync_changed(Operation *op, GError **error)
{
    json_t *before = json_object_get(op->row.data, "before"),
           *after = json_object_get(op->row.data, "after"),
           *base = json_array_get(json_object_get(op->row.data, "run"), 0);
    size_t at = 0;

    while (at < json_array_size(before) && !json_equal(json_array_get(before, at), base))
        at++;
    /* the merged volume, and the one above it, whose header names it; new files had their directory
     * synced when they were made */
    for (size_t i = at; i < json_array_size(after) && i <= at + 1; i++)
        if (!volume_sync_data(json_string_value(json_array_get(after, i)), error))
            return false;
    return true;
}

/* ---- whose job is it? ---- */

static HvJobType
wanted_job(const Operation *op)
{
    if (merge_is_forward(op))
        return HV_JOB_COPY;
    return merge_is(op, "commit") ? HV_JOB_COMMIT : HV_JOB_ACTIVE_COMMIT;
}

bool
merge_same_instance(const Operation *op, const HvDomain *hv)
{
    return g_strcmp0(hv->instance, op_data(op, "instance")) == 0;
}

bool
merge_owns_job(const Operation *op, const HvDomain *hv, const HvJob *job)
{
    const HvDisk *disk = hv_domain_disk(hv, op_data(op, "target"));

    if (job->type != wanted_job(op) || json_object_get(op->row.data, "started") == NULL ||
        !merge_same_instance(op, hv))
        return false;
    /* an active job shows where it goes; of an internal one nothing more can be known */
    return disk == NULL || disk->mirror_path == NULL || !merge_has_leaf(op) ||
           g_str_equal(disk->mirror_path, merge_new_leaf(op));
}

bool
merge_leaf_is_settled(const Operation *op, const HvDomain *hv)
{
    const HvDisk *disk = hv_domain_disk(hv, op_data(op, "target"));

    if (disk == NULL || hv->instance == NULL)
        return true;
    if (disk->mirror_path == NULL && disk->mirror_job == NULL)
        return true;
    return g_strcmp0(disk->mirror_job, "") != 0 && g_strcmp0(disk->mirror_ready, "pivot") != 0;
}

bool
merge_look_job_first(Operation *op, HvJob *ret_job, HvDomain **ret_hv, ChainState *ret_state,
                     GError **error)
{
    Hypervisor *hv = op->agent->hv;

    *ret_state = CHAIN_UNKNOWN;
    return hv->ops->job_look(hv, op->row.vm_id, op_data(op, "target"), ret_job, error) &&
           (*ret_hv = op_hv(op, error)) != NULL && merge_chain_state(op, *ret_hv, ret_state, error);
}
