/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * Users and their tokens. src/people knows what they mean.
 */
#include "store/sql.h"

void
person_row_free(PersonRow *row)
{
    if (row == NULL)
        return;
    g_free(row->name);
    g_free(row->role);
    g_free(row->password);
    json_decref(row->vms);
    g_free(row);
}

void
token_row_free(TokenRow *row)
{
    if (row == NULL)
        return;
    g_free(row->hash);
    g_free(row->person);
    g_free(row->kind);
    g_free(row->peer);
    g_free(row);
}

bool
store_person_put(Store *store, const PersonRow *row, GError **error)
{
    WITH_LOCK(&store->lock);
    g_autoptr(sqlite3_stmt) stmt =
        sql_prepare(store,
                    "INSERT OR REPLACE INTO person(" PERSON_COLUMNS ", sum)"
                    " VALUES(?1, ?2, ?3, ?4, ?5, ?6, ?7,"
                    " row_sum(?1, ?2, ?3, ?4, ?5, ?6, ?7))",
                    error);

    if (stmt == NULL)
        return false;
    sql_put_text(stmt, 1, row->name);
    sql_put_text(stmt, 2, row->role);
    sql_put_text(stmt, 3, row->password);
    sql_put_json(stmt, 4, row->vms);
    sql_put_number(stmt, 5, row->created);
    sql_put_number(stmt, 6, row->changed);
    sql_put_number(stmt, 7, row->locked);
    return sql_run(store, stmt, error);
}

static bool
run_with(Store *store, const char *sql, const char *text, GError **error)
{
    g_autoptr(sqlite3_stmt) stmt = sql_prepare(store, sql, error);

    if (stmt == NULL)
        return false;
    sql_put_text(stmt, 1, text);
    return sql_run(store, stmt, error);
}

bool
store_person_remove(Store *store, const char *name, GError **error)
{
    WITH_LOCK(&store->lock);

    /* the tokens first: without their user they say nothing */
    return run_with(store, "DELETE FROM token WHERE person = ?", name, error) &&
           run_with(store, "DELETE FROM person WHERE name = ?", name, error);
}

GPtrArray *
store_people(Store *store, GError **error)
{
    WITH_LOCK(&store->lock);
    g_autoptr(GPtrArray) rows = g_ptr_array_new_with_free_func((GDestroyNotify)person_row_free);
    g_autoptr(sqlite3_stmt) stmt =
        sql_prepare(store, "SELECT " PERSON_COLUMNS " FROM person ORDER BY name", error);
    SqlNext next;

    if (stmt == NULL)
        return NULL;
    while ((next = sql_next(store, stmt, error)) == SQL_ROW) {
        PersonRow *row = g_new0(PersonRow, 1);
        g_ptr_array_add(rows, row);
        row->name = sql_text(stmt, 0);
        row->role = sql_text(stmt, 1);
        row->password = sql_text(stmt, 2);
        row->vms = sql_json(stmt, 3, "user", row->name, error);
        row->created = sqlite3_column_int64(stmt, 4);
        row->changed = sqlite3_column_int64(stmt, 5);
        row->locked = sqlite3_column_int64(stmt, 6);
        if (row->vms == NULL)
            return NULL;
    }
    return next == SQL_END ? g_steal_pointer(&rows) : NULL;
}

bool
store_token_put(Store *store, const TokenRow *row, GError **error)
{
    WITH_LOCK(&store->lock);
    g_autoptr(sqlite3_stmt) stmt =
        sql_prepare(store,
                    "INSERT OR REPLACE INTO token(" TOKEN_COLUMNS ", sum)"
                    " VALUES(?1, ?2, ?3, ?4, ?5, ?6, ?7,"
                    " row_sum(?1, ?2, ?3, ?4, ?5, ?6, ?7))",
                    error);

    if (stmt == NULL)
        return false;
    sql_put_text(stmt, 1, row->hash);
    sql_put_text(stmt, 2, row->person);
    sql_put_text(stmt, 3, row->kind);
    sql_put_number(stmt, 4, row->created);
    sql_put_number(stmt, 5, row->used);
    sql_put_number(stmt, 6, row->expires);
    sql_put_text(stmt, 7, row->peer);
    return sql_run(store, stmt, error);
}

bool
store_token_remove(Store *store, const char *hash, GError **error)
{
    WITH_LOCK(&store->lock);

    return run_with(store, "DELETE FROM token WHERE hash = ?", hash, error);
}

bool
store_tokens_remove(Store *store, const char *person, const char *keep, GError **error)
{
    WITH_LOCK(&store->lock);
    g_autoptr(sqlite3_stmt) stmt =
        sql_prepare(store, "DELETE FROM token WHERE person = ?1 AND hash IS NOT ?2", error);

    if (stmt == NULL)
        return false;
    sql_put_text(stmt, 1, person);
    sql_put_text(stmt, 2, keep);
    return sql_run(store, stmt, error);
}

GPtrArray *
store_tokens(Store *store, GError **error)
{
    WITH_LOCK(&store->lock);
    g_autoptr(GPtrArray) rows = g_ptr_array_new_with_free_func((GDestroyNotify)token_row_free);
    g_autoptr(sqlite3_stmt) stmt =
        sql_prepare(store, "SELECT " TOKEN_COLUMNS " FROM token ORDER BY created", error);
    SqlNext next;

    if (stmt == NULL)
        return NULL;
    while ((next = sql_next(store, stmt, error)) == SQL_ROW) {
        TokenRow *row = g_new0(TokenRow, 1);
        g_ptr_array_add(rows, row);
        row->hash = sql_text(stmt, 0);
        row->person = sql_text(stmt, 1);
        row->kind = sql_text(stmt, 2);
        row->created = sqlite3_column_int64(stmt, 3);
        row->used = sqlite3_column_int64(stmt, 4);
        row->expires = sqlite3_column_int64(stmt, 5);
        row->peer = sql_text(stmt, 6);
    }
    return next == SQL_END ? g_steal_pointer(&rows) : NULL;
}
