/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * The simulator's program: which schedules are run.
 *
 *     sim --seconds 60                    all flows: every fault at every point, then by chance
 *     sim --mutants                       every mistake that is put in on purpose is found
 *     sim --flow F --seed S [--fault KIND@POINT]... [--lies BITS] --trace    one schedule
 */
#include "world.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/personality.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#pragma GCC diagnostic ignored "-Wmissing-prototypes"
#define BATCH 50
#define MAX_JOBS 16
/* the others are not withstood wholly */
#define LIES_BY_CHANCE (((1U << LIES) - 1) & ~(LIE_LOSES_VM | LIE_NO_MIRROR))

static bool debug, quiet;
static gboolean only_chance;
static int64_t chance_most = G_MAXINT64, near;
static int64_t deadline_us;
static uint64_t max_failures = 5;

/* g_get_monotonic_time() is the virtual clock here. */
static int64_t
real_us(void)
{
    struct timespec now;

    clock_gettime(CLOCK_MONOTONIC, &now);
    return (int64_t)now.tv_sec * 1000000 + now.tv_nsec / 1000;
}

void
__wrap_log_write(GLogLevelFlags level, const char *vm_id, const char *op, const char *format, ...)
{
    va_list args;

    (void)vm_id;
    (void)op;
    (void)level;
    if (!plan.trace)
        return;
    va_start(args, format);
    g_autofree char *text = g_strdup_vprintf(format, args);
    va_end(args);
    world_trace("log: %s", text);
}

const Flow *
flow_find(const char *name)
{
    for (const Flow *flow = flows; flow->name != NULL; flow++)
        if (strcmp(flow->name, name) == 0)
            return flow;
    return NULL;
}

/* ---- a failure ---- */

static char *
command_of(const Schedule *p)
{
    GString *text = g_string_new(NULL);

    g_string_printf(text, "--flow %s --seed %" G_GUINT64_FORMAT, p->flow->name, p->seed);
    for (unsigned i = 0; i < p->n_faults; i++)
        g_string_append_printf(text, " --fault %s@%" G_GUINT64_FORMAT,
                               fault_words[p->faults[i].kind], p->faults[i].at);
    if (p->lies != 0)
        g_string_append_printf(text, " --lies %u", p->lies);
    if (p->strict)
        g_string_append(text, " --strict");
    if (p->mutant != 0)
        g_string_append_printf(text, " --mutant %s", mutant_words[p->mutant]);
    return g_string_free(text, FALSE);
}

typedef struct {
    uint64_t schedules, failures, points;
    char current[MAX_JOBS][512]; /* what each child runs, should it die */
} Shared;
static Shared *shared; /* with the children; counted with atomics */
static unsigned shared_slot, jobs = 1;

static bool
run_one(const Schedule *p)
{
    uint64_t points = 0, hash = 0;
    g_autofree char *command = command_of(p);
    g_strlcpy(shared->current[shared_slot], command, sizeof shared->current[0]);
    g_autofree char *wrong = world_run(p, &points, &hash);

    __atomic_add_fetch(&shared->schedules, 1, __ATOMIC_RELAXED);
    shared->points = points;
    if (wrong == NULL)
        return true;
    uint64_t again = 0;
    g_free(world_run(p, &points, &again));
    if (again != hash)
        printf("WRONG: the same schedule was not the same history (%s)\n", command);
    __atomic_add_fetch(&shared->failures, 1, __ATOMIC_RELAXED);
    if (quiet)
        return false;
    if (!debug) {
        char *end = strchr(wrong, '\n');
        if (end != NULL)
            *end = '\0';
    }
    printf("WRONG: %s\n    tests/sim/run %s --trace\n", wrong, command);
    fflush(stdout);
    return false;
}

