/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "agent/operation.h"

#include "base/clock.h"
#include "base/log.h"
#include "base/text.h"

#include <string.h>

#define SLOW_POLL_MS 10000
#define QUIET_US (100 * 1000)
#define PROGRESS_EVERY_US (500 * 1000)

/* clang-format off */
const OperationKind operation_kinds[] = {
    /* kind               steps                  whole VM  parameters                scratch */
    { "snapshot-create",  snapshot_create_steps, true,     snapshot_create_params,   NULL },
    { "snapshot-rename",  snapshot_rename_steps, false,    snapshot_rename_params,   NULL },
    { "snapshot-forget",  snapshot_forget_steps, false,    snapshot_forget_params,   NULL },
    { "snapshot-preview", preview_steps,         true,     preview_params,           NULL },
    { "snapshot-commit",  branch_commit_steps,   true,     branch_end_params,        NULL },
    { "snapshot-undo",    branch_undo_steps,     true,     branch_end_params,        NULL },
    { "merge",            merge_steps,           false,    merge_params,             merge_scratch_free },
    { "delete-volumes",   delete_volumes_steps,  false,    delete_volumes_params,    NULL },
    { "doctor-fix",       doctor_fix_steps,      true,     doctor_fix_params,        NULL },
    { "doctor-undo",      doctor_undo_steps,     true,     doctor_undo_params,       NULL },
    { "import",           import_steps,          true,     NULL,                     NULL },
    { "vm-start",         vm_start_steps,        false,    NULL,                     NULL },
    { "vm-stop",          vm_stop_steps,         false,    vm_stop_params,           NULL },
    { "vm-suspend",       vm_suspend_steps,      true,     NULL,                     NULL },
    { NULL },
};
/* clang-format on */

static const OperationKind *
find_kind(const char *word)
{
    for (const OperationKind *k = operation_kinds; k->kind != NULL; k++)
        if (g_strcmp0(k->kind, word) == 0)
            return k;
    return NULL;
}

static void
operation_free(void *p)
{
    Operation *op = p;

    if (op->scratch != NULL && op->kind->scratch_free != NULL)
        op->kind->scratch_free(op->scratch);
    op_forget_seen(op);
    machine_clear(&op->machine);
    journal_row_clear(&op->row);
    g_free(op->job_reason);
    g_free(op->waiting_for);
    g_free(op->notice);
    g_free(op);
}

/* ---- what an operation says of itself ---- */

const char *
op_text(const Operation *op, const char *key)
{
    return json_text(op->row.params, key);
}

const char *
op_data(const Operation *op, const char *key)
{
    return json_text(op->row.data, key);
}

void
op_remember(Operation *op, const char *key, json_t *take_value)
{
    WITH_LOCK(&op->agent->lock);

    if (take_value != NULL)
        json_object_set_new(op->row.data, key, take_value);
    else
        json_object_del(op->row.data, key);
}

static json_t *
result_of(Operation *op)
{
    json_t *result = json_object_get(op->row.data, "result");

    if (result == NULL) {
        result = json_object();
        json_object_set_new(op->row.data, "result", result);
    }
    return result;
}

void
op_result(Operation *op, const char *key, json_t *take_value)
{
    WITH_LOCK(&op->agent->lock);

    json_object_set_new(result_of(op), key, take_value);
}

void
op_add_pause(Operation *op, const char *kind, double milliseconds)
{
    WITH_LOCK(&op->agent->lock);
    json_t *pauses = json_object_get(result_of(op), "pauses");

    if (pauses == NULL) {
        pauses = json_array();
        json_object_set_new(result_of(op), "pauses", pauses);
    }
    json_array_append_new(pauses, json_pack("{s:s, s:f}", "kind", kind, "milliseconds",
                                            (double)(int64_t)(milliseconds * 10 + 0.5) / 10));
}

static const char *
state_of(const Operation *op)
{
    if (!operation_ended(op))
        return "running";
    if (op->row.error_word == NULL)
        return "done";
    return g_strcmp0(op->row.error_word, "cancelled") == 0 ? "cancelled" : "failed";
}

static json_t *
progress_to_json(const Operation *op)
{
    double eta = -1;

    if (op->rate > 0 && op->bytes_total >= op->bytes_done)
        eta = (double)(op->bytes_total - op->bytes_done) / op->rate;
    return json_pack("{s:s, s:I, s:I, s:I, s:f}", "phase",
                     op->phase != NULL ? op->phase : "waiting", "bytes_done",
                     (json_int_t)op->bytes_done, "bytes_total", (json_int_t)op->bytes_total, "rate",
                     (json_int_t)op->rate, "eta", (double)(int64_t)(eta * 10) / 10);
}

