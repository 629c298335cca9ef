/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "agent/journal_rows.h"

#include "base/clock.h"

#include <string.h>

bool
journal_fail(Journal *j, const char *doing, GError **error)
{
    g_autoptr(GError) problem = NULL;

    database_error(j->db, j->file, WHAT, &problem);
    database_note_damage(&j->damage, problem);
    g_prefix_error(&problem, "%s: ", doing);
    g_propagate_error(error, g_steal_pointer(&problem));
    return false;
}

static bool
is_sound(Journal *j, GError **error)
{
    return j->damage == NULL ||
           error_set(error, ERR_CORRUPT,
                     "%s; nothing is written into it any more. Restart the agent: it sets the file "
                     "aside and goes on from the manifests, the headers and libvirt",
                     j->damage);
}

Statement *
journal_prepare(Journal *j, const char *sql, GError **error)
{
    Statement *s = NULL;

    if (!is_sound(j, error))
        return NULL;
    if (sqlite3_prepare_v2(j->db, sql, -1, &s, NULL) != SQLITE_OK) {
        journal_fail(j, "preparing", error);
        return NULL;
    }
    return s;
}

void
journal_bind_text(Statement *s, int at, const char *text)
{
    if (text != NULL)
        sqlite3_bind_text(s, at, text, -1, SQLITE_STATIC);
    else
        sqlite3_bind_null(s, at);
}

static void
bind_json(Statement *s, int at, const json_t *json)
{
    char *text = json != NULL ? json_dumps(json, JSON_COMPACT) : NULL;

    if (text != NULL)
        sqlite3_bind_text(s, at, text, -1, free);
    else
        journal_bind_text(s, at, "{}");
}

char *
journal_column_text(Statement *s, int at)
{
    return g_strdup((const char *)sqlite3_column_text(s, at));
}

/* NULL = damaged */
static json_t *
column_json(Statement *s, int at)
{
    const char *text = (const char *)sqlite3_column_text(s, at);

    return text != NULL ? json_loads(text, 0, NULL) : NULL;
}

bool
journal_finish(Journal *j, Statement *s, const char *doing, GError **error)
{
    return sqlite3_step(s) == SQLITE_DONE || journal_fail(j, doing, error);
}

bool
journal_meta_get(Journal *j, const char *key, char **ret_value, GError **error)
{
    g_autoptr(Statement) s = journal_prepare(j, "SELECT value FROM meta WHERE key=?", error);

    if (s == NULL)
        return false;
    journal_bind_text(s, 1, key);
    int code = sqlite3_step(s);
    if (code != SQLITE_ROW && code != SQLITE_DONE)
        return journal_fail(j, "reading", error);
    *ret_value = code == SQLITE_ROW ? journal_column_text(s, 0) : NULL;
    return true;
}

bool
journal_meta_set(Journal *j, const char *key, const char *value, GError **error)
{
    g_autoptr(Statement) s = journal_prepare(j, "INSERT OR REPLACE INTO meta VALUES (?,?)", error);

    if (s == NULL)
        return false;
    journal_bind_text(s, 1, key);
    journal_bind_text(s, 2, value);
    return journal_finish(j, s, "writing", error);
}

void
journal_row_clear(JournalRow *row)
{
    g_free(row->id);
    g_free(row->kind);
    g_free(row->vm_id);
    g_free(row->step);
    g_free(row->error_word);
    g_free(row->error_text);
    json_decref(row->params);
    json_decref(row->data);
    memset(row, 0, sizeof *row);
}

static bool
has_row(Journal *j, const char *sql, const char *id, bool *ret_has, GError **error)
{
    g_autoptr(Statement) s = journal_prepare(j, sql, error);

    if (s == NULL)
        return false;
    journal_bind_text(s, 1, id);
    int code = sqlite3_step(s);
    if (code != SQLITE_ROW && code != SQLITE_DONE)
        return journal_fail(j, "reading", error);
    *ret_has = code == SQLITE_ROW;
    return true;
}

/* What has ended begins nothing any more: an old copy of the manager's database, brought back, may
 * have the job under way. What it asked for then, nobody may want now. */
