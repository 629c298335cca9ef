/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * What has changed: a number that grows with each change of what VMs' documents show, and, while
 * somebody follows, the ids of jobs and VMs that changed since he looked last. An id stands there
 * once, however often it changed: a reader who is slow misses steps, never the outcome.
 */
#include "flow/core.h"

static void
note(GHashTable *ids, const char *id)
{
    if (ids != NULL && !g_hash_table_contains(ids, id))
        g_hash_table_add(ids, g_strdup(id));
}

void
news_vm_locked(Manager *m, const char *vm_id)
{
    m->revision++;
    note(m->news_vms, vm_id);
    g_cond_broadcast(&m->changed);
}

void
news_job_locked(Manager *m, const char *job_id)
{
    m->revision++;
    note(m->news_jobs, job_id);
    g_cond_broadcast(&m->changed);
}

int64_t
manager_revision(Manager *m)
{
    WITH_LOCK(&m->lock);
    return m->revision;
}

/* ---- for one who follows ---- */

void
manager_news_follow(Manager *m, bool on)
{
    WITH_LOCK(&m->lock);

    g_clear_pointer(&m->news_jobs, g_hash_table_unref);
    g_clear_pointer(&m->news_vms, g_hash_table_unref);
    if (!on)
        return;
    m->news_jobs = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, NULL);
    m->news_vms = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, NULL);
}

void
manager_news_interrupt(Manager *m)
{
    WITH_LOCK(&m->lock);
    m->news_interrupt = true;
    g_cond_broadcast(&m->changed);
}

int64_t
manager_last_event(Manager *m)
{
    WITH_LOCK(&m->lock);
    return m->last_event;
}

static GPtrArray *
take_ids(GHashTable *ids)
{
    GPtrArray *taken = g_ptr_array_new_with_free_func(g_free);
    GHashTableIter iter;
    void *id;

    if (ids == NULL)
        return taken;
    g_hash_table_iter_init(&iter, ids);
    while (g_hash_table_iter_next(&iter, &id, NULL)) {
        g_ptr_array_add(taken, id);
        g_hash_table_iter_steal(&iter);
    }
    return taken;
}

static bool
is_empty(GHashTable *ids)
{
    return ids == NULL || g_hash_table_size(ids) == 0;
}

void
manager_news_wait(Manager *m, int64_t event_from, unsigned timeout_ms, News *ret_news)
{
    int64_t until = g_get_monotonic_time() + timeout_ms * G_TIME_SPAN_MILLISECOND;
    WITH_LOCK(&m->lock);

    while (m->last_event <= event_from && is_empty(m->news_jobs) && is_empty(m->news_vms) &&
           !m->news_interrupt && !m->stopping)
        if (!g_cond_wait_until(&m->changed, &m->lock, until))
            break;
    m->news_interrupt = false;
    ret_news->jobs = take_ids(m->news_jobs);
    ret_news->vms = take_ids(m->news_vms);
    ret_news->last_event = m->last_event;
}

void
news_clear(News *news)
{
    g_clear_pointer(&news->jobs, g_ptr_array_unref);
    g_clear_pointer(&news->vms, g_ptr_array_unref);
}
