/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "explore.h"

#include "state.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define SLICES 16     /* units of one flow, each with another part of its points */
#define BRANCHES 32   /* of a unit by chance */
#define VARIANTS 4    /* from the same point */
#define REPLAYED 1000 /* one in so many schedules is run again though nothing is wrong with it */
#define STUCK_S 120   /* one unit in real time */
#define REPLAY_BUFFER 4096
#define MAX_FLOWS 64
/* Those from LIE_LOSES_VM on are tried alone (--lies): with all others at once they are not
 * withstood wholly yet. */
#define LIES_BY_CHANCE (LIE_LOSES_VM - 1)

typedef enum { NEAR, SINGLE, PAIRS, SWARM } Kind;

typedef struct {
    Kind kind;
    Schedule base;
    unsigned slice;
    uint64_t at[BRANCHES / VARIANTS]; /* points at which schedules branch off, but for SINGLE */
    unsigned kinds;                   /* bits: what may happen */
    uint64_t chance;                  /* of the unit */
    Schedule given;                   /* of NEAR: its neighbours branch off */
    unsigned near;
} Unit;

Shared *shared;
static const Explore *explore_how;
static unsigned slot; /* of this worker */
static Unit unit;
static State *clean, *here;           /* before any unit; at a point */
static char *replay_buffer;           /* the kernel writes into it: state_begin() */
static uint64_t points_of[MAX_FLOWS]; /* 0 = not run yet */

static const FaultKind all_kinds[] = { FAULT_AGENT, FAULT_QEMU,    FAULT_LIBVIRTD, FAULT_SHUTDOWN,
                                       FAULT_POWER, FAULT_NETWORK, FAULT_MANAGER,  FAULT_CANCEL,
                                       FAULT_CLOCK, FAULT_STORAGE, FAULT_FULL,     FAULT_ALL };
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

static uint64_t
mix(uint64_t z)
{
    z += UINT64_C(0x9E3779B97F4A7C15);
    z = (z ^ (z >> 30)) * UINT64_C(0xBF58476D1CE4E5B9);
    z = (z ^ (z >> 27)) * UINT64_C(0x94D049BB133111EB);
    return z ^ (z >> 31);
}

static uint64_t
draw(uint64_t below)
{
    return below > 0 ? (unit.chance = mix(unit.chance)) % below : 0;
}

/* ---- one schedule, and its failure ---- */

char *
schedule_options(const Schedule *p)
{
    GString *text = g_string_new(NULL);

    g_string_printf(text, "--flow %s --seed %" G_GUINT64_FORMAT, p->flow->name, p->seed);
    for (unsigned i = 0; i < p->n_faults; i++)
        g_string_append_printf(text, " --fault %s@%" G_GUINT64_FORMAT,
                               fault_words[p->faults[i].kind], p->faults[i].at);
    if (p->lies != 0)
        g_string_append_printf(text, " --lies %u", p->lies);
    if (p->salt != 0)
        g_string_append_printf(text, " --salt %" G_GUINT64_FORMAT, p->salt);
    if (p->strict)
        g_string_append(text, " --strict");
    if (p->mutant != 0)
        g_string_append_printf(text, " --mutant %s", mutant_words[p->mutant]);
    return g_string_free(text, FALSE);
}

/* In a program of its own, from the begin: it must be the same history. */
static void
check_replay(const Schedule *p, uint64_t hash)
{
    g_autofree char *options = schedule_options(p);
    g_autofree char *command = g_strdup_printf("%s %s", explore_how->program, options);
    g_autofree char *wanted = g_strdup_printf("hash %016" G_GINT64_MODIFIER "x", hash);
    char line[4096];
    bool same = false;
    FILE *out = popen(command, "r");

    if (out != NULL)
        setvbuf(out, replay_buffer, _IOFBF, REPLAY_BUFFER);
    while (out != NULL && fgets(line, sizeof line, out) != NULL)
        same = same || strstr(line, wanted) != NULL;
    if (out != NULL)
        pclose(out);
    if (same)
        return;
    __atomic_add_fetch(&shared->failures, 1, __ATOMIC_RELAXED);
    printf("WRONG: not the same history when it is run again\n    tests/sim/run %s\n", options);
    fflush(stdout);
}

static void
report(const Schedule *p, Outcome *outcome)
{
    g_autofree char *options = schedule_options(p);
    char *end = strchr(outcome->wrong, '\n');

    __atomic_add_fetch(&shared->failures, 1, __ATOMIC_RELAXED);
    if (explore_how->quiet)
        return;
    if (!explore_how->verbose && end != NULL)
        *end = '\0';
    for (unsigned i = 0; i < 2; i++)
        check_replay(p, outcome->hash);
    printf("WRONG: %s\n    tests/sim/run %s --trace\n", outcome->wrong, options);
    fflush(stdout);
}

static void
count(const Schedule *p, Outcome *outcome)
{
    __atomic_add_fetch(&shared->schedules, 1, __ATOMIC_RELAXED);
    __atomic_add_fetch(&shared->points, outcome->points, __ATOMIC_RELAXED);
    if (!outcome->ok)
        report(p, outcome);
    else if (outcome->hash % REPLAYED == 0 && !explore_how->quiet)
        check_replay(p, outcome->hash);
}

/* From one and the same world a schedule went to its end whose fault does what this one's does: all
 * that is left of their plans is the same, too. */
static void
count_same(void)
{
    __atomic_add_fetch(&shared->schedules, 1, __ATOMIC_RELAXED);
    __atomic_add_fetch(&shared->same, 1, __ATOMIC_RELAXED);
}

