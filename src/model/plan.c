/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "model/plan.h"

#include "model/verbs.h"

static const char *const words[STRATEGY_LAST] = {
#define X(strategy, word) [strategy] = word,
    STRATEGY_TABLE(X)
#undef X
};

const char *
strategy_word(Strategy strategy)
{
    return strategy < STRATEGY_LAST ? words[strategy] : "unknown";
}

bool
strategy_from_word(const char *word, Strategy *ret_strategy, GError **error)
{
    g_autoptr(GString) known = g_string_new(NULL);

    for (int strategy = 0; strategy < STRATEGY_LAST; strategy++) {
        if (g_strcmp0(words[strategy], word) == 0) {
            *ret_strategy = (Strategy)strategy;
            return true;
        }
        g_string_append_printf(known, "%s%s", strategy > 0 ? ", " : "", words[strategy]);
    }
    return error_set(error, ERR_INVALID, "unknown strategy '%s'; known are %s",
                     word != NULL ? word : "", known->str);
}

void
run_free(Run *run)
{
    if (run == NULL)
        return;
    g_free(run->disk_id);
    g_free(run->target);
    g_free(run->base);
    g_free(run->top);
    g_strfreev(run->removed);
    g_free(run);
}

static const Volume *
volume_at(const Disk *disk, unsigned index)
{
    return disk->volumes->pdata[index];
}

/* Every refusal of a run begins with the disk and its VM. */
static bool refuse(const Vm *vm, const Run *run, GError **error, const char *format, ...)
    G_GNUC_PRINTF(4, 5);
static bool
refuse(const Vm *vm, const Run *run, GError **error, const char *format, ...)
{
    g_autofree char *why = NULL;
    va_list args;

    va_start(args, format);
    why = g_strdup_vprintf(format, args);
    va_end(args);
    return error_set(error, ERR_REFUSED, "cannot merge disk %s of VM '%s': %s; nothing was changed",
                     run->target, vm->name, why);
}

/* ---- boundaries: which of them go */

static bool
is_chosen(const char *const *ids, const Snapshot *snapshot)
{
    return g_strv_contains(ids, snapshot->id);
}

/* The snapshot outside the set that needs the same boundary. */
static const Snapshot *
other_owner(const Vm *vm, const Disk *disk, const char *const *ids, const char *volume_id)
{
    for (guint i = 0; i < vm->snapshots->len; i++) {
        const Snapshot *snapshot = vm->snapshots->pdata[i];
        const SnapshotDisk *entry = snapshot_disk(snapshot, disk->id);
        if (entry != NULL && !is_chosen(ids, snapshot) &&
            g_strcmp0(entry->volume_id, volume_id) == 0)
            return snapshot;
    }
    return NULL;
}

static bool
mark_boundary(const Vm *vm, const Disk *disk, const char *const *ids, const Snapshot *snapshot,
              bool *gone, GError **error)
{
    const Run about = { .target = disk->target };
    const SnapshotDisk *entry = snapshot_disk(snapshot, disk->id);
    const Snapshot *other;
    int index;

    if (entry == NULL)
        return true;
    if (!disk_is_managed(disk))
        return refuse(vm, &about, error, "snapshot '%s' has a volume of it, but %s", snapshot->name,
                      disk->unmanaged != NULL ? disk->unmanaged
                                              : "the disk is read-only or has no known volumes");
    index = disk_volume_index(disk, entry->volume_id);
    if (index < 0)
        return refuse(vm, &about, error, "volume %s of snapshot '%s' is not in its chain",
                      entry->volume_id, snapshot->name);
    if ((guint)index + 1 == disk->volumes->len)
        return refuse(vm, &about, error,
                      "snapshot '%s' is recorded on the leaf %s, which the VM writes",
                      snapshot->name, volume_at(disk, (unsigned)index)->path);
    other = other_owner(vm, disk, ids, entry->volume_id);
    if (other != NULL)
        return refuse(vm, &about, error,
                      "snapshot '%s' stands on the same volume as '%s'; delete both together",
                      other->name, snapshot->name);
    gone[index] = true;
    return true;
}

/* ---- strategies */

/* Files that leave the chain, and for an internal run the volumes above it as well: whoever
 * stands on those reads through this run. */
static bool
check_users(const Vm *vm, const Disk *disk, const Run *run, GError **error)
{
    for (unsigned i = run->base_index + 1; i < disk->volumes->len; i++) {
        const Volume *volume = volume_at(disk, i);
        if (volume->used_by != NULL)
            return refuse(vm, run, error,
                          "%s stands on %s, which the merge would take away or change; it is "
                          "possible once %s is deleted or has data of its own",
                          volume->used_by, volume->path, volume->used_by);
    }
    return true;
}

