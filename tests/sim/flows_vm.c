/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * What is done with whole VMs: trying snapshots, with their memory or without, keeping them and
 * going back; removing and cloning.
 */
#include "flows.h"
#include "lines.h"

#include "base/text.h"

#include <string.h>

/* ---- trying a snapshot ---- */

#define OLDEST 0 /* there is one above it, too */

static unsigned tried = OLDEST; /* the snapshot, as of SimDisk.content */

static const char *
id_of(unsigned snapshot)
{
    static char id[40];

    g_snprintf(id, sizeof id, "%08x-0000-4000-9000-000000000000", snapshot + 1);
    return id;
}

static char tried_id[40];

void
flow_try(const char *snapshot_id)
{
    g_strlcpy(tried_id, snapshot_id, sizeof tried_id);
}

static void
try_snapshot(unsigned snapshot)
{
    tried = snapshot;
    flow_try(id_of(snapshot));
}

static char *
branch(Manager *manager, BranchVerb verb, GError **error)
{
    return manager_snapshot_branch(
        manager, verb,
        &(BranchDeed){ .vm_id = vm.id,
                       .snapshot_id = tried_id,
                       .memory = verb == BRANCH_PREVIEW && lines_has_memory(tried_id) },
        error);
}

char *
flow_ask_preview(Manager *manager, GError **error)
{
    return branch(manager, BRANCH_PREVIEW, error);
}

char *
flow_ask_undo(Manager *manager, GError **error)
{
    return branch(manager, BRANCH_UNDO, error);
}

char *
flow_ask_commit(Manager *manager, GError **error)
{
    return branch(manager, BRANCH_COMMIT, error);
}

char *
flow_ask_restore(Manager *manager, GError **error)
{
    return branch(manager, BRANCH_RESTORE, error);
}

/* The definition goes with its disks, but for one of a VM that has been started meanwhile, and for
 * what libvirt has refused or lost. */
void
flow_check_config(const char *when, unsigned wanted)
{
    const unsigned lies = LIE_DEFINITION | LIE_REFUSES | LIE_WRONG_ERROR;

    if (vm.runs || vm.life != flow_life_before() || (plan.lies & lies) != 0 || vm.config == wanted)
        return;
    world_wrong("%s, but the VM is configured as %u, and should be as %u", when, vm.config, wanted);
}

static unsigned
config_of(unsigned snapshot)
{
    return snapshot == NEW_SNAPSHOT ? plan.flow->depth - 1 : snapshot;
}

bool
flow_is_not_tried(void)
{
    return !lines_is_tried();
}

/* Somebody starts the VM meanwhile, from whichever line. */
static void
preview_begins(void)
{
    flow_note_life();
    vm.wanted = true;
    if (!lines_is_tried())
        lines_try(tried);
}

static void
previewed(bool done)
{
    if (!lines_is_tried())
        world_wrong("the preview is done, but the manifest says another thing");
    if (done)
        flow_check_config("the preview is done", config_of(tried));
    lines_allow(1U << LINE_TRIED);
    vm.wanted = false;
}

/* The guest writes a little. */
static void
tried_started(bool done)
{
    flow_started(done);
    fiber_sleep_us(50000);
}

static void
undo_begins(void)
{
    flow_note_life();
    lines_allow(1U << LINE_TRIED | 1U << LINE_OLD);
}

static void
undone(bool done)
{
    if (lines_is_tried())
        world_wrong("the preview was undone, but the manifest has it");
    if (done)
        flow_check_config("the preview is undone", plan.flow->depth - 1);
    lines_allow(1U << LINE_OLD);
}

static void
committed(bool done)
{
    (void)done;
    if (lines_is_tried())
        world_wrong("the preview was committed, but the manifest has it");
    lines_allow(1U << LINE_TRIED);
}

static void
run_branch(JobAsk last, void (*begins)(void), void (*ends)(bool))
{
    const JobStep steps[] = {
        { flow_ask_off, flow_is_off, NULL, 0, flow_stop_begins, flow_stopped },
        { flow_ask_preview, NULL, flow_is_off, 0, preview_begins, previewed },
        { flow_ask_start, flow_runs, NULL, 0, flow_note_life, tried_started },
        { flow_ask_off, flow_is_off, NULL, 0, flow_stop_begins, flow_stopped },
        { last, flow_is_not_tried, flow_is_off, 3, begins, ends },
        { NULL },
    };

    run_jobs(steps);
}

void
run_try(void)
{
    try_snapshot(OLDEST);
    run_branch(flow_ask_undo, undo_begins, undone);
}

void
run_keep(void)
{
    try_snapshot(OLDEST);
    run_branch(flow_ask_commit, NULL, committed);
}

/* One that fails half way has left the VM previewing. */
static void
restored(bool done)
{
    if (done) {
        committed(true);
        flow_check_config("the snapshot is restored", config_of(tried));
    }
    vm.wanted = false;
    lines_allow(1U << LINE_TRIED);
}

void
run_restore(void)
{
    static const JobStep steps[] = {
        { flow_ask_off, flow_is_off, NULL, 0, flow_stop_begins, flow_stopped },
        { flow_ask_restore, lines_is_tried, flow_is_off, 0, preview_begins, restored },
        { flow_ask_commit, flow_is_not_tried, flow_is_off, 0, NULL, committed },
        { NULL },
    };

    try_snapshot(OLDEST);
    run_jobs(steps);
}

/* ---- with memory ---- */

