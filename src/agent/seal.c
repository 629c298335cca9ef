/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * graft: the step "seal", and the way back.
 *
 * The leaf of a running VM becomes immutable by a temporary overlay T on top of it. A graft that is
 * given up after that commits T into the old leaf again, with the functions that do any other
 * commit of a leaf (steps "unseal..."): afterwards the chain is as it was found. Only where that is
 * impossible T stays, as a snapshot.
 *
 * libvirtd can be killed between QEMU's change to T and writing that down (facts/libvirt H3): then
 * a QEMU has T open though no definition names it, or, once that is gone, T holds what the guest
 * wrote. T is never removed then, and a VM that is off is pointed at it, unless it may have written
 * its old leaf since (overlay.h).
 */
#include "agent/merge.h"
#include "agent/overlay.h"

#include "base/clock.h"
#include "base/fault.h"
#include "base/log.h"

static bool
runs_on_seal(const Operation *op, const HvDomain *hv)
{
    HvDisk *disk = hv_domain_disk(hv, op_data(op, "target"));

    /* once sealed it is itself the top of what was before */
    return overlay_is_used_by(disk, op_data(op, "seal"),
                              merge_flag(op, "sealed") ? NULL : merge_old_leaf(op));
}

static bool
seal_holds_data(const Operation *op)
{
    return file_may_be_there(op_data(op, "seal")) && volume_holds_data(op_data(op, "seal"));
}

/* From here on the chain before the switch is the one with T on top. */
static void
remember_sealed(Operation *op)
{
    static const char *const lists[] = { "before", "run" };

    if (merge_flag(op, "sealed"))
        return;
    for (guint i = 0; i < G_N_ELEMENTS(lists); i++) {
        json_t *longer = json_deep_copy(json_object_get(op->row.data, lists[i]));
        json_array_append_new(longer, json_string(op_data(op, "seal")));
        op_remember(op, lists[i], longer);
    }
    op_remember(op, "sealed", json_true());
}

void
seal_note(Operation *op, const HvDomain *hv)
{
    if (op_data(op, "seal") != NULL && runs_on_seal(op, hv))
        remember_sealed(op);
}

/* The change from the leaf to T, for overlay.h. */
static json_t *
switch_of(Operation *op)
{
    const char *seal = op_data(op, "seal");
    json_t *disks = json_object_get(op->row.data, "sealing");

    if (g_strcmp0(json_text(json_array_get(disks, 0), "overlay"), seal) == 0)
        return disks;
    op_remember(op, "sealing",
                json_pack("[{s:s, s:s, s:s}]", "target", op_data(op, "target"), "leaf",
                          merge_old_leaf(op), "overlay", seal));
    op_remember(op, "life", NULL);
    op_remember(op, "guarded", NULL);
    op_remember(op, "ran_on_old", NULL);
    return json_object_get(op->row.data, "sealing");
}

/* Its QEMU has T open, or had it until just now. */
static bool
lost_by_libvirt(Operation *op, const HvDomain *hv, GError **error)
{
    bool open = volume_is_open(op_data(op, "seal"));

    if (hv->instance == NULL || (!open && !seal_holds_data(op)))
        return false;
    if (!overlay_note_leaves(op, switch_of(op), hv, error))
        return true;
    if (!open && g_strcmp0(hv->instance, op_data(op, "life")) != 0)
        return false;
    error_set(error, ERR_BUSY,
              "VM '%s', disk %s: libvirt says that it runs on its old volume, but its QEMU %s the "
              "new one %s (libvirtd was killed in the middle). No data are lost: power the VM off "
              "(a reboot from inside is not enough), and the merge goes on",
              hv->name, op_data(op, "target"), open ? "has open" : "wrote", op_data(op, "seal"));
    return true;
}

/* Of a VM that is off: may it go on from T, if that holds data? False: a person has to decide. */
static bool
may_go_on(Operation *op, const HvDomain *hv, GError **error)
{
    return hv->instance != NULL || !seal_holds_data(op) ||
           overlay_check_leaves(op, switch_of(op), hv, error);
}

