/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "base/clock.h"
#include "store/sql.h"

#define COLUMNS FLOW_COLUMNS
#define NEW_ROW "?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?14, 0, 1"

void
flow_row_free(FlowRow *row)
{
    if (row == NULL)
        return;
    g_free(row->id);
    g_free(row->kind);
    g_free(row->vm_id);
    g_free(row->parent);
    g_free(row->step);
    g_free(row->error_word);
    g_free(row->error_text);
    g_free(row->correlation_id);
    g_free(row->description);
    json_decref(row->params);
    json_decref(row->data);
    g_free(row);
}

static FlowRow *
read_row(sqlite3_stmt *stmt, GError **error)
{
    g_autoptr(FlowRow) row = g_new0(FlowRow, 1);

    row->id = sql_text(stmt, 0);
    row->kind = sql_text(stmt, 1);
    row->vm_id = sql_text(stmt, 2);
    row->parent = sql_text(stmt, 3);
    row->step = sql_text(stmt, 4);
    row->tried = (unsigned)sqlite3_column_int64(stmt, 5);
    row->cancel = sqlite3_column_int(stmt, 6) != 0;
    row->error_word = sql_text(stmt, 7);
    row->error_text = sql_text(stmt, 8);
    row->params = sql_json(stmt, 9, "flow", row->id, error);
    if (row->params == NULL)
        return NULL;
    row->data = sql_json(stmt, 10, "flow", row->id, error);
    if (row->data == NULL)
        return NULL;
    row->correlation_id = sql_text(stmt, 11);
    row->description = sql_text(stmt, 12);
    row->created = sqlite3_column_int64(stmt, 13);
    row->updated = sqlite3_column_int64(stmt, 14);
    row->ended = sqlite3_column_int64(stmt, 15);
    row->rev = sqlite3_column_int64(stmt, 16);
    return g_steal_pointer(&row);
}

bool
store_flow_insert(Store *store, FlowRow *row, GError **error)
{
    WITH_LOCK(&store->lock);
    int64_t now = clock_wall_ms();
    g_autoptr(sqlite3_stmt) stmt = sql_prepare(
        store, "INSERT INTO flow(" COLUMNS ", sum) VALUES(" NEW_ROW ", row_sum(" NEW_ROW "))",
        error);

    if (stmt == NULL)
        return false;
    sql_put_text(stmt, 1, row->id);
    sql_put_text(stmt, 2, row->kind);
    sql_put_text(stmt, 3, row->vm_id);
    sql_put_text(stmt, 4, row->parent);
    sql_put_text(stmt, 5, row->step);
    sql_put_number(stmt, 6, row->tried);
    sql_put_number(stmt, 7, row->cancel);
    sql_put_text(stmt, 8, row->error_word);
    sql_put_text(stmt, 9, row->error_text);
    sql_put_json(stmt, 10, row->params);
    sql_put_json(stmt, 11, row->data);
    sql_put_text(stmt, 12, row->correlation_id);
    sql_put_text(stmt, 13, row->description);
    sql_put_number(stmt, 14, now);
    if (!sql_run(store, stmt, error))
        return false;
    row->created = row->updated = now;
    row->ended = 0;
    row->rev = 1;
    return true;
}

bool
store_flow_update(Store *store, FlowRow *row, GError **error)
{
    WITH_LOCK(&store->lock);
    int64_t now = clock_wall_ms();
    int64_t ended = *row->step != '\0' ? 0 : row->ended != 0 ? row->ended : now;
    g_autoptr(sqlite3_stmt) stmt = sql_prepare(
        store,
        "UPDATE flow SET step = ?1, tried = ?2, cancel = max(cancel, ?3), error_word = ?4,"
        " error_text = ?5, data = ?6, updated = ?7, ended = ?8, rev = rev + 1,"
        " sum = row_sum(id, kind, vm_id, parent, ?1, ?2, max(cancel, ?3), ?4, ?5, params, ?6,"
        " correlation_id, description, created, ?7, ?8, rev + 1) WHERE id = ?9 AND rev = ?10",
        error);

    if (stmt == NULL)
        return false;
    sql_put_text(stmt, 1, row->step);
    sql_put_number(stmt, 2, row->tried);
    sql_put_number(stmt, 3, row->cancel);
    sql_put_text(stmt, 4, row->error_word);
    sql_put_text(stmt, 5, row->error_text);
    sql_put_json(stmt, 6, row->data);
    sql_put_number(stmt, 7, now);
    sql_put_number(stmt, 8, ended);
    sql_put_text(stmt, 9, row->id);
    sql_put_number(stmt, 10, row->rev);
    if (!sql_run(store, stmt, error))
        return false;
    if (sqlite3_changes(store->db) != 1)
        return error_set(error, ERR_STALE_EPOCH,
                         "flow %s was changed by somebody else since revision %" G_GINT64_FORMAT,
                         row->id, row->rev);
    row->updated = now;
    row->ended = ended;
    row->rev++;
    return true;
}

