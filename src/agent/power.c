/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * A VM's power: starting, stopping, suspending it.
 *
 *   vm-start     up ─► (end)
 *   vm-stop      note ─► ask ─► forget ─► (end)        forget: that the guest was frozen
 *   vm-suspend   note ─► save ─► (end)
 *
 * What is stopped is the instance that ran when the operation began: a VM that was started
 * meanwhile is let alone by an operation that is repeated after a crash. A request that has no
 * outcome of its own (shutdown, reboot, reset) may reach the guest twice if the agent dies in
 * that very moment.
 */
#include "agent/operation.h"

#include "base/fault.h"
#include "model/verbs.h"

static const char *const stop_words[] = { "off", "shutdown", "reboot", "reset", NULL };

bool
vm_stop_params(const json_t *params, GError **error)
{
    const char *how = json_text(params, "how");

    return (how != NULL && g_strv_contains(stop_words, how)) ||
           error_set(error, ERR_INVALID, "'how' is off, shutdown, reboot or reset, not '%s'",
                     how != NULL ? how : "");
}

static HvPower
how_of(const Operation *op)
{
    const char *how = op_text(op, "how");

    return g_str_equal(how, "off")        ? HV_POWER_OFF
           : g_str_equal(how, "shutdown") ? HV_POWER_SHUTDOWN
           : g_str_equal(how, "reboot")   ? HV_POWER_REBOOT
                                          : HV_POWER_RESET;
}

static bool
ask(Operation *op, HvPower how, GError **error)
{
    Hypervisor *hv = op->agent->hv;

    if (hv->ops->power == NULL)
        return error_set(error, ERR_UNSUPPORTED, "VMs cannot be stopped here");
    return fault_point("agent.power.before-ask", error) &&
           hv->ops->power(hv, op->row.vm_id, how, error) && fault_point("agent.power.asked", error);
}

/* What libvirt says; NULL also for a VM whose state it does not know itself. */
static HvDomain *
known(Operation *op, GError **error)
{
    g_autoptr(HvDomain) hv = op_connected(op, error) ? op_hv(op, error) : NULL;

    if (hv != NULL && hv->state == VM_UNKNOWN) {
        error_set(error, ERR_UNREACHABLE, "VM '%s': %s", hv->name, hv_why_unknown(hv));
        return NULL;
    }
    return g_steal_pointer(&hv);
}

/* Did it go through, as far as this operation knows? */
static bool
is_asked(const Operation *op)
{
    return json_object_get(op->row.data, "asked") != NULL;
}

static void
note_asked(Operation *op)
{
    op_remember(op, "asked", json_true());
}

/* ---- start ---- */

/* A guest that we have suspended for a pivot goes on when that is decided, and not before. */
static bool
no_pivot_is_open(Operation *op, GError **error)
{
    WITH_LOCK(&op->agent->lock);

    for (guint i = 0; i < op->entry->operations->len; i++) {
        const Operation *other = op->entry->operations->pdata[i];
        if (json_object_get(other->row.data, "pivoting") != NULL)
            return error_set(error, ERR_BUSY,
                             "a merge of disk %s is changing its leaf, and resumes the VM itself",
                             op_data(other, "target"));
    }
    return true;
}

static StepState
up_check(void *self, GError **error)
{
    Operation *op = self;
    g_autoptr(HvDomain) hv = known(op, error);

    if (hv == NULL)
        return STEP_UNKNOWN;
    if (is_asked(op))
        return STEP_DONE; /* if it is off again, that was the guest's own wish */
    if (hv->instance == NULL)
        return STEP_TODO;
    return hv->state == VM_PAUSED && !json_flag(op->row.params, "paused") ? STEP_TODO : STEP_DONE;
}

/* The snapshot with whose memory a start goes on; NULL = none. */
static const Snapshot *
remembered(const Vm *vm)
{
    const char *id = vm->preview == NULL   ? vm->goes_on_from
                     : vm->preview->memory ? vm->preview->snapshot
                                           : NULL;
    const Snapshot *snapshot = id != NULL ? vm_snapshot(vm, id) : NULL;

    return snapshot != NULL && snapshot->memory != NULL ? snapshot : NULL;
}

/* Is the disk what it was when the memory was saved? Not if somebody else has put on its leaf what
 * the manifest does not name yet: the VM has written there. */
