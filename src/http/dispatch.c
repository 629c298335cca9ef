/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "http/server.h"

/* How many requests of the peer are with the pool: changed by so much. */
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

static void
leave(HttpServer *server, const char *peer)
{
    WITH_LOCK(&server->lock);

    if (!server->local)
        count_peer_locked(server, peer, -1);
    if (--server->running == 0)
        g_cond_signal(&server->idle);
}

/* On a thread of the pool. The call belongs to the server's thread again once the connection is
 * resumed. */
static void
run_handler(gpointer data, gpointer server_)
{
    HttpServer *server = server_;
    Call *call = data;
    g_autofree char *peer = g_strdup(call->request.peer);

    server->handler(&call->request, &call->answer, server->data);
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
    server->peers = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, NULL);
    server->handlers =
        g_thread_pool_new(run_handler, server, (int)server->max_handlers, FALSE, NULL);
    server->drainers = g_thread_pool_new(drain, server, 2, FALSE, NULL);
}

void
dispatch_end(HttpServer *server)
{
    WITH_LOCK(&server->lock);

    server->closed = true;
    while (server->running > 0)
        g_cond_wait(&server->idle, &server->lock);
}

void
dispatch_free(HttpServer *server)
{
    g_thread_pool_free(server->handlers, FALSE, TRUE);
    g_thread_pool_free(server->drainers, FALSE, TRUE);
    g_hash_table_unref(server->peers);
    g_cond_clear(&server->idle);
    g_mutex_clear(&server->lock);
}
