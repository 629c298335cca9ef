/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * Answers without an end. A feed is asked on the server's own thread and, while it has nothing to
 * say, its connection is suspended: a thousand of them cost no thread. What blocks (HttpResponse's
 * stream) has a thread of its own here, which is one block ahead of the connection.
 *
 * Threads: feeds_response() on the server's, the others any.
 */
#pragma once

#include "http/http.h"

#include <microhttpd.h>

typedef struct Feeds Feeds;

Feeds *feeds_new(HttpServer *server);
/* Takes the stream or feed of the answer. */
struct MHD_Response *feeds_response(Feeds *feeds, struct MHD_Connection *connection,
                                    const HttpResponse *answer);
/* Each is asked again. */
void feeds_wake(Feeds *feeds);
/* Each is broken off; no connection is suspended for a feed from now on. */
void feeds_end(Feeds *feeds);
/* After the daemon was stopped: waits for the threads. */
void feeds_free(Feeds *feeds);
