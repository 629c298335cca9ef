/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "agent/doctor.h"
#include "agent/hookfile.h"
#include "agent/survey.h"

#include "base/log.h"
#include "base/memory.h"
#include "base/text.h"

#include <errno.h>
#include <glib/gstdio.h>
#include <string.h>

#define PUT_OFF_US (20 * 1000)
#define PUT_OFF_AT_MOST_US G_TIME_SPAN_SECOND
#define LOOK_AGAIN_US (10 * G_TIME_SPAN_SECOND) /* a storage that was full, or away */

static void
entry_free(void *p)
{
    AgentVm *entry = p;

    vm_free(entry->vm);
    outside_clear(&entry->now);
    outside_clear(&entry->next);
    g_clear_pointer(&entry->keys, g_hash_table_unref);
    g_ptr_array_unref(entry->operations);
    g_mutex_clear(&entry->lock);
    g_cond_clear(&entry->wake);
    g_mutex_clear(&entry->way_lock);
    g_mutex_clear(&entry->guest_lock);
    g_free(entry->told_users);
    g_free(entry->guest_name);
    g_free(entry->guest_instance);
    g_free(entry->guest_asked);
    g_free(entry->id);
    g_free(entry);
}

void
agent_queue_refresh(Agent *agent, const char *vm_id)
{
    g_async_queue_push(agent->refresh, g_strdup(vm_id));
}

static void
look_at_one(Agent *agent, const char *vm_id)
{
    AgentVm *entry = agent_entry(agent, vm_id, true);
    g_autoptr(GError) error = NULL;
    WITH_LOCK(&entry->lock);

    if (!agent_look(agent, entry, &error))
        log_vm_warn(vm_id, NULL, "looking at VM %s: %s; it is looked at again when libvirt is back",
                    vm_id, error->message);
}

static bool
look_at_all(Agent *agent)
{
    g_autoptr(GError) error = NULL;
    g_auto(GStrv) ids = agent->hv->ops->list(agent->hv, &error);
    g_autoptr(GHashTable) gone = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, NULL);
    GHashTableIter it;
    void *key;

    if (ids == NULL) {
        log_warn("listing the VMs: %s", error->message);
        return false;
    }
    g_mutex_lock(&agent->lock);
    g_hash_table_iter_init(&it, agent->vms);
    while (g_hash_table_iter_next(&it, &key, NULL))
        g_hash_table_add(gone, g_strdup(key));
    g_mutex_unlock(&agent->lock);

    for (char **id = ids; *id != NULL && !agent_stopping(agent); id++) {
        look_at_one(agent, *id);
        g_hash_table_remove(gone, *id);
    }
    g_hash_table_iter_init(&it, gone);
    while (g_hash_table_iter_next(&it, &key, NULL))
        look_at_one(agent, key);
    return true;
}

static void
kick_all(Agent *agent)
{
    g_autoptr(GPtrArray) ids = g_ptr_array_new_with_free_func(g_free);
    GHashTableIter it;
    void *key;

    g_mutex_lock(&agent->lock);
    g_hash_table_iter_init(&it, agent->vms);
    while (g_hash_table_iter_next(&it, &key, NULL))
        g_ptr_array_add(ids, g_strdup(key));
    g_mutex_unlock(&agent->lock);
    for (guint i = 0; i < ids->len; i++) {
        doctor_after_loss(agent, ids->pdata[i]);
        agent_kick(agent, ids->pdata[i]);
    }
}

/* False: to be tried again. */
static bool
refresh_all(Agent *agent)
{
    if (!look_at_all(agent))
        return !agent->hv->ops->is_connected(agent->hv); /* then CONNECTED asks for it again */
    g_mutex_lock(&agent->lock);
    bool first = !agent->loaded;
    agent->loaded = true;
    event_hub_send(agent->events, json_pack("{s:s, s:b}", "event", "host", "connected", 1));
    g_mutex_unlock(&agent->lock);
    kick_all(agent);
    if (!first)
        return true;
    log_info("%u VMs found", g_hash_table_size(agent->vms));
    memory_trim();
    return true;
}

/* An operation looks at its VM itself, and the next one mostly follows within milliseconds: a look
 * beside them would only make them wait. It is put off, but not for long. */
static bool
can_wait(Agent *agent, const char *vm_id, int64_t queued_us)
{
    WITH_LOCK(&agent->lock);
    const AgentVm *entry = g_hash_table_lookup(agent->vms, vm_id);
    int64_t now = g_get_monotonic_time();

    return entry != NULL && now - queued_us < PUT_OFF_AT_MOST_US &&
           (entry->operations->len > 0 || now < entry->quiet_until_us);
}

