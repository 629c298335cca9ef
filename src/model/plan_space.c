/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * The choice for all disks. They are merged side by side, so those on one storage share what is
 * free there: if the fastest ways do not fit together, disks go over to ways that need less, where
 * that costs the least time.
 */
#include "model/plan_way.h"

/* Nothing is possible: the way whose reason helps most. Bytes can be made free, the fewer the
 * better; else the plain one. */
static Way *
least_blocked(const Thought *thought)
{
    Way *least = NULL;

    for (guint i = 0; i < thought->ways->len; i++) {
        Way *way = thought->ways->pdata[i];
        uint64_t missing = way->total->space_missing;
        if (missing > 0 && (least == NULL || missing < least->total->space_missing))
            least = way;
    }
    return least != NULL ? least : thought->ways->pdata[0];
}

static bool
shares_storage(const Thought *a, const Thought *b)
{
    return g_strcmp0(a->all.on->storage, b->all.on->storage) == 0;
}

static bool
is_possible(const Thought *thought)
{
    return thought->choice->total->blocker == NULL;
}

/* Possible, or would be if there were room. */
static bool
takes_room(const Thought *thought)
{
    return is_possible(thought) || thought->choice->total->space_missing > 0;
}

/* Looked at for each disk, at slightly different times: the least counts. */
static uint64_t
free_on_storage(const GPtrArray *thoughts, const Thought *one)
{
    uint64_t free_bytes = UINT64_MAX;

    for (guint i = 0; i < thoughts->len; i++) {
        const Thought *thought = thoughts->pdata[i];
        if (shares_storage(thought, one))
            free_bytes = MIN(free_bytes, thought->all.on->free);
    }
    return free_bytes;
}

/* What is free for this disk, the needs of the others there set aside; 0 if less than nothing. */
static uint64_t
room_for(const GPtrArray *thoughts, const Thought *one)
{
    uint64_t room = free_on_storage(thoughts, one);

    for (guint i = 0; i < thoughts->len; i++) {
        const Thought *thought = thoughts->pdata[i];
        if (thought != one && shares_storage(thought, one) && takes_room(thought))
            room -= MIN(room, thought->choice->total->space_peak);
    }
    return room;
}

/* Bytes that are missing on the storage of this disk with the ways as chosen; ret_needed: by all
 * disks there. */
static uint64_t
missing_on_storage(const GPtrArray *thoughts, const Thought *one, uint64_t *ret_needed)
{
    uint64_t needed = 0;

    for (guint i = 0; i < thoughts->len; i++) {
        const Thought *thought = thoughts->pdata[i];
        if (shares_storage(thought, one) && takes_room(thought))
            needed += thought->choice->total->space_peak;
    }
    *ret_needed = needed;
    return needed - MIN(needed, free_on_storage(thoughts, one));
}

/* The change of way on the storage of "one" that costs the least time for each of the missing bytes
 * that it saves. */
static Way *
cheapest_saving(const GPtrArray *thoughts, const Thought *one, uint64_t missing,
                Thought **ret_thought)
{
    double best_price = 0;
    Way *best = NULL;

    for (guint i = 0; i < thoughts->len; i++) {
        Thought *thought = thoughts->pdata[i];
        if (!shares_storage(thought, one) || !is_possible(thought))
            continue;
        for (guint j = 0; j < thought->ways->len; j++) {
            Way *way = thought->ways->pdata[j];
            const PlanOption *now = thought->choice->total;
            if (!way_fits(way, UINT64_MAX) || way->total->space_peak >= now->space_peak)
                continue;
            uint64_t saved = MIN(now->space_peak - way->total->space_peak, missing);
            double price = (way->total->seconds - now->seconds) / (double)saved;
            if (best == NULL || price < best_price) {
                best = way;
                best_price = price;
                *ret_thought = thought;
            }
        }
    }
    return best;
}

/* Until all fit, or no way is left that needs less. */
static void
save_space(const GPtrArray *thoughts, const Thought *one)
{
    Thought *changing = NULL;
    uint64_t needed, missing;
    Way *way;

    while ((missing = missing_on_storage(thoughts, one, &needed)) > 0 &&
           (way = cheapest_saving(thoughts, one, missing, &changing)) != NULL)
        changing->choice = way;
}

/* A later change may have made an earlier one needless. */
static void
use_what_is_left(const GPtrArray *thoughts)
{
    bool changed = true;

    for (guint turn = 0; changed && turn < thoughts->len; turn++) {
        changed = false;
        for (guint i = 0; i < thoughts->len; i++) {
            Thought *thought = thoughts->pdata[i];
            Way *way = thought_best_way(thought, room_for(thoughts, thought));
            if (!is_possible(thought) || way == NULL || way == thought->choice)
                continue;
            thought->choice = way;
            changed = true;
        }
    }
}

/* "vda, vdb" */
static char *
targets_on_storage(const GPtrArray *thoughts, const Thought *one)
{
    g_autoptr(GString) targets = g_string_new(NULL);

    for (guint i = 0; i < thoughts->len; i++) {
        const Thought *thought = thoughts->pdata[i];
        if (shares_storage(thought, one) && takes_room(thought) &&
            thought->choice->total->space_peak > 0)
            g_string_append_printf(targets, "%s%s", targets->len > 0 ? ", " : "",
                                   thought->all.on->target);
    }
    return g_string_free(g_steal_pointer(&targets), FALSE);
}

static void
block(PlanOption *option, const char *why, uint64_t missing)
{
    bool only_space = option->blocker == NULL || option->space_missing > 0;

    if (!only_space || option->space_peak == 0 || option->space_missing >= missing)
        return;
    g_free(option->blocker);
    option->blocker = g_strdup(why);
    option->space_missing = missing;
}

/* Together they have no room, even if each alone may have. */
static void
block_together(const GPtrArray *thoughts, const Thought *one)
{
    uint64_t needed, missing = missing_on_storage(thoughts, one, &needed);
    g_autofree char *targets = targets_on_storage(thoughts, one);
    g_autofree char *why = g_strdup_printf("the merges of %s together need %" G_GUINT64_FORMAT
                                           " bytes more than are free "
                                           "on %s (%" G_GUINT64_FORMAT " needed)",
                                           targets, missing, one->all.on->storage, needed);

    if (missing == 0)
        return;
    for (guint i = 0; i < thoughts->len; i++) {
        const Thought *thought = thoughts->pdata[i];
        if (!shares_storage(thought, one) || !takes_room(thought))
            continue;
        for (guint j = 0; j < thought->choice->parts->len; j++)
            block(thought->choice->parts->pdata[j], why, missing);
    }
}

void
thoughts_choose(const GPtrArray *thoughts)
{
    for (guint i = 0; i < thoughts->len; i++) {
        Thought *thought = thoughts->pdata[i];
        thought->choice = thought_best_way(thought, UINT64_MAX);
        if (thought->choice == NULL)
            thought->choice = least_blocked(thought);
    }
    for (guint i = 0; i < thoughts->len; i++)
        save_space(thoughts, thoughts->pdata[i]);
    use_what_is_left(thoughts);
    for (guint i = 0; i < thoughts->len; i++)
        block_together(thoughts, thoughts->pdata[i]);
}