static bool
is_as_then(const Snapshot *snapshot, const Disk *disk, const HvDomain *hv)
{
    const SnapshotDisk *part = snapshot_disk(snapshot, disk->id);
    int at = part != NULL ? disk_volume_index(disk, part->volume_id) : -1;
    const HvDisk *now = hv_domain_disk(hv, disk->target);

    return at >= 0 && at + 2 == (int)disk->volumes->len &&
           !volume_holds_data(disk_leaf(disk)->path) &&
           (now == NULL || now->source == NULL || file_is_same(now->source, disk_leaf(disk)->path));
}

/* The manifest of a VM that stands on a snapshot with its memory, and has written nothing since:
 * what it would write to is what the memory knows. NULL: it starts as any other, from what was
 * saved of it later, if anything was. No manifest, or a bad one, is no reason not to start. */
static Vm *
with_memory(Operation *op, const HvDomain *hv)
{
    Domain *home = NULL;
    g_autoptr(Vm) vm = hv->has_managed_save ? NULL : op_manifest_look(op, &home, NULL);
    const Snapshot *snapshot = vm != NULL ? remembered(vm) : NULL;

    if (snapshot == NULL || snapshot->disks->len == 0)
        return NULL;
    for (guint i = 0; i < vm->disks->len; i++) {
        const Disk *disk = vm->disks->pdata[i];
        if (disk_is_managed(disk) && !disk->read_only && !is_as_then(snapshot, disk, hv))
            return NULL;
    }
    return g_steal_pointer(&vm);
}

static bool
restore(Operation *op, const Vm *vm, GError **error)
{
    Hypervisor *hv = op->agent->hv;
    const Snapshot *snapshot = remembered(vm);
    guint n = 0;
    g_autofree const char **targets = g_new0(const char *, vm->disks->len);
    g_autofree const char **sources = g_new0(const char *, vm->disks->len);
    g_autofree const char **formats = g_new0(const char *, vm->disks->len);

    if (hv->ops->restore == NULL)
        return error_set(error, ERR_UNSUPPORTED, "VMs cannot go on from memory here");
    for (guint i = 0; i < vm->disks->len; i++) {
        const Disk *disk = vm->disks->pdata[i];
        if (snapshot_disk(snapshot, disk->id) == NULL || disk_leaf(disk) == NULL)
            continue;
        targets[n] = disk->target;
        sources[n] = disk_leaf(disk)->path;
        formats[n++] = disk_leaf(disk)->format;
    }
    return hv->ops->restore(hv, op->row.vm_id, snapshot->memory, targets, sources, formats, n,
                            json_flag(op->row.params, "paused"), error);
}

/* It is for one start: after that the VM's own life counts. What cannot be written down here is
 * judged again by what the leaves hold. */
static void
forget_memory(Operation *op)
{
    Domain *home = NULL;
    g_autoptr(Vm) vm = op_manifest_look(op, &home, NULL);

    if (vm == NULL || vm->goes_on_from == NULL)
        return;
    vm = vm_unshare(g_steal_pointer(&vm));
    g_clear_pointer(&vm->goes_on_from, g_free);
    manifest_save(home, vm, NULL);
}

/* libvirt's start guard asks this agent meanwhile, and need not wait for the VM's lock: its holder
 * waits here. */
static bool
start(Operation *op, const HvDomain *domain, GError **error)
{
    Hypervisor *hv = op->agent->hv;

    if (hv->ops->start == NULL)
        return error_set(error, ERR_UNSUPPORTED, "VMs cannot be started here");
    g_autoptr(Vm) remembers = with_memory(op, domain);

    g_atomic_int_set(&op->entry->starting, 1);
    bool done = remembers != NULL
                    ? restore(op, remembers, error)
                    : hv->ops->start(hv, op->row.vm_id, json_flag(op->row.params, "paused"), error);
    g_atomic_int_set(&op->entry->starting, 0);
    return done;
}

static bool
up_act(void *self, GError **error)
{
    Operation *op = self;
    g_autoptr(HvDomain) hv = known(op, error);

    if (hv == NULL)
        return false;
    if (hv->instance == NULL) {
        if (!fault_point("agent.power.before-start", error) || !start(op, hv, error) ||
            !fault_point("agent.power.started", error))
            return false;
    } else if (!no_pivot_is_open(op, error) ||
               !op->agent->hv->ops->resume(op->agent->hv, op->row.vm_id, error)) {
        return false;
    }
    note_asked(op);
    forget_memory(op);
    return agent_look(op->agent, op->entry, error);
}

/* ---- stop ---- */

