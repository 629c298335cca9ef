/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "http/server.h"
#include "base/log.h"
#include "http/tls.h"

#include <stdio.h>
#include <string.h>
#include <sys/socket.h>

#define DEFAULT_MAX_BODY (1024 * 1024)
#define DEFAULT_CONNECTIONS 200
#define DEFAULT_HANDLERS 200
#define DEFAULT_TIMEOUT_S 30
/* How much of a body over the limit is read and dropped, in multiples of the limit, so that the
 * client can read the 413, before the connection is cut. */
#define SWALLOW 16

static void
refuse_in_text(const HttpRequest *request, const GError *problem, HttpResponse *response)
{
    response->status = error_http_status(problem);
    response->body = g_strconcat(problem->message, "\n", NULL);
    response->content_type = g_strdup("text/plain; charset=utf-8");
}

static enum MHD_Result
refuse_large(Call *call)
{
    g_autoptr(GError) problem = NULL;

    error_set(&problem, ERR_TOO_LARGE, "the request's body exceeds %zu bytes",
              call->server->max_body);
    call_fill_request(call, call->server->local);
    return answer_refusal(call, problem);
}

static enum MHD_Result
refuse_words(Call *call, const char *words)
{
    g_autoptr(GError) problem = NULL;

    error_set(&problem, ERR_INVALID, "%s", words);
    call_fill_request(call, call->server->local);
    return answer_refusal(call, problem);
}

typedef struct {
    unsigned hosts, lengths, codings, credentials, types;
    bool chunked, number; /* what was sent can be understood */
    bool bad_name;
} Framing;

/* "Content-Length : 5" is a header of another name to libmicrohttpd, and not to everybody. */
static bool
is_token(const char *name)
{
    for (const char *c = name; *c != '\0'; c++)
        if (!g_ascii_isalnum(*c) && strchr("!#$%&'*+-.^_`|~", *c) == NULL)
            return false;
    return *name != '\0';
}

static enum MHD_Result
look_at_header(void *data, enum MHD_ValueKind kind, const char *name, const char *value)
{
    Framing *framing = data;

    framing->bad_name = framing->bad_name || !is_token(name);
    framing->hosts += g_ascii_strcasecmp(name, "Host") == 0;
    framing->credentials += g_ascii_strcasecmp(name, "Authorization") == 0;
    framing->types += g_ascii_strcasecmp(name, "Content-Type") == 0;
    if (g_ascii_strcasecmp(name, "Content-Length") == 0) {
        framing->lengths++;
        framing->number = *value != '\0' && value[strspn(value, "0123456789")] == '\0';
    }
    if (g_ascii_strcasecmp(name, "Transfer-Encoding") == 0) {
        framing->codings++;
        framing->chunked = g_ascii_strcasecmp(value, "chunked") == 0;
    }
    return MHD_YES;
}

static bool
has_space(const char *text)
{
    for (const char *c = text; *c != '\0'; c++)
        if ((unsigned char)*c <= ' ' || *c == 0x7f)
            return true;
    return false;
}

/* Where a request ends, what it asks for and who asks must be as clear to us as to every proxy
 * before us; libmicrohttpd takes what comes. NULL: it is clear. */
static const char *
unclear(const Call *call, const char *version)
{
    Framing framing = { 0 };

    MHD_get_connection_values(call->connection, MHD_HEADER_KIND, look_at_header, &framing);
    if (framing.codings > 1 || (framing.codings == 1 && !framing.chunked))
        return "Transfer-Encoding can only be chunked";
    if (framing.lengths > 1 || (framing.lengths == 1 && !framing.number))
        return "Content-Length must be one number";
    if (framing.lengths == 1 && framing.codings == 1)
        return "there must be only one of Content-Length and Transfer-Encoding";
    if (framing.hosts > 1 || (framing.hosts == 0 && strcmp(version, "HTTP/1.1") == 0))
        return "there must be one header Host";
    if (framing.credentials > 1 || framing.types > 1)
        return "there must be only one header Authorization, and one Content-Type";
    if (framing.bad_name)
        return "the name of a header can only be letters, digits and !#$%&'*+-.^_`|~";
    if (has_space(call->raw_path) || has_space(call->query))
        return "the path and what comes behind it can have no space";
    return NULL;
}

/* ---- requests ---- */

Deadline *
deadline_of(struct MHD_Connection *connection)
{
    const union MHD_ConnectionInfo *info =
        MHD_get_connection_info(connection, MHD_CONNECTION_INFO_SOCKET_CONTEXT);

    return info->socket_context;
}

static void
on_connection(void *data, struct MHD_Connection *connection, void **context,
              enum MHD_ConnectionNotificationCode code)
{
    HttpServer *server = data;

