/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "store/sql.h"

#include <errno.h>

static bool
sql_error(Store *store, GError **error)
{
    int code = sqlite3_errcode(store->db);
    int os = sqlite3_system_errno(store->db);
    const char *why = sqlite3_errmsg(store->db);

    if (code == SQLITE_FULL || (code == SQLITE_IOERR && (os == ENOSPC || os == EDQUOT)))
        return error_set(error, ERR_NO_SPACE,
                         "the file system of the database %s is full: nothing was changed; "
                         "free some space there",
                         store->file);
    if (code == SQLITE_CORRUPT || code == SQLITE_NOTADB)
        return error_set(error, ERR_CORRUPT, "the database %s is damaged: %s", store->file, why);
    if (code == SQLITE_BUSY || code == SQLITE_LOCKED)
        return error_set(error, ERR_BUSY, "another program holds the database %s", store->file);
    return error_set(error, ERR_STORAGE, "database %s: %s", store->file, why);
}

sqlite3_stmt *
sql_prepare(Store *store, const char *sql, GError **error)
{
    sqlite3_stmt *stmt = NULL;

    if (sqlite3_prepare_v2(store->db, sql, -1, &stmt, NULL) != SQLITE_OK)
        sql_error(store, error);
    return stmt;
}

bool
sql_exec(Store *store, const char *sql, GError **error)
{
    return sqlite3_exec(store->db, sql, NULL, NULL, NULL) == SQLITE_OK || sql_error(store, error);
}

SqlNext
sql_next(Store *store, sqlite3_stmt *stmt, GError **error)
{
    switch (sqlite3_step(stmt)) {
    case SQLITE_ROW:
        return SQL_ROW;
    case SQLITE_DONE:
        return SQL_END;
    default:
        sql_error(store, error);
        return SQL_FAILED;
    }
}

bool
sql_run(Store *store, sqlite3_stmt *stmt, GError **error)
{
    return sql_next(store, stmt, error) != SQL_FAILED;
}

void
sql_put_text(sqlite3_stmt *stmt, int parameter, const char *text)
{
    sqlite3_bind_text(stmt, parameter, text, -1, SQLITE_TRANSIENT);
}

void
sql_put_number(sqlite3_stmt *stmt, int parameter, int64_t number)
{
    sqlite3_bind_int64(stmt, parameter, number);
}

void
sql_put_json(sqlite3_stmt *stmt, int parameter, const json_t *json)
{
    if (json != NULL)
        sqlite3_bind_text(stmt, parameter, json_dumps(json, JSON_COMPACT | JSON_ENCODE_ANY), -1,
                          free);
    else
        sqlite3_bind_text(stmt, parameter, "{}", -1, SQLITE_STATIC);
}

char *
sql_text(sqlite3_stmt *stmt, int column)
{
    return g_strdup((const char *)sqlite3_column_text(stmt, column));
}

json_t *
sql_json(sqlite3_stmt *stmt, int column, const char *what, const char *id, GError **error)
{
    const char *text = (const char *)sqlite3_column_text(stmt, column);
    json_error_t why = { 0 };
    json_t *json = text != NULL ? json_loads(text, 0, &why) : NULL;

    if (json == NULL)
        error_set(error, ERR_CORRUPT, "the database's row of %s %s is damaged: %s", what, id,
                  why.text);
    return json;
}

char *
sql_note(Store *store, const char *name, GError **error)
{
    g_autoptr(sqlite3_stmt) stmt =
        sql_prepare(store, "SELECT value FROM note WHERE name = ?", error);

    if (stmt == NULL)
        return NULL;
    sql_put_text(stmt, 1, name);
    return sql_next(store, stmt, error) == SQL_ROW ? sql_text(stmt, 0) : NULL;
}

bool
sql_note_set(Store *store, const char *name, const char *value, GError **error)
{
    g_autoptr(sqlite3_stmt) stmt =
        sql_prepare(store, "INSERT OR REPLACE INTO note(name, value) VALUES(?, ?)", error);

    if (stmt == NULL)
        return false;
    sql_put_text(stmt, 1, name);
    sql_put_text(stmt, 2, value);
    return sql_run(store, stmt, error);
}
