/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "qcow2/compare.h"

#include <inttypes.h>

#define TELL_EVERY (UINT64_C(4) << 20)

const char *
pair_name_a(const Pair *p)
{
    return p->a.layers[p->a.n - 1].path;
}

const char *
pair_name_b(const Pair *p)
{
    return p->b.layers[p->b.n - 1].path;
}

bool
pair_open(Pair *p, const Qcow2Source *a, unsigned n_a, const Qcow2Source *b, unsigned n_b,
          GError **error)
{
    if (!merged_open(&p->a, a, n_a, p->size, 21, error) ||
        !merged_open(&p->b, b, n_b, p->size, 21, error))
        return false;
    if (p->a.virtual_size != p->b.virtual_size)
        return error_set(error, ERR_CORRUPT,
                         "%s has a disk of %" PRIu64 " bytes, expected %" PRIu64 " as %s has",
                         pair_name_b(p), p->b.virtual_size, p->a.virtual_size, pair_name_a(p));

    unsigned bits = MIN(p->a.bits, p->b.bits);
    MergedMap *coarse = p->a.bits > bits ? &p->a : p->b.bits > bits ? &p->b : NULL;
    if (coarse != NULL) {
        merged_close(coarse);
        if (!merged_open(coarse, coarse == &p->a ? a : b, coarse == &p->a ? n_a : n_b, p->size,
                         bits, error))
            return false;
    }
    p->of_a = g_malloc((size_t)1 << bits);
    p->of_b = g_malloc((size_t)1 << bits);
    p->in_a = g_new(MergedCluster, p->a.per_slice);
    p->in_b = g_new(MergedCluster, p->a.per_slice);
    return true;
}

void
pair_close(Pair *p)
{
    merged_close(&p->a);
    merged_close(&p->b);
    g_clear_pointer(&p->of_a, g_free);
    g_clear_pointer(&p->of_b, g_free);
    g_clear_pointer(&p->in_a, g_free);
    g_clear_pointer(&p->in_b, g_free);
}

bool
pair_differ(const Pair *p, uint64_t guest, GError **error)
{
    return error_set(error, ERR_CORRUPT,
                     "%s does not hold the same as %s: the first difference found is at byte "
                     "%" PRIu64 " of the disk",
                     pair_name_b(p), pair_name_a(p), guest);
}

bool
pair_tell(Pair *p, uint64_t done, GError **error)
{
    p->told = MAX(p->told, done);
    p->untold = 0;
    if (p->progress == NULL || p->progress(p->told, p->a.virtual_size, p->data))
        return true;
    return error_set(error, ERR_CANCELLED, "comparing %s with %s was cancelled", pair_name_a(p),
                     pair_name_b(p));
}

bool
pair_read_on(Pair *p, uint64_t length, GError **error)
{
    p->untold += length;
    return p->untold < TELL_EVERY || pair_tell(p, p->told, error);
}

static bool
read_cluster(MergedMap *map, uint64_t guest, const MergedCluster *cluster, uint8_t *buffer,
             GError **error)
{
    if (merged_has_data(cluster))
        return merged_read(map, guest, cluster, buffer, error);
    memset(buffer, 0, (size_t)1 << map->bits);
    return true;
}

bool
pair_compare_cluster(Pair *p, uint64_t guest, const MergedCluster *a, const MergedCluster *b,
                     GError **error)
{
    size_t length = (size_t)MIN(UINT64_C(1) << p->a.bits, p->a.virtual_size - guest);

    if (!read_cluster(&p->a, guest, a, p->of_a, error) ||
        !read_cluster(&p->b, guest, b, p->of_b, error))
        return false;
    p->compared.bytes_compared += length;
    for (size_t at = 0; at < length; at += SECTOR)
        if (memcmp(p->of_a + at, p->of_b + at, MIN(SECTOR, length - at)) != 0)
            return pair_differ(p, guest + at, error);
    return pair_read_on(p, length, error);
}

/* Content --------------------------------------------------------------------------- */

static bool
is_whole(const MergedMap *map, GError **error)
{
    const MergedLayer *base = &map->layers[0];

    return base->header == NULL || base->header->backing_file == NULL ||
           error_set(error, ERR_INVALID,
                     "%s has a backing file: a chain to compare must reach down to its base",
                     base->path);
}

/* The same place of the same file: the same bytes, unless one of them is cut off. */
static bool
same_place(const Pair *p, uint64_t guest, const MergedCluster *a, const MergedCluster *b)
{
    const ImageFile *x = &p->a.layers[a->layer].file, *y = &p->b.layers[b->layer].file;

    return merged_has_data(a) && a->kind == b->kind && a->host == b->host &&
           x->device == y->device && x->inode == y->inode &&
           merged_shown_end(&p->a, guest, a->layer) == merged_shown_end(&p->b, guest, b->layer);
}

static bool
compare_slice(Pair *p, uint64_t slice, GError **error)
{
    size_t count = merged_count(&p->a, slice);

    for (size_t i = 0; i < count; i++) {
        uint64_t guest = (slice << l2_span_bits(p->a.bits, false)) + ((uint64_t)i << p->a.bits);
        const MergedCluster *a = &p->in_a[i], *b = &p->in_b[i];

        if (!merged_has_data(a) && !merged_has_data(b))
            continue;
        if (same_place(p, guest, a, b)) {
            p->compared.bytes_same_blocks += UINT64_C(1) << p->a.bits;
            continue;
        }
        p->told = MAX(p->told, guest);
        if (!pair_compare_cluster(p, guest, a, b, error))
            return false;
    }
    return true;
}

bool
qcow2_same_content(const Qcow2Source *a, unsigned n_a, const Qcow2Source *b, unsigned n_b,
                   Qcow2Progress progress, void *data, Qcow2Compared *ret_compared, GError **error)
{
    const Qcow2Verify how = { .progress = progress, .data = data };

    return qcow2_verify_content(a, n_a, b, n_b, &how, ret_compared, error);
}

bool
qcow2_verify_content(const Qcow2Source *a, unsigned n_a, const Qcow2Source *b, unsigned n_b,
                     const Qcow2Verify *how, Qcow2Compared *ret_compared, GError **error)
{
    g_auto(Pair) pair = { .size = how->virtual_size, .progress = how->progress, .data = how->data };

    if (!pair_open(&pair, a, n_a, b, n_b, error) || !is_whole(&pair.a, error) ||
        !is_whole(&pair.b, error))
        return false;
    for (uint64_t slice = 0; slice < pair.a.slices; slice++) {
        bool a_empty = false, b_empty = false;

        if (!pair_tell(&pair, slice << l2_span_bits(pair.a.bits, false), error))
            return false;
        if (merged_is_empty(&pair.a, slice) && merged_is_empty(&pair.b, slice))
            continue;
        if (!merged_slice(&pair.a, slice, pair.in_a, &a_empty, error) ||
            !merged_slice(&pair.b, slice, pair.in_b, &b_empty, error))
            return false;
        if (!(a_empty && b_empty) && !compare_slice(&pair, slice, error))
            return false;
    }
    if (ret_compared != NULL)
        *ret_compared = pair.compared;
    return true;
}
