/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * What is lost on the way of a flow: answers, the agent's life and journal, the manager's life, the
 * host. Everything is done once, and nothing is called failed that was done.
 */
#include "flow_fixture.h"

/* Answers that are lost: the deed is done once all the same. */
static void
test_lost_answers(Fixture *f, gconstpointer data)
{
    g_autofree char *job = NULL;
    g_autoptr(json_t) doc = NULL;

    f->agent->lose_answers = 5;
    job = begin_remove(f, S(1), S(3));
    doc = wait_for_end(f, job);
    g_assert_cmpstr(json_text(doc, "status"), ==, "finished");
    assert_log_has(f, "merge", 4);
    g_assert_cmpuint(g_hash_table_size(f->agent->tombstones), ==, 0);
}

/* Requests that are lost: the agent promises never to begin them, and they get new ids. */
static void
test_lost_requests(Fixture *f, gconstpointer data)
{
    g_autofree char *job = NULL;
    g_autoptr(json_t) doc = NULL;

    f->agent->drop_requests = 3;
    job = begin_remove(f, S(1), NULL);
    doc = wait_for_end(f, job);
    g_assert_cmpstr(json_text(doc, "status"), ==, "finished");
    assert_log_has(f, "merge", 2);
    g_assert_cmpuint(g_hash_table_size(f->agent->tombstones), ==, 3);
}

static void
test_busy_agent(Fixture *f, gconstpointer data)
{
    g_autofree char *job = NULL;
    g_autoptr(json_t) doc = NULL;

    f->agent->busy_answers = 3;
    job = begin_create(f, "x", NULL);
    doc = wait_for_end(f, job);
    g_assert_cmpstr(json_text(doc, "status"), ==, "finished");
}

/* Nothing but the answers to questions: the slow poll is not needed where a look is enough. */
static void
test_agent_restarts(Fixture *f, gconstpointer data)
{
    g_autofree char *job = NULL;
    g_autoptr(json_t) doc = NULL;

    f->agent->hold = "merge";
    job = begin_remove(f, S(1), S(3));
    wait_for_begun(f, 2);
    fake_stop(f->agent);
    wait_for_host(f, false);
    fake_finish_held(f->agent); /* nobody hears it */
    fake_start(f->agent);
    doc = wait_for_end(f, job);
    g_assert_cmpstr(json_text(doc, "status"), ==, "finished");
    assert_log_has(f, "merge", 4);
}

static void
test_manager_restarts(Fixture *f, gconstpointer data)
{
    g_autofree char *job = NULL;
    g_autoptr(json_t) doc = NULL;

    f->agent->hold = "merge";
    job = begin_remove(f, S(1), S(3));
    wait_for_begun(f, 2);
    restart_manager(f);
    g_assert_true(manager_snapshot_locked(f->manager, FAKE_VM, S(1)));
    fake_finish_held(f->agent);
    doc = wait_for_end(f, job);
    g_assert_cmpstr(json_text(doc, "status"), ==, "finished");
    assert_log_has(f, "merge", 4);
    ASSERT_EVENTS(f, "1 342 1 356");
}

/* The agent lost its journal while it merged: the chain says what was done. */
static void
test_journal_is_lost(Fixture *f, gconstpointer data)
{
    bool merged = data != NULL;
    g_autofree char *job = NULL;
    g_autoptr(json_t) doc = NULL;

    f->agent->hold = "merge";
    job = begin_remove(f, S(1), NULL);
    wait_for_copying(f, job);
    fake_stop(f->agent);
    wait_for_host(f, false);
    if (merged)
        fake_finish_held(f->agent);
    g_ptr_array_set_size(f->agent->operations, 0);
    fake_start(f->agent);
    doc = wait_for_end(f, job);
    g_assert_cmpstr(json_text(doc, "status"), ==, merged ? "finished" : "failed");
    assert_log_has(f, "delete", merged ? 2 : 0);
    if (!merged)
        g_assert_nonnull(strstr(json_text(doc, "error"), "nothing was deleted"));
}

