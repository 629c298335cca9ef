/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * By what one may search in which collection.
 */
#include "api/search_tree.h"

/* Fields of a search and where the documents have them: "vm.name" is a member of a member (of each
 * in a list), "=Default" is the same for all, "" is what a client may ask for and nothing has,
 * what begins with "~" is told beside the documents, for the search alone, and "?false" is for
 * those that have none.
 */
/* clang-format off */
const SearchField search_fields[] = {
    { "vm", "name", "name" }, { "vm", "id", "id" }, { "vm", "status", "status" },
    { "vm", "description", "description" }, { "vm", "comment", "comment" },
    { "vm", "memory", "memory" }, { "vm", "type", "type" }, { "vm", "host", "host.name" },
    { "vm", "host.name", "host.name" }, { "vm", "cluster", "cluster.name" }, { "vm", "cluster.name", "cluster.name" },
    { "vm", "datacenter", "=Default" }, { "vm", "has_illegal_images", "has_illegal_images?false" },
    { "vm", "storage", "~storage" }, { "vm", "storage.name", "~storage" }, { "vm", "template", "=Blank" },
    { "vm", "template.name", "=Blank" }, { "vm", "next_run_config_exists", "next_run_configuration_exists" },
    { "vm", "os", "os.type" }, { "vm", "creationdate", "creation_time" }, { "vm", "uptime", "" }, { "vm", "fqdn", "fqdn" },
    { "vm", "ip", "" }, { "vm", "pool", "" }, { "vm", "tag", "" }, { "vm", "quota", "" }, { "vm", "users.name", "" },
    { "vm", "compatibility_level", "=4.7" }, { "vm", "architecture", "cpu.architecture" },
    { "disk", "name", "name" }, { "disk", "alias", "alias" }, { "disk", "id", "id" },
    { "disk", "status", "status" }, { "disk", "format", "format" }, { "disk", "description", "description" },
    { "disk", "provisioned_size", "provisioned_size" }, { "disk", "vm_names", "vms.vm.name" },
    { "disk", "vms.name", "vms.vm.name" }, { "disk", "disk_type", "storage_type" },
    { "disk", "storage", "storage_domains.storage_domain.name" },
    { "disk", "storage.name", "storage_domains.storage_domain.name" },
    { "disk", "datacenter", "=Default" }, { "disk", "bootable", "" }, { "disk", "shareable", "shareable" },
    { "disk", "wipe_after_delete", "wipe_after_delete" }, { "disk", "quota", "" },
    { "job", "correlation_id", "correlation_id" }, { "job", "status", "status" },
    { "job", "kind", "kind" }, { "job", "id", "id" },
    { "job", "vm", "vm.name" }, { "job", "vm.name", "vm.name" }, { "job", "vm.id", "vm.id" },
    { "event", "severity", "severity" }, { "event", "code", "code" }, { "event", "type", "code" },
    { "event", "message", "description" }, { "event", "time", "time" }, { "event", "id", "id" },
    { "event", "correlation_id", "correlation_id" }, { "event", "vm", "vm.name" },
    { "event", "vm.name", "vm.name" }, { "event", "vms.name", "vm.name" }, { "event", "event_vm", "vm.name" },
    { "event", "vm.id", "vm.id" }, { "event", "user", "user.name" }, { "event", "user.name", "user.name" },
    { "event", "usrname", "user.name" }, { "event", "event_host", "host.name" }, { "event", "event_datacenter", "data_center.name" },
    { "event", "datacenter", "data_center.name" },
    { "event", "host", "host.name" }, { "event", "host.name", "host.name" },
    { "event", "cluster", "cluster.name" }, { "event", "origin", "origin" }, { "event", "custom_id", "custom_id" },
    { "host", "name", "name" }, { "host", "id", "id" }, { "host", "status", "status" }, { "host", "type", "type" },
    { "host", "address", "address" }, { "host", "cluster", "cluster.name" }, { "host", "datacenter", "=Default" },
    { "host", "comment", "comment" }, { "host", "tag", "" },
    { "cluster", "name", "name" }, { "cluster", "id", "id" }, { "cluster", "description", "description" },
    { "cluster", "comment", "comment" }, { "cluster", "datacenter", "=Default" }, { "cluster", "datacenter.name", "=Default" },
    { "cluster", "architecture", "cpu.architecture" },
    { "data_center", "name", "name" }, { "data_center", "id", "id" },
    { "data_center", "status", "status" }, { "data_center", "description", "description" },
    { "data_center", "storage", "~storage" }, { "data_center", "storage.name", "~storage" },
    { "data_center", "clusters.name", "=Default" },
    { "storage_domain", "name", "name" }, { "storage_domain", "id", "id" }, { "storage_domain", "type", "type" },
    { "storage_domain", "status", "~status" }, { "storage_domain", "datacenter", "=Default" },
    { "storage_domain", "description", "description" }, { "storage_domain", "comment", "comment" },
    { "template", "name", "name" }, { "template", "id", "id" }, { "template", "status", "status" },
    { "template", "datacenter", "=Default" }, { "template", "cluster", "cluster.name" }, { "template", "vm.name", "" },
    { "template", "description", "description" },
    { "tag", "name", "name" }, { "tag", "id", "id" }, { "tag", "description", "description" },
    /* of what there is none */
    { "none", "name", "" }, { "none", "id", "" }, { "none", "description", "" }, { "none", "comment", "" },
    { "none", "status", "" }, { "none", "type", "" }, { "none", "datacenter", "" }, { "none", "cluster", "" },
    { "none", "vm.name", "" },
    { "user", "name", "name" }, { "user", "usrname", "user_name" }, { "user", "role", "role" },
    { "session", "id", "id" }, { "session", "kind", "kind" }, { "session", "address", "address" },
    { NULL },
};
/* clang-format on */

bool
search_field(const char *kind, const char *field, const char **ret_path, GError **error)
{
    for (const SearchField *row = search_fields; row->kind != NULL; row++) {
        if (g_str_equal(row->kind, kind) && g_ascii_strcasecmp(row->field, field) == 0) {
            *ret_path = row->path;
            return true;
        }
    }
    return error_set(error, ERR_INVALID, "search: a %s has no field '%.60s' to search by", kind,
                     field);
}
