/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * HTTP that lasts: streams, long handlers, many calls at once, and how all of them end.
 */
#include "http_fixture.h"

/* ---- streams ---- */

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
test_stop(Fixture *fixture, gconstpointer data)
{
    start_patient(fixture);
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
    static const Test tests[] = {
        { "stream", test_stream },
        { "stop", test_stop },
        { "cancel", test_cancel },
        { "long-handler", test_long_handler },
        { "call-timeout", test_call_timeout },
        { "many", test_many },
    };

    g_test_init(&argc, &argv, NULL);
    add_tests(tests, G_N_ELEMENTS(tests));
    return g_test_run();
}
