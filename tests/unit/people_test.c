/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * People: users, passwords, roles, and what a restart keeps.
 */
#include "people/password.h"
#include "people_fixture.h"

#include <string.h>

/* ---- users ---- */

static void
test_first_start(Fixture *f, gconstpointer data)
{
    g_autoptr(GPtrArray) list = people_list(f->people);
    const Person *admin = list->pdata[0];

    g_assert_cmpuint(list->len, ==, 1);
    g_assert_cmpstr(admin->name, ==, "admin");
    g_assert_cmpint(admin->role, ==, ROLE_ADMINISTRATOR);
    g_assert_false(admin->has_password);
    g_assert_false(people_ready(f->people));
    static const char *const guesses[] = { "", "admin", "*", "!", "there is no such user" };
    for (size_t i = 0; i < G_N_ELEMENTS(guesses); i++)
        BAD(people_sign_in(f->people, "admin@internal", guesses[i], "192.0.2.1", &problem) != NULL,
            ERR_SIGN_IN);
    GOOD(people_set_password(f->people, "admin@internal", PASSWORD, &problem));
    g_assert_true(people_ready(f->people));
    g_autoptr(Who) who = sign_in(f, "admin@internal", PASSWORD);
    g_assert_cmpstr(who->name, ==, "admin@internal");
    g_assert_cmpint(who->role, ==, ROLE_ADMINISTRATOR);
    /* a removed admin does not come back at the next start if there are others */
    add_alice(f);
    GOOD(people_remove(f->people, "admin", &problem));
    reopen(f);
    BAD(people_find(f->people, "admin", &problem) != NULL, ERR_NOT_FOUND);
}

static void
test_names(Fixture *f, gconstpointer data)
{
    static const struct {
        const char *name, *plain; /* NULL = refused */
    } rows[] = {
        { "bob", "bob" },
        { "bob.b-c_d@internal", "bob.b-c_d" },
        { "7", "7" },
        { "", NULL },
        { "@internal", NULL },
        { "bob@elsewhere", NULL },
        { "bob@internal@internal", NULL },
        { "-bob", NULL },
        { "b b", NULL },
        { "b/b", NULL },
        { "b\nb", NULL },
        { "b\xc3\xa4", NULL },
        { "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa", NULL }, /* 65 */
    };

    for (size_t i = 0; i < G_N_ELEMENTS(rows); i++) {
        if (rows[i].plain == NULL) {
            BAD(people_add(f->people, rows[i].name, ROLE_VIEWER, NULL, &problem), ERR_INVALID);
            continue;
        }
        GOOD(people_add(f->people, rows[i].name, ROLE_VIEWER, NULL, &problem));
        g_autoptr(Person) person = people_find(f->people, rows[i].name, NULL);
        g_assert_cmpstr(person->name, ==, rows[i].plain);
        BAD(people_add(f->people, rows[i].plain, ROLE_VIEWER, NULL, &problem), ERR_EXISTS);
    }
}

static void
test_passwords(Fixture *f, gconstpointer data)
{
    g_autofree char *longest = g_strnfill(PASSWORD_LONGEST, 'x');
    g_autofree char *longer = g_strnfill(PASSWORD_LONGEST + 1, 'x');
    g_autofree char *endless = g_strnfill(100000, 'x');

    add_alice(f);
    BAD(people_set_password(f->people, "alice", "short12", &problem), ERR_INVALID);
    BAD(people_set_password(f->people, "alice", longer, &problem), ERR_INVALID);
    BAD(people_set_password(f->people, "nobody", PASSWORD, &problem), ERR_NOT_FOUND);
    GOOD(people_set_password(f->people, "alice", longest, &problem));
    g_autoptr(Who) who = sign_in(f, "alice", longest);
    g_assert_nonnull(who);
    BAD(people_sign_in(f->people, "alice", longer, "a", &problem) != NULL, ERR_SIGN_IN);
    BAD(people_sign_in(f->people, "alice", endless, "a", &problem) != NULL, ERR_SIGN_IN);
    BAD(people_sign_in(f->people, "alice", PASSWORD, "a", &problem) != NULL, ERR_SIGN_IN);
    g_autoptr(GPtrArray) rows = store_people(f->store, NULL);
    for (guint i = 0; i < rows->len; i++) {
        const PersonRow *row = rows->pdata[i];
        if (g_str_equal(row->name, "alice"))
            g_assert_true(g_str_has_prefix(row->password, "$y$"));
    }
    g_autofree char *file = NULL;
    gsize size = 0;
    g_assert_true(g_file_get_contents(f->file, &file, &size, NULL));
    g_assert_null(memmem(file, size, PASSWORD, strlen(PASSWORD)));
}

