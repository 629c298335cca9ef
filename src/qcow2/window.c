/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "qcow2/window.h"

#include <inttypes.h>

#define WINDOW_CLUSTERS ((size_t)1 << 20)
#define SMALL_CLUSTERS ((size_t)1 << 15) /* enough where the sources are in order */

/* Clusters that are together in the L2 tables and in a source. */
typedef struct {
    uint64_t host;
    uint32_t entry; /* the first one's in the tables of the window */
    uint32_t count;
    uint16_t layer;
} Piece;

/* A cluster whose data are compressed (or part of a compressed one) */
typedef struct {
    uint64_t guest;
    MergedCluster cluster;
    uint32_t entry;
} Packed;

/* The end of a cluster reads zero, since the disk of a layer ends in it. */
typedef struct {
    uint32_t entry;
    uint64_t from; /* within the cluster */
} Patch;

typedef struct {
    MergedMap *map;
    const Layout *layout;
    Transfer *transfer;
    size_t capacity; /* tables */
    size_t tables;
    uint8_t *entries; /* L2 tables */
    GArray *pieces, *packed, *patches;
    uint64_t next_table, next_data; /* clusters of the new file */
} Window;

/* Collecting ------------------------------------------------------------------------ */

/* "n" clusters that follow each other in the source */
static void
add_data(Window *w, const MergedCluster *cluster, uint32_t entry, uint32_t n)
{
    Piece *last = w->pieces->len > 0 ? &g_array_index(w->pieces, Piece, w->pieces->len - 1) : NULL;

    if (last != NULL && last->layer == cluster->layer && last->entry + last->count == entry &&
        last->host + ((uint64_t)last->count << w->map->bits) == cluster->host) {
        last->count += n;
        return;
    }
    Piece piece = { cluster->host, entry, n, cluster->layer };
    g_array_append_val(w->pieces, piece);
}

static void
add_packed(Window *w, uint64_t guest, const MergedCluster *cluster, uint32_t entry)
{
    Packed packed = { guest, *cluster, entry };

    g_array_append_val(w->packed, packed);
}

static void
add_patch(Window *w, uint64_t guest, const MergedCluster *cluster, uint32_t entry)
{
    uint64_t shown = merged_shown_end(w->map, guest, cluster->layer) - guest;
    Patch patch = { entry, shown };

    if (shown < UINT64_C(1) << w->map->bits)
        g_array_append_val(w->patches, patch);
}

static void
collect(Window *w, uint64_t slice, const MergedCluster *clusters)
{
    size_t count = merged_count(w->map, slice);
    size_t first = w->tables * w->map->per_slice;
    uint64_t guest = slice << l2_span_bits(w->map->bits, false);

    memset(w->entries + first * 8, 0, w->map->per_slice * 8);
    for (size_t i = 0, n; i < count; i += n) {
        const MergedCluster *c = &clusters[i];
        uint32_t entry = (uint32_t)(first + i);

        n = merged_run(w->map, c, count - i);
        if (c->kind == MERGED_ZERO)
            for (size_t k = 0; k < n; k++)
                put_be64(w->entries + (entry + k) * 8, L2_ZERO);
        else if (c->kind == MERGED_DATA)
            add_data(w, c, entry, (uint32_t)n);
        else if (c->kind == MERGED_PACKED)
            add_packed(w, guest + ((uint64_t)i << w->map->bits), c, entry);
        for (size_t k = 0; w->map->has_ends && merged_has_data(c) && k < n; k++)
            add_patch(w, guest + ((uint64_t)(i + k) << w->map->bits), &c[k], (uint32_t)(entry + k));
    }
    w->tables++;
}

/* Writing --------------------------------------------------------------------------- */

static int
by_source(const void *a, const void *b)
{
    const Piece *x = a, *y = b;

    if (x->layer != y->layer)
        return x->layer < y->layer ? -1 : 1;
    return x->host < y->host ? -1 : x->host > y->host;
}

static bool
in_order(const GArray *pieces, GCompareFunc compare)
{
    size_t size = g_array_get_element_size((GArray *)pieces);

    for (guint i = 1; i < pieces->len; i++)
        if (compare(pieces->data + (i - 1) * size, pieces->data + i * size) > 0)
            return false;
    return true;
}

static void
point_to_data(Window *w, const Piece *piece)
{
    for (uint32_t i = 0; i < piece->count; i++)
        put_be64(w->entries + ((size_t)piece->entry + i) * 8,
                 (w->next_data + i) << w->map->bits | L2_COPIED);
    w->next_data += piece->count;
}

static bool
changed_meanwhile(const Window *w, GError **error)
{
    return error_set(error, ERR_CORRUPT,
                     "a volume of the chain up to %s changed while it was read: only volumes that "
                     "nobody writes to can be merged this way",
                     w->map->layers[w->map->n - 1].path);
}

/* Pieces that follow each other in the source's file go in one call. */
static bool
transfer_pieces(Window *w, GError **error)
{
    unsigned bits = w->map->bits;

    for (guint i = 0; i < w->pieces->len;) {
        const Piece *first = &g_array_index(w->pieces, Piece, i), *piece = first;
        uint64_t to = w->next_data << bits, length = 0;

        do {
            length += (uint64_t)piece->count << bits;
            point_to_data(w, piece);
            piece++;
        } while (++i < w->pieces->len && piece->layer == first->layer &&
                 piece->host == first->host + length);
        if (w->next_data > w->layout->total)
            return changed_meanwhile(w, error);
        if (!transfer_range(w->transfer, first->layer, first->host, to, length, error))
            return false;
    }
    return true;
}

