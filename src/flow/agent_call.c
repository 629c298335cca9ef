/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "flow/agent_call.h"

#include "base/fault.h"
#include "base/text.h"

#include <string.h>

void
seen_free(void *seen_)
{
    Seen *seen = seen_;

    g_free(seen->flow_id);
    json_decref(seen->doc);
    g_free(seen);
}

static bool
is_over(const json_t *operation)
{
    const char *state = json_text(operation, "state");

    return state != NULL && !g_str_equal(state, "running");
}

static void
seen_add(Manager *m, const char *operation_id, const char *flow_id)
{
    if (g_hash_table_contains(m->operations, operation_id))
        return;
    Seen *seen = g_new0(Seen, 1);
    seen->flow_id = g_strdup(flow_id);
    g_hash_table_insert(m->operations, g_strdup(operation_id), seen);
}

void
seen_add_row(Manager *m, const FlowRow *row)
{
    const char *key;
    json_t *call;

    json_object_foreach (row->data, key, call)
        if (json_text(call, "op") != NULL)
            seen_add(m, json_text(call, "op"), row->id);
}

void
seen_remove_row(Manager *m, const FlowRow *row)
{
    const char *key;
    json_t *call;

    json_object_foreach (row->data, key, call)
        if (json_text(call, "op") != NULL)
            g_hash_table_remove(m->operations, json_text(call, "op"));
}

/* m->lock is held */
static void
see(Manager *m, Seen *seen, const json_t *operation, bool kick)
{
    if (seen->doc != NULL && is_over(seen->doc))
        return; /* lines that were under way when an answer overtook them */
    bool news = is_over(operation) ||
                (attention_text(operation) == NULL) != (attention_text(seen->doc) == NULL);
    json_decref(seen->doc);
    seen->doc = json_deep_copy(operation);
    Flow *flow = g_hash_table_lookup(m->flows, seen->flow_id);
    if (flow == NULL)
        return;
    job_changed_locked(m, flow);
    if (kick && news)
        flow_kick_locked(flow);
}

static Seen *
seen_find(Manager *m, const char *operation_id)
{
    return operation_id != NULL ? g_hash_table_lookup(m->operations, operation_id) : NULL;
}

bool
seen_operation(Manager *m, const json_t *operation, bool kick)
{
    WITH_LOCK(&m->lock);
    Seen *seen = seen_find(m, json_text(operation, "id"));

    if (seen == NULL)
        return false;
    seen->heard++;
    see(m, seen, operation, kick);
    return true;
}

bool
seen_knows(Manager *m, const char *operation_id)
{
    WITH_LOCK(&m->lock);

    return seen_find(m, operation_id) != NULL;
}

unsigned
seen_heard(Manager *m, const char *operation_id)
{
    WITH_LOCK(&m->lock);
    const Seen *seen = seen_find(m, operation_id);

    return seen != NULL ? seen->heard : 0;
}

void
seen_answer(Manager *m, const json_t *operation, unsigned heard)
{
    WITH_LOCK(&m->lock);
    Seen *seen = seen_find(m, json_text(operation, "id"));

    if (seen != NULL && seen->heard == heard)
        see(m, seen, operation, false);
}

json_t *
seen_doc(Manager *m, const char *operation_id)
{
    WITH_LOCK(&m->lock);
    Seen *seen = g_hash_table_lookup(m->operations, operation_id);

    /* docs are replaced, never changed; jansson's reference counts are atomic */
    return seen != NULL ? json_incref(seen->doc) : NULL;
}

const char *
call_operation(const json_t *data, const char *key)
{
    return json_text(json_object_get(data, key), "op");
}

const json_t *
call_result(const json_t *data, const char *key)
{
    return json_object_get(json_object_get(data, key), "result");
}

/* How often an operation is sent before the flow gives up. Silence does not count. */
#define MOST_TRIES 10

static void
mint(Flow *flow, const char *key)
{
    Manager *m = flow->manager;
    g_autofree char *id = id_new();
    g_autofree char *host = inventory_host_of(m, flow->row->vm_id);
    g_autofree char *agent = call_agent_of(m, host != NULL ? host : flow_param(flow, "host"));
    const char *old = call_operation(flow->row->data, key);
    int64_t sent = json_number(json_object_get(flow->row->data, key), "sent");
    WITH_LOCK(&m->lock);

    if (old != NULL)
        g_hash_table_remove(m->operations, old);
    json_object_set_new(flow->row->data, key,
                        json_pack("{s:s, s:s, s:I}", "op", id, "host",
                                  host != NULL ? host : flow_param(flow, "host"), "sent",
                                  (json_int_t)sent));
    json_put_text(json_object_get(flow->row->data, key), "agent", agent);
    seen_add(m, id, flow->row->id);
    g_free(flow->unsent);
    flow->unsent = g_steal_pointer(&id);
}

