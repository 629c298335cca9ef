/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * Listening sockets: unix ones with their permissions right from the first instant, and TCP.
 */
#pragma once

#include "base/cleanup.h"
#include "base/error.h"

#include <sys/stat.h>

typedef struct {
    int fd;
    unsigned port;   /* TCP */
    char *unix_path; /* unix; owned */
    dev_t dev;       /* which file we made, so that no other is removed at the end */
    ino_t ino;
} Listener;

/* address and group as in HttpServerOptions. */
bool listener_open(const char *address, const char *group, Listener *ret_listener, GError **error);
/* Removes the unix socket if it is still ours. Does not close the fd. */
void listener_remove(Listener *listener);
