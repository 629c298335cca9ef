/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * What the server needs of GnuTLS beside libmicrohttpd. http_make_certificate() is in http.h.
 */
#pragma once

#include "base/error.h"

/* TLS 1.2 and 1.3 */
#define TLS_PRIORITY "NORMAL:-VERS-ALL:+VERS-TLS1.3:+VERS-TLS1.2"

/* Are both PEM texts there, readable, and do they belong together? */
bool tls_check_pair(const char *cert, const char *key, GError **error);
