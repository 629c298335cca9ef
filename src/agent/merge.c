/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * Merging one run of volumes of one disk into one.
 *
 *   record ─► seal ─► prefill ─► start ─► transfer ─► pivot ─► settle ─► (end)
 *      │       │        │         │         │         │ ▲
 *      └───────┴────────┴─────────┴─────────┴─────────┴─┴─ stop ─► undo ─► (end, failed)
 *
 *   record    the restore points that a commit will change are marked unusable, durably, before
 *             it begins
 *
 *   seal      graft only (graft.c): a leaf that holds much becomes immutable, so that it can be
 * shared
 *
 *   prefill   copy: the new volume takes all that lies below the leaf; graft: the new volumes are
 *             built by sharing blocks
 *
 *   start     the block job (or the storage daemon's, if the VM is off)
 *
 *   transfer  until an internal commit is over, or an active one is ready
 *
 *   pivot     only if the leaf takes part; merge.md section 4
 *
 *   settle    the manifest and libvirt's definition say what the headers say
 *
 *   stop      ends the job; if it was faster, and the chain is the merged one, the merge goes on
 *             and has not failed
 *
 * A job that is gone says nothing; the chain does. Sources of facts: facts of libvirt 9.0 and
 * QEMU 7.2, tried: an internal commit has no READY and its "current" is the guest offset reached;
 * an active one's "current" and "end" count the bytes to copy.
 */
#include "agent/merge.h"

#include "base/clock.h"
#include "base/fault.h"
#include "base/text.h"

#include <unistd.h>

#define GONE_PATIENCE_US (3 * G_TIME_SPAN_SECOND)
#define POLL_MS 250
#define POLL_READY_MS 10
#define SMALL_LAG (16 * 1024 * 1024) /* bytes: copied within the pivot's budget */

MergeScratch *
merge_scratch(Operation *op)
{
    if (op->scratch == NULL)
        op->scratch = g_new0(MergeScratch, 1);
    return op->scratch;
}

void
merge_scratch_free(void *data)
{
    MergeScratch *scratch = data;

    g_free(scratch->work);
    g_clear_object(&scratch->prefill);
    g_free(scratch);
}

/* ---- start ---- */

static StepState
start_check(void *self, GError **error)
{
    Operation *op = self;
    g_autoptr(HvDomain) hv = NULL;
    ChainState state;
    HvJob job = { 0 };

    if (!merge_look_job_first(op, &job, &hv, &state, error))
        return STEP_UNKNOWN;
    if (state == CHAIN_AFTER)
        return STEP_DONE;
    if (merge_is(op, "cold-commit"))
        return cold_has_job(op, error);
    if (!merge_same_instance(op, hv)) {
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
    g_autofree WorkMap *map = NULL;

    if (merge_is_forward(op))
        return; /* what is copied is counted by QEMU and by the step before */
    map = g_new0(WorkMap, 1);

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

static uint64_t
bandwidth(const Operation *op)
{
    return (uint64_t)json_number(op->row.params, "bandwidth");
}

/* An error that leaves no doubt: not a byte was written, the restore points are as before. */
static bool
start_live(Operation *op, const char *base, const char *top, bool first, GError **error)
{
    Hypervisor *hv = op->agent->hv;
    const char *target = op_data(op, "target");
    g_autoptr(GError) problem = NULL;
    bool ok =
        merge_is_forward(op)
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
    uint64_t all = before + job->end;
    operation_progress(op, "copying", before + job->current, all);
    op_remember(op, "bytes", json_integer((json_int_t)all));
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
    if (!merge_same_instance(op, hv)) {
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
               *formats[] = { merge_is_forward(op) ? "qcow2" : op_data(op, "base_format") };
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

    for (size_t i = merge_is_forward(op) ? 0 : 1; i < json_array_size(run); i++)
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
    /* what is published follows at once: whoever asks next looks afresh, and the worker does at its
     * end */
    merge_scratch(op)->settled = true;
    return true;
}

/* clang-format off */
const Step merge_steps[] = {
    /* name        check                act                tries  cancel  if it failed  next     */
    { "record",    merge_record_check,  merge_record_act,  3,     true,   "stop",       NULL     },
    { "seal",      seal_check,          seal_act,          3,     false,  "stop",       NULL     },
    { "prefill",   prefill_check,       prefill_act,       2,     true,   "stop",       NULL     },
    { "start",     start_check,         start_act,         3,     true,   "stop",       NULL     },
    { "transfer",  transfer_check,      NULL,              0,     true,   "stop",       NULL     },
    { "pivot",     pivot_check,         pivot_act,         0,     false,  "stop",       NULL     },
    { "settle",    settle_check,        settle_act,        0,     false,  NULL,         STEP_END },
    { "stop",      merge_stop_check,    merge_stop_act,    0,     false,  "undo",       "pivot"  },
    { "undo",      merge_undo_check,    merge_undo_act,    0,     false,  NULL,         STEP_END },
    { NULL },
};
/* clang-format on */
