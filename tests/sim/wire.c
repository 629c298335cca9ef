/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * How requests reach the agent: the manager's, the hook's and the flows' own. Each is served by a
 * fiber of the agent, as the HTTP server does it with threads; it goes on when the caller is gone.
 */
#include "world.h"

#include <string.h>

#pragma GCC diagnostic ignored "-Wmissing-prototypes"
#define WRAP(name) __wrap_##name

typedef struct {
    char *method, *path, *query, *epoch, *body;
    bool hook;
    bool done, broken;
    HttpResponse response;
} Exchange;

static GPtrArray *exchanges; /* under way */

/* ---- what the product asks of a request ---- */

const char *
WRAP(http_header)(const HttpRequest *request, const char *name)
{
    const Exchange *exchange = request->connection;

    return g_ascii_strcasecmp(name, WIRE_EPOCH_HEADER) == 0 ? exchange->epoch : NULL;
}

const char *
WRAP(http_query)(const HttpRequest *request, const char *name)
{
    static char values[4][128]; /* of the last ones: a handler asks for some */
    static unsigned last;
    size_t length = strlen(name);

    for (const char *at = request->query; *at != '\0'; at += *at == '&') {
        size_t n = strcspn(at, "&");
        if (strncmp(at, name, length) == 0 && at[length] == '=') {
            char *value = values[last++ % G_N_ELEMENTS(values)];
            g_strlcpy(value, at + length + 1, MIN(n - length, sizeof values[0]));
            return value;
        }
        at += n;
    }
    return NULL;
}

/* ---- one exchange ---- */

/* "No such operation" is a promise. */
static void
watch_promises(const Exchange *exchange)
{
    static const char prefix[] = "/v1/operations/";
    bool ok = exchange->response.status == 200;

    if (strcmp(exchange->method, "GET") == 0 && exchange->response.status == 404 &&
        g_str_has_prefix(exchange->path, prefix))
        check_note_promise(exchange->path + strlen(prefix));
    if (ok && g_str_has_suffix(exchange->path, "/ack")) {
        g_autofree char *id = g_strndup(exchange->path + strlen(prefix), 36);
        check_note_end(id);
    }
    if (strcmp(exchange->method, "POST") == 0 && ok &&
        strcmp(exchange->path, "/v1/operations") == 0) {
        g_autoptr(json_t) body = json_loads(exchange->body, 0, NULL);
        check_promise(json_text(body, "id"));
    }
}

static void
serve(void *data)
{
    Exchange *exchange = data;
    HttpRequest request = { .method = exchange->method,
                            .path = exchange->path,
                            .query = exchange->query,
                            .body = exchange->body,
                            .body_size = exchange->body != NULL ? strlen(exchange->body) : 0,
                            .local = true,
                            .peer = "local",
                            .connection = exchange };

    if (!exchange->hook && world_lies(LIE_REORDER, 30))
        fiber_sleep_us((int64_t)fiber_below(500000)); /* others overtake it */
    agent_serve(&request, &exchange->response, world_agent);
    watch_promises(exchange);
    exchange->done = true;
    fiber_wake(exchange, true);
}

static bool
is_connected(const Exchange *exchange)
{
    return world_agent != NULL && (world_network || exchange->hook);
}

/* What was sent may be lost on its way there; then nobody answers. */
static void
send_it(Exchange *exchange)
{
    g_ptr_array_add(exchanges, exchange);
    fiber_start(P_AGENT, "http", serve, exchange);
}

static bool
is_too_late(const Exchange *exchange)
{
    g_autoptr(json_t) body = exchange->body != NULL ? json_loads(exchange->body, 0, NULL) : NULL;
    const char *id = json_text(body, "id");

    return id != NULL && (plan.lies & LIE_VERY_LATE) == 0 && check_has_ended(id);
}

/* Long after its sender has given it up. */
static void
arrive_late(void *data)
{
    fiber_sleep_us((int64_t)fiber_below(4 * G_TIME_SPAN_SECOND));
    if (world_agent != NULL && !is_too_late(data))
        fiber_start(P_AGENT, "http", serve, data);
}