/* Databases are made and static variables filled once, so that no schedule is the first. */
static void
warm_up(void)
{
    static const char *const some[] = { "agent-commit-active", "create" };

    for (size_t i = 0; i < G_N_ELEMENTS(some); i++) {
        uint64_t points, hash;
        Schedule p = { .flow = flow_find(some[i]), .seed = 99 };
        g_autofree char *wrong = world_run(&p, &points, &hash);
        if (wrong != NULL)
            printf("WRONG: without any fault: %s\n", wrong);
    }
}

/* ---- schedules ---- */

/* Each i is a schedule; false: there are no more. */
typedef bool (*Next)(uint64_t i, Schedule *p, const void *data);

/* The schedules from "from" on; the exit status 1 says that there are no more. */
static void G_GNUC_NORETURN
run_batch(Next next, const void *data, uint64_t from, unsigned slot)
{
    Schedule p;

    shared_slot = slot;
    for (uint64_t i = from; i < from + BATCH && shared->failures < max_failures; i++) {
        memset(&p, 0, sizeof p);
        if (real_us() > deadline_us || !next(i, &p, data)) {
            fflush(stdout);
            _exit(1);
        }
        run_one(&p);
    }
    fflush(stdout);
    _exit(0);
}

/* In children, since what was killed keeps its heap, and to use every processor. */
static void
run_all(Next next, const void *data)
{
    pid_t children[MAX_JOBS] = { 0 };
    uint64_t from = 0;
    unsigned alive = 0;

    fflush(stdout);
    for (bool more = true; more || alive > 0;) {
        int status = 0;
        unsigned slot = 0;
        while (slot < jobs && children[slot] != 0)
            slot++;
        if (more && slot < jobs && shared->failures < max_failures) {
            children[slot] = fork();
            if (children[slot] == 0)
                run_batch(next, data, from, slot);
            from += BATCH;
            alive++;
            continue;
        }
        if (alive == 0)
            return;
        pid_t child = wait(&status);
        for (slot = 0; children[slot] != child;)
            slot++;
        children[slot] = 0;
        alive--;
        if (WIFSIGNALED(status)) {
            printf("WRONG: died of signal %d\n    tests/sim/run %s --trace\n", WTERMSIG(status),
                   shared->current[slot]);
            fflush(stdout);
            shared->failures++;
        }
        more = more && (!WIFEXITED(status) || WEXITSTATUS(status) == 0) &&
               shared->failures < max_failures;
    }
}

typedef struct {
    const Flow *flow;
    uint64_t seed, points;
    unsigned lies, mutant;
    FaultKind kinds[FAULT_KINDS];
    unsigned n_kinds;
} Space;

static uint64_t
gcd(uint64_t a, uint64_t b)
{
    return b == 0 ? a : gcd(b, a % b);
}

/* Every kind at every point. */
static bool
next_single(uint64_t i, Schedule *p, const void *data)
{
    const Space *s = data;
    uint64_t n = s->points * s->n_kinds, step = n / 3 * 2 + 1;

    if (i >= n)
        return false;
    /* in an order that has seen something of everything when the time is over */
    while (gcd(step, n) != 1)
        step++;
    i = i * step % n;
    *p = (Schedule){ .flow = s->flow,
                     .seed = s->seed,
                     .lies = s->lies,
                     .mutant = s->mutant,
                     .faults = { { s->kinds[i % s->n_kinds], 1 + i / s->n_kinds } },
                     .n_faults = 1 };
    return true;
}

static uint64_t
mix(uint64_t z)
{
    z = (z ^ (z >> 30)) * UINT64_C(0xBF58476D1CE4E5B9);
    z = (z ^ (z >> 27)) * UINT64_C(0x94D049BB133111EB);
    return z ^ (z >> 31);
}

