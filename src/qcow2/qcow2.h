/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * qcow2: reading headers, chains and mapping tables; creating empty overlays.
 *
 * Promise: trusts no byte of an image. Never guesses a format by looking at content: the
 * format of each file comes from who names it (domain XML, backing format in the header).
 * Never opens a file for writing, but for qcow2_create() and qcow2_build() (build.h), which write
 * only a file that they created themselves (O_EXCL), and qcow2_relink(), which writes one header.
 *
 * Source of the format: QEMU's docs/interop/qcow2.txt.
 * Ownership: as each comment says. Threads: any; nothing is shared.
 * Errors: ERR_CORRUPT (names file and field), ERR_UNSUPPORTED, ERR_STORAGE, ERR_NOT_FOUND,
 * ERR_REFUSED (outside the root); of qcow2_create() also ERR_INVALID, ERR_EXISTS, ERR_NO_SPACE.
 * Messages are valid UTF-8 whatever the image holds.
 */
#pragma once

#include "base/cleanup.h"
#include "base/error.h"

#include <stdint.h>
#include <sys/stat.h>

/* Why a volume cannot be managed, or what merges must know. Bits of Qcow2Header.features. */
typedef enum {
    QCOW2_DIRTY = 1 << 0,
    QCOW2_CORRUPT = 1 << 1,
    QCOW2_EXTERNAL_DATA = 1 << 2,
    QCOW2_COMPRESSION_TYPE = 1 << 3,
    QCOW2_EXTENDED_L2 = 1 << 4,
    QCOW2_UNKNOWN_INCOMPATIBLE = 1 << 5,
    QCOW2_ENCRYPTED = 1 << 6,
    QCOW2_INTERNAL_SNAPSHOTS = 1 << 7,
    QCOW2_BITMAPS = 1 << 8,
} Qcow2Feature;

typedef struct {
    char *path;
    uint32_t version; /* 2 or 3 */
    uint32_t cluster_bits;
    uint64_t virtual_size;
    uint64_t file_size;
    uint64_t allocated; /* st_blocks * 512; of a block device its size */
    uint64_t l1_offset;
    uint32_t l1_entries;
    uint64_t refcount_table_offset;
    uint32_t refcount_table_clusters;
    unsigned refcount_bits;
    unsigned compression; /* of compressed clusters: 0 zlib, 1 zstd */
    char *backing_file;   /* as written in the header; NULL = none */
    char *backing_format; /* NULL = header does not say */
    unsigned features;    /* Qcow2Feature */
    char *bitmaps;        /* with QCOW2_BITMAPS: their names, for messages; NULL = unreadable */
    uint64_t autoclear;
} Qcow2Header;

void qcow2_header_free(Qcow2Header *header);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(Qcow2Header, qcow2_header_free)

/* Reads and validates the header (opened O_RDONLY|O_NOFOLLOW is NOT required: symlinks are
 * followed; only regular files and block devices are opened, never waiting on a FIFO).
 * Refused: wrong magic, versions other than 2 and 3, cluster bits outside 9..21, L1 or refcount
 * table outside the file or not aligned, L1 too small for the virtual size, backing name
 * over 1023 bytes or with NUL, size over 2^63. Unknown features (and ways of compression) are
 * reported, not refused. */
Qcow2Header *qcow2_header_read(const char *path, GError **error);
/* The same of a regular file that the caller has open, and what fstat(2) says of it. */
Qcow2Header *qcow2_header_of(int fd, const struct stat *st, const char *path, GError **error);

/* Makes the header name this backing file (as it is to be written there, at most 1023 bytes) and
 * format ("qcow2" or "raw") in place of the one it names now; nothing else changes ("qemu-img
 * rebase -u"). Durable when true. The caller sees to it that nobody has the file open. Safe to
 * repeat. ERR_UNSUPPORTED: it names none now, or there is no room; nothing was changed. */
bool qcow2_relink(const char *path, const char *backing, const char *format, GError **error);

/* The absolute path that "backing" means in a header of the file "of": relative names are
 * relative to the directory of "of". Refused with ERR_UNSUPPORTED, naming the file: "json:" and
 * any protocol "x:" name, empty names, those with control characters or broken UTF-8.
 * Lexically normalised, symlinks are not resolved. */
