/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * The libc and GLib calls for files in the product's objects, on the files of vfs.h. What changes
 * something, or makes it durable, is a point before it does.
 */
#include "vfs_wrap.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/fs.h>
#include <stdarg.h>
#include <string.h>
#include <unistd.h>

#pragma GCC diagnostic ignored "-Wmissing-prototypes"

static GArray *descriptors;

void
vfs_point(const char *name)
{
    if (fiber_inside())
        fiber_point(name);
}

int
vfs_fail(int number)
{
    errno = number;
    return -1;
}

Descriptor *
vfs_descriptor(int fd)
{
    if (fd < VFS_FD_BASE || descriptors == NULL || (guint)(fd - VFS_FD_BASE) >= descriptors->len)
        return NULL;
    Descriptor *d = &g_array_index(descriptors, Descriptor, fd - VFS_FD_BASE);
    return d->node != NULL ? d : NULL;
}

/* Who holds the locks of a file description: no pointer, since the array moves. */
static const void *
owner_of(int fd)
{
    return GINT_TO_POINTER(fd);
}

static int
descriptor_new(VfsNode *node, int flags, bool in_domain)
{
    Descriptor fresh = { node, 0, flags, fiber_inside() ? fiber_process() : 0, in_domain };

    if (descriptors == NULL)
        descriptors = g_array_new(FALSE, FALSE, sizeof(Descriptor));
    for (guint i = 0; i < descriptors->len; i++) {
        if (g_array_index(descriptors, Descriptor, i).node == NULL) {
            g_array_index(descriptors, Descriptor, i) = fresh;
            return VFS_FD_BASE + (int)i;
        }
    }
    g_array_append_val(descriptors, fresh);
    return VFS_FD_BASE + (int)descriptors->len - 1;
}

static void
descriptor_close(int fd)
{
    Descriptor *d = vfs_descriptor(fd);

    vfs_unlock(d->node, owner_of(fd), 0, INT64_MAX);
    d->node = NULL;
}

void
vfs_process_died(unsigned process)
{
    for (guint i = 0; descriptors != NULL && i < descriptors->len; i++) {
        Descriptor *d = &g_array_index(descriptors, Descriptor, i);
        if (d->node != NULL && d->process == process)
            descriptor_close(VFS_FD_BASE + (int)i);
    }
}

unsigned
vfs_open_descriptors(unsigned process)
{
    unsigned n = 0;

    for (guint i = 0; descriptors != NULL && i < descriptors->len; i++) {
        const Descriptor *d = &g_array_index(descriptors, Descriptor, i);
        n += d->node != NULL && d->process == process;
    }
    return n;
}

/* ---- a storage that is away, or full ---- */

static bool
fails(bool in_domain, bool allocates)
{
    int number = in_domain && fiber_inside() ? storage_error() : 0;

    if (number == 0 && in_domain && allocates && fiber_inside() && storage_is_full())
        number = ENOSPC;
    errno = number != 0 ? number : errno;
    return number != 0;
}

static bool
is_in_domain(const char *path)
{
    return strncmp(path, HOME, strlen(HOME)) == 0;
}

bool
vfs_path_fails(const char *path, bool allocates)
{
    return fails(is_in_domain(path), allocates);
}

bool
vfs_fd_fails(int fd, bool allocates)
{
    const Descriptor *d = vfs_descriptor(fd);

    return d != NULL && fails(d->in_domain, allocates);
}

/* ---- what asks the kernel otherwise ---- */

uid_t
WRAP(geteuid)(void)
{
    return 0; /* as all files here */
}

int
WRAP(posix_fadvise64)(int fd, off_t offset, off_t length, int advice)
{
    (void)fd;
    (void)offset;
    (void)length;
    (void)advice;
    return 0;
}

/* ---- opening ---- */

int
WRAP(open64)(const char *path, int flags, ...)
{
    const char *name = NULL;
    VfsNode *node, *dir;
    bool in_domain = is_in_domain(path);

    if ((flags & O_CREAT) != 0)
        vfs_point("open for creation");
    if (fails(in_domain, (flags & O_CREAT) != 0 && vfs_find(path) == NULL))
        return -1;
    node = vfs_find(path);
    if (node == NULL && (flags & O_CREAT) == 0)
        return vfs_fail(ENOENT);
    if (node == NULL) {
        dir = vfs_parent(path, &name);
        if (dir == NULL)
            return vfs_fail(ENOENT);
        node = vfs_node_new(false);
        vfs_link(dir, name, node);
    } else if ((flags & (O_CREAT | O_EXCL)) == (O_CREAT | O_EXCL)) {
        return vfs_fail(EEXIST);
    }
    if ((flags & O_DIRECTORY) != 0 && !node->is_dir)
        return vfs_fail(ENOTDIR);
    if (node->is_dir && (flags & O_ACCMODE) != O_RDONLY)
        return vfs_fail(EISDIR);
    if ((flags & O_TRUNC) != 0)
        vfs_truncate(node, 0);
    return descriptor_new(node, flags, in_domain);
}

