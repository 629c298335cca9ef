/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "api/exchange.h"

#include "api/routes.h"
#include "base/log.h"
#include "base/text.h"

#include <string.h>

/* ---- the request ---- */

void
exchange_clear(Exchange *x)
{
    g_strfreev(x->segments);
    if (x->query != NULL)
        g_hash_table_unref(x->query);
    g_free(x->correlation_id);
}

static char *
form_decode(const char *text)
{
    g_autofree char *spaced = g_strdelimit(g_strdup(text), "+", ' ');
    char *plain = g_uri_unescape_string(spaced, NULL);

    return plain != NULL && g_utf8_validate(plain, -1, NULL) ? plain : (g_free(plain), NULL);
}

/* The first one wins. */
static void
take_parameter(GHashTable *into, const char *pair, bool decode)
{
    const char *equals = strchr(pair, '=');
    g_autofree char *raw_name =
        equals != NULL ? g_strndup(pair, (gsize)(equals - pair)) : g_strdup(pair);
    const char *raw_value = equals != NULL ? equals + 1 : "";
    char *name = decode ? form_decode(raw_name) : g_strdup(raw_name);
    char *value = decode ? form_decode(raw_value) : g_strdup(raw_value);

    if (name != NULL && value != NULL && *name != '\0' && !g_hash_table_contains(into, name)) {
        g_hash_table_insert(into, name, value);
        return;
    }
    g_free(name);
    g_free(value);
}

static void
take_parameters(GHashTable *into, const char *text, const char *separator, bool decode)
{
    g_auto(GStrv) pairs = g_strsplit(text, separator, -1);

    for (char **pair = pairs; *pair != NULL; pair++)
        take_parameter(into, *pair, decode);
}

/* Cuts ";max=2" off the last segment. */
static void
take_matrix(Exchange *x)
{
    guint n = g_strv_length(x->segments);
    char *matrix = n > 0 ? strchr(x->segments[n - 1], ';') : NULL;

    if (matrix == NULL)
        return;
    *matrix = '\0';
    take_parameters(x->query, matrix + 1, ";", false);
}

static bool
is_version(const char *segment)
{
    return segment[0] == 'v' && g_ascii_isdigit(segment[1]) &&
           strspn(segment + 1, "0123456789") == strlen(segment + 1);
}

/* What stands below API_ROOT[/v4], without empty segments. */
bool
exchange_split(Exchange *x, GError **error)
{
    const char *path = x->http->path;

    if (!g_str_has_prefix(path, API_ROOT) ||
        (path[strlen(API_ROOT)] != '\0' && strchr("/;", path[strlen(API_ROOT)]) == NULL))
        return error_set(error, ERR_NOT_FOUND, "nothing is at %s; the API is at " API_ROOT, path);
    g_auto(GStrv) segments = path_segments(path + strlen(API_ROOT));
    bool versioned = *segments != NULL && is_version(*segments);
    if (versioned && !g_str_equal(*segments, "v4"))
        return error_set(error, ERR_INVALID, "API version '%s' is not served; 4 is", *segments);
    g_strfreev(x->segments);
    x->segments = g_strdupv(segments + (versioned ? 1 : 0));
    take_matrix(x);
    return true;
}

/* Only characters that are safe in logs, headers and searches; at most 36. */
char *
correlation_id_clean(const char *text)
{
    GString *clean = g_string_new(NULL);

    for (const char *p = text != NULL ? text : ""; *p != '\0' && clean->len < 36; p++)
        if (g_ascii_isalnum(*p) || *p == '_' || *p == '-')
            g_string_append_c(clean, *p);
    if (clean->len == 0) {
        g_autofree char *id = id_new();
        g_string_assign(clean, id);
    }
    return g_string_free(clean, FALSE);
}

/* Is there something that we can write? */
static void
take_accept(Exchange *x)
{
    const char *accept = http_header(x->http, "Accept");

    x->acceptable = media_accept(accept, &x->media);
    x->wants_stream = accept != NULL && strstr(accept, "text/event-stream") != NULL;
    if (!x->acceptable)
        x->media = x->wants_stream ? MEDIA_JSON : MEDIA_XML;
}

void
exchange_open(Exchange *x, const HttpRequest *request, HttpResponse *response)
{
    const char *sent_id = http_header(request, "Correlation-Id");

    x->http = request;
    x->response = response;
    x->query = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, g_free);
    take_parameters(x->query, request->query != NULL ? request->query : "", "&", true);
    x->correlation_id = correlation_id_clean(
        sent_id != NULL ? sent_id : g_hash_table_lookup(x->query, "correlation_id"));
    http_response_header(response, "Correlation-Id", x->correlation_id);
    take_accept(x);
}

/* ---- the answer ---- */

void
exchange_answer(Exchange *x, int status, const char *root, const json_t *doc)
{
    HttpResponse *response = x->response;

    response->status = status;
    response->body = media_write(x->media, root, doc);
    response->body_size = strlen(response->body);
    response->content_type = g_strdup(media_type(x->media));
}

void
exchange_fault(Exchange *x, int status, const char *reason, const GError *problem)
{
    g_autofree char *valid = g_utf8_make_valid(problem->message, -1);
    g_autofree char *detail = reason != NULL ? g_strdup(valid) : g_strdup_printf("[%s]", valid);
    json_t *fault =
        json_pack("{s:s, s:s, s:s}", "detail", detail, "reason",
                  reason != NULL ? reason : "Operation Failed", "code", error_word(problem));
    const ErrorReason *refusal = error_reason(problem);

    doc_text(fault, "key", refusal->key);
    doc_text(fault, "why", refusal->why);
    doc_text(fault, "help", refusal->help);
    if (refusal->job_id != NULL)
        doc_ref(fault, "job", refusal->job_id, "/jobs/%s", refusal->job_id);
    g_autoptr(json_t) doc =
        x->may_action ? json_pack("{s:o, s:s}", "fault", fault, "status", "failed") : fault;

    if (status >= 500)
        log_warn("%s %s: %s", x->http->method, x->http->path, problem->message);
    exchange_answer(x, status, x->may_action ? "action" : "fault", doc);
}
