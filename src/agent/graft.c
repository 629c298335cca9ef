/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * graft: merging without moving data, on storage whose files can share blocks.
 *
 * The disk's volumes from the lowest that is merged up to the leaf fall into groups that become one
 * new volume each. The groups are built next to the old ones, their blocks shared; nothing that
 * exists is changed. The topmost new volume becomes the leaf by a shallow block copy, which brings
 * what the guest wrote meanwhile, and the safe pivot. Then the old volumes go.
 *
 * seal   a leaf that holds much is first made immutable by a temporary overlay T, so that its
 * blocks can be shared too; then the copy only moves what T holds. A leaf that holds little is
 * simply copied.
 *
 *   v0 ← v1 ← v2(leaf)   seal   v0 ← v1 ← v2 ← T    build  w = v0+v1+v2   switch   w + what T holds
 *
 * Any crash before the pivot: the new files go, the old chain is whole. After it: the reverse.
 *
 * Remembered in row.data besides what merge.h tells: groups [{volumes: [{path, format}], top
 * (volume id), dest, dest_id}], remove (volume ids whose upper boundary goes), seal, seal_id,
 * sealed, shared.
 */
#include "agent/merge.h"

#include "base/clock.h"
#include "base/fault.h"
#include "base/text.h"
#include "qcow2/build.h"

#include <errno.h>
#include <glib/gstdio.h>
#include <string.h>
#include <sys/stat.h>

/* A leaf with less than this is copied: that costs less than another snapshot. */
#define SMALL_LEAF (4 * 1024 * 1024)

