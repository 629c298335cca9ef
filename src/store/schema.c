/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * The tables, as a list of changes: schema N is what the first N texts made. Texts that
 * have been released never change; a new schema is a new text at the end.
 */
#include "store/sql.h"

const char *const store_schema[] = {
    "CREATE TABLE note ("
    "  name TEXT PRIMARY KEY,"
    "  value NOT NULL"
    ") WITHOUT ROWID;"

    "CREATE TABLE flow ("
    "  number INTEGER PRIMARY KEY AUTOINCREMENT," /* the order of insertion */
    "  id TEXT NOT NULL UNIQUE,"
    "  kind TEXT NOT NULL,"
    "  vm_id TEXT NOT NULL,"
    "  parent TEXT,"
    "  step TEXT NOT NULL,"
    "  tried INTEGER NOT NULL,"
    "  cancel INTEGER NOT NULL,"
    "  error_word TEXT,"
    "  error_text TEXT,"
    "  params TEXT NOT NULL,"
    "  data TEXT NOT NULL,"
    "  correlation_id TEXT,"
    "  description TEXT,"
    "  created INTEGER NOT NULL,"
    "  updated INTEGER NOT NULL,"
    "  ended INTEGER NOT NULL,"
    "  rev INTEGER NOT NULL"
    ");"
    "CREATE INDEX flow_open ON flow(number) WHERE ended = 0;"
    "CREATE INDEX flow_parent ON flow(parent) WHERE parent IS NOT NULL;"
    "CREATE INDEX flow_vm ON flow(vm_id);"

    "CREATE TABLE event ("
    "  id INTEGER PRIMARY KEY AUTOINCREMENT," /* never used twice, even after a prune */
    "  time INTEGER NOT NULL,"
    "  code INTEGER NOT NULL,"
    "  severity TEXT NOT NULL,"
    "  text TEXT NOT NULL,"
    "  vm_id TEXT, vm_name TEXT, snapshot_id TEXT, job_id TEXT, correlation_id TEXT, user TEXT"
    ");"
    /* A flow that is repeated after a crash tells the same thing again: it is kept once. */
    "CREATE UNIQUE INDEX event_job ON event(job_id, code, ifnull(snapshot_id, ''))"
    "  WHERE job_id IS NOT NULL;"

    "CREATE TABLE vm ("
    "  id TEXT PRIMARY KEY,"
    "  host TEXT NOT NULL,"
    "  doc TEXT NOT NULL"
    ") WITHOUT ROWID;",

    /* what of the job an event is about, where a job may tell a thing more than once */
    "ALTER TABLE event ADD COLUMN about TEXT;"
    "DROP INDEX event_job;"
    "CREATE UNIQUE INDEX event_job"
    "  ON event(job_id, code, ifnull(snapshot_id, ''), ifnull(about, ''))"
    "  WHERE job_id IS NOT NULL;",
    /* sums (database.h), and a second copy of the notes: the integrity check compares an index with
       its table */
    "ALTER TABLE flow ADD COLUMN sum INTEGER;"
    "UPDATE flow SET sum = " SUM_OF(
        FLOW_COLUMNS) ";"
                      "ALTER TABLE event ADD COLUMN sum INTEGER;"
                      "UPDATE event SET sum = " SUM_OF(
                          EVENT_COLUMNS_3) ";"
                                           "ALTER TABLE vm ADD COLUMN sum INTEGER;"
                                           "UPDATE vm SET sum = " SUM_OF(
                                               VM_COLUMNS) ";"
                                                           "CREATE INDEX note_twice ON note(name, "
                                                           "value);",
    "CREATE TABLE person ("
    "  name TEXT PRIMARY KEY,"
    "  role TEXT NOT NULL,"
    "  password TEXT,"
    "  vms TEXT NOT NULL,"
    "  created INTEGER NOT NULL, changed INTEGER NOT NULL, sum INTEGER"
    ");"
    "CREATE TABLE token ("
    "  hash TEXT PRIMARY KEY,"
    "  person TEXT NOT NULL,"
    "  kind TEXT NOT NULL,"
    "  created INTEGER NOT NULL, used INTEGER NOT NULL, expires INTEGER NOT NULL, sum INTEGER"
    ");"
    "CREATE INDEX token_person ON token(person);",
    /* where it was used from last */
    "ALTER TABLE token ADD COLUMN peer TEXT;"
    "UPDATE token SET sum = " SUM_OF(TOKEN_COLUMNS) ";",
    /* where an event's VM was */
    "ALTER TABLE event ADD COLUMN host_id TEXT;"
    "ALTER TABLE event ADD COLUMN host_name TEXT;"
    "UPDATE event SET sum = " SUM_OF(EVENT_COLUMNS) ";",
    /* since when a user may not sign in; 0 = may */
    "ALTER TABLE person ADD COLUMN locked INTEGER NOT NULL DEFAULT 0;"
    "UPDATE person SET sum = " SUM_OF(PERSON_COLUMNS) ";",
    NULL,
};
