/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * Requests of bytes as they are, to the server of api_world.h.
 */
#pragma once

#include "api_world.h"

#include <sys/socket.h>
#include <sys/time.h>
#include <sys/un.h>
#include <unistd.h>

/* Bytes as they are, and what comes until the server closes the connection or falls silent. */
static inline char *
talk(int fd, const struct sockaddr *address, socklen_t length, const char *bytes)
{
    const struct timeval patience = { .tv_sec = 20 };
    GString *heard = g_string_new(NULL);
    char part[4096];
    ssize_t size;

    g_assert_cmpint(connect(fd, address, length), ==, 0);
    setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience);
    g_assert_cmpint(write(fd, bytes, strlen(bytes)), ==, (ssize_t)strlen(bytes));
    while ((size = read(fd, part, sizeof part)) > 0)
        g_string_append_len(heard, part, size);
    return g_string_free(heard, FALSE);
}

/* Over the local socket, where the kernel says who asks. */
static inline char *
raw(World *w, const char *bytes)
{
    struct sockaddr_un address = { .sun_family = AF_UNIX };
    autofd int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

    g_snprintf(address.sun_path, sizeof address.sun_path, "%s/api", w->dir);
    return talk(fd, (struct sockaddr *)&address, sizeof address, bytes);
}
