/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * Merging one run of volumes of one disk into one.
 *
 *   record ─► prefill ─► start ─► transfer ─► pivot ─► settle ─► (end)
 *      │         │         │         │         │ ▲
 *      └─────────┴─────────┴─────────┴─────────┴─┴─ stop ─► undo ─► (end, failed)
 *
 * record    the restore points that a commit will change are marked unusable, durably, before it
 * begins prefill   copy only: the new volume takes all that lies below the leaf start     the block
 * job (or the storage daemon's, if the VM is off) transfer  until an internal commit is over, or an
 * active one is ready pivot     only if the leaf takes part; merge.md section 4 settle    the
 * manifest and libvirt's definition say what the headers say stop      ends the job; if it was
 * faster, and the chain is the merged one, the merge goes on and has not failed
 *
 * A job that is gone says nothing; the chain does. Sources of facts: facts of libvirt 9.0 and
 * QEMU 7.2, tried: an internal commit has no READY and its "current" is the guest offset reached;
 * an active one's "current" and "end" count the bytes to copy.
 */
#include "agent/merge.h"

#include "base/clock.h"
#include "base/fault.h"
#include "base/text.h"
#include "model/plan.h"
#include "model/verbs.h"

#include <errno.h>
#include <gio/gio.h>
#include <glib/gstdio.h>
#include <string.h>
#include <unistd.h>

#define GONE_PATIENCE_US (3 * G_TIME_SPAN_SECOND)
#define POLL_MS 250
#define POLL_READY_MS 10
#define SMALL_LAG (16 * 1024 * 1024) /* bytes: copied within the pivot's budget */

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

MergeScratch *
merge_scratch(Operation *op)
{
    if (op->scratch == NULL)
        op->scratch = g_new0(MergeScratch, 1);
    return op->scratch;
}

bool
merge_is(const Operation *op, const char *strategy)
{
    return g_strcmp0(op_data(op, "strategy"), strategy) == 0;
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

static uint64_t
bandwidth(const Operation *op)
{
    return (uint64_t)json_number(op->row.params, "bandwidth");
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
    /* else an earlier try has done it */
    if (disk_volume(disk, op_text(op, "top")) != NULL &&
        !vm_apply_merge(vm, disk_id, op_text(op, "base"), op_text(op, "top"), replacement, error))
        return false;
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
    /* the merged volume, and the one above it, whose header names it */
    for (size_t i = at; i < json_array_size(after) && i <= at + 1; i++)
        if (!volume_sync(json_string_value(json_array_get(after, i)), error))
            return false;
    return true;
}

/* ---- record ---- */

/* What will it be, given how the VM is now? The manager's plan may be older than the VM's state. */
static const char *
choose_strategy(const Operation *op, const HvDomain *hv, bool has_leaf)
{
    if (hv->instance == NULL)
        return "cold-commit";
    if (!has_leaf)
        return "commit";
    return g_strcmp0(op_text(op, "strategy"), "copy") == 0 ? "copy" : "commit-active";
}

static bool
check_strategy(const Operation *op, const Vm *vm, const char *chosen, GError **error)
{
    const char *asked = op_text(op, "strategy");

    if (g_str_equal(asked, "copy") && !g_str_equal(chosen, "copy"))
        return error_set(
            error, ERR_REFUSED,
            "VM '%s': a copy needs a running VM and a run that holds the leaf; plan again",
            vm->name);
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
}

/* Restore points in [base, top) are changed by a commit as soon as it begins (H7). */
static void
mark_unusable(Operation *op, Vm *vm, const Disk *disk, int base, int top)
{
    g_autoptr(json_t) marked = json_array();

    for (guint i = 0; i < vm->snapshots->len; i++) {
        Snapshot *snapshot = vm->snapshots->pdata[i];
        SnapshotDisk *sd = snapshot_disk(snapshot, disk->id);
        int at = sd != NULL ? disk_volume_index(disk, sd->volume_id) : -1;
        if (at < base || at >= top || sd->unusable)
            continue;
        sd->unusable = true;
        json_array_append_new(marked, json_string(snapshot->id));
    }
    op_remember(op, "marked", g_steal_pointer(&marked));
}

/* The job never began: not a byte was written, the restore points are as good as before. */
static void
unmark(Operation *op, Vm *vm)
{
    size_t i;
    json_t *id;

    if (json_object_get(op->row.data, "started") != NULL)
        return;
    json_array_foreach (json_object_get(op->row.data, "marked"), i, id) {
        Snapshot *snapshot = vm_snapshot(vm, json_string_value(id));
        SnapshotDisk *sd =
            snapshot != NULL ? snapshot_disk(snapshot, op_text(op, "disk_id")) : NULL;
        if (sd != NULL)
            sd->unusable = false;
    }
}

static StepState
record_check(void *self, GError **error)
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

static bool
record_act(void *self, GError **error)
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
    bool has_leaf = top == (int)disk->volumes->len - 1;
    const char *strategy = choose_strategy(op, hv, has_leaf);
    bool copy = g_str_equal(strategy, "copy");
    if (!check_strategy(op, vm, strategy, error) ||
        !nobody_else_uses(op, disk, base, top, !copy, error))
        return false;
    remember_plan(op, hv, disk, base, top, strategy);
    if (!merge_chain_state(op, hv, &state, error))
        return false;
    if (state != CHAIN_BEFORE)
        return error_set(error, ERR_REFUSED,
                         "VM '%s', disk %s: the chain is not as the manifest says", vm->name,
                         disk->target);
    if (!copy)
        mark_unusable(op, vm, disk, base, top);
    if (!operation_save(op, error))
        return false;
    op_record(op, vm);
    return fault_point("agent.merge.before-record", error) && manifest_save(home, vm, error);
}

/* ---- start ---- */

static HvJobType
wanted_job(const Operation *op)
{
    if (merge_is(op, "copy"))
        return HV_JOB_COPY;
    return merge_is(op, "commit") ? HV_JOB_COMMIT : HV_JOB_ACTIVE_COMMIT;
}

static bool
same_instance(const Operation *op, const HvDomain *hv)
{
    return g_strcmp0(hv->instance, op_data(op, "instance")) == 0;
}

bool
merge_owns_job(const Operation *op, const HvDomain *hv, const HvJob *job)
{
    const HvDisk *disk = hv_domain_disk(hv, op_data(op, "target"));

    if (job->type != wanted_job(op) || json_object_get(op->row.data, "started") == NULL ||
        !same_instance(op, hv))
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

/* First the job, then the chain: if the job is gone by then, the chain tells what became of it. The
 * other way round it could end in between, merged, and look as if it had never run. */
static bool
look_job_first(Operation *op, HvJob *ret_job, HvDomain **ret_hv, ChainState *ret_state,
               GError **error)
{
    Hypervisor *hv = op->agent->hv;

    *ret_state = CHAIN_UNKNOWN;
    return hv->ops->job_look(hv, op->row.vm_id, op_data(op, "target"), ret_job, error) &&
           (*ret_hv = op_hv(op, error)) != NULL && merge_chain_state(op, *ret_hv, ret_state, error);
}

static StepState
start_check(void *self, GError **error)
{
    Operation *op = self;
    g_autoptr(HvDomain) hv = NULL;
    ChainState state;
    HvJob job = { 0 };

    if (!look_job_first(op, &job, &hv, &state, error))
        return STEP_UNKNOWN;
    if (state == CHAIN_AFTER)
        return STEP_DONE;
    if (merge_is(op, "cold-commit"))
        return cold_has_job(op, error);
    if (!same_instance(op, hv)) {
        error_set(error, ERR_REFUSED,
                  "VM '%s' stopped before the merge of disk %s began; nothing was changed, "
                  "delete the snapshot again",
                  hv->name, op_data(op, "target"));
        return STEP_FAILED;
    }
    if (merge_owns_job(op, hv, &job))
        return STEP_DONE; /* begun by an earlier try */
    if (job.type != HV_JOB_NONE) {
        error_set(error, ERR_BUSY,
                  "VM '%s': disk %s has a block job that is not ours; wait for it, or cancel it: "
                  "virsh blockjob %s %s --abort",
                  hv->name, op_data(op, "target"), hv->name, op_data(op, "target"));
        return STEP_FAILED;
    }
    return STEP_TODO;
}

static void
make_work_map(Operation *op)
{
    json_t *run = json_object_get(op->row.data, "run");
    size_t n = json_array_size(run) - 1;
    g_autofree const char **paths = g_new0(const char *, n);
    g_autofree const char **formats = g_new0(const char *, n);
    MergeScratch *scratch = merge_scratch(op);
    g_autofree WorkMap *map = g_new0(WorkMap, 1);

    for (size_t i = 0; i < n; i++) {
        paths[i] = json_string_value(json_array_get(run, i + 1));
        formats[i] = "qcow2"; /* only a base can be raw */
    }
    /* an estimate: without it the merge goes on, with a poorer progress */
    if (scratch->work == NULL && qcow2_work_map(paths, formats, (unsigned)n, map, NULL)) {
        scratch->work = g_steal_pointer(&map);
        op_remember(op, "bytes", json_integer((json_int_t)scratch->work->total));
    }
}

/* An error that leaves no doubt: not a byte was written, the restore points are as before. */
static bool
start_live(Operation *op, const char *base, const char *top, bool first, GError **error)
{
    Hypervisor *hv = op->agent->hv;
    const char *target = op_data(op, "target");
    g_autoptr(GError) problem = NULL;
    bool ok =
        merge_is(op, "copy")
            ? hv->ops->copy_start(hv, op->row.vm_id, target, op_data(op, "dest"), true,
                                  bandwidth(op), &problem)
            : hv->ops->commit_start(hv, op->row.vm_id, target, base, top, bandwidth(op), &problem);

    if (ok)
        return true;
    if (first &&
        (g_error_matches(problem, ERR, ERR_HYPERVISOR) || g_error_matches(problem, ERR, ERR_BUSY)))
        op_remember(op, "started", NULL);
    g_propagate_error(error, g_steal_pointer(&problem));
    return false;
}

static bool
start_act(void *self, GError **error)
{
    Operation *op = self;
    json_t *run = json_object_get(op->row.data, "run");
    const char *base = json_string_value(json_array_get(run, 0)),
               *top = json_string_value(json_array_get(run, json_array_size(run) - 1));

    g_mutex_lock(&op->agent->lock);
    op->job_event = false;
    g_clear_pointer(&op->job_reason, g_free);
    g_mutex_unlock(&op->agent->lock);
    make_work_map(op);
    bool first = json_object_get(op->row.data, "started") == NULL;
    op_remember(op, "started", json_true());
    if (!operation_save(op, error) || !fault_point("agent.merge.before-start", error))
        return false;
    if (merge_is(op, "cold-commit")
            ? !cold_start(op, error)
            : !start_live(op, base, merge_is(op, "commit") ? top : NULL, first, error))
        return false;
    return fault_point("agent.merge.after-start", error);
}

/* ---- transfer ---- */

/* The job is gone and the chain is as before: did it fail, or has libvirt just not told the end
 * yet? */
static StepState
job_is_gone(Operation *op, const HvDomain *hv, GError **error)
{
    MergeScratch *scratch = merge_scratch(op);
    g_autofree char *reason = NULL;
    bool told;
    HvJobStatus status;

    g_mutex_lock(&op->agent->lock);
    told = op->job_event;
    status = op->job_status;
    reason = g_strdup(op->job_reason);
    g_mutex_unlock(&op->agent->lock);

    if (told && status == HV_JOB_FAILED) {
        error_set(
            error, ERR_HYPERVISOR,
            "VM '%s', disk %s: QEMU's merge failed: %s. No data were lost: the VM runs on its old "
            "chain; delete the snapshot again once the cause is gone",
            hv->name, op_data(op, "target"), reason != NULL ? reason : "it gave no reason");
        return STEP_FAILED;
    }
    if (told && status == HV_JOB_CANCELED) {
        error_set(error, ERR_CANCELLED, "VM '%s', disk %s: the merge was cancelled from outside",
                  hv->name, op_data(op, "target"));
        return STEP_FAILED;
    }
    if (scratch->job_gone_us == 0)
        scratch->job_gone_us = clock_mono_us();
    op->poll_ms = 20;
    if (clock_mono_us() - scratch->job_gone_us < GONE_PATIENCE_US)
        return STEP_RUNNING;
    error_set(error, ERR_HYPERVISOR,
              "VM '%s', disk %s: the merge ended without a result and the chain is as before. No "
              "data were "
              "lost; delete the snapshot again",
              hv->name, op_data(op, "target"));
    return STEP_FAILED;
}

static void
show_progress(Operation *op, const HvJob *job)
{
    MergeScratch *scratch = merge_scratch(op);

    if (job->type == HV_JOB_COMMIT) {
        if (scratch->work == NULL)
            make_work_map(op);
        if (scratch->work != NULL)
            operation_progress(op, "copying", work_below(scratch->work, job->current),
                               scratch->work->total);
        return;
    }
    uint64_t before = (uint64_t)json_number(op->row.data, "prefilled");
    operation_progress(op, "copying", before + job->current, before + job->end);
    op_remember(op, "bytes", json_integer((json_int_t)(before + job->end)));
}

static StepState
job_runs(Operation *op, const HvDomain *hv, const HvJob *job)
{
    HvDisk *disk = hv_domain_disk(hv, op_data(op, "target"));
    bool ready = disk != NULL && g_strcmp0(disk->mirror_ready, "yes") == 0;

    op->poll_ms = POLL_MS;
    if (!merge_has_leaf(op) || !ready)
        return STEP_RUNNING;
    /* a mirror that is ready but lags: wait until the pause would be short */
    if (job->end > 0 && job->end - MIN(job->current, job->end) <= SMALL_LAG)
        return STEP_DONE;
    op->poll_ms = POLL_READY_MS;
    return STEP_RUNNING;
}

static StepState
transfer_check(void *self, GError **error)
{
    Operation *op = self;
    g_autoptr(HvDomain) hv = NULL;
    ChainState state;
    HvJob job = { 0 };

    if (merge_is(op, "cold-commit"))
        return cold_look(op, error);
    hv = op_hv(op, error);
    if (hv == NULL || !merge_chain_state(op, hv, &state, error))
        return STEP_UNKNOWN;
    if (state == CHAIN_AFTER)
        return STEP_DONE;
    if (!same_instance(op, hv)) {
        error_set(error, ERR_HYPERVISOR,
                  "VM '%s' stopped while disk %s was being merged. No data were lost: its chain is "
                  "as before; "
                  "delete the snapshot again, running or not",
                  hv->name, op_data(op, "target"));
        return STEP_FAILED;
    }
    if (!op->agent->hv->ops->job_look(op->agent->hv, op->row.vm_id, op_data(op, "target"), &job,
                                      error))
        return STEP_UNKNOWN;
    if (job.type == HV_JOB_NONE)
        return job_is_gone(op, hv, error);
    if (!merge_owns_job(op, hv, &job)) {
        error_set(error, ERR_BUSY, "VM '%s': disk %s has a block job that is not ours", hv->name,
                  op_data(op, "target"));
        return STEP_FAILED;
    }
    merge_scratch(op)->job_gone_us = 0;
    show_progress(op, &job);
    return job_runs(op, hv, &job);
}

/* ---- settle ---- */

static StepState
settle_check(void *self, GError **error)
{
    Operation *op = self;
    Domain *home = NULL;
    g_autoptr(Vm) vm = op_manifest(op, &home, error);
    g_autoptr(HvDomain) hv = NULL;

    if (vm == NULL)
        return STEP_UNKNOWN;
    if (op_is_recorded(op, vm) ||
        json_object_get(json_object_get(op->row.data, "result"), "volumes_left") == NULL)
        return STEP_TODO;
    if (merge_scratch(op)->settled)
        return STEP_DONE; /* the act has just looked at the rest */
    hv = op_hv(op, error);
    if (hv == NULL)
        return STEP_UNKNOWN;
    return op_definition_is_right(hv) ? STEP_DONE : STEP_TODO;
}

/* Nothing is called merged that is not. A host that lost power after the pivot can come back with a
 * definition that names the old leaf: the VM is off then, and the manifest is the truth. */
static bool
chain_is_merged(Operation *op, const HvDomain *hv, GError **error)
{
    Hypervisor *ops = op->agent->hv;
    ChainState state;

    if (!merge_chain_state(op, hv, &state, error))
        return false;
    if (state == CHAIN_AFTER)
        return true;
    if (hv->instance != NULL || json_object_get(op->row.data, "pivoted") == NULL)
        return error_set(error, ERR_BUSY,
                         "VM '%s', disk %s: the merge has ended, but the VM shows the chain as it "
                         "was before%s",
                         hv->name, op_data(op, "target"),
                         hv->instance != NULL && merge_has_leaf(op)
                             ? "; if it was started on its old leaf, power it off: what it wrote "
                               "since is not in the merged one"
                             : "");
    const char *targets[] = { op_data(op, "target") }, *sources[] = { merge_new_leaf(op) },
               *formats[] = { merge_is(op, "copy") ? "qcow2" : op_data(op, "base_format") };
    g_autoptr(HvDomain) now = NULL;
    return ops->ops->redefine(ops, op->row.vm_id, targets, sources, formats, 1, error) &&
           (now = op_hv(op, error)) != NULL && merge_chain_state(op, now, &state, error) &&
           (state == CHAIN_AFTER ||
            error_set(error, ERR_BUSY, "VM '%s': its definition still names the old leaf",
                      now->name));
}

static json_t *
volumes_left(const Operation *op)
{
    json_t *run = json_object_get(op->row.data, "run"), *left = json_array();

    for (size_t i = merge_is(op, "copy") ? 0 : 1; i < json_array_size(run); i++)
        json_array_append(left, json_array_get(run, i));
    return left;
}

/* copy leaves a base that others stand on, or that cannot be written, where it is */
static bool
keep_used_base(Operation *op, json_t *left, GError **error)
{
    const char *base = json_string_value(json_array_get(left, 0));
    g_autofree char *user = NULL;
    Domain *domain;

    if (!merge_is(op, "copy"))
        return true;
    domain = agent_domain(op->agent, base, false, error);
    if (domain == NULL)
        return false;
    g_autoptr(GPtrArray) own = g_ptr_array_new();
    for (size_t i = 0; i < json_array_size(left); i++)
        g_ptr_array_add(own, (char *)json_string_value(json_array_get(left, i)));
    g_ptr_array_add(own, NULL);
    if (!volume_find_user(domain, base, (const char *const *)own->pdata, &user, error))
        return false;
    g_autofree char *vm = agent_user_of(op->agent, op->row.vm_id, base);
    if (user != NULL || vm != NULL || access(base, W_OK) != 0)
        json_array_remove(left, 0);
    return true;
}

static bool
settle_act(void *self, GError **error)
{
    Operation *op = self;
    g_autoptr(HvDomain) hv = op_hv(op, error);
    g_autoptr(json_t) left = volumes_left(op);

    if (hv == NULL || !chain_is_merged(op, hv, error))
        return false;
    /* what the merged volume holds must be durable before anybody deletes another */
    if (!merge_sync_changed(op, error) || !keep_used_base(op, left, error) ||
        !op_mend_definition(op, hv, error) ||
        (merge_is(op, "cold-commit") && !cold_stop(op, error)))
        return false;
    op_result(op, "strategy", json_string(op_data(op, "strategy")));
    op_result(op, "bytes_copied", json_integer(json_number(op->row.data, "bytes")));
    op_result(op, "seconds",
              json_real((double)(clock_wall_ms() - json_number(op->row.data, "began")) / 1000));
    op_result(op, "volumes_left", g_steal_pointer(&left));
    if (hv->instance != NULL)
        op_result(op, "instance", json_string(hv->instance));
    /* first the result: once the record is gone, nobody comes here again */
    if (!operation_save(op, error) || !merge_save_chain(op, true, error) ||
        !fault_point("agent.merge.settled", error))
        return false;
    operation_progress(op, "merged", (uint64_t)json_number(op->row.data, "bytes"),
                       (uint64_t)json_number(op->row.data, "bytes"));
    if (!agent_look(op->agent, op->entry, error))
        return false;
    merge_scratch(op)->settled = true;
    return true;
}

/* ---- stop ---- */

/* Whatever an error or a cancel says, the chain tells whether it was too late. */
static StepState
stop_check(void *self, GError **error)
{
    Operation *op = self;
    g_autoptr(HvDomain) hv = NULL;
    ChainState state;
    HvJob job = { 0 };

    if (json_object_get(op->row.data, "started") == NULL)
        return STEP_FAILED; /* nothing to stop; the failure is noted already */
    /* asked before the chain, as in look_job_first() */
    bool cold = merge_is(op, "cold-commit"), cold_runs = cold && cold_is_running(op);
    if (!look_job_first(op, &job, &hv, &state, error))
        return state == CHAIN_OTHER || g_error_matches(*error, ERR, ERR_NOT_FOUND) ? STEP_FAILED
                                                                                   : STEP_UNKNOWN;
    if (state == CHAIN_AFTER) {
        machine_forgive(&op->machine);
        return STEP_DONE;
    }
    if (cold)
        return cold_runs ? STEP_TODO : STEP_FAILED;
    if (!merge_leaf_is_settled(op, hv)) {
        error_set(error, ERR_BUSY, "VM '%s', disk %s: libvirt does not yet say how its job ended",
                  hv->name, op_data(op, "target"));
        return STEP_UNKNOWN;
    }
    return merge_owns_job(op, hv, &job) ? STEP_TODO : STEP_FAILED;
}

static bool
stop_act(void *self, GError **error)
{
    Operation *op = self;
    Hypervisor *hv = op->agent->hv;

    if (merge_is(op, "cold-commit"))
        return cold_stop(op, error);
    return hv->ops->job_cancel(hv, op->row.vm_id, op_data(op, "target"), error);
}

/* ---- undo ---- */

static bool
job_is_ours_to_end(Operation *op, const HvDomain *hv, bool *ret_ours, GError **error)
{
    HvJob job = { 0 };

    *ret_ours = false;
    if (op_data(op, "target") == NULL || merge_is(op, "cold-commit") || hv->instance == NULL ||
        json_object_get(op->row.data, "started") == NULL || !same_instance(op, hv))
        return true;
    if (!op->agent->hv->ops->job_look(op->agent->hv, op->row.vm_id, op_data(op, "target"), &job,
                                      error))
        return false;
    *ret_ours = merge_owns_job(op, hv, &job);
    return true;
}

static StepState
undo_check(void *self, GError **error)
{
    Operation *op = self;
    g_autoptr(HvDomain) hv = op_hv(op, error);
    const char *dest = op_data(op, "dest");
    Domain *home = NULL;
    g_autoptr(Vm) vm = NULL;
    bool job = false;

    if (hv == NULL) /* the VM is gone for good: nothing to undo at it */
        return g_error_matches(*error, ERR, ERR_NOT_FOUND) ? (g_clear_error(error), STEP_DONE)
                                                           : STEP_UNKNOWN;
    if (!job_is_ours_to_end(op, hv, &job, error) || (vm = op_manifest(op, &home, error)) == NULL)
        return STEP_UNKNOWN;
    if (job || op_is_recorded(op, vm) || json_object_get(op->row.data, "pivoting") != NULL ||
        (dest != NULL && g_file_test(dest, G_FILE_TEST_EXISTS)) || cold_is_running(op))
        return STEP_TODO;
    return STEP_DONE;
}

static bool
remove_dest(Operation *op, const HvDomain *hv, GError **error)
{
    const char *dest = op_data(op, "dest");
    ChainState state;

    if (dest == NULL)
        return true;
    prefill_stop(op);
    if (!merge_chain_state(op, hv, &state, error))
        return false;
    if (state == CHAIN_AFTER)
        return error_set(error, ERR_REFUSED, "VM '%s' runs on %s: it cannot be undone", hv->name,
                         dest);
    if (g_unlink(dest) < 0 && errno != ENOENT)
        return error_set_errno(error, "removing %s", dest);
    return true;
}

static bool
undo_act(void *self, GError **error)
{
    Operation *op = self;
    Hypervisor *ops = op->agent->hv;
    g_autoptr(HvDomain) hv = op_hv(op, error);
    Domain *home = NULL;
    g_autoptr(Vm) vm = NULL;
    bool job = false;

    if (hv == NULL || !pivot_unsuspend(op, hv, error) || !job_is_ours_to_end(op, hv, &job, error))
        return false;
    if (job && !ops->ops->job_cancel(ops, op->row.vm_id, op_data(op, "target"), error))
        return false;
    if ((op_data(op, "target") != NULL && merge_is(op, "cold-commit") && !cold_stop(op, error)) ||
        !remove_dest(op, hv, error) || (vm = op_manifest(op, &home, error)) == NULL)
        return false;
    unmark(op, vm);
    op_unrecord(op, vm);
    return manifest_save(home, vm, error) && agent_look(op->agent, op->entry, error);
}

void
merge_scratch_free(void *data)
{
    MergeScratch *scratch = data;

    g_free(scratch->work);
    g_clear_object(&scratch->prefill);
    g_free(scratch);
}

/* clang-format off */
const Step merge_steps[] = {
    /* name        check           act          tries  cancel  if it failed  next     */
    { "record",    record_check,   record_act,  3,     true,   "stop",       NULL     },
    { "prefill",   prefill_check,  prefill_act, 2,     true,   "stop",       NULL     },
    { "start",     start_check,    start_act,   3,     true,   "stop",       NULL     },
    { "transfer",  transfer_check, NULL,        0,     true,   "stop",       NULL     },
    { "pivot",     pivot_check,    pivot_act,   0,     false,  "stop",       NULL     },
    { "settle",    settle_check,   settle_act,  0,     false,  NULL,         STEP_END },
    { "stop",      stop_check,     stop_act,    0,     false,  "undo",       "pivot"  },
    { "undo",      undo_check,     undo_act,    0,     false,  NULL,         STEP_END },
    { NULL },
};
/* clang-format on */
