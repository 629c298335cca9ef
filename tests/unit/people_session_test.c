/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * Signing in: tokens over their whole life (in virtual time), sessions, limits.
 */
#include "people/limit.h"
#include "people_fixture.h"

#include <string.h>

/* ---- tokens ---- */

static void
test_token_ages(Fixture *f, gconstpointer data)
{
    static const struct {
        TokenKind kind;
        int64_t use_each, idle, lives; /* ms: used so often; dies of idleness; dies in any case */
    } rows[] = {
        { TOKEN_API, HOUR / 2, HOUR, 7 * DAY },
        { TOKEN_BROWSER, HOUR / 2, HOUR, 7 * DAY },
        { TOKEN_PROGRAM, 10 * DAY, 30 * DAY, 30 * DAY },
    };

    add_alice(f);
    for (size_t i = 0; i < G_N_ELEMENTS(rows); i++) {
        int64_t expires = 0, now = clock_wall_ms();
        g_autofree char *idle = token_of(f, rows[i].kind, &expires);
        g_autofree char *used = token_of(f, rows[i].kind, &expires);
        g_assert_cmpint(expires, ==, now + rows[i].lives);
        g_assert_cmpuint(strlen(used), ==, 43); /* 256 bits */
        g_assert_cmpstr(used, !=, idle);
        clock_fake_advance(rows[i].idle - 1);
        if (rows[i].idle < rows[i].lives)
            g_assert_true(is_good(f, used));
        clock_fake_advance(1);
        g_assert_false(is_good(f, idle));
        while (clock_wall_ms() + rows[i].use_each < now + rows[i].lives) {
            g_assert_true(is_good(f, used));
            clock_fake_advance(rows[i].use_each);
        }
        clock_fake_advance(now + rows[i].lives - clock_wall_ms());
        g_assert_false(is_good(f, used));
    }
}

static void
test_token_ends(Fixture *f, gconstpointer data)
{
    int64_t expires;
    g_autoptr(GError) error = NULL;

    add_alice(f);
    g_autofree char *revoked = token_of(f, TOKEN_API, &expires);
    g_autofree char *other = token_of(f, TOKEN_API, &expires);
    g_autofree char *whose = people_token_revoke(f->people, revoked, &error);
    g_assert_cmpstr(whose, ==, "alice@internal");
    g_assert_null(people_token_revoke(f->people, revoked, &error));
    g_assert_no_error(error);
    g_assert_false(is_good(f, revoked));
    g_assert_true(is_good(f, other));
    g_assert_false(is_good(f, ""));
    g_assert_false(is_good(f, "x"));

    /* a restart keeps tokens, and what was revoked stays so; no token is in the file */
    reopen(f);
    g_assert_true(is_good(f, other));
    g_assert_false(is_good(f, revoked));
    g_autofree char *file = NULL;
    gsize size = 0;
    g_assert_true(g_file_get_contents(f->file, &file, &size, NULL));
    g_assert_null(memmem(file, size, other, strlen(other)));

    /* another role holds at once, another password ends them */
    TokenKind kind;
    GOOD(people_set_role(f->people, "alice", NULL, ROLE_VIEWER, &problem));
    g_autoptr(Who) who = people_token(f->people, other, PEER, &kind);
    g_assert_cmpint(who->role, ==, ROLE_VIEWER);
    g_autoptr(Who) before = sign_in(f, "alice", PASSWORD);
    GOOD(people_set_password(f->people, "alice", "another one", &problem));
    g_assert_false(is_good(f, other));
    BAD(people_token_new(f->people, before, TOKEN_API, PEER, &expires, &problem) != NULL,
        ERR_SIGN_IN);
    g_autoptr(Who) again = sign_in(f, "alice", "another one");
    g_autofree char *last = people_token_new(f->people, again, TOKEN_API, PEER, &expires, NULL);
    GOOD(people_remove(f->people, "alice", &problem));
    g_assert_false(is_good(f, last));
    add_alice(f); /* another Alice has nothing of it */
    g_assert_false(is_good(f, last));
    reopen(f);
    g_assert_false(is_good(f, last));
}