/* Of the manager's; the agent goes on. */
static char *
stop_while_it_merges(Fixture *f)
{
    f->agent->hold = "merge";
    char *job = begin_remove(f, S(1), NULL);
    wait_for_copying(f, job);
    stop_manager(f);
    return job;
}

/* Its host is gone, and was taken out of the configuration; another one has the VM by now. */
static void
test_host_is_gone(Fixture *f, gconstpointer data)
{
    bool merged = data != NULL;
    HostConfig other = { .name = "host2", .address = f->agent->address };
    g_autofree char *job = NULL;
    g_autoptr(json_t) doc = NULL;
    g_autoptr(GError) error = NULL;

    job = stop_while_it_merges(f);
    if (merged)
        fake_finish_held(f->agent);
    g_ptr_array_set_size(f->agent->operations, 0);
    f->manager = manager_new(f->store, &other, 1, &error);
    g_assert_no_error(error);
    doc = wait_for_end(f, job);
    g_assert_cmpstr(json_text(doc, "status"), ==, merged ? "finished" : "failed");
    assert_log_has(f, "delete", merged ? 2 : 0);
    if (!merged)
        g_assert_nonnull(strstr(json_text(doc, "error"), "nothing was deleted"));
}

/* The configuration calls the host by another name from now on, or gives its name to another one:
 * it is the same agent, which goes on with what it was asked for. */
static void
test_host_is_renamed(Fixture *f, gconstpointer another)
{
    g_autofree char *nobody = g_strdup_printf("unix:%s/nobody.sock", f->dir);
    const HostConfig hosts[] = { { .name = "host2", .address = f->agent->address },
                                 { .name = "host1", .address = nobody } };
    g_autofree char *job = NULL;
    g_autoptr(json_t) doc = NULL;
    g_autoptr(GError) error = NULL;

    job = stop_while_it_merges(f);
    f->manager = manager_new(f->store, hosts, another != NULL ? 2 : 1, &error);
    g_assert_no_error(error);
    wait_for_host(f, true);
    g_assert_true(manager_job_cancel(f->manager, job, &error));
    doc = wait_for_end(f, job);
    g_assert_cmpuint(f->agent->cancels, >=, 2); /* it is still heard */
    g_assert_cmpstr(json_text(doc, "status"), ==, "aborted");
}

static void
test_taken_over(Fixture *f, gconstpointer data)
{
    g_autofree char *job = NULL;
    g_autoptr(json_t) doc = NULL;

    f->agent->hold = "merge";
    job = begin_remove(f, S(1), NULL);
    wait_for_begun(f, 2);
    g_mutex_lock(&f->agent->lock);
    f->agent->highest_epoch = INT64_C(1) << 40;
    g_mutex_unlock(&f->agent->lock);
    flows_kick_all(f->manager); /* the next question finds out */
    wait_for_host(f, false);
    doc = job_document(f, job);
    g_assert_cmpstr(json_text(doc, "status"), ==, "started"); /* not failed: it is not ours now */
}

static void
test_leftovers_are_acknowledged(Fixture *f, gconstpointer data)
{
    FakeOperation *op = g_new0(FakeOperation, 1);

    op->id = g_strdup("22222222-2222-4222-8222-222222222222");
    op->body = json_pack("{s:s, s:s}", "kind", "merge", "vm_id", FAKE_VM);
    op->state = "done";
    g_ptr_array_add(f->agent->operations, op);
    start_manager(f);
    wait_for_acknowledged(f);
}

/* ---- stopped anywhere ---- */

/* With one disk only the points come in one order. */
static void
set_up_one_disk(Fixture *f)
{
    set_up_quiet(f, NULL);
    g_ptr_array_remove_index(f->agent->vm->disks, 1);
    for (guint i = 0; i < f->agent->vm->snapshots->len; i++) {
        Snapshot *snapshot = f->agent->vm->snapshots->pdata[i];
        g_ptr_array_remove_index(snapshot->disks, 1);
    }
    start_manager(f);
    wait_for_host(f, true);
}

