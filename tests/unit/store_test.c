/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * The manager's database: what it promises about restarts, races and full disks.
 */
#include "store/store.h"

#include "../lib/folder.h"
#include "base/clock.h"
#include "base/text.h"

#include <glib/gstdio.h>
#include <sched.h>
#include <sqlite3.h>
#include <string.h>
#include <sys/mount.h>

typedef struct {
    char *dir;
    char *file;
    Store *store;
} Fixture;

static Store *
open_store(const char *file)
{
    g_autoptr(GError) error = NULL;
    Store *store = store_open(file, &error);

    g_assert_no_error(error);
    return store;
}

static void
set_up(Fixture *f, gconstpointer data)
{
    f->dir = g_dir_make_tmp("livemerge-store-XXXXXX", NULL);
    f->file = g_build_filename(f->dir, "manager.db", NULL);
    f->store = open_store(f->file);
}

static void
tear_down(Fixture *f, gconstpointer data)
{
    store_close(f->store);
    tree_remove(f->dir);
    g_free(f->dir);
    g_free(f->file);
}

static void
reopen(Fixture *f)
{
    store_close(f->store);
    f->store = open_store(f->file);
}

static FlowRow *
flow_row(const char *id, const char *vm, const char *parent)
{
    FlowRow *row = g_new0(FlowRow, 1);

    row->id = g_strdup(id);
    row->kind = g_strdup("merge-run");
    row->vm_id = g_strdup(vm);
    row->parent = g_strdup(parent);
    row->step = g_strdup("begin");
    row->params = json_pack("{s:s}", "disk", "vda");
    row->data = json_object();
    row->correlation_id = g_strdup("corr");
    row->description = g_strdup("Merging \303\244 'vda'");
    return row;
}

static void
insert(Store *store, const char *id, const char *vm, const char *parent)
{
    g_autoptr(FlowRow) row = flow_row(id, vm, parent);
    g_autoptr(GError) error = NULL;

    g_assert_true(store_flow_insert(store, row, &error));
    g_assert_no_error(error);
    g_assert_cmpint(row->rev, ==, 1);
    g_assert_cmpint(row->created, >, 0);
}

static FlowRow *
get(Store *store, const char *id)
{
    g_autoptr(GError) error = NULL;
    FlowRow *row = store_flow_get(store, id, &error);

    g_assert_no_error(error);
    return row;
}

/* Ids of the rows, joined. */
static char *
list(Store *store, bool only_open, const char *parent, const char *vm)
{
    g_autoptr(GError) error = NULL;
    g_autoptr(GPtrArray) rows = store_flow_list(store, only_open, parent, vm, &error);
    GString *ids = g_string_new(NULL);

    g_assert_no_error(error);
    for (guint i = 0; i < rows->len; i++)
        g_string_append_printf(ids, "%s%s", i > 0 ? " " : "", ((FlowRow *)rows->pdata[i])->id);
    return g_string_free(ids, FALSE);
}

#define ASSERT_LIST(store, only_open, parent, vm, wanted)           \
    do {                                                            \
        g_autofree char *ids_ = list(store, only_open, parent, vm); \
        g_assert_cmpstr(ids_, ==, wanted);                          \
    } while (0)

static void
finish(Store *store, const char *id)
{
    g_autoptr(FlowRow) row = get(store, id);
    g_autoptr(GError) error = NULL;

    g_free(row->step);
    row->step = g_strdup("");
    g_assert_true(store_flow_update(store, row, &error));
    g_assert_no_error(error);
    g_assert_cmpint(row->ended, >, 0);
}

