/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * The safe pivot (merge.md section 4).
 *
 * QEMU mirrors in the background and a guest's flush reaches only the source: between READY and
 * the pivot, acknowledged writes may be missing in the new leaf. So the guest is suspended while
 * the VM changes leaves, and resumed only when the new leaf is durable and named in the manifest.
 * Until then the old leaf is the truth, and while the guest is suspended no write is acknowledged
 * that it lacks.
 *
 * A VM that somebody else suspended is neither suspended nor resumed. A VM found suspended
 * with "pivoting" in the journal was suspended by us, and is finished or resumed, always.
 */
#include "agent/merge.h"

#include "base/clock.h"
#include "base/fault.h"
#include "base/log.h"

#define MANIFEST_ROOM (4 * 1024 * 1024) /* bytes */

static bool
we_suspended(const Operation *op)
{
    return json_flag(json_object_get(op->row.data, "pivoting"), "suspended");
}

/* Too late to cancel it? */
static bool
is_done_already(Operation *op)
{
    g_autoptr(HvDomain) hv = op_hv(op, NULL);
    ChainState state;

    return hv != NULL && merge_chain_state(op, hv, &state, NULL) && state == CHAIN_AFTER;
}

/* The VM stopped, or was started again, before it was pivoted: or so it seems. From the moment that
 * the manifest names the new leaf that is the truth; a definition that names the old one was lost
 * with the host's power. */
static StepState
turn_or_conclude(Operation *op, const HvDomain *hv, GError **error)
{
    bool is_new = false;

    if (!merge_manifest_is_new(op, &is_new, error))
        return STEP_UNKNOWN;
    if (!is_new)
        return merge_turn(op, hv);
    op_remember(op, "pivoted", json_true());
    op_remember(op, "pivoting", NULL);
    return STEP_DONE;
}

/* Of another disk. QEMU 7.2 dies if it is suspended just as an internal commit ends (H12). */
static bool
internal_commit_runs(Operation *op, const HvDomain *hv)
{
    Hypervisor *libvirt = op->agent->hv;

    for (guint i = 0; hv->instance != NULL && i < hv->disks->len; i++) {
        const HvDisk *disk = hv->disks->pdata[i];
        HvJob job = { 0 };
        if (g_strcmp0(disk->device, "disk") == 0 &&
            g_strcmp0(disk->target, op_data(op, "target")) != 0 &&
            libvirt->ops->job_look(libvirt, op->row.vm_id, disk->target, &job, NULL) &&
            job.type == HV_JOB_COMMIT)
            return true;
    }
    return false;
}

StepState
pivot_check(void *self, GError **error)
{
    Operation *op = self;
    g_autoptr(HvDomain) hv = NULL;
    g_autoptr(GError) problem = NULL;
    ChainState state = CHAIN_UNKNOWN;

    if (!merge_has_leaf(op) || merge_flag(op, "pivoted"))
        return STEP_DONE;
    hv = op_hv_seen(op, &problem);
    bool known = hv != NULL && merge_chain_state(op, hv, &state, &problem);
    if (known && state == CHAIN_BEFORE) {
        switch (merge_life(op, hv, error)) {
        case LIFE_UNCLEAR:
            return STEP_UNKNOWN;
        case LIFE_OTHER:
            return turn_or_conclude(op, hv, error);
        case LIFE_SAME:
        default:
            break;
        }
    }
    if (merge_is_cold(op)) {
        if (known)
            return cold_switch_check(op, hv, state, error);
        g_propagate_error(error, g_steal_pointer(&problem));
        return state == CHAIN_OTHER ? STEP_FAILED : STEP_UNKNOWN;
    }
    if (op->machine.cancel && !merge_flag(op, "pivoting") && !merge_flag(op, "unsealing") &&
        !is_done_already(op)) {
        error_set(error, ERR_CANCELLED, "cancelled by the user");
        return STEP_FAILED;
    }
    if (!merge_flag(op, "pivoting") && hv != NULL && internal_commit_runs(op, hv)) {
        op->poll_ms = 20;
        return STEP_RUNNING;
    }
    return STEP_TODO; /* what could not be told now is asked there, and never leaves it suspended */
}

