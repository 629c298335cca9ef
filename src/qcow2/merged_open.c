/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * A run of volumes is opened: what fits together, and which clusters the map has.
 */
#include "qcow2/merged.h"

#include <errno.h>
#include <inttypes.h>

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
