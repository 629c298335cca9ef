/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "world.h"

#include "storage/guard.h"

#include <string.h>

static uint64_t checked_generation;
static unsigned checked_life;

/* ---- what the guest was promised ---- */

static uint64_t
read_graph(const SimDisk *disk, unsigned cluster)
{
    uint64_t value;

    for (guint i = 0; i < disk->graph->len; i++)
        if (image_value(&((Node *)disk->graph->pdata[i])->image, cluster, &value))
            return value;
    return 0;
}

static bool
may_be(const SimDisk *disk, unsigned cluster, uint64_t value)
{
    return value == disk->acked[cluster] ||
           (disk->pending[cluster] != 0 && value == disk->pending[cluster]);
}

static void
check_graph(const SimDisk *disk, const char *when)
{
    for (unsigned c = 0; c < vm.clusters; c++) {
        uint64_t value = read_graph(disk, c);
        if (may_be(disk, c, value))
            continue;
        g_autoptr(GString) text = g_string_new(NULL);
        for (guint i = 0; i < disk->graph->len; i++)
            g_string_append_printf(text, " %s", ((Node *)disk->graph->pdata[i])->path);
        world_wrong("%s: disk %s, cluster %u reads %" G_GUINT64_FORMAT ", but %" G_GUINT64_FORMAT
                    " was acknowledged; chain:%s",
                    when, disk->target, c, value, disk->acked[c], text->str);
        return;
    }
}

void
check_guest_data(void)
{
    if (!vm.runs || (checked_generation == vfs_generation && checked_life == vm.life))
        return;
    checked_generation = vfs_generation;
    checked_life = vm.life;
    for (unsigned i = 0; i < vm.n_disks; i++)
        check_graph(&vm.disks[i], "the running VM");
}

/* What was written and not acknowledged when the VM stopped is one or the other from now on: that
 * which is read, once the guest has flushed. Until then a power loss may still take it. */
void
check_start(void)
{
    for (unsigned i = 0; i < vm.n_disks; i++) {
        SimDisk *disk = &vm.disks[i];
        check_graph(disk, "the VM starts");
        for (unsigned c = 0; c < vm.clusters; c++) {
            if (read_graph(disk, c) == disk->acked[c])
                disk->pending[c] = 0;
        }
    }
}

bool
check_pivoted(SimDisk *disk)
{
    const char *sources[] = { disk->defined, NULL };
    g_auto(GuardManifest) manifest = { 0 };
    const char *leaf = ((Node *)disk->graph->pdata[0])->path;
    const Disk *known = guard_load(vm.id, sources, &manifest, NULL) && manifest.vm != NULL
                            ? vm_disk(manifest.vm, disk->target)
                            : NULL;

    disk->pivoted = false;
    if (known != NULL && disk_leaf(known) != NULL && strcmp(disk_leaf(known)->path, leaf) == 0)
        return true;
    world_wrong("the guest writes to %s, which a pivot gave to disk %s, but the manifest names %s",
                leaf, disk->target,
                known != NULL && disk_leaf(known) != NULL ? disk_leaf(known)->path : "nothing");
    return false;
}

/* ---- promises ---- */

static GHashTable *promises, *ended; /* ids of operations */

void
check_reset(void)
{
    if (promises == NULL)
        promises = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, NULL);
    if (ended == NULL)
        ended = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, NULL);
    g_hash_table_remove_all(promises);
    g_hash_table_remove_all(ended);
    checked_generation = 0;
}

void
check_note_promise(const char *id)
{
    g_hash_table_add(promises, g_strdup(id));
}

void
check_note_end(const char *id)
{
    g_hash_table_add(ended, g_strdup(id));
}

bool
check_has_ended(const char *id)
{
    return g_hash_table_contains(ended, id);
}

void
check_promise(const char *id)
{
    if (g_hash_table_contains(promises, id))
        world_wrong("operation %s was begun, though the agent had said that it never would be", id);
}

/* ---- files ---- */

static bool
chain_names(const char *leaf, const VfsNode *node)
{
    char broken[128];
    g_autoptr(GArray) chain = image_chain(leaf, g_str_has_suffix(leaf, ".raw"), broken);

    for (guint i = 0; chain != NULL && i < chain->len; i++)
        if (g_array_index(chain, Image, i).node == node)
            return true;
    return false;
}

