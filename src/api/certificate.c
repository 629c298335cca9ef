/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "api/certificate.h"

#include "base/clock.h"
#include "base/log.h"

#include <arpa/inet.h>
#include <ifaddrs.h>
#include <net/if.h>
#include <string.h>

#define LOOK_US (G_TIME_SPAN_HOUR)

#define WARN_DAYS 30
#define ALERT_DAYS 7
#define DAY_MS (24 * 3600 * INT64_C(1000))
#define EVENT_CERTIFICATE 30032 /* the certificate ends soon, and is not renewed */

typedef enum { ENDS_LATER, ENDS_SOON, ENDS_NOW, HAS_ENDED } Nearness;

struct Certificate {
    Manager *manager;
    char *dir; /* of our own one; NULL = it is somebody else's */
    char *cert_file, *key_file, *ca_file;
    char **names;
    HttpServer *server;
    GMutex files; /* of what follows, and of changing the files */
    char *pem, *key, *ca;
    char *told; /* the last that was said, so that it is said once */
    Nearness warned;
    GThread *thread;
    GMutex lock; /* of ended */
    GCond wake;
    bool ended;
};

static bool
given(const char *text)
{
    return text != NULL && *text != '\0';
}

/* ---- for which names ---- */

static void
add(GPtrArray *names, const char *name)
{
    if (*name != '\0' && !g_ptr_array_find_with_equal_func(names, name, g_str_equal, NULL))
        g_ptr_array_add(names, g_strdup(name));
}

/* Where the machine can be reached: not the addresses of a cable alone (link-local). */
static void
add_interfaces(GPtrArray *names)
{
    struct ifaddrs *all = NULL;

    if (getifaddrs(&all) < 0)
        return;
    for (const struct ifaddrs *one = all; one != NULL; one = one->ifa_next) {
        char text[INET6_ADDRSTRLEN];
        const struct sockaddr_in *v4 = (const void *)one->ifa_addr;
        const struct sockaddr_in6 *v6 = (const void *)one->ifa_addr;
        if (one->ifa_addr == NULL || (one->ifa_flags & IFF_UP) == 0)
            continue;
        if (one->ifa_addr->sa_family == AF_INET)
            add(names, inet_ntop(AF_INET, &v4->sin_addr, text, sizeof text));
        else if (one->ifa_addr->sa_family == AF_INET6 && !IN6_IS_ADDR_LINKLOCAL(&v6->sin6_addr))
            add(names, inet_ntop(AF_INET6, &v6->sin6_addr, text, sizeof text));
    }
    freeifaddrs(all);
}

static char **
find_names(const ApiOptions *options, const char *host)
{
    g_autoptr(GPtrArray) names = g_ptr_array_new_with_free_func(g_free);
    g_auto(GStrv) chosen = g_strsplit_set(given(options->names) ? options->names : "", ", ", -1);

    for (char **name = chosen; *name != NULL; name++)
        add(names, *name);
    if (names->len == 0) {
        add(names, g_get_host_name());
        if (g_str_equal(host, "0.0.0.0") || g_str_equal(host, "::"))
            add_interfaces(names);
        else
            add(names, host);
    }
    add(names, "localhost");
    add(names, "127.0.0.1");
    add(names, "::1");
    g_ptr_array_add(names, NULL);
    return (char **)g_ptr_array_free(g_steal_pointer(&names), FALSE);
}

/* ---- the files ---- */

static void
find_files(Certificate *certificate, const ApiOptions *options)
{
    const char *dir = options->state_dir;
    bool own = !given(options->tls_cert);

    certificate->dir = own ? g_strdup(dir) : NULL;
    certificate->cert_file =
        own ? g_build_filename(dir, "cert.pem", NULL) : g_strdup(options->tls_cert);
    certificate->key_file =
        own ? g_build_filename(dir, "key.pem", NULL) : g_strdup(options->tls_key);
    certificate->ca_file = own ? g_build_filename(dir, "ca.pem", NULL) : g_strdup(options->tls_ca);
}

/* Said once: it is looked at each hour. */
static void
tell(Certificate *certificate, const char *news)
{
    if (news != NULL && g_strcmp0(news, certificate->told) != 0)
        log_warn("%s", news);
    g_free(certificate->told);
    certificate->told = g_strdup(news);
}

