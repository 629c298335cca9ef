/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * The manager's door: what it refuses, and what it plans with the agent before there is a job.
 */
#include "flow_fixture.h"

/* What the door refuses, before there is a job. */
static void
test_refused_removals(Fixture *f, gconstpointer data)
{
    static const struct {
        const char *ids[3];
        const char *disk;
        int wanted;
        const char *text;
    } cases[] = {
        { { NULL }, NULL, ERR_INVALID, "web1" },
        { { "nobody" }, NULL, ERR_NOT_FOUND, "nobody" },
        { { S(1), S(1) }, NULL, ERR_INVALID, "twice" },
        { { S(1) }, "vdz", ERR_NOT_FOUND, "vdz" },
    };

    for (unsigned i = 0; i < G_N_ELEMENTS(cases); i++) {
        g_autoptr(GError) error = NULL;
        g_assert_null(begin_remove_of(f, cases[i].ids, cases[i].disk, &error));
        g_assert_error(error, ERR, cases[i].wanted);
        g_assert_nonnull(strstr(error->message, cases[i].text));
    }
    ASSERT_EVENTS(f, "1"); /* a mistake is no news */
}

static void
set_vm(Fixture *f, VmState state, const char *busy, const char *used_by)
{
    WITH_LOCK(&f->agent->lock);
    Disk *disk = vm_disk(f->agent->vm, "vda");
    Volume *base = disk->volumes->pdata[0];

    f->agent->vm->state = state;
    g_free(disk->busy);
    disk->busy = g_strdup(busy);
    g_free(base->used_by);
    base->used_by = g_strdup(used_by);
}

/* What the agent says of a plan: its refusals are the door's. */
static void
test_agent_refuses_to_plan(Fixture *f, gconstpointer data)
{
    static const struct {
        const char *code;
        int wanted; /* of the door */
    } cases[] = {
        { "refused", ERR_REFUSED },
        { "no-space", ERR_NO_SPACE },
        { "corrupt", ERR_CORRUPT },
        { "unsupported", ERR_UNSUPPORTED },
    };
    const char *ids[] = { S(1), NULL };

    for (unsigned i = 0; i < G_N_ELEMENTS(cases); i++) {
        g_autoptr(GError) error = NULL;
        f->agent->plan_code = cases[i].code;
        g_assert_null(begin_remove_of(f, ids, NULL, &error));
        g_assert_error(error, ERR, cases[i].wanted);
        g_assert_nonnull(strstr(error->message, "no plan today"));
    }
    f->agent->plan_code = NULL;
    ASSERT_EVENTS(f, "1 343 343 343 343");
}

/* A host that may answer later: the job begins, waits and says for what, and plans then. */
static void
test_plan_comes_later(Fixture *f, gconstpointer data)
{
    int64_t until = g_get_monotonic_time() + PATIENCE_MS * 1000;
    g_autofree char *job = NULL;
    g_autoptr(json_t) doc = NULL;

    f->agent->plan_code = "storage";
    job = begin_remove(f, S(1), S(3));
    do {
        g_clear_pointer(&doc, json_decref);
        doc = job_document(f, job);
        g_assert_cmpint(g_get_monotonic_time(), <, until);
    } while (json_text(doc, "waiting_for") == NULL);
    g_assert_cmpstr(json_text(doc, "waiting_for"), ==, "no plan today");
    f->agent->plan_code = NULL;
    g_clear_pointer(&doc, json_decref);
    doc = wait_for_end(f, job);
    g_assert_cmpstr(json_text(doc, "status"), ==, "finished");
    assert_log_has(f, "merge", 4);
}

/* No answer at all within the door's patience. */
static void
test_slow_host(Fixture *f, gconstpointer data)
{
    int64_t begin = g_get_monotonic_time();
    g_autofree char *job = NULL;
    g_autoptr(json_t) doc = NULL;

    f->agent->plan_slow = true;
    job = begin_remove(f, S(1), NULL);
    g_assert_cmpint(g_get_monotonic_time() - begin, <, 10 * G_TIME_SPAN_SECOND);
    g_mutex_lock(&f->agent->lock);
    f->agent->plan_slow = false;
    g_mutex_unlock(&f->agent->lock);
    doc = wait_for_end(f, job);
    g_assert_cmpstr(json_text(doc, "status"), ==, "finished");
}

