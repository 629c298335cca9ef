/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * A flow: a row of the database and the machine that turns it.
 */
#include "flow/agent_call.h"
#include "flow/measure.h"

#include "base/fault.h"
#include "base/log.h"
#include "base/text.h"

/* A machine that makes progress for so long is wrong; it must not eat a processor. */
#define MOST_ROUNDS 200

static const char *const create_cancel[] = { "begin", "wait", NULL };
static const char *const remove_cancel[] = { "plan", "merge", NULL };
static const char *const power_cancel[] = { "begin", "wait", "off", NULL };
static const char *const preview_cancel[] = { "preview", NULL };
static const char *const clone_cancel[] = { "clone", NULL };
static const char *const import_cancel[] = { "quiet", "begin", "wait", NULL };

/* clang-format off */
/* The codes are those of oVirt's AuditLogType. */
const FlowKind flow_kinds[] = {
    /* kind               table                    start done failed refused  cancel         holds the VM     asks for */
    { "create-snapshot",  one_call_steps,          45,   68,  69,    117,     create_cancel, HOLD_TAKING,     &create_snapshot_call },
    { "remove-snapshots", remove_snapshots_steps,  342,  356, 357,   343,     remove_cancel, HOLD_DELETING },
    { "rename-snapshot",  one_call_steps,          0,    0,   0,     0,       NULL,          HOLD_SNAPSHOTS,  &rename_snapshot_call },
    { "preview-snapshot", preview_snapshot_steps,  46,   71,  99,    115,     preview_cancel, HOLD_SNAPSHOTS },
    { "commit-snapshot",  commit_snapshot_steps,   94,   95,  96,    96,      NULL,          HOLD_SNAPSHOTS },
    { "undo-snapshot",    undo_snapshot_steps,     650,  651, 652,   652,     NULL,          HOLD_SNAPSHOTS },
    { "restore-snapshot", restore_snapshot_steps,  47,   100, 101,   116,     preview_cancel, HOLD_SNAPSHOTS },
    { "doctor",           one_call_steps,          0,    0,   0,     0,       NULL,          HOLD_OTHER,      &doctor_call },
    { "import",           import_vm_steps,         0,    0,   0,     0,       import_cancel, HOLD_OTHER,      &import_vm_call },
    { "start-vm",         power_steps,             150,  153, 54,    151,     power_cancel,  HOLD_POWER,      &power_call },
    { "stop-vm",          power_steps,             0,    33,  56,    56,      power_cancel,  HOLD_POWER,      &power_call },
    { "shutdown-vm",      power_steps,             73,   0,   147,   74,      power_cancel,  HOLD_SHUTDOWN,   &power_call },
    { "reboot-vm",        power_steps,             157,  0,   158,   158,     power_cancel,  HOLD_POWER,      &power_call },
    { "reset-vm",         power_steps,             0,    221, 222,   222,     power_cancel,  HOLD_POWER,      &power_call },
    { "suspend-vm",       power_steps,             501,  503, 521,   502,     power_cancel,  HOLD_POWER,      &power_call },
    { "freeze-vm",        power_steps,             0,    10767, 10769, 10769, power_cancel,  HOLD_OTHER,      &power_call },
    { "thaw-vm",          power_steps,             0,    10768, 10770, 10770, power_cancel,  HOLD_OTHER,      &power_call },
    { "update-vm",        one_call_steps,          0,    35,  58,    58,      NULL,          HOLD_OTHER,      &update_vm_call },
    { "clone-vm",         clone_vm_steps,          37,   53,  60,    57,      clone_cancel,  HOLD_SNAPSHOTS },
    { "remove-vm",        remove_vm_steps,         0,    113, 59,    59,      NULL,          HOLD_OTHER },
    { "merge-run",        merge_run_steps,         0,    0,   0,     0,       NULL },
    { NULL },
};
/* clang-format on */

const FlowKind *
flow_kind(const char *name)
{
    for (const FlowKind *kind = flow_kinds; kind->name != NULL; kind++)
        if (g_str_equal(kind->name, name))
            return kind;
    return NULL;
}

