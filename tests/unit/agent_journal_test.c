/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * The agent's journal, spoiled in every way. What cannot be read is never guessed, and never
 * replaced before it is kept.
 */
#include "agent/journal.h"

#include "../lib/damage.h"

#define VM "11111111-2222-3333-4444-555555555555"

static bool
try_journal(const char *file, char **ret_aside, GError **error)
{
    Journal *journal = journal_open(file, error);

    if (journal == NULL)
        return false;
    *ret_aside = g_strdup(journal_set_aside(journal));
    g_autoptr(GPtrArray) rows = journal_load(journal, error);
    journal_close(journal);
    return rows != NULL;
}

static void
add(Journal *journal, unsigned n)
{
    g_autofree char *id = g_strdup_printf("aaaaaaaa-0000-4000-8000-%012u", n);
    g_autofree char *dead = g_strdup_printf("bbbbbbbb-0000-4000-8000-%012u", n);
    JournalRow row = { .id = g_strdup(id),
                       .kind = g_strdup("merge"),
                       .vm_id = g_strdup(VM),
                       .step = g_strdup("record"),
                       .params = json_pack("{s:s, s:i}", "disk_id", "vda", "n", n),
                       .data = json_object() };
    g_autofree char *big = g_strnfill(n % 3 == 0 ? 6000 : 300, 'x');

    g_assert_true(journal_begin(journal, &row, NULL));
    json_object_set_new(row.data, "big", json_string(big));
    row.tried = n;
    g_assert_true(journal_update(journal, &row, NULL));
    if (n % 2 == 0)
        g_assert_true(journal_cancel(journal, id, NULL));
    if (n % 5 == 0)
        g_assert_true(journal_resume(journal, id, true, NULL));
    if (n % 4 == 3)
        g_assert_true(journal_forget(journal, id, NULL));
    g_assert_true(journal_tombstone(journal, dead, NULL));
    g_assert_true(journal_epoch(journal, 1000 + n, NULL));
    journal_row_clear(&row);
}

static void
write_rows(const char *file, unsigned from, unsigned to)
{
    Journal *journal = journal_open(file, NULL);

    for (unsigned n = from; n < to; n++)
        add(journal, n);
    journal_close(journal);
}

static const Kind kind = {
    "/journal", "journal.db", try_journal,
    "SELECT 'op ' || id || kind || vm_id || step || tried || cancel || resume || ifnull(error_word,"
    " '-') || ifnull(error_text, '-') || params || data || created FROM operations UNION ALL"
    " SELECT 'tombstone ' || id FROM tombstones UNION ALL"
    " SELECT 'meta ' || key || value FROM meta WHERE key <> 'agent-id' ORDER BY 1",
    write_rows
};

/* One that was killed: what it had committed is in the log. */
static void
make_log(Sound *sound)
{
    QUICK_FOLDER(folder);
    g_autofree char *file = in(folder, kind.name);
    g_autofree char *id = g_strdup("aaaaaaaa-0000-4000-8000-000000000004");

    journal_close(journal_open(file, NULL));
    Journal *journal = journal_open(file, NULL);
    sound->states = g_ptr_array_new_with_free_func(g_free);
    g_ptr_array_add(sound->states, dump_of(&kind, file));
    JournalRow row = { .id = id,
                       .kind = (char[]){ "merge" },
                       .vm_id = (char[]){ VM },
                       .step = (char[]){ "record" },
                       .params = json_object(),
                       .data = json_object() };
    g_assert_true(journal_begin(journal, &row, NULL));
    g_ptr_array_add(sound->states, dump_of(&kind, file));
    for (row.tried = 1; row.tried < 6; row.tried++) {
        g_assert_true(journal_update(journal, &row, NULL));
        g_ptr_array_add(sound->states, dump_of(&kind, file));
    }
    sound_take(sound, file);
    g_assert_nonnull(sound->bytes[1]);
    journal_close(journal);
    json_decref(row.params);
    json_decref(row.data);
}

/* A log that is damaged before its last commit, which alone may be torn by a power loss. */
static void
test_log_is_not_rolled_back(void)
{
    g_auto(Sound) sound = { 0 };
    QUICK_FOLDER(folder);
    Tally tally = { 0 };

    make_log(&sound);
    g_ptr_array_remove_range(sound.states, 0, sound.states->len - 1); /* the newest alone will do */
    gsize frames = (sound.length[1] - 32) / 4120, last = 32 + (frames - 2) * 4120;
    for (gsize at = 0; at < last; at += at < 32 ? 1 : 97)
        try_flip(&kind, &sound, folder, 1, at, (unsigned)(at % 8), &tally);
    tell("log before its end", &tally);
    g_assert_cmpuint(tally.good, ==, 0);
}

