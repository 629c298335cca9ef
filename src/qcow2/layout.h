/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * Where the parts of a new volume lie, all in clusters:
 *
 *     0   header
 *     1   refcount table    refcount blocks    L1 table    L2 tables    data
 *
 * Nothing lies between them, so every cluster of the file has the refcount 1. Nobody outside the
 * folder includes it.
 */
#pragma once

#include "qcow2/merged.h"

typedef struct {
    unsigned bits;
    uint64_t slices; /* L1 entries */
    uint8_t *needed; /* a bit for each: has it a L2 table? */
    uint64_t tables; /* L2 tables */
    uint64_t data;   /* clusters of data ... */
    uint64_t packed; /* ... of them those that are compressed in the sources */
    uint64_t pieces; /* runs of data clusters, each together in guest and source */
    uint64_t table_clusters, blocks, l1_clusters; /* of refcounts; of the L1 table */
    uint64_t blocks_at, l1_at, tables_at, data_at, total;
} Layout;

static inline void
layout_clear(Layout *layout)
{
    g_clear_pointer(&layout->needed, g_free);
}
G_DEFINE_AUTO_CLEANUP_CLEAR_FUNC(Layout, layout_clear)

static inline bool
layout_needs(const Layout *layout, uint64_t slice)
{
    return layout->needed[slice / 8] >> slice % 8 & 1;
}

/* From bits, slices, tables and data to where everything lies. */
void layout_place(Layout *layout);

/* Goes through the whole map once. progress may be NULL; "what" names the volume in errors. */
bool layout_make(Layout *layout, MergedMap *map, Qcow2Progress progress, void *data,
                 const char *what, GError **error);
