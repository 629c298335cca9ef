/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * Random cases that can be repeated: each has a seed of its own, which is said when the program
 * aborts in it. QCOW2_SEED=N runs that case alone.
 */
#pragma once

#include <glib.h>
#include <signal.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static char seed_line[256]; /* empty = no case is under way */

static inline void
seed_say(int number)
{
    ssize_t ignored = write(STDERR_FILENO, seed_line, strlen(seed_line));

    (void)ignored;
    signal(number, SIG_DFL);
    raise(number);
}

/* Begins the case number "i" of a test. */
static inline guint32
seed_next(const char *test, unsigned i)
{
    const char *wanted = g_getenv("QCOW2_SEED");
    guint32 seed = wanted != NULL ? (guint32)strtoul(wanted, NULL, 0) : (guint32)g_test_rand_int();

    g_snprintf(seed_line, sizeof seed_line,
               "Failed in case %u, repeat it with: QCOW2_SEED=%u %s -p %s\n", i, seed,
               program_invocation_name, test);
    signal(SIGABRT, seed_say);
    signal(SIGTRAP, seed_say); /* g_error() */
    return seed;
}

static inline bool
seed_is_last(void)
{
    return g_getenv("QCOW2_SEED") != NULL;
}

static inline void
seed_done(void)
{
    seed_line[0] = '\0';
}