static bool
ask_plan(Fixture *f, const char *const *ids, const char *disk, Strategy strategy, json_t **ret_plan,
         GError **error)
{
    SnapshotsRemove what = {
        .vm_id = FAKE_VM, .snapshot_ids = ids, .disk = disk, .strategy = strategy, .user = "admin"
    };

    return manager_plan(f->manager, &what, ret_plan, error);
}

/* It shows what is in the way, and leaves nothing behind. */
static void
test_dry_run(Fixture *f, gconstpointer data)
{
    static const struct {
        const char *ids[3];
        const char *disk;
        Strategy strategy;
        const char *used_by;
        unsigned runs;
        const char *why; /* NULL = possible */
    } cases[] = {
        { { S(1) }, NULL, STRATEGY_AUTO, NULL, 2, NULL },
        { { S(1), S(3) }, NULL, STRATEGY_AUTO, NULL, 4, NULL },
        { { S(1), S(3) }, "vdb", STRATEGY_AUTO, NULL, 2, NULL },
        { { S(1), S(3) }, "vda", STRATEGY_COPY, NULL, 1, NULL }, /* all of the disk in one */
        { { S(0) }, "vda", STRATEGY_COMMIT, "VM web2", 1, "VM web2" },
        { { S(0) }, "vda", STRATEGY_COLD_COMMIT, NULL, 1, "vda" },
    };
    g_autoptr(json_t) jobs = NULL;

    for (unsigned i = 0; i < G_N_ELEMENTS(cases); i++) {
        g_autoptr(json_t) plan = NULL;
        g_autoptr(GError) error = NULL;
        set_vm(f, VM_UP, NULL, cases[i].used_by);
        g_assert_true(ask_plan(f, cases[i].ids, cases[i].disk, cases[i].strategy, &plan, &error));
        g_assert_no_error(error);
        g_assert_cmpuint(json_array_size(json_object_get(plan, "runs")), ==, cases[i].runs);
        g_assert_cmpint(json_flag(plan, "possible"), ==, cases[i].why == NULL);
        if (cases[i].why != NULL && strstr(json_text(plan, "why"), cases[i].why) == NULL)
            g_error("%s does not name %s", json_text(plan, "why"), cases[i].why);
    }
    jobs = manager_jobs(f->manager, false, NULL);
    g_assert_cmpuint(json_array_size(jobs), ==, 0);
    g_assert_cmpuint(f->agent->begun, ==, 0);
    ASSERT_EVENTS(f, "1");
}

static void
test_dry_run_is_refused(Fixture *f, gconstpointer data)
{
    static const struct {
        const char *ids[3];
        const char *disk, *code;
        int wanted;
    } cases[] = {
        { { NULL }, NULL, NULL, ERR_INVALID },       { { S(1), S(1) }, NULL, NULL, ERR_INVALID },
        { { "nobody" }, NULL, NULL, ERR_NOT_FOUND }, { { S(1) }, "vdz", NULL, ERR_NOT_FOUND },
        { { S(1) }, NULL, "storage", ERR_STORAGE },  { { S(1) }, NULL, "refused", ERR_REFUSED },
    };
    const char *ids[] = { S(1), NULL };
    g_autoptr(GError) held = NULL, down = NULL;
    g_autofree char *job = NULL;
    json_t *plan = NULL;

    for (unsigned i = 0; i < G_N_ELEMENTS(cases); i++) {
        g_autoptr(GError) error = NULL;
        f->agent->plan_code = cases[i].code;
        g_assert_false(ask_plan(f, cases[i].ids, cases[i].disk, STRATEGY_AUTO, &plan, &error));
        g_assert_error(error, ERR, cases[i].wanted);
    }
    f->agent->plan_code = NULL;
    ASSERT_EVENTS(f, "1");
    f->agent->hold = "merge";
    job = begin_remove(f, S(3), NULL);
    g_assert_false(ask_plan(f, ids, NULL, STRATEGY_AUTO, &plan, &held));
    g_assert_error(held, ERR, ERR_BUSY);
    wait_for_begun(f, 2);
    fake_finish_held(f->agent);
    json_decref(wait_for_end(f, job));
    fake_stop(f->agent);
    wait_for_host(f, false);
    g_assert_false(ask_plan(f, ids, NULL, STRATEGY_AUTO, &plan, &down));
    g_assert_error(down, ERR, ERR_UNREACHABLE);
}

