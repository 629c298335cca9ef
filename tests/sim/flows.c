/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * What is done in a schedule. The flows named agent-... ask the agent themselves, as the manager
 * would.
 */
#include "flows.h"

#include "base/text.h"

#include <string.h>

/* What the user remembers who asks the manager, also of one that was killed. */
static struct {
    unsigned at;
    char before[40]; /* the last job of the steps before */
} progress;

#define BUDGET_US (30 * G_TIME_SPAN_SECOND)

/* ---- one operation of the agent ---- */

static bool
is_final(const GError *error)
{
    return !g_error_matches(error, ERR, ERR_UNREACHABLE) &&
           !g_error_matches(error, ERR, ERR_TIMEOUT) && !g_error_matches(error, ERR, ERR_BUSY);
}

/* Asks until there is an answer; NULL = a refusal. */
static json_t *
ask(const char *method, const char *path, const json_t *body, bool patient)
{
    for (unsigned n = 0;; n++) {
        g_autoptr(GError) error = NULL;
        json_t *json = NULL;
        if (wire_ask(method, path, "", body, BUDGET_US, &json, &error))
            return json != NULL ? json : json_object();
        if (is_final(error) && !(patient && n < 100)) {
            world_trace("%s %s: %s", method, path, error->message);
            return NULL;
        }
        fiber_sleep_us(100000);
    }
}

json_t *
ask_vm_json(void)
{
    g_autofree char *path = g_strdup_printf("/v1/vms/%s", vm.id);

    return ask("GET", path, NULL, true);
}

char *
ask_begin(const char *kind, json_t *take_params)
{
    g_autoptr(json_t) body = take_params, answer = NULL;
    char *id = id_new();

    json_object_set_new(body, "id", json_string(id));
    json_object_set_new(body, "kind", json_string(kind));
    json_object_set_new(body, "vm_id", json_string(vm.id));
    answer = ask("POST", "/v1/operations", body, false);
    if (answer != NULL) {
        world_trace("operation %s begins: %s", kind, id);
        return id;
    }
    g_free(id);
    return NULL;
}

/* Its last state; it is acknowledged then. NULL: the agent says that there is none. */
json_t *
ask_follow(const char *id)
{
    g_autofree char *path = g_strdup_printf("/v1/operations/%s", id);
    g_autofree char *ack = g_strdup_printf("/v1/operations/%s/ack", id);
    g_autoptr(json_t) first = NULL;

    for (;;) {
        fiber_sleep_us(50000 + (int64_t)fiber_below(100000));
        g_autoptr(json_t) now = ask("GET", path, NULL, false);
        if (now == NULL) {
            world_wrong("operation %s is unknown, though it was begun", id);
            return NULL;
        }
        if (strcmp(json_text(now, "state"), "running") == 0) {
            if (first != NULL)
                world_wrong("operation %s ended and runs again", id);
            continue;
        }
        if (first == NULL) {
            first = json_incref(now);
            if (fiber_chance(50))
                continue; /* look once more: an outcome never changes */
        }
        if (strcmp(json_text(first, "state"), json_text(now, "state")) != 0)
            world_wrong("operation %s was %s and is %s", id, json_text(first, "state"),
                        json_text(now, "state"));
        world_trace("operation %s is %s", id, json_text(now, "state"));
        json_t *acked = ask("POST", ack, NULL, false);
        if (acked == NULL)
            world_wrong("operation %s cannot be acknowledged", id);
        json_decref(acked);
        return g_steal_pointer(&now);
    }
}

/* ---- merging at the agent ---- */

static const char *
volume_of(const json_t *disk, size_t index)
{
    return json_text(json_array_get(json_object_get(disk, "volumes"), index), "id");
}

static char *
begin_merge(const json_t *disk, size_t base, size_t top, const char *strategy)
{
    g_autoptr(json_t) remove = json_array();

    for (size_t i = base; i < top; i++)
        json_array_append_new(remove, json_string(volume_of(disk, i)));
    return ask_begin("merge", json_pack("{s:s, s:s, s:s, s:s, s:i, s:O, s:s}", "disk_id",
                                        json_text(disk, "id"), "base", volume_of(disk, base), "top",
                                        volume_of(disk, top), "strategy", strategy, "bandwidth", 0,
                                        "remove", remove, "verify", "extents"));
}

