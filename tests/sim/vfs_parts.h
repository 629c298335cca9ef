/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * What the files of the virtual file system share: vfs.c (nodes, names, locks), vfs_pages.c
 * (content), vfs_power.c (what is durable).
 */
#pragma once

#include "vfs.h"

typedef struct {
    char *name;
    VfsNode *node;      /* NULL = the name went */
    VfsNode *other_dir; /* of a rename between directories: kept or lost with this one */
    char *other_name;
} VfsChange;

extern GPtrArray *vfs_nodes; /* all there ever were in this world */

/* vfs.c */
void vfs_names_clear(GPtrArray *names);
void vfs_changes_clear(GArray *changes);
void vfs_name_set(GPtrArray *names, const char *name, VfsNode *node); /* NULL: removes it */
void vfs_touch(VfsNode *node, bool content);

/* vfs_pages.c */
VfsPage *vfs_page_ref(VfsPage *page);
void vfs_page_unref(void *page);
VfsPage *vfs_page_at(const VfsContent *c, uint64_t index);
void vfs_page_put(VfsContent *c, uint64_t index, VfsPage *take);
void vfs_content_init(VfsContent *c);
void vfs_content_copy(VfsContent *to, VfsContent *from); /* of one file: now and durable */
void vfs_content_cut(VfsContent *c, guint keep);         /* to so many pages */
