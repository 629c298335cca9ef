/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * Brings ranges of data from the sources of a build into the new file: shared if that works,
 * else copied. What a source cannot do once is not tried again with it. Nobody outside the
 * folder includes it.
 */
#pragma once

#include "qcow2/copier.h"
#include "qcow2/merged.h"

typedef enum { BY_SHARING, BY_COPY_RANGE, BY_READ_WRITE } TransferWay;

typedef struct {
    const Qcow2Build *build;
    const MergedMap *map;
    int fd;               /* the new file */
    uint64_t block;       /* of its file system */
    uint64_t total, done; /* for the progress */
    Copier *copier;       /* NULL until it is needed */
    TransferWay way[QCOW2_MAX_DEPTH];
    Qcow2Built built;
} Transfer;

void transfer_init(Transfer *transfer, const Qcow2Build *build, const MergedMap *map, int fd);
void transfer_clear(Transfer *transfer);
G_DEFINE_AUTO_CLEANUP_CLEAR_FUNC(Transfer, transfer_clear)

/* Bytes [from, from + length) of the layer's file to "to"; what lies beyond its end stays a hole.
 */
bool transfer_range(Transfer *transfer, unsigned layer, uint64_t from, uint64_t to, uint64_t length,
                    GError **error);
/* Data that were compressed in their source. */
bool transfer_unpacked(Transfer *transfer, const void *buffer, size_t length, uint64_t to,
                       GError **error);
/* How many calls share such a range, where the whole blocks in it can be shared. */
uint64_t transfer_share_calls(uint64_t from, uint64_t length, uint64_t block);
/* All ranges so far are in the file (not yet on the disk). */
bool transfer_finish(Transfer *transfer, GError **error);
/* Metadata, or zeros over what was transferred. */
bool transfer_write(Transfer *transfer, const void *buffer, size_t length, uint64_t to,
                    GError **error);
/* The same; and the disk may begin with it now, while the next is made. Only a hint: the file is to
 * be synced as ever. */
bool transfer_write_soon(Transfer *transfer, const void *buffer, size_t length, uint64_t to,
                         GError **error);
/* Tells the progress; false with ERR_CANCELLED if it wants to end. */
bool transfer_tell(Transfer *transfer, GError **error);
