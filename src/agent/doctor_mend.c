/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * The doctor: what is done for each class. Every deed keeps what is needed to undo it first, and
 * may be repeated.
 */
#include "agent/doctor_mend.h"
#include "agent/relink.h"

#include "base/log.h"
#include "qcow2/bitmaps.h"
#include "storage/guard.h"
#include "storage/salvage.h"

#include <string.h>

#define LOCK_BUDGET_MS 5000

void
world_clear(World *world)
{
    hv_domain_free(world->hv);
    vm_free(world->vm);
}

bool
world_look(Operation *op, World *world, GError **error)
{
    world->hv = op_hv(op, error);
    if (world->hv == NULL)
        return false;
    world->vm = op_manifest(op, &world->home, error);
    return world->vm != NULL;
}

bool
doctor_cannot_undo(Operation *op, const char *why, GError **error)
{
    return doctor_keep(op, json_pack("{s:s, s:s}", "what", "none", "why", why), error);
}

/* ---- definitions ---- */

/* The sources of all file disks as the definition has them; it will name another leaf. */
static json_t *
definition_now(const HvDomain *hv, const HvDisk *will)
{
    g_autoptr(json_t) targets = json_array();
    g_autoptr(json_t) sources = json_array();
    g_autoptr(json_t) formats = json_array();

    for (guint i = 0; hv->inactive != NULL && i < hv->inactive->len; i++) {
        const HvDisk *disk = hv->inactive->pdata[i];
        if (g_strcmp0(disk->device, "disk") != 0 || g_strcmp0(disk->type, "file") != 0 ||
            disk->source == NULL || disk->format == NULL)
            continue;
        json_array_append_new(targets, json_string(disk->target));
        json_array_append_new(sources, json_string(disk->source));
        json_array_append_new(formats, json_string(disk->format));
    }
    return json_pack("{s:s, s:O, s:O, s:O, s:s, s:s}", "what", "definition", "targets", targets,
                     "sources", sources, "formats", formats, "target", will->target, "leaf",
                     will->source);
}

static bool
keep_definition(Operation *op, const HvDomain *hv, const HvDisk *will, GError **error)
{
    Domain *home = doctor_home(op, error);

    return home != NULL &&
           (hv->inactive_xml == NULL ||
            undo_put(home, op->row.id, "definition.xml", hv->inactive_xml, false, error)) &&
           doctor_keep(op, definition_now(hv, will), error);
}

/* *ret_stale: it was necessary. */
static bool
mend_leaf(Operation *op, const Finding *finding, bool *ret_stale, GError **error)
{
    g_autoptr(HvDomain) hv = op_hv(op, error);
    const HvDisk *disk = hv != NULL ? hv_domain_disk(hv, finding->disk) : NULL;
    g_auto(GuardManifest) manifest = { 0 };
    g_auto(GuardFinding) stale = { 0 };

    if (hv == NULL)
        return false;
    if (disk == NULL || !doctor_is_off(hv))
        return error_set(error, ERR_BUSY, "VM '%s' is not off any more", hv->name);
    const char *const sources[] = { disk->source, NULL };
    if (!guard_load(op->row.vm_id, sources, &manifest, error))
        return false;
    guard_look(&manifest, disk->target, disk->source, disk->format, &stale);
    *ret_stale = stale.verdict != GUARD_FINE;
    if (!*ret_stale)
        return true;
    if (stale.verdict != GUARD_STALE || stale.leaf == NULL)
        return error_set(error, ERR_REFUSED, "%s", stale.reason);
    return doctor_cannot_undo(op, "the definition named a volume that is not the newest", error) &&
           op_point_at(op, disk->target, stale.leaf, stale.format, error);
}

static bool
mend_definition(Operation *op, const Finding *finding, GError **error)
{
    g_autoptr(HvDomain) hv = op_hv(op, error);
    const HvDisk *live = hv != NULL ? hv_domain_disk(hv, finding->disk) : NULL;

    if (hv == NULL)
        return false;
    if (live == NULL || live->source == NULL)
        return error_set(error, ERR_NOT_FOUND, "VM '%s' has no disk %s any more", hv->name,
                         finding->disk);
    if (doctor_is_off(hv)) { /* since when? then this is the definition's leaf */
        bool stale = false;
        if (!mend_leaf(op, finding, &stale, error))
            return false;
        if (stale)
            return true;
    }
    return keep_definition(op, hv, live, error) &&
           op_point_at(op, live->target, live->source, live->format, error);
}

/* ---- headers ---- */

