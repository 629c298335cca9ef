/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "http/request.h"

#include <fcntl.h>
#include <netdb.h>
#include <poll.h>
#include <string.h>
#include <sys/socket.h>

#define DRAIN_SILENCE_MS 300
#define DRAIN_SLICE_MS 100
#define DRAIN_MS 1000

/* Percent signs that are followed by no two hexadecimal digits stay as they are. The result may
 * hold NULs; its length is in *ret_length. */
static char *
decode(const char *text, size_t length, bool plus_is_space, size_t *ret_length)
{
    char *decoded = g_malloc(length + 1);
    size_t used = 0;

    for (size_t i = 0; i < length; i++) {
        if (text[i] == '%' && i + 2 < length && g_ascii_isxdigit(text[i + 1]) &&
            g_ascii_isxdigit(text[i + 2])) {
            decoded[used++] =
                (char)(g_ascii_xdigit_value(text[i + 1]) * 16 + g_ascii_xdigit_value(text[i + 2]));
            i += 2;
        } else {
            decoded[used++] = plus_is_space && text[i] == '+' ? ' ' : text[i];
        }
    }
    decoded[used] = '\0';
    *ret_length = used;
    return decoded;
}

/* NULL if it has a NUL or is not UTF-8 */
static char *
decode_path(const char *path, size_t length)
{
    size_t used = 0;
    g_autofree char *decoded = decode(path, length, false, &used);

    if (used == 0 || decoded[0] != '/' || memchr(decoded, '\0', used) != NULL ||
        !g_utf8_validate(decoded, (gssize)used, NULL))
        return NULL;
    return g_steal_pointer(&decoded);
}

/* "GET http://host/path" is allowed to be said to a server, too; without a path "/" is meant. */
static const char *
skip_origin(const char *uri)
{
    size_t scheme = strcspn(uri, ":/?");

    if (scheme == 0 || strncmp(uri + scheme, "://", 3) != 0)
        return uri;
    return uri + scheme + 3 + strcspn(uri + scheme + 3, "/?");
}

Call *
call_new(HttpServer *server, struct MHD_Connection *connection, const char *uri)
{
    Call *call = g_new0(Call, 1);
    const char *path = skip_origin(uri);
    const char *mark = strchrnul(path, '?');
    bool bare = mark == path && path != uri; /* "http://host" */

    call->server = server;
    call->connection = connection;
    call->raw_path = bare ? g_strdup("/") : g_strndup(path, (gsize)(mark - path));
    call->path =
        g_str_equal(uri, "*") ? g_strdup(uri) : decode_path(call->raw_path, strlen(call->raw_path));
    call->query = g_strdup(*mark == '?' ? mark + 1 : "");
    call->body = g_byte_array_new();
    call->values = g_ptr_array_new_with_free_func(g_free);
    return call;
}

void
call_free(Call *call)
{
    g_free(call->path);
    g_free(call->raw_path);
    g_free(call->query);
    g_free(call->peer);
    g_byte_array_unref(call->body);
    g_ptr_array_unref(call->values);
    http_response_clear(&call->answer); /* that was never sent */
    g_free(call);
}

static void
find_credentials(const Call *call, HttpRequest *request)
{
    const union MHD_ConnectionInfo *info =
        MHD_get_connection_info(call->connection, MHD_CONNECTION_INFO_CONNECTION_FD);
    struct ucred peer;
    socklen_t size = sizeof peer;

    if (info == NULL || getsockopt(info->connect_fd, SOL_SOCKET, SO_PEERCRED, &peer, &size) != 0)
        return;
    request->peer_uid = peer.uid;
    request->peer_gid = peer.gid;
    request->peer_pid = peer.pid;
}

static char *
find_address(const Call *call)
{
    char host[NI_MAXHOST] = "unknown";
    const union MHD_ConnectionInfo *info =
        MHD_get_connection_info(call->connection, MHD_CONNECTION_INFO_CLIENT_ADDRESS);

    if (info != NULL && info->client_addr != NULL) {
        socklen_t size = info->client_addr->sa_family == AF_INET6 ? sizeof(struct sockaddr_in6)
                                                                  : sizeof(struct sockaddr_in);
        getnameinfo(info->client_addr, size, host, sizeof host, NULL, 0, NI_NUMERICHOST);
    }
    return g_strdup(host);
}

