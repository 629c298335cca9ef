/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * The libc and GLib calls for files in the product's objects, on the files of vfs.h. What changes
 * something, or makes it durable, is a point before it does.
 */
#include "fiber.h"
#include "vfs.h"

#include <errno.h>
#include <fcntl.h>
#include <fts.h>
#include <limits.h>
#include <linux/fs.h>
#include <stdarg.h>
#include <string.h>
#include <sys/statvfs.h>
#include <sys/vfs.h>
#include <unistd.h>

#pragma GCC diagnostic ignored "-Wmissing-prototypes"
#define WRAP(name) __wrap_##name
#define REAL(name) __real_##name

typedef struct {
    VfsNode *node; /* NULL = free */
    uint64_t at;
    int flags;
    unsigned process;
} Descriptor;

static GArray *descriptors;

static void
point(const char *name)
{
    if (fiber_inside())
        fiber_point(name);
}

static int
fail(int number)
{
    errno = number;
    return -1;
}

static Descriptor *
of(int fd)
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
descriptor_new(VfsNode *node, int flags)
{
    Descriptor fresh = { node, 0, flags, fiber_inside() ? fiber_process() : 0 };

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
    Descriptor *d = of(fd);

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

/* ---- opening ---- */

int
WRAP(open64)(const char *path, int flags, ...)
{
    const char *name = NULL;
    VfsNode *node, *dir;

    if ((flags & O_CREAT) != 0)
        point("open for creation");
    node = vfs_find(path);
    dir = vfs_parent(path, &name);
    if (node == NULL && (flags & O_CREAT) == 0)
        return fail(ENOENT);
    if (node == NULL) {
        if (dir == NULL)
            return fail(ENOENT);
        node = vfs_node_new(false);
        vfs_link(dir, name, node);
    } else if ((flags & (O_CREAT | O_EXCL)) == (O_CREAT | O_EXCL)) {
        return fail(EEXIST);
    }
    if ((flags & O_DIRECTORY) != 0 && !node->is_dir)
        return fail(ENOTDIR);
    if (node->is_dir && (flags & O_ACCMODE) != O_RDONLY)
        return fail(EISDIR);
    if ((flags & O_TRUNC) != 0)
        vfs_truncate(node, 0);
    return descriptor_new(node, flags);
}

int REAL(close)(int fd);
int
WRAP(close)(int fd)
{
    if (fd < VFS_FD_BASE)
        return REAL(close)(fd);
    if (of(fd) == NULL)
        return fail(EBADF);
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
    Descriptor *d = of(fd);

    return d == NULL ? fail(EBADF) : vfs_read(d->node, buffer, length, (uint64_t)offset);
}

ssize_t
WRAP(read)(int fd, void *buffer, size_t length)
{
    Descriptor *d = of(fd);

    if (d == NULL)
        return fail(EBADF);
    ssize_t n = vfs_read(d->node, buffer, length, d->at);
    d->at += (uint64_t)n;
    return n;
}

ssize_t
WRAP(pwrite64)(int fd, const void *buffer, size_t length, off_t offset)
{
    point("write");
    Descriptor *d = of(fd);
    if (d == NULL || (d->flags & O_ACCMODE) == O_RDONLY)
        return fail(EBADF);
    vfs_write(d->node, buffer, length, (uint64_t)offset);
    return (ssize_t)length;
}

ssize_t REAL(write)(int fd, const void *buffer, size_t length);
ssize_t
WRAP(write)(int fd, const void *buffer, size_t length)
{
    if (fd < VFS_FD_BASE)
        return REAL(write)(fd, buffer, length);
    point("write");
    Descriptor *d = of(fd);
    if (d == NULL)
        return fail(EBADF);
    vfs_write(d->node, buffer, length, d->at);
    d->at += length;
    return (ssize_t)length;
}

int
WRAP(ftruncate64)(int fd, off_t size)
{
    point("truncate");
    Descriptor *d = of(fd);
    if (d == NULL)
        return fail(EBADF);
    vfs_truncate(d->node, (uint64_t)size);
    return 0;
}

int
WRAP(fsync)(int fd)
{
    point("fsync");
    Descriptor *d = of(fd);
    if (d == NULL)
        return fail(EBADF);
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
    Descriptor *d = of(fd);
    uint64_t at = (uint64_t)offset;

    if (d == NULL)
        return fail(EBADF);
    if (whence == SEEK_END)
        return (off_t)(d->at = d->node->now.size + at);
    if (whence == SEEK_SET)
        return (off_t)(d->at = at);
    if (whence != SEEK_DATA && whence != SEEK_HOLE)
        return fail(EINVAL);
    if (at >= d->node->now.size)
        return fail(ENXIO);
    while (at < d->node->now.size && is_hole(d->node, at) != (whence == SEEK_HOLE))
        at = (at / VFS_PAGE + 1) * VFS_PAGE;
    if (at >= d->node->now.size && whence == SEEK_DATA)
        return fail(ENXIO);
    return (off_t)(d->at = MIN(at, d->node->now.size));
}

ssize_t
WRAP(copy_file_range)(int from, off_t *in, int to, off_t *out, size_t length, unsigned flags)
{
    point("copy range");
    Descriptor *a = of(from), *b = of(to);
    (void)flags;
    if (a == NULL || b == NULL)
        return fail(EBADF);
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
    Descriptor *a = of((int)range->src_fd), *b = of(to);
    uint64_t length;

    if (!vfs_can_share)
        return fail(EOPNOTSUPP);
    if (a == NULL || b == NULL)
        return fail(EBADF);
    length = range->src_length != 0 ? range->src_length : a->node->now.size - range->src_offset;
    if (range->src_offset % VFS_PAGE != 0 || range->dest_offset % VFS_PAGE != 0 ||
        (length % VFS_PAGE != 0 && range->src_offset + length != a->node->now.size))
        return fail(EINVAL);
    point("share blocks");
    a = of((int)range->src_fd); /* the table may have moved */
    b = of(to);
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
    return fail(EOPNOTSUPP);
}

/* ---- looking ---- */

static void
fill_stat(const VfsNode *node, struct stat *st)
{
    memset(st, 0, sizeof *st);
    st->st_dev = 77;
    st->st_ino = node->number;
    st->st_mode = node->mode;
    st->st_nlink = node->links;
    st->st_size = (off_t)node->now.size;
    st->st_blksize = VFS_PAGE;
    st->st_blocks = (blkcnt_t)(vfs_allocated(node) / 512);
    st->st_mtim.tv_sec = node->mtime_ns / 1000000000;
    st->st_mtim.tv_nsec = node->mtime_ns % 1000000000;
    st->st_ctim.tv_sec = node->ctime_ns / 1000000000;
    st->st_ctim.tv_nsec = node->ctime_ns % 1000000000;
}

int
WRAP(stat64)(const char *path, struct stat *st)
{
    VfsNode *node = vfs_find(path);

    if (node == NULL)
        return fail(ENOENT);
    fill_stat(node, st);
    return 0;
}

int
WRAP(lstat64)(const char *path, struct stat *st)
{
    return WRAP(stat64)(path, st);
}

int
WRAP(fstat64)(int fd, struct stat *st)
{
    Descriptor *d = of(fd);

    if (d == NULL)
        return fail(EBADF);
    fill_stat(d->node, st);
    return 0;
}

int
WRAP(access)(const char *path, int mode)
{
    (void)mode;
    return vfs_find(path) != NULL ? 0 : fail(ENOENT);
}

char *
WRAP(realpath)(const char *path, char *resolved)
{
    (void)resolved;
    if (strcmp(path, "/") != 0 && vfs_find(path) == NULL) {
        errno = ENOENT;
        return NULL;
    }
    /* there are no symbolic links; the caller frees it with free() */
    g_autofree char *plain = g_canonicalize_filename(path, "/sim");
    return strdup(plain);
}

int
WRAP(statvfs64)(const char *path, struct statvfs *st)
{
    if (vfs_find(path) == NULL)
        return fail(ENOENT);
    memset(st, 0, sizeof *st);
    st->f_bsize = st->f_frsize = VFS_PAGE;
    st->f_bavail = st->f_bfree = vfs_room / VFS_PAGE;
    st->f_blocks = (UINT64_C(200) << 30) / VFS_PAGE;
    return 0;
}

int
WRAP(fstatfs64)(int fd, struct statfs *st)
{
    if (of(fd) == NULL)
        return fail(EBADF);
    memset(st, 0, sizeof *st);
    st->f_bsize = VFS_PAGE;
    return 0;
}

gboolean
WRAP(g_file_test)(const char *path, GFileTest test)
{
    const VfsNode *node = vfs_find(path);

    if (node == NULL)
        return FALSE;
    return (test & G_FILE_TEST_EXISTS) != 0 || ((test & G_FILE_TEST_IS_DIR) != 0 && node->is_dir) ||
           ((test & G_FILE_TEST_IS_REGULAR) != 0 && !node->is_dir);
}

/* ---- names ---- */

static void
name_gone(const char *path, const char *to)
{
    VfsNode *node = vfs_find(path);

    if (node != NULL && !node->is_dir && vfs_on_name_gone != NULL)
        vfs_on_name_gone(path, node, to);
}

int
WRAP(unlink)(const char *path)
{
    const char *name = NULL;

    point("unlink");
    VfsNode *node = vfs_find(path), *dir = vfs_parent(path, &name);
    if (node == NULL)
        return fail(ENOENT);
    if (node->is_dir)
        return fail(EISDIR);
    name_gone(path, NULL);
    vfs_unlink(dir, name);
    return 0;
}

int
WRAP(g_unlink)(const char *path)
{
    return WRAP(unlink)(path);
}

int
WRAP(link)(const char *from, const char *to)
{
    const char *name = NULL;

    point("link");
    VfsNode *node = vfs_find(from), *dir = vfs_parent(to, &name);
    if (node == NULL || dir == NULL)
        return fail(ENOENT);
    if (vfs_find(to) != NULL)
        return fail(EEXIST);
    vfs_link(dir, name, node);
    return 0;
}

static int
rename_to(const char *from, const char *to, unsigned flags)
{
    const char *name = NULL, *to_name = NULL;

    point("rename");
    VfsNode *dir = vfs_parent(from, &name), *to_dir = vfs_parent(to, &to_name);
    if (vfs_find(from) == NULL || dir == NULL || to_dir == NULL)
        return fail(ENOENT);
    if ((flags & RENAME_NOREPLACE) != 0 && vfs_find(to) != NULL)
        return fail(EEXIST);
    name_gone(from, to);
    vfs_rename(dir, name, to_dir, to_name);
    return 0;
}

int
WRAP(rename)(const char *from, const char *to)
{
    return rename_to(from, to, 0);
}

int
WRAP(renameat2)(int a, const char *from, int b, const char *to, unsigned flags)
{
    (void)a;
    (void)b;
    return rename_to(from, to, flags);
}

int
WRAP(mkdir)(const char *path, mode_t mode)
{
    const char *name = NULL;

    (void)mode;
    point("mkdir");
    VfsNode *dir = vfs_parent(path, &name);
    if (dir == NULL)
        return fail(ENOENT);
    if (vfs_find(path) != NULL)
        return fail(EEXIST);
    vfs_link(dir, name, vfs_node_new(true));
    return 0;
}

int
WRAP(rmdir)(const char *path)
{
    const char *name = NULL;

    point("rmdir");
    VfsNode *dir = vfs_parent(path, &name);
    if (vfs_find(path) == NULL)
        return fail(ENOENT);
    vfs_unlink(dir, name);
    return 0;
}

int
WRAP(chmod)(const char *path, mode_t mode)
{
    (void)mode;
    return vfs_find(path) != NULL ? 0 : fail(ENOENT);
}

int
WRAP(g_mkdir_with_parents)(const char *path, int mode)
{
    return vfs_find(path) != NULL ? 0 : WRAP(mkdir)(path, (mode_t)mode);
}

int
WRAP(fchmod)(int fd, mode_t mode)
{
    Descriptor *d = of(fd);

    if (d == NULL)
        return fail(EBADF);
    d->node->mode = (d->node->mode & S_IFMT) | (mode & 07777);
    return 0;
}

int
WRAP(fchown)(int fd, uid_t uid, gid_t gid)
{
    (void)uid;
    (void)gid;
    return of(fd) != NULL ? 0 : fail(EBADF);
}

/* ---- locks of file descriptions ---- */

int
WRAP(fcntl64)(int fd, int command, ...)
{
    Descriptor *d = of(fd);
    va_list args;

    va_start(args, command);
    struct flock *lock = va_arg(args, struct flock *);
    va_end(args);
    if (d == NULL)
        return fail(EBADF);
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
        return fail(EAGAIN);
    vfs_lock(d->node, d->process, owner_of(fd), lock->l_start, end, lock->l_type == F_WRLCK);
    return 0;
}

/* ---- directories ---- */

typedef struct {
    GPtrArray *names; /* as they were when it was opened */
    guint at;
} Listing;

GDir *
WRAP(g_dir_open)(const char *path, guint flags, GError **error)
{
    VfsNode *dir = vfs_find(path);

    (void)flags;
    if (dir == NULL || !dir->is_dir) {
        g_set_error(error, G_FILE_ERROR, G_FILE_ERROR_NOENT, "%s is no directory", path);
        return NULL;
    }
    Listing *listing = g_new0(Listing, 1);
    listing->names = g_ptr_array_new_with_free_func(g_free);
    for (guint i = 0; i < dir->names->len; i++)
        g_ptr_array_add(listing->names, g_strdup(((VfsName *)dir->names->pdata[i])->name));
    return (GDir *)(void *)listing;
}

const char *
WRAP(g_dir_read_name)(GDir *dir)
{
    Listing *listing = (Listing *)(void *)dir;

    return listing->at < listing->names->len ? listing->names->pdata[listing->at++] : NULL;
}

void
WRAP(g_dir_close)(GDir *dir)
{
    Listing *listing = (Listing *)(void *)dir;

    g_ptr_array_unref(listing->names);
    g_free(listing);
}

typedef struct {
    char **paths;
    char *root;
    guint at;
    FTSENT *entry;
} Walk;

FTS *
WRAP(fts64_open)(char *const *paths, int options, int (*compare)(const FTSENT **, const FTSENT **))
{
    Walk *walk = g_new0(Walk, 1);

    (void)options;
    (void)compare;
    walk->root = g_strdup(paths[0]);
    walk->paths = vfs_list(paths[0]);
    walk->entry = g_malloc0(sizeof(FTSENT) + 256);
    return (FTS *)(void *)walk;
}

/* Only the files: those below .livemerge are left out, as the only caller asks for with
 * fts_set(). */
FTSENT *
WRAP(fts64_read)(FTS *fts)
{
    Walk *walk = (Walk *)(void *)fts;

    errno = 0;
    for (; walk->paths[walk->at] != NULL; walk->at++) {
        char *path = walk->paths[walk->at];
        const VfsNode *node = vfs_find(path);
        static struct stat st;
        if (strstr(path, "/.livemerge/") != NULL || node == NULL)
            continue;
        walk->at++;
        fill_stat(node, &st);
        FTSENT *entry = walk->entry;
        entry->fts_info = FTS_F;
        entry->fts_path = entry->fts_accpath = path;
        entry->fts_level = 1;
        entry->fts_statp = &st;
        return entry;
    }
    return NULL;
}

int
WRAP(fts64_set)(FTS *fts, FTSENT *entry, int instruction)
{
    (void)fts;
    (void)entry;
    (void)instruction;
    return 0;
}

int
WRAP(fts64_close)(FTS *fts)
{
    Walk *walk = (Walk *)(void *)fts;

    g_strfreev(walk->paths);
    g_free(walk->root);
    g_free(walk->entry);
    g_free(walk);
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