/* Waits until the mirror has caught up, which it does quickly while the guest stands still. */
static bool
wait_caught_up(Operation *op, int64_t until_us, GError **error)
{
    Hypervisor *hv = op->agent->hv;
    HvJob job = { 0 };

    for (;;) {
        if (!hv->ops->job_look(hv, op->row.vm_id, op_data(op, "target"), &job, error))
            return false;
        if (job.type == HV_JOB_NONE)
            return error_set(error, ERR_BUSY, "disk %s: the block job is gone",
                             op_data(op, "target"));
        if (job.end > 0 && job.current == job.end)
            return true;
        if (clock_mono_us() > until_us || agent_stopping(op->agent))
            return error_set(
                error, ERR_TIMEOUT,
                "disk %s: the mirror did not catch up within the pivot's budget of %u ms; the "
                "guest runs on, it is tried again",
                op_data(op, "target"), op->agent->pivot_budget_ms);
        g_usleep(500);
    }
}

/* libvirt lags behind QEMU's READY by milliseconds and then answers 83: ask again. */
static bool
pivot_job(Operation *op, int64_t until_us, GError **error)
{
    Hypervisor *hv = op->agent->hv;

    for (;;) {
        g_autoptr(GError) problem = NULL;
        if (hv->ops->job_pivot(hv, op->row.vm_id, op_data(op, "target"), &problem))
            return true;
        if (!g_error_matches(problem, ERR, ERR_BUSY) || clock_mono_us() > until_us ||
            agent_stopping(op->agent)) {
            g_propagate_error(error, g_steal_pointer(&problem));
            return false;
        }
        g_usleep(2000);
    }
}

/* Has this disk of the VM switched in QEMU, and the manifest does not say so yet? */
static bool
is_in_doubt(Operation *op, const HvDomain *hv)
{
    ChainState state;
    bool is_new = false;

    if (!merge_flag(op, "pivoting") || merge_flag(op, "pivoted"))
        return false;
    return !merge_chain_state(op, hv, &state, NULL) ||
           (state == CHAIN_AFTER && (!merge_manifest_is_new(op, &is_new, NULL) || !is_new));
}

/* The guest must not write before each of its disks that has switched is in the manifest: also one
 * whose own operation found it suspended by this one (tests/model/graft.pml, OTHERS). */
static bool
others_are_recorded(Operation *op, GError **error)
{
    g_autoptr(HvDomain) hv = NULL;
    GPtrArray *all = op->entry->operations; /* changed by this thread, and by new ones' begin */
    g_autoptr(GPtrArray) others = g_ptr_array_new();

    g_mutex_lock(&op->agent->lock);
    for (guint i = 0; i < all->len; i++) {
        Operation *other = all->pdata[i];
        if (other != op && other->kind->steps == merge_steps)
            g_ptr_array_add(others, other);
    }
    g_mutex_unlock(&op->agent->lock);
    for (guint i = 0; i < others->len; i++) {
        Operation *other = others->pdata[i];
        if (!merge_flag(other, "pivoting"))
            continue;
        if (hv == NULL && (hv = op_hv(op, error)) == NULL)
            return false;
        if (is_in_doubt(other, hv))
            return error_set(error, ERR_BUSY,
                             "VM '%s' stays suspended until the pivot of disk %s is recorded",
                             hv->name, op_data(other, "target"));
    }
    return true;
}

static bool
resume(Operation *op, GError **error)
{
    Hypervisor *hv = op->agent->hv;

    if (we_suspended(op) &&
        (!others_are_recorded(op, error) || !hv->ops->resume(hv, op->row.vm_id, error)))
        return false;
    op_remember(op, "pivoting", NULL);
    return true;
}

/* libvirt says nothing of a VM that it has lost: it may stand still all the same. */
static bool
is_seen(const HvDomain *hv, GError **error)
{
    return hv->state != VM_UNKNOWN ||
           error_set(error, ERR_BUSY, "VM '%s': %s", hv->name, hv_why_unknown(hv));
}

bool
pivot_unsuspend(Operation *op, const HvDomain *hv, GError **error)
{
    if (json_object_get(op->row.data, "pivoting") == NULL)
        return true;
    if (!is_seen(hv, error))
        return false;
    if (hv->state != VM_PAUSED || g_strcmp0(hv->instance, op_data(op, "instance")) != 0) {
        op_remember(op, "pivoting", NULL); /* it runs already, or is another instance */
        return true;
    }
    if (!merge_leaf_is_settled(op, hv))
        return error_set(error, ERR_BUSY,
                         "VM '%s' stays suspended: libvirt does not yet say whether disk %s has "
                         "pivoted",
                         hv->name, op_data(op, "target"));
    return resume(op, error) && operation_save(op, error);
}

/* The new leaf and what it stands on. Called once before the pause, so that the one within has
 * little to do. */
static bool
sync_new_chain(Operation *op, GError **error)
{
    json_t *after = json_object_get(op->row.data, "after");

    for (size_t i = 0; i + 1 < json_array_size(after); i++)
        if (!volume_sync_data(json_string_value(json_array_get(after, i)), error))
            return false;
    return volume_sync(merge_new_leaf(op), error);
}

