/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * Tests of the steps engine, stopped at every fault point: a toy merge in a toy world that outlives
 * the program.
 */
#include "base/cleanup.h"
#include "base/error.h"
#include "base/fault.h"
#include "base/steps.h"

#include <string.h>

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

static bool
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
static void
assert_saved(const World *w, const char *step)
{
    g_assert_cmpstr(w->step, ==, step);
    g_assert_cmpuint(w->tried, ==, w->machine->tried);
    g_assert_cmpuint(w->tried, >, 0);
}

static StepState
lock_state(void *self, GError **error)
{
    return ((World *)self)->locked ? STEP_DONE : STEP_TODO;
}

static bool
lock_act(void *self, GError **error)
{
    World *w = self;

    assert_saved(w, "lock");
    if (!fault_point("toy.before-lock", error))
        return false;
    w->locked = true;
    return fault_point("toy.after-lock", error);
}

static StepState
copy_state(void *self, GError **error)
{
    World *w = self;

    if (w->blind) {
        error_set(error, ERR_UNREACHABLE, "the host does not answer");
        return STEP_UNKNOWN;
    }
    return w->copied ? STEP_DONE : STEP_TODO;
}

static bool
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

static StepState
delete_state(void *self, GError **error)
{
    return ((World *)self)->deleted ? STEP_DONE : STEP_TODO;
}

static bool
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

static StepState
unlock_state(void *self, GError **error)
{
    return ((World *)self)->locked ? STEP_TODO : STEP_DONE;
}

static bool
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

static void
world_clear(World *w)
{
    g_free(w->step);
    g_free(w->error_word);
    g_free(w->error_text);
}
G_DEFINE_AUTO_CLEANUP_CLEAR_FUNC(World, world_clear)
G_DEFINE_AUTO_CLEANUP_CLEAR_FUNC(Machine, machine_clear)

/* The program starts: it knows what was saved, and nothing else. */
static void
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
static bool
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

static void
test_steps_table_is_sound(void)
{
    g_autoptr(GError) error = NULL;

    g_assert_true(steps_check(toy, &error));
    g_assert_no_error(error);
}

static void
test_steps_table_refused(void)
{
    /* clang-format off */
    static const struct { Step table[3]; const char *say; } rows[] = {
        { { { "a", lock_state, lock_act }, { "a", lock_state, lock_act } },            "used twice" },
        { { { "", lock_state, lock_act } },                                            "empty" },
        { { { "a", NULL, lock_act } },                                                 "no check" },
        { { { "a", lock_state, lock_act, 0, false, "b", NULL } },                      "unknown 'b'" },
        { { { "a", lock_state, lock_act, 0, false, NULL, "c" } },                      "unknown 'c'" },
        { { { "a", lock_state, lock_act, 0, true, NULL, NULL } },                      "cancelled to nowhere" },
        { { { "a", lock_state, lock_act, 0, false, NULL, NULL, "d" } },                "unknown 'd'" },
    };
    /* clang-format on */
    for (size_t i = 0; i < G_N_ELEMENTS(rows); i++) {
        g_autoptr(GError) error = NULL;
        g_assert_false(steps_check(rows[i].table, &error));
        g_assert_error(error, ERR, ERR_INTERNAL);
        g_assert_nonnull(strstr(error->message, rows[i].say));
    }
}

/* Killed: killed at every fault point in turn, a restart must finish. Not killed: the
 * point is an error that the same program gets over. */
