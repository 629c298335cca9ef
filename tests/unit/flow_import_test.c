/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * Tests of src/flow/import.c on a fake agent: what a lost manager had under way is waited for or
 * taken back, acknowledged and ended; a manager whose epoch is too low takes over only when told.
 */
#include "flow_fixture.h"

static json_t *
import(Fixture *f, const char *path, bool dry_run, bool take_over, GError **error)
{
    StorageImport what = { .path = path, .dry_run = dry_run, .take_over = take_over };
    json_t *answer = NULL;

    return manager_import(f->manager, &what, &answer, error) ? answer : NULL;
}

static const char *
job_of(const json_t *answer)
{
    return json_text(json_array_get(json_object_get(answer, "vms"), 0), "job");
}

static unsigned
count(Fixture *f, unsigned *what)
{
    WITH_LOCK(&f->agent->lock);

    return *what;
}

static void
wait_count(Fixture *f, unsigned *what, unsigned wanted)
{
    int64_t until = g_get_monotonic_time() + PATIENCE_MS * 1000;

    while (count(f, what) < wanted && g_get_monotonic_time() < until)
        g_usleep(1000);
    g_assert_cmpuint(count(f, what), ==, wanted);
}

/* As another manager would, whose database is gone. */
static void
add_strange(Fixture *f)
{
    WITH_LOCK(&f->agent->lock);
    FakeOperation *op = g_new0(FakeOperation, 1);

    op->id = id_new();
    op->body = json_pack("{s:s, s:s}", "kind", "snapshot-forget", "vm_id", FAKE_VM);
    op->state = "running";
    g_ptr_array_add(f->agent->operations, op);
}

static void
test_says_what_is_there(Fixture *f, gconstpointer data)
{
    g_autoptr(GError) error = NULL;
    g_autoptr(json_t) plan = NULL, again = NULL;

    f->agent->leftover = "/vda-1.qcow2";
    plan = import(f, NULL, true, false, &error);
    g_assert_no_error(error);
    g_assert_null(job_of(plan));
    g_assert_cmpuint(f->agent->begun, ==, 0);
    const json_t *doubt = json_array_get(json_object_get(plan, "doubtful"), 0);
    g_assert_cmpstr(json_text(doubt, "host"), ==, "host1");
    g_assert_cmpstr(json_text(doubt, "command"), ==, "livemerge doctor web");
    g_assert_null(import(f, "/nowhere", false, false, &error));
    g_assert_error(error, ERR, ERR_NOT_FOUND);
    g_clear_error(&error);
    g_assert_null(import(f, NULL, true, true, &error));
    g_assert_error(error, ERR, ERR_INVALID);
    g_clear_error(&error);
    f->agent->leftover = NULL; /* nothing is unfinished: no job */
    again = import(f, NULL, false, false, &error);
    g_assert_no_error(error);
    g_assert_null(job_of(again));
}

static void
test_ends_what_was_left(Fixture *f, gconstpointer data)
{
    g_autoptr(GError) error = NULL;
    g_autoptr(json_t) answer = NULL, job = NULL;

    f->agent->leftover = "/vda-1.qcow2";
    answer = import(f, NULL, false, false, &error);
    g_assert_no_error(error);
    g_assert_nonnull(job_of(answer));
    job = wait_for_end(f, job_of(answer));
    g_assert_cmpstr(json_text(job, "status"), ==, "finished");
    g_assert_cmpstr(json_text(job, "kind"), ==, "import");
    wait_count(f, &f->agent->acknowledged, 1);
}

static void
test_waits_for_strange(Fixture *f, gconstpointer data)
{
    g_autoptr(GError) error = NULL;
    g_autoptr(json_t) answer = NULL, second = NULL, job = NULL;

    add_strange(f);
    answer = import(f, NULL, false, false, &error);
    g_assert_no_error(error);
    second = import(f, NULL, false, false, &error); /* the first one's job holds the VM */
    g_assert_null(job_of(second));
    g_assert_cmpuint(count(f, &f->agent->begun), ==, 0);
    g_assert_cmpuint(fake_finish_held(f->agent), ==, 1);
    job = wait_for_end(f, job_of(answer));
    g_assert_cmpstr(json_text(job, "status"), ==, "finished");
    wait_count(f, &f->agent->acknowledged, 2);
}

static void
test_takes_strange_back(Fixture *f, gconstpointer data)
{
    g_autoptr(GError) error = NULL;
    g_autoptr(json_t) answer = NULL, job = NULL;

    add_strange(f);
    answer = import(f, NULL, false, false, &error);
    g_assert_no_error(error);
    g_assert_true(manager_job_cancel(f->manager, job_of(answer), &error));
    job = wait_for_end(f, job_of(answer));
    g_assert_cmpstr(json_text(job, "status"), ==, "aborted");
    g_assert_cmpuint(count(f, &f->agent->cancels), >=, 1);
    g_assert_cmpuint(count(f, &f->agent->begun), ==, 0);
    wait_count(f, &f->agent->acknowledged, 1);
}

static void
test_takes_over(Fixture *f, gconstpointer data)
{
    const int64_t highest = INT64_C(1) << 40;
    g_autoptr(GError) error = NULL;
    g_autoptr(json_t) answer = NULL, taken = NULL;

    stop_manager(f);
    f->agent->highest_epoch = highest;
    start_manager(f);
    answer = import(f, NULL, false, false, &error);
    g_assert_no_error(error);
    g_assert_cmpuint(json_array_size(json_object_get(answer, "silent")), ==, 1);
    g_assert_cmpint(f->agent->highest_epoch, ==, highest);
    taken = import(f, NULL, false, true, &error);
    g_assert_no_error(error);
    g_assert_cmpuint(json_array_size(json_object_get(taken, "silent")), ==, 0);
    g_assert_cmpint(f->agent->highest_epoch, >, highest);
    stop_manager(f); /* and it is kept */
    start_manager(f);
    wait_for_host(f, true);
}

#define ADD(name, function) g_test_add(name, Fixture, NULL, set_up, function, tear_down)

int
main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    ADD("/import/says-what-is-there", test_says_what_is_there);
    ADD("/import/ends-what-was-left", test_ends_what_was_left);
    ADD("/import/waits-for-strange", test_waits_for_strange);
    ADD("/import/takes-strange-back", test_takes_strange_back);
    ADD("/import/takes-over", test_takes_over);
    return g_test_run();
}