bool
store_flow_cancel(Store *store, const char *id, GError **error)
{
    WITH_LOCK(&store->lock);
    g_autoptr(sqlite3_stmt) stmt = sql_prepare(
        store,
        "UPDATE flow SET cancel = 1, sum = row_sum(id, kind, vm_id, parent, step, tried,"
        " 1, error_word, error_text, params, data, correlation_id, description,"
        " created, updated, ended, rev) WHERE id = ? AND ended = 0",
        error);

    if (stmt == NULL)
        return false;
    sql_put_text(stmt, 1, id);
    if (!sql_run(store, stmt, error))
        return false;
    return sqlite3_changes(store->db) == 1 ||
           error_set(error, ERR_REFUSED, "job %s has already ended", id);
}

FlowRow *
store_flow_get(Store *store, const char *id, GError **error)
{
    WITH_LOCK(&store->lock);
    g_autoptr(sqlite3_stmt) stmt =
        sql_prepare(store, "SELECT " COLUMNS " FROM flow WHERE id = ?", error);

    if (stmt == NULL)
        return NULL;
    sql_put_text(stmt, 1, id);
    switch (sql_next(store, stmt, error)) {
    case SQL_ROW:
        return read_row(stmt, error);
    case SQL_END:
        error_set(error, ERR_NOT_FOUND, "there is no job %s", id);
        return NULL;
    case SQL_FAILED:
        return NULL;
    }
    g_assert_not_reached();
}

GPtrArray *
store_flow_list(Store *store, bool only_open, const char *parent, const char *vm_id, GError **error)
{
    WITH_LOCK(&store->lock);
    g_autoptr(GPtrArray) rows = g_ptr_array_new_with_free_func((GDestroyNotify)flow_row_free);
    g_autofree char *sql =
        g_strdup_printf("SELECT " COLUMNS " FROM flow WHERE %s AND %s AND %s ORDER BY number",
                        only_open ? "ended = 0" : "1", parent != NULL ? "parent = ?1" : "1",
                        vm_id != NULL ? "vm_id = ?2" : "1");
    g_autoptr(sqlite3_stmt) stmt = sql_prepare(store, sql, error);
    SqlNext next;

    if (stmt == NULL)
        return NULL;
    if (parent != NULL)
        sql_put_text(stmt, 1, parent);
    if (vm_id != NULL)
        sql_put_text(stmt, 2, vm_id);
    while ((next = sql_next(store, stmt, error)) == SQL_ROW) {
        FlowRow *row = read_row(stmt, error);

        if (row == NULL)
            return NULL;
        g_ptr_array_add(rows, row);
    }
    return next == SQL_END ? g_steal_pointer(&rows) : NULL;
}

bool
store_flow_prune(Store *store, int64_t before_ms, GError **error)
{
    WITH_LOCK(&store->lock);
    g_autoptr(sqlite3_stmt) stmt = sql_prepare(
        store,
        "WITH old AS (SELECT id FROM flow WHERE parent IS NULL AND ended <> 0 AND ended < ?)"
        " DELETE FROM flow WHERE id IN old OR parent IN old",
        error);

    if (stmt == NULL)
        return false;
    sql_put_number(stmt, 1, before_ms);
    return sql_run(store, stmt, error);
}