json_t *
operation_to_json(Operation *op)
{
    json_t *json = json_pack("{s:s, s:s, s:s, s:s, s:s}", "id", op->row.id, "kind", op->row.kind,
                             "vm_id", op->row.vm_id, "state", state_of(op), "step", op->row.step);
    json_t *result = json_object_get(op->row.data, "result"),
           *attention = json_object_get(op->row.data, "attention");

    json_object_set_new(json, "progress", progress_to_json(op));
    json_put_text(json, "waiting_for", op->waiting_for != NULL ? op->waiting_for : op->notice);
    if (attention != NULL && !operation_ended(op))
        json_object_set_new(json, "attention", json_deep_copy(attention));
    if (op->row.error_word != NULL)
        json_object_set_new(
            json, "error",
            json_pack("{s:s, s:s}", "code", op->row.error_word, "message", op->row.error_text));
    json_object_set_new(json, "result", result != NULL ? json_deep_copy(result) : json_object());
    return json;
}

/* agent->lock held */
static void
tell(Operation *op)
{
    op->told_us = clock_mono_us();
    event_hub_send(op->agent->events, json_pack("{s:s, s:o}", "event", "operation", "operation",
                                                operation_to_json(op)));
}

void
operation_phase(Operation *op, const char *phase)
{
    WITH_LOCK(&op->agent->lock);

    op->phase = phase;
    op->rate = 0;
    tell(op);
}

void
operation_progress(Operation *op, const char *phase, uint64_t done, uint64_t total)
{
    WITH_LOCK(&op->agent->lock);
    int64_t now = clock_mono_us();
    bool news = g_strcmp0(op->phase, phase) != 0;

    if (news || done < op->rate_since_bytes) {
        op->rate_since_us = now;
        op->rate_since_bytes = done;
        op->rate = 0;
    } else if (now - op->rate_since_us > PROGRESS_EVERY_US) {
        double fresh =
            (double)(done - op->rate_since_bytes) * 1e6 / (double)(now - op->rate_since_us);
        op->rate = op->rate > 0 ? (op->rate + fresh) / 2 : fresh;
        op->rate_since_us = now;
        op->rate_since_bytes = done;
    }
    op->phase = phase;
    op->bytes_done = MIN(done, total);
    op->bytes_total = total;
    if (news || now - op->told_us > PROGRESS_EVERY_US)
        tell(op);
}

/* ---- saving ---- */

bool
operation_save(Operation *op, GError **error)
{
    return journal_update(op->agent->journal, &op->row, error);
}

static void
replace_text(char **at, const char *text)
{
    char *old = *at;
    *at = g_strdup(text);
    g_free(old);
}

void
operation_notice(Operation *op, const char *text)
{
    WITH_LOCK(&op->agent->lock);

    if (g_strcmp0(op->notice, text) == 0)
        return;
    replace_text(&op->notice, text);
    tell(op);
}

/* agent->lock held. Others never read the machine: the row and this are what they see of it. */
static void
tell_waiting(Operation *op)
{
    replace_text(&op->waiting_for, op->machine.waiting_for);
}

/* The engine's save(): the row follows the machine, and shows nothing that is not durable. The
 * wish to cancel is not the machine's: it may come at any time (operation_cancel()). */
static bool
save_machine(void *self, GError **error)
{
    Operation *op = self;
    Machine *m = &op->machine;
    JournalRow row = op->row;

    if (*m->step == '\0' && json_object_get(op->row.data, "result") == NULL)
        op_remember(op, "result", json_object());
    row.step = m->step;
    row.tried = m->tried;
    row.error_word = m->error_word;
    row.error_text = m->error_text;
    if (!journal_update(op->agent->journal, &row, error))
        return false;

    WITH_LOCK(&op->agent->lock);
    replace_text(&op->row.step, m->step);
    replace_text(&op->row.error_word, m->error_word);
    replace_text(&op->row.error_text, m->error_text);
    op->row.tried = m->tried;
    tell_waiting(op);
    tell(op);
    return true;
}

bool
operation_ended(const Operation *op)
{
    return *op->row.step == '\0';
}

/* ---- the worker of a VM ---- */

