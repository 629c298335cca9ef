/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "vfs_parts.h"

#include "fiber.h"
#include "image.h"

/* ---- what is durable ---- */

static void
copy_names(GPtrArray *to, const GPtrArray *from)
{
    vfs_names_clear(to);
    for (guint i = 0; i < from->len; i++) {
        const VfsName *name = from->pdata[i];
        VfsName *copy = g_new(VfsName, 1);
        copy->name = g_strdup(name->name);
        copy->node = name->node;
        g_ptr_array_add(to, copy);
    }
}

/* This change has become durable. */
static void
settle(VfsNode *dir, const VfsChange *change)
{
    vfs_name_set(dir->stable, change->name, change->other_dir != NULL ? NULL : change->node);
    if (change->other_dir != NULL)
        vfs_name_set(change->other_dir->stable, change->other_name, change->node);
}

/* Renames into this directory from others become durable with it. */
static void
settle_incoming(VfsNode *dir)
{
    for (guint i = 0; i < vfs_nodes->len; i++) {
        VfsNode *other = vfs_nodes->pdata[i];
        guint last = 0;
        if (!other->is_dir || other == dir)
            continue;
        for (guint k = 0; k < other->changes->len; k++)
            if (g_array_index(other->changes, VfsChange, k).other_dir == dir)
                last = k + 1;
        for (guint k = 0; k < last; k++) {
            VfsChange *change = &g_array_index(other->changes, VfsChange, k);
            settle(other, change);
            g_free(change->name);
            g_free(change->other_name);
        }
        if (last > 0)
            g_array_remove_range(other->changes, 0, last);
    }
}

/* QEMU, which lives, may have the tables that lead to its data in its own memory; a header never.
 */
static void
sync_headers(VfsNode *node)
{
    for (guint i = 0; node->writes != NULL && i < node->writes->len; i++) {
        QemuWrite *write = &g_array_index(node->writes, QemuWrite, i);
        write->synced = write->synced || write->cluster == UINT_MAX;
    }
}

void
vfs_sync(VfsNode *node)
{
    if (!node->is_dir) {
        if (!node->in_caches)
            vfs_sync_data(node);
        else
            sync_headers(node);
        node->durable_mtime_ns = node->mtime_ns;
        return;
    }
    settle_incoming(node);
    for (guint i = 0; i < node->changes->len; i++)
        settle(node, &g_array_index(node->changes, VfsChange, i));
    vfs_changes_clear(node->changes);
}

void
vfs_sync_data(VfsNode *node)
{
    if (node->writes != NULL)
        g_array_set_size(node->writes, 0);
    node->in_caches = false;
    if (!node->dirty)
        return;
    vfs_content_copy(&node->durable, &node->now);
    node->dirty = false;
}

static void
lose_pages(VfsNode *node)
{
    VfsContent *now = &node->now, *durable = &node->durable;
    guint n = MAX(now->pages->len, durable->pages->len);
    uint64_t size = fiber_chance(50) ? now->size : durable->size;

    for (guint i = 0; i < n; i++) {
        VfsPage *a = vfs_page_at(now, i), *b = vfs_page_at(durable, i);
        if (a != b && fiber_chance(50))
            vfs_page_put(now, i, vfs_page_ref(b));
    }
    now->size = size;
    guint keep = (guint)((size + VFS_PAGE - 1) / VFS_PAGE);
    vfs_content_cut(now, keep);
}

/* Of what QEMU wrote since a flush. With power goes any of it; with QEMU what lies in its caches
 * (tables), a header does not. What stays is not durable yet. */
static void
lose_writes(VfsNode *node, bool power)
{
    g_autoptr(GArray) writes = g_steal_pointer(&node->writes);
    int64_t mtime_ns = node->mtime_ns, ctime_ns = node->ctime_ns;

    vfs_content_copy(&node->now, &node->durable);
    node->writes = g_array_new(FALSE, FALSE, sizeof(QemuWrite));
    node->in_caches = false;
    for (guint i = 0; i < writes->len; i++) {
        const QemuWrite *write = &g_array_index(writes, QemuWrite, i);
        if (!write->synced && !fiber_chance(50) && (power || write->cluster != UINT_MAX))
            continue;
        image_write_again(node, write);
        g_array_append_val(node->writes, *write);
    }
    node->mtime_ns = mtime_ns;
    node->ctime_ns = ctime_ns;
}

void
vfs_writer_died(void)
{
    for (guint i = 0; i < vfs_nodes->len; i++) {
        VfsNode *node = vfs_nodes->pdata[i];
        if (node->writes != NULL && node->writes->len > 0)
            lose_writes(node, false);
    }
    vfs_generation++;
}

static void
lose_names(VfsNode *dir)
{
    guint keep = (guint)fiber_below(dir->changes->len + 1);

    for (guint i = 0; i < dir->changes->len; i++) {
        const VfsChange *change = &g_array_index(dir->changes, VfsChange, i);
        if (i < keep || (vfs_removals_last && (change->node == NULL || change->other_dir != NULL)))
            settle(dir, change);
    }
    vfs_changes_clear(dir->changes);
}

void
vfs_power_loss(void)
{
    for (guint i = 0; i < vfs_nodes->len; i++) {
        VfsNode *node = vfs_nodes->pdata[i];
        if (node->is_dir)
            lose_names(node);
        else if (node->writes != NULL && node->writes->len > 0)
            lose_writes(node, true);
        else if (node->dirty)
            lose_pages(node);
        if (!node->is_dir) {
            vfs_content_copy(&node->durable, &node->now);
            node->dirty = false;
            if (node->durable_mtime_ns != node->mtime_ns && fiber_chance(50))
                node->mtime_ns = node->durable_mtime_ns;
            node->durable_mtime_ns = node->mtime_ns;
            node->links = 0;
            if (node->writes != NULL)
                g_array_set_size(node->writes, 0);
        }
        g_array_set_size(node->locks, 0);
    }
    for (guint i = 0; i < vfs_nodes->len; i++) {
        VfsNode *dir = vfs_nodes->pdata[i];
        if (!dir->is_dir)
            continue;
        copy_names(dir->names, dir->stable);
        for (guint k = 0; k < dir->names->len; k++)
            ((VfsName *)dir->names->pdata[k])->node->links++;
    }
    vfs_generation++;
}
