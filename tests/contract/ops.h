/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * One line is one deed or one question; its answer is a word or a few, free of time, of the folder
 * and of the back end: "ok", or the word of an error (base/error.h); the same line has the same
 * answer on the simulator and on libvirt, or one of them is wrong. What each line means is in the
 * table in ops.c.
 */
#pragma once

#include "stage.h"

typedef struct {
    GMutex lock;                /* of the next two */
    GQueue events[STAGE_DISKS]; /* of char*: block job events that were not asked for yet */
    GString *all_events;        /* "a:ready a:completed" */
    GThread *thread;            /* of a call that was begun */
    char *begun_line;
    char *begun_answer;
    unsigned wanted[STAGE_DISKS][STAGE_CLUSTERS]; /* what the guest wrote */
    unsigned next_value;
    uint64_t delay_us; /* of the line "moment" */
    GString *said;     /* the whole story, for a failure; with libvirt's messages */
} Ops;

void ops_begin(Ops *ops);
void ops_end(Ops *ops);
/* The caller frees the answer; what it does not know is a mistake of the caller. */
char *ops_do(Ops *ops, const char *line);
/* Waits for what "begin" began; "answer" has it. */
void ops_join(Ops *ops);
/* Is the answer one of those in "ok|busy"? "*": any */
bool ops_is_one_of(const char *answer, const char *wanted);
