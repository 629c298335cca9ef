/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * The HTTP server and client, against each other and against raw sockets, for what no client
 * library would send.
 */
#include "http/http.h"

#include <errno.h>
#include <netinet/in.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>

#define MAX_BODY 65536

/* ---- the server of the tests ---- */

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

static ssize_t
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

static void
count_free(void *data)
{
    g_atomic_int_inc(&streams_freed);
    g_free(data);
}

static void
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

static void
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

static HttpServer *
start(Fixture *fixture, HttpServerOptions options)
{
    g_autoptr(GError) error = NULL;
    HttpServer *server = http_server_start(&options, on_request, fixture, &error);

    g_assert_no_error(error);
    g_assert_nonnull(server);
    return server;
}

static void
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

static void
remove_file(const char *dir, const char *name)
{
    g_autofree char *path = g_build_filename(dir, name, NULL);

    unlink(path);
}

static void
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

/* ---- raw sockets ---- */

static int
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

static void
raw_send(int fd, const char *text)
{
    g_assert_cmpint(send(fd, text, strlen(text), MSG_NOSIGNAL), ==, (gssize)strlen(text));
}

/* All until the server closes; fails if it does not. */
static char *
raw_read(int fd)
{
    g_autoptr(GString) got = g_string_new(NULL);
    char part[4096];
    ssize_t size = 0;

    while ((size = recv(fd, part, sizeof part, 0)) > 0)
        g_string_append_len(got, part, size);
    if (size < 0 && errno != ECONNRESET)
        g_error("the server kept the connection open (%s) after: %s", g_strerror(errno), got->str);
    return g_strdup(got->str);
}

/* One whole conversation */
static char *
raw_talk(const Fixture *fixture, const char *text)
{
    autofd int fd = raw_connect(fixture);

    raw_send(fd, text);
    return raw_read(fd);
}

static void
assert_has(const char *text, const char *part)
{
    if (strstr(text, part) == NULL)
        g_error("\"%s\" is not in: %s", part, text);
}

static void
assert_lacks(const char *text, const char *part)
{
    if (strstr(text, part) != NULL)
        g_error("\"%s\" should not be in: %s", part, text);
}

static HttpClient *
connect_to(const char *address, const char *ca)
{
    g_autoptr(GError) error = NULL;
    HttpClient *client = http_client_new(address, ca, false, &error);

    g_assert_no_error(error);
    return client;
}

/* ---- requests ---- */

static void
test_requests(Fixture *fixture, gconstpointer data)
{
    static const struct {
        const char *method;
        const char *path;
        int status;
        const char *wanted;
    } rows[] = {
        { "GET", "/", 200, "GET / q=(none) x=yes" },
        { "GET", "/vms/a%20b?x=1&q=c+d%2Be&q=second", 200, "GET /vms/a b q=c d+e x=yes" },
        { "GET", "/a+b?q=", 200, "GET /a+b q= x=yes" },
        { "GET", "/?q=100%&q", 200, "GET / q=100% x=yes" },
        { "GET", "/?q=%zz%4", 200, "GET / q=%zz%4 x=yes" },
        { "GET", "/?%71=encoded", 200, "GET / q=encoded x=yes" },
        { "GET", "/?a&q&b", 200, "GET / q= x=yes" },
        { "GET", "/%C3%A4", 200, "GET /\303\244 q=(none) x=yes" },
        { "POST", "/thing", 200, "POST /thing q=(none) x=yes" },
        { "PUT", "/thing", 200, "PUT /thing q=(none) x=yes" },
        { "DELETE", "/thing", 200, "DELETE /thing q=(none) x=yes" },
        { "PATCH", "/thing", 200, "PATCH /thing q=(none) x=yes" },
        { "HEAD", "/thing", 200, "" },
        { "GET", "/gone", 410, "no more" },
        { "GET", "/cached", 200, "" },
        { "GET", "/a%00b", 400, "the path is not percent-encoded UTF-8 without NUL\n" },
        { "GET", "/%ff", 400, "the path is not percent-encoded UTF-8 without NUL\n" },
    };
    g_autoptr(HttpClient) client = connect_to(fixture->address, NULL);

    for (size_t i = 0; i < G_N_ELEMENTS(rows); i++) {
        g_autoptr(GError) error = NULL;
        g_auto(HttpAnswer) answer = { 0 };
        const char *headers[] = { "X-Test: yes", NULL };
        g_test_message("row %zu: %s %s", i, rows[i].method, rows[i].path);
        http_call(client, rows[i].method, rows[i].path, headers, NULL, 0, 5000, &answer, &error);
        g_assert_no_error(error);
        g_assert_cmpint(answer.status, ==, rows[i].status);
        g_assert_cmpstr(answer.body, ==, rows[i].wanted);
    }
}

