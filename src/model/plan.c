/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * The structure of a plan: which boundaries go, and the groups that this leaves.
 */
#include "model/plan.h"

#include "model/verbs.h"

static const char *const strategy_words[STRATEGY_LAST] = {
#define X(strategy, word) [strategy] = word,
    STRATEGY_TABLE(X)
#undef X
};

static const char *const verify_words[VERIFY_LAST] = {
#define X(verify, word) [verify] = word,
    VERIFY_TABLE(X)
#undef X
};

const char *
strategy_word(Strategy strategy)
{
    return strategy < STRATEGY_LAST ? strategy_words[strategy] : "unknown";
}

bool
strategy_is_forward(const char *word)
{
    return g_strcmp0(word, strategy_words[STRATEGY_GRAFT]) == 0 ||
           g_strcmp0(word, strategy_words[STRATEGY_COPY]) == 0;
}

const char *
verify_word(Verify verify)
{
    return verify < VERIFY_LAST ? verify_words[verify] : "unknown";
}

/* The index of the word in the table, or -1 with an error that lists all. */
static int
word_index(const char *what, const char *const *words, int count, const char *word, GError **error)
{
    g_autoptr(GString) known = g_string_new(NULL);

    for (int i = 0; i < count; i++) {
        if (g_strcmp0(words[i], word) == 0)
            return i;
        g_string_append_printf(known, "%s%s", i > 0 ? ", " : "", words[i]);
    }
    error_set(error, ERR_INVALID, "unknown %s '%s'; known are %s", what, word != NULL ? word : "",
              known->str);
    return -1;
}

bool
strategy_from_word(const char *word, Strategy *ret_strategy, GError **error)
{
    int index = word_index("strategy", strategy_words, STRATEGY_LAST, word, error);

    if (index >= 0)
        *ret_strategy = (Strategy)index;
    return index >= 0;
}

bool
verify_from_word(const char *word, Verify *ret_verify, GError **error)
{
    int index = word == NULL ? (int)VERIFY_EXTENTS
                             : word_index("way to verify", verify_words, VERIFY_LAST, word, error);

    if (index >= 0)
        *ret_verify = (Verify)index;
    return index >= 0;
}

/* ---- memory ---- */

static void
group_free(void *data)
{
    PlanGroup *group = data;

    g_free(group->uncarried);
    g_free(group->unread);
    g_free(group);
}

static void
plan_disk_free(void *data)
{
    PlanDisk *disk = data;

    g_free(disk->disk_id);
    g_free(disk->target);
    g_ptr_array_unref(disk->groups);
    g_strfreev(disk->removed);
    g_free(disk->storage);
    g_free(disk);
}

static void
run_free(void *data)
{
    Run *run = data;

    g_free(run->disk_id);
    g_free(run->target);
    g_free(run->base);
    g_free(run->top);
    g_strfreev(run->removed);
    g_strfreev(run->kept);
    g_ptr_array_unref(run->options);
    g_free(run);
}

void
plan_free(Plan *plan)
{
    if (plan == NULL)
        return;
    g_ptr_array_unref(plan->disks);
    g_ptr_array_unref(plan->runs);
    g_free(plan);
}

/* ---- boundaries: which of them go ---- */

static const Volume *
volume_at(const Disk *disk, unsigned index)
{
    return disk->volumes->pdata[index];
}

/* Every refusal begins with the disk and its VM. */
static bool refuse(const Vm *vm, const Disk *disk, GError **error, const char *format, ...)
    G_GNUC_PRINTF(4, 5);
