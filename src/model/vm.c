/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "model/vm.h"

#include "base/text.h"
#include "model/shape.h"

static const char *const state_words[VM_STATE_LAST] = {
#define X(state, word) [state] = word,
    VM_STATE_TABLE(X)
#undef X
};

const char *
vm_state_word(VmState state)
{
    return state < VM_STATE_LAST ? state_words[state] : state_words[VM_UNKNOWN];
}

VmState
vm_state_from_word(const char *word)
{
    for (int state = 0; state < VM_STATE_LAST; state++)
        if (g_strcmp0(state_words[state], word) == 0)
            return (VmState)state;
    return VM_UNKNOWN;
}

Vm *
vm_new(const char *id, const char *name)
{
    Vm *vm = shape_new(&vm_shape);

    vm->id = g_strdup(id);
    vm->name = g_strdup(name);
    return vm;
}

Vm *
vm_share(Vm *vm)
{
    g_atomic_int_inc(&vm->shared);
    return vm;
}

void
vm_free(Vm *vm)
{
    if (vm == NULL || g_atomic_int_add(&vm->shared, -1) > 0)
        return;
    shape_free(&vm_shape, vm);
}

Vm *
vm_copy(const Vm *vm)
{
    Vm *copy = shape_copy(&vm_shape, vm);

    if (copy != NULL)
        copy->shared = 0;
    return copy;
}

static void
take_list(GPtrArray **list, const Shape *of, const GPtrArray *stored)
{
    g_ptr_array_unref(*list);
    *list = shape_copy_list(of, stored);
}

void
vm_take_records(Vm *vm, const Vm *stored)
{
    take_list(&vm->snapshots, &snapshot_shape, stored->snapshots);
    take_list(&vm->operations, &operation_record_shape, stored->operations);
    take_list(&vm->leftovers, &leftover_shape, stored->leftovers);
    preview_free(vm->preview);
    vm->preview = shape_copy(&preview_shape, stored->preview);
    text_replace(&vm->goes_on_from, stored->goes_on_from);
    vm->generation = stored->generation;
}

Vm *
vm_unshare(Vm *take_vm)
{
    g_autoptr(Vm) vm = take_vm;

    if (vm == NULL || g_atomic_int_get(&vm->shared) == 0)
        return g_steal_pointer(&vm);
    return vm_copy(vm);
}

bool
vm_equal(const Vm *a, const Vm *b)
{
    return shape_equal(&vm_shape, SHAPE_WHOLE, a, b);
}

bool
vm_lasting_equal(const Vm *a, const Vm *b)
{
    return shape_equal(&vm_shape, SHAPE_LASTING, a, b);
}

bool
vm_kept_equal(const Vm *a, const Vm *b)
{
    return shape_equal(&vm_shape, SHAPE_KEPT, a, b);
}

Disk *
disk_new(const char *id, const char *target)
{
    Disk *disk = shape_new(&disk_shape);

    disk->id = g_strdup(id);
    disk->target = g_strdup(target);
    return disk;
}

void
disk_free(Disk *disk)
{
    shape_free(&disk_shape, disk);
}

Volume *
volume_new(const char *id, const char *path, const char *format, uint64_t virtual_size)
{
    Volume *volume = shape_new(&volume_shape);

    volume->id = g_strdup(id);
    volume->path = g_strdup(path);
    volume->format = g_strdup(format);
    volume->virtual_size = virtual_size;
    return volume;
}

void
volume_free(Volume *volume)
{
    shape_free(&volume_shape, volume);
}

Volume *
volume_copy(const Volume *volume)
{
    return shape_copy(&volume_shape, volume);
}

Snapshot *
snapshot_new(const char *id, const char *name, int64_t date)
{
    Snapshot *snapshot = shape_new(&snapshot_shape);

    snapshot->id = g_strdup(id);
    snapshot->name = g_strdup(name);
    snapshot->date = date;
    return snapshot;
}

void
snapshot_free(Snapshot *snapshot)
{
    shape_free(&snapshot_shape, snapshot);
}

void
leftover_free(Leftover *leftover)
{
    shape_free(&leftover_shape, leftover);
}

void
operation_record_free(OperationRecord *record)
{
    shape_free(&operation_record_shape, record);
}

Preview *
preview_new(const char *snapshot_id, int64_t date)
{
    Preview *preview = shape_new(&preview_shape);

    preview->snapshot = g_strdup(snapshot_id);
    preview->date = date;
    return preview;
}

void
preview_free(Preview *preview)
{
    shape_free(&preview_shape, preview);
}

Disk *
vm_disk(const Vm *vm, const char *disk_id_or_target)
{
    for (guint i = 0; disk_id_or_target != NULL && i < vm->disks->len; i++) {
        Disk *disk = vm->disks->pdata[i];
        if (g_strcmp0(disk->id, disk_id_or_target) == 0 ||
            g_strcmp0(disk->target, disk_id_or_target) == 0)
            return disk;
    }
    return NULL;
}

