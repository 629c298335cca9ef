/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * The manager's core against an agent without a hypervisor (fake_agent.h), over the real wire.
 */
#include "flow_fixture.h"

static void
test_tables_are_sound(void)
{
    for (const FlowKind *kind = flow_kinds; kind->name != NULL; kind++) {
        g_autoptr(GError) error = NULL;

        steps_check(kind->steps, &error);
        g_assert_no_error(error);
        for (int i = 0; kind->cancel_steps != NULL && kind->cancel_steps[i] != NULL; i++) {
            bool found = false;
            for (const Step *step = kind->steps; step->name != NULL; step++)
                found = found || g_str_equal(step->name, kind->cancel_steps[i]);
            if (!found)
                g_error("%s can be cancelled at unknown step %s", kind->name,
                        kind->cancel_steps[i]);
        }
    }
}

static void
test_inventory(Fixture *f, gconstpointer data)
{
    g_autoptr(GError) error = NULL;
    g_autoptr(GPtrArray) vms = manager_vms(f->manager), hosts = manager_hosts(f->manager);
    g_autoptr(Vm) vm = manager_vm(f->manager, "web1", &error);
    const HostInfo *info = hosts->pdata[0];

    g_assert_no_error(error);
    g_assert_cmpuint(vms->len, ==, 1);
    g_assert_cmpstr(vm->id, ==, FAKE_VM);
    g_assert_cmpstr(vm->host, ==, "host1");
    g_assert_cmpint(vm->state, ==, VM_UP);
    g_assert_cmpstr(info->id, ==, "99999999-9999-4999-8999-999999999999");
    g_assert_true(info->connected);
    g_assert_null(info->problem);
    g_assert_null(manager_vm(f->manager, "web2", &error));
    g_assert_error(error, ERR, ERR_NOT_FOUND);
    ASSERT_EVENTS(f, "1");
}

static void
test_unknown_while_host_is_down(Fixture *f, gconstpointer data)
{
    g_autoptr(Vm) vm = NULL, later = NULL;
    g_autoptr(GError) error = NULL;

    fake_stop(f->agent);
    wait_for_host(f, false);
    vm = manager_vm(f->manager, FAKE_VM, NULL);
    g_assert_cmpint(vm->state, ==, VM_UNKNOWN);
    g_assert_null(begin_create(f, "x", &error));
    g_assert_error(error, ERR, ERR_UNREACHABLE);
    g_assert_nonnull(strstr(error->message, "host1"));

    restart_manager(f); /* the VM is known from the database */
    later = manager_vm(f->manager, FAKE_VM, NULL);
    g_assert_cmpint(later->state, ==, VM_UNKNOWN);
    g_assert_cmpuint(later->snapshots->len, ==, 4);

    fake_start(f->agent);
    wait_for_host(f, true);
    g_clear_pointer(&later, vm_free);
    later = manager_vm(f->manager, FAKE_VM, NULL);
    g_assert_cmpint(later->state, ==, VM_UP);
}

static void
test_vm_goes_away(Fixture *f, gconstpointer data)
{
    int64_t until = g_get_monotonic_time() + PATIENCE_MS * 1000;

    g_mutex_lock(&f->agent->lock);
    g_clear_pointer(&f->agent->vm, vm_free);
    fake_say(f->agent, json_pack("{s:s, s:s}", "event", "vm", "vm_id", FAKE_VM));
    g_mutex_unlock(&f->agent->lock);
    for (;;) {
        g_autoptr(Vm) vm = manager_vm(f->manager, FAKE_VM, NULL);
        if (vm == NULL)
            break;
        g_assert_cmpint(g_get_monotonic_time(), <, until);
        g_usleep(1000);
    }
}