static bool
drop_if_done(Agent *agent, Operation *op)
{
    g_autoptr(GError) error = NULL;

    if (!op->acked || !operation_ended(op))
        return false;
    if (!journal_forget(agent->journal, op->row.id, &error)) {
        log_vm_warn(op->row.vm_id, op->row.id, "%s; it will be tried at the next acknowledgement",
                    error->message);
        return false;
    }
    g_hash_table_remove(agent->operations, op->row.id);
    return true;
}

/* agent->lock held */
static void
log_end(const Operation *op)
{
    const char *name = op->entry->vm != NULL ? op->entry->vm->name : op->row.vm_id;

    if (op->row.error_word != NULL)
        log_vm_warn(op->row.vm_id, op->row.id, "%s of VM %s ended: %s: %s", op->row.kind, name,
                    state_of(op), op->row.error_text);
    else
        log_vm_info(op->row.vm_id, op->row.id, "%s of VM %s is done", op->row.kind, name);
}

/* Turns one operation as far as it goes; returns how long it can be left alone. */
static unsigned
turn_operation(Operation *op)
{
    Turn turn = TURN_AGAIN;

    op_forget_seen(op);
    while (turn == TURN_AGAIN && !agent_stopping(op->agent)) {
        WITH_LOCK(&op->entry->lock);
        g_mutex_lock(&op->agent->lock);
        op->machine.cancel = op->row.cancel;
        g_mutex_unlock(&op->agent->lock);
        op->poll_ms = SLOW_POLL_MS;
        turn = machine_turn(&op->machine);
    }
    if (turn == TURN_ENDED)
        return 0;
    unsigned backoff = machine_backoff_ms(&op->machine);
    if (backoff > 0) {
        WITH_LOCK(&op->agent->lock);
        tell_waiting(op);
        tell(op);
        if (op->machine.misses == 5)
            log_vm_warn(op->row.vm_id, op->row.id, "%s of VM %s waits at step '%s': %s",
                        op->row.kind, op->row.vm_id, op->row.step, op->machine.waiting_for);
    }
    return backoff > 0 ? backoff : op->poll_ms;
}

/* agent->lock held: takes ended operations off the entry's list. */
static void
retire(Agent *agent, AgentVm *entry)
{
    for (guint i = entry->operations->len; i > 0; i--) {
        Operation *op = entry->operations->pdata[i - 1];
        if (!machine_ended(&op->machine))
            continue;
        log_end(op);
        g_ptr_array_remove_index(entry->operations, i - 1);
        drop_if_done(agent, op);
        /* while it ran, only operations wrote the manifest: now everything is looked at again */
        if (entry->operations->len == 0) {
            entry->quiet_until_us = g_get_monotonic_time() + QUIET_US;
            agent_queue_refresh(agent, entry->id);
        }
    }
}

static void *
worker(void *data)
{
    AgentVm *entry = ((void **)data)[0];
    Agent *agent = ((void **)data)[1];
    g_free(data);

    g_mutex_lock(&agent->lock);
    while (entry->operations->len > 0 && !agent_stopping(agent)) {
        g_autoptr(GPtrArray) ops = g_ptr_array_copy(entry->operations, NULL, NULL);
        unsigned wait = SLOW_POLL_MS;

        entry->kicked = false;
        g_mutex_unlock(&agent->lock);
        for (guint i = 0; i < ops->len; i++) {
            unsigned next = turn_operation(ops->pdata[i]); /* MIN() would call it twice */
            wait = MIN(wait, next);
        }
        g_mutex_lock(&agent->lock);
        retire(agent, entry);

        int64_t until = g_get_monotonic_time() + (int64_t)wait * 1000;
        while (!entry->kicked && !agent_stopping(agent) && entry->operations->len > 0)
            if (!g_cond_wait_until(&entry->wake, &agent->lock, until))
                break;
    }
    entry->worker = false;
    if (--agent->workers == 0)
        g_cond_broadcast(&agent->idle);
    g_mutex_unlock(&agent->lock);
    return NULL;
}

/* agent->lock held */
static void
kick(Agent *agent, AgentVm *entry)
{
    entry->kicked = true;
    g_cond_broadcast(&entry->wake);
    /* not before every VM is known: who uses which volume is asked of all of them */
    if (entry->worker || entry->operations->len == 0 || agent_stopping(agent) || !agent->loaded)
        return;
    entry->worker = true;
    agent->workers++;
    void **both = g_new(void *, 2);
    both[0] = entry;
    both[1] = agent;
    g_thread_unref(g_thread_new("vm-worker", worker, both));
}

