/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "qcow2/transfer.h"

#include "base/fault.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/fs.h>
#include <linux/magic.h>
#include <sys/ioctl.h>
#include <sys/vfs.h>

#define SHARE_MAX (UINT64_C(1) << 30) /* at once, so that a cancel need not wait for more */
#define COPY_MAX (UINT64_C(16) << 20)

/* There copy_file_range() shares instead of copying: slowly where extents are small, and what it
 * tells is not what was written. Who wants that asks for sharing. */
static bool
shares_when_copying(const struct statfs *fs)
{
    static const uint64_t kinds[] = { XFS_SUPER_MAGIC, BTRFS_SUPER_MAGIC, OCFS2_SUPER_MAGIC,
                                      0xca451a4e /* bcachefs */ };

    for (size_t i = 0; i < G_N_ELEMENTS(kinds); i++)
        if ((uint64_t)fs->f_type == kinds[i])
            return true;
    return false;
}

void
transfer_init(Transfer *t, const Qcow2Build *build, const MergedMap *map, int fd)
{
    struct statfs fs;
    bool known = fstatfs(fd, &fs) == 0;
    uint64_t block = known ? (uint64_t)fs.f_bsize : 4096;

    *t = (Transfer){ .build = build, .map = map, .fd = fd };
    /* NFS gives the size of its messages instead */
    t->block = block >= SECTOR && block <= 65536 && (block & (block - 1)) == 0 ? block : 4096;
    for (unsigned i = 0; i < map->n; i++)
        t->way[i] = build->share || build->must_share   ? BY_SHARING
                    : known && shares_when_copying(&fs) ? BY_READ_WRITE
                                                        : BY_COPY_RANGE;
}

void
transfer_clear(Transfer *t)
{
    g_clear_pointer(&t->copier, copier_free);
}

bool
transfer_tell(Transfer *t, GError **error)
{
    if (t->build->progress == NULL ||
        t->build->progress(MIN(t->done, t->total), t->total, t->build->data))
        return true;
    return error_set(error, ERR_CANCELLED, "building %s was cancelled; nothing is left of it",
                     t->build->dest);
}

static bool
put(Transfer *t, const void *buffer, size_t length, uint64_t to, GError **error)
{
    if (!fault_point("qcow2-build-write", error))
        return false;
    if (!image_write(t->fd, buffer, length, to))
        return error_set_errno(error, "writing %s", t->build->dest);
    t->done += length;
    return transfer_tell(t, error);
}

bool
transfer_write(Transfer *t, const void *buffer, size_t length, uint64_t to, GError **error)
{
    t->built.bytes_written += length;
    return put(t, buffer, length, to, error);
}

bool
transfer_write_soon(Transfer *t, const void *buffer, size_t length, uint64_t to, GError **error)
{
    if (!transfer_write(t, buffer, length, to, error))
        return false;
    (void)sync_file_range(t->fd, (off_t)to, (off_t)length, SYNC_FILE_RANGE_WRITE);
    return true;
}

bool
transfer_unpacked(Transfer *t, const void *buffer, size_t length, uint64_t to, GError **error)
{
    t->built.bytes_copied += length;
    t->built.copy_calls++;
    return put(t, buffer, length, to, error);
}

/* Copying --------------------------------------------------------------------------- */

static bool
cannot_here(int number)
{
    return number == EXDEV || number == EINVAL || number == EOPNOTSUPP || number == ENOSYS ||
           number == ENOTTY || number == ETXTBSY || number == EBADF;
}

/* Stops early, with less than "length", where the kernel cannot do it: then way[] is another. */
static bool
copy_range(Transfer *t, unsigned layer, uint64_t from, uint64_t to, uint64_t length,
           uint64_t *ret_copied, GError **error)
{
    const MergedLayer *source = &t->map->layers[layer];
    off_t in = (off_t)from, out = (off_t)to;

    *ret_copied = 0;
    while (*ret_copied < length) {
        size_t part = (size_t)MIN(length - *ret_copied, COPY_MAX);
        ssize_t got = copy_file_range(source->file.fd, &in, t->fd, &out, part, 0);

        if (got < 0 && errno == EINTR)
            continue;
        if (got == 0 || (got < 0 && cannot_here(errno))) {
            t->way[layer] = BY_READ_WRITE;
            return true;
        }
        if (got < 0)
            return error_set_errno(error, "copying from %s to %s", source->path, t->build->dest);
        *ret_copied += (uint64_t)got;
        t->built.copy_calls++;
        t->done += (uint64_t)got;
        if (!transfer_tell(t, error))
            return false;
    }
    return true;
}

