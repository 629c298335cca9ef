/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * Storage daemons that belong to no operation: the journal that knew them was lost (cold.c). They
 * would hold their volumes for ever, so that no VM starts from these and nothing merges them. They
 * are ended when the agent starts, by a thread that lives as long as there are any: one whose
 * storage is away does not answer, and is asked again until it does.
 *
 * What such a daemon has merged so far is told by the headers, as ever; its record in the manifest
 * stays for the doctor (doctor_record.c).
 */
#include "agent/merge.h"

#include "base/log.h"

#define AGAIN_US (10 * G_TIME_SPAN_SECOND)

static bool
is_of_operation(Agent *agent, const char *name)
{
    WITH_LOCK(&agent->lock);
    GHashTableIter it;
    void *id, *op;

    g_hash_table_iter_init(&it, agent->operations);
    while (g_hash_table_iter_next(&it, &id, &op))
        if (!operation_ended(op) && cold_is_socket_of(name, id))
            return true;
    return false;
}

/* The operation is in the agent's table before its daemon has a socket: who lists the sockets first
 * and asks for the operations then takes none that is at work. */
static bool
is_stray(Agent *agent, const char *name)
{
    return cold_is_socket(name) && !is_of_operation(agent, name);
}

static GPtrArray *
find_strays(Agent *agent)
{
    GPtrArray *paths = g_ptr_array_new_with_free_func(g_free);
    g_autoptr(GDir) dir = g_dir_open(agent->run_dir, 0, NULL);
    const char *name;

    while (dir != NULL && (name = g_dir_read_name(dir)) != NULL)
        if (is_stray(agent, name))
            g_ptr_array_add(paths, g_build_filename(agent->run_dir, name, NULL));
    return paths;
}

typedef struct {
    const char *path;
    bool warn;
    bool ended;
} Stray;

static void *
end_stray(void *data)
{
    Stray *stray = data;
    g_autoptr(GError) error = NULL;
    bool was_one = false;

    stray->ended = cold_end_stray(stray->path, &was_one, &error);
    if (!stray->ended && stray->warn)
        log_warn("a storage daemon of an operation that the journal has lost, at %s: %s; "
                 "it is asked again until it ends",
                 stray->path, error->message);
    if (was_one && stray->ended)
        log_warn("a storage daemon of an operation that the journal has lost was ended: %s",
                 stray->path);
    return NULL;
}

/* Beside each other: one that does not answer holds up no other one, and no VM of that. False: some
 * did not end. */
static bool
end_strays(Agent *agent, bool warn)
{
    g_autoptr(GPtrArray) paths = find_strays(agent);
    g_autofree Stray *strays = g_new0(Stray, paths->len);
    g_autofree GThread **threads = g_new0(GThread *, paths->len);
    bool all = true;

    for (guint i = 0; i < paths->len; i++) {
        strays[i] = (Stray){ paths->pdata[i], warn, false };
        threads[i] = g_thread_new("stray", end_stray, &strays[i]);
    }
    for (guint i = 0; i < paths->len; i++) {
        g_thread_join(threads[i]);
        all = all && strays[i].ended;
    }
    return all;
}

static void *
ender(void *data)
{
    Agent *agent = data;
    bool all = end_strays(agent, true);

    g_mutex_lock(&agent->lock);
    while (!all && !agent_stopping(agent)) {
        int64_t until = g_get_monotonic_time() + AGAIN_US;
        while (!agent_stopping(agent) && g_cond_wait_until(&agent->sweep, &agent->lock, until))
            ; /* another's, or the agent stops */
        g_mutex_unlock(&agent->lock);
        all = end_strays(agent, false);
        g_mutex_lock(&agent->lock);
    }
    g_atomic_int_set(&agent->strays, 0);
    agent_queue_refresh(agent, ""); /* their chains may have changed, and may be merged now */
    if (--agent->workers == 0)
        g_cond_broadcast(&agent->idle);
    g_mutex_unlock(&agent->lock);
    return NULL;
}

void
strays_begin(Agent *agent)
{
    g_autoptr(GPtrArray) paths = find_strays(agent);

    if (paths->len == 0)
        return;
    WITH_LOCK(&agent->lock);
    g_atomic_int_set(&agent->strays, 1);
    agent->workers++;
    g_thread_unref(g_thread_new("strays", ender, agent));
}
