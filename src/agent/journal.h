/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * The agent's journal: a SQLite database (WAL, synchronous=FULL) of operations, tombstones and
 * the highest manager epoch seen.
 *
 * Promise: what journal_* returned true for survives kill -9 and power loss. An operation is in it
 * before its first deed, and stays with its outcome until the manager acknowledged it. Threads: any
 * (one connection behind a mutex).
 */
#pragma once

#include "base/cleanup.h"
#include "base/error.h"

#include <stdint.h>

typedef struct Journal Journal;

/* One row. Strings are owned. */
typedef struct {
    char *id;
    char *kind;
    char *vm_id;
    char *step; /* "" = ended */
    unsigned tried;
    bool cancel;
    bool resume;      /* somebody asked an operation that had paused to go on */
    char *error_word; /* NULL = none */
    char *error_text;
    json_t *params;  /* as the manager sent it; never changes */
    json_t *data;    /* what the operation remembers between steps, and at its end the result */
    int64_t created; /* ms */
} JournalRow;
void journal_row_clear(JournalRow *row);

/* A damaged one is never believed, and never written: it is set aside (FILE.damaged-DATE), and a
 * new one is made, with another agent id, and with those rows that can be proved to be as they were
 * written. Who had the others must look at the world. A newer one, or a file that is not ours, is
 * refused and not touched. */
Journal *journal_open(const char *file, GError **error);
/* Where the damaged one is; NULL = it was sound. */
const char *journal_set_aside(const Journal *journal);
/* Why nothing is written any more: SQLite found the file damaged while it was used. NULL = all is
 * well. From any thread. */
const char *journal_damage(Journal *journal);
void journal_close(Journal *journal);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(Journal, journal_close)

/* Insert (created is set); ERR_EXISTS if the id is there, ERR_GONE if it has a tombstone,
 * ERR_REFUSED if the "job" of its params has one. */
bool journal_begin(Journal *journal, JournalRow *row, GError **error);
/* Saves step, tried, error and data. */
bool journal_update(Journal *journal, const JournalRow *row, GError **error);
/* Somebody asked for it to be cancelled; that never goes back, and touches nothing else. */
bool journal_cancel(Journal *journal, const char *id, GError **error);
/* The same for the wish to go on, which is taken back when it was fulfilled. */
bool journal_resume(Journal *journal, const char *id, bool resume, GError **error);
/* GPtrArray of JournalRow*, oldest first. ERR_CORRUPT if one of them is damaged. */
GPtrArray *journal_load(Journal *journal, GError **error);
/* Its outcome is known. A tombstone of its id stays for 30 days. */
bool journal_forget(Journal *journal, const char *id, GError **error);
/* A promise never to begin this id. Safe to repeat. ERR_EXISTS if it is an operation. */
bool journal_tombstone(Journal *journal, const char *id, GError **error);
/* Raises the stored epoch to this one; ERR_STALE_EPOCH if a higher one is stored. */
bool journal_epoch(Journal *journal, int64_t epoch, GError **error);
/* The highest that was told so far; 0 = none. */
bool journal_highest_epoch(Journal *journal, int64_t *ret_highest, GError **error);
/* A stable id of this agent, made at first use. */
const char *journal_agent_id(Journal *journal);