/* Nobody may begin to use the volumes meanwhile. */
int
doctor_hold_off(Operation *op, GError **error)
{
    Domain *home = doctor_home(op, error);
    autofd int lock = home != NULL ? vm_start_lock(home, op->row.vm_id, LOCK_BUDGET_MS, error) : -1;
    g_autoptr(HvDomain) hv = lock >= 0 ? op_hv(op, error) : NULL;

    if (hv == NULL)
        return -1;
    if (!doctor_is_off(hv)) {
        error_set(error, ERR_BUSY, "VM '%s' is not off any more", hv->name);
        return -1;
    }
    return steal_fd(&lock);
}

static bool
keep_backing(Operation *op, const Qcow2Header *header, GError **error)
{
    if (header->backing_format == NULL)
        return doctor_cannot_undo(op, "the header told no format of its backing file", error);
    return doctor_keep(op,
                       json_pack("{s:s, s:s, s:s, s:s}", "what", "backing", "path", header->path,
                                 "backing", header->backing_file, "format", header->backing_format),
                       error);
}

/* Format NULL: as it is. */
static bool
rewrite(Operation *op, const char *path, const char *backing, const char *format, GError **error)
{
    g_autoptr(Qcow2Header) header = qcow2_header_read(path, error);
    autofd int lock = -1;

    if (header == NULL || (lock = doctor_hold_off(op, error)) < 0 ||
        !keep_backing(op, header, error))
        return false;
    return doctor_write_backing(path, backing != NULL ? backing : header->backing_file,
                                format != NULL ? format : header->backing_format, error);
}

static bool
mend_format(Operation *op, const Finding *finding, GError **error)
{
    g_auto(World) world = { 0 };
    g_autoptr(Qcow2Header) header = qcow2_header_read(finding->file, error);
    g_autofree char *below = NULL;

    if (header == NULL || !world_look(op, &world, error) ||
        (below = qcow2_backing_path(finding->file, header->backing_file, error)) == NULL)
        return false;
    const Disk *disk = vm_disk_by_path(world.vm, below);
    if (disk == NULL)
        return error_set(error, ERR_REFUSED, "the manifest does not know %s any more", below);
    return rewrite(op, finding->file, NULL, disk_volume_by_path(disk, below)->format, error);
}

static bool
mend_absolute(Operation *op, const Finding *finding, GError **error)
{
    g_autoptr(Qcow2Header) header = qcow2_header_read(finding->file, error);
    g_autofree char *below = NULL, *relative = NULL;

    if (header == NULL)
        return false;
    below = qcow2_backing_path(finding->file, header->backing_file, error);
    if (below == NULL)
        return false;
    relative = relative_name(finding->file, below);
    return rewrite(op, finding->file, relative, NULL, error);
}

/* Of a VM that runs: QEMU itself does it, and knows what it reads. */
static bool
mend_mismatch(Operation *op, const Finding *finding, GError **error)
{
    g_autoptr(HvDomain) hv = op_hv(op, error);
    const HvDisk *disk = hv != NULL ? hv_domain_disk(hv, finding->disk) : NULL;

    if (hv == NULL)
        return false;
    if (disk == NULL || hv->instance == NULL)
        return error_set(error, ERR_REFUSED, "VM '%s' does not run with a disk %s any more",
                         hv->name, finding->disk);
    if (!doctor_cannot_undo(op, "the header named another volume than QEMU read", error) ||
        !relink(op->agent, hv, disk, disk->source, error))
        return false;
    for (guint i = 0; disk->backing != NULL && i < disk->backing->len; i++)
        if (!relink(op->agent, hv, disk, disk->backing->pdata[i], error))
            return false;
    return true;
}

static bool
mend_bitmaps(Operation *op, const Finding *finding, GError **error)
{
    autofd int lock = doctor_hold_off(op, error);
    g_auto(GStrv) names = lock >= 0 ? qcow2_stale_bitmaps(finding->file, error) : NULL;

    if (names == NULL ||
        !doctor_cannot_undo(op, "a bitmap that was not closed holds nothing", error))
        return false;
    for (char **name = names; *name != NULL; name++) {
        const char *const argv[] = { "qemu-img", "bitmap",      "--remove", "-f",
                                     "qcow2",    finding->file, *name,      NULL };
        if (!doctor_qemu_img(argv, error))
            return false;
    }
    return volume_sync(finding->file, error);
}

/* ---- files ---- */

static bool
mend_missing(Operation *op, const Finding *finding, GError **error)
{
    Domain *domain = agent_domain(op->agent, finding->file, false, error);
    g_autoptr(GPtrArray) list = domain != NULL ? trash_list(domain, error) : NULL;
    g_autofree char *name = g_path_get_basename(finding->file);
    const TrashEntry *found = NULL;

    for (guint i = 0; list != NULL && i < list->len; i++)
        if (g_str_equal(((TrashEntry *)list->pdata[i])->name, name))
            found = list->pdata[i];
    if (list == NULL)
        return false;
    if (found == NULL)
        return error_set(error, ERR_NOT_FOUND, "%s is not in the trash any more", name);
    return doctor_cannot_undo(op, "a disk needs the file that was put back", error) &&
           trash_restore(domain, found->path, finding->file, error);
}

