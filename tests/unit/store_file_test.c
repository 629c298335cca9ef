/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * The file that the store is: other schemas, damage, a full disk.
 */
#include "store_fixture.h"

#include <glib/gstdio.h>
#include <sched.h>
#include <sqlite3.h>
#include <string.h>
#include <sys/mount.h>

static void
sql(const char *file, const char *text)
{
    sqlite3 *db = NULL;

    g_assert_cmpint(sqlite3_open(file, &db), ==, SQLITE_OK);
    g_assert_cmpint(sqlite3_exec(db, text, NULL, NULL, NULL), ==, SQLITE_OK);
    sqlite3_close(db);
}

static void
test_newer_schema_is_refused(Fixture *f, gconstpointer data)
{
    g_autoptr(GError) error = NULL;

    sql(f->file, "PRAGMA user_version = 99; PRAGMA application_id = 0"); /* not sealed */
    g_assert_null(store_open(f->file, &error));
    g_assert_error(error, ERR, ERR_UNSUPPORTED);
    g_assert_nonnull(strstr(error->message, f->file));
}

/* A database of the first schema is taken over with all that is in it. */
static void
test_older_schema(Fixture *f, gconstpointer data)
{
    add_event(f->store, 342, "job", "a");
    g_clear_pointer(&f->store, store_close);
    sql(f->file, "DROP TABLE person; DROP TABLE token; DROP INDEX note_twice; ALTER TABLE vm DROP "
                 "COLUMN sum;"
                 "ALTER TABLE flow DROP COLUMN sum; ALTER TABLE event DROP COLUMN sum;"
                 "DROP INDEX event_job; ALTER TABLE event DROP COLUMN about;"
                 "ALTER TABLE event DROP COLUMN host_id; ALTER TABLE event DROP COLUMN host_name;"
                 "CREATE UNIQUE INDEX event_job ON event(job_id, code, ifnull(snapshot_id, ''))"
                 "  WHERE job_id IS NOT NULL; PRAGMA user_version = 1; PRAGMA application_id = 0");
    reopen(f);
    ASSERT_EVENTS(f->store, 0, -1, true, "a");
    g_assert_cmpint(add_event(f->store, 342, "job", "again"), ==, 0);
    g_assert_cmpint(add_event_about(f->store, 342, "job", "x", "b"), >, 0);
}

/* Users and tokens of a version that did not keep where they were used, nor locked anybody, go on.
 */
static void
test_older_people(Fixture *f, gconstpointer data)
{
    g_autoptr(json_t) vms = json_object();
    PersonRow person = { .name = (char *)"p",
                         .role = (char *)"viewer",
                         .password = (char *)"secret",
                         .vms = vms,
                         .locked = 5 };
    TokenRow token = { .hash = (char *)"h",
                       .person = (char *)"p",
                       .kind = (char *)"api",
                       .created = 1,
                       .peer = (char *)"192.0.2.1" };

    g_assert_true(store_person_put(f->store, &person, NULL));
    g_assert_true(store_token_put(f->store, &token, NULL));
    g_clear_pointer(&f->store, store_close);
    sql(f->file, "ALTER TABLE token DROP COLUMN peer; ALTER TABLE event DROP COLUMN host_id;"
                 "ALTER TABLE person DROP COLUMN locked;"
                 "ALTER TABLE event DROP COLUMN host_name; PRAGMA user_version = 4;"
                 "PRAGMA application_id = 0");
    for (int again = 0; again < 2; again++) {
        reopen(f);
        g_autoptr(GPtrArray) rows = store_tokens(f->store, NULL);
        g_assert_cmpuint(rows->len, ==, 1);
        g_assert_cmpstr(((const TokenRow *)rows->pdata[0])->hash, ==, "h");
        g_assert_null(((const TokenRow *)rows->pdata[0])->peer);
        g_autoptr(GPtrArray) people = store_people(f->store, NULL);
        g_assert_cmpuint(people->len, ==, 1);
        const PersonRow *kept = people->pdata[0];
        g_assert_cmpstr(kept->password, ==, "secret");
        g_assert_cmpint(kept->locked, ==, 0);
    }
}

