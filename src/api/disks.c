/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * Disks: as part of a VM (attachments), alone, and as a snapshot has them.
 */
#include "api/routes.h"

#include <string.h>

char *
disk_name(const Vm *vm, const Disk *disk)
{
    return g_strdup_printf("%s_%s", vm->name, disk->target);
}

Disk *
disk_find(const Vm *vm, const char *word)
{
    Disk *disk = vm_disk(vm, word);

    for (guint i = 0; disk == NULL && i < vm->disks->len; i++) {
        g_autofree char *name = disk_name(vm, vm->disks->pdata[i]);
        if (g_str_equal(name, word))
            disk = vm->disks->pdata[i];
    }
    return disk;
}

/* A storage domain is so far the directory that a volume lies in. */
char *
storage_domain_id(const Volume *volume)
{
    g_autofree char *directory = g_path_get_dirname(volume->path);

    return storage_domain_id_of(directory);
}

char *
storage_domain_id_of(const char *directory)
{
    return derived_id("storage-domain", directory);
}

/* ---- documents ---- */

/* Of each snapshot that the volume belongs to: what else could tell it needs a call for each. */
static void
put_owners(json_t *doc, const Vm *vm, const Disk *disk, const Volume *volume)
{
    json_t *owners = json_array();

    for (guint i = 0; i < vm->snapshots->len; i++) {
        const Snapshot *snapshot = vm->snapshots->pdata[i];
        const SnapshotDisk *part = snapshot_disk(snapshot, disk->id);
        if (part == NULL || !g_str_equal(part->volume_id, volume->id))
            continue;
        json_t *ref = doc_new(snapshot->id, "/vms/%s/snapshots/%s", vm->id, snapshot->id);
        doc_text(ref, "description", snapshot->name);
        json_array_append_new(owners, ref);
    }
    if (json_array_size(owners) > 0)
        json_object_set_new(doc, "snapshots", doc_list("snapshot", owners));
    else
        json_decref(owners);
}

static json_t *
volume_document(const Vm *vm, const Disk *disk, const Volume *volume)
{
    json_t *doc = json_object();

    doc_text(doc, "id", volume->id);
    doc_text(doc, "path", volume->path);
    doc_text(doc, "format", volume->format);
    doc_number(doc, "virtual_size", volume->virtual_size);
    doc_number(doc, "allocated", volume->allocated);
    if (volume->read_only)
        doc_flag(doc, "read_only", true);
    doc_text(doc, "used_by", volume->used_by);
    put_owners(doc, vm, disk, volume);
    return doc;
}

static json_t *
volume_list(const char *key, const Vm *vm, const Disk *disk, const GPtrArray *volumes)
{
    json_t *list = json_array();

    for (guint i = 0; i < volumes->len; i++)
        json_array_append_new(list, volume_document(vm, disk, volumes->pdata[i]));
    return doc_list(key, list);
}

static bool
is_held(const Vm *vm, const Disk *disk)
{
    for (guint i = 0; i < vm->operations->len; i++) {
        const OperationRecord *record = vm->operations->pdata[i];
        if (record->disk_id == NULL || g_str_equal(record->disk_id, disk->id))
            return true;
    }
    return false;
}

