/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "branch.h"

#include "state.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define STUCK_S 120 /* one unit, of a processor's time; ten times as much in real time */
#define MAX_FLOWS 64
/* Those from LIE_LOSES_VM on are tried alone (--lies): with all others at once they are not
 * withstood wholly yet. */
#define LIES_BY_CHANCE (LIE_LOSES_VM - 1)

Shared *shared;
const Explore *explore_how;
Unit unit;
static State *clean;                  /* before any unit */
static uint64_t points_of[MAX_FLOWS]; /* 0 = not run yet */

static const FaultKind all_kinds[] = { FAULT_AGENT,   FAULT_QEMU,    FAULT_LIBVIRTD, FAULT_SHUTDOWN,
                                       FAULT_POWER,   FAULT_NETWORK, FAULT_MANAGER,  FAULT_CANCEL,
                                       FAULT_CLOCK,   FAULT_STORAGE, FAULT_FULL,     FAULT_ALL,
                                       FAULT_STRANGER };
static const FaultKind cold_kinds[] = { FAULT_AGENT,   FAULT_DAEMON,  FAULT_LIBVIRTD, FAULT_POWER,
                                        FAULT_NETWORK, FAULT_MANAGER, FAULT_CANCEL,   FAULT_CLOCK,
                                        FAULT_STORAGE, FAULT_FULL,    FAULT_ALL };

int64_t
real_us(void)
{
    struct timespec now;

    clock_gettime(CLOCK_MONOTONIC, &now);
    return (int64_t)now.tv_sec * 1000000 + now.tv_nsec / 1000;
}

const Flow *
flow_find(const char *name)
{
    for (const Flow *flow = flows; flow->name != NULL; flow++)
        if (strcmp(flow->name, name) == 0)
            return flow;
    return NULL;
}

uint64_t
explore_mix(uint64_t z)
{
    z += UINT64_C(0x9E3779B97F4A7C15);
    z = (z ^ (z >> 30)) * UINT64_C(0xBF58476D1CE4E5B9);
    z = (z ^ (z >> 27)) * UINT64_C(0x94D049BB133111EB);
    return z ^ (z >> 31);
}

uint64_t
explore_draw(uint64_t below)
{
    return below > 0 ? (unit.chance = explore_mix(unit.chance)) % below : 0;
}

bool
explore_is_over(void)
{
    return shared->failures >= explore_how->max_failures || real_us() > explore_how->until_us;
}

/* ---- units ---- */

static unsigned
kinds_of(const Flow *flow)
{
    unsigned kinds = 0;
    unsigned n = flow->off ? G_N_ELEMENTS(cold_kinds) : G_N_ELEMENTS(all_kinds);

    for (unsigned i = 0; i < n; i++)
        kinds |= 1U << (flow->off ? cold_kinds[i] : all_kinds[i]);
    if (!flow->manager)
        kinds &=
            ~(1U << FAULT_MANAGER | 1U << FAULT_CANCEL | 1U << FAULT_ALL | 1U << FAULT_STRANGER);
    return kinds;
}

static const Flow *
flow_of(uint64_t number)
{
    return explore_how->flow != NULL ? flow_find(explore_how->flow) : &flows[number];
}

static unsigned
n_flows(void)
{
    unsigned n = 0;

    while (flows[n].name != NULL)
        n++;
    return explore_how->flow != NULL ? 1 : n;
}

static uint64_t
points_of_flow(const Flow *flow)
{
    Schedule plain = { .flow = flow, .seed = explore_how->seed };
    Outcome outcome;
    uint64_t *known = &points_of[flow - flows];

    if (*known == 0) {
        world_run(&plain, NULL, &outcome);
        *known = MAX(outcome.points, 1);
    }
    return *known;
}

static const Flow *
chance_flow(uint64_t number)
{
    const Flow *flow = flow_of(number % n_flows());

    while (explore_how->flow == NULL && flow->singly)
        flow--; /* the first one is not */
    return flow;
}

/* By chance; of a swarm each has its own kinds of faults and lies. */
static void
make_chance_unit(uint64_t number)
{
    const Flow *flow = chance_flow(number);
    uint64_t points = points_of_flow(flow);

    unit.kind = number / n_flows() % 3 == 0 ? PAIRS : SWARM;
    unit.chance = explore_mix(explore_how->seed ^ explore_mix(number));
    unit.base = (Schedule){ .flow = flow,
                            .seed = explore_how->seed,
                            .mutant = explore_how->mutant,
                            .strict = explore_how->strict };
    unit.kinds = kinds_of(flow);
    if (flow->apart)
        unit.kinds &= ~(1U << FAULT_STRANGER);
    if (unit.kind == SWARM) {
        unsigned some = (unsigned)explore_draw(1 << FAULT_KINDS) | 1U << FAULT_AGENT;
        unit.kinds &= some;
        unit.base.seed = explore_mix(unit.chance) >> 16;
        unit.base.strict = unit.base.strict || explore_draw(2) == 0;
        if (explore_draw(3) != 0)
            unit.base.lies =
                (unsigned)(explore_draw(LIES_BY_CHANCE + 1) & explore_draw(LIES_BY_CHANCE + 1));
    }
    for (size_t i = 0; i < G_N_ELEMENTS(unit.at); i++)
        unit.at[i] = 1 + explore_draw(points);
}