static void
test_token_number(Fixture *f, gconstpointer data)
{
    g_autoptr(GPtrArray) tokens = g_ptr_array_new_with_free_func(g_free);
    int64_t expires;

    add_alice(f);
    g_autoptr(Who) who = sign_in(f, "alice", PASSWORD);
    for (int i = 0; i <= PEOPLE_MOST_TOKENS; i++) {
        clock_fake_advance(1);
        if (i == PEOPLE_MOST_TOKENS)
            g_assert_true(is_good(f, tokens->pdata[0])); /* used: now the second is the oldest */
        g_ptr_array_add(tokens, people_token_new(f->people, who, TOKEN_API, PEER, &expires, NULL));
    }
    for (int i = 0; i <= PEOPLE_MOST_TOKENS; i++)
        g_assert_cmpint(is_good(f, tokens->pdata[i]), ==, i != 1);
    g_autoptr(Person) alice = people_find(f->people, "alice", NULL);
    g_assert_cmpuint(alice->tokens, ==, PEOPLE_MOST_TOKENS);
    /* what has expired leaves the store with the next one */
    clock_fake_advance(2 * HOUR);
    g_free(people_token_new(f->people, who, TOKEN_API, PEER, &expires, NULL));
    g_autoptr(GPtrArray) rows = store_tokens(f->store, NULL);
    g_assert_cmpuint(rows->len, ==, 1);
}

/* ---- tokens as users see them ---- */

static GPtrArray *
sessions(Fixture *f, const Who *who, const char *name, guint wanted)
{
    g_autoptr(GError) error = NULL;
    GPtrArray *list = people_sessions(f->people, who, name, &error);

    g_assert_no_error(error);
    g_assert_cmpuint(list->len, ==, wanted);
    return list;
}

/* Each tells what it is and where it was used, and nothing that could be used; a restart keeps
 * that. */
static void
test_sessions(Fixture *f, gconstpointer data)
{
    int64_t expires;
    TokenKind kind;

    add_alice(f);
    g_autofree char *page = token_of(f, TOKEN_BROWSER, &expires);
    clock_fake_advance(HOUR / 2);
    g_autofree char *program = token_of(f, TOKEN_PROGRAM, &expires);
    g_autoptr(Who) who = people_token(f->people, page, "198.51.100.7", &kind);
    clock_fake_advance(1000);
    g_free(token_of(f, TOKEN_API, &expires));
    for (int again = 0; again < 2; again++, reopen(f)) {
        g_autoptr(GPtrArray) list = sessions(f, who, "alice@internal", 3);
        const Session *last = list->pdata[0], *mine = NULL;
        g_assert_cmpstr(last->kind, ==, "api");
        for (guint i = 0; i < list->len; i++) {
            const Session *one = list->pdata[i];
            g_assert_cmpuint(strlen(one->id), ==, 16);
            g_assert_false(is_good(f, one->id));
            g_assert_null(strstr(page, one->id));
            mine = one->is_mine ? one : mine;
            if (g_str_equal(one->kind, "program"))
                g_assert_cmpint(one->ends, ==, START + HOUR / 2 + 30 * DAY);
        }
        g_assert_cmpstr(mine->kind, ==, "browser");
        g_assert_cmpstr(mine->peer, ==, "198.51.100.7");
        g_assert_cmpint(mine->created, ==, START);
        g_assert_cmpint(mine->used, ==, START + HOUR / 2);
        g_assert_cmpint(mine->ends, ==, START + HOUR / 2 + HOUR);
    }
    /* what has expired is not shown */
    clock_fake_advance(2 * HOUR);
    g_ptr_array_unref(sessions(f, who, "alice", 1));
    g_assert_true(is_good(f, program));
    BAD(people_sessions(f->people, who, "nobody", &problem) != NULL, ERR_NOT_FOUND);
}

