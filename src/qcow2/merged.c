/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "qcow2/merged.h"

#include "qcow2/packed.h"

#include <errno.h>
#include <inttypes.h>

enum { L1_CHUNK = 4096 }; /* entries of each layer's L1 table in memory */

/* Opening --------------------------------------------------------------------------- */

static bool
check_readable(const Qcow2Header *h, GError **error)
{
    const char *why =
        qcow2_uncarried(h->features & (QCOW2_EXTERNAL_DATA | QCOW2_ENCRYPTED | QCOW2_EXTENDED_L2 |
                                       QCOW2_UNKNOWN_INCOMPATIBLE));

    return why == NULL || error_set(error, ERR_UNSUPPORTED, "%s %s", h->path, why);
}

static bool
open_layer(MergedLayer *layer, const Qcow2Source *source, bool lowest, GError **error)
{
    bool raw = g_strcmp0(source->format, "raw") == 0;

    layer->file.fd = -1;
    layer->l1_first = UINT64_MAX;
    layer->path = g_strdup(source->path);
    if (!raw && g_strcmp0(source->format, "qcow2") != 0)
        return error_set(error, ERR_UNSUPPORTED, "%s: the format \"%s\" is not supported",
                         source->path, source->format != NULL ? source->format : "");
    if (raw && !lowest)
        return error_set(error, ERR_INVALID, "%s is raw: it can only be the base of a chain",
                         source->path);
    if (!image_open(source->path, &layer->file, error))
        return false;
    layer->size = raw_virtual_size(&layer->file);
    if (raw)
        return true;
    layer->header = image_header(&layer->file, source->path, error);
    if (layer->header == NULL || !check_readable(layer->header, error))
        return false;
    layer->size = layer->header->virtual_size;
    layer->bits = layer->header->cluster_bits;
    layer->l1 = g_malloc(L1_CHUNK * 8);
    return true;
}

static bool
check_twice(const MergedMap *map, GError **error)
{
    for (unsigned i = 0; i < map->n; i++)
        for (unsigned j = 0; j < i; j++) {
            const ImageFile *a = &map->layers[i].file, *b = &map->layers[j].file;

            if (a->device == b->device && a->inode == b->inode)
                return error_set(error, ERR_INVALID, "%s and %s are the same file",
                                 map->layers[j].path, map->layers[i].path);
        }
    return true;
}

/* The size of what the run stands on; 0 = nothing. Where it cannot be told no zero is left out. */
static uint64_t
size_below(const MergedLayer *base)
{
    if (base->header == NULL || base->header->backing_file == NULL)
        return 0;
    g_autofree char *path = qcow2_backing_path(base->path, base->header->backing_file, NULL);
    g_auto(ImageFile) file = IMAGE_FILE_INIT;

    if (path == NULL || base->header->backing_format == NULL || !image_open(path, &file, NULL))
        return UINT64_MAX;
    if (strcmp(base->header->backing_format, "raw") == 0)
        return raw_virtual_size(&file);
    g_autoptr(Qcow2Header) header = image_header(&file, path, NULL);
    return header != NULL && strcmp(base->header->backing_format, "qcow2") == 0
               ? header->virtual_size
               : UINT64_MAX;
}

/* Every cluster of the map lies in one cluster of each layer. */
static bool
choose_clusters(MergedMap *map, unsigned max_bits, GError **error)
{
    unsigned smallest = 0, largest = 0;

    map->bits = max_bits;
    for (unsigned i = 0; i < map->n; i++) {
        if (map->layers[i].header == NULL)
            continue;
        if (map->layers[i].bits < map->layers[smallest].bits || map->layers[smallest].bits == 0)
            smallest = i;
        if (map->layers[i].bits > map->layers[largest].bits)
            largest = i;
        map->bits = MIN(map->bits, map->layers[i].bits);
    }
    if (map->layers[map->n - 1].header == NULL) /* one raw volume */
        map->bits = MIN(map->bits, 16);
    if (map->layers[0].header == NULL)
        map->layers[0].bits = map->bits;
    map->bits = MAX(map->bits, 9); /* no header has less */
    unsigned span = l2_span_bits(map->bits, false);
    map->slices =
        (map->virtual_size >> span) + ((map->virtual_size & ((UINT64_C(1) << span) - 1)) != 0);
    map->per_slice = (size_t)1 << (map->bits - 3);
    if (map->slices <= L1_MAX_ENTRIES)
        return true;
    return error_set(error, ERR_UNSUPPORTED,
                     "%s has clusters of %" PRIu64 " bytes and %s of %" PRIu64
                     ": in the smaller size a disk of %" PRIu64 " bytes cannot be mapped",
                     map->layers[smallest].path, UINT64_C(1) << map->layers[smallest].bits,
                     map->layers[largest].path, UINT64_C(1) << map->layers[largest].bits,
                     map->virtual_size);
}

