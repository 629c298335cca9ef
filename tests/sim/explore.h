/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * Which schedules are run. A unit of work is a flow from one seed, run once; on its way, before
 * some points, the world is saved, and schedules branch off that begin with a fault there. First
 * every kind of fault at every point of every flow; then pairs and more by chance. Which units
 * there are, and in which order, depends on nothing but the options.
 *
 * Processes: one worker a core takes unit after unit. What they share lies in Shared.
 */
#pragma once

#include "world.h"

#define MAX_JOBS 16

typedef struct {
    uint64_t schedules, points, failures, next_unit, bytes, saves;
    uint64_t same;               /* of the schedules: not run, for another one did the very same */
    uint64_t sampled;            /* of these: run all the same */
    uint64_t histories;          /* a sum of them all, in whatever order they were run */
    uint64_t used_us;            /* processor time of all workers */
    char current[MAX_JOBS][512]; /* what each of them runs, should it die */
} Shared;
extern Shared *shared;

typedef struct {
    const char *flow; /* NULL = all */
    uint64_t seed;
    unsigned lies, mutant;
    unsigned jobs;
    int64_t chance_most, until_us; /* schedules by chance; the real clock */
    uint64_t max_failures;
    uint64_t sample; /* one in so many that are the same as another is run */
    unsigned slices; /* of each flow's points so many sixteenths */
    bool quiet, verbose, strict, only_chance;
    const Schedule *given; /* only this one and its neighbours ... */
    unsigned near;         /* ... so many points off, to both sides */
    const char *program;   /* runs one schedule again */
} Explore;

int64_t real_us(void); /* g_get_monotonic_time() is virtual here */
void explore_prepare(void);
void *explore_outside(size_t bytes); /* memory of this process that no schedule puts back */
/* Adds to what is in "shared". */
void explore(const Explore *how);
char *schedule_options(const Schedule *p);
