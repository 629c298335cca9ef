/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * Collections that clients read and that hold nothing here, and those that are a part of another
 * one: the VMs of a host, the disks of a storage domain.
 */
#include "api/media.h"
#include "api/routes.h"

#include <string.h>

bool
get_none(Call *call, Reply *reply, GError **error)
{
    if (!reply_list(call, reply, "none", json_array(), error))
        return false;
    json_decref(reply->body);
    reply->body = json_object();
    return true;
}

/* ---- the one tag ---- */

static json_t *
tag_document(void)
{
    json_t *doc = doc_new(API_NIL_ID, "/tags/" API_NIL_ID);

    doc_text(doc, "name", "root");
    doc_text(doc, "description", "root");
    return doc;
}

bool
get_tags(Call *call, Reply *reply, GError **error)
{
    return reply_list(call, reply, "tag", json_pack("[o]", tag_document()), error);
}

bool
get_tag(Call *call, Reply *reply, GError **error)
{
    if (!g_str_equal(call->id, API_NIL_ID))
        return error_set(error, ERR_NOT_FOUND, "there is no tag '%s'", call->id);
    reply->body = tag_document();
    return true;
}

/* ---- what is true to say in figures ---- */

static json_t *
statistic_document(const Vm *vm, const char *name, const char *description, uint64_t bytes)
{
    g_autofree char *id = derived_id("statistic", name);
    json_t *doc = doc_new(id, "/vms/%s/statistics/%s", vm->id, id);

    doc_text(doc, "name", name);
    doc_text(doc, "description", description);
    doc_text(doc, "kind", "gauge");
    doc_text(doc, "type", "integer");
    doc_text(doc, "unit", "bytes");
    json_object_set_new(doc, "values",
                        json_pack("{s:[{s:I}]}", "value", "datum", (json_int_t)bytes));
    doc_ref(doc, "vm", vm->id, "/vms/%s", vm->id);
    return doc;
}

static json_t *
statistics_of(const Vm *vm)
{
    return json_pack(
        "[o]", statistic_document(vm, "memory.installed", "Total memory configured", vm->memory));
}

bool
get_vm_statistics(Call *call, Reply *reply, GError **error)
{
    g_autoptr(Vm) vm = manager_vm(call->manager, call->id, error);

    if (vm == NULL)
        return false;
    return reply_part(call, reply, "statistic", statistics_of(vm), error);
}

bool
get_vm_statistic(Call *call, Reply *reply, GError **error)
{
    g_autoptr(Vm) vm = manager_vm(call->manager, call->id, error);
    g_autoptr(json_t) list = vm != NULL ? statistics_of(vm) : NULL;
    json_t *doc;
    size_t i;

    if (vm == NULL)
        return false;
    json_array_foreach (list, i, doc) {
        if (g_strcmp0(json_text(doc, "id"), call->sub_id) != 0)
            continue;
        reply->body = json_incref(doc);
        return true;
    }
    return error_set(error, ERR_NOT_FOUND, "VM '%s' has no statistic '%s'", vm->name, call->sub_id);
}

/* ---- parts ---- */

/* The members of the whole collection of which this is so; the parent must be there. */
static bool
find_part(const Call *call, const char *path, const char *key,
          bool (*belongs)(const json_t *doc, const char *id), json_t **ret_part, GError **error)
{
    const char *end = strrchr(call->path, '/'), *root;
    g_autofree char *parent = g_strndup(call->path, (gsize)(end - call->path));
    g_autoptr(json_t) there = NULL;
    g_autoptr(json_t) all = NULL;
    json_t *doc;
    size_t i;

    if (!api_read(call, parent, &root, &there, error) || !api_read(call, path, &root, &all, error))
        return false;
    *ret_part = json_array();
    /* what lies there and is nobody's: it is the doctor who looks for that */
    if (flag_from_text(g_hash_table_lookup(call->query, "unregistered"), false))
        json_object_clear(all);
    json_array_foreach (json_object_get(all, key), i, doc) {
        if (belongs(doc, call->id))
            json_array_append(*ret_part, doc);
    }
    return true;
}

static bool
runs_on(const json_t *vm, const char *host_id)
{
    return g_strcmp0(json_text(json_object_get(vm, "host"), "id"), host_id) == 0;
}

static bool
lies_in(const json_t *disk, const char *domain_id)
{
    const json_t *domains =
        json_object_get(json_object_get(disk, "storage_domains"), "storage_domain");
    json_t *domain;
    size_t i;

    json_array_foreach ((json_t *)domains, i, domain)
        if (g_strcmp0(json_text(domain, "id"), domain_id) == 0)
            return true;
    return false;
}

bool
get_host_vms(Call *call, Reply *reply, GError **error)
{
    json_t *part = NULL;

    return find_part(call, "/vms", "vm", runs_on, &part, error) &&
           reply_list(call, reply, "vm", part, error);
}

bool
get_domain_disks(Call *call, Reply *reply, GError **error)
{
    json_t *part = NULL;

    return find_part(call, "/disks", "disk", lies_in, &part, error) &&
           reply_list(call, reply, "disk", part, error);
}

/* The VMs of the disks there. */
bool
get_domain_vms(Call *call, Reply *reply, GError **error)
{
    g_autoptr(GHashTable) seen = g_hash_table_new(g_str_hash, g_str_equal);
    g_autoptr(json_t) disks = NULL;
    json_t *list, *disk;
    size_t i;

    if (!find_part(call, "/disks", "disk", lies_in, &disks, error))
        return false;
    list = json_array();
    json_array_foreach (disks, i, disk) {
        const json_t *vm = json_array_get(json_object_get(json_object_get(disk, "vms"), "vm"), 0);
        const char *id = json_text(vm, "id"), *root;
        json_t *doc;
        g_autofree char *path = g_strdup_printf("/vms/%s", id);
        if (g_hash_table_add(seen, (void *)id) && api_read(call, path, &root, &doc, NULL))
            json_array_append_new(list, doc);
    }
    return reply_part(call, reply, "vm", list, error);
}
