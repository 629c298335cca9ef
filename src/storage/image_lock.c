/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * QEMU's image locks (block/file-posix.c). Each QEMU that has an image open holds read locks on
 * single bytes of it, by an open file description: byte 100 + N for a permission that it uses, byte
 * 200 + N for one that it does not share with others. Who wants a permission looks whether somebody
 * holds the byte that forbids it.
 */
#include "storage/storage.h"

#include "base/cleanup.h"

#include <errno.h>
#include <fcntl.h>

enum { USES = 100, FORBIDS = 200 };
enum { WRITE = 1, RESIZE = 3 };
static const int permissions[] = { WRITE, RESIZE };

static int
lock_byte(int fd, int command, int type, int byte, struct flock *ret_lock)
{
    *ret_lock =
        (struct flock){ .l_type = (short)type, .l_whence = SEEK_SET, .l_start = byte, .l_len = 1 };
    return fcntl(fd, command, ret_lock);
}

static bool
forbid(int fd, const char *path, GError **error)
{
    struct flock lock;

    for (size_t i = 0; i < G_N_ELEMENTS(permissions); i++)
        if (lock_byte(fd, F_OFD_SETLK, F_RDLCK, FORBIDS + permissions[i], &lock) < 0)
            return error_set_errno(error, "locking %s", path);
    return true;
}

static bool
nobody_uses(int fd, const char *path, GError **error)
{
    struct flock lock;

    for (size_t i = 0; i < G_N_ELEMENTS(permissions); i++) {
        if (lock_byte(fd, F_OFD_GETLK, F_WRLCK, USES + permissions[i], &lock) < 0)
            return error_set_errno(error, "looking at the locks of %s", path);
        if (lock.l_type != F_UNLCK)
            return error_set(error, ERR_BUSY, "%s is open for writing in a QEMU", path);
    }
    return true;
}

/* First the own lock, then the look: whoever opens it in between sees the lock, or is seen. */
int
image_lock(const char *path, GError **error)
{
    autofd int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);

    if (fd < 0) {
        error_set_errno(error, "opening %s", path);
        return -1;
    }
    if (!forbid(fd, path, error) || !nobody_uses(fd, path, error))
        return -1;
    return steal_fd(&fd);
}

bool
image_is_written(const char *path)
{
    autofd int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    struct flock lock;

    return fd >= 0 && lock_byte(fd, F_OFD_GETLK, F_WRLCK, USES + WRITE, &lock) == 0 &&
           lock.l_type != F_UNLCK;
}
