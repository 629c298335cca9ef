/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "base/log.h"

#include "base/clock.h"

#include <stdbool.h>
#include <stdio.h>
#include <unistd.h>

static const char *program_name = "livemerge";
static bool to_journal;
static bool show_debug;

void
log_init(const char *program)
{
    program_name = program;
    to_journal = g_log_writer_is_journald(fileno(stderr));
    show_debug = g_getenv("LIVEMERGE_DEBUG") != NULL;
}

static const char *
priority_of(GLogLevelFlags level)
{
    if (level == G_LOG_LEVEL_WARNING)
        return "4";
    return level == G_LOG_LEVEL_INFO ? "6" : "7";
}

/* What came from outside cannot begin a line of its own, nor speak to a terminal. */
static void
one_line(char *text)
{
    for (char *p = text; *p != '\0'; p++)
        if (g_ascii_iscntrl(*p))
            *p = ' ';
}

void
log_write(GLogLevelFlags level, const char *vm, const char *op, const char *format, ...)
{
    g_autofree char *text = NULL;
    va_list args;

    if (level == G_LOG_LEVEL_DEBUG && !show_debug)
        return;
    va_start(args, format);
    text = g_strdup_vprintf(format, args);
    va_end(args);
    one_line(text);

    if (to_journal) {
        const GLogField fields[] = {
            { "MESSAGE", text, -1 },
            { "PRIORITY", priority_of(level), -1 },
            { "SYSLOG_IDENTIFIER", program_name, -1 },
            { "LIVEMERGE_VM", vm != NULL ? vm : "", -1 },
            { "LIVEMERGE_OP", op != NULL ? op : "", -1 },
        };
        g_log_writer_journald(level, fields, G_N_ELEMENTS(fields), NULL);
        return;
    }
    g_autofree char *time = clock_iso8601(clock_wall_ms());
    fprintf(stderr, "%s %s%s: %s\n", time, program_name,
            level == G_LOG_LEVEL_WARNING ? ": warning" : "", text);
}
