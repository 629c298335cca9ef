/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * Hosts, and what oVirt's clients expect around VMs and we have one of: cluster, data center,
 * template.
 */
#include "api/access.h"

/* ---- documents ---- */

static const char *
host_status(const HostInfo *host)
{
    if (!host->up)
        return "non_responsive";
    return host->connected ? "up" : "non_operational";
}

/* "1.2.3" in oVirt's parts */
static json_t *
version_parts(const char *text)
{
    g_auto(GStrv) parts = g_strsplit(text, ".", 3);
    static const char *const names[] = { "major", "minor", "build" };
    json_t *doc = json_object();

    doc_text(doc, "full_version", text);
    for (size_t i = 0; i < G_N_ELEMENTS(names) && parts[i] != NULL; i++)
        doc_number(doc, names[i], g_ascii_strtoull(parts[i], NULL, 10));
    doc_number(doc, "revision", 0);
    return doc;
}

/* What its agent has told. */
static void
put_facts(json_t *doc, const json_t *facts)
{
    const json_t *host = json_object_get(facts, "host");
    const char *version = json_text(facts, "version"), *libvirt = json_text(host, "libvirt");

    if (version != NULL)
        json_object_set_new(doc, "version", version_parts(version));
    if (libvirt != NULL)
        json_object_set_new(doc, "libvirt_version", version_parts(libvirt));
    if (json_number(host, "memory") <= 0)
        return;
    json_object_set(doc, "memory", json_object_get(host, "memory"));
    json_t *cpu =
        json_pack("{s:I, s:{s:I, s:I, s:I}}", "speed", (json_int_t)json_number(host, "mhz"),
                  "topology", "sockets", (json_int_t)json_number(host, "sockets"), "cores",
                  (json_int_t)json_number(host, "cores"), "threads",
                  (json_int_t)json_number(host, "threads"));
    doc_text(cpu, "name", json_text(host, "cpu"));
    json_object_set_new(doc, "cpu", cpu);
}

json_t *
host_document(const HostInfo *host, unsigned vms, unsigned running)
{
    json_t *doc = doc_new(host->id, "/hosts/%s", host->id);
    g_autofree char *cluster = cluster_id();

    doc_text(doc, "name", host->name);
    doc_text(doc, "address", host->address);
    doc_text(doc, "status", host_status(host));
    doc_text(doc, "status_detail", host->problem);
    doc_text(doc, "type", "rhel");
    put_facts(doc, host->facts);
    json_object_set_new(
        doc, "summary",
        json_pack("{s:i, s:i, s:i}", "active", (int)running, "migrating", 0, "total", (int)vms));
    json_object_set_new(doc, "spm", json_pack("{s:i, s:s}", "priority", 5, "status", "none"));
    doc_link(doc, "statistics", "/hosts/%s/statistics", host->id);
    doc_link(doc, "nics", "/hosts/%s/nics", host->id);
    doc_link(doc, "vms", "/hosts/%s/vms", host->id);
    doc_ref(doc, "cluster", cluster, "/clusters/%s", cluster);
    doc_text(json_object_get(doc, "cluster"), "name", "Default");
    return doc;
}

static json_t *
version_document(void)
{
    return json_pack("{s:i, s:i}", "major", 4, "minor", 7);
}

static json_t *
cluster_document(void)
{
    g_autofree char *id = cluster_id();
    g_autofree char *center = data_center_id();
    json_t *doc = doc_new(id, "/clusters/%s", id);

    doc_text(doc, "name", "Default");
    doc_link(doc, "hosts", "/clusters/%s/hosts", id);
    doc_link(doc, "networks", "/clusters/%s/networks", id);
    doc_link(doc, "permissions", "/clusters/%s/permissions", id);
    json_object_set_new(doc, "cpu", json_pack("{s:s}", "architecture", "x86_64"));
    json_object_set_new(doc, "version", version_document());
    doc_ref(doc, "data_center", center, "/datacenters/%s", center);
    return doc;
}

static json_t *
data_center_document(void)
{
    g_autofree char *id = data_center_id();
    json_t *doc = doc_new(id, "/datacenters/%s", id);

    doc_text(doc, "name", "Default");
    doc_link(doc, "storagedomains", "/datacenters/%s/storagedomains", id);
    doc_link(doc, "clusters", "/datacenters/%s/clusters", id);
    doc_link(doc, "networks", "/datacenters/%s/networks", id);
    doc_link(doc, "permissions", "/datacenters/%s/permissions", id);
    doc_flag(doc, "local", false);
    doc_text(doc, "status", "up");
    doc_text(doc, "storage_format", "v5");
    json_object_set_new(doc, "version", version_document());
    json_object_set_new(doc, "supported_versions",
                        json_pack("{s:[o]}", "version", version_document()));
    return doc;
}