Snapshot *
vm_snapshot(const Vm *vm, const char *snapshot_id)
{
    for (guint i = 0; snapshot_id != NULL && i < vm->snapshots->len; i++) {
        Snapshot *snapshot = vm->snapshots->pdata[i];
        if (g_strcmp0(snapshot->id, snapshot_id) == 0)
            return snapshot;
    }
    return NULL;
}

SnapshotDisk *
snapshot_disk(const Snapshot *snapshot, const char *disk_id)
{
    for (guint i = 0; disk_id != NULL && i < snapshot->disks->len; i++) {
        SnapshotDisk *entry = snapshot->disks->pdata[i];
        if (g_strcmp0(entry->disk_id, disk_id) == 0)
            return entry;
    }
    return NULL;
}

bool
snapshot_is_unusable(const Snapshot *snapshot)
{
    for (guint i = 0; i < snapshot->disks->len; i++)
        if (((const SnapshotDisk *)snapshot->disks->pdata[i])->unusable)
            return true;
    return false;
}

bool
snapshot_is_config_only(const Snapshot *snapshot)
{
    return snapshot->config_only && snapshot->disks->len == 0 && snapshot->config != NULL;
}

bool
snapshot_has_lost_all(const Snapshot *snapshot)
{
    return snapshot->disks->len == 0 && !snapshot_is_config_only(snapshot);
}

bool
vm_snapshot_owns(const Vm *vm, const char *disk_id, const char *volume_id)
{
    for (guint i = 0; i < vm->snapshots->len; i++) {
        const SnapshotDisk *sd = snapshot_disk(vm->snapshots->pdata[i], disk_id);
        if (sd != NULL && g_str_equal(sd->volume_id, volume_id))
            return true;
    }
    return false;
}

int
disk_volume_index(const Disk *disk, const char *volume_id)
{
    for (guint i = 0; volume_id != NULL && i < disk->volumes->len; i++) {
        const Volume *volume = disk->volumes->pdata[i];
        if (g_strcmp0(volume->id, volume_id) == 0)
            return (int)i;
    }
    return -1;
}

Volume *
disk_volume(const Disk *disk, const char *volume_id)
{
    int index = disk_volume_index(disk, volume_id);

    return index >= 0 ? disk->volumes->pdata[index] : NULL;
}

Volume *
disk_volume_by_path(const Disk *disk, const char *path)
{
    for (guint i = 0; path != NULL && i < disk->volumes->len; i++) {
        Volume *volume = disk->volumes->pdata[i];
        if (g_strcmp0(volume->path, path) == 0)
            return volume;
    }
    return NULL;
}

const Disk *
vm_disk_by_path(const Vm *vm, const char *path)
{
    for (guint i = 0; i < vm->disks->len; i++)
        if (disk_volume_by_path(vm->disks->pdata[i], path) != NULL)
            return vm->disks->pdata[i];
    return NULL;
}

Volume *
disk_leaf(const Disk *disk)
{
    return disk->volumes->len > 0 ? disk->volumes->pdata[disk->volumes->len - 1] : NULL;
}

OperationRecord *
vm_operation(const Vm *vm, const char *op_id)
{
    for (guint i = 0; op_id != NULL && i < vm->operations->len; i++) {
        OperationRecord *record = vm->operations->pdata[i];
        if (g_strcmp0(record->id, op_id) == 0)
            return record;
    }
    return NULL;
}

static Leftover *
find_leftover(const Vm *vm, const char *path)
{
    for (guint i = 0; i < vm->leftovers->len; i++) {
        Leftover *leftover = vm->leftovers->pdata[i];
        if (g_str_equal(leftover->path, path))
            return leftover;
    }
    return NULL;
}

bool
vm_has_leftover(const Vm *vm, const char *path)
{
    return find_leftover(vm, path) != NULL;
}

void
vm_add_leftover(Vm *vm, const char *path)
{
    Leftover *leftover;

    if (find_leftover(vm, path) != NULL)
        return;
    leftover = g_new0(Leftover, 1);
    leftover->path = g_strdup(path);
    g_ptr_array_add(vm->leftovers, leftover);
}

void
vm_remove_leftover(Vm *vm, const char *path)
{
    Leftover *leftover = find_leftover(vm, path);

    if (leftover != NULL)
        g_ptr_array_remove(vm->leftovers, leftover);
}

void
vm_add_snapshot_disk(Snapshot *snapshot, const char *disk_id, const char *volume_id)
{
    SnapshotDisk *entry = shape_new(&snapshot_disk_shape);

    entry->disk_id = g_strdup(disk_id);
    entry->volume_id = g_strdup(volume_id);
    g_ptr_array_add(snapshot->disks, entry);
    snapshot->config_only = false;
}

static guint
place_of(const Vm *vm, const Disk *disk, int at)
{
    guint place = 0;

    for (; place < vm->snapshots->len; place++) {
        const SnapshotDisk *sd = snapshot_disk(vm->snapshots->pdata[place], disk->id);
        if (sd != NULL && disk_volume_index(disk, sd->volume_id) > at)
            break;
    }
    return place;
}

