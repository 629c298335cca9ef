/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * What is done in a schedule: the table of flows, how a user asks the manager for one thing after
 * another, and merges and snapshots that are asked for so.
 */
#include "flows.h"

#include "base/text.h"

#include <string.h>

#define FIRST_TRIES 3

/* What the user remembers who asks the manager, also of one that was killed. */
static struct {
    unsigned at;
    char before[40]; /* the last job of the steps before */
} progress;

void
flow_rest(int64_t us, unsigned *times)
{
    *times = world_is_calm() || !world_is_hit() ? 0 : *times + 1;
    fiber_sleep_us(us << CLAMP((int)*times - FIRST_TRIES, 0, 3));
}

/* ---- by the manager ---- */

Manager *
flow_open_manager(void)
{
    const HostConfig host = { .name = "host", .address = "unix:/sim/agent.sock" };
    g_autoptr(GError) error = NULL;
    Store *store = store_open(MANAGER_DATABASE, &error);
    Manager *manager = store != NULL ? manager_new(store, &host, 1, &error) : NULL;

    if (manager == NULL)
        world_wrong("the manager does not start: %s", error->message);
    return manager;
}

/* The newest job when it has changed since "rev", which is asked no more often than once a second,
 * or ended; new reference; NULL = there is none */
static json_t *
last_job(Manager *manager, char **id, int64_t rev)
{
    if (*id == NULL)
        *id = flow_newest_job(manager);
    return *id != NULL ? manager_job_wait(manager, *id, rev, fiber_now_us() + G_TIME_SPAN_SECOND,
                                          1000, NULL)
                       : NULL;
}

static char *
ask_remove(Manager *manager, const char *const *ids, Strategy strategy, GError **error)
{
    return manager_snapshots_remove(
        manager,
        &(SnapshotsRemove){
            .vm_id = vm.id, .snapshot_ids = ids, .strategy = strategy, .verify = VERIFY_EXTENTS },
        error);
}

static bool given_up; /* of the manager's user */

typedef struct {
    Manager *manager;
    char *id; /* of the job; NULL = none yet */
} RunningJob;

/* Another user, who cancels what runs. */
static void
canceller(void *data)
{
    const RunningJob *job = data;

    for (;;) {
        if (!world_cancel_wanted || job->id == NULL) {
            fiber_wait_on(&world_cancel_wanted, -1);
            continue;
        }
        g_autoptr(GError) error = NULL;
        world_cancel_wanted = false;
        bool ok = manager_job_cancel(job->manager, job->id, &error);
        world_trace("cancel: %s", ok ? "asked for" : error->message);
    }
}

typedef struct {
    unsigned refused, failed; /* when all was calm: too often is wrong */
    unsigned refused_in_row, failed_in_row;
} Tries;

/* A chain that somebody else has changed may be refused. */
static void
give_up(const char *why, const char *what)
{
    g_autofree char *text = g_strdup_printf("%s: %s", what, why);

    if (!stranger_was_here())
        world_wrong("%s", text);
    world_trace("the user gives up: %s", text);
    given_up = true;
}

static char *
begin_job(Manager *manager, JobAsk how, Tries *tries)
{
    g_autoptr(GError) error = NULL;
    char *id = how(manager, &error);

    if (id != NULL) {
        world_trace("job %s begins", id);
        tries->refused_in_row = 0;
        return id;
    }
    world_trace("no job: %s", error->message);
    if (world_is_calm() && vm.runs && strstr(error->message, "Power the VM off") != NULL) {
        world_trace("the user does as he is told");
        qemu_died();
    }
    if (!error_may_retry(error) && world_is_calm() && ++tries->refused > 80)
        give_up(error->message, "the job is refused");
    flow_rest(200000, &tries->refused_in_row);
    return NULL;
}

/* A merge waits until what somebody else has put on the disk is gone. */
static void
cancel_what_waits(void)
{
    if (world_is_calm() && world_was_hit_by(FAULT_STRANGER))
        world_cancel_wanted = true;
}

static void
note_failure(const json_t *job, Tries *tries)
{
    world_trace("the job has ended: %s: %s", json_text(job, "status"), json_text(job, "error"));
    if (world_is_calm() && stranger_was_here())
        given_up = true;
    if (world_is_calm() && ++tries->failed > 8)
        give_up(json_text(job, "error"), "the job fails again and again");
}

/* The newest job is of an earlier step, or there is none: NULL. */
static json_t *
job_of_step(RunningJob *now, int64_t rev)
{
    if (*progress.before != '\0' && g_strcmp0(now->id, progress.before) == 0)
        now->id = NULL; /* of the step before; is there a newer one? */
    g_autoptr(json_t) job = last_job(now->manager, &now->id, rev);
    if (g_strcmp0(now->id, progress.before) != 0)
        return g_steal_pointer(&job);
    now->id = NULL;
    return NULL;
}

