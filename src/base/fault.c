/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "base/fault.h"

#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

typedef struct {
    char *name;
    int signal; /* 0 = an error */
    int left;
} Armed;

static int countdown = -1;
static bool fired;
static GArray *armed; /* of Armed; NULL when the environment wants nothing of us */
static int trace = -1; /* where the names of all points passed are appended */
static GMutex lock;

void
fault_init(void)
{
    const char *text = g_getenv("LIVEMERGE_FAULTS");
    const char *file = g_getenv("LIVEMERGE_FAULT_TRACE");
    g_auto(GStrv) entries = NULL;

    if ((text == NULL || *text == '\0') && file == NULL)
        return;
    if (file != NULL)
        trace = open(file, O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC, 0600);
    armed = g_array_new(FALSE, FALSE, sizeof(Armed));
    entries = g_strsplit(text != NULL ? text : "", ",", -1);
    for (char **entry = entries; *entry != NULL; entry++) {
        g_auto(GStrv) halves = g_strsplit(*entry, "=", 2);
        Armed a = { 0 };

        if (halves[0] == NULL || halves[1] == NULL)
            continue;
        const char *at = strchr(halves[1], '@');
        a.name = g_strdup(halves[0]);
        a.signal = g_str_has_prefix(halves[1], "die")    ? SIGKILL
                   : g_str_has_prefix(halves[1], "stop") ? SIGSTOP
                                                         : 0;
        a.left = at != NULL ? atoi(at + 1) : 1;
        g_array_append_val(armed, a);
    }
}

void
fault_arm(int n)
{
    countdown = n;
    fired = false;
}

bool
fault_fired(void)
{
    return fired;
}

/* A line that is not written is a point that the test does not know of: it says so. */
static void
trace_point(const char *name)
{
    g_autofree char *line = g_strconcat(name, "\n", NULL);

    if (trace >= 0 && write(trace, line, strlen(line)) < 0)
        trace = -1;
}

static bool
named_point(const char *name, GError **error)
{
    g_autoptr(GMutexLocker) held G_GNUC_UNUSED = g_mutex_locker_new(&lock);

    trace_point(name);
    for (guint i = 0; i < armed->len; i++) {
        Armed *a = &g_array_index(armed, Armed, i);
        if (!g_str_equal(a->name, name) || a->left <= 0 || --a->left > 0)
            continue;
        if (a->signal != 0)
            raise(a->signal); /* of this thread: it takes the others along at once */
        if (a->signal == SIGSTOP)
            return true; /* somebody let it go on */
        return error_set(error, ERR_STOPPED, "stopped at fault point %s", name);
    }
    return true;
}

bool
fault_point(const char *name, GError **error)
{
    if (armed != NULL)
        return named_point(name, error);
    if (countdown < 0 || countdown-- > 0)
        return true;
    fired = true;
    return error_set(error, ERR_STOPPED, "stopped at fault point %s", name);
}
