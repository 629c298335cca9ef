/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "wire/json.h"
#include "wire/wire.h"

#include <string.h>

#define CALL_TIMEOUT_MS 30000
#define EVENT_IDLE_S 30

struct WireClient {
    char *address;
    char *ca_file;
    GMutex lock;
    GPtrArray *idle;    /* HttpClients that nobody uses now */
    GPtrArray *streams; /* HttpClients that are inside wire_events(), borrowed */
    bool cancelled;
    int64_t epoch;
};

WireClient *
wire_client_new(const char *address, const char *ca_file, GError **error)
{
    /* The first connection says whether the address and the CA make sense. */
    g_autoptr(HttpClient) first = http_client_new(address, ca_file, false, error);

    if (first == NULL)
        return NULL;
    WireClient *client = g_new0(WireClient, 1);
    client->address = g_strdup(address);
    client->ca_file = g_strdup(ca_file);
    g_mutex_init(&client->lock);
    client->idle = g_ptr_array_new_with_free_func((GDestroyNotify)http_client_free);
    client->streams = g_ptr_array_new();
    g_ptr_array_add(client->idle, g_steal_pointer(&first));
    return client;
}

void
wire_client_free(WireClient *client)
{
    if (client == NULL)
        return;
    g_ptr_array_unref(client->idle);
    g_ptr_array_unref(client->streams);
    g_mutex_clear(&client->lock);
    g_free(client->address);
    g_free(client->ca_file);
    g_free(client);
}

void
wire_client_set_epoch(WireClient *client, int64_t epoch)
{
    WITH_LOCK(&client->lock);
    client->epoch = epoch;
}

void
wire_client_cancel(WireClient *client)
{
    WITH_LOCK(&client->lock);
    client->cancelled = true;
    for (guint i = 0; i < client->streams->len; i++)
        http_client_cancel(client->streams->pdata[i]);
}

/* ---- the pool ---- */

static HttpClient *
take_idle(WireClient *client, char **ret_epoch_header)
{
    WITH_LOCK(&client->lock);
    *ret_epoch_header = g_strdup_printf(WIRE_EPOCH_HEADER ": %" G_GINT64_FORMAT, client->epoch);
    if (client->idle->len == 0)
        return NULL;
    return g_ptr_array_steal_index(client->idle, client->idle->len - 1);
}

static HttpClient *
take_connection(WireClient *client, char **ret_epoch_header, GError **error)
{
    HttpClient *idle = take_idle(client, ret_epoch_header);

    return idle != NULL ? idle : http_client_new(client->address, client->ca_file, false, error);
}

static void
give_back(WireClient *client, HttpClient *connection)
{
    WITH_LOCK(&client->lock);
    g_ptr_array_add(client->idle, connection);
}

/* ---- answers ---- */

/* An answer without our error object: from the HTTP server itself, or from somebody else. */
static bool
strange_error(const WireClient *client, const HttpAnswer *answer, const char *what, GError **error)
{
    ErrorCode code = answer->status >= 500 ? ERR_UNREACHABLE : ERR_INTERNAL;

    if (answer->status == 400)
        code = ERR_INVALID;
    if (answer->status == 413)
        code = ERR_TOO_LARGE;
    return error_set(error, code, "%s answered HTTP %d to %s: %.200s", client->address,
                     answer->status, what, g_strchomp(answer->body));
}

static bool
error_answer(const WireClient *client, const HttpAnswer *answer, const char *what, GError **error)
{
    g_autoptr(json_t) json = NULL;
    const char *word = NULL;
    const char *message = NULL;

    if (!wire_parse_object(answer->body, answer->body_size, &json, NULL) ||
        json_unpack(json, "{s: {s: s, s: s}}", "error", "code", &word, "message", &message) < 0)
        return strange_error(client, answer, what, error);
    return error_set(error, error_code_from_word(word), "%s", message);
}

