/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "http/feed.h"

/* libmicrohttpd keeps one for each */
#define FEED_BLOCK 2048
#define STREAM_BLOCK 16384

struct Feeds {
    HttpServer *server;
    GMutex lock;
    GCond changed;  /* for the threads of those that block */
    GPtrArray *all; /* of Feed, borrowed: each belongs to its answer */
    unsigned threads;
    bool ending;
};

typedef struct {
    Feeds *feeds;
    struct MHD_Connection *connection;
    ssize_t (*next)(void *data, char *buf, size_t max);
    void *data;
    GDestroyNotify free_data;

    /* under feeds->lock */
    bool suspended;
    bool woken; /* since it was asked last */

    /* of one that blocks, under feeds->lock: the block that its thread has fetched */
    char *block; /* NULL = it does not block */
    ssize_t size;
    ssize_t taken;
    bool fetched;
    bool gone; /* the answer is: the thread frees it */
} Feed;

static void
wake_locked(Feed *feed)
{
    feed->woken = true;
    if (feed->suspended && !feed->gone) {
        feed->suspended = false;
        MHD_resume_connection(feed->connection);
    }
}

/* ---- asked by libmicrohttpd ---- */

/* 0 = nothing yet, -1 = the end, -2 = broken */
static ssize_t
take_block(Feed *feed, char *buf, size_t max)
{
    WITH_LOCK(&feed->feeds->lock);

    if (!feed->fetched)
        return 0;
    if (feed->size <= 0)
        return feed->size - 1;
    ssize_t part = MIN(feed->size - feed->taken, (ssize_t)max);
    memcpy(buf, feed->block + feed->taken, (size_t)part);
    feed->taken += part;
    if (feed->taken == feed->size) {
        feed->fetched = false;
        g_cond_broadcast(&feed->feeds->changed);
    }
    return part;
}

/* False if there is news meanwhile. */
static bool
suspend(Feed *feed)
{
    WITH_LOCK(&feed->feeds->lock);

    if (feed->woken || feed->feeds->ending)
        return false;
    feed->suspended = true;
    MHD_suspend_connection(feed->connection);
    return true;
}

static bool
begin_to_ask(Feed *feed)
{
    WITH_LOCK(&feed->feeds->lock);
    feed->woken = false;
    return !feed->feeds->ending;
}

static ssize_t
read_feed(void *data, uint64_t position, char *buf, size_t max)
{
    Feed *feed = data;
    ssize_t got;

    do {
        if (!begin_to_ask(feed))
            return MHD_CONTENT_READER_END_WITH_ERROR;
        got = feed->block != NULL ? take_block(feed, buf, max) : feed->next(feed->data, buf, max);
    } while (got == 0 && !suspend(feed));
    if (got >= 0)
        return got;
    return got == -1 ? MHD_CONTENT_READER_END_OF_STREAM : MHD_CONTENT_READER_END_WITH_ERROR;
}

/* ---- those that block ---- */

static void
feed_free(Feed *feed)
{
    if (feed->free_data != NULL)
        feed->free_data(feed->data);
    g_free(feed->block);
    g_free(feed);
}

/* Is another block wanted? */
static bool
hand_over(Feed *feed, ssize_t size)
{
    Feeds *feeds = feed->feeds;
    WITH_LOCK(&feeds->lock);

    feed->size = size;
    feed->taken = 0;
    feed->fetched = true;
    wake_locked(feed);
    while (!feed->gone && (feed->fetched || feeds->ending))
        g_cond_wait(&feeds->changed, &feeds->lock);
    return !feed->gone;
}

static gpointer
fetch_blocks(gpointer data)
{
    Feed *feed = data;
    Feeds *feeds = feed->feeds;
    ssize_t size;

    do {
        size = http_server_stopping(feeds->server)
                   ? -1
                   : feed->next(feed->data, feed->block, STREAM_BLOCK);
    } while (hand_over(feed, size));
    feed_free(feed);
    WITH_LOCK(&feeds->lock);
    feeds->threads--;
    g_cond_broadcast(&feeds->changed);
    return NULL;
}

/* ---- the answer ---- */

/* libmicrohttpd has dropped the answer. */
static void
drop(void *data)
{
    Feed *feed = data;
    Feeds *feeds = feed->feeds;
    bool blocks = feed->block != NULL;

    g_mutex_lock(&feeds->lock);
    g_ptr_array_remove_fast(feeds->all, feed);
    feed->gone = true;
    g_cond_broadcast(&feeds->changed);
    g_mutex_unlock(&feeds->lock);
    if (!blocks)
        feed_free(feed);
}

struct MHD_Response *
feeds_response(Feeds *feeds, struct MHD_Connection *connection, const HttpResponse *answer)
{
    Feed *feed = g_new0(Feed, 1);
    bool blocks = answer->stream != NULL;
    WITH_LOCK(&feeds->lock);

    *feed = (Feed){ .feeds = feeds,
                    .connection = connection,
                    .next = blocks ? answer->stream : answer->feed,
                    .data = answer->stream_data,
                    .free_data = answer->stream_free,
                    .block = blocks ? g_malloc(STREAM_BLOCK) : NULL };
    g_ptr_array_add(feeds->all, feed);
    if (blocks) {
        feeds->threads++;
        g_thread_unref(g_thread_new("http-stream", fetch_blocks, feed));
    }
    return MHD_create_response_from_callback(MHD_SIZE_UNKNOWN, blocks ? STREAM_BLOCK : FEED_BLOCK,
                                             read_feed, feed, drop);
}

/* ---- all of a server ---- */

Feeds *
feeds_new(HttpServer *server)
{
    Feeds *feeds = g_new0(Feeds, 1);

    feeds->server = server;
    g_mutex_init(&feeds->lock);
    g_cond_init(&feeds->changed);
    feeds->all = g_ptr_array_new();
    return feeds;
}

static void
wake_all_locked(const Feeds *feeds)
{
    for (guint i = 0; i < feeds->all->len; i++) {
        Feed *feed = feeds->all->pdata[i];
        if (feed->block == NULL || feeds->ending)
            wake_locked(feed);
    }
}

void
feeds_wake(Feeds *feeds)
{
    WITH_LOCK(&feeds->lock);
    wake_all_locked(feeds);
}

void
feeds_end(Feeds *feeds)
{
    WITH_LOCK(&feeds->lock);
    feeds->ending = true;
    wake_all_locked(feeds);
    g_cond_broadcast(&feeds->changed);
}

void
feeds_free(Feeds *feeds)
{
    g_mutex_lock(&feeds->lock);
    while (feeds->threads > 0)
        g_cond_wait(&feeds->changed, &feeds->lock);
    g_mutex_unlock(&feeds->lock);
    g_ptr_array_unref(feeds->all);
    g_mutex_clear(&feeds->lock);
    g_cond_clear(&feeds->changed);
    g_free(feeds);
}
