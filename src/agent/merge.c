/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * Merging one run of volumes of one disk into one.
 *
 *   record ─► seal ─► prefill ─► start ─► transfer ─► pivot ─► settle ─► (end)
 *      │       │▲       │▲        │▲         │▲         │▲▲
 *      │       │└───────┼┴────────┼┴─────────┼┴─────────┼┘│ the VM stopped, or runs again: back
 *      └───────┴────────┴─────────┴──────────┴──────────┴─┴ stop ─► undo ─► unseal ─► (end, failed)
 *
 *   record    the snapshots that a commit will change are marked unusable, durably, before
 *             it begins
 *
 *   seal      graft only (seal.c): a leaf that holds much becomes immutable, so that it can be
 *             shared. Cancelled while a person has to tell which of two volumes is right, it waits
 *             for him in undo
 *
 *   prefill   graft, copy: the new volumes are built (build.c) of all that nothing writes
 *
 *   start     the block job (or the storage daemon's, if the VM is off); none where all is built
 *
 *   transfer  until an internal commit is over, or an active one is ready
 *
 *   pivot     only if the leaf takes part; merge.md section 4. Of a VM that is off: cold_switch.c
 *
 *   settle    the manifest and libvirt's definition say what the headers say
 *
 *   stop      ends the job; if it was faster, and the chain is the merged one, the merge goes on
 *             and has not failed
 *
 *   unseal    (seal.c) of a graft that was given up: T is committed into the old leaf, by the same
 *             functions
 *
 * A VM that stops, or runs again, does not end a merge: its chain is as it was, or merged. What is
 * left is done in the other way, live or cold (merge_turn.c).
 *
 * A job that is gone says nothing; the chain does. Sources of facts: facts of libvirt 9.0 and
 * QEMU 7.2, tried: an internal commit has no READY and its "current" is the guest offset reached;
 * an active one's "current" and "end" count the bytes to copy.
 */
#include "agent/merge.h"

#include "agent/survey.h"
#include "agent/verify.h"
#include "agent/verify_work.h"
#include "base/clock.h"
#include "base/fault.h"
#include "base/text.h"

#define GONE_PATIENCE_US (3 * G_TIME_SPAN_SECOND)
#define CANCELED_PATIENCE_US (1 * G_TIME_SPAN_SECOND)
#define FAILED_PATIENCE_US (G_TIME_SPAN_SECOND / 4)
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

    builder_free(scratch->builder);
    verify_work_free(scratch->verify);
    verify_work_free(scratch->whole);
    g_free(scratch->differs);
    g_free(scratch->differs_in);
    g_free(scratch->work);
    g_free(scratch);
}

/* ---- start ---- */

/* The VM is off: nothing to start where all is built already. */
static StepState
cold_start_check(Operation *op, GError **error)
{
    StepState state;

    if (merge_is_forward(op) && graft_leaf_is_built(op))
        return STEP_DONE;
    state = cold_has_job(op, error);
    return state == STEP_TODO && !merge_may_be_cold(op, error) ? STEP_UNKNOWN : state;
}

StepState
merge_start_check(void *self, GError **error)
{
    Operation *op = self;
    g_autoptr(HvDomain) hv = NULL;
    ChainState state;
    HvJob job = { 0 };

    if (!merge_look_job_first(op, &job, &hv, &state, error))
        return STEP_UNKNOWN;
    if (state == CHAIN_AFTER)
        return STEP_DONE;
    StepState life = merge_follow(op, hv, error);
    if (life != STEP_DONE)
        return life;
    if (merge_is_cold(op))
        return cold_start_check(op, error);
    if (merge_owns_job(op, hv, &job)) { /* begun by an earlier try, perhaps just as the VM turned */
        op_remember(op, "started_in", json_string(op_data(op, "instance")));
        return STEP_DONE;
    }
    if (job.type != HV_JOB_NONE) {
        g_autofree char *name = shell_word(hv->name);
        error_set(error, ERR_BUSY,
                  "VM '%s': disk %s has a block job that is not ours; wait for it, or cancel it: "
                  "virsh blockjob %s %s --abort",
                  hv->name, op_data(op, "target"), name, op_data(op, "target"));
        return STEP_FAILED;
    }
    return STEP_TODO;
}

