/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * An agent on a hypervisor in memory: how it begins and ends.
 */
#pragma once

#include "agent/agent.h"
#include "fake_hypervisor.h"

#define PATIENCE_US (30 * G_TIME_SPAN_SECOND)

/* As if libvirt answered: returns when the agent knows its VMs. */
static inline void
agent_connect(Agent *agent)
{
    const HvEvent connected = { .kind = HV_EVENT_CONNECTED };
    int64_t until = g_get_monotonic_time() + PATIENCE_US;
    bool loaded = false;

    agent_on_hv_event(&connected, agent);
    while (!loaded && g_get_monotonic_time() < until) {
        g_usleep(1000);
        WITH_LOCK(&agent->lock);
        loaded = agent->loaded;
    }
    g_assert_true(loaded);
}

/* Not connected yet */
static inline Agent *
agent_attached(Fake *fake, const AgentOptions *options)
{
    g_autoptr(GError) error = NULL;
    Agent *agent = agent_new(options, &error);

    g_assert_no_error(error);
    agent_attach(agent, &fake->hv);
    fake->tell = agent_on_hv_event;
    fake->tell_data = agent;
    return agent;
}

static inline void
fake_is_away(Fake *fake, bool away)
{
    WITH_LOCK(&fake->lock);

    fake->away = away;
}

static inline Agent *
agent_on(Fake *fake, const AgentOptions *options)
{
    fake_is_away(fake, false);
    Agent *agent = agent_attached(fake, options);
    agent_connect(agent);
    return agent;
}

/* As if it were killed: from now on nothing answers it. */
static inline void
agent_off(Fake *fake, Agent *take_agent)
{
    fake_is_away(fake, true);
    agent_stop(take_agent);
    agent_free(take_agent);
}