    if (code == MHD_CONNECTION_NOTIFY_STARTED) {
        tls_serve(&server->pair); /* the handshake comes next, on this thread */
        const union MHD_ConnectionInfo *info =
            MHD_get_connection_info(connection, MHD_CONNECTION_INFO_CONNECTION_FD);
        *context = deadlines_add(server->deadlines, info->connect_fd);
    } else if (*context != NULL) { /* before its socket is closed */
        deadlines_remove(server->deadlines, *context);
        *context = NULL;
    }
}

/* Headers are here, no body yet. An answer that is queued before the body was read makes
 * libmicrohttpd read none and close the connection after it ("Connection: close"). */
static enum MHD_Result
begin(Call *call, const char *method, const char *version)
{
    const char *problem = unclear(call, version);
    const char *length =
        MHD_lookup_connection_value(call->connection, MHD_HEADER_KIND, "Content-Length");
    const char *coding =
        MHD_lookup_connection_value(call->connection, MHD_HEADER_KIND, "Transfer-Encoding");
    uint64_t announced = length == NULL ? 0 : g_ascii_strtoull(length, NULL, 10);

    call->begun = true;
    call->method = method;
    call->drain = announced > 0 || coding != NULL; /* unset again when the body was read */
    if (call->path == NULL)
        problem = "the path is not percent-encoded UTF-8 without NUL";
    if (problem != NULL)
        return refuse_words(call, problem);
    if (call->drain && (strcmp(method, "GET") == 0 || strcmp(method, "HEAD") == 0 ||
                        strcmp(method, "DELETE") == 0))
        return dispatch(call); /* that body means nothing and may never come */
    if (announced > call->server->max_body)
        return refuse_large(call);
    return MHD_YES;
}

static enum MHD_Result
take_body(Call *call, const char *part, size_t size)
{
    if (call->swallowed > 0 || call->body->len + size > call->server->max_body) {
        g_byte_array_set_size(call->body, 0);
        call->swallowed += size;
        return call->swallowed / SWALLOW <= call->server->max_body ? MHD_YES : MHD_NO;
    }
    g_byte_array_append(call->body, (const guint8 *)part, (guint)size);
    return MHD_YES;
}

static enum MHD_Result
on_request(void *data, struct MHD_Connection *connection, const char *url, const char *method,
           const char *version, const char *part, size_t *part_size, void **context)
{
    Call *call = *context;

    if (call->answered)
        return answer_send(call, &call->answer);
    if (!call->begun)
        return begin(call, method, version);
    if (*part_size > 0) {
        size_t size = *part_size;
        *part_size = 0;
        return take_body(call, part, size);
    }
    call->drain = false;
    return call->swallowed > 0 ? refuse_large(call) : dispatch(call);
}

/* The request line is here: the only place where the path is seen as it came. */
static void *
on_uri(void *data, const char *uri, struct MHD_Connection *connection)
{
    return call_new(data, connection, uri);
}

/* libmicrohttpd closes the socket next; its copy keeps the connection open for a while. */
static void
drain(const Call *call)
{
    int fd = call_dup_socket(call);

    if (fd >= 0)
        g_thread_pool_push(call->server->drainers, GINT_TO_POINTER(fd + 1), NULL);
}

static void
on_completed(void *data, struct MHD_Connection *connection, void **context,
             enum MHD_RequestTerminationCode code)
{
    HttpServer *server = data;
    Call *call = *context;

    *context = NULL;
    if (call == NULL)
        return;
    if (call->drain && code == MHD_REQUEST_TERMINATED_COMPLETED_OK)
        drain(call);
    call_free(call);
    deadline_wait(server->deadlines, deadline_of(connection));
}

static size_t
leave_escapes(void *data, struct MHD_Connection *connection, char *text)
{
    return strlen(text);
}

static void
on_log(void *data, const char *format, va_list args)
{
    char line[512];

    /* Who followed a stream has left: so do all, some day. */
    if (g_str_has_prefix(format, "Failed to send the chunked response body"))
        return;
    /* Broken connections and refused handshakes: the other side's matter. */
    vsnprintf(line, sizeof line, format, args); /* NOLINT: the format is libmicrohttpd's */
    log_debug("http: %s", g_strchomp(line));
}

/* ---- start and stop ---- */

