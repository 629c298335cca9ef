/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * Tests of src/storage/lease.c and lease_local.c: one holder, in whichever process; a number that
 * grows with each change of the holder; what is lost is noticed before anything is deleted. Two
 * Domains of one directory are two holders, like two agents.
 */
#include "storage/salvage.h"
#include "storage/storage.h"

#include "base/clock.h"

#include "../lib/image_tools.h"

#include <glib/gstdio.h>
#include <signal.h>
#include <sys/wait.h>

#define OP "aaaaaaaa-0000-4000-8000-000000000001"
#define VM "11111111-2222-3333-4444-555555555555"

static Domain *
domain_in(const char *folder)
{
    g_autoptr(GError) error = NULL;
    Domain *domain = domain_open(folder, "gold", &error);

    g_assert_no_error(error);
    return domain;
}

static void
spoil_by(const char *folder, const char *script)
{
    g_autofree char *quoted = g_shell_quote(script);

    MUST(folder, "sh -c %s", quoted);
}

static void
must_hold(Lease *lease, LeaseHold *hold)
{
    g_autoptr(GError) error = NULL;

    lease_hold(lease, 0, hold, &error);
    g_assert_no_error(error);
    lease_check(hold, &error);
    g_assert_no_error(error);
}

static void
must_be_busy(Lease *lease, const char *word)
{
    g_auto(LeaseHold) hold = { 0 };
    g_autoptr(GError) error = NULL;

    g_assert_false(lease_hold(lease, 10, &hold, &error));
    g_assert_error(error, ERR, ERR_BUSY);
    g_assert_nonnull(strstr(error->message, word));
}

static void
test_one_holder(void)
{
    FOLDER(folder);
    g_autoptr(Domain) a = domain_in(folder), b = domain_in(folder);
    LeaseHold first = { 0 }, again = { 0 }, other = { 0 };
    g_autofree char *self = g_strdup_printf("process %d of host", (int)getpid());
    int64_t token;

    g_assert_null(domain_holder(a));
    must_hold(a->lease, &first);
    g_autofree char *holder = domain_holder(b);
    g_assert_true(g_str_has_prefix(holder, self));
    must_hold(a->lease, &again); /* a second thread of the same agent */
    g_assert_cmpint(first.token, ==, again.token);
    must_be_busy(b->lease, self);
    must_be_busy(b->lease, folder);
    must_be_busy(b->lease, "gold");
    lease_drop(&first);
    must_be_busy(b->lease, self);
    token = again.token;
    lease_drop(&again);
    lease_drop(&again); /* is empty by now */

    must_hold(a->lease, &first); /* nobody else had it since */
    g_assert_cmpint(first.token, ==, token);
    lease_drop(&first);
    must_hold(b->lease, &other);
    g_assert_cmpint(other.token, >, token);
    token = other.token;
    must_be_busy(a->lease, self);
    lease_drop(&other);
    must_hold(a->lease, &first);
    g_assert_cmpint(first.token, >, token);
    lease_drop(&first);
}

/* The numbers grow across restarts, and also when the record is damaged or lost. */
static void
test_numbers_grow(void)
{
    FOLDER(folder);
    static const char *const spoil[] = { "true", "echo '{\"tok' > .livemerge/lease.json",
                                         "rm .livemerge/lease.json", "rm .livemerge/lease.lock",
                                         "echo '[]' > .livemerge/lease.json" };
    int64_t last = 0;

    for (size_t i = 0; i < G_N_ELEMENTS(spoil); i++) {
        g_autoptr(Domain) domain = domain_in(folder);
        LeaseHold hold = { 0 };
        spoil_by(folder, spoil[i]);
        must_hold(domain->lease, &hold);
        g_assert_cmpint(hold.token, >, last);
        last = hold.token;
        lease_drop(&hold);
        g_usleep(2000);
    }
}

