/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * A VM is started and stopped. Saved memory knows the leaves of that day, whatever the definition
 * says since: libvirt starts from it, and from no other.
 */
#include "libvirt.h"
#include "lines.h"

#include "hook/hook.h"

#include <string.h>

static void
flush_all(void)
{
    for (unsigned i = 0; i < vm.n_disks; i++)
        image_flush(&((Node *)vm.disks[i].graph->pdata[0])->image);
}

/* ---- starting ---- */

static bool
ask_the_hook(bool restored, char *ret_why)
{
    g_autoptr(GPtrArray) disks = g_ptr_array_new_with_free_func((GDestroyNotify)hv_disk_free);
    g_autofree char *path = g_strdup_printf("/v1/vms/%s/starting", vm.id);
    g_autoptr(GError) error = NULL;
    g_autofree char *refusal = NULL;

    for (unsigned i = 0; i < vm.n_disks; i++)
        g_ptr_array_add(disks, libvirt_starting_disk(&vm.disks[i], restored));
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

/* What a libvirtd that was killed has half written is noticed, and removed. */
static void
drop_half_saved(void)
{
    if (vm.saved.there && vm.saved.half)
        vm.saved.there = false;
}

static void
show_start(void)
{
    for (unsigned i = 0; i < vm.n_disks; i++) {
        libvirt_show_no_mirror(&vm.disks[i]);
        libvirt_show_graph(&vm.disks[i]);
        vm.disks[i].live_is_read = false;
        libvirt_save_status(&vm.disks[i]);
    }
    libvirt_send(HV_EVENT_DOMAIN, NULL, 0);
}

/* It hears twice of a QEMU that dies while it finds it again: what asked QEMU fails and takes the
 * VM for off, and the end of the monitor's connection waits for that. A start can be faster: then
 * its QEMU is the one that is stopped, before the guest runs. */
static bool
is_stopped_for_the_last(void)
{
    if (fiber_now_us() >= vm.late_end_us || !fiber_chance(25))
        return false;
    qemu_died();
    vm.late_end_us = 0;
    return true;
}

bool
libvirt_start_on(const Call *call, const char *const *sources, GError **error)
{
    char why[128] = "";

    if (!vm.there)
        return error_set(error, ERR_NOT_FOUND, "no domain %s", vm.id);
    if (libvirt_sees_vm() || vm.starting)
        return error_set(error, ERR_HYPERVISOR, "domain is already running");
    if (vm.lost) /* QEMU locks its images */
        return error_set(error, ERR_HYPERVISOR, "Failed to get \"write\" lock");
    vm.starting = vm.in_hook = true;
    qemu_take_leaves(sources);
    fiber_point("libvirt asks its hook");
    bool ok = ask_the_hook(sources != NULL, why);
    vm.in_hook = false;
    if (!ok) {
        vm.starting = false;
        return error_set(error, ERR_HYPERVISOR, "Hook script execution failed: %s", why);
    }
    lines_hook_passed();
    fiber_point("libvirt starts QEMU");
    ok = qemu_start(sources != NULL, why);
    vm.starting = false;
    if (!ok)
        return error_set(error, ERR_HYPERVISOR, "%s", why);
    if (is_stopped_for_the_last())
        return error_set(error, ERR_HYPERVISOR, "domain is no longer running");
    vm.paused = vm.user_paused = call->paused;
    vm.restored = sources != NULL;
    show_start();
    return true;
}

static bool
do_start(Call *call, GError **error)
{
    const char *sources[MAX_DISKS] = { NULL };

    drop_half_saved();
    bool saved = vm.saved.there;
    for (unsigned i = 0; i < vm.n_disks; i++)
        sources[i] = vm.saved.sources[i];
    if (!libvirt_start_on(call, saved ? sources : NULL, error))
        return false;
    vm.paused = vm.user_paused = call->paused || (saved && vm.saved.paused);
    vm.saved.there = false;
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

bool
libvirt_op_start(Hypervisor *hv, const char *vm_id, bool paused, GError **error)
{
    g_autoptr(GError) why = NULL;

    (void)vm_id;
    if (libvirt_do((Client *)hv, "start", &(Call){ .func = do_start, .paused = paused }, &why))
        return true;
    if (vm.libvirtd && libvirt_sees_vm())
        return true; /* as power.c: somebody else was faster */
    g_propagate_error(error, g_steal_pointer(&why));
    return false;
}

/* ---- stopping ---- */

static bool
power_off(void)
{
    check_note_off();
    qemu_died();
    libvirt_send(HV_EVENT_DOMAIN, NULL, 0);
    return true;
}

/* The guest ends what it does, which takes a while, and powers off. */
static void
shut_down(void *data)
{
    (void)data;
    fiber_sleep_us((int64_t)fiber_below(3 * G_TIME_SPAN_SECOND));
    fiber_point("the guest powers off");
    if (vm.paused || plan.no_guest)
        return;
    qemu_suspend();
    flush_all();
    qemu_died();
}

static bool
shutdown_asked(GError **error)
{
    if (vm.paused)
        return error_set(error, ERR_HYPERVISOR, "domain is not running");
    fiber_start(P_QEMU, "shutdown", shut_down, NULL);
    return true;
}

/* ---- saving ---- */

bool
libvirt_has_job(void)
{
    for (unsigned i = 0; i < vm.n_disks; i++)
        if (vm.disks[i].job.type != HV_JOB_NONE || vm.disks[i].concluding)
            return true;
    return false;
}

/* It is still the QEMU whose memory is written. */
static bool
save_point(const char *what, unsigned life, GError **error)
{
    fiber_point(what);
    if (vm.runs && vm.life == life)
        return true;
    vm.saving = vm.saved.there = false;
    return error_set(error, ERR_HYPERVISOR, "domain is not running");
}

static bool
save(GError **error)
{
    unsigned life = vm.life;

    if (libvirt_has_job())
        return error_set(error, ERR_BUSY, "domain has active block job");
    if (vm.saving)
        return error_set(error, ERR_BUSY, "another job holds the domain");
    vm.saving = true;
    vm.saved = (SavedMemory){ .there = true, .half = true, .paused = vm.paused };
    for (unsigned i = 0; i < vm.n_disks; i++)
        g_strlcpy(vm.saved.sources[i], vm.disks[i].live.source, sizeof vm.saved.sources[i]);
    qemu_suspend();
    libvirt_send(HV_EVENT_DOMAIN, NULL, 0);
    if (!save_point("libvirt saves the memory", life, error))
        return false;
    fiber_sleep_us((int64_t)fiber_below(500000));
    flush_all();
    vm.saved.half = false;
    if (!save_point("libvirt has saved the memory", life, error))
        return false;
    vm.saving = false;
    qemu_died();
    libvirt_send(HV_EVENT_DOMAIN, NULL, 0);
    return true;
}

static bool
forget(GError **error)
{
    if (!vm.saved.there)
        return error_set(error, ERR_HYPERVISOR, "Failed to remove managed save file");
    vm.saved.there = false;
    return true;
}

/* ---- what a user asks for ---- */

static bool
do_power(Call *call, GError **error)
{
    if (call->how != HV_POWER_FORGET && !libvirt_needs_running(error))
        return false;
    switch (call->how) {
    case HV_POWER_OFF:
        return power_off();
    case HV_POWER_SHUTDOWN:
        return shutdown_asked(error);
    case HV_POWER_SAVE:
        return save(error);
    case HV_POWER_FORGET:
        return forget(error);
    case HV_POWER_REBOOT: /* the same QEMU; for its disks nothing has happened */
    case HV_POWER_RESET:
    default:
        vm.resets++;
        vm.frozen = false;
        libvirt_send(HV_EVENT_REBOOT, NULL, 0);
        return true;
    }
}

bool
libvirt_op_power(Hypervisor *hv, const char *vm_id, HvPower how, GError **error)
{
    static const char *const words[] = {
        [HV_POWER_OFF] = "power off", [HV_POWER_SHUTDOWN] = "shut down",
        [HV_POWER_REBOOT] = "reboot", [HV_POWER_RESET] = "reset",
        [HV_POWER_SAVE] = "save",     [HV_POWER_FORGET] = "forget saved memory"
    };

    (void)vm_id;
    return libvirt_do((Client *)hv, words[how],
                      &(Call){ .func = do_power, .how = how, .beside = how == HV_POWER_OFF },
                      error);
}
