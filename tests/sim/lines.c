/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * While a snapshot is tried the VM has two lines, each with what the guest was promised on it: the
 * one that it has left, and the one that stands on the snapshot. From which of them it may start
 * depends on what its user was told; that is said by the flow (lines_allow()).
 */
#include "lines.h"

#include "base/text.h"

#include <string.h>

typedef struct {
    uint64_t acked[MAX_DISKS][MAX_CLUSTERS], pending[MAX_DISKS][MAX_CLUSTERS];
} Content;

static struct {
    bool used;
    unsigned allowed; /* bits */
    Line now;         /* that the VM runs on, or was last */
    Content left[LINES];
    char old_leaf[256]; /* of the first disk */
} lines;

void
lines_reset(void)
{
    memset(&lines, 0, sizeof lines);
    lines.allowed = 1U << LINE_OLD;
}

static void
switch_to(Line line)
{
    for (unsigned i = 0; i < vm.n_disks && line != lines.now; i++) {
        SimDisk *disk = &vm.disks[i];
        memcpy(lines.left[lines.now].acked[i], disk->acked, sizeof disk->acked);
        memcpy(lines.left[lines.now].pending[i], disk->pending, sizeof disk->pending);
        memcpy(disk->acked, lines.left[line].acked[i], sizeof disk->acked);
        memcpy(disk->pending, lines.left[line].pending[i], sizeof disk->pending);
    }
    lines.now = line;
}

/* ---- the manifest, read without a fiber's call ---- */

static json_t *
read_manifest(void)
{
    g_autofree char *path = g_strdup_printf(HOME "/.livemerge/vms/%s.json", vm.id);
    VfsNode *node = vfs_find(path);

    if (node == NULL)
        return NULL;
    g_autofree char *text = g_malloc0(node->now.size + 1);
    vfs_read(node, text, node->now.size, 0);
    g_autoptr(json_t) json = json_loads(text, 0, NULL);
    return json_incref(json_object_get(json, "vm"));
}

static const char *
leaf_of(const json_t *disk)
{
    const json_t *volumes = json_object_get(disk, "volumes");

    return json_text(json_array_get(volumes, json_array_size(volumes) - 1), "path");
}

static void
note_old_leaf(void)
{
    g_autoptr(json_t) manifest = read_manifest();
    const json_t *disks = json_object_get(manifest, "disks");

    for (size_t i = 0; i < json_array_size(disks); i++) {
        const json_t *disk = json_array_get(disks, i);
        if (g_strcmp0(json_text(disk, "target"), vm.disks[0].target) == 0 && leaf_of(disk) != NULL)
            g_strlcpy(lines.old_leaf, leaf_of(disk), sizeof lines.old_leaf);
    }
}

/* ---- two lines ---- */

void
lines_try(unsigned snapshot)
{
    if (!vm.runs)
        switch_to(LINE_OLD);
    if (lines.now == LINE_TRIED)
        return;
    if (!lines.used)
        note_old_leaf();
    lines.used = true;
    lines.allowed |= 1U << LINE_TRIED;
    memset(lines.left[LINE_TRIED].pending, 0, sizeof lines.left[0].pending);
    for (unsigned i = 0; i < vm.n_disks; i++)
        memcpy(lines.left[LINE_TRIED].acked[i], vm.disks[i].content[snapshot],
               sizeof vm.disks[i].acked);
}

void
lines_allow(unsigned bits)
{
    lines.allowed = bits;
}

Line
lines_now(void)
{
    return lines.now;
}

void
lines_take(Line line, SimDisk *disk, const uint64_t *acked)
{
    size_t i = (size_t)(disk - vm.disks);
    Content *left = &lines.left[line];

    if (line == lines.now) {
        memcpy(disk->acked, acked, sizeof disk->acked);
        memset(disk->pending, 0, sizeof disk->pending);
    } else {
        memcpy(left->acked[i], acked, sizeof left->acked[i]);
        memset(left->pending[i], 0, sizeof left->pending[i]);
    }
}

void
lines_check_left(const SimDisk *disk, const char *leaf)
{
    char broken[128];
    size_t i = (size_t)(disk - vm.disks);
    const Content *left = &lines.left[LINE_OLD];
    g_autoptr(GArray) chain = image_chain(leaf, g_str_has_suffix(leaf, ".raw"), broken);

    if (chain == NULL)
        world_wrong("disk %s: %s of the line that it has left is missing", disk->target, broken);
    for (unsigned c = 0; chain != NULL && lines.now != LINE_OLD && c < vm.clusters; c++) {
        uint64_t value = image_chain_get(chain, c);
        if (value != left->acked[i][c] &&
            (left->pending[i][c] == 0 || value != left->pending[i][c])) {
            world_wrong("disk %s: cluster %u of %s, the line that it has left, is not what it was",
                        disk->target, c, leaf);
            return;
        }
    }
}

/* ---- a start ---- */

static bool
is_on(Line line)
{
    for (unsigned i = 0; i < vm.n_disks; i++) {
        const SimDisk *disk = &vm.disks[i];
        const uint64_t *acked = line == lines.now ? disk->acked : lines.left[line].acked[i];
        const uint64_t *pending = line == lines.now ? disk->pending : lines.left[line].pending[i];
        for (unsigned c = 0; c < vm.clusters; c++) {
            uint64_t value = check_read(disk, c);
            if (value != acked[c] && (pending[c] == 0 || value != pending[c]))
                return false;
        }
    }
    return true;
}

