/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * Storage domains: directories in which volumes of VMs lie, or that a host's agent names. All are
 * attached to the one data center, where they have a status.
 */
#include "api/access.h"

#include <string.h>

/* ---- documents ---- */

/* status: of the data center's view; NULL = the domain's own, which has none while it is attached
 */
static json_t *
storage_domain_document(const char *directory, const char *status)
{
    static const char *const links[] = {
        "disks", "vms",    "disksnapshots",      "diskprofiles", "templates",
        "files", "images", "storageconnections", "permissions"
    };
    g_autofree char *id = storage_domain_id_of(directory);
    g_autofree char *center = data_center_id();
    json_t *doc = status != NULL ? doc_new(id, "/datacenters/%s/storagedomains/%s", center, id)
                                 : doc_new(id, "/storagedomains/%s", id);

    doc_text(doc, "name", directory);
    for (size_t i = 0; i < G_N_ELEMENTS(links); i++)
        doc_link(doc, links[i], "/storagedomains/%s/%s", id, links[i]);
    doc_text(doc, "status", status);
    doc_text(doc, "type", "data");
    doc_flag(doc, "master", false);
    doc_text(doc, "external_status", "ok");
    doc_text(doc, "storage_format", "v5");
    json_object_set_new(doc, "storage",
                        json_pack("{s:s, s:s}", "type", "localfs", "path", directory));
    json_t *centers = doc_new(center, "/datacenters/%s", center);
    if (status != NULL)
        doc_ref(doc, "data_center", center, "/datacenters/%s", center);
    json_object_set_new(doc, "data_centers", json_pack("{s:[o]}", "data_center", centers));
    return doc;
}

/* ---- all of them ---- */

static bool
lies_in(const char *path, const char *directory)
{
    size_t length = strlen(directory);

    return strncmp(path, directory, length) == 0 && (path[length] == '\0' || path[length] == '/');
}

/* Of the host's storage domains the innermost that has the directory. */
static const json_t *
told_of(const json_t *told, const char *host, const char *directory)
{
    const json_t *found = NULL, *domain;
    size_t i;

    json_array_foreach (told, i, domain) {
        const char *path = json_text(domain, "path");
        if (path != NULL && g_strcmp0(json_text(domain, "host"), host) == 0 &&
            lies_in(directory, path) &&
            (found == NULL || strlen(path) > strlen(json_text(found, "path"))))
            found = domain;
    }
    return found;
}

/* What its agent did not tell is left out. */
static void
put_storage(json_t *doc, const json_t *domain)
{
    static const char *const members[] = { "available", "used", "shares_blocks", "holder" };

    for (size_t i = 0; i < G_N_ELEMENTS(members); i++)
        if (json_object_get(domain, members[i]) != NULL)
            json_object_set(doc, members[i], json_object_get(domain, members[i]));
}

typedef struct {
    const char *host, *status;
    const json_t *told; /* manager_storage() */
} Seen;

static void
add_domain(json_t *list, GHashTable *ids, const char *directory, const Seen *seen)
{
    json_t *doc;

    if (!g_hash_table_add(ids, storage_domain_id_of(directory))) /* owns the id either way */
        return;
    doc = storage_domain_document(directory, seen->status);
    put_storage(doc, told_of(seen->told, seen->host, directory));
    json_array_append_new(list, doc);
}

/* What is known of a storage domain comes from the host whose VMs have their disks there. */
static const char *
domain_status(const GPtrArray *hosts, const char *host_name)
{
    for (guint i = 0; i < hosts->len; i++) {
        const HostInfo *host = hosts->pdata[i];
        if (g_strcmp0(host->name, host_name) == 0)
            return host->up ? "active" : "unknown";
    }
    return "unknown";
}

static void
add_domains_of_disk(json_t *list, GHashTable *ids, const Disk *disk, const Seen *seen)
{
    for (guint i = 0; i < disk->volumes->len; i++) {
        g_autofree char *directory =
            g_path_get_dirname(((const Volume *)disk->volumes->pdata[i])->path);
        add_domain(list, ids, directory, seen);
    }
}

/* Those that hold nothing yet: a clone may be the first. */
static void
add_empty_domains(json_t *list, GHashTable *ids, const GPtrArray *hosts, bool in_data_center,
                  const json_t *told)
{
    size_t i;
    json_t *domain;

    json_array_foreach ((json_t *)told, i, domain) {
        const char *host = json_text(domain, "host"), *path = json_text(domain, "path");
        const Seen seen = { host, in_data_center ? domain_status(hosts, host) : NULL, told };
        if (path != NULL)
            add_domain(list, ids, path, &seen);
    }
}

