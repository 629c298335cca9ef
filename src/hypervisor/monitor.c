/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * Asking QEMU itself, past libvirt. libvirt marks such a domain as tainted ("custom-monitor"), so
 * it is done only where libvirt's own word cannot be right.
 */
#include "hypervisor/connection.h"

#include <libvirt/libvirt-qemu.h>
#include <string.h>

/* "/machine/peripheral/virtio-disk0/virtio-backend", or "ide0-0-0" */
static bool
is_device(const char *qdev, const char *alias)
{
    g_auto(GStrv) parts = g_strsplit(qdev != NULL ? qdev : "", "/", -1);

    return g_strv_contains((const char *const *)parts, alias);
}

/* A path, or "json:{...}" where the node was given a backing file by hand, as libvirt does. */
static char *
path_of_node(const char *file)
{
    g_autoptr(json_t) node = NULL;
    const json_t *below;

    if (file == NULL || !g_str_has_prefix(file, "json:"))
        return g_strdup(file);
    node = json_loads(file + strlen("json:"), 0, NULL);
    below = json_object_get(node, "file");
    const json_t *name = json_object_get(below != NULL ? below : node, "filename");
    return g_strdup(json_string_value(name));
}

char *
monitor_find_leaf(const char *reply, const char *alias)
{
    g_autoptr(json_t) document = json_loads(reply, 0, NULL);
    json_t *device;
    size_t i;

    json_array_foreach (json_object_get(document, "return"), i, device)
        if (is_device(json_string_value(json_object_get(device, "qdev")), alias))
            return path_of_node(
                json_string_value(json_object_get(json_object_get(device, "inserted"), "file")));
    return NULL;
}

bool
monitor_leaf(virDomainPtr domain, const HvDisk *disk, char **ret_path, GError **error)
{
    autolibc char *reply = NULL;

    if (virDomainQemuMonitorCommand(domain, "{\"execute\":\"query-block\"}", &reply, 0) < 0)
        return libvirt_refused(domain, error, "asking QEMU for the leaf of disk %s", disk->target);
    *ret_path = disk->alias != NULL ? monitor_find_leaf(reply, disk->alias) : NULL;
    return *ret_path != NULL ||
           error_set(error, ERR_HYPERVISOR, "VM '%s': QEMU does not say which file disk %s is on",
                     virDomainGetName(domain), disk->target);
}
