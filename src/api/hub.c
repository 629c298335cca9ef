/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "api/hub.h"

#include "api/tell.h"
#include "base/clock.h"
#include "base/log.h"

#include <string.h>

#define RING 1024
#define MOST_STREAMS 1500
#define PACE_MS 200
#define ALIVE_MS 10000
#define PORTION 100 /* events of the past, read at a time */

typedef struct {
    Tell kind;
    int64_t event; /* its id; 0 = it is none */
    char *vm;      /* the id of whose it is; NULL = of none */
    size_t size;
    char text[];
} Message;

struct Hub {
    Manager *manager;
    People *people;
    void (*wake)(void *);
    void *wake_data;
    GThread *thread;

    GMutex lock; /* for the rest */
    GCond more;
    GPtrArray *streams;  /* of Stream, borrowed: each belongs to its answer */
    Message *ring[RING]; /* message n is in ring[n % RING] */
    uint64_t next;       /* number of the message that comes next */
    int64_t last_event;  /* greatest id that is in the ring or needed no telling */
    bool ending;
};

typedef struct {
    Hub *hub;
    Who *who;
    unsigned tell;
    int64_t after;     /* events up to here were told, or are in own */
    uint64_t position; /* number of the message that is told next */
    size_t sent;       /* bytes of it that are out */
    GString *own;      /* what only this one is told; it comes before the ring */
    size_t own_sent;
    bool wants_past; /* more events of the past */
    bool wants_jobs; /* those that are open */
    int64_t said_us;
} Stream;

/* ---- messages ---- */

static void
message_free(Message *message)
{
    if (message != NULL)
        g_free(message->vm);
    g_free(message);
}

static void
add(Hub *hub, Tell kind, int64_t event, const char *vm, GString *text)
{
    Message *message = g_malloc(sizeof *message + text->len);
    WITH_LOCK(&hub->lock);

    *message = (Message){ .kind = kind, .event = event, .vm = g_strdup(vm), .size = text->len };
    memcpy(message->text, text->str, text->len);
    message_free(hub->ring[hub->next % RING]);
    hub->ring[hub->next % RING] = message;
    hub->next++;
    hub->last_event = MAX(hub->last_event, event);
    g_string_truncate(text, 0);
}

/* ---- what the hub's thread does ---- */

static int64_t
last_event(Hub *hub)
{
    WITH_LOCK(&hub->lock);
    return hub->last_event;
}

/* Also more than fit into the ring at once: then the streams that took none of them are cut. */
static void
tell_events(Hub *hub)
{
    g_autoptr(GString) text = g_string_new(NULL);
    g_autoptr(GError) error = NULL;
    g_autoptr(GPtrArray) rows =
        store_event_list(manager_store(hub->manager), last_event(hub), RING, true, &error);

    if (rows == NULL)
        log_warn("events could not be read for those who follow them: %s; trying again",
                 error->message);
    for (guint i = 0; rows != NULL && i < rows->len; i++) {
        const EventRow *row = rows->pdata[i];
        tell_event(text, row);
        add(hub, TELL_EVENTS, row->id, row->vm_id, text);
    }
}

static void
tell_news(Hub *hub, const News *news)
{
    g_autoptr(GString) text = g_string_new(NULL);

    if (news->last_event > last_event(hub))
        tell_events(hub);
    for (guint i = 0; i < news->jobs->len; i++) {
        g_autoptr(json_t) job = manager_job(hub->manager, news->jobs->pdata[i], NULL);
        if (job == NULL) /* only if the manager stops, or dropped a very old one */
            continue;
        tell_job(text, job);
        add(hub, TELL_JOBS, 0, json_text(job, "vm_id"), text);
    }
    for (guint i = 0; i < news->vms->len; i++) {
        tell_vm(text, hub->manager, news->vms->pdata[i]);
        add(hub, TELL_VMS, 0, news->vms->pdata[i], text);
    }
}

/* What a stream of its own is to be told next. Read without the lock; the stream may be gone then.
 */
typedef struct {
    Stream *stream;
    Who *who; /* a copy */
    int64_t after;
    bool jobs;
} Wish;

static void
wish_clear(void *wish)
{
    who_free(((Wish *)wish)->who);
}

static bool
may_see(const Who *who, const char *vm)
{
    return who_role_on(who, vm) >= ROLE_VIEWER;
}

static GArray *
wishes_of(Hub *hub)
{
    GArray *wishes = g_array_new(FALSE, FALSE, sizeof(Wish));
    WITH_LOCK(&hub->lock);

    g_array_set_clear_func(wishes, wish_clear);
    for (guint i = 0; i < hub->streams->len; i++) {
        Stream *stream = hub->streams->pdata[i];
        if ((!stream->wants_past && !stream->wants_jobs) || stream->own->len > 0)
            continue;
        Wish wish = { stream, who_copy(stream->who), stream->after, stream->wants_jobs };
        g_array_append_val(wishes, wish);
    }
    return wishes;
}

