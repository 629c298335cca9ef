/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * The manager's certificate: the names of its configuration, the watch over a year of virtual time
 * with clients of real TLS, making it anew on request, and the warning before one ends that is not
 * ours to renew.
 */
#include "api/certificate.h"
#include "api_world.h"

#include "../lib/tls_get.h"
#include "base/clock.h"
#include "base/log.h"

#define DAY (24 * 3600 * INT64_C(1000))
#define HOUR (3600 * INT64_C(1000))

typedef struct {
    char *dir, *cert, *key;
    Store *store;
    Manager *manager;
    Certificate *certificate;
    HttpServer *server;
} Place;

static void
say_hello(const HttpRequest *request, HttpResponse *response, void *data)
{
    response->status = 200;
    response->body = g_strdup("hello");
}

/* own: that of state_dir, else the same files as somebody else's */
static void
place_open(Place *p, const char *names, bool own)
{
    const ApiOptions options = { .state_dir = p->dir,
                                 .names = names,
                                 .tls = true,
                                 .tls_cert = own ? NULL : p->cert,
                                 .tls_key = own ? NULL : p->key };
    g_autoptr(GError) error = NULL;

    p->certificate = certificate_new(p->manager, &options, "192.0.2.1", &error);
    g_assert_no_error(error);
    HttpServerOptions http = { .address = "127.0.0.1:0",
                               .tls_cert = certificate_pem(p->certificate),
                               .tls_key = certificate_key(p->certificate) };
    p->server = http_server_start(&http, say_hello, NULL, &error);
    g_assert_no_error(error);
    certificate_watch(p->certificate, p->server);
}

static void
place_close(Place *p)
{
    certificate_end(p->certificate);
    http_server_stop(p->server);
    certificate_free(p->certificate);
}

static void
place_init(Place *p)
{
    g_autoptr(GError) error = NULL;

    p->dir = g_dir_make_tmp("livemerge-certificate-XXXXXX", NULL);
    p->cert = g_build_filename(p->dir, "cert.pem", NULL);
    p->key = g_build_filename(p->dir, "key.pem", NULL);
    g_autofree char *database = g_build_filename(p->dir, "manager.db", NULL);
    g_autofree char *nobody = g_strconcat("unix:", p->dir, "/agent", NULL);
    const HostConfig host = { "h1", nobody, NULL };
    p->store = store_open(database, &error);
    g_assert_no_error(error);
    p->manager = manager_new(p->store, &host, 1, &error);
    g_assert_no_error(error);
}

static void
place_clear(Place *p)
{
    manager_free(p->manager);
    store_close(p->store);
    remove_all(p->dir);
    g_free(p->dir);
    g_free(p->cert);
    g_free(p->key);
}

/* ---- what there is ---- */

static char *
serial_of(const Place *p)
{
    g_auto(CertificateView) view = { 0 };
    g_autoptr(GError) error = NULL;

    certificate_view(p->certificate, &view, &error);
    g_assert_no_error(error);
    return g_strdup(view.served.serial);
}

/* Of the certificate that a new connection gets, as openssl sees and verifies it */
static char *
seen_by_openssl(const Place *p)
{
    g_autofree char *line = g_strdup_printf(
        "openssl s_client -connect 127.0.0.1:%u -CAfile %s/ca.pem -verify_return_error -verify_ip "
        "127.0.0.1 </dev/null 2>/dev/null | openssl x509 -noout -serial",
        http_server_port(p->server), p->dir);
    const char *const argv[] = { "sh", "-c", line, NULL };
    char *said = NULL;
    g_autoptr(GError) error = NULL;

    g_spawn_sync(NULL, (char **)argv, NULL, G_SPAWN_SEARCH_PATH, NULL, NULL, &said, NULL, NULL,
                 &error);
    g_assert_no_error(error);
    return said;
}

static void
assert_seen(const Place *p, const char *serial)
{
    g_autofree char *said = seen_by_openssl(p);
    g_auto(GStrv) bytes = g_strsplit(serial, ":", -1);
    g_autofree char *plain = g_strjoinv("", bytes);
    g_autofree char *wanted = g_strdup_printf("serial=%s\n", plain);

    g_assert_cmpstr(said, ==, wanted);
}

