/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "flow/agent_call.h"

static json_t *
body_of(const Flow *flow)
{
    return json_pack("{s:s, s:s, s:s}", "kind", "snapshot-rename", "snapshot_id",
                     flow_param(flow, "snapshot_id"), "name", flow_param(flow, "name"));
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

const OneCall rename_snapshot_call = { "rename", body_of, look_for_name };
