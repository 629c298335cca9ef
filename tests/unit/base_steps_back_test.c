/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * Tests of the steps engine: the world turns, and what is to be done is done in another way.
 */
#include "base/cleanup.h"
#include "base/steps.h"

/* A road that is closed in the middle: the other one is taken from the beginning, and which one it
 * is, is saved with the step. */
typedef struct {
    bool by_sea, saved_by_sea, closed, arrived, save_fails;
    unsigned departures, tried_at_departure;
    char *saved_step;
    Machine *machine;
} Journey;

static bool
journey_save(void *self, GError **error)
{
    Journey *j = self;

    if (j->save_fails)
        return error_set(error, ERR_STORAGE, "no ink");
    j->saved_by_sea = j->by_sea;
    g_free(j->saved_step);
    j->saved_step = g_strdup(j->machine->step);
    return true;
}

static StepState
depart_state(void *self, GError **error)
{
    Journey *j = self;

    return j->departures > (j->by_sea ? 1U : 0U) ? STEP_DONE : STEP_TODO;
}

static bool
depart_act(void *self, GError **error)
{
    Journey *j = self;

    j->tried_at_departure = j->machine->tried;
    j->departures++;
    return true;
}

static StepState
travel_state(void *self, GError **error)
{
    Journey *j = self;

    if (!j->closed || j->by_sea)
        return STEP_DONE;
    j->by_sea = true;
    return STEP_BACK;
}

static StepState
arrive_state(void *self, GError **error)
{
    return ((Journey *)self)->arrived ? STEP_DONE : STEP_TODO;
}

static bool
arrive_act(void *self, GError **error)
{
    ((Journey *)self)->arrived = true;
    return true;
}

/* clang-format off */
static const Step journey_steps[] = {
    { "depart", depart_state, depart_act, 1, false, NULL, NULL,     NULL     },
    { "travel", travel_state, NULL,       0, false, NULL, NULL,     "depart" },
    { "arrive", arrive_state, arrive_act, 0, false, NULL, STEP_END, NULL     },
    { NULL },
};
/* clang-format on */

G_DEFINE_AUTO_CLEANUP_CLEAR_FUNC(Machine, machine_clear)

static void
test_steps_back(void)
{
    Journey j = { .closed = true };
    g_auto(Machine) m = { .self = &j, .save = journey_save };
    g_autoptr(GError) error = NULL;

    j.machine = &m;
    g_assert_true(steps_check(journey_steps, &error));
    g_assert_true(machine_init(&m, journey_steps, NULL, &error));
    g_assert_cmpint(machine_turn(&m), ==, TURN_AGAIN); /* departs by land */
    g_assert_cmpint(machine_turn(&m), ==, TURN_AGAIN); /* has departed */
    g_assert_cmpstr(m.step, ==, "travel");

    /* it cannot be written down: nothing has happened, but what is remembered stays so */
    j.save_fails = true;
    g_assert_cmpint(machine_turn(&m), ==, TURN_WAIT);
    g_assert_cmpstr(m.step, ==, "travel");
    g_assert_false(j.saved_by_sea);
    j.save_fails = j.by_sea = false;

    g_assert_cmpint(machine_turn(&m), ==, TURN_AGAIN);
    g_assert_cmpstr(m.step, ==, "depart");
    g_assert_cmpstr(j.saved_step, ==, "depart");
    g_assert_true(j.saved_by_sea);
    while (machine_turn(&m) != TURN_ENDED)
        ;
    g_assert_true(j.arrived);
    g_assert_cmpuint(j.departures, ==, 2);
    g_assert_cmpuint(j.tried_at_departure, ==, 1); /* its one try is counted anew */
    g_assert_null(m.error_word);
    g_free(j.saved_step);
}

int
main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/steps/back", test_steps_back);
    return g_test_run();
}
