/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * State machines that survive the death of their program. The manager's flows
 * and the agent's operations are both tables of steps run by this engine.
 *
 * Promise: stop the program at any instant and start it again, and every machine
 * either ends or stands at a step whose name tells an operator what it waits for.
 *
 * How: the step's name and its number of tries are saved before the step acts, when the machine
 * comes to rest, and at the end. Steps that only look are passed without a write. Whoever finds a
 * machine, after a crash or a second later, does the same thing: ask the world with check(), and
 * only then act().
 *
 *   - check() only reads and is the only judge of "done". Not knowing is not
 *     failing: STEP_UNKNOWN waits and asks again, for ever, with its reason shown.
 *   - act() must be safe to repeat. If it fails with an error that may be retried
 *     (table in base/error.h) and tries are left, it is checked and acted again
 *     after a pause; else the machine goes to on_failed.
 *   - The first failure is kept beside the step and becomes the outcome.
 *   - The world may have turned so that a deed must be done in another way: check() changes what
 * the machine remembers and says STEP_BACK, and the machine stands at the row "back" again. What it
 *     remembers is saved with that, in one. The new way must be one that the next check() does not
 *     turn away from, or the machine would go round for ever. Who goes round since a deed fails
 *     again and again (a full storage) pauses each time, as one who stays where he is.
 *   - A step name is stored: add names, never rename or reuse one.
 *
 * No I/O here: save() is the caller's. Threads: a Machine belongs to the one
 * thread that turns it.
 */
#pragma once

#include "base/error.h"

#include <stdint.h>

typedef enum {
    STEP_TODO,    /* not begun: act */
    STEP_RUNNING, /* under way: look again when woken */
    STEP_DONE,    /* the world is as the step wants it: next step */
    STEP_FAILED,  /* ended without effect: go to on_failed; the error says why */
    STEP_UNKNOWN, /* could not tell; the error says why */
    STEP_BACK,    /* to be done in another way, which is remembered: go to back */
} StepState;

typedef struct {
    const char *name; /* ends with NULL */
    StepState (*check)(void *self, GError **error);
    bool (*act)(void *self, GError **error); /* NULL where check() never says TODO */
    unsigned tries;                          /* how often act() may run; 0 = no limit */
    bool cancel;                             /* may a cancel end it here? */
    const char *on_failed;                   /* a step; NULL = stay here and say why */
    const char *next;                        /* a step, or STEP_END; NULL = the row below */
    const char *back;                        /* a step; NULL where check() never says BACK */
} Step;

#define STEP_END ""

typedef struct {
    const Step *steps;
    void *self; /* what check() and act() get */
    /* Durable when it returns true. Called with the new values in place. */
    bool (*save)(void *self, GError **error);
    /* saved */
    char *step; /* a name of the table; "" = ended */
    unsigned tried;
    bool cancel;      /* somebody asked for it */
    char *error_word; /* the first failure; NULL = none */
    char *error_text;
    /* not saved */
    bool fresh; /* the caller has just saved it as it stands: the first act needs no other save */
    bool moved; /* step is newer than the saved one */
    unsigned acts;     /* how many have ended: what was read before may be true no more */
    char *waiting_for; /* why the last turn could not go on; NULL = nothing wrong */
    unsigned misses;   /* turns in a row that could not tell or do: the back-off */
    unsigned detours;  /* ways back after a failure, since something was done last */
    char *failure;     /* the last one since then; NULL = none */
} Machine;

typedef enum {
    TURN_AGAIN, /* progress was made: turn again at once */
    TURN_WAIT,  /* wait for an event, or machine_backoff_ms() */
    TURN_ENDED,
} Turn;

/* Starts at the first row; step_name (may be NULL) is where a saved one stood. An unknown
 * name is refused with ERR_CORRUPT: it is never guessed. */
bool machine_init(Machine *m, const Step *steps, const char *step_name, GError **error);
void machine_clear(Machine *m);
Turn machine_turn(Machine *m);
/* Instead of a turn, from outside: it cannot be turned now, or ends where it stands, with no act.
 */
Turn machine_wait(Machine *m, const GError *why);
Turn machine_give_up(Machine *m, const GError *why);
bool machine_ended(const Machine *m);
bool machine_failed(const Machine *m);
/* Records the first failure; later ones are dropped. */
void machine_note_failure(Machine *m, const GError *error);
/* The world shows that the deed was done after all: it has not failed. Not saved by itself. */
void machine_forgive(Machine *m);
/* How long to wait after a turn that could not go on: 50 ms doubling to 10 s; 0 if nothing is
 * wrong. */
unsigned machine_backoff_ms(const Machine *m);

/* Table soundness, for tests: names unique; on_failed, next and back exist; act present. */
bool steps_check(const Step *steps, GError **error);
