/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * graft and copy: merging into new volumes. Nothing that exists is changed before the switch. graft
 * shares the blocks of the old volumes, so it moves no data; copy does the same by copying.
 *
 * The disk's volumes from the lowest that is merged up to the leaf fall into groups that become one
 * new volume each. They are built next to the old ones (build.c), from whatever nothing writes. If
 * the leaf of a VM that runs is not among that, a shallow block copy onto the topmost new volume
 * brings what it holds; if the VM stopped since, a job in a storage daemon. Then the VM changes to
 * the topmost new volume, by the safe pivot, or if it is off by its definition; and the old volumes
 * go.
 *
 * graft: a leaf that holds much is first made immutable by a temporary overlay T (seal.c), so that
 * its blocks can be shared too; then the job only moves what T holds. A leaf that holds little is
 * simply copied, and so is any leaf by copy: it costs the same.
 *
 *   v0 ← v1 ← v2(leaf)   seal   v0 ← v1 ← v2 ← T    build  w = v0+v1+v2   switch   w + what T holds
 *
 * Any crash before the switch: the new files go, the old chain is whole. After it: the reverse.
 *
 * A job that was given up half-way leaves a part of the leaf in the topmost new volume. That does
 * no harm: the next job writes all of the leaf again, and what a leaf holds it holds for ever.
 */
#include "agent/merge.h"

#include "agent/built.h"
#include "base/text.h"
#include "qcow2/build.h"

#include <errno.h>
#include <glib/gstdio.h>

/* A leaf with less than this is copied: that costs less than another snapshot. */
#define SMALL_LEAF (4 * 1024 * 1024)

static json_t *
groups_of(const Operation *op)
{
    return json_object_get(op->row.data, "groups");
}

static json_t *
top_group(const json_t *groups)
{
    return json_array_get(groups, json_array_size(groups) - 1);
}

static const Volume *
volume_at(const Disk *disk, guint i)
{
    return disk->volumes->pdata[i];
}

static bool
list_has(const json_t *list, const char *text)
{
    size_t i;
    json_t *item;

    json_array_foreach (list, i, item)
        if (g_strcmp0(json_string_value(item), text) == 0)
            return true;
    return false;
}

/* ---- the plan ---- */

static json_t *
volume_entry(const char *path, const char *format)
{
    return json_pack("{s:s, s:s}", "path", path, "format", format);
}

/* Volumes [first..last] of the disk become one. */
static json_t *
make_group(const Disk *disk, guint first, guint last, bool without_leaf)
{
    json_t *volumes = json_array();
    g_autofree char *id = id_new();
    g_autofree char *dest =
        new_file_name(volume_at(disk, disk->volumes->len - 1)->path, id, "qcow2");

    for (guint i = first; i <= last; i++)
        if (!without_leaf || i + 1 < disk->volumes->len)
            json_array_append_new(
                volumes, volume_entry(volume_at(disk, i)->path, volume_at(disk, i)->format));
    return json_pack("{s:o, s:s, s:s, s:s}", "volumes", volumes, "top", volume_at(disk, last)->id,
                     "dest", dest, "dest_id", id);
}

/* Sharing the blocks of a large leaf is worth a snapshot; copying them is not: the job does that.
 */
static bool
wants_seal(const Operation *op, const char *leaf)
{
    json_t *before = json_object_get(op->row.data, "before");

    return merge_is(op, "graft") && !merge_is_cold(op) && volume_allocated(leaf) > SMALL_LEAF &&
           json_array_size(before) < QCOW2_MAX_DEPTH;
}

static void
plan_seal(Operation *op, const char *leaf)
{
    g_autofree char *id = id_new();
    g_autofree char *path = new_file_name(leaf, id, "qcow2");

    op_remember(op, "seal", json_string(path));
    op_remember(op, "seal_id", json_string(id));
}