static void
test_vm_roles(Fixture *f, gconstpointer data)
{
    add_alice(f);
    GOOD(people_set_role(f->people, "alice", NULL, ROLE_NONE, &problem));
    GOOD(people_set_role(f->people, "alice", "vm1", ROLE_OPERATOR, &problem));
    GOOD(people_set_role(f->people, "alice", "vm2", ROLE_VIEWER, &problem));
    GOOD(people_set_role(f->people, "alice", "vm3", ROLE_VIEWER, &problem));
    GOOD(people_set_role(f->people, "alice", "vm3", ROLE_NONE, &problem));
    reopen(f);
    g_autoptr(Who) who = sign_in(f, "alice", PASSWORD);
    g_assert_cmpint(who_role_on(who, NULL), ==, ROLE_NONE);
    g_assert_cmpint(who_role_on(who, "vm1"), ==, ROLE_OPERATOR);
    g_assert_cmpint(who_role_on(who, "vm2"), ==, ROLE_VIEWER);
    g_assert_cmpint(who_role_on(who, "vm3"), ==, ROLE_NONE);
    GOOD(people_set_role(f->people, "alice", NULL, ROLE_VIEWER, &problem));
    g_autoptr(Who) viewer = sign_in(f, "alice", PASSWORD);
    g_assert_cmpint(who_role_on(viewer, "vm1"), ==, ROLE_OPERATOR);
    g_assert_cmpint(who_role_on(viewer, "vm3"), ==, ROLE_VIEWER);
}

/* ---- locked ---- */

static void
test_locked(Fixture *f, gconstpointer data)
{
    int64_t expires;
    bool changed = false;

    add_alice(f);
    g_autofree char *token = token_of(f, TOKEN_API, &expires);
    g_autoptr(Who) alice = people_basic(f->people, "alice", PASSWORD, PEER, NULL);
    g_assert_nonnull(alice);
    g_autoptr(Who) root = who_local("root@local", ROLE_ADMINISTRATOR);
    BAD(people_set_locked(f->people, alice, "alice", true, &changed, &problem), ERR_REFUSED);
    BAD(people_set_locked(f->people, root, "nobody", true, &changed, &problem), ERR_NOT_FOUND);
    g_assert_true(is_good(f, token) && !changed);
    GOOD(people_set_locked(f->people, root, "alice@internal", true, &changed, &problem));
    g_assert_true(changed);
    GOOD(people_set_locked(f->people, root, "alice", true, &changed, &problem));
    g_assert_false(changed);
    for (int again = 0; again < 2; again++, reopen(f)) {
        g_assert_false(is_good(f, token));
        g_assert_null(people_again(f->people, alice));
        g_autoptr(GError) why = NULL;
        g_assert_null(people_basic(f->people, "alice", PASSWORD, PEER, &why));
        g_assert_error(why, ERR, ERR_SIGN_IN);
        g_assert_nonnull(strstr(why->message, "locked"));
        /* who does not know the password is not told */
        g_autoptr(GError) wrong = NULL;
        g_assert_null(people_sign_in(f->people, "alice", "not that one", PEER, &wrong));
        g_assert_null(strstr(wrong->message, "locked"));
        g_assert_null(people_token_new(f->people, alice, TOKEN_API, PEER, &expires, NULL));
        clock_fake(START + DAY * (again + 1)); /* the limits are not what this is about */
    }
    /* what an administrator changes meanwhile does not unlock */
    GOOD(people_set_password(f->people, "alice", "staple by staple", &problem));
    GOOD(people_set_role(f->people, "alice", NULL, ROLE_VIEWER, &problem));
    g_autoptr(Person) person = people_find(f->people, "alice", NULL);
    g_assert_cmpint(person->locked, ==, START);
    BAD(people_sign_in(f->people, "alice", "staple by staple", PEER, &problem) != NULL,
        ERR_SIGN_IN);
    GOOD(people_set_locked(f->people, root, "alice", false, &changed, &problem));
    g_assert_true(changed && !is_good(f, token));
    g_autoptr(Who) back = sign_in(f, "alice", "staple by staple");
    g_assert_cmpint(back->role, ==, ROLE_VIEWER);
}

/* Whoever could let people in again must not be locked out unseen. */
static void
test_locked_administrator(Fixture *f, gconstpointer data)
{
    g_autoptr(Who) root = who_local("root@local", ROLE_ADMINISTRATOR);
    bool changed;

    GOOD(people_set_password(f->people, "admin", PASSWORD, &problem));
    g_assert_true(people_ready(f->people));
    GOOD(people_set_locked(f->people, root, "admin", true, &changed, &problem));
    g_assert_false(people_ready(f->people));
}

/* ---- one's own password ---- */

#define ANOTHER "battery staple"

