/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "base/steps.h"

#include "base/fault.h"

#include <string.h>

static const Step *
find_step(const Step *steps, const char *name)
{
    for (const Step *s = steps; s->name != NULL; s++)
        if (g_str_equal(s->name, name))
            return s;
    return NULL;
}

bool
machine_init(Machine *m, const Step *steps, const char *step_name, GError **error)
{
    m->steps = steps;
    if (step_name == NULL)
        step_name = steps->name;
    if (*step_name != '\0' && find_step(steps, step_name) == NULL)
        return error_set(error, ERR_CORRUPT, "saved at step '%s', which this version does not know",
                         step_name);
    m->step = g_strdup(step_name);
    return true;
}

void
machine_clear(Machine *m)
{
    g_clear_pointer(&m->step, g_free);
    g_clear_pointer(&m->error_word, g_free);
    g_clear_pointer(&m->error_text, g_free);
    g_clear_pointer(&m->waiting_for, g_free);
    g_clear_pointer(&m->failure, g_free);
}

bool
machine_ended(const Machine *m)
{
    return *m->step == '\0';
}

bool
machine_failed(const Machine *m)
{
    return m->error_word != NULL;
}

void
machine_note_failure(Machine *m, const GError *error)
{
    g_autoptr(GError) none = NULL;

    if (m->error_word != NULL)
        return;
    if (error == NULL) { /* it has failed all the same */
        error_set(&none, ERR_INTERNAL, "step '%s' gave no reason", m->step);
        error = none;
    }
    m->error_word = g_strdup(error_word(error));
    m->error_text = g_strdup(error->message);
}

void
machine_forgive(Machine *m)
{
    g_clear_pointer(&m->error_word, g_free);
    g_clear_pointer(&m->error_text, g_free);
}

unsigned
machine_backoff_ms(const Machine *m)
{
    if (m->misses == 0)
        return 0;
    return m->misses > 8 ? 10000 : MIN(50U << (m->misses - 1), 10000U);
}

static Turn
wait_because(Machine *m, const GError *error)
{
    m->misses++;
    g_free(m->waiting_for);
    m->waiting_for = g_strdup(error != NULL ? error->message : "no reason given");
    return TURN_WAIT;
}

static Turn
wait_calmly(Machine *m)
{
    m->misses = 0;
    g_clear_pointer(&m->waiting_for, g_free);
    return TURN_WAIT;
}

/* The next step in memory alone: which one it is follows from checks, so whoever finds the machine
 * at the last saved step comes here again. It is saved before it acts, and when it comes to rest.
 */
static Turn
move(Machine *m, const char *name)
{
    char *old = m->step;

    m->step = g_strdup(name);
    g_free(old);
    m->tried = 0;
    m->fresh = false;
    m->moved = true;
    wait_calmly(m);
    return TURN_AGAIN;
}

static Turn
rest(Machine *m)
{
    g_autoptr(GError) error = NULL;

    if (!m->moved)
        return wait_calmly(m);
    if (!fault_point("steps.before-save", &error) || !m->save(m->self, &error))
        return wait_because(m, error);
    m->moved = false;
    return wait_calmly(m);
}

/* Saves the machine at another step; on failure it stays where it was. */
static Turn
enter(Machine *m, const char *name)
{
    g_autofree char *old = m->step;
    unsigned old_tried = m->tried;
    g_autoptr(GError) error = NULL;

    m->step = g_strdup(name);
    m->tried = 0;
    if (!fault_point("steps.before-save", &error) || !m->save(m->self, &error) ||
        !fault_point("steps.after-save", &error)) {
        g_free(m->step);
        m->step = g_steal_pointer(&old);
        m->tried = old_tried;
        return wait_because(m, error);
    }
    m->moved = false;
    wait_calmly(m);
    return machine_ended(m) ? TURN_ENDED : TURN_AGAIN;
}

static Turn
fail(Machine *m, const Step *step, const GError *error)
{
    if (step->on_failed == NULL)
        return wait_because(m, error); /* no way back: an operator must see it */
    g_free(m->failure);
    /* what has failed already, and has nothing to stop, need not say it again */
    m->failure = error != NULL ? g_strdup(error->message) : NULL;
    bool first = !machine_failed(m);
    machine_note_failure(m, error);
    Turn turn = enter(m, step->on_failed);
    if (first && m->step != NULL && g_str_equal(m->step, step->name))
        machine_forgive(m); /* not saved, so not failed yet: the next turn asks the world again */
    return turn;
}

