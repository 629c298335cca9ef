/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "base/log.h"
#include "http/deadline.h"
#include "http/http.h"
#include "http/listen.h"
#include "http/request.h"
#include "http/tls.h"

#include <stdio.h>
#include <string.h>
#include <sys/socket.h>

#define DEFAULT_MAX_BODY (1024 * 1024)
#define DEFAULT_CONNECTIONS 200
#define DEFAULT_TIMEOUT_S 30
/* A stream says something at least every 10 s, so its connection must not time out sooner. */
#define STREAM_TIMEOUT_S 30
#define STREAM_BLOCK 16384
/* How much of a body over the limit is read and dropped, in multiples of the limit, so that the
 * client can read the 413, before the connection is cut. */
#define SWALLOW 16
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define STACK_SIZE (2 * 1024 * 1024)
#else
#define STACK_SIZE (256 * 1024)
#endif

struct HttpServer {
    struct MHD_Daemon *daemon;
    HttpHandler handler;
    HttpRefusal refuse;
    void *data;
    size_t max_body;
    unsigned timeout_s;
    bool local;
    bool tls;
    int stopping; /* atomic */
    Listener listener;
    Deadlines *deadlines; /* for requests to be wholly there */
};

/* ---- answers ---- */

void
http_response_header(HttpResponse *response, const char *name, const char *value)
{
    if (response->headers == NULL)
        response->headers = g_ptr_array_new_with_free_func(g_free);
    g_ptr_array_add(response->headers, g_strdup(name));
    g_ptr_array_add(response->headers, g_strdup(value));
}

typedef struct {
    HttpServer *server;
    ssize_t (*next)(void *data, char *buf, size_t max);
    void *data;
    GDestroyNotify free_data;
} Stream;

static ssize_t
stream_next(void *data, uint64_t position, char *buf, size_t max)
{
    Stream *stream = data;
    ssize_t got = -1;

    if (!http_server_stopping(stream->server))
        got = stream->next(stream->data, buf, max);
    if (got < 0)
        return MHD_CONTENT_READER_END_WITH_ERROR;
    return got == 0 ? MHD_CONTENT_READER_END_OF_STREAM : got;
}

static void
stream_free(void *data)
{
    Stream *stream = data;

    if (stream->free_data != NULL)
        stream->free_data(stream->data);
    g_free(stream);
}

static struct MHD_Response *
make_stream(Call *call, const HttpResponse *answer)
{
    Stream *stream = g_new0(Stream, 1);

    stream->server = call->server;
    stream->next = answer->stream;
    stream->data = answer->stream_data;
    stream->free_data = answer->stream_free;
    MHD_set_connection_option(call->connection, MHD_CONNECTION_OPTION_TIMEOUT,
                              MAX(STREAM_TIMEOUT_S, call->server->timeout_s));
    return MHD_create_response_from_callback(MHD_SIZE_UNKNOWN, STREAM_BLOCK, stream_next, stream,
                                             stream_free);
}

static void
add_headers(struct MHD_Response *made, const HttpResponse *answer)
{
    bool cache = false;

    for (guint i = 0; answer->headers != NULL && i + 1 < answer->headers->len; i += 2) {
        const char *name = answer->headers->pdata[i];
        cache = cache || g_ascii_strcasecmp(name, "Cache-Control") == 0;
        if (MHD_add_response_header(made, name, answer->headers->pdata[i + 1]) != MHD_YES)
            log_warn("the answer's header %s has a value that HTTP cannot carry, ignoring", name);
    }
    if (!cache)
        MHD_add_response_header(made, "Cache-Control", "no-store");
    MHD_add_response_header(made, "X-Content-Type-Options", "nosniff");
    if (answer->content_type != NULL)
        MHD_add_response_header(made, "Content-Type", answer->content_type);
}