static void
test_bodies(Fixture *fixture, gconstpointer data)
{
    static const size_t sizes[] = { 0, 1, 40000, MAX_BODY, MAX_BODY + 1, 4 * MAX_BODY };
    g_autoptr(HttpClient) client = connect_to(fixture->address, NULL);
    g_autofree char *body = g_malloc(4 * MAX_BODY);

    for (size_t i = 0; i < 4 * MAX_BODY; i++)
        body[i] = (char)(i % 251); /* also NULs */
    for (size_t i = 0; i < G_N_ELEMENTS(sizes); i++) {
        g_autoptr(GError) error = NULL;
        g_auto(HttpAnswer) answer = { 0 };
        g_test_message("%zu bytes", sizes[i]);
        http_call(client, "POST", "/echo", NULL, body, sizes[i], 5000, &answer, &error);
        g_assert_no_error(error);
        g_assert_cmpint(answer.status, ==, sizes[i] > MAX_BODY ? 413 : 200);
        if (sizes[i] <= MAX_BODY)
            g_assert_cmpmem(answer.body, answer.body_size, body, sizes[i]);
    }
}

static void
refuse(const HttpRequest *request, const GError *problem, HttpResponse *response)
{
    response->status = error_http_status(problem);
    response->body =
        g_strdup_printf("%s '%s' %s %zu %s", request->method, request->path,
                        http_header(request, "X-Test"), request->body_size, error_word(problem));
    response->content_type = g_strdup("text/x-refusal");
}

/* Who has a form of its own for errors answers those of the server itself in it. */
static void
test_refusals(Fixture *fixture, gconstpointer data)
{
    g_autofree char *address = g_strdup_printf("unix:%s/two", fixture->dir);
    HttpServer *server =
        start(fixture, (HttpServerOptions){ .address = address, .max_body = 10, .refuse = refuse });
    static const struct {
        const char *path, *body, *wanted;
        int status;
    } rows[] = {
        { "/a?q=1", "01234567890", "POST '/a' yes 0 too-large", 413 },
        { "/%ff", "x", "POST '' yes 0 invalid", 400 },
        { "/a?q=1", "0123456789", "POST /a q=1 x=yes", 200 },
    };
    const char *headers[] = { "X-Test: yes", NULL };

    for (size_t i = 0; i < G_N_ELEMENTS(rows); i++) {
        g_autoptr(HttpClient) client = connect_to(address, NULL);
        g_auto(HttpAnswer) answer = { 0 };
        g_autoptr(GError) error = NULL;
        http_call(client, "POST", rows[i].path, headers, rows[i].body, strlen(rows[i].body), 5000,
                  &answer, &error);
        g_assert_no_error(error);
        g_assert_cmpstr(answer.body, ==, rows[i].wanted);
        g_assert_cmpint(answer.status, ==, rows[i].status);
        g_assert_cmpstr(answer.content_type, ==,
                        rows[i].status == 200 ? "text/plain" : "text/x-refusal");
    }
    http_server_stop(server);
}

static void
test_headers(Fixture *fixture, gconstpointer data)
{
    g_autofree char *plain = raw_talk(fixture, "GET / HTTP/1.1\r\nHost: x\r\n"
                                               "Connection: close\r\n\r\n");
    g_autofree char *cached = raw_talk(fixture, "GET /cached HTTP/1.1\r\nHost: x\r\n"
                                                "Connection: close\r\n\r\n");
    g_autofree char *head = raw_talk(fixture, "HEAD / HTTP/1.1\r\nHost: x\r\n"
                                              "Connection: close\r\n\r\n");
    g_autofree char *origin = raw_talk(fixture, "GET http://h:1/vms?q=1 HTTP/1.1\r\nHost: x\r\n"
                                                "Connection: close\r\n\r\n");

    assert_has(plain, "HTTP/1.1 200 ");
    assert_has(plain, "Cache-Control: no-store\r\n");
    assert_has(plain, "X-Content-Type-Options: nosniff\r\n");
    assert_has(plain, "Content-Length: 18\r\n");
    assert_has(cached, "Cache-Control: max-age=60\r\n");
    assert_lacks(cached, "no-store");
    assert_has(head, "Content-Length: 19\r\n");
    g_assert_true(g_str_has_suffix(head, "\r\n\r\n"));
    assert_has(origin, "GET /vms q=1 x=-");
}

