/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "qcow2/layout.h"

#include <inttypes.h>

enum { TELL_EVERY = 1024 }; /* slices */

/* What comes after a data cluster so that it is in one piece with it */
typedef struct {
    uint64_t host;
    unsigned layer;
} Next;

static void
count_clusters(Layout *layout, const MergedMap *map, const MergedCluster *clusters, size_t count,
               uint64_t *used)
{
    Next next = { .host = UINT64_MAX };

    for (size_t i = 0; i < count; i++) {
        const MergedCluster *c = &clusters[i];

        if (c->kind != MERGED_DATA) {
            next.host = UINT64_MAX;
            continue;
        }
        layout->data++;
        used[c->layer]++;
        layout->pieces += c->host != next.host || c->layer != next.layer;
        next = (Next){ c->host + (UINT64_C(1) << map->bits), c->layer };
    }
}

/* Many entries for one cluster would make a huge volume of a small file. */
static bool
check_used(const MergedMap *map, const uint64_t *used, GError **error)
{
    for (unsigned i = 0; i < map->n; i++) {
        const MergedLayer *layer = &map->layers[i];

        if (used[i] > round_up(layer->file.size, UINT64_C(1) << map->bits) >> map->bits)
            return error_set(error, ERR_CORRUPT,
                             "%s: the L2 tables name more data clusters than the file has: every "
                             "entry should name a cluster of its own. Look at it with: "
                             "qemu-img check",
                             layer->path);
    }
    return true;
}

static bool
scan(Layout *layout, MergedMap *map, uint64_t *used, Qcow2Progress progress, void *data,
     const char *what, GError **error)
{
    g_autofree MergedCluster *clusters = g_new(MergedCluster, map->per_slice);

    for (uint64_t slice = 0; slice < map->slices; slice++) {
        bool empty = false;

        if (slice % TELL_EVERY == 0 && progress != NULL && !progress(0, 0, data))
            return error_set(error, ERR_CANCELLED, "%s was cancelled; nothing was changed", what);
        if (!merged_slice(map, slice, clusters, &empty, error))
            return false;
        if (empty)
            continue;
        layout->needed[slice / 8] |= (uint8_t)(1U << slice % 8);
        layout->tables++;
        count_clusters(layout, map, clusters, merged_count(map, slice), used);
    }
    return check_used(map, used, error);
}

static uint64_t
divide_up(uint64_t value, uint64_t unit)
{
    return value / unit + (value % unit != 0);
}

/* The refcounts count themselves too. */
static void
place(Layout *l)
{
    uint64_t size = UINT64_C(1) << l->bits, before = 0;

    l->l1_clusters = divide_up(l->slices * 8, size);
    do {
        before = l->total;
        l->blocks = divide_up(MAX(before, 1), size / 2);
        l->table_clusters = divide_up(l->blocks, size / 8);
        l->total = 1 + l->table_clusters + l->blocks + l->l1_clusters + l->tables + l->data;
    } while (l->total != before);
    l->blocks_at = 1 + l->table_clusters;
    l->l1_at = l->blocks_at + l->blocks;
    l->tables_at = l->l1_at + l->l1_clusters;
    l->data_at = l->tables_at + l->tables;
}

bool
layout_make(Layout *layout, MergedMap *map, Qcow2Progress progress, void *data, const char *what,
            GError **error)
{
    uint64_t used[QCOW2_MAX_DEPTH] = { 0 };

    *layout = (Layout){ .bits = map->bits, .slices = map->slices };
    layout->needed = g_malloc0((size_t)(map->slices / 8 + 1));
    if (!scan(layout, map, used, progress, data, what, error))
        return false;
    place(layout);
    if (layout->table_clusters << map->bits <= REFCOUNT_TABLE_MAX)
        return true;
    return error_set(error, ERR_UNSUPPORTED,
                     "clusters of %" PRIu64 " bytes are too small for a volume with %" PRIu64
                     " bytes of data",
                     UINT64_C(1) << map->bits, layout->data << map->bits);
}
