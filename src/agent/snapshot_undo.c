/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * Taking a snapshot: the steps "verify" and "undo", when a snapshot has failed or was cancelled.
 */
#include "agent/snapshot.h"

#include <errno.h>
#include <unistd.h>

/* ---- verify ---- */

const char *
snapshot_overlay_in_use(const Operation *op, bool *ret_open)
{
    *ret_open = false;
    return json_object_get(op->row.data, "prepared") != NULL
               ? overlay_in_use(snapshot_disks(op), ret_open)
               : NULL;
}

static bool
definition_names_overlays(const Operation *op, const HvDomain *hv)
{
    size_t i;
    json_t *disk;

    json_array_foreach (snapshot_disks(op), i, disk) {
        bool named = hv->inactive == NULL;
        for (guint k = 0; !named && k < hv->inactive->len; k++) {
            const HvDisk *stored = hv->inactive->pdata[k];
            named = g_str_equal(stored->target, json_text(disk, "target")) &&
                    g_strcmp0(stored->source, json_text(disk, "overlay")) == 0;
        }
        if (!named)
            return false;
    }
    return true;
}

/* What cannot be seen may be used, but to go on as if it was would take another snapshot than was
 * asked for. */
static bool
overlays_can_be_seen(const Operation *op, GError **error)
{
    size_t i;
    json_t *disk;

    json_array_foreach (snapshot_disks(op), i, disk) {
        const char *overlay = json_text(disk, "overlay");
        if (overlay != NULL && access(overlay, F_OK) != 0 && storage_is_away(errno))
            return error_set_errno(error, "looking at %s", overlay);
    }
    return true;
}

/* Did the switch happen after all, or can it be undone? To start from the overlays is right in any
 * case: empty, they show the old leaf. So in doubt the definition names them, and once the VM is
 * off there is no doubt. */
StepState
snapshot_verify_check(void *self, GError **error)
{
    Operation *op = self;
    size_t all = json_array_size(snapshot_disks(op));
    g_autoptr(HvDomain) hv = NULL;
    bool open = false;
    const char *overlay = snapshot_overlay_in_use(op, &open);

    if (!overlays_can_be_seen(op, error))
        return STEP_UNKNOWN;
    hv = op_hv(op, error);
    if (hv == NULL)
        return g_error_matches(*error, ERR, ERR_NOT_FOUND) && overlay == NULL ? STEP_FAILED
                                                                              : STEP_UNKNOWN;
    size_t n = overlay_count(snapshot_disks(op), hv);
    if (n == all && all > 0) {
        machine_forgive(&op->machine);
        return STEP_DONE;
    }
    if (n == 0 && overlay == NULL)
        return STEP_FAILED; /* what failed is noted already */
    if (n == 0 && (!overlay_note_leaves(op, snapshot_disks(op), hv, error) ||
                   (!open && !overlay_check_leaves(op, snapshot_disks(op), hv, error))))
        return STEP_UNKNOWN;
    if (n == 0 && (open || hv->instance == NULL) && !definition_names_overlays(op, hv))
        return STEP_TODO;
    error_set(error, ERR_BUSY,
              open
                  ? "VM '%s': libvirt says that it runs on its old volumes, but its QEMU has the "
                    "new one %s open (libvirtd was killed in the middle). No data are lost: power "
                    "the VM off (a reboot from inside is not enough), and the snapshot is completed"
                  : "VM '%s' does not run on the new volume %s, which holds data of it: it was "
                    "started on its old one. Nothing is removed; power it off to go on from there",
              hv->name, overlay != NULL ? overlay : "of some disks");
    return STEP_UNKNOWN;
}

/* Whatever libvirt answers, what QEMU has open is not undone. */
bool
snapshot_verify_act(void *self, GError **error)
{
    g_autoptr(HvDomain) hv = op_hv(self, error);
    g_autoptr(GError) problem = NULL;
    bool open = false;

    if (hv == NULL)
        return false;
    snapshot_overlay_in_use(self, &open);
    return ((open || overlay_check_leaves(self, snapshot_disks(self), hv, &problem)) &&
            snapshot_switch_stopped(self, &problem)) ||
           error_set(error, ERR_BUSY, "%s", problem->message);
}

