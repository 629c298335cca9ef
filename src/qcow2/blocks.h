/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * Where bytes of a file lie on its disk (FIEMAP), to see that two files share them. Nobody outside
 * the folder includes it.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

typedef struct {
    uint64_t at, length; /* in the file */
    uint64_t physical;
    bool known; /* false: a hole, or nobody can tell exactly */
    bool hole;
} Block;

/* Some of a file's extents, asked for from the place that was last looked for. */
typedef struct Blocks Blocks;
Blocks *blocks_new(int fd);
void blocks_free(Blocks *blocks);
/* The extent (or hole) that holds this byte, cut so that it begins there. */
Block blocks_find(Blocks *blocks, uint64_t at);