/* Strategies of a whole disk: one run, all of its volumes give way, what others stand on stays. */
static void
test_whole_disk(Fixture *f, gconstpointer data)
{
    const char *ids[] = { S(0), S(2), NULL };
    g_autoptr(GError) error = NULL;
    g_autofree char *job = NULL;
    g_autoptr(json_t) doc = NULL;

    set_vm(f, VM_UP, NULL, "VM web2"); /* on vda-0 */
    job = begin_remove_by(f, ids, "vda", STRATEGY_COPY, &error);
    g_assert_no_error(error);
    doc = wait_for_end(f, job);
    g_assert_cmpstr(json_text(doc, "error"), ==, NULL);
    assert_log_has(f, "merge vda vda-0..vda-4;", 1);
    assert_log_has(f, "merge", 1);
    g_assert_cmpuint(json_array_size(json_object_get(doc, "disks")), ==, 1);
    g_assert_cmpuint(json_array_size(json_object_get(doc, "steps")), ==, 1);
}

static void
assert_numbers(const json_t *of, const char *const *keys)
{
    for (; *keys != NULL; keys++)
        if (!json_is_number(json_object_get(of, *keys)))
            g_error("'%s' is not there: %s", *keys, json_dumps(of, JSON_INDENT(1)));
}

/* Side by side, summed over the runs of a disk. */
static void
test_plan_and_outcome(Fixture *f, gconstpointer data)
{
    static const char *const planned[] = { "bytes_read", "bytes_written",
                                           "space_peak", "space_freed",
                                           "seconds",    "pauses",
                                           "pause_ms",   NULL };
    g_autofree char *job = NULL;
    g_autoptr(json_t) running = NULL, doc = NULL;
    const json_t *disk, *plan, *outcome;

    f->agent->hold = "merge";
    job = begin_remove(f, S(1), S(3));
    wait_for_copying(f, job);
    running = job_document(f, job);
    disk = json_array_get(json_object_get(running, "disks"), 0);
    assert_numbers(json_object_get(disk, "plan"), planned);
    g_assert_null(json_object_get(disk, "outcome"));

    fake_finish_held(f->agent);
    doc = wait_for_end(f, job);
    disk = json_array_get(json_object_get(doc, "disks"), 0);
    plan = json_object_get(disk, "plan");
    outcome = json_object_get(disk, "outcome");
    assert_numbers(plan, planned);
    g_assert_cmpstr(json_text(plan, "strategy"), ==, "commit, commit-active");
    g_assert_cmpint(json_number(plan, "pauses"), ==, 1);
    g_assert_cmpstr(json_text(outcome, "strategy"), ==, "commit, commit-active");
    g_assert_cmpint(json_number(outcome, "bytes_copied"), ==, 2000);
    g_assert_cmpint(json_number(outcome, "bytes_written"), ==, 2200);
    g_assert_cmpint(json_number(outcome, "pauses"), ==, 2);
    g_assert_cmpfloat(json_number_value(json_object_get(outcome, "pause_ms")), ==, 20);
    g_assert_cmpfloat(json_number_value(json_object_get(outcome, "seconds")), ==, 1.0);
    g_assert_cmpstr(json_text(outcome, "verified"), ==, "none");
    g_assert_null(json_object_get(outcome, "space_freed")); /* the agent does not tell */
}

/* A merge that the user slows down is planned as slow as that: the outcome is held against it. */
static void
test_plan_under_a_limit(Fixture *f, gconstpointer data)
{
    const char *ids[] = { S(1), NULL };
    SnapshotsRemove what = { .vm_id = FAKE_VM,
                             .snapshot_ids = ids,
                             .strategy = STRATEGY_AUTO,
                             .verify = VERIFY_NONE,
                             .correlation_id = "corr",
                             .user = "admin" };
    g_autoptr(GError) error = NULL;
    g_autoptr(json_t) free_plan = NULL, plan = NULL, doc = NULL;

    g_assert_true(manager_plan(f->manager, &what, &free_plan, &error));
    const json_t *run = json_array_get(json_object_get(free_plan, "runs"), 0);
    double seconds = json_number_value(json_object_get(run, "seconds"));
    int64_t bytes = json_number(run, "bytes_written");
    g_assert_cmpint(bytes, >, 0);
    what.bandwidth = MAX((uint64_t)((double)bytes / (seconds + 1000)), 1);
    double least = (double)bytes / (double)what.bandwidth;
    g_assert_true(manager_plan(f->manager, &what, &plan, &error));
    run = json_array_get(json_object_get(plan, "runs"), 0);
    g_assert_cmpfloat(json_number_value(json_object_get(run, "seconds")), ==, least);
    g_assert_cmpfloat(
        json_number_value(json_object_get(json_object_get(plan, "totals"), "seconds")), >=, least);
    g_autofree char *job = manager_snapshots_remove(f->manager, &what, &error);
    g_assert_no_error(error);
    doc = wait_for_end(f, job);
    const json_t *disk = json_array_get(json_object_get(doc, "disks"), 0);
    g_assert_cmpfloat(json_number_value(json_object_get(json_object_get(disk, "plan"), "seconds")),
                      >=, least);
}

