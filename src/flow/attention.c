/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * What needs a person: operations that have paused themselves, and merges whose check failed.
 */
#include "flow/agent_call.h"

#define TOLD "attention" /* in a flow's data: {"count": pauses so far, "open": bool} */

static bool
is_in_state(const json_t *operation, const char *state)
{
    return g_strcmp0(json_text(operation, "state"), state) == 0;
}

const char *
attention_text(const json_t *operation)
{
    const json_t *attention = json_object_get(operation, "attention");

    if (!json_is_object(attention) || !is_in_state(operation, "running"))
        return NULL;
    return json_text(attention, "message") != NULL ? json_text(attention, "message")
                                                   : "it has paused, and gives no reason";
}

char *
attention_of_row(Manager *m, const FlowRow *row)
{
    const char *key;
    json_t *call;

    json_object_foreach (row->data, key, call) {
        const char *id = json_text(call, "op");
        g_autoptr(json_t) doc = id != NULL ? seen_doc(m, id) : NULL;
        if (attention_text(doc) != NULL)
            return g_strdup(attention_text(doc));
    }
    return NULL;
}

/* "A snapshot deletion for VM 'web' has paused at disk vda", or of a clone, which tells the disk
 * itself. */
static char *
subject(const Flow *flow, const char *did)
{
    const char *vm = flow_param(flow, "vm_name"), *target = flow_param(flow, "target");

    return target != NULL
               ? g_strdup_printf("A snapshot deletion for VM '%s' %s at disk %s", vm, did, target)
               : g_strdup_printf("The creation of VM '%s' as a clone of VM '%s' %s",
                                 flow_param(flow, "name"), vm, did);
}

static bool
tell_pause(Flow *flow, const char *why, const char *about, GError **error)
{
    const char *job = flow->row->parent != NULL ? flow->row->parent : flow->row->id;
    g_autofree char *what = subject(flow, "has paused");

    return event_of_run(
        flow, EVENT_PAUSED, "alert", about,
        g_strdup_printf("%s: %s. The VM keeps running and nothing is lost. To go on: livemerge job "
                        "resume %s; to give it up: livemerge job cancel %s",
                        what, why, job, job),
        error);
}

static bool
tell_going_on(Flow *flow, const char *about, GError **error)
{
    g_autofree char *what = subject(flow, "goes on");

    return event_of_run(flow, EVENT_GOES_ON, "normal", about, g_strdup_printf("%s.", what), error);
}

bool
attention_tell(Flow *flow, const char *key, GError **error)
{
    const char *id = call_operation(flow->row->data, key);
    g_autoptr(json_t) doc = id != NULL ? seen_doc(flow->manager, id) : NULL;
    const json_t *told = json_object_get(flow->row->data, TOLD);
    int64_t count = json_number(told, "count");
    const char *why = attention_text(doc);
    bool open = json_flag(told, "open");
    g_autofree char *about = NULL;

    if (doc == NULL || (why != NULL) == open)
        return true;
    /* one that failed or was cancelled did not go on */
    if (open && !is_in_state(doc, "running") && !is_in_state(doc, "done"))
        return true;
    count += !open;
    /* a manager that dies here tells it again, under the same name: the store keeps one */
    about = g_strdup_printf("%s %s %" G_GINT64_FORMAT, flow->row->id, key, count);
    if (open ? !tell_going_on(flow, about, error) : !tell_pause(flow, why, about, error))
        return false;
    json_object_set_new(flow->row->data, TOLD,
                        json_pack("{s:I, s:b}", "count", (json_int_t)count, "open", !open));
    return flow->machine.save(flow, error);
}

bool
mismatch_tell(Flow *flow, const char *key, const GError *why, GError **error)
{
    const char *id = call_operation(flow->row->data, key);
    g_autoptr(json_t) doc = id != NULL ? seen_doc(flow->manager, id) : NULL;

    if (!json_flag(json_object_get(doc, "result"), "mismatch"))
        return true;
    return event_of_run(
        flow, EVENT_MISMATCH, "alert", id,
        g_strdup_printf("The check of a merge found a difference. VM '%s', disk %s: %s",
                        flow_param(flow, "vm_name"), flow_param(flow, "target"), why->message),
        error);
}

/* ---- resume ---- */

static bool
resume_call(Manager *m, const json_t *call, GError **error)
{
    const char *name = json_text(call, "host");
    Host *host = host_by_name(m, name);
    g_autofree char *path = g_strdup_printf("/v1/operations/%s/resume", json_text(call, "op"));
    g_autoptr(json_t) doc = NULL;

    if (host == NULL)
        return error_set(error, ERR_UNREACHABLE, "host '%s' is not configured any more",
                         name != NULL ? name : "?");
    if (!host_call(host, "POST", path, NULL, &doc, error))
        return false;
    seen_operation(m, doc, true);
    return true;
}

bool
attention_resume(Manager *m, const FlowRow *row, unsigned *resumed, GError **error)
{
    const char *key;
    json_t *call;

    json_object_foreach (row->data, key, call) {
        const char *id = json_text(call, "op");
        g_autoptr(json_t) doc = id != NULL ? seen_doc(m, id) : NULL;
        if (attention_text(doc) == NULL)
            continue;
        if (!resume_call(m, call, error))
            return false;
        ++*resumed;
    }
    return true;
}