/* libgovirt: a GET with a body, one whose body never comes, and a DELETE with one. */
static void
test_announced_bodies(Fixture *fixture, gconstpointer data)
{
    static const char *const methods[] = { "GET", "DELETE" };
    static const char *const rests[] = { "", "<action></action>",
                                         "<action></action>GET /second HTTP/1.1\r\n\r\n" };

    for (size_t m = 0; m < G_N_ELEMENTS(methods); m++) {
        for (size_t r = 0; r < G_N_ELEMENTS(rests); r++) {
            g_autofree char *request =
                g_strdup_printf("%s /first HTTP/1.1\r\nHost: x\r\nContent-Length: 17\r\n\r\n%s",
                                methods[m], rests[r]);
            int before = g_atomic_int_get(&fixture->handled);
            gint64 began = g_get_monotonic_time();
            g_autofree char *answer = raw_talk(fixture, request);
            g_test_message("%s", request);
            assert_has(answer, "HTTP/1.1 200 ");
            assert_has(answer, "/first");
            assert_has(answer, "Connection: close\r\n");
            assert_lacks(answer, "/second");
            g_assert_cmpint(g_atomic_int_get(&fixture->handled), ==, before + 1);
            if (g_get_monotonic_time() - began > 900 * 1000)
                g_error("the server waited for a body that never comes");
        }
    }
    g_autofree char *chunked =
        raw_talk(fixture, "GET /first HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n");
    assert_has(chunked, "HTTP/1.1 200 ");
}

static void
test_limits_on_the_wire(Fixture *fixture, gconstpointer data)
{
    g_autoptr(GString) chunks = g_string_new("POST /echo HTTP/1.1\r\nHost: x\r\n"
                                             "Transfer-Encoding: chunked\r\n\r\n");
    g_autofree char *piece = g_strnfill(4096, 'x');
    autofd int fd = raw_connect(fixture);

    /* The limit is told from the header alone. */
    g_autofree char *at_once = raw_talk(fixture, "POST /echo HTTP/1.1\r\nHost: x\r\n"
                                                 "Content-Length: 99999999999\r\n\r\n");
    assert_has(at_once, "HTTP/1.1 413 ");

    for (int i = 0; i < MAX_BODY / 4096 + 1; i++)
        g_string_append_printf(chunks, "1000\r\n%s\r\n", piece);
    g_string_append(chunks, "0\r\n\r\n");
    raw_send(fd, chunks->str);
    shutdown(fd, SHUT_WR);
    g_autofree char *answer = raw_read(fd);
    assert_has(answer, "HTTP/1.1 413 ");
    g_assert_cmpint(g_atomic_int_get(&fixture->handled), ==, 0);
}

/* Who sends a body that is much too large, and looks at the answer only then, gets it. */
static void
test_large_body_first(Fixture *fixture, gconstpointer data)
{
    g_autofree char *body = g_strnfill(4 * 1024 * 1024, 'x');
    autofd int fd = raw_connect(fixture);
    g_autofree char *head = g_strdup_printf(
        "POST /echo HTTP/1.1\r\nHost: x\r\nContent-Length: %zu\r\n\r\n", strlen(body));

    raw_send(fd, head);
    raw_send(fd, body);
    g_autofree char *answer = raw_read(fd);
    assert_has(answer, "HTTP/1.1 413 ");
}

/* A chunked body without an end is cut off. */
static void
test_endless_body(Fixture *fixture, gconstpointer data)
{
    g_autofree char *piece = g_strnfill(4096, 'x');
    g_autofree char *chunk = g_strdup_printf("1000\r\n%s\r\n", piece);
    autofd int fd = raw_connect(fixture);
    size_t sent = 0;

    raw_send(fd, "POST /echo HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n");
    while (send(fd, chunk, strlen(chunk), MSG_NOSIGNAL) > 0 && sent < 100u * MAX_BODY)
        sent += 4096;
    g_assert_cmpuint(sent, <, 100u * MAX_BODY);
    g_assert_cmpint(g_atomic_int_get(&fixture->handled), ==, 0);
}

static void
test_chunked_body(Fixture *fixture, gconstpointer data)
{
    g_autofree char *answer = raw_talk(fixture, "POST /echo HTTP/1.1\r\nHost: x\r\n"
                                                "Connection: close\r\n"
                                                "Transfer-Encoding: chunked\r\n\r\n"
                                                "3\r\nabc\r\n4\r\ndefg\r\n0\r\n\r\n");

    assert_has(answer, "HTTP/1.1 200 ");
    g_assert_true(g_str_has_suffix(answer, "\r\n\r\nabcdefg"));
}

