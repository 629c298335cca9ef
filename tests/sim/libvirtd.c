/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "libvirt.h"

#include "hook/hook.h"

/* ---- starting the VM ---- */

static bool
ask_the_hook(char *ret_why)
{
    g_autoptr(GPtrArray) disks = g_ptr_array_new_with_free_func((GDestroyNotify)hv_disk_free);
    g_autofree char *path = g_strdup_printf("/v1/vms/%s/starting", vm.id);
    g_autoptr(GError) error = NULL;
    g_autofree char *refusal = NULL;

    for (unsigned i = 0; i < vm.n_disks; i++)
        g_ptr_array_add(disks, libvirt_defined_disk(&vm.disks[i]));
    g_autoptr(json_t) question = hook_question(disks);
    if (wire_ask("POST", path, "", question, 10 * G_TIME_SPAN_SECOND, NULL, &error))
        return true;
    if (g_error_matches(error, ERR, ERR_REFUSED))
        refusal = g_strdup(error->message);
    else
        refusal = hook_judge(vm.id, question, NULL);
    if (refusal == NULL)
        return true;
    g_strlcpy(ret_why, refusal, 128);
    return false;
}

static bool
do_start(Call *call, GError **error)
{
    char why[128] = "";

    (void)call;
    if (libvirt_sees_vm() || vm.starting)
        return error_set(error, ERR_BUSY, "domain is already running");
    if (vm.lost) /* QEMU locks its images */
        return error_set(error, ERR_HYPERVISOR, "Failed to get \"write\" lock");
    vm.starting = vm.in_hook = true;
    fiber_point("libvirt asks its hook");
    bool ok = ask_the_hook(why);
    vm.in_hook = false;
    if (!ok) {
        vm.starting = false;
        return error_set(error, ERR_REFUSED, "%s", why);
    }
    fiber_point("libvirt starts QEMU");
    ok = qemu_start(why);
    vm.starting = false;
    if (!ok)
        return error_set(error, ERR_HYPERVISOR, "%s", why);
    for (unsigned i = 0; i < vm.n_disks; i++) {
        libvirt_show_no_mirror(&vm.disks[i]);
        libvirt_show_graph(&vm.disks[i]);
        vm.disks[i].live_is_read = false;
        libvirt_save_status(&vm.disks[i]);
    }
    libvirt_send(HV_EVENT_DOMAIN, NULL, 0);
    return true;
}

bool
libvirt_start_vm(char *ret_why)
{
    if (!vm.libvirtd) {
        g_strlcpy(ret_why, "libvirtd does not run", 128);
        return false;
    }
    Call *call = g_new0(Call, 1);
    call->func = do_start;
    g_ptr_array_add(libvirt_calls, call);
    fiber_start(P_LIBVIRTD, "start", libvirt_run_call, call);
    while (!call->done)
        fiber_wait_on(call, -1);
    if (call->error != NULL)
        g_strlcpy(ret_why, call->error->message, 128);
    return call->ok;
}

/* ---- libvirtd's own life ---- */

void
libvirtd_died(void)
{
    if (!vm.libvirtd)
        return;
    vm.libvirtd = vm.starting = vm.in_hook = false;
    vm.left_nodes |= vm.adds_nodes;
    vm.adds_nodes = false;
    for (guint i = 0; i < libvirt_calls->len; i++) {
        Call *call = libvirt_calls->pdata[i];
        if (call->done)
            continue;
        call->done = true;
        error_set(&call->error, ERR_UNREACHABLE, "the connection to libvirt broke");
        fiber_wake(call, true);
    }
    libvirt_broke();
    vfs_process_died(P_LIBVIRTD);
    fibers_kill(P_LIBVIRTD);
}

/* It comes back with what its status files say, and finds QEMU's jobs again a little later. */
static void
reconnect(void *data)
{
    (void)data;
    for (unsigned i = 0; i < vm.n_disks; i++) {
        SimDisk *disk = &vm.disks[i];
        View saved = disk->status;
        saved.backing = libvirt_copy_backing(disk->status.backing);
        if (disk->live.backing != NULL)
            g_ptr_array_unref(disk->live.backing);
        disk->live = saved;
        disk->live_is_read = disk->mirror_is_read = true;
        disk->concluding = false;
        if (disk->job.state == JOB_CONCLUDED && *disk->live.mirror_path != '\0')
            *disk->live.mirror_job = '\0';
        /* "unknown mirror job type ''": it does not load the domain */
        vm.lost |= vm.runs && *disk->status.mirror_path != '\0' && *disk->status.mirror_job == '\0';
        if (!vm.runs)
            libvirt_show_no_mirror(disk);
    }
    vm.libvirtd = true;
    fiber_sleep_us(1000 + (int64_t)fiber_below(fiber_chance(30) ? 300000 : 30000));
    for (unsigned i = 0; i < vm.n_disks && libvirt_sees_vm(); i++) {
        SimDisk *disk = &vm.disks[i];
        /* a pivot of which it has forgotten the end is shown for ever */
        if (disk->job.type == HV_JOB_NONE && strcmp(disk->live.mirror_ready, "pivot") != 0)
            libvirt_show_no_mirror(disk);
        else if (disk->job.state == JOB_CONCLUDED)
            libvirt_conclude_job(disk);
        else if (disk->job.state == JOB_READY && *disk->live.mirror_path != '\0') {
            g_strlcpy(disk->live.mirror_ready, "yes", sizeof disk->live.mirror_ready);
            if (fiber_chance(50)) /* if the client is back in time */
                libvirt_send(HV_EVENT_BLOCK_JOB, disk->target, HV_JOB_READY);
        }
    }
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
    libvirt_client_died();
}