/* By chance: some kinds of faults, some lies, up to four faults. */
static bool
next_swarm(uint64_t i, Schedule *p, const void *data)
{
    const Space *s = data;
    uint64_t r = mix(s->seed + i + 1), kinds = mix(r), lies = mix(kinds);

    if (i >= (uint64_t)chance_most)
        return false;
    *p = (Schedule){ .flow = s->flow, .seed = r >> 16, .mutant = s->mutant };
    if (p->flow == NULL) {
        unsigned n = 0;
        while (flows[n].name != NULL)
            n++;
        p->flow = &flows[r % n];
    }
    p->lies = (unsigned)(lies % 3 == 0 ? 0 : (lies >> 8) & LIES_BY_CHANCE & (unsigned)(lies >> 24));
    p->n_faults = (unsigned)((lies >> 40) % 5);
    p->strict = (lies >> 50) % 2 == 0;
    uint64_t at = 0;
    for (unsigned k = 0; k < p->n_faults; k++) {
        uint64_t x = mix(r + 100 + k);
        at += 1 + (x >> 8) % (k == 0 ? 700 : 300);
        unsigned kind = 1 + (unsigned)(x >> 48) % (FAULT_KINDS - 1);
        if ((kinds >> kind & 1) != 0)
            kind = FAULT_AGENT;
        p->faults[k] = (Fault){ kind, at };
    }
    return true;
}

/* Those that once went wrong. */
static bool
next_known(uint64_t i, Schedule *p, const void *data)
{
    (void)data;
    return known_schedule(i, p);
}

/* One that is given, and its neighbours. */
static bool
next_near(uint64_t i, Schedule *p, const void *data)
{
    *p = *(const Schedule *)data;
    schedule_shift(p, i);
    return i <= 2 * (uint64_t)near;
}

static void
report(const char *name, uint64_t before, int64_t began)
{
    double seconds = (double)(real_us() - began) / 1e6;

    if (quiet)
        return;
    printf("%-40s %6" G_GUINT64_FORMAT " schedules, %5.1f s\n", name, shared->schedules - before,
           seconds);
    fflush(stdout);
}

static const FaultKind all_kinds[] = { FAULT_AGENT, FAULT_QEMU,    FAULT_LIBVIRTD, FAULT_SHUTDOWN,
                                       FAULT_POWER, FAULT_NETWORK, FAULT_MANAGER,  FAULT_CANCEL };
static const FaultKind cold_kinds[] = { FAULT_AGENT,   FAULT_DAEMON,  FAULT_LIBVIRTD, FAULT_POWER,
                                        FAULT_NETWORK, FAULT_MANAGER, FAULT_CANCEL };

static void
explore(const Flow *flow, uint64_t seed, unsigned lies, unsigned mutant)
{
    Space space = { .flow = flow, .seed = seed, .lies = lies, .mutant = mutant };
    uint64_t before = shared->schedules;
    int64_t began = real_us();
    Schedule plain = { .flow = flow, .seed = seed, .lies = lies, .mutant = mutant };

    pid_t child = fork();
    if (child == 0) {
        run_one(&plain);
        fflush(stdout);
        _exit(0);
    }
    waitpid(child, NULL, 0);
    space.points = shared->points;
    unsigned n = flow->off ? G_N_ELEMENTS(cold_kinds) : G_N_ELEMENTS(all_kinds);
    for (unsigned i = 0; i < n; i++) {
        FaultKind kind = flow->off ? cold_kinds[i] : all_kinds[i];
        if (flow->manager || (kind != FAULT_MANAGER && kind != FAULT_CANCEL))
            space.kinds[space.n_kinds++] = kind;
    }
    run_all(next_single, &space);
    g_autofree char *name =
        g_strdup_printf("%s: 1 fault at %" G_GUINT64_FORMAT " points", flow->name, space.points);
    report(name, before, began);
}

/* ---- options ---- */

static bool
parse_fault(const char *text, Schedule *p)
{
    g_auto(GStrv) parts = g_strsplit(text, "@", 2);

    if (parts[0] == NULL || parts[1] == NULL || p->n_faults >= G_N_ELEMENTS(p->faults))
        return false;
    for (unsigned kind = 1; kind < FAULT_KINDS; kind++) {
        if (strcmp(parts[0], fault_words[kind]) != 0)
            continue;
        p->faults[p->n_faults++] = (Fault){ kind, (uint64_t)g_ascii_strtoull(parts[1], NULL, 10) };
        return true;
    }
    return false;
}

