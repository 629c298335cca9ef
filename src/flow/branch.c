/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * Trying a snapshot, keeping it and going back: operations of the agent one after another.
 *
 * params: snapshot_id, snapshots: [the same], names, disks (ids; absent = all), memory, host,
 * vm_name, user. data: the calls "preview", "commit", "undo", "delete"; left: [path...] to be
 * deleted; not_deleted: why some of them stay.
 *
 * What the branch that goes leaves behind is deleted in the end. A file that cannot be deleted
 * (somebody else stands on it) is no failure: the VM is as it should be, and the doctor knows of
 * it.
 */
#include "flow/agent_call.h"

#define PREVIEW "preview"
#define COMMIT "commit"
#define UNDO "undo"
#define DELETE "delete"

typedef StepState (*Lost)(Flow *flow, GError **error);

/* One operation in one step. */
static StepState
call_check(Flow *flow, const char *key, Lost lost, GError **error)
{
    StepState state;

    if (call_result(flow->row->data, key) != NULL)
        return STEP_DONE;
    state = call_begin_check(flow, key, error);
    return state == STEP_DONE ? call_wait_or(flow, key, lost, error) : state;
}

static bool
call_act(Flow *flow, const char *key, const char *kind, GError **error)
{
    json_t *body =
        json_pack("{s:s, s:s}", "kind", kind, "snapshot_id", flow_param(flow, "snapshot_id"));
    json_t *disks = json_object_get(flow->row->params, "disks");

    if (disks != NULL && g_str_equal(key, PREVIEW))
        json_object_set(body, "disks", disks);
    if (g_str_equal(key, PREVIEW))
        json_object_set_new(body, "memory", json_boolean(json_flag(flow->row->params, "memory")));
    return call_begin_act(flow, key, body, error);
}

static Vm *
known_vm(Flow *flow, GError **error)
{
    Vm *vm = flow_look_at_vm(flow, error);

    if (vm == NULL || vm->state != VM_UNKNOWN)
        return vm;
    error_set(error, ERR_UNREACHABLE, "VM '%s' cannot be looked at now", vm->name);
    vm_free(vm);
    return NULL;
}

/* ---- preview ---- */

static bool
previews_it(const Flow *flow, const Vm *vm)
{
    return vm->preview != NULL &&
           g_strcmp0(vm->preview->snapshot, flow_param(flow, "snapshot_id")) == 0;
}

/* The agent lost its journal: the VM says whether it did. */
static StepState
look_for_preview(Flow *flow, GError **error)
{
    g_autoptr(Vm) vm = known_vm(flow, error);

    if (vm == NULL)
        return STEP_UNKNOWN;
    if (previews_it(flow, vm))
        return STEP_DONE;
    error_set(error, ERR_GONE,
              "the agent of VM '%s' lost its journal, and the preview did not begin: the VM is as "
              "it was; try again",
              vm->name);
    return STEP_FAILED;
}

static StepState
preview_check(void *self, GError **error)
{
    return call_check(self, PREVIEW, look_for_preview, error);
}

static bool
preview_act(void *self, GError **error)
{
    return call_act(self, PREVIEW, "snapshot-preview", error);
}

/* ---- the end of it ---- */

/* The agent lost its journal: a VM that previews it still is asked again; else it is done, and what
 * is left over is what the manifest says. */
static StepState
look_for_end(Flow *flow, const char *key, GError **error)
{
    g_autoptr(Vm) vm = known_vm(flow, error);
    json_t *left;

    if (vm == NULL)
        return STEP_UNKNOWN;
    if (previews_it(flow, vm)) {
        json_object_del(flow->row->data, key);
        return call_begin_check(flow, key, error);
    }
    left = json_array();
    for (guint i = 0; i < vm->leftovers->len; i++)
        json_array_append_new(left, json_string(((Leftover *)vm->leftovers->pdata[i])->path));
    json_object_set_new(flow->row->data, "left", left);
    return STEP_DONE;
}

static StepState
look_for_commit(Flow *flow, GError **error)
{
    return look_for_end(flow, COMMIT, error);
}