/* SQLite takes a log up to the first frame whose sum is wrong, as after a power loss: an older
 * state, but one that was. */
static void
test_log(void)
{
    g_auto(Sound) sound = { 0 };
    QUICK_FOLDER(folder);
    Tally tally = { 0 };

    make_log(&sound);
    for (gsize at = 0; at < sound.length[1]; at += at < 56 ? 1 : 211)
        for (unsigned bit = 0; bit < 8; bit += at < 56 ? 3 : 8)
            try_flip(&kind, &sound, folder, 1, at, bit, &tally);
    for (gsize length = 0; length < sound.length[1]; length += length < 100 ? 1 : 211)
        try_cut(&kind, &sound, folder, 1, length, &tally);
    for (gsize at = 0; at < 100; at++)
        try_flip(&kind, &sound, folder, 0, at, (unsigned)(at % 8), &tally);
    tell("log", &tally);
}

/* ---- not our file ---- */

static const Stranger strangers[] = {
    STRANGERS,
    { "other-tables", NULL, "DROP TABLE operations; CREATE TABLE operations(x)", NULL },
    { "without-operations", NULL, "DROP TABLE operations", NULL },
    { "without-a-trigger", NULL, "DROP TRIGGER buried", NULL },
    { "edited", NULL, "UPDATE operations SET step='pivot'", NULL },
};

/* ---- found late ---- */

static void
test_late(void)
{
    QUICK_FOLDER(folder);
    g_autofree char *file = in(folder, kind.name), *before = NULL;
    g_autofree char *noise = g_strnfill(4096, 'z');
    g_autoptr(GError) error = NULL;
    gsize size = 0;

    Journal *journal = journal_open(file, NULL);
    for (unsigned n = 0; n < 60; n++)
        add(journal, n);
    journal_close(journal);
    journal = journal_open(file, NULL);
    g_assert_null(journal_damage(journal));
    edit(file, "UPDATE meta SET value = value"); /* what the connection has in memory is void */
    g_assert_true(g_file_get_contents(file, &before, &size, NULL));
    for (gsize at = 4096; at < size; at += 4096) /* all but the first page */
        poke_text(file, at, noise, 4096);
    /* whoever comes first finds it; from then on nothing is written */
    for (unsigned n = 100; n < 200 && journal_damage(journal) == NULL; n++)
        journal_tombstone(journal, "cccccccc-0000-4000-8000-000000000000", NULL);
    g_assert_nonnull(journal_damage(journal));
    g_assert_false(journal_tombstone(journal, "dddddddd-0000-4000-8000-000000000000", &error));
    g_assert_error(error, ERR, ERR_CORRUPT);
    g_assert_nonnull(strstr(error->message, file));
    g_assert_nonnull(strstr(error->message, "Restart the agent"));
    journal_close(journal);

    g_autofree char *aside = NULL;
    g_assert_true(try_journal(file, &aside, NULL));
    g_assert_nonnull(aside);
}

/* ---- from before there were sums ---- */

static void
test_older(void)
{
    QUICK_FOLDER(folder);
    g_autofree char *file = in(folder, kind.name), *aside = NULL;
    g_autoptr(GError) error = NULL;

    Journal *journal = journal_open(file, NULL);
    add(journal, 1);
    journal_close(journal);
    edit(file, "DROP INDEX meta_twice; DROP INDEX tombstones_twice;"
               "ALTER TABLE operations DROP COLUMN sum; ALTER TABLE operations DROP COLUMN resume;"
               "PRAGMA user_version=0; PRAGMA application_id=0");
    g_assert_true(try_journal(file, &aside, &error));
    g_assert_null(aside);
    journal = journal_open(file, &error);
    g_assert_no_error(error);
    g_autoptr(GPtrArray) list = journal_load(journal, &error);
    g_assert_cmpuint(list->len, ==, 1);
    journal_close(journal);
}

int
main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    if (!g_test_verbose() && freopen("/dev/null", "w", stderr) == NULL) /* each is told */
        return 1;
    damage_tests(&kind, strangers, G_N_ELEMENTS(strangers));
    g_test_add_func("/journal/log", test_log);
    g_test_add_func("/journal/log-is-not-rolled-back", test_log_is_not_rolled_back);
    g_test_add_func("/journal/late", test_late);
    g_test_add_func("/journal/older", test_older);
    return g_test_run();
}
