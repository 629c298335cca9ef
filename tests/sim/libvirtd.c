/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "libvirt.h"

/* ---- libvirtd's own life ---- */

/* The nodes of so many of them are in QEMU, the last one's perhaps not whole: then nothing has its
 * file open yet. */
static void
leave_below(unsigned nodes)
{
    unsigned n = MIN(nodes, vm.n_adds_below);

    if (n > 0 && fiber_chance(50))
        n--;
    for (unsigned i = 0; i < n && vm.n_left_below < MAX_BELOW; i++)
        vm.left_below[vm.n_left_below++] = vm.adds_below[i];
}

void
libvirtd_died(void)
{
    if (!vm.libvirtd)
        return;
    stranger_spare();
    vm.libvirtd = vm.starting = vm.in_hook = false;
    if (vm.adds_nodes > vm.left_nodes) {
        vm.left_nodes = 1 + (unsigned)fiber_below(vm.adds_nodes);
        leave_below(vm.left_nodes);
    }
    vm.adds_nodes = vm.passed_left = vm.n_adds_below = 0;
    vm.found_again = false;
    vm.late_end_us = 0;
    for (guint i = 0; i < libvirt_calls->len; i++) {
        Call *call = libvirt_calls->pdata[i];
        if (call->done)
            continue;
        call->done = true;
        error_set(&call->error, ERR_UNREACHABLE, "the connection to libvirt broke");
        fiber_wake(call, true);
    }
    for (unsigned i = 0; i < vm.n_disks; i++)
        vm.disks[i].job.cancel_is_known = false;
    libvirt_forget_notes();
    libvirt_broke();
    libvirt_is_not_heard();
    vfs_process_died(P_LIBVIRTD);
    fibers_kill(P_LIBVIRTD);
}

void
libvirtd_crashed(void)
{
    world_trace("libvirtd crashes");
    if (!plan.no_guest) /* somebody starts it again */
        world_later(2 * G_TIME_SPAN_SECOND, "systemd", libvirtd_start);
    libvirtd_died();
}

/* It comes back with what its status files say, and finds QEMU's jobs again a little later. */
static void
reconnect(void *data)
{
    (void)data;
    vm.lost = false;
    for (unsigned i = 0; i < vm.n_disks; i++) {
        SimDisk *disk = &vm.disks[i];
        View saved = disk->status;
        saved.backing = libvirt_copy_backing(disk->status.backing);
        if (disk->live.backing != NULL)
            g_ptr_array_unref(disk->live.backing);
        disk->live = saved;
        disk->live_is_read = disk->mirror_is_read = true;
        disk->concluding = disk->noting = false;
        disk->job.cancel_is_known = disk->live.job_aborts;
        if (disk->job.state == JOB_CONCLUDED && *disk->live.mirror_path != '\0') {
            *disk->live.mirror_job = '\0';
            if (fiber_chance(50)) /* and a little later */
                *disk->live.mirror_ready = '\0';
        }
        /* "unknown mirror job type ''": it does not load the domain */
        vm.lost |= vm.runs && *disk->status.mirror_path != '\0' && *disk->status.mirror_job == '\0';
        if (!vm.runs)
            libvirt_show_no_mirror(disk);
    }
    /* a save that it was killed in has failed; what is written of it stays, and looks like one */
    if (vm.saving && vm.runs && !vm.saved.paused)
        qemu_resume();
    vm.saving = false;
    vm.libvirtd = true;
    vm.found_again = libvirt_sees_vm();
    fiber_sleep_us(1000 + (int64_t)fiber_below(fiber_chance(30) ? 300000 : 30000));
    for (unsigned i = 0; i < vm.n_disks && libvirt_sees_vm(); i++) {
        SimDisk *disk = &vm.disks[i];
        if (disk->job.type == HV_JOB_NONE && !libvirt_keeps_mirror(disk))
            libvirt_show_no_mirror(disk);
        else if (disk->job.state == JOB_CONCLUDED)
            libvirt_conclude_job(disk);
        else if (disk->job.state == JOB_READY) {
            disk->live.job_is_new = false;
            disk->live.job_is_ready = true;
            if (*disk->live.mirror_path != '\0')
                g_strlcpy(disk->live.mirror_ready, "yes", sizeof disk->live.mirror_ready);
            if (fiber_chance(50)) /* if the client is back in time */
                libvirt_send(HV_EVENT_BLOCK_JOB, disk->target, HV_JOB_READY);
        }
    }
    vm.found_again = false;
}

void
libvirtd_start(void)
{
    if (!vm.libvirtd)
        fiber_start(P_LIBVIRTD, "reconnect", reconnect, NULL);
}

void
libvirt_reset(void)
{
    if (libvirt_calls == NULL)
        libvirt_calls = g_ptr_array_new();
    g_ptr_array_set_size(libvirt_calls, 0);
    libvirt_forget_notes();
    libvirt_client_died();
    stranger_reset();
}
