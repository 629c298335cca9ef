/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "http/server.h"

#include <malloc.h>

/* How late an answer that comes later may be: a person sees nothing of it, and a few hundred that
 * are asked so often cost a hundredth of a processor. */
#define PARKED_MS 10

/* What requests have left in the heap is given back: after so many as soon as nobody waits, and
 * once it has been calm for a while: only then the last answers are sent and freed. */
#define RUSH 20000
#define CALM_MS 1000

/* How many requests of the peer are with the pool, but for those that have waited: changed by so
 * much. */
static int
count_peer_locked(HttpServer *server, const char *peer, int change)
{
    int count = GPOINTER_TO_INT(g_hash_table_lookup(server->peers, peer)) + change;

    if (count == 0)
        g_hash_table_remove(server->peers, peer);
    else
        g_hash_table_insert(server->peers, g_strdup(peer), GINT_TO_POINTER(count));
    return count;
}

typedef enum { ADMITTED, TOO_MANY, CLOSED } Admission;

/* One address may have half of the places; peers of a unix socket are not told apart. */
static Admission
admit(HttpServer *server, const char *peer)
{
    WITH_LOCK(&server->lock);

    if (server->closed)
        return CLOSED;
    if (!server->local &&
        count_peer_locked(server, peer, 1) > (int)(server->max_handlers + 1) / 2) {
        count_peer_locked(server, peer, -1);
        return TOO_MANY;
    }
    server->running++;
    return ADMITTED;
}

/* peer: who was counted; NULL = nobody */
static void
leave(HttpServer *server, const char *peer)
{
    bool rush = false;

    g_mutex_lock(&server->lock);
    if (!server->local && peer != NULL)
        count_peer_locked(server, peer, -1);
    server->since_trim++;
    if (--server->running == 0) {
        rush = server->since_trim >= RUSH;
        if (rush)
            server->since_trim = 0;
        if (server->calm_at == 0)
            g_cond_signal(&server->keeping);
        server->calm_at = g_get_monotonic_time() + CALM_MS * G_TIME_SPAN_MILLISECOND;
        g_cond_signal(&server->idle);
    }
    g_mutex_unlock(&server->lock);
    if (rush)
        malloc_trim(0);
}

/* ---- those that are answered later ---- */

/* Takes the call, which has left its place with the pool; false if the server stops. */
static bool
park(HttpServer *server, Call *call)
{
    WITH_LOCK(&server->lock);

    if (server->closed)
        return false;
    call->waited = true;
    g_ptr_array_add(server->parked, call);
    g_cond_signal(&server->keeping);
    return true;
}

/* It was admitted before: whoever waited is not told to try again. Nor does it count any more: an
 * event that many wait for must not turn away all others of their address. */
static void
hand_over_locked(HttpServer *server, Call *call)
{
    server->running++;
    g_thread_pool_push(server->handlers, call, NULL);
}

static void
look_round_locked(HttpServer *server)
{
    for (guint i = server->parked->len; i-- > 0;) {
        Call *call = server->parked->pdata[i];
        if (!server->closed && !call->answer.is_time(call->answer.stream_data))
            continue;
        g_ptr_array_remove_index_fast(server->parked, i);
        hand_over_locked(server, call);
    }
}

/* The lock is free meanwhile. */
static void
trim_if_calm_locked(HttpServer *server)
{
    if (server->calm_at == 0 || server->calm_at > g_get_monotonic_time())
        return;
    server->calm_at = 0;
    if (server->running > 0) /* who leaves last sets it again */
        return;
    server->since_trim = 0;
    g_mutex_unlock(&server->lock);
    malloc_trim(0);
    g_mutex_lock(&server->lock);
}

static gpointer
keep(gpointer data)
{
    HttpServer *server = data;
    WITH_LOCK(&server->lock);

    while (!server->closed) {
        gint64 until = server->calm_at;
        if (server->parked->len > 0)
            until = g_get_monotonic_time() + PARKED_MS * G_TIME_SPAN_MILLISECOND;
        if (until == 0)
            g_cond_wait(&server->keeping, &server->lock);
        else
            g_cond_wait_until(&server->keeping, &server->lock, until);
        look_round_locked(server);
        trim_if_calm_locked(server);
    }
    return NULL;
}

static void
answer_later(Call *call)
{
    HttpResponse *answer = &call->answer;
    GDestroyNotify free_data = answer->stream_free;
    void *data = answer->stream_data;

    answer->is_time = NULL;
    answer->stream_free = NULL;
    answer->later(&call->request, data, answer);
    if (free_data != NULL)
        free_data(data);
}

/* On a thread of the pool. The call belongs to the server's thread again once the connection is
 * resumed. */
static void
run_handler(gpointer data, gpointer server_)
{
    HttpServer *server = server_;
    Call *call = data;
    g_autofree char *peer = call->waited ? NULL : g_strdup(call->request.peer);

    if (call->answer.is_time == NULL)
        server->handler(&call->request, &call->answer, server->data);
    else
        answer_later(call);
    if (call->answer.is_time != NULL && park(server, call)) {
        leave(server, peer);
        return;
    }
    if (call->answer.is_time != NULL) /* it stops: now or never */
        answer_later(call);
    call->answered = true;
    MHD_resume_connection(call->connection);
    leave(server, peer);
}

enum MHD_Result
dispatch(Call *call)
{
    HttpServer *server = call->server;
    g_autoptr(GError) problem = NULL;

    deadline_rest(server->deadlines, deadline_of(call->connection));
    call_fill_request(call, call->server->local);
    switch (admit(server, call->request.peer)) {
    case CLOSED:
        return MHD_NO;
    case TOO_MANY:
        error_set(&problem, ERR_UNREACHABLE,
                  "%u requests of %s are under way already; nothing was done: try again later",
                  (server->max_handlers + 1) / 2, call->request.peer);
        return answer_refusal(call, problem);
    case ADMITTED:
        break;
    }
    MHD_suspend_connection(call->connection);
    g_thread_pool_push(server->handlers, call, NULL);
    return MHD_YES;
}

static void
drain(gpointer fd_plus_one, gpointer server)
{
    call_drain(GPOINTER_TO_INT(fd_plus_one) - 1, server);
}

void
dispatch_begin(HttpServer *server)
{
    g_mutex_init(&server->lock);
    g_cond_init(&server->idle);
    g_cond_init(&server->keeping);
    server->peers = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, NULL);
    server->parked = g_ptr_array_new();
    server->handlers =
        g_thread_pool_new(run_handler, server, (int)server->max_handlers, FALSE, NULL);
    server->drainers = g_thread_pool_new(drain, server, 2, FALSE, NULL);
    server->keeper = g_thread_new("http-keeper", keep, server);
}

void
dispatch_end(HttpServer *server)
{
    WITH_LOCK(&server->lock);

    server->closed = true;
    g_cond_signal(&server->keeping);
    look_round_locked(server);
    while (server->running > 0)
        g_cond_wait(&server->idle, &server->lock);
}

void
dispatch_free(HttpServer *server)
{
    g_mutex_lock(&server->lock); /* if it was never started */
    server->closed = true;
    g_cond_signal(&server->keeping);
    g_mutex_unlock(&server->lock);
    g_thread_join(server->keeper);
    g_thread_pool_free(server->handlers, FALSE, TRUE);
    g_thread_pool_free(server->drainers, FALSE, TRUE);
    g_hash_table_unref(server->peers);
    g_ptr_array_unref(server->parked);
    g_cond_clear(&server->keeping);
    g_cond_clear(&server->idle);
    g_mutex_clear(&server->lock);
}
