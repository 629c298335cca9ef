/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * Removing a VM that is off, with its disks or without.
 *
 * params: keep_disks, host, vm_name, user. data: the call "remove".
 */
#include "base/text.h"
#include "flow/agent_call.h"

#define CALL "remove"

/* The agent lost its journal: is the VM still there? */
static StepState
look_for_vm(Flow *flow, GError **error)
{
    g_autoptr(GError) why = NULL;
    g_autoptr(Vm) vm = flow_look_at_vm(flow, &why);

    if (g_error_matches(why, ERR, ERR_NOT_FOUND))
        return STEP_DONE;
    if (vm == NULL) {
        g_propagate_error(error, g_steal_pointer(&why));
        return STEP_UNKNOWN;
    }
    if (vm->state == VM_UNKNOWN) {
        error_set(error, ERR_UNREACHABLE, "VM '%s' cannot be looked at now", vm->name);
        return STEP_UNKNOWN;
    }
    error_set(error, ERR_GONE,
              "the agent of VM '%s' lost its journal, and the VM is still there; try again",
              vm->name);
    return STEP_FAILED;
}

static StepState
remove_check(void *self, GError **error)
{
    Flow *flow = self;
    StepState state;

    if (call_result(flow->row->data, CALL) != NULL)
        return STEP_DONE;
    state = call_begin_check(flow, CALL, error);
    return state == STEP_DONE ? call_wait_or(flow, CALL, look_for_vm, error) : state;
}

static bool
remove_act(void *self, GError **error)
{
    Flow *flow = self;

    return call_begin_act(flow, CALL,
                          json_pack("{s:s, s:b}", "kind", "vm-remove", "keep_disks",
                                    json_flag(flow->row->params, "keep_disks")),
                          error);
}

/* One operation of the agent.
 *
 *   remove ─► end
 */
/* clang-format off */
const Step remove_vm_steps[] = {
    /* step      check          act         tries cancel if it failed next */
    { "remove",  remove_check,  remove_act, 0,    false, "end",       NULL     },
    { "end",     job_end_check, NULL,       0,    false, NULL,        STEP_END },
    { NULL },
};
/* clang-format on */

/* ---- the way in ---- */

/* What the agent would find out, too; but then there would be a job. */
static bool
nobody_needs(const Vm *vm, bool keep_disks, GError **error)
{
    if (keep_disks && vm->snapshots->len > 0) {
        error_set(error, ERR_REFUSED,
                  "VM '%s' has %u snapshots, of which its disks alone would tell nothing: "
                  "delete them first, or remove the VM with its disks",
                  vm->name, vm->snapshots->len);
        return error_set_key(error, "VM_CANNOT_REMOVE_WITH_DETACH_DISKS_SNAPSHOTS_EXIST");
    }
    for (guint i = 0; !keep_disks && i < vm->disks->len; i++) {
        const Disk *disk = vm->disks->pdata[i];
        const Volume *leaf = disk_leaf(disk);
        if (!disk_is_managed(disk) || disk->read_only || leaf->used_by == NULL)
            continue;
        g_autofree char *name = shell_word(vm->name);
        error_set(error, ERR_REFUSED,
                  "VM '%s' was not removed: %s stands on its disk %s (%s). Remove that "
                  "first, or keep the disks: livemerge vm remove %s --keep-disks",
                  vm->name, leaf->used_by, disk->target, leaf->path, name);
        return error_set_key(error,
                             "ACTION_TYPE_FAILED_VM_DISK_SNAPSHOT_IS_ATTACHED_TO_ANOTHER_VM");
    }
    return true;
}

static char *
begin(Manager *m, const void *what_, const Vm *vm, GError **error)
{
    const VmRemove *what = what_;
    json_t *params;

    if (!manager_allowed(m, VERB_VM_REMOVE, vm, NULL, error) ||
        !nobody_needs(vm, what->keep_disks, error))
        return NULL;
    params = door_params(vm, what->user);
    json_object_set_new(params, "status", json_string("image_locked"));
    json_object_set_new(params, "keep_disks", json_boolean(what->keep_disks));
    return door_begin(m, flow_row_new("remove-vm", vm->id, NULL, params), what->correlation_id,
                      g_strdup_printf(what->keep_disks ? "Removing VM '%s', but not its disks"
                                                       : "Removing VM '%s'",
                                      vm->name),
                      error);
}

char *
manager_vm_remove(Manager *m, const VmRemove *what, GError **error)
{
    const DoorDeed deed = {
        "remove-vm", what->vm_id, what->correlation_id, what->user, begin, what
    };

    return door_pass(m, &deed, error);
}