static StepState
note_check(void *self, GError **error)
{
    return op_data(self, "instance") != NULL ? STEP_DONE : STEP_TODO;
}

/* "" = it was off. */
static bool
note_act(void *self, GError **error)
{
    Operation *op = self;
    g_autoptr(HvDomain) hv = known(op, error);

    if (hv == NULL)
        return false;
    op_remember(op, "instance", json_string(hv->instance != NULL ? hv->instance : ""));
    return true;
}

static bool
is_same_instance(const Operation *op, const HvDomain *hv)
{
    return hv->instance != NULL && g_str_equal(hv->instance, op_data(op, "instance"));
}

/* Off with saved memory is not off: that memory is what a user wants to be rid of. */
static bool
is_to_forget(const Operation *op, const HvDomain *hv)
{
    return how_of(op) == HV_POWER_OFF && *op_data(op, "instance") == '\0' && hv->instance == NULL &&
           hv->has_managed_save;
}

static StepState
ask_check(void *self, GError **error)
{
    Operation *op = self;
    g_autoptr(HvDomain) hv = known(op, error);

    if (hv == NULL)
        return STEP_UNKNOWN;
    if (is_to_forget(op, hv))
        return STEP_TODO;
    if (!is_same_instance(op, hv))
        return STEP_DONE;
    return is_asked(op) && how_of(op) != HV_POWER_OFF ? STEP_DONE : STEP_TODO;
}

static bool
ask_act(void *self, GError **error)
{
    Operation *op = self;
    g_autoptr(HvDomain) hv = known(op, error);

    if (hv == NULL || !ask(op, is_to_forget(op, hv) ? HV_POWER_FORGET : how_of(op), error))
        return false;
    note_asked(op);
    return agent_look(op->agent, op->entry, error);
}

/* It is the same QEMU, but another life of the guest. */
static StepState
forget_check(void *self, GError **error)
{
    Operation *op = self;
    bool begins_anew = how_of(op) == HV_POWER_RESET || how_of(op) == HV_POWER_REBOOT;

    return begins_anew && is_asked(op) ? freeze_forget_check(op, error) : STEP_DONE;
}

/* ---- suspend ---- */

static StepState
save_check(void *self, GError **error)
{
    Operation *op = self;
    g_autoptr(HvDomain) hv = known(op, error);

    if (hv == NULL)
        return STEP_UNKNOWN;
    if (hv->instance == NULL && hv->has_managed_save)
        return STEP_DONE;
    if (!is_same_instance(op, hv)) {
        error_set(error, ERR_REFUSED,
                  "VM '%s' was powered off, or started anew, before its memory was saved: there is "
                  "nothing to suspend",
                  hv->name);
        return STEP_FAILED;
    }
    return hv->state == VM_SAVING ? STEP_RUNNING : STEP_TODO; /* an earlier life asked for it */
}

static bool
save_act(void *self, GError **error)
{
    Operation *op = self;
    g_autoptr(HvDomain) hv = known(op, error);

    if (hv == NULL)
        return false;
    if (!op_may_stop_guest(op, VERB_VM_SUSPEND, hv, error))
        return false;
    operation_phase(op, "saving memory");
    return ask(op, HV_POWER_SAVE, error) && agent_look(op->agent, op->entry, error);
}

static StepState
failed_check(void *self, GError **error)
{
    return STEP_DONE;
}

/* clang-format off */
const Step vm_start_steps[] = {
    /* name     check         act       tries  cancel  if it failed  next     */
    { "up",     up_check,     up_act,   3,     true,   "failed",     STEP_END },
    { "failed", failed_check, NULL,     0,     false,  NULL,         STEP_END },
    { NULL },
};
const Step vm_stop_steps[] = {
    { "note",   note_check,   note_act, 0,     true,   "failed",     NULL     },
    { "ask",    ask_check,    ask_act,  3,     true,   "failed",     NULL     },
    { "forget", forget_check, freeze_forget_act, 0, false, NULL,     STEP_END },
    { "failed", failed_check, NULL,     0,     false,  NULL,         STEP_END },
    { NULL },
};
const Step vm_suspend_steps[] = {
    { "note",   note_check,   note_act, 0,     true,   "failed",     NULL     },
    { "save",   save_check,   save_act, 3,     true,   "failed",     STEP_END },
    { "failed", failed_check, NULL,     0,     false,  NULL,         STEP_END },
    { NULL },
};
/* clang-format on */
