/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * Freezing the guest's file systems for as long as a user wants: for what others do with the
 * storage meanwhile.
 *
 *   vm-freeze    freeze ─► (end)                       vm-thaw    thaw ─► forget ─► (end)
 *                  └─► thaw ─► forget ─► (end, failed)
 *
 * The manifest names the frozen instance before the guest is asked: a snapshot that is taken then
 * neither freezes it again, which its agent would refuse, nor thaws it. A freeze that has failed
 * may have begun, so the guest is thawed in any case.
 *
 * A guest that reboots is not frozen any more, and libvirt's event tells of it once: nobody hears
 * of it while the agent or libvirtd is away. After such a gap the note is believed as far as that
 * nobody thaws the guest; but before anybody relies on it the guest is asked, by freezing it: one
 * that is frozen refuses that.
 */
#include "agent/operation.h"

#include "base/text.h"
#include "model/verbs.h"

#include <string.h>

/* ---- the note ---- */

/* The manifest; NULL without an error: there is none, and so no snapshot that could be in the way.
 */
static Vm *
manifest_to_note(Operation *op, Domain **ret_home, GError **error)
{
    g_autoptr(HvDomain) hv = op_hv(op, error);
    bool home = false;

    if (hv == NULL || !op_has_home(op, hv, &home, error) || !home)
        return NULL;
    return op_manifest(op, ret_home, error);
}

/* instance NULL: none. */
static bool
note(Operation *op, const char *instance, GError **error)
{
    g_autoptr(GError) problem = NULL;
    Domain *home = NULL;
    g_autoptr(Vm) vm = manifest_to_note(op, &home, &problem);

    if (vm == NULL && problem == NULL)
        return true;
    if (vm == NULL) {
        g_propagate_error(error, g_steal_pointer(&problem));
        return false;
    }
    if (g_strcmp0(vm->frozen, instance) == 0)
        return true;
    text_replace(&vm->frozen, instance);
    return manifest_save(home, vm, error);
}

void
freeze_note_reboot(Agent *agent, const char *vm_id)
{
    AgentVm *entry = agent_entry(agent, vm_id, false);

    if (entry != NULL)
        g_atomic_int_inc(&entry->reboots);
}

bool
freeze_note_holds(const AgentVm *entry, const Vm *stored, const HvDomain *hv)
{
    return hv->instance != NULL && g_strcmp0(stored->frozen, hv->instance) == 0 &&
           entry->frozen_at == g_atomic_int_get(&entry->reboots);
}

bool
agent_is_frozen(Agent *agent, const AgentVm *entry, const HvDomain *hv)
{
    WITH_LOCK(&agent->lock);

    return entry->vm != NULL && freeze_note_holds(entry, entry->vm, hv);
}

bool
op_freeze(Operation *op, GError **error)
{
    Hypervisor *hv = op->agent->hv;
    WITH_LOCK(&op->entry->guest_lock);

    return hv->ops->freeze(hv, op->row.vm_id, op->agent->quiesce_budget_s, error);
}

bool
op_thaw(Operation *op, GError **error)
{
    Hypervisor *hv = op->agent->hv;
    WITH_LOCK(&op->entry->guest_lock);

    return hv->ops->thaw(hv, op->row.vm_id, op->agent->quiesce_budget_s, error);
}

void
freeze_begins(Operation *op)
{
    op->gaps = g_atomic_int_get(&op->agent->gaps);
    op->reboots = g_atomic_int_get(&op->entry->reboots);
}

/* All was heard since the guest was known to be frozen last. */
static bool
note_is_sure(const Operation *op)
{
    return op->entry->frozen_gaps == g_atomic_int_get(&op->agent->gaps);
}

/* The words of QEMU's agent, since 6.2. Others say only that something is disabled. */
static bool
is_frozen_already(const GError *refusal)
{
    return g_error_matches(refusal, ERR, ERR_HYPERVISOR) &&
           strstr(refusal->message, "frozen state") != NULL;
}

NoteState
freeze_ask_note(Operation *op, GError **error)
{
    g_autoptr(GError) refusal = NULL;

    freeze_begins(op);
    if (op->entry->frozen_gaps == op->gaps && op->entry->frozen_at == op->reboots)
        return NOTE_HOLDS;
    if (op_freeze(op, &refusal)) {
        op->entry->frozen_at = op->reboots - 1; /* the note is of before */
        return NOTE_WAS_WRONG;
    }
    if (!is_frozen_already(refusal)) {
        g_propagate_error(error, g_steal_pointer(&refusal));
        return NOTE_UNKNOWN;
    }
    op->entry->frozen_gaps = op->gaps;
    return NOTE_HOLDS;
}

bool
freeze_is_lost(const Operation *op)
{
    return op->reboots != g_atomic_int_get(&op->entry->reboots);
}

bool
freeze_may_be_lost(const Operation *op)
{
    return freeze_is_lost(op) || op->gaps != g_atomic_int_get(&op->agent->gaps);
}

static HvDomain *
look(Operation *op, GError **error)
{
    return op_connected(op, error) ? op_hv(op, error) : NULL;
}

/* ---- freeze ---- */