/* time-out: 1 s */
static void
test_slow_clients(Fixture *fixture, gconstpointer data)
{
    static const char *const parts[] = { "", "GET / HT", "GET / HTTP/1.1\r\nHost: x\r\nX-Slow",
                                         "POST /echo HTTP/1.1\r\nHost: x\r\n"
                                         "Content-Length: 10\r\n\r\nabc" };

    for (size_t i = 0; i < G_N_ELEMENTS(parts); i++) {
        gint64 began = g_get_monotonic_time();
        g_autofree char *answer = raw_talk(fixture, parts[i]);
        g_test_message("after \"%s\"", parts[i]);
        assert_lacks(answer, " 200 ");
        g_assert_cmpint(g_get_monotonic_time() - began, <, 8 * G_USEC_PER_SEC);
    }
    g_assert_cmpint(g_atomic_int_get(&fixture->handled), ==, 0);
}

/* One byte at a time never lets the time-out begin; the deadline for a whole request does. */
static void
test_dripping_client(Fixture *fixture, gconstpointer data)
{
    autofd int fd = raw_connect(fixture);
    gint64 began = g_get_monotonic_time();

    raw_send(fd, "GET / HTTP/1.1\r\nX-Slow: ");
    while (send(fd, "x", 1, MSG_NOSIGNAL) == 1) {
        g_usleep(100 * 1000);
        if (g_get_monotonic_time() - began > 20 * G_USEC_PER_SEC)
            g_error("a client that drips its header byte by byte is never cut");
    }
}

static void
test_peer(Fixture *fixture, gconstpointer data)
{
    HttpServer *tcp = start(fixture, (HttpServerOptions){ .address = "127.0.0.1:0" });
    g_autofree char *address = g_strdup_printf("http://127.0.0.1:%u", http_server_port(tcp));
    const char *addresses[] = { fixture->address, address };
    struct stat about;

    for (int i = 0; i < 2; i++) {
        g_autoptr(HttpClient) client = connect_to(addresses[i], NULL);
        g_autoptr(GError) error = NULL;
        g_auto(HttpAnswer) answer = { 0 };
        http_call(client, "GET", "/", NULL, NULL, 0, 5000, &answer, &error);
        g_assert_no_error(error);
        WITH_LOCK(&fixture->lock);
        g_assert_cmpint(fixture->last.local, ==, i == 0);
        g_assert_cmpint(fixture->last.peer_pid, ==, i == 0 ? getpid() : 0);
        g_assert_cmpuint(fixture->last.peer_uid, ==, i == 0 ? getuid() : (uid_t)-1);
        g_assert_cmpuint(fixture->last.peer_gid, ==, i == 0 ? getgid() : (gid_t)-1);
    }
    http_server_stop(tcp);
    g_assert_cmpint(stat(fixture->address + 5, &about), ==, 0);
    g_assert_cmpint(about.st_mode & 07777, ==, 0600);
}

/* ---- streams ---- */

static bool
check_line(const char *line, void *data)
{
    int *count = data;
    g_autofree char *wanted = g_strdup_printf("line %d", (*count)++);

    g_assert_cmpstr(line, ==, wanted);
    return *count != 500000; /* no row gets there */
}

static bool
stop_at_ten(const char *line, void *data)
{
    int *count = data;

    return ++*count < 10;
}

static void
test_stream(Fixture *fixture, gconstpointer data)
{
    g_autoptr(HttpClient) client = connect_to(fixture->address, NULL);
    g_autoptr(GError) error = NULL;
    int freed = g_atomic_int_get(&streams_freed);
    int count = 0;

    g_assert_false(http_stream(client, "/stream?lines=1000", NULL, 10, check_line, &count, &error));
    g_assert_error(error, ERR, ERR_UNREACHABLE);
    assert_has(error->message, fixture->address);
    g_assert_cmpint(count, ==, 1000);
    g_clear_error(&error);

    count = 0;
    g_assert_true(http_stream(client, "/stream?lines=1000", NULL, 10, stop_at_ten, &count, &error));
    g_assert_no_error(error);
    g_assert_cmpint(count, ==, 10);

    g_assert_false(http_stream(client, "/gone", NULL, 10, check_line, &count, &error));
    g_assert_error(error, ERR, ERR_UNREACHABLE);
    assert_has(error->message, "HTTP 410");
    assert_has(error->message, "no more");
    g_clear_error(&error);

    count = 0;
    g_assert_false(http_stream(client, "/stream?lines=-1", NULL, 1, check_line, &count, &error));
    g_assert_error(error, ERR, ERR_TIMEOUT);
    g_assert_cmpint(count, ==, 1);
    http_server_stop(g_steal_pointer(&fixture->server));
    g_assert_cmpint(g_atomic_int_get(&streams_freed), ==, freed + 3);
}

