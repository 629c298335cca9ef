/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "world.h"

#include "qcow2/qcow2.h"
#include "storage/storage.h"

#include <stdio.h>
#include <string.h>

#define LONGEST_US (20 * 60 * G_TIME_SPAN_SECOND) /* of the whole schedule */
#define HELP_US (4 * 60 * G_TIME_SPAN_SECOND)     /* then the user power-cycles the VM */
#define CALM_US (10 * 60 * G_TIME_SPAN_SECOND)    /* without faults: all must have ended */

Schedule plan;
Agent *world_agent;
bool world_network;
bool world_cancel_wanted;

const char *const fault_words[FAULT_KINDS] = { "none",  "agent",    "manager", "qemu",   "libvirtd",
                                               "power", "shutdown", "network", "cancel", "daemon" };
const char *const mutant_words[MUTANTS] = { "none",         "no-suspend", "late-journal",
                                            "no-tombstone", "no-load",    "blind-delete",
                                            "alone" };

static char *wrong;
static bool finished; /* the flow has */
static unsigned next_fault;
static int64_t calm_since_us;
static uint64_t first_point, last_point; /* of the flow */
static bool counting;                    /* the set-up is over */
static int64_t host_is_off_until_us;

/* ---- what went wrong, and the trace ---- */

void
world_trace(const char *format, ...)
{
    va_list args;

    if (!plan.trace)
        return;
    va_start(args, format);
    g_autofree char *text = g_strdup_vprintf(format, args);
    va_end(args);
    printf("%12.6f %6" G_GUINT64_FORMAT " %-14s %s\n",
           (double)(fiber_now_us() % (100000 * G_TIME_SPAN_SECOND)) / 1e6,
           fiber_points() - first_point, fiber_inside() ? fiber_name() : "-", text);
}

void
world_wrong(const char *format, ...)
{
    va_list args;

    va_start(args, format);
    g_autofree char *text = g_strdup_vprintf(format, args);
    va_end(args);
    world_trace("WRONG: %s", text);
    if (wrong == NULL)
        wrong = g_steal_pointer(&text);
}

bool
world_is_wrong(void)
{
    return wrong != NULL;
}

bool
world_lies(unsigned lie, unsigned percent)
{
    return (plan.lies & lie) != 0 && counting && !world_is_calm() &&
           fiber_chance((plan.lies & LIE_OFTEN) != 0 ? MIN(5 * percent, 60) : percent);
}

bool
world_is_calm(void)
{
    return finished ||
           (world_network && next_fault >= plan.n_faults && fiber_now_us() > calm_since_us);
}

void
world_done(void)
{
    world_trace("the flow has ended");
    if (!finished)
        last_point = fiber_points() - first_point;
    finished = true;
}

/* ---- the agent ---- */

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

static void
agent_start(void)
{
    if (fibers_alive(P_AGENT) == 0 && fiber_now_us() >= host_is_off_until_us)
        fiber_start(P_AGENT, "agent", agent_main, NULL);
}

static void
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

static void
later(int64_t after_us, const char *name, void (*func)(void))
{
    Later *l = g_new(Later, 1);

    *l = (Later){ after_us, func };
    fiber_start(P_WORLD, name, later_main, l);
}

/* ---- the user of the VM ---- */

static void
user(void *data)
{
    (void)data;
    for (;;) {
        char why[128] = "";
        fiber_sleep_us(200000 + (int64_t)fiber_below(3000000));
        if (!vm.wanted || vm.runs || !vm.libvirtd)
            continue;
        if (fiber_chance(50))
            fiber_sleep_us((int64_t)fiber_below(15 * G_TIME_SPAN_SECOND));
        bool ok = libvirt_start_vm(why);
        world_trace("the user starts the VM: %s", ok ? "it runs" : why);
    }
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
    calm_since_us = fiber_now_us() + 20 * G_TIME_SPAN_SECOND;
}

/* The dead are mourned last: whoever runs may be among them, and does not come back. */
static void
die_with(unsigned self, void (*func)(void), unsigned process)
{
    if (self != process)
        func();
}

static void
definition_lost(SimDisk *disk)
{
    g_strlcpy(disk->defined, disk->defined_durable, sizeof disk->defined);
    g_clear_pointer(&disk->defined_backing, g_ptr_array_unref);
}