static void
make_work_map(Operation *op)
{
    json_t *run = json_object_get(op->row.data, "run");
    size_t n = json_array_size(run), from = merge_is_forward(op) ? n - 1 : 1; /* the leaf alone */
    g_autofree const char **paths = g_new0(const char *, n);
    g_autofree const char **formats = g_new0(const char *, n);
    MergeScratch *scratch = merge_scratch(op);
    g_autofree WorkMap *map = g_new0(WorkMap, 1);

    for (size_t i = from; i < n; i++) {
        paths[i - from] = json_string_value(json_array_get(run, i));
        formats[i - from] = "qcow2"; /* only a base can be raw */
    }
    /* the job only brings what the guest wrote since the old leaf was sealed */
    if (merge_is_forward(op) && graft_leaf_is_built(op))
        return;
    /* an estimate: without it the merge goes on, with a poorer progress */
    if (scratch->work != NULL || !qcow2_work_map(paths, formats, (unsigned)(n - from), map, NULL))
        return;
    scratch->work = g_steal_pointer(&map);
    if (!merge_is_forward(op))
        op_remember(op, "bytes", json_integer((json_int_t)scratch->work->total));
}

static uint64_t
bandwidth(const Operation *op)
{
    return (uint64_t)json_number(op->row.params, "bandwidth");
}

/* An error that leaves no doubt, and no sign of a job: not a byte was written, the snapshots
 * are as before. */
static bool
surely_not_started(Operation *op, const GError *problem)
{
    g_autoptr(HvDomain) hv = NULL;
    ChainState state;
    HvJob job = { 0 };

    if (!g_error_matches(problem, ERR, ERR_HYPERVISOR) && !g_error_matches(problem, ERR, ERR_BUSY))
        return false;
    if (!merge_look_job_first(op, &job, &hv, &state, NULL) || job.type != HV_JOB_NONE ||
        state != CHAIN_BEFORE)
        return false;
    WITH_LOCK(&op->agent->lock);
    return !op->job_event; /* of its end */
}

static bool
start_live(Operation *op, const char *base, const char *top, bool first, GError **error)
{
    Hypervisor *hv = op->agent->hv;
    const char *target = op_data(op, "target");
    g_autoptr(GError) problem = NULL;

    /* of a life in which the VM was off, and whose end the image locks could not prevent */
    if (!cold_stop(op, error))
        return false;
    bool ok =
        merge_is_forward(op)
            ? hv->ops->copy_start(hv, op->row.vm_id, target, op_data(op, "dest"), true,
                                  bandwidth(op), &problem)
            : hv->ops->commit_start(hv, op->row.vm_id, target, base, top, bandwidth(op), &problem);

    if (ok)
        return true;
    bool not_started = surely_not_started(op, problem);
    if (!not_started && g_error_matches(problem, ERR, ERR_HYPERVISOR))
        problem->code = ERR_BUSY; /* what became of it is asked */
    if (not_started && first)
        op_remember(op, "started", NULL);
    g_propagate_error(error, g_steal_pointer(&problem));
    return false;
}

/* What is refused has begun nothing. */
static bool
start_cold(Operation *op, bool first, GError **error)
{
    g_autoptr(GError) problem = NULL;

    if (cold_start(op, &problem))
        return true;
    if (first && g_error_matches(problem, ERR, ERR_REFUSED))
        op_remember(op, "started", NULL);
    g_propagate_error(error, g_steal_pointer(&problem));
    return false;
}

bool
merge_start_act(void *self, GError **error)
{
    Operation *op = self;
    const char *base = merge_run_base(op), *top = merge_run_top(op);

    g_mutex_lock(&op->agent->lock);
    op->job_event = false;
    g_clear_pointer(&op->job_reason, g_free);
    g_mutex_unlock(&op->agent->lock);
    make_work_map(op);
    if (!merge_base_is_sound(op, error))
        return merge_excuse(op, error);
    bool first = json_object_get(op->row.data, "started") == NULL;
    op_remember(op, "unflushed", NULL);
    op_remember(op, "base_open", image_is_written(base) ? json_true() : NULL);
    op_remember(op, "started", json_true());
    op_remember(op, "whole", NULL);
    op_remember(op, "started_in", json_string(merge_is_cold(op) ? "" : op_data(op, "instance")));
    if (!operation_save(op, error) || !fault_point("agent.merge.before-start", error))
        return false;
    merge_scratch(op)->job_began_us = clock_mono_us();
    merge_scratch(op)->base_had = volume_allocated(base);
    merge_scratch(op)->job_unseen_us = 0;
    merge_scratch(op)->job_ended = false;
    if (merge_is_cold(op)
            ? !start_cold(op, first, error)
            : !start_live(op, base, merge_is(op, "commit") ? top : NULL, first, error))
        return merge_excuse(op, error);
    return fault_point("agent.merge.after-start", error);
}

