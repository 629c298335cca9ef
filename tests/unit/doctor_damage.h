/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * All that can be wrong with a VM, as somebody or something would make it.
 */
#pragma once

#include "doctor_host.h"

static inline void
write_data(Host *host, const char *name)
{
    MUST(host->dir, "qemu-io -f qcow2 -c 'write -q -P 7 64k 64k' %s", name);
}

static inline void
make_orphan(Host *host)
{
    g_free(image(host->dir, "web.9f8e7d6c.qcow2", MIB, MIDDLE, "qcow2"));
}

/* It may be the newest of a line of which a manifest that was lost has told. */
static inline void
make_orphan_line(Host *host)
{
    make_orphan(host);
    write_data(host, "web.9f8e7d6c.qcow2");
}

static inline void
make_orphan_empty(Host *host)
{
    g_free(image(host->dir, "clone-of-web.qcow2", MIB, BASE, "qcow2"));
}

static inline void
make_orphan_with_data(Host *host)
{
    make_orphan_empty(host);
    write_data(host, "clone-of-web.qcow2");
}

static inline void
make_orphan_memory(Host *host)
{
    MUST(host->dir, "cp " BASE " web.9f8e7d6c.memory");
    MUST(host->dir, "truncate -s 4096 web.9f8e7d6c.memory");
}

/* A merge into the base has left its volumes, which stand on what is the leaf now. */
static inline void
make_left_by_merge(Host *host)
{
    g_autoptr(Vm) vm = NULL;
    g_autofree char *middle = path_of(host, MIDDLE), *leaf = path_of(host, LEAF);

    write_data(host, MIDDLE);
    g_free(host->fake.disks[0].stored);
    host->fake.disks[0].stored = path_of(host, BASE);
    fake_power_on(&host->fake);
    look(host);
    vm = manifest(host);
    g_ptr_array_set_size(vm->snapshots, 0);
    vm_add_leftover(vm, middle);
    save(host, vm);
    g_assert_cmpint(g_unlink(leaf), ==, 0);
}

static inline void
make_missing(Host *host)
{
    MUST(host->dir, "mv " BASE " ../elsewhere");
}

static inline void
make_missing_in_trash(Host *host)
{
    MUST(host->dir,
         "mv " BASE " .livemerge/trash/keep.aaaaaaaa-0000-4000-8000-00000000000f.0." BASE);
}

static inline void
make_missing_leaf(Host *host)
{
    MUST(host->dir, "mv " LEAF " ../elsewhere");
}

static inline void
make_loop(Host *host)
{
    MUST(host->dir, "qemu-img rebase -q -u -f qcow2 -F qcow2 -b " LEAF " " BASE);
}

static inline void
make_no_format(Host *host)
{
    MUST(host->dir, "rm " MIDDLE);
    g_free(image_naming(host->dir, MIDDLE, BASE, NULL));
}

static inline void
make_wrong_format(Host *host)
{
    MUST(host->dir, "qemu-img rebase -q -u -f qcow2 -F raw -b " BASE " " MIDDLE);
}

static inline void
make_absolute(Host *host)
{
    MUST(host->dir, "qemu-img rebase -q -u -f qcow2 -F qcow2 -b %s/" BASE " " MIDDLE, host->dir);
}

static inline void
make_outside(Host *host)
{
    MUST(host->dir, "cp " BASE " ../outside.qcow2");
    MUST(host->dir, "qemu-img rebase -q -u -f qcow2 -F qcow2 -b ../outside.qcow2 " MIDDLE);
}

static inline void
make_shrunk(Host *host)
{
    MUST(host->dir, "rm " LEAF);
    g_free(image(host->dir, LEAF, MIB / 2, MIDDLE, "qcow2"));
}

static inline void
make_damaged(Host *host)
{
    g_autofree char *leaf = path_of(host, LEAF);

    poke(leaf, 0, 4, 0);
}

static inline void
make_corrupt(Host *host)
{
    g_autofree char *leaf = path_of(host, LEAF);

    poke(leaf, 72, 8, 2);
}

static inline void
make_stale_leaf(Host *host)
{
    g_free(host->fake.disks[0].stored);
    host->fake.disks[0].stored = path_of(host, MIDDLE);
}

/* It was started from there, and the agent saw it running. */
static inline void
make_runs_on_stale(Host *host)
{
    write_data(host, LEAF);
    make_stale_leaf(host);
    fake_power_on(&host->fake);
    look(host);
}

static inline void
make_stale_definition(Host *host)
{
    fake_power_on(&host->fake);
    make_stale_leaf(host);
}

static inline void
make_stale_backing(Host *host)
{
    libvirt.stored_backing = g_ptr_array_new_with_free_func(g_free);
    g_ptr_array_add(libvirt.stored_backing, path_of(host, BASE));
}

static inline void
make_mismatch(Host *host)
{
    fake_power_on(&host->fake);
    libvirt.live_backing = g_ptr_array_new_with_free_func(g_free);
    g_ptr_array_add(libvirt.live_backing, path_of(host, BASE));
}

static inline void
make_mirror(Host *host)
{
    g_autofree char *base = path_of(host, BASE);

    fake_power_on(&host->fake);
    g_assert_true(fake_commit_start(&host->fake.hv, FAKE_VM, "vda", base, NULL, 0, NULL));
}

static inline void
make_commit(Host *host)
{
    g_autofree char *base = path_of(host, BASE);
    g_autofree char *top = path_of(host, MIDDLE);

    fake_power_on(&host->fake);
    host->fake.endless = true;
    g_assert_true(fake_commit_start(&host->fake.hv, FAKE_VM, "vda", base, top, 0, NULL));
}