static void
power_loss(unsigned self)
{
    host_is_off_until_us = fiber_now_us() + 3 * G_TIME_SPAN_SECOND;
    later(3 * G_TIME_SPAN_SECOND + (int64_t)fiber_below(2000000), "boot", libvirtd_restart);
    later(3 * G_TIME_SPAN_SECOND + (int64_t)fiber_below(6000000), "boot", agent_start);
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
            definition_lost(&vm.disks[i]);
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

static void
do_fault(FaultKind kind)
{
    unsigned self = fiber_process();

    world_trace("FAULT: %s", fault_words[kind]);
    switch (kind) {
    case FAULT_AGENT:
        if (world_agent == NULL && fibers_alive(P_AGENT) == 0)
            return;
        later(G_TIME_SPAN_SECOND, "systemd", agent_start);
        kill_agent();
        return;
    case FAULT_MANAGER:
        if (!plan.flow->manager || fibers_alive(P_MANAGER) == 0)
            return;
        later(G_TIME_SPAN_SECOND, "systemd", manager_start);
        kill_manager();
        return;
    case FAULT_QEMU:
    case FAULT_SHUTDOWN:
        qemu_died();
        return;
    case FAULT_LIBVIRTD:
        if (!vm.libvirtd)
            return;
        later(500000 + (int64_t)fiber_below(2000000), "systemd", libvirtd_restart);
        libvirtd_died();
        return;
    case FAULT_POWER:
        power_loss(self);
        return;
    case FAULT_NETWORK:
        world_network = false;
        later((int64_t)fiber_below(40 * G_TIME_SPAN_SECOND), "network", network_back);
        wire_cut();
        return;
    case FAULT_DAEMON:
        daemon_died();
        return;
    case FAULT_CANCEL:
        world_cancel_wanted = true;
        return;
    case FAULT_NONE:
    case FAULT_KINDS:
    default:
        return;
    }
}

static void
on_point(const char *name, void *data)
{
    (void)data;
    if (!counting)
        return;
    if (plan.trace)
        world_trace("%s", name);
    check_guest_data();
    while (next_fault < plan.n_faults &&
           fiber_points() - first_point >= plan.faults[next_fault].at) {
        FaultKind kind = plan.faults[next_fault++].kind;
        calm_since_us = fiber_now_us() + 20 * G_TIME_SPAN_SECOND;
        do_fault(kind);
    }
}

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
            if (fiber_chance(i == 0 ? 70 : 40)) {
                disk->acked[k] = ++vm.versions;
                image_put(&image, k, vm.versions);
            }
        }
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

static void
make_files(void)
{
    g_autoptr(Vm) model = vm_new(vm.id, vm.name);
    g_autoptr(GError) error = NULL;

    vfs_make(HOME, true);
    vfs_make("/sim/agent", true);
    vfs_make("/sim/manager", true);
    for (unsigned i = 0; i + 1 < plan.flow->depth; i++) {
        g_autofree char *id = g_strdup_printf("%08x-0000-4000-9000-000000000000", i + 1);
        g_autofree char *name = g_strdup_printf("s%u", i + 1);
        Snapshot *snapshot = snapshot_new(id, name, fiber_now_us() / 1000 + i);
        if (i > 0)
            snapshot->parent = g_strdup(((Snapshot *)model->snapshots->pdata[i - 1])->id);
        snapshot->config = g_strdup("<domain/>");
        g_ptr_array_add(model->snapshots, snapshot);
    }
    for (unsigned d = 0; d < vm.n_disks; d++)
        make_disk(d, model, model->snapshots);
    Domain *domain = domain_open(HOME, "dom", &error);
    model->home = g_strdup(HOME);
    if (domain == NULL || !manifest_save(domain, model, &error))
        g_error("%s", error->message);
    domain_free(domain);
}

static void
make_vm(void)
{
    for (unsigned i = 0; i < MAX_DISKS; i++) {
        SimDisk *disk = &vm.disks[i];
        graph_clear(disk);
        memset(&disk->job, 0, sizeof disk->job);
        disk->concluding = false;
        disk->defined_us = 0;
        if (disk->defined_backing != NULL)
            g_ptr_array_unref(disk->defined_backing);
        disk->defined_backing = NULL;
        g_snprintf(disk->target, sizeof disk->target, "vd%c", 'a' + i);
        g_snprintf(disk->id, sizeof disk->id, "%08x-0000-4000-a000-000000000000", i);
    }
    g_strlcpy(vm.id, "12345678-1234-4234-8234-123456789abc", sizeof vm.id);
    g_strlcpy(vm.name, "web", sizeof vm.name);
    vm.n_disks = plan.flow->disks;
    vm.clusters = 6;
    vm.runs = vm.paused = vm.starting = vm.in_hook = vm.user_paused = vm.libvirtd = false;
    vm.wanted = !plan.flow->off;
    vm.lost = vm.adds_nodes = vm.left_nodes = false;
    vm.life = 0;
    vm.versions = 0;
}