static void
test_own_password(Fixture *f, gconstpointer data)
{
    int64_t expires;
    TokenKind kind;

    add_alice(f);
    g_autofree char *mine = token_of(f, TOKEN_BROWSER, &expires);
    g_autofree char *other = token_of(f, TOKEN_API, &expires);
    g_autoptr(Who) who = people_token(f->people, mine, PEER, &kind);

    BAD(people_change_password(f->people, who, "wrong horse", ANOTHER, PEER, &problem),
        ERR_FORBIDDEN);
    BAD(people_change_password(f->people, who, PASSWORD, "short", PEER, &problem), ERR_INVALID);
    BAD(people_change_password(f->people, who, PASSWORD, PASSWORD, PEER, &problem), ERR_INVALID);
    g_assert_true(is_good(f, other));
    GOOD(people_change_password(f->people, who, PASSWORD, ANOTHER, PEER, &problem));
    for (int again = 0; again < 2; again++, reopen(f)) {
        g_assert_true(is_good(f, mine)); /* he goes on where he is */
        g_assert_false(is_good(f, other));
        BAD(people_sign_in(f->people, "alice", PASSWORD, PEER, &problem), ERR_SIGN_IN);
        who_free(sign_in(f, "alice", ANOTHER));
    }
    /* streams that he began before have to ask again who he is */
    g_assert_null(people_again(f->people, who));
}

/* Somebody at an open screen cannot try passwords for ever; nor is the user locked out by it. */
static void
test_own_password_limit(Fixture *f, gconstpointer data)
{
    int64_t expires;
    TokenKind kind;
    unsigned tries = 0;

    add_alice(f);
    g_autofree char *mine = token_of(f, TOKEN_BROWSER, &expires);
    g_autoptr(Who) who = people_token(f->people, mine, PEER, &kind);
    g_autoptr(GError) limited = NULL;

    while (tries < 20 && !g_error_matches(limited, ERR, ERR_LIMITED)) {
        g_clear_error(&limited);
        g_assert_false(
            people_change_password(f->people, who, "wrong horse", ANOTHER, PEER, &limited));
        tries++;
    }
    g_assert_cmpuint(tries, ==, 11);
    BAD(people_change_password(f->people, who, PASSWORD, ANOTHER, PEER, &problem), ERR_LIMITED);
    g_assert_true(is_good(f, mine));
    clock_fake_advance(6000);
    GOOD(people_change_password(f->people, who, PASSWORD, ANOTHER, PEER, &problem));
}

/* Whom the kernel names has no password; whose password was changed meanwhile is not overruled. */
static void
test_own_password_of_nobody(Fixture *f, gconstpointer data)
{
    g_autoptr(Who) root = who_local("root@local", ROLE_ADMINISTRATOR);

    add_alice(f);
    BAD(people_change_password(f->people, root, PASSWORD, ANOTHER, PEER, &problem), ERR_FORBIDDEN);
    g_autoptr(Who) who = sign_in(f, "alice", PASSWORD);
    g_assert_true(people_is(who, "alice") && people_is(who, "alice@internal"));
    g_assert_false(people_is(who, "alice@elsewhere") || people_is(who, "bob") ||
                   people_is(root, "root"));
    GOOD(people_set_password(f->people, "alice", ANOTHER, &problem));
    BAD(people_change_password(f->people, who, PASSWORD, "yet another one", PEER, &problem),
        ERR_FORBIDDEN);
    GOOD(people_remove(f->people, "alice", &problem));
    BAD(people_change_password(f->people, who, ANOTHER, "yet another one", PEER, &problem),
        ERR_FORBIDDEN);
}

/* ---- roles ---- */

static void
test_rights(void)
{
    static const char *const wanted[] = {
        /* for each role: public, signed-in, read, operate, administer, own (of another user) */
        [ROLE_NONE] = "++----",
        [ROLE_VIEWER] = "+++---",
        [ROLE_OPERATOR] = "++++--",
        [ROLE_ADMINISTRATOR] = "++++++",
    };

    for (Role role = 0; role < ROLE_LAST; role++) {
        Role back;
        g_assert_true(role_from_word(role_word(role), &back) && back == role);
        for (Right right = 0; right < RIGHT_LAST; right++)
            g_assert_cmpint(role_has(role, right), ==, wanted[role][right] == '+');
        g_assert_false(role_has(role, RIGHT_LAST));
    }
    Role none = ROLE_VIEWER;
    g_assert_false(role_from_word("root", &none));
    g_assert_false(role_from_word(NULL, &none));
    g_assert_cmpint(none, ==, ROLE_VIEWER);
}

int
main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
#define ADD(path, function) g_test_add(path, Fixture, NULL, set_up, function, tear_down)
    g_test_add_func("/people/rights", test_rights);
    ADD("/people/first-start", test_first_start);
    ADD("/people/names", test_names);
    ADD("/people/passwords", test_passwords);
    ADD("/people/vm-roles", test_vm_roles);
    ADD("/people/locked", test_locked);
    ADD("/people/locked-administrator", test_locked_administrator);
    ADD("/people/own-password", test_own_password);
    ADD("/people/own-password-limit", test_own_password_limit);
    ADD("/people/own-password-of-nobody", test_own_password_of_nobody);
    return g_test_run();
}
