/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * Traces of libvirt and QEMU (record.c): could the simulator have given their answers?
 *
 *     sequences_sim FILE [SEED...]      of all traces in the file, or of these alone (TAP)
 *
 * One that it could not is a failure, told on stderr with the whole story: either libvirt does
 * something that the simulator does not know yet, or it can be killed in a window that the
 * simulator does not have. One whose seed is "N never" was falsified: it is a failure if it could.
 */
#include "history.h"
#include "sequences.h"

#include <stdio.h>
#include <string.h>

typedef struct {
    const char *seed;
    GPtrArray *lines, *answers;
    char **story; /* rows */
} Trace;

/* rows: SEED, "LINE\tANSWER" each, an empty one, the story */
static Trace *
trace_new(char **rows)
{
    Trace *trace = g_new0(Trace, 1);

    trace->seed = *rows++;
    trace->lines = g_ptr_array_new();
    trace->answers = g_ptr_array_new();
    for (; *rows != NULL && **rows != '\0'; rows++) {
        char *tab = strchr(*rows, '\t');
        if (tab == NULL)
            g_error("no trace: %s", *rows);
        *tab = '\0';
        g_ptr_array_add(trace->lines, *rows);
        g_ptr_array_add(trace->answers, tab + 1);
    }
    trace->story = *rows != NULL ? rows + 1 : rows;
    return trace;
}

/* Of all the file, or of these seeds; they stay for ever. */
static GPtrArray *
read_traces(const char *text, char **seeds)
{
    char **parts = g_strsplit(text, "seed ", -1);
    GPtrArray *traces = g_ptr_array_new();

    for (char **part = parts + 1; *part != NULL; part++) {
        Trace *trace = trace_new(g_strsplit(*part, "\n", -1));
        if (*seeds == NULL || g_strv_contains((const char *const *)seeds, trace->seed))
            g_ptr_array_add(traces, trace);
    }
    return traces;
}

/* On stderr, where prove shows it. */
static void
tell_unknown(const Trace *trace, const History *found, const char *path)
{
    unsigned i = MIN(found->good, trace->lines->len - 1);

    fprintf(stderr,
            "sequence %s: the simulator cannot answer '%s' with '%s', as libvirt did; again:\n"
            "    build/tests/contract/sequences_sim %s %s\nlibvirt's story:\n",
            trace->seed, (char *)trace->lines->pdata[i], (char *)trace->answers->pdata[i], path,
            trace->seed);
    for (char **row = trace->story; *row != NULL; row++)
        if (**row != '\0')
            fprintf(stderr, "%s\n", *row);
    fprintf(stderr, "the simulator's that comes nearest, of %u lines played:\n%s\n", found->tries,
            found->story);
    fprintf(stderr, "it says instead, or right but with events that libvirt did not send:\n%s\n",
            found->others);
}

/* The simulator permits too much, or what was falsified can happen after all. */
static void
tell_possible(const Trace *trace, const History *found)
{
    fprintf(stderr, "sequence %s: the simulator can give these answers, for example so:\n%s\n",
            trace->seed, found->story);
}

static bool
explain(unsigned number, const Trace *trace, const char *path, char *story, char *others)
{
    History found = { .story = story, .others = others };
    bool known = history_find(trace->lines, trace->answers, &found);
    bool wanted = !g_str_has_suffix(trace->seed, " never");

    printf("%sok %u - sequence %s, %u lines; %u played, at least %u worlds left\n",
           known == wanted ? "" : "not ", number, trace->seed, trace->lines->len, found.tries,
           found.alive);
    fflush(stdout);
    if (!known && wanted)
        tell_unknown(trace, &found, path);
    if (known && !wanted)
        tell_possible(trace, &found);
    return known == wanted;
}

int
main(int argc, char **argv)
{
    g_autofree char *text = NULL;
    g_autoptr(GError) error = NULL;
    unsigned wrong = 0;

    if (argc < 2 || !g_file_get_contents(argv[1], &text, NULL, &error)) {
        fprintf(stderr, "sequences_sim FILE [SEED...]%s%s\n", error != NULL ? ": " : "",
                error != NULL ? error->message : "");
        return 2;
    }
    setvbuf(stdout, history_outside(BUFSIZ), _IOLBF, BUFSIZ);
    const GPtrArray *traces = read_traces(text, argv + 2);
    char *story = history_outside(HISTORY_STORY), *others = history_outside(HISTORY_STORY);
    history_begin();
    printf("1..%u\n", traces->len);
    for (guint i = 0; i < traces->len; i++)
        wrong += !explain(i + 1, traces->pdata[i], argv[1], story, others);
    fprintf(stderr, "sequences: %u of %u as wanted of the simulator\n", traces->len - wrong,
            traces->len);
    return wrong > 0;
}
