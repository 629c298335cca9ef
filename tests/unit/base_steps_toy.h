/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * A toy: a machine of steps that locks, copies, deletes and unlocks, in a world that remembers it.
 */
#pragma once

#include "base/cleanup.h"
#include "base/error.h"
#include "base/fault.h"
#include "base/steps.h"

typedef struct {
    /* the world */
    bool locked, copied, deleted;
    unsigned copies;
    /* what was saved */
    char *step, *error_word, *error_text;
    unsigned tried;
    bool cancel;
    /* the program */
    Machine *machine;
    /* how the world behaves */
    bool blind;           /* check of "copy" cannot tell */
    ErrorCode copy_fails; /* ERR_LAST = it works */
    bool delete_fails;
    bool save_fails;
} World;

static inline bool
save(void *self, GError **error)
{
    World *w = self;

    if (w->save_fails)
        return error_set(error, ERR_NO_SPACE, "the database is full");
    if (!fault_point("toy.before-save", error))
        return false;
    g_free(w->step);
    g_free(w->error_word);
    g_free(w->error_text);
    w->step = g_strdup(w->machine->step);
    w->tried = w->machine->tried;
    w->cancel = w->machine->cancel;
    w->error_word = g_strdup(w->machine->error_word);
    w->error_text = g_strdup(w->machine->error_text);
    return fault_point("toy.after-save", error);
}

/* Saved before acting: whatever acts must find itself in what was saved. */
static inline void
assert_saved(const World *w, const char *step)
{
    g_assert_cmpstr(w->step, ==, step);
    g_assert_cmpuint(w->tried, ==, w->machine->tried);
    g_assert_cmpuint(w->tried, >, 0);
}

static inline StepState
lock_state(void *self, GError **error)
{
    return ((World *)self)->locked ? STEP_DONE : STEP_TODO;
}

static inline bool
lock_act(void *self, GError **error)
{
    World *w = self;

    assert_saved(w, "lock");
    if (!fault_point("toy.before-lock", error))
        return false;
    w->locked = true;
    return fault_point("toy.after-lock", error);
}

static inline StepState
copy_state(void *self, GError **error)
{
    World *w = self;

    if (w->blind) {
        error_set(error, ERR_UNREACHABLE, "the host does not answer");
        return STEP_UNKNOWN;
    }
    return w->copied ? STEP_DONE : STEP_TODO;
}

static inline bool
copy_act(void *self, GError **error)
{
    World *w = self;

    assert_saved(w, "copy");
    w->copies++;
    if (w->copy_fails != ERR_LAST)
        return error_set(error, w->copy_fails, "no copy today");
    if (!fault_point("toy.before-copy", error))
        return false;
    w->copied = true;
    return fault_point("toy.after-copy", error);
}

static inline StepState
delete_state(void *self, GError **error)
{
    return ((World *)self)->deleted ? STEP_DONE : STEP_TODO;
}

static inline bool
delete_act(void *self, GError **error)
{
    World *w = self;

    assert_saved(w, "delete");
    g_assert_true(w->copied); /* never before the copy */
    if (w->delete_fails)
        return error_set(error, ERR_REFUSED, "somebody stands on it");
    w->deleted = true;
    return fault_point("toy.after-delete", error);
}

static inline StepState
unlock_state(void *self, GError **error)
{
    return ((World *)self)->locked ? STEP_TODO : STEP_DONE;
}

static inline bool
unlock_act(void *self, GError **error)
{
    World *w = self;

    assert_saved(w, "unlock");
    w->locked = false;
    return fault_point("toy.after-unlock", error);
}

/* clang-format off */
static const Step toy[] = {
    { "lock",   lock_state,   lock_act,   0, true,  "unlock", NULL },
    { "copy",   copy_state,   copy_act,   3, true,  "unlock", NULL },
    { "delete", delete_state, delete_act, 0, false, NULL,     NULL },
    { "unlock", unlock_state, unlock_act, 0, false, NULL,     STEP_END },
    { NULL },
};
/* clang-format on */

static inline void
world_clear(World *w)
{
    g_free(w->step);
    g_free(w->error_word);
    g_free(w->error_text);
}
G_DEFINE_AUTO_CLEANUP_CLEAR_FUNC(World, world_clear)
G_DEFINE_AUTO_CLEANUP_CLEAR_FUNC(Machine, machine_clear)

/* The program starts: it knows what was saved, and nothing else. */
static inline void
start(Machine *m, World *w)
{
    g_autoptr(GError) error = NULL;

    *m = (Machine){ .self = w, .save = save };
    w->machine = m;
    g_assert_true(machine_init(m, toy, w->step, &error));
    m->tried = w->tried;
    m->cancel = w->cancel;
    m->error_word = g_strdup(w->error_word);
    m->error_text = g_strdup(w->error_text);
}

/* Turns until it ends (true), waits without hope, or a fault point fired and (if they kill) it
 * is dead. */
static inline bool
run(Machine *m, bool faults_kill)
{
    for (int turns = 0; turns < 50; turns++) {
        if (machine_turn(m) == TURN_ENDED)
            return true;
        if (faults_kill && fault_fired())
            return false;
    }
    return false;
}
