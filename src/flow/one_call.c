/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * Flows that are one operation of the agent: they differ in what they ask for, and in how one sees
 * what became of it when the agent has lost its journal.
 */
#include "flow/agent_call.h"

StepState
one_call_begin_check(void *self, GError **error)
{
    Flow *flow = self;

    return call_begin_check(flow, flow->kind->call->key, error);
}

bool
one_call_begin_act(void *self, GError **error)
{
    Flow *flow = self;
    const OneCall *call = flow->kind->call;

    return call_begin_act(flow, call->key, call->body(flow), error);
}

StepState
one_call_wait_check(void *self, GError **error)
{
    Flow *flow = self;
    const OneCall *call = flow->kind->call;

    return call->lost != NULL ? call_wait_or(flow, call->key, call->lost, error)
                              : call_wait(flow, call->key, error);
}

/*   begin ─► wait ─► end
 *     └────────┴──────┘
 */
/* clang-format off */
const Step one_call_steps[] = {
    /* step     check                 act                 tries cancel if it failed next */
    { "begin",  one_call_begin_check, one_call_begin_act, 0,    false, "end",       NULL     },
    { "wait",   one_call_wait_check,  NULL,               0,    false, "end",       NULL     },
    { "end",    job_end_check,        NULL,               0,    false, NULL,        STEP_END },
    { NULL },
};
/* clang-format on */