static void
test_damage_is_named(Fixture *f, gconstpointer data)
{
    g_autoptr(GError) error = NULL;
    g_autofree char *other = g_build_filename(f->dir, "other.db", NULL);

    insert(f->store, "a", "vm1", NULL);
    sql(f->file, "UPDATE flow SET data = '{\"x\":'");
    g_assert_null(store_flow_get(f->store, "a", &error));
    g_assert_error(error, ERR, ERR_CORRUPT);
    g_clear_error(&error);
    /* what is no database is kept, and not believed */
    g_assert_true(
        g_file_set_contents(other, "this is no database, it is a letter to you", -1, NULL));
    g_assert_cmpint(chmod(other, 0600), ==, 0);
    g_autoptr(Store) fresh = store_open(other, &error);
    g_assert_no_error(error);
    g_autofree char *kept = NULL;
    g_assert_true(g_file_get_contents(store_set_aside(fresh), &kept, NULL, NULL));
    g_assert_cmpstr(kept, ==, "this is no database, it is a letter to you");
}

/* On a file system of 1 MiB of its own, which nobody else sees. */
static bool
mount_small(const char *dir)
{
    return unshare(CLONE_NEWNS) == 0 && mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) == 0 &&
           mount("small", dir, "tmpfs", 0, "size=1m") == 0;
}

static unsigned
fill(Store *store, GError **error)
{
    g_autofree char *big = g_strnfill(20000, 'x');
    unsigned n = 0;

    for (; n < 1000; n++) {
        g_autofree char *id = g_strdup_printf("f%u", n);
        g_autoptr(FlowRow) row = flow_row(id, "vm1", NULL);
        json_object_set_new(row->data, "big", json_string(big));
        if (!store_flow_insert(store, row, error))
            break;
    }
    return n;
}

static void
test_full_disk(Fixture *f, gconstpointer data)
{
    g_autofree char *small = g_build_filename(f->dir, "small", NULL);
    g_autofree char *file = g_build_filename(small, "manager.db", NULL);
    g_autofree char *ballast = g_build_filename(small, "ballast", NULL);
    g_autofree char *zeroes = g_malloc0(200000);
    g_autoptr(GError) error = NULL;
    g_autoptr(Store) store = NULL;
    g_autoptr(FlowRow) row = NULL, now = NULL, after = NULL;
    g_autoptr(GPtrArray) rows = NULL;
    unsigned n;

    g_assert_cmpint(g_mkdir(small, 0700), ==, 0);
    if (!mount_small(small)) {
        g_test_skip("no private mount namespace here");
        g_rmdir(small);
        return;
    }
    g_assert_true(g_file_set_contents(ballast, zeroes, 200000, NULL));
    store = open_store(file);
    insert(store, "a", "vm1", NULL);
    n = fill(store, &error);
    g_assert_error(error, ERR, ERR_NO_SPACE);
    g_assert_nonnull(strstr(error->message, file));
    g_assert_cmpuint(n, >, 2);
    g_clear_error(&error);

    /* what was there is there and readable, what failed is not */
    rows = store_flow_list(store, false, NULL, NULL, &error);
    g_assert_no_error(error);
    g_assert_cmpuint(rows->len, ==, n + 1);
    row = get(store, "a");
    row->tried = 7;
    if (!store_flow_update(store, row, &error))
        g_assert_error(error, ERR, ERR_NO_SPACE);
    g_clear_error(&error);
    now = get(store, "a");
    g_assert_cmpint(now->rev, ==, row->rev);

    /* with room again it goes on without a restart */
    g_assert_cmpint(g_remove(ballast), ==, 0);
    insert(store, "b", "vm1", NULL);
    g_clear_pointer(&store, store_close);
    store = open_store(file);
    after = get(store, "b");
    g_assert_cmpint(after->rev, ==, 1);
    g_clear_pointer(&store, store_close);
    g_assert_cmpint(umount2(small, MNT_DETACH), ==, 0);
    g_rmdir(small);
}

#define ADD(name, function) g_test_add(name, Fixture, NULL, set_up, function, tear_down)

int
main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    ADD("/store/newer-schema-is-refused", test_newer_schema_is_refused);
    ADD("/store/older-schema", test_older_schema);
    ADD("/store/older-people", test_older_people);
    ADD("/store/damage-is-named", test_damage_is_named);
    ADD("/store/full-disk", test_full_disk);
    /* last: from here on the clock is a fake */
    return g_test_run();
}
