/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * Tests of src/agent: the journal, the step tables and names of new files.
 */
#include "agent/operation.h"
#include "agent_on_fake.h"
#include "base/text.h"

#include <sched.h>
#include <sqlite3.h>
#include <sys/mount.h>
#include <sys/wait.h>

#define OP "aaaaaaaa-0000-4000-8000-000000000001"
#define OP2 "bbbbbbbb-0000-4000-8000-000000000002"

/* ---- the journal ---- */

static JournalRow
row_make(const char *id)
{
    return (JournalRow){ .id = g_strdup(id),
                         .kind = g_strdup("merge"),
                         .vm_id = g_strdup(FAKE_VM),
                         .step = g_strdup("record"),
                         .params = json_pack("{s:s}", "disk_id", "d"),
                         .data = json_object() };
}

static Journal *
journal_in(const char *folder)
{
    g_autofree char *file = in(folder, "journal.db");
    g_autoptr(GError) error = NULL;
    Journal *journal = journal_open(file, &error);

    g_assert_no_error(error);
    return journal;
}

static void
test_journal(void)
{
    FOLDER(folder);
    g_autoptr(Journal) journal = journal_in(folder);
    g_autofree char *agent_id = g_strdup(journal_agent_id(journal));
    JournalRow row = row_make(OP), other = row_make(OP2),
               of_ended = row_make("cccccccc-0000-4000-8000-000000000003");
    g_autoptr(GError) error = NULL;

    g_assert_true(journal_begin(journal, &row, &error));
    g_assert_cmpint(row.created, >, 0);
    g_assert_false(journal_begin(journal, &row, &error));
    g_assert_error(error, ERR, ERR_EXISTS);
    g_clear_error(&error);
    g_assert_false(journal_tombstone(journal, OP, &error));
    g_assert_error(error, ERR, ERR_EXISTS);
    g_clear_error(&error);

    g_assert_true(journal_tombstone(journal, OP2, &error));
    g_assert_true(journal_tombstone(journal, OP2, &error));
    g_assert_false(journal_begin(journal, &other, &error));
    g_assert_error(error, ERR, ERR_GONE);
    g_clear_error(&error);

    json_object_set_new(of_ended.params, "job", json_string(OP2));
    g_assert_false(journal_begin(journal, &of_ended, &error));
    g_assert_error(error, ERR, ERR_REFUSED);
    g_clear_error(&error);
    journal_row_clear(&of_ended);

    /* a cancel is kept, whatever the machine saves afterwards */
    g_assert_true(journal_cancel(journal, OP, &error));
    g_free(row.step);
    row.step = g_strdup("settle");
    row.tried = 2;
    row.error_word = g_strdup("refused");
    row.error_text = g_strdup("because");
    json_object_set_new(row.data, "strategy", json_string("commit"));
    g_assert_true(journal_update(journal, &row, &error));
    journal_close(g_steal_pointer(&journal));

    journal = journal_in(folder);
    g_assert_cmpstr(journal_agent_id(journal), ==, agent_id);
    g_autoptr(GPtrArray) rows = journal_load(journal, &error);
    g_assert_no_error(error);
    g_assert_cmpuint(rows->len, ==, 1);
    JournalRow *back = rows->pdata[0];
    g_assert_cmpstr(back->step, ==, "settle");
    g_assert_cmpuint(back->tried, ==, 2);
    g_assert_true(back->cancel);
    g_assert_cmpstr(back->error_word, ==, "refused");
    g_assert_cmpstr(back->error_text, ==, "because");
    g_assert_cmpstr(json_text(back->data, "strategy"), ==, "commit");
    g_assert_cmpstr(json_text(back->params, "disk_id"), ==, "d");
    g_assert_true(journal_forget(journal, OP, &error));
    g_ptr_array_unref(g_steal_pointer(&rows));
    rows = journal_load(journal, &error);
    g_assert_cmpuint(rows->len, ==, 0);
    journal_row_clear(&row);
    journal_row_clear(&other);
}