static bool
job_goes_on(Journal *j, const JournalRow *row, GError **error)
{
    const char *job = json_string_value(json_object_get(row->params, "job"));
    bool ended = false;

    if (job != NULL && !has_row(j, "SELECT 1 FROM tombstones WHERE id=?", job, &ended, error))
        return false;
    return !ended ||
           error_set(error, ERR_REFUSED,
                     "job %s has ended already, and nothing was begun: was an old copy of the "
                     "manager's database brought back? If it is still wanted, ask for it anew",
                     job);
}

bool
journal_begin(Journal *j, JournalRow *row, GError **error)
{
    WITH_LOCK(&j->lock);
    g_autoptr(Statement) s = NULL;
    bool dead = false, there = false;

    if (!has_row(j, "SELECT 1 FROM tombstones WHERE id=?", row->id, &dead, error) ||
        !has_row(j, "SELECT 1 FROM operations WHERE id=?", row->id, &there, error))
        return false;
    if (dead)
        return error_set(error, ERR_GONE, "operation %s was given up before it came; use a new id",
                         row->id);
    if (there)
        return error_set(error, ERR_EXISTS, "operation %s is known already", row->id);
    if (!job_goes_on(j, row, error))
        return false;

    s = journal_prepare(
        j,
        "INSERT INTO operations (id,kind,vm_id,step,tried,cancel,error_word,error_text,"
        "params,data,created,sum) VALUES (?1,?2,?3,?4,?5,?6,?7,?8,?9,?10,?11,"
        "row_sum(?1,?2,?3,?4,?5,?6,0,?7,?8,?9,?10,?11))",
        error);
    if (s == NULL)
        return false;
    row->created = clock_wall_ms();
    journal_bind_text(s, 1, row->id);
    journal_bind_text(s, 2, row->kind);
    journal_bind_text(s, 3, row->vm_id);
    journal_bind_text(s, 4, row->step);
    sqlite3_bind_int(s, 5, (int)row->tried);
    sqlite3_bind_int(s, 6, row->cancel);
    journal_bind_text(s, 7, row->error_word);
    journal_bind_text(s, 8, row->error_text);
    bind_json(s, 9, row->params);
    bind_json(s, 10, row->data);
    sqlite3_bind_int64(s, 11, row->created);
    return journal_finish(j, s, "beginning an operation", error);
}

bool
journal_update(Journal *j, const JournalRow *row, GError **error)
{
    WITH_LOCK(&j->lock);
    g_autoptr(Statement) s = journal_prepare(
        j,
        "UPDATE operations SET step=?1,tried=?2,error_word=?3,error_text=?4,data=?5,"
        "sum=" SUM("?1", "?2", "cancel", "resume", "?3", "?4", "?5") " WHERE id=?6",
        error);

    if (s == NULL)
        return false;
    journal_bind_text(s, 1, row->step);
    sqlite3_bind_int(s, 2, (int)row->tried);
    journal_bind_text(s, 3, row->error_word);
    journal_bind_text(s, 4, row->error_text);
    bind_json(s, 5, row->data);
    journal_bind_text(s, 6, row->id);
    return journal_finish(j, s, "saving an operation", error);
}

bool
journal_cancel(Journal *j, const char *id, GError **error)
{
    WITH_LOCK(&j->lock);
    g_autoptr(Statement) s =
        journal_prepare(j,
                        "UPDATE operations SET cancel=1,"
                        "sum=" SUM("step", "tried", "1", "resume", "error_word", "error_text",
                                   "data") " WHERE id=?",
                        error);

    if (s == NULL)
        return false;
    journal_bind_text(s, 1, id);
    return journal_finish(j, s, "saving a cancel", error);
}

bool
journal_resume(Journal *j, const char *id, bool resume, GError **error)
{
    WITH_LOCK(&j->lock);
    g_autoptr(Statement) s =
        journal_prepare(j,
                        "UPDATE operations SET resume=?1,"
                        "sum=" SUM("step", "tried", "cancel", "?1", "error_word", "error_text",
                                   "data") " WHERE id=?2",
                        error);

    if (s == NULL)
        return false;
    sqlite3_bind_int(s, 1, resume);
    journal_bind_text(s, 2, id);
    return journal_finish(j, s, "saving the wish to go on", error);
}

static void
row_free(void *p)
{
    journal_row_clear(p);
    g_free(p);
}

