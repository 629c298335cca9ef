/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "base/clock.h"
#include "http/connect.h"

#include <string.h>

#define MAX_LINE (1024u * 1024)
/* How much of a refusal's body is kept */
#define MAX_REFUSAL (64u * 1024)

typedef struct {
    HttpClient *client;
    CURL *curl;
    HttpLineFunc each;
    void *data;
    GString *pending; /* the line that has no end yet, or the body of a refusal */
    int64_t heard_us;
    bool stopped; /* the callback had enough */
    bool too_long;
} Reader;

static long
status_of(CURL *curl)
{
    long status = 0;

    curl_easy_getinfo(curl, CURLINFO_RESPONSE_CODE, &status);
    return status;
}

/* Hands out the lines that are whole. */
static void
split_lines(Reader *reader)
{
    char *start = reader->pending->str;
    char *end = NULL;

    while (!reader->stopped && (end = strchr(start, '\n')) != NULL) {
        *end = '\0';
        if (end > start && end[-1] == '\r')
            end[-1] = '\0';
        reader->stopped = !reader->each(start, reader->data);
        start = end + 1;
    }
    g_string_erase(reader->pending, 0, start - reader->pending->str);
}

static size_t
on_part(char *part, size_t one, size_t size, void *data)
{
    Reader *reader = data;

    reader->heard_us = clock_mono_us();
    if (status_of(reader->curl) != 200) {
        if (reader->pending->len < MAX_REFUSAL)
            g_string_append_len(reader->pending, part, (gssize)size);
        return size;
    }
    if (memchr(part, '\0', size) != NULL) /* no text: strchr() would not see the rest */
        return 0;
    g_string_append_len(reader->pending, part, (gssize)size);
    if (memchr(part, '\n', size) != NULL)
        split_lines(reader);
    reader->too_long = reader->pending->len > MAX_LINE;
    return reader->stopped || reader->too_long ? 0 : size;
}

/* ---- running ---- */

static bool
is_cancelled(HttpClient *client)
{
    WITH_LOCK(&client->lock);
    return client->cancelled;
}

void
http_client_cancel(HttpClient *client)
{
    WITH_LOCK(&client->lock);
    client->cancelled = true;
    if (client->stream != NULL)
        curl_multi_wakeup(client->stream);
}

static void
publish(HttpClient *client, CURLM *multi)
{
    WITH_LOCK(&client->lock);
    client->stream = multi;
}

/* Runs the transfer to its end; *ret_code is libcurl's word about it. */
static bool
run(Reader *reader, CURLM *multi, unsigned idle_s, CURLcode *ret_code, GError **error)
{
    HttpClient *client = reader->client;
    int running = 1;
    int left = 0;

    while (!is_cancelled(client)) {
        curl_multi_perform(multi, &running);
        CURLMsg *message = curl_multi_info_read(multi, &left);
        if (message != NULL) {
            *ret_code = message->data.result;
            return true;
        }
        if (clock_mono_us() - reader->heard_us > (int64_t)idle_s * G_USEC_PER_SEC)
            return error_set(error, ERR_TIMEOUT, "nothing came from %s for %u s", client->address,
                             idle_s);
        /* data and http_client_cancel() wake it; else only the idle limit is to be noticed */
        curl_multi_poll(multi, NULL, 0, (int)MIN(idle_s * 1000 / 3, 60000), NULL);
    }
    return error_set(error, ERR_CANCELLED, "reading from %s was stopped", client->address);
}

static ErrorCode
code_of_status(long status)
{
    static const struct {
        long status;
        ErrorCode code;
    } known[] = {
        { 400, ERR_INVALID },   { 401, ERR_FORBIDDEN },   { 403, ERR_FORBIDDEN },
        { 404, ERR_NOT_FOUND }, { 412, ERR_STALE_EPOCH }, { 0, ERR_UNREACHABLE },
    };
    size_t i = 0;

    while (known[i].status != 0 && known[i].status != status)
        i++;
    return known[i].code;
}

static bool
refused(Reader *reader, const char *path, HttpAnswer *ret_refusal, GError **error)
{
    long status = status_of(reader->curl);
    const char *type = NULL;

    error_set(error, code_of_status(status), "%s answered HTTP %ld to the request for %s: %.300s",
              reader->client->address, status, path, g_strchomp(reader->pending->str));
    if (ret_refusal == NULL)
        return false;
    curl_easy_getinfo(reader->curl, CURLINFO_CONTENT_TYPE, &type);
    ret_refusal->status = (int)status;
    ret_refusal->content_type = g_strdup(type);
    ret_refusal->body = g_strdup(reader->pending->str);
    ret_refusal->body_size = strlen(ret_refusal->body);
    return false;
}

static bool
finish(Reader *reader, CURLcode code, const char *path, HttpAnswer *ret_refusal, GError **error)
{
    HttpClient *client = reader->client;

    if (reader->stopped)
        return true;
    if (reader->too_long)
        return error_set(error, ERR_TOO_LARGE, "%s sent a line of more than %u bytes",
                         client->address, MAX_LINE);
    if (code == CURLE_OK && status_of(reader->curl) != 200)
        return refused(reader, path, ret_refusal, error);
    if (code == CURLE_OK)
        return error_set(error, ERR_UNREACHABLE, "%s ended the stream", client->address);
    return connect_failed(client, reader->curl, code, error);
}

bool
http_stream_refusal(HttpClient *client, const char *path, const char *const *headers,
                    unsigned idle_s, HttpLineFunc each, void *data, HttpAnswer *ret_refusal,
                    GError **error)
{
    g_autoptr(CurlList) list = connect_headers(headers);
    g_autoptr(GString) pending = g_string_new(NULL);
    g_autoptr(CURL) curl = curl_easy_init();
    g_autoptr(CURLM) multi = curl_multi_init();
    Reader reader = { .client = client,
                      .curl = curl,
                      .each = each,
                      .data = data,
                      .pending = pending,
                      .heard_us = clock_mono_us() };
    CURLcode code = CURLE_OK;

    connect_prepare(client, curl, path, list);
    curl_easy_setopt(curl, CURLOPT_WRITEFUNCTION, on_part);
    curl_easy_setopt(curl, CURLOPT_WRITEDATA, &reader);
    curl_multi_add_handle(multi, curl);
    publish(client, multi);
    bool ended = run(&reader, multi, idle_s, &code, error);
    publish(client, NULL);
    bool done = ended && finish(&reader, code, path, ret_refusal, error);
    curl_multi_remove_handle(multi, curl);
    return done;
}

bool
http_stream(HttpClient *client, const char *path, const char *const *headers, unsigned idle_s,
            HttpLineFunc each, void *data, GError **error)
{
    return http_stream_refusal(client, path, headers, idle_s, each, data, NULL, error);
}
