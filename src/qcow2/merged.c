/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "qcow2/merged.h"

#include "qcow2/packed.h"

#include <errno.h>
#include <inttypes.h>

enum { UNDECIDED = MERGED_HOLE };

static uint64_t
slice_start(const MergedMap *map, uint64_t slice)
{
    return slice << l2_span_bits(map->bits, false);
}

size_t
merged_count(const MergedMap *map, uint64_t slice)
{
    uint64_t left = map->virtual_size - slice_start(map, slice);
    uint64_t count = (left >> map->bits) + ((left & ((UINT64_C(1) << map->bits) - 1)) != 0);

    return (size_t)MIN(count, map->per_slice);
}

static bool
corrupt_entry(const MergedLayer *layer, const char *what, uint64_t entry, uint64_t guest,
              const char *wanted, GError **error)
{
    return error_set(error, ERR_CORRUPT,
                     "%s: the %s entry 0x%016" PRIx64 " for byte %" PRIu64
                     " of the disk is not valid: %s. Look at it with: qemu-img check",
                     layer->path, what, entry, guest, wanted);
}

static bool
read_l1_entry(MergedLayer *layer, uint64_t index, uint64_t *ret_entry, GError **error)
{
    uint64_t first = index / L1_CHUNK * L1_CHUNK;

    if (layer->l1_first != first) {
        layer->l1_first = UINT64_MAX;
        size_t wanted = (size_t)MIN(L1_CHUNK, layer->header->l1_entries - first) * 8;
        if (!image_read(&layer->file, layer->path, "L1 table", layer->header->l1_offset + first * 8,
                        layer->l1, wanted, error))
            return false;
        image_expect_tables(&layer->file, layer->l1, wanted / 8, (size_t)1 << layer->bits);
        layer->l1_first = first;
    }
    *ret_entry = get_be64(layer->l1 + (index - first) * 8);
    return true;
}

/* Tables that all lie in one place would make a small file cost hours. */
static bool
count_table(MergedLayer *layer, uint64_t offset, GError **error)
{
    if (offset == layer->last_table)
        return true;
    layer->last_table = offset;
    layer->tables++;
    return layer->tables <= layer->file.size >> layer->bits ||
           error_set(error, ERR_CORRUPT,
                     "%s has more L2 tables than clusters: every L1 entry should name a table of "
                     "its own",
                     layer->path);
}

/* The part of the layer's L2 table for this slice into map->l2. ret_there: there is a table. */
static bool
read_l2(MergedMap *map, MergedLayer *layer, uint64_t guest, bool *ret_there, GError **error)
{
    unsigned span = l2_span_bits(layer->bits, false);
    uint64_t size = UINT64_C(1) << layer->bits, entry = 0;

    if (!read_l1_entry(layer, guest >> span, &entry, error))
        return false;
    uint64_t offset = entry & OFFSET_MASK;
    if ((entry & L1_RESERVED) != 0)
        return corrupt_entry(layer, "L1", entry, guest, "reserved bits should be 0", error);
    if (offset % size != 0)
        return corrupt_entry(layer, "L1", entry, guest, "its offset should be that of a cluster",
                             error);
    *ret_there = offset != 0;
    if (offset == 0)
        return true;
    uint64_t index = (guest >> layer->bits) & (size / 8 - 1);
    size_t entries = MAX(map->per_slice >> (layer->bits - map->bits), 1);
    return count_table(layer, offset, error) &&
           image_read(&layer->file, layer->path, "L2 table", offset + index * 8, map->l2,
                      entries * 8, error);
}

/* A slice being looked at */
typedef struct {
    uint64_t guest;
    MergedCluster *clusters;
    size_t count; /* clusters that the layers still to come can show */
    size_t left;  /* clusters that nobody has decided yet */
    bool zeros;   /* some read zero */
    bool filled;  /* clusters[] says of each what is known of it; till then nothing is */
    bool sparse;  /* the first cluster may speak for all of the slice */
} Slice;

