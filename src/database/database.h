/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * SQLite files as the agent keeps its journal and the manager its database in them.
 *
 * Promise: what is not a sound database of this program is refused, with its name, the reason and
 * what helps, before anything of it is changed: a link, a directory, a pipe; a file that belongs to
 * somebody else or that others may write; one on a read-only file system; one that is empty, cut
 * off, or in which SQLite's integrity check finds anything (ERR_CORRUPT). SQLite has no checksums:
 * rows that matter carry their own, row_sum(). A damaged file is never written again: it is set
 * aside whole, and what rows of it can be proved to be as they were written may be taken over.
 *
 * Threads: as SQLite's serialized mode. Errors: ERR_CORRUPT, ERR_REFUSED, ERR_NO_SPACE, ERR_BUSY,
 * ERR_STORAGE.
 */
#pragma once

#include "base/cleanup.h"
#include "base/error.h"

#include <sqlite3.h>

typedef sqlite3 DatabaseHandle;
G_DEFINE_AUTOPTR_CLEANUP_FUNC(DatabaseHandle, sqlite3_close)
typedef sqlite3_stmt DatabaseStatement;
G_DEFINE_AUTOPTR_CLEANUP_FUNC(DatabaseStatement, sqlite3_finalize)

/* Opens or makes it (mode 0600). what: "the agent's journal". Statements get the function row_sum()
 * of any arguments. Nothing was written when it returns: database_use() follows when the caller
 * knows the format. */
sqlite3 *database_open(const char *file, const char *what, GError **error);
/* WAL, synchronous=FULL: from now on it is written. */
bool database_use(sqlite3 *db, const char *file, const char *what, GError **error);
/* Notes version (PRAGMA user_version) and tables as they are now: whoever opens it compares. In the
 * transaction that changed them. */
bool database_seal(sqlite3 *db, const char *file, const char *what, GError **error);
/* What the connection's last call failed with, as an error of ours that names the file. */
bool database_error(sqlite3 *db, const char *file, const char *what, GError **error);
/* A number of at least 0 that a statement gives; -1 with an error. */
int64_t database_number(sqlite3 *db, const char *file, const char *what, const char *sql,
                        GError **error);

/* For who has a file open: if SQLite has found it damaged (ERR_CORRUPT), *damage becomes the
 * problem's text, which is never changed again and may be read by any thread with
 * g_atomic_pointer_get(). */
void database_note_damage(char **damage, const GError *problem);
/* From now on the process gets this signal when a damage is noted, so that main() need not ask. */
void database_signal_damage(int signal_number);
/* The file and SQLite's own beside it become FILE.damaged-DATE; nothing may have it open. Returns
 * that name; NULL = error, and nothing may be made in its place. */
char *database_set_aside(const char *file, GError **error);
/* What open() makes of the file; if that is damaged (ERR_CORRUPT), it is set aside, which is
 * logged, and open() makes another one in its place. ret_aside: the damaged one's name then, else
 * NULL; the caller frees it. */
void *database_open_or_anew(const char *file, void *(*open)(const char *file, GError **error),
                            char **ret_aside, GError **error);
/* The rows that "select" can still read in the damaged file, put into db by "insert", which has as
 * many parameters as select has columns and ignores what is there already. select must
 * compare the row_sum() itself. Returns how many came; never an error: what is lost is lost. */
unsigned database_salvage(sqlite3 *db, const char *damaged, const char *select, const char *insert);
