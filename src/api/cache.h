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

/* The state of the world before an answer is made; cache_put() wants it. */
typedef struct {
    int64_t manager;
    int store;
} CacheMark;
CacheMark cache_mark(Cache *cache);
/* NULL = not there. */
GBytes *cache_get(Cache *cache, const char *key);
void cache_put(Cache *cache, const char *key, CacheMark mark, GBytes *answer);
