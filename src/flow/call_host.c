/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * Which host was an operation sent to, and does the agent there still have the same journal?
 */
#include "flow/agent_call.h"

#include "base/text.h"

char *
call_agent_of(Manager *m, const char *host_name)
{
    Host *host = host_by_name(m, host_name);
    WITH_LOCK(&m->lock);

    return host != NULL ? g_strdup(host->agent_id) : NULL;
}

/* Its agent tells a host from others: the name may be a new one in the configuration, or another
 * one's by now. NULL: none is it, as far as is known; *ret_unheard: but this one may be. */
static Host *
host_by_agent(Manager *m, const char *agent, bool name_is_there, const Host **ret_unheard)
{
    WITH_LOCK(&m->lock);

    for (guint i = 0; i < m->hosts->len; i++) {
        Host *host = m->hosts->pdata[i];
        if (g_strcmp0(host->agent_id, agent) == 0)
            return host;
        /* a host that keeps its name has more likely lost its journal than changed names with one
         * that is down */
        if (host->agent_id == NULL && (!name_is_there || !host->was_asked))
            *ret_unheard = host;
    }
    return NULL;
}

/* Where the operation was sent to. *ret_gone: its host was taken out of the configuration, which is
 * the administrator's word that it is gone, and its journal with it. (One that does not answer may
 * be alive.) What became of the VM is told by who has it. */
static Host *
find_host(Flow *flow, const char *key, bool *ret_gone, GError **error)
{
    const json_t *call = json_object_get(flow->row->data, key);
    const char *name = json_text(call, "host"), *agent = json_text(call, "agent");
    const Host *unheard = NULL;
    Host *named = host_by_name(flow->manager, name), *same = NULL;

    *ret_gone = false;
    if (agent != NULL)
        same = host_by_agent(flow->manager, agent, named != NULL, &unheard);
    if (same != NULL || (named != NULL && unheard == NULL))
        return same != NULL ? same : named;
    *ret_gone = unheard == NULL;
    if (*ret_gone)
        error_set(error, ERR_UNREACHABLE, "host '%s' is not configured any more",
                  name != NULL ? name : "?");
    else
        error_set(error, ERR_UNREACHABLE,
                  "host '%s' is not what it was; '%s', which has not answered yet, may be it under "
                  "another name (if it is gone for ever: take it out of the configuration)",
                  name, unheard->name);
    return NULL;
}

Host *
call_host(Flow *flow, const char *key, GError **error)
{
    bool gone;

    return find_host(flow, key, &gone, error);
}

bool
call_host_is_gone(Flow *flow, const char *key)
{
    bool gone;

    find_host(flow, key, &gone, NULL);
    return gone;
}

bool
call_is_lost(Flow *flow, const char *key)
{
    const json_t *call = json_object_get(flow->row->data, key);
    const Host *host = call_host(flow, key, NULL);
    g_autofree char *agent = host != NULL ? call_agent_of(flow->manager, host->name) : NULL;

    return call_host_is_gone(flow, key) || (json_text(call, "agent") != NULL && agent != NULL &&
                                            !g_str_equal(json_text(call, "agent"), agent));
}
