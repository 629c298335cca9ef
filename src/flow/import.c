/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * Taking over from a manager that was lost. What it knew is in manifests and headers, and comes in
 * by itself when a host answers; what it had under way is ended here, a job for each VM.
 *
 * Epochs. A new database begins above the lost one by the clock (store_next_epoch()), so hosts obey
 * at once. Where the clock is behind, they do not, and nothing is learned from their refusal by
 * itself: two managers that both live would then outbid each other for ever, and an epoch would
 * protect nobody. That the other one is lost is a person's word: take_over.
 */
#include "flow/agent_call.h"

#include "base/log.h"

#define AGAIN_MS 5000 /* how long hosts that were taken over may need to answer */

/* ---- one VM as a job ---- */

static void
cancel_strange(Host *host, const json_t *operation)
{
    g_autofree char *path = g_strdup_printf("/v1/operations/%s/cancel", json_text(operation, "id"));
    g_autoptr(json_t) answer = NULL;

    host_call(host, "POST", path, NULL, &answer, NULL); /* repeated at each look */
}

static bool
is_over_for(Flow *flow, Host *host, const json_t *strange, GError **error)
{
    size_t i;
    json_t *operation;

    json_array_foreach ((json_t *)strange, i, operation) {
        const char *why = json_text(operation, "waiting_for");
        if (g_strcmp0(json_text(operation, "vm_id"), flow->row->vm_id) != 0)
            continue;
        if (flow->machine.cancel)
            cancel_strange(host, operation);
        return error_set(
            error, ERR_BUSY, "operation %s (%s) of the lost manager is under way, at step '%s'%s%s",
            json_text(operation, "id"), json_text(operation, "kind"), json_text(operation, "step"),
            why != NULL ? ": " : "", why != NULL ? why : "");
    }
    return true;
}

/* The agent finishes or takes back what it was asked for; the outcome is acknowledged by the look.
 */
static StepState
quiet_check(void *self, GError **error)
{
    Flow *flow = self;
    Host *host = flow_host(flow, error);
    g_autoptr(json_t) strange = json_array();

    if (host == NULL || !host_look_at_operations(host, strange, error) ||
        !is_over_for(flow, host, strange, error))
        return STEP_UNKNOWN;
    return STEP_DONE;
}

static json_t *
body_of(const Flow *flow)
{
    (void)flow;
    return json_pack("{s:s}", "kind", "import");
}

const OneCall import_vm_call = { "import", body_of, NULL };

/* One operation of the agent, once the lost manager's have ended. A cancel also reaches those.
 *
 *   quiet ─► begin ─► wait ─► end
 *              └────────┴──────┘
 */
/* clang-format off */
const Step import_vm_steps[] = {
    /* step     check                 act                 tries cancel if it failed next */
    { "quiet",  quiet_check,          NULL,               0,    false, NULL,        NULL     },
    { "begin",  one_call_begin_check, one_call_begin_act, 0,    false, "end",       NULL     },
    { "wait",   one_call_wait_check,  NULL,               0,    false, "end",       NULL     },
    { "end",    job_end_check,        NULL,               0,    false, NULL,        STEP_END },
    { NULL },
};
/* clang-format on */

/* ---- taking over ---- */

static int64_t
highest_epoch(Manager *m)
{
    int64_t highest = 0;

    for (guint i = 0; i < m->hosts->len; i++) {
        Host *host = m->hosts->pdata[i];
        g_autoptr(json_t) answer = NULL;
        if (wire_call_within(host->client, CALL_MS, "GET", "/v1/epoch", NULL, &answer, NULL))
            highest = MAX(highest, json_number(answer, "epoch"));
    }
    return highest;
}

static bool
all_answer(Manager *m)
{
    WITH_LOCK(&m->lock);

    for (guint i = 0; i < m->hosts->len; i++)
        if (!((Host *)m->hosts->pdata[i])->up)
            return false;
    return true;
}

static void
obey(Manager *m, int64_t epoch)
{
    int64_t until = g_get_monotonic_time() + AGAIN_MS * G_TIME_SPAN_MILLISECOND;

    g_mutex_lock(&m->lock);
    m->epoch = epoch;
    for (guint i = 0; i < m->hosts->len; i++) {
        Host *host = m->hosts->pdata[i];
        wire_client_set_epoch(host->client, epoch);
        host_retry_locked(host);
    }
    g_mutex_unlock(&m->lock);
    while (!all_answer(m) && !manager_stopping(m) && g_get_monotonic_time() < until)
        g_usleep(10000);
}

static bool
take_over(Manager *m, const StorageImport *what, GError **error)
{
    int64_t highest = highest_epoch(m), epoch;

    if (highest <= m->epoch)
        return true; /* they obey already */
    if (!gate_enter(m, error))
        return false;
    epoch = store_epoch_above(m->store, highest, error); /* durable before anybody hears of it */
    gate_leave(m);
    if (epoch == 0)
        return false;
    obey(m, epoch);
    log_warn("taken over from a manager of epoch %" G_GINT64_FORMAT
             ", which was said to be lost; this one has %" G_GINT64_FORMAT,
             highest, epoch);
    manager_event(m, EVENT_TAKEN_OVER, "warning", NULL, NULL, NULL, what->correlation_id,
                  what->user,
                  "This manager has taken over from another one (epoch %" G_GINT64_FORMAT
                  "), which was said to be lost",
                  highest);
    return true;
}

