/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * How much data some layers hold together, and where. The union is taken in a bitmap with a bit
 * for each grain: the smallest cluster of the layers (512 bytes if one is raw), and never more than
 * 32 MiB of bitmap. With 64 KiB clusters it is exact up to 16 TiB, and a good estimate beyond.
 */
#include "qcow2/image.h"

enum { SUBCLUSTER_BITS = 5 }; /* 32 in a cluster with extended L2 entries */
#define MAX_GRAINS (UINT64_C(1) << 28)

typedef struct {
    uint64_t virtual_size;
    unsigned grain_bits;
    uint8_t *bits;
} Union;

static void
set_range(uint8_t *bits, uint64_t from, uint64_t to)
{
    for (; from < to && from % 8 != 0; from++)
        bits[from / 8] |= (uint8_t)(1U << from % 8);
    if (to - from >= 8)
        memset(bits + from / 8, 0xff, (to - from) / 8);
    for (from += (to - from) / 8 * 8; from < to; from++)
        bits[from / 8] |= (uint8_t)(1U << from % 8);
}

static bool
mark(const Extent *extent, void *data)
{
    Union *all = data;
    uint64_t end = MIN(extent->guest + extent->length, all->virtual_size);

    /* A layer may have been resized since its size was asked */
    if (extent->guest >= end)
        return true;
    if (extent->kind == EXTENT_DATA || extent->kind == EXTENT_COMPRESSED)
        set_range(all->bits, extent->guest >> all->grain_bits, ((end - 1) >> all->grain_bits) + 1);
    return true;
}

static uint64_t
bucket_width(uint64_t virtual_size)
{
    return virtual_size / WORK_BUCKETS + (virtual_size % WORK_BUCKETS != 0);
}

/* Adds [guest, guest + length), which may cross buckets. */
static void
count(WorkMap *map, uint64_t guest, uint64_t length)
{
    uint64_t width = bucket_width(map->virtual_size);

    map->total += length;
    while (length > 0) {
        uint64_t part = MIN(length, width - guest % width);

        map->bucket[guest / width] += part;
        guest += part;
        length -= part;
    }
}

static void
count_all(const Union *all, WorkMap *map)
{
    uint64_t grain = UINT64_C(1) << all->grain_bits;

    for (uint64_t guest = 0; guest < all->virtual_size; guest += 8 * grain) {
        uint8_t bits = all->bits[guest / grain / 8];

        if (bits == 0xff && 8 * grain <= all->virtual_size - guest) {
            count(map, guest, 8 * grain);
            continue;
        }
        for (uint64_t at = guest; bits != 0; bits >>= 1, at += grain)
            if (bits & 1)
                count(map, at, MIN(grain, all->virtual_size - at));
    }
}

/* The largest virtual size, by header or file size, and the smallest cluster. */
static bool
find_shape(const char *const *paths, const char *const *formats, unsigned n, Union *all,
           GError **error)
{
    all->grain_bits = 21;
    for (unsigned i = 0; i < n; i++) {
        g_auto(ImageFile) file = IMAGE_FILE_INIT;

        if (!image_open(paths[i], &file, error))
            return false;
        if (g_strcmp0(formats[i], "raw") == 0) {
            all->virtual_size = MAX(all->virtual_size, raw_virtual_size(&file));
            all->grain_bits = 9;
            continue;
        }
        g_autoptr(Qcow2Header) header = image_header(&file, paths[i], error);
        if (header == NULL)
            return false;
        all->virtual_size = MAX(all->virtual_size, header->virtual_size);
        all->grain_bits =
            MIN(all->grain_bits, header->cluster_bits -
                                     (header->features & QCOW2_EXTENDED_L2 ? SUBCLUSTER_BITS : 0));
    }
    return true;
}

bool
qcow2_work_map(const char *const *paths, const char *const *formats, unsigned n, WorkMap *ret_map,
               GError **error)
{
    Union all = { 0 };

    if (!find_shape(paths, formats, n, &all, error))
        return false;
    while (all.virtual_size >> all.grain_bits > MAX_GRAINS)
        all.grain_bits++;
    g_autofree uint8_t *bits = g_malloc0((all.virtual_size >> all.grain_bits) / 8 + 1);
    all.bits = bits;
    for (unsigned i = 0; i < n; i++)
        if (!qcow2_map(paths[i], formats[i], mark, &all, error))
            return false;

    *ret_map = (WorkMap){ .virtual_size = all.virtual_size };
    count_all(&all, ret_map);
    return true;
}

uint64_t
work_below(const WorkMap *map, uint64_t guest_offset)
{
    uint64_t width = bucket_width(map->virtual_size), below = 0;

    if (guest_offset >= map->virtual_size)
        return map->total;
    uint64_t full = guest_offset / width;
    for (uint64_t i = 0; i < full; i++)
        below += map->bucket[i];
    /* In a bucket the data is taken as spread evenly */
    double part = (double)(guest_offset % width) / (double)width;
    return below + (uint64_t)(part * (double)map->bucket[full]);
}
