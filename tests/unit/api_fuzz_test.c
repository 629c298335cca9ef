/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * An HTTP fuzzer: requests that are nearly right, and such as are not, to the real server with all
 * its routes. Whatever comes, it answers or hangs up, says 500 to nothing, goes on answering others
 * and keeps no descriptor. Each case is made from its own seed:
 *
 *     LM_FUZZ_SECONDS=600 build/tests/unit/api_fuzz_test    longer than in make test
 *     LM_FUZZ_SEED=4711 build/tests/unit/api_fuzz_test      one case, as a failure prints it
 */
#include "api/openapi.h"
#include "api_world.h"
#include "base/log.h"

#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/un.h>
#include <unistd.h>

#define SECONDS 6
#define LOOK_EVERY 64 /* cases */
#define PATIENCE_MS 250

static World world;
static volatile guint32 seed;

/* ---- making a case ---- */

static guint32
below(GRand *dice, guint32 n)
{
    return (guint32)g_rand_int_range(dice, 0, (gint32)n);
}

#define PICK(dice, words) ((words)[below(dice, G_N_ELEMENTS(words))])

static char *
some_path(GRand *dice, const Route *route)
{
    static const char *const ids[] = { VM_ID, SNAP_1, DISK_A,   "None",  "%00",
                                       "%ff", "..",   ";max=1", "x%2fy", "" };
    static const char *const tails[] = { "",
                                         "",
                                         "",
                                         "",
                                         "?",
                                         "?max=-1",
                                         "?search=name%3D",
                                         ";max",
                                         "?follow=a.b.c,,",
                                         "?operations=true&x=%zz",
                                         "/",
                                         "//.." };
    g_auto(GStrv) words = g_strsplit(route->path, "/", -1);

    for (char **word = words; *word != NULL; word++)
        if (g_str_equal(*word, "*")) {
            bool vm = word > words && g_str_equal(word[-1], "vms") && below(dice, 4) > 0;
            g_free(*word);
            *word = g_strdup(vm ? VM_ID : PICK(dice, ids));
        }
    g_autofree char *joined = g_strjoinv("/", words);
    return g_strconcat("/ovirt-engine/api/", joined, PICK(dice, tails), NULL);
}

static const char *
some_body(GRand *dice, const Route *route)
{
    static const char *const bodies[] = {
        "",
        "{}",
        "<action/>",
        "<action><async>false</async></action>",
        "{\"async\":",
        "\xff\xfe",
        "<snapshot><description>x</description><description>y</description></snapshot>",
        "<!DOCTYPE a [<!ENTITY b 'c'>]><action>&b;</action>",
        "[[[[[[[[",
        "{\"a\":1e999}"
    };

    for (const Note *note = api_notes; below(dice, 2) > 0 && note->method != NULL; note++)
        if (note->example != NULL && g_str_equal(note->path, route->path) &&
            g_str_equal(note->method, route->method))
            return note->example;
    return PICK(dice, bodies);
}

static void
put_chunks(GRand *dice, GString *out, const char *body)
{
    static const char *const sizes[] = { "0", "-1", "fffffffffffffffff", "g", "5;x=y", " 3", "" };

    g_string_append(out, "Transfer-Encoding: chunked\r\n\r\n");
    while (*body != '\0') {
        size_t wanted = 1 + below(dice, 40), part = MIN(strlen(body), wanted);
        if (below(dice, 8) == 0)
            g_string_append(out, PICK(dice, sizes));
        else
            g_string_append_printf(out, "%zx", part);
        g_string_append(out, "\r\n");
        g_string_append_len(out, body, (gssize)part);
        g_string_append(out, "\r\n");
        body += part;
    }
    g_string_append(out, below(dice, 4) > 0 ? "0\r\n\r\n" : "0\r\nX: y\r\n\r\n");
}

