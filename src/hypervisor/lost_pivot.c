/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * Pivots that QEMU has done and libvirt has forgotten: it was killed in them. A look at a VM shows
 * the leaf that QEMU is on. And what libvirt takes for a pivot and was none: a commit that was
 * cancelled as it was killed. The look shows the leaf of that beside the one that libvirt names,
 * for only a manifest tells it from the overlay of a snapshot.
 */
#include "hypervisor/connection.h"

static bool
has_job(virDomainPtr domain, const HvDisk *disk)
{
    virDomainBlockJobInfo info;

    return virDomainGetBlockJobInfo(domain, disk->target, &info, 0) != 0; /* not knowing: yes */
}

static bool
is_in_file(const HvDisk *disk)
{
    return g_strcmp0(disk->type, "file") == 0 || g_strcmp0(disk->type, "block") == 0;
}

/* A libvirtd that was killed in the begin of a job does not know its mirror; if another is killed
 * in its pivot the next one shows the old leaf, and no trace of either. Then QEMU is asked: once a
 * connection, for what it knows of the disk is right from then on; and for ever where it is not.
 * The new leaf is below the old one after a commit, and beside it after a copy. */
static bool
correct_traceless_pivot(Libvirt *self, Monitor *monitor, const char *vm_id, HvDisk *disk,
                        GError **error)
{
    g_autofree char *key = g_strdup_printf("%s/%s", vm_id, disk->target);
    g_autofree char *leaf = NULL;
    g_autoptr(GError) problem = NULL;
    bool above = false;

    if (disk->alias == NULL || disk->source == NULL || disk->backing == NULL)
        return true;
    g_mutex_lock(&self->lock);
    bool known = g_hash_table_contains(self->sure_leaves, key);
    g_mutex_unlock(&self->lock);
    if (known || has_job(monitor->domain, disk))
        return true;
    if (!monitor_leaf(monitor, disk, &leaf, &above, &problem) &&
        g_error_matches(problem, ERR, ERR_UNREACHABLE)) {
        g_propagate_error(error, g_steal_pointer(&problem));
        return false;
    }
    /* It may be unable to tell of this kind of disk. */
    if (leaf != NULL && is_in_file(disk) && g_path_is_absolute(leaf) &&
        !g_str_equal(leaf, disk->source)) {
        if (above)
            disk->hidden_leaf = g_steal_pointer(&leaf);
        else
            hv_disk_take_leaf(disk, g_steal_pointer(&leaf));
        return true;
    }
    WITH_LOCK(&self->lock);
    g_hash_table_add(self->sure_leaves, g_steal_pointer(&key));
    return true;
}

/* A mirror without a job is what a killed libvirtd remembers of one. Where its end was asked for,
 * QEMU knows what became of it: after a cancel it is on the old leaf. */
static bool
correct_lost_pivot(Libvirt *self, Monitor *monitor, const char *vm_id, HvDisk *disk, GError **error)
{
    bool ends =
        g_strcmp0(disk->mirror_ready, "pivot") == 0 || g_strcmp0(disk->mirror_ready, "abort") == 0;
    g_autofree char *leaf = NULL;
    bool above = false;

    if (disk->mirror_path == NULL)
        return correct_traceless_pivot(self, monitor, vm_id, disk, error);
    if ((!ends && g_strcmp0(disk->mirror_ready, "yes") != 0) || has_job(monitor->domain, disk))
        return true;
    if (!monitor_leaf(monitor, disk, &leaf, &above, error))
        return false;
    bool pivoted = g_str_equal(leaf, disk->mirror_path);
    if (!pivoted && !ends)
        return true;
    if (pivoted) {
        g_free(disk->format);
        disk->format = g_strdup(disk->mirror_format);
        hv_disk_take_leaf(disk, g_steal_pointer(&leaf));
    }
    g_clear_pointer(&disk->mirror_job, g_free);
    g_clear_pointer(&disk->mirror_path, g_free);
    g_clear_pointer(&disk->mirror_ready, g_free);
    disk->lost_pivot = true;
    return true;
}

bool
lost_pivots_correct(Libvirt *self, virDomainPtr domain, const char *vm_id, GPtrArray *disks,
                    GError **error)
{
    g_auto(Monitor) monitor = { .domain = domain };

    for (guint i = 0; i < disks->len; i++)
        if (!correct_lost_pivot(self, &monitor, vm_id, disks->pdata[i], error))
            return false;
    return true;
}
