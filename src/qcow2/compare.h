/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * Two runs of volumes side by side, mapped in the same clusters. Nobody outside the folder includes
 * it.
 */
#pragma once

#include "qcow2/merged.h"
#include "qcow2/verify.h"

typedef struct {
    MergedMap a, b;
    uint64_t size; /* of the guest's disk, set before pair_open(); 0 = both must have the same */
    Qcow2Progress progress;
    void *data;
    uint64_t told, untold; /* the progress told last; bytes read since */
    Qcow2Compared compared;
    uint8_t *of_a, *of_b;       /* a cluster of data each */
    MergedCluster *in_a, *in_b; /* a slice each */
} Pair;

/* Refuses different sizes of the guest's disk (ERR_CORRUPT), unless one was given. */
bool pair_open(Pair *pair, const Qcow2Source *a, unsigned n_a, const Qcow2Source *b, unsigned n_b,
               GError **error);
void pair_close(Pair *pair);
G_DEFINE_AUTO_CLEANUP_CLEAR_FUNC(Pair, pair_close)

const char *pair_name_a(const Pair *pair); /* the tops */
const char *pair_name_b(const Pair *pair);
bool pair_differ(const Pair *pair, uint64_t guest, GError **error); /* always false */
/* False with ERR_CANCELLED: to be given up. */
bool pair_tell(Pair *pair, uint64_t done, GError **error);
/* The same every few MiB that are read, so that a cancel need not wait. */
bool pair_read_on(Pair *pair, uint64_t length, GError **error);
/* Reads and compares what the guest sees in one cluster; what is not data is taken as zeros. */
bool pair_compare_cluster(Pair *pair, uint64_t guest, const MergedCluster *a,
                          const MergedCluster *b, GError **error);
