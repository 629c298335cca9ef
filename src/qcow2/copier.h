/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * Copies ranges between files by reads and writes, several in flight (io_uring; one after the other
 * where the kernel forbids it). Nobody outside the folder includes it.
 *
 * Threads: a Copier belongs to one.
 */
#pragma once

#include "base/error.h"

#include <stdint.h>

typedef struct Copier Copier;

Copier *copier_new(void);
/* Waits for what is in flight; ignores how it ends. */
void copier_free(Copier *copier);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(Copier, copier_free)

typedef struct {
    int from_fd, to_fd;
    const char *from_path, *to_path; /* for messages; valid until copier_finish() */
    uint64_t from, to, length;
} CopyRange;

/* Returns when all of it is begun, not when it is written. An error may be that of an earlier
 * range; after an error the Copier can only be freed. */
bool copier_add(Copier *copier, const CopyRange *range, GError **error);
/* Waits until all is written. */
bool copier_finish(Copier *copier, GError **error);
