/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "wire/json.h"
#include "wire/wire.h"

#include <string.h>

#define MAX_ID 255

/* ---- answers ---- */

void
wire_answer_json(HttpResponse *response, int status, json_t *take_json)
{
    g_autoptr(json_t) json = take_json;
    char *text = json_dumps(json, JSON_COMPACT);

    g_free(response->body);
    g_free(response->content_type);
    response->status = text == NULL ? 500 : status;
    /* NULL: a string that is not UTF-8 got into it. The text is from malloc(), like g_malloc(). */
    response->body = text != NULL ? text
                                  : g_strdup("{\"error\":{\"code\":\"internal\",\"message\":"
                                             "\"the answer could not be written as JSON\"}}");
    response->body_size = strlen(response->body);
    response->content_type = g_strdup("application/json");
}

void
wire_answer_error(HttpResponse *response, const GError *error)
{
    g_autofree char *message = g_utf8_make_valid(error->message, -1);

    wire_answer_json(
        response, error_http_status(error),
        json_pack("{s: {s: s, s: s}}", "error", "code", error_word(error), "message", message));
}

/* ---- routes ---- */

/* Does the path fit the pattern? *ret_id is then the segment under the one in capitals; NULL if the
 * pattern has none. */
static bool
fits(const char *pattern, const char *path, char **ret_id)
{
    const char *id = NULL;
    size_t length = 0;

    while (*pattern != '\0') {
        if (g_ascii_isupper(*pattern)) {
            id = path;
            length = strcspn(path, "/");
            if (length == 0)
                return false;
            pattern += strcspn(pattern, "/");
            path += length;
        } else if (*pattern++ != *path++) {
            return false;
        }
    }
    if (*path != '\0')
        return false;
    *ret_id = id != NULL ? g_strndup(id, length) : NULL;
    return true;
}

static bool
check_id(const char *id, GError **error)
{
    bool control = false;

    for (const char *at = id; at != NULL && *at != '\0'; at = g_utf8_next_char(at))
        control = control || g_unichar_iscntrl(g_utf8_get_char(at));
    if (control || (id != NULL && strlen(id) > MAX_ID))
        return error_set(error, ERR_INVALID,
                         "the id in the path has more than %d bytes or control characters", MAX_ID);
    return true;
}

/* NULL with ERR_NOT_FOUND or ERR_METHOD; then *ret_allow may hold the methods that there are. */
static const WireRoute *
find_route(const WireRoute *routes, const HttpRequest *request, char **ret_id, char **ret_allow,
           GError **error)
{
    g_autoptr(GString) allow = g_string_new(NULL);

    for (const WireRoute *route = routes; route->path != NULL; route++) {
        g_autofree char *id = NULL;
        if (!fits(route->path, request->path, &id))
            continue;
        if (strcmp(route->method, request->method) == 0) {
            *ret_id = g_steal_pointer(&id);
            return route;
        }
        g_string_append_printf(allow, "%s%s", allow->len > 0 ? ", " : "", route->method);
    }
    if (allow->len == 0) {
        error_set(error, ERR_NOT_FOUND, "there is no call %s %s", request->method, request->path);
        return NULL;
    }
    error_set(error, ERR_METHOD, "%s knows no %s, only %s", request->path, request->method,
              allow->str);
    *ret_allow = g_strdup(allow->str);
    return NULL;
}

/* ---- serving ---- */

bool
wire_request_epoch(const HttpRequest *request, int64_t *ret_epoch, GError **error)
{
    const char *text = http_header(request, WIRE_EPOCH_HEADER);

    if (text == NULL)
        return error_set(error, ERR_INVALID, "the header " WIRE_EPOCH_HEADER " is missing");
    if (!g_ascii_string_to_signed(text, 10, 0, G_MAXINT64, ret_epoch, NULL))
        return error_set(error, ERR_INVALID,
                         "the header " WIRE_EPOCH_HEADER " is \"%s\", not a number from 0 up",
                         text);
    return true;
}

static bool
epoch_allows(void *self, bool (*epoch_ok)(void *self, int64_t epoch, GError **error),
             const HttpRequest *request, GError **error)
{
    int64_t epoch = 0;

    return epoch_ok == NULL ||
           (wire_request_epoch(request, &epoch, error) && epoch_ok(self, epoch, error));
}

static bool
read_body(const HttpRequest *request, json_t **ret_body, GError **error)
{
    if (request->body_size > 0)
        return wire_parse_object(request->body, request->body_size, ret_body, error);
    *ret_body = json_object();
    return true;
}

static bool
serve(const WireRoute *routes, void *self,
      bool (*epoch_ok)(void *self, int64_t epoch, GError **error), const HttpRequest *request,
      char **ret_allow, json_t **ret_json, GError **error)
{
    g_autofree char *id = NULL;
    g_autoptr(json_t) body = NULL;
    const WireRoute *route = find_route(routes, request, &id, ret_allow, error);

    if (route == NULL || !check_id(id, error) || !epoch_allows(self, epoch_ok, request, error) ||
        !read_body(request, &body, error))
        return false;
    return route->handle(self, request, id, body, ret_json, error);
}

void
wire_serve(const WireRoute *routes, void *self,
           bool (*epoch_ok)(void *self, int64_t epoch, GError **error), const HttpRequest *request,
           HttpResponse *response)
{
    g_autofree char *allow = NULL;
    g_autoptr(json_t) json = NULL;
    g_autoptr(GError) error = NULL;

    if (serve(routes, self, epoch_ok, request, &allow, &json, &error)) {
        wire_answer_json(response, 200, json == NULL ? json_object() : g_steal_pointer(&json));
        return;
    }
    if (error == NULL) /* a handler that broke its promise must not take the daemon down */
        error_set(&error, ERR_INTERNAL, "%s %s failed without a reason", request->method,
                  request->path);
    wire_answer_error(response, error);
    if (allow != NULL)
        http_response_header(response, "Allow", allow);
}