static char *
ask_create(Manager *manager, GError **error)
{
    return manager_snapshot_create(manager,
                                   &(SnapshotCreate){ .vm_id = vm.id,
                                                      .name = "new",
                                                      .memory = true,
                                                      .quiesce = "no",
                                                      .snapshot_id = id_of(NEW_SNAPSHOT) },
                                   NULL, error);
}

static bool
is_taken(void)
{
    return lines_has_snapshot(id_of(NEW_SNAPSHOT));
}

/* Somebody starts the VM meanwhile, but for the schedule that shows what memory is for. */
static void
memory_preview_begins(void)
{
    preview_begins();
    vm.wanted = !world_is_untouched();
}

/* The guest goes on. */
static void
taken(bool done)
{
    if (done && !is_taken())
        world_wrong("the snapshot was taken, but the manifest does not have it");
    if (world_is_untouched() && !lines_has_memory(id_of(NEW_SNAPSHOT)))
        world_wrong("the snapshot was taken without memory");
    fiber_sleep_us(50000);
}

static void
went_on(bool done)
{
    if (world_is_untouched() && !vm.restored)
        world_wrong("the VM did not go on from the snapshot's memory");
    tried_started(done);
}

/* Of a VM that is off there is no memory. */
void
run_memory_try(void)
{
    static const JobStep steps[] = {
        { flow_ask_start, flow_runs, NULL, 0, flow_note_life, flow_started },
        { ask_create, is_taken, flow_runs, 0, NULL, taken },
        { flow_ask_off, flow_is_off, NULL, 0, flow_stop_begins, flow_stopped },
        { flow_ask_preview, lines_is_tried, flow_is_off, 2, memory_preview_begins, previewed },
        { flow_ask_start, flow_runs, NULL, 0, flow_note_life, went_on },
        { flow_ask_off, flow_is_off, NULL, 0, flow_stop_begins, flow_stopped },
        { flow_ask_start, flow_runs, NULL, 0, flow_note_life, tried_started },
        { flow_ask_off, flow_is_off, NULL, 0, flow_stop_begins, flow_stopped },
        { flow_ask_undo, flow_is_not_tried, flow_is_off, 7, undo_begins, undone },
        { NULL },
    };

    try_snapshot(NEW_SNAPSHOT);
    run_jobs(steps);
}

void
run_memory_keep(void)
{
    static const JobStep steps[] = {
        { flow_ask_start, flow_runs, NULL, 0, flow_note_life, flow_started },
        { ask_create, is_taken, flow_runs, 0, NULL, taken },
        { flow_ask_off, flow_is_off, NULL, 0, flow_stop_begins, flow_stopped },
        { flow_ask_preview, lines_is_tried, flow_is_off, 2, memory_preview_begins, previewed },
        { flow_ask_commit, flow_is_not_tried, flow_is_off, 2, NULL, committed },
        { flow_ask_start, flow_runs, NULL, 0, flow_note_life, went_on },
        { flow_ask_off, flow_is_off, NULL, 0, flow_stop_begins, flow_stopped },
        { flow_ask_start, flow_runs, NULL, 0, flow_note_life, tried_started },
        { NULL },
    };

    try_snapshot(NEW_SNAPSHOT);
    run_jobs(steps);
}

/* ---- removing ---- */

static char removed_id[40]; /* the VM that is removed */

static char *
ask_remove(Manager *manager, GError **error)
{
    return manager_vm_remove(manager, &(VmRemove){ .vm_id = removed_id }, error);
}

static bool
is_gone(void)
{
    return strcmp(removed_id, vm.id) == 0 ? !vm.there : !second.there;
}

/* Somebody starts it again and again. */
static void
removal_begins(void)
{
    g_strlcpy(removed_id, vm.id, sizeof removed_id);
    vm.wanted = true;
}

static void
removed(bool done)
{
    if (done && !is_gone())
        world_wrong("a VM was removed, and is there");
}

void
run_remove(void)
{
    static const JobStep steps[] = {
        { flow_ask_off, flow_is_off, NULL, 0, flow_stop_begins, flow_stopped },
        { ask_remove, is_gone, flow_is_off, 0, removal_begins, removed },
        { NULL },
    };

    run_jobs(steps);
}

/* ---- cloning ---- */

static const char *cloned_snapshot; /* NULL: the VM as it is now */

static char *
ask_clone(Manager *manager, GError **error)
{
    return manager_vm_clone(
        manager, &(VmClone){ .vm_id = vm.id, .name = "copy", .snapshot_id = cloned_snapshot }, NULL,
        error);
}

static void
clone_begins(void)
{
    if (second.there)
        world_wrong("a clone failed, and is there");
    other_expect(cloned_snapshot != NULL ? 1 : -1);
}

static void
cloned(bool done)
{
    if (done && !second.there)
        world_wrong("the VM was cloned, and the clone is not there");
    g_strlcpy(removed_id, second.id, sizeof removed_id);
}

void
run_clone(void)
{
    static const JobStep steps[] = {
        { ask_clone, NULL, NULL, 0, clone_begins, cloned },
        { ask_remove, is_gone, NULL, 0, NULL, removed },
        { NULL },
    };

    cloned_snapshot = "00000002-0000-4000-9000-000000000000";
    run_jobs(steps);
}

void
run_clone_off(void)
{
    static const JobStep steps[] = {
        { ask_clone, NULL, NULL, 0, clone_begins, cloned },
        { NULL },
    };

    cloned_snapshot = NULL;
    run_jobs(steps);
}
