/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * What the doctor finds, and what it is asked to mend. oVirt has no word for it: our own resource.
 */
#include "api/media.h"
#include "api/routes.h"
#include "base/text.h"
#include "model/diagnosis.h"

/* The VM as a reference; all else as it was told. */
static json_t *
finding_document(const json_t *finding)
{
    json_t *doc = json_object(), *members = (json_t *)finding, *value;
    const char *vm_id = json_text(finding, "vm_id"), *key;

    if (vm_id != NULL) {
        doc_ref(doc, "vm", vm_id, "/vms/%s", vm_id);
        doc_text(json_object_get(doc, "vm"), "name", json_text(finding, "vm"));
    }
    json_object_foreach (members, key, value)
        if (!g_str_equal(key, "vm_id") && !g_str_equal(key, "vm"))
            json_object_set(doc, key, value);
    return doc;
}

json_t *
findings_document(const json_t *findings)
{
    json_t *list = json_array(), *finding;
    size_t i;

    json_array_foreach ((json_t *)findings, i, finding) {
        json_array_append_new(list, finding_document(finding));
    }
    return doc_list("finding", list);
}

static json_t *
busy_document(const json_t *busy)
{
    json_t *list = json_array(), *item;
    size_t i;

    json_array_foreach ((json_t *)busy, i, item) {
        json_t *doc = doc_new(json_text(item, "vm_id"), "/vms/%s", json_text(item, "vm_id"));
        doc_text(doc, "name", json_text(item, "vm"));
        doc_text(doc, "why", json_text(item, "why"));
        json_array_append_new(list, doc);
    }
    return doc_list("vm", list);
}

static bool
reply_doctor(Call *call, Reply *reply, const char *vm_id, GError **error)
{
    g_autoptr(json_t) answer = NULL;

    if (!manager_doctor(call->manager, vm_id, &answer, error))
        return false;
    reply->body = json_object();
    json_object_set_new(reply->body, "findings",
                        findings_document(json_object_get(answer, "findings")));
    json_object_set_new(reply->body, "busy_vms", busy_document(json_object_get(answer, "busy")));
    json_object_set_new(reply->body, "silent_hosts",
                        doc_list("host", json_deep_copy(json_object_get(answer, "silent"))));
    json_object_set_new(reply->body, "unread",
                        doc_list("storage", json_deep_copy(json_object_get(answer, "unread"))));
    json_object_set(reply->body, "kept", json_object_get(answer, "kept"));
    return true;
}

bool
get_doctor(Call *call, Reply *reply, GError **error)
{
    return reply_doctor(call, reply, NULL, error);
}

bool
get_vm_doctor(Call *call, Reply *reply, GError **error)
{
    return reply_doctor(call, reply, call->id, error);
}

/* ---- mending ---- */

/* A NULL-terminated array; NULL = error */
static GPtrArray *
read_classes(const Call *call, GError **error)
{
    g_autoptr(json_t) list = NULL;
    g_autoptr(GPtrArray) classes = g_ptr_array_new();
    json_t *item;
    size_t i;

    if (!body_list(call->body, "classes", "class", &list, error))
        return NULL;
    json_array_foreach (list, i, item) {
        g_autofree char *word = NULL;
        if (!body_text(item, "name", &word, error))
            return NULL;
        Diagnosis class = diagnosis_from_word(word);
        if (class == DIAG_LAST) {
            error_set(error, ERR_INVALID, "'%.40s' is no class of the doctor's",
                      word != NULL ? word : "");
            return NULL;
        }
        g_ptr_array_add(classes, (char *)diagnosis_word(class));
    }
    g_ptr_array_add(classes, NULL);
    return g_steal_pointer(&classes);
}

bool
post_vm_doctor(Call *call, Reply *reply, GError **error)
{
    g_autoptr(Vm) vm = manager_vm(call->manager, call->id, error);
    g_autofree char *undo = NULL, *job_id = NULL;
    g_autoptr(GPtrArray) classes = NULL;

    if (vm == NULL)
        return false;
    call->in_body = true;
    if (!body_text(call->body, "undo", &undo, error) ||
        (classes = read_classes(call, error)) == NULL)
        return false;
    if (undo != NULL && classes->len > 1)
        return error_set(error, ERR_INVALID, "either classes are mended, or a fix is undone");
    DoctorFix what = { .vm_id = vm->id,
                       .classes = (const char *const *)classes->pdata,
                       .undo = undo,
                       .correlation_id = call->correlation_id,
                       .user = call->user };
    job_id = manager_doctor_fix(call->manager, &what, error);
    if (job_id == NULL)
        return false;
    reply_job(reply, job_id);
    return true;
}
