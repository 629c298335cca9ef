/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * Wiring: the parts are made, started, stopped here.
 */
#include "flow/agent_call.h"
#include "flow/external.h"
#include "flow/measure.h"

#include "base/clock.h"
#include "base/log.h"
#include "base/text.h"

#define POOL_THREADS 4
#define STOP_US (G_TIME_SPAN_MILLISECOND * 500)

static void
core_free(Manager *m)
{
    if (m == NULL)
        return;
    g_clear_pointer(&m->flows, g_hash_table_unref);
    g_clear_pointer(&m->operations, g_hash_table_unref);
    g_clear_pointer(&m->vms, g_hash_table_unref);
    g_clear_pointer(&m->news_jobs, g_hash_table_unref);
    g_clear_pointer(&m->news_vms, g_hash_table_unref);
    g_clear_pointer(&m->hosts, g_ptr_array_unref);
    meter_free(m->meter);
    g_mutex_clear(&m->lock);
    g_mutex_clear(&m->door);
    g_rw_lock_clear(&m->gate);
    g_cond_clear(&m->changed);
    g_cond_clear(&m->timer);
    g_cond_clear(&m->quiet);
    g_free(m);
}
G_DEFINE_AUTOPTR_CLEANUP_FUNC(Manager, core_free)

void
manager_use(Manager *m)
{
    m->users++;
}

void
manager_leave(Manager *m)
{
    g_mutex_lock(&m->lock);
    bool last = --m->users == 0;
    bool orphan = m->orphan;
    if (last)
        g_cond_broadcast(&m->quiet);
    g_mutex_unlock(&m->lock);
    if (last && orphan)
        core_free(m);
}

bool
manager_stopping(Manager *m)
{
    WITH_LOCK(&m->lock);
    return m->stopping;
}

bool
gate_enter(Manager *m, GError **error)
{
    g_rw_lock_reader_lock(&m->gate);
    if (!m->closed)
        return true;
    g_rw_lock_reader_unlock(&m->gate);
    return error_set(error, ERR_UNREACHABLE, "the manager is stopping");
}

void
gate_leave(Manager *m)
{
    g_rw_lock_reader_unlock(&m->gate);
}

static void
pool_turn(gpointer flow_, gpointer data)
{
    Flow *flow = flow_;

    flow_run(flow);
    manager_leave(data);
}

/* Every open flow of the database becomes one that can be turned. */
static bool
resume_flows(Manager *m, GError **error)
{
    g_autoptr(GPtrArray) rows = store_flow_list(m->store, true, NULL, NULL, error);

    if (rows == NULL)
        return false;
    g_ptr_array_set_free_func(rows, NULL);
    for (guint i = rows->len; i-- > 0;) {
        if (external_is(rows->pdata[i]))
            flow_row_free(g_ptr_array_remove_index(rows, i));
    }
    for (guint i = 0; i < rows->len; i++) {
        FlowRow *row = rows->pdata[i];
        g_hash_table_insert(m->flows, row->id, flow_new(m, row));
        seen_add_row(m, row);
    }
    for (guint i = 0; i < rows->len; i++) {
        const FlowRow *row = rows->pdata[i];
        if (row->parent == NULL && flow_kind(row->kind) != NULL)
            event_job_started(m, row, NULL); /* in case the last manager died before it could */
    }
    return true;
}

static bool
open_hosts(Manager *m, const HostConfig *hosts, unsigned n_hosts, GError **error)
{
    for (unsigned i = 0; i < n_hosts; i++) {
        if (host_by_name(m, hosts[i].name) != NULL)
            return error_set(error, ERR_INVALID, "host '%s' is configured twice", hosts[i].name);
        Host *host = host_new(m, &hosts[i], error);
        if (host == NULL)
            return false;
        g_ptr_array_add(m->hosts, host);
    }
    return true;
}

static void
start_threads(Manager *m)
{
    GHashTableIter iter;
    Flow *flow;

    m->pool = g_thread_pool_new(pool_turn, m, POOL_THREADS, FALSE, NULL);
    WITH_LOCK(&m->lock);
    manager_use(m);
    g_thread_unref(g_thread_new("scheduler", scheduler_thread, m));
    for (guint i = 0; i < m->hosts->len; i++)
        host_start(m->hosts->pdata[i]);
    g_hash_table_iter_init(&iter, m->flows);
    while (g_hash_table_iter_next(&iter, NULL, (void **)&flow))
        flow_kick_locked(flow);
}

