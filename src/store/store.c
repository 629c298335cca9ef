/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "base/clock.h"
#include "base/log.h"
#include "base/text.h"
#include "store/sql.h"

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
    g_autofree char *sql = g_strdup_printf("BEGIN IMMEDIATE; %s PRAGMA user_version = %d;",
                                           store_schema[version], version + 1);

    if (sql_exec(store, sql, error) && database_seal(store->db, store->file, STORE_WHAT, error) &&
        sql_exec(store, "COMMIT;", error))
        return true;
    sqlite3_exec(store->db, "ROLLBACK", NULL, NULL, NULL);
    return false;
}

/* Before anything is written: a newer one is not touched. */
static bool
check_version(Store *store, bool *ret_current, GError **error)
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
    *ret_current = version == known;
    return true;
}

static bool
upgrade(Store *store, GError **error)
{
    int version = 0;

    if (!schema_version(store, &version, error))
        return false;
    for (; store_schema[version] != NULL; version++)
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
check_rows(Store *store, GError **error)
{
    int64_t wrong = database_number(
        store->db, store->file, STORE_WHAT,
        "SELECT (SELECT count(*) FROM flow WHERE sum IS NOT " SUM_OF(
            FLOW_COLUMNS) ")"
                          " + (SELECT count(*) FROM event WHERE sum IS NOT " SUM_OF(
                              EVENT_COLUMNS) ")"
                                             " + (SELECT count(*) FROM vm WHERE sum IS NOT " SUM_OF(
                                                 VM_COLUMNS) ")"
                                                             " + (SELECT count(*) FROM "
                                                             "person WHERE sum IS NOT " SUM_OF(
                                                                 PERSON_COLUMNS) ")"
                                                                                 " + (SELECT "
                                                                                 "count(*) FROM "
                                                                                 "token WHERE sum "
                                                                                 "IS NOT " SUM_OF(
                                                                                     TOKEN_COLUMNS) ")"
                                                                                                    " + (SELECT count(*) FROM "
                                                                                                    "sqlite_sequence WHERE seq > 1 << 48)",
        error);

    return wrong == 0 || (wrong > 0 && error_set(error, ERR_CORRUPT,
                                                 "the database %s is damaged: %" G_GINT64_FORMAT
                                                 " of its rows are not as they were written",
                                                 store->file, wrong));
}

static void *
open_file(const char *file, GError **error)
{
    g_autoptr(Store) store = g_new0(Store, 1);
    bool current = false;

    g_mutex_init(&store->lock);
    store->file = g_strdup(file);
    store->db = database_open(file, STORE_WHAT, error);
    if (store->db == NULL || !check_version(store, &current, error) ||
        (current && !check_rows(store, error)) ||
        !database_use(store->db, file, STORE_WHAT, error) || !upgrade(store, error) ||
        !load_instance(store, error))
        return NULL;
    return g_steal_pointer(&store);
}

/* What the damaged one can prove. What it knew of VMs the hosts tell again. */
static void
salvage(Store *store)
{
    unsigned flows = database_salvage(
        store->db, store->set_aside,
        "SELECT number, " FLOW_COLUMNS ", sum FROM flow WHERE sum IS " SUM_OF(FLOW_COLUMNS),
        "INSERT OR IGNORE INTO flow(number, " FLOW_COLUMNS ", sum)"
        " VALUES(?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)");
    unsigned events = database_salvage(store->db, store->set_aside,
                                       "SELECT id, " EVENT_COLUMNS
                                       ", sum FROM event WHERE sum IS " SUM_OF(EVENT_COLUMNS),
                                       "INSERT OR IGNORE INTO event(id, " EVENT_COLUMNS ", sum)"
                                       " VALUES(?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)");
    /* not the tokens: their owners sign in again */
    unsigned people = database_salvage(
        store->db, store->set_aside,
        "SELECT " PERSON_COLUMNS ", sum FROM person WHERE sum IS " SUM_OF(PERSON_COLUMNS),
        "INSERT OR IGNORE INTO person(" PERSON_COLUMNS ", sum) VALUES(?, ?, ?, ?, ?, ?, ?, ?)");

    /* a part of a job whose whole was lost: nobody would ever hear of it */
    sqlite3_exec(
        store->db,
        "DELETE FROM flow WHERE parent IS NOT NULL AND parent NOT IN (SELECT id FROM flow)", NULL,
        NULL, NULL);
    log_warn("a new database was made; %u jobs and parts of jobs, %u events and %u users could be "
             "proved and were taken over",
             flows, events, people);
}

Store *
store_open(const char *file, GError **error)
{
    g_autofree char *aside = NULL;
    Store *store = database_open_or_anew(file, open_file, &aside, error);

    if (store == NULL || aside == NULL)
        return store;
    store->set_aside = g_steal_pointer(&aside);
    salvage(store);
    return store;
}

void
store_close(Store *store)
{
    if (store == NULL)
        return;
    sqlite3_close(store->db);
    g_free(store->file);
    g_free(store->instance);
    g_free(store->set_aside);
    g_free(store->damage);
    g_mutex_clear(&store->lock);
    g_free(store);
}

int64_t
store_next_epoch(Store *store, GError **error)
{
    return store_epoch_above(store, 0, error);
}

int64_t
store_epoch_above(Store *store, int64_t floor, GError **error)
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
    sql_put_number(stmt, 1, MAX(clock_wall_ms() / 1000, floor + 1));
    if (sql_next(store, stmt, error) != SQL_ROW)
        return 0;
    epoch = sqlite3_column_int64(stmt, 0);
    /* the row comes before the commit does: durable only when the statement ended */
    return sql_run(store, stmt, error) ? epoch : 0;
}

int
store_changes(Store *store)
{
    return g_atomic_int_get(&store->changes);
}

const char *
store_instance(Store *store)
{
    return store->instance;
}

const char *
store_set_aside(const Store *store)
{
    return store->set_aside;
}

const char *
store_damage(Store *store)
{
    return g_atomic_pointer_get(&store->damage);
}

void
store_signal_damage(int signal_number)
{
    database_signal_damage(signal_number);
}
