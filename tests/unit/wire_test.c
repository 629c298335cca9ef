/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * Both sides of the wire between manager and agent, over a real unix socket.
 */
#include "wire/wire.h"

#include <string.h>

typedef struct {
    char *dir;
    char *address;
    HttpServer *server;
    HttpClient *raw;
    WireClient *client;
    GMutex lock;
    int64_t highest; /* epoch */
    const char *events;
} Fixture;

/* ---- a small agent ---- */

static bool
handle_echo(void *self, const HttpRequest *request, const char *id, json_t *body, json_t **ret_json,
            GError **error)
{
    *ret_json = json_pack("{s: s, s: s?, s: s, s: O}", "method", request->method, "id", id, "query",
                          request->query, "body", body);
    return true;
}

static bool
handle_nothing(void *self, const HttpRequest *request, const char *id, json_t *body,
               json_t **ret_json, GError **error)
{
    return true;
}

static bool
handle_refuse(void *self, const HttpRequest *request, const char *id, json_t *body,
              json_t **ret_json, GError **error)
{
    return error_set(error, error_code_from_word(id), "refused: \"%s\" \303\244", id);
}

static bool
handle_broken(void *self, const HttpRequest *request, const char *id, json_t *body,
              json_t **ret_json, GError **error)
{
    return false; /* breaks the rule that an error is set */
}

static bool
epoch_ok(void *self, int64_t epoch, GError **error)
{
    Fixture *fixture = self;
    WITH_LOCK(&fixture->lock);

    if (epoch < fixture->highest)
        return error_set(error, ERR_STALE_EPOCH, "epoch %" G_GINT64_FORMAT " is over", epoch);
    fixture->highest = epoch;
    return true;
}

static const WireRoute routes[] = {
    { "GET", "/v1/vms", handle_echo },
    { "GET", "/v1/vms/ID", handle_echo },
    { "POST", "/v1/vms/ID", handle_echo },
    { "POST", "/v1/operations", handle_echo },
    { "POST", "/v1/operations/ID/ack", handle_nothing },
    { "GET", "/v1/refuse/WORD", handle_refuse },
    { "GET", "/v1/broken", handle_broken },
    { NULL, NULL, NULL },
};

typedef struct {
    HttpServer *server;
    const char *text; /* said once, then silence until the server stops; NULL = the end */
} Events;

static ssize_t
say_events(void *data, char *buf, size_t max)
{
    Events *events = data;
    size_t size = events->text == NULL ? 0 : MIN(max, strlen(events->text));

    if (size > 0) {
        memcpy(buf, events->text, size);
        events->text += size;
        return (ssize_t)size;
    }
    while (events->text != NULL && !http_server_stopping(events->server))
        g_usleep(20 * 1000);
    return 0;
}

static void
on_request(const HttpRequest *request, HttpResponse *response, void *data)
{
    Fixture *fixture = data;

    if (strcmp(request->path, "/v1/events") == 0 && fixture->events != NULL) {
        Events *events = g_new0(Events, 1);
        events->server = request->server;
        events->text = fixture->events;
        response->status = 200;
        response->stream = say_events;
        response->stream_data = events;
        response->stream_free = g_free;
    } else if (strcmp(request->path, "/strange") == 0) {
        response->status = atoi(http_query(request, "status"));
        response->body = g_strdup(response->status == 200 ? "[1, 2" : "no JSON");
    } else {
        wire_serve(routes, fixture, epoch_ok, request, response);
    }
}

static void
set_up(Fixture *fixture, gconstpointer data)
{
    g_autoptr(GError) error = NULL;

    g_mutex_init(&fixture->lock);
    fixture->dir = g_dir_make_tmp("livemerge-wire-XXXXXX", &error);
    fixture->address = g_strdup_printf("unix:%s/socket", fixture->dir);
    fixture->server = http_server_start(&(HttpServerOptions){ .address = fixture->address },
                                        on_request, fixture, &error);
    g_assert_no_error(error);
    fixture->raw = http_client_new(fixture->address, NULL, false, &error);
    fixture->client = wire_client_new(fixture->address, NULL, &error);
    g_assert_no_error(error);
}

static void
tear_down(Fixture *fixture, gconstpointer data)
{
    wire_client_free(fixture->client);
    http_client_free(fixture->raw);
    http_server_stop(fixture->server);
    g_assert_cmpint(rmdir(fixture->dir), ==, 0);
    g_mutex_clear(&fixture->lock);
    g_free(fixture->address);
    g_free(fixture->dir);
}

