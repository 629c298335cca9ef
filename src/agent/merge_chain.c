/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * Merging: which chain does the disk have, and whose is its block job?
 *
 * Everything here only looks, but for merge_save_chain() and merge_sync_changed(), which make the
 * merged chain known and durable, and for merge_whole.c, which takes back what is not.
 */
#include "agent/merge.h"

#include "base/clock.h"
#include "model/plan.h"

#define UNSEEN_PATIENCE_US (30 * G_TIME_SPAN_SECOND)
#define WRITTEN_PATIENCE_US (2 * G_TIME_SPAN_SECOND)

bool
merge_is(const Operation *op, const char *strategy)
{
    return g_strcmp0(op_data(op, "strategy"), strategy) == 0;
}

bool
merge_flag(const Operation *op, const char *key)
{
    return json_object_get(op->row.data, key) != NULL;
}

bool
merge_is_forward(const Operation *op)
{
    return strategy_is_forward(op_data(op, "strategy"));
}

bool
merge_is_cold(const Operation *op)
{
    return op_data(op, "instance") == NULL;
}

static const char *
last_of(const Operation *op, const char *list)
{
    json_t *paths = json_object_get(op->row.data, list);

    return json_string_value(json_array_get(paths, json_array_size(paths) - 1));
}

const char *
merge_run_base(const Operation *op)
{
    return json_string_value(json_array_get(json_object_get(op->row.data, "run"), 0));
}

const char *
merge_run_top(const Operation *op)
{
    return last_of(op, "run");
}

bool
merge_has_leaf(const Operation *op)
{
    return g_strcmp0(merge_run_top(op), merge_old_leaf(op)) == 0;
}

const char *
merge_new_leaf(const Operation *op)
{
    return last_of(op, "after");
}

const char *
merge_old_leaf(const Operation *op)
{
    return last_of(op, "before");
}

/* ---- which chain is it? ---- */

static bool
begins_with(char **paths, const json_t *list)
{
    size_t i;
    json_t *path;

    if (g_strv_length(paths) < json_array_size(list))
        return false;
    json_array_foreach (list, i, path)
        if (!g_str_equal(paths[i], json_string_value(path)))
            return false;
    return true;
}

static bool
same_paths(char **paths, const json_t *list)
{
    return g_strv_length(paths) == json_array_size(list) && begins_with(paths, list);
}

