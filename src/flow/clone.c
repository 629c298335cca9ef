/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * A new VM out of a snapshot of another one, or out of one that is off.
 *
 * params: clone_id, name (of the new VM), snapshot_id (absent = as the VM is now), snapshots,
 * names, strategy, places, host, vm_name, user. data: the call "clone", and attention.
 */
#include "flow/agent_call.h"

#include "base/log.h"
#include "base/text.h"

#include <string.h>

#define CALL "clone"
#define ASK_MS 20000 /* the tables of all volumes are read */

/* ---- steps ---- */

/* The agent lost its journal: is the new VM there? */
static StepState
look_for_clone(Flow *flow, GError **error)
{
    Host *host = flow_host(flow, error);
    g_autoptr(GError) why = NULL;
    g_autoptr(Vm) vm = host != NULL
                           ? inventory_ask(host, flow_param(flow, "clone_id"), true, CALL_MS, &why)
                           : NULL;

    if (vm != NULL)
        return STEP_DONE;
    if (host == NULL || !g_error_matches(why, ERR, ERR_NOT_FOUND)) {
        if (why != NULL)
            g_propagate_error(error, g_steal_pointer(&why));
        return STEP_UNKNOWN;
    }
    error_set(error, ERR_GONE,
              "the agent of VM '%s' lost its journal, and '%s' was not made; volumes that begin "
              "with that name may be left over. The VM is as it was; try again",
              flow_param(flow, "vm_name"), flow_param(flow, "name"));
    return STEP_FAILED;
}

static StepState
clone_check(void *self, GError **error)
{
    Flow *flow = self;
    g_autoptr(GError) why = NULL;
    StepState state;

    if (call_result(flow->row->data, CALL) != NULL)
        return STEP_DONE;
    state = call_begin_check(flow, CALL, error);
    if (state != STEP_DONE)
        return state;
    state = call_wait_or(flow, CALL, look_for_clone, &why);
    if (!attention_tell(flow, CALL, error))
        return STEP_UNKNOWN; /* a person must hear of it */
    if (why != NULL)
        g_propagate_error(error, g_steal_pointer(&why));
    return state;
}

static bool
clone_act(void *self, GError **error)
{
    Flow *flow = self;
    json_t *body = json_pack("{s:s, s:s, s:s}", "kind", "clone", "clone_id",
                             flow_param(flow, "clone_id"), "name", flow_param(flow, "name"));

    json_put_text(body, "snapshot_id", flow_param(flow, "snapshot_id"));
    json_put_text(body, "strategy", flow_param(flow, "strategy"));
    json_object_set(body, "places", json_object_get(flow->row->params, "places"));
    return call_begin_act(flow, CALL, body, error);
}

/* Whoever hears of the end must find the new VM. What cannot be asked is told by the host's events
 * a little later. */
static StepState
end_check(void *self, GError **error)
{
    Flow *flow = self;
    Host *host = !flow->released && !machine_failed(&flow->machine) ? flow_host(flow, NULL) : NULL;
    g_autoptr(Vm) vm = host != NULL
                           ? inventory_ask(host, flow_param(flow, "clone_id"), false, CALL_MS, NULL)
                           : NULL;

    return job_end_check(self, error);
}

/* One operation of the agent.
 *
 *   clone ─► end
 */
/* clang-format off */
const Step clone_vm_steps[] = {
    /* step     check          act        tries cancel if it failed next */
    { "clone",  clone_check,   clone_act, 0,    false, "end",       NULL     },
    { "end",    end_check,     NULL,      0,    false, NULL,        STEP_END },
    { NULL },
};
/* clang-format on */

/* ---- what is being made ---- */

bool
flow_makes(const Flow *flow, const char *vm_id)
{
    return !flow->released && g_str_equal(flow->row->kind, "clone-vm") &&
           g_strcmp0(flow_param(flow, "clone_id"), vm_id) == 0;
}

Vm *
flow_vm_being_made(const Flow *flow, const Vm *source)
{
    Vm *vm;

    if (flow->released || !g_str_equal(flow->row->kind, "clone-vm"))
        return NULL;
    vm = vm_new(flow_param(flow, "clone_id"), flow_param(flow, "name"));
    vm->host = g_strdup(flow_param(flow, "host"));
    vm->state = VM_DOWN;
    vm->unmanaged =
        g_strdup_printf("it is being made, as a clone of VM '%s'", flow_param(flow, "vm_name"));
    if (source != NULL) {
        vm->memory = source->memory;
        vm->vcpus = source->vcpus;
        vm->graphics = g_strdup(source->graphics);
    }
    return vm;
}

