/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * Jobs and their steps: what runs, how far it is, what came of it.
 */
#include "api/audit.h"

#include "base/clock.h"

#define LONGEST_WAIT_S 60

/* ---- documents ---- */

/* start_time, end_time and last_updated: milliseconds there, dates here */
static void
put_times(json_t *doc, const json_t *from)
{
    doc_time(doc, "start_time", json_number(from, "start_time"));
    doc_time(doc, "end_time", json_number(from, "end_time"));
    doc_time(doc, "last_updated", json_number(from, "last_updated"));
}

static json_t *
snapshot_refs(const json_t *ids, const char *vm_id)
{
    json_t *list = json_array();
    json_t *id;
    size_t i;

    json_array_foreach (ids, i, id) {
        const char *text = json_string_value(id);
        if (text != NULL)
            json_array_append_new(
                list, doc_new(text, "/vms/%s/snapshots/%s", vm_id != NULL ? vm_id : "-", text));
    }
    return doc_list("snapshot", list);
}

static void
copy_member(json_t *doc, const json_t *from, const char *key)
{
    json_t *value = json_object_get(from, key);

    if (value != NULL && !json_is_null(value))
        json_object_set(doc, key, value);
}

static void
put_subject(json_t *doc, const json_t *job)
{
    const char *vm_id = json_text(job, "vm_id");
    json_t *snapshots = json_object_get(job, "snapshots");
    json_t *disks = json_object_get(job, "disks");

    if (vm_id != NULL) {
        doc_ref(doc, "vm", vm_id, "/vms/%s", vm_id);
        doc_text(json_object_get(doc, "vm"), "name", json_text(job, "vm_name"));
    }
    if (json_is_array(snapshots))
        json_object_set_new(doc, "snapshots", snapshot_refs(snapshots, vm_id));
    if (json_is_array(disks))
        json_object_set_new(doc, "disks", doc_list("disk", json_deep_copy(disks)));
}

/* Of an import: what was ended, and what could not be deleted. */
static void
put_imported(json_t *doc, const json_t *result)
{
    static const char *const keys[] = { "adopted", "deleted", "forgotten", "left" };
    json_t *imported = json_object();

    for (size_t i = 0; i < G_N_ELEMENTS(keys); i++)
        copy_member(imported, result, keys[i]);
    json_object_set_new(doc, "imported", imported);
}

/* Of a job of the doctor's: what became of each finding, or what could not be undone. */
static void
put_mended(json_t *doc, const json_t *result)
{
    json_t *left = json_object_get(result, "left");

    if (json_object_get(result, "findings") != NULL)
        json_object_set_new(doc, "findings",
                            findings_document(json_object_get(result, "findings")));
    if (left != NULL && json_object_get(result, "undone") != NULL)
        json_object_set_new(doc, "left_undone", doc_list("reason", json_deep_copy(left)));
    copy_member(doc, result, "undone");
}

static void
put_made(json_t *doc, const json_t *result)
{
    const char *id = json_text(result, "clone_id");

    if (id == NULL)
        return;
    doc_ref(doc, "clone", id, "/vms/%s", id);
    doc_text(json_object_get(doc, "clone"), "name", json_text(result, "name"));
    json_object_set_new(doc, "left_out",
                        doc_list("reason", json_deep_copy(json_object_get(result, "left_out"))));
}

static void
put_removed(json_t *doc, const json_t *result)
{
    static const char *const keys[] = { "volumes_removed", "kept" };

    for (size_t i = 0; i < G_N_ELEMENTS(keys); i++) {
        const json_t *list = json_object_get(result, keys[i]);
        if (json_array_size(list) > 0)
            json_object_set_new(doc, keys[i], doc_list("volume", json_deep_copy(list)));
    }
}

