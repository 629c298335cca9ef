/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * QEMU flushes a volume below the leaf. It does so by itself where it makes that read-only again;
 * after an active commit that was cancelled or failed QEMU 7.2 keeps its base open for writing, and
 * what a later job writes there is not flushed at its end: tables of a qcow2 file stay in QEMU's
 * memory. The guest's flushes reach the leaf alone.
 */
#include "hypervisor/connection.h"
#include "hypervisor/xml.h"

#include <libvirt/libvirt-qemu.h>
#include <stdlib.h>

/* libvirt calls the volume's node "libvirt-INDEX-format". The index of the leaf is its source's. */
char *
hv_node_of(const char *xml, const char *target, const char *path, GError **error)
{
    g_autoptr(xmlDoc) doc = xml_read(xml, "domain", error);
    xmlNode *disk, *layer;

    if (doc == NULL)
        return NULL;
    disk = xml_disk(xml_child(xmlDocGetRootElement(doc), "devices"), target);
    for (layer = disk; layer != NULL; layer = xml_child(layer, "backingStore")) {
        xmlNode *source = xml_child(layer, "source");
        g_autofree char *index = xml_attr(layer == disk ? source : layer, "index");
        if (index != NULL && (path == NULL || xml_attr_is(source, "file", path)))
            return g_strdup_printf("libvirt-%s-format", index);
    }
    error_set(error, ERR_BUSY, "libvirt does not show %s in the chain of disk %s",
              path != NULL ? path : "a leaf", target);
    return NULL;
}

bool
flush_volume(Hypervisor *hv, const char *vm_id, const char *disk, const char *path, GError **error)
{
    g_autoptr(virDomain) domain = libvirt_domain(hv, vm_id, error);
    autolibc char *xml = domain != NULL ? virDomainGetXMLDesc(domain, 0) : NULL;
    autolibc char *reply = NULL;
    g_autofree char *node = NULL;
    g_autofree char *command = NULL;

    if (domain == NULL)
        return false;
    if (xml == NULL)
        return libvirt_refused(domain, error, "asking for its definition");
    if ((node = hv_node_of(xml, disk, path, error)) == NULL)
        return false;
    command = g_strdup_printf("qemu-io %s flush", node);
    if (virDomainQemuMonitorCommand(domain, command, &reply, VIR_DOMAIN_QEMU_MONITOR_COMMAND_HMP) <
        0)
        return libvirt_refused(domain, error, "disk %s: having QEMU flush %s", disk, path);
    g_strstrip(reply);
    return *reply == '\0' ||
           error_set(error, ERR_BUSY, "disk %s: QEMU did not flush %s: %s", disk, path, reply);
}
