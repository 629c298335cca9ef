/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * QEMU is told to write into a volume's header what it has below that anyway: libvirt puts an
 * overlay on whatever the disk is on in that instant, which somebody else may have just changed,
 * and the header names another volume then. The VM reads rightly as long as it runs.
 */
#include "hypervisor/connection.h"

#include <jansson.h>
#include <libvirt/libvirt-qemu.h>

static json_int_t
id_of(const json_t *nodes, const char *name)
{
    size_t i;
    json_t *node;

    json_array_foreach (nodes, i, node)
        if (g_strcmp0(json_string_value(json_object_get(node, "name")), name) == 0)
            return json_integer_value(json_object_get(node, "id"));
    return -1;
}

/* The names of files are no help: QEMU cuts them off after 4095 bytes, and those of a long chain
 * hold the names of all below. */
static bool
stands_on(const char *graph, const char *node, const char *below)
{
    g_autoptr(json_t) document = json_loads(graph, 0, NULL);
    const json_t *reply = json_object_get(document, "return");
    const json_t *nodes = json_object_get(reply, "nodes");
    json_int_t parent = id_of(nodes, node), child = id_of(nodes, below);
    size_t i;
    json_t *edge;

    json_array_foreach (json_object_get(reply, "edges"), i, edge)
        if (parent >= 0 && child >= 0 &&
            g_strcmp0(json_string_value(json_object_get(edge, "name")), "backing") == 0 &&
            json_integer_value(json_object_get(edge, "parent")) == parent &&
            json_integer_value(json_object_get(edge, "child")) == child)
            return true;
    return false;
}

static bool
ask(virDomainPtr domain, const char *command, char **ret_reply, const char *what, GError **error)
{
    autolibc char *reply = NULL;

    if (virDomainQemuMonitorCommand(domain, command, &reply, 0) < 0)
        return libvirt_refused(domain, error, "%s", what);
    g_autoptr(json_t) document = json_loads(reply, 0, NULL);
    const json_t *problem = json_object_get(document, "error");
    if (document == NULL || problem != NULL)
        return error_set(error, ERR_REFUSED, "%s: QEMU of VM '%s' says: %s", what,
                         virDomainGetName(domain),
                         problem != NULL ? json_string_value(json_object_get(problem, "desc"))
                                         : "nothing that is JSON");
    if (ret_reply != NULL)
        *ret_reply = g_strdup(reply);
    return true;
}

/* QEMU 7.2 gives the backing file the format of the image itself (qmp_change_backing_file()): the
 * caller sees to it that that is right. */
static bool
write_header(virDomainPtr domain, const char *leaf, const char *node, const char *name,
             GError **error)
{
    g_autoptr(json_t) command =
        json_pack("{s:s, s:{s:s, s:s, s:s}}", "execute", "change-backing-file", "arguments",
                  "device", leaf, "image-node-name", node, "backing-file", name);
    g_autofree char *text = json_dumps(command, 0);

    return ask(domain, text, NULL, "having QEMU correct a header", error);
}

bool
relink_volume(Hypervisor *hv, const char *vm_id, const char *disk, const char *path,
              const char *below, const char *name, GError **error)
{
    static const char graph[] = "{\"execute\":\"x-debug-query-block-graph\"}";
    g_autoptr(virDomain) domain = libvirt_domain(hv, vm_id, error);
    autolibc char *xml = domain != NULL ? virDomainGetXMLDesc(domain, 0) : NULL;
    g_autofree char *leaf = NULL, *node = NULL, *lower = NULL, *reply = NULL;
    HvJob job = { 0 };

    if (domain == NULL || !jobs_look(hv, vm_id, disk, &job, error))
        return false;
    if (job.type != HV_JOB_NONE)
        return error_set(error, ERR_BUSY, "VM '%s', disk %s: a block job is at work",
                         virDomainGetName(domain), disk);
    if (xml == NULL)
        return libvirt_refused(domain, error, "asking for its definition");
    if ((leaf = hv_node_of(xml, disk, NULL, error)) == NULL ||
        (node = hv_node_of(xml, disk, path, error)) == NULL ||
        (lower = hv_node_of(xml, disk, below, error)) == NULL ||
        !ask(domain, graph, &reply, "asking QEMU for its block graph", error))
        return false;
    if (!stands_on(reply, node, lower))
        return error_set(error, ERR_REFUSED, "VM '%s', disk %s: its QEMU does not have %s on %s",
                         virDomainGetName(domain), disk, path, below);
    return write_header(domain, leaf, node, name, error);
}