/* Why nothing may be written into the base of the run; NULL = it may. The caller frees it. */
static char *
base_blocker(const Disk *disk, const Run *run)
{
    const Volume *base = volume_at(disk, run->base_index);

    if (base->used_by != NULL)
        return g_strdup_printf("%s stands on its base %s, which must not change; it is possible "
                               "once %s is deleted or has data of its own",
                               base->used_by, base->path, base->used_by);
    if (base->read_only)
        return g_strdup_printf("its base %s is read-only; it is possible once the file can be "
                               "written",
                               base->path);
    return NULL;
}

static bool
choose_cold(const Vm *vm, const Disk *disk, Run *run, Strategy wanted, GError **error)
{
    g_autofree char *blocker = base_blocker(disk, run);

    if (wanted == STRATEGY_COPY || wanted == STRATEGY_COMMIT_ACTIVE)
        return refuse(vm, run, error,
                      "the strategy %s needs a running VM, and this one is down; start it, or ask "
                      "for auto or cold-commit",
                      strategy_word(wanted));
    if (blocker != NULL)
        return refuse(vm, run, error, "%s%s", blocker,
                      run->has_leaf ? ", or while the VM runs (strategy copy)" : "");
    run->strategy = STRATEGY_COLD_COMMIT;
    return true;
}

static bool
choose_internal(const Vm *vm, const Disk *disk, Run *run, Strategy wanted, GError **error)
{
    g_autofree char *blocker = base_blocker(disk, run);

    if (wanted == STRATEGY_COPY)
        return refuse(vm, run, error,
                      "the strategy copy needs a run that holds the leaf, and this one ends below "
                      "it, at %s; ask for auto or commit",
                      volume_at(disk, run->top_index)->path);
    if (wanted == STRATEGY_COMMIT_ACTIVE)
        return refuse(vm, run, error,
                      "the strategy commit-active needs a run that holds the leaf, and this one "
                      "ends below it, at %s; ask for auto or commit",
                      volume_at(disk, run->top_index)->path);
    if (blocker != NULL)
        return refuse(vm, run, error, "%s", blocker);
    run->strategy = STRATEGY_COMMIT;
    return true;
}

static bool
choose_leaf(const Vm *vm, const Disk *disk, Run *run, Strategy wanted, GError **error)
{
    g_autofree char *blocker = base_blocker(disk, run);

    if (wanted == STRATEGY_COPY || (wanted == STRATEGY_AUTO && blocker != NULL)) {
        run->strategy = STRATEGY_COPY;
        return true;
    }
    if (blocker != NULL)
        return refuse(vm, run, error, "%s; the strategy copy leaves the base as it is", blocker);
    run->strategy = STRATEGY_COMMIT_ACTIVE;
    return true;
}

static bool
choose_strategy(const Vm *vm, const Disk *disk, Run *run, Strategy wanted, GError **error)
{
    if (!check_users(vm, disk, run, error))
        return false;
    if (vm->state == VM_DOWN)
        return choose_cold(vm, disk, run, wanted, error);
    if (wanted == STRATEGY_COLD_COMMIT)
        return refuse(vm, run, error,
                      "the strategy cold-commit needs a VM that is down, and this one is not; ask "
                      "for auto");
    return run->has_leaf ? choose_leaf(vm, disk, run, wanted, error)
                         : choose_internal(vm, disk, run, wanted, error);
}

static uint64_t
bytes_to_move(const Disk *disk, const Run *run)
{
    unsigned first = run->strategy == STRATEGY_COPY ? run->base_index : run->base_index + 1;
    uint64_t bytes = 0;

    for (unsigned i = first; i <= run->top_index; i++)
        bytes += volume_at(disk, i)->allocated;
    return bytes;
}

/* ---- runs */

static Run *
run_new(const Disk *disk, unsigned base, unsigned top)
{
    Run *run = g_new0(Run, 1);

    run->disk_id = g_strdup(disk->id);
    run->target = g_strdup(disk->target);
    run->base = g_strdup(volume_at(disk, base)->id);
    run->top = g_strdup(volume_at(disk, top)->id);
    run->base_index = base;
    run->top_index = top;
    run->has_leaf = top + 1 == disk->volumes->len;
    return run;
}