static char *
wait_for_another(const Place *p, const char *serial)
{
    int64_t until = g_get_monotonic_time() + 30 * G_TIME_SPAN_SECOND;

    for (;;) {
        g_autofree char *now = serial_of(p);
        if (!g_str_equal(now, serial))
            return g_steal_pointer(&now);
        g_assert_cmpint(g_get_monotonic_time(), <, until);
        g_usleep(2000);
    }
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

/* ---- names ---- */

static void
test_names(void)
{
    static const struct {
        const char *configured, *names;
    } rows[] = {
        { "host.example.org, 192.0.2.7,2001:db8::7",
          "host.example.org 192.0.2.7 2001:db8::7 localhost 127.0.0.1 ::1" },
        { "  host.example.org  host.example.org ,localhost",
          "host.example.org localhost 127.0.0.1 ::1" },
        { "", NULL }, /* this machine's name, and where it listens */
    };

    for (size_t i = 0; i < G_N_ELEMENTS(rows); i++) {
        Place p = { 0 };
        g_auto(CertificateView) view = { 0 };
        const char *host = g_get_host_name();
        bool local = g_str_equal(host, "localhost");
        g_autofree char *own =
            g_strdup_printf("%s 192.0.2.1%s 127.0.0.1 ::1", host, local ? "" : " localhost");
        place_init(&p);
        place_open(&p, rows[i].configured, true);
        g_assert_true(certificate_view(p.certificate, &view, NULL));
        g_autofree char *names = g_strjoinv(" ", view.served.names);
        g_assert_cmpstr(names, ==, rows[i].names != NULL ? rows[i].names : own);
        g_assert_true(view.is_own);
        g_assert_null(view.why_not);
        place_close(&p);
        place_clear(&p);
    }
}

/* ---- the watch ---- */

/* A year goes by in a moment: what is wanted is there after an hour's look, for new connections,
 * while one that is open goes on. The authority stays. */
static void
test_watch(void)
{
    Place p = { 0 };
    int64_t now = g_get_real_time() / 1000;

    clock_fake(now - 340 * DAY);
    place_init(&p);
    place_open(&p, "host.example.org", true);
    g_autofree char *first = serial_of(&p), *ca = g_build_filename(p.dir, "ca.pem", NULL);
    g_autofree char *address = g_strdup_printf("https://127.0.0.1:%u", http_server_port(p.server));
    g_autoptr(HttpClient) open = http_client_new(address, ca, false, NULL);
    g_assert_true(hears(open));
    assert_seen(&p, first);

    clock_fake_advance(340 * DAY - HOUR);
    certificate_wake(p.certificate);
    g_autofree char *second = wait_for_another(&p, first);
    assert_seen(&p, second);
    g_assert_true(hears(open));

    /* what somebody else has put there is taken an hour later */
    static const char *const names[] = { "other.example.org", "127.0.0.1", NULL };
    g_autoptr(GError) error = NULL;
    g_assert_true(http_renew_certificate(p.dir, names, &error));
    assert_seen(&p, second);
    clock_fake_advance(HOUR);
    certificate_wake(p.certificate);
    g_autofree char *third = wait_for_another(&p, second);
    assert_seen(&p, third);

    /* on request at once, though it is not due */
    g_assert_true(certificate_renew(p.certificate, &error));
    g_assert_no_error(error);
    g_autofree char *fourth = serial_of(&p);
    g_assert_cmpstr(fourth, !=, third);
    assert_seen(&p, fourth);
    g_assert_true(hears(open));

    /* but not without the authority's key */
    g_autofree char *ca_key = g_build_filename(p.dir, "ca-key.pem", NULL);
    g_unlink(ca_key);
    g_assert_false(certificate_renew(p.certificate, &error));
    g_assert_error(error, ERR, ERR_REFUSED);
    g_assert_nonnull(strstr(error->message, ca_key));
    assert_seen(&p, fourth);
    place_close(&p);
    place_clear(&p);
}

/* ---- one that is not ours ---- */

/* How many events tell of the end of the certificate; the newest one's text and severity */
static unsigned
warnings(const Place *p, char **ret_said, char **ret_severity)
{
    g_autoptr(GPtrArray) rows = store_event_list(p->store, 0, -1, true, NULL);
    unsigned n = 0;

    for (guint i = 0; i < rows->len; i++) {
        const EventRow *row = rows->pdata[i];
        if (strstr(row->text, "TLS certificate") == NULL)
            continue;
        n++;
        g_free(*ret_said);
        g_free(*ret_severity);
        *ret_said = g_strdup(row->text);
        *ret_severity = g_strdup(row->severity);
    }
    return n;
}

static void
wait_for_warnings(const Place *p, unsigned wanted, const char *severity, const char *says)
{
    g_autofree char *said = NULL, *how = NULL;
    int64_t until = g_get_monotonic_time() + 30 * G_TIME_SPAN_SECOND;

    while (warnings(p, &said, &how) < wanted) {
        g_assert_cmpint(g_get_monotonic_time(), <, until);
        g_usleep(2000);
    }
    g_assert_cmpuint(warnings(p, &said, &how), ==, wanted);
    if (wanted == 0)
        return;
    g_assert_cmpstr(how, ==, severity);
    if (strstr(said, says) == NULL || strstr(said, p->cert) == NULL)
        g_error("the warning says '%s', wanted '%s' and %s", said, says, p->cert);
}

/* It is told once a month before its end, once a week before, and once when it is over; not each
 * hour. New files are taken. */
static void
test_not_ours(void)
{
    Place p = { 0 }, other = { 0 };
    g_autoptr(GError) error = NULL;
    g_autofree char *pem = NULL, *key = NULL;

    clock_fake(g_get_real_time() / 1000);
    place_init(&p);
    place_open(&p, "", true);
    place_close(&p);
    place_open(&p, "", false);
    g_assert_false(certificate_renew(p.certificate, &error));
    g_assert_error(error, ERR, ERR_REFUSED);
    g_assert_nonnull(strstr(error->message, p.cert));
    g_assert_nonnull(strstr(error->message, p.key));
    g_clear_error(&error);
    wait_for_warnings(&p, 0, NULL, NULL);
    static const struct {
        int days;
        const char *severity, *says;
    } steps[] = { { 336, "warning", "ends on " },
                  { 23, "alert", "ends on " },
                  { 7, "alert", "has ended on " } };
    for (unsigned i = 0; i < G_N_ELEMENTS(steps); i++) {
        clock_fake_advance(steps[i].days * DAY);
        certificate_wake(p.certificate);
        wait_for_warnings(&p, i + 1, steps[i].severity, steps[i].says);
        for (int again = 0; again < 3; again++) {
            clock_fake_advance(HOUR);
            certificate_wake(p.certificate);
        }
    }
    /* another one in its place */
    place_init(&other);
    place_open(&other, "", true);
    g_assert_true(g_file_get_contents(other.cert, &pem, NULL, NULL) &&
                  g_file_get_contents(other.key, &key, NULL, NULL));
    g_assert_true(g_file_set_contents(p.key, key, -1, NULL));
    g_assert_false(certificate_renew(p.certificate, &error)); /* half of it is there */
    g_clear_error(&error);
    g_assert_true(g_file_set_contents(p.cert, pem, -1, NULL));
    g_assert_true(certificate_renew(p.certificate, &error));
    g_assert_no_error(error);
    g_autofree char *now = serial_of(&p), *wanted = serial_of(&other);
    g_assert_cmpstr(now, ==, wanted);
    wait_for_warnings(&p, 3, "alert", "has ended on ");
    place_close(&other);
    place_clear(&other);
    place_close(&p);
    place_clear(&p);
}

int
main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    log_init("api_certificate_test");
    g_test_add_func("/api/certificate/names", test_names);
    /* from here on the clock stands still */
    g_test_add_func("/api/certificate/watch", test_watch);
    g_test_add_func("/api/certificate/not-ours", test_not_ours);
    return g_test_run();
}
