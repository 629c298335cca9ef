/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * Does a volume name the same data as the run that it was built of? Collects a window of the two
 * maps, puts it into the order of the sources' files (so that both files are asked for their
 * blocks in order), and then looks at the blocks.
 */
#include "qcow2/blocks.h"
#include "qcow2/compare.h"

#include <inttypes.h>

enum { WINDOW_PIECES = 1 << 18 };
#define PART (UINT64_C(1) << 20)

G_DEFINE_AUTOPTR_CLEANUP_FUNC(Blocks, blocks_free)

typedef struct {
    uint64_t guest, length;
    uint64_t host;  /* in the layer of the run */
    uint64_t there; /* in the new volume */
    uint16_t layer;
} Place;

typedef struct {
    Pair *pair;
    GArray *places;
    Blocks *of_dest;
    GPtrArray *of_layers; /* Blocks; NULL until needed */
    uint8_t *buffer;      /* two parts */
    bool maps_only;
} Compare;

static bool
lies_elsewhere(const Pair *p, uint64_t guest, const char *is, const char *expected, GError **error)
{
    return error_set(error, ERR_CORRUPT,
                     "%s: at byte %" PRIu64 " of the disk its map says %s, expected %s as in %s",
                     pair_name_b(p), guest, is, expected, pair_name_a(p));
}

/* Reads what is in the file and zeros beyond its end. */
static bool
read_part(const MergedLayer *layer, uint64_t at, uint8_t *buffer, uint64_t length, GError **error)
{
    uint64_t there = at < layer->file.size ? MIN(length, layer->file.size - at) : 0;

    memset(buffer + there, 0, length - there);
    return image_read(&layer->file, layer->path, "data", at, buffer, there, error);
}

static bool
compare_bytes(Compare *c, const Place *place, uint64_t from, uint64_t length, GError **error)
{
    Pair *p = c->pair;

    for (uint64_t at = from; at < from + length; at += PART) {
        uint64_t part = MIN(PART, from + length - at);

        if (!read_part(&p->a.layers[place->layer], place->host + at, c->buffer, part, error) ||
            !read_part(&p->b.layers[0], place->there + at, c->buffer + PART, part, error))
            return false;
        for (uint64_t i = 0; i < part; i += SECTOR)
            if (memcmp(c->buffer + i, c->buffer + PART + i, MIN(SECTOR, part - i)) != 0)
                return pair_differ(p, place->guest + at + i, error);
        if (!pair_read_on(p, part, error))
            return false;
    }
    p->compared.bytes_compared += length;
    return true;
}

static Blocks *
blocks_of(Compare *c, unsigned layer)
{
    if (c->of_layers->pdata[layer] == NULL)
        c->of_layers->pdata[layer] = blocks_new(c->pair->a.layers[layer].file.fd);
    return c->of_layers->pdata[layer];
}

static bool
compare_place(Compare *c, const Place *place, GError **error)
{
    Pair *p = c->pair;
    bool one_disk = p->a.layers[place->layer].file.device == p->b.layers[0].file.device;
    uint64_t length = 0;

    if (!one_disk)
        return c->maps_only || compare_bytes(c, place, 0, place->length, error);
    for (uint64_t at = 0; at < place->length; at += length) {
        Block a = blocks_find(blocks_of(c, place->layer), place->host + at);
        Block b = blocks_find(c->of_dest, place->there + at);

        length = MIN(place->length - at, MIN(a.length, b.length));
        if ((a.known && b.known && a.physical == b.physical) || (a.hole && b.hole))
            p->compared.bytes_same_blocks += length;
        else if (c->maps_only && a.hole == b.hole)
            continue;
        else if (!compare_bytes(c, place, at, length, error))
            return false;
    }
    return true;
}

static int
by_source(const void *a, const void *b)
{
    const Place *x = a, *y = b;

    if (x->layer != y->layer)
        return x->layer < y->layer ? -1 : 1;
    return x->host < y->host ? -1 : x->host > y->host;
}

static bool
compare_places(Compare *c, GError **error)
{
    g_array_sort(c->places, by_source);
    for (guint i = 0; i < c->places->len; i++)
        if (!compare_place(c, &g_array_index(c->places, Place, i), error))
            return false;
    g_array_set_size(c->places, 0);
    return true;
}

static void
add_place(Compare *c, uint64_t guest, const MergedCluster *a, const MergedCluster *b,
          uint64_t length)
{
    GArray *places = c->places;
    Place *last = places->len > 0 ? &g_array_index(places, Place, places->len - 1) : NULL;

    if (last != NULL && last->layer == a->layer && last->guest + last->length == guest &&
        last->host + last->length == a->host && last->there + last->length == b->host) {
        last->length += length;
        return;
    }
    Place place = { guest, length, a->host, b->host, a->layer };
    g_array_append_val(places, place);
}

/* What of a raw volume is data, its file system tells, and not always the same: what was reserved
 * and never written (fallocate) is a hole until somebody has read it (ext4, XFS). Only the bytes
 * tell then. */
static bool
is_by_file_system(const Pair *p, const MergedCluster *a, const MergedCluster *b)
{
    bool raw = p->a.layers[0].header == NULL;

    return raw && (a->kind == MERGED_DATA ? a->layer == 0 : b->kind == MERGED_DATA);
}