void
agent_kick(Agent *agent, const char *vm_id)
{
    WITH_LOCK(&agent->lock);
    AgentVm *entry = g_hash_table_lookup(agent->vms, vm_id);

    if (entry != NULL)
        kick(agent, entry);
}

/* ---- requests ---- */

static Operation *
operation_make(Agent *agent, const OperationKind *kind, JournalRow *take_row, GError **error)
{
    Operation *op = g_new0(Operation, 1);

    op->agent = agent;
    op->kind = kind;
    op->row = *take_row;
    memset(take_row, 0, sizeof *take_row);
    if (op->row.data == NULL)
        op->row.data = json_object();
    op->machine.self = op;
    op->machine.save = save_machine;
    op->machine.tried = op->row.tried;
    op->machine.cancel = op->row.cancel;
    op->machine.error_word = g_strdup(op->row.error_word);
    op->machine.error_text = g_strdup(op->row.error_text);
    if (!machine_init(&op->machine, kind->steps, op->row.step, error)) {
        operation_free(op);
        return NULL;
    }
    if (op->row.step == NULL)
        op->row.step = g_strdup(op->machine.step);
    return op;
}

/* agent->lock held. One deed at a time on a disk; some want the whole VM. */
static bool
no_conflict(AgentVm *entry, const OperationKind *kind, const json_t *params, GError **error)
{
    const char *disk = json_text(params, "disk_id");

    for (guint i = 0; i < entry->operations->len; i++) {
        Operation *other = entry->operations->pdata[i];
        const char *other_disk = json_text(other->row.params, "disk_id");
        if (operation_ended(other))
            continue; /* ended: its outcome is told already, its worker is about to drop it */
        if (kind->whole_vm || other->kind->whole_vm ||
            (disk != NULL && g_strcmp0(disk, other_disk) == 0))
            return error_set(error, ERR_BUSY,
                             "VM %s is held by operation %s (%s, at step '%s'); wait for it to end",
                             entry->id, other->row.id, other->row.kind, other->row.step);
    }
    return true;
}

static bool
parse_body(json_t *body, JournalRow *row, const OperationKind **ret_kind, GError **error)
{
    const char *id = json_text(body, "id"), *word = json_text(body, "kind"),
               *vm_id = json_text(body, "vm_id");

    if (!id_is_valid(id))
        return error_set(error, ERR_INVALID, "operation id '%s' is not a UUID",
                         id != NULL ? id : "");
    if (!id_is_valid(vm_id))
        return error_set(error, ERR_INVALID, "vm_id '%s' is not a UUID",
                         vm_id != NULL ? vm_id : "");
    *ret_kind = find_kind(word);
    if (*ret_kind == NULL)
        return error_set(error, ERR_INVALID, "unknown kind of operation '%s'",
                         word != NULL ? word : "");
    if ((*ret_kind)->check_params != NULL && !(*ret_kind)->check_params(body, error))
        return false;
    row->id = g_strdup(id);
    row->kind = g_strdup(word);
    row->vm_id = g_strdup(vm_id);
    row->step = g_strdup((*ret_kind)->steps->name);
    row->params = json_incref(body);
    row->data = json_object();
    return true;
}

bool
operation_begin(Agent *agent, json_t *body, json_t **ret_json, GError **error)
{
    const OperationKind *kind = NULL;
    JournalRow row = { 0 };
    Operation *op;

    if (!parse_body(body, &row, &kind, error))
        return false;
    g_assert(kind != NULL); /* parsed */
    AgentVm *entry = agent_entry(agent, row.vm_id, false);
    WITH_LOCK(&agent->lock);

    op = g_hash_table_lookup(agent->operations, row.id);
    if (op != NULL) { /* a repeat: the same answer */
        journal_row_clear(&row);
        *ret_json = operation_to_json(op);
        return true;
    }
    if (entry == NULL || entry->vm == NULL) {
        agent_no_vm(entry, row.vm_id, error);
        journal_row_clear(&row);
        return false;
    }
    if (!no_conflict(entry, kind, body, error) || !journal_begin(agent->journal, &row, error)) {
        journal_row_clear(&row);
        return false;
    }
    op = operation_make(agent, kind, &row, error);
    if (op == NULL)
        return false;
    op->entry = entry;
    op->machine.fresh = true; /* the journal has it as it stands */
    g_hash_table_insert(agent->operations, op->row.id, op);
    g_ptr_array_add(entry->operations, op);
    log_vm_info(op->row.vm_id, op->row.id, "%s of VM %s begins", op->row.kind, entry->vm->name);
    kick(agent, entry);
    *ret_json = operation_to_json(op);
    return true;
}