static void
test_journal_epoch(void)
{
    FOLDER(folder);
    Journal *journal = journal_in(folder);
    g_autoptr(GError) error = NULL;

    g_assert_true(journal_epoch(journal, 3, &error));
    g_assert_true(journal_epoch(journal, 3, &error));
    g_assert_true(journal_epoch(journal, 7, &error));
    journal_close(journal);
    journal = journal_in(folder);
    g_assert_false(journal_epoch(journal, 6, &error));
    g_assert_error(error, ERR, ERR_STALE_EPOCH);
    g_clear_error(&error);
    g_assert_true(journal_epoch(journal, 7, &error));
    journal_close(journal);
}

/* What cannot be read is never guessed, and never replaced. */
static void
test_journal_damaged(void)
{
    FOLDER(folder);
    g_autoptr(Journal) journal = journal_in(folder);
    g_autofree char *file = in(folder, "journal.db");
    JournalRow row = row_make(OP);
    g_autoptr(GError) error = NULL;
    sqlite3 *db = NULL;

    g_assert_true(journal_begin(journal, &row, &error));
    g_assert_cmpint(sqlite3_open(file, &db), ==, SQLITE_OK);
    g_assert_cmpint(sqlite3_exec(db, "UPDATE operations SET data='{'", NULL, NULL, NULL), ==,
                    SQLITE_OK);
    sqlite3_close(db);
    g_assert_null(journal_load(journal, &error));
    assert_refused(error, ERR_CORRUPT, OP);
    journal_row_clear(&row);
}

/* In a child with mounts of its own: 0 = as promised. */
static int
fill_and_begin(const char *folder)
{
    g_autoptr(GError) error = NULL;
    JournalRow row = row_make(OP), second = row_make(OP2);
    g_autofree char *ballast = in(folder, "ballast");

    if (unshare(CLONE_NEWNS) != 0 || mount("none", "/", NULL, MS_REC | MS_PRIVATE, NULL) != 0 ||
        mount("tmpfs", folder, "tmpfs", 0, "size=2m") != 0)
        return 77;
    Journal *journal = journal_in(folder);
    if (!journal_begin(journal, &row, &error))
        return 1;
    autofd int fd = open(ballast, O_CREAT | O_WRONLY | O_CLOEXEC, 0600);
    static const char block[4096];
    while (write(fd, block, sizeof block) > 0)
        ;
    for (int i = 0; i < 2000; i++) {
        g_autofree char *key = g_strdup_printf("key%d", i);
        json_object_set_new(second.data, key, json_string("a value that takes some space"));
    }
    if (journal_begin(journal, &second, &error))
        return 2;
    if (!g_error_matches(error, ERR, ERR_NO_SPACE) && !g_error_matches(error, ERR, ERR_STORAGE))
        return 3;
    if (ftruncate(fd, 0) != 0)
        return 6;
    g_clear_error(&error);
    g_autoptr(GPtrArray) rows = journal_load(journal, &error);
    if (rows == NULL || rows->len != 1)
        return 4;
    if (!journal_begin(journal, &second, &error)) {
        fprintf(stderr, "# %s\n", error->message);
        return 5;
    }
    return 0;
}

static void
test_journal_full(void)
{
    FOLDER(folder);
    pid_t child = fork();
    int status = 0;

    if (child == 0)
        _exit(fill_and_begin(folder));
    g_assert_cmpint(waitpid(child, &status, 0), ==, child);
    g_assert_true(WIFEXITED(status));
    if (WEXITSTATUS(status) == 77)
        g_test_skip("no right to mount");
    else
        g_assert_cmpint(WEXITSTATUS(status), ==, 0);
}

/* ---- tables and names ---- */

static void
test_tables(void)
{
    for (const OperationKind *kind = operation_kinds; kind->kind != NULL; kind++) {
        g_autoptr(GError) error = NULL;
        steps_check(kind->steps, &error);
        g_assert_no_error(error);
    }
}

