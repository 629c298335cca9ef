/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * The operation "import": ends what a lost manager had begun with a VM.
 *
 *   adopt ─► delete ─► forget ─► (end)         on refusal ─► failed ─► (end, failed)
 *
 * adopt gives snapshots whose manifest was lost an entry in the tree again; delete removes the
 * leftovers of merges, under the same conditions as the delete that they come from (what anything
 * still names stays, and is said in the result); forget takes snapshots out of the tree that are
 * merged on all disks. The first step remembers nothing: what is to be done follows from the
 * manifest and the files, each time.
 */
#include "agent/import.h"

#include "base/fault.h"
#include "base/log.h"

#define LOCK_BUDGET_MS 5000

/* What is to be done of this kind, by the manifest as it is now; NULL = it cannot be read. */
static json_t *
todo_now(Operation *op, const char *kind, Vm **ret_vm, Domain **ret_home, GError **error)
{
    g_autoptr(json_t) todo = NULL;

    *ret_vm = op_manifest(op, ret_home, error);
    if (*ret_vm == NULL)
        return NULL;
    todo = import_todo(*ret_vm);
    return json_incref(json_object_get(todo, kind));
}

static StepState
check(Operation *op, const char *kind, GError **error)
{
    g_autoptr(Vm) vm = NULL;
    Domain *home = NULL;
    g_autoptr(json_t) list = todo_now(op, kind, &vm, &home, error);

    if (list == NULL)
        return STEP_UNKNOWN;
    return json_array_size(list) > 0 ? STEP_TODO : STEP_DONE;
}

/* ---- adopt ---- */

static StepState
adopt_check(void *self, GError **error)
{
    return check(self, "adopt", error);
}

static bool
adopt_act(void *self, GError **error)
{
    Operation *op = self;
    g_autoptr(Vm) vm = NULL;
    Domain *home = NULL;
    g_autoptr(json_t) adopt = todo_now(op, "adopt", &vm, &home, error);

    if (adopt == NULL)
        return false;
    import_adopt(vm, adopt);
    op_result(op, "adopted", json_incref(adopt));
    return operation_save(op, error) && fault_point("agent.import.before-adopt", error) &&
           manifest_save(home, vm, error) && agent_look(op->agent, op->entry, error);
}

/* ---- delete ---- */

static StepState
delete_check(void *self, GError **error)
{
    Operation *op = self;
    StepState state =
        json_object_get(op->row.data, "deleted") != NULL ? STEP_DONE : check(op, "delete", error);

    if (state == STEP_TODO && !op_connected(op, error))
        return STEP_UNKNOWN; /* a try is not used up by that */
    return state;
}

/* From the top down, since each volume is named by the one above it. True: each is gone, or is
 * refused for a reason that another try would find again. */
static bool
delete_all(Operation *op, const HvDomain *hv, Vm *vm, const json_t *paths, GError **error)
{
    g_autoptr(json_t) deleted = json_array();
    g_autoptr(json_t) left = json_array();

    for (size_t i = json_array_size(paths); i > 0; i--) {
        const char *path = json_string_value(json_array_get(paths, i - 1));
        g_autoptr(GError) problem = NULL;

        if (op_delete_volume(op, hv, path, &problem)) {
            json_array_append_new(deleted, json_string(path));
            vm_remove_leftover(vm, path);
        } else if (error_may_retry(problem)) {
            g_propagate_error(error, g_steal_pointer(&problem));
            return false;
        } else {
            log_vm_warn(op->row.vm_id, op->row.id, "%s", problem->message);
            json_array_append_new(left,
                                  json_pack("{s:s, s:s}", "path", path, "why", problem->message));
        }
    }
    op_result(op, "deleted", json_incref(deleted));
    op_result(op, "left", json_incref(left));
    return true;
}

static bool
delete_act(void *self, GError **error)
{
    Operation *op = self;
    g_autoptr(Vm) vm = NULL;
    Domain *home = NULL;
    g_autoptr(json_t) paths = todo_now(op, "delete", &vm, &home, error);
    g_autoptr(HvDomain) hv = NULL;
    g_auto(LeaseHold) lease = { 0 };
    autofd int lock = -1;

    if (paths == NULL || !op_lease(op, home, &lease, error) ||
        (lock = vm_start_lock(home, op->row.vm_id, LOCK_BUDGET_MS, error)) < 0 ||
        (hv = op_hv_for_delete(op, error)) == NULL)
        return false;
    bool ok = delete_all(op, hv, vm, paths, error) && manifest_save(home, vm, error);
    op_sweep_trash(op, paths); /* on a full storage, too: that gives its space back */
    if (!ok)
        return false;
    op_remember(op, "deleted", json_true());
    return agent_look(op->agent, op->entry, error);
}

/* ---- forget ---- */

/* As after a delete that could not remove its files: the snapshot stays listed, to delete it again.
 */
static bool
is_anything_left(const Operation *op)
{
    return json_array_size(json_object_get(json_object_get(op->row.data, "result"), "left")) > 0;
}

static StepState
forget_check(void *self, GError **error)
{
    return is_anything_left(self) ? STEP_DONE : check(self, "forget", error);
}

static bool
forget_act(void *self, GError **error)
{
    Operation *op = self;
    g_autoptr(Vm) vm = NULL;
    Domain *home = NULL;
    g_autoptr(json_t) list = todo_now(op, "forget", &vm, &home, error);
    size_t i;
    json_t *entry;

    if (list == NULL)
        return false;
    json_array_foreach (list, i, entry) {
        Snapshot *snapshot = vm_snapshot(vm, json_text(entry, "id"));
        if (!op_forget_snapshot(op, home, vm, snapshot, error))
            return false;
    }
    op_result(op, "forgotten", json_incref(list));
    return operation_save(op, error) && fault_point("agent.import.before-forget", error) &&
           manifest_save(home, vm, error) && agent_look(op->agent, op->entry, error);
}

static StepState
failed_check(void *self, GError **error)
{
    return STEP_DONE;
}

/* clang-format off */
const Step import_steps[] = {
    /* name     check         act         tries  cancel  if it failed  next     */
    { "adopt",  adopt_check,  adopt_act,  5,     true,   "failed",     NULL     },
    { "delete", delete_check, delete_act, 5,     true,   "failed",     NULL     },
    { "forget", forget_check, forget_act, 5,     true,   "failed",     STEP_END },
    { "failed", failed_check, NULL,       0,     false,  NULL,         STEP_END },
    { NULL },
};
/* clang-format on */
