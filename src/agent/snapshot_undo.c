/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * Taking a snapshot: the steps "verify" and "undo", when a snapshot has failed or was cancelled.
 */
#include "agent/hookfile.h"
#include "agent/snapshot.h"

#include <string.h>
#include <sys/stat.h>

/* ---- verify ---- */

const char *
snapshot_overlay_in_use(const Operation *op, bool *ret_open)
{
    size_t i;
    json_t *disk;

    *ret_open = false;
    if (json_object_get(op->row.data, "prepared") == NULL)
        return NULL; /* the switch was never tried */
    json_array_foreach (json_object_get(op->row.data, "disks"), i, disk) {
        const char *overlay = json_text(disk, "overlay");
        if (!file_may_be_there(overlay))
            continue;
        *ret_open = volume_is_open(overlay);
        if (*ret_open || volume_holds_data(overlay))
            return overlay;
    }
    return NULL;
}

/* ---- were the old leaves written after the overlays? ---- */

bool
snapshot_note_old_leaves(Operation *op, const HvDomain *hv, GError **error)
{
    bool open = false, news = false;
    const char *overlay = snapshot_overlay_in_use(op, &open);
    size_t i;
    json_t *disk;

    /* what a QEMU writes, it has the volume below for reading: so no other one writes that */
    json_array_foreach (json_object_get(op->row.data, "disks"), i, disk) {
        const char *leaf = json_text(disk, "leaf");
        g_autofree char *look =
            json_text(disk, "leaf_look") == NULL && volume_is_seen_open(json_text(disk, "overlay"))
                ? volume_look(leaf)
                : NULL;
        if (look == NULL || !volume_sync_data(leaf, NULL))
            continue;
        json_put_text(disk, "leaf_look", look);
        news = true;
    }
    /* libvirt may not know yet that the life of the switch has ended */
    if (overlay != NULL && !open && hv->instance != NULL &&
        g_strcmp0(hv->instance, op_data(op, "life")) != 0 && snapshot_count_switched(op, hv) == 0 &&
        !json_flag(op->row.data, "ran_on_old")) {
        op_remember(op, "ran_on_old", json_true());
        news = true;
    }
    return !news || operation_save(op, error);
}

static bool
is_later(const struct stat *a, const struct stat *b)
{
    return a->st_mtim.tv_sec != b->st_mtim.tv_sec ? a->st_mtim.tv_sec > b->st_mtim.tv_sec
                                                  : a->st_mtim.tv_nsec > b->st_mtim.tv_nsec;
}

/* Nobody has seen what became of the VM, and nothing keeps it from being started from an old leaf.
 * Times are no proof, but a reason to ask; not even that if a power loss took the overlay's. */
static bool
leaf_looks_later(const json_t *disk)
{
    const char *empty = json_text(disk, "empty_look");
    struct stat leaf, overlay;

    if (stat(json_text(disk, "leaf"), &leaf) < 0 || stat(json_text(disk, "overlay"), &overlay) < 0)
        return false;
    g_autofree char *now = volume_look(json_text(disk, "overlay"));
    bool lost =
        empty != NULL && now != NULL && g_strcmp0(strchr(empty, ' '), strchr(now, ' ')) == 0;
    return !lost && is_later(&leaf, &overlay);
}

/* Why a person has to tell which of the two volumes is right; NULL = the overlay is. */
static const char *
why_leaf_may_be_newer(const Operation *op, const json_t *disk)
{
    const char *seen = json_text(disk, "leaf_look");

    if (json_flag(op->row.data, "ran_on_old"))
        return "was then seen to run on its old one, started from a stale definition";
    if (seen != NULL) {
        g_autofree char *now = volume_look(json_text(disk, "leaf"));
        return g_strcmp0(now, seen) == 0 ? NULL
                                         : "its old one has been written since (started from a "
                                           "stale definition?)";
    }
    /* libvirt asks before each start, and what is below an overlay with data is refused */
    if (hookfile_is_there(op->agent->hooks_dir) || !leaf_looks_later(disk))
        return NULL;
    return "by their times its old one was written later. Nobody has seen that, and without "
           "livemerge's start guard (livemerge-agent --install-hook) it may have been started "
           "from a stale definition";
}

