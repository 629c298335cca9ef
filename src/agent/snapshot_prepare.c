/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * Taking a snapshot: the step "prepare". Which disks take part, and the empty overlays for them.
 */
#include "agent/snapshot.h"

#include "base/fault.h"
#include "base/text.h"
#include "model/verbs.h"
#include "qcow2/qcow2.h"

#include <errno.h>
#include <glib/gstdio.h>
#include <sys/stat.h>

bool
snapshot_is_of_config(const Operation *op)
{
    const json_t *disks = json_object_get(op->row.params, "disks");

    return json_is_array(disks) && json_array_size(disks) == 0;
}

/* Absent: all disks. None: the configuration alone, to which neither memory belongs, which fits
 * disks of the same instant, nor a guest whose file systems are frozen. */
static bool
disks_params(const json_t *params, GError **error)
{
    const json_t *disks = json_object_get(params, "disks");

    if (disks != NULL && !json_is_array(disks))
        return error_set(error, ERR_INVALID, "'disks' is not a list");
    if (disks == NULL || json_array_size(disks) > 0)
        return true;
    if (json_flag(params, "memory"))
        return error_set(error, ERR_INVALID,
                         "'memory': a snapshot of the configuration alone holds none");
    return g_strcmp0(json_text(params, "quiesce"), "require") != 0 ||
           error_set(error, ERR_INVALID,
                     "'quiesce' is require, but a snapshot of the configuration alone holds "
                     "nothing of the guest's file systems");
}

bool
snapshot_create_params(const json_t *params, GError **error)
{
    static const char *const keys[] = { "snapshot_id", "name", NULL };
    const char *quiesce = json_text(params, "quiesce");
    static const char *const words[] = { "no", "auto", "require", NULL };

    if (!required_texts(params, keys, error) ||
        !name_check("the snapshot's name", json_text(params, "name"), error))
        return false;
    if (!id_is_valid(json_text(params, "snapshot_id")))
        return error_set(error, ERR_INVALID, "snapshot id '%s' is not a UUID",
                         json_text(params, "snapshot_id"));
    if (quiesce != NULL && !g_strv_contains(words, quiesce))
        return error_set(error, ERR_INVALID, "quiesce '%s' is none of no, auto, require", quiesce);
    return disks_params(params, error);
}

/* ---- which disks, and where their overlays go ---- */

static bool
is_wanted(const Operation *op, const Disk *disk)
{
    json_t *list = json_object_get(op->row.params, "disks");
    size_t i;
    json_t *id;

    if (!disk_is_managed(disk) || disk->read_only)
        return false;
    if (list == NULL)
        return true;
    json_array_foreach (list, i, id)
        if (g_strcmp0(json_string_value(id), disk->id) == 0)
            return true;
    return false;
}

static char *
memory_path(const Operation *op, const Vm *vm)
{
    const Disk *first = NULL;

    for (guint i = 0; i < vm->disks->len && first == NULL; i++)
        if (disk_is_managed(vm->disks->pdata[i]))
            first = vm->disks->pdata[i];
    if (first == NULL)
        return NULL;
    return new_file_name(disk_leaf(first)->path, op_text(op, "snapshot_id"), "memory");
}

/* {"disks": [{"id", "target", "leaf", "leaf_id", "format", "overlay"}], "generation": of the
 * manifest before it, "memory": path} */
static bool
make_plan(Operation *op, const Vm *vm, GError **error)
{
    g_autoptr(json_t) disks = json_array();

    for (guint i = 0; i < vm->disks->len; i++) {
        const Disk *disk = vm->disks->pdata[i];
        if (!is_wanted(op, disk))
            continue;
        const Volume *leaf = disk_leaf(disk);
        g_autofree char *overlay = new_file_name(leaf->path, op_text(op, "snapshot_id"), "qcow2");
        json_array_append_new(disks,
                              json_pack("{s:s, s:s, s:s, s:s, s:s, s:s}", "id", disk->id, "target",
                                        disk->target, "leaf", leaf->path, "leaf_id", leaf->id,
                                        "format", leaf->format, "overlay", overlay));
    }
    json_t *list = json_object_get(op->row.params, "disks");
    if (list != NULL && json_array_size(list) != json_array_size(disks))
        return error_set(error, ERR_REFUSED,
                         "VM '%s': %zu of the %zu disks named cannot be part of a snapshot "
                         "(unknown, read-only or not managed); livemerge vm show tells why",
                         vm->name, json_array_size(list) - json_array_size(disks),
                         json_array_size(list));
    if (json_array_size(disks) == 0 && !snapshot_is_of_config(op))
        return error_set(error, ERR_REFUSED, "VM '%s' has no disk that can be part of a snapshot",
                         vm->name);
    op_remember(op, "disks", g_steal_pointer(&disks));
    op_remember(op, "generation", json_integer(vm->generation));
    if (json_flag(op->row.params, "memory")) {
        g_autofree char *memory = memory_path(op, vm);
        op_remember(op, "memory", json_string(memory));
    }
    return true;
}

