/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * The doctor: what is done about a VM's manifest, its block jobs, libvirt's records of snapshots,
 * and volumes of others (they are adopted).
 */
#include "agent/doctor_mend.h"

#include "base/text.h"
#include "storage/salvage.h"

#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>

/* ---- the manifest ---- */

bool
doctor_keep_manifest(Operation *op, const Domain *home, const Vm *left, GError **error)
{
    g_autofree char *sum = doctor_manifest_sum(left);
    bool kept = false;

    return undo_keep_manifest(home, op->row.id, op->row.vm_id, &kept, error) &&
           (!kept ||
            doctor_keep(op, json_pack("{s:s, s:s}", "what", "manifest", "left", sum), error));
}

bool
doctor_take_chain(const World *world, const char *target, GError **error)
{
    Disk *known = vm_disk(world->vm, target);
    const HvDisk *hv = hv_domain_disk(world->hv, target);
    g_autoptr(GPtrArray) layers = NULL;

    if (known == NULL || hv == NULL)
        return error_set(error, ERR_NOT_FOUND, "VM '%s' has no disk %s any more", world->hv->name,
                         target);
    layers = qcow2_chain_walk(hv->source, hv->format, world->home->path, error);
    if (layers == NULL)
        return false;
    Disk *fresh = disk_new(known->id, known->target);
    agent_fill_volumes(fresh, known, layers);
    GPtrArray *old = known->volumes;
    known->volumes = fresh->volumes;
    fresh->volumes = old;
    disk_free(fresh);
    return true;
}

void
doctor_mark_unusable(Vm *vm, const Disk *disk, int base, int top)
{
    for (guint i = 0; i < vm->snapshots->len; i++) {
        SnapshotDisk *sd = snapshot_disk(vm->snapshots->pdata[i], disk->id);
        int at = sd != NULL ? disk_volume_index(disk, sd->volume_id) : -1;
        if (sd != NULL && at >= base && at < top)
            sd->unusable = true;
    }
}

bool
mend_stale_manifest(Operation *op, const Finding *finding, GError **error)
{
    g_auto(World) world = { 0 };
    LostMerge lost;

    if (!world_look(op, &world, error))
        return false;
    const Disk *disk = vm_disk(world.vm, finding->disk);
    if (disk != NULL && lost_merge_find(op->agent, world.vm, disk, NULL, &lost))
        return error_set(error, ERR_REFUSED, "its merge whose journal was lost is decided first");
    return doctor_take_chain(&world, finding->disk, error) &&
           doctor_keep_manifest(op, world.home, world.vm, error) &&
           manifest_save(world.home, world.vm, error);
}

/* The next look writes a new one: it follows right after the operation. */
bool
mend_bad_manifest(Operation *op, GError **error)
{
    Domain *home = doctor_home(op, error);

    return home != NULL && doctor_keep_manifest(op, home, NULL, error) &&
           manifest_remove(home, op->row.vm_id, error);
}

/* ---- block jobs, libvirt's records ---- */

/* What a commit has begun to change is no state to go back to any more (facts: an aborted commit
 * leaves parts of the upper volumes in the base). */
bool
mend_job(Operation *op, const Finding *finding, GError **error)
{
    Hypervisor *hv = op->agent->hv;
    g_auto(World) world = { 0 };
    const HvDisk *disk;
    Disk *own;

    if (!world_look(op, &world, error))
        return false;
    disk = hv_domain_disk(world.hv, finding->disk);
    own = vm_disk(world.vm, finding->disk);
    if (disk == NULL || disk->mirror_job == NULL)
        return true; /* it ended */
    const Volume *base = own != NULL && disk->mirror_path != NULL
                             ? disk_volume_by_path(own, disk->mirror_path)
                             : NULL;
    if (base != NULL) {
        doctor_mark_unusable(world.vm, own, disk_volume_index(own, base->id),
                             (int)own->volumes->len - 1);
        if (!manifest_save(world.home, world.vm, error)) /* which no undo takes back */
            return false;
    }
    return doctor_cannot_undo(op, "a block job was ended; who began it can begin it again",
                              error) &&
           hv->ops->job_cancel(hv, op->row.vm_id, finding->disk, error);
}