void
wire_agent_died(void)
{
    for (guint i = 0; exchanges != NULL && i < exchanges->len; i++) {
        Exchange *exchange = exchanges->pdata[i];
        exchange->broken = true;
        fiber_wake(exchange, true);
    }
}

void
wire_cut(void)
{
    for (guint i = 0; exchanges != NULL && i < exchanges->len; i++) {
        Exchange *exchange = exchanges->pdata[i];
        if (exchange->hook)
            continue;
        exchange->broken = true;
        fiber_wake(exchange, true);
    }
}

static bool
no_answer(GError **error)
{
    return error_set(error, ERR_UNREACHABLE, "the agent does not answer");
}

static bool
take(const Exchange *exchange, json_t **ret_json, GError **error)
{
    g_autoptr(json_t) json = json_loads(exchange->response.body, 0, NULL);
    const char *word = NULL, *message = NULL;

    if (exchange->response.status == 200) {
        if (ret_json != NULL)
            *ret_json = g_steal_pointer(&json);
        return true;
    }
    if (json_unpack(json, "{s: {s: s, s: s}}", "error", "code", &word, "message", &message) < 0)
        return error_set(error, ERR_INTERNAL, "the answer cannot be read: %s",
                         exchange->response.body);
    return error_set(error, error_code_from_word(word), "%s", message);
}

static Exchange *
exchange_new(const char *method, const char *path, const char *query, const char *epoch,
             const json_t *body)
{
    Exchange *exchange = g_new0(Exchange, 1);

    exchange->method = g_strdup(method);
    exchange->path = g_strdup(path);
    exchange->query = g_strdup(query);
    exchange->epoch = g_strdup(epoch);
    exchange->body = body != NULL ? json_dumps(body, JSON_COMPACT) : NULL;
    exchange->hook = g_str_has_suffix(path, "/starting");
    return exchange;
}

static bool
exchange_do(const char *method, const char *path, const char *query, const char *epoch,
            const json_t *body, int64_t budget_us, json_t **ret_json, GError **error)
{
    Exchange *exchange = exchange_new(method, path, query, epoch, body);
    int64_t until = fiber_now_us() + budget_us;

    if (exchanges == NULL)
        exchanges = g_ptr_array_new();
    fiber_point("request");
    if (!is_connected(exchange))
        return no_answer(error);
    if (!exchange->hook && world_lies(LIE_LOST_ANSWERS, 5))
        return no_answer(error); /* it never got there */
    if (!exchange->hook && world_lies(LIE_LOST_ANSWERS, 5))
        send_it(exchange_new(method, path, query, epoch, body)); /* twice */
    if (!exchange->hook && world_lies(LIE_LOST_ANSWERS, 5)) {
        fiber_start(P_WORLD, "late request", arrive_late, exchange);
        fiber_sleep_us((int64_t)fiber_below(1000000));
        return no_answer(error);
    }
    send_it(exchange);
    while (!exchange->done && !exchange->broken && fiber_now_us() < until)
        fiber_wait_on(exchange, until);
    g_ptr_array_remove(exchanges, exchange);
    fiber_point("answer");
    if (!exchange->done || !is_connected(exchange) ||
        (!exchange->hook && world_lies(LIE_LOST_ANSWERS, 5)))
        return no_answer(error);
    return take(exchange, ret_json, error);
}

bool
wire_ask(const char *method, const char *path, const char *query, const json_t *body,
         int64_t budget_us, json_t **ret_json, GError **error)
{
    return exchange_do(method, path, query, "1", body, budget_us, ret_json, error);
}

/* ---- the manager's side of wire/wire.h ---- */

struct WireClient {
    char epoch[32];
    bool cancelled;
};

WireClient *
WRAP(wire_client_new)(const char *address, const char *ca_file, GError **error)
{
    (void)address;
    (void)ca_file;
    (void)error;
    return g_new0(WireClient, 1);
}

void
WRAP(wire_client_free)(WireClient *client)
{
    (void)client;
}

