/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * What users are told, with oVirt's codes and in its words. A job's event is stored once however
 * often it is told (the store sees to that), so flows repeat it without care.
 */
#include "flow/agent_call.h"

#include "base/log.h"

#define PARTIAL 359
#define EVENT_REMOVED 10600

/* Where its VM is now: later it may be elsewhere. */
static void
put_host(Manager *m, EventRow *row)
{
    g_autofree char *name = row->vm_id != NULL && row->host_name == NULL
                                ? inventory_host_of(m, row->vm_id)
                                : g_steal_pointer(&row->host_name);
    WITH_LOCK(&m->lock);
    const Host *host = host_by_name(m, name);

    if (host != NULL)
        row->host_id = host_id_locked(host);
    row->host_name = g_steal_pointer(&name);
}

static bool
add(Manager *m, EventRow *row, GError **error)
{
    bool added;

    put_host(m, row);
    if (!gate_enter(m, error))
        return false;
    added = store_event_add(m->store, row, error);
    gate_leave(m);
    if (!added)
        return false;
    WITH_LOCK(&m->lock);
    m->last_event = MAX(m->last_event, row->id);
    g_cond_broadcast(&m->changed);
    return true;
}

bool
manager_event(Manager *m, int code, const char *severity, const char *vm_id,
              const char *snapshot_id, const char *job_id, const char *correlation_id,
              const char *user, const char *format, ...)
{
    g_autoptr(EventRow) row = g_new0(EventRow, 1);
    g_autoptr(Vm) vm = vm_id != NULL ? manager_vm(m, vm_id, NULL) : NULL;
    g_autoptr(GError) error = NULL;
    va_list args;

    va_start(args, format);
    row->text = g_strdup_vprintf(format, args);
    va_end(args);
    row->code = code;
    row->severity = g_strdup(severity);
    row->vm_id = g_strdup(vm_id);
    row->vm_name = vm != NULL ? g_strdup(vm->name) : NULL;
    row->snapshot_id = g_strdup(snapshot_id);
    row->job_id = g_strdup(job_id);
    row->correlation_id = g_strdup(correlation_id);
    row->user = g_strdup(user);
    if (add(m, row, &error))
        return true;
    log_vm_warn(vm_id, job_id, "event %d (%s) was not kept: %s", code, row->text, error->message);
    return false;
}

bool
manager_event_report(Manager *m, int code, const char *severity, const char *vm_id,
                     const char *about, const char *correlation_id, const char *user,
                     const char *text, int64_t *ret_id, GError **error)
{
    g_autoptr(EventRow) row = g_new0(EventRow, 1);
    g_autoptr(Vm) vm = vm_id != NULL ? manager_vm(m, vm_id, NULL) : NULL;

    row->code = code;
    row->severity = g_strdup(severity);
    row->text = g_strdup(text);
    row->vm_id = g_strdup(vm_id);
    row->vm_name = vm != NULL ? g_strdup(vm->name) : NULL;
    row->correlation_id = g_strdup(correlation_id);
    row->user = g_strdup(user);
    row->about = g_strdup(about);
    if (!add(m, row, error))
        return false;
    *ret_id = row->id;
    return true;
}

static EventRow *
find(Manager *m, int64_t id, GError **error)
{
    g_autoptr(GPtrArray) rows = NULL;

    if (!gate_enter(m, error))
        return NULL;
    rows = store_event_list(m->store, id - 1, 1, true, error);
    gate_leave(m);
    if (rows == NULL)
        return NULL;
    if (rows->len == 1 && ((const EventRow *)rows->pdata[0])->id == id)
        return g_ptr_array_steal_index(rows, 0);
    error_set(error, ERR_NOT_FOUND, "there is no event '%" G_GINT64_FORMAT "'", (gint64)id);
    return NULL;
}

static bool
forget(Manager *m, int64_t id, GError **error)
{
    bool removed;

    if (!gate_enter(m, error))
        return false;
    removed = store_event_remove(m->store, id, error);
    gate_leave(m);
    return removed;
}

/* Told before it goes: nothing goes that nobody can see has gone. */
bool
manager_event_remove(Manager *m, int64_t id, const char *correlation_id, const char *user,
                     GError **error)
{
    g_autoptr(EventRow) row = find(m, id, error);

    if (row == NULL)
        return false;
    if (!manager_event(m, EVENT_REMOVED, "normal", row->vm_id, NULL, NULL, correlation_id, user,
                       "Event list message %" G_GINT64_FORMAT
                       " was removed by User %s; it was of code %d and said: %.200s",
                       (gint64)id, user, row->code, row->text))
        return error_set(error, ERR_STORAGE,
                         "event %" G_GINT64_FORMAT
                         " stays: that it is removed could not be written down",
                         (gint64)id);
    return forget(m, id, error);
}

/* "'a'", or "'a', 'b', 'c' and 7 more" */
static char *
quoted_names(const json_t *names)
{
    GString *text = g_string_new(NULL);
    size_t i;
    json_t *name;

    json_array_foreach (names, i, name) {
        if (i == 3) {
            g_string_append_printf(text, " and %zu more", json_array_size(names) - i);
            break;
        }
        g_string_append_printf(text, "%s'%s'", i > 0 ? ", " : "", json_string_value(name));
    }
    return g_string_free(text, FALSE);
}