static Turn
act(Machine *m, const Step *step)
{
    g_autoptr(GError) error = NULL;

    if (step->tries > 0 && m->tried >= step->tries) {
        error_set(&error, ERR_TIMEOUT, "step '%s' used up its %u tries%s%s", step->name,
                  step->tries, m->waiting_for != NULL ? ": " : "",
                  m->waiting_for != NULL ? m->waiting_for : "");
        return fail(m, step, error);
    }
    m->tried++;
    /* a try that is lost because it was only counted in memory is one try more, not a deed more */
    if (!m->fresh && !m->save(m->self, &error)) {
        m->tried--;
        return wait_because(m, error);
    }
    m->fresh = false;
    m->moved = false;
    bool acted = step->act(m->self, &error);
    m->acts++;
    if (!acted) {
        if (error_may_retry(error) || step->on_failed == NULL)
            return wait_because(m, error);
        return fail(m, step, error);
    }
    m->detours = 0;
    g_clear_pointer(&m->failure, g_free);
    wait_calmly(m);
    return TURN_AGAIN;
}

static Turn
go_back(Machine *m, const Step *step)
{
    g_autofree char *why = g_steal_pointer(&m->failure);
    g_autoptr(GError) error = NULL;
    Turn turn = enter(m, step->back);

    if (turn != TURN_AGAIN || why == NULL || m->detours++ == 0)
        return turn;
    error_set(&error, ERR_BUSY, "%s", why);
    m->misses = m->detours - 2;
    return wait_because(m, error);
}

Turn
machine_turn(Machine *m)
{
    g_autoptr(GError) error = NULL;
    const Step *step;
    const char *next;

    if (machine_ended(m))
        return TURN_ENDED;
    step = find_step(m->steps, m->step);
    if (m->cancel && step->cancel && step->on_failed != NULL) {
        error_set(&error, ERR_CANCELLED, "cancelled by the user");
        return fail(m, step, error);
    }

    switch (step->check(m->self, &error)) {
    case STEP_TODO:
        return act(m, step);
    case STEP_RUNNING:
        return rest(m);
    case STEP_DONE:
        next = step->next != NULL ? step->next : step[1].name;
        return next != NULL && *next != '\0' ? move(m, next) : enter(m, STEP_END);
    case STEP_FAILED:
        return fail(m, step, error);
    case STEP_UNKNOWN:
        return wait_because(m, error);
    case STEP_BACK:
        g_assert(step->back != NULL);
        return go_back(m, step);
    }
    g_assert_not_reached();
}

Turn
machine_wait(Machine *m, const GError *why)
{
    return wait_because(m, why);
}

Turn
machine_give_up(Machine *m, const GError *why)
{
    machine_note_failure(m, why);
    return enter(m, STEP_END);
}

bool
steps_check(const Step *steps, GError **error)
{
    for (const Step *s = steps; s->name != NULL; s++) {
        if (*s->name == '\0' || find_step(steps, s->name) != s)
            return error_set(error, ERR_INTERNAL, "step name '%s' is empty or used twice", s->name);
        if (s->check == NULL)
            return error_set(error, ERR_INTERNAL, "step '%s' has no check", s->name);
        if (s->on_failed != NULL && find_step(steps, s->on_failed) == NULL)
            return error_set(error, ERR_INTERNAL, "step '%s' fails to unknown '%s'", s->name,
                             s->on_failed);
        if (s->next != NULL && *s->next != '\0' && find_step(steps, s->next) == NULL)
            return error_set(error, ERR_INTERNAL, "step '%s' goes to unknown '%s'", s->name,
                             s->next);
        if (s->back != NULL && find_step(steps, s->back) == NULL)
            return error_set(error, ERR_INTERNAL, "step '%s' goes back to unknown '%s'", s->name,
                             s->back);
        if (s->cancel && s->on_failed == NULL)
            return error_set(error, ERR_INTERNAL, "step '%s' can be cancelled to nowhere", s->name);
    }
    return true;
}
