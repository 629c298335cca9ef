/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * The journal's file: its tables, those of older versions, and what to do with a damaged one.
 */
#include "agent/journal_rows.h"

#include "base/log.h"
#include "base/text.h"

#define VERSION 2

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

static bool
execute(Journal *j, const char *sql, GError **error)
{
    if (sqlite3_exec(j->db, sql, NULL, NULL, NULL) != SQLITE_OK)
        return journal_fail(j, "setting up", error);
    return true;
}

/* Journals of older versions lack the column. */
static bool
add_resume(Journal *j, GError **error)
{
    g_autoptr(Statement) s = journal_prepare(
        j, "SELECT 1 FROM pragma_table_info('operations') WHERE name='resume'", error);

    if (s == NULL)
        return false;
    int code = sqlite3_step(s);
    if (code == SQLITE_ROW)
        return true;
    if (code != SQLITE_DONE)
        return journal_fail(j, "reading", error);
    return execute(j, "ALTER TABLE operations ADD COLUMN resume INTEGER NOT NULL DEFAULT 0", error);
}

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
        !execute(j, bury_old, error) || !journal_meta_get(j, "agent-id", &j->agent_id, error))
        return false;
    if (j->agent_id != NULL)
        return true;
    j->agent_id = id_new();
    return journal_meta_set(j, "agent-id", j->agent_id, error);
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
