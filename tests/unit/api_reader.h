/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * Reads a stream of events as a client does: chunks, lines, messages.
 */
#pragma once

#include "api_site.h"

#define URL "GET " API_ROOT "/events"
#define ACCEPT "Accept: text/event-stream\r\n"

/* ---- a reader of chunks, lines and messages ---- */

typedef struct {
    int fd;
    GString *raw;  /* not looked at yet */
    GString *text; /* of the body */
    bool in_body;
    bool ended;
    char *type; /* of the message that was read last, as all below */
    gint64 id;
    json_t *data;
} Reader;

static inline Reader *
open_stream(const Site *site, const char *query, const char *headers)
{
    Reader *reader = g_new0(Reader, 1);
    g_autofree char *request =
        g_strdup_printf(URL "%s HTTP/1.1\r\nHost: x\r\n" ACCEPT "%s\r\n", query, headers);

    reader->fd = site_connect(site);
    reader->raw = g_string_new(NULL);
    reader->text = g_string_new(NULL);
    g_assert_true(site_send(reader->fd, request, strlen(request)));
    return reader;
}

static inline void
reader_free(Reader *reader)
{
    close(reader->fd);
    g_string_free(reader->raw, TRUE);
    g_string_free(reader->text, TRUE);
    g_free(reader->type);
    json_decref(reader->data);
    g_free(reader);
}
G_DEFINE_AUTOPTR_CLEANUP_FUNC(Reader, reader_free)

/* Moves whole chunks from raw to text. */
static inline void
unwrap(Reader *reader)
{
    char *end;

    if (!reader->in_body) {
        end = strstr(reader->raw->str, "\r\n\r\n");
        if (end == NULL)
            return;
        g_assert_true(g_str_has_prefix(reader->raw->str, "HTTP/1.1 200 "));
        g_assert_nonnull(strstr(reader->raw->str, "Content-Type: text/event-stream\r\n"));
        g_assert_nonnull(strstr(reader->raw->str, "Cache-Control: no-store\r\n"));
        g_string_erase(reader->raw, 0, end + 4 - reader->raw->str);
        reader->in_body = true;
    }
    while ((end = strstr(reader->raw->str, "\r\n")) != NULL) {
        gsize size = g_ascii_strtoull(reader->raw->str, NULL, 16);
        gsize head = (gsize)(end + 2 - reader->raw->str);
        if (reader->raw->len < head + size + 2)
            return;
        reader->ended = reader->ended || size == 0;
        g_string_append_len(reader->text, reader->raw->str + head, (gssize)size);
        g_string_erase(reader->raw, 0, (gssize)(head + size + 2));
    }
}

static inline bool
receive(Reader *reader)
{
    char part[16384];
    ssize_t got = reader->ended ? 0 : recv(reader->fd, part, sizeof part, 0);

    if (got < 0 && errno == EAGAIN)
        g_error("nothing came for 20 s");
    if (got <= 0)
        return false;
    g_string_append_len(reader->raw, part, got);
    unwrap(reader);
    return true;
}

static inline void
take_line(Reader *reader, const char *line)
{
    if (g_str_has_prefix(line, "event: "))
        reader->type = g_strdup(line + 7);
    else if (g_str_has_prefix(line, "id: "))
        reader->id = g_ascii_strtoll(line + 4, NULL, 10);
    else if (g_str_has_prefix(line, "data: "))
        reader->data = json_loads(line + 6, 0, NULL);
    else if (!g_str_has_prefix(line, ":") && !g_str_has_prefix(line, "retry: ") && *line != '\0')
        g_error("a line that means nothing: %s", line);
}

/* The next message; false: the stream has ended. */
static inline bool
next(Reader *reader)
{
    char *end;

    g_clear_pointer(&reader->type, g_free);
    g_clear_pointer(&reader->data, json_decref);
    reader->id = 0;
    while (reader->type == NULL) {
        while ((end = strstr(reader->text->str, "\n\n")) == NULL)
            if (!receive(reader))
                return false;
        g_autofree char *message = g_strndup(reader->text->str, (gsize)(end - reader->text->str));
        g_string_erase(reader->text, 0, end + 2 - reader->text->str);
        g_auto(GStrv) lines = g_strsplit(message, "\n", -1);
        for (char **line = lines; *line != NULL; line++)
            take_line(reader, *line);
    }
    g_assert_nonnull(reader->data);
    return true;
}

/* The next one of that type, others left out. */
static inline void
next_of(Reader *reader, const char *type)
{
    do {
        if (!next(reader))
            g_error("the stream ended before a message '%s'", type);
    } while (!g_str_equal(reader->type, type));
}

static inline void
say(const Site *site, const char *text)
{
    g_assert_true(
        manager_event(site->manager, 7, "normal", NULL, NULL, NULL, NULL, NULL, "%s", text));
}

/* Until the server closes. */
static inline char *
exchange(const Site *site, const char *request)
{
    autofd int fd = site_connect(site);
    GString *got = g_string_new(NULL);
    char part[4096];
    ssize_t more;

    g_assert_true(site_send(fd, request, strlen(request)));
    while ((more = recv(fd, part, sizeof part, 0)) > 0)
        g_string_append_len(got, part, more);
    return g_string_free(got, FALSE);
}