static void
assert_has(const char *text, const char *part)
{
    if (strstr(text, part) == NULL)
        g_error("\"%s\" is not in: %s", part, text);
}

/* ---- the server's side ---- */

static void
test_serve(Fixture *fixture, gconstpointer data)
{
    g_autofree char *deep = g_strnfill(101, '[');
    g_autofree char *brackets = g_strconcat("{\"a\": \"", deep, "\\\"", deep, "\"}", NULL);
    g_autofree char *too_deep = g_strconcat("{\"a\": ", deep, NULL);
    g_autofree char *long_id = g_strnfill(256, 'x');
    g_autofree char *long_path = g_strconcat("/v1/vms/", long_id, NULL);
    const struct {
        const char *method;
        const char *path;
        const char *body;
        int status;
        const char *said;
    } rows[] = {
        { "GET", "/v1/vms", NULL, 200,
          "{\"method\":\"GET\",\"id\":null,\"query\":\"\",\"body\":{}}" },
        { "GET", "/v1/vms/abc?fresh=1", NULL, 200, "\"id\":\"abc\",\"query\":\"fresh=1\"" },
        { "GET", "/v1/vms/a%20%C3%A4", NULL, 200, "\"id\":\"a \303\244\"" },
        { "POST", "/v1/operations", "{\"id\": 1}", 200, "\"body\":{\"id\":1}" },
        { "POST", "/v1/operations", "", 200, "\"body\":{}" },
        { "POST", "/v1/operations/x/ack", NULL, 200, "{}" },
        { "POST", "/v1/operations", brackets, 200, "\"body\":{\"a\":" },
        { "POST", "/v1/operations", "{\"a\": 1,\n \"b\": }", 400, "line 2, column 7" },
        { "POST", "/v1/operations", "{\"a\": 1, \"a\": 2}", 400, "duplicate" },
        { "POST", "/v1/operations", "[]", 400, "not an object" },
        { "POST", "/v1/operations", "{} x", 400, "malformed" },
        { "POST", "/v1/operations", "{\"a\": \"\\u0000\"}", 400, "malformed" },
        { "POST", "/v1/operations", "{\"a\": \"\xff\"}", 400, "malformed" },
        { "POST", "/v1/operations", too_deep, 400, "deeper than 100" },
        { "GET", "/v1/vms/a%0ab", NULL, 400, "control characters" },
        { "GET", "/v1/vms/a%C2%85b", NULL, 400, "control characters" },
        { "GET", long_path, NULL, 400, "255 bytes" },
        { "GET", "/v1/vms/", NULL, 404, "\"not-found\"" },
        { "GET", "/v1/vms/a/b", NULL, 404, "/v1/vms/a/b" },
        { "GET", "/v1", NULL, 404, "\"not-found\"" },
        { "GET", "/", NULL, 404, "\"not-found\"" },
        { "DELETE", "/v1/vms/a", NULL, 405, "only GET, POST" },
        { "GET", "/v1/operations", NULL, 405, "only POST" },
        { "GET", "/v1/refuse/busy", NULL, 409,
          "{\"error\":{\"code\":\"busy\",\"message\":\"refused: \\\"busy\\\" \303\244\"}}" },
        { "GET", "/v1/refuse/gone", NULL, 410, "\"gone\"" },
        { "GET", "/v1/refuse/no-space", NULL, 507, "\"no-space\"" },
        { "GET", "/v1/broken", NULL, 500, "\"internal\"" },
    };

    for (size_t i = 0; i < G_N_ELEMENTS(rows); i++) {
        g_autoptr(GError) error = NULL;
        g_auto(HttpAnswer) answer = { 0 };
        const char *headers[] = { "Livemerge-Epoch: 1", "Content-Type: text/strange", NULL };
        g_test_message("row %zu: %s %.60s", i, rows[i].method, rows[i].path);
        http_call(fixture->raw, rows[i].method, rows[i].path, headers, rows[i].body,
                  rows[i].body == NULL ? 0 : strlen(rows[i].body), 5000, &answer, &error);
        g_assert_no_error(error);
        assert_has(answer.body, rows[i].said);
        g_assert_cmpint(answer.status, ==, rows[i].status);
        g_assert_cmpstr(answer.content_type, ==, "application/json");
    }
}