static void
test_sessions_end(Fixture *f, gconstpointer data)
{
    int64_t expires;
    TokenKind kind;
    const char *word = NULL;
    unsigned ended = 0;

    add_alice(f);
    GOOD(people_add(f->people, "bob", ROLE_VIEWER, PASSWORD, &problem));
    g_autoptr(Who) bob = sign_in(f, "bob", PASSWORD);
    g_autofree char *bobs = people_token_new(f->people, bob, TOKEN_API, PEER, &expires, NULL);
    g_autofree char *mine = token_of(f, TOKEN_BROWSER, &expires);
    g_autofree char *first = token_of(f, TOKEN_API, &expires);
    g_autofree char *second = token_of(f, TOKEN_PROGRAM, &expires);
    g_autoptr(Who) who = people_token(f->people, mine, PEER, &kind);
    g_autofree char *hash = g_compute_checksum_for_string(G_CHECKSUM_SHA256, first, -1);
    g_autofree char *id = g_strndup(hash, 16), *prefix = g_strndup(hash, 15);

    BAD(people_session_end(f->people, "bob", id, &word, &problem), ERR_NOT_FOUND);
    BAD(people_session_end(f->people, "alice", prefix, &word, &problem), ERR_NOT_FOUND);
    BAD(people_session_end(f->people, "alice", "", &word, &problem), ERR_NOT_FOUND);
    BAD(people_session_end(f->people, "nobody", id, &word, &problem), ERR_NOT_FOUND);
    g_assert_true(is_good(f, first));
    GOOD(people_session_end(f->people, "alice@internal", id, &word, &problem));
    g_assert_cmpstr(word, ==, "api");
    BAD(people_session_end(f->people, "alice", id, &word, &problem), ERR_NOT_FOUND);
    g_assert_false(is_good(f, first));
    g_assert_true(is_good(f, second) && is_good(f, bobs));
    GOOD(people_sessions_end(f->people, who, "alice", &ended, &problem));
    g_assert_cmpuint(ended, ==, 1);
    for (int again = 0; again < 2; again++, reopen(f))
        g_assert_true(is_good(f, mine) && !is_good(f, second) && is_good(f, bobs));
    /* for somebody else: all of them */
    GOOD(people_sessions_end(f->people, bob, "alice", &ended, &problem));
    g_assert_cmpuint(ended, ==, 1);
    g_assert_true(!is_good(f, mine) && is_good(f, bobs));
}

/* ---- limits ---- */

static void
test_limit(void)
{
    clock_fake(START);
    Limit *limit = limit_new(3, 1000, 4);
    static const char *const others[] = { "b", "c", "d", "e", "f" };

    for (int i = 0; i < 3; i++) {
        g_assert_cmpint(limit_wait(limit, "a"), ==, 0);
        limit_spend(limit, "a");
    }
    g_assert_cmpint(limit_wait(limit, "a"), ==, 1000);
    g_assert_cmpint(limit_wait(limit, "b"), ==, 0);
    clock_fake_advance(999);
    g_assert_cmpint(limit_wait(limit, "a"), ==, 1);
    clock_fake_advance(1);
    g_assert_cmpint(limit_wait(limit, "a"), ==, 0);
    limit_spend(limit, "a");
    g_assert_cmpint(limit_wait(limit, "a"), ==, 1000);
    /* who comes with many names drives out the lesser ones only */
    for (size_t i = 0; i < G_N_ELEMENTS(others); i++)
        limit_spend(limit, others[i]);
    g_assert_cmpint(limit_wait(limit, "a"), ==, 1000);
    clock_fake_advance(3000);
    g_assert_cmpint(limit_wait(limit, "a"), ==, 0);
    limit_free(limit);
}

static void
fail(Fixture *f, const char *user, const char *peer, int code)
{
    g_autoptr(GError) error = NULL;

    g_assert_null(people_sign_in(f->people, user, "wrong password", peer, &error));
    if (!g_error_matches(error, ERR, code))
        g_error("%s from %s: %s", user, peer, error->message);
}

static void
test_sign_in_limits(Fixture *f, gconstpointer data)
{
    add_alice(f);
    for (int i = 0; i < 10; i++)
        fail(f, i % 2 ? "alice" : "nobody", "192.0.2.7", ERR_SIGN_IN);
    fail(f, "alice", "192.0.2.7", ERR_LIMITED);
    BAD(people_sign_in(f->people, "alice", PASSWORD, "192.0.2.7", &problem) != NULL, ERR_LIMITED);
    g_autoptr(Who) elsewhere = sign_in(f, "alice", PASSWORD); /* from another address */
    g_assert_nonnull(elsewhere);
    clock_fake_advance(6000);
    g_autoptr(Who) later = people_sign_in(f->people, "alice", PASSWORD, "192.0.2.7", NULL);
    g_assert_nonnull(later);
    fail(f, "alice", "192.0.2.7", ERR_SIGN_IN);
    fail(f, "alice", "192.0.2.7", ERR_LIMITED);
    /* the whole network of an IPv6 host is one address; each user is limited over all of them */
    for (int i = 0; i < 10; i++) {
        g_autofree char *peer = g_strdup_printf("2001:db8::%d", i + 1);
        fail(f, "bob", peer, ERR_SIGN_IN);
    }
    fail(f, "bob", "2001:db8::99", ERR_LIMITED);
    fail(f, "bob", "2001:db8:0:1::1", ERR_SIGN_IN);
    for (int i = 0; i < 19; i++) {
        g_autofree char *peer = g_strdup_printf("198.51.100.%d", i + 1);
        fail(f, "bob", peer, ERR_SIGN_IN);
    }
    fail(f, "bob", "203.0.113.1", ERR_LIMITED);
    /* however the name is written */
    fail(f, "bob@internal", "203.0.113.1", ERR_LIMITED);
}

