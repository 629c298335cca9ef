/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * What was deleted goes for good: the trashes of storage domains are emptied, by a thread that
 * lives as long as there is something to do. Unlinking gigabytes takes a while, and nobody should
 * wait for it. A storage that is away just then is tried again until it is well.
 */
#include "agent/agent.h"

#include "base/log.h"

#define GIVE_WAY_US \
    (300 * 1000) /* the end of the job needs the same disk, for a few small writes */
#define LONGEST_US (10 * G_TIME_SPAN_SECOND)

/* agent->lock is held here and at the end, but not meanwhile. False: some are still to be swept. */
static bool
sweep_due(Agent *agent, bool warn)
{
    g_autoptr(GPtrArray) due = g_steal_pointer(&agent->unswept);
    g_autoptr(GPtrArray) left = g_ptr_array_new();

    agent->unswept = g_ptr_array_new();
    g_mutex_unlock(&agent->lock);
    for (guint i = 0; i < due->len; i++) {
        const Domain *domain = due->pdata[i];
        g_autoptr(GError) error = NULL;
        if (trash_sweep(domain, &error))
            continue;
        if (warn)
            log_warn("the trash of %s: %s; it is tried again", domain->path, error->message);
        g_ptr_array_add(left, due->pdata[i]);
    }
    g_mutex_lock(&agent->lock);
    for (guint i = 0; i < left->len; i++)
        if (!g_ptr_array_find(agent->unswept, left->pdata[i], NULL))
            g_ptr_array_add(agent->unswept, left->pdata[i]);
    return left->len == 0;
}

static void *
sweeper(void *data)
{
    Agent *agent = data;
    int64_t pause_us = 0;

    g_mutex_lock(&agent->lock);
    while (agent->unswept->len > 0 && !agent_stopping(agent)) {
        if (g_cond_wait_until(&agent->sweep, &agent->lock, agent->sweep_at_us))
            continue; /* it is to be earlier, or the agent stops */
        if (agent_stopping(agent) || g_get_monotonic_time() < agent->sweep_at_us)
            continue;
        agent->sweep_at_us = INT64_MAX;
        bool all = sweep_due(agent, pause_us == 0);
        pause_us = all ? 0 : CLAMP(2 * pause_us, G_TIME_SPAN_SECOND, LONGEST_US);
        if (!all)
            agent->sweep_at_us = MIN(agent->sweep_at_us, g_get_monotonic_time() + pause_us);
    }
    agent->sweeps = false;
    if (--agent->workers == 0)
        g_cond_broadcast(&agent->idle);
    g_mutex_unlock(&agent->lock);
    return NULL;
}

void
agent_sweep_later_locked(Agent *agent, Domain *domain)
{
    int64_t at_us = g_get_monotonic_time() + GIVE_WAY_US;

    if (agent_stopping(agent))
        return;
    if (!g_ptr_array_find(agent->unswept, domain, NULL))
        g_ptr_array_add(agent->unswept, domain);
    agent->sweep_at_us = agent->sweeps ? MIN(agent->sweep_at_us, at_us) : at_us;
    g_cond_broadcast(&agent->sweep);
    if (agent->sweeps)
        return;
    agent->sweeps = true;
    agent->workers++;
    g_thread_unref(g_thread_new("trash", sweeper, agent));
}

void
agent_sweep_later(Agent *agent, Domain *domain)
{
    WITH_LOCK(&agent->lock);

    agent_sweep_later_locked(agent, domain);
}
