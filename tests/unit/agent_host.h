/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * A host whose agent runs on a hypervisor in memory, and operations of its one VM.
 */
#pragma once

#include "agent/operation.h"
#include "agent_on_fake.h"
#include "base/clock.h"

#include <glib/gstdio.h>

typedef struct {
    char *folder;
    Fake fake;
    Agent *agent;
    char op[40]; /* the last operation */
    unsigned ops;
    Operation merge; /* beside them: the worker may hold it until the agent has ended */
} Host;

static inline void
agent_begin(Host *host)
{
    g_autofree char *state = in(host->folder, "s");
    const AgentOptions options = { .state_dir = state, .pivot_budget_ms = 1000 };

    host->agent = agent_on(&host->fake, &options);
}

static inline void
agent_end(Host *host)
{
    fake_is_away(&host->fake, true);
    agent_free(g_steal_pointer(&host->agent));
}

static inline void
set_up(Host *host, gconstpointer data)
{
    host->folder = folder_new();
    MUST(host->folder, "mkdir -m 700 s d");
    host->fake.hv.ops = &fake_ops;
    host->fake.powers = g_string_new(NULL);
    g_mutex_init(&host->fake.lock);
    for (unsigned i = 0; i < FAKE_DISKS; i++) {
        g_autofree char *name = g_strdup_printf("d/%u.q", i);
        g_snprintf(host->fake.disks[i].target, 4, "vd%c", 'a' + i);
        host->fake.disks[i].stored = image(host->folder, name, MIB, NULL, NULL);
        host->fake.disks[i].live = g_strdup(host->fake.disks[i].stored);
    }
    agent_begin(host);
}

static inline void
tear_down(Host *host, gconstpointer data)
{
    agent_end(host);
    op_forget_seen(&host->merge);
    json_decref(host->merge.row.data);
    for (unsigned i = 0; i < FAKE_DISKS; i++) {
        g_free(host->fake.disks[i].stored);
        g_free(host->fake.disks[i].live);
    }
    g_string_free(host->fake.powers, TRUE);
    g_mutex_clear(&host->fake.lock);
    folder_remove(&host->folder);
}

static inline void
begin_with(Host *host, const char *kind, json_t *params)
{
    g_snprintf(host->op, sizeof host->op, "aaaaaaaa-0000-4000-8000-%012u", ++host->ops);
    g_autoptr(json_t) body =
        json_pack("{s:s, s:s, s:s}", "id", host->op, "kind", kind, "vm_id", FAKE_VM);
    g_autoptr(json_t) answer = NULL;
    g_autoptr(GError) error = NULL;

    json_object_update(body, params);
    operation_begin(host->agent, body, &answer, &error);
    g_assert_no_error(error);
}

static inline void
begin(Host *host, const char *kind, const char *how)
{
    g_autoptr(json_t) params = json_object();

    json_put_text(params, "how", how);
    begin_with(host, kind, params);
}

/* Until its state is this one, or it waits for something if that is NULL. */
static inline json_t *
wait_for(Host *host, const char *state)
{
    int64_t until = clock_mono_us() + PATIENCE_US;

    for (;;) {
        g_autoptr(json_t) doc = NULL;
        g_autoptr(GError) error = NULL;
        g_assert_true(operation_get(host->agent, host->op, &doc, &error));
        if (state != NULL ? g_str_equal(json_text(doc, "state"), state)
                          : json_text(doc, "waiting_for") != NULL)
            return g_steal_pointer(&doc);
        if (clock_mono_us() > until)
            g_error("the operation is not '%s': %s", state, json_dumps(doc, JSON_INDENT(1)));
        g_usleep(1000);
    }
}

/* libvirtd and agent die in the deed; the agent's next life is for the caller to begin. */
static inline void
die_in(Host *host, bool *dies, const char *kind, const char *how)
{
    *dies = true;
    begin(host, kind, how);
    json_decref(wait_for(host, NULL));
    agent_end(host);
    *dies = false;
}