/* Takes what the answer holds. */
static enum MHD_Result
send_answer(Call *call, HttpResponse *answer)
{
    size_t size = answer->body_size;
    struct MHD_Response *made = NULL;

    if (answer->body != NULL && size == 0)
        size = strlen(answer->body);
    if (answer->stream != NULL)
        made = make_stream(call, answer);
    else
        made = MHD_create_response_from_buffer_with_free_callback(
            size, answer->body == NULL ? g_strdup("") : g_steal_pointer(&answer->body), g_free);
    add_headers(made, answer);
    enum MHD_Result queued = MHD_queue_response(
        call->connection, answer->status == 0 ? 500 : (unsigned)answer->status, made);
    MHD_destroy_response(made);
    g_free(answer->body);
    g_free(answer->content_type);
    g_clear_pointer(&answer->headers, g_ptr_array_unref);
    return queued;
}

static void
refuse_in_text(const HttpRequest *request, const GError *problem, HttpResponse *response)
{
    response->status = error_http_status(problem);
    response->body = g_strconcat(problem->message, "\n", NULL);
    response->content_type = g_strdup("text/plain; charset=utf-8");
}

static enum MHD_Result
refuse(Call *call, const char *method, const GError *problem)
{
    HttpResponse answer = { 0 };
    HttpRequest request = { .method = method,
                            .path = call->path != NULL ? call->path : "",
                            .query = call->query,
                            .body = "",
                            .connection = call,
                            .server = call->server };

    call_find_peer(call, call->server->local, &request);
    call->server->refuse(&request, problem, &answer);
    return send_answer(call, &answer);
}

static enum MHD_Result
refuse_large(Call *call, const char *method)
{
    g_autoptr(GError) problem = NULL;

    error_set(&problem, ERR_TOO_LARGE, "the request's body exceeds %zu bytes",
              call->server->max_body);
    return refuse(call, method, problem);
}

static enum MHD_Result
refuse_path(Call *call, const char *method)
{
    g_autoptr(GError) problem = NULL;

    error_set(&problem, ERR_INVALID, "the path is not percent-encoded UTF-8 without NUL");
    return refuse(call, method, problem);
}

/* ---- requests ---- */

/* Of the connection, since it was opened */
static Deadline *
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
        const union MHD_ConnectionInfo *info =
            MHD_get_connection_info(connection, MHD_CONNECTION_INFO_CONNECTION_FD);
        *context = deadlines_add(server->deadlines, info->connect_fd);
    } else if (*context != NULL) { /* before its socket is closed */
        deadlines_remove(server->deadlines, *context);
        *context = NULL;
    }
}

static enum MHD_Result
handle(Call *call, const char *method)
{
    HttpRequest request = { .method = method,
                            .path = call->path,
                            .query = call->query,
                            .body_size = call->body->len,
                            .connection = call,
                            .server = call->server };
    HttpResponse answer = { 0 };

    deadline_rest(call->server->deadlines, deadline_of(call->connection));
    g_byte_array_append(call->body, (const guint8 *)"", 1);
    request.body = (const char *)call->body->data;
    call_find_peer(call, call->server->local, &request);
    call->server->handler(&request, &answer, call->server->data);
    return send_answer(call, &answer);
}

/* Headers are here, no body yet. An answer that is queued now makes libmicrohttpd read no body
 * and close the connection after it ("Connection: close"). */
static enum MHD_Result
begin(Call *call, const char *method)
{
    const char *length =
        MHD_lookup_connection_value(call->connection, MHD_HEADER_KIND, "Content-Length");
    const char *coding =
        MHD_lookup_connection_value(call->connection, MHD_HEADER_KIND, "Transfer-Encoding");
    uint64_t announced = length == NULL ? 0 : g_ascii_strtoull(length, NULL, 10);

    call->begun = true;
    call->drain = announced > 0 || coding != NULL; /* unset again when the body was read */
    if (call->path == NULL)
        return refuse_path(call, method);
    if (call->drain && (strcmp(method, "GET") == 0 || strcmp(method, "HEAD") == 0 ||
                        strcmp(method, "DELETE") == 0))
        return handle(call, method); /* that body means nothing and may never come */
    if (announced > call->server->max_body)
        return refuse_large(call, method);
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

    if (!call->begun)
        return begin(call, method);
    if (*part_size > 0) {
        size_t size = *part_size;
        *part_size = 0;
        return take_body(call, part, size);
    }
    call->drain = false;
    return call->swallowed > 0 ? refuse_large(call, method) : handle(call, method);
}