static bool
call_send(Flow *flow, const char *key, const char *method, const char *verb, json_t **ret_json,
          GError **error)
{
    Host *host = call_host(flow, key, error);
    g_autofree char *path =
        g_strdup_printf("/v1/operations/%s%s", call_operation(flow->row->data, key), verb);

    return host != NULL && host_call(host, method, path, NULL, ret_json, error);
}

typedef enum { LOOK_KNOWN, LOOK_NEVER, LOOK_UNKNOWN } Look;

static Look
look(Flow *flow, const char *key, json_t **ret_doc, GError **error)
{
    unsigned heard = seen_heard(flow->manager, call_operation(flow->row->data, key));
    g_autoptr(GError) why = NULL;

    if (call_send(flow, key, "GET", "", ret_doc, &why)) {
        seen_answer(flow->manager, *ret_doc, heard);
        return LOOK_KNOWN;
    }
    if (g_error_matches(why, ERR, ERR_NOT_FOUND) || g_error_matches(why, ERR, ERR_GONE) ||
        call_host_is_gone(flow, key))
        return LOOK_NEVER;
    g_propagate_error(error, g_steal_pointer(&why));
    return LOOK_UNKNOWN;
}

static StepState
not_begun(Flow *flow, const char *key, GError **error)
{
    const char *last = flow->machine.waiting_for;

    if (flow->machine.cancel) {
        error_set(error, ERR_CANCELLED, "cancelled by the user before it had begun");
        return STEP_FAILED;
    }
    if (json_number(json_object_get(flow->row->data, key), "sent") < MOST_TRIES)
        return STEP_TODO;
    error_set(error, ERR_TIMEOUT, "the agent did not begin it in %d tries%s%s", MOST_TRIES,
              last != NULL ? ": " : "", last != NULL ? last : "");
    return STEP_FAILED;
}

StepState
call_begin_check(Flow *flow, const char *key, GError **error)
{
    const char *id = call_operation(flow->row->data, key);
    g_autoptr(json_t) doc = NULL;

    if (id == NULL) {
        mint(flow, key);
        return not_begun(flow, key, error);
    }
    if (g_strcmp0(id, flow->unsent) == 0)
        return not_begun(flow, key, error);
    doc = seen_doc(flow->manager, id);
    if (doc != NULL)
        return STEP_DONE;
    switch (look(flow, key, &doc, error)) {
    case LOOK_KNOWN:
        return STEP_DONE;
    case LOOK_NEVER:
        if (call_is_lost(flow, key))
            return STEP_DONE; /* in doubt: call_wait() is told the same, and its flow looks */
        mint(flow, key);      /* the old id is burnt for ever */
        return not_begun(flow, key, error);
    case LOOK_UNKNOWN:
        return STEP_UNKNOWN;
    }
    g_assert_not_reached();
}

/* Does this answer of the agent surely mean that nothing was begun? */
static bool
is_clear_no(const GError *error)
{
    static const ErrorCode clear[] = { ERR_INVALID,     ERR_FORBIDDEN, ERR_NOT_FOUND, ERR_METHOD,
                                       ERR_EXISTS,      ERR_REFUSED,   ERR_TOO_LARGE, ERR_MEDIA,
                                       ERR_UNSUPPORTED, ERR_BUSY };

    for (unsigned i = 0; i < G_N_ELEMENTS(clear); i++)
        if (g_error_matches(error, ERR, (int)clear[i]))
            return true;
    return false;
}

static const char *
job_of(const Flow *flow)
{
    return flow->row->parent != NULL ? flow->row->parent : flow->row->id;
}

bool
call_begin_act(Flow *flow, const char *key, json_t *take_body, GError **error)
{
    g_autoptr(json_t) body = take_body;
    g_autoptr(json_t) doc = NULL;
    g_autoptr(GError) why = NULL;
    Host *host = call_host(flow, key, error);
    json_t *call = json_object_get(flow->row->data, key);

    if (host == NULL) { /* nothing was sent: the next id is for where the VM is then */
        json_object_del(call, "op");
        return false;
    }
    if (!fault_point("flow.before-call", error))
        return false;
    json_object_set_new(call, "sent", json_integer(json_number(call, "sent") + 1));
    json_object_set_new(body, "id", json_string(call_operation(flow->row->data, key)));
    json_object_set_new(body, "vm_id", json_string(flow->row->vm_id));
    json_object_set_new(body, "job", json_string(job_of(flow)));
    json_put_text(body, "agent", json_text(call, "agent"));
    g_clear_pointer(&flow->unsent, g_free);
    unsigned heard = seen_heard(flow->manager, call_operation(flow->row->data, key));
    if (host_call(host, "POST", "/v1/operations", body, &doc, &why)) {
        seen_answer(flow->manager, doc, heard);
        flow->just_sent = true;
        return fault_point("flow.after-call", error);
    }
    if (is_clear_no(why)) {
        if (g_error_matches(why, ERR, ERR_BUSY)) /* waiting in line is no try */
            json_object_set_new(call, "sent", json_integer(json_number(call, "sent") - 1));
        /* the id is free again, but a new one costs nothing */
        json_object_del(call, "op");
        g_propagate_error(error, g_steal_pointer(&why));
        return false;
    }
    if (g_error_matches(why, ERR, ERR_GONE)) {
        mint(flow, key);
        return error_set(error, ERR_UNREACHABLE, "the agent had given up this id: %s",
                         why->message);
    }
    return error_set(error, ERR_UNREACHABLE, "%s", why->message);
}

