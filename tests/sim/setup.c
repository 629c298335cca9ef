/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * How a schedule begins: the VM, its volumes, snapshots and manifest.
 */
#include "world.h"

#include "qcow2/qcow2.h"
#include "storage/storage.h"

#include <string.h>

/* ---- the set-up ---- */

static char *
volume_name(unsigned disk, unsigned i)
{
    return i == 0 ? g_strdup_printf(HOME "/web%c.qcow2", 'a' + disk)
                  : g_strdup_printf(HOME "/web%c.%08x.qcow2", 'a' + disk, i);
}

static void
make_disk(unsigned d, Vm *model, GPtrArray *snapshots)
{
    SimDisk *disk = &vm.disks[d];
    g_autofree char *below = NULL;
    Disk *known = disk_new(disk->id, disk->target);

    memset(disk->acked, 0, sizeof disk->acked);
    memset(disk->pending, 0, sizeof disk->pending);
    for (unsigned i = 0; i < plan.flow->depth; i++) {
        g_autofree char *path = volume_name(d, i);
        g_autofree char *name = below != NULL ? g_path_get_basename(below) : NULL;
        g_autofree char *id = g_strdup_printf("%08x-0000-4000-8000-%012x", 0xd0 + d, i);
        g_autoptr(GError) error = NULL;
        Image image;
        if (!qcow2_create(path, vm.clusters * CLUSTER_BYTES, name, name != NULL ? "qcow2" : NULL,
                          0600, -1, -1, &error))
            g_error("%s", error->message);
        g_assert(image_at(vfs_find(path), path, false, &image));
        for (unsigned k = 0; k < vm.clusters; k++) {
            /* at least one, or two lines could look the same */
            if (fiber_chance(i == 0 ? 70 : 40) || k == i) {
                disk->acked[k] = ++vm.versions;
                image_put(&image, k, vm.versions);
            }
        }
        g_strlcpy(disk->volumes[i], path, sizeof disk->volumes[i]);
        memcpy(disk->content[i], disk->acked, sizeof disk->acked);
        image_flush(&image);
        vfs_sync(image.node);
        g_ptr_array_add(known->volumes, volume_new(id, path, "qcow2", vm.clusters * CLUSTER_BYTES));
        if (i + 1 < plan.flow->depth)
            vm_add_snapshot_disk(snapshots->pdata[i], disk->id, id);
        g_free(below);
        below = g_steal_pointer(&path);
    }
    g_strlcpy(disk->defined, below, sizeof disk->defined);
    g_strlcpy(disk->defined_durable, below, sizeof disk->defined_durable);
    g_ptr_array_add(model->disks, known);
}

void
make_files(void)
{
    g_autoptr(Vm) model = vm_new(vm.id, vm.texts.name);
    g_autoptr(GError) error = NULL;

    vfs_make(HOME, true);
    vfs_make("/sim/agent", true);
    vfs_make("/sim/manager", true);
    vfs_make(HOOKS, true);
    vfs_make(HOOKS "/livemerge-hook", false);
    vfs_make(HOOKS "/qemu.d", true);
    vfs_make(HOOKS "/qemu.d/livemerge", false);
    for (unsigned i = 0; i + 1 < plan.flow->depth; i++) {
        g_autofree char *id = g_strdup_printf("%08x-0000-4000-9000-000000000000", i + 1);
        g_autofree char *name = g_strdup_printf("s%u", i + 1);
        Snapshot *snapshot = snapshot_new(id, name, fiber_now_us() / 1000 + i);
        if (i > 0)
            snapshot->parent = g_strdup(((Snapshot *)model->snapshots->pdata[i - 1])->id);
        snapshot->config = g_strdup_printf("<domain>%u</domain>", i);
        g_ptr_array_add(model->snapshots, snapshot);
    }
    for (unsigned d = 0; d < vm.n_disks; d++)
        make_disk(d, model, model->snapshots);
    if (plan.flow->below > 0)
        other_make((unsigned)plan.flow->below - 1);
    Domain *domain = domain_open(HOME, "dom", &error);
    model->home = g_strdup(HOME);
    if (domain == NULL || !manifest_save(domain, model, &error))
        g_error("%s", error->message);
    domain_free(domain);
    flow_make_files();
}

void
make_vm(void)
{
    vm.runs = vm.paused = vm.starting = vm.in_hook = vm.user_paused = vm.libvirtd = false;
    for (unsigned i = 0; i < MAX_DISKS; i++) {
        SimDisk *disk = &vm.disks[i];
        graph_clear(disk);
        memset(&disk->job, 0, sizeof disk->job);
        disk->concluding = disk->live_is_read = disk->mirror_is_read = false;
        qemu_close_left(disk);
        disk->defined_us = 0;
        if (disk->defined_backing != NULL)
            g_ptr_array_unref(disk->defined_backing);
        disk->defined_backing = NULL;
        g_snprintf(disk->target, sizeof disk->target, "vd%c", 'a' + i);
        g_snprintf(disk->id, sizeof disk->id, "%08x-0000-4000-a000-000000000000", i);
    }
    g_strlcpy(vm.id, "12345678-1234-4234-8234-123456789abc", sizeof vm.id);
    memset(&vm.texts, 0, sizeof vm.texts);
    g_strlcpy(vm.texts.name, "web", sizeof vm.texts.name);
    vm.n_disks = plan.flow->disks;
    vm.clusters = 6;
    vm.wanted = !plan.flow->off;
    vm.there = true;
    vm.saving = vm.restored = false;
    memset(&vm.saved, 0, sizeof vm.saved);
    vm.lost = vm.found_again = false;
    vm.late_end_us = 0;
    vm.adds_nodes = vm.left_nodes = vm.passed_left = 0;
    vm.n_adds_below = vm.n_left_below = 0;
    vm.life = 0;
    vm.config = vm.config_durable = plan.flow->depth - 1;
    vm.texts_durable = vm.texts;
    vm.config_us = vm.texts_us = 0;
    vm.versions = 0;
}
