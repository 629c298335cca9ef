/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "vfs.h"

#include "fiber.h"
#include "image.h"

#include <string.h>

void (*vfs_on_name_gone)(const char *path, VfsNode *node, const char *to);
uint64_t vfs_generation;
bool vfs_can_share;
uint64_t vfs_room;
bool vfs_removals_last;

typedef struct {
    char *name;
    VfsNode *node;      /* NULL = the name went */
    VfsNode *other_dir; /* of a rename between directories: kept or lost with this one */
    char *other_name;
} VfsChange;

static VfsNode *root;      /* /sim */
static GPtrArray *nodes;   /* all there ever were in this world */
static VfsPage *zero_page; /* data that are zeros */

/* ---- pages ---- */

static VfsPage *
page_new(void)
{
    VfsPage *page = g_new(VfsPage, 1);

    page->refs = 1;
    return page;
}

static VfsPage *
page_ref(VfsPage *page)
{
    if (page != NULL)
        page->refs++;
    return page;
}

static void
page_unref(void *p)
{
    VfsPage *page = p;

    if (page != NULL && --page->refs == 0)
        g_free(page);
}

static VfsPage *
page_at(const VfsContent *c, uint64_t index)
{
    return index < c->pages->len ? c->pages->pdata[index] : NULL;
}

static void
page_put(VfsContent *c, uint64_t index, VfsPage *take)
{
    if (index >= c->pages->len)
        g_ptr_array_set_size(c->pages, (int)index + 1);
    page_unref(c->pages->pdata[index]);
    c->pages->pdata[index] = take;
}

static void
content_copy(VfsContent *to, const VfsContent *from)
{
    for (guint i = 0; i < to->pages->len; i++)
        page_unref(to->pages->pdata[i]);
    g_ptr_array_set_size(to->pages, (int)from->pages->len);
    for (guint i = 0; i < from->pages->len; i++)
        to->pages->pdata[i] = page_ref(from->pages->pdata[i]);
    to->size = from->size;
}

/* ---- nodes ---- */

VfsNode *
vfs_node_new(bool is_dir)
{
    VfsNode *node = g_new0(VfsNode, 1);

    node->number = nodes->len + 10;
    node->is_dir = is_dir;
    node->mode = is_dir ? S_IFDIR | 0700 : S_IFREG | 0600;
    node->mtime_ns = node->ctime_ns = fiber_now_us() * 1000;
    node->now.pages = g_ptr_array_new();
    node->durable.pages = g_ptr_array_new();
    node->locks = g_array_new(FALSE, FALSE, sizeof(VfsLock));
    if (is_dir) {
        node->links = 1;
        node->names = g_ptr_array_new();
        node->stable = g_ptr_array_new();
        node->changes = g_array_new(FALSE, FALSE, sizeof(VfsChange));
    }
    g_ptr_array_add(nodes, node);
    return node;
}

static void
names_clear(GPtrArray *names)
{
    for (guint i = 0; i < names->len; i++) {
        VfsName *name = names->pdata[i];
        g_free(name->name);
        g_free(name);
    }
    g_ptr_array_set_size(names, 0);
}

static void
changes_clear(GArray *changes)
{
    for (guint i = 0; i < changes->len; i++) {
        g_free(g_array_index(changes, VfsChange, i).name);
        g_free(g_array_index(changes, VfsChange, i).other_name);
    }
    g_array_set_size(changes, 0);
}

static void
node_free(VfsNode *node)
{
    for (guint i = 0; i < node->now.pages->len; i++)
        page_unref(node->now.pages->pdata[i]);
    for (guint i = 0; i < node->durable.pages->len; i++)
        page_unref(node->durable.pages->pdata[i]);
    g_ptr_array_unref(node->now.pages);
    g_ptr_array_unref(node->durable.pages);
    g_array_unref(node->locks);
    if (node->writes != NULL)
        g_array_unref(node->writes);
    if (node->is_dir) {
        names_clear(node->names);
        names_clear(node->stable);
        changes_clear(node->changes);
        g_ptr_array_unref(node->names);
        g_ptr_array_unref(node->stable);
        g_array_unref(node->changes);
    }
    g_free(node);
}

