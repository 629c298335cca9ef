/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * The simulator's program: options.
 *
 *     sim --seconds 60                    all flows: every fault at every point, then by chance
 *     sim --mutants                       every mistake that is put in on purpose is found
 *     sim --flow F --seed S [--fault KIND@POINT]... [--lies BITS] --trace    one schedule
 */
#include "branch.h"

#include "json_tree.h"
#include "state.h"
#include "storage/stored.h"

#include <sqlite3.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/personality.h>
#include <unistd.h>

#pragma GCC diagnostic ignored "-Wmissing-prototypes"

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

/* What killed processes leave behind would be saved and put back with each schedule. */
static void
collect(void)
{
    g_autofree char *maps = NULL;

    fibers_reset(0);
    vfs_reset();
    if (g_file_get_contents("/proc/self/maps", &maps, NULL, NULL))
        heap_collect(maps);
}

/* Databases are made, variables filled, and what libraries keep for a thread (which state.h does
 * not save): no schedule is the first that meets an error. */
static void
warm_up(void)
{
    static const struct {
        const char *flow;
        Fault fault;
    } some[] = {
        { "agent-commit-active", { FAULT_NONE, 0 } },
        { "create", { FAULT_NONE, 0 } },
        { "create", { FAULT_STORAGE, 20 } },
        { "create", { FAULT_FULL, 20 } },
        { "create", { FAULT_POWER, 60 } },
        { "delete-off", { FAULT_ALL, 80 } },
    };

    for (int number = 1; number < 134; number++)
        (void)!g_strerror(number);
    for (size_t i = 0; i < G_N_ELEMENTS(some); i++) {
        Schedule p = { .flow = flow_find(some[i].flow), .seed = 99, .faults = { some[i].fault } };
        Outcome outcome;
        p.n_faults = some[i].fault.kind != FAULT_NONE;
        world_run(&p, NULL, &outcome);
        if (!outcome.ok)
            printf("WRONG: in the warm-up: %s\n", outcome.wrong);
    }
    collect();
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
    Outcome outcome;

    world_run(given, NULL, &outcome);
    printf("%s; %" G_GUINT64_FORMAT " points, hash %016" G_GINT64_MODIFIER "x\n",
           outcome.ok ? "all is well" : outcome.wrong, outcome.points, outcome.hash);
    fflush(stdout);
    _exit(!outcome.ok);
}

static int
run_everything(Explore *how, int seconds)
{
    how->until_us = real_us() + seconds * G_TIME_SPAN_SECOND;
    explore(how);
    double used = (double)MAX(shared->used_us, 1) / 1e6;
    printf("schedules %" G_GUINT64_FORMAT " (%" G_GUINT64_FORMAT
           " of them the same as another, %" G_GUINT64_FORMAT
           " of which were run), points %" G_GUINT64_FORMAT ", failures %" G_GUINT64_FORMAT
           ", %.0f/s a core, histories %016" G_GINT64_MODIFIER "x\n",
           shared->schedules, shared->same, shared->sampled, shared->points, shared->failures,
           (double)shared->schedules / used, shared->histories);
    return shared->failures > 0;
}

/* Every mistake that is put in on purpose must be found, where it can do harm. */
static int
run_mutants(Explore *how)
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
        { MUTANT_TALK, "agent-commit-active", 0 },
        { MUTANT_LATE_SWITCH, "agent-graft", 0 },
        { MUTANT_EARLY_DELETE, "agent-graft", 0 },
        { MUTANT_NO_SYNC, "agent-graft", 0 },
        { MUTANT_STOP_ANY, "agent-power", LIE_ERROR | LIE_OFTEN },
        { MUTANT_NO_GUARD, "preview-commit", 0 },
        { MUTANT_EARLY_UNDO, "preview-undo", 0 },
        { MUTANT_OWN_LIST, "commit-shared", 0 },
        { MUTANT_OWN_LIST, "remove-shared", 0 },
        { MUTANT_REMOVE_FIRST, "remove", 0 },
        { MUTANT_EARLY_CLONE, "clone", 0 },
        { MUTANT_OLD_MEMORY, "memory-try", 0 },
        { MUTANT_LOOSE_MEMORY, "memory-keep", 0 },
        { MUTANT_OLD_CONFIG, "preview-commit", 0 },
        { MUTANT_BELIEVES, "agent-commit", 0 },
        { MUTANT_FORGETS, "lost-journal", 0 },
    };
    unsigned missed = 0;

    how->quiet = true;
    how->max_failures = 1;
    how->chance_most = 0;
    how->sample = UINT64_MAX; /* none: a failure is to be the mutant's */
    for (size_t i = 0; i < G_N_ELEMENTS(table); i++) {
        uint64_t before = shared->schedules;
        shared->failures = 0;
        how->flow = table[i].flow;
        how->lies = table[i].lies;
        how->mutant = table[i].mutant;
        /* seconds where the processors are free; `make test` gives it what others leave */
        how->until_us = real_us() + 15 * G_TIME_SPAN_MINUTE;
        for (how->seed = 1; shared->failures == 0 && real_us() < how->until_us; how->seed++)
            explore(how);
        missed += shared->failures == 0;
        printf("mutant %-14s %s after %" G_GUINT64_FORMAT " schedules\n",
               mutant_words[table[i].mutant], shared->failures > 0 ? "found" : "NOT FOUND",
               shared->schedules - before);
        fflush(stdout);
    }
    return missed > 0;
}