/* The request line is here: the only place where the path is seen as it came. */
static void *
on_uri(void *data, const char *uri, struct MHD_Connection *connection)
{
    return call_new(data, connection, uri);
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
        call_drain(call, !server->tls);
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

    /* Broken connections and refused handshakes: the other side's matter. */
    vsnprintf(line, sizeof line, format, args); /* NOLINT: the format is libmicrohttpd's */
    log_debug("http: %s", g_strchomp(line));
}

/* ---- start and stop ---- */

static struct MHD_Daemon *
start_daemon(HttpServer *server, const HttpServerOptions *options)
{
    unsigned flags = MHD_USE_INTERNAL_POLLING_THREAD | MHD_USE_THREAD_PER_CONNECTION | MHD_USE_ITC |
                     MHD_USE_ERROR_LOG | (server->tls ? MHD_USE_TLS : 0);
    unsigned connections =
        options->max_connections == 0 ? DEFAULT_CONNECTIONS : options->max_connections;
    /* One address may take half of the places; unix peers are not told apart. */
    unsigned per_address = server->local ? 0 : (connections + 1) / 2;
    struct MHD_OptionItem tls[] = {
        { MHD_OPTION_HTTPS_MEM_CERT, 0, (void *)options->tls_cert },
        { MHD_OPTION_HTTPS_MEM_KEY, 0, (void *)options->tls_key },
        { MHD_OPTION_HTTPS_PRIORITIES, 0, (void *)TLS_PRIORITY },
        { MHD_OPTION_END, 0, NULL },
    };

    /* No MHD_USE_POLL: libmicrohttpd 0.9.75 then spins through the last second of a time-out. */
    return MHD_start_daemon(
        flags, 0, NULL, NULL, on_request, server, MHD_OPTION_EXTERNAL_LOGGER, on_log, server,
        MHD_OPTION_LISTEN_SOCKET, server->listener.fd, MHD_OPTION_CONNECTION_LIMIT, connections,
        MHD_OPTION_PER_IP_CONNECTION_LIMIT, per_address, MHD_OPTION_CONNECTION_TIMEOUT,
        server->timeout_s, MHD_OPTION_THREAD_STACK_SIZE, (size_t)STACK_SIZE,
        MHD_OPTION_URI_LOG_CALLBACK, on_uri, server, MHD_OPTION_UNESCAPE_CALLBACK, leave_escapes,
        server, MHD_OPTION_NOTIFY_COMPLETED, on_completed, server, MHD_OPTION_NOTIFY_CONNECTION,
        on_connection, server, MHD_OPTION_ARRAY, server->tls ? tls : &tls[G_N_ELEMENTS(tls) - 1],
        MHD_OPTION_END);
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
    if (server->tls && !tls_check_pair(options->tls_cert, options->tls_key, error))
        return NULL;
    if (!listener_open(options->address, options->group, &server->listener, error))
        return NULL;
    server->deadlines = deadlines_new(2 * server->timeout_s);
    server->daemon = start_daemon(server, options); /* closes the socket, also if it fails */
    if (server->daemon == NULL) {
        deadlines_free(server->deadlines);
        listener_remove(&server->listener);
        error_set(error, ERR_INTERNAL,
                  "the HTTP server on %s could not be started (LIVEMERGE_DEBUG=1 shows why)",
                  options->address);
        return NULL;
    }
    return g_steal_pointer(&server);
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
http_server_stop(HttpServer *server)
{
    if (server == NULL)
        return;
    http_server_stopping_set(server);
    listener_remove(&server->listener); /* new clients are told "not running" from now on */
    MHD_stop_daemon(server->daemon);    /* shuts every socket down and joins every thread */
    deadlines_free(server->deadlines);
    g_free(server);
}
