/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * An empty qcow2 file. Its clusters:
 *
 *     0        header, extensions, backing file name
 *     1        refcount table, with one entry
 *     2        refcount block: enough for 2 GiB, and the largest L1 table is 32 MiB
 *     3 ...    L1 table, all zeros
 */
#include "qcow2/image.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <sys/stat.h>

enum {
    CLUSTER_BITS = 16,
    CLUSTER = 1 << CLUSTER_BITS,
    L1_AT = 3, /* cluster */
    HEADER_LENGTH = 112,
    EXTENSION_AT = HEADER_LENGTH,
};
#define L1_MAX_BYTES (UINT64_C(32) << 20)

typedef struct {
    uint8_t header[CLUSTER];
    uint8_t refcount_table[CLUSTER];
    uint8_t refcount_block[CLUSTER];
} Metadata;

static uint64_t
l1_entries(uint64_t virtual_size)
{
    unsigned span = l2_span_bits(CLUSTER_BITS, false);

    return (virtual_size >> span) + ((virtual_size & ((UINT64_C(1) << span) - 1)) != 0);
}

bool
image_check_backing(const char *path, const char *backing, const char *format, GError **error)
{
    if (backing == NULL)
        return true;
    g_autofree char *meant = qcow2_backing_path(path, backing, error);
    if (meant == NULL)
        return false;
    if (strlen(backing) > 1023)
        return error_set(error, ERR_INVALID,
                         "cannot create %s: the name of its backing file is over 1023 bytes", path);
    if (g_strcmp0(format, "qcow2") != 0 && g_strcmp0(format, "raw") != 0)
        return error_set(error, ERR_INVALID,
                         "cannot create %s: the format of its backing file %s must be qcow2 or "
                         "raw, not \"%s\"",
                         path, backing, format != NULL ? format : "");
    return true;
}

static bool
check_size(const char *path, uint64_t size, GError **error)
{
    if (size == 0 || size % SECTOR != 0 || size > INT64_MAX || l1_entries(size) * 8 > L1_MAX_BYTES)
        return error_set(error, ERR_INVALID,
                         "cannot create %s: %" PRIu64
                         " bytes is no size of a disk (a multiple of 512, up to 2 EiB)",
                         path, size);
    return true;
}

static uint8_t *
fill_backing_format(uint8_t *at, const char *format)
{
    size_t length = strlen(format);

    put_be32(at, EXT_BACKING_FORMAT);
    put_be32(at + 4, (uint32_t)length);
    memcpy(at + 8, format, length);
    return at + 8 + round_up(length, 8);
}

size_t
image_header_length(const char *backing, const char *backing_format)
{
    if (backing == NULL)
        return EXTENSION_AT + 8;
    return EXTENSION_AT + 8 + round_up(strlen(backing_format), 8) + 8 + strlen(backing);
}

void
image_fill_header(uint8_t *header, const NewHeader *new)
{
    put_be32(header, 0x514649fb);
    put_be32(header + 4, 3);
    put_be32(header + 20, new->cluster_bits);
    put_be64(header + 24, new->virtual_size);
    put_be32(header + 36, new->l1_entries);
    put_be64(header + 40, new->l1_offset);
    put_be64(header + 48, new->refcount_table_offset);
    put_be32(header + 56, new->refcount_table_clusters);
    put_be32(header + 96, 4); /* 16 bit refcounts */
    put_be32(header + 100, HEADER_LENGTH);
    if (new->backing == NULL || new->backing_format == NULL) /* never one alone */
        return;
    uint8_t *at = fill_backing_format(header + EXTENSION_AT, new->backing_format);
    at += 8; /* the end marker: zeros */
    memcpy(at, new->backing, strlen(new->backing));
    put_be64(header + 8, (uint64_t)(at - header));
    put_be32(header + 16, (uint32_t)strlen(new->backing));
}

static void
fill(Metadata *m, uint64_t virtual_size, const char *backing, const char *backing_format)
{
    uint64_t entries = l1_entries(virtual_size);
    uint64_t clusters = L1_AT + round_up(entries * 8, CLUSTER) / CLUSTER;
    NewHeader new = {
        .cluster_bits = CLUSTER_BITS,
        .virtual_size = virtual_size,
        .l1_entries = (uint32_t)entries,
        .l1_offset = (uint64_t)L1_AT * CLUSTER,
        .refcount_table_offset = CLUSTER,
        .refcount_table_clusters = 1,
        .backing = backing,
        .backing_format = backing_format,
    };

    image_fill_header(m->header, &new);
    put_be64(m->refcount_table, UINT64_C(2) * CLUSTER);
    for (uint64_t i = 0; i < clusters; i++)
        m->refcount_block[2 * i + 1] = 1;
}

bool
image_write(int fd, const void *buffer, size_t length, uint64_t offset)
{
    const char *at = buffer;

    while (length > 0) {
        ssize_t put = pwrite(fd, at, length, (off_t)offset);
        if (put < 0 && errno == EINTR)
            continue;
        if (put < 0)
            return false;
        at += put;
        length -= (size_t)put;
        offset += (uint64_t)put;
    }
    return true;
}

/* Whole clusters of real zeros: a full disk must be found out now, not when the VM runs. */
static bool
write_l1(int fd, uint64_t virtual_size)
{
    static const uint8_t zeros[CLUSTER];
    uint64_t end = L1_AT * (uint64_t)CLUSTER + round_up(l1_entries(virtual_size) * 8, CLUSTER);

    for (uint64_t at = L1_AT * (uint64_t)CLUSTER; at < end; at += CLUSTER)
        if (!image_write(fd, zeros, CLUSTER, at))
            return false;
    return true;
}

bool
image_sync_folder(const char *path)
{
    g_autofree char *folder = g_path_get_dirname(path);
    autofd int fd = open(folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC);

    return fd >= 0 && fsync(fd) == 0;
}

bool
qcow2_create(const char *path, uint64_t virtual_size, const char *backing,
             const char *backing_format, unsigned mode, int uid, int gid, GError **error)
{
    if (!check_size(path, virtual_size, error) ||
        !image_check_backing(path, backing, backing_format, error))
        return false;
    g_autofree Metadata *m = g_new0(Metadata, 1);
    fill(m, virtual_size, backing, backing_format);

    /* Not to be opened by others before owner and mode are right */
    autofd int fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
    if (fd < 0 && errno == EEXIST)
        return error_set(error, ERR_EXISTS, "cannot create %s: it exists, and was not touched",
                         path);
    if (fd < 0)
        return error_set_errno(error, "creating %s", path);

    /* The header comes last: a file cut short by a crash has no magic, so nobody takes it for
     * a volume. */
    bool done = ((uid < 0 && gid < 0) || fchown(fd, (uid_t)uid, (gid_t)gid) == 0) &&
                fchmod(fd, mode) == 0 &&
                image_write(fd, m->refcount_table, 2 * (size_t)CLUSTER, CLUSTER) &&
                write_l1(fd, virtual_size) && image_write(fd, m->header, CLUSTER, 0) &&
                fsync(fd) == 0 && image_sync_folder(path);
    if (done)
        return true;
    error_set_errno(error, "creating %s (it is removed again)", path);
    unlink(path);
    return false;
}