StepState
seal_check(void *self, GError **error)
{
    Operation *op = self;
    g_autoptr(HvDomain) hv = NULL;
    Domain *home = NULL;
    g_autoptr(Vm) vm = NULL;
    Disk *disk;

    if (op_data(op, "seal") == NULL || merge_flag(op, "sealed"))
        return STEP_DONE;
    if ((hv = op_hv(op, error)) == NULL || (vm = op_manifest_look(op, &home, error)) == NULL)
        return STEP_UNKNOWN;
    disk = vm_disk(vm, op_text(op, "disk_id"));
    if (runs_on_seal(op, hv)) {
        if (disk == NULL || disk_volume(disk, op_data(op, "seal_id")) == NULL ||
            overlay_is_skipping(switch_of(op), hv))
            return STEP_TODO;
        remember_sealed(op);
        return STEP_DONE;
    }
    StepState life = merge_follow(op, hv, error);
    if (life != STEP_DONE)
        return life;
    return lost_by_libvirt(op, hv, error) || !may_go_on(op, hv, error) ? STEP_UNKNOWN : STEP_TODO;
}

/* The VM stopped before it stood on T: its leaf can be read as it is. */
static bool
do_without(Operation *op, const HvDomain *hv, GError **error)
{
    if (!may_go_on(op, hv, error))
        return false;
    if (seal_holds_data(op)) /* it stood there, and libvirt does not know */
        return overlay_define(op, switch_of(op), error);
    if (!volume_unlink((const char *const[]){ op_data(op, "seal"), NULL }, error))
        return false;
    op_remember(op, "seal", NULL);
    op_remember(op, "seal_id", NULL);
    return true;
}

/* Whose change it is, and how the two volumes look before: durable before anything can happen. */
static bool
note_switch(Operation *op, const HvDomain *domain, GError **error)
{
    json_t *disks = switch_of(op);

    overlay_note_empty(disks);
    overlay_note_life(op, domain);
    return operation_save(op, error);
}

static bool
take_snapshot(Operation *op, const HvDomain *domain, const Volume *leaf, GError **error)
{
    Hypervisor *hv = op->agent->hv;
    HvSnapshotDisk wanted = { op_data(op, "target"), op_data(op, "seal"), merge_old_leaf(op) };
    json_t *disks = switch_of(op);

    json_put_text(json_array_get(disks, 0), "format", leaf->format);
    if (seal_holds_data(op))
        return error_set(error, ERR_REFUSED,
                         "VM '%s', disk %s: it wrote the volume %s and was then started on its old "
                         "one, %s: which of the two is right only a person can tell. Nothing is "
                         "removed",
                         domain->name, op_data(op, "target"), op_data(op, "seal"), leaf->path);
    return overlay_make(json_array_get(disks, 0), error) && note_switch(op, domain, error) &&
           fault_point("agent.graft.before-seal", error) && overlay_refit(op, disks, error) &&
           hv->ops->snapshot(hv, op->row.vm_id, &wanted, 1, NULL, error) &&
           fault_point("agent.graft.after-seal", error);
}

static void
add_to_chain(Operation *op, Disk *disk)
{
    if (disk_volume(disk, op_data(op, "seal_id")) == NULL)
        g_ptr_array_add(disk->volumes, volume_new(op_data(op, "seal_id"), op_data(op, "seal"),
                                                  "qcow2", disk_leaf(disk)->virtual_size));
}

bool
seal_act(void *self, GError **error)
{
    Operation *op = self;
    g_autoptr(HvDomain) domain = op_hv_seen(op, error);
    Domain *home = NULL;
    g_autoptr(Vm) vm = NULL;
    Disk *disk;

    if (domain == NULL || (vm = op_manifest(op, &home, error)) == NULL)
        return false;
    disk = vm_disk(vm, op_text(op, "disk_id"));
    if (disk == NULL || disk->volumes->len == 0)
        return error_set(error, ERR_NOT_FOUND, "VM '%s' has no disk %s any more", vm->name,
                         op_data(op, "target"));
    if (!runs_on_seal(op, domain)) {
        if (merge_is_cold(op))
            return do_without(op, domain, error);
        if (!take_snapshot(op, domain, disk_leaf(disk), error))
            return merge_excuse(op, error);
    } else if (!overlay_relink(op, switch_of(op), domain, error)) {
        return false;
    }
    add_to_chain(op, disk);
    return manifest_save(home, vm, error);
}

/* ---- the way back ---- */