void
vfs_reset(void)
{
    if (nodes == NULL) {
        nodes = g_ptr_array_new();
        zero_page = page_new();
        memset(zero_page->bytes, 0, VFS_PAGE);
    }
    for (unsigned process = 0; process < FIBER_PROCESSES; process++)
        vfs_process_died(process);
    for (guint i = 0; i < nodes->len; i++)
        node_free(nodes->pdata[i]);
    g_ptr_array_set_size(nodes, 0);
    root = vfs_node_new(true);
    vfs_generation = 1;
    vfs_can_share = false;
    vfs_removals_last = true;
    vfs_room = UINT64_C(100) << 30;
}

/* ---- names ---- */

static int
name_index(const GPtrArray *names, const char *name, bool *ret_found)
{
    int low = 0, high = (int)names->len;

    while (low < high) {
        int mid = (low + high) / 2;
        int c = strcmp(((VfsName *)names->pdata[mid])->name, name);
        if (c == 0) {
            *ret_found = true;
            return mid;
        }
        if (c < 0)
            low = mid + 1;
        else
            high = mid;
    }
    *ret_found = false;
    return low;
}

static VfsNode *
name_get(const GPtrArray *names, const char *name)
{
    bool found;
    int at = name_index(names, name, &found);

    return found ? ((VfsName *)names->pdata[at])->node : NULL;
}

/* node NULL: removes it */
static void
name_set(GPtrArray *names, const char *name, VfsNode *node)
{
    bool found;
    int at = name_index(names, name, &found);

    if (found && node != NULL) {
        ((VfsName *)names->pdata[at])->node = node;
    } else if (found) {
        VfsName *old = g_ptr_array_steal_index(names, (guint)at);
        g_free(old->name);
        g_free(old);
    } else if (node != NULL) {
        VfsName *fresh = g_new(VfsName, 1);
        fresh->name = g_strdup(name);
        fresh->node = node;
        g_ptr_array_insert(names, at, fresh);
    }
}

VfsNode *
vfs_find(const char *path)
{
    VfsNode *node = root;

    if (strncmp(path, "/sim", 4) != 0 || (path[4] != '/' && path[4] != '\0'))
        return NULL;
    for (path += 4; node != NULL && *path != '\0';) {
        char part[256];
        while (*path == '/')
            path++;
        size_t n = strcspn(path, "/");
        if (n == 0)
            break;
        if (n >= sizeof part || !node->is_dir)
            return NULL;
        memcpy(part, path, n);
        part[n] = '\0';
        path += n;
        if (strcmp(part, ".") == 0)
            continue;
        node = name_get(node->names, part);
    }
    return node;
}

VfsNode *
vfs_parent(const char *path, const char **ret_name)
{
    const char *slash = strrchr(path, '/');
    char dir[1024];

    if (slash == NULL || (size_t)(slash - path) >= sizeof dir)
        return NULL;
    memcpy(dir, path, (size_t)(slash - path));
    dir[slash - path] = '\0';
    *ret_name = slash + 1;
    VfsNode *node = vfs_find(dir);
    return node != NULL && node->is_dir ? node : NULL;
}

VfsNode *
vfs_make(const char *path, bool is_dir)
{
    const char *name = NULL;
    VfsNode *dir = vfs_parent(path, &name), *node = vfs_node_new(is_dir);

    g_assert(dir != NULL);
    vfs_link(dir, name, node);
    vfs_sync(dir);
    vfs_sync(node);
    return node;
}

static char *
find_name(const VfsNode *dir, const char *path, const VfsNode *wanted)
{
    for (guint i = 0; i < dir->names->len; i++) {
        const VfsName *name = dir->names->pdata[i];
        g_autofree char *here = g_strdup_printf("%s/%s", path, name->name);
        char *below = name->node == wanted ? g_strdup(here)
                      : name->node->is_dir ? find_name(name->node, here, wanted)
                                           : NULL;
        if (below != NULL)
            return below;
    }
    return NULL;
}

char *
vfs_name_of(const VfsNode *node)
{
    return find_name(root, "/sim", node);
}

