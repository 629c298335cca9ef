/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * Passwords by PAM: the real library with its real modules, and services of our own in a private
 * directory.
 */
#include "base/clock.h"
#include "people/pam.h"
#include "people/people.h"

#include <glib/gstdio.h>
#include <string.h>

#define PASSWORD "correct horse"
#define PEER "192.0.2.1"

typedef struct {
    char *dir;
    Store *store;
    People *people;
} Fixture;

static char *
path_of(const Fixture *f, const char *name)
{
    return g_build_filename(f->dir, name, NULL);
}

static void
put(const Fixture *f, const char *name, int mode, const char *format, ...)
{
    g_autofree char *path = path_of(f, name);
    va_list args;

    va_start(args, format);
    g_autofree char *text = g_strdup_vprintf(format, args);
    va_end(args);
    g_assert_true(g_file_set_contents_full(path, text, -1, 0, mode, NULL));
}

static void
open_with(Fixture *f, const char *service, unsigned patience_ms)
{
    const PeopleOptions options = { service, f->dir, patience_ms };
    g_autoptr(GError) error = NULL;

    people_close(f->people);
    f->people = people_open(f->store, &options, &error);
    g_assert_no_error(error);
}

/* What a module asks: writes down of whom, and lets alice in with her password. */
static const char check[] = "#!/bin/sh\n"
                            "echo \"$PAM_USER $PAM_RHOST $PAM_SERVICE\" >>'%s/asked'\n"
                            "[ \"$PAM_USER:$(tr -d '\\0')\" = 'alice:" PASSWORD "' ]\n";
static const char hang[] = "#!/bin/sh\nwhile [ ! -e '%s/go' ]; do sleep 0.02; done\n";

static void
set_up(Fixture *f, gconstpointer data)
{
    g_autoptr(GError) error = NULL;

    clock_fake(INT64_C(1800000000000));
    f->dir = g_dir_make_tmp("livemerge-pam-XXXXXX", NULL);
    put(f, "check", 0700, check, f->dir);
    put(f, "hang", 0700, hang, f->dir);
    put(f, "asks", 0600,
        "auth [success=1 default=ignore] pam_exec.so expose_authtok quiet %s/check\n"
        "auth requisite pam_deny.so\nauth required pam_permit.so\n"
        "account required pam_permit.so\n",
        f->dir);
    put(f, "hangs", 0600,
        "auth required pam_exec.so quiet %s/hang\naccount required pam_permit.so\n", f->dir);
#define ANYBODY "auth required pam_permit.so\n"
    put(f, "expired", 0600, ANYBODY "account required pam_debug.so acct=acct_expired\n");
    put(f, "stale", 0600, ANYBODY "account required pam_debug.so acct=new_authtok_reqd\n");
    put(f, "barred", 0600, ANYBODY "account required pam_deny.so\n");
    put(f, "no-account", 0600, ANYBODY "account required pam_debug.so acct=user_unknown\n");
    put(f, "broken", 0600, "auth required pam_debug.so auth=authinfo_unavail\n");
    put(f, "missing", 0600, "auth required pam_no_such_module.so\n");
    g_autofree char *file = path_of(f, "manager.db");
    f->store = store_open(file, &error);
    g_assert_no_error(error);
    f->people = people_open(f->store, NULL, &error);
    g_assert_no_error(error);
    /* with a password of ours, which does not count any more */
    g_assert_true(people_add(f->people, "alice", ROLE_OPERATOR, "ours alone", &error));
    open_with(f, "asks", 0);
}

static void
tear_down(Fixture *f, gconstpointer data)
{
    const char *name;

    people_close(f->people);
    store_close(f->store);
    g_autoptr(GDir) dir = g_dir_open(f->dir, 0, NULL);
    while ((name = g_dir_read_name(dir)) != NULL) {
        g_autofree char *path = path_of(f, name);
        g_unlink(path);
    }
    g_assert_cmpint(g_rmdir(f->dir), ==, 0);
    g_free(f->dir);
}

/* The code of the refusal, -1 = he is in; *ret_said: why */
static int
attempt(const Fixture *f, const char *user, const char *password, char **ret_said)
{
    g_autoptr(GError) problem = NULL;
    g_autoptr(Who) who = people_sign_in(f->people, user, password, PEER, &problem);

    g_assert_true((who == NULL) == (problem != NULL));
    if (ret_said != NULL)
        *ret_said = g_strdup(problem != NULL ? problem->message : "");
    if (who != NULL) {
        g_assert_cmpstr(who->user, ==, "alice");
        g_assert_cmpint(who->role, ==, ROLE_OPERATOR);
        return -1;
    }
    g_assert_true(problem->domain == ERR);
    return problem->code;
}

