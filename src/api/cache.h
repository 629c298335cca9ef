/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * Answers that were written a moment ago, for rows of the routes table that say "kept": their
 * answer depends on nothing but what the manager knows, the request's path, query and media type,
 * and the role of who asks, if he may see all VMs (not on the clock, and on no other header).
 *
 * Promise: an answer is given again only if nothing has changed since before it was made: neither
 * what manager_revision() counts, nor the database. So it is never older than the last change that
 * anybody was told of.
 *
 * Threads: any.
 */
#pragma once

#include "flow/manager.h"

typedef struct Cache Cache;

Cache *cache_new(Manager *manager);
void cache_free(Cache *cache);

/* An answer that somebody makes. */
typedef struct CacheTurn CacheTurn;

/* The answer: kept, or made meanwhile by somebody who began when the world was as it is now: when
 * something changes that many ask for, one makes it, and the others wait for him. NULL: the caller
 * makes it, from what he looks at from now on, and tells by cache_end(). */
GBytes *cache_begin(Cache *cache, const char *key, CacheTurn **ret_turn);
/* answer: NULL = it is none to be given to others. */
void cache_end(Cache *cache, CacheTurn *take_turn, GBytes *answer);
