/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * Tests of src/flow/branch.c and door_branch.c with the fake agent: preview, commit, undo, restore,
 * and a manager that stops at every fault point of them.
 */
#include "flow_fixture.h"

static void
turn_off(Fixture *f)
{
    WITH_LOCK(&f->agent->lock);

    f->agent->vm->state = VM_DOWN;
    g_clear_pointer(&f->agent->vm->instance, g_free);
}

static void
set_up_off(Fixture *f, gconstpointer data)
{
    set_up_quiet(f, data);
    turn_off(f);
    start_manager(f);
    wait_for_host(f, true);
}

static char *
begin(Fixture *f, BranchVerb verb, const char *snapshot_id, GError **error)
{
    const BranchDeed what = {
        .vm_id = FAKE_VM, .snapshot_id = snapshot_id, .correlation_id = "corr", .user = "admin"
    };

    return manager_snapshot_branch(f->manager, verb, &what, error);
}

static json_t *
carry_out(Fixture *f, BranchVerb verb, const char *snapshot_id, const char *status)
{
    g_autoptr(GError) error = NULL;
    g_autofree char *job = begin(f, verb, snapshot_id, &error);

    g_assert_no_error(error);
    json_t *doc = wait_for_end(f, job);
    if (!g_str_equal(json_text(doc, "status"), status))
        g_error("%s was expected: %s", status, json_dumps(doc, JSON_INDENT(1)));
    return doc;
}
#define DO(...) json_decref(carry_out(__VA_ARGS__))

static void
assert_refused_with(Fixture *f, BranchVerb verb, const char *snapshot_id, ErrorCode code,
                    const char *says)
{
    g_autoptr(GError) error = NULL;

    g_assert_null(begin(f, verb, snapshot_id, &error));
    g_assert_error(error, ERR, (int)code);
    if (strstr(error->message, says) == NULL)
        g_error("it lacks \"%s\": %s", says, error->message);
}

static void
test_undo(Fixture *f, gconstpointer data)
{
    DO(f, BRANCH_PREVIEW, S(1), "finished");
    g_autoptr(Vm) tried = manager_vm(f->manager, FAKE_VM, NULL);
    g_assert_cmpstr(tried->preview->snapshot, ==, S(1));
    assert_refused_with(f, BRANCH_PREVIEW, S(2), ERR_REFUSED, "is being previewed");
    DO(f, BRANCH_UNDO, NULL, "finished");
    assert_log_has(f, "delete all /vda-try.qcow2 /vdb-try.qcow2;", 1);
    assert_refused_with(f, BRANCH_UNDO, NULL, ERR_INVALID, "no snapshot of it is being previewed");
    ASSERT_EVENTS(f, "1 46 71 115 650 651");
    wait_for_acknowledged(f);
}

static void
test_refused(Fixture *f, gconstpointer data)
{
    assert_refused_with(f, BRANCH_PREVIEW, S(1), ERR_REFUSED, "shut it down first");
    assert_refused_with(f, BRANCH_RESTORE, S(1), ERR_REFUSED, "shut it down first");
    turn_off(f);
    assert_refused_with(f, BRANCH_PREVIEW, S(9), ERR_NOT_FOUND, "no snapshot");
    assert_refused_with(f, BRANCH_COMMIT, NULL, ERR_INVALID, "being previewed");
    ASSERT_EVENTS(f, "1 115 116 61");
    g_assert_cmpuint(f->agent->begun, ==, 0);
}

/* The VM is off in oVirt's way meanwhile, and its snapshot locked. */
static void
test_locked(Fixture *f, gconstpointer data)
{
    g_autoptr(GError) error = NULL;

    f->agent->hold = "snapshot-preview";
    g_autofree char *job = begin(f, BRANCH_PREVIEW, S(1), &error);
    g_assert_no_error(error);
    wait_for_begun(f, 1);
    g_autoptr(Vm) vm = manager_vm(f->manager, FAKE_VM, NULL);
    g_autofree char *status = manager_vm_status(f->manager, vm);
    g_assert_cmpstr(status, ==, "image_locked");
    g_assert_true(manager_snapshot_locked(f->manager, FAKE_VM, S(1)));
    fake_finish_held(f->agent);
    json_decref(wait_for_end(f, job));
    g_autofree char *after = manager_vm_status(f->manager, vm);
    g_assert_cmpstr(after, ==, "down");
}

/* What cannot be deleted stays; the VM is as it should be all the same. */
static void
test_not_deleted(Fixture *f, gconstpointer data)
{
    f->agent->fail_kind = "delete-volumes";
    DO(f, BRANCH_RESTORE, S(1), "finished");
    g_autofree char *text = event_text(f, 100);
    g_assert_nonnull(strstr(text, "Files of the line that went stay: input/output error"));
}

static void
test_preview_fails(Fixture *f, gconstpointer data)
{
    f->agent->fail_kind = "snapshot-preview";
    DO(f, BRANCH_RESTORE, S(1), "failed");
    assert_log_has(f, "snapshot-commit", 0);
    ASSERT_EVENTS(f, "1 47 101");
}

/* Begins a restore; the manager stops at its n-th fault point. False: it ended before. */
static bool
stop_at(Fixture *f, int n, char **ret_job)
{
    set_up_off(f, NULL);
    fault_arm(n);
    *ret_job = begin(f, BRANCH_RESTORE, S(1), NULL);
    g_assert_nonnull(*ret_job);
    return wait_for_fault(f, *ret_job);
}

/* A new one on the same database finishes the job, and every deed is done once; if the agent has
 * lost its journal too, the VM itself tells. */
static void
test_stop_anywhere(gconstpointer lost)
{
    bool fired = true;
    int n = 0;

    for (; fired; n++) {
        Fixture f = { 0 };
        g_autofree char *job = NULL;
        fired = stop_at(&f, n, &job);
        if (fired && lost != NULL)
            fake_lose_journal(f.agent);
        if (fired)
            restart_manager(&f);
        g_autoptr(json_t) doc = wait_for_end(&f, job);
        bool finished = g_str_equal(json_text(doc, "status"), "finished");
        g_assert_true(finished || lost != NULL);
        assert_log_has(&f, "snapshot-preview s1;", finished ? 1 : 0);
        assert_log_has(&f, "snapshot-commit s1;", finished ? 1 : 0);
        if (lost == NULL)
            assert_log_has(&f, "delete all", 1);
        tear_down(&f, NULL);
    }
    g_assert_cmpint(n, >, 5);
}

#define ADD(name, function) g_test_add(name, Fixture, NULL, set_up_off, function, tear_down)

int
main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    ADD("/branch/undo", test_undo);
    g_test_add("/branch/refused", Fixture, NULL, set_up, test_refused, tear_down);
    ADD("/branch/locked", test_locked);
    ADD("/branch/not-deleted", test_not_deleted);
    ADD("/branch/preview-fails", test_preview_fails);
    g_test_add_data_func("/branch/stop-anywhere", NULL, test_stop_anywhere);
    g_test_add_data_func("/branch/stop-anywhere/journal-is-lost", "lost", test_stop_anywhere);
    return g_test_run();
}
