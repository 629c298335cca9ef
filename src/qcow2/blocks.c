/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "qcow2/blocks.h"

#include <glib.h>
#include <linux/fiemap.h>
#include <linux/fs.h>
#include <string.h>
#include <sys/ioctl.h>

enum { AT_ONCE = 512 };

/* Extents of which the physical place says nothing about single bytes */
#define INEXACT                                                                             \
    (FIEMAP_EXTENT_UNKNOWN | FIEMAP_EXTENT_DELALLOC | FIEMAP_EXTENT_ENCODED |               \
     FIEMAP_EXTENT_DATA_ENCRYPTED | FIEMAP_EXTENT_NOT_ALIGNED | FIEMAP_EXTENT_DATA_INLINE | \
     FIEMAP_EXTENT_DATA_TAIL)

struct Blocks {
    int fd;
    bool cannot;        /* the file system has no FIEMAP */
    uint64_t from, end; /* what is known */
    unsigned last;      /* found last */
    struct fiemap *map;
};

Blocks *
blocks_new(int fd)
{
    Blocks *blocks = g_new0(Blocks, 1);

    blocks->fd = fd;
    blocks->map = g_malloc0(sizeof *blocks->map + AT_ONCE * sizeof blocks->map->fm_extents[0]);
    return blocks;
}

void
blocks_free(Blocks *blocks)
{
    if (blocks == NULL)
        return;
    g_free(blocks->map);
    g_free(blocks);
}

static void
ask(Blocks *b, uint64_t at)
{
    struct fiemap *map = b->map;

    memset(map, 0, sizeof *map);
    map->fm_start = at;
    map->fm_length = FIEMAP_MAX_OFFSET - at;
    map->fm_flags = FIEMAP_FLAG_SYNC;
    map->fm_extent_count = AT_ONCE;
    b->last = 0;
    b->from = at;
    b->cannot = ioctl(b->fd, FS_IOC_FIEMAP, map) < 0;
    if (b->cannot)
        return;
    b->end = UINT64_MAX;
    if (map->fm_mapped_extents == AT_ONCE) {
        const struct fiemap_extent *e = &map->fm_extents[AT_ONCE - 1];
        b->end = e->fe_logical + e->fe_length;
    }
}

Block
blocks_find(Blocks *b, uint64_t at)
{
    const struct fiemap_extent *extents = b->map->fm_extents;

    if (!b->cannot && (at < b->from || at >= b->end))
        ask(b, at);
    if (b->cannot)
        return (Block){ at, UINT64_MAX - at, .known = false };
    if (b->last > 0 && at < extents[b->last].fe_logical)
        b->last = 0;
    while (b->last < b->map->fm_mapped_extents &&
           extents[b->last].fe_logical + extents[b->last].fe_length <= at)
        b->last++;
    if (b->last == b->map->fm_mapped_extents) {
        b->last = 0;
        return (Block){ at, b->end - at, .hole = true };
    }
    const struct fiemap_extent *e = &extents[b->last];
    if (e->fe_logical > at)
        return (Block){ at, e->fe_logical - at, .hole = true };
    uint64_t within = at - e->fe_logical;
    return (Block){ at, e->fe_length - within, e->fe_physical + within,
                    .known = (e->fe_flags & INEXACT) == 0 };
}