static inline uint32_t
number_at(const char *bytes, size_t at)
{
    uint32_t big;

    memcpy(&big, bytes + at, sizeof big);
    return GUINT32_FROM_BE(big);
}

/* As a QEMU that was killed leaves it. */
static inline void
make_bitmap(Host *host)
{
    g_autofree char *leaf = path_of(host, LEAF);
    g_autofree char *bytes = NULL;
    size_t length = 0, at;

    MUST(host->dir, "qemu-img bitmap --add -f qcow2 " LEAF " backup-1");
    g_assert_true(g_file_get_contents(leaf, &bytes, &length, NULL));
    for (at = number_at(bytes, 100); number_at(bytes, at) != 0x23852875;)
        at += 8 + (number_at(bytes, at + 4) + 7) / 8 * 8;
    poke(leaf, number_at(bytes, at + 8 + 20) + 12, 4, 1);
}

static inline void
use_overlay(Host *host)
{
    g_free(host->fake.disks[0].stored);
    g_free(host->fake.disks[0].live);
    host->fake.disks[0].stored = path_of(host, "web.backup");
    host->fake.disks[0].live = path_of(host, "web.backup");
}

/* As "virsh snapshot-create --disk-only" does it, and without an event. */
static inline void
make_overlay_of_others(Host *host)
{
    fake_power_on(&host->fake);
    g_free(image(host->dir, "web.backup", MIB, LEAF, "qcow2"));
    use_overlay(host);
}

/* The same, and the agent has looked since. */
static inline void
make_overlay_seen(Host *host)
{
    make_overlay_of_others(host);
    look(host);
}

static inline void
make_overlay_with_record(Host *host)
{
    make_overlay_of_others(host);
    libvirt.name = g_strdup("before update");
    libvirt.target = g_strdup("vda");
    libvirt.file = path_of(host, "web.backup");
}

static inline void
make_record(Host *host)
{
    libvirt.name = g_strdup("gone");
    libvirt.target = g_strdup("vda");
    libvirt.file = path_of(host, "web.gone");
}

static inline void
make_trash(Host *host)
{
    MUST(host->dir, "cp " BASE " .livemerge/trash/aaaaaaaa-0000-4000-8000-00000000000f.0.x.qcow2");
}

static inline void
make_build(Host *host)
{
    MUST(host->dir, "truncate -s 65536 " QCOW2_BUILD_PREFIX "0011223344556677");
}

/* Somebody flattened the middle volume. */
static inline void
make_stale_manifest(Host *host)
{
    MUST(host->dir, "qemu-img rebase -q -f qcow2 -b '' " MIDDLE);
}

static inline void
make_bad_manifest(Host *host)
{
    g_autofree char *file = path_of(host, ".livemerge/vms/" FAKE_VM ".json");

    poke_text(file, 100, "garbage", 7);
}

static inline void
record_merge(Host *host, const char *strategy, guint base, guint top)
{
    g_autoptr(Vm) vm = manifest(host);
    const Disk *disk = vm_disk(vm, "vda");
    OperationRecord *record = g_new0(OperationRecord, 1);

    record->id = id_new();
    record->kind = g_strdup("merge");
    record->strategy = g_strdup(strategy);
    record->disk_id = g_strdup(disk->id);
    record->base = g_strdup(((Volume *)disk->volumes->pdata[base])->id);
    record->top = g_strdup(((Volume *)disk->volumes->pdata[top])->id);
    g_ptr_array_add(vm->operations, record);
    save(host, vm);
}

static inline void
make_left_record(Host *host)
{
    record_merge(host, "commit-active", 1, 2);
    fake_power_on(&host->fake);
}

/* The merge of the middle into the base was done, and the journal was lost before it was settled.
 */
static inline void
make_left_record_of_done(Host *host)
{
    record_merge(host, "commit", 0, 1);
    MUST(host->dir, "qemu-img rebase -u -f qcow2 -b " BASE " -F qcow2 " LEAF);
    MUST(host->dir, "rm " MIDDLE);
    look(host); /* while it is off, so that nothing is done by itself */
    fake_power_on(&host->fake);
}

static inline void
make_lost(Host *host)
{
    g_autoptr(Vm) vm = manifest(host);
    g_autofree char *id = id_new(), *volume = id_new();
    Snapshot *snapshot = snapshot_new(id, "tuesday", 2);

    vm_add_snapshot_disk(snapshot, vm_disk(vm, "vda")->id, volume);
    g_ptr_array_add(vm->snapshots, snapshot);
    save(host, vm);
}

static inline void
make_lost_memory(Host *host)
{
    g_autoptr(Vm) vm = manifest(host);

    ((Snapshot *)vm->snapshots->pdata[0])->memory = path_of(host, "web.1a2b3c4d.memory");
    save(host, vm);
}

/* ---- mended ---- */

static inline void
is_adopted(Host *host, const char *name)
{
    g_autoptr(Vm) vm = manifest(host);
    const Disk *disk = vm_disk(vm, "vda");
    const Snapshot *monday = vm->snapshots->pdata[0], *adopted = vm->snapshots->pdata[1];

    g_assert_cmpuint(vm->snapshots->len, ==, 2);
    g_assert_cmpstr(adopted->name, ==, name);
    g_assert_cmpstr(adopted->parent, ==, monday->id);
    g_assert_cmpint(adopted->date, >, 1600000000000);
    g_assert_cmpuint(disk->volumes->len, ==, 4);
    g_assert_cmpstr(((SnapshotDisk *)adopted->disks->pdata[0])->volume_id, ==,
                    ((Volume *)disk->volumes->pdata[2])->id);
}

static inline void
backup_is_adopted(Host *host)
{
    is_adopted(host, "backup");
}
