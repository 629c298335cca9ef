/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * Tests of src/flow/power.c: what a VM shows meanwhile, what goes beside a merge and what does not,
 * and how a shutdown waits for its guest without holding the VM.
 */
#include "flow_fixture.h"

static void
set_up_down(Fixture *f, gconstpointer data)
{
    set_up_quiet(f, data);
    f->agent->vm->state = VM_DOWN;
    g_clear_pointer(&f->agent->vm->instance, g_free);
    start_manager(f);
    wait_for_host(f, true);
}

static char *
begin_power(Fixture *f, Verb verb, GError **error)
{
    VmPower what = { .vm_id = FAKE_VM, .verb = verb, .correlation_id = "corr", .user = "admin" };

    return manager_vm_power(f->manager, &what, error);
}

static void
assert_status(Fixture *f, const char *wanted)
{
    g_autoptr(Vm) vm = manager_vm(f->manager, FAKE_VM, NULL);
    g_autofree char *status = manager_vm_status(f->manager, vm);

    g_assert_cmpstr(status, ==, wanted);
}

/* Waits until the VM shows this. */
static void
wait_for_status(Fixture *f, const char *wanted)
{
    int64_t until = g_get_monotonic_time() + PATIENCE_MS * 1000;

    for (;;) {
        g_autoptr(Vm) vm = manager_vm(f->manager, FAKE_VM, NULL);
        g_autofree char *status = manager_vm_status(f->manager, vm);
        if (g_str_equal(status, wanted))
            return;
        if (g_get_monotonic_time() > until)
            g_error("the VM is not %s but %s", wanted, status);
        g_usleep(1000);
    }
}

static void
turn_off(Fixture *f)
{
    WITH_LOCK(&f->agent->lock);

    f->agent->vm->state = VM_DOWN;
    g_clear_pointer(&f->agent->vm->instance, g_free);
    fake_say(f->agent, json_pack("{s:s, s:s}", "event", "vm", "vm_id", FAKE_VM));
}

static void
end_well(Fixture *f, const char *job)
{
    g_autoptr(json_t) doc = wait_for_end(f, job);

    g_assert_cmpstr(json_text(doc, "status"), ==, "finished");
}

static void
test_start(Fixture *f, gconstpointer data)
{
    g_autoptr(GError) error = NULL;
    bool done = true;

    assert_status(f, "down");
    f->agent->hold = "vm-start";
    g_autofree char *job = begin_power(f, VERB_VM_START, &error);
    g_assert_no_error(error);
    assert_status(f, "powering_up"); /* at once */
    g_assert_true(manager_job_await(f->manager, job, 1, &done, &error));
    g_assert_false(done);
    g_assert_null(begin_create(f, "x", &error));
    g_assert_error(error, ERR, ERR_BUSY);
    g_clear_error(&error);
    wait_for_begun(f, 1);
    fake_finish_held(f->agent);
    g_assert_true(manager_job_await(f->manager, job, PATIENCE_MS, &done, &error));
    g_assert_true(done);
    end_well(f, job);
    assert_status(f, "up");
    wait_for_event(f, 150, 1);
    wait_for_event(f, 153, 1);
    wait_for_event(f, 32, 1);
    ASSERT_EVENT_TEXT(f, 153, "VM 'web1' was started by admin (Host: host1).");
}

static void
test_stop_and_suspend(Fixture *f, gconstpointer data)
{
    g_autoptr(GError) error = NULL;

    g_autofree char *stop = begin_power(f, VERB_VM_STOP, &error);
    g_assert_no_error(error);
    end_well(f, stop);
    assert_status(f, "down");
    wait_for_event(f, 33, 1);
    wait_for_event(f, 61, 1);
    g_assert_null(begin_power(f, VERB_VM_STOP, &error));
    g_assert_error(error, ERR, ERR_REFUSED);
    g_clear_error(&error);
    wait_for_event(f, 56, 1);

    g_autofree char *start = begin_power(f, VERB_VM_START, &error);
    end_well(f, start);
    f->agent->hold = "vm-suspend";
    g_autofree char *suspend = begin_power(f, VERB_VM_SUSPEND, &error);
    assert_status(f, "saving_state");
    wait_for_begun(f, 3);
    fake_finish_held(f->agent);
    end_well(f, suspend);
    assert_status(f, "suspended");
    wait_for_event(f, 503, 1);
    wait_for_event(f, 61, 1); /* it is not down */

    f->agent->hold = "vm-start";
    g_autofree char *wake = begin_power(f, VERB_VM_START, &error);
    assert_status(f, "restoring_state");
    wait_for_begun(f, 4);
    fake_finish_held(f->agent);
    end_well(f, wake);
}

static void
test_beside_a_merge(Fixture *f, gconstpointer data)
{
    g_autoptr(GError) error = NULL;

    f->agent->hold = "merge";
    g_autofree char *removal = begin_remove(f, S(1), NULL);
    wait_for_begun(f, 2);
    assert_status(f, "up");
    g_autofree char *reboot = begin_power(f, VERB_VM_REBOOT, &error);
    g_assert_no_error(error);
    end_well(f, reboot);
    wait_for_event(f, 157, 1);
    g_assert_null(begin_power(f, VERB_VM_SUSPEND, &error));
    g_assert_error(error, ERR, ERR_BUSY);
    fake_finish_held(f->agent);
    end_well(f, removal);
}