static void
test_create(Fixture *f, gconstpointer data)
{
    g_autoptr(GError) error = NULL;
    g_autofree char *job = NULL;
    g_autoptr(json_t) doc = NULL;
    g_autoptr(Vm) vm = NULL;
    g_autoptr(GPtrArray) creating = NULL;

    f->agent->hold = "snapshot-create";
    job = begin_create(f, "before the upgrade", &error);
    g_assert_no_error(error);
    g_assert_true(manager_snapshot_locked(f->manager, FAKE_VM, S(9)));
    creating = manager_snapshots_creating(f->manager, FAKE_VM);
    g_assert_cmpuint(creating->len, ==, 1);
    g_assert_cmpstr(((Snapshot *)creating->pdata[0])->name, ==, "before the upgrade");
    wait_for_begun(f, 1);
    int64_t begin = g_get_monotonic_time();
    g_assert_cmpuint(fake_finish_held(f->agent), ==, 1);
    doc = wait_for_end(f, job);
    g_test_message("from the agent's event to the ended job: %d us",
                   (int)(g_get_monotonic_time() - begin));

    g_assert_cmpstr(json_text(doc, "status"), ==, "finished");
    g_assert_cmpstr(json_text(doc, "kind"), ==, "create-snapshot");
    g_assert_cmpint(json_number(json_object_get(doc, "progress"), "percent"), ==, 100);
    g_assert_cmpint(json_number(doc, "end_time"), >=, json_number(doc, "start_time"));
    g_assert_true(json_flag(json_object_get(doc, "result"), "quiesced"));
    g_assert_cmpuint(json_array_size(json_object_get(doc, "steps")), ==, 1);
    /* whoever sees the end finds the list fresh and the snapshot free */
    vm = manager_vm(f->manager, FAKE_VM, NULL);
    g_assert_nonnull(vm_snapshot(vm, S(9)));
    g_assert_false(manager_snapshot_locked(f->manager, FAKE_VM, S(9)));
    wait_for_acknowledged(f);
    ASSERT_EVENTS(f, "1 45 68");
    ASSERT_EVENT_TEXT(f, 45,
                      "Snapshot 'before the upgrade' creation for VM 'web1' was initiated by "
                      "admin.");
    ASSERT_EVENT_TEXT(f, 68,
                      "Snapshot 'before the upgrade' creation for VM 'web1' has been completed.");
}

static void
test_rename(Fixture *f, gconstpointer data)
{
    g_autoptr(GError) error = NULL;
    g_autofree char *job =
        manager_snapshot_rename(f->manager, FAKE_VM, S(1), "new", NULL, NULL, &error);
    g_autoptr(json_t) doc = NULL;
    g_autoptr(Vm) vm = NULL;

    g_assert_no_error(error);
    doc = wait_for_end(f, job);
    g_assert_cmpstr(json_text(doc, "status"), ==, "finished");
    vm = manager_vm(f->manager, FAKE_VM, NULL);
    g_assert_cmpstr(vm_snapshot(vm, S(1))->name, ==, "new");
    assert_log_has(f, "rename s1;", 1);
}

/* s1 is in the middle, s3 below the leaf: two runs on each of two disks. */
static void
test_remove(Fixture *f, gconstpointer data)
{
    g_autofree char *job = begin_remove(f, S(1), S(3));
    g_autoptr(json_t) doc = wait_for_end(f, job);
    const json_t *disk = json_array_get(json_object_get(doc, "disks"), 0);
    g_autoptr(Vm) vm = manager_vm(f->manager, FAKE_VM, NULL);

    g_assert_cmpstr(json_text(doc, "error"), ==, NULL);
    g_assert_cmpstr(json_text(doc, "status"), ==, "finished");
    assert_log_has(f, "merge vda vda-1..vda-2;", 1);
    assert_log_has(f, "merge vda vda-3..vda-4;", 1);
    assert_log_has(f, "merge vdb vdb-1..vdb-2;", 1);
    assert_log_has(f, "merge vdb vdb-3..vdb-4;", 1);
    assert_log_has(f, "delete vda /vda-2.qcow2;", 1);
    assert_log_has(f, "delete vda /vda-4.qcow2;", 1);
    assert_log_has(f, "merge", 4);
    assert_log_has(f, "delete", 4);
    assert_log_has(f, "forget s1;forget s3;", 1);
    g_assert_cmpuint(vm->snapshots->len, ==, 2);
    g_assert_cmpuint(vm_disk(vm, "vda")->volumes->len, ==, 3);
    wait_for_acknowledged(f);

    g_assert_cmpuint(json_array_size(json_object_get(doc, "disks")), ==, 2);
    g_assert_cmpuint(json_array_size(json_object_get(doc, "steps")), ==, 4);
    g_assert_cmpstr(json_text(disk, "name"), ==, "vda");
    g_assert_cmpstr(json_text(disk, "status"), ==, "finished");
    g_assert_cmpstr(json_text(disk, "strategy"), ==, "commit, commit-active");
    g_assert_cmpint(json_number(disk, "bytes_copied"), ==, 2000);
    g_assert_cmpuint(json_array_size(json_object_get(disk, "pauses")), ==, 2);
    g_assert_cmpuint(json_array_size(json_object_get(disk, "volumes_removed")), ==, 2);
    g_assert_cmpfloat(json_number_value(json_object_get(disk, "seconds")), ==, 1.0);
    ASSERT_EVENTS(f, "1 342 356");
    ASSERT_EVENT_TEXT(f, 356, "Snapshot 's1', 's3' deletion for VM 'web1' has been completed.");
}

