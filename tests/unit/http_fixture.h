/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * An HTTP server that answers with what it was asked, and raw sockets, for what no client library
 * would send.
 */
#pragma once

#include "http/http.h"

#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>

#define MAX_BODY 65536

typedef struct {
    char *dir;
    char *address; /* "unix:..." */
    HttpServer *server;
    GMutex lock;
    int handled;      /* atomic */
    HttpRequest last; /* its plain values */
} Fixture;

typedef struct {
    HttpServer *server;
    int count;
    int lines;  /* -1 = for ever */
    int *freed; /* atomic */
} Counter;

static inline ssize_t
count_next(void *data, char *buf, size_t max)
{
    Counter *counter = data;

    if (counter->count == counter->lines)
        return 0;
    if (counter->lines < 0 && counter->count > 0) {
        for (int i = 0; i < 50 && !http_server_stopping(counter->server); i++)
            g_usleep(100 * 1000);
        if (http_server_stopping(counter->server))
            return 0;
    }
    return g_snprintf(buf, max, "line %d\n", counter->count++);
}

static int streams_freed; /* atomic */

static inline void
count_free(void *data)
{
    g_atomic_int_inc(&streams_freed);
    g_free(data);
}

static inline void
start_stream(const HttpRequest *request, HttpResponse *response)
{
    Counter *counter = g_new0(Counter, 1);

    counter->server = request->server;
    counter->lines = atoi(http_query(request, "lines"));
    response->content_type = g_strdup("text/plain");
    response->stream = count_next;
    response->stream_data = counter;
    response->stream_free = count_free;
}

static inline void
on_request(const HttpRequest *request, HttpResponse *response, void *data)
{
    Fixture *fixture = data;

    {
        WITH_LOCK(&fixture->lock);
        fixture->last = *request;
    }
    g_atomic_int_inc(&fixture->handled);
    response->status = 200;
    if (strcmp(request->path, "/stream") == 0) {
        start_stream(request, response);
    } else if (strcmp(request->path, "/echo") == 0) {
        response->body = g_memdup2(request->body, request->body_size + 1);
        response->body_size = request->body_size;
        response->content_type = g_strdup("application/octet-stream");
    } else if (strcmp(request->path, "/block") == 0) {
        while (!http_server_stopping(request->server))
            g_usleep(20 * 1000);
    } else if (strcmp(request->path, "/long") == 0) {
        g_usleep(2500 * 1000); /* more than the idle time-out and than that for a whole request */
        response->body = g_strdup("took long");
    } else if (strcmp(request->path, "/cached") == 0) {
        http_response_header(response, "Cache-Control", "max-age=60");
    } else if (strcmp(request->path, "/gone") == 0) {
        response->status = 410;
        response->body = g_strdup("no more");
    } else {
        const char *q = http_query(request, "q");
        const char *agent = http_header(request, "x-TEST");
        response->body = g_strdup_printf("%s %s q=%s x=%s", request->method, request->path,
                                         q == NULL ? "(none)" : q, agent == NULL ? "-" : agent);
        response->content_type = g_strdup("text/plain");
    }
}

static inline HttpServer *
start(Fixture *fixture, HttpServerOptions options)
{
    g_autoptr(GError) error = NULL;
    HttpServer *server = http_server_start(&options, on_request, fixture, &error);

    g_assert_no_error(error);
    g_assert_nonnull(server);
    return server;
}

static inline void
set_up(Fixture *fixture, gconstpointer data)
{
    g_autoptr(GError) error = NULL;

    fixture->dir = g_dir_make_tmp("livemerge-http-XXXXXX", &error);
    g_assert_no_error(error);
    g_mutex_init(&fixture->lock);
    fixture->address = g_strdup_printf("unix:%s/socket", fixture->dir);
    fixture->server = start(
        fixture,
        (HttpServerOptions){ .address = fixture->address, .max_body = MAX_BODY, .timeout_s = 1 });
}

static inline void
remove_file(const char *dir, const char *name)
{
    g_autofree char *path = g_build_filename(dir, name, NULL);

    unlink(path);
}

static inline void
tear_down(Fixture *fixture, gconstpointer data)
{
    http_server_stop(fixture->server);
    for (const char *const *name =
             (const char *const[]){ "ca.pem", "ca-key.pem", "cert.pem", "key.pem", "file", "socket",
                                    "two", NULL };
         *name != NULL; name++)
        remove_file(fixture->dir, *name);
    if (rmdir(fixture->dir) < 0)
        g_error("%s is not empty after the test: look which file was left", fixture->dir);
    g_mutex_clear(&fixture->lock);
    g_free(fixture->address);
    g_free(fixture->dir);
}

static inline int
raw_connect(const Fixture *fixture)
{
    struct sockaddr_un where = { .sun_family = AF_UNIX };
    struct timeval patience = { .tv_sec = 20 };
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

    g_strlcpy(where.sun_path, fixture->address + 5, sizeof where.sun_path);
    g_assert_cmpint(connect(fd, (struct sockaddr *)&where, sizeof where), ==, 0);
    setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience);
    return fd;
}

static inline void
raw_send(int fd, const char *text)
{
    g_assert_cmpint(send(fd, text, strlen(text), MSG_NOSIGNAL), ==, (gssize)strlen(text));
}

static inline void
assert_has(const char *text, const char *part)
{
    if (strstr(text, part) == NULL)
        g_error("\"%s\" is not in: %s", part, text);
}

static inline HttpClient *
connect_to(const char *address, const char *ca)
{
    g_autoptr(GError) error = NULL;
    HttpClient *client = http_client_new(address, ca, false, &error);

    g_assert_no_error(error);
    return client;
}

static inline bool
check_line(const char *line, void *data)
{
    int *count = data;
    g_autofree char *wanted = g_strdup_printf("line %d", (*count)++);

    g_assert_cmpstr(line, ==, wanted);
    return *count != 500000; /* no row gets there */
}

/* What others wait for has LONG_S or more, so that a busy machine is not taken for it. */
#define LONG_S 30

static inline void
assert_quick(gint64 began, const char *what)
{
    gint64 spent = g_get_monotonic_time() - began;

    if (spent > LONG_S / 2 * G_TIME_SPAN_SECOND)
        g_error("%s took %" G_GINT64_FORMAT " ms", what, spent / 1000);
}

/* In place of the one of set_up(), which soon gives up a client that is silent. */
static inline void
start_patient(Fixture *fixture)
{
    http_server_stop(fixture->server);
    fixture->server = start(fixture, (HttpServerOptions){ .address = fixture->address,
                                                          .max_body = MAX_BODY,
                                                          .timeout_s = LONG_S });
}

typedef struct {
    const char *name;
    void (*test)(Fixture *, gconstpointer);
} Test;

/* Each with a server of its own. */
static inline void
add_tests(const Test *tests, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        g_autofree char *path = g_strconcat("/http/", tests[i].name, NULL);
        g_test_add(path, Fixture, NULL, set_up, tests[i].test, tear_down);
    }
}
