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

/* A path, or "json:{...}" where the node was given a backing file by hand, as libvirt does. That
 * names all of the chain, and QEMU cuts it off after 4095 bytes (PATH_MAX): with a dozen of volumes
 * it is no JSON any more. */
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

/* Is the path among what stands below the image? Its own header's word is always whole. */
static bool
stands_on(const json_t *image, const char *path)
{
    const json_t *below;

    for (; (below = json_object_get(image, "backing-image")) != NULL; image = below) {
        g_autofree char *name = path_of_node(json_string_value(json_object_get(below, "filename")));
        const json_t *noted = json_object_get(image, "full-backing-filename");
        if (g_strcmp0(name, path) == 0 || g_strcmp0(json_string_value(noted), path) == 0)
            return true;
    }
    return false;
}

/* libvirt calls a volume's node "libvirt-7-format" and that of its file "libvirt-7-storage". */
static char *
path_of_storage(const char *reply, const char *format_node)
{
    g_autoptr(json_t) document = json_loads(reply, 0, NULL);
    json_t *node;
    size_t i;

    if (format_node == NULL || !g_str_has_suffix(format_node, "-format"))
        return NULL;
    g_autofree char *wanted = g_strdup_printf(
        "%.*s-storage", (int)(strlen(format_node) - strlen("-format")), format_node);
    json_array_foreach (json_object_get(document, "return"), i, node)
        if (g_strcmp0(json_string_value(json_object_get(node, "node-name")), wanted) == 0)
            return path_of_node(json_string_value(json_object_get(node, "file")));
    return NULL;
}

char *
monitor_find_leaf(const char *blocks, const char *nodes, const char *alias, const char *path,
                  bool *ret_above, bool *ret_cut)
{
    g_autoptr(json_t) document = json_loads(blocks, 0, NULL);
    json_t *device;
    size_t i;

    json_array_foreach (json_object_get(document, "return"), i, device) {
        if (!is_device(json_string_value(json_object_get(device, "qdev")), alias))
            continue;
        const json_t *inserted = json_object_get(device, "inserted");
        const char *file = json_string_value(json_object_get(inserted, "file"));
        char *leaf = path_of_node(file);
        *ret_above = stands_on(json_object_get(inserted, "image"), path);
        *ret_cut = file != NULL && leaf == NULL && nodes == NULL;
        if (file == NULL || leaf != NULL || nodes == NULL)
            return leaf;
        return path_of_storage(nodes, json_string_value(json_object_get(inserted, "node-name")));
    }
    return NULL;
}

void
monitor_clear(Monitor *monitor)
{
    g_clear_pointer(&monitor->blocks, free); /* libvirt's */
    g_clear_pointer(&monitor->nodes, free);
}

static bool
ask(Monitor *monitor, const HvDisk *disk, const char *command, char **reply, GError **error)
{
    return *reply != NULL || virDomainQemuMonitorCommand(monitor->domain, command, reply, 0) == 0 ||
           libvirt_refused(monitor->domain, error, "asking QEMU for the leaf of disk %s",
                           disk->target);
}

bool
monitor_leaf(Monitor *monitor, const HvDisk *disk, char **ret_path, bool *ret_above, GError **error)
{
    static const char blocks[] = "{\"execute\":\"query-block\"}";
    static const char nodes[] =
        "{\"execute\":\"query-named-block-nodes\",\"arguments\":{\"flat\":true}}";
    bool cut = false;

    *ret_above = false;
    if (!ask(monitor, disk, blocks, &monitor->blocks, error))
        return false;
    if (disk->alias != NULL)
        *ret_path = monitor_find_leaf(monitor->blocks, monitor->nodes, disk->alias, disk->source,
                                      ret_above, &cut);
    if (cut) {
        if (!ask(monitor, disk, nodes, &monitor->nodes, error))
            return false;
        *ret_path = monitor_find_leaf(monitor->blocks, monitor->nodes, disk->alias, disk->source,
                                      ret_above, &cut);
    }
    return *ret_path != NULL ||
           error_set(error, ERR_HYPERVISOR, "VM '%s': QEMU does not say which file disk %s is on",
                     virDomainGetName(monitor->domain), disk->target);
}