bool
operations_resume(Agent *agent, GError **error)
{
    g_autoptr(GPtrArray) rows = journal_load(agent->journal, error);

    if (rows == NULL)
        return false;
    agent->operations = g_hash_table_new_full(g_str_hash, g_str_equal, NULL, operation_free);
    for (guint i = 0; i < rows->len; i++) {
        JournalRow *row = rows->pdata[i];
        const OperationKind *kind = find_kind(row->kind);
        if (kind == NULL)
            return error_set(error, ERR_CORRUPT,
                             "the journal holds an operation of unknown kind '%s' (%s), written by "
                             "a newer version; nothing was changed",
                             row->kind, row->id);
        AgentVm *entry = agent_entry(agent, row->vm_id, true);
        Operation *op = operation_make(agent, kind, row, error);
        if (op == NULL)
            return false;
        op->entry = entry;
        g_hash_table_insert(agent->operations, op->row.id, op);
        if (!machine_ended(&op->machine))
            g_ptr_array_add(entry->operations, op);
    }
    return true;
}

bool
operation_get(Agent *agent, const char *id, json_t **ret_json, GError **error)
{
    WITH_LOCK(&agent->lock);
    Operation *op = g_hash_table_lookup(agent->operations, id);

    if (op != NULL) {
        *ret_json = operation_to_json(op);
        return true;
    }
    if (!journal_tombstone(agent->journal, id, error))
        return false;
    return error_set(error, ERR_NOT_FOUND, "no operation %s, and there never will be one", id);
}

bool
operation_cancel(Agent *agent, const char *id, json_t **ret_json, GError **error)
{
    WITH_LOCK(&agent->lock);
    Operation *op = g_hash_table_lookup(agent->operations, id);

    if (op == NULL)
        return error_set(error, ERR_NOT_FOUND, "no operation %s", id);
    if (!operation_ended(op) && !op->row.cancel) {
        if (!journal_cancel(agent->journal, id, error))
            return false;
        op->row.cancel = true;
        kick(agent, op->entry);
    }
    *ret_json = operation_to_json(op);
    return true;
}

bool
operation_resume(Agent *agent, const char *id, json_t **ret_json, GError **error)
{
    WITH_LOCK(&agent->lock);
    Operation *op = g_hash_table_lookup(agent->operations, id);

    if (op == NULL)
        return error_set(error, ERR_NOT_FOUND, "no operation %s", id);
    if (!operation_ended(op) && json_object_get(op->row.data, "attention") != NULL &&
        !op->row.resume) {
        if (!journal_resume(agent->journal, id, true, error))
            return false;
        op->row.resume = true;
        kick(agent, op->entry);
    }
    *ret_json = operation_to_json(op);
    return true;
}

bool
operation_resumed(Operation *op, GError **error)
{
    WITH_LOCK(&op->agent->lock);

    if (!op->row.resume)
        return true;
    if (!journal_resume(op->agent->journal, op->row.id, false, error))
        return false;
    op->row.resume = false;
    return true;
}

bool
operation_ack(Agent *agent, const char *id, GError **error)
{
    WITH_LOCK(&agent->lock);
    Operation *op = g_hash_table_lookup(agent->operations, id);

    if (op == NULL) /* a repeat */
        return true;
    if (!operation_ended(op))
        return error_set(error, ERR_BUSY, "operation %s has not ended (step '%s')", id,
                         op->row.step);
    if (g_ptr_array_find(op->entry->operations, op, NULL)) {
        op->acked = true; /* its worker still holds it, and will drop it */
        return true;
    }
    if (!journal_forget(agent->journal, id, error))
        return false;
    g_hash_table_remove(agent->operations, id);
    return true;
}

json_t *
operations_to_json(Agent *agent)
{
    WITH_LOCK(&agent->lock);
    json_t *list = json_array();
    GHashTableIter it;
    void *op;

    g_hash_table_iter_init(&it, agent->operations);
    while (g_hash_table_iter_next(&it, NULL, &op))
        json_array_append_new(list, operation_to_json(op));
    return json_pack("{s:o}", "operations", list);
}