static void
touch(VfsNode *node, bool content)
{
    /* times differ for each change, as on a real file system they mostly do */
    node->ctime_ns = MAX(node->ctime_ns + 1, fiber_now_us() * 1000);
    if (content)
        node->mtime_ns = node->ctime_ns;
    vfs_generation++;
}

static void
note_change(VfsNode *dir, const char *name, VfsNode *node, VfsNode *other, const char *other_name)
{
    VfsChange change = { g_strdup(name), node, other, g_strdup(other_name) };

    g_array_append_val(dir->changes, change);
    touch(dir, true);
}

void
vfs_link(VfsNode *dir, const char *name, VfsNode *node)
{
    name_set(dir->names, name, node);
    node->links++;
    touch(node, false);
    note_change(dir, name, node, NULL, NULL);
}

void
vfs_unlink(VfsNode *dir, const char *name)
{
    VfsNode *node = name_get(dir->names, name);

    if (node == NULL)
        return;
    name_set(dir->names, name, NULL);
    node->links--;
    touch(node, false);
    note_change(dir, name, NULL, NULL, NULL);
}

void
vfs_rename(VfsNode *dir, const char *name, VfsNode *to_dir, const char *to_name)
{
    VfsNode *node = name_get(dir->names, name), *over = name_get(to_dir->names, to_name);

    if (over == node)
        return;
    if (over != NULL)
        over->links--;
    name_set(dir->names, name, NULL);
    name_set(to_dir->names, to_name, node);
    touch(node, false);
    note_change(dir, name, NULL, to_dir, to_name);
    g_array_index(dir->changes, VfsChange, dir->changes->len - 1).node = node;
}

/* ---- content ---- */

ssize_t
vfs_read(VfsNode *node, void *buffer, size_t length, uint64_t offset)
{
    uint8_t *to = buffer;
    size_t done = 0;

    if (offset >= node->now.size)
        return 0;
    length = (size_t)MIN(length, node->now.size - offset);
    while (done < length) {
        uint64_t at = offset + done;
        size_t in = (size_t)(at % VFS_PAGE), n = MIN(VFS_PAGE - in, length - done);
        const VfsPage *page = page_at(&node->now, at / VFS_PAGE);
        if (page == NULL || page == zero_page)
            memset(to + done, 0, n);
        else
            memcpy(to + done, page->bytes + in, n);
        done += n;
    }
    return (ssize_t)length;
}

static void
note_write(VfsNode *node, uint64_t end)
{
    node->now.size = MAX(node->now.size, end);
    node->dirty = true;
    touch(node, true);
}

static bool
all_zero(const uint8_t *bytes, size_t n)
{
    return bytes[0] == 0 && memcmp(bytes, bytes + 1, n - 1) == 0;
}

void
vfs_write(VfsNode *node, const void *buffer, size_t length, uint64_t offset)
{
    const uint8_t *from = buffer;

    for (size_t done = 0; done < length;) {
        uint64_t at = offset + done;
        size_t in = (size_t)(at % VFS_PAGE), n = MIN(VFS_PAGE - in, length - done);
        VfsPage *old = page_at(&node->now, at / VFS_PAGE);
        if (n == VFS_PAGE && all_zero(from + done, n)) {
            page_put(&node->now, at / VFS_PAGE, page_ref(zero_page));
        } else if (old != NULL && old->refs == 1) {
            memcpy(old->bytes + in, from + done, n);
        } else {
            VfsPage *page = page_new();
            if (n < VFS_PAGE)
                memcpy(page->bytes, old != NULL ? old->bytes : zero_page->bytes, VFS_PAGE);
            memcpy(page->bytes + in, from + done, n);
            page_put(&node->now, at / VFS_PAGE, page);
        }
        done += n;
    }
    note_write(node, offset + length);
}

void
vfs_fill(VfsNode *node, uint64_t offset, uint64_t length, uint64_t value)
{
    VfsPage *page = page_new();

    for (size_t i = 0; i < VFS_PAGE / 8; i++)
        memcpy(page->bytes + 8 * i, &value, 8);
    for (uint64_t at = offset; at < offset + length; at += VFS_PAGE)
        page_put(&node->now, at / VFS_PAGE, page_ref(page));
    page_unref(page);
    note_write(node, offset + length);
}

