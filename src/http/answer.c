/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "http/server.h"

#include "base/log.h"

#include <string.h>

/* A stream says something at least every 10 s, so its connection must not time out sooner. */
#define STREAM_TIMEOUT_S 30

void
http_response_header(HttpResponse *response, const char *name, const char *value)
{
    if (response->headers == NULL)
        response->headers = g_ptr_array_new_with_free_func(g_free);
    g_ptr_array_add(response->headers, g_strdup(name));
    g_ptr_array_add(response->headers, g_strdup(value));
}

bool
http_response_allow(const HttpRequest *request, HttpResponse *response, const char *methods)
{
    http_response_header(response, "Allow", methods);
    if (!g_str_equal(request->method, "OPTIONS"))
        return false;
    response->status = 200;
    return true;
}

void
http_response_clear(HttpResponse *response)
{
    g_clear_pointer(&response->body, g_free);
    g_clear_pointer(&response->shared, g_bytes_unref);
    g_clear_pointer(&response->content_type, g_free);
    g_clear_pointer(&response->headers, g_ptr_array_unref);
    if (response->stream_free != NULL)
        response->stream_free(response->stream_data);
    response->stream_free = NULL;
}

static void
add_headers(struct MHD_Response *made, const HttpResponse *answer)
{
    bool cache = false, policy = false;

    for (guint i = 0; answer->headers != NULL && i + 1 < answer->headers->len; i += 2) {
        const char *name = answer->headers->pdata[i];
        cache = cache || g_ascii_strcasecmp(name, "Cache-Control") == 0;
        policy = policy || g_ascii_strcasecmp(name, "Content-Security-Policy") == 0;
        if (MHD_add_response_header(made, name, answer->headers->pdata[i + 1]) != MHD_YES)
            log_warn("the answer's header %s has a value that HTTP cannot carry, ignoring", name);
    }
    if (!cache)
        MHD_add_response_header(made, "Cache-Control", "no-store");
    if (!policy) /* a document that a browser shows by mistake does nothing */
        MHD_add_response_header(made, "Content-Security-Policy",
                                "default-src 'none'; frame-ancestors 'none'");
    MHD_add_response_header(made, "X-Content-Type-Options", "nosniff");
    if (answer->content_type != NULL)
        MHD_add_response_header(made, "Content-Type", answer->content_type);
}

static struct MHD_Response *
make_stream(const Call *call, HttpResponse *answer)
{
    MHD_set_connection_option(call->connection, MHD_CONNECTION_OPTION_TIMEOUT,
                              MAX(STREAM_TIMEOUT_S, call->server->timeout_s));
    struct MHD_Response *made = feeds_response(call->server->feeds, call->connection, answer);
    answer->stream_free = NULL; /* it is the feed's now */
    return made;
}

static void
drop_shared(void *shared)
{
    g_bytes_unref(shared);
}

static struct MHD_Response *
make_body(HttpResponse *answer)
{
    size_t size = answer->body_size;

    if (answer->shared != NULL) {
        GBytes *shared = g_steal_pointer(&answer->shared);
        const void *data = g_bytes_get_data(shared, &size);
        return MHD_create_response_from_buffer_with_free_callback_cls(size, (void *)data,
                                                                      drop_shared, shared);
    }

    if (answer->body == NULL)
        answer->body = g_strdup("");
    else if (size == 0)
        size = strlen(answer->body);
    return MHD_create_response_from_buffer_with_free_callback(size, g_steal_pointer(&answer->body),
                                                              g_free);
}

enum MHD_Result
answer_send(Call *call, HttpResponse *answer)
{
    bool endless = answer->stream != NULL || answer->feed != NULL;
    struct MHD_Response *made = endless ? make_stream(call, answer) : make_body(answer);

    add_headers(made, answer);
    enum MHD_Result queued = MHD_queue_response(
        call->connection, answer->status == 0 ? 500 : (unsigned)answer->status, made);
    MHD_destroy_response(made);
    http_response_clear(answer);
    return queued;
}

enum MHD_Result
answer_refusal(Call *call, const GError *problem)
{
    HttpRequest request = call->request;

    request.body = "";
    request.body_size = 0;
    call->server->refuse(&request, problem, &call->answer);
    return answer_send(call, &call->answer);
}
