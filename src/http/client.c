/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "http/connect.h"

#include <string.h>

/* An answer that is larger is no answer of ours. */
#define MAX_ANSWER (64u * 1024 * 1024)

void
http_answer_clear(HttpAnswer *answer)
{
    g_clear_pointer(&answer->body, g_free);
    g_clear_pointer(&answer->content_type, g_free);
    answer->body_size = 0;
    answer->status = 0;
}

static size_t
on_body(char *part, size_t one, size_t size, void *data)
{
    GByteArray *body = data;

    if (body->len + size > MAX_ANSWER)
        return 0;
    g_byte_array_append(body, (const guint8 *)part, (guint)size);
    return size;
}

static void
set_method(CURL *curl, const char *method, const char *body, size_t body_size)
{
    if (strcmp(method, "HEAD") == 0) {
        curl_easy_setopt(curl, CURLOPT_NOBODY, 1L);
        return;
    }
    if (body != NULL || strcmp(method, "POST") == 0 || strcmp(method, "PUT") == 0) {
        curl_easy_setopt(curl, CURLOPT_POSTFIELDS, body == NULL ? "" : body);
        curl_easy_setopt(curl, CURLOPT_POSTFIELDSIZE_LARGE, (curl_off_t)body_size);
    }
    curl_easy_setopt(curl, CURLOPT_CUSTOMREQUEST, method);
}

bool
http_call(HttpClient *client, const char *method, const char *path, const char *const *headers,
          const char *body, size_t body_size, unsigned timeout_ms, HttpAnswer *ret_answer,
          GError **error)
{
    g_autoptr(CurlList) list = connect_headers(headers);
    g_autoptr(GByteArray) got = g_byte_array_new();
    CURL *curl = client->calls;
    const char *type = NULL;
    long status = 0;

    connect_prepare(client, curl, path, list);
    set_method(curl, method, body, body_size);
    curl_easy_setopt(curl, CURLOPT_TIMEOUT_MS, (long)timeout_ms);
    curl_easy_setopt(curl, CURLOPT_WRITEFUNCTION, on_body);
    curl_easy_setopt(curl, CURLOPT_WRITEDATA, got);
    CURLcode code = curl_easy_perform(curl);
    if (code == CURLE_WRITE_ERROR)
        return error_set(error, ERR_TOO_LARGE, "the answer of %s to %s %s exceeds %u MiB",
                         client->address, method, path, MAX_ANSWER / 1024 / 1024);
    if (code != CURLE_OK)
        return connect_failed(client, curl, code, error);
    curl_easy_getinfo(curl, CURLINFO_RESPONSE_CODE, &status);
    curl_easy_getinfo(curl, CURLINFO_CONTENT_TYPE, &type);
    ret_answer->status = (int)status;
    ret_answer->body_size = got->len;
    ret_answer->content_type = g_strdup(type);
    g_byte_array_append(got, (const guint8 *)"", 1);
    ret_answer->body = (char *)g_byte_array_free(g_steal_pointer(&got), FALSE);
    return true;
}