static bool
refuse(const Vm *vm, const Disk *disk, GError **error, const char *format, ...)
{
    g_autofree char *why = NULL;
    va_list args;

    va_start(args, format);
    why = g_strdup_vprintf(format, args);
    va_end(args);
    return error_set(error, ERR_REFUSED, "cannot merge disk %s of VM '%s': %s; nothing was changed",
                     disk->target, vm->name, why);
}

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
    const SnapshotDisk *entry = snapshot_disk(snapshot, disk->id);
    const Snapshot *other;
    int index;

    if (entry == NULL)
        return true;
    if (!disk_is_managed(disk))
        return refuse(vm, disk, error, "snapshot '%s' has a volume of it, but %s", snapshot->name,
                      disk->unmanaged != NULL ? disk->unmanaged
                                              : "the disk is read-only or has no known volumes");
    index = disk_volume_index(disk, entry->volume_id);
    if (index < 0 &&
        entry->unusable) /* merged by others: only its entry is left, to be forgotten */
        return true;
    if (index < 0)
        return refuse(vm, disk, error, "volume %s of snapshot '%s' is not in its chain",
                      entry->volume_id, snapshot->name);
    if ((guint)index + 1 == disk->volumes->len)
        return refuse(vm, disk, error,
                      "snapshot '%s' is recorded on the leaf %s, which the VM writes",
                      snapshot->name, volume_at(disk, (unsigned)index)->path);
    other = other_owner(vm, disk, ids, entry->volume_id);
    if (other != NULL)
        return refuse(vm, disk, error,
                      "snapshot '%s' stands on the same volume as '%s'; delete both together",
                      other->name, snapshot->name);
    gone[index] = true;
    return true;
}

/* ---- groups ---- */

/* gone[i]: the boundary between volumes i and i + 1 goes. The last one is never set. */
static PlanDisk *
plan_disk_new(const Disk *disk, unsigned first, const bool *gone)
{
    PlanDisk *plan_disk = g_new0(PlanDisk, 1);
    g_autoptr(GPtrArray) removed = g_ptr_array_new();

    plan_disk->disk_id = g_strdup(disk->id);
    plan_disk->target = g_strdup(disk->target);
    plan_disk->groups = g_ptr_array_new_with_free_func(group_free);
    rates_init(&plan_disk->rates);
    for (unsigned i = first; i < disk->volumes->len; i++) {
        PlanGroup *group = g_new0(PlanGroup, 1);
        for (group->base = i; gone[i]; i++)
            g_ptr_array_add(removed, g_strdup(volume_at(disk, i)->id));
        group->top = i;
        g_ptr_array_add(plan_disk->groups, group);
    }
    g_ptr_array_add(removed, NULL);
    plan_disk->removed = (char **)g_ptr_array_steal(removed, NULL);
    return plan_disk;
}

static bool
add_disk(Plan *plan, const Vm *vm, const Disk *disk, const char *const *ids, GError **error)
{
    g_autofree bool *gone = g_new0(bool, disk->volumes->len + 1);
    g_autofree char *busy = disk_busy_reason(vm, disk);
    unsigned first = 0;

    for (guint i = 0; i < vm->snapshots->len; i++) {
        const Snapshot *snapshot = vm->snapshots->pdata[i];
        if (is_chosen(ids, snapshot) && !mark_boundary(vm, disk, ids, snapshot, gone, error))
            return false;
    }
    while (first < disk->volumes->len && !gone[first])
        first++;
    if (first >= disk->volumes->len)
        return true; /* nothing to merge */
    if (busy != NULL)
        return refuse(vm, disk, error, "%s", busy);
    g_ptr_array_add(plan->disks, plan_disk_new(disk, first, gone));
    return true;
}

/* Without its disks it is there as before; of one that has none nothing would be done. */
static bool
holds_disk(const Vm *vm, const Snapshot *snapshot, const char *only_disk, GError **error)
{
    return only_disk == NULL || !snapshot_is_config_only(snapshot) ||
           error_set(error, ERR_INVALID,
                     "snapshot '%s' of VM '%s' holds the configuration alone, and nothing of disk "
                     "%s; to delete it, name no disk",
                     snapshot->name, vm->name, vm_disk(vm, only_disk)->target);
}

