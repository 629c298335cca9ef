/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "agent/lost_merge.h"

#include "agent/operation.h"
#include "model/plan.h"
#include "qcow2/qcow2.h"

bool
agent_knows_operation(Agent *agent, const char *id)
{
    WITH_LOCK(&agent->lock);

    return g_hash_table_contains(agent->operations, id);
}

/* One that has ended, and left its record behind (its VM was undefined), decides nothing any more.
 */
static bool
is_under_way(Agent *agent, const char *id)
{
    WITH_LOCK(&agent->lock);
    const Operation *op = g_hash_table_lookup(agent->operations, id);

    return op != NULL && !operation_ended(op);
}

const char *
lost_merge_path(const LostMerge *lost, int volume)
{
    return ((const Volume *)lost->disk->volumes->pdata[volume])->path;
}

static bool
stands_on(const char *path, const char *below)
{
    g_autofree char *backing = qcow2_backing_of(path);

    return backing != NULL && file_is_same(backing, below);
}

/* The same, of a chain that was read (of Qcow2Layer, base first). */
static bool
stands_on_in(const GPtrArray *layers, const char *path, const char *below)
{
    for (guint i = 1; i < layers->len; i++)
        if (file_is_same(((const Qcow2Layer *)layers->pdata[i])->path, path))
            return file_is_same(((const Qcow2Layer *)layers->pdata[i - 1])->path, below);
    return false;
}

static bool
is_merged(const LostMerge *lost, const GPtrArray *layers)
{
    const char *above = lost_merge_path(lost, lost->top + 1),
               *base = lost_merge_path(lost, lost->base);

    return layers != NULL ? stands_on_in(layers, above, base) : stands_on(above, base);
}

static bool
is_of(const OperationRecord *record, const Disk *disk, LostMerge *lost)
{
    if (g_strcmp0(record->disk_id, disk->id) != 0 || record->base == NULL || record->top == NULL ||
        strategy_is_forward(record->strategy))
        return false;
    lost->record = record;
    lost->disk = disk;
    lost->base = disk_volume_index(disk, record->base);
    lost->top = disk_volume_index(disk, record->top);
    return lost->base >= 0 && lost->top > lost->base && lost->top + 1 < (int)disk->volumes->len;
}

bool
lost_merge_find(Agent *agent, const Vm *stored, const Disk *disk, const GPtrArray *layers,
                LostMerge *ret_lost)
{
    for (guint i = 0; i < stored->operations->len; i++)
        if (is_of(stored->operations->pdata[i], disk, ret_lost) &&
            !is_under_way(agent, ret_lost->record->id) &&
            /* it is deleted only when all was surely flushed */
            file_may_be_there(lost_merge_path(ret_lost, ret_lost->top)) &&
            is_merged(ret_lost, layers))
            return true;
    return false;
}

bool
lost_merge_lives(const LostMerge *lost, const char *instance)
{
    return instance != NULL && g_strcmp0(lost->record->instance, instance) == 0;
}

void
lost_merge_show(const LostMerge *lost, Disk *disk, const char *instance)
{
    const Volume *base = disk_volume_by_path(disk, lost_merge_path(lost, lost->base));
    int at = base != NULL ? disk_volume_index(disk, base->id) : -1;

    for (int i = lost->base + 1; at >= 0 && i <= lost->top; i++) {
        Volume *volume = volume_copy(lost->disk->volumes->pdata[i]);
        volume->allocated = volume_allocated(volume->path);
        g_ptr_array_insert(disk->volumes, ++at, volume);
    }
    g_free(disk->busy);
    disk->busy = g_strdup(lost_merge_lives(lost, instance) ? DISK_ENDING_MERGE : DISK_LOST_MERGE);
}