/* Of one disk: the snapshot keeps the other one and stays. */
static void
test_remove_from_one_disk(Fixture *f, gconstpointer data)
{
    const char *ids[] = { S(1), NULL };
    g_autoptr(GError) error = NULL;
    g_autofree char *job = begin_remove_of(f, ids, "vdb", &error);
    g_autoptr(json_t) doc = NULL;
    g_autoptr(Vm) vm = NULL;

    g_assert_no_error(error);
    doc = wait_for_end(f, job);
    g_assert_cmpstr(json_text(doc, "status"), ==, "finished");
    assert_log_has(f, "merge", 1);
    assert_log_has(f, "forget", 0);
    vm = manager_vm(f->manager, FAKE_VM, NULL);
    g_assert_nonnull(vm_snapshot(vm, S(1)));
    g_assert_cmpuint(vm_snapshot(vm, S(1))->disks->len, ==, 1);
}

static void
test_one_disk_fails(Fixture *f, gconstpointer data)
{
    g_autofree char *job = NULL, *again = NULL, *text = NULL;
    g_autoptr(json_t) doc = NULL, retried = NULL;
    g_autoptr(Vm) vm = NULL;

    f->agent->fail_disk = "vdb";
    job = begin_remove(f, S(1), S(3));
    doc = wait_for_end(f, job);
    g_assert_cmpstr(json_text(doc, "status"), ==, "failed");
    g_assert_cmpstr(json_text(doc, "error_code"), ==, "storage");
    g_assert_nonnull(strstr(json_text(doc, "error"), "disk vdb: input/output error"));
    g_assert_nonnull(strstr(json_text(doc, "error"), "delete it again to retry"));
    assert_log_has(f, "merge vda", 2); /* a disk that fails does not stop the other one */
    assert_log_has(f, "forget", 0);
    g_assert_cmpstr(json_text(json_array_get(json_object_get(doc, "disks"), 0), "status"), ==,
                    "finished");
    g_assert_cmpstr(json_text(json_array_get(json_object_get(doc, "disks"), 1), "status"), ==,
                    "failed");
    vm = manager_vm(f->manager, FAKE_VM, NULL);
    g_assert_cmpuint(vm_snapshot(vm, S(1))->disks->len, ==, 1);
    g_assert_false(manager_snapshot_locked(f->manager, FAKE_VM, S(1)));
    ASSERT_EVENTS(f, "1 342 359");
    text = event_text(f, 359);
    g_assert_nonnull(strstr(text, "Due to partial snapshot removal"));

    f->agent->fail_disk = NULL;
    again = begin_remove(f, S(1), S(3));
    retried = wait_for_end(f, again);
    g_assert_cmpstr(json_text(retried, "status"), ==, "finished");
    assert_log_has(f, "merge vda", 2);
    assert_log_has(f, "merge vdb", 2);
    assert_log_has(f, "forget", 2);
}

