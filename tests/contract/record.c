/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * Lines by chance, answered by libvirt and QEMU:
 *
 *     sequences_real FILE COUNT SEED
 *
 * makes so many and writes a trace of each to the file: "seed N", then "LINE\tANSWER" each; an
 * empty line, and the story with libvirt's own words. The same seed is the same lines; the answers
 * depend on time. sequences_sim FILE (explain.c) says whether the simulator could have given them,
 * as often as one likes.
 */
#include "ops.h"
#include "sequences.h"

#include <stdio.h>
#include <stdlib.h>

#define PAUSE_US 15000

typedef struct {
    const GPtrArray *lines;
    GPtrArray *answers;
    GRand *luck;
    char *story;
} Play;

static void
play(void *data)
{
    Play *self = data;
    Ops ops;

    ops_begin(&ops);
    for (guint i = 0; i < self->lines->len; i++) {
        ops.delay_us = (uint64_t)g_rand_int_range(self->luck, 0, PAUSE_US);
        g_ptr_array_add(self->answers, ops_do(&ops, self->lines->pdata[i]));
    }
    self->story = g_strdup(ops.said->str);
    ops_end(&ops);
}

static void
record(FILE *file, uint64_t seed)
{
    g_autoptr(GPtrArray) lines = sequence_new(seed);
    g_autoptr(GPtrArray) answers = g_ptr_array_new_with_free_func(g_free);
    g_autoptr(GRand) luck = g_rand_new_with_seed((guint32)seed);
    Play self = { .lines = lines, .answers = answers, .luck = luck };

    stage_run(1, 0, play, &self);
    fprintf(file, "seed %" G_GUINT64_FORMAT "\n", seed);
    for (guint i = 0; i < lines->len; i++)
        fprintf(file, "%s\t%s\n", (char *)lines->pdata[i], (char *)answers->pdata[i]);
    fprintf(file, "\n%s\n", self.story);
    fflush(file);
    g_free(self.story);
}

int
main(int argc, char **argv)
{
    FILE *file = argc == 4 ? fopen(argv[1], "w") : NULL;

    if (file == NULL) {
        fprintf(stderr, "sequences_real FILE COUNT SEED\n");
        return 2;
    }
    stage_init();
    uint64_t seed = g_ascii_strtoull(argv[3], NULL, 10);
    for (unsigned n = (unsigned)atoi(argv[2]); n > 0; n--)
        record(file, seed++);
    stage_exit();
    return fclose(file);
}