static void
fill(Slice *slice)
{
    if (!slice->filled)
        memset(slice->clusters, 0, slice->left * sizeof *slice->clusters);
    slice->filled = true;
}

/* What a L2 entry says of a cluster. */
static bool
decide(const MergedMap *map, unsigned number, uint64_t entry, uint64_t guest, Slice *slice,
       MergedCluster *cluster, GError **error)
{
    const MergedLayer *layer = &map->layers[number];
    uint64_t size = UINT64_C(1) << layer->bits, host = entry & OFFSET_MASK;

    if (entry & L2_COMPRESSED) {
        *cluster = (MergedCluster){ .layer = (uint16_t)number, .kind = MERGED_PACKED };
        packed_place(entry, layer->bits, &cluster->host, &cluster->packed);
        slice->left--;
        return cluster->host < layer->file.size ||
               corrupt_entry(layer, "L2", entry, guest,
                             "its compressed data should lie within the file", error);
    }
    if ((entry & L2_RESERVED) != 0 || ((entry & L2_ZERO) != 0 && layer->header->version < 3))
        return corrupt_entry(layer, "L2", entry, guest, "reserved bits should be 0", error);
    if (host % size != 0)
        return corrupt_entry(layer, "L2", entry, guest, "its offset should be that of a cluster",
                             error);
    if (!(entry & L2_ZERO) && host >= layer->file.size)
        return corrupt_entry(layer, "L2", entry, guest, "its cluster should lie within the file",
                             error);
    if (entry & L2_ZERO)
        cluster->kind = MERGED_ZERO;
    else if (host != 0)
        *cluster = (MergedCluster){ .host = host + (guest & (size - 1)),
                                    .layer = (uint16_t)number,
                                    .kind = MERGED_DATA };
    slice->zeros = slice->zeros || cluster->kind == MERGED_ZERO;
    slice->left -= cluster->kind != UNDECIDED;
    return true;
}

/* "count" clusters from this one on are data, unless somebody has decided them. The first one of
 * them begins at byte "host" of the layer's file. */
static void
fill_run(const MergedMap *map, unsigned number, uint64_t host, size_t count, Slice *slice,
         MergedCluster *clusters)
{
    for (size_t i = 0, end; i < count; i = end) {
        if (clusters[i].kind != UNDECIDED) {
            end = i + 1;
            continue;
        }
        for (end = i + 1; end < count && clusters[end].kind == UNDECIDED;)
            end++;
        slice->left -= end - i;
        for (size_t k = i; k < end; k++)
            clusters[k] = (MergedCluster){ .host = host + ((uint64_t)k << map->bits),
                                           .follows = (uint32_t)(end - k - 1),
                                           .layer = (uint16_t)number,
                                           .kind = MERGED_DATA };
    }
}

/* One run of data all over the slice: most slices of large disks are. */
static bool
is_one_run(const MergedMap *map, const MergedLayer *layer, const Slice *slice)
{
    unsigned shift = layer->bits - map->bits;
    size_t entries = (slice->count + ((size_t)1 << shift) - 1) >> shift;

    return slice->sparse && !slice->filled && slice->count == slice->left &&
           slice->guest % (UINT64_C(1) << layer->bits) == 0 &&
           image_plain_run(map->l2, entries, layer->bits, layer->file.size) == entries;
}