static void
test_create_fails(Fixture *f, gconstpointer data)
{
    g_autofree char *job = NULL;
    g_autoptr(json_t) doc = NULL;

    f->agent->refuse = true;
    job = begin_create(f, "x", NULL);
    doc = wait_for_end(f, job);
    g_assert_cmpstr(json_text(doc, "status"), ==, "failed");
    g_assert_cmpstr(json_text(doc, "error"), ==, "the volume is used by somebody else");
    ASSERT_EVENTS(f, "1 45 69");
}

static void
test_cancel(Fixture *f, gconstpointer data)
{
    g_autoptr(GError) error = NULL;
    g_autofree char *job = NULL;
    g_autoptr(json_t) doc = NULL;

    f->agent->hold = "merge";
    job = begin_remove(f, S(1), S(3));
    wait_for_begun(f, 2);
    g_assert_true(manager_job_cancel(f->manager, job, &error));
    doc = wait_for_end(f, job);
    g_assert_cmpstr(json_text(doc, "status"), ==, "aborted");
    assert_log_has(f, "merge", 0);
    g_assert_cmpuint(f->agent->cancels, >=, 2);
    g_assert_cmpuint(f->agent->begun, ==, 2); /* the upper runs never began */
    wait_for_acknowledged(f);
    g_assert_false(manager_job_cancel(f->manager, job, &error));
    g_assert_error(error, ERR, ERR_REFUSED);
}

/* The cancel is stored: a manager that dies before it could forward it does not forget. */
static void
test_cancel_survives_restart(Fixture *f, gconstpointer data)
{
    g_autofree char *job = NULL;
    g_autoptr(json_t) doc = NULL;

    f->agent->hold = "merge";
    job = begin_remove(f, S(1), NULL);
    wait_for_begun(f, 2);
    fake_stop(f->agent);
    wait_for_host(f, false);
    g_assert_true(manager_job_cancel(f->manager, job, NULL));
    restart_manager(f);
    fake_start(f->agent);
    doc = wait_for_end(f, job);
    g_assert_cmpstr(json_text(doc, "status"), ==, "aborted");
}

static void
test_progress(Fixture *f, gconstpointer data)
{
    g_autofree char *job = NULL;
    g_autoptr(json_t) doc = NULL;
    const json_t *progress;
    int64_t until = g_get_monotonic_time() + PATIENCE_MS * 1000;

    f->agent->hold = "merge";
    job = begin_remove(f, S(1), NULL);
    wait_for_begun(f, 2);
    g_mutex_lock(&f->agent->lock);
    for (guint i = 0; i < 2; i++) {
        FakeOperation *op = f->agent->operations->pdata[i];
        op->bytes_done = 250 + 250 * i;
        fake_say(f->agent, json_pack("{s:s, s:o}", "event", "operation", "operation",
                                     fake_operation_json(op)));
    }
    g_mutex_unlock(&f->agent->lock);
    do {
        int64_t rev = doc != NULL ? json_number(doc, "rev") : 0;
        g_clear_pointer(&doc, json_decref);
        doc = manager_job_wait(f->manager, job, rev, 0, 1000, NULL);
        progress = json_object_get(doc, "progress");
        g_assert_cmpint(g_get_monotonic_time(), <, until);
    } while (json_number(progress, "bytes_done") != 750);
    g_assert_cmpint(json_number(progress, "bytes_total"), ==, 2000);
    g_assert_cmpint(json_number(progress, "percent"), ==, 37);
    g_assert_cmpint(json_number(progress, "rate"), ==, 20); /* summed */
    g_assert_cmpint(json_number(progress, "eta"), ==, 5);   /* the longest */
    g_assert_cmpstr(json_text(json_array_get(json_object_get(doc, "disks"), 0), "phase"), ==,
                    "copying");
    fake_finish_held(f->agent);
    g_clear_pointer(&doc, json_decref);
    doc = wait_for_end(f, job);
    g_assert_cmpstr(json_text(doc, "status"), ==, "finished");
}

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