static void
test_flow_survives_restart(Fixture *f, gconstpointer data)
{
    g_autoptr(GError) error = NULL;
    g_autoptr(FlowRow) row = NULL, again = NULL;

    insert(f->store, "a", "vm1", NULL);
    row = get(f->store, "a");
    g_free(row->step);
    row->step = g_strdup("wait");
    row->tried = 3;
    row->error_word = g_strdup("storage");
    row->error_text = g_strdup("it is \"broken\"\n");
    json_object_set_new(row->data, "op", json_string("x"));
    g_assert_true(store_flow_update(f->store, row, &error));
    g_assert_cmpint(row->rev, ==, 2);
    reopen(f);

    again = get(f->store, "a");
    g_assert_cmpstr(again->kind, ==, "merge-run");
    g_assert_cmpstr(again->vm_id, ==, "vm1");
    g_assert_null(again->parent);
    g_assert_cmpstr(again->step, ==, "wait");
    g_assert_cmpuint(again->tried, ==, 3);
    g_assert_cmpstr(again->error_word, ==, "storage");
    g_assert_cmpstr(again->error_text, ==, "it is \"broken\"\n");
    g_assert_cmpstr(again->correlation_id, ==, "corr");
    g_assert_cmpstr(again->description, ==, "Merging \303\244 'vda'");
    g_assert_true(json_equal(again->params, row->params));
    g_assert_true(json_equal(again->data, row->data));
    g_assert_cmpint(again->rev, ==, 2);
    g_assert_cmpint(again->ended, ==, 0);
}

static void
test_lists(Fixture *f, gconstpointer data)
{
    g_autoptr(GError) error = NULL;

    insert(f->store, "z", "vm1", NULL);
    insert(f->store, "b", "vm1", "z");
    insert(f->store, "a", "vm1", "z");
    insert(f->store, "y", "vm2", NULL);
    ASSERT_LIST(f->store, false, NULL, NULL, "z b a y"); /* as inserted */
    ASSERT_LIST(f->store, false, "z", NULL, "b a");
    ASSERT_LIST(f->store, false, NULL, "vm2", "y");
    finish(f->store, "b");
    ASSERT_LIST(f->store, true, "z", NULL, "a");
    ASSERT_LIST(f->store, true, "z", "vm2", "");
    ASSERT_LIST(f->store, false, "z", "vm1", "b a");
    g_assert_null(store_flow_get(f->store, "nobody", &error));
    g_assert_error(error, ERR, ERR_NOT_FOUND);
}

static void
test_id_is_taken_once(Fixture *f, gconstpointer data)
{
    g_autoptr(FlowRow) row = flow_row("a", "vm2", NULL);
    g_autoptr(GError) error = NULL;

    insert(f->store, "a", "vm1", NULL);
    g_assert_false(store_flow_insert(f->store, row, &error));
    g_assert_nonnull(error);
    ASSERT_LIST(f->store, false, NULL, "vm1", "a");
    ASSERT_LIST(f->store, false, NULL, "vm2", "");
}

static void
test_lost_race(Fixture *f, gconstpointer data)
{
    g_autoptr(GError) error = NULL;
    g_autoptr(FlowRow) first = NULL, second = NULL, now = NULL;

    insert(f->store, "a", "vm1", NULL);
    first = get(f->store, "a");
    second = flow_row_copy(first);
    first->tried = 1;
    second->tried = 2;
    g_assert_true(store_flow_update(f->store, first, &error));
    g_assert_false(store_flow_update(f->store, second, &error));
    g_assert_error(error, ERR, ERR_STALE_EPOCH);
    g_assert_cmpint(second->rev, ==, 1);
    now = get(f->store, "a");
    g_assert_cmpuint(now->tried, ==, 1);
}

/* A cancel comes from another thread than the one that turns the flow: neither undoes the other. */
static void
test_cancel_is_sticky(Fixture *f, gconstpointer data)
{
    g_autoptr(GError) error = NULL;
    g_autoptr(FlowRow) row = NULL, now = NULL;

    insert(f->store, "a", "vm1", NULL);
    row = get(f->store, "a");
    g_assert_true(store_flow_cancel(f->store, "a", &error));
    row->tried = 1;
    g_assert_true(store_flow_update(f->store, row, &error));
    now = get(f->store, "a");
    g_assert_true(now->cancel);
    g_assert_cmpuint(now->tried, ==, 1);
    finish(f->store, "a");
    g_assert_false(store_flow_cancel(f->store, "a", &error));
    g_assert_error(error, ERR, ERR_REFUSED);
}

