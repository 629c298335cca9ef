/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * An agent for api_whole_test.c: one VM, and operations that run until the test ends them.
 */
#pragma once

#include "http/http.h"
#include "model/plan.h"
#include "model/vm.h"
#include "wire/wire.h"

typedef struct {
    HttpServer *server;
    GMutex lock;
    GCond changed;
    bool stopping;
    bool connected; /* a stream is open */
    json_t *vm;
    json_t *operations; /* id → Operation */
    GQueue lines;       /* of char *: events to be sent */
} Agent;

static inline bool
agent_hello(void *self, const HttpRequest *request, const char *id, json_t *body, json_t **ret_json,
            GError **error)
{
    *ret_json = json_pack("{s:s, s:s, s:s, s:i, s:b, s:{s:s, s:I, s:i, s:i, s:i, s:i, s:s}}",
                          "name", "fake", "version", "1.2.3", "agent_id",
                          "aaaaaaaa-0000-4000-8000-000000000001", "epoch", 0, "connected", 1,
                          "host", "cpu", "abacus", "memory", (json_int_t)8589934592, "sockets", 1,
                          "cores", 4, "threads", 2, "mhz", 3000, "libvirt", "9.0.0");
    return true;
}

static inline bool
agent_vms(void *self, const HttpRequest *request, const char *id, json_t *body, json_t **ret_json,
          GError **error)
{
    Agent *agent = self;
    WITH_LOCK(&agent->lock);
    json_t *copy = json_deep_copy(agent->vm);

    *ret_json = id == NULL ? json_pack("{s:[o]}", "vms", copy) : copy;
    return true;
}

static inline bool
agent_plan(void *self, const HttpRequest *request, const char *id, json_t *body, json_t **ret_json,
           GError **error)
{
    Agent *agent = self;
    WITH_LOCK(&agent->lock);
    g_autoptr(Vm) vm = vm_from_json(agent->vm, error);
    g_autoptr(GPtrArray) ids = g_ptr_array_new();
    Strategy strategy;
    Verify verify;
    size_t i;
    json_t *snapshot;

    json_array_foreach (json_object_get(body, "snapshots"), i, snapshot)
        g_ptr_array_add(ids, (void *)json_string_value(snapshot));
    g_ptr_array_add(ids, NULL);
    if (vm == NULL || !strategy_from_word(json_text(body, "strategy"), &strategy, error) ||
        !verify_from_word(json_text(body, "verify"), &verify, error))
        return false;
    g_autoptr(Plan) plan = plan_new(vm, (const char *const *)ids->pdata, json_text(body, "disk"),
                                    strategy, verify, error);
    if (plan == NULL)
        return false;
    plan_guess(plan, vm);
    plan_choose(plan, vm);
    *ret_json = json_pack("{s:o, s:o}", "vm", vm_to_json(vm), "plan", plan_to_json(plan, vm));
    return true;
}

static inline bool
agent_begin(void *self, const HttpRequest *request, const char *id, json_t *body, json_t **ret_json,
            GError **error)
{
    Agent *agent = self;
    WITH_LOCK(&agent->lock);
    const char *op_id = json_text(body, "id");

    if (json_object_get(agent->operations, op_id) == NULL) {
        json_t *op = json_deep_copy(body);
        json_object_set_new(op, "state", json_string("running"));
        json_object_set_new(op, "step", json_string("work"));
        json_object_set_new(agent->operations, op_id, op);
        g_cond_broadcast(&agent->changed);
    }
    *ret_json = json_deep_copy(json_object_get(agent->operations, op_id));
    return true;
}

static inline bool
agent_operation(void *self, const HttpRequest *request, const char *id, json_t *body,
                json_t **ret_json, GError **error)
{
    Agent *agent = self;
    WITH_LOCK(&agent->lock);

    *ret_json = json_deep_copy(json_object_get(agent->operations, id));
    return *ret_json != NULL || error_set(error, ERR_NOT_FOUND, "no operation %s", id);
}

static inline bool
agent_operations(void *self, const HttpRequest *request, const char *id, json_t *body,
                 json_t **ret_json, GError **error)
{
    *ret_json = json_pack("{s:[]}", "operations");
    return true;
}

static inline bool
agent_resume(void *self, const HttpRequest *request, const char *id, json_t *body,
             json_t **ret_json, GError **error)
{
    Agent *agent = self;
    WITH_LOCK(&agent->lock);
    json_t *op = json_object_get(agent->operations, id);

    json_object_del(op, "attention");
    *ret_json = json_deep_copy(op);
    return true;
}

static inline bool
agent_nothing(void *self, const HttpRequest *request, const char *id, json_t *body,
              json_t **ret_json, GError **error)
{
    return true;
}

static inline bool
agent_doctor(void *self, const HttpRequest *request, const char *id, json_t *body,
             json_t **ret_json, GError **error)
{
    const char *vm = http_query(request, "vm");

    *ret_json = json_pack("{s:[{s:s, s:s, s:s, s:s, s:s}], s:[{s:s, s:s}], s:[], s:{s:i, s:i}}",
                          "findings", "class", "orphan-volume", "severity", "notice", "vm_id",
                          vm != NULL ? vm : "other", "vm", "web1", "text", "nobody has it", "busy",
                          "vm_id", "b", "why", "a merge", "unread", "kept", "files", 1, "bytes", 2);
    return true;
}