static char *
begin_paused(Fixture *f)
{
    char *job;

    f->agent->hold = "merge";
    job = begin_remove(f, S(1), NULL);
    wait_for_copying(f, job);
    fake_pause(f->agent, "2.0 GiB are missing on /dom");
    json_decref(wait_for_disk(f, job, "paused"));
    wait_for_event(f, EVENT_PAUSED, 2); /* one for each disk */
    return job;
}

static void
test_pause_and_resume(Fixture *f, gconstpointer data)
{
    g_autoptr(GError) error = NULL, again = NULL, ended = NULL;
    g_autofree char *job = begin_paused(f), *text = event_text(f, EVENT_PAUSED);
    g_autofree char *command = g_strdup_printf("livemerge job resume %s", job);
    g_autoptr(json_t) paused = job_document(f, job), doc = NULL;

    g_assert_cmpstr(json_text(paused, "status"), ==, "started");
    g_assert_cmpstr(json_text(paused, "attention"), ==, "2.0 GiB are missing on /dom");
    g_assert_nonnull(strstr(text, "VM 'web1'"));
    g_assert_nonnull(strstr(text, "at disk vd"));
    g_assert_nonnull(strstr(text, "2.0 GiB are missing on /dom"));
    g_assert_nonnull(strstr(text, command));

    g_assert_true(manager_job_resume(f->manager, job, &error));
    g_assert_no_error(error);
    g_assert_cmpuint(f->agent->resumes, ==, 2);
    json_decref(wait_for_disk(f, job, "started"));
    wait_for_event(f, EVENT_GOES_ON, 2);
    g_assert_false(manager_job_resume(f->manager, job, &again));
    g_assert_error(again, ERR, ERR_REFUSED);

    fake_pause(f->agent, "again"); /* that is news */
    wait_for_event(f, EVENT_PAUSED, 4);
    fake_pause(f->agent, "still"); /* that is none */
    fake_finish_held(f->agent);
    doc = wait_for_end(f, job);
    g_assert_cmpstr(json_text(doc, "status"), ==, "finished");
    g_assert_null(json_text(doc, "attention"));
    wait_for_event(f, EVENT_PAUSED, 4);
    wait_for_event(f, EVENT_GOES_ON, 4);
    g_assert_false(manager_job_resume(f->manager, job, &ended));
    g_assert_error(ended, ERR, ERR_REFUSED);
    g_assert_false(manager_job_resume(f->manager, "nobody", NULL));
}

static void
test_cancel_while_paused(Fixture *f, gconstpointer data)
{
    g_autofree char *job = begin_paused(f);
    g_autoptr(json_t) doc = NULL;

    g_assert_true(manager_job_cancel(f->manager, job, NULL));
    doc = wait_for_end(f, job);
    g_assert_cmpstr(json_text(doc, "status"), ==, "aborted");
    g_assert_cmpstr(json_text(json_array_get(json_object_get(doc, "disks"), 0), "status"), ==,
                    "aborted");
    wait_for_event(f, EVENT_GOES_ON, 0); /* it did not */
}

/* A manager that starts finds the pause, and has told of it already. */
static void
test_restart_while_paused(Fixture *f, gconstpointer data)
{
    g_autofree char *job = begin_paused(f);
    g_autoptr(json_t) doc = NULL;

    restart_manager(f);
    wait_for_host(f, true);
    json_decref(wait_for_disk(f, job, "paused"));
    wait_for_event(f, EVENT_PAUSED, 2);
    g_assert_true(manager_job_resume(f->manager, job, NULL));
    fake_finish_held(f->agent);
    doc = wait_for_end(f, job);
    g_assert_cmpstr(json_text(doc, "status"), ==, "finished");
    wait_for_event(f, EVENT_PAUSED, 2);
    wait_for_event(f, EVENT_GOES_ON, 2);
}

