/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * Can the simulator give these answers to these lines? Its histories are a tree: what happens at a
 * line depends on luck and on pauses. A line is played from each of many worlds that have given the
 * right answers so far; those that give the wrong one now are dropped, and the next line is played
 * from the others, several times each.
 *
 * Threads: one; nothing else may use the heap's memory of before (sim/state.h).
 */
#pragma once

#include <glib.h>
#include <stdbool.h>

#define HISTORY_STORY 65536

typedef struct {
    unsigned good;  /* so many answers could be given: all, if it is known */
    unsigned tries; /* lines that were played */
    unsigned alive; /* the fewest worlds that were left by a line */
    /* HISTORY_STORY bytes each of the caller's, outside: */
    char *story;  /* of the world that came farthest */
    char *others; /* what worlds answered instead at the last line that one was wrong at */
    unsigned others_at;
} History;

/* Once, before the first: after it the heap and variables are what they were, again and again, but
 * for memory that lies outside of them. */
void history_begin(void);
void *history_outside(size_t bytes);
bool history_find(const GPtrArray *lines, const GPtrArray *answers, History *found);