/* ---- undo ---- */

/* Nobody writes the manifest beside it. */
static bool
was_written_since(const Operation *op, const Vm *vm)
{
    const json_t *planned = json_object_get(op->row.data, "generation");

    return planned != NULL && vm->generation > json_integer_value(planned);
}

/* The manifest records the operation before it makes a file, and until it is done or all is taken
 * back: what is there else was done, and is the VM's. */
bool
snapshot_is_old(Operation *op, const char *const *recorded, bool *ret_old, GError **error)
{
    bool begins = g_str_equal(op->row.step, "prepare");
    g_autoptr(Vm) vm = NULL;

    if (!begins && !g_strv_contains(recorded, op->row.step))
        return true;
    if (!op_manifest_if_any(op, &vm, error))
        return false;
    *ret_old = vm != NULL && !op_is_recorded(op, vm) &&
               (!begins || overlay_is_any_left(snapshot_disks(op)) || was_written_since(op, vm));
    return true;
}

bool
snapshot_create_is_old(Operation *op, bool *ret_old, GError **error)
{
    static const char *const recorded[] = { "switch", "verify", NULL };

    return snapshot_is_old(op, recorded, ret_old, error);
}

static bool
is_used(Operation *op, const HvDomain *hv)
{
    bool open = false;

    return (hv != NULL && overlay_count(snapshot_disks(op), hv) > 0) ||
           snapshot_overlay_in_use(op, &open) != NULL;
}

StepState
snapshot_undo_check(void *self, GError **error)
{
    Operation *op = self;
    const char *memory = op_data(op, "memory");
    g_autoptr(HvDomain) hv = NULL;
    g_autoptr(GError) why = NULL;
    g_autoptr(Vm) vm = NULL;

    hv = op_hv(op, &why);
    if (hv == NULL && !g_error_matches(why, ERR, ERR_NOT_FOUND)) {
        g_propagate_error(error, g_steal_pointer(&why));
        return STEP_UNKNOWN;
    }
    if (!overlays_can_be_seen(op, error))
        return STEP_UNKNOWN;
    if (!op_manifest_if_any(op, &vm, error))
        return STEP_UNKNOWN;
    if (vm != NULL && !op_is_recorded(op, vm))
        return STEP_DONE; /* done before; what has these names now is the VM's */
    if (is_used(op, hv))
        return STEP_BACK; /* it happened after all */
    return vm != NULL || overlay_is_any_left(snapshot_disks(op)) ||
                   json_object_get(op->row.data, "frozen") != NULL ||
                   (memory != NULL && file_may_be_there(memory))
               ? STEP_TODO
               : STEP_DONE;
}

bool
snapshot_undo_act(void *self, GError **error)
{
    Operation *op = self;
    g_autoptr(HvDomain) hv = op_hv(op, error);
    Domain *home = NULL;
    const char *memory = op_data(op, "memory");
    g_autoptr(Vm) vm = NULL;
    size_t i;
    json_t *disk;

    if (hv == NULL && !g_error_matches(*error, ERR, ERR_NOT_FOUND))
        return false;
    g_clear_error(error);
    if (is_used(op, hv))
        return error_set(error, ERR_BUSY,
                         "VM %s uses a volume of this snapshot: it cannot be undone",
                         op->row.vm_id);
    if (hv != NULL && (!snapshot_thaw_if_frozen(op, error) || !op_mend_definition(op, hv, error)))
        return false;
    json_array_foreach (snapshot_disks(op), i, disk)
        if (!volume_unlink((const char *const[]){ json_text(disk, "overlay"), NULL }, error))
            return false;
    if (memory != NULL && !volume_unlink((const char *const[]){ memory, NULL }, error))
        return false;
    if (hv == NULL)
        return true;
    if ((vm = op_manifest(op, &home, error)) == NULL)
        return false;
    op_unrecord(op, vm);
    return manifest_save(home, vm, error);
}