bool
seal_remove_unused(Operation *op, GError **error)
{
    const char *seal = op_data(op, "seal");
    g_autoptr(HvDomain) hv = NULL;

    if (seal == NULL || merge_flag(op, "sealed"))
        return true;
    if ((hv = op_hv(op, error)) == NULL || lost_by_libvirt(op, hv, error))
        return false;
    seal_note(op, hv); /* a snapshot of somebody else stands on it, say */
    if (merge_flag(op, "sealed"))
        return true;
    if (volume_is_open(seal))
        return error_set(error, ERR_BUSY,
                         "VM '%s', disk %s: %s is open in a QEMU; it is not removed", hv->name,
                         op_data(op, "target"), seal);
    if (merge_life(op, hv, error) == LIFE_UNCLEAR || !may_go_on(op, hv, error))
        return false;
    if (seal_holds_data(op) && hv->instance == NULL)
        return overlay_define(op, switch_of(op), error) &&
               error_set(error, ERR_BUSY, "VM '%s', disk %s: it stands on %s", hv->name,
                         op_data(op, "target"), seal);
    if (seal_holds_data(op)) {
        log_vm_warn(op->row.vm_id, op->row.id,
                    "VM '%s', disk %s: %s holds data that it wrote before it was started on its "
                    "old volume: that is left where it is",
                    hv->name, op_data(op, "target"), seal);
        op_remember(op, "left_alone", json_true());
        return true;
    }
    return volume_unlink((const char *const[]){ seal, NULL }, error);
}

static const char *
format_of(const Disk *disk, const char *path)
{
    const Volume *volume = disk_volume_by_path(disk, path);

    return volume != NULL ? volume->format : "qcow2";
}

/* One commit: the old leaf takes T. */
static void
plan_unseal(Operation *op, const HvDomain *hv, const Disk *disk)
{
    static const char *const stale[] = { "started", "started_in", "completed", "switching",
                                         "pivoted", "groups",     "prefilled", "dest",
                                         "dest_id", "leaf_seen",  "checked" };
    json_t *before = json_object_get(op->row.data, "before"), *after = json_deep_copy(before);
    size_t n = json_array_size(before);
    const char *leaf = json_string_value(json_array_get(before, n - 2));

    json_array_remove(after, n - 1);
    op_remember(op, "run", json_pack("[s, s]", leaf, op_data(op, "seal")));
    op_remember(op, "base_format", json_string(format_of(disk, leaf)));
    op_remember(op, "base_id", json_string(op_text(op, "top")));
    op_remember(op, "top_id", json_string(op_data(op, "seal_id")));
    op_remember(op, "strategy",
                json_string(hv->instance != NULL ? "commit-active" : "cold-commit"));
    op_remember(op, "instance", hv->instance != NULL ? json_string(hv->instance) : NULL);
    for (guint i = 0; i < G_N_ELEMENTS(stale); i++)
        op_remember(op, stale[i], NULL);
    op_remember(op, "after", after);
    op_remember(op, "unsealing", json_true());
    merge_scratch(op)->job_gone_us = 0;
    merge_scratch(op)->job_first_total = 0;
    g_clear_pointer(&merge_scratch(op)->work, g_free);
}

bool
seal_begin_undo(Operation *op, const HvDomain *hv, GError **error)
{
    Domain *home = NULL;
    g_autoptr(Vm) vm = op_manifest(op, &home, error);
    Disk *disk = vm != NULL ? vm_disk(vm, op_text(op, "disk_id")) : NULL;

    if (vm == NULL || !overlay_relink(op, switch_of(op), hv, error))
        return false;
    if (disk == NULL || disk->volumes->len == 0)
        return error_set(error, ERR_NOT_FOUND, "VM '%s' has no disk %s any more", vm->name,
                         op_data(op, "target"));
    add_to_chain(op, disk); /* the seal's call may have failed and yet have been heard */
    if (!manifest_save(home, vm, error) || !fault_point("agent.graft.before-unseal", error))
        return false;
    plan_unseal(op, hv, disk);
    return operation_save(op, error);
}

/* A VM that is gone for good has no leaf to bring back; and what somebody else has put on T stays,
 * with T. */
static StepState
unseal_step(Operation *op, StepState (*check)(void *, GError **), GError **error)
{
    g_autoptr(GError) problem = NULL;
    StepState state;

    if (!merge_flag(op, "unsealing"))
        return STEP_DONE;
    state = check(op, &problem);
    if (state == STEP_UNKNOWN && (g_error_matches(problem, ERR, ERR_NOT_FOUND) ||
                                  g_error_matches(problem, ERR, ERR_REFUSED)))
        state = STEP_FAILED;
    if (problem != NULL)
        g_propagate_error(error, g_steal_pointer(&problem));
    return state;
}

