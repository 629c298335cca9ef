/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * realpath(3) of many files that mostly lie in one folder: it is resolved once, so that a long
 * chain costs one lstat(2) a volume.
 *
 * For the length of one call: a folder that is moved meanwhile is not noticed, as between
 * realpath(3) and what is then done with its answer. Ownership: results belong to the caller.
 * Threads: each has its own Folder.
 */
#pragma once

#include <glib.h>

typedef struct {
    char *path, *real; /* resolved last; NULL = none */
} Folder;

void folder_clear(Folder *folder);
G_DEFINE_AUTO_CLEANUP_CLEAR_FUNC(Folder, folder_clear)

/* As realpath(path, NULL), but to be freed with g_free(): NULL with errno, if the file is not
 * there, say. */
char *folder_realpath(Folder *folder, const char *path);
/* The same of the folder only: the file may be a symbolic link, or not be there. */
char *folder_resolve(Folder *folder, const char *path);
