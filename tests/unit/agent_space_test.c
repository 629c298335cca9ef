/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * A merge watches the free space (space.c): it pauses, and goes on.
 */
#include "agent/space.h"
#include "guard_host.h"

static void
merge_until_held(Host *host, uint64_t left_free)
{
    g_autoptr(GError) error = NULL;

    set_endless(host, true);
    merge_begin(host, 1, 2, "commit", "extents", &error);
    g_assert_no_error(error);
    while (host->fake.disks[0].looks < 3)
        g_usleep(1000);
    g_atomic_pointer_set(&room, left_free);
    g_autoptr(json_t) op = wait_until(host, is_held, "paused");
    const json_t *attention = json_object_get(op, "attention");
    g_assert_cmpstr(json_text(attention, "kind"), ==, "space");
    g_assert_nonnull(strstr(json_text(attention, "message"), host->disks));
    g_assert_cmpstr(json_text(json_object_get(op, "progress"), "phase"), ==, "paused");
    while (job_limit(host) != SPACE_HOLD) /* at most until the next look */
        g_usleep(1000);
}

static void
assert_merged(Host *host)
{
    set_endless(host, false);
    agent_kick(host->agent, FAKE_VM);
    g_autoptr(json_t) op = wait_until(host, has_ended, "ended");
    g_assert_cmpstr(json_text(op, "state"), ==, "done");
    g_assert_null(json_object_get(op, "attention"));
    g_assert_cmpstr(json_text(json_object_get(op, "result"), "verified"), ==, "extents");
    assert_guest(host);
}

static void
test_goes_on_by_itself(void)
{
    g_autoptr(Host) host = host_new();

    merge_until_held(host, GIB - 1); /* the reserve is 1 GiB */
    g_atomic_pointer_set(&room, GIB + MIB);
    json_decref(wait_until(host, is_not_held, "went on"));
    g_assert_cmpuint(job_limit(host), ==, LIMIT);
    assert_merged(host);
}

static void
test_person_says_go_on(void)
{
    g_autoptr(Host) host = host_new();
    g_autoptr(GError) error = NULL;
    g_autoptr(json_t) answer = NULL;

    merge_until_held(host, GIB - 1);
    g_assert_true(operation_resume(host->agent, OP, &answer, &error));
    json_decref(wait_until(host, is_not_held, "went on"));
    g_assert_cmpuint(job_limit(host), ==, LIMIT);
    g_atomic_pointer_set(&room, GIB / 2 + MIB); /* half of what was free may be used */
    wait_for_looks();
    g_autoptr(json_t) op = operation_now(host);
    g_assert_false(is_held(op));
    g_atomic_pointer_set(&room, GIB / 2 - MIB);
    json_decref(wait_until(host, is_held, "paused again"));
    g_atomic_pointer_set(&room, 5 * GIB);
    json_decref(wait_until(host, is_not_held, "went on"));
    assert_merged(host);
}

static void
test_held_through_restart(void)
{
    g_autoptr(Host) host = host_new();

    merge_until_held(host, GIB - 1);
    agent_end(host);
    host->fake.disks[0].bandwidth = 0; /* somebody let it loose meanwhile */
    agent_begin(host);
    g_autoptr(json_t) op = operation_now(host);
    g_assert_true(is_held(op));
    while (job_limit(host) != SPACE_HOLD)
        g_usleep(1000);
    g_atomic_pointer_set(&room, 5 * GIB);
    json_decref(wait_until(host, is_not_held, "went on"));
    assert_merged(host);
}

/* Asked for just before the agent dies: it is kept. */
static void
test_resume_through_restart(void)
{
    g_autoptr(Host) host = host_new();
    g_autoptr(GError) error = NULL;
    g_autoptr(json_t) answer = NULL;

    merge_until_held(host, GIB - 1);
    g_mutex_lock(&host->fake.lock);
    host->fake.away = true;
    g_mutex_unlock(&host->fake.lock);
    g_assert_true(operation_resume(host->agent, OP, &answer, &error));
    agent_end(host);
    agent_begin(host);
    json_decref(wait_until(host, is_not_held, "went on"));
    assert_merged(host);
}

