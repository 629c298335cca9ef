/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * What the manager makes of what a host tells of its VMs: what it asks for, and what it writes
 * down.
 */
#include "flow_fixture.h"

#include <sqlite3.h>

/* Beside the manager, which may just write. */
static sqlite3 *
open_beside(const Fixture *f)
{
    g_autofree char *file = g_build_filename(f->dir, "manager.db", NULL);
    sqlite3 *db = NULL;

    g_assert_cmpint(sqlite3_open(file, &db), ==, SQLITE_OK);
    sqlite3_busy_timeout(db, PATIENCE_MS);
    return db;
}

static void
sql(const Fixture *f, const char *text)
{
    sqlite3 *db = open_beside(f);

    g_assert_cmpint(sqlite3_exec(db, text, NULL, NULL, NULL), ==, SQLITE_OK);
    sqlite3_close(db);
}

static void
say_changed(Fixture *f)
{
    WITH_LOCK(&f->agent->lock);

    fake_say(f->agent, json_pack("{s:s, s:s}", "event", "vm", "vm_id", FAKE_VM));
}

static void
grow(Fixture *f, uint64_t bytes)
{
    WITH_LOCK(&f->agent->lock);

    disk_leaf(vm_disk(f->agent->vm, "vda"))->allocated = bytes;
}

static void
describe(Fixture *f, const char *text)
{
    WITH_LOCK(&f->agent->lock);

    g_free(f->agent->vm->description);
    f->agent->vm->description = g_strdup(text);
}

/* Until the manager knows it. */
static void
wait_for(Fixture *f, uint64_t bytes, const char *text)
{
    int64_t until = g_get_monotonic_time() + PATIENCE_MS * 1000;

    for (;;) {
        g_autoptr(Vm) vm = manager_vm(f->manager, FAKE_VM, NULL);
        if (disk_leaf(vm_disk(vm, "vda"))->allocated == bytes &&
            g_strcmp0(vm->description, text) == 0)
            return;
        if (g_get_monotonic_time() > until)
            g_error("the manager does not know of %" G_GUINT64_FORMAT " bytes and '%s'", bytes,
                    text);
        g_usleep(1000);
    }
}

typedef struct {
    uint64_t bytes;
    char *text;
} Kept;

static void
note_kept(const char *vm_id, const char *host, const json_t *doc, void *data)
{
    Kept *kept = data;
    g_autoptr(Vm) vm = vm_from_json(doc, NULL);

    kept->bytes = disk_leaf(vm_disk(vm, "vda"))->allocated;
    g_free(kept->text);
    kept->text = g_strdup(vm->description);
}

static void
wait_until_kept(Fixture *f, uint64_t bytes, const char *text)
{
    int64_t until = g_get_monotonic_time() + PATIENCE_MS * 1000;

    for (;;) {
        Kept kept = { 0 };
        g_assert_true(store_vm_each(f->store, note_kept, &kept, NULL));
        g_autofree char *found = kept.text;
        if (kept.bytes == bytes && g_strcmp0(found, text) == 0)
            return;
        if (g_get_monotonic_time() > until)
            g_error("the database has %" G_GUINT64_FORMAT " bytes and '%s', not %" G_GUINT64_FORMAT
                    " and '%s'",
                    kept.bytes, found, bytes, text);
        g_usleep(1000);
    }
}

/* How often the manager has written a VM since count_writes(); what it writes is refused if
 * "fails". */
static void
count_writes(const Fixture *f, bool fails)
{
    g_autofree char *text = g_strdup_printf(
        "BEGIN IMMEDIATE; DROP TABLE IF EXISTS counted; CREATE TABLE counted(n); DROP TRIGGER IF "
        "EXISTS count;"
        "CREATE TRIGGER count BEFORE INSERT ON vm BEGIN INSERT INTO counted VALUES(1);%s END;"
        "COMMIT",
        fails ? " SELECT RAISE(FAIL, 'no');" : "");

    sql(f, text);
}

static int
written(const Fixture *f)
{
    sqlite3 *db = open_beside(f);
    sqlite3_stmt *stmt = NULL;

    g_assert_cmpint(sqlite3_prepare_v2(db, "SELECT count(*) FROM counted", -1, &stmt, NULL), ==,
                    SQLITE_OK);
    g_assert_cmpint(sqlite3_step(stmt), ==, SQLITE_ROW);
    int n = sqlite3_column_int(stmt, 0);
    sqlite3_finalize(stmt);
    sqlite3_close(db);
    return n;
}

/* A guest that writes is no reason to write, too; when there is one, all is written. */
static void
test_growth(Fixture *f, gconstpointer data)
{
    describe(f, "one");
    grow(f, 1000);
    say_changed(f);
    wait_until_kept(f, 1000, "one");

    count_writes(f, false);
    for (uint64_t bytes = 2000; bytes < 5000; bytes += 1000) {
        grow(f, bytes);
        say_changed(f);
        wait_for(f, bytes, "one");
    }
    wait_until_kept(f, 1000, "one");
    describe(f, "two");
    say_changed(f);
    wait_until_kept(f, 4000, "two");
    g_assert_cmpint(written(f), ==, 1);
}

static void
turn(Fixture *f, const char *instance)
{
    WITH_LOCK(&f->agent->lock);

    g_free(f->agent->vm->instance);
    f->agent->vm->instance = g_strdup(instance);
}