static inline bool
agent_storage(void *self, const HttpRequest *request, const char *id, json_t *body,
              json_t **ret_json, GError **error)
{
    *ret_json =
        json_pack("{s:[{s:s, s:I}, {s:s, s:I, s:I, s:b, s:s}, {s:s, s:I}]}", "domains", "path", "/",
                  "available", (json_int_t)1, "path", "/images", "available",
                  (json_int_t)7000000000, "used", (json_int_t)3000000000, "shares_blocks", 1,
                  "holder", "process 7 of host A", "path", "/image", "available", (json_int_t)2);
    return true;
}

static inline bool
agent_clone(void *self, const HttpRequest *request, const char *id, json_t *body, json_t **ret_json,
            GError **error)
{
    *ret_json = json_pack("{s:s, s:i, s:i, s:[], s:[]}", "strategy", "copy", "bytes", 0, "written",
                          0, "disks", "left");
    return true;
}

/* clang-format off */
static const WireRoute agent_routes[] = {
    { "GET",  "/v1/hello",             agent_hello },
    { "GET",  "/v1/vms",               agent_vms },
    { "GET",  "/v1/vms/ID",            agent_vms },
    { "POST", "/v1/vms/ID/plan",       agent_plan },
    { "POST", "/v1/vms/ID/clone",      agent_clone },
    { "GET",  "/v1/doctor",            agent_doctor },
    { "GET",  "/v1/storage",           agent_storage },
    { "POST", "/v1/operations",        agent_begin },
    { "GET",  "/v1/operations",        agent_operations },
    { "GET",  "/v1/operations/ID",     agent_operation },
    { "POST", "/v1/operations/ID/ack", agent_nothing },
    { "POST", "/v1/operations/ID/resume", agent_resume },
    { NULL },
};
/* clang-format on */

static inline ssize_t
agent_stream(void *data, char *buf, size_t max)
{
    Agent *agent = data;
    int64_t until = g_get_monotonic_time() + G_TIME_SPAN_SECOND;
    WITH_LOCK(&agent->lock);

    if (!agent->connected) {
        agent->connected = true;
        g_cond_broadcast(&agent->changed);
        return g_snprintf(buf, max, "{\"event\": \"alive\"}\n");
    }
    while (!agent->stopping && g_queue_is_empty(&agent->lines))
        if (!g_cond_wait_until(&agent->changed, &agent->lock, until))
            return g_snprintf(buf, max, "{\"event\": \"alive\"}\n");
    if (agent->stopping)
        return 0;
    g_autofree char *line = g_queue_pop_head(&agent->lines);
    return g_snprintf(buf, max, "%s\n", line);
}

static inline void
agent_answer(const HttpRequest *request, HttpResponse *response, void *data)
{
    if (g_str_equal(request->path, "/v1/events")) {
        response->status = 200;
        response->content_type = g_strdup("application/json");
        response->stream = agent_stream;
        response->stream_data = data;
        return;
    }
    wire_serve(agent_routes, data, NULL, request, response);
}

static inline Agent *
agent_start(const char *address, const Vm *vm)
{
    Agent *agent = g_new0(Agent, 1);
    HttpServerOptions options = { .address = address };
    g_autoptr(GError) error = NULL;

    agent->vm = vm_to_json(vm);
    agent->operations = json_object();
    g_queue_init(&agent->lines);
    agent->server = http_server_start(&options, agent_answer, agent, &error);
    g_assert_no_error(error);
    return agent;
}

/* The operation that was begun by the test's request; waits for it. */
static inline char *
agent_wait_operation(Agent *agent, const char *kind)
{
    int64_t until = g_get_monotonic_time() + 20 * G_TIME_SPAN_SECOND;
    WITH_LOCK(&agent->lock);

    for (;;) {
        const char *id;
        json_t *op;
        json_object_foreach (agent->operations, id, op) {
            if (g_str_equal(json_text(op, "kind"), kind) &&
                g_str_equal(json_text(op, "state"), "running"))
                return g_strdup(id);
        }
        if (!g_cond_wait_until(&agent->changed, &agent->lock, until))
            g_error("no operation of kind %s was begun within 20 s", kind);
    }
}

/* It pauses itself. */
static inline void
agent_pause_operation(Agent *agent, const char *op_id, const char *why)
{
    WITH_LOCK(&agent->lock);
    json_t *op = json_object_get(agent->operations, op_id);

    json_object_set_new(op, "attention", json_pack("{s:s, s:s}", "kind", "space", "message", why));
    g_autoptr(json_t) event = json_pack("{s:s, s:O}", "event", "operation", "operation", op);
    autolibc char *line = json_dumps(event, JSON_COMPACT);
    g_queue_push_tail(&agent->lines, g_strdup(line));
    g_cond_broadcast(&agent->changed);
}

/* The VM is now like this, and the operation is done. */
static inline void
agent_end_operation(Agent *agent, const char *op_id, const Vm *vm)
{
    WITH_LOCK(&agent->lock);
    json_t *op = json_object_get(agent->operations, op_id);

    json_decref(agent->vm);
    agent->vm = vm_to_json(vm);
    json_object_set_new(op, "state", json_string("done"));
    json_object_set_new(op, "result", json_object());
    g_autoptr(json_t) event = json_pack("{s:s, s:O}", "event", "operation", "operation", op);
    autolibc char *line = json_dumps(event, JSON_COMPACT);
    g_queue_push_tail(&agent->lines, g_strdup(line));
    g_cond_broadcast(&agent->changed);
}

static inline void
agent_stop(Agent *agent)
{
    g_mutex_lock(&agent->lock);
    agent->stopping = true;
    g_cond_broadcast(&agent->changed);
    g_mutex_unlock(&agent->lock);
    http_server_stop(agent->server);
    json_decref(agent->vm);
    json_decref(agent->operations);
    g_queue_clear_full(&agent->lines, g_free);
    g_free(agent);
}