static void
next_step(const JobStep *step, RunningJob *now, bool done)
{
    if (step->ends != NULL)
        step->ends(done);
    g_strlcpy(progress.before, now->id != NULL ? now->id : progress.before, sizeof progress.before);
    progress.at++;
}

static bool
is_all(const JobStep *step, RunningJob *now)
{
    return step->is_not_all == NULL || !step->is_not_all(now->manager);
}

/* What it needs may be gone, or what it is for may be so already. */
static bool
is_needless(const JobStep *step, RunningJob *now)
{
    bool is_so = step->is_so != NULL && step->is_so();

    if (!is_so && step->needs != NULL && !step->needs()) {
        world_trace("back to step %u", step->otherwise);
        g_strlcpy(progress.before, now->id != NULL ? now->id : progress.before,
                  sizeof progress.before);
        progress.at = step->otherwise;
        return true;
    }
    if (!is_so)
        return false;
    next_step(step, now, false);
    return true;
}

static void
begin_step(const JobStep *step, RunningJob *now, Tries *tries)
{
    if (step->begins != NULL)
        step->begins();
    char *id = begin_job(now->manager, step->ask, tries);
    if (id != NULL)
        now->id = id;
    else
        is_needless(step, now);
}

void
flow_end(void)
{
    /* what the headers say counts at the next start */
    if (world_was_hit_by(FAULT_STRANGER) && vm.runs)
        qemu_died();
    world_done();
    fiber_wait_on(NULL, -1); /* what its fibers look at stays */
}

/* One after another, each again and again until it has succeeded: a job that failed, when nothing
 * fails any more, can be repeated. */
void
run_jobs(const JobStep *steps)
{
    RunningJob now = { .manager = flow_open_manager() };
    Tries tries = { 0 };
    const char *noted = NULL; /* the failed one that was counted */
    int64_t rev = 0;

    if (now.manager != NULL)
        fiber_start(P_MANAGER, "canceller", canceller, &now);
    while (now.manager != NULL && !world_is_wrong() && !given_up &&
           steps[progress.at].ask != NULL) {
        const JobStep *step = &steps[progress.at];
        g_autoptr(json_t) job = job_of_step(&now, rev);
        const char *status = job != NULL ? json_text(job, "status") : NULL;
        if (job != NULL)
            rev = json_number(job, "rev");
        fiber_wake(&world_cancel_wanted, true);
        if (g_strcmp0(status, "started") == 0) {
            cancel_what_waits();
            continue;
        }
        rev = 0;
        if (g_strcmp0(status, "finished") == 0 && is_all(step, &now)) {
            next_step(step, &now, true);
            tries = (Tries){ 0 };
            continue;
        }
        if (status != NULL && now.id != noted) {
            note_failure(job, &tries);
            noted = now.id;
            flow_rest(G_TIME_SPAN_SECOND, &tries.failed_in_row);
            if (is_needless(step, &now))
                continue;
        }
        begin_step(step, &now, &tries);
    }
    flow_end(); /* the canceller looks at "now" */
}

static void
run_job(JobAsk how)
{
    const JobStep steps[] = { { .ask = how }, { NULL } };

    run_jobs(steps);
}

char *
flow_ask_delete_newest(Manager *manager, GError **error)
{
    const char *ids[] = { "00000002-0000-4000-9000-000000000000", NULL };

    return ask_remove(manager, ids, STRATEGY_AUTO, error);
}

static char *
ask_internal(Manager *manager, GError **error)
{
    const char *ids[] = { "00000001-0000-4000-9000-000000000000", NULL };

    return ask_remove(manager, ids, STRATEGY_AUTO, error);
}

static char *
ask_all(Manager *manager, GError **error)
{
    const char *ids[] = { "00000001-0000-4000-9000-000000000000",
                          "00000002-0000-4000-9000-000000000000", NULL };

    return ask_remove(manager, ids, STRATEGY_AUTO, error);
}

static char *
ask_graft(Manager *manager, GError **error)
{
    const char *ids[] = { "00000001-0000-4000-9000-000000000000", NULL };

    return ask_remove(manager, ids, STRATEGY_GRAFT, error);
}

static char *
ask_create(Manager *manager, GError **error)
{
    g_autofree char *id = NULL;

    return manager_snapshot_create(
        manager, &(SnapshotCreate){ .vm_id = vm.id, .name = "new", .quiesce = "no" }, &id, error);
}