/* ---- what is there ---- */

static json_t *
members(json_t *answer, const char *key)
{
    return json_object_get(answer, key);
}

/* A manifest on shared storage whose VM another host has is in no doubt. */
static bool
is_elsewhere(Host *host, const json_t *entry)
{
    const char *vm_id = json_text(entry, "vm_id");
    g_autoptr(Vm) vm = vm_id != NULL ? manager_vm(host->manager, vm_id, NULL) : NULL;

    return vm != NULL && g_strcmp0(vm->host, host->name) != 0;
}

static void
take_list(Host *host, const json_t *answer, const char *key, json_t *all)
{
    size_t i;
    json_t *item;

    json_array_foreach (json_object_get(answer, key), i, item) {
        json_t *copy = json_deep_copy(item);
        json_object_set_new(copy, "host", json_string(host->name));
        if (is_elsewhere(host, item))
            json_decref(copy);
        else
            json_array_append_new(members(all, key), copy);
    }
}

static bool
ask(Host *host, const StorageImport *what, json_t *all, GError **error)
{
    static const char *const keys[] = { "vms", "doubtful", "domains" };
    g_autoptr(json_t) body = json_pack("{s:b}", "dry_run", (int)what->dry_run), answer = NULL;

    json_put_text(body, "path", what->path);
    if (!host_call_within(host, PLAN_MS, "POST", "/v1/import", body, &answer, error) ||
        !host_look_at_all(host, error))
        return false;
    for (size_t i = 0; i < G_N_ELEMENTS(keys); i++)
        take_list(host, answer, keys[i], all);
    return true;
}

/* A directory that only some hosts have is no matter. */
static bool
ask_all(Manager *m, const StorageImport *what, json_t *all, GError **error)
{
    g_autoptr(GError) missing = NULL;
    bool found = false;

    for (guint i = 0; i < m->hosts->len; i++) {
        Host *host = m->hosts->pdata[i];
        g_autoptr(GError) why = NULL;

        if (ask(host, what, all, &why)) {
            found = true;
        } else if (g_error_matches(why, ERR, ERR_INVALID)) {
            g_propagate_error(error, g_steal_pointer(&why));
            return false;
        } else if (g_error_matches(why, ERR, ERR_NOT_FOUND)) {
            g_clear_error(&missing);
            missing = g_steal_pointer(&why);
        } else {
            json_array_append_new(members(all, "silent"),
                                  json_pack("{s:s, s:s}", "name", host->name, "why", why->message));
        }
    }
    if (found || missing == NULL)
        return true;
    g_propagate_error(error, g_steal_pointer(&missing));
    return false;
}

/* ---- the jobs ---- */

static bool
needs_job(const json_t *entry)
{
    const json_t *todo = json_object_get(entry, "todo");

    return json_array_size(json_object_get(entry, "running")) > 0 ||
           json_array_size(json_object_get(todo, "adopt")) > 0 ||
           json_array_size(json_object_get(todo, "delete")) > 0 ||
           json_array_size(json_object_get(todo, "forget")) > 0;
}

static bool
begin_job(Manager *m, const StorageImport *what, json_t *entry, GError **error)
{
    const char *vm_id = json_text(entry, "vm_id"), *name = json_text(entry, "vm");
    json_t *params = json_pack("{s:s, s:s}", "host", json_text(entry, "host"), "vm_name", name);
    FlowRow *row;

    json_put_text(params, "user", what->user);
    row = flow_row_new("import", vm_id, NULL, params);
    row->correlation_id = g_strdup(what->correlation_id);
    row->description = g_strdup_printf("Importing VM '%s'", name);
    json_object_set_new(entry, "job", json_string(row->id));
    return flow_begin(m, row, error);
}

static bool
begin_jobs(Manager *m, const StorageImport *what, json_t *all, GError **error)
{
    WITH_LOCK(&m->door);
    size_t i;
    json_t *entry;

    json_array_foreach (members(all, "vms"), i, entry) {
        if (!needs_job(entry))
            continue;
        if (vm_is_held(m, json_text(entry, "vm_id")))
            json_object_set_new(entry, "held", json_true());
        else if (!begin_job(m, what, entry, error))
            return false;
    }
    return true;
}

bool
manager_import(Manager *m, const StorageImport *what, json_t **ret_answer, GError **error)
{
    g_autoptr(json_t) all =
        json_pack("{s:[], s:[], s:[], s:[]}", "vms", "doubtful", "domains", "silent");

    if (what->take_over && what->dry_run)
        return error_set(error, ERR_INVALID, "a dry run takes nothing over");
    if ((what->take_over && !take_over(m, what, error)) || !ask_all(m, what, all, error))
        return false;
    if (!what->dry_run) {
        if (!begin_jobs(m, what, all, error))
            return false;
        manager_event(m, EVENT_IMPORTED, "normal", NULL, NULL, NULL, what->correlation_id,
                      what->user, "Storage was imported: %zu VMs, %zu things in doubt",
                      json_array_size(members(all, "vms")),
                      json_array_size(members(all, "doubtful")));
    }
    *ret_answer = g_steal_pointer(&all);
    return true;
}