static int
run_given(const Schedule *given)
{
    uint64_t points = 0, hash = 0;
    g_autofree char *wrong = world_run(given, &points, &hash);

    printf("%s; %" G_GUINT64_FORMAT " points, hash %016" G_GINT64_MODIFIER "x\n",
           wrong != NULL ? wrong : "all is well", points, hash);
    fflush(stdout);
    _exit(wrong != NULL);
}

static int
run_near(const Schedule *given)
{
    deadline_us = G_MAXINT64;
    run_all(next_near, given);
    printf("%" G_GUINT64_FORMAT " schedules, %" G_GUINT64_FORMAT " wrong\n", shared->schedules,
           shared->failures);
    return shared->failures > 0;
}

static int
run_everything(const char *flow, uint64_t seed, unsigned lies, unsigned mutant, int seconds)
{
    int64_t began = real_us();

    deadline_us = began + seconds * G_TIME_SPAN_SECOND;
    if (flow == NULL && mutant == MUTANT_NONE && !only_chance) {
        run_all(next_known, NULL);
        report("known ones", 0, began);
    }
    unsigned n = 0, i = 0;
    for (const Flow *f = flows; f->name != NULL; f++)
        n += flow == NULL || strcmp(f->name, flow) == 0;
    for (const Flow *f = flows; !only_chance && f->name != NULL && shared->failures < max_failures;
         f++) {
        if (flow != NULL && strcmp(f->name, flow) != 0)
            continue;
        /* what one flow does not need is the next one's */
        deadline_us = began + (int64_t)seconds * 700000 * ++i / n;
        explore(f, seed, lies, mutant);
    }
    deadline_us = began + seconds * G_TIME_SPAN_SECOND;
    Space swarm = { .flow = flow != NULL ? flow_find(flow) : NULL, .seed = seed, .mutant = mutant };
    uint64_t before = shared->schedules;
    int64_t swarm_began = real_us();
    run_all(next_swarm, &swarm);
    report("by chance", before, swarm_began);
    printf("%" G_GUINT64_FORMAT " schedules, %" G_GUINT64_FORMAT " wrong\n", shared->schedules,
           shared->failures);
    return shared->failures > 0;
}

/* Every mistake that is put in on purpose must be found, where it can do harm. */
static int
run_mutants(void)
{
    static const struct {
        Mutant mutant;
        const char *flow;
        unsigned lies;
    } table[] = {
        { MUTANT_NO_SUSPEND, "agent-commit-active", 0 },
        { MUTANT_LATE_JOURNAL, "agent-two-disks", 0 },
        { MUTANT_NO_TOMBSTONE, "delete-off", LIE_LOST_ANSWERS | LIE_OFTEN },
        { MUTANT_NO_LOAD, "agent-commit", 0 },
        { MUTANT_BLIND_DELETE, "agent-delete-named", 0 },
        { MUTANT_ALONE, "agent-two-disks", LIE_ERROR | LIE_OFTEN },
    };
    unsigned missed = 0;

    quiet = true;
    for (size_t i = 0; i < G_N_ELEMENTS(table); i++) {
        const char *name = mutant_words[table[i].mutant];
        uint64_t before = shared->schedules;
        shared->failures = 0;
        max_failures = 1;
        deadline_us = real_us() + 60 * G_TIME_SPAN_SECOND;
        for (uint64_t seed = 1; shared->failures == 0 && real_us() < deadline_us; seed++)
            explore(flow_find(table[i].flow), seed, table[i].lies, table[i].mutant);
        missed += shared->failures == 0;
        printf("mutant %-14s %s after %" G_GUINT64_FORMAT " schedules\n", name,
               shared->failures > 0 ? "found" : "NOT FOUND", shared->schedules - before);
        fflush(stdout);
    }
    return missed > 0;
}

