/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * The HTTP server and client, against each other and against raw sockets: requests, their limits
 * and time-outs.
 */
#include "http_fixture.h"

#include <errno.h>
#include <netinet/in.h>
#include <sys/stat.h>

/* ---- raw sockets ---- */

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
assert_lacks(const char *text, const char *part)
{
    if (strstr(text, part) != NULL)
        g_error("\"%s\" should not be in: %s", part, text);
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
        http_call(client, rows[i].method, rows[i].path, headers, NULL, 0, 30000, &answer, &error);
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
        http_call(client, "POST", "/echo", NULL, body, sizes[i], 30000, &answer, &error);
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
        http_call(client, "POST", rows[i].path, headers, rows[i].body, strlen(rows[i].body), 30000,
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
    g_autofree char *bare = raw_talk(fixture, "GET http://h:1?q=/vms HTTP/1.1\r\nHost: x\r\n"
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
    assert_has(bare, "GET / q=/vms x=-");
}

/* libgovirt: a GET with a body, one whose body never comes, and a DELETE with one. */
static void
test_announced_bodies(Fixture *fixture, gconstpointer data)
{
    static const char *const methods[] = { "GET", "DELETE" };
    static const char *const rests[] = { "", "<action></action>",
                                         "<action></action>GET /second HTTP/1.1\r\n\r\n" };

    start_patient(fixture);
    for (size_t m = 0; m < G_N_ELEMENTS(methods); m++) {
        for (size_t r = 0; r < G_N_ELEMENTS(rests); r++) {
            g_autofree char *request =
                g_strdup_printf("%s /first HTTP/1.1\r\nHost: x\r\nContent-Length: 17\r\n\r\n%s",
                                methods[m], rests[r]);
            int before = g_atomic_int_get(&fixture->handled);
            gint64 began = g_get_monotonic_time();
            g_autofree char *answer = raw_talk(fixture, request);
            assert_quick(began, "waiting for a body that never comes");
            g_test_message("%s", request);
            assert_has(answer, "HTTP/1.1 200 ");
            assert_has(answer, "/first");
            assert_has(answer, "Connection: close\r\n");
            assert_lacks(answer, "/second");
            g_assert_cmpint(g_atomic_int_get(&fixture->handled), ==, before + 1);
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
        /* raw_connect() has 20 s */
        g_assert_cmpint(g_get_monotonic_time() - began, <, 18 * G_USEC_PER_SEC);
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
        if (g_get_monotonic_time() - began > 60 * G_USEC_PER_SEC)
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
        http_call(client, "GET", "/", NULL, NULL, 0, 30000, &answer, &error);
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

/* ---- a peer that is busy: the kernel takes the connection, the handshake comes late ---- */

#define LATE_MS 2500 /* a connection was once given up after two seconds */

static void *
answer_late(void *listener)
{
    g_usleep(LATE_MS * 1000);
    autofd int fd = accept(GPOINTER_TO_INT(listener), NULL, NULL);

    return NULL;
}

static void
test_late_handshake(void)
{
    struct sockaddr_in address = { .sin_family = AF_INET,
                                   .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
    socklen_t size = sizeof address;
    autofd int listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    g_auto(HttpAnswer) answer = { 0 };
    g_autoptr(GError) error = NULL;

    g_assert_cmpint(bind(listener, (struct sockaddr *)&address, size), ==, 0);
    g_assert_cmpint(listen(listener, 1), ==, 0);
    g_assert_cmpint(getsockname(listener, (struct sockaddr *)&address, &size), ==, 0);
    g_autofree char *url = g_strdup_printf("https://127.0.0.1:%u", ntohs(address.sin_port));
    g_autoptr(HttpClient) client = http_client_new(url, NULL, true, &error);
    g_assert_no_error(error);
    GThread *thread = g_thread_new("late", answer_late, GINT_TO_POINTER(listener));
    g_assert_false(http_call(client, "GET", "/", NULL, NULL, 0, 30000, &answer, &error));
    g_thread_join(thread);
    g_assert_nonnull(strstr(error->message, "broke")); /* by the peer: it was waited for */
}

int
main(int argc, char **argv)
{
    static const Test tests[] = {
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
    };

    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/http/late-handshake", test_late_handshake);
    add_tests(tests, G_N_ELEMENTS(tests));
    return g_test_run();
}