static void
test_cancel_while_held(void)
{
    g_autoptr(Host) host = host_new();
    g_autoptr(GError) error = NULL;
    g_autoptr(json_t) answer = NULL;

    merge_until_held(host, GIB - 1);
    g_assert_true(operation_cancel(host->agent, OP, &answer, &error));
    g_autoptr(json_t) op = wait_until(host, has_ended, "ended");
    g_assert_cmpstr(json_text(op, "state"), ==, "cancelled");
    g_assert_null(json_object_get(op, "attention"));
    g_assert_cmpuint(host->fake.cancels, ==, 1);
    assert_guest(host);
}

/* Less than the reserve from the start: half of it may be used. */
static void
test_little_from_the_start(void)
{
    g_autoptr(Host) host = host_new();
    g_autoptr(GError) error = NULL;

    g_atomic_pointer_set(&room, GIB / 2);
    set_endless(host, true);
    merge_begin(host, 1, 2, "commit", "extents", &error);
    g_assert_no_error(error);
    while (host->fake.disks[0].looks < 6)
        g_usleep(1000);
    g_autoptr(json_t) op = operation_now(host);
    g_assert_false(is_held(op));
    g_atomic_pointer_set(&room, GIB / 4 - 1);
    json_decref(wait_until(host, is_held, "paused"));
    g_atomic_pointer_set(&room, GIB);
    json_decref(wait_until(host, is_not_held, "went on"));
    assert_merged(host);
}

/* To go on is asked of one that has not paused: nothing happens, now or later. */
static void
test_resume_of_nothing(void)
{
    g_autoptr(Host) host = host_new();
    g_autoptr(GError) error = NULL;
    g_autoptr(json_t) answer = NULL;

    g_assert_false(operation_resume(host->agent, OP, &answer, &error));
    g_assert_error(error, ERR, ERR_NOT_FOUND);
    g_clear_error(&error);
    set_endless(host, true);
    merge_begin(host, 1, 2, "commit", "extents", &error);
    g_assert_no_error(error);
    while (host->fake.disks[0].looks < 3)
        g_usleep(1000);
    g_assert_true(operation_resume(host->agent, OP, &answer, &error));
    g_atomic_pointer_set(&room, MIB);
    json_decref(wait_until(host, is_held, "paused"));
    wait_for_looks();
    g_autoptr(json_t) op = operation_now(host);
    g_assert_true(is_held(op));
}

static bool
shows_suspended(const json_t *op)
{
    const char *text = json_text(op, "waiting_for");

    return text != NULL && strstr(text, "virsh resume web1") != NULL;
}

static bool
shows_nothing(const json_t *op)
{
    return json_text(op, "waiting_for") == NULL;
}

/* QEMU suspended the guest, whose own write found the storage full: shown, and left alone. */
static void
test_guest_ran_out_of_space(void)
{
    g_autoptr(Host) host = host_new();
    g_autoptr(GError) error = NULL;

    set_endless(host, true);
    merge_begin(host, 1, 2, "commit", "extents", &error);
    g_assert_no_error(error);
    g_mutex_lock(&host->fake.lock);
    host->fake.io_error = "enospc";
    host->fake.paused = true;
    g_mutex_unlock(&host->fake.lock);
    g_autoptr(json_t) op = wait_until(host, shows_suspended, "told that the VM is suspended");
    g_assert_false(is_held(op));
    g_mutex_lock(&host->fake.lock);
    host->fake.paused = false; /* a person did that */
    g_mutex_unlock(&host->fake.lock);
    json_decref(wait_until(host, shows_nothing, "went on"));
    g_assert_cmpuint(host->fake.resumes, ==, 0);
    assert_merged(host);
}

int
main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    need_qemu();
    g_test_add_func("/space/goes-on-by-itself", test_goes_on_by_itself);
    g_test_add_func("/space/person-says-go-on", test_person_says_go_on);
    g_test_add_func("/space/held-through-restart", test_held_through_restart);
    g_test_add_func("/space/resume-through-restart", test_resume_through_restart);
    g_test_add_func("/space/cancel-while-held", test_cancel_while_held);
    g_test_add_func("/space/little-from-the-start", test_little_from_the_start);
    g_test_add_func("/space/resume-of-nothing", test_resume_of_nothing);
    g_test_add_func("/space/guest-ran-out", test_guest_ran_out_of_space);
    return g_test_run();
}
