/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * News of a host. One thread follows the agent's event stream, another asks again for VMs that an
 * event named, so that a slow look at one VM does not hold up the news of another.
 */
#include "flow/agent_call.h"

#include "base/log.h"
#include "base/text.h"

#define BACKOFF_LOW_MS 50
#define BACKOFF_HIGH_MS 2000
#define STALE_MS 10000 /* between looks at an agent that obeys somebody else */

static bool
say_hello(Host *host, GError **error)
{
    g_autoptr(json_t) hello = NULL;
    Manager *m = host->manager;

    if (!wire_call(host->client, "GET", "/v1/hello", NULL, &hello, error))
        return false;
    WITH_LOCK(&m->lock);
    g_free(host->agent_id);
    host->agent_id = g_strdup(json_text(hello, "agent_id"));
    if (host->facts == NULL || json_object_get(hello, "host") != NULL) { /* libvirt may be away */
        json_decref(host->facts);
        host->facts = json_incref(hello);
    }
    host->connected = json_flag(hello, "connected");
    inventory_host_changed_locked(host);
    return true;
}

static void
mark_up(Host *host)
{
    Manager *m = host->manager;

    g_mutex_lock(&m->lock);
    host->up = host->was_asked = true;
    g_clear_pointer(&host->problem, g_free);
    if (!host->connected)
        host->problem = g_strdup("its libvirt does not answer");
    inventory_host_changed_locked(host);
    g_mutex_unlock(&m->lock);
    log_info("host %s answers", host->name);
}

static void
wish_look(Host *host, const char *vm_id)
{
    WITH_LOCK(&host->manager->lock);

    if (vm_id != NULL)
        g_hash_table_add(host->look_at, g_strdup(vm_id));
    else
        host->look_at_all = true;
    g_cond_broadcast(&host->wake);
}

/* The event that told of a change comes once; an answer can be lost while the stream of events goes
 * on. */
static void
note_missed(Host *host, const char *vm_id)
{
    WITH_LOCK(&host->manager->lock);

    if (vm_id != NULL)
        g_hash_table_add(host->missed, g_strdup(vm_id));
    else
        host->missed_all = true;
}

static void
wish_missed_locked(Host *host)
{
    GHashTableIter iter;
    char *id;

    host->look_at_all |= host->missed_all;
    host->missed_all = false;
    g_hash_table_iter_init(&iter, host->missed);
    while (g_hash_table_iter_next(&iter, (void **)&id, NULL)) {
        g_hash_table_iter_steal(&iter);
        g_hash_table_add(host->look_at, id);
    }
}

static void
note_connected(Host *host, bool connected)
{
    WITH_LOCK(&host->manager->lock);

    host->connected = connected;
    g_free(host->problem);
    host->problem = connected ? NULL : g_strdup("its libvirt does not answer");
    inventory_host_changed_locked(host);
}

static bool
on_event(const json_t *event, void *data)
{
    Host *host = data;
    const char *what = json_text(event, "event");

    if (manager_stopping(host->manager))
        return false;
    if (g_strcmp0(what, "operation") == 0) {
        const json_t *operation = json_object_get(event, "operation");
        seen_operation(host->manager, operation, true);
    } else if (g_strcmp0(what, "vm") == 0 && json_text(event, "vm_id") != NULL) {
        wish_look(host, json_text(event, "vm_id"));
    } else if (g_strcmp0(what, "host") == 0) {
        note_connected(host, json_flag(event, "connected"));
        wish_look(host, NULL);
    }
    return true;
}

typedef struct {
    Host *host;
    bool begun; /* the first line came */
} Stream;

static bool
on_line(const json_t *event, void *data)
{
    Stream *stream = data;

    /* Whatever changed between the first look and the begin of the stream had no listener. */
    if (!stream->begun)
        wish_look(stream->host, NULL);
    stream->begun = true;
    return on_event(event, stream->host);
}

/* From hello to the end of the stream. */
static bool
follow(Host *host, bool *ret_was_up, GError **error)
{
    Stream stream = { .host = host };

    if (!say_hello(host, error) || !host_look_at_all(host, error))
        return false;
    mark_up(host);
    *ret_was_up = true;
    if (!host_look_at_operations(host, NULL, error))
        return false;
    flows_kick_all(host->manager);
    return wire_events(host->client, on_line, &stream, error);
}

static void
nap(Host *host, unsigned ms)
{
    Manager *m = host->manager;
    int64_t until = g_get_monotonic_time() + ms * G_TIME_SPAN_MILLISECOND;
    WITH_LOCK(&m->lock);

    while (!m->stopping && !host->retry && g_cond_wait_until(&host->wake, &m->lock, until))
        ;
    host->retry = false;
}

void
host_retry_locked(Host *host)
{
    host->retry = true;
    g_cond_broadcast(&host->wake);
}