static EventRow *
row_of_job(const FlowRow *row, int code, const char *severity, char *take_text)
{
    const json_t *snapshots = json_object_get(row->params, "snapshots");
    EventRow *event = g_new0(EventRow, 1);

    event->code = code;
    event->severity = g_strdup(severity);
    event->text = take_text;
    event->vm_id = g_strdup(row->vm_id);
    event->vm_name = g_strdup(json_text(row->params, "vm_name"));
    if (json_array_size(snapshots) == 1)
        event->snapshot_id = g_strdup(json_string_value(json_array_get(snapshots, 0)));
    event->job_id = g_strdup(row->id);
    event->correlation_id = g_strdup(row->correlation_id);
    event->user = g_strdup(json_text(row->params, "user"));
    event->host_name = g_strdup(json_text(row->params, "host"));
    return event;
}

bool
event_of_run(Flow *flow, int code, const char *severity, const char *about, char *take_text,
             GError **error)
{
    g_autoptr(EventRow) event = row_of_job(flow->row, code, severity, take_text);

    event->about = g_strdup(about);
    if (flow->row->parent != NULL) {
        g_free(event->job_id);
        event->job_id = g_strdup(flow->row->parent);
    }
    return add(flow->manager, event, error);
}

static EventValues
values_of(const FlowRow *row, const char *names)
{
    const char *user = json_text(row->params, "user");

    return (EventValues){ .names = names,
                          .vm = json_text(row->params, "vm_name"),
                          .user = user != NULL ? user : "SYSTEM",
                          .host = json_text(row->params, "host"),
                          .name = json_text(row->params, "name") };
}

bool
event_job_started(Manager *m, const FlowRow *row, GError **error)
{
    const FlowKind *kind = flow_kind(row->kind);
    const char *text = event_texts(row->kind)->started;
    g_autofree char *names = quoted_names(json_object_get(row->params, "names"));
    EventValues values = values_of(row, names);
    g_autoptr(EventRow) event = NULL;

    if (text == NULL)
        return true;
    event = row_of_job(row, kind->code_started, "normal", event_fill(text, &values));
    return add(m, event, error);
}

/* Disks that a removal which failed has merged all the same: the snapshot lost them. */
static bool
has_merged_some(Flow *flow)
{
    g_autoptr(GPtrArray) children = NULL;

    if (!g_str_equal(flow->row->kind, "remove-snapshots"))
        return false;
    children = flow_children(flow->manager, flow->row->id, NULL);
    for (guint i = 0; children != NULL && i < children->len; i++) {
        const FlowRow *child = children->pdata[i];
        if (child->error_word == NULL && *child->step == '\0')
            return true;
    }
    return false;
}

static EventRow *
failed_event(Flow *flow, const EventValues *values)
{
    const FlowRow *row = flow->row;
    const char *text = event_texts(row->kind)->failed;

    if (has_merged_some(flow))
        return row_of_job(row, PARTIAL, "warning",
                          event_fill("Due to partial snapshot removal, Snapshot {names} of VM "
                                     "'{vm}' now contains only the disks that were not merged: "
                                     "{why}",
                                     values));
    return text == NULL
               ? NULL
               : row_of_job(row, flow->kind->code_failed, "error", event_fill(text, values));
}

static EventRow *
done_event(const Flow *flow, const EventValues *values)
{
    const char *text = event_texts(flow->row->kind)->done;

    return text == NULL
               ? NULL
               : row_of_job(flow->row, flow->kind->code_done, "normal", event_fill(text, values));
}

bool
event_job_ended(Flow *flow, GError **error)
{
    g_autofree char *names = quoted_names(json_object_get(flow->row->params, "names"));
    EventValues values = values_of(flow->row, names);

    const char *stays = json_text(flow->row->data, "not_deleted");
    bool failed = machine_failed(&flow->machine);
    g_autofree char *but =
        g_strconcat(stays != NULL ? " Files of the line that went stay: " : "", stays, NULL);
    values.why = failed ? flow->machine.error_text : but;
    g_autoptr(EventRow) event = failed ? failed_event(flow, &values) : done_event(flow, &values);
    return event == NULL || add(flow->manager, event, error);
}

void
event_refused(Manager *m, const FlowKind *kind, const Vm *vm, const char *snapshot_name,
              const char *correlation_id, const char *user, const GError *why)
{
    const char *text = event_texts(kind->name)->refused;
    g_autofree char *names = g_strdup_printf("'%s'", snapshot_name != NULL ? snapshot_name : "?");
    EventValues values = { .names = names,
                           .vm = vm->name,
                           .user = user != NULL ? user : "SYSTEM",
                           .host = vm->host,
                           .why = why->message };

    /* what makes no sense or does not exist is the caller's mistake, not news */
    if (text == NULL || g_error_matches(why, ERR, ERR_INVALID) ||
        g_error_matches(why, ERR, ERR_NOT_FOUND))
        return;
    g_autofree char *said = event_fill(text, &values);
    manager_event(m, kind->code_refused, "error", vm->id, NULL, NULL, correlation_id, user, "%s",
                  said);
}

void
event_vm_turned(Manager *m, const Vm *vm)
{
    if (vm->instance != NULL)
        manager_event(m, 32, "normal", vm->id, NULL, NULL, NULL, NULL, "VM '%s' started on Host %s",
                      vm->name, vm->host);
    else if (vm->state == VM_DOWN) /* and not suspended, or lost */
        manager_event(m, 61, "normal", vm->id, NULL, NULL, NULL, NULL, "VM '%s' is down.",
                      vm->name);
}