static void
test_mismatch(Fixture *f, gconstpointer data)
{
    g_autofree char *job = NULL, *text = NULL;
    g_autoptr(json_t) doc = NULL;

    f->agent->fail_disk = "vdb";
    f->agent->mismatch = true;
    job = begin_remove(f, S(1), NULL);
    doc = wait_for_end(f, job);
    g_assert_cmpstr(json_text(doc, "status"), ==, "failed");
    g_assert_cmpstr(json_text(doc, "error_code"), ==, "corrupt");
    text = event_text(f, EVENT_MISMATCH);
    g_assert_cmpstr(text, ==,
                    "The check of a merge found a difference. VM 'web1', disk vdb: block 7 "
                    "differs; all volumes are kept, the new one is at /quarantine/x");
    ASSERT_EVENTS(f, "1 342 30003 359");
}

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

static void
test_one_job_a_vm(Fixture *f, gconstpointer data)
{
    g_autoptr(GError) error = NULL;
    g_autofree char *job = NULL;
    g_autoptr(json_t) doc = NULL;

    f->agent->hold = "merge";
    job = begin_remove(f, S(1), NULL);
    g_assert_null(begin_create(f, "x", &error));
    g_assert_error(error, ERR, ERR_BUSY);
    g_assert_nonnull(strstr(error->message, job));
    wait_for_begun(f, 2);
    fake_finish_held(f->agent);
    doc = wait_for_end(f, job);
    ASSERT_EVENTS(f, "1 342 117 356");
}

static void
test_jobs_list(Fixture *f, gconstpointer data)
{
    g_autoptr(GError) error = NULL;
    g_autofree char *first = begin_create(f, "x", NULL), *second = NULL;
    g_autoptr(json_t) one = wait_for_end(f, first), two = NULL, jobs = NULL;

    second = begin_remove(f, S(1), NULL);
    two = wait_for_end(f, second);
    jobs = manager_jobs(f->manager, false, &error);
    g_assert_cmpuint(json_array_size(jobs), ==, 2);
    g_assert_cmpstr(json_text(json_array_get(jobs, 0), "id"), ==, second);
    g_assert_true(json_equal(json_array_get(jobs, 0), two));
    g_assert_true(json_equal(json_array_get(jobs, 1), one));
    g_assert_null(manager_job(f->manager, "nobody", &error));
    g_assert_error(error, ERR, ERR_NOT_FOUND);
}

static void
test_last_event(Fixture *f, gconstpointer data)
{
    g_autoptr(GPtrArray) rows = store_event_list(f->store, 0, 1, false, NULL);
    int64_t newest = ((EventRow *)rows->pdata[0])->id;

    g_assert_cmpint(manager_last_event(f->manager), ==, newest);
    manager_event(f->manager, 30, "normal", NULL, NULL, NULL, NULL, "admin", "User %s logged in.",
                  "admin");
    g_assert_cmpint(manager_last_event(f->manager), >, newest);
}

#define ADD(name, function) g_test_add(name, Fixture, NULL, set_up, function, tear_down)

int
main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/flow/tables-are-sound", test_tables_are_sound);
    ADD("/flow/inventory", test_inventory);
    ADD("/flow/unknown-while-host-is-down", test_unknown_while_host_is_down);
    ADD("/flow/vm-goes-away", test_vm_goes_away);
    ADD("/flow/create", test_create);
    ADD("/flow/create-fails", test_create_fails);
    ADD("/flow/rename", test_rename);
    ADD("/flow/remove", test_remove);
    ADD("/flow/remove-from-one-disk", test_remove_from_one_disk);
    ADD("/flow/one-disk-fails", test_one_disk_fails);
    ADD("/flow/cancel", test_cancel);
    ADD("/flow/cancel-survives-restart", test_cancel_survives_restart);
    ADD("/flow/progress", test_progress);
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
    ADD("/flow/pause-and-resume", test_pause_and_resume);
    ADD("/flow/cancel-while-paused", test_cancel_while_paused);
    ADD("/flow/restart-while-paused", test_restart_while_paused);
    ADD("/flow/mismatch", test_mismatch);
    ADD("/flow/one-job-a-vm", test_one_job_a_vm);
    ADD("/flow/jobs-list", test_jobs_list);
    ADD("/flow/last-event", test_last_event);
    return g_test_run();
}
