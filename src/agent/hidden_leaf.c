/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * A libvirtd that is killed just as it has asked QEMU to cancel an active commit, whose copy was
 * complete, takes it for pivoted when it is back (libvirt 9.0: its note does not say "aborting"
 * yet, and QEMU says "concluded" without an error). It shows the base as the leaf from then on,
 * live and in the definition, and QEMU writes what stands on it. Whoever believed that would take
 * the merge for done, and delete the leaf that is written.
 *
 * QEMU's word alone is not enough: the overlay of a snapshot that libvirt has lost looks the same,
 * and whether it is in the chain decides the snapshot's operation. A volume of the manifest is.
 */
#include "agent/inventory.h"
#include "agent/operation.h"

static bool
has_hidden(const HvDomain *hv)
{
    for (guint i = 0; i < hv->disks->len; i++)
        if (((HvDisk *)hv->disks->pdata[i])->hidden_leaf != NULL)
            return true;
    return false;
}

/* The one that its manifest is in: of the first disk that lies in one, as in agent_build_vm(). */
static Vm *
load_manifest(Agent *agent, const HvDomain *hv, GError **error)
{
    for (guint i = 0; i < hv->disks->len; i++) {
        const HvDisk *disk = hv->disks->pdata[i];
        Domain *domain = g_strcmp0(disk->type, "file") == 0 && disk->source != NULL
                             ? agent_domain(agent, disk->source, false, NULL)
                             : NULL;
        g_autoptr(GError) problem = NULL;
        Vm *vm = domain != NULL ? manifest_load(domain, hv->id, &problem) : NULL;
        if (problem != NULL)
            g_propagate_error(error, g_steal_pointer(&problem));
        if (vm != NULL || problem != NULL)
            return vm;
    }
    return NULL;
}

static const Volume *
volume_of(const Vm *vm, const char *path)
{
    for (guint i = 0; i < vm->disks->len; i++) {
        const Volume *volume = agent_known_volume(vm->disks->pdata[i], path);
        if (volume != NULL)
            return volume;
    }
    return NULL;
}

HvDomain *
agent_look_at_hv(Agent *agent, const char *vm_id, GError **error)
{
    g_autoptr(HvDomain) hv = agent->hv->ops->look(agent->hv, vm_id, error);
    g_autoptr(GError) problem = NULL;
    g_autoptr(Vm) vm = NULL;

    if (hv == NULL || !has_hidden(hv))
        return g_steal_pointer(&hv);
    vm = load_manifest(agent, hv, &problem);
    if (problem != NULL) {
        g_propagate_error(error, g_steal_pointer(&problem));
        return NULL;
    }
    for (guint i = 0; vm != NULL && i < hv->disks->len; i++) {
        HvDisk *disk = hv->disks->pdata[i];
        const Volume *volume = disk->hidden_leaf != NULL ? volume_of(vm, disk->hidden_leaf) : NULL;
        if (volume == NULL)
            continue;
        g_free(disk->format);
        disk->format = g_strdup(volume->format);
        hv_disk_take_leaf(disk, g_steal_pointer(&disk->hidden_leaf));
    }
    return g_steal_pointer(&hv);
}