/* Whatever takes the lease away from its holder, he notices before he deletes. */
static void
test_lost(void)
{
    static const char *const rows[] = {
        "sed -i 's/\"token\": /\"token\": 9/' .livemerge/lease.json",
        "sed -i 's/\"id\": \"/\"id\": \"x/' .livemerge/lease.json",
        "rm .livemerge/lease.json",
        "echo '{' > .livemerge/lease.json",
        "rm .livemerge/lease.lock",
        "rm .livemerge/lease.lock; touch .livemerge/lease.lock",
    };

    for (size_t i = 0; i < G_N_ELEMENTS(rows); i++) {
        FOLDER(folder);
        g_autoptr(Domain) a = domain_in(folder);
        g_autofree char *file = image(folder, "a.qcow2", MIB, NULL, NULL);
        g_auto(LeaseHold) hold = { 0 };
        LeaseHold second = { 0 };
        g_autoptr(GError) error = NULL, joining = NULL, deleting = NULL;

        must_hold(a->lease, &hold);
        g_assert_false(lease_is_lost(&hold));
        spoil_by(folder, rows[i]);
        g_assert_false(lease_check(&hold, &error));
        g_assert_error(error, ERR, ERR_BUSY);
        g_assert_nonnull(strstr(error->message, folder));
        g_assert_true(lease_is_lost(&hold));
        g_assert_false(lease_hold(a->lease, 0, &second, &joining));
        g_assert_error(joining, ERR, ERR_BUSY);
        g_assert_false(volume_delete(a, OP, file, TRASH_EMPTY, &deleting));
        g_assert_true(g_file_test(file, G_FILE_TEST_EXISTS));

        lease_drop(&hold); /* once nobody believes in it any more, it can be taken anew */
        must_hold(a->lease, &second);
        lease_drop(&second);
        g_clear_error(&deleting);
        g_assert_true(volume_delete(a, OP, file, TRASH_EMPTY, &deleting));
        g_assert_false(g_file_test(file, G_FILE_TEST_EXISTS));
    }
}

/* Everything that deletes or brings back waits for the holder. */
static void
test_all_deletes_ask(void)
{
    FOLDER(folder);
    g_autoptr(Domain) a = domain_in(folder), b = domain_in(folder);
    g_autofree char *file = image(folder, "a.qcow2", MIB, NULL, NULL);
    g_autofree char *left = in(folder, ".livemerge/trash/" OP ".0.left");
    g_autofree char *back = in(folder, "back");
    g_auto(LeaseHold) hold = { 0 };
    GError *errors[6] = { NULL };

    must_hold(a->lease, &hold);
    g_assert_true(trash_sweep(b, NULL)); /* an empty one is nobody's business */
    MUST(folder, "touch .livemerge/trash/" OP ".0.left");
    g_assert_false(volume_delete(b, OP, file, TRASH_EMPTY, &errors[0]));
    g_assert_false(trash_sweep(b, &errors[1]));
    g_assert_false(trash_empty(b, OP, &errors[2]));
    g_assert_false(trash_purge(b, left, &errors[3]));
    g_assert_false(trash_restore(b, left, back, &errors[4]));
    g_assert_false(manifest_remove(b, VM, &errors[5]));
    for (size_t i = 0; i < G_N_ELEMENTS(errors); i++) {
        g_assert_error(errors[i], ERR, ERR_BUSY);
        g_clear_error(&errors[i]);
    }
    g_assert_true(g_file_test(file, G_FILE_TEST_EXISTS));
    g_assert_true(g_file_test(left, G_FILE_TEST_EXISTS));
    lease_drop(&hold);
    g_assert_true(trash_sweep(b, NULL));
    g_assert_false(g_file_test(left, G_FILE_TEST_EXISTS));
    g_assert_true(volume_delete(b, OP, file, TRASH_EMPTY, NULL));
}

/* Who acts deep below may only do so while somebody holds it. */
static void
test_confirm(void)
{
    FOLDER(folder);
    g_autoptr(Domain) a = domain_in(folder);
    LeaseHold hold = { 0 };
    g_autoptr(GError) error = NULL;

    g_assert_true(lease_confirm(NULL, &error));
    g_assert_false(lease_confirm(a->lease, &error));
    g_assert_error(error, ERR, ERR_INTERNAL);
    g_clear_error(&error);
    must_hold(a->lease, &hold);
    g_assert_true(lease_confirm(a->lease, &error));
    MUST(folder, "rm .livemerge/lease.json");
    g_assert_false(lease_confirm(a->lease, &error));
    g_assert_error(error, ERR, ERR_BUSY);
    lease_drop(&hold);
}

/* A holder that stands still keeps it; one that dies does not. */
static void
test_other_process(void)
{
    FOLDER(folder);
    g_autoptr(Domain) a = domain_in(folder);
    LeaseHold hold = { 0 };
    int ready[2];
    char byte;

    g_assert_cmpint(pipe(ready), ==, 0);
    pid_t child = fork();
    if (child == 0) {
        g_autoptr(Domain) b = domain_open(folder, NULL, NULL);
        LeaseHold theirs = { 0 };
        if (!lease_hold(b->lease, 0, &theirs, NULL) || write(ready[1], "x", 1) != 1)
            _exit(1);
        for (;;)
            pause();
    }
    g_assert_cmpint(read(ready[0], &byte, 1), ==, 1);
    g_autofree char *name = g_strdup_printf("process %d of host", (int)child);
    kill(child, SIGSTOP);
    must_be_busy(a->lease, name);
    kill(child, SIGKILL);
    g_assert_cmpint(waitpid(child, NULL, 0), ==, child);
    must_hold(a->lease, &hold);
    lease_drop(&hold);
    close(ready[0]);
    close(ready[1]);
}