static json_t *
groups_of(const Operation *op)
{
    return json_object_get(op->row.data, "groups");
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

/* Volumes [first..last] of the disk become one. The leaf of a VM that runs takes part by the block
 * copy, unless it is sealed. */
static json_t *
make_group(const Disk *disk, guint first, guint last, bool leaf_is_copied)
{
    json_t *volumes = json_array();
    g_autofree char *id = id_new();
    g_autofree char *dest =
        new_file_name(volume_at(disk, disk->volumes->len - 1)->path, id, "qcow2");

    for (guint i = first; i <= last; i++) {
        if (leaf_is_copied && i + 1 == disk->volumes->len)
            break;
        json_array_append_new(volumes, json_pack("{s:s, s:s}", "path", volume_at(disk, i)->path,
                                                 "format", volume_at(disk, i)->format));
    }
    return json_pack("{s:o, s:s, s:s, s:s}", "volumes", volumes, "top", volume_at(disk, last)->id,
                     "dest", dest, "dest_id", id);
}

static uint64_t
bytes_in(const char *path)
{
    struct stat st;

    return stat(path, &st) == 0 ? (uint64_t)st.st_blocks * 512 : 0;
}

void
graft_plan(Operation *op, const Disk *disk, int base)
{
    json_t *remove = json_object_get(op->row.params, "remove");
    guint n = disk->volumes->len, first = (guint)base;
    const Volume *leaf = disk_leaf(disk);
    bool seal = bytes_in(leaf->path) > SMALL_LEAF && n < QCOW2_MAX_DEPTH;
    json_t *groups = json_array(), *after = json_array();
    const char *dest = NULL, *dest_id = NULL;

    for (guint i = 0; i < first; i++)
        json_array_append_new(after, json_string(volume_at(disk, i)->path));
    for (guint i = first; i < n; i++) {
        if (i + 1 < n && list_has(remove, volume_at(disk, i)->id))
            continue; /* joined with the one above */
        json_t *group = make_group(disk, first, i, !seal);
        json_array_append_new(groups, group);
        dest = json_text(group, "dest");
        dest_id = json_text(group, "dest_id");
        json_array_append_new(after, json_string(dest));
        first = i + 1;
    }
    op_remember(op, "groups", groups);
    op_remember(op, "after", after);
    op_remember(op, "dest", json_string(dest));
    op_remember(op, "dest_id", json_string(dest_id));
    op_remember(op, "base_format", json_string("qcow2"));
    if (seal) {
        g_autofree char *id = id_new();
        g_autofree char *path = new_file_name(leaf->path, id, "qcow2");
        op_remember(op, "seal", json_string(path));
        op_remember(op, "seal_id", json_string(id));
    }
}

bool
graft_is_possible(Operation *op, const Disk *disk, int base, GError **error)
{
    guint n = disk->volumes->len - (guint)base;
    g_autofree Qcow2Source *sources = g_new0(Qcow2Source, n);
    Domain *domain = agent_domain(op->agent, disk_leaf(disk)->path, false, error);
    g_autoptr(GError) problem = NULL;
    g_autofree char *refusal = NULL;

    if (domain == NULL)
        return false;
    if (!domain_can_share(domain))
        return error_set(
            error, ERR_REFUSED,
            "disk %s: the file system of %s cannot share blocks between files, which graft "
            "needs; nothing was changed, ask for auto",
            disk->target, domain->path);
    for (guint i = 0; i < n; i++) {
        sources[i].path = volume_at(disk, (guint)base + i)->path;
        sources[i].format = volume_at(disk, (guint)base + i)->format;
    }
    /* the leaf is in use, and never marked clean while it is: it is looked at when it is sealed */
    refusal = qcow2_build_refusal(sources, n - 1, 0, &problem);
    if (refusal != NULL)
        return error_set(error, ERR_REFUSED, "disk %s: %s; nothing was changed, ask for auto",
                         disk->target, refusal);
    if (problem == NULL)
        return true;
    g_propagate_error(error, g_steal_pointer(&problem));
    return false;
}

/* ---- seal ---- */

static bool
runs_on_seal(const Operation *op, const HvDomain *hv)
{
    HvDisk *disk = hv_domain_disk(hv, op_data(op, "target"));

    return disk != NULL && g_strcmp0(disk->source, op_data(op, "seal")) == 0;
}

/* From here on the chain before the switch is the one with T on top. */
static void
remember_sealed(Operation *op)
{
    static const char *const lists[] = { "before", "run" };

    if (json_object_get(op->row.data, "sealed") != NULL)
        return;
    for (guint i = 0; i < G_N_ELEMENTS(lists); i++) {
        json_t *longer = json_deep_copy(json_object_get(op->row.data, lists[i]));
        json_array_append_new(longer, json_string(op_data(op, "seal")));
        op_remember(op, lists[i], longer);
    }
    op_remember(op, "sealed", json_true());
}

StepState
seal_check(void *self, GError **error)
{
    Operation *op = self;
    g_autoptr(HvDomain) hv = NULL;
    Domain *home = NULL;
    g_autoptr(Vm) vm = NULL;
    Disk *disk;

    if (op_data(op, "seal") == NULL || json_object_get(op->row.data, "sealed") != NULL)
        return STEP_DONE;
    if ((hv = op_hv(op, error)) == NULL || (vm = op_manifest(op, &home, error)) == NULL)
        return STEP_UNKNOWN;
    disk = vm_disk(vm, op_text(op, "disk_id"));
    if (!runs_on_seal(op, hv) || disk == NULL || disk_volume(disk, op_data(op, "seal_id")) == NULL)
        return STEP_TODO;
    remember_sealed(op);
    return STEP_DONE;
}

bool
seal_act(void *self, GError **error)
{
    Operation *op = self;
    Hypervisor *hv = op->agent->hv;
    g_autoptr(HvDomain) domain = op_hv(op, error);
    HvSnapshotDisk wanted = { op_data(op, "target"), op_data(op, "seal") };
    Domain *home = NULL;
    g_autoptr(Vm) vm = NULL;
    Disk *disk;

    if (domain == NULL || (vm = op_manifest(op, &home, error)) == NULL)
        return false;
    disk = vm_disk(vm, op_text(op, "disk_id"));
    if (disk == NULL || disk->volumes->len == 0)
        return error_set(error, ERR_NOT_FOUND, "VM '%s' has no disk %s any more", vm->name,
                         op_data(op, "target"));
    if (!runs_on_seal(op, domain) &&
        (!make_overlay(op_data(op, "seal"), disk_leaf(disk)->path, disk_leaf(disk)->format,
                       disk_leaf(disk)->virtual_size, error) ||
         !fault_point("agent.graft.before-seal", error) ||
         !hv->ops->snapshot(hv, op->row.vm_id, &wanted, 1, NULL, error) ||
         !fault_point("agent.graft.after-seal", error)))
        return false;
    if (disk_volume(disk, op_data(op, "seal_id")) == NULL)
        g_ptr_array_add(disk->volumes, volume_new(op_data(op, "seal_id"), op_data(op, "seal"),
                                                  "qcow2", disk_leaf(disk)->virtual_size));
    return manifest_save(home, vm, error);
}

/* An error of the seal says nothing about what QEMU did: ask, before anything is undone. */
void
graft_note_seal(Operation *op, const HvDomain *hv)
{
    if (op_data(op, "seal") != NULL && runs_on_seal(op, hv))
        remember_sealed(op);
}

/* The merge was given up after the seal: T stays, as a snapshot that can be deleted like any other.
 */
void
graft_keep_seal(Operation *op, Vm *vm)
{
    Disk *disk = vm_disk(vm, op_text(op, "disk_id"));
    Snapshot *snapshot;
    int at;

    if (json_object_get(op->row.data, "sealed") == NULL || disk == NULL ||
        vm_snapshot(vm, op->row.id) != NULL)
        return;
    if (disk_volume(disk, op_data(op, "seal_id")) == NULL)
        g_ptr_array_add(disk->volumes, volume_new(op_data(op, "seal_id"), op_data(op, "seal"),
                                                  "qcow2", disk_leaf(disk)->virtual_size));
    at = disk_volume_index(disk, op_data(op, "seal_id"));
    snapshot = snapshot_new(op->row.id, "left by an unfinished delete", clock_wall_ms());
    if (vm->snapshots->len > 0)
        snapshot->parent = g_strdup(((Snapshot *)vm->snapshots->pdata[vm->snapshots->len - 1])->id);
    vm_add_snapshot_disk(snapshot, disk->id, volume_at(disk, (guint)at - 1)->id);
    g_ptr_array_add(vm->snapshots, snapshot);
}

/* ---- build ---- */

static bool
go_on(uint64_t done, uint64_t total, void *data)
{
    Operation *op = data;
    bool cancelled;

    operation_progress(op, "sharing", done, total);
    g_mutex_lock(&op->agent->lock);
    cancelled = op->row.cancel;
    g_mutex_unlock(&op->agent->lock);
    return !cancelled && !agent_stopping(op->agent);
}

static Qcow2Source *
sources_of(const json_t *group, unsigned *ret_n)
{
    json_t *list = json_object_get(group, "volumes");
    Qcow2Source *sources = g_new0(Qcow2Source, json_array_size(list) + 1);

    for (size_t i = 0; i < json_array_size(list); i++) {
        sources[i].path = json_text(json_array_get(list, i), "path");
        sources[i].format = json_text(json_array_get(list, i), "format");
    }
    *ret_n = (unsigned)json_array_size(list);
    return sources;
}

/* The path below the first group, and its format; NULL = nothing. */
static const char *
below_groups(const Operation *op, GPtrArray *layers, const char **ret_format)
{
    size_t n =
        json_array_size(json_object_get(op->row.data, "after")) - json_array_size(groups_of(op));
    const Qcow2Layer *layer;

    if (n == 0)
        return NULL;
    layer = layers->pdata[n - 1];
    *ret_format = layer->format;
    return layer->path;
}

static bool
build_group(Operation *op, const json_t *group, const char *below, const char *below_format,
            uint64_t size, const struct stat *owner, Qcow2Built *sum, GError **error)
{
    unsigned n = 0;
    g_autofree Qcow2Source *sources = sources_of(group, &n);
    const char *dest = json_text(group, "dest");
    g_autofree char *backing = below != NULL ? relative_name(dest, below) : NULL;
    Qcow2Built built = { 0 };

    if (g_unlink(dest) < 0 && errno != ENOENT)
        return error_set_errno(error, "removing the unfinished %s", dest);
    if (n == 0) /* the leaf alone: the block copy brings all it holds */
        return qcow2_create(dest, size, backing, below_format, 0600, (int)owner->st_uid,
                            (int)owner->st_gid, error);
    Qcow2Build build = { .layers = sources,
                         .n = n,
                         .dest = dest,
                         .backing = backing,
                         .backing_format = backing != NULL ? below_format : NULL,
                         .virtual_size = size,
                         .mode = 0600,
                         .uid = (int)owner->st_uid,
                         .gid = (int)owner->st_gid,
                         .share = true,
                         .must_share = true,
                         .progress = go_on,
                         .data = op };
    if (!qcow2_build(&build, &built, error))
        return false;
    sum->bytes_shared += built.bytes_shared;
    sum->bytes_copied += built.bytes_copied;
    return g_strcmp0(op_text(op, "verify"), "none") == 0 ||
           qcow2_same_map(sources, n, dest, NULL, NULL, NULL, error);
}

StepState
graft_build_check(Operation *op)
{
    return json_object_get(op->row.data, "prefilled") != NULL ? STEP_DONE : STEP_TODO;
}

bool
graft_build_act(Operation *op, GError **error)
{
    json_t *before = json_object_get(op->row.data, "before"), *group;
    const char *leaf = json_string_value(json_array_get(before, json_array_size(before) - 1));
    g_autoptr(GPtrArray) layers = qcow2_chain_walk(leaf, "qcow2", NULL, error);
    const char *format = NULL, *below;
    Qcow2Built sum = { 0 };
    struct stat owner;
    size_t i;

    if (layers == NULL)
        return false;
    if (stat(leaf, &owner) < 0)
        return error_set_errno(error, "%s", leaf);
    below = below_groups(op, layers, &format);
    uint64_t leaf_size = ((Qcow2Layer *)layers->pdata[layers->len - 1])->virtual_size;
    json_array_foreach (groups_of(op), i, group) {
        bool last = i + 1 == json_array_size(groups_of(op));
        /* a run is as large as its top; only the new leaf must be as large as the one it replaces
         */
        if (!build_group(op, group, below, format, last ? leaf_size : 0, &owner, &sum, error) ||
            !fault_point("agent.graft.built", error))
            return false;
        below = json_text(group, "dest");
        format = "qcow2";
    }
    op_remember(op, "shared", json_integer((json_int_t)sum.bytes_shared));
    op_remember(op, "bytes", json_integer((json_int_t)sum.bytes_copied));
    op_remember(op, "prefilled", json_integer((json_int_t)sum.bytes_copied));
    return true;
}

bool
graft_remove_built(Operation *op, GError **error)
{
    json_t *group;
    size_t i;

    json_array_foreach (groups_of(op), i, group)
        if (g_unlink(json_text(group, "dest")) < 0 && errno != ENOENT)
            return error_set_errno(error, "removing %s", json_text(group, "dest"));
    return true;
}

bool
graft_has_built(const Operation *op)
{
    json_t *group;
    size_t i;

    json_array_foreach (groups_of(op), i, group)
        if (g_file_test(json_text(group, "dest"), G_FILE_TEST_EXISTS))
            return true;
    return false;
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