static bool
add_qcow2(MergedMap *map, unsigned number, Slice *slice, GError **error)
{
    MergedLayer *layer = &map->layers[number];
    unsigned shift = layer->bits - map->bits;
    uint64_t within = (UINT64_C(1) << layer->bits) - 1, guest = slice->guest;
    size_t entries = (slice->count + ((size_t)1 << shift) - 1) >> shift;
    bool there = false;

    if (!read_l2(map, layer, guest, &there, error))
        return false;
    if (!there)
        return true;
    if (is_one_run(map, layer, slice)) {
        slice->clusters[0] = (MergedCluster){ .host = get_be64(map->l2) & OFFSET_MASK,
                                              .follows = (uint32_t)(slice->count - 1),
                                              .layer = (uint16_t)number,
                                              .kind = MERGED_DATA };
        slice->left = 0;
        return true;
    }
    fill(slice);
    for (size_t i = 0, n; i < slice->count; i += n) {
        const uint8_t *at = map->l2 + (i >> shift) * 8;
        uint64_t entry = get_be64(at);
        uint64_t cluster = guest + ((uint64_t)i << map->bits);

        n = 1;
        if (entry == 0)
            continue;
        size_t run = image_plain_run(at, entries - (i >> shift), layer->bits, layer->file.size);
        if (run > 0) {
            n = MIN((run << shift) - (size_t)((cluster & within) >> map->bits), slice->count - i);
            fill_run(map, number, (entry & OFFSET_MASK) + (cluster & within), n, slice,
                     &slice->clusters[i]);
        } else if (slice->clusters[i].kind == UNDECIDED &&
                   !decide(map, number, entry, cluster, slice, &slice->clusters[i], error)) {
            return false;
        }
    }
    return true;
}

/* Clusters touched by data are data, the others zero. */
static bool
add_raw(MergedMap *map, Slice *slice, GError **error)
{
    MergedLayer *layer = &map->layers[0];

    fill(slice);
    for (size_t i = 0; i < slice->count; i++) {
        uint64_t at = slice->guest + ((uint64_t)i << map->bits);
        uint64_t end = at + (UINT64_C(1) << map->bits);
        MergedCluster *cluster = &slice->clusters[i];

        if (cluster->kind != UNDECIDED)
            continue;
        if (at < layer->data_from || at >= layer->data_end) {
            if (!image_find_data(&layer->file, layer->path, at, &layer->data_begin,
                                 &layer->data_end, error))
                return false;
            layer->data_from = at;
            if (layer->data_begin >= layer->data_end)
                layer->data_begin = layer->data_end = UINT64_MAX;
        }
        if (layer->data_begin < end && at < layer->file.size)
            *cluster = (MergedCluster){ .host = at, .kind = MERGED_DATA };
        else
            cluster->kind = MERGED_ZERO;
        slice->zeros = slice->zeros || cluster->kind == MERGED_ZERO;
        slice->left--;
    }
    return true;
}

/* Above the end of a layer nothing shows of it and of what is below. */
static void
end_layer(const MergedMap *map, const MergedLayer *layer, Slice *slice)
{
    uint64_t size = UINT64_C(1) << map->bits, guest = slice->guest;
    uint64_t shown = layer->size > guest ? (layer->size - guest + size - 1) >> map->bits : 0;

    if (shown < slice->count)
        fill(slice);
    for (size_t i = (size_t)MIN(shown, slice->count); i < slice->count; i++)
        if (slice->clusters[i].kind == UNDECIDED) {
            slice->clusters[i].kind = MERGED_ZERO;
            slice->zeros = true;
            slice->left--;
        }
    slice->count = (size_t)MIN(shown, slice->count);
}

/* In the cluster where a layer ends one part may show what is below the run, the other zeros. */
static bool
check_ends(const MergedMap *map, uint64_t guest, const MergedCluster *clusters, size_t count,
           GError **error)
{
    for (unsigned k = 0; k < map->n; k++) {
        uint64_t end = map->layers[k].size;

        if (end % (UINT64_C(1) << map->bits) == 0 || end >= map->virtual_size || end < guest ||
            (end - guest) >> map->bits >= count || end >= map->zero_from)
            continue;
        if (clusters[(end - guest) >> map->bits].kind == MERGED_HOLE)
            return error_set(error, ERR_UNSUPPORTED,
                             "%s ends at byte %" PRIu64
                             ", within a cluster of which its backing file holds both sides: that "
                             "cannot be carried over",
                             map->layers[k].path, end);
    }
    return true;
}

