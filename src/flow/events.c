/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * What users are told, with oVirt's codes and in its words. A job's event is stored once however
 * often it is told (the store sees to that), so flows repeat it without care.
 */
#include "flow/agent_call.h"

#include "base/log.h"

#define PARTIAL 359

static bool
add(Manager *m, EventRow *row, GError **error)
{
    bool added;

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
manager_event_wait(Manager *m, int64_t from, unsigned timeout_ms)
{
    int64_t until = g_get_monotonic_time() + timeout_ms * G_TIME_SPAN_MILLISECOND;
    WITH_LOCK(&m->lock);

    while (m->last_event <= from && !m->stopping)
        if (!g_cond_wait_until(&m->changed, &m->lock, until))
            break;
    return m->last_event > from;
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

static bool
is_removal(const FlowRow *row)
{
    return g_str_equal(row->kind, "remove-snapshots");
}

bool
event_job_started(Manager *m, const FlowRow *row, GError **error)
{
    const FlowKind *kind = flow_kind(row->kind);
    g_autofree char *names = quoted_names(json_object_get(row->params, "names"));
    const char *user = json_text(row->params, "user");
    g_autoptr(EventRow) event = NULL;

    if (kind->code_started == 0)
        return true;
    event = row_of_job(row, kind->code_started, "normal",
                       g_strdup_printf("Snapshot %s %s for VM '%s' was initiated by %s.", names,
                                       is_removal(row) ? "deletion" : "creation",
                                       json_text(row->params, "vm_name"),
                                       user != NULL ? user : "SYSTEM"));
    return add(m, event, error);
}

static EventRow *
done_event(const Flow *flow, const char *names)
{
    const FlowRow *row = flow->row;
    const char *vm = flow_param(flow, "vm_name");

    if (flow->kind->code_done == 0)
        return row_of_job(row, 0, "normal",
                          g_strdup_printf("Snapshot %s of VM '%s' was renamed to '%s' by %s.",
                                          names, vm, flow_param(flow, "name"),
                                          flow_param(flow, "user") ?: "SYSTEM"));
    return row_of_job(row, flow->kind->code_done, "normal",
                      g_strdup_printf("Snapshot %s %s for VM '%s' has been completed.", names,
                                      is_removal(row) ? "deletion" : "creation", vm));
}

/* Disks that a removal which failed has merged all the same: the snapshot lost them. */
static bool
has_merged_some(Flow *flow)
{
    g_autoptr(GPtrArray) children = flow_children(flow->manager, flow->row->id, NULL);

    for (guint i = 0; children != NULL && i < children->len; i++) {
        const FlowRow *child = children->pdata[i];
        if (child->error_word == NULL && *child->step == '\0')
            return true;
    }
    return false;
}

static EventRow *
failed_event(Flow *flow, const char *names)
{
    const FlowRow *row = flow->row;
    const char *vm = flow_param(flow, "vm_name"), *why = flow->machine.error_text;

    if (!is_removal(row))
        return row_of_job(
            row, flow->kind->code_failed, "error",
            g_strdup_printf("%s snapshot %s %s VM '%s': %s",
                            flow->kind->code_failed != 0 ? "Failed to complete"
                                                         : "Failed to rename",
                            names, flow->kind->code_failed != 0 ? "creation for" : "of", vm, why));
    if (has_merged_some(flow))
        return row_of_job(row, PARTIAL, "warning",
                          g_strdup_printf("Due to partial snapshot removal, Snapshot %s of VM '%s' "
                                          "now contains only the disks that were not merged: %s",
                                          names, vm, why));
    return row_of_job(
        row, flow->kind->code_failed, "error",
        g_strdup_printf("Failed to delete snapshot %s for VM '%s': %s", names, vm, why));
}

bool
event_job_ended(Flow *flow, GError **error)
{
    g_autofree char *names = quoted_names(json_object_get(flow->row->params, "names"));
    g_autoptr(EventRow) event =
        machine_failed(&flow->machine) ? failed_event(flow, names) : done_event(flow, names);

    return add(flow->manager, event, error);
}

void
event_refused(Manager *m, const FlowKind *kind, const Vm *vm, const char *snapshot_name,
              const char *correlation_id, const char *user, const GError *why)
{
    bool create = g_str_equal(kind->name, "create-snapshot");

    /* what makes no sense or does not exist is the caller's mistake, not news */
    if (kind->code_refused == 0 || g_error_matches(why, ERR, ERR_INVALID) ||
        g_error_matches(why, ERR, ERR_NOT_FOUND))
        return;
    manager_event(m, kind->code_refused, "error", vm->id, NULL, NULL, correlation_id, user,
                  "Failed to %s Snapshot '%s' for VM '%s' (User: %s): %s",
                  create ? "create" : "remove", snapshot_name != NULL ? snapshot_name : "?",
                  vm->name, user != NULL ? user : "SYSTEM", why->message);
}