static json_t *
template_document(void)
{
    json_t *doc = doc_new(API_NIL_ID, "/templates/" API_NIL_ID);
    g_autofree char *cluster = cluster_id();

    doc_text(doc, "name", "Blank");
    doc_link(doc, "diskattachments", "/templates/" API_NIL_ID "/diskattachments");
    doc_link(doc, "nics", "/templates/" API_NIL_ID "/nics");
    doc_link(doc, "permissions", "/templates/" API_NIL_ID "/permissions");
    doc_text(doc, "status", "ok");
    json_object_set_new(doc, "version", json_pack("{s:i}", "version_number", 1));
    doc_ref(doc, "cluster", cluster, "/clusters/%s", cluster);
    return doc;
}

/* ---- handlers ---- */

static json_t *
counted_host(const HostInfo *host, GPtrArray *vms)
{
    unsigned total = 0, running = 0;

    for (guint i = 0; i < vms->len; i++) {
        const Vm *vm = vms->pdata[i];
        if (g_strcmp0(vm->host, host->name) != 0)
            continue;
        total++;
        running += vm->instance != NULL ? 1 : 0;
    }
    return host_document(host, total, running);
}

bool
get_hosts(Call *call, Reply *reply, GError **error)
{
    g_autoptr(GPtrArray) hosts = manager_hosts(call->manager);
    g_autoptr(GPtrArray) vms = access_vms(call->manager, call->who);

    if (call->id != NULL && !call_parent(call, error)) /* those of a cluster: there is one */
        return false;
    json_t *list = json_array();
    for (guint i = 0; i < hosts->len; i++)
        json_array_append_new(list, counted_host(hosts->pdata[i], vms));
    return reply_list(call, reply, "host", list, error);
}

bool
get_host(Call *call, Reply *reply, GError **error)
{
    g_autoptr(GPtrArray) hosts = manager_hosts(call->manager);
    g_autoptr(GPtrArray) vms = access_vms(call->manager, call->who);

    for (guint i = 0; i < hosts->len; i++) {
        const HostInfo *host = hosts->pdata[i];
        if (g_strcmp0(host->id, call->id) == 0) {
            reply->body = counted_host(host, vms);
            return true;
        }
    }
    return error_set(error, ERR_NOT_FOUND, "there is no host '%s'", call->id);
}

/* For collections of one. */
static bool
reply_single(Call *call, Reply *reply, const char *key, json_t *take_doc, GError **error)
{
    if (call->id != NULL && !call_parent(call, error)) {
        json_decref(take_doc);
        return false;
    }
    return reply_list(call, reply, key, json_pack("[o]", take_doc), error);
}

static bool
reply_if_id(Call *call, Reply *reply, const char *what, json_t *take_doc, GError **error)
{
    g_autoptr(json_t) doc = take_doc;

    if (g_strcmp0(json_text(doc, "id"), call->id) != 0)
        return error_set(error, ERR_NOT_FOUND, "there is no %s '%s'", what, call->id);
    reply->body = g_steal_pointer(&doc);
    return true;
}

bool
get_clusters(Call *call, Reply *reply, GError **error)
{
    return reply_single(call, reply, "cluster", cluster_document(), error);
}

bool
get_cluster(Call *call, Reply *reply, GError **error)
{
    return reply_if_id(call, reply, "cluster", cluster_document(), error);
}

bool
get_datacenter(Call *call, Reply *reply, GError **error)
{
    return reply_if_id(call, reply, "data center", data_center_document(), error);
}

bool
get_templates(Call *call, Reply *reply, GError **error)
{
    return reply_single(call, reply, "template", template_document(), error);
}

bool
get_template(Call *call, Reply *reply, GError **error)
{
    return reply_if_id(call, reply, "template", template_document(), error);
}

bool
get_datacenters(Call *call, Reply *reply, GError **error)
{
    g_autoptr(json_t) domains = storage_domain_list(call, true);
    json_t *list = json_pack("[o]", data_center_document()), *names = json_array(), *domain;
    size_t i;

    json_array_foreach (domains, i, domain)
        json_array_append(names, json_object_get(domain, "name"));
    return reply_list_beside(call, reply, "data_center", list,
                             json_pack("[{s:o}]", "storage", names), error);
}
