/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * Inside of the planner: one strategy for one run, or for all of a disk from its lowest run up.
 *
 * Threads: plain data. Ownership: options belong to the caller, plan_option_free().
 */
#pragma once

#include "model/plan.h"

/* Groups [first..last] of a disk of the plan. A run is one group; a whole disk is all of them. */
typedef struct {
    const Plan *plan;
    const Vm *vm;
    const Disk *disk;
    const PlanDisk *on;
    guint first, last;
} Scope;

static inline const PlanGroup *
scope_group(const Scope *scope, guint index)
{
    return scope->on->groups->pdata[index];
}

static inline bool
scope_has_leaf(const Scope *scope)
{
    return scope->last + 1 == scope->on->groups->len;
}

static inline bool
scope_runs(const Scope *scope) /* the VM does; a paused one counts as running */
{
    return scope->vm->state != VM_DOWN;
}

/* Costs and blockers. Commits are for scopes of one group, graft and copy for those that reach up
 * to the leaf. */
PlanOption *plan_option_new(const Scope *scope, Strategy strategy);
PlanOption *plan_option_copy(const PlanOption *option);
void plan_option_free(PlanOption *option);
/* One after another: what several runs of a disk cost together. Blocked if one of them is. */
PlanOption *plan_option_sum(const GPtrArray *options, Strategy strategy);

/* Paths of the scope's volumes that graft and copy leave where they are; NULL = none. */
char **scope_kept(const Scope *scope);
