/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "lines.h"

#include <stdio.h>
#include <string.h>

#define LONGEST_US (20 * 60 * G_TIME_SPAN_SECOND) /* of the whole schedule */
#define HELP_US (4 * 60 * G_TIME_SPAN_SECOND)     /* then the user power-cycles the VM */
#define CALM_US (10 * 60 * G_TIME_SPAN_SECOND)    /* without faults: all must have ended */
#define SETTLE_US (15 * G_TIME_SPAN_SECOND)       /* after the flow */
#define SLICE_US 100000
#define MOST_POINTS 20000 /* more is somebody who tries again and again without a pause */

Schedule plan;
Agent *world_agent;
int64_t world_calm_since_us;

static char *wrong;
static bool finished; /* the flow has */
static unsigned next_fault;
static uint64_t first_point, last_point; /* of the flow */
static bool counting;                    /* the set-up is over */
static bool helped;                      /* by the user, once */
static int64_t began_us, settled_us;     /* settled: 0 = not yet */
static WorldVisit visit;                 /* before points */

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
           (double)(fiber_now_us() % (100000 * G_TIME_SPAN_SECOND)) / 1e6, world_point(),
           fiber_inside() ? fiber_name() : "-", text);
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
    /* before the first fault all is as without faults: schedules branch off from there */
    bool none_under_way = next_fault == 0 || next_fault >= plan.n_faults;

    return finished || (world_network && storage_is_well() && none_under_way &&
                        fiber_now_us() > world_calm_since_us);
}

bool
world_is_untouched(void)
{
    return next_fault == 0 && plan.lies == 0;
}

bool
world_is_hit(void)
{
    return next_fault > 0 && next_fault >= plan.n_faults;
}

bool
world_was_hit_by(FaultKind kind)
{
    for (unsigned i = 0; i < next_fault && i < plan.n_faults; i++)
        if (plan.faults[i].kind == kind)
            return true;
    return false;
}

void
world_done(void)
{
    world_trace("the flow has ended");
    if (!finished)
        last_point = world_point();
    finished = true;
}

uint64_t
world_point(void)
{
    return fiber_points() - first_point;
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

/* What libvirtd has lost for ever is found again when the VM starts. */
static void
power_off(void)
{
    world_trace("the user powers the VM off");
    qemu_died();
}

/* ---- points ---- */

/* The only one, and it meets nobody: then the schedule is one without faults. */
static bool
is_no_fault(FaultKind kind)
{
    return plan.n_faults == 1 && plan.salt == 0 && fault_like(kind) == FAULT_NONE;
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
    if (world_point() > MOST_POINTS)
        world_wrong("more than %d points: somebody spins", MOST_POINTS);
    if (visit != NULL && !finished)
        fiber_pause(visit);
    while (next_fault < plan.n_faults && world_point() >= plan.faults[next_fault].at) {
        FaultKind kind = plan.faults[next_fault].kind;
        if (is_no_fault(kind)) {
            world_trace("FAULT: %s, which meets nobody", fault_words[kind]);
            plan.n_faults = 0;
            return;
        }
        next_fault++;
        world_calm_since_us = fiber_now_us() + 20 * G_TIME_SPAN_SECOND;
        if (next_fault == 1 && plan.salt != 0)
            fiber_reseed(plan.salt);
        do_fault(kind);
    }
}

/* ---- one schedule ---- */

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
    faults_reset();
    flows_reset();
    lines_reset();
    other_reset();
    make_vm();
    make_files();
    qemu_take_leaves(NULL);
    if (!plan.flow->off && !qemu_start(false, why))
        g_error("%s", why);
    if (vm.runs)
        libvirt_show_vm();
    vm.libvirtd = true;
    agent_start();
    int64_t until = fiber_now_us() + 20 * G_TIME_SPAN_SECOND;
    while (!is_up() && fiber_now_us() < until)
        fibers_run(fiber_now_us() + 20000);
    return is_up();
}

/* At the end it runs, unless it was removed. */
static bool
is_as_wanted(void)
{
    return vm.runs || !vm.there;
}

/* True: the schedule is over. */
static bool
look(void)
{
    int64_t now = fiber_now_us();

    if (next_fault < plan.n_faults && finished)
        next_fault = plan.n_faults;
    if (!finished) {
        if (!helped && world_is_calm() && now - world_calm_since_us > HELP_US) {
            helped = true;
            world_later(0, "user", power_off);
        }
        return world_is_calm() && now - world_calm_since_us > CALM_US;
    }
    vm.wanted = true;
    if (settled_us == 0 && storage_is_well())
        settled_us = now; /* what could not be tidied up until then is tidied up now */
    return settled_us > 0 &&
           ((is_as_wanted() && world_agent != NULL && now - settled_us > SETTLE_US) ||
            now - settled_us > CALM_US);
}

/* Nothing else happens: all that was begun must come to its end. Goes on from wherever the world
 * is, so the looks are at the same instants whoever began. */
static void
run_to_the_end(void)
{
    bool over = false;

    while (wrong == NULL && !over && fiber_now_us() - began_us < LONGEST_US) {
        fibers_run((fiber_now_us() / SLICE_US + 1) * SLICE_US);
        over = look();
    }
    if (wrong != NULL || (finished && is_as_wanted() && world_agent != NULL))
        return;
    g_autofree char *state = fibers_state();
    world_wrong("%s within %d minutes:\n%s",
                finished ? "the VM could not be started" : "the flow did not end",
                (int)(CALM_US / G_TIME_SPAN_SECOND / 60), state);
}

static bool
begin(const Schedule *what)
{
    plan = *what;
    g_clear_pointer(&wrong, g_free);
    finished = counting = helped = false;
    next_fault = 0;
    last_point = 0;
    settled_us = 0;
    world_agent = NULL;
    fibers_reset(plan.seed);
    fiber_on_point = on_point;
    if (!set_up()) {
        world_wrong("the world does not come up");
        return false;
    }
    counting = true;
    first_point = fiber_points();
    began_us = fiber_now_us();
    world_calm_since_us = began_us + 20 * G_TIME_SPAN_SECOND;
    vfs_on_name_gone = check_name_gone;
    fiber_start(P_WORLD, "user", user, NULL);
    manager_start();
    return true;
}

static void
end(Outcome *outcome)
{
    run_to_the_end();
    if (wrong == NULL)
        check_end();
    *outcome = (Outcome){ .ok = wrong == NULL, .points = last_point, .hash = fiber_hash() };
    g_strlcpy(outcome->wrong, wrong != NULL ? wrong : "", sizeof outcome->wrong);
    counting = false;
    vfs_on_name_gone = NULL;
}

void
world_run(const Schedule *what, WorldVisit each, Outcome *outcome)
{
    visit = each;
    if (begin(what))
        end(outcome);
    else
        *outcome = (Outcome){ .wrong = "the world does not come up" };
}

void
world_branch(const Schedule *what, Outcome *outcome)
{
    plan = *what;
    visit = NULL;
    end(outcome);
}