static bool
mend_orphan(Operation *op, const Finding *finding, GError **error)
{
    Domain *domain = agent_domain(op->agent, finding->file, false, error);

    if (domain == NULL)
        return false;
    if (volume_is_open(finding->file))
        return error_set(error, ERR_BUSY, "%s is open in a QEMU; it stays", finding->file);
    return doctor_keep(op, json_pack("{s:s, s:s}", "what", "trashed", "path", finding->file),
                       error) &&
           volume_delete(domain, op->row.id, finding->file, TRASH_KEEP, error);
}

static bool
mend_trash(Operation *op, const Finding *finding, GError **error)
{
    Domain *domain = agent_domain(op->agent, finding->file, false, error);

    return domain != NULL && doctor_cannot_undo(op, "a deletion was finished", error) &&
           trash_purge(domain, finding->file, error);
}

/* ---- what is not found any more ---- */

static bool
settle_manifest(Operation *op, GError **error)
{
    Domain *home = doctor_home(op, error);
    g_autoptr(GError) problem = NULL;
    g_autoptr(Vm) vm = home != NULL ? manifest_load(home, op->row.vm_id, &problem) : NULL;

    if (vm != NULL)
        return manifest_sync(home, op->row.vm_id, error);
    if (problem != NULL)
        g_propagate_error(error, g_steal_pointer(&problem));
    else if (home != NULL)
        return manifest_remove(home, op->row.vm_id, error); /* a bad one was */
    return false;
}

/* One that is there has found somebody whose it is. */
static bool
settle_orphan(Operation *op, const char *file, GError **error)
{
    if (!doctor_has_begun(op, file) || g_file_test(file, G_FILE_TEST_EXISTS))
        return true;
    Domain *domain = agent_domain(op->agent, file, false, error);
    return domain != NULL && volume_delete(domain, op->row.id, file, TRASH_KEEP, error);
}

bool
doctor_settle(Operation *op, const Finding *finding, GError **error)
{
    switch ((int)finding->class) {
    case DIAG_MISSING_PARENT:
    case DIAG_BACKING_FORMAT:
    case DIAG_ABSOLUTE_PATH:
    case DIAG_STALE_BITMAP:
        return !g_file_test(finding->file, G_FILE_TEST_EXISTS) || volume_sync(finding->file, error);
    case DIAG_BAD_MANIFEST:
    case DIAG_STALE_MANIFEST:
    case DIAG_LEFTOVER_RECORD:
    case DIAG_FOREIGN_JOB:
    case DIAG_FOREIGN_OVERLAY:
        return settle_manifest(op, error);
    case DIAG_ORPHAN_VOLUME:
    case DIAG_LEFTOVER_BUILD:
        return settle_orphan(op, finding->file, error);
    default: /* libvirt's, which makes it durable itself, or nothing that must be */
        return true;
    }
}

bool
doctor_mend(Operation *op, const Finding *finding, GError **error)
{
    bool stale = false;

    log_vm_info(op->row.vm_id, op->row.id, "%s: %s", diagnosis_word(finding->class), finding->text);
    switch ((int)finding->class) {
    case DIAG_MISSING_PARENT:
        return mend_missing(op, finding, error);
    case DIAG_BACKING_FORMAT:
        return mend_format(op, finding, error);
    case DIAG_ABSOLUTE_PATH:
        return mend_absolute(op, finding, error);
    case DIAG_CHAIN_MISMATCH:
        return mend_mismatch(op, finding, error);
    case DIAG_STALE_LEAF:
        return mend_leaf(op, finding, &stale, error);
    case DIAG_STALE_DEFINITION:
        return mend_definition(op, finding, error);
    case DIAG_BAD_MANIFEST:
        return mend_bad_manifest(op, error);
    case DIAG_STALE_MANIFEST:
        return mend_stale_manifest(op, finding, error);
    case DIAG_LEFTOVER_RECORD:
        return mend_record(op, finding, error);
    case DIAG_FOREIGN_JOB:
        return mend_job(op, finding, error);
    case DIAG_FOREIGN_OVERLAY:
        return mend_overlay(op, finding, error);
    case DIAG_LIBVIRT_SNAPSHOT:
        return mend_libvirt_record(op, finding, error);
    case DIAG_STALE_BITMAP:
        return mend_bitmaps(op, finding, error);
    case DIAG_ORPHAN_VOLUME:
    case DIAG_LEFTOVER_BUILD:
        return mend_orphan(op, finding, error);
    case DIAG_LEFTOVER_TRASH:
        return mend_trash(op, finding, error);
    default:
        return error_set(error, ERR_REFUSED, "%s is never mended by itself",
                         diagnosis_word(finding->class));
    }
}
