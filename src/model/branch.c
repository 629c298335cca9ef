/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * Branches: trying a snapshot, and what becomes of it. The volumes of a disk are a line again as
 * soon as a preview has ended; while it lasts, a second one stands beside the chain.
 */
#include "base/text.h"
#include "model/shape.h"
#include "model/vm.h"

static Volume *
find(const GPtrArray *volumes, const char *id, const char *path)
{
    for (guint i = 0; i < volumes->len; i++) {
        Volume *volume = volumes->pdata[i];
        if ((id != NULL && g_strcmp0(volume->id, id) == 0) ||
            (path != NULL && g_strcmp0(volume->path, path) == 0))
            return volume;
    }
    return NULL;
}

Volume *
disk_any_volume(const Disk *disk, const char *volume_id)
{
    Volume *volume = disk_volume(disk, volume_id);

    return volume != NULL ? volume : find(disk->branches, volume_id, NULL);
}

Volume *
disk_branch_by_path(const Disk *disk, const char *path)
{
    return find(disk->branches, NULL, path);
}

PreviewDisk *
preview_disk(const Preview *preview, const char *disk_id)
{
    for (guint i = 0; preview != NULL && i < preview->disks->len; i++) {
        PreviewDisk *part = preview->disks->pdata[i];
        if (g_strcmp0(part->disk_id, disk_id) == 0)
            return part;
    }
    return NULL;
}

/* Everything of a list from this index on goes to the end of another one. */
static void
move_from(GPtrArray *from, guint index, GPtrArray *to)
{
    while (from->len > index)
        g_ptr_array_add(to, g_ptr_array_steal_index(from, index));
}

/* ---- begin ---- */

static int
index_of_snapshot(const Snapshot *snapshot, const Disk *disk)
{
    const SnapshotDisk *part = snapshot_disk(snapshot, disk->id);

    return part != NULL ? disk_volume_index(disk, part->volume_id) : -1;
}

static void
branch_off(Preview *preview, Disk *disk, guint index, const Volume *leaf)
{
    PreviewDisk *part = shape_new(&preview_disk_shape);

    part->disk_id = g_strdup(disk->id);
    part->old_leaf = g_strdup(disk_leaf(disk)->id);
    part->leaf = g_strdup(leaf->id);
    g_ptr_array_add(preview->disks, part);
    move_from(disk->volumes, index + 1, disk->branches);
    g_ptr_array_add(disk->volumes, volume_copy(leaf));
}

bool
vm_begin_preview(Vm *vm, const char *snapshot_id, int64_t date, GPtrArray *disks, GPtrArray *leaves,
                 GError **error)
{
    const Snapshot *snapshot = vm_snapshot(vm, snapshot_id);

    if (snapshot == NULL)
        return error_set(error, ERR_NOT_FOUND, "VM '%s' has no snapshot %s", vm->name, snapshot_id);
    for (guint i = 0; i < disks->len; i++)
        if (index_of_snapshot(snapshot, disks->pdata[i]) < 0)
            return error_set(error, ERR_REFUSED,
                             "snapshot '%s' of VM '%s' has no volume of disk %s in its chain",
                             snapshot->name, vm->name, ((const Disk *)disks->pdata[i])->target);
    vm->preview = preview_new(snapshot->id, date);
    for (guint i = 0; i < disks->len; i++) {
        int index = index_of_snapshot(snapshot, disks->pdata[i]);
        branch_off(vm->preview, disks->pdata[i], (guint)index, leaves->pdata[i]);
    }
    return true;
}

/* ---- undo ---- */

static void
leave(Vm *vm, GPtrArray *left, const char *path)
{
    vm_add_leftover(vm, path);
    g_ptr_array_add(left, g_strdup(path));
}

static bool
can_undo(const Vm *vm, const Disk *disk, const PreviewDisk *part, GError **error)
{
    const Volume *top = disk_leaf(disk);
    int at = disk_volume_index(disk, part->leaf);

    if (at < 0 && disk_volume(disk, part->old_leaf) != NULL)
        return true; /* somebody has started it from there: it is back already */
    const Volume *old =
        disk->branches->len > 0 ? disk->branches->pdata[disk->branches->len - 1] : NULL;
    if (at >= 0 && at + 1 == (int)disk->volumes->len && old != NULL &&
        g_str_equal(old->id, part->old_leaf))
        return true;
    g_autofree char *name = shell_word(vm->name);
    return error_set(error, ERR_REFUSED,
                     "VM '%s', disk %s stands on %s, which was put on top of the preview by "
                     "somebody else: it is not thrown away. Keep it: livemerge snapshot commit %s",
                     vm->name, disk->target, top != NULL ? top->path : "an unknown volume", name);
}