typedef struct {
    HttpClient *client;
    const char *path;
    GError *error;
    GAsyncQueue *begun; /* a line came */
} Reading;

static bool
tell_line(const char *line, void *data)
{
    Reading *reading = data;

    g_async_queue_push(reading->begun, GINT_TO_POINTER(1));
    return true;
}

static gpointer
read_stream(gpointer data)
{
    Reading *reading = data;

    http_stream(reading->client, "/stream?lines=-1", NULL, 30, tell_line, reading, &reading->error);
    return NULL;
}

static gpointer
block_in_handler(gpointer data)
{
    Reading *reading = data;
    g_auto(HttpAnswer) answer = { 0 };

    http_call(reading->client, "GET", "/block", NULL, NULL, 0, 30000, &answer, &reading->error);
    return NULL;
}

static void
assert_quick(gint64 began, const char *what)
{
    gint64 spent = g_get_monotonic_time() - began;

    if (spent > 500 * 1000)
        g_error("%s took %" G_GINT64_FORMAT " ms, more than 500", what, spent / 1000);
}

static void
test_stop(Fixture *fixture, gconstpointer data)
{
    g_autoptr(HttpClient) streaming = connect_to(fixture->address, NULL);
    g_autoptr(HttpClient) blocking = connect_to(fixture->address, NULL);
    g_autoptr(GAsyncQueue) begun = g_async_queue_new();
    Reading stream = { .client = streaming, .begun = begun };
    Reading block = { .client = blocking };
    autofd int idle = raw_connect(fixture);
    char first = 0;

    raw_send(idle, "GET / HTTP/1.1\r\nHost: x\r\n\r\n");
    g_assert_cmpint(recv(idle, &first, 1, 0), ==, 1);
    GThread *one = g_thread_new("stream", read_stream, &stream);
    g_async_queue_pop(begun);
    int before = g_atomic_int_get(&fixture->handled);
    GThread *two = g_thread_new("block", block_in_handler, &block);
    while (g_atomic_int_get(&fixture->handled) == before)
        g_thread_yield();

    gint64 began = g_get_monotonic_time();
    http_server_stop(g_steal_pointer(&fixture->server));
    assert_quick(began, "stopping the server");
    g_assert_false(g_file_test(fixture->address + 5, G_FILE_TEST_EXISTS));
    g_thread_join(one);
    g_thread_join(two);
    g_assert_error(stream.error, ERR, ERR_UNREACHABLE);
    if (block.error != NULL) /* its handler did end; whether the answer still got out is chance */
        g_assert_error(block.error, ERR, ERR_UNREACHABLE);
    g_clear_error(&stream.error);
    g_clear_error(&block.error);
}

static void
test_cancel(Fixture *fixture, gconstpointer data)
{
    g_autoptr(HttpClient) client = connect_to(fixture->address, NULL);
    g_autoptr(GAsyncQueue) begun = g_async_queue_new();
    Reading stream = { .client = client, .begun = begun };
    GThread *thread = g_thread_new("stream", read_stream, &stream);

    g_async_queue_pop(begun);
    gint64 began = g_get_monotonic_time();
    http_client_cancel(client);
    g_thread_join(thread);
    assert_quick(began, "cancelling a stream");
    g_assert_error(stream.error, ERR, ERR_CANCELLED);
    g_clear_error(&stream.error);
}

/* ---- addresses ---- */

