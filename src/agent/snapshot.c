/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * Taking a snapshot: one instant over all chosen disks.
 *
 *   prepare ─► switch ◄─► settle ─► (end)
 *      │          │         ▲
 *      └──────────┴────── verify ◄─► undo ─► (end, failed)
 *
 * The overlays are ours: created empty under names made from the snapshot's id, so that a repeat
 * finds what an earlier try left. If anything fails they go, and the VM runs on its old leaf.
 * Whether the switch happened is asked of libvirt, never inferred from an error. libvirt itself can
 * be wrong: killed between QEMU's switch and writing that down, it names the old leaf for ever. So
 * an overlay that a QEMU has open, or that holds data, is never removed (verify).
 */
#include "agent/snapshot.h"
#include "agent/relink.h"

#include "base/clock.h"
#include "base/fault.h"
#include "base/log.h"
#include "base/text.h"
#include "model/verbs.h"
#include "qcow2/qcow2.h"

#include <sys/stat.h>

#define MOST_THAWS 5 /* of a guest that has perhaps been frozen */

/* ---- switch ---- */

json_t *
snapshot_disks(const Operation *op)
{
    return json_object_get(op->row.data, "disks");
}

static StepState
switch_check(void *self, GError **error)
{
    Operation *op = self;
    g_autoptr(HvDomain) hv = op_hv(op, error);
    size_t all = json_array_size(snapshot_disks(op));

    if (hv == NULL)
        return STEP_UNKNOWN;
    size_t n = overlay_count(snapshot_disks(op), hv);
    if (n == all)
        return STEP_DONE;
    if (n == 0)
        return STEP_TODO;
    error_set(error, ERR_INTERNAL, "%zu of %zu disks of VM '%s' run on the new volume", n, all,
              hv->name);
    return STEP_UNKNOWN;
}

/* A freeze has failed that may have been done all the same: is it tried once more to thaw? A guest
 * agent that is dead has done neither, and holds nobody up for ever. */
static bool
goes_on_thawing(Operation *op, const GError *problem)
{
    json_t *left = json_object_get(op->row.data, "thaws_left");

    if (left == NULL)
        return true;
    if (json_integer_value(left) > 1) {
        op_remember(op, "thaws_left", json_integer(json_integer_value(left) - 1));
        return true;
    }
    log_vm_warn(op->row.vm_id, op->row.id,
                "VM %s: its file systems may be frozen, and its guest agent does not thaw them "
                "(%s). If they are: livemerge vm thaw",
                op->row.vm_id, problem != NULL ? problem->message : "no answer");
    return false;
}

bool
snapshot_thaw_if_frozen(Operation *op, GError **error)
{
    g_autoptr(GError) problem = NULL;

    if (json_object_get(op->row.data, "frozen") == NULL)
        return true;
    /* it begins anew: its agent is asked all the same, but not waited for */
    if (freeze_is_lost(op) && json_object_get(op->row.data, "thaws_left") == NULL)
        op_remember(op, "thaws_left", json_integer(MOST_THAWS));
    if (!op_thaw(op, &problem)) {
        g_autoptr(HvDomain) domain = op_hv(op, NULL);
        bool off = domain != NULL && domain->instance == NULL; /* nothing is frozen any more */
        if (!off && goes_on_thawing(op, problem)) {
            g_propagate_error(error, g_steal_pointer(&problem));
            return false;
        }
    }
    op_remember(op, "frozen", NULL);
    op_remember(op, "thaws_left", NULL);
    return true;
}

typedef enum { NOT_FROZEN, FROZEN_BY_US, FROZEN_BY_USER } Frozen;

/* What a user has frozen stays so, also if the guest does not say now that it is. */
static bool
freeze_of_user(Operation *op, const HvDomain *domain, bool must, Frozen *ret_frozen, GError **error)
{
    g_autoptr(GError) problem = NULL;

    switch (freeze_ask_note(op, &problem)) {
    case NOTE_HOLDS:
        *ret_frozen = FROZEN_BY_USER;
        return true;
    case NOTE_WAS_WRONG:
        op_remember(op, "frozen", json_true());
        *ret_frozen = FROZEN_BY_US;
        return operation_save(op, error);
    case NOTE_UNKNOWN:
    default:
        break;
    }
    g_autofree char *name = shell_word(domain->name);
    if (must)
        return error_set(
            error, ERR_REFUSED,
            "VM '%s': its file systems were frozen, but whether the guest has rebooted "
            "since nobody has heard, and it does not tell (%s); nothing was changed. "
            "Thaw it first: livemerge vm thaw %s",
            domain->name, problem->message, name);
    log_vm_warn(op->row.vm_id, op->row.id,
                "VM '%s': whether its file systems are still frozen is not known (%s), going on "
                "without",
                domain->name, problem->message);
    return true;
}

