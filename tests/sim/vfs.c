/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "vfs_parts.h"

#include "fiber.h"

#include <string.h>

void (*vfs_on_name_gone)(const char *path, VfsNode *node, const char *to);
uint64_t vfs_generation;
bool vfs_can_share;
uint64_t vfs_room;
bool vfs_removals_last;

static VfsNode *root; /* /sim */
GPtrArray *vfs_nodes;

/* Paths that were looked up since a name in their directory, or of any directory, last changed */
static struct {
    uint64_t when;      /* at so many changes of directories' names; 0 = never */
    const VfsNode *dir; /* NULL = it is not there */
    uint64_t dir_when;
    VfsNode *node;
    char path[104];
} recent[64];
static uint64_t dir_changes = 1;

/* ---- nodes ---- */

VfsNode *
vfs_node_new(bool is_dir)
{
    VfsNode *node = g_new0(VfsNode, 1);

    node->number = vfs_nodes->len + 10;
    node->is_dir = is_dir;
    node->mode = is_dir ? S_IFDIR | 0700 : S_IFREG | 0600;
    node->mtime_ns = node->ctime_ns = node->durable_mtime_ns = fiber_wall_us() * 1000;
    vfs_content_init(&node->now);
    vfs_content_init(&node->durable);
    node->locks = g_array_new(FALSE, FALSE, sizeof(VfsLock));
    if (is_dir) {
        node->links = 1;
        node->names = g_ptr_array_new();
        node->stable = g_ptr_array_new();
        node->changes = g_array_new(FALSE, FALSE, sizeof(VfsChange));
    }
    g_ptr_array_add(vfs_nodes, node);
    return node;
}

void
vfs_names_clear(GPtrArray *names)
{
    dir_changes++;
    for (guint i = 0; i < names->len; i++) {
        VfsName *name = names->pdata[i];
        g_free(name->name);
        g_free(name);
    }
    g_ptr_array_set_size(names, 0);
}

void
vfs_changes_clear(GArray *changes)
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
        vfs_page_unref(node->now.pages->pdata[i]);
    for (guint i = 0; i < node->durable.pages->len; i++)
        vfs_page_unref(node->durable.pages->pdata[i]);
    g_ptr_array_unref(node->now.pages);
    g_ptr_array_unref(node->durable.pages);
    g_array_unref(node->locks);
    if (node->writes != NULL)
        g_array_unref(node->writes);
    if (node->is_dir) {
        vfs_names_clear(node->names);
        vfs_names_clear(node->stable);
        vfs_changes_clear(node->changes);
        g_ptr_array_unref(node->names);
        g_ptr_array_unref(node->stable);
        g_array_unref(node->changes);
    }
    g_free(node);
}

void
vfs_reset(void)
{
    if (vfs_nodes == NULL)
        vfs_nodes = g_ptr_array_new();
    for (unsigned process = 0; process < FIBER_PROCESSES; process++)
        vfs_process_died(process);
    for (guint i = 0; i < vfs_nodes->len; i++)
        node_free(vfs_nodes->pdata[i]);
    g_ptr_array_set_size(vfs_nodes, 0);
    root = vfs_node_new(true);
    vfs_generation = 1;
    vfs_can_share = false;
    vfs_removals_last = true;
    vfs_room = UINT64_C(100) << 30;
}

/* ---- names ---- */

