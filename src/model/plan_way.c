/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "model/plan_way.h"

/* So near to each other that other things decide. */
#define TIE_TIMES 1.05
#define TIE_SECONDS 0.05
/* For less than that a disk is not written anew as a whole. */
#define COPY_SECONDS 0.2

static void
way_free(void *data)
{
    Way *way = data;

    g_ptr_array_unref(way->parts);
    plan_option_free(way->total);
    g_free(way);
}

void
thought_free(Thought *thought)
{
    if (thought == NULL)
        return;
    g_ptr_array_unref(thought->ways);
    g_ptr_array_unref(thought->whole);
    g_ptr_array_unref(thought->runs);
    g_free(thought);
}

GPtrArray *
options_new(void)
{
    return g_ptr_array_new_with_free_func((GDestroyNotify)plan_option_free);
}

PlanOption *
find_option(const GPtrArray *options, Strategy strategy)
{
    for (guint i = 0; i < options->len; i++) {
        PlanOption *option = options->pdata[i];
        if (option->strategy == strategy)
            return option;
    }
    return NULL;
}

/* ---- the options ---- */

static Strategy
plain_commit(const Scope *run)
{
    if (!scope_runs(run))
        return STRATEGY_COLD_COMMIT;
    return scope_has_leaf(run) ? STRATEGY_COMMIT_ACTIVE : STRATEGY_COMMIT;
}

/* The commit that is to be used for a run: what was asked for, if that is one; "commit" means the
 * one that fits. */
static Strategy
wanted_commit(const Scope *run)
{
    Strategy wanted = run->plan->wanted;

    return wanted == STRATEGY_COMMIT_ACTIVE || wanted == STRATEGY_COLD_COMMIT ? wanted
                                                                              : plain_commit(run);
}

/* The first is the wanted commit. */
static GPtrArray *
options_of_run(const Scope *run, bool is_all)
{
    GPtrArray *options = options_new();

    g_ptr_array_add(options, plan_option_new(run, wanted_commit(run)));
    if (wanted_commit(run) != plain_commit(run))
        g_ptr_array_add(options, plan_option_new(run, plain_commit(run)));
    if (scope_has_leaf(run) && !is_all)
        g_ptr_array_add(options, plan_option_new(run, STRATEGY_COPY));
    return options;
}

static Strategy
strategy_of_parts(const Thought *thought, const GPtrArray *parts)
{
    const PlanOption *first = parts->pdata[0];

    if (parts->len == 1)
        return first->strategy;
    return scope_runs(&thought->all) ? STRATEGY_COMMIT : STRATEGY_COLD_COMMIT;
}

static void
add_way(Thought *thought, bool whole, GPtrArray *take_parts)
{
    Way *way = g_new0(Way, 1);

    way->whole = whole;
    way->parts = take_parts;
    way->total = plan_option_sum(take_parts, strategy_of_parts(thought, take_parts));
    g_ptr_array_add(thought->ways, way);
}

/* leaf_copied: the run that holds the leaf, which is the highest, is copied. */
static void
add_way_by_runs(Thought *thought, bool leaf_copied)
{
    GPtrArray *parts = g_ptr_array_new();

    for (guint i = 0; i < thought->runs->len; i++) {
        const GPtrArray *options = thought->runs->pdata[i];
        PlanOption *copy = find_option(options, STRATEGY_COPY);
        g_ptr_array_add(parts, leaf_copied && copy != NULL ? copy : options->pdata[0]);
    }
    add_way(thought, false, parts);
}

static void
add_way_in_one(Thought *thought, Strategy strategy)
{
    GPtrArray *parts = g_ptr_array_new();

    g_ptr_array_add(parts, find_option(thought->whole, strategy));
    add_way(thought, true, parts);
}

static bool
last_run_can_be_copied(const Thought *thought)
{
    return find_option(thought->runs->pdata[thought->runs->len - 1], STRATEGY_COPY) != NULL;
}

static void
add_ways(Thought *thought)
{
    Strategy wanted = thought->all.plan->wanted;
    bool any = wanted == STRATEGY_AUTO;

    if (wanted != STRATEGY_GRAFT && wanted != STRATEGY_COPY)
        add_way_by_runs(thought, false);
    if (any || wanted == STRATEGY_GRAFT)
        add_way_in_one(thought, STRATEGY_GRAFT);
    if (any && last_run_can_be_copied(thought))
        add_way_by_runs(thought, true);
    if (any || wanted == STRATEGY_COPY)
        add_way_in_one(thought, STRATEGY_COPY);
}

Thought *
thought_new(const Plan *plan, const Vm *vm, const PlanDisk *on)
{
    Thought *thought = g_new0(Thought, 1);

    thought->all = (Scope){ .plan = plan,
                            .vm = vm,
                            .disk = vm_disk(vm, on->disk_id),
                            .on = on,
                            .last = on->groups->len - 1 };
    thought->runs = g_ptr_array_new_with_free_func((GDestroyNotify)g_ptr_array_unref);
    thought->whole = options_new();
    thought->ways = g_ptr_array_new_with_free_func(way_free);
    for (guint i = 0; i < on->groups->len; i++) {
        Scope run = thought->all;
        run.first = run.last = i;
        if (scope_group(&run, i)->base < scope_group(&run, i)->top)
            g_ptr_array_add(thought->runs, options_of_run(&run, on->groups->len == 1));
    }
    g_ptr_array_add(thought->whole, plan_option_new(&thought->all, STRATEGY_GRAFT));
    g_ptr_array_add(thought->whole, plan_option_new(&thought->all, STRATEGY_COPY));
    add_ways(thought);
    return thought;
}

PlanOption *
thought_commits(const Thought *thought)
{
    g_autoptr(GPtrArray) parts = g_ptr_array_new();

    for (guint i = 0; i < thought->runs->len; i++)
        g_ptr_array_add(parts, ((GPtrArray *)thought->runs->pdata[i])->pdata[0]);
    return plan_option_sum(parts, strategy_of_parts(thought, parts));
}

/* ---- the choice for one disk ---- */

bool
way_fits(const Way *way, uint64_t room)
{
    return way->total->blocker == NULL && way->total->space_peak <= room;
}

static bool
is_copy_of_disk(const Thought *thought, const Way *way)
{
    return way->whole && way->total->strategy == STRATEGY_COPY &&
           thought->all.first < thought->all.last;
}

static bool
is_as_fast(const Thought *thought, const Way *way, const Way *fastest)
{
    double slack = is_copy_of_disk(thought, fastest) ? COPY_SECONDS : TIE_SECONDS;

    return way->total->seconds <=
           MAX(fastest->total->seconds * TIE_TIMES, fastest->total->seconds + slack);
}

static bool
is_better(const Way *way, const Way *than)
{
    if (way->total->bytes_written != than->total->bytes_written)
        return way->total->bytes_written < than->total->bytes_written;
    return way->total->pauses < than->total->pauses;
}

Way *
thought_best_way(const Thought *thought, uint64_t room)
{
    const Way *fastest = NULL;
    Way *best = NULL;

    for (guint i = 0; i < thought->ways->len; i++) {
        const Way *way = thought->ways->pdata[i];
        if (way_fits(way, room) &&
            (fastest == NULL || way->total->seconds < fastest->total->seconds))
            fastest = way;
    }
    for (guint i = 0; i < thought->ways->len; i++) {
        Way *way = thought->ways->pdata[i];
        if (way_fits(way, room) && is_as_fast(thought, way, fastest) &&
            (best == NULL || is_better(way, best)))
            best = way;
    }
    return best;
}