static void
put_open_jobs(GString *text, Manager *manager, const Who *who)
{
    g_autoptr(json_t) jobs = manager_jobs(manager, true, NULL);
    size_t i;
    json_t *job;

    json_array_foreach (jobs, i, job)
        if (may_see(who, json_text(job, "vm_id")))
            tell_job(text, job);
}

static void
fulfil(Hub *hub, const Wish *wish)
{
    g_autoptr(GString) text = g_string_new(NULL);
    g_autoptr(GPtrArray) rows =
        store_event_list(manager_store(hub->manager), wish->after, PORTION, true, NULL);
    int64_t after = wish->after;

    if (wish->jobs)
        put_open_jobs(text, hub->manager, wish->who);
    for (guint i = 0; rows != NULL && i < rows->len; i++) {
        const EventRow *row = rows->pdata[i];
        if (may_see(wish->who, row->vm_id))
            tell_event(text, row);
        after = row->id;
    }
    WITH_LOCK(&hub->lock);
    Stream *stream = wish->stream;
    if (!g_ptr_array_find(hub->streams, stream, NULL) || stream->after != wish->after)
        return; /* it is gone, and perhaps another one is there */
    g_string_append_len(stream->own, text->str, (gssize)text->len);
    stream->after = after;
    stream->wants_past = rows != NULL && rows->len == PORTION;
    stream->wants_jobs = false;
}

static void
fulfil_wishes(Hub *hub)
{
    g_autoptr(GArray) wishes = wishes_of(hub);

    for (guint i = 0; i < wishes->len; i++)
        fulfil(hub, &g_array_index(wishes, Wish, i));
}

static void
forget_all_locked(Hub *hub)
{
    for (unsigned i = 0; i < RING; i++)
        g_clear_pointer(&hub->ring[i], message_free);
}

/* False if the hub ends. */
static bool
wait_for_streams(Hub *hub)
{
    WITH_LOCK(&hub->lock);

    if (hub->streams->len == 0 && !hub->ending) {
        manager_news_follow(hub->manager, false);
        forget_all_locked(hub);
        while (hub->streams->len == 0 && !hub->ending)
            g_cond_wait(&hub->more, &hub->lock);
    }
    return !hub->ending;
}

/* Until the next look: what happens meanwhile is told together. */
static void
pause_a_moment(Hub *hub)
{
    int64_t until = g_get_monotonic_time() + PACE_MS * G_TIME_SPAN_MILLISECOND;
    WITH_LOCK(&hub->lock);

    while (!hub->ending)
        if (!g_cond_wait_until(&hub->more, &hub->lock, until))
            break;
}

static gpointer
run(gpointer data)
{
    Hub *hub = data;

    while (wait_for_streams(hub)) {
        g_auto(News) news = { 0 };
        manager_news_wait(hub->manager, last_event(hub), ALIVE_MS, &news);
        tell_news(hub, &news);
        fulfil_wishes(hub);
        hub->wake(hub->wake_data); /* who was told nothing for long says that he lives */
        pause_a_moment(hub);
    }
    return NULL;
}

/* ---- a stream, asked by the server ---- */

static size_t
take(char *buf, size_t max, const char *text, size_t size, size_t *sent)
{
    size_t part = MIN(size - *sent, max);

    memcpy(buf, text + *sent, part);
    *sent += part;
    return part;
}

static size_t
take_own(Stream *stream, char *buf, size_t max)
{
    size_t used = take(buf, max, stream->own->str, stream->own->len, &stream->own_sent);

    if (stream->own->len == 0 || stream->own_sent < stream->own->len)
        return used;
    g_string_free(stream->own, TRUE); /* what was missed can be much: its room goes back */
    stream->own = g_string_new(NULL);
    stream->own_sent = 0;
    if (stream->wants_past || stream->wants_jobs)
        manager_news_interrupt(stream->hub->manager);
    return used;
}

static bool
is_for(const Stream *stream, const Message *message)
{
    return (stream->tell & message->kind) != 0 &&
           (message->event == 0 || message->event > stream->after) &&
           may_see(stream->who, message->vm);
}

/* False: it was too slow. */
static bool
take_ring(Stream *stream, char *buf, size_t max, size_t *used)
{
    Hub *hub = stream->hub;

    while (*used < max && stream->position < hub->next) {
        if (hub->next - stream->position > RING)
            return false;
        const Message *message = hub->ring[stream->position % RING];
        if (stream->sent > 0 || is_for(stream, message))
            *used += take(buf + *used, max - *used, message->text, message->size, &stream->sent);
        else
            stream->sent = message->size;
        if (stream->sent < message->size)
            break;
        stream->sent = 0;
        stream->position++;
        stream->after = MAX(stream->after, message->event);
    }
    return true;
}