/* Everything that is to be durable, through the gate: the engine calls it. */
static bool
save(void *self, GError **error)
{
    Flow *flow = self;
    FlowRow *row = flow->row;
    const Machine *machine = &flow->machine;
    bool saved;

    g_free(row->step);
    g_free(row->error_word);
    g_free(row->error_text);
    row->step = g_strdup(machine->step);
    row->tried = machine->tried;
    row->cancel = machine->cancel;
    row->error_word = g_strdup(machine->error_word);
    row->error_text = g_strdup(machine->error_text);
    if (!fault_point("flow.before-save", error) || !gate_enter(flow->manager, error))
        return false;
    saved = store_flow_update(flow->manager->store, row, error);
    gate_leave(flow->manager);
    return saved && fault_point("flow.after-save", error);
}

Flow *
flow_new(Manager *m, FlowRow *take_row)
{
    Flow *flow = g_new0(Flow, 1);
    g_autoptr(GError) error = NULL;

    flow->manager = m;
    flow->row = take_row;
    flow->kind = flow_kind(take_row->kind);
    flow->step = g_strdup(take_row->step);
    flow->cancel = take_row->cancel;
    flow->machine = (Machine){ .self = flow,
                               .save = save,
                               .tried = take_row->tried,
                               .cancel = take_row->cancel,
                               .error_word = g_strdup(take_row->error_word),
                               .error_text = g_strdup(take_row->error_text) };
    if (flow->kind == NULL)
        error_set(&error, ERR_CORRUPT, "this version knows no jobs of kind '%s'", take_row->kind);
    else
        machine_init(&flow->machine, flow->kind->steps, take_row->step, &error);
    if (error != NULL) {
        log_vm_warn(take_row->vm_id, take_row->id, "job %s stays where it is: %s", take_row->id,
                    error->message);
        flow->stuck = true;
        flow->waiting_for = g_strdup(error->message);
    }
    return flow;
}

void
flow_free(Flow *flow)
{
    if (flow == NULL)
        return;
    machine_clear(&flow->machine);
    flow_row_free(flow->row);
    g_free(flow->unsent);
    g_free(flow->step);
    g_free(flow->waiting_for);
    g_free(flow);
}

FlowRow *
flow_row_new(const char *kind, const char *vm_id, const char *parent, json_t *take_params)
{
    FlowRow *row = g_new0(FlowRow, 1);

    row->id = id_new();
    row->kind = g_strdup(kind);
    row->vm_id = g_strdup(vm_id);
    row->parent = g_strdup(parent);
    row->step = g_strdup(flow_kind(kind)->steps->name);
    row->params = take_params;
    row->data = json_object();
    return row;
}

/* Of its VM, and of the one that it makes. */
static void
news_locked(const Flow *flow)
{
    news_vm_locked(flow->manager, flow->row->vm_id);
    if (flow_param(flow, "clone_id") != NULL)
        news_vm_locked(flow->manager, flow_param(flow, "clone_id"));
}

bool
flow_begin(Manager *m, FlowRow *take_row, GError **error)
{
    g_autoptr(FlowRow) row = take_row;
    Flow *flow;
    bool stored;

    if (!gate_enter(m, error))
        return false;
    stored = store_flow_insert(m->store, row, error);
    gate_leave(m);
    if (!stored)
        return false;
    if (row->parent == NULL)
        event_job_started(m, row, NULL); /* a manager that resumes the flow repeats it */
    flow = flow_new(m, g_steal_pointer(&row));
    WITH_LOCK(&m->lock);
    g_hash_table_insert(m->flows, flow->row->id, flow);
    job_changed_locked(m, flow);
    news_locked(flow);
    flow_kick_locked(flow);
    return true;
}

bool
flow_cancel(Manager *m, const char *id, GError **error)
{
    bool stored;
    Flow *flow;

    if (!gate_enter(m, error))
        return false;
    stored = store_flow_cancel(m->store, id, error);
    gate_leave(m);
    if (!stored)
        return false;
    WITH_LOCK(&m->lock);
    flow = g_hash_table_lookup(m->flows, id);
    if (flow != NULL && !flow->cancel) {
        flow->cancel = true;
        job_changed_locked(m, flow);
        flow_kick_locked(flow);
    }
    return true;
}

/* What other threads may see of it. */
static void
publish(Flow *flow)
{
    Manager *m = flow->manager;
    WITH_LOCK(&m->lock);

    if (g_strcmp0(flow->step, flow->machine.step) == 0 &&
        g_strcmp0(flow->waiting_for, flow->machine.waiting_for) == 0)
        return;
    g_free(flow->step);
    g_free(flow->waiting_for);
    flow->step = g_strdup(flow->machine.step);
    flow->waiting_for = g_strdup(flow->machine.waiting_for);
    job_changed_locked(m, flow);
}

