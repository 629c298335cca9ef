/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * HTTP as bytes over TCP, for what no well-made client would send. Each request has a connection
 * of its own.
 */
#pragma once

#include "api_world.h"

#include <arpa/inet.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <unistd.h>

#define RAW_PATIENCE_S 20

typedef struct {
    int status; /* 0 = the connection ended without an answer */
    char *head;
    GString *body; /* of one with a length; else what came with the head */
} Heard;

static inline void
heard_clear(Heard *heard)
{
    g_clear_pointer(&heard->head, g_free);
    if (heard->body != NULL)
        g_string_free(g_steal_pointer(&heard->body), TRUE);
}
G_DEFINE_AUTO_CLEANUP_CLEAR_FUNC(Heard, heard_clear)

/* The port of "http://127.0.0.1:PORT and unix:..." */
static inline unsigned
raw_port(const World *w)
{
    const char *colon = strstr(api_server_where(w->server), "127.0.0.1:");

    g_assert_nonnull(colon);
    return (unsigned)strtoul(colon + strlen("127.0.0.1:"), NULL, 10);
}

static inline int
raw_dial(unsigned port)
{
    struct sockaddr_in where = { .sin_family = AF_INET, .sin_port = htons((uint16_t)port) };
    const struct timeval patience = { .tv_sec = RAW_PATIENCE_S };
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

    where.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    if (connect(fd, (struct sockaddr *)&where, sizeof where) != 0)
        g_error("connecting to port %u: %s", port, g_strerror(errno));
    setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience);
    setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &patience, sizeof patience);
    return fd;
}

/* As far as the server takes it: it may answer before. */
static inline void
raw_say(int fd, const char *bytes, size_t size)
{
    for (ssize_t sent; size > 0; bytes += sent, size -= (size_t)sent)
        if ((sent = send(fd, bytes, size, MSG_NOSIGNAL)) <= 0)
            return;
}

static inline const char *
heard_header(const Heard *heard, const char *name, char **ret_value)
{
    g_autofree char *lower = g_ascii_strdown(heard->head, -1);
    g_autofree char *wanted = g_strdup_printf("\r\n%s: ", name);
    const char *found = strstr(lower, wanted);

    if (found == NULL)
        return *ret_value = NULL;
    found = heard->head + (found - lower) + strlen(wanted);
    return *ret_value = g_strndup(found, strcspn(found, "\r"));
}

static inline void
raw_hear(int fd, Heard *heard)
{
    g_autoptr(GString) all = g_string_new(NULL);
    g_autofree char *length = NULL;
    const char *end = NULL;
    char part[4096];
    ssize_t size;

    while (end == NULL && (size = recv(fd, part, sizeof part, 0)) > 0) {
        g_string_append_len(all, part, size);
        end = strstr(all->str, "\r\n\r\n");
    }
    if (end == NULL && all->len == 0 && size < 0 && (errno == EAGAIN || errno == EWOULDBLOCK))
        g_error("the server did not answer, nor hang up, within %d s", RAW_PATIENCE_S);
    if (end == NULL)
        return;
    heard->head = g_strndup(all->str, (gsize)(end + 2 - all->str));
    heard->body = g_string_new_len(end + 4, (gssize)(all->len - (gsize)(end + 4 - all->str)));
    heard->status = atoi(strchr(heard->head, ' '));
    heard_header(heard, "content-length", &length);
    size_t wanted = length != NULL ? strtoul(length, NULL, 10) : 0;
    while (heard->body->len < wanted && (size = recv(fd, part, sizeof part, 0)) > 0)
        g_string_append_len(heard->body, part, size);
}

/* The head of a request; headers: whole lines, or "". */
static inline char *
raw_head(const char *method, const char *path, const char *headers, size_t body_size)
{
    return g_strdup_printf("%s %s HTTP/1.1\r\nHost: x\r\nConnection: close\r\n%s"
                           "Content-Length: %zu\r\n\r\n",
                           method, path, headers, body_size);
}