/* Takes ids off the queue into due; the same id queued several times is looked at once. */
static void
take_due(Agent *agent, GHashTable *due, bool again)
{
    char *id = again ? g_async_queue_timeout_pop(agent->refresh, G_TIME_SPAN_SECOND)
               : g_hash_table_size(due) > 0
                   ? g_async_queue_timeout_pop(agent->refresh, PUT_OFF_US)
                   : g_async_queue_timeout_pop(agent->refresh, LOOK_AGAIN_US);

    for (; id != NULL; id = g_async_queue_try_pop(agent->refresh)) {
        if (g_hash_table_contains(due, id)) {
            g_free(id);
            continue;
        }
        int64_t *since = g_new(int64_t, 1);
        *since = g_get_monotonic_time();
        g_hash_table_insert(due, id, since);
    }
}

/* Nothing tells of a storage that is well again. */
static void
queue_unseen(Agent *agent)
{
    WITH_LOCK(&agent->lock);
    GHashTableIter it;
    void *key, *value;

    g_hash_table_iter_init(&it, agent->vms);
    while (g_hash_table_iter_next(&it, &key, &value)) {
        AgentVm *entry = value;
        if (g_atomic_int_get(&entry->look_again) || g_atomic_int_get(&entry->loss_is_left))
            agent_queue_refresh(agent, key);
    }
}

static void *
refresher(void *data)
{
    Agent *agent = data;
    g_autoptr(GHashTable) due = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, g_free);
    int64_t unseen_at_us = g_get_monotonic_time() + LOOK_AGAIN_US;
    bool again = false;

    for (;;) {
        GHashTableIter it;
        void *key, *since;

        take_due(agent, due, again);
        if (agent_stopping(agent))
            return NULL;
        if (g_get_monotonic_time() >= unseen_at_us) {
            queue_unseen(agent);
            unseen_at_us = g_get_monotonic_time() + LOOK_AGAIN_US;
        }
        if (again || g_hash_table_contains(due, "")) {
            g_hash_table_remove_all(due);
            again = !refresh_all(agent);
            continue;
        }
        g_hash_table_iter_init(&it, due);
        while (g_hash_table_iter_next(&it, &key, &since)) {
            if (can_wait(agent, key, *(int64_t *)since))
                continue;
            look_at_one(agent, key);
            doctor_after_loss(agent, key);
            agent_kick(agent, key);
            g_hash_table_iter_remove(&it);
        }
    }
}

/* Remembers a block job's event for the operation that waits for it. */
static void
note_job_event(Agent *agent, const HvEvent *event)
{
    WITH_LOCK(&agent->lock);
    AgentVm *entry = g_hash_table_lookup(agent->vms, event->vm_id);

    for (guint i = 0; entry != NULL && i < entry->operations->len; i++) {
        Operation *op = entry->operations->pdata[i];
        if (g_strcmp0(op_data(op, "target"), event->disk) != 0)
            continue;
        op->job_event = true;
        op->job_status = event->job_status;
        if (event->reason != NULL) {
            g_free(op->job_reason);
            op->job_reason = g_strdup(event->reason);
        }
    }
}

/* A block job of others, or of a merge whose journal was lost. */
static bool
is_nobodys(Agent *agent, const char *vm_id)
{
    WITH_LOCK(&agent->lock);
    const AgentVm *entry = g_hash_table_lookup(agent->vms, vm_id);

    return entry != NULL && entry->operations->len == 0;
}

void
agent_on_hv_event(const HvEvent *event, void *data)
{
    Agent *agent = data;

    switch (event->kind) {
    case HV_EVENT_CONNECTED:
        log_info("connected to libvirt");
        agent_queue_refresh(agent, "");
        break;
    case HV_EVENT_DISCONNECTED: /* comes before any call finds libvirt again */
        g_atomic_int_inc(&agent->gaps);
        log_warn("the connection to libvirt is lost; guests and jobs go on, it is opened again");
        g_mutex_lock(&agent->lock);
        event_hub_send(agent->events, json_pack("{s:s, s:b}", "event", "host", "connected", 0));
        g_mutex_unlock(&agent->lock);
        break;
    case HV_EVENT_DOMAIN:
        agent_queue_refresh(agent, event->vm_id);
        break;
    case HV_EVENT_REBOOT:
        freeze_note_reboot(agent, event->vm_id);
        agent_queue_refresh(agent, event->vm_id);
        break;
    case HV_EVENT_BLOCK_JOB:
        note_job_event(agent, event);
        if (is_nobodys(agent, event->vm_id))
            agent_queue_refresh(agent, event->vm_id);
        agent_kick(agent, event->vm_id);
        break;
    }
}