void
vfs_copy(VfsNode *from, uint64_t at, VfsNode *to, uint64_t to_at, uint64_t length)
{
    while (length > 0) {
        if (at % VFS_PAGE == 0 && to_at % VFS_PAGE == 0 && length >= VFS_PAGE) {
            page_put(&to->now, to_at / VFS_PAGE, page_ref(page_at(&from->now, at / VFS_PAGE)));
            note_write(to, to_at + VFS_PAGE);
            at += VFS_PAGE;
            to_at += VFS_PAGE;
            length -= VFS_PAGE;
        } else {
            uint8_t bytes[VFS_PAGE];
            size_t n = (size_t)MIN(length, VFS_PAGE - at % VFS_PAGE);
            ssize_t got = vfs_read(from, bytes, n, at);
            vfs_write(to, bytes, (size_t)MAX(got, 0), to_at);
            at += n;
            to_at += n;
            length -= n;
        }
    }
}

void
vfs_truncate(VfsNode *node, uint64_t size)
{
    guint keep = (guint)((size + VFS_PAGE - 1) / VFS_PAGE);

    for (guint i = keep; i < node->now.pages->len; i++)
        page_unref(node->now.pages->pdata[i]);
    if (keep < node->now.pages->len)
        g_ptr_array_set_size(node->now.pages, (int)keep);
    if (size % VFS_PAGE != 0 && size < node->now.size && page_at(&node->now, size / VFS_PAGE)) {
        uint8_t bytes[VFS_PAGE] = { 0 };
        uint64_t at = size - size % VFS_PAGE;
        vfs_read(node, bytes, (size_t)(size % VFS_PAGE), at);
        vfs_write(node, bytes, VFS_PAGE, at);
    }
    node->now.size = size;
    node->dirty = true;
    touch(node, true);
}

uint64_t
vfs_allocated(const VfsNode *node)
{
    uint64_t n = 0;

    for (guint i = 0; i < node->now.pages->len; i++)
        n += node->now.pages->pdata[i] != NULL;
    return n * VFS_PAGE;
}

uint64_t
vfs_number(const VfsNode *node, uint64_t offset)
{
    const VfsPage *page = page_at(&node->now, offset / VFS_PAGE);
    uint64_t value = 0;

    if (page != NULL)
        memcpy(&value, page->bytes + offset % VFS_PAGE, 8);
    return value;
}

/* ---- what is durable ---- */

static void
copy_names(GPtrArray *to, const GPtrArray *from)
{
    names_clear(to);
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
    name_set(dir->stable, change->name, change->other_dir != NULL ? NULL : change->node);
    if (change->other_dir != NULL)
        name_set(change->other_dir->stable, change->other_name, change->node);
}

