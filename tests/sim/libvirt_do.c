/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * What libvirt knows of a running VM, and the calls that change it but for its jobs: suspending it,
 * snapshots.
 */
#include "libvirt.h"

#include <string.h>

bool
libvirt_sees_vm(void)
{
    return vm.runs && !vm.lost;
}

bool
libvirt_needs_running(GError **error)
{
    return libvirt_sees_vm() || error_set(error, ERR_HYPERVISOR, "domain is not running");
}

void
libvirt_save_status(SimDisk *disk)
{
    View *from = &disk->live, *to = &disk->status;

    vm.left_nodes -= vm.passed_left;
    vm.passed_left = 0;

    if (to->backing != NULL)
        g_ptr_array_unref(to->backing);
    *to = *from;
    to->backing = libvirt_copy_backing(from->backing);
}

void
libvirt_show_graph(SimDisk *disk)
{
    View *view = &disk->live;

    g_strlcpy(view->source, ((Node *)disk->graph->pdata[0])->path, sizeof view->source);
    if (view->backing != NULL)
        g_ptr_array_unref(view->backing);
    view->backing = g_ptr_array_new_with_free_func(g_free);
    for (guint i = 1; i < disk->graph->len; i++)
        g_ptr_array_add(view->backing, g_strdup(((Node *)disk->graph->pdata[i])->path));
}

bool
libvirt_keeps_mirror(const SimDisk *disk)
{
    return strcmp(disk->live.mirror_ready, "pivot") == 0 ||
           strcmp(disk->live.mirror_ready, "abort") == 0;
}

void
libvirt_show_no_mirror(SimDisk *disk)
{
    *disk->live.mirror_job = *disk->live.mirror_path = *disk->live.mirror_ready = '\0';
}

/* What it takes for the chain stands below the overlay then, be it right or not: it does not ask.
 */
static void
show_overlay(SimDisk *disk, const char *overlay)
{
    View *view = &disk->live;

    g_ptr_array_insert(view->backing, 0, g_strdup(view->source));
    g_strlcpy(view->source, overlay, sizeof view->source);
}

/* On top of what the definition said before. */
static void
define_overlay(SimDisk *disk, const char *overlay)
{
    GPtrArray *backing = libvirt_copy_backing(disk->defined_backing);

    g_ptr_array_insert(backing, 0, g_strdup(disk->defined));
    libvirt_define(disk, overlay, backing);
}

static bool
do_suspend(Call *call, GError **error)
{
    unsigned life = vm.life;

    (void)call;
    if (!libvirt_needs_running(error))
        return false;
    if (plan.mutant != MUTANT_NO_SUSPEND && plan.mutant != MUTANT_TALK)
        qemu_suspend();
    if (!vm.runs || vm.life != life)
        return error_set(error, ERR_HYPERVISOR, "Unable to read from monitor");
    fiber_point("the VM is suspended");
    libvirt_send(HV_EVENT_DOMAIN, NULL, 0);
    return true;
}

static bool
op_suspend(Hypervisor *hv, const char *vm_id, GError **error)
{
    (void)vm_id;
    return libvirt_do((Client *)hv, "suspend", &(Call){ .func = do_suspend }, error);
}

static bool
do_resume(Call *call, GError **error)
{
    (void)call;
    if (!libvirt_needs_running(error))
        return false;
    if (vm.user_paused && vm.paused)
        world_wrong("a VM that its user had suspended was resumed");
    qemu_resume();
    fiber_point("the VM is resumed");
    libvirt_send(HV_EVENT_DOMAIN, NULL, 0);
    return true;
}

static bool
op_resume(Hypervisor *hv, const char *vm_id, GError **error)
{
    (void)vm_id;
    return libvirt_do((Client *)hv, "resume", &(Call){ .func = do_resume }, error);
}

/* Of a VM that is off only the definition changes. */
static bool
snapshot_off(const Call *call, GError **error)
{
    for (unsigned i = 0; i < call->n; i++)
        if (vfs_find(call->disks[i].overlay) == NULL)
            return error_set(error, ERR_HYPERVISOR, "missing existing file");
    for (unsigned i = 0; i < call->n; i++)
        libvirt_define(qemu_disk(call->disks[i].target), call->disks[i].overlay, NULL);
    vm.frozen_at_switch = vm.frozen; /* when it died */
    return true;
}

/* Of our own snapshot */
static void
note_switch(void)
{
    vm.frozen_at_switch = vm.frozen;
    for (unsigned i = 0; i < vm.n_disks; i++)
        memcpy(vm.disks[i].content[NEW_SNAPSHOT], vm.disks[i].acked, sizeof vm.disks[i].acked);
}

