/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * Files that are not: one file system in memory, below /sim, for everything that runs in fibers.
 *
 * The libc calls of the product's objects come here (vfs_wrap.c), so the product's own code for
 * qcow2 files, manifests, locks and trash runs as it is. What a power loss takes: of each file a
 * random subset of the pages that were written since its last fsync; of each directory what was
 * made, renamed or removed there after a random instant since its last fsync. A file that QEMU
 * writes loses whole writes, since QEMU orders its metadata.
 *
 * Content lives in pages of 4 KiB with a count of users, never changed while shared: sharing blocks
 * and remembering what is durable cost nothing. Threads: one.
 */
#pragma once

#include <glib.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/stat.h>

#define VFS_PAGE 4096
#define VFS_FD_BASE 1000000

typedef struct {
    unsigned refs;
    bool repeats; /* all of it is this number, as mostly: then there are no bytes */
    uint64_t number;
    uint8_t bytes[];
} VfsPage;

typedef struct {
    uint64_t size;
    GPtrArray *pages;                  /* of VfsPage; NULL = a hole */
    guint used;                        /* pages that are none */
    uint64_t changed_from, changed_to; /* outside of these, now and durable have the same pages */
} VfsContent;

typedef struct {
    unsigned process;   /* who dies with it; with owner 0 it is a lock of a file description */
    const void *owner;  /* of the lock: a file description, or a QEMU */
    int64_t start, end; /* end is not part of it */
    bool exclusive;
} VfsLock;

typedef struct VfsNode VfsNode;
struct VfsNode {
    uint64_t number;
    bool is_dir;
    mode_t mode;
    unsigned links;
    int64_t mtime_ns, ctime_ns;
    int64_t durable_mtime_ns; /* a flush of QEMU is of the data alone */
    VfsContent now, durable;
    uint64_t changed; /* vfs_generation when its content last changed */
    bool dirty;       /* now differs from durable */
    GArray *writes;   /* of QemuWrite (image.h): by QEMU since the last fsync; NULL = none */
    bool in_caches;   /* who made them lives: some may be in its memory, which only it flushes */
    GArray *locks;    /* of VfsLock */
    GPtrArray *names; /* directories: of VfsName, sorted */
    uint64_t names_changed; /* so often */
    GPtrArray *stable;      /* the same, durable */
    GArray *changes;        /* directories: of VfsChange, since the last fsync */
};
typedef struct {
    char *name;
    VfsNode *node;
} VfsName;

void vfs_reset(void); /* everything is gone but an empty /sim */
/* NULL if there is none */
VfsNode *vfs_find(const char *path);
VfsNode *vfs_parent(const char *path, const char **ret_name);
VfsNode *vfs_node_new(bool is_dir);               /* without a name */
VfsNode *vfs_make(const char *path, bool is_dir); /* durable at once; for the set-up */
/* The first name of a node, for messages; the caller frees it; NULL = it has none. */
char *vfs_name_of(const VfsNode *node);

ssize_t vfs_read(VfsNode *node, void *buffer, size_t length, uint64_t offset);
void vfs_write(VfsNode *node, const void *buffer, size_t length, uint64_t offset);
/* The whole cluster becomes one number, repeated. */
void vfs_fill(VfsNode *node, uint64_t offset, uint64_t length, uint64_t value);
void vfs_copy(VfsNode *from, uint64_t at, VfsNode *to, uint64_t to_at, uint64_t length);
void vfs_truncate(VfsNode *node, uint64_t size);
uint64_t vfs_allocated(const VfsNode *node);
void vfs_sync(VfsNode *node);
void vfs_sync_data(VfsNode *node);
/* The number at this offset, within one page */
uint64_t vfs_number_anywhere(const VfsNode *node, uint64_t offset);
static inline uint64_t
vfs_number(const VfsNode *node, uint64_t offset)
{
    const GPtrArray *pages = node->now.pages;
    const VfsPage *page = offset / VFS_PAGE < pages->len ? pages->pdata[offset / VFS_PAGE] : NULL;

    if (page == NULL)
        return 0;
    if (offset % 8 != 0)
        return vfs_number_anywhere(node, offset);
    return page->repeats ? page->number
                         : *(const uint64_t *)(const void *)(page->bytes + offset % VFS_PAGE);
}

void vfs_link(VfsNode *dir, const char *name, VfsNode *node);
void vfs_unlink(VfsNode *dir, const char *name);
void vfs_rename(VfsNode *dir, const char *name, VfsNode *to_dir, const char *to_name);

/* NULL: nobody else holds a lock there that forbids this one */
const VfsLock *vfs_lock_conflict(const VfsNode *node, const void *owner, int64_t start, int64_t end,
                                 bool exclusive);
void vfs_lock(VfsNode *node, unsigned process, const void *owner, int64_t start, int64_t end,
              bool exclusive);
void vfs_unlock(VfsNode *node, const void *owner, int64_t start, int64_t end);
void vfs_unlock_all(const void *owner);

void vfs_process_died(unsigned process); /* its descriptors are closed */
void vfs_writer_died(void); /* QEMU: what it kept in its caches, of its writes since a flush */
void vfs_power_loss(void);
unsigned vfs_open_descriptors(unsigned process);
/* All files below a directory, sorted; g_strfreev() */
char **vfs_list(const char *path);

/* What the wraps tell the world: a name is about to go (renamed away or removed). */
extern void (*vfs_on_name_gone)(const char *path, VfsNode *node, const char *to);
extern uint64_t vfs_generation; /* grows with every change */
extern bool vfs_can_share;      /* FICLONERANGE */
extern bool vfs_removals_last;  /* what was removed does not come back after a power loss */
extern uint64_t vfs_room;       /* bytes that statvfs() tells */