/* As asked: not at all, if it can be done, or not without. */
static bool
freeze(Operation *op, const HvDomain *domain, Frozen *ret_frozen, GError **error)
{
    const char *quiesce = op_text(op, "quiesce");
    bool must = g_strcmp0(quiesce, "require") == 0;
    g_autoptr(GError) problem = NULL;

    *ret_frozen = NOT_FROZEN;
    if (quiesce == NULL || g_str_equal(quiesce, "no") || op_data(op, "memory") != NULL)
        return true; /* with memory, the guest's caches are saved too */
    if (domain->state != VM_UP || !domain->agent_connected) {
        if (must)
            return error_set(
                error, ERR_REFUSED,
                "VM '%s': its file systems cannot be frozen (%s); nothing was changed. "
                "--quiesce=auto takes the snapshot without",
                domain->name,
                domain->state != VM_UP ? "it does not run" : "no guest agent answers");
        return true;
    }
    if (agent_is_frozen(op->agent, op->entry, domain))
        return freeze_of_user(op, domain, must, ret_frozen, error);
    op_remember(op, "frozen", json_true());
    freeze_begins(op);
    if (!operation_save(op, error))
        return false;
    if (op_freeze(op, &problem)) {
        if (!freeze_is_lost(op)) {
            *ret_frozen = FROZEN_BY_US;
            return true;
        }
        error_set(&problem, ERR_REFUSED, "the guest rebooted");
    }
    /* it may be half frozen: thaw in any case */
    op_remember(op, "thaws_left", json_integer(MOST_THAWS));
    snapshot_thaw_if_frozen(op, NULL);
    if (must)
        return error_set(error, ERR_REFUSED,
                         "VM '%s': freezing its file systems failed (%s); nothing was changed",
                         domain->name, problem->message);
    log_vm_warn(op->row.vm_id, op->row.id, "VM '%s': freezing failed (%s), going on without",
                domain->name, problem->message);
    return true;
}

/* QEMU takes an overlay as it is: what an earlier life of the VM wrote there would come back. */
static bool
overlays_are_empty(Operation *op, const HvDomain *hv, GError **error)
{
    bool open = false;
    const char *overlay = snapshot_overlay_in_use(op, &open);

    return overlay == NULL ||
           (overlay_note_leaves(op, snapshot_disks(op), hv, error) &&
            error_set(error, ERR_REFUSED, "VM %s: the new volume %s is in use already",
                      op->row.vm_id, overlay));
}

static bool
save_life(Operation *op, const HvDomain *hv, GError **error)
{
    if (g_strcmp0(op_data(op, "life"), hv->instance) == 0)
        return true;
    overlay_note_life(op, hv);
    return operation_save(op, error);
}

static bool
switch_running(Operation *op, const HvDomain *domain, GError **error)
{
    Hypervisor *hv = op->agent->hv;
    json_t *disks = snapshot_disks(op);
    g_autofree HvSnapshotDisk *list = g_new0(HvSnapshotDisk, json_array_size(disks));
    size_t i;
    json_t *disk;

    json_array_foreach (disks, i, disk) {
        list[i].target = json_text(disk, "target");
        list[i].overlay = json_text(disk, "overlay");
        list[i].leaf = json_text(disk, "leaf");
    }
    return overlays_are_empty(op, domain, error) && save_life(op, domain, error) &&
           fault_point("agent.snapshot.before-switch", error) && overlay_refit(op, disks, error) &&
           hv->ops->snapshot(hv, op->row.vm_id, list, (unsigned)json_array_size(disks),
                             op_data(op, "memory"), error) &&
           fault_point("agent.snapshot.after-switch", error);
}

/* ---- memory: libvirt writes it, and makes it durable as little as its name ---- */

/* Notes durably the QEMU whose memory it will be: as long as that lives, the host has not lost
 * power. */
static bool
may_save_memory(Operation *op, const HvDomain *domain, GError **error)
{
    if (op_data(op, "memory") == NULL)
        return true;
    if (!op_may_stop_guest(op, VERB_SNAPSHOT_CREATE_MEMORY, domain, error))
        return false;
    op_remember(op, "memory_of", json_string(domain->instance));
    op_remember(op, "memory_durable", NULL);
    return operation_save(op, error);
}

/* Can it be believed that all of the file is there? Sets *ret_size; 0 = there is no memory: libvirt
 * removes it when QEMU dies while it is written, even if the disks have switched. */