/* Starts a job, and the manager stops at the n-th fault point. False: it ended before. */
static bool
stop_at(Fixture *f, int n, const char *what, char **ret_job)
{
    const char *ids[] = { S(1), NULL };

    set_up_one_disk(f);
    fault_arm(n);
    *ret_job = g_str_equal(what, "create") ? begin_create(f, "x", NULL)
                                           : begin_remove_of(f, ids, NULL, NULL);
    g_assert_nonnull(*ret_job);
    return wait_for_fault(f, *ret_job);
}

/* The same, and the agent loses its journal with all that it was told: what it may have done is in
 * doubt. Nothing is done twice, and nothing is called failed that was done. */
static void
test_journal_is_lost_anywhere(gconstpointer what_)
{
    const char *what = what_;
    unsigned done = 0, failed = 0;

    for (int n = 0;; n++) {
        Fixture f = { 0 };
        g_autofree char *job = NULL;
        bool fired = stop_at(&f, n, what, &job);

        if (fired) {
            fake_lose_journal(f.agent);
            restart_manager(&f);
        }
        g_autoptr(json_t) doc = wait_for_end(&f, job);
        const char *deed = g_str_equal(what, "create") ? "create x;" : "merge vda vda-1..vda-2;";
        bool finished = g_str_equal(json_text(doc, "status"), "finished");
        assert_log_has(&f, deed, finished ? 1 : 0);
        done += finished;
        failed += !finished;
        tear_down(&f, NULL);
        if (!fired)
            break;
    }
    g_test_message("%s: %u done, %u not begun and said so", what, done, failed);
    g_assert_cmpuint(done, >, 3);
}

/* Stop the manager at every fault point in turn: a new one on the same database finishes the
 * job, and every deed is done exactly once. The loop ends when a run passes no more points. */
static void
sweep(const char *what)
{
    for (int n = 0;; n++) {
        Fixture f = { 0 };
        g_autofree char *job = NULL;
        g_autoptr(json_t) doc = NULL;
        bool fired = stop_at(&f, n, what, &job);

        if (fired)
            restart_manager(&f);
        doc = wait_for_end(&f, job);
        g_assert_cmpstr(json_text(doc, "status"), ==, "finished");
        if (g_str_equal(what, "create")) {
            assert_log_has(&f, "create", 1);
        } else {
            assert_log_has(&f, "merge vda vda-1..vda-2;", 1);
            assert_log_has(&f, "delete vda /vda-2.qcow2;", 1);
            assert_log_has(&f, "forget s1;", 1);
        }
        if (!fired) /* else they may be acknowledged at the next connection */
            wait_for_acknowledged(&f);
        tear_down(&f, NULL);
        if (!fired) {
            g_test_message("%s: stopped at each of %d points", what, n);
            g_assert_cmpint(n, >, 5);
            return;
        }
    }
}

static void
test_stop_anywhere(gconstpointer what)
{
    sweep(what);
}

/* ---- an old database ---- */

static void
wait_for_job_told(Fixture *f, const char *job)
{
    int64_t until = g_get_monotonic_time() + PATIENCE_MS * 1000;
    bool told = false;

    while (!told) {
        g_mutex_lock(&f->agent->lock);
        told = g_hash_table_contains(f->agent->ended_jobs, job);
        g_mutex_unlock(&f->agent->lock);
        if (g_get_monotonic_time() > until)
            g_error("the agent was not told that job %s has ended", job);
        g_usleep(1000);
    }
}

