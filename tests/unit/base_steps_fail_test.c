/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * Steps that fail, are cancelled or go round.
 */
#include "base_steps_toy.h"

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