static bool
secure_memory(Operation *op, const HvDomain *hv, uint64_t *ret_size, GError **error)
{
    const char *memory = op_data(op, "memory");
    struct stat st;

    *ret_size = 0;
    if (memory == NULL || !file_may_be_there(memory))
        return true;
    if (!json_flag(op->row.data, "memory_durable")) {
        if (g_strcmp0(hv->instance, op_data(op, "memory_of")) != 0) {
            log_vm_warn(op->row.vm_id, op->row.id,
                        "VM '%s': its memory in %s may not be whole, since it stopped before that "
                        "was durable: the snapshot is one of its disks alone",
                        hv->name, memory);
            return volume_unlink((const char *const[]){ memory, NULL }, error);
        }
        if (!volume_sync(memory, error))
            return false;
        op_remember(op, "memory_durable", json_true());
    }
    if (stat(memory, &st) < 0)
        return error_set_errno(error, "looking at the memory %s", memory);
    *ret_size = (uint64_t)st.st_size;
    return true;
}

bool
snapshot_switch_stopped(Operation *op, GError **error)
{
    return fault_point("agent.snapshot.before-switch", error) &&
           overlay_refit(op, snapshot_disks(op), error) &&
           overlay_define(op, snapshot_disks(op), error);
}

/* The VM was powered off before its switch, and what somebody else had put on top of its leaf
 * before that is not cut off. */
static bool
stands_on_leaves(Operation *op, const HvDomain *hv, GError **error)
{
    size_t i;
    json_t *disk;

    json_array_foreach (snapshot_disks(op), i, disk) {
        const HvDisk *now = hv_domain_disk(hv, json_text(disk, "target"));
        const char *leaf = json_text(disk, "leaf");
        if (now == NULL || g_strcmp0(now->source, leaf) == 0 ||
            overlay_is_used_by(now, json_text(disk, "overlay"), leaf) ||
            !overlay_is_used_by(now, leaf, NULL))
            continue;
        return error_set(error, ERR_REFUSED,
                         "VM '%s', disk %s stands on %s by now, which somebody else has put on top "
                         "of %s; nothing was changed, try again",
                         hv->name, now->target, now->source, leaf);
    }
    return true;
}

static bool
switch_act(void *self, GError **error)
{
    Operation *op = self;
    g_autoptr(HvDomain) domain = op_hv(op, error);
    g_autoptr(GError) thaw_problem = NULL;
    Frozen frozen = NOT_FROZEN;

    if (domain == NULL)
        return false;
    if (domain->instance == NULL) {
        if (json_flag(op->row.params, "memory"))
            return error_set(error, ERR_REFUSED, "VM '%s' stopped: there is no memory to save",
                             domain->name);
        if (g_strcmp0(op_text(op, "quiesce"), "require") == 0)
            return error_set(error, ERR_REFUSED, "VM '%s' stopped: nothing can be frozen",
                             domain->name);
        return stands_on_leaves(op, domain, error) &&
               overlay_check_leaves(op, snapshot_disks(op), domain, error) &&
               snapshot_switch_stopped(op, error);
    }
    if (!may_save_memory(op, domain, error) || !freeze(op, domain, &frozen, error))
        return false;
    int64_t t0 = clock_mono_us();
    bool ok = switch_running(op, domain, error);
    if (!snapshot_thaw_if_frozen(op, &thaw_problem))
        log_vm_warn(op->row.vm_id, op->row.id, "VM '%s': thawing failed: %s; it is tried again",
                    domain->name, thaw_problem->message);
    if (ok && frozen != NOT_FROZEN && freeze_may_be_lost(op)) {
        log_vm_warn(op->row.vm_id, op->row.id,
                    "VM '%s': its guest %s as the snapshot was taken: that is not called one of "
                    "frozen file systems",
                    domain->name,
                    freeze_is_lost(op) ? "rebooted" : "may have rebooted, while libvirt was away,");
    } else if (ok && frozen != NOT_FROZEN) {
        op_result(op, "quiesced", json_true());
    }
    if (ok && frozen == FROZEN_BY_US && !freeze_is_lost(op)) {
        op_add_pause(op, "freeze", (double)(clock_mono_us() - t0) / 1000);
    }
    return ok;
}

/* ---- settle ---- */

/* Until the manifest names the overlays a host that loses its power can lose the switch with the
 * definition that libvirt has just written: then it is made once more. */
static StepState
settle_check(void *self, GError **error)
{
    Operation *op = self;
    Domain *home = NULL;
    g_autoptr(Vm) vm = op_manifest_look(op, &home, error);
    g_autoptr(HvDomain) hv = NULL;

    if (vm == NULL)
        return STEP_UNKNOWN;
    if (vm_snapshot(vm, op_text(op, "snapshot_id")) != NULL)
        return op_is_recorded(op, vm) ? STEP_TODO : STEP_DONE;
    if ((hv = op_hv(op, error)) == NULL)
        return STEP_UNKNOWN;
    if (overlay_count(snapshot_disks(op), hv) == json_array_size(snapshot_disks(op)))
        return STEP_TODO;
    op_result(op, "quiesced", json_false());
    return STEP_BACK;
}

