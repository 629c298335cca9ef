/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "agent/journal.h"

#include "base/clock.h"
#include "base/text.h"

#include <sqlite3.h>
#include <string.h>

#define JOURNAL_FORMAT 1

struct Journal {
    sqlite3 *db;
    GMutex lock;
    char *agent_id;
};

static const char schema[] =
    "CREATE TABLE IF NOT EXISTS meta (key TEXT PRIMARY KEY, value TEXT NOT NULL) STRICT;"
    "CREATE TABLE IF NOT EXISTS operations ("
    " seq INTEGER PRIMARY KEY AUTOINCREMENT, id TEXT NOT NULL UNIQUE, kind TEXT NOT NULL,"
    " vm_id TEXT NOT NULL, step TEXT NOT NULL, tried INTEGER NOT NULL, cancel INTEGER NOT NULL,"
    " error_word TEXT, error_text TEXT, params TEXT NOT NULL, data TEXT NOT NULL,"
    " created INTEGER NOT NULL) STRICT;"
    "CREATE TABLE IF NOT EXISTS tombstones (id TEXT PRIMARY KEY, made INTEGER NOT NULL) STRICT;"
    /* a request that was repeated on the way may come after its operation was forgotten */
    "CREATE TRIGGER IF NOT EXISTS buried AFTER DELETE ON operations BEGIN"
    " INSERT OR IGNORE INTO tombstones VALUES (old.id, unixepoch() * 1000); END;"
    "DELETE FROM tombstones WHERE made < (unixepoch() - 30 * 86400) * 1000;";

typedef sqlite3_stmt Statement;
G_DEFINE_AUTOPTR_CLEANUP_FUNC(Statement, sqlite3_finalize)

static bool
fail(Journal *j, const char *doing, GError **error)
{
    int code = sqlite3_errcode(j->db);

    return error_set(error, code == SQLITE_FULL ? ERR_NO_SPACE : ERR_STORAGE,
                     "the agent's journal: %s: %s", doing, sqlite3_errmsg(j->db));
}

static Statement *
prepare(Journal *j, const char *sql, GError **error)
{
    Statement *s = NULL;

    if (sqlite3_prepare_v2(j->db, sql, -1, &s, NULL) != SQLITE_OK) {
        fail(j, sql, error);
        return NULL;
    }
    return s;
}

static void
bind_text(Statement *s, int at, const char *text)
{
    if (text != NULL)
        sqlite3_bind_text(s, at, text, -1, SQLITE_TRANSIENT);
    else
        sqlite3_bind_null(s, at);
}

static void
bind_json(Statement *s, int at, const json_t *json)
{
    char *text = json != NULL ? json_dumps(json, JSON_COMPACT) : NULL;

    bind_text(s, at, text != NULL ? text : "{}");
    free(text);
}

static char *
column_text(Statement *s, int at)
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

static bool
execute(Journal *j, const char *sql, GError **error)
{
    if (sqlite3_exec(j->db, sql, NULL, NULL, NULL) != SQLITE_OK)
        return fail(j, "setting up", error);
    return true;
}

static bool
finish(Journal *j, Statement *s, const char *doing, GError **error)
{
    return sqlite3_step(s) == SQLITE_DONE || fail(j, doing, error);
}

/* Journals of older versions lack the column. */
static bool
add_resume(Journal *j, GError **error)
{
    g_autoptr(Statement) s =
        prepare(j, "SELECT 1 FROM pragma_table_info('operations') WHERE name='resume'", error);

    if (s == NULL)
        return false;
    int code = sqlite3_step(s);
    if (code == SQLITE_ROW)
        return true;
    if (code != SQLITE_DONE)
        return fail(j, "reading", error);
    return execute(j, "ALTER TABLE operations ADD COLUMN resume INTEGER NOT NULL DEFAULT 0", error);
}

