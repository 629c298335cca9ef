/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * Where an HTTP server listens and whom a client believes: addresses, socket files, TLS.
 */
#include "http_fixture.h"

#include "../lib/tls_get.h"

#include <sys/stat.h>

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
    g_assert_true(http_call(kept, "GET", "/", NULL, NULL, 0, 30000, &fine, NULL));
    http_server_stop(g_steal_pointer(&fixture->server));
    for (size_t i = 0; i < G_N_ELEMENTS(addresses); i++) {
        g_autoptr(HttpClient) client = connect_to(addresses[i], NULL);
        g_autoptr(GError) error = NULL;
        g_auto(HttpAnswer) answer = { 0 };
        g_assert_false(http_call(client, "GET", "/", NULL, NULL, 0, 30000, &answer, &error));
        g_assert_error(error, ERR, ERR_UNREACHABLE);
        assert_has(error->message, addresses[i]);
        assert_has(error->message, "does not run");
    }
    /* A kept connection finds the restarted server. */
    fixture->server = start(fixture, (HttpServerOptions){ .address = fixture->address });
    g_auto(HttpAnswer) again = { 0 };
    g_assert_true(http_call(kept, "GET", "/", NULL, NULL, 0, 30000, &again, NULL));
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
        g_assert_true(tls_get(client, &large, &error));
        http_call(client, "POST", "/echo", NULL, body, MAX_BODY, 30000, &answer, &error);
        g_assert_no_error(error);
        g_assert_cmpstr(answer.body, ==, body);
        for (int tries = 0; tries < 20 && count == 0; tries++) { /* as tls_get() */
            g_clear_error(&error);
            http_stream(client, "/stream?lines=1000", NULL, 30, check_line, &count, &error);
        }
        g_assert_cmpint(count, ==, 1000);
        g_clear_error(&error);

        g_autoptr(HttpClient) stranger = connect_to(address, other_ca);
        g_autoptr(HttpClient) without = connect_to(address, NULL);
        g_autoptr(HttpClient) careless = http_client_new(address, NULL, true, NULL);
        http_answer_clear(&large);
        g_assert_false(tls_get(stranger, &large, &error));
        g_assert_error(error, ERR, ERR_UNREACHABLE);
        assert_has(error->message, "not trusted");
        g_clear_error(&error);
        g_assert_false(tls_get(without, &large, &error));
        assert_has(error->message, "not trusted");
        g_clear_error(&error);
        g_assert_true(tls_get(careless, &large, &error));
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

int
main(int argc, char **argv)
{
    static const Test tests[] = {
        { "socket-files", test_socket_files },
        { "busy-port", test_busy_port },
        { "nobody-there", test_nobody_there },
        { "certificate-files", test_certificate_files },
        { "tls", test_tls },
    };

    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/http/client-addresses", test_client_addresses);
    add_tests(tests, G_N_ELEMENTS(tests));
    return g_test_run();
}