/* What a job makes of its VM is written when it has ended. But that the VM was turned off is told
 * once, also if the manager is killed before. */
static void
test_job(Fixture *f, gconstpointer data)
{
    g_autoptr(GError) error = NULL;

    describe(f, "one");
    say_changed(f);
    wait_until_kept(f, 65536, "one");
    f->agent->hold = "snapshot-create";
    g_autofree char *job = begin_create(f, "nightly", &error);
    g_assert_no_error(error);
    wait_for_begun(f, 1);

    count_writes(f, false);
    for (unsigned i = 0; i < 3; i++) {
        g_autofree char *text = g_strdup_printf("text %u", i);
        describe(f, text);
        say_changed(f);
        wait_for(f, 65536, text);
    }
    g_assert_cmpint(written(f), ==, 0);
    turn(f, NULL);
    describe(f, "off");
    say_changed(f);
    wait_until_kept(f, 65536, "off");
    g_assert_cmpint(written(f), ==, 1);

    describe(f, "two");
    say_changed(f);
    wait_for(f, 65536, "two");
    g_assert_cmpint(written(f), ==, 1);
    g_assert_cmpuint(fake_finish_held(f->agent), ==, 1);
    json_decref(wait_for_end(f, job));
    wait_until_kept(f, 0, "two"); /* it stands on a new leaf */
}

/* What could not be written is when the host tells it again. */
static void
test_not_kept(Fixture *f, gconstpointer data)
{
    int64_t until = g_get_monotonic_time() + PATIENCE_MS * 1000;

    count_writes(f, true);
    describe(f, "one");
    grow(f, 1000);
    say_changed(f);
    while (written(f) == 0 && g_get_monotonic_time() < until)
        g_usleep(1000);
    count_writes(f, false);
    say_changed(f);
    wait_until_kept(f, 1000, "one");
    g_assert_cmpint(written(f), ==, 1);
}

/* The manager asks; *ret_told: was it told all of the VM, or that it is as it was? */
static Vm *
ask(Fixture *f, bool *ret_told)
{
    g_autoptr(GError) error = NULL;

    g_mutex_lock(&f->agent->lock);
    f->agent->told = f->agent->unchanged = 0;
    g_mutex_unlock(&f->agent->lock);
    Vm *vm = inventory_ask(f->manager->hosts->pdata[0], FAKE_VM, true, PATIENCE_MS, &error);
    g_assert_no_error(error);
    WITH_LOCK(&f->agent->lock);
    *ret_told = f->agent->told > 0;
    g_assert_cmpint(f->agent->told + f->agent->unchanged, ==, 1);
    return vm;
}

/* From now on what is told has tags. Once the stream of events has begun, the manager looks at all
 * VMs; after that nobody asks but the test. */
static void
begin_life(Fixture *f, const char *life)
{
    int64_t until = g_get_monotonic_time() + PATIENCE_MS * 1000;
    WITH_LOCK(&f->agent->lock);

    while (f->agent->lists < 2 && g_get_monotonic_time() < until)
        g_cond_wait_until(&f->agent->changed, &f->agent->lock, g_get_monotonic_time() + 1000);
    f->agent->life = life;
}

/* What has a tag is told again only if it is another, and is known as well as if it were. */
static void
test_unchanged(Fixture *f, gconstpointer data)
{
    bool told;

    begin_life(f, "first");
    describe(f, "one");
    g_autoptr(Vm) one = ask(f, &told);
    g_assert_true(told);
    g_autoptr(Vm) same = ask(f, &told);
    g_assert_false(told);
    g_assert_true(vm_equal(one, same));
    g_assert_cmpstr(same->host, ==, "host1");

    describe(f, "two");
    g_autoptr(Vm) two = ask(f, &told);
    g_assert_true(told);
    g_assert_cmpstr(two->description, ==, "two");
    wait_until_kept(f, 65536, "two");

    /* an agent that was started again may number anew */
    begin_life(f, "second");
    vm_free(ask(f, &told));
    g_assert_true(told);
    vm_free(ask(f, &told));
    g_assert_false(told);
}

/* What came without a tag, as with a plan, is not what the last tag was of. */
static void
test_tag_is_of_the_last(Fixture *f, gconstpointer data)
{
    Host *host = f->manager->hosts->pdata[0];
    g_autoptr(GError) error = NULL;
    bool told;

    begin_life(f, "first");
    g_autoptr(Vm) other = ask(f, &told);
    g_free(other->description);
    other->description = g_strdup("otherwise");
    g_autoptr(json_t) doc = vm_to_json(other);
    vm_free(inventory_put(host, doc, inventory_ticket(f->manager), &error));
    g_assert_no_error(error);
    g_autoptr(Vm) now = ask(f, &told);
    g_assert_true(told);
    g_assert_cmpstr(now->description, ==, NULL);
    wait_for(f, 65536, NULL);
}

#define ADD(name, function) g_test_add(name, Fixture, NULL, set_up, function, tear_down)

int
main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    ADD("/flow/inventory-growth", test_growth);
    ADD("/flow/inventory-job", test_job);
    ADD("/flow/inventory-not-kept", test_not_kept);
    ADD("/flow/inventory-unchanged", test_unchanged);
    ADD("/flow/inventory-tag", test_tag_is_of_the_last);
    return g_test_run();
}
