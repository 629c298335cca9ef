/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * Merging: the steps "stop" and "undo", when a merge has failed or was cancelled.
 */
#include "agent/merge.h"

#include <errno.h>
#include <glib/gstdio.h>

/* ---- stop ---- */

/* Whatever an error or a cancel says, the chain tells whether it was too late. */
StepState
merge_stop_check(void *self, GError **error)
{
    Operation *op = self;
    g_autoptr(HvDomain) hv = NULL;
    ChainState state;
    HvJob job = { 0 };

    if (json_object_get(op->row.data, "started") == NULL)
        return STEP_FAILED; /* nothing to stop; the failure is noted already */
    /* asked before the chain, as in merge_look_job_first() */
    bool cold = merge_is(op, "cold-commit"), cold_runs = cold && cold_is_running(op);
    if (!merge_look_job_first(op, &job, &hv, &state, error))
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

bool
merge_stop_act(void *self, GError **error)
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
        json_object_get(op->row.data, "started") == NULL || !merge_same_instance(op, hv))
        return true;
    if (!op->agent->hv->ops->job_look(op->agent->hv, op->row.vm_id, op_data(op, "target"), &job,
                                      error))
        return false;
    *ret_ours = merge_owns_job(op, hv, &job);
    return true;
}

StepState
merge_undo_check(void *self, GError **error)
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
        (dest != NULL && g_file_test(dest, G_FILE_TEST_EXISTS)) || graft_has_built(op) ||
        cold_is_running(op))
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
    return graft_remove_built(op, error);
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

bool
merge_undo_act(void *self, GError **error)
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
    graft_keep_seal(op, vm);
    op_unrecord(op, vm);
    return manifest_save(home, vm, error) && agent_look(op->agent, op->entry, error);
}