bool
mend_libvirt_record(Operation *op, const Finding *finding, GError **error)
{
    Hypervisor *hv = op->agent->hv;
    g_autoptr(GPtrArray) records = hv->ops->snapshot_records(hv, op->row.vm_id, error);

    for (guint i = 0; records != NULL && i < records->len; i++) {
        const HvSnapshotRecord *record = records->pdata[i];
        if (!g_str_equal(record->name, finding->file))
            continue;
        return doctor_keep(op,
                           json_pack("{s:s, s:s, s:b}", "what", "record", "xml", record->xml,
                                     "current", (int)record->current),
                           error) &&
               hv->ops->snapshot_record_forget(hv, op->row.vm_id, record->name, error);
    }
    return records != NULL;
}

/* ---- adopting ---- */

static int64_t
born_ms(const char *overlay)
{
    struct statx st;

    if (statx(AT_FDCWD, overlay, 0, STATX_BTIME | STATX_MTIME, &st) < 0)
        return 0;
    return (st.stx_mask & STATX_BTIME) != 0 ? st.stx_btime.tv_sec * 1000
                                            : st.stx_mtime.tv_sec * 1000;
}

/* libvirt's name of the snapshot; else what libvirt and most tools put behind the last dot:
 * "web.before-update". */
static char *
name_for(const HvSnapshotRecord *record, const char *overlay)
{
    g_autofree char *file = g_path_get_basename(overlay);
    char *dot = strrchr(file, '.');
    bool is_format = dot != NULL && (g_str_equal(dot, ".qcow2") || g_str_equal(dot, ".img") ||
                                     g_str_equal(dot, ".q") || g_str_equal(dot, ".qcow"));
    const char *name = record != NULL                                ? record->name
                       : dot != NULL && dot[1] != '\0' && !is_format ? dot + 1
                                                                     : file;

    return name_check("the snapshot's name", name, NULL) ? g_strdup(name) : g_strdup("adopted");
}

/* Disks that were snapshotted together: adopted by this operation under one name. */
static Snapshot *
begun_by_us(const Operation *op, const Vm *vm, const char *name, const char *disk_id)
{
    json_t *list = json_object_get(op->row.data, "undo");

    for (size_t i = 0; i < json_array_size(list); i++) {
        Snapshot *snapshot = vm_snapshot(vm, json_text(json_array_get(list, i), "snapshot_id"));
        if (snapshot != NULL && g_strcmp0(snapshot->name, name) == 0 &&
            snapshot_disk(snapshot, disk_id) == NULL)
            return snapshot;
    }
    return NULL;
}

bool
mend_overlay(Operation *op, const Finding *finding, GError **error)
{
    Hypervisor *hv = op->agent->hv;
    g_auto(World) world = { 0 };
    g_autoptr(GPtrArray) records = NULL;

    if (!world_look(op, &world, error) || !doctor_take_chain(&world, finding->disk, error))
        return false;
    if (hv->ops->snapshot_records != NULL &&
        (records = hv->ops->snapshot_records(hv, op->row.vm_id, error)) == NULL)
        return false;
    Disk *disk = vm_disk(world.vm, finding->disk);
    const Volume *overlay = disk_volume_by_path(disk, finding->file);
    int at = overlay != NULL ? disk_volume_index(disk, overlay->id) : -1;
    if (at < 1)
        return error_set(error, ERR_NOT_FOUND, "%s is not part of disk %s any more", finding->file,
                         finding->disk);
    const HvSnapshotRecord *record = doctor_record_of(records, finding->disk, finding->file);
    g_autofree char *name = name_for(record, finding->file);
    Snapshot *snapshot = begun_by_us(op, world.vm, name, disk->id);
    if (snapshot == NULL) {
        g_autofree char *id = id_new();
        snapshot =
            snapshot_new(id, name, record != NULL ? record->created : born_ms(finding->file));
        snapshot->comment = record != NULL ? g_strdup(record->description) : NULL;
        snapshot->record = record != NULL ? g_strdup(record->name) : NULL;
        vm_insert_snapshot(world.vm, snapshot, disk->id,
                           ((Volume *)disk->volumes->pdata[at - 1])->id);
    }
    vm_add_snapshot_disk(snapshot, disk->id, ((Volume *)disk->volumes->pdata[at - 1])->id);
    return doctor_keep(op,
                       json_pack("{s:s, s:s, s:s}", "what", "adopted", "snapshot_id", snapshot->id,
                                 "disk_id", disk->id),
                       error) &&
           manifest_save(world.home, world.vm, error);
}