int REAL(close)(int fd);
int
WRAP(close)(int fd)
{
    if (fd < VFS_FD_BASE)
        return REAL(close)(fd);
    if (vfs_descriptor(fd) == NULL)
        return vfs_fail(EBADF);
    descriptor_close(fd);
    return 0;
}

int
WRAP(g_mkstemp_full)(char *template, int flags, int mode)
{
    static const char letters[] = "abcdefghijklmnopqrstuvwxyz";

    for (char *x = strstr(template, "XXXXXX"); *x == 'X'; x++)
        *x = letters[fiber_below(26)];
    return WRAP(open64)(template, flags | O_CREAT | O_EXCL, mode);
}

/* ---- content ---- */

ssize_t
WRAP(pread64)(int fd, void *buffer, size_t length, off_t offset)
{
    if (vfs_fd_fails(fd, false))
        return -1;
    Descriptor *d = vfs_descriptor(fd);
    return d == NULL ? vfs_fail(EBADF) : vfs_read(d->node, buffer, length, (uint64_t)offset);
}

ssize_t
WRAP(read)(int fd, void *buffer, size_t length)
{
    if (vfs_fd_fails(fd, false))
        return -1;
    Descriptor *d = vfs_descriptor(fd);
    if (d == NULL)
        return vfs_fail(EBADF);
    ssize_t n = vfs_read(d->node, buffer, length, d->at);
    d->at += (uint64_t)n;
    return n;
}

ssize_t
WRAP(pwrite64)(int fd, const void *buffer, size_t length, off_t offset)
{
    vfs_point("write");
    if (vfs_fd_fails(fd, true))
        return -1;
    Descriptor *d = vfs_descriptor(fd);
    if (d == NULL || (d->flags & O_ACCMODE) == O_RDONLY)
        return vfs_fail(EBADF);
    vfs_write(d->node, buffer, length, (uint64_t)offset);
    return (ssize_t)length;
}

ssize_t REAL(write)(int fd, const void *buffer, size_t length);
ssize_t
WRAP(write)(int fd, const void *buffer, size_t length)
{
    if (fd < VFS_FD_BASE)
        return REAL(write)(fd, buffer, length);
    vfs_point("write");
    if (vfs_fd_fails(fd, true))
        return -1;
    Descriptor *d = vfs_descriptor(fd);
    if (d == NULL)
        return vfs_fail(EBADF);
    vfs_write(d->node, buffer, length, d->at);
    d->at += length;
    return (ssize_t)length;
}

int
WRAP(ftruncate64)(int fd, off_t size)
{
    vfs_point("truncate");
    if (vfs_fd_fails(fd, false))
        return -1;
    Descriptor *d = vfs_descriptor(fd);
    if (d == NULL)
        return vfs_fail(EBADF);
    vfs_truncate(d->node, (uint64_t)size);
    return 0;
}

int
WRAP(fsync)(int fd)
{
    vfs_point("fsync");
    if (vfs_fd_fails(fd, false))
        return -1;
    if (mutant_syncs_nothing())
        return 0;
    Descriptor *d = vfs_descriptor(fd);
    if (d == NULL)
        return vfs_fail(EBADF);
    vfs_sync(d->node);
    return 0;
}

int
WRAP(fdatasync)(int fd)
{
    return WRAP(fsync)(fd);
}

static bool
is_hole(const VfsNode *node, uint64_t at)
{
    return at / VFS_PAGE >= node->now.pages->len || node->now.pages->pdata[at / VFS_PAGE] == NULL;
}

off_t
WRAP(lseek64)(int fd, off_t offset, int whence)
{
    if (vfs_fd_fails(fd, false))
        return -1;
    Descriptor *d = vfs_descriptor(fd);
    uint64_t at = (uint64_t)offset;

    if (d == NULL)
        return vfs_fail(EBADF);
    if (whence == SEEK_END)
        return (off_t)(d->at = d->node->now.size + at);
    if (whence == SEEK_SET)
        return (off_t)(d->at = at);
    if (whence != SEEK_DATA && whence != SEEK_HOLE)
        return vfs_fail(EINVAL);
    if (at >= d->node->now.size)
        return vfs_fail(ENXIO);
    while (at < d->node->now.size && is_hole(d->node, at) != (whence == SEEK_HOLE))
        at = (at / VFS_PAGE + 1) * VFS_PAGE;
    if (at >= d->node->now.size && whence == SEEK_DATA)
        return vfs_fail(ENXIO);
    return (off_t)(d->at = MIN(at, d->node->now.size));
}

