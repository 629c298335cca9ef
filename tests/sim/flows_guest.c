/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * Freezing and thawing a guest's file systems, around snapshots too, and the reset button.
 */
#include "flows.h"
#include "lines.h"

static bool frozen_before; /* when the step was asked for */
static unsigned resets_before, reboots_before;

static char *
power(Manager *manager, Verb verb, GError **error)
{
    return manager_vm_power(manager, &(VmPower){ .vm_id = vm.id, .verb = verb }, error);
}

static char *
ask_freeze(Manager *manager, GError **error)
{
    return power(manager, VERB_VM_FREEZE, error);
}

static char *
ask_thaw(Manager *manager, GError **error)
{
    return power(manager, VERB_VM_THAW, error);
}

static char *
ask_reset(Manager *manager, GError **error)
{
    return power(manager, VERB_VM_RESET, error);
}

static char *
create(Manager *manager, const char *name, GError **error)
{
    return manager_snapshot_create(
        manager, &(SnapshotCreate){ .vm_id = vm.id, .name = name, .quiesce = "auto" }, NULL, error);
}

static char *
ask_frozen_one(Manager *manager, GError **error)
{
    return create(manager, "of a frozen guest", error);
}

static char *
ask_one(Manager *manager, GError **error)
{
    return create(manager, "by itself", error);
}

static char *
ask_reset_one(Manager *manager, GError **error)
{
    return create(manager, "after a reset", error);
}

static bool
is_same_life(void)
{
    return vm.runs && vm.life == flow_life_before() && vm.reboots == reboots_before;
}

static void
begins(void)
{
    flow_note_life();
    frozen_before = vm.frozen;
    resets_before = vm.resets;
    reboots_before = vm.reboots;
}

static void
frozen(bool done)
{
    if (done && is_same_life() && !vm.frozen)
        world_wrong("the guest was frozen, but its file systems are not");
}

static bool
is_thawed(void)
{
    return !vm.frozen;
}

static void
thawed(bool done)
{
    if (done && is_same_life() && vm.frozen)
        world_wrong("the guest was thawed, but its file systems are frozen");
}

/* What a user has frozen stays so, and nothing else does. */
static void
taken(const char *name, bool done)
{
    if (done && lines_is_quiesced(name) && !vm.frozen_at_switch)
        world_wrong("snapshot '%s' is said to be of a frozen guest, which it is not", name);
    /* one that nobody heard of: the guest is frozen again to find out, and stays so if the agent is
     * killed right then */
    if (done && is_same_life() && vm.reboots == 0 && vm.frozen != frozen_before)
        world_wrong("the guest was %s, but after snapshot '%s' it is %s",
                    frozen_before ? "frozen" : "not frozen", name, vm.frozen ? "frozen" : "not");
}

static void
taken_frozen(bool done)
{
    taken("of a frozen guest", done);
    if (world_is_untouched() && !lines_is_quiesced("of a frozen guest"))
        world_wrong("the snapshot of a frozen guest is not said to be one");
}

static void
taken_by_itself(bool done)
{
    taken("by itself", done);
    if (world_is_untouched() && !lines_is_quiesced("by itself"))
        world_wrong("the guest was not frozen for a snapshot");
}

static void
taken_after_reset(bool done)
{
    taken("after a reset", done);
}

/* If the agent dies in that very moment the guest may be reset once more. */
static void
was_reset(bool done)
{
    if (done && is_same_life() && vm.resets == resets_before)
        world_wrong("the VM was reset, but its QEMU knows nothing of it");
    if (world_is_untouched() && vm.resets != resets_before + 1)
        world_wrong("the VM was reset %u times", vm.resets - resets_before);
}

void
run_freeze(void)
{
    static const JobStep steps[] = {
        { flow_ask_start, flow_runs, NULL, 0, flow_note_life, flow_started },
        { ask_freeze, NULL, flow_runs, 0, begins, frozen },
        { ask_frozen_one, NULL, flow_runs, 0, begins, taken_frozen },
        { ask_thaw, is_thawed, flow_runs, 0, begins, thawed },
        { ask_one, NULL, flow_runs, 0, begins, taken_by_itself },
        { ask_freeze, NULL, flow_runs, 0, begins, frozen },
        { ask_reset, NULL, flow_runs, 0, begins, was_reset },
        { ask_reset_one, NULL, flow_runs, 0, begins, taken_after_reset },
        { ask_thaw, is_thawed, flow_runs, 0, begins, thawed },
        { NULL },
    };

    run_jobs(steps);
}