static bool
read_and_write(Transfer *t, unsigned layer, uint64_t from, uint64_t to, uint64_t length,
               GError **error)
{
    const MergedLayer *source = &t->map->layers[layer];
    CopyRange range = { source->file.fd, t->fd, source->path, t->build->dest, from, to, length };

    if (t->copier == NULL)
        t->copier = copier_new();
    for (uint64_t done = 0; done < length; done += range.length) {
        range.from = from + done;
        range.to = to + done;
        range.length = MIN(length - done, COPY_MAX);
        t->built.copy_calls++;
        t->done += range.length;
        if (!copier_add(t->copier, &range, error) || !transfer_tell(t, error))
            return false;
    }
    return true;
}

static bool
copy_data(Transfer *t, unsigned layer, uint64_t from, uint64_t to, uint64_t length, GError **error)
{
    uint64_t copied = 0;

    if (!fault_point("qcow2-build-copy", error))
        return false;
    t->built.bytes_copied += length;
    if (t->way[layer] != BY_READ_WRITE && !copy_range(t, layer, from, to, length, &copied, error))
        return false;
    return copied == length ||
           read_and_write(t, layer, from + copied, to + copied, length - copied, error);
}

/* Skips the holes: the new file has one there too. */
static bool
copy(Transfer *t, unsigned layer, uint64_t from, uint64_t to, uint64_t length, GError **error)
{
    const MergedLayer *source = &t->map->layers[layer];
    uint64_t end = from + length;

    for (uint64_t at = from; at < end;) {
        uint64_t begin = 0, stop = 0;

        if (!image_find_data(&source->file, source->path, at, &begin, &stop, error))
            return false;
        begin = MIN(begin, end);
        stop = MIN(stop, end);
        t->done += begin - at;
        if (stop > begin && !copy_data(t, layer, begin, to + (begin - from), stop - begin, error))
            return false;
        at = MAX(stop, begin);
    }
    return true;
}

/* Sharing --------------------------------------------------------------------------- */

static bool
must_not_copy(const Transfer *t, unsigned layer, const char *why, GError **error)
{
    return error_set(error, ERR_UNSUPPORTED,
                     "%s cannot share the blocks of %s (%s), and copying them was not asked for",
                     t->build->dest, t->map->layers[layer].path, why);
}

/* Whole blocks. Stops early, with less than "length", where it cannot be done. */
static bool
share_blocks(Transfer *t, unsigned layer, uint64_t from, uint64_t to, uint64_t length,
             uint64_t *ret_shared, GError **error)
{
    const MergedLayer *source = &t->map->layers[layer];

    *ret_shared = 0;
    while (*ret_shared < length) {
        struct file_clone_range range = {
            .src_fd = source->file.fd,
            .src_offset = from + *ret_shared,
            .src_length = MIN(length - *ret_shared, SHARE_MAX),
            .dest_offset = to + *ret_shared,
        };
        if (!fault_point("qcow2-build-share", error))
            return false;
        int r = ioctl(t->fd, FICLONERANGE, &range);
        if (r < 0 && errno == EINTR)
            continue;
        if (r < 0 && cannot_here(errno)) {
            t->way[layer] = BY_COPY_RANGE;
            return !t->build->must_share || must_not_copy(t, layer, g_strerror(errno), error);
        }
        if (r < 0)
            return error_set_errno(error, "sharing the blocks of %s with %s", source->path,
                                   t->build->dest);
        *ret_shared += range.src_length;
        t->built.share_calls++;
        t->built.bytes_shared += range.src_length;
        t->done += range.src_length;
        if (!transfer_tell(t, error))
            return false;
    }
    return true;
}

uint64_t
transfer_share_calls(uint64_t from, uint64_t length, uint64_t block)
{
    uint64_t begin = round_up(from, block), end = (from + length) / block * block;

    return begin < end ? (end - begin + SHARE_MAX - 1) / SHARE_MAX : 0;
}

/* The whole blocks in the range are shared, what is before and after them copied. */
static bool
share(Transfer *t, unsigned layer, uint64_t from, uint64_t to, uint64_t length, GError **error)
{
    uint64_t begin = round_up(from, t->block), end = (from + length) / t->block * t->block;
    uint64_t shared = 0;

    if (from % t->block != to % t->block || begin >= end) {
        if (t->build->must_share && length >= t->block)
            return must_not_copy(t, layer, "they do not lie on the borders of blocks", error);
        return copy(t, layer, from, to, length, error);
    }
    if (!share_blocks(t, layer, begin, to + (begin - from), end - begin, &shared, error))
        return false;
    end = begin + shared;
    return copy(t, layer, from, to, begin - from, error) &&
           copy(t, layer, end, to + (end - from), from + length - end, error);
}

bool
transfer_range(Transfer *t, unsigned layer, uint64_t from, uint64_t to, uint64_t length,
               GError **error)
{
    uint64_t size = t->map->layers[layer].file.size;
    uint64_t there = from < size ? MIN(length, size - from) : 0;

    t->done += length - there;
    if (t->way[layer] == BY_SHARING)
        return share(t, layer, from, to, there, error);
    return copy(t, layer, from, to, there, error);
}

bool
transfer_finish(Transfer *t, GError **error)
{
    return t->copier == NULL || copier_finish(t->copier, error);
}
