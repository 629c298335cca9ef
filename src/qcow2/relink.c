/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "qcow2/image.h"
#include "qcow2/qcow2.h"

#include <fcntl.h>
#include <string.h>
#include <unistd.h>

static uint64_t
extensions_begin(const Qcow2Header *h, const uint8_t *head)
{
    return h->version == 3 ? get_be32(head + 100) : V2_LENGTH;
}

/* In the room that the format has now: "raw" and "qcow2" are padded to the same. */
static bool
put_format(const Qcow2Header *h, uint8_t *head, uint64_t end, const char *format, GError **error)
{
    for (uint64_t at = extensions_begin(h, head); at + 8 <= end;) {
        uint32_t type = get_be32(head + at), length = get_be32(head + at + 4);
        uint64_t room = round_up(length, 8);
        if (type == 0 || room > end - at - 8)
            break;
        if (type == EXT_BACKING_FORMAT && strlen(format) <= room) {
            put_be32(head + at + 4, (uint32_t)strlen(format));
            memset(head + at + 8, 0, room);
            memcpy(head + at + 8, format, strlen(format));
            return true;
        }
        at += 8 + room;
    }
    return error_set(error, ERR_UNSUPPORTED,
                     "the header of %s has no place for the backing format '%s'; nothing was "
                     "changed",
                     h->path, format);
}

static bool
put_backing(const Qcow2Header *h, uint8_t *head, const char *backing, const char *format,
            GError **error)
{
    uint64_t at = get_be64(head + 8), length = strlen(backing);

    if (h->backing_file == NULL || length == 0 || length > BACKING_MAX ||
        length > (UINT64_C(1) << h->cluster_bits) - at)
        return error_set(error, ERR_UNSUPPORTED,
                         "the header of %s has no place for the backing file '%s'; nothing was "
                         "changed",
                         h->path, backing);
    if (!put_format(h, head, at, format, error))
        return false;
    put_be32(head + 16, (uint32_t)length);
    memcpy(head + at, backing, length);
    return true;
}

bool
qcow2_relink(const char *path, const char *backing, const char *format, GError **error)
{
    g_autoptr(Qcow2Header) h = qcow2_header_read(path, error);
    autofd int fd = h != NULL ? open(path, O_RDWR | O_CLOEXEC) : -1;
    g_autofree uint8_t *head = NULL;

    if (h == NULL)
        return false;
    if (fd < 0)
        return error_set_errno(error, "opening %s", path);
    size_t size = (size_t)1 << h->cluster_bits;
    head = g_malloc0(size + BACKING_MAX);
    if (pread(fd, head, size, 0) < (ssize_t)MIN(size, h->file_size))
        return error_set_errno(error, "reading the header of %s", path);
    if (!put_backing(h, head, backing, format, error))
        return false;
    /* what changes lies in one block of the file system, and mostly in one sector */
    size_t length = (size_t)get_be64(head + 8) + strlen(backing);
    ssize_t written = pwrite(fd, head, length, 0);
    if (written != (ssize_t)length || fsync(fd) < 0)
        return error_set_errno(error, "writing the header of %s", path);
    return true;
}