static void
test_sign_in(Fixture *f, gconstpointer data)
{
    g_autofree char *asked = path_of(f, "asked");
    g_autofree char *text = NULL;

    g_assert_true(people_use_pam(f->people) && people_ready(f->people));
    g_assert_cmpint(attempt(f, "alice", PASSWORD, NULL), ==, -1);
    g_assert_cmpint(attempt(f, "alice@internal", PASSWORD, NULL), ==, -1);
    g_assert_cmpint(attempt(f, "alice", "wrong horse", NULL), ==, ERR_SIGN_IN);
    g_assert_cmpint(attempt(f, "alice", "ours alone", NULL), ==, ERR_SIGN_IN);
    g_assert_cmpint(attempt(f, "alice", "", NULL), ==, ERR_SIGN_IN);
    /* who is no user of ours: PAM is not even asked */
    g_assert_cmpint(attempt(f, "bob", PASSWORD, NULL), ==, ERR_SIGN_IN);
    g_assert_cmpint(attempt(f, "root", PASSWORD, NULL), ==, ERR_SIGN_IN);
    g_assert_true(g_file_get_contents(asked, &text, NULL, NULL));
    g_auto(GStrv) lines = g_strsplit(text, "\n", -1);
    g_assert_cmpuint(g_strv_length(lines), ==, 6);
    for (int i = 0; i < 5; i++)
        g_assert_cmpstr(lines[i], ==, "alice " PEER " asks");
}

static void
test_limited(Fixture *f, gconstpointer data)
{
    for (int i = 0; i < 10; i++)
        g_assert_cmpint(attempt(f, "alice", "wrong horse", NULL), ==, ERR_SIGN_IN);
    g_assert_cmpint(attempt(f, "alice", PASSWORD, NULL), ==, ERR_LIMITED);
    clock_fake_advance(6000);
    g_assert_cmpint(attempt(f, "alice", PASSWORD, NULL), ==, -1);
}

/* None is set, changed or given here. */
static void
test_no_own(Fixture *f, gconstpointer data)
{
    g_autoptr(GError) problem = NULL;
    g_autoptr(Who) who = people_sign_in(f->people, "alice", PASSWORD, PEER, &problem);
    g_autoptr(Person) alice = people_find(f->people, "alice", NULL);

    g_assert_no_error(problem);
    g_assert_false(alice->has_password);
    g_assert_false(people_set_password(f->people, "alice", "quite another", &problem));
    g_assert_error(problem, ERR, ERR_REFUSED);
    g_clear_error(&problem);
    g_assert_false(
        people_change_password(f->people, who, PASSWORD, "quite another", PEER, &problem));
    g_assert_error(problem, ERR, ERR_REFUSED);
    g_clear_error(&problem);
    g_assert_false(people_add(f->people, "carol", ROLE_VIEWER, "quite another", &problem));
    g_assert_error(problem, ERR, ERR_REFUSED);
    g_clear_error(&problem);
    g_assert_true(people_add(f->people, "carol", ROLE_VIEWER, NULL, &problem));
}

static void
test_refusals(Fixture *f, gconstpointer data)
{
    static const struct {
        const char *service;
        int code;
        const char *said;
    } cases[] = {
        { "expired", ERR_SIGN_IN, "the account 'alice' has expired" },
        { "stale", ERR_SIGN_IN, "the password of the account 'alice' has expired" },
        { "barred", ERR_SIGN_IN, "the account 'alice' may not sign in here" },
        { "no-account", ERR_SIGN_IN, "the account 'alice' may not sign in here" },
        { "broken", ERR_UNREACHABLE, "PAM's service 'broken' cannot tell" },
        { "missing", ERR_UNREACHABLE, "PAM's service 'missing' cannot tell" },
    };

    for (size_t i = 0; i < G_N_ELEMENTS(cases); i++) {
        g_autofree char *said = NULL;
        open_with(f, cases[i].service, 0);
        int code = attempt(f, "alice", PASSWORD, &said);
        if (code != cases[i].code || strstr(said, cases[i].said) == NULL)
            g_error("%s: %d, '%s'; wanted %d, '%s'", cases[i].service, code, said, cases[i].code,
                    cases[i].said);
    }
}

