/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * Tests of src/flow/doctor.c and its door, on a fake agent: what was found is told with its host, a
 * fix is a job that holds the VM, and the job is what an undo names.
 */
#include "flow_fixture.h"

static json_t *
ask(Fixture *f, const char *vm_id)
{
    g_autoptr(GError) error = NULL;
    json_t *answer = NULL;

    manager_doctor(f->manager, vm_id, &answer, &error);
    g_assert_no_error(error);
    return answer;
}

static void
test_asks(Fixture *f, gconstpointer data)
{
    g_autoptr(json_t) all = ask(f, NULL), one = ask(f, FAKE_VM);
    const json_t *finding = json_array_get(json_object_get(all, "findings"), 0);
    g_autoptr(GError) error = NULL;
    json_t *answer = NULL;

    g_assert_true(json_equal(all, one));
    g_assert_cmpstr(json_text(finding, "class"), ==, "orphan-volume");
    g_assert_cmpstr(json_text(finding, "host"), ==, "host1");
    g_assert_cmpint(json_number(json_object_get(all, "kept"), "files"), ==, 3);
    g_assert_false(manager_doctor(f->manager, "nobody", &answer, &error));
    g_assert_error(error, ERR, ERR_NOT_FOUND);
}

static char *
begin(Fixture *f, const char *undo, GError **error)
{
    const char *const classes[] = { undo == NULL ? "orphan-volume" : NULL, NULL };
    DoctorFix what = { .vm_id = FAKE_VM, .classes = classes, .undo = undo };

    return manager_doctor_fix(f->manager, &what, error);
}

static void
test_fix_and_undo(Fixture *f, gconstpointer data)
{
    g_autoptr(GError) error = NULL;
    g_autofree char *job = begin(f, NULL, &error), *undo = NULL, *nonsense = NULL;
    g_autoptr(json_t) doc = NULL, undone = NULL;

    g_assert_no_error(error);
    doc = wait_for_end(f, job);
    g_assert_cmpstr(json_text(doc, "status"), ==, "finished");
    json_t *result = json_object_get(doc, "result");
    g_assert_cmpstr(json_text(json_array_get(json_object_get(result, "findings"), 0), "state"), ==,
                    "mended");
    undo = begin(f, job, &error);
    g_assert_no_error(error);
    undone = wait_for_end(f, undo);
    g_assert_cmpstr(json_text(undone, "status"), ==, "finished");
    g_autofree char *entry = g_strdup_printf("doctor-undo %s;", json_text(result, "undo"));
    assert_log_has(f, "doctor-fix orphan-volume;", 1);
    assert_log_has(f, entry, 1);
    nonsense = begin(f, "nonsense", &error);
    g_assert_null(nonsense);
    g_assert_error(error, ERR, ERR_INVALID);
}

/* One deed at a time on a VM. */
static void
test_holds_the_vm(Fixture *f, gconstpointer data)
{
    g_autoptr(GError) error = NULL;
    f->agent->hold = "doctor-fix";
    g_autofree char *job = begin(f, NULL, &error), *second = NULL, *renaming = NULL;
    g_autoptr(json_t) doc = NULL;

    g_assert_no_error(error);
    second = begin(f, NULL, &error);
    g_assert_null(second);
    g_assert_error(error, ERR, ERR_BUSY);
    g_clear_error(&error);
    renaming = manager_snapshot_rename(f->manager, FAKE_VM, S(1), "new", NULL, NULL, &error);
    g_assert_null(renaming);
    g_assert_error(error, ERR, ERR_BUSY);
    wait_for_begun(f, 1); /* what begins later is not held any more */
    g_assert_cmpuint(fake_finish_held(f->agent), ==, 1);
    doc = wait_for_end(f, job);
    g_assert_cmpstr(json_text(doc, "status"), ==, "finished");
}

static void
wait_for_lost_ack(Fixture *f)
{
    for (int64_t until = g_get_monotonic_time() + PATIENCE_MS * 1000;;) {
        g_mutex_lock(&f->agent->lock);
        int left = f->agent->drop_acks;
        g_mutex_unlock(&f->agent->lock);
        if (left == 0)
            return;
        if (g_get_monotonic_time() > until)
            g_error("nothing was acknowledged");
        g_usleep(1000);
    }
}

/* The agent's doctor leaves a VM alone whose operation waits for the manager: if the manager's word
 * was lost, it is said again before the doctor is asked, and not only when the agent's connection
 * ends. */
static void
test_acknowledges_first(Fixture *f, gconstpointer data)
{
    g_autoptr(GError) error = NULL;
    g_autofree char *job = NULL, *other = NULL;
    g_autoptr(json_t) doc = NULL, held = NULL, answer = NULL;

    f->agent->drop_acks = 1;
    job = begin(f, NULL, &error);
    g_assert_no_error(error);
    doc = wait_for_end(f, job);
    wait_for_lost_ack(f);
    g_assert_cmpuint(open_operations(f), ==, 1);
    f->agent->hold = "doctor-fix";
    other = begin(f, NULL, &error); /* this one is wanted still */
    g_assert_no_error(error);
    wait_for_begun(f, 2);
    answer = ask(f, FAKE_VM);
    g_assert_cmpuint(open_operations(f), ==, 1);
    g_assert_cmpuint(fake_finish_held(f->agent), ==, 1);
    held = wait_for_end(f, other);
    g_assert_cmpstr(json_text(held, "status"), ==, "finished");
}

#define ADD(name, function) g_test_add(name, Fixture, NULL, set_up, function, tear_down)

int
main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    ADD("/doctor/asks", test_asks);
    ADD("/doctor/fix-and-undo", test_fix_and_undo);
    ADD("/doctor/holds-the-vm", test_holds_the_vm);
    ADD("/doctor/acknowledges-first", test_acknowledges_first);
    return g_test_run();
}
