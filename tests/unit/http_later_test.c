/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * Answers that come later (http.h): however many wait, they hold no thread and starve nobody.
 */
#include "http/http.h"

#include <arpa/inet.h>
#include <glib/gstdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>

#define WAITING 60 /* with two threads for handlers */
#define PLACES 100 /* over TCP: one address may have half of them */

typedef struct {
    char *dir, *address;
    HttpServer *server;
    int time;    /* atomic: it is */
    int begun;   /* atomic: handlers that want to answer later */
    int freed;   /* atomic: what belongs to them */
    int stopped; /* atomic: those that answered because the server stops */
    int again;   /* atomic: so many want to answer later still */
    int held;    /* atomic: those that have waited do not end */
    int back;    /* atomic: so many of them have begun to answer */
} Fixture;

static bool
is_time(void *data)
{
    const Fixture *f = data;

    return g_atomic_int_get(&f->time) != 0;
}

static void answer(const HttpRequest *request, void *data, HttpResponse *response);
static void count_freed(void *data);

static void
want_later(Fixture *f, HttpResponse *response)
{
    response->is_time = is_time;
    response->later = answer;
    response->stream_data = f;
    response->stream_free = count_freed;
}

static void
answer(const HttpRequest *request, void *data, HttpResponse *response)
{
    Fixture *f = data;

    if (http_server_stopping(request->server))
        g_atomic_int_inc(&f->stopped);
    else if (g_atomic_int_add(&f->again, -1) > 0) {
        want_later(f, response);
        return;
    }
    g_atomic_int_inc(&f->back);
    while (g_atomic_int_get(&f->held) != 0)
        g_usleep(1000);
    response->status = 202;
    response->body = g_strdup_printf("%s, at last", http_query(request, "n"));
}

static void
count_freed(void *data)
{
    Fixture *f = data;

    g_atomic_int_inc(&f->freed);
}

static void
on_request(const HttpRequest *request, HttpResponse *response, void *data)
{
    Fixture *f = data;

    response->status = 200;
    if (!g_str_equal(request->path, "/later"))
        return;
    want_later(f, response);
    g_atomic_int_inc(&f->begun);
}

static void
set_up(Fixture *f, gconstpointer data)
{
    g_autoptr(GError) error = NULL;

    f->dir = g_dir_make_tmp("livemerge-http-XXXXXX", &error);
    g_assert_no_error(error);
    f->address = g_strdup_printf("unix:%s/socket", f->dir);
    HttpServerOptions options = { .address = f->address, .max_handlers = 2 };
    f->server = http_server_start(&options, on_request, f, &error);
    g_assert_no_error(error);
}

static void
set_up_tcp(Fixture *f, gconstpointer data)
{
    HttpServerOptions options = { .address = "127.0.0.1:0", .max_handlers = PLACES };
    g_autoptr(GError) error = NULL;

    f->dir = g_dir_make_tmp("livemerge-http-XXXXXX", &error);
    g_assert_no_error(error);
    f->server = http_server_start(&options, on_request, f, &error);
    g_assert_no_error(error);
    f->address = g_strdup_printf("http://127.0.0.1:%u", http_server_port(f->server));
}

static void
tear_down(Fixture *f, gconstpointer data)
{
    http_server_stop(f->server);
    g_rmdir(f->dir);
    g_free(f->dir);
    g_free(f->address);
}

