/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * Writes data and L2 tables of a new volume, a window of a million clusters at a time: the mapping
 * of the window is collected, its data are put into the order of the sources' files, and
 * transferred; then its L2 tables are written in one go. Nobody outside the folder includes it.
 */
#pragma once

#include "qcow2/layout.h"
#include "qcow2/transfer.h"

/* Does a window end that has so many L2 tables, each of which maps per_slice clusters? One in which
 * nothing is compressed and the pieces are in the order of their sources ends early: a larger one
 * only costs memory where there is nothing to sort. "compare" says the order of two pieces. */
bool window_is_full(size_t tables, size_t per_slice, bool unpacks, const GArray *pieces,
                    GCompareFunc compare);

/* "map" as layout_make() saw it. */
bool window_write_all(MergedMap *map, const Layout *layout, Transfer *transfer, GError **error);