static void
put_request(GRand *dice, GString *out)
{
    static const char *const methods[] = { "GET",     "HEAD",  "POST", "PUT",  "DELETE",
                                           "OPTIONS", "PATCH", "get",  "G\tT", "" };
    static const char *const versions[] = { "HTTP/1.1", "HTTP/1.1", "HTTP/1.1", "HTTP/1.0",
                                            "HTTP/2.0", "HTTP/1",   "" };
    static const char *const headers[] = { "",
                                           "",
                                           "",
                                           "Accept: application/json\r\n",
                                           "Content-Type: application/json\r\n",
                                           "Content-Type: text/plain\r\n",
                                           "Expect: 100-continue\r\n",
                                           "Accept: ,;q=,*/*;q=x\r\n",
                                           "Authorization: Basic !!!\r\n",
                                           "Cookie: livemerge-session=x; =;;\r\n",
                                           "Version: 99\r\n",
                                           "Origin: null\r\n",
                                           "Content-Length: 7\r\n",
                                           "X\r\n",
                                           ": \r\n",
                                           "A: b\r\n c\r\n",
                                           "Correlation-Id: \xff\r\n",
                                           "Accept-Encoding: gzip;q=0,gzip\r\n" };
    guint32 routes = 0;

    while (api_routes[routes].method != NULL)
        routes++;
    const Route *route = &api_routes[below(dice, routes)];
    g_autofree char *path = some_path(dice, route);
    const char *body = some_body(dice, route);
    const char *method = below(dice, 6) > 0 ? route->method : PICK(dice, methods);

    g_string_append_printf(out, "%s %s %s\r\nHost: x\r\n%s%s", method, path, PICK(dice, versions),
                           PICK(dice, headers), PICK(dice, headers));
    if (below(dice, 4) == 0)
        put_chunks(dice, out, body);
    else
        g_string_append_printf(out, "Content-Length: %zu\r\n\r\n%s",
                               strlen(body) + (below(dice, 8) == 0 ? below(dice, 9) : 0), body);
}

static void
spoil(GRand *dice, GString *out)
{
    static const char *const words[] = { "\r\n",
                                         "\r\n\r\n",
                                         "\n",
                                         "\r",
                                         " ",
                                         "%00",
                                         "%",
                                         "?",
                                         ":",
                                         "\xff",
                                         "Content-Length: 99999999999999999999\r\n",
                                         "Transfer-Encoding: chunked\r\n",
                                         "HTTP/1.1",
                                         "\t",
                                         "<" };
    gssize at = (gssize)below(dice, (guint32)out->len);
    gssize wanted = (gssize)below(dice, 30), size = MIN(wanted, (gssize)out->len - at);

    switch (below(dice, 5)) {
    case 0:
        out->str[at] = (char)(out->str[at] ^ (1 << below(dice, 8)));
        break;
    case 1:
        g_string_erase(out, at, size);
        break;
    case 2: {
        g_autofree char *again = g_memdup2(out->str + at, (gsize)size);
        g_string_insert_len(out, at, again, size);
        break;
    }
    case 3:
        g_string_insert(out, at, PICK(dice, words));
        break;
    default:
        g_string_insert_c(out, at, (char)below(dice, 256));
        break;
    }
}

static GString *
make_case(GRand *dice)
{
    GString *out = g_string_new(NULL);

    for (guint32 n = below(dice, 4) == 0 ? 1 + below(dice, 5) : 1; n > 0; n--)
        put_request(dice, out); /* several: one behind the other, not waiting */
    for (guint32 n = below(dice, 3) == 0 ? 0 : below(dice, 6); n > 0 && out->len > 0; n--)
        spoil(dice, out);
    if (below(dice, 5) == 0)
        g_string_truncate(out, below(dice, (guint32)out->len + 1));
    return out;
}

/* ---- playing it ---- */

static int
dial(void)
{
    struct sockaddr_un where = { .sun_family = AF_UNIX };
    const struct timeval patience = { .tv_usec = PATIENCE_MS * 1000 };
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

    g_snprintf(where.sun_path, sizeof where.sun_path, "%s/api", world.dir);
    if (connect(fd, (struct sockaddr *)&where, sizeof where) != 0)
        g_error("seed %u: the server is gone: %s", seed, g_strerror(errno));
    setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience);
    return fd;
}

