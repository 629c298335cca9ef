/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * What a guest calls itself. Its agent is asked when it has come, and then now and then as the VM
 * is looked at; by a thread of its own, for a guest may take its time, or never answer. Nothing but
 * what users see depends on it.
 */
#include "agent/agent.h"

#include "base/log.h"

#define BUDGET_S 5
#define KNOWN_FOR_US (600 * G_TIME_SPAN_SECOND)
#define LONGEST_NAME 255
#define AT_A_TIME 2

/* A guest can say anything. */
static bool
is_name(const char *name)
{
    if (name == NULL || *name == '\0' || strlen(name) > LONGEST_NAME ||
        !g_utf8_validate(name, -1, NULL))
        return false;
    for (const char *p = name; *p != '\0'; p = g_utf8_next_char(p))
        if (!g_unichar_isgraph(g_utf8_get_char(p)))
            return false;
    return true;
}

/* True: it is another one than before. agent->lock held. */
static bool
keep(AgentVm *entry, char *take_name)
{
    g_autofree char *name = take_name;
    bool same_guest = g_strcmp0(entry->guest_instance, entry->guest_asked) == 0;
    bool news = is_name(name) && !(same_guest && g_strcmp0(entry->guest_name, name) == 0);

    if (news || !same_guest) {
        g_free(entry->guest_name);
        entry->guest_name = news ? g_steal_pointer(&name) : NULL;
    }
    g_free(entry->guest_instance);
    entry->guest_instance = g_strdup(entry->guest_asked);
    entry->guest_asked_us = g_get_monotonic_time();
    return news;
}

/* An operation goes first: the next look comes after it. */
static bool
is_busy(Agent *agent, const AgentVm *entry)
{
    WITH_LOCK(&agent->lock);

    return entry->operations->len > 0 || agent_stopping(agent);
}

static void
ask(void *entry_, void *agent_)
{
    AgentVm *entry = entry_;
    Agent *agent = agent_;
    g_autoptr(GError) error = NULL;
    char *name = NULL;

    g_mutex_lock(&entry->guest_lock);
    bool busy = is_busy(agent, entry);
    if (!busy)
        name = agent->hv->ops->guest_name(agent->hv, entry->id, BUDGET_S, &error);
    g_mutex_unlock(&entry->guest_lock);
    if (error != NULL)
        log_debug("asking the guest of VM %s for its name: %s", entry->id, error->message);

    WITH_LOCK(&agent->lock);
    entry->guest_is_asked = false;
    bool news = !busy && keep(entry, name);
    /* the VM was not held meanwhile: another guest has come */
    bool stale = entry->vm != NULL && g_strcmp0(entry->vm->instance, entry->guest_asked) != 0;
    if ((news || stale) && !agent_stopping(agent))
        agent_queue_refresh(agent, entry->id);
}

/* agent->lock held */
static bool
is_to_be_asked(Agent *agent, const AgentVm *entry, const HvDomain *hv)
{
    return agent->hv->ops->guest_name != NULL && hv->state == VM_UP && hv->agent_connected &&
           !entry->guest_is_asked && !agent_stopping(agent) &&
           (g_strcmp0(entry->guest_instance, hv->instance) != 0 ||
            g_get_monotonic_time() - entry->guest_asked_us > KNOWN_FOR_US);
}

void
agent_note_guest(Agent *agent, AgentVm *entry, const HvDomain *hv, Vm *vm)
{
    WITH_LOCK(&agent->lock);

    if (hv->instance == NULL)
        return;
    if (g_strcmp0(entry->guest_instance, hv->instance) == 0)
        vm->fqdn = g_strdup(entry->guest_name);
    if (!is_to_be_asked(agent, entry, hv))
        return;
    if (agent->guests == NULL)
        agent->guests = g_thread_pool_new(ask, agent, AT_A_TIME, FALSE, NULL);
    g_free(entry->guest_asked);
    entry->guest_asked = g_strdup(hv->instance);
    entry->guest_is_asked = true;
    g_thread_pool_push(agent->guests, entry, NULL);
}

void
agent_forget_guests(Agent *agent)
{
    if (agent->guests != NULL)
        g_thread_pool_free(g_steal_pointer(&agent->guests), TRUE, TRUE);
}
