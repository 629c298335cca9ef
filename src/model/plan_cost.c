/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * What one strategy costs, and what stands in its way.
 *
 * Seconds are bytes and calls by the measured rates of the storage, and what it takes besides,
 * which was measured on two cores with libvirt 9.0 and QEMU 7.2 and hardly depends on the data.
 */
#include "model/plan_cost.h"

#define JOB_SECONDS 0.08    /* a block job through libvirt, from its start until it is resolved */
#define PIVOT_SECONDS 0.03  /* the guest stands still so long, too */
#define SEAL_SECONDS 0.04   /* a live snapshot; most of that is its drain */
#define DAEMON_SECONDS 0.10 /* qemu-storage-daemon comes up, commits nothing, and ends */
#define SWITCH_SECONDS 0.05 /* of a VM that is off: manifest and definition are rewritten */
#define BUILD_SECONDS 0.02  /* one new volume: created, checked, on disk */

/* A leaf whose file takes less than this is copied by the block copy: that costs less than sealing
 * it. */
#define SMALL_LEAF (4 * 1024 * 1024)

static const Volume *
volume_at(const Scope *scope, unsigned index)
{
    return scope->disk->volumes->pdata[index];
}

void
plan_option_free(PlanOption *option)
{
    if (option == NULL)
        return;
    g_free(option->blocker);
    g_free(option);
}

PlanOption *
plan_option_copy(const PlanOption *option)
{
    PlanOption *copy = g_new(PlanOption, 1);

    *copy = *option;
    copy->blocker = g_strdup(option->blocker);
    return copy;
}

PlanOption *
plan_option_sum(const GPtrArray *options, Strategy strategy)
{
    PlanOption *sum = g_new0(PlanOption, 1);
    uint64_t taken = 0; /* what the ones before keep; what they free is not counted on */

    sum->strategy = strategy;
    for (guint i = 0; i < options->len; i++) {
        const PlanOption *option = options->pdata[i];

        if (option->blocker != NULL && sum->blocker == NULL) {
            sum->blocker = g_strdup(option->blocker);
            sum->space_missing = option->space_missing;
        }
        sum->bytes_read += option->bytes_read;
        sum->bytes_written += option->bytes_written;
        sum->space_peak = MAX(sum->space_peak, taken + option->space_peak);
        taken += option->space_freed < 0 ? (uint64_t)-option->space_freed : 0;
        sum->space_freed += option->space_freed;
        sum->seconds += option->seconds;
        sum->pauses += option->pauses;
        sum->pause_ms = MAX(sum->pause_ms, option->pause_ms);
    }
    return sum;
}

/* ---- what stays ---- */

static unsigned
lowest_volume(const Scope *scope)
{
    return scope_group(scope, scope->first)->base;
}

static unsigned
highest_volume(const Scope *scope)
{
    return scope_group(scope, scope->last)->top;
}

/* The highest volume of the scope on which somebody else stands; -1 = none. He reads through all
 * that are below it. */
static int
highest_used(const Scope *scope)
{
    int highest = -1;

    for (unsigned i = lowest_volume(scope); i <= highest_volume(scope); i++)
        if (volume_at(scope, i)->used_by != NULL)
            highest = (int)i;
    return highest;
}

static bool
is_kept(const Scope *scope, int highest, unsigned index)
{
    return (int)index <= highest || volume_at(scope, index)->read_only;
}

char **
scope_kept(const Scope *scope)
{
    g_autoptr(GPtrArray) paths = g_ptr_array_new();
    int highest = highest_used(scope);

    for (unsigned i = lowest_volume(scope); i <= highest_volume(scope); i++)
        if (is_kept(scope, highest, i))
            g_ptr_array_add(paths, g_strdup(volume_at(scope, i)->path));
    if (paths->len == 0)
        return NULL;
    g_ptr_array_add(paths, NULL);
    return (char **)g_ptr_array_steal(paths, NULL);
}

/* What the files take that graft or copy make needless. */
static uint64_t
allocated_that_goes(const Scope *scope)
{
    int highest = highest_used(scope);
    uint64_t sum = 0;

    for (unsigned i = lowest_volume(scope); i <= highest_volume(scope); i++)
        if (!is_kept(scope, highest, i))
            sum += volume_at(scope, i)->allocated;
    return sum;
}

/* ---- blockers: text for the caller, or NULL ---- */

static char *
misfit(const Scope *scope, Strategy strategy)
{
    if (strategy == STRATEGY_COLD_COMMIT && scope_runs(scope))
        return g_strdup("the strategy cold-commit needs a VM that is down, and this one is not; "
                        "ask for auto");
    if (strategy == STRATEGY_COMMIT_ACTIVE && !scope_runs(scope))
        return g_strdup("the strategy commit-active needs a running VM, and this one is down; "
                        "start it, or ask for auto or cold-commit");
    if (strategy == STRATEGY_COMMIT_ACTIVE && !scope_has_leaf(scope))
        return g_strdup_printf("the strategy commit-active needs a run that holds the leaf, and "
                               "this one ends below it, at %s; ask for auto or commit",
                               volume_at(scope, highest_volume(scope))->path);
    return NULL;
}

