/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * The doctor: what the manifest records of an operation that this agent does not know, since its
 * journal was lost.
 *
 * A commit that by the headers is done is believed only while the QEMU that did it lives and writes
 * the base no more (lost_merge.h). Else, once the VM is off, the volume above stands on the run
 * again, which holds all.
 */
#include "agent/doctor_mend.h"
#include "agent/merge.h"
#include "base/text.h"
#include "model/plan.h"

#define DAEMON_MS 10000

/* ---- looking ---- */

static bool
has_job_that_ends(const Patient *patient, const char *target)
{
    for (guint i = 0; i < patient->findings->len; i++) {
        const Finding *finding = patient->findings->pdata[i];
        if (finding->class == DIAG_FOREIGN_JOB && finding->fix_kind == FIX_NONE &&
            g_strcmp0(finding->vm_id, patient->hv->id) == 0 &&
            g_strcmp0(finding->disk, target) == 0)
            return true;
    }
    return false;
}

bool
doctor_is_lost_merge(const Patient *patient, const char *target)
{
    const Disk *disk = patient->stored != NULL ? vm_disk(patient->stored, target) : NULL;

    for (guint i = 0; disk != NULL && i < patient->stored->operations->len; i++) {
        const OperationRecord *record = patient->stored->operations->pdata[i];
        if (g_strcmp0(record->disk_id, disk->id) == 0 &&
            !agent_knows_operation(patient->agent, record->id))
            return true;
    }
    return false;
}

static bool
find_lost(const Patient *patient, const Disk *disk, LostMerge *ret_lost)
{
    return disk != NULL && lost_merge_find(patient->agent, patient->stored, disk, NULL, ret_lost);
}

bool
doctor_has_lost_merge(const Patient *patient, const char *target)
{
    LostMerge lost;

    return patient->stored != NULL && find_lost(patient, vm_disk(patient->stored, target), &lost);
}

static void
say_lost(const Patient *patient, const LostMerge *lost, Finding *finding)
{
    const char *top = lost_merge_path(lost, lost->top),
               *above = lost_merge_path(lost, lost->top + 1),
               *base = lost_merge_path(lost, lost->base);
    const HvDomain *hv = patient->hv;

    finding_say(finding,
                "VM '%s', disk %s: its manifest records that operation %s (%s) is under way, but "
                "this host's agent has no such operation: its journal was lost, or another host "
                "does it. By the headers it is done, and %s stands on %s; whether all was flushed "
                "there is not known, and %s holds all. %s",
                hv->name, lost->disk->target, lost->record->id, lost->record->kind, above, base,
                top,
                doctor_is_off(hv) ? "The VM's start is refused until it is decided"
                                  : "Nothing is deleted until it is decided");
    if (doctor_is_off(hv))
        finding_can(finding, FIX_ASKED,
                    "lets %s stand on %s again, and removes the record; the snapshot can then be "
                    "deleted again (only if no other host is at it)",
                    above, top);
    else if (lost_merge_lives(lost, hv->instance))
        finding_can(finding, FIX_SAFE, "writes down that it is done, once its QEMU has flushed %s",
                    base);
    else {
        g_autofree char *name = shell_word(hv->name);
        finding_help(
            finding,
            "power the VM off (a reboot from inside is not enough): virsh shutdown %s; then "
            "livemerge doctor %s --fix --class %s",
            name, name, diagnosis_word(DIAG_LEFTOVER_RECORD));
    }
}

void
doctor_look_operation(const Patient *patient, const OperationRecord *record)
{
    bool off = patient->hv->instance == NULL;
    const Disk *disk = vm_disk(patient->stored, record->disk_id);
    LostMerge lost;

    if (agent_knows_operation(patient->agent, record->id))
        return;
    Finding *finding =
        doctor_find(patient, DIAG_LEFTOVER_RECORD, disk != NULL ? disk->target : NULL, record->id);
    if (find_lost(patient, disk, &lost) && lost.record == record) {
        say_lost(patient, &lost, finding);
        return;
    }
    finding_say(finding,
                "VM '%s': its manifest records that operation %s (%s) is under way, but this "
                "host's agent has no such operation: its journal was lost, or another host does it",
                patient->hv->name, record->id, record->kind);
    if (disk != NULL && has_job_that_ends(patient, disk->target)) {
        finding_help(finding, "wait for the end of its block job, which tells what it is worth");
        return;
    }
    finding_can(finding, off ? FIX_ASKED : FIX_SAFE,
                "removes the record; snapshots that it may have begun to change are marked as "
                "unusable%s",
                off ? " (only if no other host is at it)" : "");
}

/* ---- mending: the commit is done ---- */

/* What stood on top stands on the base now, and the snapshots of the volumes between, which were to
 * be deleted, own nothing any more. */
static void
settle(Vm *vm, const Disk *disk, const OperationRecord *record)
{
    for (guint i = 0; i < vm->snapshots->len; i++) {
        Snapshot *snapshot = vm->snapshots->pdata[i];
        SnapshotDisk *sd = snapshot_disk(snapshot, disk->id);
        if (sd == NULL)
            continue;
        if (g_str_equal(sd->volume_id, record->top)) {
            g_free(sd->volume_id);
            sd->volume_id = g_strdup(record->base);
        } else if (g_str_equal(sd->volume_id, record->base) ||
                   disk_volume_index(disk, sd->volume_id) < 0) {
            g_ptr_array_remove(snapshot->disks, sd);
        }
    }
}