/* The name has n bytes. */
static int
name_index(const GPtrArray *names, const char *name, size_t n, bool *ret_found)
{
    int low = 0, high = (int)names->len;

    while (low < high) {
        int mid = (low + high) / 2;
        const char *there = ((VfsName *)names->pdata[mid])->name;
        int c = strncmp(there, name, n);
        c = c == 0 ? (unsigned char)there[n] : c;
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
name_get(const GPtrArray *names, const char *name, size_t n)
{
    bool found;
    int at = name_index(names, name, n, &found);

    return found ? ((VfsName *)names->pdata[at])->node : NULL;
}

/* node NULL: removes it */
void
vfs_name_set(GPtrArray *names, const char *name, VfsNode *node)
{
    bool found;
    int at = name_index(names, name, strlen(name), &found);

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

/* *ret_dir: where its name was looked for last */
static VfsNode *
look_up(const char *path, const VfsNode **ret_dir)
{
    VfsNode *node = root;

    *ret_dir = NULL;
    if (strncmp(path, "/sim", 4) != 0 || (path[4] != '/' && path[4] != '\0'))
        return NULL;
    for (path += 4; node != NULL && *path != '\0';) {
        while (*path == '/')
            path++;
        size_t n = (size_t)(strchrnul(path, '/') - path);
        if (n == 0)
            break;
        if (!node->is_dir)
            return NULL;
        const char *part = path;
        path += n;
        if (n == 1 && *part == '.')
            continue;
        *ret_dir = node;
        node = name_get(node->names, part, n);
    }
    return node;
}

VfsNode *
vfs_find(const char *path)
{
    size_t length = strlen(path);
    uint64_t hash = length;
    const VfsNode *dir;

    if (length >= sizeof recent[0].path)
        return look_up(path, &dir);
    for (size_t at = 0; at + 8 <= length; at += 8) {
        uint64_t word;
        memcpy(&word, path + length - 8 - at, sizeof word);
        hash = (hash ^ word) * UINT64_C(0xBF58476D1CE4E5B9);
    }
    unsigned slot = (unsigned)(hash >> 58);
    dir = recent[slot].dir;
    if (recent[slot].when != dir_changes ||
        (dir != NULL && recent[slot].dir_when != dir->names_changed) ||
        memcmp(recent[slot].path, path, length + 1) != 0) {
        recent[slot].node = look_up(path, &dir);
        recent[slot].when = dir_changes;
        recent[slot].dir = dir;
        recent[slot].dir_when = dir != NULL ? dir->names_changed : 0;
        memcpy(recent[slot].path, path, length + 1);
    }
    return recent[slot].node;
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

void
vfs_touch(VfsNode *node, bool content)
{
    /* times differ for each change, as on a real file system they mostly do */
    node->ctime_ns = MAX(node->ctime_ns + 1, fiber_wall_us() * 1000);
    vfs_generation++;
    if (!content)
        return;
    node->mtime_ns = node->ctime_ns;
    node->changed = vfs_generation;
}

static void
note_change(VfsNode *dir, const char *name, VfsNode *node, VfsNode *other, const char *other_name)
{
    VfsChange change = { g_strdup(name), node, other, g_strdup(other_name) };

    g_array_append_val(dir->changes, change);
    vfs_touch(dir, true);
}

/* In this directory, of this node */
static void
names_changed(VfsNode *dir, const VfsNode *node)
{
    dir->names_changed++;
    dir_changes += node->is_dir;
}

void
vfs_link(VfsNode *dir, const char *name, VfsNode *node)
{
    names_changed(dir, node);
    vfs_name_set(dir->names, name, node);
    node->links++;
    vfs_touch(node, false);
    note_change(dir, name, node, NULL, NULL);
}

void
vfs_unlink(VfsNode *dir, const char *name)
{
    VfsNode *node = name_get(dir->names, name, strlen(name));

    if (node == NULL)
        return;
    names_changed(dir, node);
    vfs_name_set(dir->names, name, NULL);
    node->links--;
    vfs_touch(node, false);
    note_change(dir, name, NULL, NULL, NULL);
}

void
vfs_rename(VfsNode *dir, const char *name, VfsNode *to_dir, const char *to_name)
{
    VfsNode *node = name_get(dir->names, name, strlen(name)),
            *over = name_get(to_dir->names, to_name, strlen(to_name));

    if (over == node)
        return;
    if (over != NULL)
        over->links--;
    names_changed(dir, node);
    names_changed(to_dir, node);
    vfs_name_set(dir->names, name, NULL);
    vfs_name_set(to_dir->names, to_name, node);
    vfs_touch(node, false);
    note_change(dir, name, NULL, to_dir, to_name);
    g_array_index(dir->changes, VfsChange, dir->changes->len - 1).node = node;
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
    for (guint i = 0; i < vfs_nodes->len; i++)
        vfs_unlock(vfs_nodes->pdata[i], owner, 0, INT64_MAX);
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
