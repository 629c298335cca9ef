/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "base/clock.h"
#include "store/sql.h"

#define NEW_ROW "?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13"
#define MOST 10000

void
event_row_free(EventRow *row)
{
    if (row == NULL)
        return;
    g_free(row->severity);
    g_free(row->text);
    g_free(row->vm_id);
    g_free(row->vm_name);
    g_free(row->snapshot_id);
    g_free(row->job_id);
    g_free(row->correlation_id);
    g_free(row->user);
    g_free(row->about);
    g_free(row->host_id);
    g_free(row->host_name);
    g_free(row);
}

bool
store_event_add(Store *store, EventRow *row, GError **error)
{
    WITH_LOCK(&store->lock);
    int64_t now = clock_wall_ms();
    g_autoptr(sqlite3_stmt) stmt =
        sql_prepare(store,
                    "INSERT INTO event(" EVENT_COLUMNS ", sum)"
                    " VALUES(" NEW_ROW ", row_sum(" NEW_ROW ")) ON CONFLICT DO NOTHING",
                    error);

    if (stmt == NULL)
        return false;
    sql_put_number(stmt, 1, now);
    sql_put_number(stmt, 2, row->code);
    sql_put_text(stmt, 3, row->severity);
    sql_put_text(stmt, 4, row->text);
    sql_put_text(stmt, 5, row->vm_id);
    sql_put_text(stmt, 6, row->vm_name);
    sql_put_text(stmt, 7, row->snapshot_id);
    sql_put_text(stmt, 8, row->job_id);
    sql_put_text(stmt, 9, row->correlation_id);
    sql_put_text(stmt, 10, row->user);
    sql_put_text(stmt, 11, row->about);
    sql_put_text(stmt, 12, row->host_id);
    sql_put_text(stmt, 13, row->host_name);
    if (!sql_run(store, stmt, error))
        return false;
    row->id = sqlite3_changes(store->db) == 1 ? sqlite3_last_insert_rowid(store->db) : 0;
    row->time = now;
    return true;
}

static EventRow *
read_row(sqlite3_stmt *stmt)
{
    EventRow *row = g_new0(EventRow, 1);

    row->id = sqlite3_column_int64(stmt, 0);
    row->time = sqlite3_column_int64(stmt, 1);
    row->code = sqlite3_column_int(stmt, 2);
    row->severity = sql_text(stmt, 3);
    row->text = sql_text(stmt, 4);
    row->vm_id = sql_text(stmt, 5);
    row->vm_name = sql_text(stmt, 6);
    row->snapshot_id = sql_text(stmt, 7);
    row->job_id = sql_text(stmt, 8);
    row->correlation_id = sql_text(stmt, 9);
    row->user = sql_text(stmt, 10);
    row->about = sql_text(stmt, 11);
    row->host_id = sql_text(stmt, 12);
    row->host_name = sql_text(stmt, 13);
    return row;
}

GPtrArray *
store_event_list(Store *store, int64_t from, int max, bool oldest_first, GError **error)
{
    WITH_LOCK(&store->lock);
    g_autoptr(GPtrArray) rows = g_ptr_array_new_with_free_func((GDestroyNotify)event_row_free);
    g_autofree char *sql = g_strdup_printf("SELECT id, " EVENT_COLUMNS
                                           " FROM event WHERE id > ? ORDER BY id %s LIMIT ?",
                                           oldest_first ? "ASC" : "DESC");
    g_autoptr(sqlite3_stmt) stmt = sql_prepare(store, sql, error);
    SqlNext next;

    if (stmt == NULL)
        return NULL;
    sql_put_number(stmt, 1, from);
    sql_put_number(stmt, 2, max < 0 || max > MOST ? MOST : max);
    while ((next = sql_next(store, stmt, error)) == SQL_ROW)
        g_ptr_array_add(rows, read_row(stmt));
    return next == SQL_END ? g_steal_pointer(&rows) : NULL;
}

bool
store_event_remove(Store *store, int64_t id, GError **error)
{
    WITH_LOCK(&store->lock);
    g_autoptr(sqlite3_stmt) stmt = sql_prepare(store, "DELETE FROM event WHERE id = ?", error);

    if (stmt == NULL)
        return false;
    sql_put_number(stmt, 1, id);
    return sql_run(store, stmt, error) &&
           (sqlite3_changes(store->db) == 1 ||
            error_set(error, ERR_NOT_FOUND, "there is no event '%" G_GINT64_FORMAT "'",
                      (gint64)id));
}

bool
store_event_prune(Store *store, int64_t before_ms, GError **error)
{
    WITH_LOCK(&store->lock);
    /* the newest stays: clients take its id as the place to begin from */
    g_autoptr(sqlite3_stmt) stmt = sql_prepare(
        store, "DELETE FROM event WHERE time < ? AND id < (SELECT max(id) FROM event)", error);

    if (stmt == NULL)
        return false;
    sql_put_number(stmt, 1, before_ms);
    return sql_run(store, stmt, error);
}
