/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * Snapshots of the configuration alone: the VM's definition goes back, its disks go on.
 */
#include "flows.h"
#include "lines.h"

#define CONFIG_SNAPSHOT "00000077-0000-4000-9000-000000000000"
#define OTHER_CONFIG 77 /* what a user makes of it later */

static char *
ask_create(Manager *manager, GError **error)
{
    static const char *const none[] = { NULL };

    return manager_snapshot_create(manager,
                                   &(SnapshotCreate){ .vm_id = vm.id,
                                                      .name = "configuration",
                                                      .disks = none,
                                                      .snapshot_id = CONFIG_SNAPSHOT },
                                   NULL, error);
}

/* With one that has disks. */
static char *
ask_delete(Manager *manager, GError **error)
{
    const char *ids[] = { CONFIG_SNAPSHOT, "00000002-0000-4000-9000-000000000000", NULL };

    return manager_snapshots_remove(
        manager,
        &(SnapshotsRemove){ .vm_id = vm.id, .snapshot_ids = ids, .verify = VERIFY_EXTENTS }, error);
}

/* ---- what must be so ---- */

static bool
is_taken(void)
{
    return lines_has_snapshot(CONFIG_SNAPSHOT);
}

static bool
is_deleted(void)
{
    return !is_taken() && !lines_has_snapshot("00000002-0000-4000-9000-000000000000");
}

static unsigned
config_then(void)
{
    return plan.flow->depth - 1;
}

/* A user edits it, long before the power can take that back. */
static void
edit(void)
{
    vm.config = vm.config_durable = OTHER_CONFIG;
}

static void
taken(bool done)
{
    if (done && !is_taken())
        world_wrong("the snapshot was taken, but the manifest does not have it");
    edit();
}

/* Somebody starts the VM meanwhile. */
static void
preview_begins(void)
{
    flow_note_life();
    vm.wanted = true;
}

static void
previewed(bool done)
{
    if (!lines_is_tried())
        world_wrong("the preview is done, but the manifest says another thing");
    if (done)
        flow_check_config("the preview is done", config_then());
    vm.wanted = false;
}

static void
undone(bool done)
{
    if (lines_is_tried())
        world_wrong("the preview was undone, but the manifest has it");
    if (done)
        flow_check_config("the preview is undone", OTHER_CONFIG);
}

static void
committed(bool done)
{
    if (lines_is_tried())
        world_wrong("the preview was committed, but the manifest has it");
    if (done)
        flow_check_config("the preview is kept", config_then());
    edit();
}

static void
restored(bool done)
{
    if (done) {
        if (lines_is_tried())
            world_wrong("the VM was restored, but the manifest has a preview");
        flow_check_config("the configuration is restored", config_then());
    }
    vm.wanted = false;
}

static void
kept(bool done)
{
    (void)done;
    if (lines_is_tried())
        world_wrong("the preview was committed, but the manifest has it");
}

static void
deleted(bool done)
{
    if (done && !is_deleted())
        world_wrong("the snapshots were deleted, but the manifest has one");
}

void
run_config_only(void)
{
    static const JobStep steps[] = {
        { ask_create, is_taken, NULL, 0, NULL, taken },
        { flow_ask_off, flow_is_off, NULL, 0, flow_stop_begins, flow_stopped },
        { flow_ask_preview, lines_is_tried, flow_is_off, 1, preview_begins, previewed },
        { flow_ask_start, flow_runs, NULL, 0, flow_note_life, flow_started },
        { flow_ask_off, flow_is_off, NULL, 0, flow_stop_begins, flow_stopped },
        { flow_ask_undo, flow_is_not_tried, flow_is_off, 4, flow_note_life, undone },
        { flow_ask_preview, lines_is_tried, flow_is_off, 4, preview_begins, previewed },
        { flow_ask_off, flow_is_off, NULL, 0, flow_stop_begins, flow_stopped },
        { flow_ask_commit, flow_is_not_tried, flow_is_off, 7, flow_note_life, committed },
        { flow_ask_restore, lines_is_tried, flow_is_off, 7, preview_begins, restored },
        { flow_ask_off, flow_is_off, NULL, 0, flow_stop_begins, flow_stopped },
        { flow_ask_commit, flow_is_not_tried, flow_is_off, 10, flow_note_life, kept },
        { flow_ask_start, flow_runs, NULL, 0, flow_note_life, flow_started },
        { ask_delete, is_deleted, NULL, 0, NULL, deleted },
        { NULL },
    };

    flow_try(CONFIG_SNAPSHOT);
    run_jobs(steps);
}