/* The guest takes its time; the VM is free meanwhile. */
static void
test_shutdown(Fixture *f, gconstpointer data)
{
    g_autoptr(GError) error = NULL;
    bool done = false;

    g_autofree char *job = begin_power(f, VERB_VM_SHUTDOWN, &error);
    g_assert_no_error(error);
    g_assert_true(manager_job_await(f->manager, job, PATIENCE_MS, &done, &error));
    g_assert_true(done); /* it was asked, and that is all that can be done */
    assert_status(f, "powering_down");
    g_autoptr(json_t) doc = job_document(f, job);
    g_assert_cmpstr(json_text(doc, "status"), ==, "started");
    g_autofree char *snapshot = begin_create(f, "meanwhile", &error);
    g_assert_no_error(error);
    end_well(f, snapshot);
    restart_manager(f);
    wait_for_host(f, true);
    wait_for_status(f, "powering_down");
    turn_off(f);
    end_well(f, job);
    assert_status(f, "down");
    wait_for_event(f, 73, 1);
    wait_for_event(f, 61, 1);
    assert_log_has(f, "vm-stop shutdown;", 1);
}

static void
test_shutdown_cancelled(Fixture *f, gconstpointer data)
{
    g_autoptr(GError) error = NULL;
    bool done = false;

    g_autofree char *job = begin_power(f, VERB_VM_SHUTDOWN, &error);
    g_assert_true(manager_job_await(f->manager, job, PATIENCE_MS, &done, &error));
    g_autofree char *stop = begin_power(f, VERB_VM_STOP, &error); /* out of patience */
    g_assert_no_error(error);
    end_well(f, stop);
    end_well(f, job);

    g_autofree char *start = begin_power(f, VERB_VM_START, &error);
    end_well(f, start);
    g_autofree char *again = begin_power(f, VERB_VM_SHUTDOWN, &error);
    g_assert_true(manager_job_await(f->manager, again, PATIENCE_MS, &done, &error));
    g_assert_true(manager_job_cancel(f->manager, again, &error));
    g_assert_no_error(error);
    g_autoptr(json_t) doc = wait_for_end(f, again);
    g_assert_cmpstr(json_text(doc, "status"), ==, "aborted");
    assert_status(f, "up");
}

static void
test_freeze(Fixture *f, gconstpointer data)
{
    g_autoptr(GError) error = NULL;

    f->agent->vm->agent_connected = true;
    g_autofree char *freeze = begin_power(f, VERB_VM_FREEZE, &error);
    g_assert_no_error(error);
    assert_status(f, "up");
    end_well(f, freeze);
    g_autofree char *thaw = begin_power(f, VERB_VM_THAW, &error);
    g_assert_no_error(error);
    end_well(f, thaw);
    assert_log_has(f, "vm-freeze ;", 1);
    assert_log_has(f, "vm-thaw ;", 1);
    wait_for_event(f, 10767, 1);
    wait_for_event(f, 10768, 1);
    ASSERT_EVENT_TEXT(f, 10767, "Guest filesystems on VM 'web1' have been frozen successfully.");
    f->agent->fail_kind = "vm-freeze";
    g_autofree char *failed = begin_power(f, VERB_VM_FREEZE, &error);
    g_autoptr(json_t) doc = wait_for_end(f, failed);
    g_assert_cmpstr(json_text(doc, "status"), ==, "failed");
    wait_for_event(f, 10769, 1);
    turn_off(f);
    wait_for_status(f, "down");
    g_assert_null(begin_power(f, VERB_VM_THAW, &error));
    g_assert_error(error, ERR, ERR_REFUSED);
    wait_for_event(f, 10770, 1);
}

static char *
begin_update(Fixture *f, const char *name, const char *description, GError **error)
{
    VmUpdate what = { .vm_id = FAKE_VM,
                      .name = name,
                      .description = description,
                      .correlation_id = "corr",
                      .user = "admin" };

    return manager_vm_update(f->manager, &what, error);
}

