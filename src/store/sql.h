/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * Inside of store/: the connection and a few words over SQLite's calls. Whoever
 * calls these holds store->lock.
 */
#pragma once

#include "store/store.h"

#include <sqlite3.h>

struct Store {
    GMutex lock;
    sqlite3 *db;
    char *file;
    char *instance;
};

extern const char *const store_schema[];

G_DEFINE_AUTOPTR_CLEANUP_FUNC(sqlite3_stmt, sqlite3_finalize)

sqlite3_stmt *sql_prepare(Store *store, const char *sql, GError **error);
/* Several statements without parameters */
bool sql_exec(Store *store, const char *sql, GError **error);
/* Runs a statement that gives no rows. */
bool sql_run(Store *store, sqlite3_stmt *stmt, GError **error);
typedef enum { SQL_ROW, SQL_END, SQL_FAILED } SqlNext;
SqlNext sql_next(Store *store, sqlite3_stmt *stmt, GError **error);

/* NULL texts are bound and read as NULL. The text lives until the statement is finalized. */
void sql_put_text(sqlite3_stmt *stmt, int parameter, const char *text);
void sql_put_number(sqlite3_stmt *stmt, int parameter, int64_t number);
void sql_put_json(sqlite3_stmt *stmt, int parameter, const json_t *json); /* NULL = {} */
char *sql_text(sqlite3_stmt *stmt, int column);
/* ERR_CORRUPT names what */
json_t *sql_json(sqlite3_stmt *stmt, int column, const char *what, const char *id, GError **error);
/* A value of the table note; NULL without an error = not there. */
char *sql_note(Store *store, const char *name, GError **error);
bool sql_note_set(Store *store, const char *name, const char *value, GError **error);
