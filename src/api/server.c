/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "api/api.h"

#include "api/access.h"
#include "api/audit.h"
#include "api/certificate.h"
#include "api/doors.h"
#include "api/metrics.h"
#include "api/routes.h"
#include "api/xml.h"
#include "base/clock.h"
#include "base/log.h"
#include "page/page.h"
#include "people/pam.h"

#include <arpa/inet.h>
#include <errno.h>
#include <glib/gstdio.h>
#include <grp.h>
#include <pwd.h>
#include <string.h>

/* Most of them are streams, which cost little (api/hub.h); half of them for one address. */
#define CONNECTIONS 3000

struct ApiServer {
    Api api;
    HttpServer *tcp;   /* NULL = none */
    HttpServer *local; /* NULL = none */
    bool has_group;
    gid_t group;
    char *where;
};

/* ---- what may be listened on ---- */

/* "[::1]:8443" → "::1" and 8443 */
static bool
split_address(const char *listen, char **ret_host, int64_t *ret_port, GError **error)
{
    const char *colon = strrchr(listen, ':');
    gint64 port;

    if (colon == NULL || colon == listen ||
        !g_ascii_string_to_signed(colon + 1, 10, 0, 65535, &port, NULL)) {
        error_set(error, ERR_INVALID,
                  "[manager] listen: '%s' is no ADDRESS:PORT, as 127.0.0.1:8443", listen);
        return false;
    }
    bool brackets = *listen == '[' && colon[-1] == ']';
    *ret_host = brackets ? g_strndup(listen + 1, (gsize)(colon - listen - 2))
                         : g_strndup(listen, (gsize)(colon - listen));
    *ret_port = port;
    return true;
}

static bool
is_loopback(const char *host)
{
    struct in_addr v4;
    struct in6_addr v6;

    if (inet_pton(AF_INET, host, &v4) == 1)
        return (ntohl(v4.s_addr) >> 24) == 127;
    if (inet_pton(AF_INET6, host, &v6) == 1)
        return IN6_IS_ADDR_LOOPBACK(&v6);
    return g_str_equal(host, "localhost");
}

static bool
check_listen(const ApiOptions *options, GError **error)
{
    g_autofree char *host = NULL;
    int64_t port;

    if (*options->listen == '\0')
        return true;
    if (!split_address(options->listen, &host, &port, error))
        return false;
    return options->tls || is_loopback(host) ||
           error_set(
               error, ERR_INVALID,
               "[manager] listen: '%s' can be reached from other machines, and tls = no would "
               "send passwords over the network as they are; set tls = yes, or listen on "
               "127.0.0.1:PORT or [::1]:PORT",
               options->listen);
}

static bool
given(const char *text)
{
    return text != NULL && *text != '\0';
}

static bool
check_file(const char *key, const char *path, GError **error)
{
    if (!given(path) || g_access(path, R_OK) == 0)
        return true;
    return error_set(error, ERR_INVALID, "[manager] %s: %s: %s", key, path, g_strerror(errno));
}

static bool
check_tls(const ApiOptions *options, GError **error)
{
    if (given(options->tls_ca) && !given(options->tls_cert))
        return error_set(error, ERR_INVALID,
                         "[manager] tls_ca names the authority of tls_cert, which is not set");
    if (given(options->tls_cert) != given(options->tls_key))
        return error_set(error, ERR_INVALID,
                         "[manager] tls_cert and tls_key: set both or none of them");
    if (given(options->tls_cert) && !options->tls)
        return error_set(error, ERR_INVALID, "[manager] tls_cert is set, but tls = no");
    return check_file("tls_cert", options->tls_cert, error) &&
           check_file("tls_key", options->tls_key, error) &&
           check_file("tls_ca", options->tls_ca, error);
}

bool
api_options_check(const ApiOptions *options, GError **error)
{
    Role role;

    if (!check_listen(options, error))
        return false;
    if (given(options->group_role) && !role_from_word(options->group_role, &role))
        return error_set(error, ERR_INVALID,
                         "[manager] group_role: '%s' is none of administrator, operator, viewer, "
                         "none",
                         options->group_role);
    if (given(options->password) && !g_str_equal(options->password, "own") &&
        !g_str_equal(options->password, "pam"))
        return error_set(error, ERR_INVALID, "[people] password: '%s' is neither own nor pam",
                         options->password);
    if (g_strcmp0(options->password, "pam") == 0 && !pam_is_there())
        return pam_refuse(error);
    if (!check_tls(options, error))
        return false;
    if (given(options->socket) && *options->socket != '/')
        return error_set(error, ERR_INVALID, "[manager] socket: '%s' is no absolute path",
                         options->socket);
    if (!given(options->listen) && !given(options->socket))
        return error_set(error, ERR_INVALID,
                         "[manager] neither listen nor socket is set: nobody could reach it");
    return true;
}