/* Absent: every boundary of the run goes. */
static bool
boundary_goes(const Operation *op, const char *volume_id)
{
    json_t *remove = json_object_get(op->row.params, "remove");

    return remove == NULL || list_has(remove, volume_id);
}

void
graft_plan(Operation *op, const Disk *disk, int base)
{
    guint n = disk->volumes->len, first = (guint)base;
    const Volume *leaf = disk_leaf(disk);
    bool seal = wants_seal(op, leaf->path), without_leaf = !seal && !merge_is_cold(op);
    json_t *groups = json_array(), *after = json_array();

    for (guint i = 0; i < first; i++)
        json_array_append_new(after, json_string(volume_at(disk, i)->path));
    for (guint i = first; i < n; i++) {
        if (i + 1 < n && boundary_goes(op, volume_at(disk, i)->id))
            continue; /* joined with the one above */
        json_t *group = make_group(disk, first, i, without_leaf);
        json_array_append_new(groups, group);
        json_array_append_new(after, json_string(json_text(group, "dest")));
        first = i + 1;
    }
    op_remember(op, "dest", json_string(json_text(top_group(groups), "dest")));
    op_remember(op, "dest_id", json_string(json_text(top_group(groups), "dest_id")));
    op_remember(op, "groups", groups);
    op_remember(op, "after", after);
    op_remember(op, "base_format", json_string("qcow2"));
    if (seal)
        plan_seal(op, leaf->path);
}

bool
graft_is_possible(Operation *op, const HvDomain *hv, const Disk *disk, int base, GError **error)
{
    guint n = disk->volumes->len - (guint)base;
    bool share = g_str_equal(op_text(op, "strategy"), "graft");
    g_autofree Qcow2Source *sources = g_new0(Qcow2Source, n);
    const HvDisk *now = hv_domain_disk(hv, disk->target);
    Domain *domain = agent_domain(op->agent, disk_leaf(disk)->path, false, error);
    g_autoptr(GError) problem = NULL;
    g_autofree char *refusal = NULL;

    if (domain == NULL)
        return false;
    if (share && !domain_can_share(domain))
        return error_set(
            error, ERR_REFUSED,
            "disk %s: the file system of %s cannot share blocks between files, which graft "
            "needs; nothing was changed, ask for auto",
            disk->target, domain->path);
    if (hv->instance != NULL && now != NULL && now->copies_on_read)
        return error_set(error, ERR_REFUSED,
                         "disk %s has copy_on_read, with which QEMU would keep the old volumes "
                         "open; nothing was changed, ask for auto",
                         disk->target);
    for (guint i = 0; i < n; i++) {
        sources[i].path = volume_at(disk, (guint)base + i)->path;
        sources[i].format = volume_at(disk, (guint)base + i)->format;
    }
    /* a leaf in use is never marked clean while it is: it is looked at when it is sealed */
    refusal = qcow2_build_refusal(sources, hv->instance != NULL ? n - 1 : n, 0, &problem);
    if (refusal != NULL)
        return error_set(error, ERR_REFUSED, "disk %s: %s; nothing was changed, ask for auto",
                         disk->target, refusal);
    if (problem == NULL)
        return true;
    g_propagate_error(error, g_steal_pointer(&problem));
    return false;
}

/* ---- the VM stopped, or runs again ---- */

bool
graft_leaf_is_built(const Operation *op)
{
    json_t *volumes = json_object_get(top_group(groups_of(op)), "volumes");
    const char *last = json_text(json_array_get(volumes, json_array_size(volumes) - 1), "path");

    return g_strcmp0(last, merge_old_leaf(op)) == 0;
}

void
graft_forget_top(Operation *op)
{
    json_t *groups = json_deep_copy(groups_of(op));

    json_object_del(top_group(groups), "built");
    op_remember(op, "groups", groups);
    op_remember(op, "prefilled", NULL);
    op_remember(op, "checked", NULL); /* else not: by then a job may have written into it */
}

