/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * When a server gives back what its requests have left in the heap. libc's malloc_trim() is
 * counted here in place of being called.
 */
#include "http_fixture.h"

#include <malloc.h>

static int trimmed; /* atomic: times */

int
malloc_trim(size_t keep)
{
    return g_atomic_int_add(&trimmed, 1);
}

static void
ask(HttpClient *client, int times)
{
    for (int i = 0; i < times; i++) {
        g_auto(HttpAnswer) answer = { 0 };
        g_autoptr(GError) error = NULL;

        http_call(client, "GET", "/", NULL, NULL, 0, 30000, &answer, &error);
        g_assert_no_error(error);
    }
}

static void
assert_trimmed(int times)
{
    gint64 until = g_get_monotonic_time() + LONG_S * G_TIME_SPAN_SECOND;

    while (g_atomic_int_get(&trimmed) < times) {
        if (g_get_monotonic_time() > until)
            g_error("nobody asks any more, and the heap was trimmed %d times, not %d", trimmed,
                    times);
        g_usleep(10 * 1000);
    }
}

static void
test_calm(Fixture *fixture, gconstpointer data)
{
    g_autoptr(HttpClient) client = connect_to(fixture->address, NULL);

    ask(client, 1000);
    assert_trimmed(1);
    ask(client, 1); /* one answer can be large */
    assert_trimmed(2);
    if (g_atomic_int_get(&trimmed) > 100) /* more than one for a pause of this machine */
        g_error("the heap was trimmed %d times for 1001 requests", trimmed);
}

/* It is not waited for when the server stops. */
static void
test_stopped_before(Fixture *fixture, gconstpointer data)
{
    g_autoptr(HttpClient) client = connect_to(fixture->address, NULL);
    gint64 began;

    ask(client, 1000);
    began = g_get_monotonic_time();
    http_server_stop(fixture->server);
    assert_quick(began, "stopping");
    fixture->server =
        start(fixture, (HttpServerOptions){ .address = fixture->address, .timeout_s = 1 });
}

int
main(int argc, char **argv)
{
    static const Test tests[] = {
        { "calm", test_calm },
        { "stopped-before", test_stopped_before },
    };

    g_test_init(&argc, &argv, NULL);
    add_tests(tests, G_N_ELEMENTS(tests));
    return g_test_run();
}