/* Renames into this directory from others become durable with it. */
static void
settle_incoming(VfsNode *dir)
{
    for (guint i = 0; i < nodes->len; i++) {
        VfsNode *other = nodes->pdata[i];
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

void
vfs_sync(VfsNode *node)
{
    if (node->is_dir) {
        settle_incoming(node);
        for (guint i = 0; i < node->changes->len; i++)
            settle(node, &g_array_index(node->changes, VfsChange, i));
        changes_clear(node->changes);
        return;
    }
    if (node->writes != NULL)
        g_array_set_size(node->writes, 0);
    if (!node->dirty)
        return;
    content_copy(&node->durable, &node->now);
    node->dirty = false;
}

static void
lose_pages(VfsNode *node)
{
    VfsContent *now = &node->now, *durable = &node->durable;
    guint n = MAX(now->pages->len, durable->pages->len);
    uint64_t size = fiber_chance(50) ? now->size : durable->size;

    for (guint i = 0; i < n; i++) {
        VfsPage *a = page_at(now, i), *b = page_at(durable, i);
        if (a != b && fiber_chance(50))
            page_put(now, i, page_ref(b));
    }
    now->size = size;
    guint keep = (guint)((size + VFS_PAGE - 1) / VFS_PAGE);
    for (guint i = keep; i < now->pages->len; i++)
        page_unref(now->pages->pdata[i]);
    if (now->pages->len > keep)
        g_ptr_array_set_size(now->pages, (int)keep);
}

static void
lose_writes(VfsNode *node)
{
    g_autoptr(GArray) writes = g_steal_pointer(&node->writes);
    int64_t mtime_ns = node->mtime_ns, ctime_ns = node->ctime_ns;

    content_copy(&node->now, &node->durable);
    for (guint i = 0; i < writes->len; i++)
        if (fiber_chance(50))
            image_write_again(node, &g_array_index(writes, QemuWrite, i));
    if (node->writes != NULL)
        g_array_set_size(node->writes, 0);
    node->mtime_ns = mtime_ns;
    node->ctime_ns = ctime_ns;
}

void
vfs_writer_died(void)
{
    for (guint i = 0; i < nodes->len; i++) {
        VfsNode *node = nodes->pdata[i];
        if (node->writes != NULL && node->writes->len > 0)
            lose_writes(node);
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
    changes_clear(dir->changes);
}

void
vfs_power_loss(void)
{
    for (guint i = 0; i < nodes->len; i++) {
        VfsNode *node = nodes->pdata[i];
        if (node->is_dir)
            lose_names(node);
        else if (node->writes != NULL && node->writes->len > 0)
            lose_writes(node);
        else if (node->dirty)
            lose_pages(node);
        if (!node->is_dir) {
            content_copy(&node->durable, &node->now);
            node->dirty = false;
            node->links = 0;
        }
        g_array_set_size(node->locks, 0);
    }
    for (guint i = 0; i < nodes->len; i++) {
        VfsNode *dir = nodes->pdata[i];
        if (!dir->is_dir)
            continue;
        copy_names(dir->names, dir->stable);
        for (guint k = 0; k < dir->names->len; k++)
            ((VfsName *)dir->names->pdata[k])->node->links++;
    }
    vfs_generation++;
}

/* ---- locks ---- */

const VfsLock *
vfs_lock_conflict(const VfsNode *node, const void *owner, int64_t start, int64_t end,
                  bool exclusive)
{
    for (guint i = 0; i < node->locks->len; i++) {
        const VfsLock *lock = &g_array_index(node->locks, VfsLock, i);
        if (lock->owner != owner && lock->start < end && start < lock->end &&
            (exclusive || lock->exclusive))
            return lock;
    }
    return NULL;
}

void
vfs_lock(VfsNode *node, unsigned process, const void *owner, int64_t start, int64_t end,
         bool exclusive)
{
    VfsLock lock = { process, owner, start, end, exclusive };

    g_array_append_val(node->locks, lock);
}

void
vfs_unlock(VfsNode *node, const void *owner, int64_t start, int64_t end)
{
    for (guint i = node->locks->len; i > 0; i--) {
        const VfsLock *lock = &g_array_index(node->locks, VfsLock, i - 1);
        if (lock->owner == owner && lock->start >= start && lock->end <= end)
            g_array_remove_index(node->locks, i - 1);
    }
}

void
vfs_unlock_all(const void *owner)
{
    for (guint i = 0; i < nodes->len; i++)
        vfs_unlock(nodes->pdata[i], owner, 0, INT64_MAX);
}

static void
list(const VfsNode *dir, const char *path, GPtrArray *all)
{
    for (guint i = 0; i < dir->names->len; i++) {
        const VfsName *name = dir->names->pdata[i];
        char *here = g_strdup_printf("%s/%s", path, name->name);
        if (name->node->is_dir) {
            list(name->node, here, all);
            g_free(here);
        } else {
            g_ptr_array_add(all, here);
        }
    }
}

char **
vfs_list(const char *path)
{
    GPtrArray *all = g_ptr_array_new();
    const VfsNode *dir = vfs_find(path);

    if (dir != NULL && dir->is_dir)
        list(dir, path, all);
    g_ptr_array_add(all, NULL);
    return (char **)g_ptr_array_free(all, FALSE);
}
