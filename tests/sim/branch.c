/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "branch.h"

#include "state.h"

#include <stdio.h>
#include <string.h>

#define REPLAYED 1000 /* one in so many schedules is run again though nothing is wrong with it */
#define REPLAY_BUFFER 4096

static unsigned slot;       /* of this worker */
static State *here;         /* at a point */
static char *replay_buffer; /* the kernel writes into it: state_begin() */

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
    __atomic_add_fetch(&shared->histories, explore_mix(outcome->hash), __ATOMIC_RELAXED);
    if (!outcome->ok)
        report(p, outcome);
    else if (outcome->hash % REPLAYED == 0 && !explore_how->quiet)
        check_replay(p, outcome->hash);
}

/* From one and the same world a schedule went to its end whose fault does what this one's does: all
 * that is left of their plans is the same, too. Of a fault that meets nobody it is the unit's own,
 * which has none. */
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

/* What must be the same of two schedules that are taken for one */
typedef struct {
    bool there, ok;
    uint64_t hash, points;
} End;

/* Of schedules of this unit whose fault met nobody; outside, since worlds are put back */
static End *end_of_none;

static End
end_of(const Outcome *outcome)
{
    return (End){ true, outcome->ok, outcome->hash, outcome->points };
}

static bool
same_end(const End *a, const End *b)
{
    return a->ok == b->ok && a->hash == b->hash && a->points == b->points;
}

/* The world is where "here" was saved. */
static Outcome
run_branch(const Schedule *p)
{
    Outcome outcome;
    Schedule schedule = *p;

    note_current(&schedule);
    world_branch(&schedule, &outcome);
    return outcome;
}

/* The same; and it is put back there. */
static End
branch(const Schedule *p)
{
    Outcome outcome = run_branch(p);

    count(p, &outcome);
    state_restore(here);
    return end_of(&outcome);
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
differs(const Schedule *p, const char *other)
{
    g_autofree char *options = schedule_options(p);

    __atomic_add_fetch(&shared->failures, 1, __ATOMIC_RELAXED);
    printf("WRONG: not the history with '%s' there, which was taken for the same\n"
           "    tests/sim/run %s --trace\n",
           other, options);
    fflush(stdout);
}

/* What need not run is run all the same, one in so many. wanted: its end, or the first one's. */
static void
sample(const Schedule *p, End *wanted, const char *other)
{
    const Fault *fault = &p->faults[0];

    if (explore_mix(explore_mix(p->seed ^ fault->at) ^ fault->kind) % explore_how->sample != 0)
        return;
    Outcome outcome = run_branch(p);
    state_restore(here);
    __atomic_add_fetch(&shared->sampled, 1, __ATOMIC_RELAXED);
    End end = end_of(&outcome);
    if (!wanted->there)
        *wanted = end;
    if (!same_end(&end, wanted))
        differs(p, other);
}

static void
branch_singles(void)
{
    uint64_t at = world_point();
    End ends[FAULT_KINDS] = { 0 }; /* of what was done to this very world */

    if (at % SLICES != unit.slice)
        return;
    save_here();
    for (unsigned kind = 1; kind < FAULT_KINDS && !explore_is_over(); kind++) {
        Schedule p = unit.base;
        FaultKind like = fault_like((FaultKind)kind);
        if ((unit.kinds >> kind & 1) == 0)
            continue;
        p.faults[p.n_faults++] = (Fault){ kind, at };
        if (like != FAULT_NONE && !ends[like].there) {
            ends[like] = branch(&p);
            continue;
        }
        count_same();
        sample(&p, like == FAULT_NONE ? end_of_none : &ends[like], fault_words[like]);
    }
}

static FaultKind
draw_kind(void)
{
    FaultKind kind;

    do
        kind = 1 + (FaultKind)explore_draw(FAULT_KINDS - 1);
    while ((unit.kinds >> kind & 1) == 0);
    return kind;
}

static void
add_faults(Schedule *p, uint64_t at)
{
    unsigned n = unit.kind == PAIRS ? 2 : 1 + (unsigned)explore_draw(4);

    for (unsigned i = 0; i < n; i++) {
        p->faults[p->n_faults++] = (Fault){ draw_kind(), at };
        /* often while the one before is still under way */
        at += explore_draw(2) == 0 ? explore_draw(20) : explore_draw(300);
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
        all[i].salt = explore_draw(1 << 20);
        add_faults(&all[i], at);
    }
    save_here();
    for (unsigned i = 0; i < VARIANTS && !explore_is_over(); i++)
        (void)branch(&all[i]);
}

static void
branch_near(void)
{
    uint64_t at = world_point();
    bool saved = false;

    for (unsigned i = 0; i <= 2 * unit.near && !explore_is_over(); i++) {
        Schedule p = unit.given;
        schedule_shift(&p, i);
        if (p.faults[0].at != at || (i > 0 && at == 1))
            continue;
        if (!saved)
            save_here();
        saved = true;
        (void)branch(&p);
    }
}

/* ---- the unit ---- */

void
branch_prepare(void)
{
    here = state_new();
    end_of_none = explore_outside(sizeof *end_of_none);
    replay_buffer = explore_outside(REPLAY_BUFFER);
}

void
branch_worker(unsigned number)
{
    slot = number;
}

void
branch_run_unit(void)
{
    Outcome outcome;
    Schedule base = unit.base;

    note_current(&base);
    end_of_none->there = false;
    world_run(&base,
              unit.kind == NEAR     ? branch_near
              : unit.kind == SINGLE ? branch_singles
                                    : branch_by_chance,
              &outcome);
    if (unit.kind != SINGLE || unit.slice == 0)
        count(&base, &outcome);
    End end = end_of(&outcome);
    if (end_of_none->there && !same_end(&end, end_of_none))
        differs(&base, "a fault that meets nobody");
}
