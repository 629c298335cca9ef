/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * Streams of event lines. Each stream has its own queue; a reader that does not read loses its
 * stream (it connects again and looks at everything), never an event in the middle.
 */
#include "agent/agent.h"

#include <string.h>

#define QUEUE_LIMIT 10000
#define ALIVE_US (20 * G_TIME_SPAN_SECOND)

typedef struct EventHub {
    GMutex lock;
    GCond more;
    GPtrArray *streams; /* of Stream, borrowed: each belongs to its connection */
    bool closed;
} EventHub;

typedef struct {
    EventHub *hub;
    GQueue *lines; /* of char* */
    bool overrun;
    size_t sent; /* bytes of the first line that are out already */
} Stream;

EventHub *
event_hub_new(void)
{
    EventHub *hub = g_new0(EventHub, 1);

    g_mutex_init(&hub->lock);
    g_cond_init(&hub->more);
    hub->streams = g_ptr_array_new();
    return hub;
}

void
event_hub_close(EventHub *hub)
{
    WITH_LOCK(&hub->lock);

    hub->closed = true;
    g_cond_broadcast(&hub->more);
}

void
event_hub_free(EventHub *hub)
{
    if (hub == NULL)
        return;
    g_ptr_array_unref(hub->streams);
    g_mutex_clear(&hub->lock);
    g_cond_clear(&hub->more);
    g_free(hub);
}

void
event_hub_send(EventHub *hub, json_t *take_json)
{
    char *text = json_dumps(take_json, JSON_COMPACT);
    WITH_LOCK(&hub->lock);

    for (guint i = 0; text != NULL && i < hub->streams->len; i++) {
        Stream *stream = hub->streams->pdata[i];
        if (stream->lines->length >= QUEUE_LIMIT)
            stream->overrun = true;
        else
            g_queue_push_tail(stream->lines, g_strconcat(text, "\n", NULL));
    }
    g_cond_broadcast(&hub->more);
    free(text);
    json_decref(take_json);
}

bool
event_hub_is_heard(EventHub *hub)
{
    WITH_LOCK(&hub->lock);

    return hub->streams->len > 0;
}

static ssize_t
stream_read(void *data, char *buf, size_t max)
{
    Stream *stream = data;
    EventHub *hub = stream->hub;
    WITH_LOCK(&hub->lock);
    int64_t until = g_get_monotonic_time() + ALIVE_US;

    while (stream->lines->length == 0 && !hub->closed && !stream->overrun)
        if (!g_cond_wait_until(&hub->more, &hub->lock, until))
            g_queue_push_tail(stream->lines, g_strdup("{\"event\":\"alive\"}\n"));
    if (hub->closed || stream->overrun)
        return 0;

    size_t used = 0;
    while (used < max && stream->lines->length > 0) {
        char *line = g_queue_peek_head(stream->lines);
        size_t part = MIN(strlen(line) - stream->sent, max - used);
        memcpy(buf + used, line + stream->sent, part);
        used += part;
        stream->sent += part;
        if (line[stream->sent] == '\0') {
            g_free(g_queue_pop_head(stream->lines));
            stream->sent = 0;
        }
    }
    return (ssize_t)used;
}

static void
stream_free(void *data)
{
    Stream *stream = data;

    g_mutex_lock(&stream->hub->lock);
    g_ptr_array_remove_fast(stream->hub->streams, stream);
    g_mutex_unlock(&stream->hub->lock);
    g_queue_free_full(stream->lines, g_free);
    g_free(stream);
}

void
event_hub_stream(EventHub *hub, HttpResponse *response)
{
    Stream *stream = g_new0(Stream, 1);
    WITH_LOCK(&hub->lock);

    stream->hub = hub;
    stream->lines = g_queue_new();
    /* a first line at once: the reader knows that from now on it misses nothing */
    g_queue_push_tail(stream->lines, g_strdup("{\"event\":\"alive\"}\n"));
    g_ptr_array_add(hub->streams, stream);
    response->status = 200;
    response->content_type = g_strdup("application/x-ndjson");
    response->stream = stream_read;
    response->stream_data = stream;
    response->stream_free = stream_free;
}