void
vm_insert_snapshot(Vm *vm, Snapshot *take_snapshot, const char *disk_id, const char *volume_id)
{
    const Disk *disk = vm_disk(vm, disk_id);
    guint place = place_of(vm, disk, disk_volume_index(disk, volume_id));

    if (place > 0)
        take_snapshot->parent = g_strdup(((Snapshot *)vm->snapshots->pdata[place - 1])->id);
    if (place < vm->snapshots->len) {
        Snapshot *next = vm->snapshots->pdata[place];
        g_free(next->parent);
        next->parent = g_strdup(take_snapshot->id);
    }
    g_ptr_array_insert(vm->snapshots, (int)place, take_snapshot);
}

void
vm_remove_snapshot(Vm *vm, Snapshot *snapshot)
{
    for (guint i = 0; i < vm->snapshots->len; i++) {
        Snapshot *child = vm->snapshots->pdata[i];
        if (g_strcmp0(child->parent, snapshot->id) != 0)
            continue;
        g_free(child->parent);
        child->parent = g_strdup(snapshot->parent);
    }
    g_ptr_array_remove(vm->snapshots, snapshot);
}

bool
disk_is_managed(const Disk *disk)
{
    return disk->unmanaged == NULL && !disk->read_only && disk->volumes->len > 0;
}

char *
disk_busy_reason(const Vm *vm, const Disk *disk)
{
    g_autofree char *name = shell_word(vm->name);

    if (disk->busy == NULL)
        return NULL;
    if (g_str_equal(disk->busy, DISK_LOST_PIVOT))
        return g_strdup_printf(
            "libvirtd was killed as it ended a block job and begins no other on it; nothing "
            "is lost. Power the VM off (a reboot from inside is not enough): "
            "virsh shutdown %s",
            name);
    if (g_str_equal(disk->busy, DISK_LOST_MERGE))
        return g_strdup_printf("the agent's journal was lost while the disk was merged, and "
                               "whether all that was merged was flushed is not known; nothing is "
                               "lost, and nothing is deleted. livemerge doctor %s says what helps",
                               name);
    if (g_str_equal(disk->busy, DISK_ENDING_MERGE))
        return g_strdup(
            "the agent's journal was lost while the disk was merged; that is just being "
            "put right, try again in a moment");
    return g_strdup_printf("%s works on it that livemerge did not start; wait until it has ended, "
                           "or end it: virsh blockjob %s %s --abort",
                           disk->busy, name, disk->target);
}

/* Entries for volumes of [base..top) go, the one for top moves to the volume that remains. */
static void
merge_snapshot(Snapshot *snapshot, const Disk *disk, int base, int top, const char *remains)
{
    SnapshotDisk *entry = snapshot_disk(snapshot, disk->id);
    int index = entry != NULL ? disk_volume_index(disk, entry->volume_id) : -1;

    if (index < base || index > top)
        return;
    if (index < top) {
        g_ptr_array_remove(snapshot->disks, entry);
        return;
    }
    g_free(entry->volume_id);
    entry->volume_id = g_strdup(remains);
}

/* Already done? Then the ends of the run are not in the chain any more. */
static bool
is_merged(const Disk *disk, const char *base, const char *top, const Volume *replacement)
{
    if (disk_volume_index(disk, top) >= 0)
        return false;
    return disk_volume_index(disk, replacement != NULL ? replacement->id : base) >= 0;
}

bool
vm_apply_merge(Vm *vm, const char *disk_id, const char *base, const char *top,
               const Volume *replacement, GError **error)
{
    Disk *disk = vm_disk(vm, disk_id);
    int low, high;

    if (disk == NULL)
        return error_set(error, ERR_NOT_FOUND, "VM '%s' has no disk '%s'", vm->name, disk_id);
    low = disk_volume_index(disk, base);
    high = disk_volume_index(disk, top);
    if (is_merged(disk, base, top, replacement))
        return true;
    if (low < 0 || high < 0)
        return error_set(error, ERR_NOT_FOUND,
                         "disk %s of VM '%s': volume '%s' is not in its chain, so the merge of it "
                         "cannot be recorded",
                         disk->target, vm->name, low < 0 ? base : top);
    if (low > high)
        return error_set(error, ERR_INVALID,
                         "disk %s of VM '%s': base '%s' lies above top '%s' in the chain",
                         disk->target, vm->name, base, top);

    for (guint i = 0; i < vm->snapshots->len; i++)
        merge_snapshot(vm->snapshots->pdata[i], disk, low, high,
                       replacement != NULL ? replacement->id : base);
    if (replacement != NULL) {
        g_ptr_array_remove_range(disk->volumes, (guint)low, (guint)(high - low + 1));
        g_ptr_array_insert(disk->volumes, low, volume_copy(replacement));
        return true;
    }
    if (high > low) {
        Volume *kept = disk->volumes->pdata[low];
        const Volume *merged = disk->volumes->pdata[high];
        /* QEMU grows the base when what it commits is larger */
        kept->virtual_size = MAX(kept->virtual_size, merged->virtual_size);
        g_ptr_array_remove_range(disk->volumes, (guint)low + 1, (guint)(high - low));
    }
    return true;
}
