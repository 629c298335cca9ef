/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * The guest's agent behind libvirt: freezing and thawing file systems. Only some flows have one.
 */
#include "libvirt.h"

void
libvirt_is_not_heard(void)
{
    if (!vm.guest_agent || !vm.runs || vm.paused || !fiber_chance(30))
        return;
    world_trace("the guest reboots, and nobody hears of it");
    vm.reboots++;
    vm.frozen = false;
}

static bool
agent_answers(GError **error)
{
    if (!libvirt_needs_running(error))
        return false;
    if (!vm.guest_agent)
        return error_set(error, ERR_HYPERVISOR, "there is no guest agent");
    return !vm.paused ||
           error_set(error, ERR_HYPERVISOR,
                     "Guest agent is not responding: Guest agent not available for now");
}

/* libvirtd may die before and after the guest has done it. */
static bool
do_guest(Call *call, bool freeze, const char *name, GError **error)
{
    unsigned life = vm.life;

    (void)call;
    if (!agent_answers(error))
        return false;
    if (freeze && vm.frozen)
        return error_set(error, ERR_HYPERVISOR,
                         "unable to execute QEMU agent command 'guest-fsfreeze-freeze': the agent "
                         "is in frozen state");
    fiber_point(name);
    if (!vm.runs || vm.life != life || vm.paused)
        return error_set(error, ERR_HYPERVISOR, "Guest agent disappeared while executing command");
    qemu_freeze(freeze);
    world_trace("the guest's file systems are %s", freeze ? "frozen" : "thawed");
    return true;
}

static bool
do_freeze(Call *call, GError **error)
{
    return do_guest(call, true, "the guest is about to freeze", error);
}

static bool
do_thaw(Call *call, GError **error)
{
    return do_guest(call, false, "the guest is about to thaw", error);
}

static bool
ask_guest(Hypervisor *hv, const char *what, const Call *call, GError **error)
{
    g_autoptr(GError) problem = NULL; /* who thaws may not care */

    if (!vm.guest_agent)
        return error_set(error, ERR_HYPERVISOR, "there is no guest agent");
    if (libvirt_do((Client *)hv, what, call, &problem))
        return true;
    g_propagate_error(error, g_steal_pointer(&problem));
    return false;
}

bool
libvirt_op_freeze(Hypervisor *hv, const char *vm_id, unsigned budget_s, GError **error)
{
    (void)vm_id;
    (void)budget_s;
    return ask_guest(hv, "freeze", &(Call){ .func = do_freeze, .beside = true }, error);
}

bool
libvirt_op_thaw(Hypervisor *hv, const char *vm_id, unsigned budget_s, GError **error)
{
    (void)vm_id;
    (void)budget_s;
    return ask_guest(hv, "thaw", &(Call){ .func = do_thaw, .beside = true }, error);
}
