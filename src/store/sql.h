/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * Inside of store/: the connection and a few words over SQLite's calls. Whoever
 * calls these holds store->lock.
 */
#pragma once

#include "database/database.h"
#include "store/store.h"

#define STORE_WHAT "the database"

struct Store {
    GMutex lock;
    sqlite3 *db;
    char *file;
    char *instance;
    int changes;     /* atomic */
    char *set_aside; /* the damaged one in whose place this was made; NULL = none */
    char *damage;    /* SQLite has found it damaged: nothing is written any more; NULL = not */
};

extern const char *const store_schema[];

/* The sums of rows as they are stored; the columns that they are made of. */
#define FLOW_COLUMNS                                                                       \
    "id, kind, vm_id, parent, step, tried, cancel, error_word, error_text, params, data, " \
    "correlation_id, description, created, updated, ended, rev"
#define EVENT_COLUMNS_3                                                                       \
    "time, code, severity, text, vm_id, vm_name, snapshot_id, job_id, correlation_id, user, " \
    "about" /* of the third schema */
#define EVENT_COLUMNS EVENT_COLUMNS_3 ", host_id, host_name"
#define VM_COLUMNS "id, host, doc"
#define PERSON_COLUMNS "name, role, password, vms, created, changed, locked"
#define TOKEN_COLUMNS "hash, person, kind, created, used, expires, peer"
#define SUM_OF(COLUMNS) "row_sum(" COLUMNS ")"

G_DEFINE_AUTOPTR_CLEANUP_FUNC(sqlite3_stmt, sqlite3_finalize)

sqlite3_stmt *sql_prepare(Store *store, const char *sql, GError **error);
/* Several statements without parameters */
bool sql_exec(Store *store, const char *sql, GError **error);
/* Runs a statement that gives no rows. */
bool sql_run(Store *store, sqlite3_stmt *stmt, GError **error);
typedef enum { SQL_ROW, SQL_END, SQL_FAILED } SqlNext;
SqlNext sql_next(Store *store, sqlite3_stmt *stmt, GError **error);

/* NULL texts are bound and read as NULL. A text is not copied: it stays until the statement has
 * run. */
void sql_put_text(sqlite3_stmt *stmt, int parameter, const char *text);
void sql_put_number(sqlite3_stmt *stmt, int parameter, int64_t number);
void sql_put_json(sqlite3_stmt *stmt, int parameter, const json_t *json); /* NULL = {} */
char *sql_text(sqlite3_stmt *stmt, int column);
/* ERR_CORRUPT names what */
json_t *sql_json(sqlite3_stmt *stmt, int column, const char *what, const char *id, GError **error);
/* A value of the table note; NULL without an error = not there. */
char *sql_note(Store *store, const char *name, GError **error);
bool sql_note_set(Store *store, const char *name, const char *value, GError **error);
