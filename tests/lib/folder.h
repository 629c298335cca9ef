/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * For tests: a folder goes away with all that is in it. Links are not followed.
 */
#pragma once

#include <ftw.h>
#include <stdio.h>

static inline int
tree_remove_one(const char *path, const struct stat *st, int type, struct FTW *where)
{
    return remove(path);
}

static inline void
tree_remove(const char *path)
{
    nftw(path, tree_remove_one, 16, FTW_DEPTH | FTW_PHYS);
}