/* The same addresses each time, and no library that keeps memory to itself. */
static void
start_over(char **argv)
{
    if ((personality(0xffffffff) & ADDR_NO_RANDOMIZE) != 0)
        return;
    personality(ADDR_NO_RANDOMIZE);
    setenv("LD_BIND_NOW", "1", 1);
    setenv("G_SLICE", "always-malloc", 1);
    execv("/proc/self/exe", argv);
}

int
main(int argc, char **argv)
{
    g_autofree char *flow = NULL, *mutant = NULL,
                    *program = g_file_read_link("/proc/self/exe", NULL);
    g_auto(GStrv) faults = NULL;
    gint64 seed = 1, lies = 0, salt = 0, near = 0, failures = 5, sample = 200, chance = G_MAXINT64,
           slices = SLICES;
    int seconds = 0;
    gboolean only_chance = FALSE, strict = FALSE, mutants = FALSE, trace = FALSE, verbose = FALSE;
    const GOptionEntry entries[] = {
        { "flow", 0, 0, G_OPTION_ARG_STRING, &flow, "Only this flow", "NAME" },
        { "seed", 0, 0, G_OPTION_ARG_INT64, &seed, "The seed", "N" },
        { "fault", 0, 0, G_OPTION_ARG_STRING_ARRAY, &faults, "A fault, before a point",
          "KIND@POINT" },
        { "lies", 0, 0, G_OPTION_ARG_INT64, &lies, "Bits of what libvirt may do", "BITS" },
        { "salt", 0, 0, G_OPTION_ARG_INT64, &salt, "Another chance from the first fault on", "N" },
        { "mutant", 0, 0, G_OPTION_ARG_STRING, &mutant, "A fault of our own", "NAME" },
        { "seconds", 0, 0, G_OPTION_ARG_INT, &seconds, "Many schedules, for so long", "N" },
        { "chance", 0, 0, G_OPTION_ARG_INT64, &chance,
          "Of those by chance at most so many: the same ones on every machine", "N" },
        { "slices", 0, 0, G_OPTION_ARG_INT64, &slices,
          "Of the others only those at one in sixteen points, or N: for measuring", "N" },
        { "failures", 0, 0, G_OPTION_ARG_INT64, &failures, "Stop after so many", "N" },
        { "sample", 0, 0, G_OPTION_ARG_INT64, &sample,
          "Of those that are the same as another one in so many is run", "N" },
        { "near", 0, 0, G_OPTION_ARG_INT64, &near,
          "The schedule that is given, and with its faults up to so many points off", "N" },
        { "only-chance", 0, 0, G_OPTION_ARG_NONE, &only_chance, "Only those by chance", NULL },
        { "trace", 0, 0, G_OPTION_ARG_NONE, &trace, "Tell what happens", NULL },
        { "mutants", 0, 0, G_OPTION_ARG_NONE, &mutants, "Are mistakes found?", NULL },
        { "strict", 0, 0, G_OPTION_ARG_NONE, &strict, "Count known debris, too", NULL },
        { "verbose", 0, 0, G_OPTION_ARG_NONE, &verbose, "More about failures", NULL },
        { NULL },
    };
    g_autoptr(GOptionContext) options = g_option_context_new("- the simulator");
    g_autoptr(GError) error = NULL;

    start_over(argv);
    json_object_seed(1);
    json_freeze_texts();
    stored_keep_least = 0;
    g_option_context_add_main_entries(options, entries, NULL);
    if (!g_option_context_parse(options, &argc, &argv, &error)) {
        fprintf(stderr, "sim: %s\n", error->message);
        return 2;
    }
    sqlite3_config(SQLITE_CONFIG_SINGLETHREAD);
    sqlite3_config(SQLITE_CONFIG_MEMSTATUS, 0);
    explore_prepare();
    setvbuf(stdout, explore_outside(8192), _IOFBF, 8192);
    Schedule given = { .seed = (uint64_t)seed,
                       .lies = (unsigned)lies,
                       .salt = (uint64_t)salt,
                       .trace = trace,
                       .strict = strict };
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
    Explore how = { .flow = flow,
                    .seed = given.seed,
                    .lies = given.lies,
                    .mutant = given.mutant,
                    .jobs = CLAMP((unsigned)g_get_num_processors(), 1, MAX_JOBS),
                    .chance_most = chance,
                    .sample = (uint64_t)MAX(sample, 1),
                    .slices = (unsigned)CLAMP(slices, 1, SLICES),
                    .max_failures = (uint64_t)failures,
                    .verbose = verbose,
                    .strict = strict,
                    .only_chance = only_chance,
                    .program = program };
    if (mutants)
        return run_mutants(&how);
    if (given.flow == NULL)
        given.flow = flows;
    if (near > 0 && given.n_faults > 0) {
        how.given = &given;
        how.near = (unsigned)near;
        return run_everything(&how, 3600);
    }
    if (seconds > 0)
        return run_everything(&how, seconds);
    return run_given(&given);
}
