/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "flow/agent_call.h"

static bool
quiesce_check(const char *word, GError **error)
{
    return g_str_equal(word, "no") || g_str_equal(word, "auto") || g_str_equal(word, "require") ||
           error_set(error, ERR_INVALID, "quiesce is 'no', 'auto' or 'require', not '%s'", word);
}

/* Without disks there is nothing that memory, or a guest that stands still, would belong to. */
bool
create_check(const SnapshotCreate *what, const char *quiesce, GError **error)
{
    if (!quiesce_check(quiesce, error))
        return false;
    if (what->disks == NULL || *what->disks != NULL)
        return true;
    if (what->memory)
        return error_set(error, ERR_INVALID,
                         "memory: a snapshot of the configuration alone holds none");
    return !g_str_equal(quiesce, "require") ||
           error_set(error, ERR_INVALID,
                     "quiesce is require, but a snapshot of the configuration alone holds nothing "
                     "of the guest's file systems");
}

static json_t *
body_of(const Flow *flow)
{
    json_t *body =
        json_pack("{s:s, s:s, s:s, s:b, s:s}", "kind", "snapshot-create", "snapshot_id",
                  flow_param(flow, "snapshot_id"), "name", flow_param(flow, "name"), "memory",
                  json_flag(flow->row->params, "memory"), "quiesce", flow_param(flow, "quiesce"));
    json_t *disks = json_object_get(flow->row->params, "disks");

    if (disks != NULL)
        json_object_set(body, "disks", disks);
    return body;
}

/* The agent lost its journal, or the VM was moved: its list of snapshots says whether it was made.
 */
static StepState
look_for_snapshot(Flow *flow, GError **error)
{
    g_autoptr(Vm) vm = flow_look_at_vm(flow, error);

    if (vm == NULL)
        return g_error_matches(*error, ERR, ERR_NOT_FOUND) ? STEP_FAILED : STEP_UNKNOWN;
    if (vm->state == VM_UNKNOWN)
        return STEP_UNKNOWN;
    if (vm_snapshot(vm, flow_param(flow, "snapshot_id")) != NULL)
        return STEP_DONE;
    g_autofree char *why = call_why_lost(flow, "create", vm);
    error_set(
        error, ERR_GONE,
        "VM '%s': %s, and the snapshot was not made. Nothing was lost; if anything is left of "
        "it, livemerge doctor says so. Try again",
        vm->name, why);
    return STEP_FAILED;
}

const OneCall create_snapshot_call = { "create", body_of, look_for_snapshot };
