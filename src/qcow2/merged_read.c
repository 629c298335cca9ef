/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * The data of a merged map, as the guest sees them.
 */
#include "qcow2/merged.h"
#include "qcow2/packed.h"

#include <inttypes.h>

uint64_t
merged_shown_end(const MergedMap *map, uint64_t guest, unsigned layer)
{
    uint64_t end = guest + (UINT64_C(1) << map->bits);

    for (unsigned k = layer; k < map->n; k++)
        if (map->layers[k].size < map->virtual_size && map->layers[k].size > guest)
            end = MIN(end, map->layers[k].size);
    return end;
}

/* The data of a compressed cluster need not reach as far as its entry says. */
static bool
unpack(MergedMap *map, const MergedCluster *cluster, GError **error)
{
    const MergedLayer *layer = &map->layers[cluster->layer];
    size_t there = (size_t)MIN(cluster->packed, layer->file.size - cluster->host);

    if (map->plain == NULL) {
        map->plain = g_malloc((size_t)1 << 21);  /* the largest cluster ... */
        map->packed = g_malloc((size_t)1 << 22); /* ... and the most that an entry can name */
    }
    map->plain_host = UINT64_MAX;
    if (!image_read(&layer->file, layer->path, "compressed data", cluster->host, map->packed, there,
                    error))
        return false;
    if (!packed_inflate(layer->header->compression, map->packed, there, map->plain,
                        (size_t)1 << layer->bits))
        return error_set(error, ERR_CORRUPT,
                         "%s: the compressed data at byte %" PRIu64
                         " of the file are damaged, expected a cluster of %" PRIu64
                         " bytes. Look at it with: qemu-img check",
                         layer->path, cluster->host, UINT64_C(1) << layer->bits);
    map->plain_layer = cluster->layer;
    map->plain_host = cluster->host;
    return true;
}

const uint8_t *
merged_unpack(MergedMap *map, uint64_t guest, const MergedCluster *cluster, GError **error)
{
    bool have = map->plain != NULL && map->plain_layer == cluster->layer &&
                map->plain_host == cluster->host;

    if (!have && !unpack(map, cluster, error))
        return NULL;
    return map->plain + (guest & ((UINT64_C(1) << map->layers[cluster->layer].bits) - 1));
}

bool
merged_read(MergedMap *map, uint64_t guest, const MergedCluster *cluster, void *buffer,
            GError **error)
{
    const MergedLayer *layer = &map->layers[cluster->layer];
    size_t size = (size_t)1 << map->bits;
    size_t shown = (size_t)(merged_shown_end(map, guest, cluster->layer) - guest);

    if (cluster->kind == MERGED_PACKED) {
        const uint8_t *plain = merged_unpack(map, guest, cluster, error);
        if (plain == NULL)
            return false;
        memcpy(buffer, plain, shown);
        memset((char *)buffer + shown, 0, size - shown);
        return true;
    }
    size_t there = (size_t)MIN(shown, layer->file.size - cluster->host);
    memset((char *)buffer + there, 0, size - there);
    return image_read(&layer->file, layer->path, "data", cluster->host, buffer, there, error);
}
