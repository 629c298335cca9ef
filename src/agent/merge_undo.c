/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * Merging: the steps "stop" and "undo", when a merge has failed or was cancelled.
 */
#include "agent/merge.h"

#include "agent/verify.h"
#include "base/clock.h"

/* ---- stop ---- */

/* The host died after the new leaf had become the truth, and its definition names the old one. */
static bool
is_new_by_manifest(Operation *op, const HvDomain *hv, bool *ret_new, GError **error)
{
    *ret_new = false;
    return !merge_has_leaf(op) || hv->instance != NULL || merge_manifest_is_new(op, ret_new, error);
}

/* What somebody else has put on top does not end a job of ours. */
static bool
is_below_theirs(Operation *op, const HvDomain *hv, ChainState *state, GError **error)
{
    if (*state != CHAIN_OTHER || !merge_is_before(op, hv))
        return false;
    g_clear_error(error);
    *state = CHAIN_BEFORE;
    return true;
}

/* Whatever an error or a cancel says, the chain tells whether it was too late. */
StepState
merge_stop_check(void *self, GError **error)
{
    Operation *op = self;
    g_autoptr(HvDomain) hv = NULL;
    ChainState state;
    HvJob job = { 0 };
    bool is_new = false;

    verify_give_up(op);
    if (!merge_flag(op, "started") && !merge_flag(op, "switching"))
        return STEP_FAILED; /* nothing to stop; the failure is noted already */
    /* asked before the chain, as in merge_look_job_first() */
    bool cold = merge_is_cold(op) && cold_is_running(op);
    if (!merge_look_job_first(op, &job, &hv, &state, error) &&
        !is_below_theirs(op, hv, &state, error))
        return state == CHAIN_OTHER || g_error_matches(*error, ERR, ERR_NOT_FOUND) ? STEP_FAILED
                                                                                   : STEP_UNKNOWN;
    if (state == CHAIN_BEFORE && !is_new_by_manifest(op, hv, &is_new, error))
        return STEP_UNKNOWN;
    if (state == CHAIN_AFTER || is_new) {
        if (!verify_found_mismatch(op))
            machine_forgive(&op->machine);
        return STEP_DONE;
    }
    if (merge_is_cold(op))
        return cold ? STEP_TODO : STEP_FAILED;
    if (!merge_leaf_is_settled(op, hv)) {
        error_set(error, ERR_BUSY, "VM '%s', disk %s: libvirt does not yet say how its job ended",
                  hv->name, op_data(op, "target"));
        return STEP_UNKNOWN;
    }
    return merge_owns_job(op, hv, &job) ? STEP_TODO : STEP_FAILED;
}

bool
merge_cancel_job(Operation *op, GError **error)
{
    Hypervisor *hv = op->agent->hv;

    op_remember(op, "cancelling", json_true());
    if (!operation_save(op, error) ||
        !hv->ops->job_cancel(hv, op->row.vm_id, op_data(op, "target"), error))
        return false;
    merge_scratch(op)->job_ended = true;
    return true;
}

bool
merge_stop_act(void *self, GError **error)
{
    Operation *op = self;

    return merge_is_cold(op) ? cold_stop(op, error) : merge_cancel_job(op, error);
}

/* ---- undo ---- */

static bool
job_is_ours_to_end(Operation *op, const HvDomain *hv, bool *ret_ours, GError **error)
{
    *ret_ours = false;
    if (op_data(op, "target") == NULL || merge_is_cold(op) || hv->instance == NULL ||
        !merge_flag(op, "started") || !merge_same_instance(op, hv))
        return true;
    return merge_find_own_job(op, hv, ret_ours, error);
}

bool
merge_end_jobs(Operation *op, const HvDomain *hv, GError **error)
{
    bool job = false;

    if (!pivot_unsuspend(op, hv, error) || !job_is_ours_to_end(op, hv, &job, error))
        return false;
    if (job && !merge_cancel_job(op, error))
        return false;
    return cold_stop(op, error); /* in whichever life it was begun */
}

static bool
is_left(const Operation *op)
{
    const char *seal = op_data(op, "seal");

    if (merge_flag(op, "sealed"))
        return true;
    return graft_has_built(op) ||
           (seal != NULL && file_may_be_there(seal) && !merge_flag(op, "left_alone"));
}