/* Keeps a copy of the database, or brings it back; nobody has it open. */
static void
copy_database(Fixture *f, bool back)
{
    g_autofree char *file = g_build_filename(f->dir, "manager.db", NULL);
    g_autofree char *copy = g_build_filename(f->dir, "copy.db", NULL);
    g_autofree char *data = NULL;
    g_autoptr(GError) error = NULL;
    gsize size;

    g_file_get_contents(back ? copy : file, &data, &size, &error);
    g_assert_no_error(error);
    g_file_set_contents_full(back ? file : copy, data, (gssize)size, G_FILE_SET_CONTENTS_CONSISTENT,
                             0600, &error);
    g_assert_no_error(error);
}

/* Has the job not ended in it? */
static bool
restart_with_copy(Fixture *f, bool back, const char *job)
{
    g_autoptr(FlowRow) row = NULL;
    g_autoptr(GError) error = NULL;

    stop_manager(f);
    store_close(f->store);
    copy_database(f, back);
    open_store(f);
    row = store_flow_get(f->store, job, &error);
    g_assert_no_error(error);
    start_manager(f);
    wait_for_host(f, true);
    return row->ended == 0;
}

/* The database is kept at every fault point of a job in turn, and brought back when the job has
 * ended: whatever it says, nothing is done again. */
static void
test_old_database(gconstpointer what_)
{
    const char *what = what_;
    bool creates = g_str_equal(what, "create");

    for (int n = 0;; n++) {
        Fixture f = { 0 };
        g_autofree char *job = NULL;
        bool fired = stop_at(&f, n, what, &job);

        if (fired && restart_with_copy(&f, false, job)) {
            json_decref(wait_for_end(&f, job));
            wait_for_job_told(&f, job);
            restart_with_copy(&f, true, job);
        }
        g_autoptr(json_t) doc = wait_for_end(&f, job);
        assert_log_has(&f, creates ? "create x;" : "merge vda vda-1..vda-2;", 1);
        assert_log_has(&f, "delete", creates ? 0 : 1);
        tear_down(&f, NULL);
        if (!fired)
            break;
    }
}

#define ADD(name, function) g_test_add(name, Fixture, NULL, set_up, function, tear_down)

int
main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    ADD("/flow/lost-answers", test_lost_answers);
    ADD("/flow/lost-requests", test_lost_requests);
    ADD("/flow/busy-agent", test_busy_agent);
    ADD("/flow/agent-restarts", test_agent_restarts);
    ADD("/flow/manager-restarts", test_manager_restarts);
    g_test_add("/flow/journal-is-lost/merged", Fixture, "merged", set_up, test_journal_is_lost,
               tear_down);
    g_test_add("/flow/journal-is-lost/not-merged", Fixture, NULL, set_up, test_journal_is_lost,
               tear_down);
    g_test_add("/flow/host-is-gone/merged", Fixture, "merged", set_up, test_host_is_gone,
               tear_down);
    ADD("/flow/host-is-gone/not-merged", test_host_is_gone);
    ADD("/flow/host-is-renamed/alone", test_host_is_renamed);
    g_test_add("/flow/host-is-renamed/its-name-is-another's", Fixture, "other", set_up,
               test_host_is_renamed, tear_down);
    g_test_add_data_func("/flow/journal-is-lost/anywhere/create", "create",
                         test_journal_is_lost_anywhere);
    g_test_add_data_func("/flow/journal-is-lost/anywhere/remove", "remove",
                         test_journal_is_lost_anywhere);
    ADD("/flow/taken-over", test_taken_over);
    g_test_add("/flow/leftovers-are-acknowledged", Fixture, NULL, set_up_quiet,
               test_leftovers_are_acknowledged, tear_down);
    g_test_add_data_func("/flow/old-database/create", "create", test_old_database);
    g_test_add_data_func("/flow/old-database/remove", "remove", test_old_database);
    g_test_add_data_func("/flow/stop-anywhere/create", "create", test_stop_anywhere);
    g_test_add_data_func("/flow/stop-anywhere/remove", "remove", test_stop_anywhere);
    return g_test_run();
}