/* ---- another implementation: it takes long, and loses the lease from outside */

typedef struct {
    Lease lease;
    int64_t token;
    bool gone;
    unsigned acquired, released;
} Remote;

static bool
remote_acquire(Lease *lease, unsigned budget_ms, int64_t *ret_token, GError **error)
{
    Remote *remote = (Remote *)lease;

    g_usleep(20000);
    remote->acquired++;
    remote->gone = false;
    *ret_token = ++remote->token;
    return true;
}

static void
remote_release(Lease *lease)
{
    ((Remote *)lease)->released++;
}

static bool
remote_check(Lease *lease, int64_t token, GError **error)
{
    Remote *remote = (Remote *)lease;

    return (!remote->gone && token == remote->token) || error_set(error, ERR_BUSY, "it is lost");
}

static bool
remote_lost(Lease *lease)
{
    return ((Remote *)lease)->gone;
}

static void
remote_free(Lease *lease)
{
}

static void *
hold_a_while(void *lease)
{
    g_auto(LeaseHold) hold = { 0 };
    g_autoptr(GError) error = NULL;

    g_assert_true(lease_hold(lease, 30000, &hold, &error));
    g_usleep(30000);
    g_assert_true(lease_check(&hold, &error));
    return NULL;
}

static void
test_other_implementation(void)
{
    static const LeaseOps ops = { remote_acquire, remote_release, remote_check, remote_lost,
                                  remote_free };
    Remote remote = { 0 };
    GThread *threads[4];
    LeaseHold hold = { 0 }, second = { 0 };

    lease_init(&remote.lease, &ops);
    for (size_t i = 0; i < G_N_ELEMENTS(threads); i++)
        threads[i] = g_thread_new("holder", hold_a_while, &remote.lease);
    for (size_t i = 0; i < G_N_ELEMENTS(threads); i++)
        g_thread_join(threads[i]);
    g_assert_cmpuint(remote.acquired, ==, remote.released);
    g_assert_cmpuint(remote.acquired, <=, G_N_ELEMENTS(threads));

    must_hold(&remote.lease, &hold);
    remote.gone = true;
    g_assert_true(lease_is_lost(&hold));
    g_assert_false(lease_check(&hold, NULL));
    g_assert_false(lease_hold(&remote.lease, 0, &second, NULL));
    lease_drop(&hold);
    must_hold(&remote.lease, &second);
    lease_drop(&second);
    lease_free(&remote.lease);
}

/* Each bit, each length: a record that says nothing, or something else, lets nobody have a number
 * that was there before; one who has the lease notices. */
static void
test_spoiled_record(void)
{
    QUICK_FOLDER(folder);
    g_autoptr(Domain) a = domain_in(folder), b = domain_in(folder);
    g_autofree char *file = in(folder, ".livemerge/lease.json"), *bytes = NULL, *now = NULL;
    LeaseHold hold = { 0 };
    gsize length = 0, size = 0;

    must_hold(a->lease, &hold);
    int64_t token = hold.token;
    lease_drop(&hold);
    g_assert_true(g_file_get_contents(file, &bytes, &length, NULL));
    while (clock_wall_ms() <= token) /* a lost record's numbers begin with the time */
        g_usleep(100);
    for (gsize i = 0; i < length * 9; i++) {
        spoil(file, bytes, length, i);
        must_hold(b->lease, &hold);
        g_assert_cmpint(hold.token, >, token);
        lease_drop(&hold);
    }
    must_hold(b->lease, &hold);
    g_assert_true(g_file_get_contents(file, &now, &size, NULL));
    overwrite(file, now, size / 2);
    g_autoptr(GError) error = NULL;
    g_assert_false(lease_check(&hold, &error));
    g_assert_error(error, ERR, ERR_BUSY);
    lease_drop(&hold);
}

int
main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/lease/one-holder", test_one_holder);
    g_test_add_func("/lease/numbers-grow", test_numbers_grow);
    g_test_add_func("/lease/lost", test_lost);
    g_test_add_func("/lease/spoiled-record", test_spoiled_record);
    g_test_add_func("/lease/all-deletes-ask", test_all_deletes_ask);
    g_test_add_func("/lease/confirm", test_confirm);
    g_test_add_func("/lease/other-process", test_other_process);
    g_test_add_func("/lease/other-implementation", test_other_implementation);
    return g_test_run();
}
