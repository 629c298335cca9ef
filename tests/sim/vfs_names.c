/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * The libc and GLib calls for names and directories in the product's objects, on the files of
 * vfs.h. What changes something, or makes it durable, is a point before it does.
 */
#include "vfs_wrap.h"

#include <errno.h>
#include <fcntl.h>
#include <fts.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <sys/statvfs.h>
#include <sys/vfs.h>
#include <unistd.h>

#pragma GCC diagnostic ignored "-Wmissing-prototypes"

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
    if (vfs_path_fails(path, false))
        return -1;
    VfsNode *node = vfs_find(path);

    if (node == NULL)
        return vfs_fail(ENOENT);
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
    if (vfs_fd_fails(fd, false))
        return -1;
    Descriptor *d = vfs_descriptor(fd);

    if (d == NULL)
        return vfs_fail(EBADF);
    fill_stat(d->node, st);
    return 0;
}

int
WRAP(access)(const char *path, int mode)
{
    (void)mode;
    if (vfs_path_fails(path, false))
        return -1;
    return vfs_find(path) != NULL ? 0 : vfs_fail(ENOENT);
}

static bool
is_canonical(const char *path)
{
    const char *end;

    for (; *path == '/'; path = end) {
        end = strchrnul(path + 1, '/');
        if (end - path <= 3 && strspn(path + 1, ".") == (size_t)(end - path - 1))
            return false;
    }
    return *path == '\0';
}

char *
WRAP(realpath)(const char *path, char *resolved)
{
    (void)resolved;
    if (vfs_path_fails(path, false))
        return NULL;
    if (strcmp(path, "/") != 0 && vfs_find(path) == NULL) {
        errno = ENOENT;
        return NULL;
    }
    /* there are no symbolic links; the caller frees it with free() */
    if (is_canonical(path))
        return strdup(path);
    g_autofree char *plain = g_canonicalize_filename(path, "/sim");
    return strdup(plain);
}

int
WRAP(statvfs64)(const char *path, struct statvfs *st)
{
    if (vfs_path_fails(path, false))
        return -1;
    if (vfs_find(path) == NULL)
        return vfs_fail(ENOENT);
    memset(st, 0, sizeof *st);
    st->f_bsize = st->f_frsize = VFS_PAGE;
    st->f_bavail = st->f_bfree = storage_is_full() ? 0 : vfs_room / VFS_PAGE;
    st->f_blocks = (UINT64_C(200) << 30) / VFS_PAGE;
    return 0;
}

int
WRAP(fstatfs64)(int fd, struct statfs *st)
{
    if (vfs_fd_fails(fd, false))
        return -1;
    if (vfs_descriptor(fd) == NULL)
        return vfs_fail(EBADF);
    memset(st, 0, sizeof *st);
    st->f_bsize = VFS_PAGE;
    return 0;
}

gboolean
WRAP(g_file_test)(const char *path, GFileTest test)
{
    if (vfs_path_fails(path, false))
        return FALSE;
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

    vfs_point("unlink");
    if (vfs_path_fails(path, false))
        return -1;
    VfsNode *node = vfs_find(path), *dir = vfs_parent(path, &name);
    if (node == NULL)
        return vfs_fail(ENOENT);
    if (node->is_dir)
        return vfs_fail(EISDIR);
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

    vfs_point("link");
    if (vfs_path_fails(to, false))
        return -1;
    VfsNode *node = vfs_find(from), *dir = vfs_parent(to, &name);
    if (node == NULL || dir == NULL)
        return vfs_fail(ENOENT);
    if (vfs_find(to) != NULL)
        return vfs_fail(EEXIST);
    vfs_link(dir, name, node);
    return 0;
}

static int
rename_to(const char *from, const char *to, unsigned flags)
{
    const char *name = NULL, *to_name = NULL;

    vfs_point("rename");
    if (vfs_path_fails(from, false))
        return -1;
    VfsNode *dir = vfs_parent(from, &name), *to_dir = vfs_parent(to, &to_name);
    if (vfs_find(from) == NULL || dir == NULL || to_dir == NULL)
        return vfs_fail(ENOENT);
    if ((flags & RENAME_NOREPLACE) != 0 && vfs_find(to) != NULL)
        return vfs_fail(EEXIST);
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
    vfs_point("mkdir");
    if (vfs_path_fails(path, true))
        return -1;
    VfsNode *dir = vfs_parent(path, &name);
    if (dir == NULL)
        return vfs_fail(ENOENT);
    if (vfs_find(path) != NULL)
        return vfs_fail(EEXIST);
    vfs_link(dir, name, vfs_node_new(true));
    return 0;
}

int
WRAP(rmdir)(const char *path)
{
    const char *name = NULL;

    vfs_point("rmdir");
    if (vfs_path_fails(path, false))
        return -1;
    VfsNode *dir = vfs_parent(path, &name);
    if (vfs_find(path) == NULL)
        return vfs_fail(ENOENT);
    vfs_unlink(dir, name);
    return 0;
}

int
WRAP(chmod)(const char *path, mode_t mode)
{
    (void)mode;
    if (vfs_path_fails(path, false))
        return -1;
    return vfs_find(path) != NULL ? 0 : vfs_fail(ENOENT);
}

int
WRAP(g_mkdir_with_parents)(const char *path, int mode)
{
    return !vfs_path_fails(path, false) && vfs_find(path) != NULL ? 0
                                                                  : WRAP(mkdir)(path, (mode_t)mode);
}

int
WRAP(fchmod)(int fd, mode_t mode)
{
    Descriptor *d = vfs_descriptor(fd);

    if (d == NULL)
        return vfs_fail(EBADF);
    d->node->mode = (d->node->mode & S_IFMT) | (mode & 07777);
    return 0;
}

int
WRAP(fchown)(int fd, uid_t uid, gid_t gid)
{
    (void)uid;
    (void)gid;
    return vfs_descriptor(fd) != NULL ? 0 : vfs_fail(EBADF);
}

/* ---- directories ---- */

typedef struct {
    GPtrArray *names; /* as they were when it was opened */
    guint at;
} Listing;

GDir *
WRAP(g_dir_open)(const char *path, guint flags, GError **error)
{
    (void)flags;
    if (vfs_path_fails(path, false)) {
        g_set_error(error, G_FILE_ERROR, G_FILE_ERROR_IO, "%s: %s", path, g_strerror(errno));
        return NULL;
    }
    VfsNode *dir = vfs_find(path);
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

    if (vfs_path_fails(walk->root, false))
        return NULL;
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