/* What the disks there may grow to, all together. */
static uint64_t
committed(const GPtrArray *vms, const char *directory)
{
    uint64_t bytes = 0;

    for (guint i = 0; i < vms->len; i++) {
        const Vm *vm = vms->pdata[i];
        for (guint j = 0; j < vm->disks->len; j++) {
            const Volume *leaf = disk_leaf(vm->disks->pdata[j]);
            g_autofree char *at = leaf != NULL ? g_path_get_dirname(leaf->path) : NULL;
            bytes += leaf != NULL && g_strcmp0(at, directory) == 0 ? leaf->virtual_size : 0;
        }
    }
    return bytes;
}

/* told: what hosts say of theirs (manager_storage()); NULL = nobody was asked */
static json_t *
list_of(const Call *call, const json_t *told, bool in_data_center)
{
    g_autoptr(GPtrArray) vms = access_vms(call->manager, call->who);
    g_autoptr(GPtrArray) hosts = manager_hosts(call->manager);
    g_autoptr(GHashTable) ids = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, NULL);
    json_t *list = json_array(), *doc;
    size_t i;

    for (guint v = 0; v < vms->len; v++) {
        const Vm *vm = vms->pdata[v];
        const char *status = in_data_center ? domain_status(hosts, vm->host) : NULL;
        const Seen seen = { vm->host, status, told };
        for (guint j = 0; j < vm->disks->len; j++)
            add_domains_of_disk(list, ids, vm->disks->pdata[j], &seen);
    }
    if (call->who->role >= ROLE_VIEWER) /* a directory may be named after its VM */
        add_empty_domains(list, ids, hosts, in_data_center, told);
    json_array_foreach (list, i, doc)
        doc_number(doc, "committed", committed(vms, json_text(doc, "name")));
    return list;
}

json_t *
storage_domain_list(const Call *call, bool in_data_center)
{
    g_autoptr(json_t) told = manager_storage(call->manager);

    return list_of(call, told, in_data_center);
}

unsigned
storage_domain_count(const Call *call, unsigned *ret_active)
{
    g_autoptr(json_t) list = list_of(call, NULL, true);
    json_t *doc;
    size_t i;

    *ret_active = 0;
    json_array_foreach (list, i, doc)
        *ret_active += g_strcmp0(json_text(doc, "status"), "active") == 0;
    return (unsigned)json_array_size(list);
}

char *
storage_domain_directory(const Call *call, const char *id, const char *name, GError **error)
{
    g_autoptr(json_t) list = storage_domain_list(call, false);
    json_t *doc;
    size_t i;

    json_array_foreach (list, i, doc)
        if ((id == NULL || g_strcmp0(json_text(doc, "id"), id) == 0) &&
            (name == NULL || g_strcmp0(json_text(doc, "name"), name) == 0))
            return g_strdup(json_text(doc, "name"));
    error_set(error, ERR_NOT_FOUND, "storage_domain: there is no storage domain '%.100s'",
              id != NULL ? id : name);
    return NULL;
}

/* ---- handlers ---- */

static bool
find_domain(Call *call, const char *id, bool in_data_center, Reply *reply, GError **error)
{
    g_autoptr(json_t) list = storage_domain_list(call, in_data_center);
    json_t *doc;
    size_t i;

    json_array_foreach (list, i, doc) {
        if (g_strcmp0(json_text(doc, "id"), id) == 0) {
            reply->body = json_incref(doc);
            return true;
        }
    }
    return error_set(error, ERR_NOT_FOUND, "there is no storage domain '%s'", id);
}

bool
get_storagedomains(Call *call, Reply *reply, GError **error)
{
    g_autoptr(json_t) told = manager_storage(call->manager);
    g_autoptr(json_t) attached = list_of(call, told, true);

    /* one that is attached shows no status here, but is searched by it */
    return reply_list_beside(call, reply, "storage_domain", list_of(call, told, false),
                             g_steal_pointer(&attached), error);
}

bool
get_storagedomain(Call *call, Reply *reply, GError **error)
{
    return find_domain(call, call->id, false, reply, error);
}

static bool
check_data_center(const Call *call, GError **error)
{
    g_autofree char *center = data_center_id();

    return g_str_equal(center, call->id) ||
           error_set(error, ERR_NOT_FOUND, "there is no data center '%s'", call->id);
}

bool
get_datacenter_storagedomains(Call *call, Reply *reply, GError **error)
{
    if (!check_data_center(call, error))
        return false;
    return reply_part(call, reply, "storage_domain", storage_domain_list(call, true), error);
}

bool
get_datacenter_storagedomain(Call *call, Reply *reply, GError **error)
{
    return check_data_center(call, error) && find_domain(call, call->sub_id, true, reply, error);
}
