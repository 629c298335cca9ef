/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * Snapshots as a tree. Pure but for the clock (ages).
 *
 *     ┌─ installed
 *     ├─ before update         each line grew out of the one above it on its level;
 *     │  ├─ experiment         an indented group branches off the line above the group;
 *     │  └─ experiment 2       the way to the active one is the outermost level
 *     └─ you are here
 */
#pragma once

#include "cli/cli.h"

/* items: the array of a snapshots document; the caller frees the text */
char *tree_text(const json_t *items, unsigned width, bool utf8);