/* ---- who may use the socket ---- */

static bool
in_group(uid_t uid, gid_t primary, gid_t wanted)
{
    gid_t groups[256];
    int n = G_N_ELEMENTS(groups);
    struct passwd entry, *found = NULL;
    char buffer[16384];

    if (primary == wanted)
        return true;
    if (getpwuid_r(uid, &entry, buffer, sizeof buffer, &found) != 0 || found == NULL ||
        getgrouplist(found->pw_name, found->pw_gid, groups, &n) < 0)
        return false;
    for (int i = 0; i < n; i++)
        if (groups[i] == wanted)
            return true;
    return false;
}

static bool
peer_allowed(const ApiServer *server, const HttpRequest *request)
{
    if (!request->local || request->peer_uid == 0 || request->peer_uid == geteuid())
        return true;
    return server->has_group && in_group(request->peer_uid, request->peer_gid, server->group);
}

static void
say_forbidden(HttpResponse *response, const char *why)
{
    g_autoptr(json_t) fault = json_pack("{s:s, s:s, s:s}", "detail", why, "reason",
                                        "Operation Failed", "code", "forbidden");

    response->status = 403;
    response->body = xml_write("fault", fault);
    response->body_size = strlen(response->body);
    response->content_type = g_strdup("application/xml;charset=UTF-8");
}

/* About the server itself; true: it has been answered. */
static bool
answer_asterisk(const HttpRequest *request, HttpResponse *response)
{
    g_autoptr(GError) problem = NULL;

    if (!g_str_equal(request->path, "*"))
        return false;
    if (!http_response_allow(request, response, "GET, HEAD, POST, PUT, DELETE, OPTIONS")) {
        error_set(&problem, ERR_METHOD, "%s is not possible on *; OPTIONS is", request->method);
        api_refuse(request, problem, response);
    }
    return true;
}

static void
answer_known(ApiServer *server, const Who *who, const HttpRequest *request, HttpResponse *response)
{
    if (!g_str_equal(request->path, METRICS_PATH))
        api_answer(&server->api, who, request, response);
    else if (!role_has(who->role, RIGHT_READ))
        say_forbidden(response, "[/metrics tells of all VMs: it needs the role viewer]");
    else
        metrics_answer(&server->api, request, response);
}

static void
answer(const HttpRequest *request, HttpResponse *response, void *data)
{
    ApiServer *server = data;
    int64_t began = clock_mono_us();
    g_autoptr(GError) problem = NULL;
    g_autoptr(Who) who = NULL;

    if (!peer_allowed(server, request))
        say_forbidden(response, "[only root and the configured group may use this socket]");
    else if (access_is_foreign(&server->api, request))
        say_forbidden(response, "[web pages of other origins may not use this API]");
    else if (!answer_asterisk(request, response) && !page_answer(request, response) &&
             !doors_answer(&server->api, request, response)) {
        who = access_who(&server->api, request, &problem);
        if (who != NULL) {
            answer_known(server, who, request, response);
        } else {
            api_refuse(request, problem, response);
            access_challenge(request, problem, response);
        }
    }
    if (response->is_time == NULL) /* else it is counted when it is answered */
        metrics_count(server->api.meter, request, response, began);
}

/* ---- start and stop ---- */

static bool
start_tcp(ApiServer *server, const ApiOptions *options, GError **error)
{
    g_autofree char *host = NULL;
    int64_t port;

    if (!given(options->listen))
        return true;
    if (!split_address(options->listen, &host, &port, error))
        return false;
    /* "localhost" may mean more to the resolver than we have checked */
    const char *numeric = g_str_equal(host, "localhost") ? "127.0.0.1" : host;
    bool v6 = strchr(numeric, ':') != NULL;
    Certificate *tls = NULL;
    if (options->tls &&
        (tls = certificate_new(server->api.manager, options, numeric, error)) == NULL)
        return false;
    server->api.certificate = tls;
    server->api.ca = tls != NULL ? g_strdup(certificate_ca(tls)) : NULL;
    g_autofree char *address = g_strdup_printf(v6 ? "[%s]:%d" : "%s:%d", numeric, (int)port);
    HttpServerOptions http = { .address = address,
                               .tls_cert = tls != NULL ? certificate_pem(tls) : NULL,
                               .tls_key = tls != NULL ? certificate_key(tls) : NULL,
                               .max_connections = CONNECTIONS,
                               .refuse = api_refuse };
    g_atomic_pointer_set(&server->tcp, http_server_start(&http, answer, server, error));
    if (server->tcp == NULL)
        return false;
    if (tls != NULL)
        certificate_watch(tls, server->tcp);
    g_free(server->where);
    server->where =
        g_strdup_printf(v6 ? "%s://[%s]:%u" : "%s://%s:%u", options->tls ? "https" : "http",
                        numeric, http_server_port(server->tcp));
    return true;
}

