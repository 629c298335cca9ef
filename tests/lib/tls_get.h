/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * A GET over TLS on a machine that may be busy and slow.
 */
#pragma once

#include "http/http.h"

#include <string.h>

/* The client gives a connection ten seconds, its handshake included: where that was not enough, it
 * is tried again. Any other failure is told. */
static inline bool
tls_get(HttpClient *client, HttpAnswer *answer, GError **error)
{
    for (int tries = 1;; tries++) {
        g_autoptr(GError) problem = NULL;
        if (http_call(client, "GET", "/", NULL, NULL, 0, 30000, answer, &problem))
            return true;
        if (tries == 20 || strstr(problem->message, "no connection to ") == NULL) {
            g_propagate_error(error, g_steal_pointer(&problem));
            return false;
        }
    }
}
