/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "agent/overlay.h"

#include "agent/hookfile.h"
#include "agent/relink.h"
#include "base/text.h"
#include "qcow2/qcow2.h"

#include <string.h>
#include <sys/stat.h>

const char *
overlay_in_use(const json_t *disks, bool *ret_open)
{
    size_t i;
    json_t *disk;

    *ret_open = false;
    json_array_foreach (disks, i, disk) {
        const char *overlay = json_text(disk, "overlay");
        if (!file_may_be_there(overlay))
            continue;
        *ret_open = volume_is_open(overlay);
        if (*ret_open || volume_holds_data(overlay))
            return overlay;
    }
    return NULL;
}

bool
overlay_is_used_by(const HvDisk *disk, const char *overlay, const char *leaf)
{
    g_autoptr(GPtrArray) layers = NULL;

    if (disk == NULL || disk->source == NULL || g_strcmp0(disk->source, leaf) == 0)
        return false;
    if (g_strcmp0(disk->source, overlay) == 0)
        return true;
    layers = qcow2_chain_walk(disk->source, disk->format, NULL, NULL);
    for (guint i = 0; layers != NULL && i < layers->len; i++)
        if (g_strcmp0(((Qcow2Layer *)layers->pdata[i])->path, overlay) == 0)
            return true;
    return false;
}

size_t
overlay_count(const json_t *disks, const HvDomain *hv)
{
    size_t i, n = 0;
    json_t *disk;

    json_array_foreach (disks, i, disk) {
        HvDisk *now = hv_domain_disk(hv, json_text(disk, "target"));
        n += overlay_is_used_by(now, json_text(disk, "overlay"), json_text(disk, "leaf"));
    }
    return n;
}

bool
overlay_is_any_left(const json_t *disks)
{
    size_t i;
    json_t *disk;

    json_array_foreach ((json_t *)disks, i, disk)
        if (file_may_be_there(json_text(disk, "overlay")))
            return true;
    return false;
}

static bool
is_skipping(const json_t *disk, const HvDisk *now)
{
    const char *overlay = json_text(disk, "overlay");
    const char *below = now != NULL ? relink_below(now, overlay) : NULL;

    return below != NULL && g_strcmp0(below, json_text(disk, "leaf")) != 0 &&
           relink_is_needed(now, overlay, &below);
}

bool
overlay_is_skipping(const json_t *disks, const HvDomain *hv)
{
    size_t i;
    json_t *disk;

    json_array_foreach (disks, i, disk)
        if (hv->instance != NULL &&
            is_skipping(disk, hv_domain_disk(hv, json_text(disk, "target"))))
            return true;
    return false;
}

bool
overlay_relink(Operation *op, const json_t *disks, const HvDomain *hv, GError **error)
{
    size_t i;
    json_t *disk;

    json_array_foreach (disks, i, disk) {
        const HvDisk *now = hv_domain_disk(hv, json_text(disk, "target"));
        if (hv->instance != NULL && is_skipping(disk, now) &&
            !relink(op->agent, hv, now, json_text(disk, "overlay"), error))
            return false;
    }
    return true;
}

bool
overlay_define(Operation *op, const json_t *disks, GError **error)
{
    return op_define(op, NULL, disks, "overlay", NULL, error);
}

/* ---- they are made ---- */

static bool
size_of(const char *path, const char *format, uint64_t *ret_size, GError **error)
{
    g_autoptr(GPtrArray) layers = qcow2_chain_walk(path, format, NULL, error);

    if (layers == NULL)
        return false;
    *ret_size = ((Qcow2Layer *)layers->pdata[layers->len - 1])->virtual_size;
    return true;
}

bool
overlay_make(const json_t *disk, GError **error)
{
    const char *leaf = json_text(disk, "leaf"), *format = json_text(disk, "format");
    uint64_t size = 0;

    return size_of(leaf, format, &size, error) &&
           make_overlay(json_text(disk, "overlay"), leaf, format, size, error);
}