static void
sweep(bool faults_kill)
{
    int n;

    for (n = 0; n < 1000; n++) {
        g_auto(World) world = { .copy_fails = ERR_LAST };
        bool stopped;

        fault_arm(n);
        {
            g_auto(Machine) first = { 0 };
            start(&first, &world);
            stopped = !run(&first, faults_kill);
        }
        if (!fault_fired()) {
            g_assert_false(stopped);
            g_assert_cmpuint(world.copies, ==, 1);
            break;
        }
        fault_arm(-1);
        if (stopped) {
            g_auto(Machine) second = { 0 };
            start(&second, &world);
            g_assert_true(run(&second, true));
        }
        g_test_message("stopped at point %d, ended at step '%s'", n, world.step);
        g_assert_cmpstr(world.step, ==, STEP_END);
        g_assert_null(world.error_word);
        g_assert_true(world.copied && world.deleted && !world.locked);
        g_assert_cmpuint(world.copies, <=, 2);
    }
    fault_arm(-1);
    g_assert_cmpint(n, >, 15); /* it did stop at places */
    g_assert_cmpint(n, <, 1000);
}

static void
test_steps_survive_a_stop_anywhere(void)
{
    sweep(true);
}

static void
test_steps_get_over_an_error_anywhere(void)
{
    sweep(false);
}

static void
test_steps_unknown_name(void)
{
    g_autoptr(GError) error = NULL;
    g_auto(Machine) m = { 0 };

    g_assert_false(machine_init(&m, toy, "from-the-future", &error));
    g_assert_error(error, ERR, ERR_CORRUPT);
    g_assert_nonnull(strstr(error->message, "from-the-future"));
}

static void
test_steps_saved_end(void)
{
    g_auto(World) world = { .copy_fails = ERR_LAST, .step = g_strdup(STEP_END) };
    g_auto(Machine) m = { 0 };

    start(&m, &world);
    g_assert_true(machine_ended(&m));
    g_assert_cmpint(machine_turn(&m), ==, TURN_ENDED);
    g_assert_false(machine_can_cancel(&m));
    g_assert_false(world.locked);
}

/* Not knowing is never failing: it waits for ever, longer each time, and says why. */
static void
test_steps_backoff(void)
{
    static const unsigned wanted[] = {
        50, 100, 200, 400, 800, 1600, 3200, 6400, 10000, 10000, 10000
    };
    g_auto(World) world = { .copy_fails = ERR_LAST, .blind = true };
    g_auto(Machine) m = { 0 };

    start(&m, &world);
    while (g_strcmp0(m.step, "copy") != 0)
        machine_turn(&m);
    g_assert_cmpuint(machine_backoff_ms(&m), ==, 0);
    for (size_t i = 0; i < G_N_ELEMENTS(wanted); i++) {
        g_assert_cmpint(machine_turn(&m), ==, TURN_WAIT);
        g_assert_cmpuint(machine_backoff_ms(&m), ==, wanted[i]);
        g_assert_cmpstr(m.waiting_for, ==, "the host does not answer");
    }
    g_assert_cmpuint(world.copies, ==, 0);
    g_assert_false(machine_failed(&m));
    world.blind = false;
    g_assert_cmpint(machine_turn(&m), ==, TURN_AGAIN);
    g_assert_cmpuint(machine_backoff_ms(&m), ==, 0);
    g_assert_null(m.waiting_for);
    g_assert_true(run(&m, false));
}

static void
test_steps_cancel(void)
{
    /* clang-format off */
    static const struct { const char *at; bool can, copied, deleted; } rows[] = {
        { "lock",   true,  false, false },
        { "copy",   true,  false, false },
        { "delete", false, true,  true },
        { "unlock", false, true,  true },
    };
    /* clang-format on */
    for (size_t i = 0; i < G_N_ELEMENTS(rows); i++) {
        g_auto(World) world = { .copy_fails = ERR_LAST };
        g_auto(Machine) m = { 0 };

        start(&m, &world);
        while (g_strcmp0(m.step, rows[i].at) != 0)
            machine_turn(&m);
        g_assert_cmpint(machine_can_cancel(&m), ==, rows[i].can);
        m.cancel = true;
        g_assert_true(run(&m, false));
        g_assert_cmpint(machine_failed(&m), ==, rows[i].can);
        g_assert_cmpstr(world.error_word, ==, rows[i].can ? "cancelled" : NULL);
        g_assert_cmpint(world.copied, ==, rows[i].copied);
        g_assert_cmpint(world.deleted, ==, rows[i].deleted);
        g_assert_false(world.locked);
    }
}

