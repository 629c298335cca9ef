/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * Writes data and L2 tables of a new volume, a window of a million clusters at a time: the mapping
 * of the window is collected, its data are put into the order of the sources' files, and
 * transferred; then its L2 tables are written in one go. Nobody outside the folder includes it.
 */
#pragma once

#include "qcow2/layout.h"
#include "qcow2/transfer.h"

/* L2 tables in a window, if each maps so many clusters. */
size_t window_tables(size_t per_slice);

/* "map" as layout_make() saw it. */
bool window_write_all(MergedMap *map, const Layout *layout, Transfer *transfer, GError **error);