static void
test_epoch_header(Fixture *fixture, gconstpointer data)
{
    static const struct {
        const char *header;
        int status;
        const char *said;
    } rows[] = {
        { "Livemerge-Epoch: 5", 200, "{" },
        { "livemerge-epoch: 5", 200, "{" },
        { "Livemerge-Epoch: 4", 412, "\"stale-epoch\"" },
        { "Livemerge-Epoch: 9223372036854775807", 200, "{" },
        { "Livemerge-Epoch: -1", 400, "Livemerge-Epoch" },
        { "Livemerge-Epoch: 9223372036854775808", 400, "Livemerge-Epoch" },
        { "Livemerge-Epoch: 5x", 400, "5x" },
        { "X-Other: 5", 400, "missing" },
    };

    for (size_t i = 0; i < G_N_ELEMENTS(rows); i++) {
        g_auto(HttpAnswer) answer = { 0 };
        const char *headers[] = { rows[i].header, NULL };
        g_test_message("%s", rows[i].header);
        g_assert_true(
            http_call(fixture->raw, "GET", "/v1/vms", headers, NULL, 0, 30000, &answer, NULL));
        g_assert_cmpint(answer.status, ==, rows[i].status);
        assert_has(answer.body, rows[i].said);
    }
}

/* ---- the client's side ---- */

static void
test_call(Fixture *fixture, gconstpointer data)
{
    g_autoptr(GError) error = NULL;
    g_autoptr(json_t) body = json_pack("{s: s, s: i}", "name", "before \303\244", "number", 7);
    g_autoptr(json_t) answer = NULL;

    wire_client_set_epoch(fixture->client, 3);
    wire_call(fixture->client, "POST", "/v1/vms/x", body, &answer, &error);
    g_assert_no_error(error);
    g_assert_true(json_equal(json_object_get(answer, "body"), body));
    g_assert_true(wire_call(fixture->client, "POST", "/v1/vms/x", NULL, NULL, &error));
    g_assert_cmpint(fixture->highest, ==, 3);

    wire_client_set_epoch(fixture->client, 2);
    g_assert_false(wire_call(fixture->client, "GET", "/v1/vms", NULL, NULL, &error));
    g_assert_error(error, ERR, ERR_STALE_EPOCH);
    g_assert_cmpstr(error->message, ==, "epoch 2 is over");
}

static void
test_call_errors(Fixture *fixture, gconstpointer data)
{
    static const struct {
        const char *path;
        ErrorCode code;
        const char *said;
    } rows[] = {
        { "/v1/refuse/busy", ERR_BUSY, "refused: \"busy\" \303\244" },
        { "/v1/refuse/gone", ERR_GONE, "refused" },
        { "/v1/refuse/timeout", ERR_TIMEOUT, "refused" },
        { "/v1/refuse/unknown-word", ERR_INTERNAL, "refused" },
        { "/v1/nothing", ERR_NOT_FOUND, "/v1/nothing" },
        { "/v1/operations", ERR_METHOD, "POST" },
        { "/strange?status=404", ERR_INTERNAL, "HTTP 404" },
        { "/strange?status=413", ERR_TOO_LARGE, "HTTP 413" },
        { "/strange?status=500", ERR_UNREACHABLE, "no JSON" },
        { "/strange?status=302", ERR_INTERNAL, "HTTP 302" },
        { "/strange?status=200", ERR_UNREACHABLE, "cannot be read" },
    };

    for (size_t i = 0; i < G_N_ELEMENTS(rows); i++) {
        g_autoptr(GError) error = NULL;
        g_autoptr(json_t) answer = NULL;
        g_test_message("%s", rows[i].path);
        g_assert_false(wire_call(fixture->client, "GET", rows[i].path, NULL, &answer, &error));
        g_assert_error(error, ERR, (int)rows[i].code);
        assert_has(error->message, rows[i].said);
        g_assert_null(answer);
    }
    g_autoptr(GError) error = NULL;
    http_server_stop(g_steal_pointer(&fixture->server));
    g_assert_false(wire_call(fixture->client, "GET", "/v1/vms", NULL, NULL, &error));
    g_assert_error(error, ERR, ERR_UNREACHABLE);
    assert_has(error->message, fixture->address);
}

static gpointer
call_many(gpointer data)
{
    Fixture *fixture = data;
    int fine = 0;

    for (int i = 0; i < 40; i++) {
        g_autoptr(json_t) body = json_pack("{s: i}", "number", i);
        g_autoptr(json_t) answer = NULL;
        fine += wire_call(fixture->client, "POST", "/v1/operations", body, &answer, NULL) &&
                json_equal(json_object_get(answer, "body"), body);
    }
    return GINT_TO_POINTER(fine);
}

