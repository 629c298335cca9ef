/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "qcow2/layout.h"

#include <inttypes.h>

enum { TELL_EVERY = 1024 }; /* slices */

/* Which clusters of a layer's file are named by an entry. Beyond 32 TiB of a file with clusters of
 * 64 KiB they are only counted. */
#define USED_BITS (UINT64_C(1) << 29)
typedef struct {
    uint64_t count, bits;
    uint8_t *bitmap;
} Used;

typedef struct {
    MergedMap *map;
    Used of[QCOW2_MAX_DEPTH];
} AllUsed;

static uint64_t
clusters_of_file(const MergedMap *map, unsigned layer)
{
    return round_up(map->layers[layer].file.size, UINT64_C(1) << map->bits) >> map->bits;
}

static void
all_used_init(AllUsed *used, MergedMap *map)
{
    used->map = map;
    for (unsigned i = 0; i < map->n; i++) {
        used->of[i].bits = MIN(clusters_of_file(map, i), USED_BITS);
        used->of[i].bitmap = g_try_malloc0((size_t)(used->of[i].bits / 8 + 1));
    }
}

static void
all_used_clear(AllUsed *used)
{
    for (unsigned i = 0; used->map != NULL && i < used->map->n; i++)
        g_free(used->of[i].bitmap);
}
G_DEFINE_AUTO_CLEANUP_CLEAR_FUNC(AllUsed, all_used_clear)

static bool
named_twice(const AllUsed *used, const MergedCluster *cluster, uint64_t index, GError **error)
{
    return error_set(error, ERR_CORRUPT,
                     "%s: two L2 entries name the cluster at byte %" PRIu64
                     " of the file: every entry should name a cluster of its own. Look at it "
                     "with: qemu-img check",
                     used->map->layers[cluster->layer].path, index << used->map->bits);
}

/* "n" clusters of data that follow each other in their file, from this one on */
static bool
use(AllUsed *used, const MergedCluster *cluster, size_t n, GError **error)
{
    Used *of = &used->of[cluster->layer];
    uint64_t first = cluster->host >> used->map->bits, end = MIN(first + n, of->bits);

    of->count += n;
    for (uint64_t at = first; of->bitmap != NULL && at < end;) {
        if (at % 8 == 0 && end - at >= 8 && of->bitmap[at / 8] == 0) {
            of->bitmap[at / 8] = 0xff;
            at += 8;
            continue;
        }
        uint8_t bit = (uint8_t)(1U << at % 8);
        if (of->bitmap[at / 8] & bit)
            return named_twice(used, cluster, at, error);
        of->bitmap[at / 8] |= bit;
        at++;
    }
    return true;
}

static bool
count_clusters(Layout *layout, AllUsed *used, const MergedCluster *clusters, size_t count,
               GError **error)
{
    for (size_t i = 0, n; i < count; i += n) {
        const MergedCluster *c = &clusters[i];

        n = merged_run(used->map, c, count - i);
        layout->data += merged_has_data(c) ? n : 0;
        layout->packed += c->kind == MERGED_PACKED ? n : 0;
        if (c->kind != MERGED_DATA)
            continue;
        layout->pieces++;
        if (!use(used, c, n, error))
            return false;
    }
    return true;
}

/* Many entries for one cluster would make a huge volume of a small file. */
static bool
check_used(const AllUsed *used, GError **error)
{
    for (unsigned i = 0; i < used->map->n; i++) {
        if (used->of[i].count > clusters_of_file(used->map, i))
            return error_set(error, ERR_CORRUPT,
                             "%s: the L2 tables name more data clusters than the file has: every "
                             "entry should name a cluster of its own. Look at it with: "
                             "qemu-img check",
                             used->map->layers[i].path);
    }
    return true;
}

static bool
scan(Layout *layout, MergedMap *map, Qcow2Progress progress, void *data, const char *what,
     GError **error)
{
    g_autofree MergedCluster *clusters = g_new(MergedCluster, map->per_slice);
    g_auto(AllUsed) used = { .map = NULL };

    all_used_init(&used, map);
    for (uint64_t slice = 0; slice < map->slices; slice++) {
        bool empty = false;

        if (slice % TELL_EVERY == 0 && progress != NULL && !progress(0, 0, data))
            return error_set(error, ERR_CANCELLED, "%s was cancelled; nothing was changed", what);
        if (merged_is_empty(map, slice))
            continue;
        if (!merged_runs(map, slice, clusters, &empty, error))
            return false;
        if (empty)
            continue;
        layout->needed[slice / 8] |= (uint8_t)(1U << slice % 8);
        layout->tables++;
        if (!count_clusters(layout, &used, clusters, merged_count(map, slice), error))
            return false;
    }
    return check_used(&used, error);
}

static uint64_t
divide_up(uint64_t value, uint64_t unit)
{
    return value / unit + (value % unit != 0);
}

void
layout_place(Layout *l)
{
    uint64_t size = UINT64_C(1) << l->bits, before = 0;

    l->l1_clusters = divide_up(l->slices * 8, size);
    do { /* the refcounts count themselves too */
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
    *layout = (Layout){ .bits = map->bits, .slices = map->slices };
    layout->needed = g_malloc0((size_t)(map->slices / 8 + 1));
    if (!scan(layout, map, progress, data, what, error))
        return false;
    layout_place(layout);
    if (layout->table_clusters << map->bits <= REFCOUNT_TABLE_MAX)
        return true;
    return error_set(error, ERR_UNSUPPORTED,
                     "clusters of %" PRIu64 " bytes are too small for a volume with %" PRIu64
                     " bytes of data",
                     UINT64_C(1) << map->bits, layout->data << map->bits);
}
