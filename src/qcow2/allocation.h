/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * What volumes hold, kept in memory, and what follows from it for a run of them: for the planner,
 * who must know the cost of a merge before anything is done.
 *
 * Memory: 24 bytes an extent, and never more extents than asked for.
 * Ownership: an Allocation is shared by references. Threads: any, it never changes once it is read.
 * Errors: those of qcow2.h.
 */
#pragma once

#include "qcow2/build.h"

typedef struct {
    uint64_t guest, length; /* bytes; in order, never overlapping; holes are left out */
    uint64_t host : 56;     /* of DATA and ZERO_ALLOCATED */
    uint64_t kind : 8;      /* ExtentKind */
} AllocationExtent;

typedef struct {
    gatomicrefcount refs;
    char *path;
    bool raw;          /* what is no extent reads zero */
    bool exact;        /* all of them; false: it was given up, and there are none */
    unsigned bits;     /* of its clusters; 0 = raw */
    unsigned features; /* Qcow2Feature */
    uint64_t virtual_size, file_size;
    size_t n;
    AllocationExtent *extents;
} Allocation;

#define ALLOCATION_MAX ((size_t)1 << 20)

/* go_on(data) may be NULL; it is asked at every L2 table. Once it says no, or beyond so many
 * extents, the result is not exact; nor is it where the tables cannot be read for want of knowledge
 * (an external data file, unknown features). The volume may be in use by a running QEMU, see
 * qcow2_map(). NULL with an error: it cannot be read. */
Allocation *allocation_read(const char *path, const char *format, size_t max_extents,
                            bool (*go_on)(void *data), void *data, GError **error);
Allocation *allocation_ref(Allocation *allocation);
void allocation_unref(Allocation *allocation);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(Allocation, allocation_unref)
size_t allocation_memory(const Allocation *allocation); /* bytes */

/* Several volumes as one. In bytes of whole clusters (the smallest of the run); what a layer
 * hides of those below, also by zeros, does not count. */
typedef struct {
    char *refusal;       /* why qcow2_build() would refuse them as they lie there; NULL = it
                            would not. Their features are the caller's business. */
    uint64_t all;        /* data of all layers together */
    uint64_t packed;     /* of these, compressed: they are written even where blocks are shared */
    uint64_t pieces;     /* Qcow2Built.share_calls of a build that shares, and ... */
    uint64_t metadata;   /* ... its bytes_written */
    uint64_t upper;      /* data of all but the base, and ... */
    uint64_t upper_zero; /* ... zeros there (also above the end of a smaller layer) */
    uint64_t grow, grow_zero; /* of these two, where the base has no cluster, in its own clusters */
    uint64_t top;             /* data of the top alone */
} AllocationSum;

static inline void
allocation_sum_clear(AllocationSum *sum)
{
    g_clear_pointer(&sum->refusal, g_free);
}
G_DEFINE_AUTO_CLEANUP_CLEAR_FUNC(AllocationSum, allocation_sum_clear)

/* layers: base first, 1 to QCOW2_MAX_DEPTH of them, all exact. virtual_size 0 = that of the top.
 * below: the size of what the base stands on, 0 = nothing. block: of the file system, for pieces of
 * clusters smaller than that. pieces and metadata are what the build reports, to the byte, if the
 * clusters are no smaller than the blocks and each cluster is named once. */
void allocation_sum(Allocation *const *layers, unsigned n, uint64_t virtual_size, uint64_t below,
                    uint64_t block, AllocationSum *ret_sum);
