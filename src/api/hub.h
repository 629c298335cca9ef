/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * Streams of what happens (server-sent events): the manager's events, jobs as they go on, VMs that
 * changed. docs/api.md has the format.
 *
 * Who follows is told of what he may see at that moment: he is looked at again before each portion.
 * His stream ends when his token, his password or he himself is gone.
 *
 * Promise: a stream costs a few hundred bytes here and no thread. Every message is made once and
 * kept in one ring for all streams; who has not taken it before it is overwritten is cut, and comes
 * again with Last-Event-ID. Events that a stream has missed are read from the database in portions
 * while it takes them. Jobs and VMs are told at most every PACE_MS, as they are then.
 *
 * Threads: hub_answer() any; the hub has a thread, which sleeps while there is no stream.
 */
#pragma once

#include "api/tell.h"
#include "http/http.h"
#include "people/people.h"

typedef struct Hub Hub;

/* wake(wake_data): the servers are to ask their feeds again. */
Hub *hub_new(Manager *manager, People *people, void (*wake)(void *), void *wake_data);
/* From now on all streams end. Joins the thread; the servers are stopped next. */
void hub_end(Hub *hub);
void hub_free(Hub *hub); /* after the servers */

/* Begins a stream. from: events with a greater id are told, also those of long ago; -1 = from now
 * on. ERR_UNREACHABLE: there are too many, or the hub ends. */
bool hub_answer(Hub *hub, const Who *who, unsigned tell, int64_t from, HttpResponse *response,
                GError **error);
