/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "flow/agent_call.h"

#define CALL "rename"

static StepState
begin_check(void *self, GError **error)
{
    return call_begin_check(self, CALL, error);
}

static bool
begin_act(void *self, GError **error)
{
    Flow *flow = self;

    return call_begin_act(flow, CALL,
                          json_pack("{s:s, s:s, s:s}", "kind", "snapshot-rename", "snapshot_id",
                                    flow_param(flow, "snapshot_id"), "name",
                                    flow_param(flow, "name")),
                          error);
}

/* The agent lost its journal: the list of snapshots says which name it has. */
static StepState
look_for_name(Flow *flow, GError **error)
{
    g_autoptr(Vm) vm = flow_look_at_vm(flow, error);
    const Snapshot *snapshot;

    if (vm == NULL || vm->state == VM_UNKNOWN)
        return STEP_UNKNOWN;
    snapshot = vm_snapshot(vm, flow_param(flow, "snapshot_id"));
    if (snapshot != NULL && g_strcmp0(snapshot->name, flow_param(flow, "name")) == 0)
        return STEP_DONE;
    error_set(error, ERR_GONE,
              "the agent of VM '%s' lost its journal and the snapshot kept its old name; try again",
              vm->name);
    return STEP_FAILED;
}

static StepState
wait_check(void *self, GError **error)
{
    return call_wait_or(self, CALL, look_for_name, error);
}

/* Give a snapshot another name: one operation of the agent.
 *
 *   begin ─► wait ─► end
 *     └────────┴──────┘
 */
/* clang-format off */
const Step rename_snapshot_steps[] = {
    /* step     check          act        tries cancel if it failed next */
    { "begin",  begin_check,   begin_act, 0,    false, "end",       NULL     },
    { "wait",   wait_check,    NULL,      0,    false, "end",       NULL     },
    { "end",    job_end_check, NULL,      0,    false, NULL,        STEP_END },
    { NULL },
};
/* clang-format on */