/* Should it die. */
static void
note_current(const Schedule *p)
{
    g_autofree char *options = schedule_options(p);

    g_strlcpy(shared->current[slot], options, sizeof shared->current[0]);
}

static bool
is_over(void)
{
    return shared->failures >= explore_how->max_failures || real_us() > explore_how->until_us;
}

/* The world is where "here" was saved. */
static void
branch(const Schedule *p)
{
    Outcome outcome;
    Schedule schedule = *p;

    note_current(&schedule);
    world_branch(&schedule, &outcome);
    count(&schedule, &outcome);
    state_restore(here);
}

/* ---- branches ---- */

static void
save_here(void)
{
    state_save(here);
    shared->bytes += state_bytes(here);
    shared->saves++;
}

static void
branch_singles(void)
{
    uint64_t at = world_point();
    unsigned done = 0; /* bits: what was done to this very world */

    if (at % SLICES != unit.slice)
        return;
    save_here();
    for (unsigned kind = 1; kind < FAULT_KINDS && !is_over(); kind++) {
        Schedule p = unit.base;
        unsigned like = 1U << fault_like((FaultKind)kind);
        if ((unit.kinds >> kind & 1) == 0)
            continue;
        if ((done & like) != 0) {
            count_same();
            continue;
        }
        done |= like;
        p.faults[p.n_faults++] = (Fault){ kind, at };
        branch(&p);
    }
}

static FaultKind
draw_kind(void)
{
    FaultKind kind;

    do
        kind = 1 + (FaultKind)draw(FAULT_KINDS - 1);
    while ((unit.kinds >> kind & 1) == 0);
    return kind;
}

static void
add_faults(Schedule *p, uint64_t at)
{
    unsigned n = unit.kind == PAIRS ? 2 : 1 + (unsigned)draw(4);

    for (unsigned i = 0; i < n; i++) {
        p->faults[p->n_faults++] = (Fault){ draw_kind(), at };
        /* often while the one before is still under way */
        at += draw(2) == 0 ? draw(20) : draw(300);
    }
}

static void
branch_by_chance(void)
{
    uint64_t at = world_point();
    bool chosen = false;

    for (size_t i = 0; i < G_N_ELEMENTS(unit.at); i++)
        chosen = chosen || unit.at[i] == at;
    if (!chosen)
        return;
    Schedule all[VARIANTS];
    for (unsigned i = 0; i < VARIANTS; i++) {
        all[i] = unit.base;
        all[i].salt = draw(1 << 20);
        add_faults(&all[i], at);
    }
    save_here();
    for (unsigned i = 0; i < VARIANTS && !is_over(); i++)
        branch(&all[i]);
}

static void
branch_near(void)
{
    uint64_t at = world_point();
    bool saved = false;

    for (unsigned i = 0; i <= 2 * unit.near && !is_over(); i++) {
        Schedule p = unit.given;
        schedule_shift(&p, i);
        if (p.faults[0].at != at || (i > 0 && at == 1))
            continue;
        if (!saved)
            save_here();
        saved = true;
        branch(&p);
    }
}

/* ---- units ---- */

static void
run_unit(void)
{
    Outcome outcome;
    Schedule base = unit.base;

    note_current(&base);
    world_run(&base,
              unit.kind == NEAR     ? branch_near
              : unit.kind == SINGLE ? branch_singles
                                    : branch_by_chance,
              &outcome);
    if (unit.kind != SINGLE || unit.slice == 0)
        count(&base, &outcome);
}

static unsigned
kinds_of(const Flow *flow)
{
    unsigned kinds = 0;
    unsigned n = flow->off ? G_N_ELEMENTS(cold_kinds) : G_N_ELEMENTS(all_kinds);

    for (unsigned i = 0; i < n; i++)
        kinds |= 1U << (flow->off ? cold_kinds[i] : all_kinds[i]);
    if (!flow->manager)
        kinds &= ~(1U << FAULT_MANAGER | 1U << FAULT_CANCEL | 1U << FAULT_ALL);
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
    unit.chance = mix(explore_how->seed ^ mix(number));
    unit.base = (Schedule){ .flow = flow,
                            .seed = explore_how->seed,
                            .mutant = explore_how->mutant,
                            .strict = explore_how->strict };
    unit.kinds = kinds_of(flow);
    if (unit.kind == SWARM) {
        unsigned some = (unsigned)draw(1 << FAULT_KINDS) | 1U << FAULT_AGENT;
        unit.kinds &= some;
        unit.base.seed = mix(unit.chance) >> 16;
        unit.base.strict = unit.base.strict || draw(2) == 0;
        if (draw(3) != 0)
            unit.base.lies = (unsigned)(draw(LIES_BY_CHANCE + 1) & draw(LIES_BY_CHANCE + 1));
    }
    for (size_t i = 0; i < G_N_ELEMENTS(unit.at); i++)
        unit.at[i] = 1 + draw(points);
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
    uint64_t singles = explore_how->only_chance ? 0 : (uint64_t)SLICES * n_flows();
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

static void
work(void)
{
    while (!is_over()) {
        uint64_t number = __atomic_fetch_add(&shared->next_unit, 1, __ATOMIC_RELAXED);
        int64_t before_us = used_us();
        alarm(STUCK_S);
        bool there_is_one = make_unit(number);
        if (there_is_one)
            run_unit();
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
        slot = number;
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
    here = state_new();
    replay_buffer = explore_outside(REPLAY_BUFFER);
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
        if (WIFSIGNALED(status) && !is_over())
            children[i] = worker_start(i);
        else
            alive--;
    }
}
