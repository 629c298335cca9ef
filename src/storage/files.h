/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * Reading and writing small files so that a crash, a kill or a full disk leaves
 * either the old one or the new one. Used inside storage/ only. Threads: any.
 */
#pragma once

#include "base/cleanup.h"
#include "base/error.h"

#include <stddef.h>

/* ret_text: the whole file, NULL without error if it is not there. Regular files of up to 64 MiB;
 * anything else is ERR_CORRUPT. What somebody else owns or may write is ERR_REFUSED. */
bool file_read(const char *path, char **ret_text, size_t *ret_length, GError **error);

/* Writes the text under a temporary name beside path, fsyncs it, renames it to path and fsyncs
 * the directory. On an error before the rename nothing is left behind and the old file is
 * untouched; *ret_renamed (may be NULL) tells an error after it. */
bool file_replace(const char *path, const char *text, bool *ret_renamed, GError **error);

/* The same for a file that must not be there yet: false with ERR_EXISTS, the old one untouched. */
bool file_create(const char *path, const char *text, GError **error);

/* For what may be lost: the same without fault points, and the name is not synced. */
bool file_put(const char *path, const char *text, GError **error);

#define FILES_TEMPORARY ".livemerge-tmp" /* how their names end */
/* Temporary files that a killed writer left in dir, older than an hour, go. */
void files_sweep(const char *dir);

bool dir_sync(const char *dir, GError **error);
/* fsync of the directory that holds the path */
bool dir_sync_of(const char *path, GError **error);
/* mkdir 0700; it may be there already */
bool dir_make(const char *dir, GError **error);
