/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "agent/operation.h"

#include "base/log.h"
#include "base/text.h"

#include <string.h>

/* clang-format off */
const OperationKind operation_kinds[] = {
    /* kind               steps                  beside         parameters                scratch              old copy     the VM has left */
    { "snapshot-create",  snapshot_create_steps, BESIDE_NONE,   snapshot_create_params,   NULL,                snapshot_create_is_old, snapshot_create_leave },
    { "snapshot-rename",  snapshot_rename_steps, BESIDE_OTHERS, snapshot_rename_params,   NULL },
    { "snapshot-forget",  snapshot_forget_steps, BESIDE_OTHERS, snapshot_forget_params,   NULL },
    { "snapshot-preview", preview_steps,         BESIDE_NONE,   preview_params,           NULL,                preview_is_old },
    { "snapshot-commit",  branch_commit_steps,   BESIDE_NONE,   branch_end_params,        NULL,                branch_end_is_old },
    { "snapshot-undo",    branch_undo_steps,     BESIDE_NONE,   branch_end_params,        NULL,                branch_end_is_old },
    { "merge",            merge_steps,           BESIDE_OTHERS, merge_params,             merge_scratch_free,  merge_is_old, merge_leave },
    { "delete-volumes",   delete_volumes_steps,  BESIDE_OTHERS, delete_volumes_params,    NULL },
    { "doctor-fix",       doctor_fix_steps,      BESIDE_NONE,   doctor_fix_params,        NULL },
    { "doctor-undo",      doctor_undo_steps,     BESIDE_NONE,   doctor_undo_params,       NULL },
    { "import",           import_steps,          BESIDE_NONE,   NULL,                     NULL },
    { "clone",            clone_steps,           BESIDE_POWER,  clone_params,             clone_scratch_free,  clone_is_old },
    { "vm-remove",        vm_remove_steps,       BESIDE_NONE,   vm_remove_params,         NULL,                vm_remove_is_old },
    { "vm-start",         vm_start_steps,        BESIDE_OTHERS, NULL,                     NULL },
    { "vm-stop",          vm_stop_steps,         BESIDE_OTHERS, vm_stop_params,           NULL },
    { "vm-suspend",       vm_suspend_steps,      BESIDE_NONE,   NULL,                     NULL },
    { "vm-freeze",        vm_freeze_steps,       BESIDE_OTHERS, NULL,                     NULL },
    { "vm-thaw",          vm_thaw_steps,         BESIDE_OTHERS, NULL,                     NULL },
    { "vm-update",        vm_update_steps,       BESIDE_OTHERS, vm_update_params,         NULL },
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
/* ---- saving ---- */

bool
operation_save(Operation *op, GError **error)
{
    return journal_update(op->agent->journal, &op->row, error);
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
    text_replace(&op->row.step, m->step);
    text_replace(&op->row.error_word, m->error_word);
    text_replace(&op->row.error_text, m->error_text);
    op->row.tried = m->tried;
    operation_tell_waiting(op);
    operation_tell(op);
    return true;
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

static bool
is_power(const OperationKind *kind)
{
    return kind->steps == vm_start_steps || kind->steps == vm_stop_steps;
}

static bool
excludes(const OperationKind *kind, const OperationKind *other)
{
    return kind->beside == BESIDE_NONE || (kind->beside == BESIDE_POWER && !is_power(other));
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
        if (excludes(kind, other->kind) || excludes(other->kind, kind) ||
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

/* A request that was long under way may arrive after the journal was lost, and with it what was
 * promised of its id. */
static bool
is_for_this_journal(const Agent *agent, const json_t *body, GError **error)
{
    const char *meant = json_text(body, "agent");

    return meant == NULL || g_str_equal(meant, journal_agent_id(agent->journal)) ||
           error_set(error, ERR_GONE,
                     "operation %s was sent to this agent's earlier journal, which was lost",
                     json_text(body, "id"));
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
    if (!is_for_this_journal(agent, body, error)) {
        journal_row_clear(&row);
        return false;
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
    agent_kick_locked(agent, entry);
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
        op->loaded = kind->is_old != NULL;
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
        agent_kick_locked(agent, op->entry);
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
        agent_kick_locked(agent, op->entry);
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

    if (op == NULL) /* a repeat, or a job */
        return journal_tombstone(agent->journal, id, error);
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