static void *
follow_thread(void *data)
{
    Host *host = data;
    Manager *m = host->manager;
    unsigned backoff = BACKOFF_LOW_MS;

    while (!manager_stopping(m)) {
        g_autoptr(GError) error = NULL;
        bool was_up = false;

        follow(host, &was_up, &error);
        if (manager_stopping(m))
            break;
        if (g_error_matches(error, ERR, ERR_STALE_EPOCH)) {
            host_taken_over(host, error, NULL);
            nap(host, STALE_MS);
            continue;
        }
        const char *why = error != NULL ? error->message : "its event stream ended";
        if (host_mark_down(host, why))
            log_warn("host %s does not answer any more: %s; trying again", host->name, why);
        backoff = was_up ? BACKOFF_LOW_MS : MIN(backoff * 2, BACKOFF_HIGH_MS);
        nap(host, backoff);
    }
    manager_leave(m);
    return NULL;
}

static void
look_at_vm(Host *host, const char *vm_id, bool fresh)
{
    Manager *m = host->manager;
    g_autoptr(GError) error = NULL;
    g_autoptr(Vm) vm = inventory_ask(host, vm_id, fresh, CALL_MS, &error);

    if (error != NULL && !g_error_matches(error, ERR, ERR_NOT_FOUND)) {
        log_debug("host %s: VM %s: %s", host->name, vm_id, error->message);
        note_missed(host, vm_id);
    }
    flows_kick_vm(m, vm_id);
}

/* libvirt tells nobody when the saved memory of a VM is removed: such VMs are looked at again and
 * again. */
static void
look_at_suspended(Host *host)
{
    g_autoptr(GPtrArray) vms = manager_vms(host->manager);

    for (guint i = 0; i < vms->len; i++) {
        const Vm *vm = vms->pdata[i];
        if ((vm->state == VM_SUSPENDED || vm->state == VM_UNKNOWN) &&
            g_strcmp0(vm->host, host->name) == 0)
            look_at_vm(host, vm->id, true);
    }
}

/* What no event tells of. */
static void
look_behind_events(Host *host)
{
    look_at_suspended(host);
    /* whoever else has begun one has time to read its end */
    GHashTable *ended = host_acknowledge_ended(host, host->ended);
    if (ended == NULL)
        return;
    g_hash_table_unref(host->ended);
    host->ended = ended;
}

typedef enum { WISH_STOP, WISH_ALL, WISH_VM, WISH_DUE } Wish;

/* Takes one wish, or waits for it; *due_us is when the look behind the events is due. */
static Wish
next_wish(Host *host, int64_t *due_us, char **ret_vm_id)
{
    Manager *m = host->manager;
    WITH_LOCK(&m->lock);
    GHashTableIter iter;
    char *id;

    while (!m->stopping && !host->look_at_all && g_hash_table_size(host->look_at) == 0 &&
           g_get_monotonic_time() < *due_us)
        g_cond_wait_until(&host->wake, &m->lock, *due_us);
    if (m->stopping)
        return WISH_STOP;
    if (g_get_monotonic_time() >= *due_us) {
        wish_missed_locked(host);
        *due_us = g_get_monotonic_time() + POLL_MS * G_TIME_SPAN_MILLISECOND;
        return WISH_DUE;
    }
    if (host->look_at_all) {
        host->look_at_all = false;
        g_hash_table_remove_all(host->look_at);
        return WISH_ALL;
    }
    g_hash_table_iter_init(&iter, host->look_at);
    g_hash_table_iter_next(&iter, (void **)&id, NULL);
    *ret_vm_id = id;
    g_hash_table_iter_steal(&iter);
    return WISH_VM;
}

static void
look_at_everything(Host *host)
{
    g_autoptr(GError) error = NULL;

    if (!say_hello(host, &error) || !host_look_at_all(host, &error)) {
        log_debug("host %s: %s", host->name, error->message);
        note_missed(host, NULL);
    }
    flows_kick_all(host->manager);
}

static void *
look_thread(void *data)
{
    Host *host = data;
    int64_t due_us = g_get_monotonic_time() + POLL_MS * G_TIME_SPAN_MILLISECOND;
    Wish wish;
    char *id = NULL;

    while ((wish = next_wish(host, &due_us, &id)) != WISH_STOP) {
        g_autofree char *vm_id = g_steal_pointer(&id);

        if (wish == WISH_VM)
            look_at_vm(host, vm_id, false);
        else if (wish == WISH_ALL)
            look_at_everything(host);
        else
            look_behind_events(host);
    }
    manager_leave(host->manager);
    return NULL;
}

/* The threads are not joined: one may sit in a read of up to 10 s when the manager stops. Each
 * counts as a user of the manager and leaves when it wakes. */
void
host_start(Host *host)
{
    manager_use(host->manager);
    g_thread_unref(g_thread_new("host", follow_thread, host));
    manager_use(host->manager);
    g_thread_unref(g_thread_new("look", look_thread, host));
}