static void
test_relative_name(void)
{
    static const struct {
        const char *from, *path, *name;
    } rows[] = {
        { "/a/b/leaf.q", "/a/b/base.q", "base.q" },
        { "/a/b/leaf.q", "/a/base.q", "../base.q" },
        { "/a/b/leaf.q", "/a/c/base.q", "../c/base.q" },
        { "/a/leaf.q", "/a/b/c/base.q", "b/c/base.q" },
        { "/leaf.q", "/base.q", "base.q" },
        { "/leaf.q", "/a/base.q", "a/base.q" },
        { "/a/b/leaf.q", "/x", "../../x" },
        { "/a/b/leaf.q", "/a/b", "../b" },
        { "/a/b/leaf.q", "/a/b/nbd:base.q", "./nbd:base.q" }, /* else it would be a protocol */
        { "/a/b/leaf.q", "/a/b/c:/base.q", "./c:/base.q" },
        { "/a/b/leaf.q", "/a/b/c/x:base.q", "c/x:base.q" },
        { "/a/b/leaf.q", "/a/x:base.q", "../x:base.q" },
        { "/a:b/leaf.q", "/a:b/base.q", "base.q" },
    };

    for (size_t i = 0; i < G_N_ELEMENTS(rows); i++) {
        g_autofree char *name = relative_name(rows[i].from, rows[i].path);
        g_autoptr(GError) error = NULL;
        g_assert_cmpstr(name, ==, rows[i].name);
        g_autofree char *back = qcow2_backing_path(rows[i].from, name, &error);
        g_assert_no_error(error);
        g_assert_cmpstr(back, ==, rows[i].path);
    }
}

static void
test_new_file_name(void)
{
    static const struct {
        const char *beside, *name;
    } rows[] = {
        { "web.qcow2", "web.aaaaaaaa.qcow2" },
        { "web.12345678.qcow2", "web.aaaaaaaa.qcow2" },
        { "web.img", "web.aaaaaaaa.qcow2" },
        { "web", "web.aaaaaaaa.qcow2" },
        { "web.v2", "web.v2.aaaaaaaa.qcow2" },
        { "web.1234567g.raw", "web.1234567g.aaaaaaaa.qcow2" },
        { "web.1234567.q", "web.1234567.aaaaaaaa.qcow2" },
        { "web.ABCDEF12.qcow", "web.ABCDEF12.aaaaaaaa.qcow2" },
        { "12345678.qcow2", "12345678.aaaaaaaa.qcow2" },
        { "w\351b.12345678.qcow2", "w\351b.aaaaaaaa.qcow2" }, /* not UTF-8 */
    };
    FOLDER(folder);

    for (size_t i = 0; i < G_N_ELEMENTS(rows); i++) {
        g_autofree char *beside = in(folder, rows[i].beside);
        g_autofree char *wanted = in(folder, rows[i].name);
        g_autofree char *path = new_file_name(beside, OP, "qcow2");
        g_assert_cmpstr(path, ==, wanted);
    }
    g_autofree char *taken = in(folder, "web.aaaaaaaa.qcow2");
    g_assert_true(g_file_set_contents(taken, "x", 1, NULL));
    g_autofree char *beside = in(folder, "web.qcow2");
    g_autofree char *path = new_file_name(beside, OP, "qcow2");
    g_autofree char *wanted = in(folder, "web." OP ".qcow2");
    g_assert_cmpstr(path, ==, wanted);
}

int
main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/journal/rows", test_journal);
    g_test_add_func("/journal/epoch", test_journal_epoch);
    g_test_add_func("/journal/damaged", test_journal_damaged);
    g_test_add_func("/journal/full", test_journal_full);
    g_test_add_func("/tables", test_tables);
    g_test_add_func("/names/relative", test_relative_name);
    g_test_add_func("/names/new-file", test_new_file_name);
    return g_test_run();
}