static void
test_steps_on_failed(void)
{
    /* clang-format off */
    static const struct { ErrorCode fails; unsigned copies; const char *word, *text; } rows[] = {
        { ERR_REFUSED,     1, "refused", "no copy today" },
        { ERR_NO_SPACE,    1, "no-space", "no copy today" },
        { ERR_UNREACHABLE, 3, "timeout", "step 'copy' used up its 3 tries: no copy today" },
    };
    /* clang-format on */
    for (size_t i = 0; i < G_N_ELEMENTS(rows); i++) {
        g_auto(World) world = { .copy_fails = rows[i].fails };
        g_auto(Machine) m = { 0 };

        start(&m, &world);
        g_assert_true(run(&m, false));
        g_assert_true(machine_failed(&m));
        g_assert_cmpuint(world.copies, ==, rows[i].copies);
        g_assert_cmpstr(world.error_word, ==, rows[i].word);
        g_assert_cmpstr(world.error_text, ==, rows[i].text);
        g_assert_false(world.locked);
        g_assert_false(world.deleted);
    }
}

/* The tries are counted over restarts: a program that dies in act() does not try for ever. */
static void
test_steps_tries_survive(void)
{
    g_auto(World) world = { .copy_fails = ERR_UNREACHABLE };

    for (int restarts = 0; restarts < 20 && g_strcmp0(world.step, STEP_END) != 0; restarts++) {
        g_auto(Machine) m = { 0 };
        start(&m, &world);
        while (machine_turn(&m) == TURN_AGAIN) /* it dies when it has to wait */
            continue;
    }
    g_assert_cmpstr(world.step, ==, STEP_END);
    g_assert_cmpuint(world.copies, ==, 3);
}

/* Where there is no way back it stays, says why, and goes on once it can. */
static void
test_steps_no_way_back(void)
{
    g_auto(World) world = { .copy_fails = ERR_LAST, .delete_fails = true };
    g_auto(Machine) m = { 0 };

    start(&m, &world);
    g_assert_false(run(&m, false));
    g_assert_cmpstr(m.step, ==, "delete");
    g_assert_cmpstr(m.waiting_for, ==, "somebody stands on it");
    g_assert_false(machine_failed(&m));
    world.delete_fails = false;
    g_assert_true(run(&m, false));
    g_assert_true(world.deleted);
}

/* ---- going round ---- */

typedef struct {
    bool full;
    unsigned deeds, done;
} Round;

static bool
keep_nothing(void *self, GError **error)
{
    return true;
}

static StepState
deed_check(void *self, GError **error)
{
    return ((Round *)self)->done > 0 ? STEP_DONE : STEP_TODO;
}

static bool
deed_act(void *self, GError **error)
{
    Round *r = self;

    r->deeds++;
    if (r->full)
        return error_set(error, ERR_NO_SPACE, "the storage is full");
    r->done++;
    return true;
}

static StepState
turned_check(void *self, GError **error)
{
    return STEP_BACK;
}

/* A deed that fails and cannot be undone, since somebody uses it already: it waits longer and
 * longer, and says why. */
static void
test_steps_going_round(void)
{
    static const Step steps[] = {
        { "deed", deed_check, deed_act, 0, false, "undo", STEP_END, NULL },
        { "undo", turned_check, NULL, 0, false, NULL, STEP_END, "deed" },
        { NULL },
    };
    Round round = { .full = true };
    g_auto(Machine) m = { .self = &round, .save = keep_nothing };
    g_autoptr(GError) error = NULL;
    unsigned before_ms = 0;

    g_assert_true(machine_init(&m, steps, NULL, &error));
    for (unsigned wait = 0; wait < 6; wait++) {
        unsigned turns = 0;
        while (machine_turn(&m) == TURN_AGAIN)
            g_assert_cmpuint(++turns, <, 10);
        g_assert_cmpstr(m.waiting_for, ==, "the storage is full");
        g_assert_cmpuint(machine_backoff_ms(&m), >, before_ms);
        before_ms = machine_backoff_ms(&m);
    }
    g_assert_cmpuint(round.deeds, <, 10);
    round.full = false;
    while (machine_turn(&m) == TURN_AGAIN)
        g_assert_cmpuint(round.done, <=, 1);
    g_assert_true(machine_ended(&m));
}