static bool
make_near_unit(uint64_t number)
{
    unit.near = KNOWN_SHIFT;
    if (explore_how->given != NULL) {
        unit.given = *explore_how->given;
        unit.near = explore_how->near;
    } else if (explore_how->flow != NULL || explore_how->mutant != MUTANT_NONE ||
               !known_schedule(number, &unit.given)) {
        return false;
    }
    unit.base = unit.given;
    unit.base.n_faults = 0;
    return true;
}

/* How many begin the list: those that once went wrong, or the one that is given. */
static uint64_t
n_near(void)
{
    uint64_t n = 0;

    if (explore_how->given != NULL)
        return 1;
    while (make_near_unit(n))
        n++;
    return n;
}

/* False: there is none. */
static bool
make_unit(uint64_t number)
{
    uint64_t singles = explore_how->only_chance ? 0 : (uint64_t)explore_how->slices * n_flows();
    uint64_t near = explore_how->only_chance ? 0 : n_near();

    memset(&unit, 0, sizeof unit);
    if (number < near)
        return make_near_unit(number);
    if (explore_how->given != NULL)
        return false;
    number -= near;
    if (number >= singles) {
        make_chance_unit(number - singles);
        return (int64_t)((number - singles) * BRANCHES) < explore_how->chance_most;
    }
    unit.kind = SINGLE;
    unit.base = (Schedule){ .flow = flow_of(number % n_flows()),
                            .seed = explore_how->seed,
                            .lies = explore_how->lies,
                            .mutant = explore_how->mutant,
                            .strict = explore_how->strict };
    unit.slice = (unsigned)(number / n_flows());
    unit.kinds = kinds_of(unit.base.flow);
    return true;
}

/* ---- workers ---- */

static int64_t
used_us(void)
{
    struct rusage usage;

    getrusage(RUSAGE_SELF, &usage);
    return (usage.ru_utime.tv_sec + usage.ru_stime.tv_sec) * G_TIME_SPAN_SECOND +
           usage.ru_utime.tv_usec + usage.ru_stime.tv_usec;
}

/* On a machine that has more to do a unit that is well may take long. */
static void
limit_time(void)
{
    struct itimerval limit = { .it_value.tv_sec = STUCK_S };

    setitimer(ITIMER_PROF, &limit, NULL);
    alarm(10 * STUCK_S);
}

static void
work(void)
{
    while (!explore_is_over()) {
        uint64_t number = __atomic_fetch_add(&shared->next_unit, 1, __ATOMIC_RELAXED);
        int64_t before_us = used_us();
        limit_time();
        bool there_is_one = make_unit(number);
        if (there_is_one)
            branch_run_unit();
        state_restore(clean);
        __atomic_add_fetch(&shared->used_us, used_us() - before_us, __ATOMIC_RELAXED);
        if (!there_is_one)
            break;
    }
    fflush(stdout);
    _exit(0);
}

static pid_t
worker_start(unsigned number)
{
    pid_t child = fork();

    if (child == 0) {
        branch_worker(number);
        state_begin();
        state_save(clean);
        work();
    }
    return child;
}

static void
note_death(unsigned number, int signal)
{
    shared->failures++;
    printf("WRONG: died of signal %d\n    tests/sim/run %s --trace\n", signal,
           shared->current[number]);
    fflush(stdout);
}

void *
explore_outside(size_t bytes)
{
    void *at = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

    g_assert(at != MAP_FAILED);
    return at;
}

void
explore_prepare(void)
{
    shared = mmap(NULL, sizeof *shared, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    g_assert(shared != MAP_FAILED);
    clean = state_new();
    branch_prepare();
}

void
explore(const Explore *how)
{
    pid_t children[MAX_JOBS] = { 0 };
    unsigned alive = how->jobs;

    explore_how = how;
    shared->next_unit = 0;
    fflush(stdout);
    for (unsigned i = 0; i < how->jobs; i++)
        children[i] = worker_start(i);
    while (alive > 0) {
        int status = 0;
        unsigned i = 0;
        pid_t child = wait(&status);
        while (i < how->jobs && children[i] != child)
            i++;
        if (i == how->jobs)
            continue;
        if (WIFSIGNALED(status))
            note_death(i, WTERMSIG(status));
        if (WIFSIGNALED(status) && !explore_is_over())
            children[i] = worker_start(i);
        else
            alive--;
    }
}
