/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * Lines by chance. The real one answers them; the simulator must be able to give the same answers:
 * many of its histories are tried, with other pauses between the lines and other luck inside.
 *
 *     sequences_real FILE COUNT SEED    makes so many, and writes lines and answers to the file
 *     sequences_sim FILE                says (TAP) of each whether the simulator knows it, too;
 * what it does not know is told on stderr, where prove shows it, and counted; a failure only with
 * LM_SEQUENCES_STRICT
 *
 * The same seed is the same lines. Answers depend on time on the real one: a failure may need a
 * few runs to come again, so it is printed as a whole.
 */
#include "sequences.h"
#include "ops.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define HISTORIES 1500 /* of the simulator, for one sequence */
#define PAUSE_US 15000

/* ---- the file: "seed N", then "LINE\tANSWER" each; an empty line, the story ---- */

static void
write_sequence(FILE *file, uint64_t seed, const GPtrArray *lines, const GPtrArray *answers)
{
    fprintf(file, "seed %" G_GUINT64_FORMAT "\n", seed);
    for (guint i = 0; i < lines->len; i++)
        fprintf(file, "%s\t%s\n", (char *)lines->pdata[i], (char *)answers->pdata[i]);
}

/* ---- on the real one ---- */

typedef struct {
    const GPtrArray *lines;
    GPtrArray *answers; /* got, or wanted */
    GRand *luck;
    char *story; /* with libvirt's words */
    guint good;  /* so many answers were as wanted */
} Play;

static void
play_real(void *data)
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

static int
make_file(const char *path, unsigned count, uint64_t seed)
{
    FILE *file = fopen(path, "w");

    g_assert(file != NULL);
    stage_init();
    for (unsigned i = 0; i < count; i++, seed++) {
        g_autoptr(GPtrArray) lines = sequence_new(seed);
        g_autoptr(GPtrArray) answers = g_ptr_array_new_with_free_func(g_free);
        g_autoptr(GRand) luck = g_rand_new_with_seed((guint32)seed);
        Play self = { .lines = lines, .answers = answers, .luck = luck };
        stage_run(1, 0, play_real, &self);
        write_sequence(file, seed, lines, answers);
        fprintf(file, "\n%s\n", self.story);
        g_free(self.story);
    }
    stage_exit();
    return fclose(file);
}

/* ---- on the simulator ---- */

static void
play_sim(void *data)
{
    Play *self = data;
    Ops ops;
    bool same = true;

    ops_begin(&ops);
    for (self->good = 0; self->good < self->lines->len && same; self->good += same) {
        /* as much at a time as not at all */
        int range = 1 << g_rand_int_range(self->luck, 0, 15);
        g_usleep((gulong)g_rand_int_range(self->luck, 0, range));
        ops.delay_us = (uint64_t)g_rand_int_range(self->luck, 0, PAUSE_US);
        g_autofree char *answer = ops_do(&ops, self->lines->pdata[self->good]);
        same = strcmp(answer, self->answers->pdata[self->good]) == 0;
    }
    self->story = g_strdup(ops.said->str);
    ops_end(&ops);
}

static void
print_as_comment(const char *text)
{
    g_auto(GStrv) lines = g_strsplit(text, "\n", -1);

    for (char **line = lines; *line != NULL; line++)
        printf("# %s\n", *line);
}

static bool
explain(const GPtrArray *lines, GPtrArray *answers, char **ret_nearest, guint *ret_good)
{
    Play self = { .lines = lines, .answers = answers };

    for (unsigned i = 1; i <= HISTORIES; i++) {
        g_autoptr(GRand) luck = g_rand_new_with_seed(i);
        self.luck = luck;
        stage_run(1, i, play_sim, &self);
        g_autofree char *story = g_steal_pointer(&self.story);
        if (self.good == lines->len)
            return true;
        if (*ret_nearest == NULL || self.good > *ret_good) {
            *ret_good = self.good;
            g_free(*ret_nearest);
            *ret_nearest = g_steal_pointer(&story);
        }
    }
    return false;
}

static bool
is_strict(void)
{
    return g_getenv("LM_SEQUENCES_STRICT") != NULL;
}

/* rows: "SEED", the lines, the story */
static bool
test_sequence(unsigned number, char **rows, const GPtrArray *lines, GPtrArray *answers)
{
    g_autofree char *nearest = NULL;
    guint good = 0;
    bool known = explain(lines, answers, &nearest, &good);

    printf("%sok %u - sequence %s, %u lines%s\n", known || !is_strict() ? "" : "not ", number,
           rows[0], lines->len, known || is_strict() ? "" : " # SKIP unknown to the simulator");
    if (!known) {
        fprintf(stderr,
                "sequence %s: unknown to the simulator: '%s' was answered '%s' by libvirt\n"
                "    SEQUENCES=1 SEED=%s LM_SEQUENCES_STRICT=1 tests/contract/sequences\n",
                rows[0], (char *)lines->pdata[good], (char *)answers->pdata[good], rows[0]);
        printf("# the simulator cannot answer '%s' with '%s', as libvirt did:\n",
               (char *)lines->pdata[good], (char *)answers->pdata[good]);
        for (char **row = rows + lines->len + 1; *row != NULL; row++)
            printf("# %s\n", *row);
        printf("# the nearest of %d histories of the simulator:\n", HISTORIES);
        print_as_comment(nearest);
    }
    fflush(stdout);
    return known;
}

static int
explain_file(const char *path)
{
    g_autofree char *text = NULL;
    g_autoptr(GError) error = NULL;
    unsigned number = 0, wrong = 0;

    if (!g_file_get_contents(path, &text, NULL, &error))
        g_error("%s", error->message);
    g_auto(GStrv) parts = g_strsplit(text, "seed ", -1);
    stage_init();
    for (char **part = parts + 1; *part != NULL; part++) {
        g_autoptr(GPtrArray) lines = g_ptr_array_new(), answers = g_ptr_array_new();
        g_auto(GStrv) rows = g_strsplit(*part, "\n", -1);
        for (char **row = rows + 1; *row != NULL && **row != '\0'; row++) {
            char *tab = strchr(*row, '\t');
            *tab = '\0';
            g_ptr_array_add(lines, *row);
            g_ptr_array_add(answers, tab + 1);
        }
        wrong += !test_sequence(++number, rows, lines, answers);
    }
    printf("1..%u\n", number);
    fprintf(stderr, "sequences: %u of %u known to the simulator, %u unknown\n", number - wrong,
            number, wrong);
    stage_exit();
    return wrong > 0 && is_strict();
}

int
main(int argc, char **argv)
{
    if (stage_is_real && argc == 4)
        return make_file(argv[1], (unsigned)atoi(argv[2]), g_ascii_strtoull(argv[3], NULL, 10));
    if (!stage_is_real && argc == 2)
        return explain_file(argv[1]);
    fprintf(stderr, "sequences_real FILE COUNT SEED, or sequences_sim FILE\n");
    return 2;
}