int
main(int argc, char **argv)
{
    g_autofree char *flow = NULL, *mutant = NULL;
    g_auto(GStrv) faults = NULL;
    gint64 seed = 1, lies = 0, failures = 5;
    int seconds = 0;
    gboolean strict = FALSE, mutants = FALSE, trace = FALSE, verbose = FALSE;
    const GOptionEntry entries[] = {
        { "flow", 0, 0, G_OPTION_ARG_STRING, &flow, "Only this flow", "NAME" },
        { "seed", 0, 0, G_OPTION_ARG_INT64, &seed, "The seed", "N" },
        { "fault", 0, 0, G_OPTION_ARG_STRING_ARRAY, &faults, "A fault, before a point",
          "KIND@POINT" },
        { "lies", 0, 0, G_OPTION_ARG_INT64, &lies, "Bits of what libvirt may do", "BITS" },
        { "mutant", 0, 0, G_OPTION_ARG_STRING, &mutant, "A fault of our own", "NAME" },
        { "seconds", 0, 0, G_OPTION_ARG_INT, &seconds, "Many schedules, for so long", "N" },
        { "chance", 0, 0, G_OPTION_ARG_INT64, &chance_most,
          "Of those by chance at most so many: the same ones on every machine", "N" },
        { "only-chance", 0, 0, G_OPTION_ARG_NONE, &only_chance, "Only those by chance", NULL },
        { "failures", 0, 0, G_OPTION_ARG_INT64, &failures, "Stop after so many", "N" },
        { "near", 0, 0, G_OPTION_ARG_INT64, &near,
          "The schedule that is given, and with its faults up to so many points off", "N" },
        { "trace", 0, 0, G_OPTION_ARG_NONE, &trace, "Tell what happens", NULL },
        { "mutants", 0, 0, G_OPTION_ARG_NONE, &mutants, "Are mistakes found?", NULL },
        { "strict", 0, 0, G_OPTION_ARG_NONE, &strict, "Count known debris, too", NULL },
        { "verbose", 0, 0, G_OPTION_ARG_NONE, &verbose, "More about failures", NULL },
        { NULL },
    };
    g_autoptr(GOptionContext) options = g_option_context_new("- the simulator");
    g_autoptr(GError) error = NULL;

    if ((personality(0xffffffff) & ADDR_NO_RANDOMIZE) == 0) {
        personality(ADDR_NO_RANDOMIZE);
        execv("/proc/self/exe", argv);
    }
    json_object_seed(1);
    g_option_context_add_main_entries(options, entries, NULL);
    if (!g_option_context_parse(options, &argc, &argv, &error)) {
        fprintf(stderr, "sim: %s\n", error->message);
        return 2;
    }
    shared = mmap(NULL, sizeof *shared, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    debug = verbose;
    max_failures = (uint64_t)failures;
    jobs = CLAMP((unsigned)g_get_num_processors(), 1, MAX_JOBS);
    Schedule given = {
        .seed = (uint64_t)seed, .lies = (unsigned)lies, .trace = trace, .strict = strict
    };
    for (unsigned i = 1; mutant != NULL && i < MUTANTS; i++)
        if (strcmp(mutant, mutant_words[i]) == 0)
            given.mutant = i;
    if (mutant != NULL && given.mutant == 0) {
        fprintf(stderr, "sim: there is no mutant %s\n", mutant);
        return 2;
    }
    if (flow != NULL && (given.flow = flow_find(flow)) == NULL) {
        fprintf(stderr, "sim: there is no flow %s\n", flow);
        return 2;
    }
    for (char **fault = faults; fault != NULL && *fault != NULL; fault++) {
        if (!parse_fault(*fault, &given)) {
            fprintf(stderr, "sim: what is %s?\n", *fault);
            return 2;
        }
    }
    warm_up();
    if (mutants)
        return run_mutants();
    if (seconds > 0)
        return run_everything(flow, given.seed, given.lies, given.mutant, seconds);
    if (given.flow == NULL)
        given.flow = flows;
    if (near > 0)
        return run_near(&given);
    return run_given(&given);
}
