/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "lines.h"

#include "storage/guard.h"

#include <string.h>

#define MOST_VOLUMES 16

/* All that a running VM's disk is judged by: as long as it is the same, so is the judgement. */
typedef struct {
    unsigned life, n;
    uint64_t changed; /* when the content of any volume last did */
    const VfsNode *volumes[MOST_VOLUMES];
    uint64_t acked[MAX_CLUSTERS], pending[MAX_CLUSTERS];
} Seen;
static Seen seen[MAX_DISKS];
static uint64_t checked_generation;
static unsigned checked_life;

/* ---- what the guest was promised ---- */

uint64_t
check_read(const SimDisk *disk, unsigned cluster)
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

static uint64_t
read_by(const SimDisk *disk, const uint64_t *tables, unsigned cluster)
{
    uint64_t value;

    for (guint i = 0; i < disk->graph->len; i++)
        if (image_value_by(&((Node *)disk->graph->pdata[i])->image, tables[i], cluster, &value))
            return value;
    return 0;
}

static void
check_graph(const SimDisk *disk, const char *when)
{
    uint64_t tables[MOST_VOLUMES];

    g_assert(disk->graph->len <= MOST_VOLUMES);
    for (guint i = 0; i < disk->graph->len; i++)
        tables[i] = image_table(&((Node *)disk->graph->pdata[i])->image);
    for (unsigned c = 0; c < vm.clusters; c++) {
        uint64_t value = read_by(disk, tables, c);
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

static uint64_t
changed_of(const SimDisk *disk)
{
    uint64_t changed = 0;

    for (guint i = 0; i < disk->graph->len; i++)
        changed = MAX(changed, ((Node *)disk->graph->pdata[i])->image.node->changed);
    return changed;
}

static bool
is_as_seen(const SimDisk *disk, const Seen *before)
{
    if (before->life != vm.life || before->n != disk->graph->len ||
        before->changed != changed_of(disk))
        return false;
    for (guint i = 0; i < before->n; i++)
        if (before->volumes[i] != ((Node *)disk->graph->pdata[i])->image.node)
            return false;
    return memcmp(before->acked, disk->acked, sizeof before->acked) == 0 &&
           memcmp(before->pending, disk->pending, sizeof before->pending) == 0;
}

static void
look_at(const SimDisk *disk, Seen *now)
{
    now->life = vm.life;
    now->n = disk->graph->len;
    now->changed = changed_of(disk);
    g_assert(now->n <= MOST_VOLUMES);
    for (guint i = 0; i < now->n; i++)
        now->volumes[i] = ((Node *)disk->graph->pdata[i])->image.node;
    memcpy(now->acked, disk->acked, sizeof now->acked);
    memcpy(now->pending, disk->pending, sizeof now->pending);
}

void
check_guest_data(void)
{
    if (!vm.runs || (checked_generation == vfs_generation && checked_life == vm.life))
        return;
    checked_generation = vfs_generation;
    checked_life = vm.life;
    for (unsigned i = 0; i < vm.n_disks; i++) {
        if (is_as_seen(&vm.disks[i], &seen[i]))
            continue;
        check_graph(&vm.disks[i], "the running VM");
        look_at(&vm.disks[i], &seen[i]);
    }
}

/* What was written and not acknowledged when the VM stopped is one or the other from now on: that
 * which is read, once the guest has flushed. Until then a power loss may still take it. */
void
check_start(void)
{
    stranger_start();
    lines_start();
    for (unsigned i = 0; i < vm.n_disks; i++) {
        SimDisk *disk = &vm.disks[i];
        check_graph(disk, "the VM starts");
        for (unsigned c = 0; c < vm.clusters; c++) {
            if (check_read(disk, c) == disk->acked[c])
                disk->pending[c] = 0;
        }
    }
}

bool
check_pivoted(SimDisk *disk)
{
    const char *sources[] = { disk->defined, NULL };
    g_auto(GuardManifest) manifest = { 0 };
    guint at = 0;
    while (at + 1 < disk->graph->len && stranger_is_theirs(((Node *)disk->graph->pdata[at])->path))
        at++;
    const char *leaf = ((Node *)disk->graph->pdata[at])->path;
    const Disk *known = guard_load(vm.id, sources, &manifest, NULL) && manifest.vm != NULL
                            ? vm_disk(manifest.vm, disk->target)
                            : NULL;

    disk->pivoted = false;
    if (known != NULL && disk_leaf(known) != NULL && stranger_is_theirs(disk_leaf(known)->path))
        return true; /* adopted since */
    if (known != NULL && disk_leaf(known) != NULL && strcmp(disk_leaf(known)->path, leaf) == 0)
        return true;
    world_wrong("the guest writes to %s, which a pivot gave to disk %s, but the manifest names %s",
                leaf, disk->target,
                known != NULL && disk_leaf(known) != NULL ? disk_leaf(known)->path : "nothing");
    return false;
}

/* ---- promises ---- */

static GHashTable *promises, *ended; /* ids of operations */
static unsigned powered_off; /* vm.life of whom the present stop has powered off; 0 = none */

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
    memset(seen, 0, sizeof seen);
    powered_off = 0;
}

void
check_stop_begins(void)
{
    powered_off = 0;
}

void
check_note_off(void)
{
    if (powered_off != 0 && powered_off != vm.life)
        world_wrong("one operation has powered the VM off twice: it was started in between");
    powered_off = vm.life;
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
    lines_name_gone(path, node);
    for (unsigned i = 0; i < vm.n_disks; i++) {
        SimDisk *disk = &vm.disks[i];
        for (guint k = 0; vm.runs && k < disk->graph->len; k++)
            if (((Node *)disk->graph->pdata[k])->image.node == node)
                world_wrong("%s is removed, but the running VM has it open (disk %s)", path,
                            disk->target);
        if (vm.runs && disk->job.type != HV_JOB_NONE && disk->job.state != JOB_CONCLUDED &&
            vfs_find(disk->job.base) == node)
            world_wrong("%s is removed, but a job writes into it (disk %s)", path, disk->target);
        if (vm.there && chain_names(disk->defined, node))
            world_wrong("%s is removed, but the stored chain of disk %s names it (from %s)", path,
                        disk->target, disk->defined);
    }
    for (unsigned i = 0; second.there && i < second.n_disks; i++)
        if (chain_names(second.sources[i], node))
            world_wrong("%s is removed, but VM '%s' stands on it (%s)", path, second.name,
                        second.sources[i]);
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
    /* a volume of somebody else is not there before it was adopted */
    bool theirs = world_was_hit_by(FAULT_STRANGER);
    bool same = known->volumes->len == disk->graph->len;
    for (guint i = 0; same && i < disk->graph->len; i++)
        same = strcmp(((Volume *)known->volumes->pdata[known->volumes->len - 1 - i])->path,
                      ((Node *)disk->graph->pdata[i])->path) == 0;
    if (!same && !theirs)
        world_wrong("disk %s: the manifest's chain (%u, leaf %s) is not the VM's (%u, leaf %s)",
                    disk->target, known->volumes->len, disk_leaf(known)->path, disk->graph->len,
                    ((Node *)disk->graph->pdata[0])->path);
    /* what the host's power took back is put right when the VM is off; saved memory does not ask it
     */
    bool lost = vm.restored && (plan.lies & LIE_DEFINITION) != 0;
    if (theirs)
        g_clear_pointer(&disk->defined_backing, g_ptr_array_unref); /* libvirt's, of its end */
    if (!lost && (strcmp(disk->defined, ((Node *)disk->graph->pdata[0])->path) != 0 ||
                  disk->defined_backing != NULL))
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
check_lock(const char *path)
{
    const VfsNode *node = vfs_find(path);

    if (node->locks != NULL && node->locks->len > 0)
        world_wrong("%s is still held", path);
}

static void
check_debris(GHashTable *wanted)
{
    g_auto(GStrv) files = vfs_list(HOME);

    for (char **file = files; *file != NULL; file++) {
        if (strstr(*file, "/vms/") != NULL && g_str_has_suffix(*file, ".lock"))
            check_lock(*file);
        if (is_known_debris(*file) || flow_is_kept(*file) || stranger_is_left(*file))
            continue;
        if (strstr(*file, "/.livemerge/") != NULL) {
            /* who unlinks a lock lets two hold it */
            bool of_vm =
                strstr(*file, "/vms/") != NULL &&
                (vm.there || strstr(*file, vm.id) == NULL || g_str_has_suffix(*file, ".lock"));
            if (!of_vm && !g_str_has_suffix(*file, "/domain.json") &&
                !g_str_has_suffix(*file, "/rates.json") && strstr(*file, "/lease.") == NULL &&
                !g_str_has_suffix(*file, ".livemerge-tmp")) /* swept later */
                world_wrong("left over: %s", *file);
        } else if (!g_hash_table_contains(wanted, *file)) {
            world_wrong("left over: %s", *file);
        }
    }
}

/* Of those that the set-up has made: what they were then, they are. */
static void
check_snapshot(const Vm *stored, const Snapshot *snapshot)
{
    unsigned number = (unsigned)g_ascii_strtoull(snapshot->id, NULL, 16);
    char broken[128];

    for (guint i = 0; i < snapshot->disks->len; i++) {
        const SnapshotDisk *part = snapshot->disks->pdata[i];
        const Disk *known = vm_disk(stored, part->disk_id);
        const Volume *volume = known != NULL ? disk_any_volume(known, part->volume_id) : NULL;
        const SimDisk *disk = known != NULL ? qemu_disk(known->target) : NULL;
        if (part->unusable || volume == NULL || disk == NULL)
            continue;
        g_autoptr(GArray) chain =
            image_chain(volume->path, g_str_has_suffix(volume->path, ".raw"), broken);
        for (unsigned c = 0; chain != NULL && c < vm.clusters; c++)
            if (image_chain_get(chain, c) != disk->content[number - 1][c]) {
                world_wrong("snapshot %s, disk %s: cluster %u of %s is not what it was",
                            snapshot->name, disk->target, c, volume->path);
                return;
            }
        if (chain == NULL)
            world_wrong("snapshot %s, disk %s: %s is missing", snapshot->name, disk->target,
                        broken);
    }
}

/* What somebody else has put on a preview is not thrown away: it lasts, and the line that the VM
 * has left is what it was. */
static void
check_preview(const Vm *stored, GHashTable *wanted)
{
    for (guint i = 0; stored->preview != NULL && i < stored->preview->disks->len; i++) {
        const PreviewDisk *part = stored->preview->disks->pdata[i];
        const Disk *known = vm_disk(stored, part->disk_id);
        const Volume *leaf = known != NULL ? disk_any_volume(known, part->old_leaf) : NULL;
        for (guint k = 0; known != NULL && k < known->branches->len; k++)
            g_hash_table_add(wanted, g_strdup(((Volume *)known->branches->pdata[k])->path));
        if (leaf == NULL)
            world_wrong("of the line that a preview has left a leaf is not known");
        else
            lines_check_left(qemu_disk(known->target), leaf->path);
    }
}

static void
check_snapshots(const Vm *stored, GHashTable *wanted)
{
    for (guint i = 0; i < stored->snapshots->len; i++) {
        const Snapshot *snapshot = stored->snapshots->pdata[i];
        if (snapshot->memory != NULL)
            g_hash_table_add(wanted, g_strdup(snapshot->memory));
        if (snapshot->memory != NULL && !libvirt_memory_is_whole(snapshot->memory))
            world_wrong("snapshot %s: its memory %s is damaged, or missing", snapshot->name,
                        snapshot->memory);
        if (g_str_has_suffix(snapshot->id, "-0000-4000-9000-000000000000"))
            check_snapshot(stored, snapshot);
    }
}

void
check_end(void)
{
    g_auto(GuardManifest) manifest = { 0 };
    g_autoptr(GHashTable) wanted = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, NULL);
    const Vm *stored = NULL;

    check_other(wanted);
    if (!vm.there) {
        check_debris(wanted);
        return;
    }
    stored = load_manifest(&manifest);
    if (!vm.runs || stored == NULL)
        return;
    if (vm.paused != vm.user_paused)
        world_wrong("the VM is %s at the end", vm.paused ? "suspended" : "not suspended any more");
    if (vm.frozen)
        world_wrong("the guest's file systems are frozen at the end");
    for (unsigned i = 0; i < vm.n_disks; i++)
        check_disk_end(stored, &vm.disks[i], wanted);
    check_snapshots(stored, wanted);
    if (world_was_hit_by(FAULT_STRANGER))
        check_preview(stored, wanted);
    if (strcmp(stored->name, vm.texts.name) != 0)
        world_wrong("the manifest calls the VM '%s', libvirt '%s'", stored->name, vm.texts.name);
    if (storage_was_unwell() && !plan.strict)
        return; /* what could not be tidied up then is the doctor's */
    for (guint i = 0; i < stored->operations->len; i++)
        world_wrong("the manifest still records operation %s (%s)",
                    ((OperationRecord *)stored->operations->pdata[i])->id,
                    ((OperationRecord *)stored->operations->pdata[i])->kind);
    check_debris(wanted);
}