static void
leave_table(Flow *flow)
{
    Manager *m = flow->manager;
    WITH_LOCK(&m->lock);
    Flow *parent =
        flow->row->parent != NULL ? g_hash_table_lookup(m->flows, flow->row->parent) : NULL;

    job_changed_locked(m, flow);
    news_locked(flow);
    g_hash_table_steal(m->flows, flow->row->id);
    seen_remove_row(m, flow->row);
    if (parent != NULL)
        flow_kick_locked(parent);
}

/* Out of the table, its parent told. Its end is durable: only now, and with nobody waiting for it,
 * may the agent forget the outcomes. What is missed here is caught up by
 * host_acknowledge_again(). */
static void
bury(Flow *flow)
{
    g_autoptr(Flow) dead = flow;

    measure_ended(flow->manager->meter, flow->row);
    leave_table(flow);
    if (flow->row->parent == NULL)
        inventory_keep(flow->manager, flow->row->vm_id);
    calls_acknowledge(flow);
}

/* When to look again. */
static void
rest(Flow *flow, bool dizzy)
{
    Manager *m = flow->manager;
    unsigned ms = machine_backoff_ms(&flow->machine);
    WITH_LOCK(&m->lock);

    if (ms == 0)
        ms = dizzy || flow->cancel ? CANCEL_POLL_MS : POLL_MS;
    flow->turning = false;
    if (m->stopping)
        return;
    if (flow->again) {
        flow_kick_locked(flow);
        return;
    }
    flow->due_us = g_get_monotonic_time() + ms * G_TIME_SPAN_MILLISECOND;
    g_cond_signal(&m->timer);
}

void
flow_run(Flow *flow)
{
    Manager *m = flow->manager;
    Turn turn = TURN_AGAIN;
    unsigned rounds = 0;

    while (turn == TURN_AGAIN && rounds++ < MOST_ROUNDS) {
        g_mutex_lock(&m->lock);
        bool stopping = m->stopping;
        flow->again = false;
        flow->machine.cancel = flow->cancel;
        g_mutex_unlock(&m->lock);
        if (stopping)
            break;
        turn = machine_turn(&flow->machine);
        publish(flow);
    }
    if (turn == TURN_ENDED)
        bury(flow);
    else
        rest(flow, turn == TURN_AGAIN);
}

void
flow_release(Flow *flow)
{
    WITH_LOCK(&flow->manager->lock);
    flow->released = true;
    news_locked(flow);
}

const char *
flow_param(const Flow *flow, const char *key)
{
    return json_text(flow->row->params, key);
}

GPtrArray *
flow_children(Manager *m, const char *id, GError **error)
{
    GPtrArray *rows;

    if (!gate_enter(m, error))
        return NULL;
    rows = store_flow_list(m->store, false, id, NULL, error);
    gate_leave(m);
    return rows;
}

Host *
flow_host(Flow *flow, GError **error)
{
    Manager *m = flow->manager;
    g_autofree char *name = inventory_host_of(m, flow->row->vm_id);
    Host *host = host_by_name(m, name != NULL ? name : flow_param(flow, "host"));

    if (host == NULL)
        error_set(error, ERR_UNREACHABLE, "VM %s is on no host that is configured",
                  flow->row->vm_id);
    return host;
}

static Vm *
get_vm(Flow *flow, bool fresh, GError **error)
{
    Host *host = flow_host(flow, error);

    return host != NULL ? inventory_ask(host, flow->row->vm_id, fresh, CALL_MS, error) : NULL;
}

Vm *
flow_look_at_vm(Flow *flow, GError **error)
{
    return get_vm(flow, true, error);
}

Vm *
flow_last_seen_vm(Flow *flow, GError **error)
{
    return get_vm(flow, false, error);
}

StepState
job_end_check(void *self, GError **error)
{
    Flow *flow = self;
    g_autoptr(Vm) vm = NULL;

    /* Whoever hears of the end must find the list of snapshots fresh and the VM free. */
    if (!flow->released) {
        vm = flow_last_seen_vm(flow, NULL);
        flow_release(flow);
    }
    return event_job_ended(flow, error) ? STEP_DONE : STEP_UNKNOWN;
}
