/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * A server's own certificate over the years, in virtual time, judged by openssl; and a server that
 * takes another one while it runs.
 */
#include "base/clock.h"
#include "http/http.h"

#include "../lib/tls_get.h"

#include <glib/gstdio.h>
#include <string.h>

#define DAY (24 * 3600 * INT64_C(1000))

static const char *const names[] = { "host.example.org", "192.0.2.7",   "localhost",
                                     "127.0.0.1",        "2001:db8::7", NULL };
static const char *const more[] = { "host.example.org", "other.example.org", NULL };

static char *
read_file(const char *dir, const char *name)
{
    g_autofree char *path = g_build_filename(dir, name, NULL);
    char *text = NULL;

    if (!g_file_get_contents(path, &text, NULL, NULL))
        g_error("%s is not there", path);
    return text;
}

static void
remove_dir(char *dir)
{
    static const char *const files[] = { "ca.pem", "ca-key.pem", "cert.pem", "key.pem" };

    for (size_t i = 0; i < G_N_ELEMENTS(files); i++) {
        g_autofree char *path = g_build_filename(dir, files[i], NULL);
        g_unlink(path);
    }
    g_assert_cmpint(g_rmdir(dir), ==, 0);
    g_free(dir);
}

static char *
keep(const char *dir, const char *const *for_names)
{
    g_autoptr(GError) error = NULL;
    char *news = NULL;

    http_keep_certificate(dir, for_names, &news, &error);
    g_assert_no_error(error);
    return news;
}

/* Does openssl take it at this time, for that name? */
static bool
verifies(const char *dir, const char *check, const char *name)
{
    g_autofree char *ca = g_build_filename(dir, "ca.pem", NULL);
    g_autofree char *cert = g_build_filename(dir, "cert.pem", NULL);
    g_autofree char *when = g_strdup_printf("%" G_GINT64_FORMAT, (gint64)(clock_wall_ms() / 1000));
    const char *const argv[] = { "openssl",   "verify",  "-x509_strict", "-purpose",
                                 "sslserver", "-attime", when,           "-CAfile",
                                 ca,          check,     name,           cert,
                                 NULL };
    g_autofree char *out = NULL, *said = NULL;
    g_autoptr(GError) error = NULL;
    int status = 0;

    g_spawn_sync(NULL, (char **)argv, NULL, G_SPAWN_SEARCH_PATH, NULL, NULL, &out, &said, &status,
                 &error);
    g_assert_no_error(error);
    return status == 0;
}

static void
test_renewal(void)
{
    char *dir = g_dir_make_tmp("livemerge-certificate-XXXXXX", NULL);

    clock_fake(g_get_real_time() / 1000);
    g_assert_null(keep(dir, names));
    g_autofree char *ca = read_file(dir, "ca.pem"), *key = read_file(dir, "key.pem");
    g_autofree char *first = read_file(dir, "cert.pem");
    g_assert_true(verifies(dir, "-verify_hostname", "host.example.org"));
    g_assert_true(verifies(dir, "-verify_ip", "192.0.2.7"));
    g_assert_true(verifies(dir, "-verify_ip", "2001:db8::7"));
    g_assert_false(verifies(dir, "-verify_hostname", "other.example.org"));

    clock_fake_advance(334 * DAY);
    g_assert_null(keep(dir, names));
    g_autofree char *same = read_file(dir, "cert.pem");
    g_assert_cmpstr(first, ==, same);
    /* all its years: what clients trust stays what it is */
    for (int day = 334; day < 9 * 365; day += 20) {
        clock_fake_advance(20 * DAY);
        g_free(keep(dir, names));
        g_assert_true(verifies(dir, "-verify_hostname", "host.example.org"));
    }
    g_autofree char *later = read_file(dir, "cert.pem"), *ca_later = read_file(dir, "ca.pem");
    g_autofree char *key_later = read_file(dir, "key.pem");
    g_assert_cmpstr(first, !=, later);
    g_assert_cmpstr(ca, ==, ca_later);
    g_assert_cmpstr(key, ==, key_later);

    g_autofree char *news = keep(dir, more);
    g_assert_nonnull(strstr(news, "it is not for other.example.org"));
    g_assert_true(verifies(dir, "-verify_hostname", "other.example.org"));
    g_assert_null(keep(dir, more));
    /* the authority ends, too: a new certificate would end no later, and none is made each hour */
    clock_fake_advance(2 * 365 * DAY);
    g_free(keep(dir, more));
    g_assert_null(keep(dir, more));
    remove_dir(dir);
}