ssize_t
WRAP(copy_file_range)(int from, off_t *in, int to, off_t *out, size_t length, unsigned flags)
{
    vfs_point("copy range");
    if (vfs_fd_fails(to, true))
        return -1;
    Descriptor *a = vfs_descriptor(from), *b = vfs_descriptor(to);
    (void)flags;
    if (a == NULL || b == NULL)
        return vfs_fail(EBADF);
    if ((uint64_t)*in >= a->node->now.size)
        return 0;
    /* not all at once: a crash can come in the middle */
    length = (size_t)MIN(MIN(length, a->node->now.size - (uint64_t)*in), 2 * 65536);
    vfs_copy(a->node, (uint64_t)*in, b->node, (uint64_t)*out, length);
    *in += (off_t)length;
    *out += (off_t)length;
    return (ssize_t)length;
}

static int
share(int to, const struct file_clone_range *range)
{
    Descriptor *a = vfs_descriptor((int)range->src_fd), *b = vfs_descriptor(to);
    uint64_t length;

    if (!vfs_can_share)
        return vfs_fail(EOPNOTSUPP);
    if (a == NULL || b == NULL)
        return vfs_fail(EBADF);
    length = range->src_length != 0 ? range->src_length : a->node->now.size - range->src_offset;
    if (range->src_offset % VFS_PAGE != 0 || range->dest_offset % VFS_PAGE != 0 ||
        (length % VFS_PAGE != 0 && range->src_offset + length != a->node->now.size))
        return vfs_fail(EINVAL);
    vfs_point("share blocks");
    if (vfs_fd_fails(to, false))
        return -1;
    a = vfs_descriptor((int)range->src_fd); /* the table may have moved */
    b = vfs_descriptor(to);
    vfs_copy(a->node, range->src_offset, b->node, range->dest_offset, length);
    return 0;
}

int
WRAP(ioctl)(int fd, unsigned long request, ...)
{
    va_list args;

    va_start(args, request);
    void *argument = va_arg(args, void *);
    va_end(args);
    if (request == FICLONERANGE)
        return share(fd, argument);
    if (request == FS_IOC_GETFLAGS) {
        *(int *)argument = 0;
        return 0;
    }
    return vfs_fail(EOPNOTSUPP);
}

/* ---- locks of file descriptions ---- */

int
WRAP(fcntl64)(int fd, int command, ...)
{
    if (vfs_fd_fails(fd, false))
        return -1;
    Descriptor *d = vfs_descriptor(fd);
    va_list args;

    va_start(args, command);
    struct flock *lock = va_arg(args, struct flock *);
    va_end(args);
    if (d == NULL)
        return vfs_fail(EBADF);
    if (command != F_OFD_SETLK && command != F_OFD_GETLK)
        return 0;
    int64_t end = lock->l_len == 0 ? INT64_MAX : lock->l_start + lock->l_len;
    if (lock->l_type == F_UNLCK) {
        vfs_unlock(d->node, owner_of(fd), lock->l_start, end);
        return 0;
    }
    const VfsLock *other =
        vfs_lock_conflict(d->node, owner_of(fd), lock->l_start, end, lock->l_type == F_WRLCK);
    if (command == F_OFD_GETLK) {
        lock->l_type = other == NULL ? F_UNLCK : other->exclusive ? F_WRLCK : F_RDLCK;
        return 0;
    }
    if (other != NULL)
        return vfs_fail(EAGAIN);
    vfs_lock(d->node, d->process, owner_of(fd), lock->l_start, end, lock->l_type == F_WRLCK);
    return 0;
}

/* ---- what there is not ---- */

int
WRAP(io_uring_queue_init)(unsigned entries, void *ring, unsigned flags)
{
    (void)entries;
    (void)ring;
    (void)flags;
    return -ENOSYS;
}

pid_t
WRAP(getpid)(void)
{
    return fiber_inside() ? (pid_t)(1000 + fiber_process()) : 1;
}

void
WRAP(memory_trim)(void)
{
}

const char *
WRAP(g_get_host_name)(void)
{
    return "simhost";
}
