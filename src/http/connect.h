/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * What calls (client.c) and streams (stream.c) share: libcurl handles set up for one address, and
 * libcurl's failures put into words.
 */
#pragma once

#include "http/http.h"

#include <curl/curl.h>

typedef struct curl_slist CurlList;
G_DEFINE_AUTOPTR_CLEANUP_FUNC(CurlList, curl_slist_free_all)
G_DEFINE_AUTOPTR_CLEANUP_FUNC(CURL, curl_easy_cleanup)
G_DEFINE_AUTOPTR_CLEANUP_FUNC(CURLM, curl_multi_cleanup)

/* With the TLS handshake, for which a peer that is busy may need seconds: it must not look dead. */
#define CONNECT_TIMEOUT_MS 10000

struct HttpClient {
    char *address;   /* as given, for messages */
    char *origin;    /* "http://localhost", "https://host:port" */
    char *unix_path; /* NULL = TCP */
    char *ca_file;
    bool insecure;
    CURL *calls; /* keeps the connections of http_call() */
    GMutex lock; /* for what http_client_cancel() touches: */
    bool cancelled;
    CURLM *stream;                 /* while http_stream() runs */
    char problem[CURL_ERROR_SIZE]; /* libcurl's words for the last failure */
};

/* Everything but method, body and where the answer goes. */
void connect_prepare(HttpClient *client, CURL *curl, const char *path, const CurlList *headers);
/* The caller's headers and those that keep libcurl from adding its own. */
CurlList *connect_headers(const char *const *headers);
/* Puts a failed transfer as ERR_TIMEOUT or ERR_UNREACHABLE; false. */
bool connect_failed(HttpClient *client, CURL *curl, CURLcode code, GError **error);
