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
    g_free(x->broken);
}

/* NULL: it is not percent-encoded UTF-8 without NUL */
static char *
decode(const char *text)
{
    char *plain = g_uri_unescape_string(text, NULL);

    return plain != NULL && g_utf8_validate(plain, -1, NULL) ? plain : (g_free(plain), NULL);
}

/* The first one wins. One that cannot be read is kept for refuse_broken(): a search that is left
 * out finds everything. */
static void
take_parameter(Exchange *x, char *pair)
{
    char *equals = strchr(pair, '=');
    g_autofree char *value = decode(equals != NULL ? equals + 1 : "");

    if (equals != NULL)
        *equals = '\0';
    g_autofree char *name = decode(pair);
    if (name == NULL || value == NULL) {
        g_free(x->broken);
        x->broken = name != NULL ? g_steal_pointer(&name) : g_strdup(pair);
    } else if (*name != '\0' && !g_hash_table_contains(x->query, name)) {
        g_hash_table_insert(x->query, g_steal_pointer(&name), g_steal_pointer(&value));
    }
}

static void
take_parameters(Exchange *x, const char *text, const char *separator)
{
    g_auto(GStrv) pairs = g_strsplit(text, separator, -1);

    for (char **pair = pairs; *pair != NULL; pair++)
        take_parameter(x, *pair);
}

static bool
refuse_broken(const Exchange *x, GError **error)
{
    g_autofree char *name = NULL;

    if (x->broken == NULL)
        return true;
    name = g_utf8_make_valid(x->broken, -1);
    return error_set(error, ERR_INVALID,
                     "parameter '%.60s': it is not percent-encoded UTF-8 without NUL", name);
}

static bool
is_version(const char *segment)
{
    return segment[0] == 'v' && g_ascii_isdigit(segment[1]) &&
           strspn(segment + 1, "0123456789") == strlen(segment + 1);
}

/* Clients that keep ids as numbers write them as they like. */
static void
fold_id(char *text)
{
    if (g_uuid_string_is_valid(text))
        for (char *c = text; *c != '\0'; c++)
            *c = g_ascii_tolower(*c);
}

static bool
has_text(const char *word)
{
    return *word != '\0' && *word != ';';
}

/* Cut at '/' and ';' before it is decoded, since a VM's name may hold both. What holds nothing but
 * parameters is no segment: "vms/;max=1". */
char **
request_segments(const HttpRequest *request, char **ret_matrix)
{
    g_auto(GStrv) words = path_segments(request->raw_path);
    g_autofree char *matrix = NULL;
    char **kept = words;

    for (char **word = words; *word != NULL; word++) {
        g_autofree char *text = g_steal_pointer(word);
        char *cut = strchr(text, ';');
        bool named = has_text(text);
        g_free(matrix);
        matrix = cut != NULL ? g_strdup(cut + 1) : NULL;
        if (cut != NULL)
            *cut = '\0';
        if (!named)
            continue;
        *kept = decode(text);
        if (*kept == NULL)
            *kept = g_strdup("");
        fold_id(*kept++);
    }
    if (ret_matrix != NULL)
        *ret_matrix = g_steal_pointer(&matrix);
    g_auto(GStrv) root = path_segments(API_ROOT);
    guint n = g_strv_length(root);
    for (guint i = 0; i < n; i++)
        if (g_strcmp0(words[i], root[i]) != 0)
            return NULL;
    return g_strdupv(words + n);
}

/* What stands below API_ROOT[/v4], without empty segments. */
bool
exchange_split(Exchange *x, GError **error)
{
    g_autofree char *matrix = NULL;
    g_auto(GStrv) segments = request_segments(x->http, &matrix);

    if (segments == NULL)
        return error_set(error, ERR_NOT_FOUND, "nothing is at %s; the API is at " API_ROOT,
                         x->http->path);
    bool versioned = *segments != NULL && is_version(*segments);
    if (versioned && !g_str_equal(*segments, "v4"))
        return error_set(error, ERR_INVALID, "API version '%s' is not served; 4 is", *segments);
    g_strfreev(x->segments);
    x->segments = g_strdupv(segments + (versioned ? 1 : 0));
    if (matrix != NULL)
        take_parameters(x, matrix, ";");
    return refuse_broken(x, error);
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
    const char *accept = http_header_list(x->http, "Accept");

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
    g_autofree char *query =
        g_strdelimit(g_strdup(request->query != NULL ? request->query : ""), "+", ' ');
    take_parameters(x, query, "&");
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

/* oVirt's name of the message. Whoever finds that there is no room does so in many places, most of
 * them with the agent. */
static const char *
key_of(const GError *problem)
{
    const char *key = error_reason(problem)->key;

    if (key == NULL && g_error_matches(problem, ERR, ERR_NO_SPACE))
        return "ACTION_TYPE_FAILED_DISK_SPACE_LOW_ON_STORAGE_DOMAIN";
    return key;
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

    doc_text(fault, "key", key_of(problem));
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
