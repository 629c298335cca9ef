/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * Keeping libvirt's persistent definition right.
 */
#include "agent/operation.h"

static bool
names_backing(const HvDisk *disk)
{
    return disk->backing != NULL && disk->backing->len > 0;
}

bool
op_definition_is_right(const HvDomain *hv)
{
    if (hv->inactive == NULL)
        return true; /* transient */
    for (guint i = 0; i < hv->inactive->len; i++)
        if (names_backing(hv->inactive->pdata[i]))
            return false; /* it would beat the qcow2 header one day (H4) */
    if (hv->instance == NULL)
        return true; /* off: the definition is all there is */
    for (guint i = 0; i < hv->disks->len; i++) {
        const HvDisk *live = hv->disks->pdata[i];
        const HvDisk *stored = hv_disk_find(hv->inactive, live->target);
        if (stored != NULL && g_strcmp0(live->source, stored->source) != 0)
            return false;
    }
    return true;
}

static bool
redefine(Hypervisor *hv, const HvDomain *domain, GError **error)
{
    g_autoptr(GPtrArray) targets = g_ptr_array_new();
    g_autoptr(GPtrArray) sources = g_ptr_array_new();
    g_autoptr(GPtrArray) formats = g_ptr_array_new();

    for (guint i = 0; i < domain->disks->len; i++) {
        HvDisk *disk = domain->disks->pdata[i];
        /* one that was attached to the running VM alone, or detached from the definition alone */
        bool stored = hv_disk_find(domain->inactive, disk->target) != NULL;
        if (g_strcmp0(disk->device, "disk") != 0 || g_strcmp0(disk->type, "file") != 0 ||
            disk->source == NULL || disk->format == NULL || !stored)
            continue;
        g_ptr_array_add(targets, disk->target);
        g_ptr_array_add(sources, disk->source);
        g_ptr_array_add(formats, disk->format);
    }
    return hv->ops->redefine(hv, domain->id, (const char *const *)targets->pdata,
                             (const char *const *)sources->pdata,
                             (const char *const *)formats->pdata, targets->len, error);
}

/* Somebody else's snapshot can come between the look and the deed. Then the definition must not
 * stay wrong until the caller has looked again: the VM could be powered off meanwhile. */
static bool
runs_as_defined(Agent *agent, const HvDomain *before, GError **error)
{
    if (before->instance == NULL)
        return true;
    g_autoptr(HvDomain) now = agent_look_at_hv(agent, before->id, error);
    for (guint i = 0; now != NULL && i < before->disks->len; i++) {
        const HvDisk *disk = before->disks->pdata[i];
        const HvDisk *same = hv_domain_disk(now, disk->target);
        if (same == NULL || now->instance == NULL || g_strcmp0(same->source, disk->source) == 0)
            continue;
        g_autoptr(GError) problem = NULL;
        if (same->source != NULL && same->hidden_leaf == NULL && image_is_written(same->source))
            (void)redefine(agent->hv, now, &problem);
        return error_set(error, ERR_BUSY,
                         "VM '%s', disk %s: somebody else has just changed it from %s to %s; its "
                         "definition is looked at again",
                         now->name, disk->target, disk->source,
                         same->source != NULL ? same->source : "nothing");
    }
    return now != NULL;
}

bool
definition_mend(Agent *agent, const HvDomain *domain, GError **error)
{
    return op_definition_is_right(domain) ||
           (redefine(agent->hv, domain, error) && runs_as_defined(agent, domain, error));
}

bool
op_mend_definition(Operation *op, const HvDomain *domain, GError **error)
{
    return domain != NULL && definition_mend(op->agent, domain, error);
}

bool
op_point_at(Operation *op, const char *target, const char *source, const char *format,
            GError **error)
{
    Hypervisor *hv = op->agent->hv;

    return hv->ops->redefine(hv, op->row.vm_id, &target, &source, &format, 1, error);
}

bool
op_define(Operation *op, const char *config, const json_t *disks, const char *key,
          const char *format_key, GError **error)
{
    Hypervisor *hv = op->agent->hv;
    size_t n = json_array_size(disks), i;
    g_autofree const char **targets = g_new0(const char *, n);
    g_autofree const char **sources = g_new0(const char *, n);
    g_autofree const char **formats = g_new0(const char *, n);
    json_t *disk;

    json_array_foreach (disks, i, disk) {
        targets[i] = json_text(disk, "target");
        sources[i] = json_text(disk, key);
        formats[i] = format_key != NULL ? json_text(disk, format_key) : "qcow2";
    }
    if (config != NULL && hv->ops->reconfigure != NULL)
        return hv->ops->reconfigure(hv, op->row.vm_id, config, targets, sources, formats,
                                    (unsigned)n, error);
    return hv->ops->redefine(hv, op->row.vm_id, targets, sources, formats, (unsigned)n, error);
}