void
WRAP(wire_client_set_epoch)(WireClient *client, int64_t epoch)
{
    g_snprintf(client->epoch, sizeof client->epoch, "%" G_GINT64_FORMAT, epoch);
}

void
WRAP(wire_client_cancel)(WireClient *client)
{
    client->cancelled = true;
}

bool
WRAP(wire_call_within)(WireClient *client, unsigned timeout_ms, const char *method,
                       const char *path, const json_t *body, json_t **ret_json, GError **error)
{
    g_auto(GStrv) parts = g_strsplit(path, "?", 2);

    return exchange_do(method, parts[0], parts[1] != NULL ? parts[1] : "", client->epoch, body,
                       (int64_t)timeout_ms * 1000, ret_json, error);
}

bool
WRAP(wire_call)(WireClient *client, const char *method, const char *path, const json_t *body,
                json_t **ret_json, GError **error)
{
    return __wrap_wire_call_within(client, 30000, method, path, body, ret_json, error);
}

/* The agent's end of an event stream: a fiber of the agent, which puts into "lines" what the
 * manager takes out. */
typedef struct {
    Exchange *exchange;
    GQueue lines; /* of char* */
    bool closed;  /* by the manager */
} Stream;

static void
pump(void *data)
{
    Stream *stream = data;
    Exchange *exchange = stream->exchange;
    HttpRequest request = { .method = "GET",
                            .path = "/v1/events",
                            .query = "",
                            .local = true,
                            .peer = "local",
                            .connection = exchange };
    g_autoptr(GString) text = g_string_new(NULL);
    char part[4096];

    agent_serve(&request, &exchange->response, world_agent);
    exchange->done = true;
    while (exchange->response.stream != NULL && !stream->closed && !exchange->broken) {
        ssize_t n = exchange->response.stream(exchange->response.stream_data, part, sizeof part);
        if (n <= 0)
            break;
        g_string_append_len(text, part, n);
        for (char *end; (end = strchr(text->str, '\n')) != NULL;) {
            g_queue_push_tail(&stream->lines, g_strndup(text->str, (size_t)(end - text->str)));
            g_string_erase(text, 0, end - text->str + 1);
        }
        fiber_wake(stream, true);
        fiber_sleep_us(100);
    }
    if (exchange->response.stream_free != NULL)
        exchange->response.stream_free(exchange->response.stream_data);
    exchange->broken = true;
    fiber_wake(stream, true);
}

static bool
read_stream(WireClient *client, Stream *stream, WireEventFunc each, void *data)
{
    int64_t idle_since = fiber_now_us();

    while (!stream->exchange->broken && !client->cancelled && world_network &&
           fiber_now_us() - idle_since < 30 * G_TIME_SPAN_SECOND) {
        g_autofree char *line = g_queue_pop_head(&stream->lines);
        if (line == NULL) {
            fiber_wait_on(stream, fiber_now_us() + 1000000);
            continue;
        }
        g_autoptr(json_t) event = json_loads(line, 0, NULL);
        idle_since = fiber_now_us();
        fiber_point("line of the event stream");
        if (!each(event, data))
            return true;
    }
    return false;
}

bool
WRAP(wire_events)(WireClient *client, WireEventFunc each, void *data, GError **error)
{
    Stream *stream = g_new0(Stream, 1);

    stream->exchange = exchange_new("GET", "/v1/events", "", client->epoch, NULL);
    g_queue_init(&stream->lines);
    if (exchanges == NULL)
        exchanges = g_ptr_array_new();
    fiber_point("event stream is opened");
    if (!is_connected(stream->exchange))
        return no_answer(error);
    g_ptr_array_add(exchanges, stream->exchange);
    fiber_start(P_AGENT, "events", pump, stream);
    bool ended = read_stream(client, stream, each, data);
    stream->closed = true;
    g_ptr_array_remove(exchanges, stream->exchange);
    if (!ended && stream->exchange->response.body != NULL &&
        stream->exchange->response.status != 200)
        return take(stream->exchange, NULL, error);
    return ended || no_answer(error);
}

void
wire_reset(void)
{
    if (exchanges != NULL)
        g_ptr_array_set_size(exchanges, 0);
}