static void
test_socket_files(Fixture *fixture, gconstpointer data)
{
    g_autofree char *two = g_strdup_printf("unix:%s/two", fixture->dir);
    g_autofree char *file = g_strdup_printf("unix:%s/file", fixture->dir);
    struct sockaddr_un where = { .sun_family = AF_UNIX };
    struct stat about;
    const struct {
        const char *address;
        const char *group;
        ErrorCode code;
        const char *said;
    } rows[] = {
        { fixture->address, NULL, ERR_BUSY, fixture->address },
        { file, NULL, ERR_BUSY, "not a socket" },
        { two, "no-such-group-here", ERR_INVALID, "no-such-group-here" },
        { "unix:relative", NULL, ERR_INVALID, "must begin with /" },
        { "unix:/"
          "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"
          "aaaaaaaaaaaaaaaaaaaaaaaa",
          NULL, ERR_INVALID, "107" },
        { "127.0.0.1", NULL, ERR_INVALID, "127.0.0.1" },
        { "127.0.0.1:99999", NULL, ERR_INVALID, "99999" },
    };

    g_assert_true(g_file_set_contents(file + 5, "mine", -1, NULL));
    for (size_t i = 0; i < G_N_ELEMENTS(rows); i++) {
        g_autoptr(GError) error = NULL;
        HttpServerOptions options = { .address = rows[i].address, .group = rows[i].group };
        g_test_message("%s", rows[i].address);
        g_assert_null(http_server_start(&options, on_request, fixture, &error));
        g_assert_error(error, ERR, (int)rows[i].code);
        assert_has(error->message, rows[i].said);
    }
    g_assert_true(g_file_test(file + 5, G_FILE_TEST_EXISTS));

    /* What a crash leaves behind: a socket file that nobody listens on */
    autofd int dead = socket(AF_UNIX, SOCK_STREAM, 0);
    g_strlcpy(where.sun_path, two + 5, sizeof where.sun_path);
    g_assert_cmpint(bind(dead, (struct sockaddr *)&where, sizeof where), ==, 0);
    HttpServer *server = start(
        fixture, (HttpServerOptions){ .address = two, .group = getuid() == 0 ? "root" : NULL });
    g_assert_cmpint(stat(two + 5, &about), ==, 0);
    g_assert_cmpint(about.st_mode & 07777, ==, getuid() == 0 ? 0660 : 0600);

    /* A socket that is not ours any more is left alone. */
    unlink(two + 5);
    g_assert_true(g_file_set_contents(two + 5, "other", -1, NULL));
    http_server_stop(server);
    g_assert_true(g_file_test(two + 5, G_FILE_TEST_EXISTS));
}

static void
test_busy_port(Fixture *fixture, gconstpointer data)
{
    g_autoptr(GError) error = NULL;
    HttpServer *first = start(fixture, (HttpServerOptions){ .address = "127.0.0.1:0" });
    g_autofree char *address = g_strdup_printf("127.0.0.1:%u", http_server_port(first));
    HttpServerOptions again = { .address = address };

    g_assert_cmpuint(http_server_port(first), >, 0);
    g_assert_null(http_server_start(&again, on_request, fixture, &error));
    g_assert_error(error, ERR, ERR_BUSY);
    assert_has(error->message, address);
    http_server_stop(first);
}

static void
test_nobody_there(Fixture *fixture, gconstpointer data)
{
    HttpServer *tcp = start(fixture, (HttpServerOptions){ .address = "127.0.0.1:0" });
    g_autofree char *gone = g_strdup_printf("http://127.0.0.1:%u", http_server_port(tcp));
    g_autofree char *missing = g_strdup_printf("unix:%s/nothing", fixture->dir);
    const char *addresses[] = { gone, missing, fixture->address };

    http_server_stop(tcp);
    g_autoptr(HttpClient) kept = connect_to(fixture->address, NULL);
    g_auto(HttpAnswer) fine = { 0 };
    g_assert_true(http_call(kept, "GET", "/", NULL, NULL, 0, 5000, &fine, NULL));
    http_server_stop(g_steal_pointer(&fixture->server));
    for (size_t i = 0; i < G_N_ELEMENTS(addresses); i++) {
        g_autoptr(HttpClient) client = connect_to(addresses[i], NULL);
        g_autoptr(GError) error = NULL;
        g_auto(HttpAnswer) answer = { 0 };
        g_assert_false(http_call(client, "GET", "/", NULL, NULL, 0, 5000, &answer, &error));
        g_assert_error(error, ERR, ERR_UNREACHABLE);
        assert_has(error->message, addresses[i]);
        assert_has(error->message, "running?");
    }
    /* A kept connection finds the restarted server. */
    fixture->server = start(fixture, (HttpServerOptions){ .address = fixture->address });
    g_auto(HttpAnswer) again = { 0 };
    g_assert_true(http_call(kept, "GET", "/", NULL, NULL, 0, 5000, &again, NULL));
    g_assert_cmpint(again.status, ==, 200);
}

static void
test_client_addresses(void)
{
    static const char *const bad[] = { "",
                                       "localhost:80",
                                       "ftp://x",
                                       "http://",
                                       "unix:relative",
                                       "http://host/path",
                                       "http://user@host" };

    for (size_t i = 0; i < G_N_ELEMENTS(bad); i++) {
        g_autoptr(GError) error = NULL;
        g_test_message("\"%s\"", bad[i]);
        g_assert_null(http_client_new(bad[i], NULL, false, &error));
        g_assert_error(error, ERR, ERR_INVALID);
    }
}