StepState
unseal_start_check(void *op, GError **error)
{
    return unseal_step(op, merge_start_check, error);
}

StepState
unseal_transfer_check(void *op, GError **error)
{
    return unseal_step(op, merge_transfer_check, error);
}

StepState
unseal_pivot_check(void *op, GError **error)
{
    return unseal_step(op, pivot_check, error);
}

static StepState
is_recorded(Operation *op, GError **error)
{
    g_autoptr(Vm) vm = NULL;

    if (!op_manifest_if_any(op, &vm, error))
        return STEP_UNKNOWN;
    return vm != NULL && op_is_recorded(op, vm) ? STEP_TODO : STEP_DONE;
}

StepState
unseal_settle_check(void *op, GError **error)
{
    return merge_flag(op, "unsealing") ? is_recorded(op, error) : STEP_DONE;
}

/* T is empty now, and nobody's. What names it all the same keeps it. */
static bool
remove_seal(Operation *op, GError **error)
{
    const char *seal = op_data(op, "seal");
    Domain *domain = agent_domain(op->agent, seal, false, error);

    if (domain == NULL)
        return false;
    if (volume_is_open(seal))
        return error_set(error, ERR_BUSY, "VM %s, disk %s: %s is open in a QEMU; it is not removed",
                         op->row.vm_id, op_data(op, "target"), seal);
    return volume_delete(domain, op->row.id, seal, TRASH_EMPTY, error);
}

bool
unseal_settle_act(void *self, GError **error)
{
    Operation *op = self;
    g_autoptr(HvDomain) hv = op_hv(op, error);

    return hv != NULL && merge_is_done(op, hv, error) && merge_sync_changed(op, error) &&
           op_mend_definition(op, hv, error) && (!merge_is_cold(op) || cold_stop(op, error)) &&
           merge_save_chain(op, false, error) &&
           fault_point("agent.graft.before-remove-seal", error) && remove_seal(op, error) &&
           merge_save_chain(op, true, error) && agent_look(op->agent, op->entry, error);
}

/* ---- T stays ---- */

StepState
keep_seal_check(void *self, GError **error)
{
    Operation *op = self;
    g_autoptr(HvDomain) hv = NULL;
    g_autoptr(GError) problem = NULL;
    ChainState state;

    hv = op_hv(op, &problem);
    if (hv == NULL && g_error_matches(problem, ERR, ERR_NOT_FOUND))
        return STEP_DONE;
    if (hv == NULL) {
        g_propagate_error(error, g_steal_pointer(&problem));
        return STEP_UNKNOWN;
    }
    /* it was faster than its failure */
    if (merge_chain_state(op, hv, &state, NULL) && state == CHAIN_AFTER)
        return STEP_BACK;
    return is_recorded(op, error);
}

static void
make_snapshot(const Operation *op, Vm *vm)
{
    Disk *disk = vm_disk(vm, op_text(op, "disk_id"));
    int at = disk != NULL ? disk_volume_index(disk, op_data(op, "seal_id")) : -1;
    Snapshot *snapshot;

    if (at < 1 || vm_snapshot(vm, op->row.id) != NULL)
        return;
    snapshot = snapshot_new(op->row.id, "left by an unfinished delete", clock_wall_ms());
    if (vm->snapshots->len > 0)
        snapshot->parent = g_strdup(((Snapshot *)vm->snapshots->pdata[vm->snapshots->len - 1])->id);
    vm_add_snapshot_disk(snapshot, disk->id, ((Volume *)disk->volumes->pdata[at - 1])->id);
    g_ptr_array_add(vm->snapshots, snapshot);
}

bool
keep_seal_act(void *self, GError **error)
{
    Operation *op = self;
    g_autoptr(HvDomain) hv = op_hv(op, error);
    Domain *home = NULL;
    g_autoptr(Vm) vm = NULL;

    if (hv == NULL || !merge_end_jobs(op, hv, error) ||
        (vm = op_manifest(op, &home, error)) == NULL)
        return false;
    make_snapshot(op, vm);
    op_unrecord(op, vm);
    return manifest_save(home, vm, error) && agent_look(op->agent, op->entry, error);
}