/* ---- attention ---- */

/* Some changes have no event: the door looks, for what it refuses and for what it lets through. */
static void
test_door_looks(Fixture *f, gconstpointer data)
{
    static const struct {
        VmState state;
        const char *busy, *used_by, *text;
        bool also_create;
        Strategy strategy;
    } cases[] = {
        { VM_SUSPENDED, NULL, NULL, "suspended", true },
        { VM_UP, "a block job (copy)", NULL, "blockjob web1 vda --abort", true },
        { VM_UP, NULL, "file /dom/clone.qcow2", "/dom/clone.qcow2", false, STRATEGY_COMMIT },
    };
    const char *ids[] = { S(0), NULL };
    g_autofree char *job = NULL;

    for (unsigned i = 0; i < G_N_ELEMENTS(cases); i++) {
        g_autoptr(GError) removing = NULL, creating = NULL;
        set_vm(f, cases[i].state, cases[i].busy, cases[i].used_by);
        g_assert_null(begin_remove_by(f, ids, NULL, cases[i].strategy, &removing));
        g_assert_error(removing, ERR, ERR_REFUSED);
        g_assert_nonnull(strstr(removing->message, cases[i].text));
        if (!cases[i].also_create)
            continue;
        g_assert_null(begin_create(f, "x", &creating));
        g_assert_error(creating, ERR, ERR_REFUSED);
        g_assert_nonnull(strstr(creating->message, cases[i].text));
    }
    set_vm(f, VM_UP, NULL, NULL);
    job = begin_remove(f, S(0), NULL);
    json_decref(wait_for_end(f, job));
}

static void
test_refused_creations(Fixture *f, gconstpointer data)
{
    static const char *const two[] = { "vda", "d0", NULL }, *const unknown[] = { "vdz", NULL };
    static const struct {
        SnapshotCreate what;
        int wanted;
    } cases[] = {
        { { .vm_id = "nobody", .name = "x" }, ERR_NOT_FOUND },
        { { .vm_id = FAKE_VM, .name = "" }, ERR_INVALID },
        { { .vm_id = FAKE_VM, .name = "x", .quiesce = "maybe" }, ERR_INVALID },
        { { .vm_id = FAKE_VM, .name = "x", .disks = two }, ERR_INVALID },
        { { .vm_id = FAKE_VM, .name = "x", .disks = unknown }, ERR_NOT_FOUND },
        { { .vm_id = FAKE_VM, .name = "x", .snapshot_id = "y" }, ERR_INVALID },
        { { .vm_id = FAKE_VM, .name = "x", .snapshot_id = S(1) }, ERR_EXISTS },
    };

    for (unsigned i = 0; i < G_N_ELEMENTS(cases); i++) {
        g_autoptr(GError) error = NULL;
        g_assert_null(manager_snapshot_create(f->manager, &cases[i].what, NULL, &error));
        g_assert_error(error, ERR, cases[i].wanted);
    }
}

#define ADD(name, function) g_test_add(name, Fixture, NULL, set_up, function, tear_down)

int
main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    ADD("/flow/refused-removals", test_refused_removals);
    ADD("/flow/refused-creations", test_refused_creations);
    ADD("/flow/door-looks", test_door_looks);
    ADD("/flow/agent-refuses-to-plan", test_agent_refuses_to_plan);
    ADD("/flow/plan-comes-later", test_plan_comes_later);
    ADD("/flow/slow-host", test_slow_host);
    ADD("/flow/dry-run", test_dry_run);
    ADD("/flow/dry-run-is-refused", test_dry_run_is_refused);
    ADD("/flow/whole-disk", test_whole_disk);
    ADD("/flow/plan-and-outcome", test_plan_and_outcome);
    ADD("/flow/plan-under-a-limit", test_plan_under_a_limit);
    return g_test_run();
}
