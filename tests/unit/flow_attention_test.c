/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * Jobs that pause themselves and want attention, and what is told of those that go on.
 */
#include "flow_fixture.h"

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

/* Old volumes go after the merge: nobody is told that it begins once more. */
static void
test_phase_of_deletion(Fixture *f, gconstpointer data)
{
    g_autofree char *job = NULL;
    g_autoptr(json_t) doc = NULL;
    int64_t until = g_get_monotonic_time() + PATIENCE_MS * 1000;
    const char *phase = NULL;

    f->agent->hold = "delete-volumes";
    job = begin_remove(f, S(1), NULL);
    wait_for_begun(f, 4);
    do {
        g_assert_cmpint(g_get_monotonic_time(), <, until);
        g_clear_pointer(&doc, json_decref);
        doc = job_document(f, job);
        phase = json_text(json_array_get(json_object_get(doc, "disks"), 0), "phase");
        g_assert_cmpstr(phase, !=, "waiting");
        g_usleep(1000);
    } while (g_strcmp0(phase, "deleted") != 0);
    fake_finish_held(f->agent);
    g_clear_pointer(&doc, json_decref);
    doc = wait_for_end(f, job);
    g_assert_cmpstr(json_text(doc, "status"), ==, "finished");
}

#define ADD(name, function) g_test_add(name, Fixture, NULL, set_up, function, tear_down)

int
main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    ADD("/flow/pause-and-resume", test_pause_and_resume);
    ADD("/flow/cancel-while-paused", test_cancel_while_paused);
    ADD("/flow/restart-while-paused", test_restart_while_paused);
    ADD("/flow/phase-of-deletion", test_phase_of_deletion);
    return g_test_run();
}
