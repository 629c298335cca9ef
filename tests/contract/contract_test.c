/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "contract.h"

#define SIM_TRIES 40

typedef struct {
    const Case *which;
    uint64_t delay_us;
    char *wrong;
} Play;

/* Ends with the first wrong answer: what follows would make no sense. */
static void
play(void *data)
{
    Play *self = data;
    Ops ops;

    ops_begin(&ops);
    ops.delay_us = self->delay_us;
    for (const Step *step = self->which->steps; step->line != NULL && self->wrong == NULL; step++) {
        g_autofree char *answer = ops_do(&ops, step->line);
        if (!ops_is_one_of(answer, step->answer))
            self->wrong =
                g_strdup_printf("'%s' was answered '%s', not '%s', by %s; the story:\n%s",
                                step->line, answer, step->answer, stage_word, ops.said->str);
    }
    ops_end(&ops);
}

static void
test_case(gconstpointer data)
{
    const Case *which = data;
    unsigned tries = MAX(which->tries, 1) * (stage_is_real ? 1 : SIM_TRIES);
    unsigned disks = MAX(which->disks, 1);

    for (unsigned i = 0, failed = 0; i < tries && failed == 0; i++) {
        Play self = { .which = which };
        if (which->longest_us > 0)
            self.delay_us = (uint64_t)which->longest_us * i / tries;
        stage_run(disks, i + 1, play, &self);
        if (self.wrong != NULL) {
            g_test_message("try %u (a moment of %u us): %s", i + 1, (unsigned)self.delay_us,
                           self.wrong);
            g_test_message("what rests on it: %s", which->rule);
            g_test_fail();
            failed++;
        }
        g_free(self.wrong);
    }
}

static void
add_all(const Case *cases)
{
    for (; cases->name != NULL; cases++) {
        g_autofree char *path = g_strdup_printf("/contract/%s", cases->name);
        g_test_add_data_func(path, cases, test_case);
    }
}

int
main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_set_nonfatal_assertions();
    add_all(chain_cases);
    add_all(job_cases);
    add_all(death_cases);
    add_all(power_cases);
    stage_init();
    int status = g_test_run();
    stage_exit();
    return status;
}