bool
overlay_refit(Operation *op, json_t *disks, GError **error)
{
    bool any = false, open = false;
    size_t i;
    json_t *disk;

    if (overlay_in_use(disks, &open) != NULL)
        return true; /* the change was made, and what is there stays */
    json_array_foreach (disks, i, disk) {
        uint64_t is = 0, wanted = 0;
        if (!size_of(json_text(disk, "overlay"), "qcow2", &is, error) ||
            !size_of(json_text(disk, "leaf"), json_text(disk, "format"), &wanted, error))
            return false;
        if (is == wanted)
            continue;
        if (!overlay_make(disk, error))
            return false;
        any = true;
    }
    if (!any)
        return true;
    overlay_note_empty(disks);
    return operation_save(op, error);
}

/* ---- what is seen ---- */

void
overlay_note_empty(json_t *disks)
{
    size_t i;
    json_t *disk;

    json_array_foreach (disks, i, disk) {
        g_autofree char *look = volume_look(json_text(disk, "overlay"));
        json_put_text(disk, "empty_look", look);
    }
}

/* A libvirtd that is killed in the switch looks for its hooks when it comes back: a guard that
 * stands before has been asked ever since. */
void
overlay_note_life(Operation *op, const HvDomain *hv)
{
    op_remember(op, "guarded", hookfile_is_there(op->agent->hooks_dir) ? json_true() : NULL);
    op_remember(op, "life", hv->instance != NULL ? json_string(hv->instance) : NULL);
}

/* What a QEMU writes, it has the volume below for reading: so no other one writes that. */
static bool
note_looks(json_t *disks)
{
    bool news = false;
    size_t i;
    json_t *disk;

    json_array_foreach (disks, i, disk) {
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
    return news;
}

bool
overlay_note_leaves(Operation *op, json_t *disks, const HvDomain *hv, GError **error)
{
    bool open = false, news = note_looks(disks);

    /* libvirt may not know yet that the life of the switch has ended */
    if (overlay_in_use(disks, &open) != NULL && !open && hv->instance != NULL &&
        g_strcmp0(hv->instance, op_data(op, "life")) != 0 && overlay_count(disks, hv) == 0 &&
        !json_flag(op->row.data, "ran_on_old")) {
        op_remember(op, "ran_on_old", json_true());
        news = true;
    }
    return !news || operation_save(op, error);
}

/* ---- what that tells ---- */

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
    return !lost && file_is_newer(&leaf, &overlay);
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
    /* libvirt asks before each start, and what is below an overlay with data is refused; a guard
     * that was put up since says nothing of the starts before */
    bool guarded = json_flag(op->row.data, "guarded") && hookfile_is_there(op->agent->hooks_dir);
    if (guarded || !leaf_looks_later(disk))
        return NULL;
    return "by their times its old one was written later. Nobody has seen that, and without "
           "livemerge's start guard, which did not stand then (livemerge-agent --install-hook), it "
           "may have been started from a stale definition";
}

bool
overlay_check_leaves(Operation *op, const json_t *disks, const HvDomain *hv, GError **error)
{
    size_t i;
    json_t *disk;

    json_array_foreach (disks, i, disk) {
        const char *overlay = json_text(disk, "overlay");
        const char *why = file_may_be_there(overlay) && volume_holds_data(overlay)
                              ? why_leaf_may_be_newer(op, disk)
                              : NULL;
        g_autofree char *file = shell_word(overlay), *name = shell_word(hv->name);
        if (why != NULL)
            return error_set(
                error, ERR_BUSY,
                "VM '%s', disk %s: it wrote its new volume %s, and %s: which of the two is right "
                "only a person can tell. Nothing is removed. To keep the old one, %s, take the new "
                "one away: mv %s %s.aside; to go on with the new one, power the VM off and let its "
                "definition name that: virsh edit %s",
                hv->name, json_text(disk, "target"), overlay, why, json_text(disk, "leaf"), file,
                file, name);
    }
    return true;
}
