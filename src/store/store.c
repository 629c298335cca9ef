/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "base/clock.h"
#include "base/text.h"
#include "store/sql.h"

#include <fcntl.h>
#include <string.h>

static bool
schema_version(Store *store, int *ret_version, GError **error)
{
    g_autoptr(sqlite3_stmt) stmt = sql_prepare(store, "PRAGMA user_version", error);

    if (stmt == NULL || sql_next(store, stmt, error) == SQL_FAILED)
        return false;
    *ret_version = sqlite3_column_int(stmt, 0);
    return true;
}

static bool
upgrade_one(Store *store, int version, GError **error)
{
    g_autofree char *sql = g_strdup_printf("BEGIN IMMEDIATE; %s PRAGMA user_version = %d; COMMIT;",
                                           store_schema[version], version + 1);

    if (sql_exec(store, sql, error))
        return true;
    sqlite3_exec(store->db, "ROLLBACK", NULL, NULL, NULL);
    return false;
}

static bool
upgrade(Store *store, GError **error)
{
    int known = 0, version = 0;

    while (store_schema[known] != NULL)
        known++;
    if (!schema_version(store, &version, error))
        return false;
    if (version > known)
        return error_set(error, ERR_UNSUPPORTED,
                         "the database %s was written by a newer livemerge (schema %d, this one "
                         "knows %d): it was not touched; install the newer version again",
                         store->file, version, known);
    for (; version < known; version++)
        if (!upgrade_one(store, version, error))
            return false;
    return true;
}

static bool
load_instance(Store *store, GError **error)
{
    GError *why = NULL;

    store->instance = sql_note(store, "instance", &why);
    if (why != NULL) {
        g_propagate_error(error, why);
        return false;
    }
    if (store->instance != NULL)
        return true;
    store->instance = id_new();
    return sql_note_set(store, "instance", store->instance, error);
}

static bool
open_file(Store *store, GError **error)
{
    /* SQLite's own files beside it get the mode of this one */
    autofd int fd = open(store->file, O_RDWR | O_CREAT | O_CLOEXEC, 0600);

    if (fd < 0)
        return error_set_errno(error, "cannot open the database %s", store->file);
    if (sqlite3_open_v2(store->file, &store->db, SQLITE_OPEN_READWRITE | SQLITE_OPEN_NOMUTEX,
                        NULL) != SQLITE_OK)
        return error_set(error, ERR_STORAGE, "cannot open the database %s: %s", store->file,
                         sqlite3_errmsg(store->db));
    sqlite3_busy_timeout(store->db, 5000);
    return sql_exec(store,
                    "PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL;"
                    "PRAGMA cache_size = -1024; PRAGMA journal_size_limit = 4194304;",
                    error);
}

Store *
store_open(const char *file, GError **error)
{
    g_autoptr(Store) store = g_new0(Store, 1);

    g_mutex_init(&store->lock);
    store->file = g_strdup(file);
    if (!open_file(store, error) || !upgrade(store, error) || !load_instance(store, error))
        return NULL;
    return g_steal_pointer(&store);
}

void
store_close(Store *store)
{
    if (store == NULL)
        return;
    sqlite3_close(store->db);
    g_free(store->file);
    g_free(store->instance);
    g_mutex_clear(&store->lock);
    g_free(store);
}

int64_t
store_next_epoch(Store *store, GError **error)
{
    WITH_LOCK(&store->lock);
    g_autoptr(sqlite3_stmt) stmt =
        sql_prepare(store,
                    "INSERT INTO note(name, value) VALUES('epoch', ?1)"
                    " ON CONFLICT(name) DO UPDATE SET value = max(value + 1, ?1) RETURNING value",
                    error);
    int64_t epoch;

    if (stmt == NULL)
        return 0;
    /* Agents remember the highest epoch: a database that was lost and made anew must not begin
     * below it, or nobody would obey. */
    sql_put_number(stmt, 1, MAX(clock_wall_ms() / 1000, 1));
    if (sql_next(store, stmt, error) != SQL_ROW)
        return 0;
    epoch = sqlite3_column_int64(stmt, 0);
    /* the row comes before the commit does: durable only when the statement ended */
    return sql_run(store, stmt, error) ? epoch : 0;
}

const char *
store_instance(Store *store)
{
    return store->instance;
}
