/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * What happens to the world: processes that are killed and come back, power, network.
 */
#include "world.h"

#include <errno.h>
#include <string.h>

bool world_network;
bool world_cancel_wanted;

const char *const fault_words[FAULT_KINDS] = {
    "none",   "agent",  "manager", "qemu",    "libvirtd", "power", "shutdown", "network",
    "cancel", "daemon", "clock",   "storage", "full",     "all",   "stranger"
};

static int64_t host_is_off_until_us;
static bool storage_away, storage_full, was_unwell;
static int storage_errno; /* while it is away; 0 = it hangs */

void
faults_reset(void)
{
    world_network = true;
    world_cancel_wanted = false;
    host_is_off_until_us = 0;
    storage_away = storage_full = was_unwell = false;
}

/* ---- the agent and the manager ---- */

static void kill_agent(void);

/* systemd tries again; without a fault there is no reason for it. */
static void
agent_failed(const char *why)
{
    if (world_is_calm() && storage_is_well() && fiber_now_us() > world_calm_since_us)
        world_wrong("the agent does not start: %s", why);
    world_trace("the agent does not start: %s", why);
    world_later(G_TIME_SPAN_SECOND, "systemd", agent_start);
    kill_agent();
}

static void
agent_main(void *data)
{
    static const char *const names[] = { "dom", NULL }, *const paths[] = { HOME, NULL };
    const AgentOptions options = { .state_dir = "/sim/agent",
                                   .storage_names = names,
                                   .storage_paths = paths,
                                   .pivot_budget_ms = 1000,
                                   .quiesce_budget_s = 2,
                                   .hooks_dir = HOOKS };
    g_autoptr(GError) error = NULL;

    (void)data;
    fiber_point("agent starts");
    Agent *agent = agent_new(&options, &error);
    if (agent == NULL) {
        agent_failed(error->message);
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

static bool
agent_can_die(void)
{
    return world_agent != NULL || fibers_alive(P_AGENT) > 0;
}

static bool
manager_can_die(void)
{
    return plan.flow->manager && fibers_alive(P_MANAGER) > 0;
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
    libvirt_is_not_heard();
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

static const struct {
    unsigned process;
    void (*kill)(void);
} parts[] = { { P_QEMU, qemu_died },
              { P_AGENT, kill_agent },
              { P_LIBVIRTD, libvirtd_died },
              { P_DAEMON, daemon_died },
              { P_MANAGER, kill_manager } };

/* All but this one, whose turn is last: whoever runs is dead then, and does not come back. */
static void
kill_others(unsigned self, bool manager)
{
    for (size_t i = 0; i < G_N_ELEMENTS(parts); i++)
        if (parts[i].process != self && (manager || parts[i].process != P_MANAGER))
            parts[i].kill();
}

static void
kill_self(unsigned self, bool manager)
{
    for (size_t i = 0; i < G_N_ELEMENTS(parts); i++) {
        if (parts[i].process != self || (self == P_MANAGER && !manager))
            continue;
        if (self == P_QEMU)
            vm.runs = true;
        parts[i].kill();
    }
}

static void
definition_lost(SimDisk *disk)
{
    g_strlcpy(disk->defined, disk->defined_durable, sizeof disk->defined);
    g_clear_pointer(&disk->defined_backing, g_ptr_array_unref);
    stranger_definition_lost(disk);
}

static void
lose_definitions(void)
{
    /* the definition is one file, put in place by a rename: what is lost are the last changes of
     * it, of all disks */
    int64_t lost_us = (plan.lies & LIE_DEFINITION) != 0 && fiber_chance(70)
                          ? (int64_t)fiber_below(5 * G_TIME_SPAN_SECOND)
                          : 0;
    for (unsigned i = 0; i < vm.n_disks; i++)
        if (fiber_now_us() - vm.disks[i].defined_us < lost_us)
            definition_lost(&vm.disks[i]);
        else
            g_strlcpy(vm.disks[i].defined_durable, vm.disks[i].defined, 256);
    if (fiber_now_us() - vm.config_us < lost_us)
        vm.config = vm.config_durable;
    else
        vm.config_durable = vm.config;
    if (fiber_now_us() - vm.texts_us < lost_us)
        vm.texts = vm.texts_durable;
    else
        vm.texts_durable = vm.texts;
}

static void
power_loss(bool manager)
{
    unsigned self = fiber_process();

    host_is_off_until_us = fiber_now_us() + 3 * G_TIME_SPAN_SECOND;
    world_later(3 * G_TIME_SPAN_SECOND + (int64_t)fiber_below(2000000), "boot", libvirtd_restart);
    world_later(3 * G_TIME_SPAN_SECOND + (int64_t)fiber_below(6000000), "boot", agent_start);
    if (manager)
        world_later(3 * G_TIME_SPAN_SECOND + (int64_t)fiber_below(6000000), "boot", manager_start);
    libvirt_forget_notes();
    kill_others(self, manager);
    vm.runs = false;
    lose_definitions();
    vfs_power_loss();
    kill_self(self, manager);
}

/* ---- the storage domain ---- */

int
storage_error(void)
{
    while (storage_away && storage_errno == 0 && fiber_inside())
        fiber_sleep_us(50000);
    return storage_away ? storage_errno : 0;
}

bool
storage_is_full(void)
{
    return storage_full;
}

bool
storage_is_well(void)
{
    return !storage_away && !storage_full;
}

bool
storage_was_unwell(void)
{
    return was_unwell;
}

static void
storage_back(void)
{
    world_trace("the storage is well again");
    storage_away = storage_full = false;
    world_calm_since_us = fiber_now_us() + 20 * G_TIME_SPAN_SECOND;
}

static void
storage_goes(bool full)
{
    static const int errors[] = { 0, EIO, ESTALE };

    if (!storage_is_well())
        return;
    was_unwell = true;
    storage_full = full;
    storage_away = !full;
    storage_errno = errors[fiber_below(G_N_ELEMENTS(errors))];
    if (storage_away)
        world_trace("it %s", storage_errno == 0 ? "hangs" : g_strerror(storage_errno));
    world_later((int64_t)fiber_below(40 * G_TIME_SPAN_SECOND), "storage", storage_back);
}

/* ---- clocks ---- */

/* Between milliseconds and weeks, ahead or back */
static void
clock_jumps(void)
{
    int64_t us = (int64_t)fiber_below(UINT64_C(1) << (12 + fiber_below(29)));

    if (fiber_chance(50))
        us = -us;
    world_trace("the wall clock jumps by %" G_GINT64_FORMAT " us", us);
    fiber_wall_jump(us);
}

FaultKind
fault_like(FaultKind kind)
{
    bool nothing = false;

    switch (kind) {
    case FAULT_SHUTDOWN:
        if (qemu_shutdown_is_death())
            kind = FAULT_QEMU;
        nothing = !vm.runs;
        break;
    case FAULT_QEMU:
        nothing = !vm.runs;
        break;
    case FAULT_AGENT:
        nothing = !agent_can_die();
        break;
    case FAULT_MANAGER:
        nothing = !manager_can_die();
        break;
    case FAULT_LIBVIRTD:
        nothing = !vm.libvirtd;
        break;
    case FAULT_DAEMON:
        nothing = !daemon_runs() && fibers_alive(P_DAEMON) == 0;
        break;
    case FAULT_STORAGE:
    case FAULT_FULL:
        nothing = !storage_is_well();
        break;
    case FAULT_POWER:
    case FAULT_ALL:
    case FAULT_NETWORK:
    case FAULT_CANCEL:
    case FAULT_CLOCK:
    case FAULT_NONE:
    case FAULT_KINDS:
    default:
        break;
    case FAULT_STRANGER:
        nothing = !vm.runs || !vm.libvirtd;
        break;
    }
    return nothing ? FAULT_NONE : kind;
}

void
do_fault(FaultKind kind)
{
    world_trace("FAULT: %s", fault_words[kind]);
    switch (kind) {
    case FAULT_AGENT:
        if (!agent_can_die())
            return;
        world_later(G_TIME_SPAN_SECOND, "systemd", agent_start);
        kill_agent();
        return;
    case FAULT_MANAGER:
        if (!manager_can_die())
            return;
        world_later(G_TIME_SPAN_SECOND, "systemd", manager_start);
        kill_manager();
        return;
    case FAULT_QEMU:
        qemu_died();
        return;
    case FAULT_SHUTDOWN:
        qemu_shut_down();
        return;
    case FAULT_LIBVIRTD:
        if (!vm.libvirtd)
            return;
        world_later(500000 + (int64_t)fiber_below(2000000), "systemd", libvirtd_restart);
        libvirtd_died();
        return;
    case FAULT_POWER:
    case FAULT_ALL:
        power_loss(kind == FAULT_ALL && plan.flow->manager);
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
        fiber_wake(&world_cancel_wanted, true);
        return;
    case FAULT_CLOCK:
        clock_jumps();
        return;
    case FAULT_STRANGER:
        stranger_comes();
        return;
    case FAULT_STORAGE:
    case FAULT_FULL:
        storage_goes(kind == FAULT_FULL);
        return;
    case FAULT_NONE:
    case FAULT_KINDS:
    default:
        return;
    }
}
