/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * Who is turned when. A kick puts a flow into the pool's queue at once; this file's thread
 * only wakes for flows whose back-off or slow poll is due, and sleeps without any timer when
 * no flow is open.
 */
#include "flow/core.h"

#include "base/clock.h"
#include "base/log.h"

#define PRUNE_EVERY_US (6 * G_TIME_SPAN_HOUR)
#define KEEP_JOBS_MS (INT64_C(30) * 24 * 3600 * 1000)
#define KEEP_EVENTS_MS (INT64_C(365) * 24 * 3600 * 1000)

void
flow_kick_locked(Flow *flow)
{
    Manager *m = flow->manager;

    if (m->stopping || flow->stuck)
        return;
    flow->again = true;
    if (flow->turning)
        return;
    flow->turning = true;
    flow->due_us = 0;
    manager_use(m);
    g_thread_pool_push(m->pool, flow, NULL);
}

void
flows_kick_vm(Manager *m, const char *vm_id)
{
    WITH_LOCK(&m->lock);
    GHashTableIter iter;
    Flow *flow;

    g_hash_table_iter_init(&iter, m->flows);
    while (g_hash_table_iter_next(&iter, NULL, (void **)&flow))
        if (vm_id == NULL || g_str_equal(flow->row->vm_id, vm_id))
            flow_kick_locked(flow);
}

void
flows_kick_all(Manager *m)
{
    flows_kick_vm(m, NULL);
}

void
job_changed_locked(Manager *m, const Flow *flow)
{
    const char *job_id = flow->row->parent != NULL ? flow->row->parent : flow->row->id;
    Flow *job = g_hash_table_lookup(m->flows, job_id);

    if (job != NULL)
        job->change = ++m->changes;
    news_job_locked(m, job_id);
}

static void
prune(Manager *m)
{
    g_autoptr(GError) error = NULL;
    int64_t now = clock_wall_ms();

    if (!gate_enter(m, NULL))
        return;
    if (!store_flow_prune(m->store, now - KEEP_JOBS_MS, &error) ||
        !store_event_prune(m->store, now - KEEP_EVENTS_MS, &error))
        log_warn("old jobs and events could not be dropped: %s; trying again later",
                 error->message);
    gate_leave(m);
}

/* Kicks what is due, returns when to look again. */
static int64_t
kick_due(Manager *m, int64_t now, int64_t next)
{
    GHashTableIter iter;
    Flow *flow;

    g_hash_table_iter_init(&iter, m->flows);
    while (g_hash_table_iter_next(&iter, NULL, (void **)&flow)) {
        if (flow->due_us == 0 || flow->turning)
            continue;
        if (flow->due_us <= now)
            flow_kick_locked(flow);
        else
            next = MIN(next, flow->due_us);
    }
    return next;
}

void *
scheduler_thread(void *manager)
{
    Manager *m = manager;
    int64_t prune_at = 0;

    g_mutex_lock(&m->lock);
    while (!m->stopping) {
        int64_t now = g_get_monotonic_time();
        if (now >= prune_at) {
            prune_at = now + PRUNE_EVERY_US;
            g_mutex_unlock(&m->lock);
            prune(m);
            g_mutex_lock(&m->lock);
            continue;
        }
        g_cond_wait_until(&m->timer, &m->lock, kick_due(m, now, prune_at));
    }
    g_mutex_unlock(&m->lock);
    manager_leave(m);
    return NULL;
}