static void
delete_left(const json_t *disk, const json_t *merged)
{
    json_t *result = json_object_get(merged, "result"),
           *left = json_object_get(result, "volumes_left");

    if (json_array_size(left) == 0)
        return;
    for (;;) {
        json_t *params = json_pack("{s:s, s:O}", "disk_id", json_text(disk, "id"), "volumes", left);
        json_put_text(params, "instance", json_text(result, "instance"));
        g_autofree char *id = ask_begin("delete-volumes", params);
        if (id == NULL)
            return;
        g_autoptr(json_t) end = ask_follow(id);
        if (end == NULL || strcmp(json_text(end, "state"), "done") == 0)
            return;
        world_trace("delete-volumes: %s", json_text(json_object_get(end, "error"), "message"));
        if (world_is_calm())
            world_wrong("the volumes left over cannot be deleted: %s",
                        json_text(json_object_get(end, "error"), "message"));
        if (world_is_wrong())
            return;
        fiber_sleep_us(G_TIME_SPAN_SECOND);
    }
}

/* The same run on each disk, side by side. */
void
ask_merge_all(size_t base, size_t top, const char *strategy)
{
    g_autoptr(json_t) json = ask_vm_json();
    json_t *disks = json_object_get(json, "disks");
    char *ids[MAX_DISKS] = { NULL };

    for (size_t i = 0; i < json_array_size(disks); i++)
        ids[i] = begin_merge(json_array_get(disks, i), base, top, strategy);
    for (size_t i = 0; i < json_array_size(disks); i++) {
        g_autofree char *id = ids[i];
        g_autoptr(json_t) end = id != NULL ? ask_follow(id) : NULL;
        if (end == NULL)
            continue;
        if (strcmp(json_text(end, "state"), "done") == 0)
            delete_left(json_array_get(disks, i), end);
        else
            world_trace("merge: %s", json_text(json_object_get(end, "error"), "message"));
    }
}

static void
merge_all(size_t base, size_t top, const char *strategy)
{
    ask_merge_all(base, top, strategy);
    world_done();
}

static void
run_commit_active(void)
{
    merge_all(0, 1, "commit-active");
}

static void
run_commit(void)
{
    merge_all(0, 1, "commit");
}

static void
run_copy(void)
{
    merge_all(0, 1, "copy");
}

static void
run_graft(void)
{
    merge_all(0, 2, "graft");
}

static void
run_cold(void)
{
    merge_all(0, 1, "cold-commit");
}

/* Somebody asks for a volume to be deleted that the VM stands on. */
static void
run_delete_named(void)
{
    g_autoptr(json_t) json = ask_vm_json();
    const json_t *disk = json_array_get(json_object_get(json, "disks"), 0),
                 *base = json_array_get(json_object_get(disk, "volumes"), 0);
    g_autofree char *id =
        ask_begin("delete-volumes", json_pack("{s:s, s:[s]}", "disk_id", json_text(disk, "id"),
                                              "volumes", json_text(base, "path")));
    g_autoptr(json_t) end = id != NULL ? ask_follow(id) : NULL;

    if (end != NULL && strcmp(json_text(end, "state"), "done") == 0)
        world_wrong("a volume that the VM stands on was deleted");
    world_done();
}