static void
test_steps_first_failure_stays(void)
{
    g_autoptr(GError) one = g_error_new(ERR, ERR_REFUSED, "one");
    g_autoptr(GError) two = g_error_new(ERR, ERR_BUSY, "two");
    g_auto(Machine) m = { 0 };

    machine_note_failure(&m, one);
    machine_note_failure(&m, two);
    g_assert_cmpstr(m.error_word, ==, "refused");
    g_assert_cmpstr(m.error_text, ==, "one");
}

static StepState
nothing_to_stop(void *self, GError **error)
{
    return STEP_FAILED;
}

/* A step that only leads on to the next, for what has failed before it: why is known. If it is not,
 * it has failed all the same. */
static void
test_steps_failed_already(const void *data)
{
    const char *reason = data;
    static const Step table[] = { { "stop", nothing_to_stop, lock_act, 0, false, "unlock", NULL },
                                  { "unlock", unlock_state, unlock_act, 0, false, NULL, STEP_END },
                                  { NULL } };
    g_autoptr(GError) why = g_error_new(ERR, ERR_REFUSED, "%s", reason != NULL ? reason : "");
    g_auto(World) world = { .copy_fails = ERR_LAST };
    g_auto(Machine) m = { .self = &world, .save = save };

    world.machine = &m;
    g_assert_true(machine_init(&m, table, NULL, NULL));
    if (reason != NULL)
        machine_note_failure(&m, why);
    g_assert_true(run(&m, false));
    g_assert_cmpstr(m.error_word, ==, reason != NULL ? "refused" : "internal");
    g_assert_cmpstr(m.error_text, ==, reason != NULL ? reason : "step 'stop' gave no reason");
}

/* What cannot be saved is not done. */
static void
test_steps_save_fails(void)
{
    g_auto(World) world = { .copy_fails = ERR_LAST, .save_fails = true };
    g_auto(Machine) m = { 0 };

    start(&m, &world);
    g_assert_false(run(&m, false));
    g_assert_false(world.locked);
    g_assert_cmpstr(m.step, ==, "lock");
    g_assert_cmpuint(m.tried, ==, 0);
    g_assert_cmpstr(m.waiting_for, ==, "the database is full");
    world.save_fails = false;
    g_assert_true(run(&m, false));
}

int
main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/steps/table-is-sound", test_steps_table_is_sound);
    g_test_add_func("/steps/table-refused", test_steps_table_refused);
    g_test_add_func("/steps/survive-a-stop-anywhere", test_steps_survive_a_stop_anywhere);
    g_test_add_func("/steps/get-over-an-error-anywhere", test_steps_get_over_an_error_anywhere);
    g_test_add_func("/steps/unknown-name", test_steps_unknown_name);
    g_test_add_func("/steps/saved-end", test_steps_saved_end);
    g_test_add_func("/steps/back-off", test_steps_backoff);
    g_test_add_func("/steps/cancel", test_steps_cancel);
    g_test_add_func("/steps/on-failed", test_steps_on_failed);
    g_test_add_func("/steps/tries-survive", test_steps_tries_survive);
    g_test_add_func("/steps/no-way-back", test_steps_no_way_back);
    g_test_add_func("/steps/going-round", test_steps_going_round);
    g_test_add_func("/steps/first-failure-stays", test_steps_first_failure_stays);
    g_test_add_data_func("/steps/failed-already", "because", test_steps_failed_already);
    g_test_add_data_func("/steps/failed-without-a-reason", NULL, test_steps_failed_already);
    g_test_add_func("/steps/save-fails", test_steps_save_fails);
    return g_test_run();
}
