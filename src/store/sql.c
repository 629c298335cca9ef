/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "store/sql.h"

static bool
sql_error(Store *store, GError **error)
{
    g_autoptr(GError) problem = NULL;

    database_error(store->db, store->file, STORE_WHAT, &problem);
    database_note_damage(&store->damage, problem);
    g_propagate_error(error, g_steal_pointer(&problem));
    return false;
}

static bool
is_sound(Store *store, GError **error)
{
    return store->damage == NULL ||
           error_set(error, ERR_CORRUPT,
                     "%s; nothing is written into it any more. Restart the manager: it sets the "
                     "file aside and takes over what can be proved",
                     store->damage);
}

sqlite3_stmt *
sql_prepare(Store *store, const char *sql, GError **error)
{
    sqlite3_stmt *stmt = NULL;

    if (!is_sound(store, error))
        return NULL;
    if (sqlite3_prepare_v2(store->db, sql, -1, &stmt, NULL) != SQLITE_OK)
        sql_error(store, error);
    return stmt;
}

bool
sql_exec(Store *store, const char *sql, GError **error)
{
    bool done = sqlite3_exec(store->db, sql, NULL, NULL, NULL) == SQLITE_OK;

    g_atomic_int_inc(&store->changes);
    return done || sql_error(store, error);
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
    bool done = sql_next(store, stmt, error) != SQL_FAILED;

    g_atomic_int_inc(&store->changes);
    return done;
}

void
sql_put_text(sqlite3_stmt *stmt, int parameter, const char *text)
{
    sqlite3_bind_text(stmt, parameter, text, -1, SQLITE_STATIC);
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