GPtrArray *
journal_load(Journal *j, GError **error)
{
    WITH_LOCK(&j->lock);
    g_autoptr(GPtrArray) rows = g_ptr_array_new_with_free_func(row_free);
    g_autoptr(Statement) s = journal_prepare(
        j,
        "SELECT id,kind,vm_id,step,tried,cancel,error_word,error_text,"
        "params,data,created,resume,sum IS " STORED_SUM " FROM operations ORDER BY seq",
        error);
    int code;

    if (s == NULL)
        return NULL;
    while ((code = sqlite3_step(s)) == SQLITE_ROW) {
        JournalRow *row = g_new0(JournalRow, 1);
        row->id = journal_column_text(s, 0);
        row->kind = journal_column_text(s, 1);
        row->vm_id = journal_column_text(s, 2);
        row->step = journal_column_text(s, 3);
        row->tried = (unsigned)sqlite3_column_int(s, 4);
        row->cancel = sqlite3_column_int(s, 5) != 0;
        row->error_word = journal_column_text(s, 6);
        row->error_text = journal_column_text(s, 7);
        row->params = column_json(s, 8);
        row->data = column_json(s, 9);
        row->created = sqlite3_column_int64(s, 10);
        row->resume = sqlite3_column_int(s, 11) != 0;
        g_ptr_array_add(rows, row);
        if (row->params == NULL || row->data == NULL || sqlite3_column_int(s, 12) == 0) {
            error_set(error, ERR_CORRUPT,
                      WHAT " %s: what it holds of operation %s is damaged; nothing was changed",
                      j->file, row->id);
            return NULL;
        }
    }
    if (code != SQLITE_DONE) {
        journal_fail(j, "reading", error);
        return NULL;
    }
    return g_steal_pointer(&rows);
}

bool
journal_forget(Journal *j, const char *id, GError **error)
{
    WITH_LOCK(&j->lock);
    g_autoptr(Statement) s = journal_prepare(j, "DELETE FROM operations WHERE id=?", error);

    if (s == NULL)
        return false;
    journal_bind_text(s, 1, id);
    return journal_finish(j, s, "forgetting an operation", error);
}

bool
journal_tombstone(Journal *j, const char *id, GError **error)
{
    WITH_LOCK(&j->lock);
    g_autoptr(Statement) s = NULL;
    bool there = false;

    if (!has_row(j, "SELECT 1 FROM operations WHERE id=?", id, &there, error))
        return false;
    if (there)
        return error_set(error, ERR_EXISTS, "operation %s is known", id);
    s = journal_prepare(j, "INSERT OR IGNORE INTO tombstones VALUES (?,?)", error);
    if (s == NULL)
        return false;
    journal_bind_text(s, 1, id);
    sqlite3_bind_int64(s, 2, clock_wall_ms());
    return journal_finish(j, s, "writing a tombstone", error);
}

/* The lock is held. Nobody else writes it, so it is read once; each request asks. */
static bool
highest_epoch(Journal *j, int64_t *ret_highest, GError **error)
{
    g_autofree char *text = NULL;

    if (!is_sound(j, error) || (j->epoch == 0 && !journal_meta_get(j, "epoch", &text, error)))
        return false;
    if (text != NULL)
        j->epoch = g_ascii_strtoll(text, NULL, 10);
    *ret_highest = j->epoch;
    return true;
}

bool
journal_highest_epoch(Journal *j, int64_t *ret_highest, GError **error)
{
    WITH_LOCK(&j->lock);

    return highest_epoch(j, ret_highest, error);
}

bool
journal_epoch(Journal *j, int64_t epoch, GError **error)
{
    WITH_LOCK(&j->lock);
    int64_t highest = 0;

    if (!highest_epoch(j, &highest, error))
        return false;
    if (epoch < highest)
        return error_set(error, ERR_STALE_EPOCH,
                         "epoch %" G_GINT64_FORMAT
                         " is over: a newer manager (epoch %" G_GINT64_FORMAT
                         ") has taken over this host",
                         epoch, highest);
    if (epoch == highest)
        return true;
    g_autofree char *text = g_strdup_printf("%" G_GINT64_FORMAT, epoch);
    if (!journal_meta_set(j, "epoch", text, error))
        return false;
    j->epoch = epoch;
    return true;
}

const char *
journal_agent_id(Journal *j)
{
    return j->agent_id;
}

const char *
journal_set_aside(const Journal *j)
{
    return j->set_aside;
}

const char *
journal_damage(Journal *j)
{
    return g_atomic_pointer_get(&j->damage);
}