/* What the disk looks like when this volume is its newest. */
static void
put_image(json_t *doc, const Disk *disk, const Volume *leaf)
{
    bool cow = g_strcmp0(leaf->format, "qcow2") == 0;
    int last = disk_volume_index(disk, leaf->id);
    uint64_t total = last < 0 ? leaf->allocated : 0; /* on another branch */

    for (int i = 0; i <= last; i++)
        total += ((const Volume *)disk->volumes->pdata[i])->allocated;
    doc_number(doc, "actual_size", leaf->allocated);
    doc_number(doc, "total_size", total);
    doc_number(doc, "provisioned_size", leaf->virtual_size);
    doc_text(doc, "format", cow ? "cow" : "raw");
    if (cow)
        doc_text(doc, "qcow_version", "qcow2_v3");
    doc_text(doc, "image_id", leaf->id);
    doc_flag(doc, "sparse", cow || leaf->allocated < leaf->virtual_size);

    g_autofree char *domain = storage_domain_id(leaf);
    json_t *ref = json_object();
    g_autofree char *directory = g_path_get_dirname(leaf->path);
    doc_ref(ref, "storage_domain", domain, "/storagedomains/%s", domain);
    doc_text(json_object_get(ref, "storage_domain"), "name", directory);
    json_object_set_new(
        doc, "storage_domains",
        json_pack("{s:[O]}", "storage_domain", json_object_get(ref, "storage_domain")));
    json_decref(ref);
}

static void
put_common(json_t *doc, const Vm *vm, const Disk *disk)
{
    g_autofree char *name = disk_name(vm, disk);

    doc_text(doc, "name", name);
    doc_text(doc, "alias", name);
    doc_text(doc, "target", disk->target);
    doc_text(doc, "backup", "none");
    doc_text(doc, "content_type", "data");
    doc_text(doc, "storage_type", "image");
    doc_flag(doc, "propagate_errors", false);
    doc_flag(doc, "shareable", false);
    doc_flag(doc, "wipe_after_delete", false);
}

json_t *
disk_document(const Vm *vm, const Disk *disk)
{
    json_t *doc = doc_new(disk->id, "/disks/%s", disk->id);
    const Volume *leaf = disk_leaf(disk);
    json_t *owner = json_object();

    put_common(doc, vm, disk);
    doc_link(doc, "disksnapshots", "/disks/%s/disksnapshots", disk->id);
    doc_link(doc, "statistics", "/disks/%s/statistics", disk->id);
    doc_link(doc, "permissions", "/disks/%s/permissions", disk->id);
    doc_text(doc, "status", is_held(vm, disk) ? "locked" : "ok");
    doc_text(doc, "unmanaged", disk->unmanaged);
    if (leaf != NULL)
        put_image(doc, disk, leaf);
    json_object_set_new(doc, "volumes", volume_list("volume", vm, disk, disk->volumes));
    if (disk->branches->len > 0)
        json_object_set_new(doc, "branches", volume_list("branch", vm, disk, disk->branches));
    doc_ref(owner, "vm", vm->id, "/vms/%s", vm->id);
    doc_text(json_object_get(owner, "vm"), "name", vm->name);
    json_object_set_new(doc, "vms", json_pack("{s:[O]}", "vm", json_object_get(owner, "vm")));
    json_decref(owner);
    return doc;
}

static const char *
interface_of(const Disk *disk)
{
    if (g_strcmp0(disk->bus, "scsi") == 0)
        return "virtio_scsi";
    return disk->bus != NULL ? disk->bus : "virtio";
}

json_t *
disk_attachment_document(const Vm *vm, const Disk *disk)
{
    json_t *doc = doc_new(disk->id, "/vms/%s/diskattachments/%s", vm->id, disk->id);
    g_autofree char *device = g_strconcat("/dev/", disk->target, NULL);

    doc_flag(doc, "active", true);
    doc_flag(doc, "bootable", disk->boot);
    doc_text(doc, "interface", interface_of(disk));
    doc_text(doc, "logical_name", device);
    doc_flag(doc, "pass_discard", false);
    doc_flag(doc, "read_only", disk->read_only);
    doc_flag(doc, "uses_scsi_reservation", false);
    doc_text(doc, "unmanaged", disk->unmanaged);
    doc_ref(doc, "disk", disk->id, "/disks/%s", disk->id);
    doc_ref(doc, "vm", vm->id, "/vms/%s", vm->id);
    return doc;
}

