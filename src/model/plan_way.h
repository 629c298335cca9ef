/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * Inside of the planner: the ways a disk can go, and which it goes.
 *
 *   by runs    each of its runs by a commit
 *   the same   but the run that holds the leaf by a copy
 *   in one     all by graft, or all by copy
 *
 * A forced strategy leaves one way, "auto" all.
 *
 * Ownership: a Thought owns its options and ways. Threads: plain data.
 */
#pragma once

#include "model/plan_cost.h"

typedef struct {
    bool whole;        /* one part for all runs; else one for each run */
    GPtrArray *parts;  /* of PlanOption, borrowed from the thought */
    PlanOption *total; /* of the parts */
} Way;

/* What is thought about one disk. */
typedef struct {
    Scope all;        /* from the lowest run up to the leaf */
    GPtrArray *runs;  /* of GPtrArray of PlanOption: of each run, lowest first, its own strategies;
                       * the first of them is the commit that would be used */
    GPtrArray *whole; /* of PlanOption: graft and copy of all */
    GPtrArray *ways;  /* of Way, in the order that decides when all else is alike */
    Way *choice;      /* thoughts_choose() */
} Thought;

Thought *thought_new(const Plan *plan, const Vm *vm, const PlanDisk *on);
void thought_free(Thought *thought);
PlanOption *find_option(const GPtrArray *options, Strategy strategy); /* borrowed; NULL = none */
GPtrArray *options_new(void);                                         /* of PlanOption, owned */
/* All runs by commits. */
PlanOption *thought_commits(const Thought *thought);
/* Possible, and needs no more than that. */
bool way_fits(const Way *way, uint64_t room);
/* The fastest of those that fit; of those that are about as fast, the one that writes least. NULL
 * if none fits. */
Way *thought_best_way(const Thought *thought, uint64_t room);

/* Every disk gets its way; disks that share a storage also share what is free there. If nothing is
 * possible for a disk, the choice is a way that is blocked. */
void thoughts_choose(const GPtrArray *thoughts);