static void
test_many_threads(Fixture *fixture, gconstpointer data)
{
    GThread *threads[6];

    for (size_t i = 0; i < G_N_ELEMENTS(threads); i++)
        threads[i] = g_thread_new("caller", call_many, fixture);
    for (size_t i = 0; i < G_N_ELEMENTS(threads); i++)
        g_assert_cmpint(GPOINTER_TO_INT(g_thread_join(threads[i])), ==, 40);
}

/* ---- events ---- */

static bool
count_vms(const json_t *event, void *data)
{
    int *count = data;

    if (g_strcmp0(json_string_value(json_object_get(event, "event")), "vm") == 0)
        (*count)++;
    return *count < 3;
}

static void
test_events(Fixture *fixture, gconstpointer data)
{
    g_autoptr(GError) error = NULL;
    int count = 0;

    fixture->events = "{\"event\": \"vm\", \"vm_id\": \"a\"}\n{\"event\": \"alive\"}\n\n"
                      "{\"event\": \"vm\", \"vm_id\": \"b\"}\r\n{\"event\": \"vm\"}\n";
    g_assert_true(wire_events(fixture->client, count_vms, &count, &error));
    g_assert_no_error(error);
    g_assert_cmpint(count, ==, 3);

    count = 0;
    fixture->events = "{\"event\": \"alive\"}\nbroken\n";
    g_assert_false(wire_events(fixture->client, count_vms, &count, &error));
    g_assert_error(error, ERR, ERR_UNREACHABLE);
    assert_has(error->message, "line 1");
    g_clear_error(&error);

    fixture->events = NULL; /* 404 as JSON */
    g_assert_false(wire_events(fixture->client, count_vms, &count, &error));
    g_assert_error(error, ERR, ERR_NOT_FOUND);
}

typedef struct {
    Fixture *fixture;
    GAsyncQueue *begun;
    GError *error;
} Listening;

static bool
tell(const json_t *event, void *data)
{
    Listening *listening = data;

    g_async_queue_push(listening->begun, GINT_TO_POINTER(1));
    return true;
}

static gpointer
listen_to_events(gpointer data)
{
    Listening *listening = data;

    g_assert_false(wire_events(listening->fixture->client, tell, listening, &listening->error));
    return NULL;
}

/* Cancelled by its owner, or broken by the end of the agent: both at once */
static void
test_events_end(Fixture *fixture, gconstpointer data)
{
    static const ErrorCode codes[] = { ERR_UNREACHABLE, ERR_CANCELLED };

    fixture->events = "{\"event\": \"alive\"}\n";
    for (size_t i = 0; i < G_N_ELEMENTS(codes); i++) {
        g_autoptr(GAsyncQueue) begun = g_async_queue_new();
        Listening listening = { .fixture = fixture, .begun = begun };
        GThread *thread = g_thread_new("events", listen_to_events, &listening);
        g_async_queue_pop(begun);
        gint64 began = g_get_monotonic_time();
        if (codes[i] == ERR_CANCELLED) {
            wire_client_cancel(fixture->client);
        } else {
            http_server_stop(fixture->server);
            fixture->server = http_server_start(&(HttpServerOptions){ .address = fixture->address },
                                                on_request, fixture, NULL);
        }
        g_thread_join(thread);
        g_assert_cmpint(g_get_monotonic_time() - began, <, 8 * G_TIME_SPAN_SECOND);
        g_assert_error(listening.error, ERR, (int)codes[i]);
        g_clear_error(&listening.error);
    }
    g_assert_true(wire_call(fixture->client, "GET", "/v1/vms", NULL, NULL, NULL));
}

int
main(int argc, char **argv)
{
    static const struct {
        const char *name;
        void (*test)(Fixture *, gconstpointer);
    } tests[] = {
        { "serve", test_serve },
        { "epoch-header", test_epoch_header },
        { "call", test_call },
        { "call-errors", test_call_errors },
        { "many-threads", test_many_threads },
        { "events", test_events },
        { "events-end", test_events_end },
    };

    g_test_init(&argc, &argv, NULL);
    for (size_t i = 0; i < G_N_ELEMENTS(tests); i++) {
        g_autofree char *path = g_strconcat("/wire/", tests[i].name, NULL);
        g_test_add(path, Fixture, NULL, set_up, tests[i].test, tear_down);
    }
    return g_test_run();
}
