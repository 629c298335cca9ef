/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * A VM's power: one operation of the agent, and for a shutdown the wait for what the guest makes of
 * it.
 */
#include "flow/agent_call.h"

#include "base/clock.h"
#include "base/text.h"

#define SHUTDOWN_MS (5 * 60 * 1000) /* how long a guest may take */

/* clang-format off */
static const struct {
    Verb verb;
    const char *kind;   /* of the flow */
    const char *doing;
    const char *status; /* of the VM meanwhile; NULL = as it is */
    const char *call;   /* kind of the agent's operation */
    const char *how;    /* its parameter; NULL = none */
} deeds[] = {
    { VERB_VM_START,    "start-vm",    "Starting",      "powering_up",        "vm-start",   NULL },
    { VERB_VM_STOP,     "stop-vm",     "Powering off",  "powering_down",      "vm-stop",    "off" },
    { VERB_VM_SHUTDOWN, "shutdown-vm", "Shutting down", "powering_down",      "vm-stop",    "shutdown" },
    { VERB_VM_REBOOT,   "reboot-vm",   "Rebooting",     "reboot_in_progress", "vm-stop",    "reboot" },
    { VERB_VM_RESET,    "reset-vm",    "Resetting",     "reboot_in_progress", "vm-stop",    "reset" },
    { VERB_VM_SUSPEND,  "suspend-vm",  "Suspending",    "saving_state",       "vm-suspend", NULL },
    { VERB_VM_FREEZE,   "freeze-vm",   "Freezing the file systems of", NULL,  "vm-freeze",  NULL },
    { VERB_VM_THAW,     "thaw-vm",     "Thawing the file systems of",  NULL,  "vm-thaw",    NULL },
};
/* clang-format on */

static size_t
deed_of(Verb verb)
{
    for (size_t i = 0; i < G_N_ELEMENTS(deeds); i++)
        if (deeds[i].verb == verb)
            return i;
    g_assert_not_reached();
}

static bool
is_kind(const Flow *flow, const char *kind)
{
    return g_str_equal(flow->row->kind, kind);
}

/* ---- steps ---- */

static json_t *
body_of(const Flow *flow)
{
    for (size_t i = 0; i < G_N_ELEMENTS(deeds); i++) {
        if (!is_kind(flow, deeds[i].kind))
            continue;
        json_t *body = json_pack("{s:s, s:b}", "kind", deeds[i].call, "paused",
                                 json_flag(flow->row->params, "paused"));
        json_put_text(body, "how", deeds[i].how);
        return body;
    }
    g_assert_not_reached();
}

/* Whether the VM runs says what became of a start, a stop, a suspend; what a guest was asked for
 * nobody can see. */
static bool
is_done(const Flow *flow, const Vm *vm)
{
    if (is_kind(flow, "start-vm"))
        return vm->instance != NULL;
    if (is_kind(flow, "suspend-vm"))
        return vm->state == VM_SUSPENDED;
    return vm->instance == NULL && !is_kind(flow, "freeze-vm");
}

/* The agent lost its journal. */
static StepState
look_at_state(Flow *flow, GError **error)
{
    g_autoptr(Vm) vm = flow_look_at_vm(flow, error);

    if (vm == NULL || vm->state == VM_UNKNOWN)
        return STEP_UNKNOWN;
    if (is_done(flow, vm))
        return STEP_DONE;
    error_set(error, ERR_GONE,
              "the agent of VM '%s' lost its journal, and the VM is %s: nothing else was changed; "
              "try again",
              vm->name, vm_state_word(vm->state));
    return STEP_FAILED;
}

const OneCall power_call = { "power", body_of, look_at_state };

/* The VM is free meanwhile: who loses patience may power it off. */
static StepState
off_check(void *self, GError **error)
{
    Flow *flow = self;
    g_autoptr(Vm) vm = NULL;

    if (!is_kind(flow, "shutdown-vm"))
        return STEP_DONE;
    flow_release(flow);
    g_autoptr(Vm) now = flow_look_at_vm(flow, NULL); /* should the event of its end be lost */
    vm = flow_last_seen_vm(flow, error);
    if (vm == NULL)
        return STEP_UNKNOWN;
    if (g_strcmp0(vm->instance, flow_param(flow, "instance")) != 0)
        return STEP_DONE;
    if (clock_wall_ms() - flow->row->created < SHUTDOWN_MS)
        return STEP_RUNNING;
    g_autofree char *name = shell_word(vm->name);
    error_set(error, ERR_TIMEOUT,
              "the guest of VM '%s' did not shut down within %d minutes; it runs on. To power it "
              "off: livemerge vm stop %s",
              vm->name, SHUTDOWN_MS / 60000, name);
    return STEP_FAILED;
}

/* One operation of the agent.
 *
 *   begin ─► wait ─► off ─► end
 *     └────────┴──────┴──────┘
 */
/* clang-format off */
const Step power_steps[] = {
    /* step     check                 act                 tries cancel if it failed next */
    { "begin",  one_call_begin_check, one_call_begin_act, 0,    false, "end",       NULL     },
    { "wait",   one_call_wait_check,  NULL,               0,    false, "end",       NULL     },
    { "off",    off_check,            NULL,               0,    true,  "end",       NULL     },
    { "end",    job_end_check,        NULL,               0,    false, NULL,        STEP_END },
    { NULL },
};
/* clang-format on */

/* ---- the way in ---- */

static char *
begin(Manager *m, const void *what_, const Vm *vm, GError **error)
{
    const VmPower *what = what_;
    size_t i = deed_of(what->verb);
    bool restores = what->verb == VERB_VM_START && vm->state == VM_SUSPENDED;
    json_t *params;

    if (!manager_allowed(m, what->verb, vm, NULL, error))
        return NULL;
    params = door_params(vm, what->user);
    json_put_text(params, "status", restores ? "restoring_state" : deeds[i].status);
    json_object_set_new(params, "paused", json_boolean(what->paused));
    json_put_text(params, "instance", vm->instance);
    return door_begin(m, flow_row_new(deeds[i].kind, vm->id, NULL, params), what->correlation_id,
                      g_strdup_printf("%s VM '%s'", deeds[i].doing, vm->name), error);
}

char *
manager_vm_power(Manager *m, const VmPower *what, GError **error)
{
    const char *kind = deeds[deed_of(what->verb)].kind;
    const DoorDeed deed = { kind, what->vm_id, what->correlation_id, what->user, begin, what };

    return door_pass(m, &deed, error);
}

/* ---- what is shown ---- */

static bool
is_watching(const Flow *flow, const Vm *vm)
{
    return g_str_equal(flow->step, "off") &&
           g_strcmp0(vm->instance, flow_param(flow, "instance")) == 0;
}

char *
manager_vm_status(Manager *m, const Vm *vm)
{
    WITH_LOCK(&m->lock);
    GHashTableIter iter;
    const Flow *flow;

    if (vm->state == VM_UNKNOWN)
        return g_strdup(vm_state_word(vm->state));
    g_hash_table_iter_init(&iter, m->flows);
    while (g_hash_table_iter_next(&iter, NULL, (void **)&flow)) {
        if (flow_makes(flow, vm->id))
            return g_strdup("image_locked");
        if (g_str_equal(flow->row->vm_id, vm->id) && flow_param(flow, "status") != NULL &&
            (!flow->released || is_watching(flow, vm)))
            return g_strdup(flow_param(flow, "status"));
    }
    return g_strdup(vm_state_word(vm->state));
}