/* QEMU makes the base read-only when it has flushed it. That it wrote the base no more tells
 * nothing if it had just ended: so it must be there afterwards. */
static bool
was_flushed(Operation *op, const LostMerge *lost, GError **error)
{
    const char *base = lost_merge_path(lost, lost->base);
    bool written = image_is_written(base);
    g_autoptr(HvDomain) now = op_hv(op, error);

    if (now == NULL)
        return false;
    if (!lost_merge_lives(lost, now->instance))
        return error_set(error, ERR_BUSY, "VM '%s': its QEMU has just ended", now->name);
    return !written ||
           error_set(error, ERR_BUSY, "VM '%s': its QEMU still writes %s", now->name, base);
}

static bool
believe(Operation *op, const World *world, const LostMerge *lost, GError **error)
{
    g_autoptr(GPtrArray) left = g_ptr_array_new_with_free_func(g_free);
    const Disk *disk = lost->disk;

    for (int i = lost->base + 1; i <= lost->top; i++)
        g_ptr_array_add(left, g_strdup(lost_merge_path(lost, i)));
    if (!was_flushed(op, lost, error) ||
        !volume_sync_data(lost_merge_path(lost, lost->base), error) ||
        !volume_sync_data(lost_merge_path(lost, lost->top + 1), error) ||
        !doctor_take_chain(world, disk->target, error))
        return false;
    settle(world->vm, disk, lost->record);
    for (guint i = 0; i < left->len; i++)
        vm_add_leftover(world->vm, left->pdata[i]);
    return true;
}

/* ---- or not, perhaps ---- */

static bool
put_back(Operation *op, const LostMerge *lost, GError **error)
{
    const char *above = lost_merge_path(lost, lost->top + 1);
    g_autofree char *name = relative_name(above, lost_merge_path(lost, lost->top));
    g_autoptr(Qcow2Header) header = qcow2_header_read(above, error);
    autofd int lock = -1, image = -1;

    return header != NULL && (lock = doctor_hold_off(op, error)) >= 0 &&
           (image = image_lock(above, error)) >= 0 &&
           doctor_keep(op,
                       json_pack("{s:s, s:s, s:s, s:s, s:s, s:s}", "what", "backing", "path", above,
                                 "backing", header->backing_file, "format", header->backing_format,
                                 "made", lost_merge_path(lost, lost->top), "record",
                                 lost->record->id),
                       error) &&
           qcow2_relink(above, name, "qcow2", error);
}

static bool
decide(Operation *op, const World *world, const LostMerge *lost, GError **error)
{
    if (lost_merge_lives(lost, world->hv->instance))
        return believe(op, world, lost, error);
    if (!put_back(op, lost, error))
        return false;
    doctor_mark_unusable(world->vm, lost->disk, lost->base, lost->top);
    return true;
}

/* Perhaps it was done, and what it had merged is gone. */
static void
judge_by_chain(const World *world, const Disk *disk, const OperationRecord *record)
{
    if (disk == NULL || record->base == NULL || record->top == NULL ||
        strategy_is_forward(record->strategy))
        return;
    int base = disk_volume_index(disk, record->base), top = disk_volume_index(disk, record->top);
    if (base >= 0 && top < 0)
        settle(world->vm, disk, record);
    else
        doctor_mark_unusable(world->vm, disk, base, top);
}

/* What cannot be read now is not judged: without the record the volumes of a lost merge would be
 * forgotten. */
static bool
read_chain(const World *world, const Disk *disk, const OperationRecord *record,
           GPtrArray **ret_layers, GError **error)
{
    const HvDisk *hv = disk != NULL ? hv_domain_disk(world->hv, disk->target) : NULL;

    if (hv == NULL || hv->source == NULL || record->top == NULL)
        return true;
    *ret_layers = qcow2_chain_walk(hv->source, hv->format, NULL, error);
    return *ret_layers != NULL;
}

bool
mend_record(Operation *op, const Finding *finding, GError **error)
{
    g_auto(World) world = { 0 };
    g_autoptr(GPtrArray) layers = NULL;
    OperationRecord *record;
    LostMerge lost;

    /* its storage daemon outlives the agent, and is found by the operation's id */
    if (!cold_end(op->agent, finding->file, DAEMON_MS, error) || !world_look(op, &world, error))
        return false;
    record = vm_operation(world.vm, finding->file);
    if (record == NULL)
        return true;
    const Disk *disk = vm_disk(world.vm, record->disk_id);
    if (!read_chain(&world, disk, record, &layers, error))
        return false;
    bool is_lost = disk != NULL && lost_merge_find(op->agent, world.vm, disk, layers, &lost) &&
                   lost.record == record;
    if (is_lost && !decide(op, &world, &lost, error))
        return false;
    if (!is_lost)
        judge_by_chain(&world, disk, record);
    g_ptr_array_remove(world.vm->operations, record);
    return doctor_keep_manifest(op, world.home, world.vm, error) &&
           manifest_save(world.home, world.vm, error);
}