static void
test_prune(Fixture *f, gconstpointer data)
{
    g_autoptr(GError) error = NULL;

    insert(f->store, "old", "vm1", NULL);
    insert(f->store, "old-child", "vm1", "old");
    insert(f->store, "open", "vm1", NULL);
    insert(f->store, "open-child", "vm1", "open");
    finish(f->store, "old-child");
    finish(f->store, "open-child");
    finish(f->store, "old");
    g_assert_true(store_flow_prune(f->store, clock_wall_ms() - 60000, &error));
    ASSERT_LIST(f->store, false, NULL, NULL, "old old-child open open-child");
    g_assert_true(store_flow_prune(f->store, clock_wall_ms() + 60000, &error));
    ASSERT_LIST(f->store, false, NULL, NULL, "open open-child");
}

static int64_t
add_event_about(Store *store, int code, const char *job, const char *about, const char *text)
{
    g_autoptr(GError) error = NULL;
    g_autoptr(EventRow) row = g_new0(EventRow, 1);

    row->code = code;
    row->severity = g_strdup("normal");
    row->text = g_strdup(text);
    row->job_id = g_strdup(job);
    row->about = g_strdup(about);
    g_assert_true(store_event_add(store, row, &error));
    g_assert_no_error(error);
    g_assert_cmpint(row->time, >, 0);
    return row->id;
}

static int64_t
add_event(Store *store, int code, const char *job, const char *text)
{
    return add_event_about(store, code, job, NULL, text);
}

static char *
events(Store *store, int64_t from, int max, bool oldest_first)
{
    g_autoptr(GError) error = NULL;
    g_autoptr(GPtrArray) rows = store_event_list(store, from, max, oldest_first, &error);
    GString *texts = g_string_new(NULL);

    g_assert_no_error(error);
    for (guint i = 0; i < rows->len; i++)
        g_string_append(texts, ((EventRow *)rows->pdata[i])->text);
    return g_string_free(texts, FALSE);
}

#define ASSERT_EVENTS(store, from, max, oldest, wanted)             \
    do {                                                            \
        g_autofree char *texts_ = events(store, from, max, oldest); \
        g_assert_cmpstr(texts_, ==, wanted);                        \
    } while (0)

static void
test_event_removed(Fixture *f, gconstpointer data)
{
    g_autoptr(GError) error = NULL;
    int64_t a = add_event(f->store, 1, NULL, "a"), b = add_event(f->store, 1, NULL, "b");

    g_assert_true(store_event_remove(f->store, b, &error));
    g_assert_false(store_event_remove(f->store, b, &error));
    g_assert_error(error, ERR, ERR_NOT_FOUND);
    reopen(f);
    ASSERT_EVENTS(f->store, 0, -1, true, "a");
    g_assert_cmpint(a, <, b);
    g_assert_cmpint(add_event(f->store, 1, NULL, "c"), >, b); /* nobody takes it for the other */
}