static StepState
look_for_undo(Flow *flow, GError **error)
{
    return look_for_end(flow, UNDO, error);
}

static StepState
end_check(Flow *flow, const char *key, Lost lost, GError **error)
{
    StepState state;
    json_t *left;

    if (json_object_get(flow->row->data, "left") != NULL)
        return STEP_DONE;
    state = call_check(flow, key, lost, error);
    left = json_object_get(call_result(flow->row->data, key), "volumes_left");
    if (state == STEP_DONE && left != NULL)
        json_object_set(flow->row->data, "left", left);
    return state;
}

static StepState
commit_check(void *self, GError **error)
{
    return end_check(self, COMMIT, look_for_commit, error);
}

static bool
commit_act(void *self, GError **error)
{
    return call_act(self, COMMIT, "snapshot-commit", error);
}

static StepState
undo_check(void *self, GError **error)
{
    return end_check(self, UNDO, look_for_undo, error);
}

static bool
undo_act(void *self, GError **error)
{
    return call_act(self, UNDO, "snapshot-undo", error);
}

/* ---- what is left over ---- */

/* The agent looks again at each file before it deletes it. */
static StepState
delete_again(Flow *flow, GError **error)
{
    json_object_del(flow->row->data, DELETE);
    return call_begin_check(flow, DELETE, error);
}

static StepState
delete_check(void *self, GError **error)
{
    Flow *flow = self;
    g_autoptr(GError) why = NULL;
    StepState state;

    flow->machine.cancel = false; /* too late for it: the preview has ended */
    if (json_array_size(json_object_get(flow->row->data, "left")) == 0 ||
        json_object_get(flow->row->data, "not_deleted") != NULL)
        return STEP_DONE;
    state = call_check(flow, DELETE, delete_again, &why);
    if (state == STEP_FAILED) {
        json_object_set_new(flow->row->data, "not_deleted", json_string(why->message));
        return STEP_DONE;
    }
    if (why != NULL)
        g_propagate_error(error, g_steal_pointer(&why));
    return state;
}

static bool
delete_act(void *self, GError **error)
{
    Flow *flow = self;

    return call_begin_act(flow, DELETE,
                          json_pack("{s:s, s:O}", "kind", "delete-volumes", "volumes",
                                    json_object_get(flow->row->data, "left")),
                          error);
}

/* Each row is one operation of the agent, begun and waited for.
 *
 *   preview ─► end        commit ─► delete ─► end        undo ─► delete ─► end
 *   preview ─► commit ─► delete ─► end (restore; if commit fails, it previews the snapshot)
 */
/* clang-format off */
const Step preview_snapshot_steps[] = {
    /* step      check          act          tries cancel if it failed next */
    { "preview", preview_check, preview_act, 0,    false, "end",       NULL     },
    { "end",     job_end_check, NULL,        0,    false, NULL,        STEP_END },
    { NULL },
};
const Step commit_snapshot_steps[] = {
    { "commit",  commit_check,  commit_act,  0,    false, "end",       NULL     },
    { "delete",  delete_check,  delete_act,  0,    false, "end",       NULL     },
    { "end",     job_end_check, NULL,        0,    false, NULL,        STEP_END },
    { NULL },
};
const Step undo_snapshot_steps[] = {
    { "undo",    undo_check,    undo_act,    0,    false, "end",       NULL     },
    { "delete",  delete_check,  delete_act,  0,    false, "end",       NULL     },
    { "end",     job_end_check, NULL,        0,    false, NULL,        STEP_END },
    { NULL },
};
const Step restore_snapshot_steps[] = {
    { "preview", preview_check, preview_act, 0,    false, "end",       NULL     },
    { "commit",  commit_check,  commit_act,  0,    false, "end",       NULL     },
    { "delete",  delete_check,  delete_act,  0,    false, "end",       NULL     },
    { "end",     job_end_check, NULL,        0,    false, NULL,        STEP_END },
    { NULL },
};
/* clang-format on */