/* *ret_value is NULL if there is none; not being able to read is an error. */
static bool
meta_get(Journal *j, const char *key, char **ret_value, GError **error)
{
    g_autoptr(Statement) s = prepare(j, "SELECT value FROM meta WHERE key=?", error);

    if (s == NULL)
        return false;
    bind_text(s, 1, key);
    int code = sqlite3_step(s);
    if (code != SQLITE_ROW && code != SQLITE_DONE)
        return fail(j, "reading", error);
    *ret_value = code == SQLITE_ROW ? column_text(s, 0) : NULL;
    return true;
}

static bool
meta_set(Journal *j, const char *key, const char *value, GError **error)
{
    g_autoptr(Statement) s = prepare(j, "INSERT OR REPLACE INTO meta VALUES (?,?)", error);

    if (s == NULL)
        return false;
    bind_text(s, 1, key);
    bind_text(s, 2, value);
    return finish(j, s, "writing", error);
}

static bool
set_up(Journal *j, GError **error)
{
    g_autofree char *format = NULL;

    sqlite3_busy_timeout(j->db, 5000);
    if (!execute(j, "PRAGMA journal_mode=WAL; PRAGMA synchronous=FULL; PRAGMA trusted_schema=OFF;",
                 error) ||
        !execute(j, schema, error) || !add_resume(j, error))
        return false;
    if (!meta_get(j, "format", &format, error) || !meta_get(j, "agent-id", &j->agent_id, error))
        return false;
    if (format != NULL && g_ascii_strtoll(format, NULL, 10) > JOURNAL_FORMAT)
        return error_set(error, ERR_CORRUPT,
                         "the agent's journal is of format %s, written by a newer version", format);
    if (j->agent_id == NULL) {
        j->agent_id = id_new();
        return meta_set(j, "agent-id", j->agent_id, error) && meta_set(j, "format", "1", error);
    }
    return true;
}

Journal *
journal_open(const char *file, GError **error)
{
    g_autoptr(Journal) j = g_new0(Journal, 1);

    g_mutex_init(&j->lock);
    if (sqlite3_open_v2(file, &j->db,
                        SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE | SQLITE_OPEN_FULLMUTEX,
                        NULL) != SQLITE_OK) {
        error_set(error, ERR_STORAGE, "cannot open the agent's journal %s: %s", file,
                  sqlite3_errmsg(j->db));
        return NULL;
    }
    if (!set_up(j, error)) {
        g_prefix_error(error, "%s: ", file);
        return NULL;
    }
    return g_steal_pointer(&j);
}

void
journal_close(Journal *j)
{
    if (j == NULL)
        return;
    sqlite3_close(j->db);
    g_mutex_clear(&j->lock);
    g_free(j->agent_id);
    g_free(j);
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
    g_autoptr(Statement) s = prepare(j, sql, error);

    if (s == NULL)
        return false;
    bind_text(s, 1, id);
    int code = sqlite3_step(s);
    if (code != SQLITE_ROW && code != SQLITE_DONE)
        return fail(j, "reading", error);
    *ret_has = code == SQLITE_ROW;
    return true;
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

    s = prepare(j,
                "INSERT INTO operations (id,kind,vm_id,step,tried,cancel,error_word,error_text,"
                "params,data,created) VALUES (?,?,?,?,?,?,?,?,?,?,?)",
                error);
    if (s == NULL)
        return false;
    row->created = clock_wall_ms();
    bind_text(s, 1, row->id);
    bind_text(s, 2, row->kind);
    bind_text(s, 3, row->vm_id);
    bind_text(s, 4, row->step);
    sqlite3_bind_int(s, 5, (int)row->tried);
    sqlite3_bind_int(s, 6, row->cancel);
    bind_text(s, 7, row->error_word);
    bind_text(s, 8, row->error_text);
    bind_json(s, 9, row->params);
    bind_json(s, 10, row->data);
    sqlite3_bind_int64(s, 11, row->created);
    return finish(j, s, "beginning an operation", error);
}

bool
journal_update(Journal *j, const JournalRow *row, GError **error)
{
    WITH_LOCK(&j->lock);
    g_autoptr(Statement) s = prepare(
        j, "UPDATE operations SET step=?,tried=?,error_word=?,error_text=?,data=? WHERE id=?",
        error);

    if (s == NULL)
        return false;
    bind_text(s, 1, row->step);
    sqlite3_bind_int(s, 2, (int)row->tried);
    bind_text(s, 3, row->error_word);
    bind_text(s, 4, row->error_text);
    bind_json(s, 5, row->data);
    bind_text(s, 6, row->id);
    return finish(j, s, "saving an operation", error);
}

