/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * New volumes out of old ones: building, checking, comparing.
 *
 * qcow2_build() makes one volume of a run of volumes, by sharing their blocks where the file system
 * can (XFS, btrfs, ...), else by copying. On the backing file that the run stood on, the new
 * volume reads exactly as the run's top did.
 *
 * Promise: nothing that exists is changed. The new volume appears under its name whole and
 * durable, or not at all: it is written under another name in the same directory (it begins
 * with QCOW2_BUILD_PREFIX), synced, and renamed without ever replacing a file. After an error or a
 * cancel nothing is left; after a crash there may be a file of that prefix, which nobody refers to.
 * The sources must not change meanwhile: backing files of a running VM do not. What the
 * sources say is trusted as little as everywhere in this folder. Memory: some 64 MiB at most for
 * clusters of 64 KiB, whatever the size of the disk, and a bit for each cluster of the sources.
 *
 * Layout of a new volume: version 3, 16 bit refcounts, the smallest cluster size of the run (its
 * layers normally agree); header, refcounts, L1 and L2 tables in front, then data. Within a
 * window (64 GiB of the disk) the data keep the order that they have in the sources, so that what
 * lies together there is shared in one call and stays together. Compressed clusters are unpacked.
 *
 * Threads: any; nothing is shared. Callbacks come in the caller's thread.
 * Errors: those of qcow2.h, and ERR_CANCELLED, ERR_EXISTS, ERR_NO_SPACE, ERR_INVALID, ERR_STOPPED.
 */
#pragma once

#include "qcow2/qcow2.h"

#define QCOW2_BUILD_PREFIX ".livemerge-build-"
/* The name under which this volume is written until it is whole. A file of that name is what a
 * killed build of it has left: the next one begins it anew. The caller frees it. */
char *qcow2_build_name(const char *dest);

typedef struct {
    const char *path, *format; /* "qcow2"; of the lowest also "raw" */
} Qcow2Source;

/* Returns false to cancel. total is 0 while the sources are being looked at. */
typedef bool (*Qcow2Progress)(uint64_t done, uint64_t total, void *data);

typedef struct {
    const Qcow2Source *layers; /* base of the run first */
    unsigned n;
    const char *dest;
    const char *backing, *backing_format; /* as written into the header; NULL = none */
    uint64_t virtual_size;                /* 0 = that of the run's top */
    unsigned mode;
    int uid, gid;           /* -1 = leave */
    bool share;             /* try to share blocks */
    bool must_share;        /* ERR_UNSUPPORTED instead of copying (but for parts of a block, and
                               compressed data, which are always unpacked) */
    Qcow2Progress progress; /* may be NULL */
    void *data;
} Qcow2Build;

typedef struct {
    uint64_t bytes_shared;
    uint64_t bytes_copied;  /* without the holes in the sources, which stay holes */
    uint64_t bytes_written; /* metadata */
    unsigned share_calls, copy_calls;
} Qcow2Built;

/* Without "share" the blocks are copied by copy_file_range(), but for file systems where that
 * shares them all the same; there, and where it fails, by io_uring, and where that is forbidden by
 * plain reads and writes. ERR_UNSUPPORTED with the text of qcow2_build_refusal() if there is one. A
 * run whose base has a backing file needs one for the new volume too (ERR_INVALID). */
bool qcow2_build(const Qcow2Build *build, Qcow2Built *ret_built, GError **error);

/* What a build would be, found by reading headers and mapping tables only. */
typedef struct {
    char *refusal;           /* why it cannot be built, for the user; NULL = it can */
    uint64_t virtual_size;   /* the rest is only filled in without a refusal */
    uint64_t data_bytes;     /* to share, to copy or to unpack, holes inside included */
    uint64_t unpacked_bytes; /* the part of data_bytes that no sharing spares from being written */
    uint64_t metadata_bytes; /* to write */
    uint64_t file_size;      /* of the new volume */
    uint64_t pieces;         /* share calls needed */
    unsigned cluster_bits;
} Qcow2BuildPlan;

static inline void
qcow2_build_plan_clear(Qcow2BuildPlan *plan)
{
    g_clear_pointer(&plan->refusal, g_free);
}
G_DEFINE_AUTO_CLEANUP_CLEAR_FUNC(Qcow2BuildPlan, qcow2_build_plan_clear)

/* True with a refusal means: it is sure that the writer cannot carry these volumes (encryption,
 * external data file, extended L2, internal snapshots, persistent bitmaps, unknown features, dirty
 * or corrupt mark, ...). False: it could not tell, or a volume is damaged. virtual_size 0 = that of
 * the top. */
bool qcow2_build_look(const Qcow2Source *layers, unsigned n, uint64_t virtual_size,
                      Qcow2BuildPlan *ret_plan, GError **error);
/* The refusal alone, which the caller frees; NULL with an error = could not tell. */
char *qcow2_build_refusal(const Qcow2Source *layers, unsigned n, uint64_t virtual_size,
                          GError **error);

/* What the writer cannot carry over of a volume with these features (Qcow2Feature): the message
 * without the volume's name; NULL = nothing. */
const char *qcow2_uncarried(unsigned features);

/* Checks the metadata of a volume: every cluster that is used has the refcount of its uses, none is
 * used twice or lies beyond the end of the file, and COPIED flags are right. Result: an array
 * of strings, one line for each problem {file, field, expected}, at most QCOW2_CHECK_LINES of
 * them and then how many there are more; empty = sound. NULL with an error: it could not be read,
 * or has internal snapshots, bitmaps, an external data file or unknown features
 * (ERR_UNSUPPORTED). The volume must not be in use for writing. Memory: 64 MiB at most. */
#define QCOW2_CHECK_LINES 50
GPtrArray *qcow2_check(const char *path, GError **error);
/* The same; problems are an ERR_CORRUPT with the first line. */
bool qcow2_check_sound(const char *path, GError **error);

/* Does the new volume hold the same data as the run? Where data lie in the same blocks of the disk
 * (FIEMAP) they are the same; where not, they are read and compared. What is equal: data, zeros
 * and holes of every cluster. False with ERR_CORRUPT that names the first difference. */
typedef struct {
    uint64_t bytes_same_blocks;
    uint64_t bytes_compared;
} Qcow2Compared;
bool qcow2_same_map(const Qcow2Source *layers, unsigned n, const char *dest, Qcow2Progress progress,
                    void *data, Qcow2Compared *ret_compared, GError **error);

/* Do two whole chains (base first, nothing below it) read the same, byte by byte? What is the same
 * range of the same file in both (a backing file in common) is not read. ERR_CORRUPT names the
 * first difference. ERR_UNSUPPORTED: whatever the writer refuses, but for the dirty mark, snapshots
 * and bitmaps. */
bool qcow2_same_content(const Qcow2Source *a, unsigned n_a, const Qcow2Source *b, unsigned n_b,
                        Qcow2Progress progress, void *data, Qcow2Compared *ret_compared,
                        GError **error);