char *
commit_size_blocker(const Volume *base, const Volume *top)
{
    if (top->virtual_size >= base->virtual_size)
        return NULL;
    return g_strdup_printf("its top %s is smaller (%" G_GUINT64_FORMAT " bytes) than its base %s "
                           "(%" G_GUINT64_FORMAT "): a commit leaves the base's end as it is, and "
                           "what the disk has lost by that would be read again; ask for auto",
                           top->path, top->virtual_size, base->path, base->virtual_size);
}

char *
commit_snapshots_blocker(const Disk *disk, unsigned base, unsigned top)
{
    for (unsigned i = base + 1; i <= top; i++) {
        const Volume *volume = disk->volumes->pdata[i];
        if (volume->internal_snapshots)
            return g_strdup_printf("%s holds internal snapshots, which no merge can carry over and "
                                   "which would go with the file; list them with qemu-img snapshot "
                                   "-U -l, and delete those that nobody needs (virsh "
                                   "snapshot-delete, or with the VM off qemu-img snapshot -d)",
                                   volume->path);
    }
    return NULL;
}

char *
commit_bitmaps_blocker(const Disk *disk, unsigned base, unsigned top)
{
    for (unsigned i = base + 1; i <= top; i++) {
        const Volume *volume = disk->volumes->pdata[i];
        if (volume->bitmaps)
            return g_strdup_printf("%s holds dirty bitmaps (checkpoints), which are carried over "
                                   "only while the VM runs; without them the next incremental "
                                   "backup would leave out what was written. Start the VM, or "
                                   "remove them: virsh checkpoint-delete, qemu-img bitmap --remove",
                                   volume->path);
    }
    return NULL;
}

/* A commit changes base, and all that stand on it or above it, up to the leaf, read through it. */
static char *
commit_blocker(const Scope *scope)
{
    unsigned first = lowest_volume(scope);
    const Volume *base = volume_at(scope, first);
    g_autofree char *why = commit_size_blocker(base, volume_at(scope, highest_volume(scope)));

    for (unsigned i = first + 1; i < scope->disk->volumes->len; i++) {
        const Volume *volume = volume_at(scope, i);
        if (volume->used_by != NULL)
            return g_strdup_printf("%s stands on %s, which the merge would take away or change; it "
                                   "is possible once %s is deleted or has data of its own",
                                   volume->used_by, volume->path, volume->used_by);
    }
    if (base->used_by != NULL)
        return g_strdup_printf("%s stands on its base %s, which must not change; it is possible "
                               "once %s is deleted or has data of its own",
                               base->used_by, base->path, base->used_by);
    if (base->read_only)
        return g_strdup_printf("its base %s is read-only; it is possible once the file can be "
                               "written",
                               base->path);
    if (why == NULL)
        why = commit_snapshots_blocker(scope->disk, first, highest_volume(scope));
    if (why == NULL && !scope_runs(scope))
        why = commit_bitmaps_blocker(scope->disk, first, highest_volume(scope));
    return g_steal_pointer(&why);
}

/* At the pivot of a block copy QEMU puts the new leaf in place of the filter, too, and keeps the
 * filter with all of the old chain open until it ends (seen with QEMU 7.2). */
static char *
build_blocker(const Scope *scope, Strategy strategy)
{
    if (scope_runs(scope) && scope->disk->copies_on_read)
        return g_strdup("the disk has copy_on_read, with which QEMU would keep the old volumes "
                        "open; it is possible while the VM is off");
    if (strategy == STRATEGY_GRAFT && !scope->on->can_share)
        return g_strdup_printf("the file system of %s cannot share blocks between files",
                               scope->on->storage);
    for (guint i = scope->first; i <= scope->last; i++)
        if (scope_group(scope, i)->uncarried != NULL)
            return g_strdup(scope_group(scope, i)->uncarried);
    return NULL;
}

static bool
is_build(Strategy strategy)
{
    return strategy == STRATEGY_GRAFT || strategy == STRATEGY_COPY;
}

static char *
blocker_of(const Scope *scope, Strategy strategy)
{
    char *blocker = misfit(scope, strategy);

    if (blocker == NULL)
        blocker = is_build(strategy) ? build_blocker(scope, strategy) : commit_blocker(scope);
    if (blocker == NULL && strategy == STRATEGY_COMMIT_ACTIVE && scope->plan->verify == VERIFY_FULL)
        blocker = g_strdup("what the VM writes on cannot be compared while it runs; copy or graft "
                           "can be checked, or verify=extents");
    if (blocker == NULL)
        blocker = g_strdup(scope_group(scope, scope->last)->unread);
    return blocker;
}

static void
check_space(const Scope *scope, PlanOption *option)
{
    uint64_t free_bytes = scope->on->free;

    if (option->blocker != NULL || option->space_peak <= free_bytes)
        return;
    option->space_missing = option->space_peak - free_bytes;
    option->blocker =
        g_strdup_printf("needs %" G_GUINT64_FORMAT " bytes more than are free on %s "
                        "(%" G_GUINT64_FORMAT " needed)",
                        option->space_missing, scope->on->storage, option->space_peak);
}