static void
test_events(Fixture *f, gconstpointer data)
{
    g_autoptr(GError) error = NULL;
    int64_t a = add_event(f->store, 1, NULL, "a");
    int64_t b = add_event(f->store, 1, NULL, "b");
    int64_t c = add_event(f->store, 342, "job", "c");

    g_assert_cmpint(a, <, b);
    g_assert_cmpint(b, <, c);
    ASSERT_EVENTS(f->store, 0, -1, false, "cba");
    ASSERT_EVENTS(f->store, 0, -1, true, "abc");
    ASSERT_EVENTS(f->store, 0, 1, false, "c");
    ASSERT_EVENTS(f->store, a, -1, true, "bc");
    ASSERT_EVENTS(f->store, c, -1, true, "");
    ASSERT_EVENTS(f->store, 0, 0, true, "");
    /* a flow that is repeated after a crash says it again */
    g_assert_cmpint(add_event(f->store, 342, "job", "again"), ==, 0);
    g_assert_cmpint(add_event(f->store, 356, "job", "d"), >, c);
    ASSERT_EVENTS(f->store, 0, -1, true, "abcd");
    /* what a job may say more than once has a name for each time */
    g_assert_cmpint(add_event_about(f->store, 7, "job", "vda 1", "e"), >, 0);
    g_assert_cmpint(add_event_about(f->store, 7, "job", "vda 1", "again"), ==, 0);
    g_assert_cmpint(add_event_about(f->store, 7, "job", "vda 2", "f"), >, 0);
    ASSERT_EVENTS(f->store, 0, -1, true, "abcdef");
    /* ids never come back, not even after a prune and a restart */
    g_assert_true(store_event_prune(f->store, clock_wall_ms() + 60000, &error));
    ASSERT_EVENTS(f->store, 0, -1, true, "f");
    reopen(f);
    g_assert_cmpint(add_event(f->store, 1, NULL, "g"), >, c + 1);
}

static void
test_epoch_and_instance(Fixture *f, gconstpointer data)
{
    g_autoptr(GError) error = NULL;
    g_autofree char *instance = g_strdup(store_instance(f->store));

    g_assert_true(id_is_valid(instance));
    clock_fake(5000);
    g_assert_cmpint(store_next_epoch(f->store, &error), ==, 5);
    g_assert_cmpint(store_next_epoch(f->store, &error), ==, 6);
    reopen(f);
    g_assert_cmpint(store_next_epoch(f->store, &error), ==, 7);
    clock_fake_advance(-3000); /* a clock that is set back does not matter */
    g_assert_cmpint(store_next_epoch(f->store, &error), ==, 8);
    clock_fake_advance(20000);
    g_assert_cmpint(store_next_epoch(f->store, &error), ==, 22);
    g_assert_cmpstr(store_instance(f->store), ==, instance);
}

static void
collect_vm(const char *vm_id, const char *host, const json_t *doc, void *text)
{
    g_string_append_printf(text, "%s@%s=%" JSON_INTEGER_FORMAT ";", vm_id, host,
                           json_integer_value(json_object_get(doc, "n")));
}

static void
test_vms(Fixture *f, gconstpointer data)
{
    g_autoptr(GError) error = NULL;
    g_autoptr(GString) text = g_string_new(NULL);

    for (int i = 0; i < 4; i++) {
        g_autoptr(json_t) doc = json_pack("{s:i}", "n", i);
        g_autofree char *id = g_strdup_printf("vm%d", i % 3);
        g_assert_true(store_vm_put(f->store, id, i < 3 ? "h1" : "h2", doc, &error));
    }
    g_assert_true(store_vm_remove(f->store, "vm1", &error));
    g_assert_true(store_vm_remove(f->store, "vm1", &error));
    reopen(f);
    g_assert_true(store_vm_each(f->store, collect_vm, text, &error));
    g_assert_cmpstr(text->str, ==, "vm0@h2=3;vm2@h1=2;");
}

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
    ADD("/store/flow-survives-restart", test_flow_survives_restart);
    ADD("/store/lists", test_lists);
    ADD("/store/id-is-taken-once", test_id_is_taken_once);
    ADD("/store/lost-race", test_lost_race);
    ADD("/store/cancel-is-sticky", test_cancel_is_sticky);
    ADD("/store/prune", test_prune);
    ADD("/store/events", test_events);
    ADD("/store/event-removed", test_event_removed);
    ADD("/store/vms", test_vms);
    ADD("/store/newer-schema-is-refused", test_newer_schema_is_refused);
    ADD("/store/older-schema", test_older_schema);
    ADD("/store/older-people", test_older_people);
    ADD("/store/damage-is-named", test_damage_is_named);
    ADD("/store/full-disk", test_full_disk);
    /* last: from here on the clock is a fake */
    ADD("/store/epoch-and-instance", test_epoch_and_instance);
    return g_test_run();
}