static bool
take_answer(const WireClient *client, const HttpAnswer *answer, const char *what, json_t **ret_json,
            GError **error)
{
    g_autoptr(GError) why = NULL;

    if (answer->status < 200 || answer->status > 299)
        return error_answer(client, answer, what, error);
    if (!wire_parse_object(answer->body, answer->body_size, ret_json, &why))
        return error_set(error, ERR_UNREACHABLE, "the answer of %s to %s cannot be read: %s",
                         client->address, what, why->message);
    return true;
}

bool
wire_call(WireClient *client, const char *method, const char *path, const json_t *body,
          json_t **ret_json, GError **error)
{
    return wire_call_within(client, CALL_TIMEOUT_MS, method, path, body, ret_json, error);
}

bool
wire_call_within(WireClient *client, unsigned timeout_ms, const char *method, const char *path,
                 const json_t *body, json_t **ret_json, GError **error)
{
    g_autofree char *epoch = NULL;
    autolibc char *text = body == NULL ? NULL : json_dumps(body, JSON_COMPACT);
    g_autofree char *what = g_strdup_printf("%s %s", method, path);
    g_auto(HttpAnswer) answer = { 0 };
    g_autoptr(json_t) json = NULL;
    g_autoptr(HttpClient) connection = NULL;

    if (body != NULL && text == NULL)
        return error_set(error, ERR_INTERNAL, "the request %s could not be written as JSON", what);
    connection = take_connection(client, &epoch, error);
    if (connection == NULL)
        return false;
    const char *headers[] = { epoch, text == NULL ? NULL : "Content-Type: application/json", NULL };
    if (!http_call(connection, method, path, headers, text, text == NULL ? 0 : strlen(text),
                   timeout_ms, &answer, error))
        return false; /* a connection that failed is not kept */
    give_back(client, g_steal_pointer(&connection));
    if (!take_answer(client, &answer, what, &json, error))
        return false;
    if (ret_json != NULL)
        *ret_json = g_steal_pointer(&json);
    return true;
}

/* ---- events ---- */

typedef struct {
    WireEventFunc each;
    void *data;
    GError *error; /* a line that is no event */
} Events;

static bool
on_line(const char *line, void *data)
{
    Events *events = data;
    g_autoptr(json_t) event = NULL;

    if (*line == '\0')
        return true;
    if (!wire_parse_object(line, strlen(line), &event, &events->error))
        return false;
    return events->each(event, events->data);
}

static void
add_stream(WireClient *client, HttpClient *stream)
{
    WITH_LOCK(&client->lock);
    g_ptr_array_add(client->streams, stream);
    if (client->cancelled)
        http_client_cancel(stream);
}

static void
remove_stream(WireClient *client, HttpClient *stream)
{
    WITH_LOCK(&client->lock);
    g_ptr_array_remove_fast(client->streams, stream);
}

bool
wire_events(WireClient *client, WireEventFunc each, void *data, GError **error)
{
    g_autofree char *epoch = NULL;
    g_autoptr(HttpClient) stream = take_connection(client, &epoch, error);
    g_autoptr(GError) why = NULL;
    g_auto(HttpAnswer) refusal = { 0 };
    Events events = { .each = each, .data = data };

    if (stream == NULL)
        return false;
    const char *headers[] = { epoch, NULL };
    add_stream(client, stream);
    bool ended = http_stream_refusal(stream, "/v1/events", headers, EVENT_IDLE_S, on_line, &events,
                                     &refusal, &why);
    remove_stream(client, stream);
    if (events.error != NULL) {
        error_set(error, ERR_UNREACHABLE, "an event of %s cannot be read: %s", client->address,
                  events.error->message);
        g_clear_error(&events.error);
        return false;
    }
    if (ended)
        return true;
    if (refusal.status != 0)
        return error_answer(client, &refusal, "GET /v1/events", error);
    g_propagate_error(error, g_steal_pointer(&why));
    return false;
}
