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

static bool
check_backing(const char *path, const char *backing, const char *format, GError **error)
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

static void
fill_backing(uint8_t *header, const char *backing, const char *format)
{
    size_t length = strlen(format);
    uint8_t *at = header + EXTENSION_AT;

    put_be32(at, 0xe2792aca);
    put_be32(at + 4, (uint32_t)length);
    memcpy(at + 8, format, length);
    at += 8 + round_up(length, 8) + 8; /* and the end marker: zeros */
    memcpy(at, backing, strlen(backing));
    put_be64(header + 8, (uint64_t)(at - header));
    put_be32(header + 16, (uint32_t)strlen(backing));
}

static void
fill(Metadata *m, uint64_t virtual_size, const char *backing, const char *backing_format)
{
    uint64_t entries = l1_entries(virtual_size);
    uint64_t clusters = L1_AT + round_up(entries * 8, CLUSTER) / CLUSTER;
    uint8_t *header = m->header;

    put_be32(header, 0x514649fb);
    put_be32(header + 4, 3);
    put_be32(header + 20, CLUSTER_BITS);
    put_be64(header + 24, virtual_size);
    put_be32(header + 36, (uint32_t)entries);
    put_be64(header + 40, (uint64_t)L1_AT * CLUSTER);
    put_be64(header + 48, CLUSTER); /* refcount table: one cluster */
    put_be32(header + 56, 1);
    put_be32(header + 96, 4); /* 16 bit refcounts */
    put_be32(header + 100, HEADER_LENGTH);
    if (backing != NULL)
        fill_backing(header, backing, backing_format);
    put_be64(m->refcount_table, UINT64_C(2) * CLUSTER);
    for (uint64_t i = 0; i < clusters; i++)
        m->refcount_block[2 * i + 1] = 1;
}

static bool
write_at(int fd, const void *buffer, size_t length, uint64_t offset)
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
        if (!write_at(fd, zeros, CLUSTER, at))
            return false;
    return true;
}

static bool
sync_folder(const char *path)
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
        !check_backing(path, backing, backing_format, error))
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
                write_at(fd, m->refcount_table, 2 * (size_t)CLUSTER, CLUSTER) &&
                write_l1(fd, virtual_size) && write_at(fd, m->header, CLUSTER, 0) &&
                fsync(fd) == 0 && sync_folder(path);
    if (done)
        return true;
    error_set_errno(error, "creating %s (it is removed again)", path);
    unlink(path);
    return false;
}
