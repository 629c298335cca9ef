/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "base/folder.h"

#include "base/cleanup.h"

#include <errno.h>
#include <stdbool.h>
#include <string.h>
#include <sys/stat.h>

void
folder_clear(Folder *folder)
{
    g_clear_pointer(&folder->path, g_free);
    g_clear_pointer(&folder->real, g_free);
}

/* True if folder->real is where "path" lies. */
static bool
enter(Folder *folder, const char *path, size_t length)
{
    if (folder->real != NULL && strlen(folder->path) == length &&
        memcmp(folder->path, path, length) == 0)
        return true;
    g_autofree char *name = length > 0 ? g_strndup(path, length) : g_strdup("/");
    autolibc char *real = realpath(name, NULL);

    if (real == NULL)
        return false;
    folder_clear(folder);
    folder->path = g_strndup(path, length);
    folder->real = g_strdup(real);
    return true;
}

static char *
resolve_whole(const char *path)
{
    autolibc char *real = realpath(path, NULL);

    return g_strdup(real);
}

char *
folder_resolve(Folder *folder, const char *path)
{
    const char *slash = strrchr(path, '/');
    const char *name = slash != NULL ? slash + 1 : path;

    if (*name == '\0' || strcmp(name, ".") == 0 || strcmp(name, "..") == 0)
        return resolve_whole(path); /* no name of a file */
    if (!enter(folder, slash != NULL ? path : ".", slash != NULL ? (size_t)(slash - path) : 1))
        return NULL;
    return g_strconcat(folder->real, folder->real[1] != '\0' ? "/" : "", name, NULL);
}

char *
folder_realpath(Folder *folder, const char *path)
{
    g_autofree char *real = folder_resolve(folder, path);
    struct stat st;

    if (real == NULL || lstat(real, &st) < 0)
        return NULL;
    return S_ISLNK(st.st_mode) ? resolve_whole(path) : g_steal_pointer(&real);
}
