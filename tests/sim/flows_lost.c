/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * The agent's journal is lost in the middle of a delete, and the user does what he is told until
 * the snapshot is gone.
 */
#include "flows.h"
#include "lines.h"

#include "base/text.h"

#include <string.h>

#define SNAPSHOT "00000001-0000-4000-9000-000000000000"
#define JOURNAL "/sim/agent/journal.db"

static enum { JOURNAL_IS_THERE, JOURNAL_GOES, JOURNAL_IS_LOST } journal;
static bool by_doctor; /* the last job was */

void
flow_lost_reset(void)
{
    journal = JOURNAL_IS_THERE;
    by_doctor = false;
}

static void
journal_goes(void)
{
    world_trace("the agent's journal is lost");
    journal = JOURNAL_IS_LOST;
    sqlite_lose(JOURNAL);
    do_fault(FAULT_AGENT);
}

/* What the doctor says of a record that is left; NULL = nothing. The caller frees both. */
static json_t *
left_record(Manager *manager)
{
    g_autoptr(json_t) answer = NULL;
    size_t i;
    json_t *finding;

    if (!manager_doctor(manager, vm.id, &answer, NULL))
        return NULL;
    json_array_foreach (json_object_get(answer, "findings"), i, finding)
        if (strcmp(json_text(finding, "class"), "leftover-record") == 0)
            return json_incref(finding);
    return NULL;
}

/* As "livemerge doctor VM" says it. */
static char *
do_as_told(Manager *manager, GError **error)
{
    static const char *const classes[] = { "leftover-record", NULL };
    g_autoptr(json_t) finding = left_record(manager);
    const char *help = json_text(finding, "help");

    if (finding != NULL && strcmp(json_text(finding, "can_fix"), "no") != 0) {
        world_trace("the doctor is asked for: %s", json_text(finding, "fix"));
        by_doctor = true;
        return manager_doctor_fix(manager, &(DoctorFix){ .vm_id = vm.id, .classes = classes },
                                  error);
    }
    if (help != NULL && strstr(help, "power the VM off") != NULL && vm.runs) {
        world_trace("the user powers the VM off, as the doctor says");
        qemu_died();
    }
    error_set(error, ERR_BUSY, "the doctor cannot mend it yet");
    return NULL;
}

static char *
ask_delete(Manager *manager, GError **error)
{
    const char *ids[] = { SNAPSHOT, NULL };
    g_autoptr(GError) problem = NULL;

    by_doctor = false;
    char *id = manager_snapshots_remove(manager,
                                        &(SnapshotsRemove){ .vm_id = vm.id,
                                                            .snapshot_ids = ids,
                                                            .strategy = STRATEGY_AUTO,
                                                            .verify = VERIFY_EXTENTS },
                                        &problem);
    if (id != NULL && journal == JOURNAL_IS_THERE) {
        journal = JOURNAL_GOES;
        world_later((int64_t)fiber_below(G_TIME_SPAN_SECOND / 2), "end", journal_goes);
    }
    if (id != NULL)
        return id;
    if (strstr(problem->message, "livemerge doctor") != NULL)
        return do_as_told(manager, error);
    g_propagate_error(error, g_steal_pointer(&problem));
    return NULL;
}

static bool
is_deleted(void)
{
    return !lines_snapshot_is_there(SNAPSHOT);
}

/* A job of the doctor's was not what was wanted. */
static bool
must_go_on(Manager *manager)
{
    (void)manager;
    return by_doctor || !is_deleted();
}

/* What the lost merge has left goes into the trash. */
static char *
ask_tidy(Manager *manager, GError **error)
{
    return manager_doctor_fix(manager, &(DoctorFix){ .vm_id = vm.id }, error);
}

bool
flow_lost_is_kept(const char *path)
{
    return plan.flow->run == run_lost && (strstr(path, "/.livemerge/undo/") != NULL ||
                                          strstr(path, "/.livemerge/trash/keep.") != NULL);
}

void
run_lost(void)
{
    static const JobStep steps[] = {
        { ask_delete, is_deleted, NULL, 0, NULL, NULL, must_go_on },
        { ask_tidy, NULL, NULL, 0, NULL, NULL, flow_finds_more },
        { NULL },
    };

    run_jobs(steps);
}
