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

    f->agent->hold = "snapshot-create";
    job = begin_create(f, "before the upgrade", &error);
    g_assert_no_error(error);
    g_assert_true(manager_snapshot_locked(f->manager, FAKE_VM, S(9)));
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

static char *
create_alone(Fixture *f, bool memory, const char *quiesce, GError **error)
{
    static const char *const none[] = { NULL };
    SnapshotCreate what = { .vm_id = FAKE_VM,
                            .name = "alone",
                            .user = "admin",
                            .disks = none,
                            .memory = memory,
                            .quiesce = quiesce,
                            .snapshot_id = S(9) };

    return manager_snapshot_create(f->manager, &what, NULL, error);
}

/* No disk is not the same as all: so the agent is asked, and a delete of it merges nothing, but for
 * the others that go with it. */
static void
test_create_config_only(Fixture *f, gconstpointer data)
{
    const char *ids[] = { S(9), NULL };
    g_autoptr(GError) error = NULL;

    g_assert_null(create_alone(f, true, "no", &error));
    g_assert_error(error, ERR, ERR_INVALID);
    g_assert_nonnull(strstr(error->message, "memory"));
    g_clear_error(&error);
    g_assert_null(create_alone(f, false, "require", &error));
    g_assert_error(error, ERR, ERR_INVALID);
    g_assert_nonnull(strstr(error->message, "quiesce"));
    g_clear_error(&error);
    g_autofree char *job = create_alone(f, false, NULL, &error);
    g_assert_no_error(error);
    g_autoptr(json_t) doc = wait_for_end(f, job);
    g_assert_cmpstr(json_text(doc, "status"), ==, "finished");
    assert_log_has(f, "create alone without disks;", 1);
    g_autoptr(Vm) vm = manager_vm(f->manager, FAKE_VM, NULL);
    g_assert_true(snapshot_is_config_only(vm_snapshot(vm, S(9))));

    g_assert_null(begin_remove_of(f, ids, "vda", &error));
    g_assert_error(error, ERR, ERR_INVALID);
    g_assert_nonnull(strstr(error->message, "nothing of disk vda"));
    g_autofree char *gone = begin_remove(f, S(9), S(1));
    g_autoptr(json_t) end = wait_for_end(f, gone);
    g_assert_cmpstr(json_text(end, "status"), ==, "finished");
    assert_log_has(f, "forget alone;", 1);
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

/* ---- attention ---- */

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
    ADD("/flow/create-config-only", test_create_config_only);
    ADD("/flow/rename", test_rename);
    ADD("/flow/remove", test_remove);
    ADD("/flow/remove-from-one-disk", test_remove_from_one_disk);
    ADD("/flow/one-disk-fails", test_one_disk_fails);
    ADD("/flow/cancel", test_cancel);
    ADD("/flow/cancel-survives-restart", test_cancel_survives_restart);
    ADD("/flow/progress", test_progress);
    ADD("/flow/mismatch", test_mismatch);
    ADD("/flow/one-job-a-vm", test_one_job_a_vm);
    ADD("/flow/jobs-list", test_jobs_list);
    ADD("/flow/last-event", test_last_event);
    return g_test_run();
}