/* Was it this operation that began it? Then the note is its wish, not yet what is. */
static bool
is_begun(const Operation *op)
{
    return json_flag(op->row.data, "begun");
}

static StepState
freeze_check(void *self, GError **error)
{
    Operation *op = self;
    g_autoptr(HvDomain) hv = look(op, error);

    if (hv == NULL)
        return STEP_UNKNOWN;
    bool frozen = is_begun(op)
                      ? g_strcmp0(op_data(op, "frozen"), hv->instance) == 0 && !freeze_is_lost(op)
                      : agent_is_frozen(op->agent, op->entry, hv) && note_is_sure(op);
    return frozen && hv->instance != NULL ? STEP_DONE : STEP_TODO;
}

static bool
freeze_act(void *self, GError **error)
{
    Operation *op = self;
    g_autoptr(HvDomain) hv = look(op, error);
    g_autoptr(Vm) vm = hv != NULL ? agent_vm_shown(op->agent, op->row.vm_id) : NULL;
    g_autoptr(GError) problem = NULL;
    bool was_noted = vm != NULL && !is_begun(op) && agent_is_frozen(op->agent, op->entry, hv);

    if (vm == NULL)
        return hv != NULL && error_set(error, ERR_NOT_FOUND, "VM %s is gone", op->row.vm_id);
    if (!op_allowed(op, VERB_VM_FREEZE, hv, vm, error))
        return false;
    op_remember(op, "begun", json_true());
    freeze_begins(op);
    op->entry->frozen_at = op->reboots;
    if (!operation_save(op, error) || !note(op, hv->instance, error))
        return false;
    if (!op_freeze(op, &problem) && !(was_noted && is_frozen_already(problem))) {
        g_propagate_error(error, g_steal_pointer(&problem));
        return false;
    }
    if (freeze_is_lost(op)) /* before or after, nobody can tell */
        return error_set(error, ERR_REFUSED,
                         "the guest of VM '%s' rebooted while its file systems were being frozen",
                         hv->name);
    op->entry->frozen_gaps = op->gaps;
    op_remember(op, "frozen", json_string(hv->instance));
    return agent_look(op->agent, op->entry, error);
}

/* ---- thaw ---- */

static StepState
thaw_check(void *self, GError **error)
{
    Operation *op = self;
    g_autoptr(HvDomain) hv = look(op, error);

    if (hv == NULL)
        return STEP_UNKNOWN;
    return hv->instance == NULL || json_flag(op->row.data, "thawed") ? STEP_DONE : STEP_TODO;
}

/* After a freeze that has failed. */
static StepState
undo_check(void *self, GError **error)
{
    return is_begun(self) ? thaw_check(self, error) : STEP_DONE;
}

static bool
thaw_act(void *self, GError **error)
{
    Operation *op = self;

    op_remember(op, "tried", json_true());
    if (!op_thaw(op, error))
        return false;
    op_remember(op, "thawed", json_true());
    return true;
}

StepState
freeze_forget_check(void *self, GError **error)
{
    Operation *op = self;
    g_autoptr(GError) problem = NULL;
    Domain *home = NULL;
    g_autoptr(Vm) vm = op_connected(op, &problem) ? manifest_to_note(op, &home, &problem) : NULL;

    if (vm == NULL && problem != NULL && !g_error_matches(problem, ERR, ERR_NOT_FOUND)) {
        g_propagate_error(error, g_steal_pointer(&problem));
        return STEP_UNKNOWN;
    }
    return vm == NULL || vm->frozen == NULL ? STEP_DONE : STEP_TODO;
}

bool
freeze_forget_act(void *self, GError **error)
{
    Operation *op = self;

    return note(op, NULL, error) && agent_look(op->agent, op->entry, error);
}

/* Whatever became of it: who is taken for frozen and is not would be a snapshot's lie, and it was
 * to be thawed. A cancel may have come too late. */
static StepState
forget_check(void *self, GError **error)
{
    Operation *op = self;

    if (!json_flag(op->row.data, "tried"))
        return STEP_DONE;
    if (op->kind->steps == vm_thaw_steps && json_flag(op->row.data, "thawed"))
        machine_forgive(&op->machine);
    return freeze_forget_check(op, error);
}

static StepState
failed_check(void *self, GError **error)
{
    return STEP_DONE;
}

/* clang-format off */
const Step vm_freeze_steps[] = {
    /* name     check          act                tries  cancel  if it failed  next     */
    { "freeze", freeze_check,  freeze_act,        3,     true,   "thaw",       STEP_END },
    { "thaw",   undo_check,    thaw_act,          3,     false,  "forget",     NULL     },
    { "forget", forget_check,  freeze_forget_act, 0,     false,  NULL,         STEP_END },
    { "failed", failed_check,  NULL,              0,     false,  NULL,         STEP_END }, /* of older journals */
    { NULL },
};
const Step vm_thaw_steps[] = {
    { "thaw",   thaw_check,    thaw_act,          3,     true,   "forget",     NULL     },
    { "forget", forget_check,  freeze_forget_act, 0,     false,  NULL,         STEP_END },
    { "failed", failed_check,  NULL,              0,     false,  NULL,         STEP_END }, /* of older journals */
    { NULL },
};
/* clang-format on */