/* It was to be read while nothing writes it, and now the VM does. */
static void
take_leaf_out(Operation *op)
{
    json_t *groups = json_deep_copy(groups_of(op));
    json_t *volumes = json_object_get(top_group(groups), "volumes");

    json_array_remove(volumes, json_array_size(volumes) - 1);
    op_remember(op, "groups", groups);
}

/* Volumes that are immutable in either life stay as they are built. */
void
graft_turn(Operation *op)
{
    bool seal_to_come = merge_flag(op, "seal") && !merge_flag(op, "sealed");

    if (!merge_is_cold(op) && graft_leaf_is_built(op) && !seal_to_come) {
        if (wants_seal(op, merge_old_leaf(op)))
            plan_seal(op, merge_old_leaf(op));
        else
            take_leaf_out(op);
        graft_forget_top(op);
    } else if (merge_is(op, "graft") && merge_flag(op, "started")) {
        graft_forget_top(op); /* costs nothing, and has no clusters that a killed QEMU leaked */
    }
}

/* ---- what was built ---- */

bool
graft_remove_built(Operation *op, GError **error)
{
    json_t *group;
    size_t i;

    build_stop(op);
    json_array_foreach (groups_of(op), i, group) {
        const char *dest = json_text(group, "dest");
        if (volume_is_open(dest))
            return error_set(error, ERR_BUSY, "%s is open in a QEMU; it is not removed", dest);
        g_autofree char *unfinished = qcow2_build_name(dest);
        if (!volume_unlink((const char *const[]){ dest, unfinished, NULL }, error))
            return false;
    }
    return true;
}

bool
graft_is_in(const Operation *op, char **chain)
{
    json_t *group;
    size_t i;

    json_array_foreach (groups_of(op), i, group)
        if (g_strv_contains((const char *const *)chain, json_text(group, "dest")))
            return true;
    return false;
}

bool
graft_has_built(const Operation *op)
{
    return any_is_built(groups_of(op));
}

/* ---- the manifest ---- */

static const json_t *
group_with_top(const Operation *op, const char *volume_id)
{
    json_t *group;
    size_t i;

    json_array_foreach (groups_of(op), i, group)
        if (g_strcmp0(json_text(group, "top"), volume_id) == 0)
            return group;
    return NULL;
}

static void
move_snapshots(const Operation *op, Vm *vm, const Disk *disk, guint first)
{
    for (guint i = 0; i < vm->snapshots->len; i++) {
        Snapshot *snapshot = vm->snapshots->pdata[i];
        SnapshotDisk *sd = snapshot_disk(snapshot, disk->id);
        if (sd == NULL || disk_volume_index(disk, sd->volume_id) < (int)first)
            continue;
        const json_t *group = group_with_top(op, sd->volume_id);
        if (group == NULL) { /* its boundary is gone */
            g_ptr_array_remove(snapshot->disks, sd);
            continue;
        }
        g_free(sd->volume_id);
        sd->volume_id = g_strdup(json_text(group, "dest_id"));
    }
}

bool
graft_apply(const Operation *op, Vm *vm, Disk *disk, GError **error)
{
    int first = disk_volume_index(disk, op_text(op, "base"));
    json_t *group;
    size_t i;

    if (json_array_size(groups_of(op)) == 0)
        return error_set(error, ERR_CORRUPT, "disk %s: the new volumes are not known",
                         disk->target);
    if (first < 0)
        return true; /* done by an earlier try */
    move_snapshots(op, vm, disk, (guint)first);
    uint64_t size = disk_leaf(disk)->virtual_size;
    g_ptr_array_remove_range(disk->volumes, (guint)first, disk->volumes->len - (guint)first);
    json_array_foreach (groups_of(op), i, group)
        g_ptr_array_add(disk->volumes, volume_new(json_text(group, "dest_id"),
                                                  json_text(group, "dest"), "qcow2", size));
    return true;
}