bool
libvirt_switch_disks(Call *call, GError **error)
{
    unsigned life = vm.life;
    bool defines[MAX_DISKS];

    fiber_point("libvirt asks QEMU before a snapshot");
    if (!vm.runs || vm.life != life)
        return error_set(error, ERR_HYPERVISOR, "Unable to read from monitor");
    for (unsigned i = 0; i < call->n; i++) {
        SimDisk *disk = qemu_disk(call->disks[i].target);
        if (disk == NULL || vfs_find(call->disks[i].overlay) == NULL)
            return error_set(error, ERR_HYPERVISOR, "missing existing file");
        if (libvirt_lost_end(disk))
            return error_set(error, ERR_BUSY, "disk already in active block job");
        if (disk->job.type != HV_JOB_NONE) { /* else QEMU refuses, and has waited for all before */
            if (!libvirt_knows_job(disk))
                qemu_wake_limited();
            return error_set(error, libvirt_knows_job(disk) ? ERR_BUSY : ERR_HYPERVISOR,
                             "disk already in active block job");
        }
        if (strcmp(((Node *)disk->graph->pdata[0])->path, disk->live.source) != 0)
            return error_set(error, ERR_HYPERVISOR, "Duplicate nodes");
    }
    if (!libvirt_add_nodes(1, error))
        return false;
    if (call->stranger && !stranger_fits(&vm.disks[0], call->disks[0].overlay))
        return error_set(error, ERR_BUSY, "disk already in active block job");
    if (!qemu_snapshot(call->disks, call->n))
        return error_set(error, ERR_HYPERVISOR, "the transaction failed");
    vm.adds_nodes = 0;
    if (call->stranger)
        stranger_switched(&vm.disks[0], call->disks[0].overlay);
    else
        note_switch();
    fiber_point("QEMU has switched to the overlays");
    if (!vm.runs || vm.life != life)
        return error_set(error, ERR_HYPERVISOR, "domain is not running");
    for (unsigned i = 0; i < call->n; i++) {
        SimDisk *disk = qemu_disk(call->disks[i].target);
        defines[i] = libvirt_names_leaf(disk);
        show_overlay(disk, call->disks[i].overlay);
        libvirt_save_status(disk);
    }
    fiber_point("libvirt saves the definition");
    for (unsigned i = 0; i < call->n; i++)
        if (defines[i])
            define_overlay(qemu_disk(call->disks[i].target), call->disks[i].overlay);
    fiber_point("libvirt has taken the snapshot"); /* and can be killed before it says so */
    return true;
}

void
libvirt_save_all_status(void)
{
    for (unsigned i = 0; i < vm.n_disks && libvirt_sees_vm(); i++)
        if (!vm.disks[i].concluding)
            libvirt_save_status(&vm.disks[i]);
}

static bool
do_snapshot(Call *call, GError **error)
{
    if (!libvirt_sees_vm())
        return call->memory == NULL
                   ? snapshot_off(call, error)
                   : error_set(error, ERR_HYPERVISOR, "memory cannot be saved while it is off");
    bool ok = call->memory != NULL ? libvirt_with_memory(call, libvirt_switch_disks, error)
                                   : libvirt_switch_disks(call, error);
    libvirt_save_all_status();
    return ok;
}

static bool
op_snapshot(Hypervisor *hv, const char *vm_id, const HvSnapshotDisk *disks, unsigned n,
            const char *memory, GError **error)
{
    HvSnapshotDisk *copy = g_new0(HvSnapshotDisk, n);
    unsigned kept = 0;

    (void)vm_id;
    for (unsigned i = 0; i < n; i++)
        if (disks[i].overlay != NULL)
            copy[kept++] =
                (HvSnapshotDisk){ g_strdup(disks[i].target), g_strdup(disks[i].overlay) };
    return libvirt_do(
        (Client *)hv, "snapshot",
        &(Call){ .func = do_snapshot, .disks = copy, .n = kept, .memory = g_strdup(memory) },
        error);
}

const HypervisorOps libvirt_doing = {
    .snapshot = op_snapshot,
    .freeze = libvirt_op_freeze,
    .thaw = libvirt_op_thaw,
    .commit_start = libvirt_op_commit_start,
    .copy_start = libvirt_op_copy_start,
    .job_set_bandwidth = libvirt_op_set_bandwidth,
    .job_cancel = libvirt_op_cancel,
    .job_pivot = libvirt_op_pivot,
    .flush = libvirt_op_flush,
    .relink = libvirt_op_relink,
    .suspend = op_suspend,
    .resume = op_resume,
    .start = libvirt_op_start,
    .restore = libvirt_op_restore,
    .power = libvirt_op_power,
    .clone = libvirt_op_clone,
    .undefine = libvirt_op_undefine,
    .redefine = libvirt_op_redefine,
    .reconfigure = libvirt_op_reconfigure,
    .rename = libvirt_op_rename,
    .describe = libvirt_op_describe,
};
