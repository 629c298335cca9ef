/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * Tests of the steps engine, stopped at every fault point: a toy merge in a toy world that outlives
 * the program.
 */
#include "base_steps_toy.h"

#include <string.h>

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
    return g_test_run();
}
