/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * What happens to the world: processes that are killed and come back, power, network.
 */
#include "world.h"

#include <string.h>

bool world_network;
bool world_cancel_wanted;

const char *const fault_words[FAULT_KINDS] = { "none",  "agent",    "manager", "qemu",   "libvirtd",
                                               "power", "shutdown", "network", "cancel", "daemon" };

static int64_t host_is_off_until_us;

void
faults_reset(void)
{
    world_network = true;
    world_cancel_wanted = false;
    host_is_off_until_us = 0;
}

/* ---- the agent and the manager ---- */

static void
agent_main(void *data)
{
    static const char *const names[] = { "dom", NULL }, *const paths[] = { HOME, NULL };
    const AgentOptions options = { .state_dir = "/sim/agent",
                                   .storage_names = names,
                                   .storage_paths = paths,
                                   .pivot_budget_ms = 1000,
                                   .quiesce_budget_s = 2 };
    g_autoptr(GError) error = NULL;

    (void)data;
    fiber_point("agent starts");
    Agent *agent = agent_new(&options, &error);
    if (agent == NULL) {
        world_wrong("the agent does not start: %s", error->message);
        return;
    }
    agent_attach(agent, libvirt_client_new(agent_on_hv_event, agent));
    world_agent = agent;
    world_trace("the agent runs");
}

void
agent_start(void)
{
    if (fibers_alive(P_AGENT) == 0 && fiber_now_us() >= host_is_off_until_us)
        fiber_start(P_AGENT, "agent", agent_main, NULL);
}

void
manager_start(void)
{
    if (fibers_alive(P_MANAGER) == 0)
        fiber_start(P_MANAGER, "flow", (FiberFunc)(void *)plan.flow->run, NULL);
}

/* ---- things that happen later ---- */

typedef struct {
    int64_t after_us;
    void (*func)(void);
} Later;

static void
later_main(void *data)
{
    Later *later = data;

    fiber_sleep_us(later->after_us);
    later->func();
    g_free(later);
}

void
world_later(int64_t after_us, const char *name, void (*func)(void))
{
    Later *l = g_new(Later, 1);

    *l = (Later){ after_us, func };
    fiber_start(P_WORLD, name, later_main, l);
}

/* ---- faults ---- */

static void
kill_agent(void)
{
    world_agent = NULL;
    libvirt_client_died();
    sqlite_process_died(P_AGENT);
    vfs_process_died(P_AGENT);
    wire_agent_died();
    fibers_kill(P_AGENT);
}

static void
kill_manager(void)
{
    sqlite_process_died(P_MANAGER);
    fibers_kill(P_MANAGER);
}

static void
libvirtd_restart(void)
{
    if (fibers_alive(P_LIBVIRTD) == 0 && fiber_now_us() >= host_is_off_until_us)
        libvirtd_start();
}

static void
network_back(void)
{
    world_network = true;
    world_calm_since_us = fiber_now_us() + 20 * G_TIME_SPAN_SECOND;
}

/* The dead are mourned last: whoever runs may be among them, and does not come back. */
static void
die_with(unsigned self, void (*func)(void), unsigned process)
{
    if (self != process)
        func();
}

static void
power_loss(unsigned self)
{
    host_is_off_until_us = fiber_now_us() + 3 * G_TIME_SPAN_SECOND;
    world_later(3 * G_TIME_SPAN_SECOND + (int64_t)fiber_below(2000000), "boot", libvirtd_restart);
    world_later(3 * G_TIME_SPAN_SECOND + (int64_t)fiber_below(6000000), "boot", agent_start);
    die_with(self, qemu_died, P_QEMU);
    die_with(self, kill_agent, P_AGENT);
    die_with(self, libvirtd_died, P_LIBVIRTD);
    die_with(self, daemon_died, P_DAEMON);
    vm.runs = false;
    /* the definition is one file, put in place by a rename: what is lost are the last changes of
     * it, of all disks */
    int64_t lost_us = (plan.lies & LIE_DEFINITION) != 0 && fiber_chance(70)
                          ? (int64_t)fiber_below(5 * G_TIME_SPAN_SECOND)
                          : 0;
    for (unsigned i = 0; i < vm.n_disks; i++)
        if (fiber_now_us() - vm.disks[i].defined_us < lost_us)
            g_strlcpy(vm.disks[i].defined, vm.disks[i].defined_durable, 256);
        else
            g_strlcpy(vm.disks[i].defined_durable, vm.disks[i].defined, 256);
    vfs_power_loss();
    if (self == P_QEMU) {
        vm.runs = true;
        qemu_died();
    } else if (self == P_AGENT) {
        kill_agent();
    } else if (self == P_LIBVIRTD) {
        libvirtd_died();
    } else if (self == P_DAEMON) {
        daemon_died();
    }
}

void
do_fault(FaultKind kind)
{
    unsigned self = fiber_process();

    world_trace("FAULT: %s", fault_words[kind]);
    switch (kind) {
    case FAULT_AGENT:
        if (world_agent == NULL && fibers_alive(P_AGENT) == 0)
            return;
        world_later(G_TIME_SPAN_SECOND, "systemd", agent_start);
        kill_agent();
        return;
    case FAULT_MANAGER:
        if (!plan.flow->manager || fibers_alive(P_MANAGER) == 0)
            return;
        world_later(G_TIME_SPAN_SECOND, "systemd", manager_start);
        kill_manager();
        return;
    case FAULT_QEMU:
    case FAULT_SHUTDOWN:
        qemu_died();
        return;
    case FAULT_LIBVIRTD:
        if (!vm.libvirtd)
            return;
        world_later(500000 + (int64_t)fiber_below(2000000), "systemd", libvirtd_restart);
        libvirtd_died();
        return;
    case FAULT_POWER:
        power_loss(self);
        return;
    case FAULT_NETWORK:
        world_network = false;
        world_later((int64_t)fiber_below(40 * G_TIME_SPAN_SECOND), "network", network_back);
        wire_cut();
        return;
    case FAULT_DAEMON:
        daemon_died();
        return;
    case FAULT_CANCEL:
        world_cancel_wanted = true;
        return;
    case FAULT_NONE:
    case FAULT_CLOCK:
    case FAULT_STORAGE:
    case FAULT_FULL:
    case FAULT_ALL:
    case FAULT_KINDS:
    default:
        return;
    }
}