bool
merged_open(MergedMap *map, const Qcow2Source *layers, unsigned n, uint64_t virtual_size,
            unsigned max_bits, GError **error)
{
    if (n == 0 || n > QCOW2_MAX_DEPTH)
        return error_set(error, ERR_INVALID, "a run has 1 to %d volumes, not %u", QCOW2_MAX_DEPTH,
                         n);
    map->layers = g_new0(MergedLayer, n);
    for (unsigned i = 0; i < n; i++) {
        map->n = i + 1;
        if (!open_layer(&map->layers[i], &layers[i], i == 0, error))
            return false;
    }
    map->virtual_size = virtual_size != 0 ? virtual_size : map->layers[n - 1].size;
    if (map->virtual_size == 0 || map->virtual_size > INT64_MAX)
        return error_set(error, ERR_INVALID, "%s: %" PRIu64 " bytes is no size of a disk",
                         layers[n - 1].path, map->virtual_size);
    map->zero_from = size_below(&map->layers[0]);
    if (!check_twice(map, error) || !choose_clusters(map, max_bits, error))
        return false;
    for (unsigned i = 0; i < n; i++)
        map->has_ends = map->has_ends || (map->layers[i].size < map->virtual_size &&
                                          map->layers[i].size % (UINT64_C(1) << map->bits) != 0);
    map->l2 = g_malloc((size_t)1 << map->bits);
    return true;
}

bool
merged_still_whole(const MergedMap *map, GError **error)
{
    for (unsigned i = 0; i < map->n; i++) {
        const MergedLayer *layer = &map->layers[i];
        off_t size = lseek(layer->file.fd, 0, SEEK_END);

        if (size < 0)
            return error_set_errno(error, "asking for the size of %s", layer->path);
        if ((uint64_t)size < layer->file.size)
            return error_set(error, ERR_CORRUPT,
                             "%s became shorter while it was read: it has %" PRIu64
                             " bytes, expected %" PRIu64,
                             layer->path, (uint64_t)size, layer->file.size);
    }
    return true;
}

void
merged_close(MergedMap *map)
{
    for (unsigned i = 0; i < map->n; i++) {
        g_free(map->layers[i].path);
        qcow2_header_free(map->layers[i].header);
        g_free(map->layers[i].l1);
        image_close(&map->layers[i].file);
    }
    g_free(map->layers);
    g_free(map->l2);
    g_free(map->plain);
    g_free(map->packed);
    *map = (MergedMap)MERGED_INIT;
}

/* Slices ---------------------------------------------------------------------------- */

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
} Slice;

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

/* Most entries are plain data and need none of the questions of decide(): large disks have millions
 * of them. */
static bool
add_qcow2(MergedMap *map, unsigned number, Slice *slice, GError **error)
{
    MergedLayer *layer = &map->layers[number];
    unsigned shift = layer->bits - map->bits;
    uint64_t within = (UINT64_C(1) << layer->bits) - 1, guest = slice->guest;
    uint64_t special = L2_COMPRESSED | L2_RESERVED | L2_ZERO | (within & OFFSET_MASK);
    bool there = false;

    if (!read_l2(map, layer, guest, &there, error))
        return false;
    for (size_t i = 0; there && i < slice->count; i++, guest += UINT64_C(1) << map->bits) {
        MergedCluster *cluster = &slice->clusters[i];
        uint64_t entry = get_be64(map->l2 + (i >> shift) * 8), host = entry & OFFSET_MASK;

        if (entry == 0 || cluster->kind != UNDECIDED)
            continue;
        if ((entry & special) == 0 && host != 0 && host < layer->file.size) {
            cluster->host = host + (guest & within);
            cluster->layer = (uint16_t)number;
            cluster->kind = MERGED_DATA;
            slice->left--;
        } else if (!decide(map, number, entry, guest, slice, cluster, error)) {
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

bool
merged_slice(MergedMap *map, uint64_t slice, MergedCluster *clusters, bool *ret_empty,
             GError **error)
{
    size_t count = merged_count(map, slice);
    Slice s = { slice_start(map, slice), clusters, count, count, false };

    memset(clusters, 0, count * sizeof *clusters);
    if (!look_through(map, &s, error) || !check_ends(map, s.guest, clusters, count, error))
        return false;
    size_t holes = s.left + (s.zeros ? zeros_to_holes(map, s.guest, clusters, count) : 0);
    *ret_empty = holes == count;
    return true;
}

size_t
merged_run(const MergedMap *map, const MergedCluster *clusters, size_t count)
{
    uint64_t size = UINT64_C(1) << map->bits, host = clusters->host + size;
    size_t n = 1;

    if (clusters->kind == MERGED_PACKED)
        return 1;
    if (clusters->kind != MERGED_DATA)
        while (n < count && clusters[n].kind == clusters->kind)
            n++;
    else
        for (; n < count && clusters[n].host == host && clusters[n].kind == MERGED_DATA &&
               clusters[n].layer == clusters->layer;
             n++)
            host += size;
    return n;
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