static bool
check_request(const Vm *vm, const char *const *ids, const char *only_disk, GError **error)
{
    if (only_disk != NULL && vm_disk(vm, only_disk) == NULL)
        return error_set(error, ERR_NOT_FOUND, "VM '%s' has no disk '%s'", vm->name, only_disk);
    for (; *ids != NULL; ids++) {
        const Snapshot *snapshot = vm_snapshot(vm, *ids);
        if (snapshot == NULL)
            return error_set(error, ERR_NOT_FOUND, "VM '%s' has no snapshot '%s'", vm->name, *ids);
        if (!holds_disk(vm, snapshot, only_disk, error))
            return false;
    }
    return verb_state_allowed(VERB_SNAPSHOT_DELETE, vm, error);
}

Plan *
plan_new(const Vm *vm, const char *const *snapshot_ids, const char *only_disk, Strategy wanted,
         Verify verify, GError **error)
{
    g_autoptr(Plan) plan = g_new0(Plan, 1);

    plan->wanted = wanted;
    plan->verify = verify;
    plan->disks = g_ptr_array_new_with_free_func(plan_disk_free);
    plan->runs = g_ptr_array_new_with_free_func(run_free);
    if (!check_request(vm, snapshot_ids, only_disk, error))
        return NULL;
    for (guint i = 0; i < vm->disks->len; i++) {
        const Disk *disk = vm->disks->pdata[i];
        if (only_disk != NULL && disk != vm_disk(vm, only_disk))
            continue;
        if (!add_disk(plan, vm, disk, snapshot_ids, error))
            return NULL;
    }
    return g_steal_pointer(&plan);
}

/* ---- upper bounds ---- */

#define CLUSTER 65536 /* of a volume that we write */

/* What a qcow2 volume with so much data needs besides: mapping tables (8 bytes a cluster; each
 * table may be nearly empty, but there are no more than the size has), counts of references, and
 * the header's cluster and beginnings of each. */
static uint64_t
metadata_bound(uint64_t data, uint64_t virtual_size)
{
    uint64_t clusters = data / CLUSTER + 1, per_table = CLUSTER / 8;
    uint64_t tables = MIN(clusters, virtual_size / CLUSTER / per_table + 1);
    uint64_t top_table = virtual_size / CLUSTER / per_table * 8;

    return (tables + 8 + (clusters + tables) * 2 / CLUSTER) * CLUSTER + top_table;
}

/* What volumes [from..to] hold at most: what their files take, but not more than the guest sees. */
static uint64_t
data_bound(const Disk *disk, unsigned from, unsigned to)
{
    uint64_t sum = 0, size = 0;

    for (unsigned i = from; i <= to && i < disk->volumes->len; i++) {
        sum += volume_at(disk, i)->allocated;
        size = MAX(size, volume_at(disk, i)->virtual_size);
    }
    return size > 0 ? MIN(sum, size) : sum;
}

static void
guess_group(PlanGroup *group, const Disk *disk)
{
    bool has_leaf = group->top + 1 == disk->volumes->len;

    group->upper = data_bound(disk, group->base + 1, group->top);
    group->grow = group->upper;
    group->all = data_bound(disk, group->base, group->top);
    group->pieces = group->all / CLUSTER + 1;
    group->metadata = metadata_bound(group->all, volume_at(disk, group->top)->virtual_size);
    if (!has_leaf)
        return;
    group->leaf = volume_at(disk, group->top)->allocated;
    if (group->base < group->top) {
        group->below = data_bound(disk, group->base, group->top - 1);
        group->below_pieces = group->below / CLUSTER + 1;
    }
}

void
plan_guess(Plan *plan, const Vm *vm)
{
    for (guint i = 0; i < plan->disks->len; i++) {
        PlanDisk *plan_disk = plan->disks->pdata[i];
        const Disk *disk = vm_disk(vm, plan_disk->disk_id);

        plan_disk->exact = false;
        g_free(plan_disk->storage);
        plan_disk->storage = g_path_get_dirname(disk_leaf(disk)->path);
        plan_disk->can_share = false;
        plan_disk->free = UINT64_MAX;
        rates_init(&plan_disk->rates);
        for (guint j = 0; j < plan_disk->groups->len; j++)
            guess_group(plan_disk->groups->pdata[j], disk);
    }
}
