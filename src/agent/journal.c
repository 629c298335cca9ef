/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "agent/journal.h"

#include "base/clock.h"
#include "base/log.h"
#include "base/text.h"
#include "database/database.h"

#include <string.h>

#define WHAT "the agent's journal"
#define VERSION 2

/* The sum of a row of operations: what is in capitals may be another value than the stored one. */
#define SUM(STEP, TRIED, CANCEL, RESUME, WORD, TEXT, DATA)                          \
    "row_sum(id,kind,vm_id," STEP "," TRIED "," CANCEL "," RESUME "," WORD "," TEXT \
    ",params," DATA ",created)"
#define STORED_SUM SUM("step", "tried", "cancel", "resume", "error_word", "error_text", "data")

struct Journal {
    sqlite3 *db;
    GMutex lock;
    char *file;
    char *agent_id;
    char *set_aside; /* the damaged one in whose place this was made; NULL = none */
    unsigned salvaged;
    char *damage; /* SQLite has found it damaged: nothing is written any more; NULL = not */
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
    " INSERT OR IGNORE INTO tombstones VALUES (old.id, unixepoch() * 1000); END;";

/* Sums, and a second copy of what has none: the integrity check compares an index with its table.
 */
static const char schema_2[] = "ALTER TABLE operations ADD COLUMN sum INTEGER;"
                               "UPDATE operations SET sum=" STORED_SUM ";"
                               "CREATE INDEX meta_twice ON meta(key, value);"
                               "CREATE INDEX tombstones_twice ON tombstones(made, id);"
                               "INSERT OR REPLACE INTO meta VALUES('format','2');"
                               "PRAGMA user_version = 2;";

static const char bury_old[] =
    "DELETE FROM tombstones WHERE made < (unixepoch() - 30 * 86400) * 1000;";

typedef sqlite3_stmt Statement;
G_DEFINE_AUTOPTR_CLEANUP_FUNC(Statement, sqlite3_finalize)

static bool
fail(Journal *j, const char *doing, GError **error)
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

static Statement *
prepare(Journal *j, const char *sql, GError **error)
{
    Statement *s = NULL;

    if (!is_sound(j, error))
        return NULL;
    if (sqlite3_prepare_v2(j->db, sql, -1, &s, NULL) != SQLITE_OK) {
        fail(j, "preparing", error);
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

/* ---- opening ---- */

static bool
upgrade(Journal *j, GError **error)
{
    if (!execute(j, "BEGIN IMMEDIATE;", error))
        return false;
    if (execute(j, schema, error) && add_resume(j, error) && execute(j, schema_2, error) &&
        database_seal(j->db, j->file, WHAT, error) && execute(j, "COMMIT;", error))
        return true;
    sqlite3_exec(j->db, "ROLLBACK", NULL, NULL, NULL);
    return false;
}

static bool
check_rows(Journal *j, GError **error)
{
    int64_t wrong =
        database_number(j->db, j->file, WHAT,
                        "SELECT (SELECT count(*) FROM operations WHERE sum IS NOT " STORED_SUM ")"
                        " + (SELECT count(*) FROM sqlite_sequence WHERE seq > 1 << 48)",
                        error);

    return wrong == 0 ||
           (wrong > 0 && error_set(error, ERR_CORRUPT,
                                   WHAT " %s is damaged: what it holds of %" G_GINT64_FORMAT
                                        " operations is not what was written",
                                   j->file, wrong));
}

static bool
set_up(Journal *j, GError **error)
{
    int64_t version = database_number(j->db, j->file, WHAT, "PRAGMA user_version", error);

    if (version < 0)
        return false;
    if (version > VERSION)
        return error_set(error, ERR_UNSUPPORTED,
                         WHAT " %s is of format %" G_GINT64_FORMAT
                              ", written by a newer version (this one knows %d): it was not "
                              "touched; install the newer version again",
                         j->file, version, VERSION);
    if ((version == VERSION && !check_rows(j, error)) ||
        !database_use(j->db, j->file, WHAT, error) || (version < VERSION && !upgrade(j, error)) ||
        !execute(j, bury_old, error) || !meta_get(j, "agent-id", &j->agent_id, error))
        return false;
    if (j->agent_id != NULL)
        return true;
    j->agent_id = id_new();
    return meta_set(j, "agent-id", j->agent_id, error);
}

static void *
open_file(const char *file, GError **error)
{
    g_autoptr(Journal) j = g_new0(Journal, 1);

    g_mutex_init(&j->lock);
    j->file = g_strdup(file);
    j->db = database_open(file, WHAT, error);
    return j->db != NULL && set_up(j, error) ? g_steal_pointer(&j) : NULL;
}

/* What the damaged one can prove: operations by their sums, tombstones and the epoch by their
 * second copies. */
static void
salvage(Journal *j)
{
#define ALL \
    "seq,id,kind,vm_id,step,tried,cancel,resume,error_word,error_text,params,data,created,sum"
    j->salvaged = database_salvage(
        j->db, j->set_aside, "SELECT " ALL " FROM operations WHERE sum IS " STORED_SUM,
        "INSERT OR IGNORE INTO operations(" ALL ") VALUES(?,?,?,?,?,?,?,?,?,?,?,?,?,?)");
#undef ALL
    database_salvage(j->db, j->set_aside,
                     "SELECT id, made FROM tombstones AS it NOT INDEXED WHERE EXISTS"
                     " (SELECT 1 FROM tombstones AS copy INDEXED BY tombstones_twice"
                     "  WHERE copy.made = it.made AND copy.id = it.id)",
                     "INSERT OR IGNORE INTO tombstones VALUES(?,?)");
    database_salvage(j->db, j->set_aside,
                     "SELECT key, value FROM meta NOT INDEXED WHERE key = 'epoch' AND value IS"
                     " (SELECT value FROM meta INDEXED BY meta_twice WHERE key = 'epoch')",
                     "INSERT OR REPLACE INTO meta VALUES(?,?)");
}

Journal *
journal_open(const char *file, GError **error)
{
    g_autofree char *aside = NULL;
    Journal *j = database_open_or_anew(file, open_file, &aside, error);

    if (j == NULL || aside == NULL)
        return j;
    j->set_aside = g_steal_pointer(&aside);
    salvage(j);
    log_warn("a new journal was made. %u operations could be proved and were taken over; of others "
             "the manager judges by the VMs themselves. What they left: livemerge doctor",
             j->salvaged);
    return j;
}

void
journal_close(Journal *j)
{
    if (j == NULL)
        return;
    sqlite3_close(j->db);
    g_mutex_clear(&j->lock);
    g_free(j->agent_id);
    g_free(j->file);
    g_free(j->set_aside);
    g_free(j->damage);
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
                "params,data,created,sum) VALUES (?1,?2,?3,?4,?5,?6,?7,?8,?9,?10,?11,"
                "row_sum(?1,?2,?3,?4,?5,?6,0,?7,?8,?9,?10,?11))",
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
    g_autoptr(Statement) s =
        prepare(j,
                "UPDATE operations SET step=?1,tried=?2,error_word=?3,error_text=?4,data=?5,"
                "sum=" SUM("?1", "?2", "cancel", "resume", "?3", "?4", "?5") " WHERE id=?6",
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
    g_autoptr(Statement) s = prepare(j,
                                     "UPDATE operations SET cancel=1,"
                                     "sum=" SUM("step", "tried", "1", "resume", "error_word",
                                                "error_text", "data") " WHERE id=?",
                                     error);

    if (s == NULL)
        return false;
    bind_text(s, 1, id);
    return finish(j, s, "saving a cancel", error);
}

bool
journal_resume(Journal *j, const char *id, bool resume, GError **error)
{
    WITH_LOCK(&j->lock);
    g_autoptr(Statement) s = prepare(j,
                                     "UPDATE operations SET resume=?1,"
                                     "sum=" SUM("step", "tried", "cancel", "?1", "error_word",
                                                "error_text", "data") " WHERE id=?2",
                                     error);

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
    g_autoptr(Statement) s =
        prepare(j,
                "SELECT id,kind,vm_id,step,tried,cancel,error_word,error_text,"
                "params,data,created,resume,sum IS " STORED_SUM " FROM operations ORDER BY seq",
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
        if (row->params == NULL || row->data == NULL || sqlite3_column_int(s, 12) == 0) {
            error_set(error, ERR_CORRUPT,
                      WHAT " %s: what it holds of operation %s is damaged; nothing was changed",
                      j->file, row->id);
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

/* The lock is held. */
static bool
highest_epoch(Journal *j, int64_t *ret_highest, GError **error)
{
    g_autofree char *text = NULL;

    if (!meta_get(j, "epoch", &text, error))
        return false;
    *ret_highest = text != NULL ? g_ascii_strtoll(text, NULL, 10) : 0;
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
    return meta_set(j, "epoch", text, error);
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