static bool
keep(Certificate *certificate, GError **error)
{
    g_autofree char *news = NULL;

    if (certificate->dir != NULL &&
        !http_keep_certificate(certificate->dir, (const char *const *)certificate->names, &news,
                               error))
        return false;
    tell(certificate, news);
    return true;
}

static bool
read_files(const Certificate *certificate, char **ret_pem, char **ret_key, GError **error)
{
    g_autoptr(GError) why = NULL;

    return (g_file_get_contents(certificate->cert_file, ret_pem, NULL, &why) &&
            g_file_get_contents(certificate->key_file, ret_key, NULL, &why)) ||
           error_set(error, ERR_STORAGE, "the TLS certificate: %s", why->message);
}

/* If our own was removed, clients have their copy, or not. */
static bool
read_ca(Certificate *certificate, GError **error)
{
    g_autoptr(GError) why = NULL;

    return !given(certificate->ca_file) ||
           g_file_get_contents(certificate->ca_file, &certificate->ca, NULL, &why) ||
           certificate->dir != NULL ||
           error_set(error, ERR_STORAGE, "the TLS certificate: %s", why->message);
}

Certificate *
certificate_new(Manager *manager, const ApiOptions *options, const char *host, GError **error)
{
    Certificate *certificate = g_new0(Certificate, 1);

    certificate->manager = manager;
    find_files(certificate, options);
    certificate->names = find_names(options, host);
    g_mutex_init(&certificate->files);
    g_mutex_init(&certificate->lock);
    g_cond_init(&certificate->wake);
    if (keep(certificate, error) &&
        read_files(certificate, &certificate->pem, &certificate->key, error) &&
        read_ca(certificate, error))
        return certificate;
    certificate_free(certificate);
    return NULL;
}

const char *
certificate_pem(const Certificate *certificate)
{
    return certificate->pem;
}

const char *
certificate_key(const Certificate *certificate)
{
    return certificate->key;
}

const char *
certificate_ca(const Certificate *certificate)
{
    return certificate->ca;
}

/* ---- what is served ---- */

void
certificate_view_clear(CertificateView *view)
{
    http_certificate_clear(&view->served);
    g_free(view->why_not);
    *view = (CertificateView){ 0 };
}

/* With files held. */
static bool
view(Certificate *certificate, CertificateView *ret, GError **error)
{
    *ret = (CertificateView){ .file = certificate->cert_file,
                              .key_file = certificate->key_file,
                              .is_own = certificate->dir != NULL };
    ret->why_not = ret->is_own ? http_certificate_lacks(certificate->dir)
                               : g_strdup("it is not livemerge's own ([manager] tls_cert)");
    return http_certificate_read(certificate->pem, &ret->served, error);
}

bool
certificate_view(Certificate *certificate, CertificateView *ret_view, GError **error)
{
    WITH_LOCK(&certificate->files);

    return view(certificate, ret_view, error);
}

/* If the files hold another one by now, the server gets it. With files held. */
static bool
take(Certificate *certificate, bool *ret_changed, GError **error)
{
    g_autofree char *pem = NULL, *key = NULL;

    *ret_changed = false;
    if (!read_files(certificate, &pem, &key, error))
        return false;
    if (g_str_equal(pem, certificate->pem))
        return true;
    if (!http_server_set_certificate(certificate->server, pem, key, error))
        return false;
    g_free(certificate->pem);
    certificate->pem = g_steal_pointer(&pem);
    certificate->warned = ENDS_LATER;
    log_info("new connections get another TLS certificate from now on");
    return *ret_changed = true;
}

bool
certificate_renew(Certificate *certificate, GError **error)
{
    WITH_LOCK(&certificate->files);
    bool changed = false, own = certificate->dir != NULL;

    if (own &&
        !http_renew_certificate(certificate->dir, (const char *const *)certificate->names, error))
        return false;
    return take(certificate, &changed, error) &&
           (changed || own ||
            error_set(error, ERR_REFUSED,
                      "the TLS certificate is not livemerge's own, and %s holds the one that is in "
                      "use: replace it, and its key %s, and do this again (within the hour it "
                      "happens by itself)",
                      certificate->cert_file, certificate->key_file));
}