/* What came of it, by the kind of job. */
static void
put_result(json_t *doc, const json_t *job)
{
    static const struct {
        const char *kind;
        void (*put)(json_t *doc, const json_t *result);
    } kinds[] = { { "import", put_imported },
                  { "clone-vm", put_made },
                  { "remove-vm", put_removed },
                  { "doctor", put_mended } };

    for (size_t i = 0; i < G_N_ELEMENTS(kinds); i++)
        if (g_strcmp0(json_text(job, "kind"), kinds[i].kind) == 0)
            kinds[i].put(doc, json_object_get(job, "result"));
}

json_t *
job_document(const json_t *job)
{
    static const char *const ours[] = {
        "kind",     "correlation_id", "step", "waiting_for",       "attention",
        "progress", "error",          "rev",  "configuration_kept"
    };
    const char *id = json_text(job, "id");
    json_t *doc = doc_new(id, "/jobs/%s", id);
    const char *status = json_text(job, "status");

    bool external = json_flag(job, "external");
    if (external) {
        doc_action(doc, "clear", "/jobs/%s/clear", id);
        doc_action(doc, "end", "/jobs/%s/end", id);
    } else if (json_number(job, "end_time") == 0)
        doc_action(doc, "cancel", "/jobs/%s/cancel", id);
    if (json_text(job, "attention") != NULL)
        doc_action(doc, "resume", "/jobs/%s/resume", id);
    doc_text(doc, "description", json_text(job, "description"));
    doc_link(doc, "steps", "/jobs/%s/steps", id);
    doc_flag(doc, "auto_cleared", !external || json_flag(job, "auto_cleared"));
    doc_flag(doc, "external", external);
    doc_text(doc, "status", status != NULL ? status : "unknown");
    put_times(doc, job);
    if (json_text(job, "user") != NULL)
        doc_user(doc, "owner", json_text(job, "user"));
    put_subject(doc, job);
    for (size_t i = 0; i < G_N_ELEMENTS(ours); i++)
        copy_member(doc, job, ours[i]);
    put_result(doc, job);
    return doc;
}

json_t *
step_document(const json_t *step, const char *job_id)
{
    const char *id = json_text(step, "id");
    json_t *doc = doc_new(id, "/jobs/%s/steps/%s", job_id, id);

    doc_text(doc, "description", json_text(step, "description"));
    doc_flag(doc, "external", json_flag(step, "external"));
    copy_member(doc, step, "number");
    copy_member(doc, step, "progress");
    doc_text(doc, "status", json_text(step, "status"));
    const char *type = json_text(step, "type"), *parent = json_text(step, "parent_step");
    doc_text(doc, "type", type != NULL ? type : "executing");
    put_times(doc, step);
    if (parent != NULL)
        doc_ref(doc, "parent_step", parent, "/jobs/%s/steps/%s", job_id, parent);
    if (json_text(step, "host_id") != NULL) {
        doc_ref(doc, "execution_host", json_text(step, "host_id"), "/hosts/%s",
                json_text(step, "host_id"));
        doc_text(json_object_get(doc, "execution_host"), "name", json_text(step, "host_name"));
    }
    if (json_flag(step, "external"))
        doc_action(doc, "end", "/jobs/%s/steps/%s/end", job_id, id);
    doc_ref(doc, "job", job_id, "/jobs/%s", job_id);
    return doc;
}

/* ---- handlers ---- */

bool
get_jobs(Call *call, Reply *reply, GError **error)
{
    g_autoptr(json_t) jobs = manager_jobs(call->manager, false, error);
    json_t *list, *job;
    size_t i;

    if (jobs == NULL)
        return false;
    list = json_array();
    json_array_foreach (jobs, i, job) {
        json_array_append_new(list, job_document(job));
    }
    return reply_list(call, reply, "job", list, error);
}

typedef struct {
    int64_t rev, until_us;
    int64_t paced_us; /* a change is told then at the earliest */
    int64_t revision; /* of all, from before the job was looked at */
} Poll;