static bool
is_up(void)
{
    return vm.libvirtd && world_agent != NULL && world_agent->loaded && (plan.flow->off || vm.runs);
}

static bool
set_up(void)
{
    char why[128] = "";

    vfs_reset();
    vfs_on_name_gone = NULL;
    vfs_can_share = plan.flow->can_share;
    vfs_removals_last = !plan.strict;
    sqlite_reset();
    libvirt_reset();
    daemon_reset();
    wire_reset();
    check_reset();
    mutants_reset();
    world_cancel_wanted = false;
    make_vm();
    make_files();
    if (!plan.flow->off && !qemu_start(why))
        g_error("%s", why);
    for (unsigned i = 0; vm.runs && i < vm.n_disks; i++) {
        SimDisk *disk = &vm.disks[i];
        GPtrArray *backing = g_ptr_array_new_with_free_func(g_free);
        memset(&disk->live, 0, sizeof disk->live);
        memset(&disk->status, 0, sizeof disk->status);
        g_strlcpy(disk->live.source, disk->defined, sizeof disk->live.source);
        for (guint k = 1; k < disk->graph->len; k++)
            g_ptr_array_add(backing, g_strdup(((Node *)disk->graph->pdata[k])->path));
        disk->live.backing = backing;
        disk->status = disk->live;
        disk->status.backing = g_ptr_array_ref(backing);
    }
    vm.libvirtd = true;
    world_network = true;
    agent_start();
    int64_t until = fiber_now_us() + 20 * G_TIME_SPAN_SECOND;
    while (!is_up() && fiber_now_us() < until)
        fibers_run(fiber_now_us() + 20000);
    return is_up();
}

/* ---- one schedule ---- */

/* What libvirtd has lost for ever is found again when the VM starts. */
static void
power_off(void)
{
    world_trace("the user powers the VM off");
    qemu_died();
}

/* Nothing else happens: all that was begun must come to its end. */
static void
run_to_the_end(void)
{
    int64_t began = fiber_now_us(), until = began + LONGEST_US;
    int64_t settled = 0;
    bool helped = false;

    while (wrong == NULL && fiber_now_us() < until) {
        fibers_run(fiber_now_us() + 100000);
        if (next_fault < plan.n_faults && finished)
            next_fault = plan.n_faults;
        if (!finished) {
            if (!helped && world_is_calm() && fiber_now_us() - calm_since_us > HELP_US) {
                helped = true;
                later(0, "user", power_off);
            }
            if (world_is_calm() && fiber_now_us() - calm_since_us > CALM_US)
                break;
            continue;
        }
        vm.wanted = true;
        if (settled == 0)
            settled = fiber_now_us();
        if (vm.runs && world_agent != NULL && fiber_now_us() - settled > 15 * G_TIME_SPAN_SECOND)
            return;
        if (fiber_now_us() - settled > CALM_US)
            break;
    }
    if (wrong == NULL) {
        g_autofree char *state = fibers_state();
        world_wrong("%s within %d minutes:\n%s",
                    finished ? "the VM could not be started" : "the flow did not end",
                    (int)(CALM_US / G_TIME_SPAN_SECOND / 60), state);
    }
}

char *
world_run(const Schedule *what, uint64_t *ret_points, uint64_t *ret_hash)
{
    plan = *what;
    g_clear_pointer(&wrong, g_free);
    finished = counting = false;
    next_fault = 0;
    last_point = 0;
    host_is_off_until_us = 0;
    world_agent = NULL;
    fibers_reset(plan.seed);
    fiber_on_point = on_point;
    if (!set_up()) {
        world_wrong("the world does not come up");
    } else {
        counting = true;
        first_point = fiber_points();
        calm_since_us = fiber_now_us() + 20 * G_TIME_SPAN_SECOND;
        vfs_on_name_gone = check_name_gone;
        fiber_start(P_WORLD, "user", user, NULL);
        manager_start();
        run_to_the_end();
        *ret_points = last_point;
        if (wrong == NULL)
            check_end();
    }
    *ret_hash = fiber_hash();
    counting = false;
    vfs_on_name_gone = NULL;
    return g_steal_pointer(&wrong);
}