char *qcow2_backing_path(const char *of, const char *backing, GError **error);
/* The file that this one stands on, by its header; NULL: on none, or that cannot be told. */
char *qcow2_backing_of(const char *path);

/* One layer of a chain. header is NULL for a raw volume. */
typedef struct {
    char *path;
    char *format;          /* "qcow2" or "raw" */
    uint64_t virtual_size; /* raw: the size of the file or device, rounded up to 512 */
    uint64_t allocated;
    Qcow2Header *header;
} Qcow2Layer;
void qcow2_layer_free(Qcow2Layer *layer);

#define QCOW2_MAX_DEPTH \
    200 /* libvirt's own limit, facts: "backing chains more than 200 layers deep" */

/* Walks from the leaf (its format is given by the domain XML) to the base, by headers alone.
 * Result: GPtrArray of Qcow2Layer, base first. "root": a directory under which every layer must lie
 * after symlinks are resolved (realpath), NULL = anywhere. Refused, each with a message naming the
 * files: a loop, over 200 layers, missing file, outside root, backing without a format in the
 * header, unknown format, external data file, encryption, and a backing name with ".." that through
 * symlinks means another file than by its text. The leaf's path is kept as given, the others are
 * absolute. Dirty, corrupt or unknown features are not refused: look at header->features. */
GPtrArray *qcow2_chain_walk(const char *leaf, const char *leaf_format, const char *root,
                            GError **error);

/* Creates an empty overlay, version 3, 64 KiB clusters: O_EXCL, mode, owner (uid/gid -1 = leave),
 * written and fsynced, its directory fsynced too. backing is written as given (a relative name);
 * backing_format ("qcow2" or "raw") must be given with it, neither is looked at. backing NULL =
 * no backing file. The size is a multiple of 512, not 0. Killed halfway, the file has no magic. On
 * any error nothing is left behind. ERR_EXISTS if the file exists (it is not touched). */
bool qcow2_create(const char *path, uint64_t virtual_size, const char *backing,
                  const char *backing_format, unsigned mode, int uid, int gid, GError **error);

/* Allocation map ------------------------------------------------------------------ */

typedef enum {
    EXTENT_HOLE,           /* not allocated in this layer: the backing file shows through */
    EXTENT_ZERO,           /* reads as zeros, no cluster behind it */
    EXTENT_ZERO_ALLOCATED, /* reads as zeros, a cluster is reserved */
    EXTENT_DATA,
    EXTENT_COMPRESSED, /* host_offset is 0 */
} ExtentKind;

typedef struct {
    uint64_t guest; /* bytes */
    uint64_t length;
    ExtentKind kind;
    uint64_t host; /* offset in the file, for DATA and ZERO_ALLOCATED */
} Extent;

/* Calls back for consecutive, merged extents that cover [0, virtual_size) exactly, in order,
 * holding one L2 table in memory. raw volumes: by SEEK_DATA/SEEK_HOLE (holes are EXTENT_ZERO). The
 * callback returns false to stop early (then the function returns true). L2 tables outside the
 * file, reserved bits or unaligned offsets: ERR_CORRUPT. The image may be in use by a running QEMU:
 * what is read is then a snapshot of its metadata on disk, good enough for estimates only. */
typedef bool (*ExtentFunc)(const Extent *extent, void *data);
bool qcow2_map(const char *path, const char *format, ExtentFunc each, void *data, GError **error);

/* Where the work of a merge lies: bytes of data in the union of some layers, spread over
 * WORK_BUCKETS equal parts of the guest's disk. This turns QEMU's "current offset" of a commit
 * into bytes done (facts/libvirt 3.1: its own numbers are useless). */
#define WORK_BUCKETS 1024
typedef struct {
    uint64_t virtual_size;
    uint64_t total; /* bytes to copy */
    uint64_t bucket[WORK_BUCKETS];
} WorkMap;
/* layers: paths and formats, n of them (those above the base). Overlapping data count once. */
bool qcow2_work_map(const char *const *paths, const char *const *formats, unsigned n,
                    WorkMap *ret_map, GError **error);
/* bytes of data below a guest offset */
uint64_t work_below(const WorkMap *map, uint64_t guest_offset);