/* ---- the way in ---- */

static json_t *
params_of(const VmClone *what, const Vm *vm, const char *clone_id)
{
    json_t *params = door_params(vm, what->user);

    json_object_set_new(params, "clone_id", json_string(clone_id));
    json_object_set_new(params, "name", json_string(what->name));
    json_put_text(params, "snapshot_id", what->snapshot_id);
    json_put_text(params, "strategy", what->strategy);
    json_object_set(params, "places", (json_t *)what->places);
    return params;
}

/* Before the door, since it may take a while. Silence refuses nothing: the flow asks again. */
static bool
ask_agent(Manager *m, const Vm *vm, const json_t *params, GError **error)
{
    Host *host = host_by_name(m, vm->host);
    g_autofree char *path = g_strdup_printf("/v1/vms/%s/clone", vm->id);
    g_autoptr(json_t) answer = NULL;
    g_autoptr(GError) why = NULL;

    if (host == NULL || vm_is_held(m, vm->id) ||
        host_call_within(host, ASK_MS, "POST", path, params, &answer, &why) || error_may_retry(why))
        return true;
    g_propagate_error(error, g_steal_pointer(&why));
    return false;
}

bool
door_check_vm_name(Manager *m, const char *name, GError **error)
{
    g_autoptr(Vm) there = NULL;

    if (name == NULL)
        return error_set(error, ERR_INVALID, "the new VM needs a name");
    if (!name_check("the VM's new name", name, error))
        return false;
    if (strchr(name, '/') != NULL || id_is_valid(name))
        return error_set(error, ERR_INVALID,
                         "'%s' cannot be the name of a VM: it has a slash, or is an id", name);
    there = manager_vm(m, name, NULL);
    if (there == NULL)
        return true;
    error_set(error, ERR_EXISTS, "there is a VM '%s' already; choose another name", name);
    return error_set_key(error, "ACTION_TYPE_FAILED_NAME_ALREADY_USED");
}

static char *
begin(Manager *m, const VmClone *what, const Vm *vm, const char *clone_id, const GError *refusal,
      GError **error)
{
    const Snapshot *snapshot =
        what->snapshot_id != NULL ? vm_snapshot(vm, what->snapshot_id) : NULL;
    VerbContext asked = { .snapshot = snapshot, .busy_disk = first_busy_disk(vm, snapshot) };
    json_t *params;

    if (what->snapshot_id != NULL && snapshot == NULL) {
        error_set(error, ERR_NOT_FOUND, "VM '%s' has no snapshot %s", vm->name, what->snapshot_id);
        return NULL;
    }
    if (!door_check_vm_name(m, what->name, error) ||
        !manager_allowed(m, snapshot != NULL ? VERB_SNAPSHOT_CLONE : VERB_VM_CLONE, vm, &asked,
                         error))
        return NULL;
    if (refusal != NULL) {
        g_propagate_error(error, g_error_copy(refusal));
        return NULL;
    }
    params = params_of(what, vm, clone_id);
    if (snapshot != NULL) {
        json_object_set_new(params, "snapshots", json_pack("[s]", snapshot->id));
        json_object_set_new(params, "names", json_pack("[s]", snapshot->name));
    }
    return door_begin(
        m, flow_row_new("clone-vm", vm->id, NULL, params), what->correlation_id,
        snapshot != NULL
            ? g_strdup_printf("Creating VM '%s' from snapshot '%s' of VM '%s'", what->name,
                              snapshot->name, vm->name)
            : g_strdup_printf("Creating VM '%s' as a clone of VM '%s'", what->name, vm->name),
        error);
}

char *
manager_vm_clone(Manager *m, const VmClone *what, char **ret_clone_id, GError **error)
{
    g_autoptr(Vm) vm = door_vm_now(m, what->vm_id, error);
    g_autofree char *clone_id = id_new();
    g_autoptr(json_t) params =
        vm != NULL && what->name != NULL ? params_of(what, vm, clone_id) : NULL;
    g_autoptr(GError) refusal = NULL;
    GError *why = NULL;
    char *id;

    if (params != NULL)
        ask_agent(m, vm, params, &refusal);
    WITH_LOCK(&m->door);
    if (vm == NULL)
        return NULL;
    id = begin(m, what, vm, clone_id, refusal, &why);
    if (id == NULL)
        return door_refuse(m, "clone-vm", vm, what->name, what->correlation_id, what->user, why,
                           error);
    if (ret_clone_id != NULL)
        *ret_clone_id = g_steal_pointer(&clone_id);
    return id;
}