json_t *
snapshot_disk_document(const Vm *vm, const Snapshot *snapshot, const SnapshotDisk *part)
{
    const Disk *disk = vm_disk(vm, part->disk_id);
    const Volume *volume = disk != NULL ? disk_any_volume(disk, part->volume_id) : NULL;

    if (volume == NULL)
        return NULL;
    json_t *doc = json_object();
    doc_text(doc, "id", disk->id);
    put_common(doc, vm, disk);
    doc_text(doc, "status", part->unusable ? "illegal" : is_held(vm, disk) ? "locked" : "ok");
    put_image(doc, disk, volume);
    json_object_set_new(doc, "snapshot", json_pack("{s:s}", "id", snapshot->id));
    return doc;
}

/* The snapshot that owns the volume on that disk; NULL = none. */
static const Snapshot *
owner_of(const Vm *vm, const Disk *disk, const Volume *volume)
{
    for (guint i = 0; i < vm->snapshots->len; i++) {
        const SnapshotDisk *part = snapshot_disk(vm->snapshots->pdata[i], disk->id);
        if (part != NULL && g_str_equal(part->volume_id, volume->id))
            return vm->snapshots->pdata[i];
    }
    return NULL;
}

static void
put_snapshot_of(json_t *doc, const Vm *vm, const Disk *disk, const Volume *volume)
{
    const Snapshot *snapshot = owner_of(vm, disk, volume);
    g_autofree char *active = active_snapshot_id(vm);
    const char *id = snapshot != NULL ? snapshot->id : volume == disk_leaf(disk) ? active : NULL;

    if (id != NULL)
        doc_ref(doc, "snapshot", id, "/vms/%s/snapshots/%s", vm->id, id);
}

json_t *
disk_snapshot_document(const Vm *vm, const Disk *disk, guint index)
{
    const Volume *volume = disk->volumes->pdata[index];
    json_t *doc = doc_new(volume->id, "/disks/%s/disksnapshots/%s", disk->id, volume->id);

    put_common(doc, vm, disk);
    doc_text(doc, "status", is_held(vm, disk) ? "locked" : "ok");
    put_image(doc, disk, volume);
    doc_ref(doc, "disk", disk->id, "/disks/%s", disk->id);
    if (index > 0) {
        const Volume *below = disk->volumes->pdata[index - 1];
        doc_ref(doc, "parent", below->id, "/disks/%s/disksnapshots/%s", disk->id, below->id);
    }
    put_snapshot_of(doc, vm, disk, volume);
    return doc;
}

/* ---- handlers ---- */

json_t *
disk_locked_by_jobs(const Call *call, const Vm *vm, json_t *doc)
{
    if (g_strcmp0(json_text(doc, "status"), "ok") == 0 &&
        manager_disks_locked(call->manager, vm->id))
        doc_text(doc, "status", "locked");
    return doc;
}

bool
get_disks(Call *call, Reply *reply, GError **error)
{
    g_autoptr(GPtrArray) vms = manager_vms(call->manager);
    json_t *list = json_array();

    for (guint i = 0; i < vms->len; i++) {
        const Vm *vm = vms->pdata[i];
        for (guint j = 0; j < vm->disks->len; j++)
            json_array_append_new(
                list, disk_locked_by_jobs(call, vm, disk_document(vm, vm->disks->pdata[j])));
    }
    return reply_list(call, reply, "disk", list, error);
}

bool
get_disk(Call *call, Reply *reply, GError **error)
{
    g_autoptr(GPtrArray) vms = manager_vms(call->manager);

    for (guint i = 0; i < vms->len; i++) {
        const Vm *vm = vms->pdata[i];
        for (guint j = 0; j < vm->disks->len; j++) {
            const Disk *disk = vm->disks->pdata[j];
            if (g_str_equal(disk->id, call->id)) {
                reply->body = disk_locked_by_jobs(call, vm, disk_document(vm, disk));
                return true;
            }
        }
    }
    return error_set(error, ERR_NOT_FOUND, "there is no disk '%s'", call->id);
}
