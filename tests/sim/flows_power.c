/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * What is done with a VM's power.
 */
#include "flows.h"

#include "base/text.h"

#include <string.h>

/* ---- power, by the manager ---- */

static char *
power(Manager *manager, Verb verb, bool paused, GError **error)
{
    return manager_vm_power(manager, &(VmPower){ .vm_id = vm.id, .verb = verb, .paused = paused },
                            error);
}

char *
flow_ask_start(Manager *manager, GError **error)
{
    return power(manager, VERB_VM_START, false, error);
}

static char *
ask_start_paused(Manager *manager, GError **error)
{
    return power(manager, VERB_VM_START, true, error);
}

char *
flow_ask_off(Manager *manager, GError **error)
{
    return power(manager, VERB_VM_STOP, false, error);
}

static char *
ask_shutdown(Manager *manager, GError **error)
{
    return power(manager, VERB_VM_SHUTDOWN, false, error);
}

static char *
ask_reboot(Manager *manager, GError **error)
{
    return power(manager, VERB_VM_REBOOT, false, error);
}

static char *
ask_suspend(Manager *manager, GError **error)
{
    return power(manager, VERB_VM_SUSPEND, false, error);
}

bool
flow_runs(void)
{
    return vm.runs;
}

static bool
is_up(void)
{
    return vm.runs && !vm.paused;
}

bool
flow_is_off(void)
{
    return !vm.runs && !vm.saved.there;
}

static bool
is_saved(void)
{
    return !vm.runs && vm.saved.there && !vm.saved.half;
}

static unsigned life_before; /* of the VM, when it was asked for */
static bool ran_before;

void
flow_note_life(void)
{
    vm.wanted = vm.user_paused = false; /* nobody else starts it */
    life_before = vm.life;
    ran_before = vm.runs;
}

unsigned
flow_life_before(void)
{
    return life_before;
}

void
flow_stop_begins(void)
{
    flow_note_life();
    check_stop_begins();
}

/* A start that is done has started it, or found it running. */
void
flow_started(bool done)
{
    if (done && !ran_before && !vm.runs && vm.life == life_before)
        world_wrong("a start is done, but the VM was not started");
}

static void
suspended(bool done)
{
    if (done && !is_saved() && vm.life == life_before)
        world_wrong("the VM was suspended, but its memory is not saved");
}

void
flow_stopped(bool done)
{
    if (done && vm.runs && vm.life == life_before)
        world_wrong("the VM was stopped, but it runs on");
}

void
run_power(void)
{
    static const JobStep steps[] = {
        { flow_ask_start, flow_runs, NULL, 0, flow_note_life, flow_started },
        { ask_suspend, is_saved, flow_runs, 0, flow_note_life, suspended },
        { flow_ask_start, is_up, NULL, 0, flow_note_life, flow_started },
        { ask_reboot, NULL, is_up, 2, flow_note_life, NULL },
        { ask_shutdown, flow_is_off, is_up, 2, flow_stop_begins, flow_stopped },
        { ask_start_paused, flow_runs, NULL, 0, flow_note_life, flow_started },
        { flow_ask_start, is_up, NULL, 0, flow_note_life, NULL },
        { flow_ask_off, flow_is_off, NULL, 0, flow_stop_begins, flow_stopped },
        { NULL },
    };

    vm.wanted = false;
    run_jobs(steps);
}

/* ---- power in the middle of a merge, by the agent alone ---- */

static bool
do_operation(const char *kind, const char *how)
{
    json_t *params = json_object();

    json_put_text(params, "how", how);
    g_autofree char *id = ask_begin(kind, params);
    g_autoptr(json_t) end = id != NULL ? ask_follow(id) : NULL;
    if (end == NULL)
        return false;
    bool done = strcmp(json_text(end, "state"), "done") == 0;
    if (!done)
        world_trace("%s: %s", kind, json_text(json_object_get(end, "error"), "message"));
    return done;
}

static bool power_has_ended;

static void
stop_and_start(void *data)
{
    (void)data;
    fiber_sleep_us((int64_t)fiber_below(150000));
    life_before = vm.life;
    check_stop_begins();
    flow_stopped(do_operation("vm-stop", "off"));
    fiber_sleep_us((int64_t)fiber_below(50000));
    life_before = vm.life;
    ran_before = vm.runs;
    flow_started(do_operation("vm-start", NULL));
    life_before = vm.life;
    suspended(do_operation("vm-suspend", NULL));
    power_has_ended = true;
    fiber_wake(&power_has_ended, true);
}

/* Others start it, too. */
void
run_agent_power(void)
{
    power_has_ended = false;
    fiber_start(P_MANAGER, "power", stop_and_start, NULL);
    ask_merge_all(0, 1, "commit-active");
    while (!power_has_ended)
        fiber_wait_on(&power_has_ended, -1);
    world_done();
}