bool
journal_cancel(Journal *j, const char *id, GError **error)
{
    WITH_LOCK(&j->lock);
    g_autoptr(Statement) s = prepare(j, "UPDATE operations SET cancel=1 WHERE id=?", error);

    if (s == NULL)
        return false;
    bind_text(s, 1, id);
    return finish(j, s, "saving a cancel", error);
}

bool
journal_resume(Journal *j, const char *id, bool resume, GError **error)
{
    WITH_LOCK(&j->lock);
    g_autoptr(Statement) s = prepare(j, "UPDATE operations SET resume=? WHERE id=?", error);

    if (s == NULL)
        return false;
    sqlite3_bind_int(s, 1, resume);
    bind_text(s, 2, id);
    return finish(j, s, "saving the wish to go on", error);
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
    g_autoptr(Statement) s = prepare(j,
                                     "SELECT id,kind,vm_id,step,tried,cancel,error_word,error_text,"
                                     "params,data,created,resume FROM operations ORDER BY seq",
                                     error);
    int code;

    if (s == NULL)
        return NULL;
    while ((code = sqlite3_step(s)) == SQLITE_ROW) {
        JournalRow *row = g_new0(JournalRow, 1);
        row->id = column_text(s, 0);
        row->kind = column_text(s, 1);
        row->vm_id = column_text(s, 2);
        row->step = column_text(s, 3);
        row->tried = (unsigned)sqlite3_column_int(s, 4);
        row->cancel = sqlite3_column_int(s, 5) != 0;
        row->error_word = column_text(s, 6);
        row->error_text = column_text(s, 7);
        row->params = column_json(s, 8);
        row->data = column_json(s, 9);
        row->created = sqlite3_column_int64(s, 10);
        row->resume = sqlite3_column_int(s, 11) != 0;
        g_ptr_array_add(rows, row);
        if (row->params == NULL || row->data == NULL) {
            error_set(error, ERR_CORRUPT,
                      "the agent's journal: what it holds of operation %s is damaged; nothing was "
                      "changed",
                      row->id);
            return NULL;
        }
    }
    if (code != SQLITE_DONE) {
        fail(j, "reading", error);
        return NULL;
    }
    return g_steal_pointer(&rows);
}

bool
journal_forget(Journal *j, const char *id, GError **error)
{
    WITH_LOCK(&j->lock);
    g_autoptr(Statement) s = prepare(j, "DELETE FROM operations WHERE id=?", error);

    if (s == NULL)
        return false;
    bind_text(s, 1, id);
    return finish(j, s, "forgetting an operation", error);
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
    s = prepare(j, "INSERT OR IGNORE INTO tombstones VALUES (?,?)", error);
    if (s == NULL)
        return false;
    bind_text(s, 1, id);
    sqlite3_bind_int64(s, 2, clock_wall_ms());
    return finish(j, s, "writing a tombstone", error);
}

bool
journal_epoch(Journal *j, int64_t epoch, GError **error)
{
    WITH_LOCK(&j->lock);
    g_autofree char *old = NULL;

    if (!meta_get(j, "epoch", &old, error))
        return false;
    int64_t highest = old != NULL ? g_ascii_strtoll(old, NULL, 10) : 0;

    if (epoch < highest)
        return error_set(error, ERR_STALE_EPOCH,
                         "epoch %" G_GINT64_FORMAT
                         " is over: a newer manager (epoch %" G_GINT64_FORMAT
                         ") has taken over this host",
                         epoch, highest);
    if (epoch == highest)
        return true;
    g_autofree char *text = g_strdup_printf("%" G_GINT64_FORMAT, epoch);
    return meta_set(j, "epoch", text, error);
}

const char *
journal_agent_id(Journal *j)
{
    return j->agent_id;
}
