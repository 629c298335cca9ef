/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * What vfs_wrap.c (descriptors, content, locks) and vfs_names.c (names, directories, looking)
 * share.
 */
#pragma once

#include "world.h"

#define WRAP(name) __wrap_##name
#define REAL(name) __real_##name

typedef struct {
    VfsNode *node; /* NULL = free */
    uint64_t at;
    int flags;
    unsigned process;
    bool in_domain;
} Descriptor;

/* NULL = it is none of ours; good until something else is opened. */
Descriptor *vfs_descriptor(int fd);
void vfs_point(const char *name);
int vfs_fail(int number); /* errno, and -1 */
/* Is the storage below it away, or full? Then errno says so. May wait. */
bool vfs_path_fails(const char *path, bool allocates);
bool vfs_fd_fails(int fd, bool allocates);