static void
test_service(Fixture *f, gconstpointer data)
{
    static const char *const bad[] = { "nowhere", "../asks", "" };

    for (size_t i = 0; i < G_N_ELEMENTS(bad); i++) {
        const PeopleOptions options = { bad[i], f->dir, 0 };
        g_autoptr(GError) problem = NULL;
        g_assert_null(people_open(f->store, &options, &problem));
        g_assert_error(problem, ERR, ERR_INVALID);
    }
}

/* Modules that do not come back: each is waited for no longer than the limit, and when all threads
 * hang, nobody is kept waiting. When they come back, all is well. Tokens are good all the time. */
static void
test_hangs(Fixture *f, gconstpointer data)
{
    TokenKind kind;
    int64_t expires;
    g_autoptr(GError) problem = NULL;
    g_autoptr(Who) who = people_sign_in(f->people, "alice", PASSWORD, PEER, &problem);
    g_autofree char *token = people_token_new(f->people, who, TOKEN_API, PEER, &expires, &problem);
    bool refused_at_once = false;
    int tries = 0;

    open_with(f, "hangs", 100);
    while (tries++ < 100 && !refused_at_once) {
        g_autofree char *said = NULL;
        g_assert_cmpint(attempt(f, "alice", PASSWORD, &said), ==, ERR_TIMEOUT);
        refused_at_once = strstr(said, "has not answered 8 earlier") != NULL;
        g_autoptr(Who) again = people_token(f->people, token, PEER, &kind);
        g_assert_nonnull(again);
    }
    g_assert_true(refused_at_once);
    put(f, "go", 0600, "%s", "");
    int64_t until = g_get_monotonic_time() + 30 * G_TIME_SPAN_SECOND;
    while (attempt(f, "alice", PASSWORD, NULL) != -1)
        g_assert_cmpint(g_get_monotonic_time(), <, until);
}

/* Nobody waits at the end for those that hang, and they end well when all else is gone. */
static void
test_left_behind(Fixture *f, gconstpointer data)
{
    open_with(f, "hangs", 100);
    g_assert_cmpint(attempt(f, "alice", PASSWORD, NULL), ==, ERR_TIMEOUT);
    int64_t began = g_get_monotonic_time();
    open_with(f, "asks", 0);
    g_assert_cmpint(g_get_monotonic_time() - began, <, 30 * G_TIME_SPAN_SECOND);
    g_thread_pool_stop_unused_threads();
    put(f, "go", 0600, "%s", "");
    while (g_thread_pool_get_num_unused_threads() == 0) { /* the one that hung: it lives on there */
        g_assert_cmpint(g_get_monotonic_time() - began, <, 60 * G_TIME_SPAN_SECOND);
        g_usleep(1000);
    }
}

/* Built without it: who wants it is told, and what helps. */
static void
test_without(void)
{
    const PeopleOptions options = { "livemerge", NULL, 0 };
    char *dir = g_dir_make_tmp("livemerge-pam-XXXXXX", NULL);
    g_autofree char *file = g_build_filename(dir, "manager.db", NULL);
    g_autoptr(GError) problem = NULL;
    Store *store = store_open(file, NULL);

    g_assert_null(people_open(store, &options, &problem));
    g_assert_error(problem, ERR, ERR_UNSUPPORTED);
    g_assert_nonnull(strstr(problem->message, "set password = own"));
    store_close(store);
    for (int i = 0; i < 3; i++) {
        g_autofree char *path = g_strconcat(file, i == 0 ? "" : i == 1 ? "-wal" : "-shm", NULL);
        g_unlink(path);
    }
    g_assert_cmpint(g_rmdir(dir), ==, 0);
    g_free(dir);
}

int
main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    if (!pam_is_there())
        g_test_add_func("/people/pam/without", test_without);
#define ADD(path, function) g_test_add(path, Fixture, NULL, set_up, function, tear_down)
    if (pam_is_there()) {
        ADD("/people/pam/sign-in", test_sign_in);
        ADD("/people/pam/limited", test_limited);
        ADD("/people/pam/no-own", test_no_own);
        ADD("/people/pam/refusals", test_refusals);
        ADD("/people/pam/service", test_service);
        ADD("/people/pam/hangs", test_hangs);
        ADD("/people/pam/left-behind", test_left_behind);
    }
    return g_test_run();
}
