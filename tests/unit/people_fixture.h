/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * People in a database of their own, which can be opened again.
 */
#pragma once

#include "base/clock.h"
#include "people/people.h"

#include <glib/gstdio.h>

#define START INT64_C(1800000000000)
#define PASSWORD "correct horse"
#define PEER "192.0.2.1"
#define HOUR (3600 * INT64_C(1000))
#define DAY (24 * HOUR)

typedef struct {
    char *dir, *file;
    Store *store;
    People *people;
} Fixture;

static inline void
reopen(Fixture *f)
{
    g_autoptr(GError) error = NULL;

    people_close(f->people);
    store_close(f->store);
    f->store = store_open(f->file, &error);
    g_assert_no_error(error);
    g_assert_null(store_set_aside(f->store));
    f->people = people_open(f->store, NULL, &error);
    g_assert_no_error(error);
}

static inline void
set_up(Fixture *f, gconstpointer data)
{
    clock_fake(START);
    f->dir = g_dir_make_tmp("livemerge-people-XXXXXX", NULL);
    f->file = g_build_filename(f->dir, "manager.db", NULL);
    f->people = NULL;
    f->store = NULL;
    reopen(f);
}

static inline void
tear_down(Fixture *f, gconstpointer data)
{
    static const char *const files[] = { "manager.db", "manager.db-wal", "manager.db-shm" };

    people_close(f->people);
    store_close(f->store);
    for (size_t i = 0; i < G_N_ELEMENTS(files); i++) {
        g_autofree char *path = g_build_filename(f->dir, files[i], NULL);
        g_unlink(path);
    }
    g_assert_cmpint(g_rmdir(f->dir), ==, 0);
    g_free(f->file);
    g_free(f->dir);
}

#define GOOD(call)                        \
    do {                                  \
        g_autoptr(GError) problem = NULL; \
        bool good = (call);               \
        g_assert_no_error(problem);       \
        g_assert_true(good);              \
    } while (0)
#define BAD(call, code)                       \
    do {                                      \
        g_autoptr(GError) problem = NULL;     \
        g_assert_false((call));               \
        g_assert_error(problem, ERR, (code)); \
    } while (0)

static inline void
add_alice(Fixture *f)
{
    GOOD(people_add(f->people, "alice", ROLE_OPERATOR, PASSWORD, &problem));
}

static inline Who *
sign_in(Fixture *f, const char *user, const char *password)
{
    g_autoptr(GError) problem = NULL;
    Who *who = people_sign_in(f->people, user, password, "192.0.2.1", &problem);

    g_assert_no_error(problem);
    return who;
}

static inline char *
token_of(Fixture *f, TokenKind kind, int64_t *ret_expires)
{
    g_autoptr(GError) problem = NULL;
    g_autoptr(Who) who = sign_in(f, "alice", PASSWORD);
    char *token = people_token_new(f->people, who, kind, PEER, ret_expires, &problem);

    g_assert_no_error(problem);
    return token;
}

static inline bool
is_good(Fixture *f, const char *token)
{
    TokenKind kind;
    g_autoptr(Who) who = people_token(f->people, token, PEER, &kind);

    return who != NULL;
}