static void
undo_disk(Vm *vm, Disk *disk, const PreviewDisk *part, GPtrArray *left)
{
    int at = disk_volume_index(disk, part->leaf);
    const Volume *gone = disk_any_volume(disk, part->leaf);

    if (gone != NULL)
        leave(vm, left, gone->path);
    if (at < 0) { /* what stands beside the old line is the thrown away leaf */
        g_ptr_array_set_size(disk->branches, 0);
        return;
    }
    g_ptr_array_remove_index(disk->volumes, (guint)at);
    move_from(disk->branches, 0, disk->volumes);
}

bool
vm_undo_preview(Vm *vm, GPtrArray *left, GError **error)
{
    if (vm->preview == NULL)
        return true;
    for (guint i = 0; i < vm->preview->disks->len; i++) {
        const PreviewDisk *part = vm->preview->disks->pdata[i];
        const Disk *disk = vm_disk(vm, part->disk_id);
        if (disk != NULL && !can_undo(vm, disk, part, error))
            return false;
    }
    for (guint i = 0; i < vm->preview->disks->len; i++) {
        const PreviewDisk *part = vm->preview->disks->pdata[i];
        Disk *disk = vm_disk(vm, part->disk_id);
        if (disk != NULL)
            undo_disk(vm, disk, part, left);
    }
    g_clear_pointer(&vm->preview, preview_free);
    return true;
}

/* ---- commit ---- */

/* Takes from the snapshot what it had on the old line; true if that was anything. */
static bool
take_entries(const Vm *vm, Snapshot *snapshot)
{
    bool any = false;

    for (guint k = snapshot->disks->len; k > 0; k--) {
        const SnapshotDisk *entry = snapshot->disks->pdata[k - 1];
        const Disk *disk = vm_disk(vm, entry->disk_id);
        if (disk == NULL || find(disk->branches, entry->volume_id, NULL) == NULL)
            continue;
        g_ptr_array_remove_index(snapshot->disks, k - 1);
        any = true;
    }
    return any;
}

/* The memory belongs to all disks of that instant. */
static void
drop_abandoned(Vm *vm, GPtrArray *left)
{
    for (guint i = vm->snapshots->len; i > 0; i--) {
        Snapshot *snapshot = vm->snapshots->pdata[i - 1];
        if (!take_entries(vm, snapshot))
            continue;
        if (snapshot->memory != NULL)
            leave(vm, left, snapshot->memory);
        g_clear_pointer(&snapshot->memory, g_free);
        snapshot->memory_size = 0;
        if (snapshot->disks->len == 0)
            vm_remove_snapshot(vm, snapshot);
    }
}

bool
vm_commit_preview(Vm *vm, GPtrArray *left, GError **error)
{
    g_autofree char *name = shell_word(vm->name);

    if (vm->preview == NULL)
        return true;
    for (guint i = 0; i < vm->preview->disks->len; i++) {
        const PreviewDisk *part = vm->preview->disks->pdata[i];
        const Disk *disk = vm_disk(vm, part->disk_id);
        if (disk != NULL && disk_volume(disk, part->leaf) == NULL)
            return error_set(error, ERR_REFUSED,
                             "VM '%s' does not stand on the preview's volume of disk %s any more: "
                             "it was started from another one. Go back: livemerge snapshot undo %s",
                             vm->name, disk->target, name);
    }
    drop_abandoned(vm, left);
    for (guint i = 0; i < vm->disks->len; i++) {
        Disk *disk = vm->disks->pdata[i];
        for (guint k = 0; k < disk->branches->len; k++)
            leave(vm, left, ((const Volume *)disk->branches->pdata[k])->path);
        g_ptr_array_set_size(disk->branches, 0);
    }
    g_free(vm->goes_on_from);
    vm->goes_on_from = vm->preview->memory ? g_steal_pointer(&vm->preview->snapshot) : NULL;
    g_clear_pointer(&vm->preview, preview_free);
    return true;
}