/* ---- prepare ---- */

StepState
snapshot_prepare_check(void *self, GError **error)
{
    Operation *op = self;
    size_t i;
    json_t *disk;

    if (!op_connected(op, error))
        return STEP_UNKNOWN;
    if (json_object_get(op->row.data, "prepared") == NULL)
        return STEP_TODO;
    json_array_foreach (snapshot_disks(op), i, disk)
        if (!g_file_test(json_text(disk, "overlay"), G_FILE_TEST_EXISTS))
            return STEP_TODO;
    return STEP_DONE;
}

bool
snapshot_make_overlay(const json_t *disk, GError **error)
{
    g_autoptr(GPtrArray) layers =
        qcow2_chain_walk(json_text(disk, "leaf"), json_text(disk, "format"), NULL, error);

    if (layers == NULL)
        return false;
    if (layers->len >= QCOW2_MAX_DEPTH)
        return error_set(
            error, ERR_REFUSED,
            "disk %s has %u volumes; libvirt allows no more than %d. Delete a snapshot first",
            json_text(disk, "target"), layers->len, QCOW2_MAX_DEPTH);
    /* a use of an earlier try's would have been found by switch_check() */
    return overlay_make(disk, error);
}

static bool
overlays_are_unused(Operation *op, const HvDomain *hv, GError **error)
{
    size_t i;
    json_t *disk;

    json_array_foreach (snapshot_disks(op), i, disk) {
        HvDisk *now = hv_domain_disk(hv, json_text(disk, "target"));
        if (now != NULL && g_strcmp0(now->source, json_text(disk, "overlay")) == 0)
            return error_set(error, ERR_INTERNAL, "overlay %s is in use already",
                             json_text(disk, "overlay"));
    }
    return true;
}

/* It runs elsewhere, say (migrated by hand, or started past libvirt): what is written there would
 * change the snapshot, and all that stands on it. */
static bool
nobody_writes_leaves(const Operation *op, const HvDomain *hv, GError **error)
{
    size_t i;
    json_t *disk;

    json_array_foreach (snapshot_disks(op), i, disk)
        if (hv->instance == NULL && image_is_written(json_text(disk, "leaf")))
            return error_set(error, ERR_REFUSED,
                             "VM '%s' is off, but some process writes disk %s (%s); is it running "
                             "on another host? Nothing was changed",
                             hv->name, json_text(disk, "target"), json_text(disk, "leaf"));
    return true;
}

bool
snapshot_prepare_act(void *self, GError **error)
{
    Operation *op = self;
    g_autoptr(HvDomain) hv = op_hv(op, error);
    Domain *home = NULL;
    g_autoptr(Vm) vm = NULL;
    size_t i;
    json_t *disk;
    Verb verb = verb_of_create(json_flag(op->row.params, "memory"), op_text(op, "quiesce"));

    if (hv == NULL || (vm = op_manifest(op, &home, error)) == NULL ||
        !op_allowed(op, verb, hv, vm, error))
        return false;
    if (json_flag(op->row.params, "memory") && hv->tpm_or_passthrough != NULL)
        return error_set(
            error, ERR_REFUSED,
            "VM '%s' has %s: its memory cannot be saved; a snapshot without memory is possible",
            vm->name, hv->tpm_or_passthrough);
    if (vm_snapshot(vm, op_text(op, "snapshot_id")) != NULL)
        return error_set(error, ERR_EXISTS, "VM '%s' has a snapshot %s already", vm->name,
                         op_text(op, "snapshot_id"));
    if (snapshot_disks(op) == NULL && !make_plan(op, vm, error))
        return false;
    overlay_note_life(op, hv);
    if (!nobody_writes_leaves(op, hv, error) || !overlays_are_unused(op, hv, error) ||
        !operation_save(op, error))
        return false; /* the names are durable before the files exist */
    op_record(op, vm);
    if (!manifest_save(home, vm, error) || !fault_point("agent.snapshot.before-create", error))
        return false;
    json_array_foreach (snapshot_disks(op), i, disk)
        if (!snapshot_make_overlay(disk, error))
            return false;
    overlay_note_empty(snapshot_disks(op));
    op_remember(op, "prepared", json_true());
    return true;
}
