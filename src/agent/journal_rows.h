/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * What the two halves of the journal share: its connection, and statements.
 */
#pragma once

#include "agent/journal.h"
#include "database/database.h"

#define WHAT "the agent's journal"

/* The sum of a row of operations: what is in capitals may be another value than the stored one. */
#define SUM(STEP, TRIED, CANCEL, RESUME, WORD, TEXT, DATA)                          \
    "row_sum(id,kind,vm_id," STEP "," TRIED "," CANCEL "," RESUME "," WORD "," TEXT \
    ",params," DATA ",created)"
#define STORED_SUM SUM("step", "tried", "cancel", "resume", "error_word", "error_text", "data")

struct Journal {
    sqlite3 *db;
    GMutex lock;
    char *file;
    char *agent_id;
    char *set_aside; /* the damaged one in whose place this was made; NULL = none */
    unsigned salvaged;
    int64_t epoch; /* the highest one in it; 0 = not read yet, or none */
    char *damage;  /* SQLite has found it damaged: nothing is written any more; NULL = not */
};

typedef sqlite3_stmt Statement;
G_DEFINE_AUTOPTR_CLEANUP_FUNC(Statement, sqlite3_finalize)

/* All of them: the lock is held, or nobody else has the journal yet. */
/* False with what SQLite says; damage is noted for ever. */
bool journal_fail(Journal *j, const char *doing, GError **error);
/* NULL with an error, also when the file was found damaged. */
Statement *journal_prepare(Journal *j, const char *sql, GError **error);
/* NULL is SQL's NULL; the text is not copied: it stays until the statement has run */
void journal_bind_text(Statement *s, int at, const char *text);
char *journal_column_text(Statement *s, int at); /* the caller frees it */
/* Runs a statement that has no rows. */
bool journal_finish(Journal *j, Statement *s, const char *doing, GError **error);
/* *ret_value is NULL if there is none; not being able to read is an error. */
bool journal_meta_get(Journal *j, const char *key, char **ret_value, GError **error);
bool journal_meta_set(Journal *j, const char *key, const char *value, GError **error);
