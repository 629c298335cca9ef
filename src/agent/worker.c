/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * The thread of a VM that turns its operations, one after another, for as long as it has any.
 */
#include "agent/operation.h"

#include "base/log.h"

#define SLOW_POLL_MS 10000
#define QUIET_US (100 * 1000)

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
                    operation_state(op), op->row.error_text);
    else
        log_vm_info(op->row.vm_id, op->row.id, "%s of VM %s is done", op->row.kind, name);
}

/* The journal may be an old copy, brought back with the host's system: what it has under way may
 * have ended long ago, and what was built then be in use. */
static Turn
turn_loaded(Operation *op)
{
    g_autoptr(GError) why = NULL;
    bool old = false;

    if (!op->kind->is_old(op, &old, &why))
        return machine_wait(&op->machine, why);
    op->loaded = old;
    if (!old)
        return TURN_AGAIN;
    error_set(&why, ERR_GONE,
              "this %s had ended before: the agent's journal is an old copy that was brought back. "
              "Nothing was changed; livemerge doctor says if anything is left of it",
              op->row.kind);
    return machine_give_up(&op->machine, why);
}

int64_t worker_left_us = 30 * G_TIME_SPAN_SECOND;

/* It waits for what it will not see any more: somebody has migrated its VM, or undefined it.
 * libvirt says so itself, for a while: a definition may be made anew. */
static bool
vm_has_left(Operation *op)
{
    g_autoptr(GError) why = NULL;
    int64_t now = g_get_monotonic_time();
    g_autoptr(Vm) shown = agent_vm_published(op->agent, op->row.vm_id);

    if (op->kind->leave == NULL || op->machine.misses == 0 || shown != NULL) {
        op->left_us = 0;
        return false;
    }
    g_autoptr(HvDomain) hv = agent_look_at_hv(op->agent, op->row.vm_id, &why);
    if (hv != NULL || !g_error_matches(why, ERR, ERR_NOT_FOUND)) {
        op->left_us = 0;
        return false;
    }
    if (op->left_us == 0)
        op->left_us = now;
    return now - op->left_us >= worker_left_us;
}

static Turn
turn_left(Operation *op)
{
    g_autoptr(GError) why = NULL;

    if (!op->kind->leave(op, &why))
        return machine_wait(&op->machine, why);
    error_set(&why, ERR_GONE,
              "VM %s has left this host: it was moved to another one, or is not defined any more. "
              "The %s was given up at its step '%s'; nothing was removed. livemerge doctor says, "
              "where the VM is now, if anything is left of it",
              op->row.vm_id, op->row.kind, op->machine.step);
    return machine_give_up(&op->machine, why);
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
        turn = op->loaded ? turn_loaded(op) : machine_turn(&op->machine);
        if (turn == TURN_WAIT && vm_has_left(op))
            turn = turn_left(op);
    }
    if (turn == TURN_ENDED)
        return 0;
    unsigned backoff = machine_backoff_ms(&op->machine);
    if (backoff > 0) {
        WITH_LOCK(&op->agent->lock);
        operation_tell_waiting(op);
        operation_tell(op);
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
void
agent_kick_locked(Agent *agent, AgentVm *entry)
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
        agent_kick_locked(agent, entry);
}
