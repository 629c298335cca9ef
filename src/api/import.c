/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * Importing storage whose manager was lost. oVirt's import of a storage domain is another thing
 * (its VMs are unknown afterwards until they are registered), so this is our own action.
 */
#include "api/media.h"
#include "api/routes.h"

#include <string.h>

static void
put_vm(json_t *doc, const json_t *entry)
{
    const char *vm_id = json_text(entry, "vm_id");

    if (vm_id == NULL)
        return;
    doc_ref(doc, "vm", vm_id, "/vms/%s", vm_id);
    doc_text(json_object_get(doc, "vm"), "name", json_text(entry, "vm"));
}

static json_t *
snapshots_document(const json_t *list, const char *vm_id)
{
    json_t *documents = json_array();

    for (size_t i = 0; i < json_array_size(list); i++) {
        const json_t *entry = json_array_get(list, i);
        const char *id = json_text(entry, "id");
        json_t *doc = doc_new(id, "/vms/%s/snapshots/%s", vm_id, id);
        doc_text(doc, "description", json_text(entry, "name"));
        doc_time(doc, "date", json_number(entry, "date"));
        json_array_append_new(documents, doc);
    }
    return doc_list("snapshot", documents);
}

static json_t *
volumes_document(const json_t *paths)
{
    json_t *documents = json_array();

    for (size_t i = 0; i < json_array_size(paths); i++)
        json_array_append_new(documents, json_pack("{s:O}", "path", json_array_get(paths, i)));
    return doc_list("volume", documents);
}

static json_t *
vm_document_of(const json_t *entry)
{
    static const char *const numbers[] = { "disks", "volumes", "snapshots" };
    const char *id = json_text(entry, "vm_id"), *job = json_text(entry, "job");
    const json_t *todo = json_object_get(entry, "todo");
    json_t *doc = doc_new(id, "/vms/%s", id);

    doc_text(doc, "name", json_text(entry, "vm"));
    doc_text(doc, "host", json_text(entry, "host"));
    doc_text(doc, "status", json_text(entry, "state"));
    doc_text(doc, "path", json_text(entry, "path"));
    doc_text(doc, "unmanaged", json_text(entry, "unmanaged"));
    for (size_t i = 0; i < G_N_ELEMENTS(numbers); i++) {
        g_autofree char *key =
            g_strdup_printf("%.*s_count", (int)strlen(numbers[i]) - 1, numbers[i]);
        doc_number(doc, key, (uint64_t)json_number(entry, numbers[i]));
    }
    json_object_set_new(doc, "operations",
                        doc_list("operation", json_deep_copy(json_object_get(entry, "running"))));
    json_object_set_new(doc, "adopted_snapshots",
                        snapshots_document(json_object_get(todo, "adopt"), id));
    json_object_set_new(doc, "merged_snapshots",
                        snapshots_document(json_object_get(todo, "forget"), id));
    json_object_set_new(doc, "leftover_volumes", volumes_document(json_object_get(todo, "delete")));
    if (json_flag(entry, "held"))
        doc_flag(doc, "held", true);
    if (job != NULL)
        doc_ref(doc, "job", job, "/jobs/%s", job);
    return doc;
}

static json_t *
doubt_document(const json_t *entry)
{
    static const char *const keys[] = { "host", "file", "why", "command" };
    json_t *doc = json_object();

    put_vm(doc, entry);
    for (size_t i = 0; i < G_N_ELEMENTS(keys); i++)
        doc_text(doc, keys[i], json_text(entry, keys[i]));
    return doc;
}

static json_t *
domain_document(const json_t *entry)
{
    return json_pack("{s:O, s:O, s:O}", "name", json_object_get(entry, "name"), "path",
                     json_object_get(entry, "path"), "host", json_object_get(entry, "host"));
}

static json_t *
documents(const json_t *list, json_t *(*document)(const json_t *entry))
{
    json_t *all = json_array();

    for (size_t i = 0; i < json_array_size(list); i++)
        json_array_append_new(all, document(json_array_get(list, i)));
    return all;
}

static json_t *
totals(const json_t *answer)
{
    const json_t *vms = json_object_get(answer, "vms");
    int64_t snapshots = 0, volumes = 0;

    for (size_t i = 0; i < json_array_size(vms); i++) {
        snapshots += json_number(json_array_get(vms, i), "snapshots");
        volumes += json_number(json_array_get(vms, i), "volumes");
    }
    return json_pack("{s:I, s:I, s:I, s:I}", "vm_count", (json_int_t)json_array_size(vms),
                     "snapshot_count", (json_int_t)snapshots, "volume_count", (json_int_t)volumes,
                     "doubt_count",
                     (json_int_t)json_array_size(json_object_get(answer, "doubtful")));
}

static json_t *
import_document(const json_t *answer, bool dry_run)
{
    json_t *doc = json_object();

    doc_flag(doc, "dry_run", dry_run);
    json_object_set_new(doc, "totals", totals(answer));
    json_object_set_new(doc, "vms",
                        doc_list("vm", documents(json_object_get(answer, "vms"), vm_document_of)));
    json_object_set_new(
        doc, "doubts",
        doc_list("doubt", documents(json_object_get(answer, "doubtful"), doubt_document)));
    json_object_set_new(
        doc, "storage_domains",
        doc_list("storage_domain", documents(json_object_get(answer, "domains"), domain_document)));
    json_object_set_new(doc, "silent_hosts",
                        doc_list("host", json_deep_copy(json_object_get(answer, "silent"))));
    return doc;
}

bool
post_import(Call *call, Reply *reply, GError **error)
{
    StorageImport what = { .correlation_id = call->correlation_id, .user = call->user };
    g_autofree char *path = NULL;
    g_autoptr(json_t) answer = NULL;

    call->in_body = true;
    if (!body_text(call->body, "path", &path, error) ||
        !body_flag(call->body, "dry_run", &what.dry_run, error) ||
        !body_flag(call->body, "take_over", &what.take_over, error))
        return false;
    what.path = path;
    if (!manager_import(call->manager, &what, &answer, error))
        return false;
    reply->body = json_pack("{s:o, s:s}", "import", import_document(answer, what.dry_run), "status",
                            "complete");
    return true;
}