StepState
merge_undo_check(void *self, GError **error)
{
    Operation *op = self;
    g_autoptr(HvDomain) hv = NULL;
    Domain *home = NULL;
    g_autoptr(Vm) vm = NULL;
    bool job = false;

    if (merge_flag(op, "unsealing"))
        return STEP_DONE;
    hv = op_hv(op, error);
    if (hv == NULL) /* the VM is gone for good: nothing to undo at it */
        return g_error_matches(*error, ERR, ERR_NOT_FOUND) ? (g_clear_error(error), STEP_DONE)
                                                           : STEP_UNKNOWN;
    if (!job_is_ours_to_end(op, hv, &job, error) ||
        (vm = op_manifest_look(op, &home, error)) == NULL)
        return STEP_UNKNOWN;
    if (job || op_is_recorded(op, vm) || merge_flag(op, "pivoting") || is_left(op) ||
        merge_scratch(op)->builder != NULL || cold_is_running(op))
        return STEP_TODO;
    return STEP_DONE;
}

/* Somebody else has changed the chain, but none of the new volumes is in it. */
static bool
is_beside(Operation *op, const HvDomain *hv)
{
    g_auto(GStrv) now = op_chain(op, hv, op_data(op, "target"), NULL);

    return now != NULL && !graft_is_in(op, now);
}

/* What the VM stands on, or would, stays. */
static bool
remove_built(Operation *op, const HvDomain *hv, GError **error)
{
    ChainState state;
    bool is_new = false;

    if (op_data(op, "dest") == NULL)
        return true;
    if (!merge_chain_state(op, hv, &state, error)) {
        if (state != CHAIN_OTHER || !is_beside(op, hv))
            return false;
        g_clear_error(error);
    }
    if (!merge_manifest_is_new(op, &is_new, error))
        return false;
    if (state == CHAIN_AFTER || is_new)
        return error_set(error, ERR_REFUSED, "VM '%s' stands on %s: it cannot be undone", hv->name,
                         op_data(op, "dest"));
    return graft_remove_built(op, error);
}

/* The job never began: not a byte was written, the snapshots are as good as before. */
static void
unmark(Operation *op, Vm *vm)
{
    size_t i;
    json_t *id;

    if (merge_flag(op, "started"))
        return;
    json_array_foreach (json_object_get(op->row.data, "marked"), i, id) {
        Snapshot *snapshot = vm_snapshot(vm, json_string_value(id));
        SnapshotDisk *sd =
            snapshot != NULL ? snapshot_disk(snapshot, op_text(op, "disk_id")) : NULL;
        if (sd != NULL)
            sd->unusable = false;
    }
}

/* libvirtd may have believed that the VM was pivoted; and a VM may have started on its old leaf as
 * its definition came to name the new one. */
static bool
mend_definition(Operation *op, const HvDomain *hv, GError **error)
{
    if (!merge_has_leaf(op))
        return true;
    if (hv->instance != NULL)
        return op_mend_definition(op, hv, error);
    return merge_is_forward(op) || !merge_definition_runs_ahead(op, hv) ||
           /* it stands on another */
           op_point_at(op, op_data(op, "target"), merge_old_leaf(op), "qcow2", error);
}

bool
merge_undo_act(void *self, GError **error)
{
    Operation *op = self;
    g_autoptr(HvDomain) hv = op_hv(op, error);
    Domain *home = NULL;
    g_autoptr(Vm) vm = NULL;

    if (hv == NULL)
        return false;
    build_stop(op);
    /* what a definition names is not removed */
    if (!merge_end_jobs(op, hv, error) || !mend_definition(op, hv, error) ||
        !remove_built(op, hv, error) || !seal_remove_unused(op, error))
        return false;
    if (merge_flag(op, "sealed"))
        return seal_begin_undo(op, hv, error);
    if ((vm = op_manifest(op, &home, error)) == NULL)
        return false;
    unmark(op, vm);
    op_unrecord(op, vm);
    return manifest_save(home, vm, error) && agent_look(op->agent, op->entry, error);
}