/* What the overlay stands on: its leaf, or what somebody else has put between them, which belongs
 * to the chain then. NULL = the disk is not known any more. */
static const Volume *
snapshot_volume(Disk *disk, const json_t *entry, const HvDomain *hv)
{
    const HvDisk *now = hv_domain_disk(hv, json_text(entry, "target"));
    const Volume *leaf = disk_volume(disk, json_text(entry, "leaf_id"));
    const char *overlay = json_text(entry, "overlay");
    g_autofree char *below = NULL;

    if (leaf == NULL || now == NULL)
        return leaf;
    below = hv->instance != NULL ? g_strdup(relink_below(now, overlay)) : qcow2_backing_of(overlay);
    if (below == NULL || file_is_same(below, leaf->path))
        return leaf;
    if (disk_volume_by_path(disk, below) == NULL) {
        g_autofree char *id = id_new();
        g_ptr_array_add(disk->volumes, volume_new(id, below, "qcow2", leaf->virtual_size));
    }
    return disk_volume_by_path(disk, below);
}

static void
add_to_tree(Operation *op, Vm *vm, const HvDomain *hv, uint64_t memory_size)
{
    Snapshot *snapshot;
    size_t i;
    json_t *disk;

    if (vm_snapshot(vm, op_text(op, "snapshot_id")) != NULL)
        return;
    snapshot = snapshot_new(op_text(op, "snapshot_id"), op_text(op, "name"), op->row.created);
    if (vm->snapshots->len > 0)
        snapshot->parent = g_strdup(((Snapshot *)vm->snapshots->pdata[vm->snapshots->len - 1])->id);
    snapshot->quiesced = json_flag(json_object_get(op->row.data, "result"), "quiesced");
    snapshot->config_only = snapshot_is_of_config(op);
    snapshot->config = g_strdup(hv->inactive_xml != NULL ? hv->inactive_xml : hv->xml);
    if (memory_size > 0) {
        snapshot->memory = g_strdup(op_data(op, "memory"));
        snapshot->memory_size = memory_size;
    }
    json_array_foreach (snapshot_disks(op), i, disk) {
        Disk *d = vm_disk(vm, json_text(disk, "id"));
        const char *overlay = json_text(disk, "overlay");
        const Volume *volume = d != NULL ? snapshot_volume(d, disk, hv) : NULL;
        vm_add_snapshot_disk(snapshot, json_text(disk, "id"),
                             volume != NULL ? volume->id : json_text(disk, "leaf_id"));
        if (d != NULL && disk_volume_by_path(d, overlay) == NULL) {
            g_autofree char *id = id_new();
            g_ptr_array_add(d->volumes,
                            volume_new(id, overlay, "qcow2", disk_leaf(d)->virtual_size));
        }
    }
    g_ptr_array_add(vm->snapshots, snapshot);
}

static bool
settle_act(void *self, GError **error)
{
    Operation *op = self;
    g_autoptr(HvDomain) hv = op_hv(op, error);
    Domain *home = NULL;
    g_autoptr(Vm) vm = NULL;
    uint64_t memory_size = 0;

    if (hv == NULL || !snapshot_thaw_if_frozen(op, error) ||
        !overlay_relink(op, snapshot_disks(op), hv, error) || !op_mend_definition(op, hv, error) ||
        (vm = op_manifest(op, &home, error)) == NULL || !secure_memory(op, hv, &memory_size, error))
        return false;
    add_to_tree(op, vm, hv, memory_size);
    op_unrecord(op, vm);
    op_result(op, "memory_size",
              json_integer((json_int_t)vm_snapshot(vm, op_text(op, "snapshot_id"))->memory_size));
    if (!fault_point("agent.snapshot.before-manifest", error) || !operation_save(op, error) ||
        !manifest_save(home, vm, error))
        return false;
    return agent_look(op->agent, op->entry, error);
}

/* An overlay that the VM has taken with it is in its chain, or belongs to nobody. */
bool
snapshot_create_leave(Operation *op, GError **error)
{
    (void)op;
    (void)error;
    return true;
}

/* clang-format off */
const Step snapshot_create_steps[] = {
    /* name       check                    act                    tries  cancel  if it failed  next      if it was lost */
    { "prepare",  snapshot_prepare_check,  snapshot_prepare_act,  3,     true,   "undo",       NULL,     NULL     },
    { "switch",   switch_check,            switch_act,            3,     true,   "verify",     NULL,     NULL     },
    { "settle",   settle_check,            settle_act,            0,     false,  NULL,         STEP_END, "switch" },
    { "verify",   snapshot_verify_check,   snapshot_verify_act,   0,     false,  "undo",       "settle", NULL     },
    { "undo",     snapshot_undo_check,     snapshot_undo_act,     0,     false,  NULL,         STEP_END, "verify" },
    { NULL },
};
/* clang-format on */