/* ---- costs ---- */

static double
at_rate(const Scope *scope, uint64_t amount, Rate rate)
{
    return (double)amount / rates_expect(&scope->on->rates, rate);
}

static void
cost_commit(const Scope *scope, PlanOption *option)
{
    const PlanGroup *group = scope_group(scope, scope->first);
    uint64_t goes = 0;

    for (unsigned i = group->base + 1; i <= group->top; i++)
        goes += volume_at(scope, i)->allocated;
    option->bytes_read = option->bytes_written = group->upper;
    option->space_peak = group->grow;
    option->space_freed = (int64_t)goes - (int64_t)group->grow;
    if (!scope_runs(scope)) {
        option->seconds = DAEMON_SECONDS + at_rate(scope, group->upper, RATE_COLD);
        return;
    }
    option->seconds = JOB_SECONDS +
                      at_rate(scope, group->upper - MIN(group->grow, group->upper), RATE_COMMIT) +
                      at_rate(scope, MIN(group->grow, group->upper), RATE_FILL);
    if (scope_has_leaf(scope)) {
        option->seconds += PIVOT_SECONDS;
        option->pauses = 1;
        option->pause_ms = PIVOT_SECONDS * 1000;
    }
}

/* What new volumes for a scope consist of. */
typedef struct {
    uint64_t data;   /* that the builder brings */
    uint64_t pieces; /* in so many calls, if they are shared */
    uint64_t leaf;   /* that the block copy brings */
    uint64_t all, metadata;
    bool sealed;
} Build;

/* Of a VM that runs, the leaf comes by the block copy, unless it is sealed and then built like the
 * others. Only sharing gains by that: who copies copies the leaf either way. */
static Build
build_of(const Scope *scope, Strategy strategy)
{
    Build build = { 0 };

    build.sealed = strategy == STRATEGY_GRAFT && scope_runs(scope) &&
                   disk_leaf(scope->disk)->allocated > SMALL_LEAF;
    for (guint i = scope->first; i <= scope->last; i++) {
        const PlanGroup *group = scope_group(scope, i);
        bool without_leaf = i == scope->last && scope_runs(scope) && !build.sealed;

        build.data += without_leaf ? group->below : group->all;
        build.pieces += without_leaf ? group->below_pieces : group->pieces;
        build.leaf += without_leaf ? group->leaf : 0;
        build.all += group->all;
        build.metadata += group->metadata;
    }
    return build;
}

static void
cost_build(const Scope *scope, PlanOption *option)
{
    Build build = build_of(scope, option->strategy);
    uint64_t goes = allocated_that_goes(scope);

    option->bytes_read = build.leaf;
    option->bytes_written = build.leaf + build.metadata;
    option->seconds = (scope->last - scope->first + 1) * BUILD_SECONDS +
                      at_rate(scope, build.metadata, RATE_COPY) +
                      at_rate(scope, build.leaf, RATE_FILL);
    if (option->strategy == STRATEGY_GRAFT) {
        /* what only the files that go hold becomes free; what they share with the new volumes, or
         * these with files that stay, does not: never more than is surely so is claimed */
        option->space_peak = build.leaf + build.metadata;
        option->space_freed = (int64_t)(goes - MIN(goes, build.all)) - (int64_t)build.metadata;
        option->seconds += at_rate(scope, build.pieces, RATE_SHARE);
    } else {
        option->bytes_read += build.data;
        option->bytes_written += build.data;
        option->space_peak = build.all + build.metadata;
        option->space_freed = (int64_t)goes - (int64_t)option->space_peak;
        option->seconds += at_rate(scope, build.data, RATE_COPY);
    }
    if (!scope_runs(scope)) {
        option->seconds += SWITCH_SECONDS;
        return;
    }
    option->seconds += JOB_SECONDS + PIVOT_SECONDS + (build.sealed ? SEAL_SECONDS : 0);
    option->pauses = build.sealed ? 2 : 1;
    option->pause_ms = PIVOT_SECONDS * 1000;
}

/* What was merged is read as it was and as it is, and compared. */
static void
cost_full_check(const Scope *scope, PlanOption *option)
{
    uint64_t data = is_build(option->strategy) ? build_of(scope, option->strategy).data
                                               : scope_group(scope, scope->first)->upper;

    option->bytes_read += 2 * data;
    option->seconds += at_rate(scope, 2 * data, RATE_READ);
}

PlanOption *
plan_option_new(const Scope *scope, Strategy strategy)
{
    PlanOption *option = g_new0(PlanOption, 1);
    g_autofree char *unfit = misfit(scope, strategy);

    option->strategy = strategy;
    option->blocker = blocker_of(scope, strategy);
    if (unfit != NULL)
        return option; /* costs would mean nothing */
    if (is_build(strategy))
        cost_build(scope, option);
    else
        cost_commit(scope, option);
    if (scope->plan->verify == VERIFY_FULL)
        cost_full_check(scope, option);
    check_space(scope, option);
    return option;
}
