/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * The manifest of one small VM, to save, load and compare.
 */
#pragma once

#include "storage_place.h"

static inline Vm *
make_vm(const char *snapshot_name)
{
    Vm *vm = vm_new(VM_ID, "web1");
    Disk *disk = disk_new("d1", "vda");
    Snapshot *snapshot = snapshot_new("s1", snapshot_name, 1769862896789);

    g_ptr_array_add(vm->disks, disk);
    g_ptr_array_add(disk->volumes, volume_new("v0", "/dom/v0.raw", "raw", MIB));
    g_ptr_array_add(disk->volumes, volume_new("v1", "/dom/v1.qcow2", "qcow2", MIB));
    vm_add_snapshot_disk(snapshot, "d1", "v0");
    snapshot->config = g_strdup("<domain>\n  <name>web1</name>\n</domain>\n");
    g_ptr_array_add(vm->snapshots, snapshot);
    return vm;
}

static inline const char *
stored_name(const Vm *vm)
{
    return vm_snapshot(vm, "s1")->name;
}

static inline void
save(const Place *place, Vm *vm)
{
    g_autoptr(GError) error = NULL;

    g_assert_true(manifest_save(place->domain, vm, &error));
    g_assert_no_error(error);
}

static inline Vm *
load(const Place *place)
{
    g_autoptr(GError) error = NULL;
    Vm *vm = manifest_load(place->domain, VM_ID, &error);

    g_assert_no_error(error);
    g_assert_nonnull(vm);
    return vm;
}

static inline void
rename_snapshot(Vm *vm, const char *name)
{
    Snapshot *snapshot = vm_snapshot(vm, "s1");

    g_free(snapshot->name);
    snapshot->name = g_strdup(name);
}
