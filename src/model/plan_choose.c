/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * The runs of a plan, with what was chosen and what else was thought of.
 */
#include "model/plan_way.h"

#include "base/text.h"

/* ids of the volumes of the scope whose upper boundary goes */
static char **
removed_in(const Scope *scope)
{
    g_autoptr(GPtrArray) ids = g_ptr_array_new();

    for (guint i = scope->first; i <= scope->last; i++) {
        const PlanGroup *group = scope_group(scope, i);
        for (unsigned j = group->base; j < group->top; j++)
            g_ptr_array_add(ids, g_strdup(((Volume *)scope->disk->volumes->pdata[j])->id));
    }
    g_ptr_array_add(ids, NULL);
    return (char **)g_ptr_array_steal(ids, NULL);
}

static Run *
run_new(const Scope *scope, const PlanOption *chosen)
{
    Run *run = g_new0(Run, 1);

    run->disk_id = g_strdup(scope->disk->id);
    run->target = g_strdup(scope->disk->target);
    run->base_index = scope_group(scope, scope->first)->base;
    run->top_index = scope_group(scope, scope->last)->top;
    run->base = g_strdup(((Volume *)scope->disk->volumes->pdata[run->base_index])->id);
    run->top = g_strdup(((Volume *)scope->disk->volumes->pdata[run->top_index])->id);
    run->has_leaf = scope_has_leaf(scope);
    if (chosen->strategy == STRATEGY_GRAFT || chosen->strategy == STRATEGY_COPY) {
        run->removed = removed_in(scope);
        run->kept = scope_kept(scope);
    }
    run->options = options_new();
    g_ptr_array_add(run->options, plan_option_copy(chosen));
    return run;
}

/* Those with a strategy that the run has not yet. */
static void
add_options(Run *run, const GPtrArray *options)
{
    for (guint i = 0; i < options->len; i++) {
        const PlanOption *option = options->pdata[i];
        if (find_option(run->options, option->strategy) == NULL)
            g_ptr_array_add(run->options, plan_option_copy(option));
    }
}

static void
add_run_for_all(Plan *plan, const Thought *thought)
{
    Run *run = run_new(&thought->all, thought->choice->parts->pdata[0]);
    g_autoptr(GPtrArray) commits = options_new();

    g_ptr_array_add(commits, thought_commits(thought));
    add_options(run, commits);
    add_options(run, thought->whole);
    g_ptr_array_add(plan->runs, run);
}

static void
add_runs(Plan *plan, const Thought *thought)
{
    guint next = 0;

    for (guint i = 0; i < thought->all.on->groups->len; i++) {
        Scope scope = thought->all;
        scope.first = scope.last = i;
        if (scope_group(&scope, i)->base == scope_group(&scope, i)->top)
            continue;
        Run *run = run_new(&scope, thought->choice->parts->pdata[next]);
        add_options(run, thought->runs->pdata[next]);
        add_options(run, thought->whole);
        g_ptr_array_add(plan->runs, run);
        next++;
    }
}

void
plan_choose(Plan *plan, const Vm *vm)
{
    g_autoptr(GPtrArray) thoughts = g_ptr_array_new_with_free_func((GDestroyNotify)thought_free);

    g_ptr_array_set_size(plan->runs, 0);
    for (guint i = 0; i < plan->disks->len; i++)
        g_ptr_array_add(thoughts, thought_new(plan, vm, plan->disks->pdata[i]));
    thoughts_choose(thoughts);
    for (guint i = 0; i < thoughts->len; i++) {
        const Thought *thought = thoughts->pdata[i];
        if (thought->choice->whole)
            add_run_for_all(plan, thought);
        else
            add_runs(plan, thought);
    }
}

/* ---- is it possible? ---- */

/* Every reason, when no strategy is left. */
static char *
all_reasons(const Run *run)
{
    g_autoptr(GString) text = g_string_new("no strategy is possible (");

    for (guint i = 0; i < run->options->len; i++) {
        const PlanOption *option = run->options->pdata[i];
        g_string_append_printf(text, "%s%s: %s", i > 0 ? "; " : "", strategy_word(option->strategy),
                               option->blocker);
    }
    g_string_append(text, ")");
    return g_string_free(g_steal_pointer(&text), FALSE);
}

/* A possible option that needs less by so many bytes, the leanest; NULL = none does. */
static const PlanOption *
leaner(const Run *run, uint64_t missing)
{
    uint64_t peak = run_chosen(run)->space_peak;
    const PlanOption *best = NULL;

    for (guint i = 0; i < run->options->len; i++) {
        const PlanOption *option = run->options->pdata[i];
        if (option->blocker == NULL && (missing == 0 || option->space_peak + missing <= peak) &&
            (best == NULL || option->space_peak < best->space_peak))
            best = option;
    }
    return best;
}

static bool
none_is_possible(const Run *run)
{
    for (guint i = 0; i < run->options->len; i++)
        if (((PlanOption *)run->options->pdata[i])->blocker == NULL)
            return false;
    return true;
}

static char *
what_helps(const Run *run)
{
    const PlanOption *blocked = run_chosen(run), *other = leaner(run, blocked->space_missing);
    g_autofree char *missing = size_text(blocked->space_missing);
    g_autofree char *needed = size_text(other != NULL ? other->space_peak : 0);

    if (blocked->space_missing == 0)
        return other == NULL ? g_strdup("")
                             : g_strdup_printf("; the strategy %s is possible",
                                               strategy_word(other->strategy));
    if (other == NULL)
        return g_strdup_printf("; make at least %s free there", missing);
    if (other->space_peak == 0)
        return g_strdup_printf("; make at least %s free there, or ask for the strategy %s, which "
                               "needs none",
                               missing, strategy_word(other->strategy));
    return g_strdup_printf("; make at least %s free there, or ask for the strategy %s, which needs "
                           "only %s",
                           missing, strategy_word(other->strategy), needed);
}

bool
plan_possible(const Plan *plan, const Vm *vm, GError **error)
{
    for (guint i = 0; i < plan->runs->len; i++) {
        const Run *run = plan->runs->pdata[i];
        const PlanOption *chosen = run_chosen(run);
        g_autofree char *helps = NULL;
        g_autofree char *reasons = NULL;

        if (chosen->blocker == NULL)
            continue;
        helps = what_helps(run);
        if (plan->wanted == STRATEGY_AUTO && none_is_possible(run))
            reasons = all_reasons(run);
        return error_set(error, chosen->space_missing > 0 ? ERR_NO_SPACE : ERR_REFUSED,
                         "cannot merge disk %s of VM '%s': %s%s; nothing was changed", run->target,
                         vm->name, reasons != NULL ? reasons : chosen->blocker, helps);
    }
    return true;
}