static bool
look_through(MergedMap *map, Slice *slice, GError **error)
{
    for (unsigned k = map->n; k-- > 0 && slice->left > 0;) {
        const MergedLayer *layer = &map->layers[k];

        end_layer(map, layer, slice);
        if (slice->count == 0)
            break;
        if (!(layer->header == NULL ? add_raw(map, slice, error) : add_qcow2(map, k, slice, error)))
            return false;
    }
    return true;
}

/* Zeros are as good as holes where there is nothing below. Returns how many there were. */
static size_t
zeros_to_holes(const MergedMap *map, uint64_t guest, MergedCluster *clusters, size_t count)
{
    size_t n = 0;

    for (size_t i = 0; i < count; i++)
        if (clusters[i].kind == MERGED_ZERO &&
            guest + ((uint64_t)i << map->bits) >= map->zero_from) {
            clusters[i].kind = MERGED_HOLE;
            n++;
        }
    return n;
}

static bool
see(MergedMap *map, uint64_t slice, MergedCluster *clusters, bool sparse, bool *ret_empty,
    GError **error)
{
    size_t count = merged_count(map, slice);
    Slice s = { .guest = slice_start(map, slice),
                .clusters = clusters,
                .count = count,
                .left = count,
                .sparse = sparse };

    if (!look_through(map, &s, error))
        return false;
    if (s.left == count)
        fill(&s);
    if (!check_ends(map, s.guest, clusters, count, error))
        return false;
    size_t holes = s.left + (s.zeros ? zeros_to_holes(map, s.guest, clusters, count) : 0);
    *ret_empty = holes == count;
    return true;
}

bool
merged_runs(MergedMap *map, uint64_t slice, MergedCluster *clusters, bool *ret_empty,
            GError **error)
{
    return see(map, slice, clusters, !map->has_ends, ret_empty, error);
}

bool
merged_slice(MergedMap *map, uint64_t slice, MergedCluster *clusters, bool *ret_empty,
             GError **error)
{
    return see(map, slice, clusters, false, ret_empty, error);
}

void
merged_go_on(const MergedMap *map, MergedCluster *cluster, size_t n)
{
    if (cluster->kind != MERGED_DATA || cluster->follows < n)
        return;
    cluster[n] = *cluster;
    cluster[n].host += (uint64_t)n << map->bits;
    cluster[n].follows -= (uint32_t)n;
}

size_t
merged_run(const MergedMap *map, const MergedCluster *clusters, size_t count)
{
    uint64_t size = UINT64_C(1) << map->bits;
    size_t n = 1;

    if (clusters->kind == MERGED_PACKED)
        return 1;
    if (clusters->kind != MERGED_DATA)
        while (n < count && clusters[n].kind == clusters->kind)
            n++;
    else
        for (n = 0; n == 0 || (n < count && clusters[n].kind == MERGED_DATA &&
                               clusters[n].layer == clusters->layer &&
                               clusters[n].host == clusters->host + n * size);)
            n += clusters[n].follows + 1;
    return MIN(n, count);
}

bool
merged_is_empty(MergedMap *map, uint64_t slice)
{
    uint64_t from = slice_start(map, slice), length = (uint64_t)map->per_slice << map->bits;
    uint64_t to = from + MIN(length, map->virtual_size - from);

    for (unsigned k = 0; k < map->n; k++) {
        MergedLayer *layer = &map->layers[k];
        uint64_t entry = 0;

        if (layer->header == NULL)
            return false;
        if (layer->size < to && from < map->zero_from) /* above its end there are zeros */
            return false;
        if (layer->size > from &&
            (!read_l1_entry(layer, from >> l2_span_bits(layer->bits, false), &entry, NULL) ||
             entry != 0))
            return false;
    }
    return true;
}
