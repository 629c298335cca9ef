/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * The inside of a server: who waits for what.
 *
 * Its one thread (libmicrohttpd's) reads a request; dispatch.c suspends the connection and hands
 * the request to the pool; the pool's thread runs the handler and resumes the connection; the
 * server's thread sends the answer (answer.c). A request whose answer comes later stays suspended,
 * on a list of dispatch.c, and goes to the pool once more when it is time. Feeds (feed.c) are
 * suspended while they are silent. A daemon with a suspended connection cannot be stopped:
 * http_server_stop() first waits for the handlers and ends the feeds.
 */
#pragma once

#include "http/deadline.h"
#include "http/feed.h"
#include "http/listen.h"
#include "http/request.h"
#include "http/tls.h"

struct HttpServer {
    struct MHD_Daemon *daemon;
    HttpHandler handler;
    HttpRefusal refuse;
    void *data;
    size_t max_body;
    unsigned timeout_s;
    bool local;
    bool tls;
    int stopping;         /* atomic */
    TlsPair *pair;        /* atomic; what handshakes are made with */
    GPtrArray *old_pairs; /* a handshake under way may have one: until the end */
    Listener listener;
    Deadlines *deadlines; /* for requests to be wholly there */
    Feeds *feeds;

    GThreadPool *handlers; /* of Call */
    GThreadPool *drainers; /* of sockets that are to be closed, see call_drain() */
    unsigned max_handlers;
    GMutex lock; /* for the rest */
    GCond idle;
    unsigned running;    /* requests that were handed to the pool */
    unsigned since_trim; /* how many have left it since the heap was trimmed */
    GHashTable *peers;   /* peer → how many of them; not of a unix socket */
    GPtrArray *parked;   /* of Call: those that are answered later */
    gint64 calm_at;      /* if no request comes until then, the heap is trimmed; 0 = no need */
    GCond keeping;       /* one is parked, the heap waits for calm, or the server stops */
    GThread *keeper;     /* asks the parked whether it is time, and waits for calm */
    bool closed;         /* nothing is handed to the pool any more */
};

/* Of the connection, since it was opened */
Deadline *deadline_of(struct MHD_Connection *connection);

/* ---- dispatch.c ---- */
void dispatch_begin(HttpServer *server);
/* The request is here as far as it is wanted. */
enum MHD_Result dispatch(Call *call);
/* Waits for the handlers, and takes no more requests. */
void dispatch_end(HttpServer *server);
void dispatch_free(HttpServer *server);

/* ---- answer.c: on the server's thread ---- */
/* Takes what the answer holds. */
enum MHD_Result answer_send(Call *call, HttpResponse *answer);
enum MHD_Result answer_refusal(Call *call, const GError *problem);
