/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "http/deadline.h"
#include "base/cleanup.h"
#include "base/clock.h"

#include <stdbool.h>
#include <sys/socket.h>

struct Deadline {
    int fd;
    int64_t since_us;
    bool waits;
};

struct Deadlines {
    GMutex lock;
    GCond changed;
    GPtrArray *all; /* of Deadline, owned */
    int64_t limit_us;
    bool ending;
    GThread *thread;
};

static void
cut_late(const Deadlines *deadlines)
{
    int64_t now = clock_mono_us();

    for (guint i = 0; i < deadlines->all->len; i++) {
        Deadline *each = deadlines->all->pdata[i];
        if (each->waits && now - each->since_us > deadlines->limit_us) {
            shutdown(each->fd, SHUT_RDWR);
            each->waits = false;
        }
    }
}

static gpointer
look_after(gpointer data)
{
    Deadlines *deadlines = data;
    WITH_LOCK(&deadlines->lock);

    while (!deadlines->ending) {
        /* The condition's clock is the real one, also where tests made the program's stand. */
        gint64 next = g_get_monotonic_time() + deadlines->limit_us / 4;
        g_cond_wait_until(&deadlines->changed, &deadlines->lock, next);
        cut_late(deadlines);
    }
    return NULL;
}

Deadlines *
deadlines_new(unsigned seconds)
{
    Deadlines *deadlines = g_new0(Deadlines, 1);

    g_mutex_init(&deadlines->lock);
    g_cond_init(&deadlines->changed);
    deadlines->all = g_ptr_array_new_with_free_func(g_free);
    deadlines->limit_us = (int64_t)seconds * G_USEC_PER_SEC;
    deadlines->thread = g_thread_new("http-deadlines", look_after, deadlines);
    return deadlines;
}

void
deadlines_free(Deadlines *deadlines)
{
    g_mutex_lock(&deadlines->lock);
    deadlines->ending = true;
    g_cond_signal(&deadlines->changed);
    g_mutex_unlock(&deadlines->lock);
    g_thread_join(deadlines->thread);
    g_ptr_array_unref(deadlines->all);
    g_cond_clear(&deadlines->changed);
    g_mutex_clear(&deadlines->lock);
    g_free(deadlines);
}

Deadline *
deadlines_add(Deadlines *deadlines, int fd)
{
    Deadline *deadline = g_new0(Deadline, 1);
    WITH_LOCK(&deadlines->lock);

    *deadline = (Deadline){ .fd = fd, .since_us = clock_mono_us(), .waits = true };
    g_ptr_array_add(deadlines->all, deadline);
    return deadline;
}

void
deadlines_remove(Deadlines *deadlines, Deadline *deadline)
{
    WITH_LOCK(&deadlines->lock);
    g_ptr_array_remove_fast(deadlines->all, deadline);
}

void
deadline_wait(Deadlines *deadlines, Deadline *deadline)
{
    WITH_LOCK(&deadlines->lock);
    deadline->since_us = clock_mono_us();
    deadline->waits = true;
}

void
deadline_rest(Deadlines *deadlines, Deadline *deadline)
{
    WITH_LOCK(&deadlines->lock);
    deadline->waits = false;
}