static void
run_create(void)
{
    g_autofree char *snapshot = id_new();
    g_autofree char *id = ask_begin(
        "snapshot-create", json_pack("{s:s, s:s}", "snapshot_id", snapshot, "name", "new"));
    g_autoptr(json_t) end = id != NULL ? ask_follow(id) : NULL;

    if (end != NULL && strcmp(json_text(end, "state"), "done") != 0)
        world_trace("snapshot-create: %s", json_text(json_object_get(end, "error"), "message"));
    world_done();
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
    g_autoptr(json_t) jobs = NULL;

    if (*id == NULL) {
        jobs = manager_jobs(manager, false, NULL);
        *id = g_strdup(json_text(json_array_get(jobs, 0), "id"));
    }
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

static char *
begin_job(Manager *manager, JobAsk how, unsigned *tries)
{
    g_autoptr(GError) error = NULL;
    char *id = how(manager, &error);

    if (id != NULL) {
        world_trace("job %s begins", id);
        return id;
    }
    world_trace("no job: %s", error->message);
    if (world_is_calm() && vm.runs && strstr(error->message, "Power the VM off") != NULL) {
        world_trace("the user does as he is told");
        qemu_died();
    }
    if (!error_may_retry(error) && world_is_calm() && ++*tries > 80)
        world_wrong("the job is refused: %s", error->message);
    fiber_sleep_us(200000);
    return NULL;
}

static void
note_failure(const json_t *job, unsigned *failed)
{
    world_trace("the job has ended: %s: %s", json_text(job, "status"), json_text(job, "error"));
    if (world_is_calm() && ++*failed > 8)
        world_wrong("the job fails again and again: %s", json_text(job, "error"));
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
begin_step(const JobStep *step, RunningJob *now, unsigned *refused)
{
    if (step->begins != NULL)
        step->begins();
    char *id = begin_job(now->manager, step->ask, refused);
    if (id != NULL)
        now->id = id;
    else
        is_needless(step, now);
}

/* One after another, each again and again until it has succeeded: a job that failed, when nothing
 * fails any more, can be repeated. */
void
run_jobs(const JobStep *steps)
{
    RunningJob now = { .manager = flow_open_manager() };
    unsigned refused = 0, failed = 0;
    const char *noted = NULL; /* the failed one that was counted */
    int64_t rev = 0;

    if (now.manager != NULL)
        fiber_start(P_MANAGER, "canceller", canceller, &now);
    while (now.manager != NULL && !world_is_wrong() && steps[progress.at].ask != NULL) {
        const JobStep *step = &steps[progress.at];
        g_autoptr(json_t) job = job_of_step(&now, rev);
        const char *status = job != NULL ? json_text(job, "status") : NULL;
        if (job != NULL)
            rev = json_number(job, "rev");
        fiber_wake(&world_cancel_wanted, true);
        if (g_strcmp0(status, "started") == 0)
            continue;
        rev = 0;
        if (g_strcmp0(status, "finished") == 0) {
            next_step(step, &now, true);
            refused = failed = 0;
            continue;
        }
        if (status != NULL && now.id != noted) {
            note_failure(job, &failed);
            noted = now.id;
            fiber_sleep_us(G_TIME_SPAN_SECOND);
            if (is_needless(step, &now))
                continue;
        }
        begin_step(step, &now, &refused);
    }
    world_done();
    fiber_wait_on(NULL, -1); /* the canceller looks at "now" */
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
    { "delete-all",          2,   3,    false, false, run_remove_all,      "all, of two disks", true },
    { "delete-graft",        1,   3,    false, true,  run_remove_graft,    "by graft", true },
    { "delete-off",          1,   3,    true,  false, run_remove_newest,   "VM off", true },
    { "power",               1,   2,    false, false, run_power,          "suspended, started, rebooted, shut down", true },
    { "agent-power",         1,   2,    false, false, run_agent_power,    "stopped and started in a merge" },
    { "preview-undo",        1,   3,    false, false, run_try,           "tried, and thrown away", true },
    { "preview-commit",      2,   3,    false, false, run_keep,         "tried, and kept", true },
    { "restore",             1,   3,    false, false, run_restore,        "gone back to", true },
    { "commit-shared",       1,   3,    false, false, run_keep,         "what somebody stands on stays", true, 2 },
    { "memory-try",          2,   2,    false, false, run_memory_try,     "with memory, tried, and thrown away", true },
    { "memory-keep",         1,   2,    false, false, run_memory_keep,    "the same, and kept", true },
    { "remove",              1,   3,    false, false, run_remove,         "a VM goes", true },
    { "remove-shared",       1,   3,    false, false, run_remove,         "but not its base", true, 1 },
    { "clone",               1,   3,    false, false, run_clone,          "out of a snapshot; and it goes", true },
    { "clone-off",           2,   2,    true,  true,  run_clone_off,      "a VM that is off, by sharing", true },
    { "create",              2,   2,    false, false, run_create_snapshot, "a snapshot is taken", true },
    { "import",              1,   3,    false, false, run_import,         "the manager is lost in a delete", true },
    { "rename",              1,   2,    false, false, run_rename,         "a snapshot is, and the VM described", true },
    { "update",              1,   2,    false, false, run_update,         "a VM is renamed", true },
    { "doctor",              1,   3,    false, false, run_doctor,         "a volume of nobody, and an old definition", true, 0, true },
    { NULL },
};
/* clang-format on */