bool
snapshot_check_old_leaves(Operation *op, const HvDomain *hv, GError **error)
{
    size_t i;
    json_t *disk;

    json_array_foreach (json_object_get(op->row.data, "disks"), i, disk) {
        const char *overlay = json_text(disk, "overlay"), *leaf = json_text(disk, "leaf");
        const char *why = file_may_be_there(overlay) && volume_holds_data(overlay)
                              ? why_leaf_may_be_newer(op, disk)
                              : NULL;
        if (why != NULL)
            return error_set(
                error, ERR_BUSY,
                "VM '%s', disk %s: it wrote its new volume %s, and %s: which of the two is right "
                "only a person can tell. Nothing is removed. To keep the old one, %s, take the new "
                "one away: mv %s %s.aside; to go on with the new one, power the VM off and let its "
                "definition name that: virsh edit %s",
                hv->name, json_text(disk, "target"), overlay, why, leaf, overlay, overlay,
                hv->name);
    }
    return true;
}

static bool
definition_names_overlays(const Operation *op, const HvDomain *hv)
{
    size_t i;
    json_t *disk;

    json_array_foreach (json_object_get(op->row.data, "disks"), i, disk) {
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

/* Did the switch happen after all, or can it be undone? To start from the overlays is right in any
 * case: empty, they show the old leaf. So in doubt the definition names them, and once the VM is
 * off there is no doubt. */
StepState
snapshot_verify_check(void *self, GError **error)
{
    Operation *op = self;
    size_t all = json_array_size(json_object_get(op->row.data, "disks"));
    g_autoptr(HvDomain) hv = NULL;
    bool open = false;
    const char *overlay = snapshot_overlay_in_use(op, &open);

    hv = op_hv(op, error);
    if (hv == NULL)
        return g_error_matches(*error, ERR, ERR_NOT_FOUND) && overlay == NULL ? STEP_FAILED
                                                                              : STEP_UNKNOWN;
    size_t n = snapshot_count_switched(op, hv);
    if (n == all && all > 0) {
        machine_forgive(&op->machine);
        return STEP_DONE;
    }
    if (n == 0 && overlay == NULL)
        return STEP_FAILED; /* what failed is noted already */
    if (n == 0 && (!snapshot_note_old_leaves(op, hv, error) ||
                   (!open && !snapshot_check_old_leaves(op, hv, error))))
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
    return ((open || snapshot_check_old_leaves(self, hv, &problem)) &&
            snapshot_switch_stopped(self, &problem)) ||
           error_set(error, ERR_BUSY, "%s", problem->message);
}

/* ---- undo ---- */

static bool
is_used(Operation *op, const HvDomain *hv)
{
    bool open = false;

    return (hv != NULL && snapshot_count_switched(op, hv) > 0) ||
           snapshot_overlay_in_use(op, &open) != NULL;
}

StepState
snapshot_undo_check(void *self, GError **error)
{
    Operation *op = self;
    Domain *home = NULL;
    const char *memory = op_data(op, "memory");
    g_autoptr(HvDomain) hv = NULL;
    g_autoptr(GError) why = NULL;
    g_autoptr(Vm) vm = NULL;
    size_t i;
    json_t *disk;

    hv = op_hv(op, &why);
    if (hv == NULL && !g_error_matches(why, ERR, ERR_NOT_FOUND)) {
        g_propagate_error(error, g_steal_pointer(&why));
        return STEP_UNKNOWN;
    }
    if (is_used(op, hv))
        return STEP_BACK; /* it happened after all */
    json_array_foreach (json_object_get(op->row.data, "disks"), i, disk)
        if (file_may_be_there(json_text(disk, "overlay")))
            return STEP_TODO;
    if (json_object_get(op->row.data, "frozen") != NULL ||
        (memory != NULL && file_may_be_there(memory)))
        return STEP_TODO;
    vm = op_manifest(op, &home, error);
    if (vm == NULL)
        return g_error_matches(*error, ERR, ERR_NOT_FOUND) ? (g_clear_error(error), STEP_DONE)
                                                           : STEP_UNKNOWN;
    return op_is_recorded(op, vm) ? STEP_TODO : STEP_DONE;
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
    json_array_foreach (json_object_get(op->row.data, "disks"), i, disk)
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
