/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * What a run of volumes looks like from above: for every cluster of the guest's disk the newest
 * layer that has it. Taken in slices, one L2 table of the given cluster size each; holds some L1
 * entries of each layer and one L2 table in memory. Nobody outside the folder includes it.
 *
 * Errors: ERR_CORRUPT (names file, field and guest offset), ERR_UNSUPPORTED, ERR_STORAGE.
 */
#pragma once

#include "qcow2/build.h"
#include "qcow2/image.h"

enum { L1_CHUNK = 4096 }; /* entries of each layer's L1 table in memory */

typedef struct {
    char *path;
    ImageFile file;
    Qcow2Header *header; /* NULL = raw */
    uint64_t size;       /* of the guest's disk */
    unsigned bits;       /* of its clusters; of a raw volume those of the map */
    uint8_t *l1;         /* a chunk of the L1 table ... */
    uint64_t l1_first;   /* ... from this entry on; UINT64_MAX = none yet */
    uint64_t tables;     /* L2 tables met, which cannot be more than the file has clusters */
    uint64_t last_table;
    uint64_t data_begin, data_end; /* of a raw volume: the data found last */
    uint64_t data_from;            /* searched from here */
} MergedLayer;

typedef enum {
    MERGED_HOLE, /* in no layer: what is below the run shows */
    MERGED_ZERO,
    MERGED_DATA,
    MERGED_PACKED, /* compressed data */
} MergedKind;

typedef struct {
    uint64_t host; /* of DATA; of PACKED where the compressed bytes begin ... */
    union {
        uint32_t packed;  /* ... and how many they are at most */
        uint32_t follows; /* of DATA: so many clusters after it surely go on in its file */
    };
    uint16_t layer;
    uint8_t kind;
} MergedCluster;

typedef struct {
    MergedLayer *layers; /* base first */
    unsigned n;
    uint64_t virtual_size;
    uint64_t zero_from; /* what is below the run has nothing from here on: zeros are holes */
    unsigned bits;      /* clusters of the map */
    bool has_ends;      /* the disk of a layer ends within one of them */
    uint64_t slices;
    size_t per_slice; /* clusters */
    uint8_t *l2;
    uint8_t *plain, *packed; /* the cluster unpacked last; NULL = none yet */
    uint64_t plain_host;
    unsigned plain_layer;
} MergedMap;

static inline bool
merged_has_data(const MergedCluster *cluster)
{
    return cluster->kind == MERGED_DATA || cluster->kind == MERGED_PACKED;
}

#define MERGED_INIT    \
    {                  \
        .layers = NULL \
    }

/* Opens the volumes and reads their headers. virtual_size 0 = that of the top. max_bits: no
 * larger clusters in the map, whatever the volumes have (raw ones have none). Refuses with
 * ERR_UNSUPPORTED what cannot be read without more knowledge (encryption, external data, ...). */
bool merged_open(MergedMap *map, const Qcow2Source *layers, unsigned n, uint64_t virtual_size,
                 unsigned max_bits, GError **error);
void merged_close(MergedMap *map);
G_DEFINE_AUTO_CLEANUP_CLEAR_FUNC(MergedMap, merged_close)

/* Is every file still as long as it was when it was opened? */
bool merged_still_whole(const MergedMap *map, GError **error);

/* How many clusters the slice has: the last may be shorter. */
size_t merged_count(const MergedMap *map, uint64_t slice);

/* A quick look: true = surely all holes. Most slices of a large disk are. */
bool merged_is_empty(MergedMap *map, uint64_t slice);

/* Fills clusters[0 .. merged_count()). ret_empty: they are all holes. */
bool merged_slice(MergedMap *map, uint64_t slice, MergedCluster *clusters, bool *ret_empty,
                  GError **error);

/* The same, but of data that follow each other only the first cluster is sure to be filled in: for
 * who goes from run to run (merged_run). With has_ends all are. */
bool merged_runs(MergedMap *map, uint64_t slice, MergedCluster *clusters, bool *ret_empty,
                 GError **error);

/* Who stops in the middle of a run, n clusters from the one at which he stood, has the rest of it
 * filled in there. n is at least 1, and within the slice. */
void merged_go_on(const MergedMap *map, MergedCluster *cluster, size_t n);

/* How many of the clusters, from the first on, are alike: of DATA those that follow each other in
 * one file. A PACKED one is alone. count is at least 1, as is the answer. */
size_t merged_run(const MergedMap *map, const MergedCluster *clusters, size_t count);

/* A cluster of which the layer that holds it (or one above) shows only the first bytes, since its
 * disk ends inside: the rest reads zero. Returns where what is shown ends; else the cluster's end.
 */
uint64_t merged_shown_end(const MergedMap *map, uint64_t guest, unsigned layer);

/* The bytes of a PACKED cluster, valid until the next call; NULL with an error if they are damaged.
 * Clusters that are parts of one compressed cluster should be asked for one after the other. */
const uint8_t *merged_unpack(MergedMap *map, uint64_t guest, const MergedCluster *cluster,
                             GError **error);

/* Reads a cluster of DATA or PACKED as the guest sees it: bytes beyond the file or beyond what is
 * shown are zero. */
bool merged_read(MergedMap *map, uint64_t guest, const MergedCluster *cluster, void *buffer,
                 GError **error);