/* ---- the watch ---- */

static Nearness
how_near(int64_t left_ms)
{
    return left_ms < 0                     ? HAS_ENDED
           : left_ms < ALERT_DAYS * DAY_MS ? ENDS_NOW
           : left_ms < WARN_DAYS * DAY_MS  ? ENDS_SOON
                                           : ENDS_LATER;
}

static char *
what_helps(const Certificate *certificate)
{
    return certificate->dir == NULL
               ? g_strdup_printf("replace %s and its key %s; new connections get them within the "
                                 "hour, or at once: livemerge certificate renew",
                                 certificate->cert_file, certificate->key_file)
               : g_strdup_printf("remove ca.pem, ca-key.pem, cert.pem and key.pem in %s, restart "
                                 "livemerge-manager, and give clients the new ca.pem",
                                 certificate->dir);
}

/* Our own one that could be renewed was, unless its authority ends with it. Once for each step
 * nearer to the end. With files held. */
static void
warn(Certificate *certificate)
{
    g_auto(CertificateView) now = { 0 };

    if (certificate->manager == NULL || !view(certificate, &now, NULL))
        return;
    int64_t left_ms = now.served.ends - clock_wall_ms();
    Nearness near = how_near(left_ms);
    g_autofree char *helps = what_helps(certificate), *when = clock_iso8601(now.served.ends);
    bool news = near > certificate->warned;
    certificate->warned = near;
    if (!news)
        return;
    when[strlen("2026-01-31")] = '\0';
    manager_event(certificate->manager, EVENT_CERTIFICATE, near > ENDS_SOON ? "alert" : "warning",
                  NULL, NULL, NULL, NULL, NULL,
                  "The TLS certificate %s %s on %s and is not renewed by itself: %s. To do: %s.",
                  certificate->cert_file, near == HAS_ENDED ? "has ended" : "ends", when,
                  now.why_not != NULL ? now.why_not : "its authority ends then, too", helps);
}

static void
look(Certificate *certificate)
{
    g_autoptr(GError) problem = NULL;
    bool changed;
    WITH_LOCK(&certificate->files);

    if (!keep(certificate, &problem) || !take(certificate, &changed, &problem))
        tell(certificate, problem->message);
    warn(certificate);
}

/* False: it ends. */
static bool
wait_until(Certificate *certificate, int64_t until)
{
    WITH_LOCK(&certificate->lock);

    while (!certificate->ended && clock_mono_us() < until)
        g_cond_wait_until(&certificate->wake, &certificate->lock,
                          g_get_monotonic_time() + until - clock_mono_us());
    return !certificate->ended;
}

static gpointer
watch(gpointer data)
{
    int64_t next;

    do {
        next = clock_mono_us() + LOOK_US; /* before: what it does takes time */
        look(data);
    } while (wait_until(data, next));
    return NULL;
}

void
certificate_watch(Certificate *certificate, HttpServer *server)
{
    certificate->server = server;
    certificate->thread = g_thread_new("certificate", watch, certificate);
}

void
certificate_wake(Certificate *certificate)
{
    WITH_LOCK(&certificate->lock);
    g_cond_signal(&certificate->wake);
}

/* ---- the end ---- */

void
certificate_end(Certificate *certificate)
{
    if (certificate == NULL || certificate->thread == NULL)
        return;
    g_mutex_lock(&certificate->lock);
    certificate->ended = true;
    g_cond_signal(&certificate->wake);
    g_mutex_unlock(&certificate->lock);
    g_thread_join(g_steal_pointer(&certificate->thread));
}

void
certificate_free(Certificate *certificate)
{
    if (certificate == NULL)
        return;
    certificate_end(certificate);
    g_mutex_clear(&certificate->lock);
    g_mutex_clear(&certificate->files);
    g_cond_clear(&certificate->wake);
    g_strfreev(certificate->names);
    g_free(certificate->dir);
    g_free(certificate->cert_file);
    g_free(certificate->key_file);
    g_free(certificate->ca_file);
    g_free(certificate->pem);
    if (certificate->key != NULL)
        explicit_bzero(certificate->key, strlen(certificate->key));
    g_free(certificate->key);
    g_free(certificate->ca);
    g_free(certificate->told);
    g_free(certificate);
}
