/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * An image file that is open for reading: what the other files of this folder share.
 * Nobody outside the folder includes it.
 *
 * Threads: any; nothing is shared. Errors: ERR_NOT_FOUND, ERR_UNSUPPORTED (not a regular file
 * or block device), ERR_CORRUPT (short), ERR_STORAGE.
 */
#pragma once

#include "qcow2/qcow2.h"

#include <string.h>

#define SECTOR UINT64_C(512)

typedef struct {
    int fd;
    uint64_t size;
    uint64_t allocated;
    uint64_t device, inode; /* who it is, whatever names it has */
} ImageFile;

/* Parts of an entry of a L1 or L2 table */
#define OFFSET_MASK UINT64_C(0x00fffffffffffe00)
#define L1_RESERVED UINT64_C(0x7f000000000001ff)
#define L2_RESERVED UINT64_C(0x3f000000000001fe)
#define L2_COPIED (UINT64_C(1) << 63)
#define L2_COMPRESSED (UINT64_C(1) << 62)
#define L2_ZERO UINT64_C(1)

/* Of the header */
#define V2_LENGTH 72
#define BACKING_MAX 1023
#define EXT_BACKING_FORMAT UINT32_C(0xe2792aca)

/* QEMU's own limits: a L1 table of 32 MiB, a refcount table of 8 MiB */
#define L1_MAX_ENTRIES (UINT32_C(32) << 20 >> 3)
#define REFCOUNT_TABLE_MAX (UINT64_C(8) << 20)

#define IMAGE_FILE_INIT \
    {                   \
        .fd = -1        \
    }

static inline void
image_close(ImageFile *file)
{
    autofd_close(&file->fd);
}
G_DEFINE_AUTO_CLEANUP_CLEAR_FUNC(ImageFile, image_close)

/* Never waits: a FIFO or a character device is refused. */
bool image_open(const char *path, ImageFile *ret_file, GError **error);

/* Reads exactly "length" bytes; "what" names them in the error when the file is too short. */
bool image_read(const ImageFile *file, const char *path, const char *what, uint64_t offset,
                void *buffer, size_t length, GError **error);

/* The L2 tables that these L1 entries name will be read soon: the kernel may fetch them, many at a
 * time, where one after another would wait for each. Only a hint. */
void image_expect_tables(const ImageFile *file, const uint8_t *l1, size_t entries, size_t length);

/* How many of these L2 entries, from the first on, name clusters that follow each other in the
 * file: plain data within it, of which nothing else need be asked. 0: the first is not like that.
 * Large disks have millions of entries, mostly in long runs. Not for extended entries. */
size_t image_plain_run(const uint8_t *entries, size_t count, unsigned bits, uint64_t file_size);

/* qcow2_header_read() of a file that is open already. */
Qcow2Header *image_header(const ImageFile *file, const char *path, GError **error);

/* qcow2_map(), but go_on() (may be NULL) is asked at each L2 table, or each range of a raw volume:
 * false stops it early. */
bool image_map(const char *path, const char *format, ExtentFunc each, bool (*go_on)(void *data),
               void *data, GError **error);

/* A name out of a header, fit for an error message; the caller frees it. */
char *image_shown(const char *name);

/* Of a raw volume: where the data at or after "from" begins and ends; without data both are the end
 * of the disk. What the file system cannot tell counts as data. */
bool image_find_data(const ImageFile *file, const char *path, uint64_t from, uint64_t *ret_begin,
                     uint64_t *ret_end, GError **error);

/* Writing. image_write() and image_sync_folder() leave the reason in errno. */
bool image_write(int fd, const void *buffer, size_t length, uint64_t offset);
bool image_sync_folder(const char *path);

/* What a new version 3 header says; the rest is zero. */
typedef struct {
    unsigned cluster_bits;
    uint64_t virtual_size;
    uint32_t l1_entries;
    uint64_t l1_offset;
    uint64_t refcount_table_offset;
    uint32_t refcount_table_clusters;
    const char *backing, *backing_format; /* checked by image_check_backing() */
} NewHeader;
/* "header": a zeroed first cluster, of at least image_header_length() bytes. */
void image_fill_header(uint8_t *header, const NewHeader *new);
size_t image_header_length(const char *backing, const char *backing_format);
/* Can a new volume "path" have this backing file (NULL = none)? ERR_INVALID, ERR_UNSUPPORTED. */
bool image_check_backing(const char *path, const char *backing, const char *format, GError **error);

/* A L2 table maps this many bytes of the guest's disk (as a power of two). */
static inline unsigned
l2_span_bits(unsigned cluster_bits, bool extended_l2)
{
    return 2 * cluster_bits - (extended_l2 ? 4 : 3);
}

static inline uint64_t
round_up(uint64_t value, uint64_t unit)
{
    return (value + unit - 1) / unit * unit;
}

/* QEMU counts a raw disk in sectors and reads the missing part of the last one as zeros. */
static inline uint64_t
raw_virtual_size(const ImageFile *file)
{
    return round_up(file->size, SECTOR);
}

static inline uint64_t
get_be64(const void *at)
{
    uint64_t value;

    memcpy(&value, at, sizeof value);
    return GUINT64_FROM_BE(value);
}

static inline uint32_t
get_be32(const void *at)
{
    uint32_t value;

    memcpy(&value, at, sizeof value);
    return GUINT32_FROM_BE(value);
}

static inline void
put_be64(void *at, uint64_t value)
{
    value = GUINT64_TO_BE(value);
    memcpy(at, &value, sizeof value);
}

static inline void
put_be32(void *at, uint32_t value)
{
    value = GUINT32_TO_BE(value);
    memcpy(at, &value, sizeof value);
}