/* ---- transfer ---- */

static int64_t
gone_for(MergeScratch *scratch)
{
    int64_t now = clock_mono_us();

    if (scratch->job_gone_us == 0)
        scratch->job_gone_us = now;
    return now - scratch->job_gone_us;
}

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

    /* the end of a QEMU ends its jobs too: the VM is looked at again before that is believed */
    if (told && status == HV_JOB_FAILED && gone_for(scratch) > FAILED_PATIENCE_US) {
        error_set(
            error, ERR_HYPERVISOR,
            "VM '%s', disk %s: QEMU's merge failed: %s. No data were lost: the VM runs on its old "
            "chain; delete the snapshot again once the cause is gone",
            hv->name, op_data(op, "target"), reason != NULL ? reason : "it gave no reason");
        return STEP_FAILED;
    }
    if (told && status == HV_JOB_CANCELED && gone_for(scratch) > CANCELED_PATIENCE_US) {
        error_set(error, ERR_CANCELLED, "VM '%s', disk %s: the merge was cancelled from outside",
                  hv->name, op_data(op, "target"));
        return STEP_FAILED;
    }
    op->poll_ms = 20;
    if (gone_for(scratch) < GONE_PATIENCE_US)
        return STEP_RUNNING;
    error_set(error, ERR_HYPERVISOR,
              "VM '%s', disk %s: the merge ended without a result and the chain is as before. No "
              "data were "
              "lost; delete the snapshot again",
              hv->name, op_data(op, "target"));
    return STEP_FAILED;
}

/* A job that copies, after what was built. */
void
merge_show_job(Operation *op, uint64_t done, uint64_t total)
{
    uint64_t before = (uint64_t)json_number(op->row.data, "prefilled");
    MergeScratch *scratch = merge_scratch(op);
    uint64_t bytes = total;

    operation_progress(op, space_phase(op), before + done, before + total);
    /* QEMU counts zeros and holes above data as bytes to copy, and where the disk has grown all
     * that is new; what the guest writes meanwhile is added as it comes. Until it has begun to copy
     * it is still counting. */
    if (scratch->job_first_total == 0 && done > 0)
        scratch->job_first_total = total;
    uint64_t first = scratch->job_first_total != 0 ? scratch->job_first_total : total;
    if (scratch->work != NULL)
        bytes = MIN(total, scratch->work->total + total - MIN(total, first));
    op_remember(op, "bytes", json_integer(json_number(op->row.data, "copied") + (json_int_t)bytes));
}

static void
show_progress(Operation *op, const HvJob *job)
{
    MergeScratch *scratch = merge_scratch(op);

    if (job->type == HV_JOB_COMMIT) {
        if (scratch->work == NULL)
            make_work_map(op);
        if (scratch->work != NULL)
            operation_progress(op, space_phase(op), work_below(scratch->work, job->current),
                               scratch->work->total);
        return;
    }
    merge_show_job(op, job->current, job->end);
}

static StepState
job_runs(Operation *op, const HvDomain *hv, const HvJob *job)
{
    HvDisk *disk = hv_domain_disk(hv, op_data(op, "target"));
    bool ready = disk != NULL && g_strcmp0(disk->mirror_ready, "yes") == 0;

    op->poll_ms = POLL_MS;
    merge_show_guest(op, hv);
    if (!merge_has_leaf(op) || !ready) {
        merge_watch_job(op, job);
        return STEP_RUNNING;
    }
    /* a mirror that is ready but lags: wait until the pause would be short */
    if (job->end > 0 && job->end - MIN(job->current, job->end) <= SMALL_LAG)
        return STEP_DONE;
    op->poll_ms = POLL_READY_MS;
    merge_watch_job(op, job);
    return STEP_RUNNING;
}