static bool
read_poll(const Call *call, Poll *poll, GError **error)
{
    int64_t wait_s, pace_ms;

    if (!call_number(call, "wait", 0, LONGEST_WAIT_S, 0, &wait_s, error) ||
        !call_number(call, "rev", G_MININT64, G_MAXINT64, -1, &poll->rev, error) ||
        !call_number(call, "pace", 0, LONGEST_WAIT_S * 1000, 0, &pace_ms, error))
        return false;
    poll->until_us = call->began_us + wait_s * G_USEC_PER_SEC;
    poll->paced_us = MIN(poll->until_us, call->began_us + pace_ms * 1000);
    poll->revision = manager_revision(call->manager);
    return true;
}

/* What is there to wait for? FOR_NOTHING: the document is another than rev (and the pace was kept),
 * the job has ended, the time is up, or the manager stops. */
static Awaited
awaited(const Call *call, const Poll *poll, const json_t *job)
{
    bool changed = json_number(job, "rev") != poll->rev;
    int64_t until = changed ? poll->paced_us : poll->until_us;

    if (json_number(job, "end_time") != 0 || clock_mono_us() >= until ||
        g_atomic_int_get(call->stopping) != 0)
        return (Awaited){ .what = FOR_NOTHING };
    if (json_flag(job, "external")) /* it stands in no table of what is under way */
        return (Awaited){ .what = FOR_CHANGE, .than = poll->revision, .until_us = until };
    return (
        Awaited){ .what = changed ? FOR_JOB_END : FOR_JOB, .than = poll->rev, .until_us = until };
}

bool
get_job(Call *call, Reply *reply, GError **error)
{
    Poll poll = { 0 };
    g_autoptr(json_t) job =
        read_poll(call, &poll, error) ? manager_job(call->manager, call->id, error) : NULL;

    if (job == NULL)
        return false;
    reply->awaited = awaited(call, &poll, job);
    if (reply->awaited.what != FOR_NOTHING)
        return true;
    reply->body = job_document(job);
    if (!call_wants_operations(call))
        return true;
    json_t *operations = manager_job_operations(call->manager, call->id, error);
    if (operations == NULL)
        return false;
    json_object_set_new(reply->body, "operations", doc_list("operation", operations));
    return true;
}

bool
get_steps(Call *call, Reply *reply, GError **error)
{
    g_autoptr(json_t) job = manager_job(call->manager, call->id, error);
    json_t *list, *step;
    size_t i;

    if (job == NULL)
        return false;
    list = json_array();
    json_array_foreach (json_object_get(job, "steps"), i, step)
        json_array_append_new(list, step_document(step, call->id));
    return reply_part(call, reply, "step", list, error);
}

bool
get_step(Call *call, Reply *reply, GError **error)
{
    g_autoptr(json_t) job = manager_job(call->manager, call->id, error);
    json_t *step;
    size_t i;

    if (job == NULL)
        return false;
    json_array_foreach (json_object_get(job, "steps"), i, step) {
        if (g_strcmp0(json_text(step, "id"), call->sub_id) == 0) {
            reply->body = step_document(step, call->id);
            return true;
        }
    }
    return error_set(error, ERR_NOT_FOUND, "job '%s' has no step '%s'", call->id, call->sub_id);
}

static void
tell(const Call *call, const char *what)
{
    g_autoptr(FlowRow) row = store_flow_get(manager_store(call->manager), call->id, NULL);

    audit_changed(call, row != NULL ? row->vm_id : NULL, call->id, "Job %s %s", call->id, what);
}

bool
post_job_cancel(Call *call, Reply *reply, GError **error)
{
    if (!manager_job_cancel(call->manager, call->id, error))
        return false;
    tell(call, "is to be cancelled");
    reply_job(reply, call->id);
    return true;
}

bool
post_job_resume(Call *call, Reply *reply, GError **error)
{
    if (!manager_job_resume(call->manager, call->id, error))
        return false;
    tell(call, "goes on");
    reply_job(reply, call->id);
    return true;
}
