/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "store/sql.h"

bool
store_vm_put(Store *store, const char *vm_id, const char *host, const json_t *doc, GError **error)
{
    WITH_LOCK(&store->lock);
    g_autoptr(sqlite3_stmt) stmt = sql_prepare(store,
                                               "INSERT OR REPLACE INTO vm(" VM_COLUMNS ", sum)"
                                               " VALUES(?1, ?2, ?3, row_sum(?1, ?2, ?3))",
                                               error);

    if (stmt == NULL)
        return false;
    sql_put_text(stmt, 1, vm_id);
    sql_put_text(stmt, 2, host);
    sql_put_json(stmt, 3, doc);
    return sql_run(store, stmt, error);
}

bool
store_vm_remove(Store *store, const char *vm_id, GError **error)
{
    WITH_LOCK(&store->lock);
    g_autoptr(sqlite3_stmt) stmt = sql_prepare(store, "DELETE FROM vm WHERE id = ?", error);

    if (stmt == NULL)
        return false;
    sql_put_text(stmt, 1, vm_id);
    return sql_run(store, stmt, error);
}

bool
store_vm_each(Store *store,
              void (*each)(const char *vm_id, const char *host, const json_t *doc, void *data),
              void *data, GError **error)
{
    WITH_LOCK(&store->lock);
    g_autoptr(sqlite3_stmt) stmt =
        sql_prepare(store, "SELECT id, host, doc FROM vm ORDER BY id", error);
    SqlNext next;

    if (stmt == NULL)
        return false;
    while ((next = sql_next(store, stmt, error)) == SQL_ROW) {
        g_autofree char *id = sql_text(stmt, 0);
        g_autofree char *host = sql_text(stmt, 1);
        g_autoptr(json_t) doc = sql_json(stmt, 2, "VM", id, error);

        if (doc == NULL)
            return false;
        each(id, host, doc, data);
    }
    return next == SQL_END;
}
