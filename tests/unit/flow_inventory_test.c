/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * What the manager makes of what a host tells of its VMs: what it asks for, and what it writes
 * down.
 */
#include "flow_fixture.h"

#include <sqlite3.h>

static void
sql(const Fixture *f, const char *text)
{
    g_autofree char *file = g_build_filename(f->dir, "manager.db", NULL);
    sqlite3 *db = NULL;

    g_assert_cmpint(sqlite3_open(file, &db), ==, SQLITE_OK);
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
        "DROP TABLE IF EXISTS counted; CREATE TABLE counted(n); DROP TRIGGER IF EXISTS count;"
        "CREATE TRIGGER count BEFORE INSERT ON vm BEGIN INSERT INTO counted VALUES(1);%s END",
        fails ? " SELECT RAISE(FAIL, 'no');" : "");

    sql(f, text);
}

static int
written(const Fixture *f)
{
    g_autofree char *file = g_build_filename(f->dir, "manager.db", NULL);
    sqlite3 *db = NULL;
    sqlite3_stmt *stmt = NULL;

    g_assert_cmpint(sqlite3_open(file, &db), ==, SQLITE_OK);
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

#define ADD(name, function) g_test_add(name, Fixture, NULL, set_up, function, tear_down)

int
main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    ADD("/flow/inventory-growth", test_growth);
    ADD("/flow/inventory-not-kept", test_not_kept);
    return g_test_run();
}