static void
forward_cancel(Flow *flow, const char *key)
{
    unsigned heard = seen_heard(flow->manager, call_operation(flow->row->data, key));
    g_autoptr(json_t) doc = NULL;
    g_autoptr(GError) error = NULL;

    /* Repeated at each look until the operation is over: asking twice does no harm. A failure
     * to ask shows in the look that follows. */
    if (call_send(flow, key, "POST", "/cancel", &doc, &error))
        seen_answer(flow->manager, doc, heard);
}

static StepState
outcome(Flow *flow, const char *key, const json_t *doc, GError **error)
{
    const char *state = json_text(doc, "state");
    const json_t *why = json_object_get(doc, "error");
    json_t *result = json_object_get(doc, "result");

    if (g_strcmp0(state, "done") == 0) {
        json_object_set_new(json_object_get(flow->row->data, key), "result",
                            result != NULL ? json_deep_copy(result) : json_object());
        return STEP_DONE;
    }
    if (g_strcmp0(state, "cancelled") == 0) {
        error_set(error, ERR_CANCELLED, "cancelled by the user");
        return STEP_FAILED;
    }
    if (g_strcmp0(state, "failed") == 0) {
        error_set(error, error_code_from_word(json_text(why, "code")), "%s",
                  json_text(why, "message") != NULL ? json_text(why, "message")
                                                    : "the agent gave no reason");
        return STEP_FAILED;
    }
    return STEP_RUNNING;
}

StepState
call_wait(Flow *flow, const char *key, GError **error)
{
    const char *id = call_operation(flow->row->data, key);
    g_autoptr(json_t) doc = NULL;

    if (id == NULL) {
        error_set(error, ERR_CORRUPT, "flow %s has lost the id of its operation", flow->row->id);
        return STEP_FAILED;
    }
    doc = seen_doc(flow->manager, id);
    if (doc != NULL && is_over(doc))
        return outcome(flow, key, doc, error);
    if (doc != NULL && flow->just_sent && !flow->machine.cancel) {
        flow->just_sent = false;
        return outcome(flow, key, doc, error); /* the answer to the call has told it */
    }
    if (flow->machine.cancel)
        forward_cancel(flow, key);
    g_clear_pointer(&doc, json_decref);
    switch (look(flow, key, &doc, error)) {
    case LOOK_KNOWN:
        return outcome(flow, key, doc, error);
    case LOOK_NEVER:
        error_set(error, ERR_GONE,
                  "%s does not know operation %s any more (its journal was lost): it may have "
                  "been done in part; see livemerge doctor",
                  call_host_is_gone(flow, key) ? "nobody" : "the agent", id);
        return STEP_FAILED;
    case LOOK_UNKNOWN:
        return STEP_UNKNOWN;
    }
    g_assert_not_reached();
}

void
call_again(Flow *flow, const char *key)
{
    json_t *call = json_object_get(flow->row->data, key);

    json_object_del(call, "op");
}

char *
call_why_lost(const Flow *flow, const char *key, const Vm *vm)
{
    const char *host = json_text(json_object_get(flow->row->data, key), "host");

    return host != NULL && vm->host != NULL && !g_str_equal(host, vm->host)
               ? g_strdup_printf("it was moved from host '%s' to host '%s' meanwhile", host,
                                 vm->host)
               : g_strdup("the agent lost its journal");
}

StepState
call_wait_or(Flow *flow, const char *key, StepState (*lost)(Flow *flow, GError **error),
             GError **error)
{
    g_autoptr(GError) why = NULL;
    StepState state = call_wait(flow, key, &why);

    if (g_error_matches(why, ERR, ERR_GONE))
        return lost(flow, error);
    if (why != NULL)
        g_propagate_error(error, g_steal_pointer(&why));
    return state;
}

/* From now on the agent refuses to begin anything for it. */
static void
acknowledge_job(Flow *flow)
{
    g_autofree char *path = g_strdup_printf("/v1/operations/%s/ack", flow->row->id);
    g_autoptr(json_t) answer = NULL;
    Host *host = flow_host(flow, NULL);

    if (host != NULL)
        host_call(host, "POST", path, NULL, &answer, NULL);
}

void
calls_acknowledge(Flow *flow)
{
    const char *key;
    json_t *call;

    json_object_foreach (flow->row->data, key, call) {
        g_autoptr(json_t) answer = NULL;
        g_autoptr(GError) error = NULL;

        if (json_text(call, "op") != NULL && json_text(call, "host") != NULL)
            call_send(flow, key, "POST", "/ack", &answer, &error);
    }
    if (flow->row->parent == NULL)
        acknowledge_job(flow);
}