/* Basic costs a yescrypt once, then nothing, until the password changes or five minutes are over.
 */
static void
test_basic(Fixture *f, gconstpointer data)
{
    add_alice(f);
    g_autoptr(Who) first = people_basic(f->people, "alice", PASSWORD, "192.0.2.1", NULL);
    g_assert_nonnull(first);
    gint64 began = g_get_monotonic_time();
    for (int i = 0; i < 1000; i++) {
        g_autoptr(Who) who = people_basic(f->people, "alice", PASSWORD, "192.0.2.1", NULL);
        g_assert_nonnull(who);
    }
    g_assert_cmpint(g_get_monotonic_time() - began, <, 10 * G_USEC_PER_SEC); /* yescrypt: 45 s */
    BAD(people_basic(f->people, "alice", PASSWORD "!", "192.0.2.1", &problem) != NULL, ERR_SIGN_IN);
    GOOD(people_set_role(f->people, "alice", NULL, ROLE_VIEWER, &problem));
    g_autoptr(Who) viewer = people_basic(f->people, "alice", PASSWORD, "192.0.2.1", NULL);
    g_assert_cmpint(viewer->role, ==, ROLE_VIEWER);
    GOOD(people_set_password(f->people, "alice", "another one", &problem));
    BAD(people_basic(f->people, "alice", PASSWORD, "192.0.2.1", &problem) != NULL, ERR_SIGN_IN);
    g_autoptr(Who) again = people_basic(f->people, "alice", "another one", "192.0.2.1", NULL);
    g_assert_nonnull(again);
    GOOD(people_remove(f->people, "alice", &problem));
    BAD(people_basic(f->people, "alice", "another one", "192.0.2.1", &problem) != NULL,
        ERR_SIGN_IN);
}

/* Unknown users take as long as known ones: the least of some tries of each, and of more as long as
 * a busy machine makes them differ. Who is refused without a yescrypt would stay far below. */
static void
test_same_time(Fixture *f, gconstpointer data)
{
    static const char *const users[] = { "alice", "nobody", "admin", "x@elsewhere" };
    gint64 least[] = { G_MAXINT64, G_MAXINT64, G_MAXINT64, G_MAXINT64 };
    bool same = false;

    add_alice(f);
    for (int n = 0; n < 40 && !same; n++) {
        for (size_t i = 0; i < G_N_ELEMENTS(users); i++) {
            gint64 began = g_get_monotonic_time();
            fail(f, users[i], "192.0.2.9", ERR_SIGN_IN);
            least[i] = MIN(least[i], g_get_monotonic_time() - began);
            clock_fake_advance(10000);
        }
        same = n >= 4;
        for (size_t i = 1; i < G_N_ELEMENTS(users); i++)
            same = same && least[i] > least[0] / 3 && least[i] < least[0] * 3;
    }
    for (size_t i = 1; i < G_N_ELEMENTS(users); i++) {
        g_assert_cmpint(least[i], >, least[0] / 3);
        g_assert_cmpint(least[i], <, least[0] * 3);
    }
}

int
main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
#define ADD(path, function) g_test_add(path, Fixture, NULL, set_up, function, tear_down)
    g_test_add_func("/people/limit", test_limit);
    ADD("/people/token-ages", test_token_ages);
    ADD("/people/token-ends", test_token_ends);
    ADD("/people/token-number", test_token_number);
    ADD("/people/sessions", test_sessions);
    ADD("/people/sessions-end", test_sessions_end);
    ADD("/people/sign-in-limits", test_sign_in_limits);
    ADD("/people/basic", test_basic);
    ADD("/people/same-time", test_same_time);
    return g_test_run();
}