Manager *
manager_new(Store *store, const HostConfig *hosts, unsigned n_hosts, GError **error)
{
    g_autoptr(Manager) m = g_new0(Manager, 1);

    g_mutex_init(&m->lock);
    g_mutex_init(&m->door);
    g_rw_lock_init(&m->gate);
    g_cond_init(&m->changed);
    g_cond_init(&m->timer);
    g_cond_init(&m->quiet);
    m->store = store;
    m->changes = clock_wall_ms();
    m->hosts = g_ptr_array_new_with_free_func((GDestroyNotify)host_free);
    m->flows = g_hash_table_new_full(g_str_hash, g_str_equal, NULL, (GDestroyNotify)flow_free);
    m->meter = measure_new();
    m->operations = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, seen_free);
    m->vms = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, inventory_entry_free);

    m->epoch = store_next_epoch(store, error);
    if (m->epoch == 0 || !open_hosts(m, hosts, n_hosts, error) || !inventory_load(m, error) ||
        !resume_flows(m, error))
        return NULL;
    if (!manager_event(m, 1, "normal", NULL, NULL, NULL, NULL, NULL, "livemerge manager started"))
        log_warn("the start could not be written to the events, ignoring");
    if (store_set_aside(store) != NULL)
        manager_event(
            m, EVENT_DATABASE, "alert", NULL, NULL, NULL, NULL, NULL,
            "The manager's database was damaged. It was set aside as %s, and what could be "
            "proved was taken over. Jobs may be missing; VMs and snapshots are not "
            "affected, but see livemerge doctor",
            store_set_aside(store));
    start_threads(m);
    return g_steal_pointer(&m);
}

void
manager_free(Manager *m)
{
    int64_t until = g_get_monotonic_time() + STOP_US;
    bool quiet = true;

    if (m == NULL)
        return;
    g_mutex_lock(&m->lock);
    m->stopping = true;
    g_cond_broadcast(&m->changed);
    g_cond_broadcast(&m->timer);
    for (guint i = 0; i < m->hosts->len; i++) {
        Host *host = m->hosts->pdata[i];
        wire_client_cancel(host->client);
        g_cond_broadcast(&host->wake);
    }
    while (m->users > 0 && quiet)
        quiet = g_cond_wait_until(&m->quiet, &m->lock, until);
    g_mutex_unlock(&m->lock);

    g_rw_lock_writer_lock(&m->gate); /* from here on nobody touches the store */
    m->closed = true;
    g_rw_lock_writer_unlock(&m->gate);
    /* queued turns still run, see that we stop, and leave */
    g_thread_pool_free(m->pool, FALSE, FALSE);

    g_mutex_lock(&m->lock);
    m->orphan = m->users > 0; /* whoever sits in a call to an agent frees it */
    bool mine = !m->orphan;
    g_mutex_unlock(&m->lock);
    if (mine)
        core_free(m);
}

/* A host that was never seen still needs an id that does not change. */
static char *
id_from_name(const char *name)
{
    g_autofree char *sum = g_compute_checksum_for_string(G_CHECKSUM_SHA256, name, -1);

    return g_strdup_printf("%.8s-%.4s-5%.3s-8%.3s-%.12s", sum, sum + 8, sum + 12, sum + 15,
                           sum + 18);
}

void
host_info_free(HostInfo *info)
{
    if (info == NULL)
        return;
    g_free(info->id);
    g_free(info->name);
    g_free(info->address);
    g_free(info->problem);
    json_decref(info->facts);
    g_free(info);
}

char *
host_id_locked(const Host *host)
{
    return host->agent_id != NULL ? g_strdup(host->agent_id) : id_from_name(host->name);
}

GPtrArray *
manager_hosts(Manager *m)
{
    GPtrArray *infos = g_ptr_array_new_with_free_func((GDestroyNotify)host_info_free);
    WITH_LOCK(&m->lock);

    for (guint i = 0; i < m->hosts->len; i++) {
        const Host *host = m->hosts->pdata[i];
        HostInfo *info = g_new0(HostInfo, 1);
        info->id = host_id_locked(host);
        info->name = g_strdup(host->name);
        info->address = g_strdup(host->address);
        info->up = host->up;
        info->connected = host->up && host->connected;
        info->problem = g_strdup(host->problem);
        info->facts = json_incref(host->facts); /* nobody changes it */
        g_ptr_array_add(infos, info);
    }
    return infos;
}

Store *
manager_store(Manager *m)
{
    return m->store;
}
