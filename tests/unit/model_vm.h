/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * The VM that the tests of src/model begin with.
 */
#pragma once

#include "model/vm.h"

#define VM_ID "11111111-2222-3333-4444-555555555555"

/* A VM with disk d1 (vda), volumes v0..v<n-1> of i+1 MiB in use, snapshot s<i> on v<i> for all
 * but the leaf. */
static inline Vm *
make_vm(unsigned volumes)
{
    Vm *vm = vm_new(VM_ID, "web1");
    Disk *disk = disk_new("d1", "vda");

    vm->state = VM_UP;
    g_ptr_array_add(vm->disks, disk);
    for (unsigned i = 0; i < volumes; i++) {
        g_autofree char *id = g_strdup_printf("v%u", i);
        g_autofree char *path = g_strdup_printf("/dom/%s.qcow2", id);
        Volume *volume = volume_new(id, path, "qcow2", 1 << 30);
        volume->allocated = (i + 1) << 20;
        g_ptr_array_add(disk->volumes, volume);
        if (i + 1 < volumes) {
            g_autofree char *snapshot_id = g_strdup_printf("s%u", i);
            Snapshot *snapshot = snapshot_new(snapshot_id, snapshot_id, 1000 + i);
            vm_add_snapshot_disk(snapshot, "d1", id);
            g_ptr_array_add(vm->snapshots, snapshot);
        }
    }
    return vm;
}

static inline void
add_second_disk(Vm *vm)
{
    Disk *disk = disk_new("d2", "vdb");

    g_ptr_array_add(vm->disks, disk);
    g_ptr_array_add(disk->volumes, volume_new("w0", "/dom/w0.raw", "raw", 1 << 20));
    g_ptr_array_add(disk->volumes, volume_new("w1", "/dom/w1.qcow2", "qcow2", 1 << 20));
    vm_add_snapshot_disk(vm_snapshot(vm, "s0"), "d2", "w0");
}

/* "s0 s2" as plan_new() wants them */
static inline char **
make_ids(const char *words)
{
    return *words != '\0' ? g_strsplit(words, " ", -1) : g_new0(char *, 1);
}