static void
test_clock_and_crashes(void)
{
    char *dir = g_dir_make_tmp("livemerge-certificate-XXXXXX", NULL);
    g_autofree char *cert = g_build_filename(dir, "cert.pem", NULL);
    g_autofree char *ca_key = g_build_filename(dir, "ca-key.pem", NULL);
    g_autofree char *key = g_build_filename(dir, "key.pem", NULL);

    /* made while the clock was far ahead */
    clock_fake(g_get_real_time() / 1000 + 100 * 365 * DAY);
    g_assert_null(keep(dir, names));
    g_unlink(cert); /* died before it was written: the key and the authority stay */
    g_autofree char *ca = read_file(dir, "ca.pem");
    g_assert_null(keep(dir, names));
    g_autofree char *same_ca = read_file(dir, "ca.pem");
    g_assert_cmpstr(ca, ==, same_ca);
    clock_fake(g_get_real_time() / 1000 + 99 * 365 * DAY);
    g_autofree char *news = keep(dir, names);
    g_assert_nonnull(strstr(news, "it is not valid yet"));

    /* of an older version, which kept no key of the authority */
    g_unlink(ca_key);
    g_autofree char *before = read_file(dir, "cert.pem");
    g_autofree char *cannot = keep(dir, more);
    g_assert_nonnull(strstr(cannot, "ca-key.pem, was not kept"));
    g_autofree char *after = read_file(dir, "cert.pem");
    g_assert_cmpstr(before, ==, after);
    g_unlink(cert);
    g_autoptr(GError) error = NULL;
    char *none = NULL;
    g_assert_false(http_keep_certificate(dir, names, &none, &error));
    g_assert_error(error, ERR, ERR_EXISTS);
    remove_dir(dir);
}

/* ---- a server that goes on ---- */

static void
say_hello(const HttpRequest *request, HttpResponse *response, void *data)
{
    response->status = 200;
    response->body = g_strdup("hello");
}

static bool
hears(HttpClient *client)
{
    g_auto(HttpAnswer) answer = { 0 };
    g_autoptr(GError) error = NULL;

    if (!tls_get(client, &answer, &error))
        g_test_message("%s", error->message);
    return g_strcmp0(answer.body, "hello") == 0;
}

static HttpClient *
client_of(unsigned port, const char *dir)
{
    g_autofree char *ca = g_build_filename(dir, "ca.pem", NULL);
    g_autofree char *address = g_strdup_printf("https://127.0.0.1:%u", port);

    return http_client_new(address, ca, false, NULL);
}

static void
test_swap(void)
{
    char *dirs[2];
    char *cert[2], *key[2];
    g_autoptr(GError) error = NULL;

    for (int i = 0; i < 2; i++) {
        dirs[i] = g_dir_make_tmp("livemerge-certificate-XXXXXX", NULL);
        g_assert_null(keep(dirs[i], names));
        cert[i] = read_file(dirs[i], "cert.pem");
        key[i] = read_file(dirs[i], "key.pem");
    }
    HttpServerOptions options = { .address = "127.0.0.1:0",
                                  .tls_cert = cert[0],
                                  .tls_key = key[0] };
    HttpServer *server = http_server_start(&options, say_hello, NULL, &error);
    g_assert_no_error(error);
    g_autoptr(HttpClient) old = client_of(http_server_port(server), dirs[0]);
    g_assert_true(hears(old));
    g_assert_false(http_server_set_certificate(server, cert[1], key[0], &error));
    g_assert_error(error, ERR, ERR_INVALID);
    g_assert_true(hears(old));
    g_assert_true(http_server_set_certificate(server, cert[1], key[1], NULL));
    g_assert_true(hears(old)); /* its connection is as it was */
    g_autoptr(HttpClient) stale = client_of(http_server_port(server), dirs[0]);
    g_autoptr(HttpClient) fresh = client_of(http_server_port(server), dirs[1]);
    g_assert_false(hears(stale));
    g_assert_true(hears(fresh));
    http_server_stop(server);
    for (int i = 0; i < 2; i++) {
        remove_dir(dirs[i]);
        g_free(cert[i]);
        g_free(key[i]);
    }
}

int
main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/http/certificate/swap", test_swap);
    g_test_add_func("/http/certificate/renewal", test_renewal);
    g_test_add_func("/http/certificate/clock-and-crashes", test_clock_and_crashes);
    return g_test_run();
}