/* Is he still one who may follow? What he may see changes with his roles. */
static bool
look_again(Stream *stream)
{
    Who *now = people_again(stream->hub->people, stream->who);

    if (now == NULL)
        return false;
    who_free(stream->who);
    stream->who = now;
    return true;
}

static ssize_t
stream_feed(void *data, char *buf, size_t max)
{
    static const char alive[] = ": alive\n\n";
    Stream *stream = data;
    WITH_LOCK(&stream->hub->lock);
    int64_t now = g_get_monotonic_time();

    if (stream->hub->ending || !look_again(stream))
        return -1;
    size_t used = take_own(stream, buf, max);
    bool in_order = stream->own->len == 0 && !stream->wants_past && !stream->wants_jobs;
    if (in_order && !take_ring(stream, buf, max, &used))
        return -1;
    if (used == 0 && now - stream->said_us >= (ALIVE_MS - 100) * G_TIME_SPAN_MILLISECOND) {
        memcpy(buf, alive, sizeof alive - 1);
        used = sizeof alive - 1;
    }
    if (used > 0)
        stream->said_us = now;
    return (ssize_t)used;
}

static void
stream_free(void *data)
{
    Stream *stream = data;

    g_mutex_lock(&stream->hub->lock);
    g_ptr_array_remove_fast(stream->hub->streams, stream);
    g_mutex_unlock(&stream->hub->lock);
    g_string_free(stream->own, TRUE);
    who_free(stream->who);
    g_free(stream);
}

static void
greet(Stream *stream)
{
    g_string_append_printf(stream->own,
                           "retry: 2000\nid: %" G_GINT64_FORMAT
                           "\nevent: open\ndata: {\"index\":%" G_GINT64_FORMAT "}\n\n",
                           stream->after, stream->after);
}

static void
begin_to_follow_locked(Hub *hub)
{
    manager_news_follow(hub->manager, true);
    hub->last_event = manager_last_event(hub->manager);
}

bool
hub_answer(Hub *hub, const Who *who, unsigned tell, int64_t from, HttpResponse *response,
           GError **error)
{
    WITH_LOCK(&hub->lock);

    if (hub->ending || hub->streams->len >= MOST_STREAMS)
        return error_set(error, ERR_UNREACHABLE,
                         hub->ending ? "the manager is stopping"
                                     : "%u streams are open already; ask for events and jobs with "
                                       "'wait' instead",
                         hub->streams->len);
    if (hub->streams->len == 0)
        begin_to_follow_locked(hub);
    Stream *stream = g_new0(Stream, 1);
    *stream = (Stream){ .hub = hub,
                        .who = who_copy(who),
                        .tell = tell,
                        .after = from >= 0 ? MIN(from, hub->last_event) : hub->last_event,
                        .position = hub->next,
                        .own = g_string_new(NULL),
                        .wants_past = (tell & TELL_EVENTS) != 0 && from >= 0,
                        .wants_jobs = (tell & TELL_JOBS) != 0,
                        .said_us = g_get_monotonic_time() };
    greet(stream);
    g_ptr_array_add(hub->streams, stream);
    g_cond_broadcast(&hub->more);
    manager_news_interrupt(hub->manager);
    response->status = 200;
    response->content_type = g_strdup("text/event-stream");
    response->feed = stream_feed;
    response->stream_data = stream;
    response->stream_free = stream_free;
    return true;
}

/* ---- begin and end ---- */

Hub *
hub_new(Manager *manager, People *people, void (*wake)(void *), void *wake_data)
{
    Hub *hub = g_new0(Hub, 1);

    g_mutex_init(&hub->lock);
    g_cond_init(&hub->more);
    hub->manager = manager;
    hub->people = people;
    hub->wake = wake;
    hub->wake_data = wake_data;
    hub->streams = g_ptr_array_new();
    hub->thread = g_thread_new("hub", run, hub);
    return hub;
}

void
hub_end(Hub *hub)
{
    g_mutex_lock(&hub->lock);
    hub->ending = true;
    g_cond_broadcast(&hub->more);
    g_mutex_unlock(&hub->lock);
    manager_news_interrupt(hub->manager);
    g_thread_join(hub->thread);
}

void
hub_free(Hub *hub)
{
    if (hub == NULL)
        return;
    forget_all_locked(hub);
    g_ptr_array_unref(hub->streams);
    g_mutex_clear(&hub->lock);
    g_cond_clear(&hub->more);
    g_free(hub);
}
