/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * The plan of a removal as a document: what the agent told, with references for ids.
 */
#include "api/document.h"

static json_t *
snapshot_refs(const char *vm_id, const char *const *snapshot_ids)
{
    json_t *list = json_array();

    for (const char *const *id = snapshot_ids; *id != NULL; id++)
        json_array_append_new(list, doc_new(*id, "/vms/%s/snapshots/%s", vm_id, *id));
    return doc_list("snapshot", list);
}

/* Its disk first, as people read it; all else as it was told. */
static json_t *
run_document(const json_t *run)
{
    json_t *doc = json_object(), *members = (json_t *)run, *value;
    const char *disk_id = json_text(run, "disk_id"), *key;

    doc_ref(doc, "disk", disk_id, "/disks/%s", disk_id);
    doc_text(json_object_get(doc, "disk"), "name", json_text(run, "target"));
    json_object_foreach (members, key, value)
        if (!g_str_equal(key, "disk_id") && !g_str_equal(key, "target"))
            json_object_set(doc, key, value);
    return doc;
}

json_t *
plan_document(const Vm *vm, const char *const *snapshot_ids, const json_t *plan)
{
    json_t *doc = json_object(), *runs = json_array(), *members = (json_t *)plan, *value, *run;
    const char *key;
    size_t i;

    doc_ref(doc, "vm", vm->id, "/vms/%s", vm->id);
    doc_text(json_object_get(doc, "vm"), "name", vm->name);
    json_object_set_new(doc, "snapshots", snapshot_refs(vm->id, snapshot_ids));
    json_object_foreach (members, key, value)
        if (!g_str_equal(key, "runs"))
            json_object_set(doc, key, value);
    json_array_foreach (json_object_get(plan, "runs"), i, run)
        json_array_append_new(runs, run_document(run));
    json_object_set_new(doc, "runs", doc_list("run", runs));
    return doc;
}