/* gone[i]: the boundary between volumes i and i + 1 goes. The last one is never set. */
static bool
add_runs(const Vm *vm, const Disk *disk, const bool *gone, Strategy wanted, GPtrArray *runs,
         GError **error)
{
    g_autofree char *busy = disk_busy_reason(vm, disk);

    for (unsigned i = 0; i < disk->volumes->len; i++) {
        unsigned top = i;

        while (gone[top])
            top++;
        if (top == i)
            continue;
        Run *run = run_new(disk, i, top);
        g_ptr_array_add(runs, run);
        if (busy != NULL)
            return refuse(vm, run, error, "%s", busy);
        if (!choose_strategy(vm, disk, run, wanted, error))
            return false;
        run->bytes = bytes_to_move(disk, run);
        i = top;
    }
    return true;
}

/* One run for all: from the lowest volume that is merged up to the leaf everything is built anew.
 */
static bool
add_graft(const Vm *vm, const Disk *disk, const bool *gone, GPtrArray *runs, GError **error)
{
    g_autofree char *busy = disk_busy_reason(vm, disk);
    g_autoptr(GPtrArray) removed = g_ptr_array_new_with_free_func(g_free);
    unsigned first = 0, leaf = disk->volumes->len - 1;

    while (first < leaf && !gone[first])
        first++;
    if (first >= leaf)
        return true;
    Run *run = run_new(disk, first, leaf);
    g_ptr_array_add(runs, run);
    run->strategy = STRATEGY_GRAFT;
    if (busy != NULL)
        return refuse(vm, run, error, "%s", busy);
    if (vm->state == VM_DOWN)
        return refuse(vm, run, error, "the strategy graft needs a running VM so far; ask for auto");
    for (unsigned i = first; i <= leaf; i++) {
        const Volume *volume = volume_at(disk, i);
        if (volume->used_by != NULL)
            return refuse(vm, run, error,
                          "%s stands on %s, which would be replaced; it is possible once %s is "
                          "deleted or has data of its own",
                          volume->used_by, volume->path, volume->used_by);
        if (gone[i])
            g_ptr_array_add(removed, g_strdup(volume->id));
    }
    g_ptr_array_add(removed, NULL);
    run->removed = (char **)g_ptr_array_steal(removed, NULL);
    return true;
}

static bool
plan_disk(const Vm *vm, const Disk *disk, const char *const *ids, Strategy wanted, GPtrArray *runs,
          GError **error)
{
    g_autoptr(GArray) marks = g_array_new(FALSE, TRUE, sizeof(bool));
    bool *gone;

    g_array_set_size(marks, disk->volumes->len + 1); /* all false */
    gone = (bool *)(void *)marks->data;
    for (guint i = 0; i < vm->snapshots->len; i++) {
        const Snapshot *snapshot = vm->snapshots->pdata[i];
        if (is_chosen(ids, snapshot) && !mark_boundary(vm, disk, ids, snapshot, gone, error))
            return false;
    }
    if (wanted == STRATEGY_GRAFT && disk->volumes->len > 0)
        return add_graft(vm, disk, gone, runs, error);
    return add_runs(vm, disk, gone, wanted, runs, error);
}

static bool
check_request(const Vm *vm, const char *const *ids, const char *only_disk, GError **error)
{
    const char *reason = verb_state_reason(VERB_SNAPSHOT_DELETE, vm->state);

    for (; *ids != NULL; ids++)
        if (vm_snapshot(vm, *ids) == NULL)
            return error_set(error, ERR_NOT_FOUND, "VM '%s' has no snapshot '%s'", vm->name, *ids);
    if (only_disk != NULL && vm_disk(vm, only_disk) == NULL)
        return error_set(error, ERR_NOT_FOUND, "VM '%s' has no disk '%s'", vm->name, only_disk);
    if (reason != NULL)
        return error_set(error, vm->state == VM_UNKNOWN ? ERR_UNREACHABLE : ERR_REFUSED,
                         "cannot merge disks of VM '%s': %s", vm->name, reason);
    return true;
}

GPtrArray *
plan_runs(const Vm *vm, const char *const *snapshot_ids, const char *only_disk, Strategy wanted,
          GError **error)
{
    g_autoptr(GPtrArray) runs = g_ptr_array_new_with_free_func((GDestroyNotify)run_free);

    if (!check_request(vm, snapshot_ids, only_disk, error))
        return NULL;
    for (guint i = 0; i < vm->disks->len; i++) {
        const Disk *disk = vm->disks->pdata[i];
        if (only_disk != NULL && disk != vm_disk(vm, only_disk))
            continue;
        if (!plan_disk(vm, disk, snapshot_ids, wanted, runs, error))
            return NULL;
    }
    return g_steal_pointer(&runs);
}