void
call_fill_request(Call *call, bool local)
{
    g_byte_array_append(call->body, (const guint8 *)"", 1);
    g_free(call->peer);
    call->peer = local ? g_strdup("local") : find_address(call);
    call->request = (HttpRequest){ .method = call->method,
                                   .path = call->path != NULL ? call->path : "",
                                   .raw_path = call->raw_path,
                                   .query = call->query,
                                   .body = (const char *)call->body->data,
                                   .body_size = call->body->len - 1,
                                   .local = local,
                                   .peer_uid = (uid_t)-1,
                                   .peer_gid = (gid_t)-1,
                                   .peer = call->peer,
                                   .connection = call,
                                   .server = call->server };
    if (local)
        find_credentials(call, &call->request);
}

int
call_dup_socket(const Call *call)
{
    const union MHD_ConnectionInfo *info =
        MHD_get_connection_info(call->connection, MHD_CONNECTION_INFO_CONNECTION_FD);

    return info == NULL ? -1 : fcntl(info->connect_fd, F_DUPFD_CLOEXEC, 0);
}

void
call_drain(int take_fd, const HttpServer *server)
{
    static const size_t size = 64 * 1024;
    autofd int fd = take_fd;
    g_autofree char *dropped = g_malloc(size);
    struct pollfd wait = { .fd = fd, .events = POLLIN };
    int silence = 0;
    gint64 until = g_get_monotonic_time() + DRAIN_MS * G_TIME_SPAN_MILLISECOND;

    while (g_get_monotonic_time() < until && silence < DRAIN_SILENCE_MS &&
           !http_server_stopping(server)) {
        if (poll(&wait, 1, DRAIN_SLICE_MS) == 0)
            silence += DRAIN_SLICE_MS;
        else if (recv(fd, dropped, size, MSG_DONTWAIT) <= 0)
            return;
        else
            silence = 0;
    }
}

/* ---- look-ups for handlers ---- */

const char *
http_header(const HttpRequest *request, const char *name)
{
    Call *call = request->connection;

    if (call == NULL)
        return NULL;
    const char *value = MHD_lookup_connection_value(call->connection, MHD_HEADER_KIND, name);
    size_t length = value != NULL ? strlen(value) : 0;
    if (length == 0 || (value[length - 1] != ' ' && value[length - 1] != '\t'))
        return value;
    char *own = g_strdup(value);
    g_strchomp(own); /* white space behind it is no part of it (RFC 9110, 5.5) */
    g_ptr_array_add(call->values, own);
    return own;
}

static enum MHD_Result
join_value(void *data, enum MHD_ValueKind kind, const char *name, const char *value)
{
    const char *const *wanted = ((void **)data)[0];
    GString *all = ((void **)data)[1];

    if (g_ascii_strcasecmp(name, *wanted) == 0)
        g_string_append_printf(all, "%s%s", all->len > 0 ? ", " : "", value);
    return MHD_YES;
}

const char *
http_header_list(const HttpRequest *request, const char *name)
{
    Call *call = request->connection;
    g_autoptr(GString) all = g_string_new(NULL);
    void *data[] = { &name, all };

    if (http_header(request, name) == NULL)
        return NULL;
    MHD_get_connection_values(call->connection, MHD_HEADER_KIND, join_value, data);
    g_ptr_array_add(call->values, g_strdup(all->str));
    return call->values->pdata[call->values->len - 1];
}

/* The first "name=value" of the query, decoded; NULL if there is none */
static char *
find_value(const char *query, const char *name)
{
    for (const char *at = query; *at != '\0';) {
        const char *end = strchrnul(at, '&');
        const char *equals = memchr(at, '=', (size_t)(end - at));
        const char *name_end = equals == NULL ? end : equals;
        const char *value = equals == NULL ? end : equals + 1;
        size_t used = 0;
        g_autofree char *found = decode(at, (size_t)(name_end - at), true, &used);

        if (strlen(found) == used && strcmp(found, name) == 0)
            return decode(value, (size_t)(end - value), true, &used);
        at = *end == '&' ? end + 1 : end;
    }
    return NULL;
}

const char *
http_query(const HttpRequest *request, const char *name)
{
    Call *call = request->connection;
    g_autofree char *value = request->query == NULL ? NULL : find_value(request->query, name);

    if (value == NULL)
        return NULL;
    if (call == NULL) /* a request made up by a test: nobody else would keep it */
        return g_intern_string(value);
    g_ptr_array_add(call->values, value);
    return g_steal_pointer(&value);
}