static int
dial(const Fixture *f)
{
    struct sockaddr_in tcp = { .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
    struct sockaddr_un local = { .sun_family = AF_UNIX };
    bool is_local = g_str_has_prefix(f->address, "unix:");
    int fd = socket(is_local ? AF_UNIX : AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

    tcp.sin_port = htons((uint16_t)http_server_port(f->server));
    g_strlcpy(local.sun_path, f->address + strlen("unix:"), sizeof local.sun_path);
    if (is_local)
        g_assert_cmpint(connect(fd, (struct sockaddr *)&local, sizeof local), ==, 0);
    else
        g_assert_cmpint(connect(fd, (struct sockaddr *)&tcp, sizeof tcp), ==, 0);
    return fd;
}

static int
ask_later(const Fixture *f, int n)
{
    const struct timeval patience = { .tv_sec = 20 };
    int fd = dial(f);
    g_autofree char *text =
        g_strdup_printf("GET /later?n=%d HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n", n);

    setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience);
    g_assert_cmpint(send(fd, text, strlen(text), 0), ==, (ssize_t)strlen(text));
    return fd;
}

static void
wait_for(const int *count, int wanted)
{
    for (int i = 0; i < 2000 && g_atomic_int_get(count) < wanted; i++)
        g_usleep(10000);
    g_assert_cmpint(g_atomic_int_get(count), ==, wanted);
}

static void
ask_all(Fixture *f, int fds[WAITING])
{
    for (int i = 0; i < WAITING; i++)
        fds[i] = ask_later(f, i);
    wait_for(&f->begun, WAITING); /* by two threads */
}

static void
assert_soon(const Fixture *f)
{
    g_autoptr(HttpClient) client = http_client_new(f->address, NULL, false, NULL);
    g_auto(HttpAnswer) soon = { 0 };
    g_autoptr(GError) error = NULL;

    http_call(client, "GET", "/now", NULL, NULL, 0, 30000, &soon, &error);
    g_assert_no_error(error);
    g_assert_cmpint(soon.status, ==, 200);
}

static void
assert_answered(int fd, int n)
{
    g_autoptr(GString) heard = g_string_new(NULL);
    g_autofree char *wanted = g_strdup_printf("\r\n\r\n%d, at last", n);
    char part[1024];
    ssize_t size;

    while ((size = recv(fd, part, sizeof part, 0)) > 0)
        g_string_append_len(heard, part, size);
    if (!g_str_has_prefix(heard->str, "HTTP/1.1 202 ") || !g_str_has_suffix(heard->str, wanted))
        g_error("request %d was answered: %s", n, heard->str);
    close(fd);
}

static void
test_nobody_starves(Fixture *f, gconstpointer data)
{
    int fds[WAITING];

    ask_all(f, fds);
    for (int i = 0; i < 10; i++)
        assert_soon(f);
    g_assert_cmpint(g_atomic_int_get(&f->freed), ==, 0);
    g_atomic_int_set(&f->time, 1);
    for (int i = 0; i < WAITING; i++)
        assert_answered(fds[i], i);
    g_assert_cmpint(g_atomic_int_get(&f->freed), ==, WAITING);
}

/* All at once, and more than one address may ask for: others of that address are not turned away
 * for it. */
static void
test_woken_together(Fixture *f, gconstpointer data)
{
    int fds[WAITING];

    for (int i = 0; i < WAITING; i++) {
        fds[i] = ask_later(f, i);
        wait_for(&f->begun, i + 1);
    }
    g_atomic_int_set(&f->held, 1);
    g_atomic_int_set(&f->time, 1);
    wait_for(&f->back, WAITING);
    assert_soon(f);
    g_atomic_int_set(&f->held, 0);
    for (int i = 0; i < WAITING; i++)
        assert_answered(fds[i], i);
}

static void
test_at_once(Fixture *f, gconstpointer data)
{
    g_atomic_int_set(&f->time, 1);
    assert_answered(ask_later(f, 7), 7);
}

/* Who looks, and finds that it is not yet time, waits once more. */
static void
test_again(Fixture *f, gconstpointer data)
{
    g_atomic_int_set(&f->time, 1);
    g_atomic_int_set(&f->again, 3);
    assert_answered(ask_later(f, 8), 8);
    g_assert_cmpint(g_atomic_int_get(&f->again), ==, -1);
    g_assert_cmpint(g_atomic_int_get(&f->freed), ==, 4);
}

/* All are answered, though it is not time. */
static void
test_stop(Fixture *f, gconstpointer data)
{
    int fds[WAITING];

    ask_all(f, fds);
    gint64 began = g_get_monotonic_time();
    http_server_stop(g_steal_pointer(&f->server));
    g_assert_cmpint(g_get_monotonic_time() - began, <, 15 * G_TIME_SPAN_SECOND);
    g_assert_cmpint(g_atomic_int_get(&f->stopped), ==, WAITING);
    g_assert_cmpint(g_atomic_int_get(&f->freed), ==, WAITING);
    for (int i = 0; i < WAITING; i++)
        close(fds[i]);
}

/* Who has gone is answered all the same, and nothing is left of him. */
static void
test_gone(Fixture *f, gconstpointer data)
{
    int fds[WAITING];

    ask_all(f, fds);
    for (int i = 0; i < WAITING; i++)
        close(fds[i]);
    g_atomic_int_set(&f->time, 1);
    wait_for(&f->freed, WAITING);
}

int
main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
#define TEST(name, function) \
    g_test_add("/http/later/" name, Fixture, NULL, set_up, function, tear_down)
    TEST("nobody-starves", test_nobody_starves);
    g_test_add("/http/later/woken-together", Fixture, NULL, set_up_tcp, test_woken_together,
               tear_down);
    TEST("at-once", test_at_once);
    TEST("again", test_again);
    TEST("stop", test_stop);
    TEST("gone", test_gone);
    return g_test_run();
}
