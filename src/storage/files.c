/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "storage/files.h"

#include "base/clock.h"
#include "base/fault.h"
#include "base/text.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>

#define MAX_SIZE (64 << 20)
#define SWEEP_AGE_S 3600

static bool
read_all(int fd, const char *path, char *text, size_t length, GError **error)
{
    for (size_t done = 0; done < length;) {
        ssize_t n = pread(fd, text + done, length - done, (off_t)done);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return error_set_errno(error, "reading %s", path);
        if (n == 0)
            return error_set(error, ERR_STORAGE, "%s became shorter while it was read", path);
        done += (size_t)n;
    }
    return true;
}

/* Whoever may write it could have any file of the host merged or deleted. Who owns the directory
 * may be another user than we are: NFS makes root somebody else. */
static bool
check_owner(const char *path, const struct stat *st, GError **error)
{
    g_autofree char *dir = g_path_get_dirname(path);
    struct stat above;

    if ((st->st_mode & (S_IWGRP | S_IWOTH)) != 0)
        return error_set(
            error, ERR_REFUSED,
            "%s may be written by others (mode %04o) and is not believed: if nobody has "
            "tampered with it, chmod 600 it",
            path, (unsigned)st->st_mode & 07777);
    return st->st_uid == geteuid() || (stat(dir, &above) == 0 && above.st_uid == st->st_uid) ||
           error_set(error, ERR_REFUSED,
                     "%s belongs to user %u and is not believed: if nobody has tampered with it, "
                     "chown it to user %u",
                     path, (unsigned)st->st_uid, (unsigned)geteuid());
}

bool
file_read(const char *path, char **ret_text, size_t *ret_length, GError **error)
{
    autofd int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
    g_autofree char *text = NULL;
    struct stat st;

    if (fd < 0 && errno == ENOENT) {
        *ret_text = NULL;
        return true;
    }
    if (fd < 0 && errno == ELOOP)
        return error_set(error, ERR_CORRUPT,
                         "%s is a symbolic link, which is not followed: put the file there", path);
    if (fd < 0)
        return error_set_errno(error, "opening %s", path);
    if (fstat(fd, &st) < 0)
        return error_set_errno(error, "looking at %s", path);
    if (!S_ISREG(st.st_mode) || st.st_size > MAX_SIZE)
        return error_set(error, ERR_CORRUPT,
                         "%s is not a regular file of at most %d MiB: move away what is there",
                         path, MAX_SIZE >> 20);
    if (!check_owner(path, &st, error))
        return false;
    text = g_malloc((gsize)st.st_size + 1);
    text[st.st_size] = '\0';
    if (!read_all(fd, path, text, (size_t)st.st_size, error))
        return false;
    *ret_length = (size_t)st.st_size;
    *ret_text = g_steal_pointer(&text);
    return true;
}

/* path: what it is to become, for messages */
static bool
write_all(int fd, const char *path, const char *text, GError **error)
{
    size_t left = strlen(text);

    while (left > 0) {
        ssize_t n = write(fd, text, left);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return error_set_errno(error, "writing %s (what was there is untouched)", path);
        text += n;
        left -= (size_t)n;
    }
    if (fsync(fd) < 0)
        return error_set_errno(error, "writing %s (what was there is untouched)", path);
    return true;
}

/* A new file beside path with the text in it, on disk. Its name is the caller's to free; NULL =
 * error, and nothing is there. The name is random so that two writers, who should not be,
 * at least do not mix their texts. */
static char *
write_temporary(const char *path, const char *text, GError **error)
{
    g_autofree char *unique = id_new();
    g_autofree char *name = g_strdup_printf("%s.%s%s", path, unique, FILES_TEMPORARY);
    autofd int fd = open(name, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0600);

    if (fd < 0) {
        error_set_errno(error, "creating %s (what was there is untouched)", path);
        return NULL;
    }
    if (!write_all(fd, path, text, error)) {
        unlink(name);
        return NULL;
    }
    return g_steal_pointer(&name);
}

bool
file_replace(const char *path, const char *text, bool *ret_renamed, GError **error)
{
    g_autofree char *name = write_temporary(path, text, error);

    if (ret_renamed != NULL)
        *ret_renamed = false;
    if (name == NULL)
        return false;
    if (!fault_point("manifest.before-rename", error)) {
        unlink(name);
        return false;
    }
    if (rename(name, path) < 0) {
        error_set_errno(error, "replacing %s (what was there is untouched)", path);
        unlink(name);
        return false;
    }
    if (ret_renamed != NULL)
        *ret_renamed = true;
    return fault_point("manifest.after-rename", error) && dir_sync_of(path, error);
}

bool
file_create(const char *path, const char *text, GError **error)
{
    g_autofree char *name = write_temporary(path, text, error);
    bool made;

    if (name == NULL)
        return false;
    /* unlike rename(), link() never replaces, also not on NFS */
    made = link(name, path) == 0;
    if (!made && errno == EEXIST)
        error_set(error, ERR_EXISTS, "%s is there already", path);
    else if (!made)
        error_set_errno(error, "linking %s to %s", name, path);
    unlink(name);
    return made && dir_sync_of(path, error);
}

bool
file_put(const char *path, const char *text, GError **error)
{
    g_autofree char *name = write_temporary(path, text, error);

    if (name == NULL)
        return false;
    if (rename(name, path) == 0)
        return true;
    error_set_errno(error, "replacing %s (what was there is untouched)", path);
    unlink(name);
    return false;
}

void
files_sweep(const char *dir)
{
    g_autoptr(GDir) entries = g_dir_open(dir, 0, NULL);
    const char *name;

    while (entries != NULL && (name = g_dir_read_name(entries)) != NULL) {
        g_autofree char *path = g_build_filename(dir, name, NULL);
        struct stat st;

        if (!g_str_has_suffix(name, FILES_TEMPORARY) || lstat(path, &st) < 0)
            continue;
        if (clock_wall_ms() / 1000 - st.st_mtime > SWEEP_AGE_S)
            unlink(path);
    }
}

bool
dir_sync(const char *dir, GError **error)
{
    autofd int fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);

    if (fd < 0 || fsync(fd) < 0)
        return error_set_errno(error, "syncing the directory %s", dir);
    return true;
}

bool
dir_sync_of(const char *path, GError **error)
{
    g_autofree char *dir = g_path_get_dirname(path);

    return dir_sync(dir, error);
}

bool
dir_make(const char *dir, GError **error)
{
    if (mkdir(dir, 0700) == 0)
        return dir_sync_of(dir, error);
    if (errno != EEXIST)
        return error_set_errno(error, "making the directory %s", dir);
    if (!g_file_test(dir, G_FILE_TEST_IS_DIR))
        return error_set(error, ERR_CORRUPT, "%s is not a directory", dir);
    return true;
}