void
check_name_gone(const char *path, VfsNode *node, const char *to)
{
    Image image;

    if (!image_at(node, path, g_str_has_suffix(path, ".raw"), &image) ||
        strstr(path, "/.livemerge/") != NULL)
        return;
    world_trace("%s goes%s%s", path, to != NULL ? " to " : "", to != NULL ? to : "");
    for (unsigned i = 0; i < vm.n_disks; i++) {
        SimDisk *disk = &vm.disks[i];
        for (guint k = 0; vm.runs && k < disk->graph->len; k++)
            if (((Node *)disk->graph->pdata[k])->image.node == node)
                world_wrong("%s is removed, but the running VM has it open (disk %s)", path,
                            disk->target);
        if (vm.runs && disk->job.type != HV_JOB_NONE && disk->job.state != JOB_CONCLUDED &&
            vfs_find(disk->job.base) == node)
            world_wrong("%s is removed, but a job writes into it (disk %s)", path, disk->target);
        if (chain_names(disk->defined, node))
            world_wrong("%s is removed, but the stored chain of disk %s names it (from %s)", path,
                        disk->target, disk->defined);
    }
}

/* ---- the end ---- */

static const Vm *
load_manifest(GuardManifest *manifest)
{
    const char *sources[] = { vm.disks[0].defined, NULL };
    g_autoptr(GError) error = NULL;

    if (!guard_load(vm.id, sources, manifest, &error))
        world_wrong("the manifest cannot be read: %s", error->message);
    else if (manifest->vm == NULL)
        world_wrong("there is no manifest");
    return manifest->vm;
}

static void
check_disk_end(const Vm *stored, SimDisk *disk, GHashTable *wanted)
{
    const Disk *known = vm_disk(stored, disk->target);

    for (guint i = 0; i < disk->graph->len; i++)
        g_hash_table_add(wanted, g_strdup(((Node *)disk->graph->pdata[i])->path));
    if (known == NULL) {
        world_wrong("the manifest does not know disk %s", disk->target);
        return;
    }
    bool same = known->volumes->len == disk->graph->len;
    for (guint i = 0; same && i < disk->graph->len; i++)
        same = strcmp(((Volume *)known->volumes->pdata[known->volumes->len - 1 - i])->path,
                      ((Node *)disk->graph->pdata[i])->path) == 0;
    if (!same)
        world_wrong("disk %s: the manifest's chain (%u, leaf %s) is not the VM's (%u, leaf %s)",
                    disk->target, known->volumes->len, disk_leaf(known)->path, disk->graph->len,
                    ((Node *)disk->graph->pdata[0])->path);
    if (strcmp(disk->defined, ((Node *)disk->graph->pdata[0])->path) != 0 ||
        disk->defined_backing != NULL)
        world_wrong("disk %s: the definition names %s%s, the VM runs on %s", disk->target,
                    disk->defined, disk->defined_backing != NULL ? " and a <backingStore>" : "",
                    ((Node *)disk->graph->pdata[0])->path);
    if (disk->job.type != HV_JOB_NONE)
        world_wrong("disk %s: a block job is left over", disk->target);
}

/* What is known to stay behind now and then; see --strict. */
static bool
is_known_debris(const char *path)
{
    return !plan.strict && (strstr(path, "/.livemerge-build-") != NULL ||
                            strstr(path, "/.livemerge/probe.") != NULL);
}

static void
check_debris(GHashTable *wanted)
{
    g_auto(GStrv) files = vfs_list(HOME);

    for (char **file = files; *file != NULL; file++) {
        if (is_known_debris(*file))
            continue;
        if (strstr(*file, "/.livemerge/") != NULL) {
            if (strstr(*file, "/vms/") == NULL && !g_str_has_suffix(*file, "/domain.json") &&
                !g_str_has_suffix(*file, "/rates.json") && strstr(*file, "/lease.") == NULL &&
                !g_str_has_suffix(*file, ".livemerge-tmp")) /* swept later */
                world_wrong("left over: %s", *file);
        } else if (!g_hash_table_contains(wanted, *file)) {
            world_wrong("left over: %s", *file);
        }
    }
}

void
check_end(void)
{
    g_auto(GuardManifest) manifest = { 0 };
    g_autoptr(GHashTable) wanted = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, NULL);
    const Vm *stored = load_manifest(&manifest);

    if (!vm.runs || stored == NULL)
        return;
    if (vm.paused != vm.user_paused)
        world_wrong("the VM is %s at the end", vm.paused ? "suspended" : "not suspended any more");
    for (unsigned i = 0; i < vm.n_disks; i++)
        check_disk_end(stored, &vm.disks[i], wanted);
    if (storage_was_unwell() && !plan.strict)
        return; /* what could not be tidied up then is the doctor's */
    for (guint i = 0; i < stored->operations->len; i++)
        world_wrong("the manifest still records operation %s (%s)",
                    ((OperationRecord *)stored->operations->pdata[i])->id,
                    ((OperationRecord *)stored->operations->pdata[i])->kind);
    check_debris(wanted);
}
