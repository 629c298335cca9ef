/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * The check before the old volumes of a merge go (verify.c).
 */
#include "guard_host.h"

static void
test_commit_is_spoilt(void)
{
    static const struct {
        const char *verify, *state;
    } rows[] = { { "full", "failed" }, { "extents", "done" }, { "none", "done" } };

    for (size_t i = 0; i < G_N_ELEMENTS(rows); i++) {
        g_autoptr(Host) host = host_new();
        g_autoptr(GError) error = NULL;
        g_autofree char *old = in(host->disks, "a.2.q"), *base = in(host->disks, "a.1.q");

        host->fake.disks[0].spoils = true;
        merge_begin(host, 1, 2, "commit", rows[i].verify, &error);
        g_assert_no_error(error);
        g_autoptr(json_t) op = wait_until(host, has_ended, "ended");
        const json_t *result = json_object_get(op, "result"), *why = json_object_get(op, "error");
        g_assert_cmpstr(json_text(op, "state"), ==, rows[i].state);
        g_assert_cmpstr(json_text(result, "verified"), ==, rows[i].verify);
        g_assert_true(g_file_test(old, G_FILE_TEST_EXISTS));
        if (g_str_equal(rows[i].state, "done"))
            continue;
        g_assert_true(json_flag(result, "mismatch"));
        g_assert_cmpuint(json_array_size(json_object_get(result, "volumes_left")), ==, 0);
        g_assert_cmpstr(json_text(why, "code"), ==, "corrupt");
        g_assert_nonnull(strstr(json_text(why, "message"), old));
        g_assert_nonnull(strstr(json_text(why, "message"), base));
        g_assert_nonnull(strstr(json_text(why, "message"), "byte 4096 "));
        g_autoptr(Domain) domain = domain_open(host->disks, NULL, &error);
        g_autoptr(Vm) stored = manifest_load(domain, FAKE_VM, &error);
        g_assert_no_error(error);
        g_assert_cmpuint(stored->operations->len, ==, 0);
        g_assert_cmpuint(vm_disk(stored, "vda")->volumes->len, ==, 3); /* as QEMU has it */
    }
}

static bool
cannot_tell(const json_t *op)
{
    const char *text = json_text(op, "waiting_for");

    return text != NULL && strstr(text, "a.2.q") != NULL;
}

/* What cannot be read is not called a difference: it waits; given up, the old volumes stay. */
static void
test_unreadable(void)
{
    g_autoptr(Host) host = host_new();
    g_autoptr(GError) error = NULL;
    g_autoptr(json_t) answer = NULL;
    g_autofree char *old = in(host->disks, "a.2.q"), *away = in(host->disks, "away.q");

    host->fake.disks[0].hides = away;
    merge_begin(host, 1, 2, "commit", "extents", &error);
    g_assert_no_error(error);
    json_decref(wait_until(host, cannot_tell, "waited"));
    g_assert_cmpint(g_rename(away, old), ==, 0);
    agent_kick(host->agent, FAKE_VM);
    g_autoptr(json_t) op = wait_until(host, has_ended, "ended");
    g_assert_cmpstr(json_text(op, "state"), ==, "done");
    g_assert_cmpstr(json_text(json_object_get(op, "result"), "verified"), ==, "extents");
}

static void
test_unreadable_given_up(void)
{
    g_autoptr(Host) host = host_new();
    g_autoptr(GError) error = NULL;
    g_autoptr(json_t) answer = NULL;
    g_autofree char *away = in(host->disks, "away.q");

    host->fake.disks[0].hides = away;
    merge_begin(host, 1, 2, "commit", "extents", &error);
    g_assert_no_error(error);
    json_decref(wait_until(host, cannot_tell, "waited"));
    g_assert_true(operation_cancel(host->agent, OP, &answer, &error));
    g_autoptr(json_t) op = wait_until(host, has_ended, "ended");
    const json_t *left = json_object_get(json_object_get(op, "result"), "volumes_left");
    g_assert_cmpstr(json_text(op, "state"), ==, "cancelled");
    g_assert_cmpuint(json_array_size(left), ==, 0);
    assert_guest(host);
}

static void
test_words(void)
{
    g_autoptr(Host) host = host_new();
    g_autoptr(GError) error = NULL;

    g_assert_false(merge_begin(host, 1, 2, "commit", "thoroughly", &error));
    assert_refused(error, ERR_INVALID, "thoroughly");
    g_clear_error(&error);
    merge_begin(host, 2, 3, "commit-active", "full", &error);
    g_assert_no_error(error);
    g_autoptr(json_t) op = wait_until(host, has_ended, "ended");
    g_assert_cmpstr(json_text(json_object_get(op, "error"), "code"), ==, "refused");
    assert_guest(host);
}

/* Of a run that the VM writes, its job's word and the pivot are what there is. */
static void
test_verified_words(void)
{
    static const struct {
        unsigned base, top;
        const char *strategy, *verify, *verified;
    } rows[] = {
        { 1, 2, "commit", "full", "full" },        { 1, 2, "commit", "none", "none" },
        { 2, 3, "commit-active", "none", "none" }, { 2, 3, "commit-active", "extents", "job" },
        { 2, 3, "copy", "extents", "extents" },    { 2, 3, "copy", "full", "full" },
        { 2, 3, "copy", "none", "none" },
    };

    for (size_t i = 0; i < G_N_ELEMENTS(rows); i++) {
        g_autoptr(Host) host = host_new();
        g_autoptr(GError) error = NULL;

        merge_begin(host, rows[i].base, rows[i].top, rows[i].strategy, rows[i].verify, &error);
        g_assert_no_error(error);
        g_autoptr(json_t) op = wait_until(host, has_ended, "ended");
        const json_t *result = json_object_get(op, "result");
        g_assert_cmpstr(json_text(op, "state"), ==, "done");
        g_assert_cmpstr(json_text(result, "verified"), ==, rows[i].verified);
        if (g_str_equal(rows[i].verified, "full"))
            g_assert_cmpint(json_number(result, "bytes_compared") +
                                json_number(result, "bytes_same_blocks"),
                            >, 0);
        assert_guest(host);
    }
}

int
main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    need_qemu();
    g_test_add_func("/verify/commit-is-spoilt", test_commit_is_spoilt);
    g_test_add_func("/verify/unreadable", test_unreadable);
    g_test_add_func("/verify/unreadable-given-up", test_unreadable_given_up);
    g_test_add_func("/verify/words", test_words);
    g_test_add_func("/verify/verified", test_verified_words);
    return g_test_run();
}
