/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * External snapshots, and freezing the guest's file systems for them.
 */
#include "hypervisor/connection.h"
#include "hypervisor/xml.h"

static xmlNode *
add(xmlNode *parent, const char *name)
{
    return xmlNewChild(parent, NULL, BAD_CAST name, NULL);
}

static const char *
overlay_of(const HvSnapshotDisk *disks, unsigned n, const char *target)
{
    for (unsigned i = 0; i < n; i++)
        if (strcmp(disks[i].target, target) == 0)
            return disks[i].overlay;
    return NULL;
}

static void
add_disk(xmlNode *parent, const char *target, const char *overlay)
{
    xmlNode *disk = add(parent, "disk");

    xml_set(disk, "name", target);
    xml_set(disk, "snapshot", overlay != NULL ? "external" : "no");
    if (overlay == NULL)
        return;
    xml_set(disk, "type", "file");
    xml_set(add(disk, "driver"), "type", "qcow2");
    xml_set(add(disk, "source"), "file", overlay);
}

/* Every disk that the VM has is listed: libvirt also snapshots those that are not. */
static char *
snapshot_xml(const GPtrArray *all, const HvSnapshotDisk *disks, unsigned n, const char *memory)
{
    g_autoptr(xmlDoc) doc = xmlNewDoc(BAD_CAST "1.0");
    xmlNode *root = xmlNewNode(NULL, BAD_CAST "domainsnapshot");

    xmlDocSetRootElement(doc, root);
    xmlNode *node = add(root, "memory");
    xml_set(node, "snapshot", memory != NULL ? "external" : "no");
    if (memory != NULL)
        xml_set(node, "file", memory);
    node = add(root, "disks");
    for (unsigned i = 0; i < all->len; i++) {
        const HvDisk *disk = all->pdata[i];
        add_disk(node, disk->target, overlay_of(disks, n, disk->target));
    }
    return xml_write(doc);
}

/* libvirt puts an overlay on whatever the disk is on, also if that is another's that has come in
 * between: the VM reads through it as long as it runs, and what the overlay names is used then. */
static bool
check_disks(virDomainPtr domain, const GPtrArray *all, const HvSnapshotDisk *disks, unsigned n,
            GError **error)
{
    for (unsigned i = 0; i < n; i++) {
        const HvDisk *disk = hv_disk_find(all, disks[i].target);
        if (disk == NULL)
            return error_set(error, ERR_NOT_FOUND,
                             "VM '%s' has no disk %s: no snapshot was taken of any disk",
                             virDomainGetName(domain), disks[i].target);
        if (disks[i].leaf != NULL && g_strcmp0(disk->source, disks[i].leaf) != 0)
            return error_set(error, ERR_REFUSED,
                             "VM '%s', disk %s: somebody else has just changed it from %s to %s; "
                             "nothing was changed, try again",
                             virDomainGetName(domain), disk->target, disks[i].leaf,
                             disk->source != NULL ? disk->source : "nothing");
    }
    return true;
}

bool
snapshot_take(Hypervisor *hv, const char *vm_id, const HvSnapshotDisk *disks, unsigned n_disks,
              const char *memory, GError **error)
{
    g_autoptr(virDomain) domain = libvirt_domain(hv, vm_id, error);
    g_autoptr(GPtrArray) all = NULL;
    unsigned flags = VIR_DOMAIN_SNAPSHOT_CREATE_REUSE_EXT | VIR_DOMAIN_SNAPSHOT_CREATE_NO_METADATA |
                     VIR_DOMAIN_SNAPSHOT_CREATE_ATOMIC;

    if (domain == NULL)
        return false;
    autolibc char *now = virDomainGetXMLDesc(domain, 0);
    if (now == NULL)
        return libvirt_refused(domain, error, "reading its disks for a snapshot");
    if (!hv_parse_domain(now, NULL, &all, error) ||
        !check_disks(domain, all, disks, n_disks, error))
        return false;

    flags |=
        memory != NULL ? VIR_DOMAIN_SNAPSHOT_CREATE_LIVE : VIR_DOMAIN_SNAPSHOT_CREATE_DISK_ONLY;
    g_autofree char *xml = snapshot_xml(all, disks, n_disks, memory);
    virDomainSnapshotPtr taken = virDomainSnapshotCreateXML(domain, xml, flags);
    if (taken == NULL)
        return libvirt_refused(domain, error, "taking a snapshot");
    virDomainSnapshotFree(taken);
    return true;
}

/* The time-out belongs to libvirt's record of the domain: others must find the default again. */
static bool
with_budget(Hypervisor *hv, const char *vm_id, unsigned budget_s, const char *doing,
            int (*ask)(virDomainPtr, const char **, unsigned, unsigned), GError **error)
{
    g_autoptr(virDomain) domain = libvirt_domain(hv, vm_id, error);
    int seconds = (int)CLAMP(budget_s, 1, 3600);

    if (domain == NULL)
        return false;
    if (virDomainAgentSetResponseTimeout(domain, seconds, 0) < 0)
        return libvirt_refused(domain, error, "limiting the guest agent's time");
    bool done = ask(domain, NULL, 0, 0) >= 0 || libvirt_refused(domain, error, "%s", doing);
    virDomainAgentSetResponseTimeout(domain, VIR_DOMAIN_AGENT_RESPONSE_TIMEOUT_DEFAULT, 0);
    return done;
}

bool
snapshot_freeze(Hypervisor *hv, const char *vm_id, unsigned budget_s, GError **error)
{
    return with_budget(hv, vm_id, budget_s, "freezing the guest's file systems", virDomainFSFreeze,
                       error);
}

bool
snapshot_thaw(Hypervisor *hv, const char *vm_id, unsigned budget_s, GError **error)
{
    return with_budget(hv, vm_id, budget_s, "thawing the guest's file systems", virDomainFSThaw,
                       error);
}