static void
test_update(Fixture *f, gconstpointer data)
{
    g_autoptr(GError) error = NULL;
    static const struct {
        const char *name, *description;
        ErrorCode code;
    } bad[] = { { "a/b", NULL, ERR_INVALID },
                { "", NULL, ERR_INVALID },
                { NULL, "bell\a", ERR_INVALID },
                { FAKE_VM, NULL, ERR_INVALID } };

    for (size_t i = 0; i < G_N_ELEMENTS(bad); i++) {
        g_assert_null(begin_update(f, bad[i].name, bad[i].description, &error));
        g_assert_error(error, ERR, (int)bad[i].code);
        g_clear_error(&error);
    }
    g_autofree char *job = begin_update(f, "shop", NULL, &error);
    g_assert_no_error(error);
    end_well(f, job);
    g_autoptr(Vm) vm = manager_vm(f->manager, "shop", &error);
    g_assert_no_error(error);
    g_autofree char *again = begin_update(f, "shop", "of eggs\nand ham", &error);
    g_assert_no_error(error);
    end_well(f, again);
    assert_log_has(f, "vm-update shop;vm-update of eggs\nand ham;", 1);
    wait_for_event(f, 35, 2);
    g_autoptr(GPtrArray) rows = store_event_list(f->store, 0, -1, true, NULL);
    const EventRow *row = rows->pdata[rows->len - 1];
    g_assert_cmpstr(row->host_name, ==, "host1");
    g_assert_nonnull(row->host_id);
}

static void
test_rename_of_a_running_one(Fixture *f, gconstpointer data)
{
    g_autoptr(GError) error = NULL;

    g_assert_null(begin_update(f, "shop", NULL, &error));
    g_assert_error(error, ERR, ERR_REFUSED);
    g_assert_cmpstr(error_reason(error)->key, ==, "ACTION_TYPE_FAILED_VM_IS_NOT_DOWN");
    wait_for_event(f, 58, 1);
}

/* When it began and ended, which its host does not remember. */
static void
test_times(Fixture *f, gconstpointer data)
{
    g_autoptr(Vm) before = manager_vm(f->manager, FAKE_VM, NULL);

    g_assert_cmpint(before->created, >, 0);
    g_assert_cmpint(before->stopped, ==, 0);
    turn_off(f);
    wait_for_status(f, "down");
    g_autoptr(Vm) after = manager_vm(f->manager, FAKE_VM, NULL);
    g_assert_cmpint(after->stopped, >=, before->created);
    restart_manager(f);
    wait_for_host(f, true);
    wait_for_status(f, "down");
    g_autoptr(Vm) later = manager_vm(f->manager, FAKE_VM, NULL);
    g_assert_cmpint(later->stopped, ==, after->stopped);
    g_assert_cmpint(later->created, ==, before->created);
}

/* What the agent has forgotten, the VM's state tells. */
static void
test_lost_journal(Fixture *f, gconstpointer data)
{
    g_autoptr(GError) error = NULL;

    f->agent->hold = "vm-start";
    g_autofree char *job = begin_power(f, VERB_VM_START, &error);
    wait_for_begun(f, 1);
    stop_manager(f);
    fake_lose_journal(f->agent);
    f->agent->vm->state = VM_UP;
    f->agent->vm->instance = g_strdup("1.2");
    start_manager(f);
    end_well(f, job);
}

static void
put_job_on(Fixture *f, const char *target, const char *what)
{
    WITH_LOCK(&f->agent->lock);
    Disk *disk = vm_disk(f->agent->vm, target);

    g_free(disk->busy);
    disk->busy = g_strdup(what);
}

/* Both would stop a guest beside somebody else's commit (H12), on whichever disk: which disks a
 * snapshot is of does not matter then. */
static void
test_beside_a_foreign_job(Fixture *f, gconstpointer data)
{
    static const char *const one[] = { "vda", NULL };
    SnapshotCreate what = { .vm_id = FAKE_VM, .name = "x", .disks = one, .memory = true };
    g_autoptr(GError) taking = NULL, suspending = NULL, error = NULL;

    put_job_on(f, "vdb", "a block job (commit)");
    g_assert_null(manager_snapshot_create(f->manager, &what, NULL, &taking));
    g_assert_error(taking, ERR, ERR_REFUSED);
    g_assert_nonnull(strstr(taking->message, "blockjob web1 vdb --abort"));
    g_assert_null(begin_power(f, VERB_VM_SUSPEND, &suspending));
    g_assert_error(suspending, ERR, ERR_REFUSED);
    g_assert_nonnull(strstr(suspending->message, "blockjob web1 vdb --abort"));
    what.memory = false;
    g_autofree char *job = manager_snapshot_create(f->manager, &what, NULL, &error);
    g_assert_no_error(error);
    end_well(f, job);
}

int
main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
#define TEST(path, up, function) g_test_add(path, Fixture, NULL, up, function, tear_down)
    TEST("/flow/power/start", set_up_down, test_start);
    TEST("/flow/power/stop-and-suspend", set_up, test_stop_and_suspend);
    TEST("/flow/power/beside-a-merge", set_up, test_beside_a_merge);
    TEST("/flow/power/beside-a-foreign-job", set_up, test_beside_a_foreign_job);
    TEST("/flow/power/shutdown", set_up, test_shutdown);
    TEST("/flow/power/shutdown-cancelled", set_up, test_shutdown_cancelled);
    TEST("/flow/power/freeze", set_up, test_freeze);
    TEST("/flow/update/update", set_up_down, test_update);
    TEST("/flow/update/running", set_up, test_rename_of_a_running_one);
    TEST("/flow/power/times", set_up, test_times);
    TEST("/flow/power/lost-journal", set_up_down, test_lost_journal);
    return g_test_run();
}
