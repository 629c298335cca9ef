/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * The manager's database: flows (intent), events, users, and an index of what agents told about
 * VMs.
 *
 * Promise: a call that returned true is durable (SQLite WAL, synchronous=FULL; one connection,
 * BEGIN IMMEDIATE). A full disk gives ERR_NO_SPACE and leaves everything as it was. Unknown newer
 * schema: refused. A second manager on the same file: refused (the caller holds the lockfile).
 * Every flow write names the revision it read; a lost race is ERR_STALE_EPOCH.
 * Threads: any (a mutex inside).
 */
#pragma once

#include "base/cleanup.h"
#include "base/error.h"

#include <stdint.h>

typedef struct Store Store;

/* A damaged one is never believed, and never written: it is set aside (FILE.damaged-DATE), and a
 * new one is made with those rows that can be proved to be as they were written. The rest is in
 * manifests, and with the agents. */
Store *store_open(const char *file, GError **error);
/* Where the damaged one is; NULL = it was sound. */
const char *store_set_aside(const Store *store);
/* Why nothing is written any more: SQLite found the file damaged while it was used. NULL = all is
 * well. From any thread. */
const char *store_damage(Store *store);
/* database_signal_damage(): of this and any other store. */
void store_signal_damage(int signal_number);
void store_close(Store *store);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(Store, store_close)
/* A number higher than any before, also higher than those of an older database that was lost (it
 * is at least the time in seconds); 0 = error. Called once at start. */
int64_t store_next_epoch(Store *store, GError **error);
/* The same, above a number that an older manager has given out. */
int64_t store_epoch_above(Store *store, int64_t floor, GError **error);
/* Another number after each write, before who asked for it is told that it is done. Blocks never.
 */
int store_changes(Store *store);
/* A stable id of this installation. */
const char *store_instance(Store *store);

typedef struct {
    char *id;
    char *kind; /* "create-snapshot", "remove-snapshots", "merge-run", "rename-snapshot" */
    char *vm_id;
    char *parent; /* flow id; NULL = none */
    char *step;   /* "" = ended */
    unsigned tried;
    bool cancel;
    char *error_word; /* NULL = none */
    char *error_text;
    json_t *params; /* never changes after insert */
    json_t *data;   /* what the flow remembers; at its end its result */
    char *correlation_id;
    char *description;
    int64_t created, updated, ended; /* ms; ended 0 = runs */
    int64_t rev;
} FlowRow;
void flow_row_free(FlowRow *row);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(FlowRow, flow_row_free)

bool store_flow_insert(Store *store, FlowRow *row, GError **error); /* sets created, updated, rev */
bool store_flow_update(Store *store, FlowRow *row,
                       GError **error); /* sets updated, rev (and ended when step is "") */
/* Asks an open flow to end early: durable, never taken back, and without a new revision, so it
 * does not disturb whoever turns the flow. ERR_REFUSED: it has ended, or is not there. */
bool store_flow_cancel(Store *store, const char *id, GError **error);
FlowRow *store_flow_get(Store *store, const char *id, GError **error); /* ERR_NOT_FOUND */
/* only_open: without the ended ones; parent/vm_id may be NULL = any. Oldest first. GPtrArray of
 * FlowRow. */
GPtrArray *store_flow_list(Store *store, bool only_open, const char *parent, const char *vm_id,
                           GError **error);
/* Ended flows older than before_ms are dropped, with their children. */
bool store_flow_prune(Store *store, int64_t before_ms, GError **error);

typedef struct {
    int64_t id;     /* strictly increasing */
    int64_t time;   /* ms */
    int code;       /* oVirt's code where it has one */
    char *severity; /* "normal", "warning", "error", "alert" */
    char *text;
    char *vm_id; /* may be NULL, as all below */
    char *vm_name;
    char *snapshot_id;
    char *job_id;
    char *correlation_id;
    char *user;
    char *about;   /* which of several such things of the job this is; not shown */
    char *host_id; /* where the VM was then */
    char *host_name;
} EventRow;
void event_row_free(EventRow *row);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(EventRow, event_row_free)
/* Sets id and time. A job tells each thing (code, snapshot, about) once: a second one is dropped,
 * and its id is 0. */
bool store_event_add(Store *store, EventRow *row, GError **error);
/* id > from, newest first unless oldest_first; max < 0 = all (bounded at 10,000) */
GPtrArray *store_event_list(Store *store, int64_t from, int max, bool oldest_first, GError **error);
/* ERR_NOT_FOUND: there is none. Its id is never used again. */
bool store_event_remove(Store *store, int64_t id, GError **error);
/* Events older than before_ms are dropped, but never the newest one. */
bool store_event_prune(Store *store, int64_t before_ms, GError **error);

/* The last document that a host told of a VM (JSON text of model/vm.h). */
bool store_vm_put(Store *store, const char *vm_id, const char *host, const json_t *doc,
                  GError **error);
bool store_vm_remove(Store *store, const char *vm_id, GError **error);
/* each(vm_id, host, doc, data) with the store locked: it must not call the store */
bool store_vm_each(Store *store,
                   void (*each)(const char *vm_id, const char *host, const json_t *doc, void *data),
                   void *data, GError **error);

/* ---- people (people.c) ---- */
typedef struct {
    char *name;
    char *role;     /* a word of model/role.h */
    char *password; /* crypt(5)'s hash; NULL = none */
    json_t *vms;    /* VM id → role */
    int64_t created, changed;
    int64_t locked; /* since then the user may not sign in, ms; 0 = may */
} PersonRow;
void person_row_free(PersonRow *row);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(PersonRow, person_row_free)
typedef struct {
    char *hash; /* of the token, which is kept nowhere */
    char *person;
    char *kind;
    int64_t created, used, expires; /* ms */
    char *peer;                     /* where it was used from last; NULL = not known */
} TokenRow;
void token_row_free(TokenRow *row);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(TokenRow, token_row_free)

bool store_person_put(Store *store, const PersonRow *row, GError **error); /* new or changed */
bool store_person_remove(Store *store, const char *name, GError **error);  /* and the tokens */
GPtrArray *store_people(Store *store, GError **error);                     /* of PersonRow */
bool store_token_put(Store *store, const TokenRow *row, GError **error);
bool store_token_remove(Store *store, const char *hash, GError **error);
/* keep: the hash of one that stays; NULL = none */
bool store_tokens_remove(Store *store, const char *person, const char *keep, GError **error);
GPtrArray *store_tokens(Store *store, GError **error); /* of TokenRow, oldest first */