static void
say(GRand *dice, int fd, const GString *bytes)
{
    gsize at = 0;

    while (at < bytes->len) {
        gsize part =
            below(dice, 3) > 0 ? bytes->len - at : 1 + below(dice, (guint32)(bytes->len - at));
        ssize_t sent = send(fd, bytes->str + at, part, MSG_NOSIGNAL);
        if (sent <= 0)
            return;
        at += (gsize)sent;
    }
}

/* Until it hangs up or is silent: it may well wait for more. */
static void
hear(int fd, const GString *sent)
{
    static const char internal[] = "HTTP/1.1 500 ";
    g_autoptr(GString) heard = g_string_new(NULL);
    char part[4096];
    ssize_t size;

    while (heard->len < 65536 && (size = recv(fd, part, sizeof part, 0)) > 0)
        g_string_append_len(heard, part, size);
    if (heard->len > 0 && !g_str_has_prefix(heard->str, "HTTP/1."))
        g_error("seed %u: the answer is no HTTP: %.200s", seed, heard->str);
    if (memmem(heard->str, heard->len, internal, strlen(internal)) != NULL)
        g_error("seed %u: it failed:\n%s\n\nand answered:\n%.2000s", seed, sent->str, heard->str);
}

static void
play(guint32 number)
{
    seed = number;
    GRand *dice = g_rand_new_with_seed(number);
    g_autoptr(GString) bytes = make_case(dice);
    autofd int fd = dial();

    say(dice, fd, bytes);
    if (below(dice, 4) > 0) {
        shutdown(fd, SHUT_WR);
        hear(fd, bytes);
    }
    g_rand_free(dice);
}

/* ---- what must hold ---- */

static void
assert_answers(void)
{
    gint64 began = g_get_monotonic_time();

    json_call(&world, "GET", PATH("/vms"), NULL, 200);
    if (g_get_monotonic_time() - began > 20 * G_TIME_SPAN_SECOND)
        g_error("up to seed %u: others are answered late", seed);
}

static unsigned
descriptors(void)
{
    g_autoptr(GDir) open = g_dir_open("/proc/self/fd", 0, NULL);
    unsigned n = 0;

    while (g_dir_read_name(open) != NULL)
        n++;
    return n;
}

static void
assert_no_descriptors(unsigned before)
{
    for (int i = 0; i < 1000 && descriptors() > before + 4; i++)
        g_usleep(10000); /* it notices those who have gone */
    if (descriptors() > before + 4)
        g_error("%u descriptors were open before, now %u", before, descriptors());
}

static void
test_fuzz(void)
{
    const char *only = g_getenv("LM_FUZZ_SEED"), *seconds = g_getenv("LM_FUZZ_SECONDS");
    gint64 until =
        g_get_monotonic_time() + (seconds != NULL ? atoi(seconds) : SECONDS) * G_TIME_SPAN_SECOND;
    guint32 number = only != NULL ? (guint32)strtoul(only, NULL, 10) : g_random_int();
    guint32 first = number;

    assert_answers();
    unsigned before = descriptors();
    do {
        play(number++);
        if ((number - first) % LOOK_EVERY == 0)
            assert_answers();
    } while (only == NULL && g_get_monotonic_time() < until);
    assert_answers();
    assert_no_descriptors(before);
    g_test_message("%u cases from seed %u on", number - first, first);
}

/* A crash is in another thread: it must still be told which case it was. */
static void
tell_seed(int number)
{
    char text[64] = "\n# seed ";
    size_t at = strlen(text);
    char digits[16];
    size_t n = 0;

    for (guint32 rest = seed; rest > 0 || n == 0; rest /= 10)
        digits[n++] = (char)('0' + rest % 10);
    while (n > 0)
        text[at++] = digits[--n];
    text[at++] = '\n';
    if (write(STDERR_FILENO, text, at) < 0)
        _exit(2);
    signal(number, SIG_DFL);
    raise(number);
}

int
main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    log_init("api_fuzz_test");
    signal(SIGSEGV, tell_seed);
    signal(SIGBUS, tell_seed);
    signal(SIGABRT, tell_seed);
    world_start(&world);
    g_test_add_func("/api/fuzz", test_fuzz);
    int failed = g_test_run();
    world_stop(&world);
    return failed;
}