static void
run_remove_newest(void)
{
    run_job(flow_ask_delete_newest);
}

static void
run_remove_internal(void)
{
    run_job(ask_internal);
}

/* After somebody's active commit into its base, which was cancelled. */
static void
run_remove_open(void)
{
    qemu_keep_base_open(&vm.disks[0]);
    run_job(ask_internal);
}

static void
run_remove_all(void)
{
    run_job(ask_all);
}

static void
run_remove_graft(void)
{
    run_job(ask_graft);
}

static void
run_create_snapshot(void)
{
    run_job(ask_create);
}

void
flows_reset(void)
{
    memset(&progress, 0, sizeof progress);
    given_up = false;
    flow_records_reset();
}

/* clang-format off */
const Flow flows[] = {
    /* name                 disks depth off    share  */
    { "agent-commit-active", 1,   2,    false, false, run_commit_active, "the newest snapshot" },
    { "agent-commit",        1,   3,    false, false, run_commit,        "an internal snapshot" },
    { "agent-two-disks",     2,   2,    false, false, run_commit_active, "the newest of two disks" },
    { "agent-create",        2,   2,    false, false, run_create,        "a snapshot is taken" },
    { "agent-create-off",    2,   2,    true,  false, run_create,        "the same of a VM that is off" },
    { "agent-copy",          1,   2,    false, false, run_copy,          "by copy" },
    { "agent-graft",         1,   3,    false, true,  run_graft,         "by graft" },
    { "agent-graft-two",     2,   3,    false, true,  run_graft,         "by graft, two disks" },
    { "agent-graft-off",     1,   3,    true,  true,  run_graft,         "by graft, VM off" },
    { "agent-cold",          1,   2,    true,  false, run_cold,          "by a storage daemon" },
    { "agent-delete-named",  1,   2,    false, false, run_delete_named,  "a delete that must be refused" },
    { "delete-newest",       1,   3,    false, false, run_remove_newest,   "the newest snapshot", true },
    { "delete-internal",     1,   3,    false, false, run_remove_internal, "an internal one", true },
    { "delete-open",         1,   3,    false, false, run_remove_open,     "one whose base QEMU has left open", true },
    { "delete-all",          2,   3,    false, false, run_remove_all,      "all, of two disks", true },
    { "delete-graft",        1,   3,    false, true,  run_remove_graft,    "by graft", true },
    { "delete-off",          1,   3,    true,  false, run_remove_newest,   "VM off", true },
    { "power",               1,   2,    false, false, run_power,          "suspended, started, rebooted, shut down", true },
    { "agent-power",         1,   2,    false, false, run_agent_power,    "stopped and started in a merge" },
    { "freeze",              2,   2,    false, false, run_freeze,         "frozen, thawed and reset, with snapshots", true },
    { "preview-undo",        1,   3,    false, false, run_try,           "tried, and thrown away", true, .apart = true },
    { "preview-commit",      2,   3,    false, false, run_keep,         "tried, and kept", true, .apart = true },
    { "restore",             1,   3,    false, false, run_restore,        "gone back to", true, .apart = true },
    { "commit-shared",       1,   3,    false, false, run_keep,         "what somebody stands on stays", true, 2, .apart = true },
    { "memory-try",          2,   2,    false, false, run_memory_try,     "with memory, tried, and thrown away", true, .apart = true },
    { "memory-keep",         1,   2,    false, false, run_memory_keep,    "the same, and kept", true, .apart = true },
    { "config-only",         1,   3,    false, false, run_config_only,    "the configuration alone goes back", true },
    { "remove",              1,   3,    false, false, run_remove,         "a VM goes", true },
    { "remove-shared",       1,   3,    false, false, run_remove,         "but not its base", true, 1 },
    { "clone",               1,   3,    false, false, run_clone,          "out of a snapshot; and it goes", true },
    { "clone-off",           2,   2,    true,  true,  run_clone_off,      "a VM that is off, by sharing", true },
    { "create",              2,   2,    false, false, run_create_snapshot, "a snapshot is taken", true },
    { "import",              1,   3,    false, false, run_import,         "the manager is lost in a delete", true },
    { "lost-journal",        1,   3,    false, false, run_lost,          "the agent's journal is lost in a delete", true },
    { "rename",              1,   2,    false, false, run_rename,         "a snapshot is, and the VM described", true },
    { "update",              1,   2,    false, false, run_update,         "a VM is renamed", true },
    { "doctor",              1,   3,    false, false, run_doctor,         "a volume of nobody, and an old definition", true },
    { "doctor-undo",         1,   3,    false, false, run_doctor_undo,    "the same, undone, and mended again", true },
    { NULL },
};
/* clang-format on */
