/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * One request while it is read and answered: what the server keeps beside HttpRequest.
 */
#pragma once

#include "http/http.h"

#include <microhttpd.h>

typedef struct {
    struct MHD_Connection *connection;
    HttpServer *server;
    const char *method;
    char *path; /* decoded; NULL if it cannot be: answered 400 */
    char *raw_path;
    char *query; /* raw */
    char *peer;
    GByteArray *body;
    GPtrArray *values;  /* decoded query values that were asked for */
    uint64_t swallowed; /* bytes of a body over the limit, dropped */
    bool begun;
    bool drain; /* answered before the body was read: see call_drain() */
    HttpRequest request;
    HttpResponse answer;
    bool waited;   /* for an answer that comes later */
    bool answered; /* by the handler; not yet sent */
} Call;

/* uri: path and query as they came. */
Call *call_new(HttpServer *server, struct MHD_Connection *connection, const char *uri);
void call_free(Call *call);
/* call->request, from what is here; and who is at the other end. */
void call_fill_request(Call *call, bool local);
/* The connection's socket once more, for call_drain(); -1 = there is none. */
int call_dup_socket(const Call *call);
/* Reads and drops what the client still sends, for a short time, then closes the socket (taken).
 * Closing a socket with unread bytes would reset the connection and could take our answer from the
 * client. Blocks. */
void call_drain(int take_fd, const HttpServer *server);