/* Time-outs are for clients that are slow, not for handlers. */
static void
test_long_handler(Fixture *fixture, gconstpointer data)
{
    g_autoptr(HttpClient) client = connect_to(fixture->address, NULL);
    g_autoptr(GError) error = NULL;
    g_auto(HttpAnswer) answer = { 0 };

    http_call(client, "GET", "/long", NULL, NULL, 0, 20000, &answer, &error);
    g_assert_no_error(error);
    g_assert_cmpstr(answer.body, ==, "took long");
}

static void
test_call_timeout(Fixture *fixture, gconstpointer data)
{
    g_autoptr(HttpClient) client = connect_to(fixture->address, NULL);
    g_autoptr(GError) error = NULL;
    g_auto(HttpAnswer) answer = { 0 };

    g_assert_false(http_call(client, "GET", "/block", NULL, NULL, 0, 200, &answer, &error));
    g_assert_error(error, ERR, ERR_TIMEOUT);
    assert_has(error->message, fixture->address);
}

/* ---- TLS ---- */

static char *
read_file(const char *dir, const char *name)
{
    g_autofree char *path = g_build_filename(dir, name, NULL);
    char *text = NULL;

    if (!g_file_get_contents(path, &text, NULL, NULL))
        g_error("%s was not written", path);
    return text;
}

static bool
make_certificate(const char *dir, GError **error)
{
    static const char *const names[] = { "localhost", "127.0.0.1", NULL };
    g_autofree char *news = NULL;
    bool good = http_keep_certificate(dir, names, &news, error);

    g_assert_null(news);
    return good;
}

static void
test_certificate_files(Fixture *fixture, gconstpointer data)
{
    g_autoptr(GError) error = NULL;
    g_autofree char *key_file = g_build_filename(fixture->dir, "key.pem", NULL);
    struct stat about;

    g_assert_true(make_certificate(fixture->dir, &error));
    g_autofree char *first = read_file(fixture->dir, "cert.pem");
    g_assert_true(make_certificate(fixture->dir, &error));
    g_autofree char *second = read_file(fixture->dir, "cert.pem");
    g_assert_cmpstr(first, ==, second);
    g_assert_cmpint(stat(key_file, &about), ==, 0);
    g_assert_cmpint(about.st_mode & 07777, ==, 0600);
    g_autofree char *ca_key_file = g_build_filename(fixture->dir, "ca-key.pem", NULL);
    g_assert_cmpint(stat(ca_key_file, &about), ==, 0);
    g_assert_cmpint(about.st_mode & 07777, ==, 0600);
    unlink(key_file);
    g_assert_false(make_certificate(fixture->dir, &error));
    g_assert_error(error, ERR, ERR_EXISTS);
    g_clear_error(&error);

    HttpServerOptions half = { .address = "127.0.0.1:0", .tls_cert = first };
    g_assert_null(http_server_start(&half, on_request, fixture, &error));
    g_assert_error(error, ERR, ERR_INVALID);
    g_clear_error(&error);
    half.tls_key = "no key";
    g_assert_null(http_server_start(&half, on_request, fixture, &error));
    g_assert_error(error, ERR, ERR_INVALID);
}

static HttpServer *
start_tls(Fixture *fixture, char **ret_port)
{
    g_autofree char *cert = read_file(fixture->dir, "cert.pem");
    g_autofree char *key = read_file(fixture->dir, "key.pem");
    HttpServer *server = start(
        fixture, (HttpServerOptions){ .address = "127.0.0.1:0", .tls_cert = cert, .tls_key = key });

    *ret_port = g_strdup_printf("%u", http_server_port(server));
    return server;
}

