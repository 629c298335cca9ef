/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * Trying a snapshot of the configuration alone: no disk leaves its line, so the definition is all
 * there is to the preview. Neither leaves nor the start guard tell whether it has begun.
 */
#include "agent/branch.h"

bool
preview_is_alone(const Operation *op)
{
    const json_t *disks = json_object_get(op->row.data, "disks");

    return disks != NULL && json_array_size(disks) == 0;
}

bool
preview_alone_is_ours(const Operation *op, const Vm *vm)
{
    return vm->preview != NULL && g_strcmp0(vm->preview->begun_by, op->row.id) == 0;
}

StepState
preview_alone_check(const Operation *op, const HvDomain *hv, const Vm *vm, GError **error)
{
    if (!preview_alone_is_ours(op, vm) || json_flag(op->row.data, "configured") ||
        hv->state == VM_DOWN)
        return STEP_DONE;
    if (hv->state == VM_UNKNOWN) {
        error_set(error, ERR_UNREACHABLE, "VM '%s': %s", hv->name, hv_why_unknown(hv));
        return STEP_UNKNOWN;
    }
    if (g_strcmp0(vm->preview->former, hv->inactive_xml) != 0)
        return STEP_DONE;
    error_set(error, ERR_REFUSED,
              "VM '%s' was started just then, with the configuration that it had: the preview did "
              "not begin",
              hv->name);
    return STEP_FAILED;
}

/* There is nothing else that could go back: what libvirt does not take is no preview. */
bool
preview_alone_define(Operation *op, const HvDomain *hv, const char *config, GError **error)
{
    g_autoptr(GError) problem = NULL;

    if (op_define(op, config, NULL, NULL, NULL, &problem)) {
        op_remember(op, "configured", json_true());
        return true;
    }
    if (branch_is_refused(problem))
        return error_set(error, ERR_REFUSED,
                         "VM '%s': its hypervisor does not take the configuration of then (%s); it "
                         "stays as it is now",
                         hv->name, problem->message);
    g_propagate_error(error, g_steal_pointer(&problem));
    return false;
}

/* What still is as it was before was lost with the host's power. */
bool
preview_alone_define_lost(Operation *op, const HvDomain *hv, const Vm *vm, GError **error)
{
    const Snapshot *snapshot = vm_snapshot(vm, vm->preview->snapshot);

    return vm->preview->disks->len > 0 || vm->preview->former == NULL || snapshot == NULL ||
           g_strcmp0(vm->preview->former, hv->inactive_xml) != 0 ||
           op_define(op, snapshot->config, NULL, NULL, NULL, error);
}
