/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * The VM is off, and its new leaf holds all: its definition changes to it.
 *
 * Nobody may write the old leaf between the moment when it was read and the one when the definition
 * names the new one. So, while the domain's lease and the VM's start lock are held and QEMU's image
 * lock keeps every QEMU from opening the old leaf for writing: the VM is still off, the old leaf is
 * as it was when it was read; then the definition is changed, looked at again, and the manifest
 * follows.
 *
 * A start that libvirt had begun before the definition changed goes on with the old leaf (if it
 * gets past the locks). It is seen by the look after: then the old leaf is the truth, the
 * definition is pointed back at it, and the merge goes on live. Until the manifest names the new
 * leaf, the old one is right whenever it was written; so nothing is started from the new one until
 * then (starting.c).
 */
#include "agent/merge.h"

#include "base/fault.h"

#define START_LOCK_MS 500

static bool
reads_leaf_itself(const Operation *op)
{
    return merge_is_forward(op) && graft_leaf_is_built(op);
}

/* Whatever was read of the old leaf is stale: it is read again. */
static StepState
read_again(Operation *op)
{
    op_remember(op, "completed", NULL);
    op_remember(op, "switching", NULL);
    if (reads_leaf_itself(op))
        graft_forget_top(op);
    else if (!merge_is_forward(op))
        op_remember(op, "checked", NULL);
    return STEP_BACK;
}

StepState
cold_switch_check(Operation *op, const HvDomain *hv, ChainState state, GError **error)
{
    bool is_new = false;

    if (state != CHAIN_BEFORE)
        return STEP_TODO;
    if (!merge_manifest_is_new(op, &is_new, error))
        return STEP_UNKNOWN;
    if (is_new) { /* the definition was lost with the host's power */
        op_remember(op, "pivoted", json_true());
        return STEP_DONE;
    }
    if (!merge_may_be_cold(op, error))
        return STEP_UNKNOWN;
    bool read = reads_leaf_itself(op) || merge_flag(op, "completed");
    return read && merge_leaf_changed(op) ? read_again(op) : STEP_TODO;
}

/* ---- the locks ---- */

/* merge_make_way() may take it from us at any time. */
static bool
hold_leaf(Operation *op, GError **error)
{
    AgentVm *entry = op->entry;
    int fd = image_lock(merge_old_leaf(op), error);
    WITH_WAY(op);

    if (fd < 0)
        return false;
    autofd_close(&entry->image_lock);
    entry->image_lock = fd;
    return true;
}

static void
release_leaf(Operation *op)
{
    WITH_WAY(op);

    autofd_close(&op->entry->image_lock);
    op->entry->image_lock = -1;
}

/* ---- the switch ---- */

/* The storage daemon's job: it ends while the leaf is held, so there is no gap. */
static bool
complete_job(Operation *op, GError **error)
{
    if (reads_leaf_itself(op) || merge_flag(op, "completed"))
        return true;
    if (!cold_complete(op, error) || !merge_note_leaf(op, error))
        return false;
    op_remember(op, "completed", json_true());
    return true;
}

bool
cold_finish_job(Operation *op, GError **error)
{
    bool ok = hold_leaf(op, error) && complete_job(op, error);

    release_leaf(op);
    return ok && operation_save(op, error);
}

static bool
is_quiet(Operation *op, const HvDomain *hv, GError **error)
{
    if (merge_life(op, hv, error) == LIFE_UNCLEAR)
        return false;
    if (hv->instance != NULL)
        return error_set(error, ERR_BUSY, "VM '%s' has started", hv->name);
    return !merge_leaf_changed(op) || error_set(error, ERR_BUSY, "VM '%s' has written %s meanwhile",
                                                hv->name, merge_old_leaf(op));
}

static bool
redefine(Operation *op, const LeaseHold *lease, GError **error)
{
    const char *format = merge_is_forward(op) ? "qcow2" : op_data(op, "base_format");

    op_remember(op, "started", json_true());
    op_remember(op, "switching", json_true());
    return volume_sync(merge_new_leaf(op), error) && operation_save(op, error) &&
           fault_point("agent.cold.before-redefine", error) && lease_check(lease, error) &&
           op_point_at(op, op_data(op, "target"), merge_new_leaf(op), format, error) &&
           fault_point("agent.cold.after-redefine", error);
}

/* It was started on its old leaf, or has run on it: that is the truth now. */
static bool
go_back(Operation *op, const HvDomain *hv, GError **error)
{
    return op_point_at(op, op_data(op, "target"), merge_old_leaf(op), "qcow2", error) &&
           error_set(error, ERR_BUSY,
                     "VM '%s' was started on its old leaf while disk %s was merged", hv->name,
                     op_data(op, "target"));
}

static bool
conclude(Operation *op, GError **error)
{
    g_autoptr(HvDomain) hv = op_hv(op, error);
    ChainState state;

    if (hv == NULL || !merge_chain_state(op, hv, &state, error))
        return false;
    if (state == CHAIN_BEFORE || (hv->instance == NULL && merge_leaf_changed(op)))
        return go_back(op, hv, error);
    if (hv->instance == NULL && hv->state != VM_DOWN) /* on which leaf, is not known yet */
        return error_set(error, ERR_BUSY, "VM '%s' is starting just now", hv->name);
    if (!merge_save_chain(op, false, error) || !fault_point("agent.cold.after-manifest", error))
        return pivot_look_again_later(error); /* there is no way back: the storage may be full */
    op_remember(op, "pivoted", json_true());
    return operation_save(op, error);
}

/* Errors mean nothing here but "look again": the old leaf stays the truth until the manifest says
 * otherwise. */
static bool
switch_held(Operation *op, const LeaseHold *lease, GError **error)
{
    g_autoptr(HvDomain) hv = NULL;
    ChainState state;

    if ((hv = op_hv(op, error)) == NULL || !merge_chain_state(op, hv, &state, error))
        return false;
    if (state == CHAIN_AFTER) /* an earlier try came so far */
        return conclude(op, error);
    if (!hold_leaf(op, error) || !complete_job(op, error))
        return false;
    hv_domain_free(hv);
    hv = op_hv(op, error);
    return hv != NULL && is_quiet(op, hv, error) && pivot_has_room(op, error) &&
           redefine(op, lease, error) && conclude(op, error);
}

bool
cold_switch(Operation *op, GError **error)
{
    Domain *home = NULL;
    g_autoptr(Vm) vm = op_manifest(op, &home, error);
    g_auto(LeaseHold) lease = { 0 };
    autofd int start_lock = -1;
    bool ok;

    if (vm == NULL || !op_lease(op, home, &lease, error) ||
        (start_lock = vm_start_lock(home, op->row.vm_id, START_LOCK_MS, error)) < 0)
        return merge_flag(op, "switching") ? pivot_look_again_later(error) : false;
    ok = switch_held(op, &lease, error);
    release_leaf(op);
    return ok;
}