/* From the pivot in QEMU to the guest running: what a restart repeats. */
static bool
conclude(Operation *op, int64_t paused_at_us, GError **error)
{
    if (!fault_point("agent.pivot.before-manifest", error) ||
        !volume_sync_data(merge_new_leaf(op), error) || !merge_save_chain(op, false, error) ||
        !fault_point("agent.pivot.after-manifest", error))
        return false;
    op_remember(op, "pivoted", json_true());
    if (we_suspended(op)) {
        Hypervisor *hv = op->agent->hv;
        if (!others_are_recorded(op, error) || !hv->ops->resume(hv, op->row.vm_id, error)) {
            op_remember(op, "pivoted", NULL);
            return false;
        }
        op_add_pause(op, "pivot", (double)(clock_mono_us() - paused_at_us) / 1000);
    } else {
        op_add_pause(op, "pivot", 0);
    }
    op_remember(op, "pivoting", NULL);
    return operation_save(op, error);
}

/* The attempt failed before the leaf changed: the guest goes on, whatever else happens. */
static bool
give_up_this_try(Operation *op, GError **error)
{
    g_autoptr(GError) problem = NULL;

    if (!resume(op, &problem) || !operation_save(op, &problem))
        log_vm_warn(op->row.vm_id, op->row.id,
                    "VM %s is suspended by a pivot: %s; it is tried again", op->row.vm_id,
                    problem->message);
    return false;
}

static bool
begin_pause(Operation *op, const HvDomain *domain, int64_t *ret_t0, GError **error)
{
    Hypervisor *hv = op->agent->hv;
    bool running = domain->state == VM_UP;

    op_remember(
        op, "pivoting",
        json_pack("{s:b, s:I}", "suspended", (int)running, "since", (json_int_t)clock_wall_ms()));
    if (!operation_save(op, error)) {
        op_remember(op, "pivoting", NULL);
        return false;
    }
    *ret_t0 = clock_mono_us();
    if (!running)
        return true;
    return hv->ops->suspend(hv, op->row.vm_id, error) || give_up_this_try(op, error);
}

/* An earlier try (perhaps of an earlier process) may have left the VM anywhere between. */
static bool
pick_up(Operation *op, const HvDomain *domain, ChainState state, bool *ret_go_on, GError **error)
{
    *ret_go_on = false;
    if (!is_seen(domain, error))
        return false;
    if (state == CHAIN_AFTER) {
        if (json_object_get(op->row.data, "pivoting") != NULL &&
            (domain->state != VM_PAUSED ||
             g_strcmp0(domain->instance, op_data(op, "instance")) != 0))
            op_remember(op, "pivoting", NULL); /* resumed already, or another instance */
        /* the pause began in an earlier life, which is gone with its clock */
        int64_t since = json_number(json_object_get(op->row.data, "pivoting"), "since");
        return conclude(op, clock_mono_us() - (clock_wall_ms() - since) * 1000, error);
    }
    if (g_strcmp0(domain->instance, op_data(op, "instance")) != 0)
        return error_set(error, ERR_BUSY, "VM '%s' stopped before disk %s was pivoted",
                         domain->name, op_data(op, "target"));
    if (!pivot_unsuspend(op, domain, error))
        return false;
    *ret_go_on = true;
    return true;
}

/* From the first moment of the pause on, an error says nothing about what QEMU did: the step is
 * tried again, which looks first, and is never undone on the strength of an error. */
bool
pivot_look_again_later(GError **error)
{
    if (error != NULL && *error != NULL && !error_may_retry(*error))
        (*error)->code = ERR_BUSY;
    return false;
}

/* A mirror that failed since it was ready leaves nothing to pivot to. */
static bool
job_is_there(Operation *op, const HvDomain *domain, GError **error)
{
    Hypervisor *hv = op->agent->hv;
    const HvDisk *disk = hv_domain_disk(domain, op_data(op, "target"));
    HvJob job = { 0 };

    if (!hv->ops->job_look(hv, op->row.vm_id, op_data(op, "target"), &job, error))
        return false;
    if (merge_owns_job(op, domain, &job))
        return true;
    if (job.type == HV_JOB_NONE && disk != NULL && disk->mirror_path != NULL)
        return error_set(error, ERR_BUSY, "disk %s: libvirt has not found its job again yet",
                         disk->target);
    WITH_LOCK(&op->agent->lock);
    return error_set(
        error, ERR_HYPERVISOR,
        "disk %s: the merge failed just before the pivot: %s. No data were lost: the VM runs on "
        "its old chain; delete the snapshot again",
        op_data(op, "target"), op->job_reason != NULL ? op->job_reason : "QEMU gave no reason");
}