static int
by_packed_source(const void *a, const void *b)
{
    const Packed *x = a, *y = b;

    if (x->cluster.layer != y->cluster.layer)
        return x->cluster.layer < y->cluster.layer ? -1 : 1;
    if (x->cluster.host != y->cluster.host)
        return x->cluster.host < y->cluster.host ? -1 : 1;
    return x->guest < y->guest ? -1 : x->guest > y->guest;
}

static bool
unpack_all(Window *w, GError **error)
{
    unsigned bits = w->map->bits;

    g_array_sort(w->packed, by_packed_source);
    for (guint i = 0; i < w->packed->len; i++) {
        const Packed *packed = &g_array_index(w->packed, Packed, i);
        uint64_t to = w->next_data++ << bits;

        if (w->next_data > w->layout->total)
            return changed_meanwhile(w, error);
        put_be64(w->entries + (size_t)packed->entry * 8, to | L2_COPIED);
        const uint8_t *plain = merged_unpack(w->map, packed->guest, &packed->cluster, error);
        if (plain == NULL || !transfer_unpacked(w->transfer, plain, (size_t)1 << bits, to, error))
            return false;
    }
    return true;
}

static bool
write_patches(Window *w, GError **error)
{
    size_t size = (size_t)1 << w->map->bits;

    if (w->patches->len == 0)
        return true;
    if (!transfer_finish(w->transfer, error)) /* or else they might be written over */
        return false;
    g_autofree uint8_t *zeros = g_malloc0(size);
    for (guint i = 0; i < w->patches->len; i++) {
        const Patch *patch = &g_array_index(w->patches, Patch, i);
        uint64_t at = get_be64(w->entries + (size_t)patch->entry * 8) & OFFSET_MASK;

        if (!transfer_write(w->transfer, zeros, size - (size_t)patch->from, at + patch->from,
                            error))
            return false;
    }
    return true;
}

static bool
write_out(Window *w, GError **error)
{
    if (w->tables == 0)
        return true;
    if (!in_order(w->pieces, by_source))
        g_array_sort(w->pieces, by_source);
    if (!transfer_pieces(w, error) || !unpack_all(w, error) || !write_patches(w, error) ||
        !transfer_write_soon(w->transfer, w->entries, w->tables << w->map->bits,
                             w->next_table << w->map->bits, error))
        return false;
    w->next_table += w->tables;
    w->tables = 0;
    g_array_set_size(w->pieces, 0);
    g_array_set_size(w->packed, 0);
    g_array_set_size(w->patches, 0);
    return true;
}

static bool
go_through(Window *w, GError **error)
{
    g_autofree MergedCluster *clusters = g_new(MergedCluster, w->map->per_slice);

    for (uint64_t slice = 0; slice < w->map->slices; slice++) {
        bool empty = false;

        if (!layout_needs(w->layout, slice))
            continue;
        if (!merged_runs(w->map, slice, clusters, &empty, error))
            return false;
        collect(w, slice, clusters);
        bool full =
            w->tables == w->capacity ||
            window_is_full(w->tables, w->map->per_slice, w->packed->len > 0, w->pieces, by_source);
        if (full && !write_out(w, error))
            return false;
    }
    if (!write_out(w, error) || !transfer_finish(w->transfer, error))
        return false;
    return w->next_data == w->layout->total || changed_meanwhile(w, error);
}

static size_t
window_tables(size_t per_slice)
{
    return MAX(WINDOW_CLUSTERS / per_slice, 1);
}

bool
window_is_full(size_t tables, size_t per_slice, bool unpacks, const GArray *pieces,
               GCompareFunc compare)
{
    size_t small = MAX(SMALL_CLUSTERS / per_slice, 1);

    return tables == window_tables(per_slice) ||
           (tables > 0 && tables % small == 0 && !unpacks && in_order(pieces, compare));
}

bool
window_write_all(MergedMap *map, const Layout *layout, Transfer *transfer, GError **error)
{
    g_autoptr(GArray) pieces = g_array_new(FALSE, FALSE, sizeof(Piece));
    g_autoptr(GArray) packed = g_array_new(FALSE, FALSE, sizeof(Packed));
    g_autoptr(GArray) patches = g_array_new(FALSE, FALSE, sizeof(Patch));
    size_t capacity = (size_t)MIN(window_tables(map->per_slice), MAX(layout->tables, 1));
    g_autofree uint8_t *entries = g_malloc(capacity << map->bits);
    Window window = {
        .map = map,
        .layout = layout,
        .transfer = transfer,
        .capacity = capacity,
        .entries = entries,
        .pieces = pieces,
        .packed = packed,
        .patches = patches,
        .next_table = layout->tables_at,
        .next_data = layout->data_at,
    };

    /* The tables met are counted again */
    for (unsigned i = 0; i < map->n; i++)
        map->layers[i].tables = map->layers[i].last_table = 0;
    return go_through(&window, error);
}