static struct MHD_Daemon *
start_daemon(HttpServer *server, const HttpServerOptions *options)
{
    unsigned flags = MHD_USE_EPOLL_INTERNAL_THREAD | MHD_ALLOW_SUSPEND_RESUME | MHD_USE_ITC |
                     MHD_USE_ERROR_LOG | (server->tls ? MHD_USE_TLS : 0);
    unsigned connections =
        options->max_connections == 0 ? DEFAULT_CONNECTIONS : options->max_connections;
    /* One address may take half of the places; unix peers are not told apart. */
    unsigned per_address = server->local ? 0 : (connections + 1) / 2;
    struct MHD_OptionItem tls[] = {
        { MHD_OPTION_HTTPS_CERT_CALLBACK, 0, (void *)tls_retrieve },
        { MHD_OPTION_HTTPS_PRIORITIES, 0, (void *)TLS_PRIORITY },
        { MHD_OPTION_END, 0, NULL },
    };

    return MHD_start_daemon(
        flags, 0, NULL, NULL, on_request, server, MHD_OPTION_EXTERNAL_LOGGER, on_log, server,
        MHD_OPTION_LISTEN_SOCKET, server->listener.fd, MHD_OPTION_CONNECTION_LIMIT, connections,
        MHD_OPTION_PER_IP_CONNECTION_LIMIT, per_address, MHD_OPTION_CONNECTION_TIMEOUT,
        server->timeout_s, MHD_OPTION_URI_LOG_CALLBACK, on_uri, server,
        MHD_OPTION_UNESCAPE_CALLBACK, leave_escapes, server, MHD_OPTION_NOTIFY_COMPLETED,
        on_completed, server, MHD_OPTION_NOTIFY_CONNECTION, on_connection, server, MHD_OPTION_ARRAY,
        server->tls ? tls : &tls[G_N_ELEMENTS(tls) - 1], MHD_OPTION_END);
}

static void
free_parts(HttpServer *server)
{
    tls_pair_free(server->pair);
    g_ptr_array_unref(server->old_pairs);
    feeds_free(server->feeds);
    dispatch_free(server);
    deadlines_free(server->deadlines);
}

HttpServer *
http_server_start(const HttpServerOptions *options, HttpHandler handler, void *data, GError **error)
{
    g_autofree HttpServer *server = g_new0(HttpServer, 1);

    server->handler = handler;
    server->refuse = options->refuse != NULL ? options->refuse : refuse_in_text;
    server->data = data;
    server->max_body = options->max_body == 0 ? DEFAULT_MAX_BODY : options->max_body;
    server->timeout_s = options->timeout_s == 0 ? DEFAULT_TIMEOUT_S : options->timeout_s;
    server->local = g_str_has_prefix(options->address, "unix:");
    server->tls = options->tls_cert != NULL || options->tls_key != NULL;
    if (server->tls) {
        server->pair = tls_pair_new(options->tls_cert, options->tls_key, error);
        if (server->pair == NULL)
            return NULL;
    }
    if (!listener_open(options->address, options->group, &server->listener, error)) {
        tls_pair_free(server->pair);
        return NULL;
    }
    server->old_pairs = g_ptr_array_new_with_free_func((GDestroyNotify)tls_pair_free);
    server->deadlines = deadlines_new(2 * server->timeout_s);
    server->feeds = feeds_new(server);
    server->max_handlers = options->max_handlers == 0 ? DEFAULT_HANDLERS : options->max_handlers;
    dispatch_begin(server);
    server->daemon = start_daemon(server, options); /* closes the socket, also if it fails */
    if (server->daemon == NULL) {
        free_parts(server);
        listener_remove(&server->listener);
        error_set(error, ERR_INTERNAL,
                  "the HTTP server on %s could not be started (LIVEMERGE_DEBUG=1 shows why)",
                  options->address);
        return NULL;
    }
    return g_steal_pointer(&server);
}

bool
http_server_set_certificate(HttpServer *server, const char *cert, const char *key, GError **error)
{
    TlsPair *pair = tls_pair_new(cert, key, error);

    if (pair == NULL)
        return false;
    WITH_LOCK(&server->lock);
    g_ptr_array_add(server->old_pairs, g_atomic_pointer_get(&server->pair));
    g_atomic_pointer_set(&server->pair, pair);
    return true;
}

unsigned
http_server_port(const HttpServer *server)
{
    return server->listener.port;
}

bool
http_server_stopping(const HttpServer *server)
{
    return server != NULL && g_atomic_int_get(&server->stopping) != 0;
}

void
http_server_stopping_set(HttpServer *server)
{
    g_atomic_int_set(&server->stopping, 1);
}

void
http_server_wake(HttpServer *server)
{
    feeds_wake(server->feeds);
}

void
http_server_stop(HttpServer *server)
{
    if (server == NULL)
        return;
    http_server_stopping_set(server);
    listener_remove(&server->listener); /* new clients are told "not running" from now on */
    dispatch_end(server);
    feeds_end(server->feeds);
    MHD_stop_daemon(server->daemon); /* shuts every socket down and joins its thread */
    free_parts(server);
    g_free(server);
}
