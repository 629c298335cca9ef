/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "agent/relink.h"

#include "agent/operation.h"
#include "base/log.h"
#include "qcow2/qcow2.h"

/* Where it is in disk->backing: 0 = it is the leaf's own; -1 = it is not there. */
static int
place_below(const HvDisk *disk, const char *path)
{
    if (disk->backing == NULL || disk->mirror_job != NULL)
        return -1;
    if (g_strcmp0(disk->source, path) == 0)
        return 0;
    for (guint i = 0; i < disk->backing->len; i++)
        if (g_strcmp0(disk->backing->pdata[i], path) == 0)
            return (int)i + 1;
    return -1;
}

const char *
relink_below(const HvDisk *disk, const char *path)
{
    int at = place_below(disk, path);

    return at >= 0 && (guint)at < disk->backing->len ? disk->backing->pdata[at] : NULL;
}

bool
relink_is_needed(const HvDisk *disk, const char *path, const char **ret_below)
{
    int at = place_below(disk, path);
    g_autofree char *named = NULL;

    if (relink_below(disk, path) == NULL || (named = qcow2_backing_of(path)) == NULL ||
        file_is_same(named, disk->backing->pdata[at]))
        return false;
    for (guint i = (guint)at + 1; i < disk->backing->len; i++)
        if (file_is_same(named, disk->backing->pdata[i])) {
            *ret_below = disk->backing->pdata[at];
            return true;
        }
    return false;
}

bool
relink(Agent *agent, const HvDomain *hv, const HvDisk *disk, const char *path, GError **error)
{
    const HypervisorOps *ops = agent->hv->ops;
    const char *below = NULL;

    if (!relink_is_needed(disk, path, &below))
        return true;
    if (ops->relink == NULL)
        return error_set(error, ERR_UNSUPPORTED, "VM '%s', disk %s: headers are not corrected here",
                         hv->name, disk->target);
    g_autofree char *name = relative_name(path, below);
    /* as others stand on it, it is no raw file that looks so */
    g_autoptr(Qcow2Header) header = qcow2_header_read(below, error);
    if (header == NULL || !ops->relink(agent->hv, hv->id, disk->target, path, below, name, error) ||
        !volume_sync(path, error))
        return false;
    log_vm_warn(hv->id, NULL,
                "VM '%s', disk %s: the header of %s names %s now, on which it stands: somebody "
                "else's, which had come in between",
                hv->name, disk->target, path, below);
    return !relink_is_needed(disk, path, &below) ||
           error_set(error, ERR_INTERNAL, "the header of %s still does not name %s", path, below);
}
