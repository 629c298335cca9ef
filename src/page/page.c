/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "page/page.h"

#include <gio/gio.h>
#include <string.h>

GResource *page_get_resource(void); /* made by glib-compile-resources */

#define POLICY                                                                                   \
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; font-src 'self'; " \
    "connect-src 'self'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'"
#define NO_PAGE                                                                               \
    "This livemerge-manager was built without its web page (that needs Node.js).\n"           \
    "The REST API is at /ovirt-engine/api, and the command livemerge does all that the page " \
    "does.\n"

/* The first call of what was made must not be two at a time: several requests are. */
static GResource *
resource(void)
{
    static gsize found;

    if (g_once_init_enter(&found))
        g_once_init_leave(&found, (gsize)page_get_resource());
    return (GResource *)found; /* NOLINT: it was a pointer */
}

static GBytes *
stored(const char *path, const char *suffix)
{
    g_autofree char *name = g_strconcat("/page", path, suffix, NULL);

    return g_resource_lookup_data(resource(), name, G_RESOURCE_LOOKUP_FLAGS_NONE, NULL);
}

static const char *
type_of(const char *path)
{
    static const char *const types[][2] = {
        { ".html", "text/html; charset=utf-8" },
        { ".js", "text/javascript; charset=utf-8" },
        { ".css", "text/css; charset=utf-8" },
        { ".svg", "image/svg+xml" },
        { ".woff2", "font/woff2" },
        { ".png", "image/png" },
    };

    for (size_t i = 0; i < G_N_ELEMENTS(types); i++)
        if (g_str_has_suffix(path, types[i][0]))
            return types[i][1];
    return "application/octet-stream";
}

/* "gzip, br;q=0.5": is it there, and not with q=0? */
static bool
accepts(const HttpRequest *request, const char *coding)
{
    const char *header = http_header(request, "Accept-Encoding");
    g_auto(GStrv) parts = g_strsplit(header != NULL ? header : "", ",", -1);

    for (char **part = parts; *part != NULL; part++) {
        char *q = strchr(*part, ';');
        if (q != NULL)
            *q++ = '\0';
        if (g_ascii_strcasecmp(g_strstrip(*part), coding) != 0)
            continue;
        const char *equals = q != NULL ? strchr(q, '=') : NULL;
        return equals == NULL || g_ascii_strtod(equals + 1, NULL) > 0;
    }
    return false;
}

/* The file in the best form that the browser takes; NULL = there is no such file. */
static GBytes *
choose(const HttpRequest *request, const char *path, const char **ret_coding)
{
    static const char *const codings[][2] = { { "br", ".br" }, { "gzip", ".gz" } };

    for (size_t i = 0; i < G_N_ELEMENTS(codings); i++) {
        GBytes *packed = accepts(request, codings[i][0]) ? stored(path, codings[i][1]) : NULL;
        *ret_coding = codings[i][0];
        if (packed != NULL)
            return packed;
    }
    *ret_coding = NULL;
    return stored(path, "");
}

static char *
tag_of(GBytes *data)
{
    g_autofree char *sum = g_compute_checksum_for_bytes(G_CHECKSUM_SHA256, data);

    return g_strdup_printf("\"%.32s\"", sum);
}

/* Names below assets/ hold a sum of the content: such a file never changes. */
static void
put_headers(const char *path, const char *coding, const char *tag, HttpResponse *response)
{
    http_response_header(response, "ETag", tag);
    http_response_header(response, "Vary", "Accept-Encoding");
    http_response_header(response, "Cache-Control",
                         g_str_has_prefix(path, "/assets/") ? "public, max-age=31536000, immutable"
                                                            : "no-cache");
    http_response_header(response, "Content-Security-Policy", POLICY);
    http_response_header(response, "Referrer-Policy", "no-referrer");
    if (coding != NULL)
        http_response_header(response, "Content-Encoding", coding);
}

static bool
is_unchanged(const HttpRequest *request, const char *tag)
{
    const char *known = http_header(request, "If-None-Match");

    return known != NULL && (g_str_equal(known, "*") || strstr(known, tag) != NULL);
}

static void
say(HttpResponse *response, int status, const char *text)
{
    response->status = status;
    response->body = g_strdup(text);
    response->content_type = g_strdup("text/plain; charset=utf-8");
}

static bool
is_read(const char *method)
{
    return g_str_equal(method, "GET") || g_str_equal(method, "HEAD");
}

bool
page_answer(const HttpRequest *request, HttpResponse *response)
{
    const char *path = g_str_equal(request->path, "/") ? "/index.html" : request->path;
    bool packed_name = g_str_has_suffix(path, ".gz") || g_str_has_suffix(path, ".br");
    const char *coding = NULL;
    g_autoptr(GBytes) data = packed_name ? NULL : choose(request, path, &coding);
    size_t size;

    if (data == NULL && g_str_equal(request->path, "/") && is_read(request->method)) {
        say(response, 404, NO_PAGE);
        return true;
    }
    if (data == NULL)
        return false;
    if (!is_read(request->method)) {
        if (!http_response_allow(request, response, "GET, HEAD, OPTIONS"))
            say(response, 405, "The page can only be read.\n");
        return true;
    }
    g_autofree char *tag = tag_of(data);
    put_headers(path, coding, tag, response);
    response->status = is_unchanged(request, tag) ? 304 : 200;
    response->content_type = g_strdup(type_of(path));
    if (response->status == 200) {
        const char *bytes = g_bytes_get_data(data, &size);
        response->body = g_memdup2(bytes, size);
        response->body_size = size;
    }
    return true;
}
