/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "qcow2/image.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <sys/stat.h>

static bool
check_kind(const char *path, const struct stat *st, GError **error)
{
    return S_ISREG(st->st_mode) || S_ISBLK(st->st_mode) ||
           error_set(error, ERR_UNSUPPORTED, "%s is neither a regular file nor a block device",
                     path);
}

static bool
cannot_open(const char *path, GError **error)
{
    if (errno == ENOENT || errno == ENOTDIR)
        return error_set(error, ERR_NOT_FOUND, "%s does not exist", path);
    return error_set_errno(error, "opening %s", path);
}

bool
image_open(const char *path, ImageFile *ret_file, GError **error)
{
    struct stat st;

    /* Looked at before it is opened, since opening a device may do things (rewind a tape), and
     * after, since the name may mean something else by then: hence O_NONBLOCK too. */
    if (stat(path, &st) < 0)
        return cannot_open(path, error);
    if (!check_kind(path, &st, error))
        return false;

    autofd int fd = open(path, O_RDONLY | O_NONBLOCK | O_NOCTTY | O_CLOEXEC);
    if (fd < 0)
        return cannot_open(path, error);
    if (fstat(fd, &st) < 0)
        return error_set_errno(error, "looking at %s", path);
    if (!check_kind(path, &st, error))
        return false;

    bool block = S_ISBLK(st.st_mode);
    off_t size = block ? lseek(fd, 0, SEEK_END) : st.st_size;
    if (size < 0)
        return error_set_errno(error, "asking for the size of %s", path);

    /* Two device nodes of one device are one device; its inode number cannot be a real one */
    *ret_file = (ImageFile){
        .size = (uint64_t)size,
        .allocated = block ? (uint64_t)size : (uint64_t)st.st_blocks * 512,
        .device = block ? st.st_rdev : st.st_dev,
        .inode = block ? UINT64_MAX : st.st_ino,
    };
    ret_file->fd = steal_fd(&fd);
    return true;
}

void
image_expect_tables(const ImageFile *file, const uint8_t *l1, size_t entries, size_t length)
{
    for (size_t i = 0; i < entries; i++) {
        uint64_t offset = get_be64(l1 + i * 8) & OFFSET_MASK;
        if (offset != 0 && offset < file->size)
            (void)posix_fadvise(file->fd, (off_t)offset, (off_t)length, POSIX_FADV_WILLNEED);
    }
}

size_t
image_plain_run(const uint8_t *entries, size_t count, unsigned bits, uint64_t file_size)
{
    uint64_t size = UINT64_C(1) << bits, first = get_be64(entries), host = first & OFFSET_MASK;
    size_t n = 1;

    if ((first & (L2_COMPRESSED | L2_RESERVED | L2_ZERO)) != 0 || (host & (size - 1)) != 0 ||
        host == 0 || host >= file_size)
        return 0;
    count = (size_t)MIN(count, (file_size - host + size - 1) >> bits);
    while (n < count && get_be64(entries + n * 8) == first + n * size)
        n++;
    return n;
}

bool
image_read(const ImageFile *file, const char *path, const char *what, uint64_t offset, void *buffer,
           size_t length, GError **error)
{
    char *at = buffer;
    size_t left = length;

    while (left > 0 && offset <= INT64_MAX) {
        ssize_t got = pread(file->fd, at, left, (off_t)offset);
        if (got < 0 && errno == EINTR)
            continue;
        if (got < 0)
            return error_set_errno(error, "reading the %s of %s", what, path);
        if (got == 0)
            break;
        at += got;
        left -= (size_t)got;
        offset += (uint64_t)got;
    }
    return left == 0 ||
           error_set(error, ERR_CORRUPT,
                     "%s: the %s should reach to byte %" PRIu64 ", which is beyond the end of the "
                     "file: it is cut short or damaged",
                     path, what, offset + left);
}

bool
image_find_data(const ImageFile *file, const char *path, uint64_t from, uint64_t *ret_begin,
                uint64_t *ret_end, GError **error)
{
    uint64_t disk = raw_virtual_size(file);

    *ret_begin = *ret_end = disk;
    if (from >= file->size) /* the rest of the last sector, beyond the end of the file */
        return true;
    off_t begin = lseek(file->fd, (off_t)from, SEEK_DATA);
    if (begin < 0 && errno == ENXIO)
        return true;

    /* Block devices and some file systems cannot tell: then all of it may be data */
    bool cannot_tell = begin < 0 && (errno == EINVAL || errno == EOPNOTSUPP);
    if (begin < 0 && !cannot_tell)
        return error_set_errno(error, "looking for data in %s", path);
    off_t end = begin < 0 ? -1 : lseek(file->fd, begin, SEEK_HOLE);
    *ret_begin = cannot_tell ? from : (uint64_t)begin;
    *ret_end = end < 0 || (uint64_t)end >= file->size ? disk : (uint64_t)end;
    return true;
}

char *
image_shown(const char *name)
{
    bool plain = g_utf8_validate(name, -1, NULL);

    for (const char *c = name; *c != '\0'; c++)
        plain = plain && (unsigned char)*c >= ' ' && *c != 0x7f;
    return plain ? g_strdup(name) : g_strescape(name, NULL);
}