/* Taken with virsh since the merge began (libvirt refuses that only while there is a job): they
 * would go with the old volumes. What is below the leaf is written by nobody. */
static bool
no_internal_snapshots(const Operation *op, GError **error)
{
    const json_t *run = json_object_get(op->row.data, "run");

    for (size_t i = 1; i < json_array_size(run); i++) {
        const char *path = json_string_value(json_array_get(run, i));
        g_autoptr(Qcow2Header) header = qcow2_header_read(path, error);
        if (header == NULL)
            return false;
        if ((header->features & QCOW2_INTERNAL_SNAPSHOTS) != 0)
            return error_set(error, ERR_REFUSED,
                             "disk %s: an internal snapshot was taken in %s meanwhile, which would "
                             "go with that file. The VM keeps its old chain; delete the internal "
                             "snapshot first (virsh snapshot-delete)",
                             op_data(op, "target"), path);
    }
    return true;
}

bool
pivot_has_room(Operation *op, GError **error)
{
    Domain *home = NULL;
    g_autoptr(Vm) vm = op_manifest(op, &home, error);
    uint64_t room = 0;

    if (vm == NULL || !domain_space(home, &room, NULL, error))
        return false;
    return room >= MANIFEST_ROOM ||
           error_set(error, ERR_NO_SPACE,
                     "storage domain %s is full: the pivot of disk %s could not be recorded. The "
                     "VM keeps its old chain; free some space and delete the snapshot again",
                     home->path, op_data(op, "target"));
}

/* The guest stands still from here to the end, at most for the budget. */
static bool
pivot_in_pause(Operation *op, int64_t t0, GError **error)
{
    int64_t until = t0 + (int64_t)op->agent->pivot_budget_ms * 1000;
    ChainState state;

    if (!fault_point("agent.pivot.suspended", error) || !wait_caught_up(op, until, error))
        return give_up_this_try(op, error);
    if (!pivot_job(op, until, error)) {
        g_autoptr(HvDomain) now = op_hv(op, NULL);
        /* only a chain seen unchanged lets the guest run */
        if (now == NULL || !merge_chain_state(op, now, &state, NULL) || state != CHAIN_BEFORE ||
            !merge_leaf_is_settled(op, now))
            return false;
        return give_up_this_try(op, error);
    }
    g_autoptr(HvDomain) after = op_hv(op, error);
    if (after == NULL || !merge_chain_state(op, after, &state, error))
        return false; /* still suspended; the next try looks again */
    if (state != CHAIN_AFTER)
        return error_set(error, ERR_BUSY, "VM '%s', disk %s: libvirt does not show the pivot yet",
                         after->name, op_data(op, "target"));
    return conclude(op, t0, error);
}

bool
pivot_act(void *self, GError **error)
{
    Operation *op = self;
    Hypervisor *hv = op->agent->hv;
    g_autoptr(HvDomain) domain = NULL;
    ChainState state;
    bool go_on;

    if (merge_is_cold(op))
        return cold_switch(op, error);
    domain = op_hv_seen(op, error);
    if (domain == NULL) /* a VM that is gone for good is not waited for */
        return g_error_matches(*error, ERR, ERR_NOT_FOUND) ? false : pivot_look_again_later(error);
    if (!merge_chain_state(op, domain, &state, error)) {
        /* somebody else changed the chain: that ends the merge, but never leaves the VM suspended
         */
        if (state == CHAIN_OTHER && pivot_unsuspend(op, domain, NULL))
            return false;
        return pivot_look_again_later(error);
    }

    if (!pick_up(op, domain, state, &go_on, error))
        return state == CHAIN_AFTER ? pivot_look_again_later(error) : false;
    if (!go_on)
        return true;
    operation_progress(op, "pivoting", op->bytes_done, op->bytes_total);
    if (!job_is_there(op, domain, error) || !no_internal_snapshots(op, error) ||
        !pivot_has_room(op, error))
        return merge_excuse(op, error);
    g_clear_pointer(&domain, hv_domain_free);
    if (!hv->ops->job_set_bandwidth(hv, op->row.vm_id, op_data(op, "target"), 0, error) ||
        !sync_new_chain(op, error) || (domain = op_hv(op, error)) == NULL ||
        !fault_point("agent.pivot.before-suspend", error))
        return merge_excuse(op, error);

    int64_t t0 = 0;
    if (!begin_pause(op, domain, &t0, error) || !pivot_in_pause(op, t0, error))
        return pivot_look_again_later(error);
    return true;
}