static bool
compare_each(Pair *p, uint64_t guest, const MergedCluster *a, const MergedCluster *b, size_t n,
             GError **error)
{
    uint64_t size = UINT64_C(1) << p->a.bits;

    for (size_t i = 0; i < n; i++) {
        MergedCluster in_a = *a, in_b = *b; /* of a run only the first is sure to be filled in */

        in_a.host += in_a.kind == MERGED_DATA ? i * size : 0;
        in_b.host += in_b.kind == MERGED_DATA ? i * size : 0;
        if (!pair_compare_cluster(p, guest + i * size, &in_a, &in_b, error))
            return false;
    }
    return true;
}

/* "n" clusters from this one on, alike in either map */
static bool
add_clusters(Compare *c, uint64_t guest, const MergedCluster *a, const MergedCluster *b, size_t n,
             GError **error)
{
    static const char *const words[] = { "hole", "zeros", "data" };
    Pair *p = c->pair;

    MergedKind in_a = merged_has_data(a) ? MERGED_DATA : a->kind;
    MergedKind in_b = merged_has_data(b) ? MERGED_DATA : b->kind;

    if (in_a != in_b && is_by_file_system(p, a, b))
        return compare_each(p, guest, a, b, n, error);
    if (in_a != in_b)
        return lies_elsewhere(p, guest, words[in_b], words[in_a], error);
    if (in_a != MERGED_DATA)
        return true;
    /* What is cut off by the end of a layer's disk was written over, compressed data unpacked */
    if (a->kind == MERGED_PACKED || b->kind == MERGED_PACKED ||
        merged_shown_end(&p->a, guest, a->layer) != guest + (UINT64_C(1) << p->a.bits))
        return pair_compare_cluster(p, guest, a, b, error);
    add_place(c, guest, a, b, (uint64_t)n << p->a.bits);
    return true;
}

static size_t
alike_in_both(const Pair *p, size_t at, size_t count)
{
    if (p->a.has_ends) /* then each has its own end */
        return 1;
    return MIN(merged_run(&p->a, &p->in_a[at], count - at),
               merged_run(&p->a, &p->in_b[at], count - at));
}

static bool
compare_slice(Compare *c, uint64_t slice, GError **error)
{
    Pair *p = c->pair;
    uint64_t guest = slice << l2_span_bits(p->a.bits, false);
    size_t count = merged_count(&p->a, slice);
    bool a_empty = false, b_empty = false;

    if (!pair_tell(p, guest, error))
        return false;
    if (merged_is_empty(&p->a, slice) && merged_is_empty(&p->b, slice))
        return true;
    if (!merged_runs(&p->a, slice, p->in_a, &a_empty, error) ||
        !merged_runs(&p->b, slice, p->in_b, &b_empty, error))
        return false;
    for (size_t i = 0, n; i < count && !(a_empty && b_empty); i += n) {
        n = alike_in_both(p, i, count);
        if (!add_clusters(c, guest + ((uint64_t)i << p->a.bits), &p->in_a[i], &p->in_b[i], n,
                          error))
            return false;
        if (i + n == count)
            break;
        merged_go_on(&p->a, &p->in_a[i], n);
        merged_go_on(&p->b, &p->in_b[i], n);
    }
    return c->places->len < WINDOW_PIECES || compare_places(c, error);
}

static bool
check_backing(const Pair *p, GError **error)
{
    const Qcow2Header *run = p->a.layers[0].header, *dest = p->b.layers[0].header;
    bool had = run != NULL && run->backing_file != NULL;
    bool has = dest != NULL && dest->backing_file != NULL;

    return had == has ||
           error_set(error, ERR_CORRUPT, "%s has %s backing file, expected %s as %s has",
                     pair_name_b(p), has ? "a" : "no", had ? "one" : "none", p->a.layers[0].path);
}

bool
qcow2_same_map(const Qcow2Source *layers, unsigned n, const char *dest, Qcow2Progress progress,
               void *data, Qcow2Compared *ret_compared, GError **error)
{
    const Qcow2Verify how = { .progress = progress, .data = data };

    return qcow2_verify_map(layers, n, dest, &how, ret_compared, error);
}

bool
qcow2_verify_map(const Qcow2Source *layers, unsigned n, const char *dest, const Qcow2Verify *how,
                 Qcow2Compared *ret_compared, GError **error)
{
    g_auto(Pair) pair = { .size = how->virtual_size, .progress = how->progress, .data = how->data };
    g_autoptr(GArray) places = g_array_new(FALSE, FALSE, sizeof(Place));
    g_autoptr(GPtrArray) of_layers = g_ptr_array_new_with_free_func((GDestroyNotify)blocks_free);
    g_autofree uint8_t *buffer = g_malloc(2 * PART);
    Qcow2Source other = { dest, "qcow2" };

    if (!pair_open(&pair, layers, n, &other, 1, error) || !check_backing(&pair, error))
        return false;
    /* Zeros above the end of what is below are as good as holes, whatever it is called now */
    pair.b.zero_from = pair.a.zero_from;
    g_ptr_array_set_size(of_layers, (gint)n);
    g_autoptr(Blocks) of_dest = blocks_new(pair.b.layers[0].file.fd);
    Compare compare = { &pair, places, of_dest, of_layers, buffer, how->maps_only };

    for (uint64_t slice = 0; slice < pair.a.slices; slice++)
        if (!compare_slice(&compare, slice, error))
            return false;
    if (!compare_places(&compare, error))
        return false;
    if (ret_compared != NULL)
        *ret_compared = pair.compared;
    return true;
}