static StepState
transfer(Operation *op, GError **error)
{
    g_autoptr(HvDomain) hv = NULL;
    ChainState state;
    HvJob job = { 0 };

    if (merge_is_cold(op) && merge_is_forward(op) && graft_leaf_is_built(op))
        return STEP_DONE;
    if (merge_is_cold(op))
        return cold_look(op, error);
    hv = op_hv_seen(op, error);
    if (hv == NULL || !merge_chain_state(op, hv, &state, error))
        return STEP_UNKNOWN;
    if (state == CHAIN_AFTER)
        return STEP_DONE;
    StepState life = merge_follow(op, hv, error);
    if (life != STEP_DONE)
        return life;
    if (!merge_was_begun(op))
        return STEP_BACK;
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

/* What most of the bytes were: a file system takes longer to find new places for them. */
static Rate
rate_of_job(Operation *op, const char *base, double bytes)
{
    if (merge_is_cold(op))
        return RATE_COLD;
    if (merge_is_forward(op))
        return RATE_FILL;
    double grown = (double)volume_allocated(base) - (double)merge_scratch(op)->base_had;
    return grown < bytes / 2 ? RATE_COMMIT : RATE_FILL;
}

/* What was limited or held, or begun by an earlier process, says nothing. */
static void
learn_rate(Operation *op)
{
    MergeScratch *scratch = merge_scratch(op);
    const char *path = merge_is_forward(op) ? merge_new_leaf(op) : merge_run_base(op);
    double bytes =
        (double)(json_number(op->row.data, "bytes") - json_number(op->row.data, "copied"));

    if (scratch->job_began_us != 0 && bandwidth(op) == 0 &&
        json_object_get(op->row.data, "attention") == NULL)
        survey_learn(op->agent, path, rate_of_job(op, path, bytes), bytes,
                     (double)(clock_mono_us() - scratch->job_began_us) / 1e6);
    scratch->job_began_us = 0;
}

StepState
merge_transfer_check(void *self, GError **error)
{
    Operation *op = self;
    StepState state = transfer(op, error);

    if (state == STEP_DONE)
        learn_rate(op);
    return state;
}

/* A VM that was started while its leaf was compared with what was built of it explains every
 * difference. */
static StepState
check_built(void *self, GError **error)
{
    Operation *op = self;
    StepState state = verify_built_check(op, error), now;

    if (!merge_is_forward(op) || merge_flag(op, "set_aside") ||
        (state != STEP_DONE && state != STEP_TODO))
        return state;
    now = build_still_off(op, state, error);
    if (now == STEP_BACK)
        verify_forget(op);
    return now;
}

/* clang-format off */
const Step merge_steps[] = {
    /* name               check                   act                tries  cancel  if it failed  next      if the VM turned */
    { "record",           merge_record_check,     merge_record_act,  3,     true,   "stop",       NULL,     NULL     },
    { "seal",             seal_check,             seal_act,          3,     true,   "stop",       NULL,     "seal"   },
    { "prefill",          build_check,            build_act,         0,     true,   "stop",       NULL,     "seal"   },
    { "verify-built",     check_built,            verify_built_act,  0,     true,   "stop",       NULL,     "seal"   },
    { "start",            merge_start_check,      merge_start_act,   3,     true,   "stop",       NULL,     "seal"   },
    { "transfer",         merge_transfer_check,   NULL,              0,     true,   "stop",       NULL,     "seal"   },
    { "verify",           verify_check,           verify_act,        0,     true,   "stop",       NULL,     "seal"   },
    { "pivot",            pivot_check,            pivot_act,         0,     false,  "stop",       NULL,     "seal"   },
    { "settle",           merge_settle_check,     merge_settle_act,  0,     false,  NULL,         STEP_END, "seal"   },
    { "stop",             merge_stop_check,       merge_stop_act,    0,     false,  "undo",       "pivot",  NULL     },
    { "undo",             merge_undo_check,       merge_undo_act,    0,     false,  NULL,         NULL,     NULL     },
    { "unseal",           unseal_start_check,     merge_start_act,   3,     false,  "keep-seal",  NULL,     "unseal" },
    { "unseal-transfer",  unseal_transfer_check,  NULL,              0,     false,  "keep-seal",  NULL,     "unseal" },
    { "unseal-pivot",     unseal_pivot_check,     pivot_act,         0,     false,  "keep-seal",  NULL,     "unseal" },
    { "unseal-settle",    unseal_settle_check,    unseal_settle_act, 0,     false,  NULL,         STEP_END, NULL     },
    { "keep-seal",        keep_seal_check,        keep_seal_act,     0,     false,  NULL,         STEP_END, "unseal" },
    { NULL },
};
/* clang-format on */