static void
find_group(ApiServer *server, const char *name)
{
    struct group entry, *found = NULL;
    char buffer[16384];

    if (!given(name))
        return;
    if (getgrnam_r(name, &entry, buffer, sizeof buffer, &found) == 0 && found != NULL) {
        server->has_group = true;
        server->group = found->gr_gid;
    }
}

static bool
start_local(ApiServer *server, const ApiOptions *options, GError **error)
{
    if (!given(options->socket))
        return true;
    find_group(server, options->group);
    g_autofree char *directory = g_path_get_dirname(options->socket);
    if (g_mkdir_with_parents(directory, 0755) < 0)
        return error_set_errno(error, "making the directory %s", directory);
    g_autofree char *address = g_strconcat("unix:", options->socket, NULL);
    HttpServerOptions http = { .address = address,
                               .group = server->has_group ? options->group : NULL,
                               .max_connections = CONNECTIONS,
                               .refuse = api_refuse };
    g_atomic_pointer_set(&server->local, http_server_start(&http, answer, server, error));
    if (server->local == NULL)
        return false;
    char *where = g_strconcat(server->where, *server->where != '\0' ? " and " : "", address, NULL);
    g_free(server->where);
    server->where = where;
    return true;
}

static void
wake_streams(void *data)
{
    ApiServer *server = data;

    for (int i = 0; i < 2; i++) {
        HttpServer *http = g_atomic_pointer_get(i == 0 ? &server->tcp : &server->local);
        if (http != NULL)
            http_server_wake(http);
    }
}

static People *
open_people(Manager *manager, const ApiOptions *options, GError **error)
{
    const char *service = given(options->pam_service) ? options->pam_service : "livemerge";
    const PeopleOptions people = {
        .pam_service = g_strcmp0(options->password, "pam") == 0 ? service : NULL,
        .pam_dir = options->pam_dir,
    };

    return people_open(manager_store(manager), &people, error);
}

ApiServer *
api_server_start(Manager *manager, const ApiOptions *options, GError **error)
{
    ApiServer *server;

    if (!api_options_check(options, error))
        return NULL;
    xml_init();
    server = g_new0(ApiServer, 1);
    server->api.manager = manager;
    server->api.cache = cache_new(manager);
    server->api.people = open_people(manager, options, error);
    server->api.hub = hub_new(manager, server->api.people, wake_streams, server);
    server->api.audit = audit_new();
    server->api.tls = options->tls;
    server->api.group_role = ROLE_ADMINISTRATOR;
    if (given(options->group_role))
        role_from_word(options->group_role, &server->api.group_role);
    server->api.meter = metrics_new();
    server->where = g_strdup("");
    if (server->api.people == NULL || !start_tcp(server, options, error) ||
        !start_local(server, options, error)) {
        api_server_stop(server);
        return NULL;
    }
    return server;
}

const char *
api_server_where(const ApiServer *server)
{
    return server->where;
}

bool
api_server_can_sign_in(const ApiServer *server)
{
    return people_ready(server->api.people);
}

void
api_server_stop(ApiServer *server)
{
    if (server == NULL)
        return;
    g_atomic_int_set(&server->api.stopping, 1);
    hub_end(server->api.hub);
    certificate_end(server->api.certificate);
    if (server->tcp != NULL)
        http_server_stop(server->tcp);
    if (server->local != NULL)
        http_server_stop(server->local);
    certificate_free(server->api.certificate);
    hub_free(server->api.hub);
    people_close(server->api.people);
    audit_free(server->api.audit);
    cache_free(server->api.cache);
    meter_free(server->api.meter);
    g_free(server->api.ca);
    g_free(server->where);
    g_free(server);
}