/* Where both lines read the same, the leaf tells them apart. */
static Line
likeliest(void)
{
    const GPtrArray *graph = vm.disks[0].graph;
    bool old = false;

    if (*lines.old_leaf == '\0' || !is_on(LINE_OLD) || !is_on(LINE_TRIED))
        return lines.now;
    for (guint i = 0; i < graph->len && !old; i++) {
        const char *path = ((Node *)graph->pdata[i])->path;
        old = strcmp(path, lines.old_leaf) == 0;
        if (!stranger_is_theirs(path)) /* that stands on either */
            break;
    }
    return old ? LINE_OLD : LINE_TRIED;
}

void
lines_start(void)
{
    Line first = lines.used ? likeliest() : lines.now;

    for (unsigned i = 0; i < LINES; i++) {
        Line line = (first + i) % LINES;
        if ((lines.allowed >> line & 1) == 0 || !is_on(line))
            continue;
        if (line != lines.now)
            world_trace("the VM starts on the %s line", line == LINE_OLD ? "old" : "tried");
        switch_to(line);
        return;
    }
    /* of the only one left, check_start() says how it differs */
    if (lines.allowed == 1U << LINE_TRIED || lines.allowed == 1U << LINE_OLD)
        switch_to(lines.allowed == 1U << LINE_OLD ? LINE_OLD : LINE_TRIED);
}

bool
lines_is_tried(void)
{
    g_autoptr(json_t) manifest = read_manifest();

    return json_object_get(manifest, "preview") != NULL;
}

static bool
has_snapshot(const char *id, bool memory)
{
    g_autoptr(json_t) manifest = read_manifest();
    const json_t *list = json_object_get(manifest, "snapshots");

    for (size_t i = 0; i < json_array_size(list); i++) {
        const json_t *snapshot = json_array_get(list, i);
        if (g_strcmp0(json_text(snapshot, "id"), id) == 0)
            return !memory || json_text(snapshot, "memory") != NULL;
    }
    return false;
}

bool
lines_snapshot_is_called(const char *id, const char *name)
{
    g_autoptr(json_t) manifest = read_manifest();
    const json_t *list = json_object_get(manifest, "snapshots");

    for (size_t i = 0; i < json_array_size(list); i++) {
        const json_t *snapshot = json_array_get(list, i);
        if (g_strcmp0(json_text(snapshot, "id"), id) == 0)
            return g_strcmp0(json_text(snapshot, "name"), name) == 0;
    }
    return false;
}

bool
lines_snapshot_is_there(const char *id)
{
    g_autoptr(json_t) manifest = read_manifest();
    const json_t *list = json_object_get(manifest, "snapshots");

    for (size_t i = 0; i < json_array_size(list); i++)
        if (g_strcmp0(json_text(json_array_get(list, i), "id"), id) == 0)
            return true;
    return false;
}

bool
lines_is_quiesced(const char *name)
{
    g_autoptr(json_t) manifest = read_manifest();
    const json_t *list = json_object_get(manifest, "snapshots");

    for (size_t i = json_array_size(list); i > 0; i--) {
        const json_t *snapshot = json_array_get(list, i - 1);
        if (g_strcmp0(json_text(snapshot, "name"), name) == 0)
            return json_flag(snapshot, "quiesced");
    }
    return false;
}

bool
lines_vm_is_called(const char *name)
{
    g_autoptr(json_t) manifest = read_manifest();

    return g_strcmp0(json_text(manifest, "name"), name) == 0;
}

bool
lines_has_snapshot(const char *id)
{
    return has_snapshot(id, false);
}

bool
lines_has_memory(const char *id)
{
    return has_snapshot(id, true);
}

static bool
is_listed(const json_t *volumes, const VfsNode *node)
{
    for (size_t i = 0; i < json_array_size(volumes); i++)
        if (vfs_find(json_text(json_array_get(volumes, i), "path")) == node)
            return true;
    return false;
}

bool
lines_is_known(const char *path)
{
    g_autoptr(json_t) manifest = read_manifest();
    const json_t *disks = json_object_get(manifest, "disks");
    const VfsNode *node = vfs_find(path);

    for (size_t i = 0; node != NULL && i < json_array_size(disks); i++) {
        const json_t *disk = json_array_get(disks, i);
        if (is_listed(json_object_get(disk, "volumes"), node) ||
            is_listed(json_object_get(disk, "branches"), node))
            return true;
    }
    return false;
}

void
lines_name_gone(const char *path, const VfsNode *node)
{
    g_autoptr(json_t) manifest = lines.used ? read_manifest() : NULL;
    const json_t *disks = json_object_get(manifest, "disks");

    for (size_t i = 0; i < json_array_size(disks); i++) {
        const json_t *disk = json_array_get(disks, i);
        if (is_listed(json_object_get(disk, "volumes"), node) ||
            is_listed(json_object_get(disk, "branches"), node))
            world_wrong("%s is removed, but the manifest names it for disk %s", path,
                        json_text(disk, "target"));
    }
}

void
lines_hook_passed(void)
{
    g_autoptr(json_t) manifest = lines.used ? read_manifest() : NULL;
    const json_t *disks = json_object_get(manifest, "disks");

    for (size_t i = 0; i < json_array_size(disks); i++) {
        const json_t *disk = json_array_get(disks, i);
        const SimDisk *own = qemu_disk(json_text(disk, "target"));
        const char *leaf = leaf_of(disk);
        const char *starts = own == NULL ? leaf : own->starting;
        if (g_strcmp0(starts, leaf) != 0 && !stranger_stands_on(starts, leaf))
            world_wrong("disk %s was let start from %s, but the manifest names %s", own->target,
                        starts, leaf);
    }
}