bool
merge_is_before(Operation *op, const HvDomain *hv)
{
    g_auto(GStrv) now = NULL;
    ChainState state;

    if (merge_chain_state(op, hv, &state, NULL) || state != CHAIN_OTHER)
        return state == CHAIN_BEFORE;
    now = op_chain(op, hv, op_data(op, "target"), NULL);
    return now != NULL && begins_with(now, json_object_get(op->row.data, "before"));
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

/* libvirtd can be killed after QEMU has pivoted and before it has written that down: it shows the
 * old leaf for ever then. QEMU's image locks tell which one is written (a job writes its target
 * too, but then the old leaf is written as well). */
bool
merge_pivot_is_hidden(const Operation *op, const HvDomain *hv)
{
    return merge_flag(op, "pivoting") && hv->instance != NULL && merge_same_instance(op, hv) &&
           image_is_written(merge_new_leaf(op)) && !image_is_written(merge_old_leaf(op));
}

/* A libvirtd that was killed as it cancelled the job can take it for pivoted (hidden_leaf.c). That
 * the merged chain is shown says nothing then, for nobody had asked for a pivot. */
static bool
pivot_is_doubtful(const Operation *op)
{
    return merge_flag(op, "cancelling") && merge_has_leaf(op) && !merge_is_forward(op) &&
           !merge_flag(op, "pivoting") && !merge_flag(op, "pivoted") &&
           !merge_flag(op, "switching");
}

bool
merge_definition_runs_ahead(const Operation *op, const HvDomain *hv)
{
    return hv->state == VM_DOWN && pivot_is_doubtful(op);
}

/* The merged chain is shown. Of a VM that is off the old leaf is the truth. */
static bool
shows_merged(Operation *op, const HvDomain *hv, ChainState *ret_state, GError **error)
{
    bool same = merge_same_instance(op, hv);

    if (merge_definition_runs_ahead(op, hv)) {
        *ret_state = CHAIN_BEFORE;
        return true;
    }
    if (pivot_is_doubtful(op) && (!same || image_is_written(merge_old_leaf(op))))
        return error_set(error, ERR_BUSY,
                         "VM '%s', disk %s: libvirtd was killed as the merge was cancelled, and "
                         "says that the VM runs on %s. %s %s. Power the VM off (a reboot from "
                         "inside is not enough), and it is put right",
                         hv->name, op_data(op, "target"), merge_new_leaf(op),
                         same ? "Its QEMU writes" : "It was started so, but its data are in",
                         merge_old_leaf(op));
    return merge_judge_commit(op, hv, ret_state, error);
}

bool
merge_chain_state(Operation *op, const HvDomain *hv, ChainState *ret_state, GError **error)
{
    g_auto(GStrv) now = NULL;

    *ret_state = CHAIN_UNKNOWN;
    seal_note(op, hv);
    now = op_chain(op, hv, op_data(op, "target"), error);
    if (now == NULL)
        return false;
    if (same_paths(now, json_object_get(op->row.data, "before"))) {
        *ret_state = merge_pivot_is_hidden(op, hv) ? CHAIN_AFTER : CHAIN_BEFORE;
        return true;
    }
    if (is_merged_chain(op, now))
        return shows_merged(op, hv, ret_state, error);
    *ret_state = CHAIN_OTHER;
    g_autofree char *text = g_strjoinv(" <- ", now);
    return error_set(
        error, ERR_REFUSED,
        "VM '%s', disk %s: its chain is neither the one before the merge nor the merged one: %s; "
        "somebody else changed it. No data were removed",
        hv->name, op_data(op, "target"), text);
}

static const char *
volume_id(const Operation *op, const char *data_key, const char *param_key)
{
    const char *id = op_data(op, data_key);

    return id != NULL ? id : op_text(op, param_key);
}

static bool
apply(Operation *op, Vm *vm, Disk *disk, GError **error)
{
    const char *base = volume_id(op, "base_id", "base"), *top = volume_id(op, "top_id", "top");

    if (merge_is_forward(op))
        return graft_apply(op, vm, disk, error);
    return disk_volume(disk, top) == NULL || /* an earlier try has done it */
           vm_apply_merge(vm, disk->id, base, top, NULL, error);
}

/* Until they are deleted nobody may take one of them for the leaf again. */
static void
note_leftovers(const Operation *op, Vm *vm)
{
    const json_t *result = json_object_get(op->row.data, "result");
    size_t i;
    json_t *path;

    json_array_foreach (json_object_get(result, "volumes_left"), i, path)
        vm_add_leftover(vm, json_string_value(path));
}

bool
merge_save_chain(Operation *op, bool conclude, GError **error)
{
    Domain *home = NULL;
    g_autoptr(Vm) vm = op_manifest(op, &home, error);
    const char *disk_id = op_text(op, "disk_id");
    Disk *disk = vm != NULL ? vm_disk(vm, disk_id) : NULL;

    if (vm == NULL)
        return false;
    if (disk == NULL)
        return error_set(error, ERR_NOT_FOUND, "VM '%s' has no disk %s any more", vm->name,
                         disk_id);
    if (!apply(op, vm, disk, error))
        return false;
    if (conclude) {
        note_leftovers(op, vm);
        op_unrecord(op, vm);
    }
    return manifest_save(home, vm, error);
}

bool
merge_manifest_is_new(Operation *op, bool *ret_new, GError **error)
{
    Domain *home = NULL;
    g_autoptr(Vm) vm = op_manifest_look(op, &home, error);
    const Disk *disk = vm != NULL ? vm_disk(vm, op_text(op, "disk_id")) : NULL;

    if (vm == NULL)
        return false;
    *ret_new = disk != NULL && disk->volumes->len > 0 &&
               g_strcmp0(disk_leaf(disk)->path, merge_new_leaf(op)) == 0;
    return true;
}

bool
merge_sync_changed(Operation *op, GError **error)
{
    json_t *before = json_object_get(op->row.data, "before"),
           *after = json_object_get(op->row.data, "after");
    const char *base = merge_run_base(op);
    size_t at = 0;

    while (at < json_array_size(before) &&
           g_strcmp0(json_string_value(json_array_get(before, at)), base) != 0)
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

Life
merge_life(const Operation *op, const HvDomain *hv, GError **error)
{
    if (hv->instance == NULL && hv->state != VM_DOWN) {
        error_set(error, ERR_BUSY, "VM '%s': %s", hv->name,
                  hv->state == VM_UNKNOWN ? hv_why_unknown(hv)
                                          : "it is starting or stopping just now");
        return LIFE_UNCLEAR;
    }
    return merge_same_instance(op, hv) ? LIFE_SAME : LIFE_OTHER;
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
        return !merge_pivot_is_hidden(op, hv);
    return g_strcmp0(disk->mirror_job, "") != 0 && g_strcmp0(disk->mirror_ready, "pivot") != 0;
}

bool
merge_was_begun(const Operation *op)
{
    const char *in = op_data(op, "started_in");

    return in == NULL || g_strcmp0(in, merge_is_cold(op) ? "" : op_data(op, "instance")) == 0;
}

static bool
runs_live(const Operation *op)
{
    return merge_flag(op, "started") && !merge_is_cold(op) && merge_was_begun(op);
}

static bool
end_was_told(Operation *op)
{
    WITH_LOCK(&op->agent->lock);

    return op->job_event && op->job_status != HV_JOB_READY;
}

/* Whatever libvirt says of jobs, QEMU's image locks tell that it writes what ours writes into.
 * (QEMU 7.2 keeps the base of an active commit that was cancelled or failed open for writing: this
 * tells nothing of a job that has ended, and is believed for a moment only.) */
static bool
target_is_written(Operation *op)
{
    return runs_live(op) && !merge_scratch(op)->job_ended && !end_was_told(op) &&
           image_is_written(merge_is_forward(op) ? op_data(op, "dest") : merge_run_base(op));
}

/* libvirt can say that there is no job, just after one began (and the call may have ended with an
 * error all the same); and one that has just started shows the mirror of a job before it finds the
 * job again. */
static bool
job_is_found(Operation *op, const HvDomain *hv, const HvJob *job, bool written, GError **error)
{
    const HvDisk *disk = hv_domain_disk(hv, op_data(op, "target"));
    MergeScratch *scratch = merge_scratch(op);
    bool shown = runs_live(op) && disk != NULL && disk->mirror_path != NULL;

    if (job->type != HV_JOB_NONE || !merge_same_instance(op, hv) || (!shown && !written)) {
        scratch->job_unseen_us = 0;
        return true;
    }
    if (scratch->job_unseen_us == 0)
        scratch->job_unseen_us = clock_mono_us();
    return clock_mono_us() - scratch->job_unseen_us >
               (shown ? UNSEEN_PATIENCE_US : WRITTEN_PATIENCE_US) ||
           error_set(error, ERR_BUSY, "VM '%s', disk %s: libvirt does not show its job yet",
                     hv->name, op_data(op, "target"));
}

bool
merge_look_job_first(Operation *op, HvJob *ret_job, HvDomain **ret_hv, ChainState *ret_state,
                     GError **error)
{
    Hypervisor *hv = op->agent->hv;
    bool written = target_is_written(op);

    *ret_state = CHAIN_UNKNOWN;
    return hv->ops->job_look(hv, op->row.vm_id, op_data(op, "target"), ret_job, error) &&
           (*ret_hv = op_hv(op, error)) != NULL &&
           merge_chain_state(op, *ret_hv, ret_state, error) &&
           (*ret_state != CHAIN_BEFORE || job_is_found(op, *ret_hv, ret_job, written, error));
}

bool
merge_find_own_job(Operation *op, const HvDomain *hv, bool *ret_ours, GError **error)
{
    bool written = target_is_written(op);
    HvJob job = { 0 };

    *ret_ours = false;
    if (!op->agent->hv->ops->job_look(op->agent->hv, op->row.vm_id, op_data(op, "target"), &job,
                                      error))
        return false;
    *ret_ours = merge_owns_job(op, hv, &job);
    /* after a pivot the VM itself writes there */
    written = written && merge_is_before(op, hv);
    return job_is_found(op, hv, &job, written, error);
}
