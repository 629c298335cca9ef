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
    char *path;  /* decoded; NULL if it cannot be: answered 400 */
    char *query; /* raw */
    char *peer;
    GByteArray *body;
    GPtrArray *values;  /* decoded query values that were asked for */
    uint64_t swallowed; /* bytes of a body over the limit, dropped */
    bool begun;
    bool drain; /* answered before the body was read: see drain_body() */
} Call;

/* uri: path and query as they came. */
Call *call_new(HttpServer *server, struct MHD_Connection *connection, const char *uri);
void call_free(Call *call);
/* Who is at the other end: fills peer, local and the peer's credentials. */
void call_find_peer(Call *call, bool local, HttpRequest *request);
/* Reads and drops what the client still sends, for a short time: closing a socket with unread
 * bytes would reset the connection and could take our answer from the client. */
void call_drain(const Call *call, bool half_close);