static bool
open_domains(Agent *agent, const AgentOptions *options, GError **error)
{
    agent->domains = g_ptr_array_new_with_free_func((GDestroyNotify)domain_free);
    agent->mount_points = g_ptr_array_new_with_free_func((GDestroyNotify)domain_free);
    for (unsigned i = 0; options->storage_paths != NULL && options->storage_paths[i] != NULL; i++) {
        Domain *domain = domain_open(options->storage_paths[i], options->storage_names[i], error);
        if (domain == NULL) {
            g_prefix_error(error, "[storage %s]: ", options->storage_names[i]);
            return false;
        }
        g_ptr_array_add(agent->domains, domain);
        if (!trash_sweep(domain, NULL)) /* what a crash left */
            agent_sweep_later(agent, domain);
    }
    return true;
}

Agent *
agent_new(const AgentOptions *options, GError **error)
{
    Agent *agent = g_new0(Agent, 1);
    g_autofree char *file = g_build_filename(options->state_dir, "journal.db", NULL);

    g_mutex_init(&agent->lock);
    g_mutex_init(&agent->next_lock);
    g_cond_init(&agent->idle);
    g_cond_init(&agent->sweep);
    agent->unswept = g_ptr_array_new();
    agent->pivot_budget_ms = options->pivot_budget_ms;
    agent->quiesce_budget_s = options->quiesce_budget_s;
    agent->life = id_new();
    agent->run_dir = g_strdup(options->state_dir);
    agent->hooks_dir = g_strdup(options->hooks_dir != NULL ? options->hooks_dir : HOOKS_DIR);
    agent->events = event_hub_new();
    agent->survey = survey_new(SURVEY_BYTES, SURVEY_KEEP_MS);
    agent->refresh = g_async_queue_new_full(g_free);
    agent->vms = g_hash_table_new_full(g_str_hash, g_str_equal, NULL, entry_free);
    agent->journal = journal_open(file, error);
    if (agent->journal == NULL || !open_domains(agent, options, error) ||
        !operations_resume(agent, error)) {
        agent_free(agent);
        return NULL;
    }
    return agent;
}

void
agent_attach(Agent *agent, Hypervisor *take_hv)
{
    agent->hv = take_hv;
    strays_begin(agent);
    agent->refresher = g_thread_new("refresher", refresher, agent);
}

/* Threads that still wait inside libvirt are left behind: the process ends right after, and
 * everything that matters is in the journal. */
void
agent_stop(Agent *agent)
{
    int64_t until = g_get_monotonic_time() + 800 * 1000;
    GHashTableIter it;
    void *entry;

    g_mutex_lock(&agent->lock);
    g_atomic_int_set(&agent->stopping, 1);
    g_hash_table_iter_init(&it, agent->vms);
    while (g_hash_table_iter_next(&it, NULL, &entry))
        g_cond_broadcast(&((AgentVm *)entry)->wake);
    g_cond_broadcast(&agent->sweep);
    while (agent->workers > 0)
        if (!g_cond_wait_until(&agent->idle, &agent->lock, until))
            break;
    g_mutex_unlock(&agent->lock);
    event_hub_close(agent->events);
    g_async_queue_push(agent->refresh, g_strdup(""));
}

void
agent_free(Agent *agent)
{
    agent_stop(agent);
    if (agent->workers > 0)
        return;
    if (agent->refresher != NULL)
        g_thread_join(agent->refresher);
    agent_forget_guests(agent);
    if (agent->hv != NULL)
        agent->hv->ops->free(agent->hv);
    survey_free(agent->survey); /* its thread uses domains */
    g_clear_pointer(&agent->operations, g_hash_table_unref);
    g_hash_table_unref(agent->vms);
    g_clear_pointer(&agent->domains, g_ptr_array_unref);
    g_clear_pointer(&agent->mount_points, g_ptr_array_unref);
    event_hub_free(agent->events);
    journal_close(agent->journal);
    g_async_queue_unref(agent->refresh);
    g_mutex_clear(&agent->lock);
    g_mutex_clear(&agent->next_lock);
    g_cond_clear(&agent->idle);
    g_cond_clear(&agent->sweep);
    g_ptr_array_unref(agent->unswept);
    g_free(agent->life);
    g_free(agent->run_dir);
    g_free(agent->hooks_dir);
    g_free(agent);
}
