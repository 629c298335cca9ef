/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * All of the program's memory, saved at one instant and put back at another: what many schedules
 * have in common is run once. Saved are the heap (heap.c), the variables of the program and of the
 * libraries that its world uses, and the fibers' stacks. Not saved are the stack of main(), libc's
 * own variables, and whatever was mapped by mmap().
 *
 * To be called outside of fibers (fiber_pause()); who has called state_save() must not have
 * returned before state_restore(). Threads: one.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>

typedef struct State State;

/* What the heap holds now is the same in all states that are saved later, but for the pages that
 * somebody writes to: they are write-protected, and which ones are written to shows by itself. So
 * two thirds of the heap are never copied again. Once in a process, before its first
 * state_save(). The kernel is not to write there: what calls of it fill in lies elsewhere. */
void state_begin(void);
/* Room for one; can be saved into again and again. Never freed. */
State *state_new(void);
State *state_new_small(void); /* slower, but takes no more memory than it holds: for many */
void state_save(State *state);
void state_restore(const State *state);
size_t state_bytes(const State *state);

/* heap.c: a copy that nobody will change: of one that this has made it is the same again. Each is
 * to be freed. */
char *heap_text(const char *text);
/* what malloc() has handed out from there on, without large chunks that are free */
void heap_each_piece(char *from, void (*each)(char *from, char *to, void *data), void *data);
char *heap_begin(void);
char *heap_end(void);
/* What is free now is not handed out again: what comes lies close together, in large pages of its
 * own, apart from what was there before and mostly stays as it is. */
void heap_begin_anew(void);
/* Frees what no variable leads to: processes that were killed leave their memory behind. maps: the
 * text of /proc/self/maps. Outside of fibers; what their stacks hold is not looked at. */
void heap_collect(const char *maps);
