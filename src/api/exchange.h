/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * One request taken apart and its answer put together, in the API's shapes: parameters, path, media
 * types, correlation id; documents and faults. Knows nothing of routes, rights and handlers.
 *
 * Ownership: an Exchange owns what it took apart and borrows request and response.
 * Threads: one at a time.
 */
#pragma once

#include "api/media.h"
#include "base/error.h"
#include "http/http.h"

typedef struct {
    const HttpRequest *http;
    HttpResponse *response;
    Media media;       /* of the answer */
    bool acceptable;   /* something that we can write was asked for */
    bool wants_stream; /* besides what media says */
    bool may_action;   /* a failure is told as a failed action */
    char **segments;   /* of the path below API_ROOT */
    GHashTable *query; /* name → value, query and matrix parameters */
    char *correlation_id;
    char *broken; /* the parameter that could not be read; NULL = none */
} Exchange;
void exchange_clear(Exchange *x);
/* What is usable of one that was sent (NULL: none), or a new one; g_free(). */
char *correlation_id_clean(const char *text);
G_DEFINE_AUTO_CLEANUP_CLEAR_FUNC(Exchange, exchange_clear)

/* Fills a zeroed one; the correlation id is in the response already. */
void exchange_open(Exchange *x, const HttpRequest *request, HttpResponse *response);
/* The path's segments below API_ROOT, decoded, without empty ones and without matrix parameters,
 * ids in lower case; NULL: it is another path. ret_matrix (or NULL): the last one's, as they came,
 * owned; NULL = none. */
char **request_segments(const HttpRequest *request, char **ret_matrix);
/* Fills segments, and takes the last one's matrix parameters. */
bool exchange_split(Exchange *x, GError **error);
void exchange_answer(Exchange *x, int status, const char *root, const json_t *doc);
/* reason NULL: "Operation Failed" */
void exchange_fault(Exchange *x, int status, const char *reason, const GError *problem);