static void
test_tls(Fixture *fixture, gconstpointer data)
{
    static const char *const hosts[] = { "localhost", "127.0.0.1" };
    g_autoptr(GError) error = NULL;
    g_autofree char *other_dir = g_dir_make_tmp("livemerge-http-XXXXXX", NULL);
    g_autofree char *ca = g_build_filename(fixture->dir, "ca.pem", NULL);
    g_autofree char *other_ca = g_build_filename(other_dir, "ca.pem", NULL);
    g_autofree char *body = g_strnfill(MAX_BODY, 'x');
    g_autofree char *port = NULL;

    g_assert_true(make_certificate(fixture->dir, &error));
    g_assert_true(make_certificate(other_dir, &error));
    HttpServer *server = start_tls(fixture, &port);
    for (size_t i = 0; i < G_N_ELEMENTS(hosts); i++) {
        g_autofree char *address = g_strdup_printf("https://%s:%s", hosts[i], port);
        g_autoptr(HttpClient) client = connect_to(address, ca);
        g_auto(HttpAnswer) answer = { 0 };
        g_auto(HttpAnswer) large = { 0 };
        int count = 0;
        http_call(client, "POST", "/echo", NULL, body, MAX_BODY, 5000, &answer, &error);
        g_assert_no_error(error);
        g_assert_cmpstr(answer.body, ==, body);
        http_stream(client, "/stream?lines=1000", NULL, 10, check_line, &count, &error);
        g_assert_cmpint(count, ==, 1000);
        g_clear_error(&error);

        g_autoptr(HttpClient) stranger = connect_to(address, other_ca);
        g_autoptr(HttpClient) without = connect_to(address, NULL);
        g_autoptr(HttpClient) careless = http_client_new(address, NULL, true, NULL);
        g_assert_false(http_call(stranger, "GET", "/", NULL, NULL, 0, 5000, &large, &error));
        g_assert_error(error, ERR, ERR_UNREACHABLE);
        assert_has(error->message, "not trusted");
        g_clear_error(&error);
        g_assert_false(http_call(without, "GET", "/", NULL, NULL, 0, 5000, &large, &error));
        assert_has(error->message, "not trusted");
        g_clear_error(&error);
        g_assert_true(http_call(careless, "GET", "/", NULL, NULL, 0, 5000, &large, &error));
    }
    gint64 began = g_get_monotonic_time();
    http_server_stop(server);
    assert_quick(began, "stopping the TLS server");
    remove_file(other_dir, "ca.pem");
    remove_file(other_dir, "ca-key.pem");
    remove_file(other_dir, "cert.pem");
    remove_file(other_dir, "key.pem");
    g_assert_cmpint(rmdir(other_dir), ==, 0);
}

/* ---- many at once ---- */

static gpointer
call_many(gpointer data)
{
    g_autoptr(HttpClient) client = connect_to(data, NULL);
    int fine = 0;

    for (int i = 0; i < 50; i++) {
        g_auto(HttpAnswer) answer = { 0 };
        g_autofree char *path = g_strdup_printf("/?q=%d", i);
        g_autofree char *wanted = g_strdup_printf("GET / q=%d x=-", i);
        fine += http_call(client, "GET", path, NULL, NULL, 0, 10000, &answer, NULL) &&
                strcmp(answer.body, wanted) == 0;
    }
    return GINT_TO_POINTER(fine);
}

static void
test_many(Fixture *fixture, gconstpointer data)
{
    GThread *threads[8];

    for (size_t i = 0; i < G_N_ELEMENTS(threads); i++)
        threads[i] = g_thread_new("caller", call_many, fixture->address);
    for (size_t i = 0; i < G_N_ELEMENTS(threads); i++)
        g_assert_cmpint(GPOINTER_TO_INT(g_thread_join(threads[i])), ==, 50);
}

int
main(int argc, char **argv)
{
    static const struct {
        const char *name;
        void (*test)(Fixture *, gconstpointer);
    } tests[] = {
        { "requests", test_requests },
        { "bodies", test_bodies },
        { "refusals", test_refusals },
        { "headers", test_headers },
        { "announced-bodies", test_announced_bodies },
        { "limits-on-the-wire", test_limits_on_the_wire },
        { "large-body-first", test_large_body_first },
        { "endless-body", test_endless_body },
        { "chunked-body", test_chunked_body },
        { "slow-clients", test_slow_clients },
        { "dripping-client", test_dripping_client },
        { "peer", test_peer },
        { "stream", test_stream },
        { "stop", test_stop },
        { "cancel", test_cancel },
        { "socket-files", test_socket_files },
        { "busy-port", test_busy_port },
        { "nobody-there", test_nobody_there },
        { "long-handler", test_long_handler },
        { "call-timeout", test_call_timeout },
        { "certificate-files", test_certificate_files },
        { "tls", test_tls },
        { "many", test_many },
    };

    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/http/client-addresses", test_client_addresses);
    for (size_t i = 0; i < G_N_ELEMENTS(tests); i++) {
        g_autofree char *path = g_strconcat("/http/", tests[i].name, NULL);
        g_test_add(path, Fixture, NULL, set_up, tests[i].test, tear_down);
    }
    return g_test_run();
}
