/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * What the server needs of GnuTLS beside libmicrohttpd: a certificate that can be changed while it
 * runs.
 */
#pragma once

#include "base/error.h"

#include <gnutls/abstract.h>

/* TLS 1.2 and 1.3 */
#define TLS_PRIORITY "NORMAL:-VERS-ALL:+VERS-TLS1.3:+VERS-TLS1.2"

typedef struct TlsPair TlsPair;

/* Of PEM texts. ERR_INVALID: one is missing, cannot be read, or they do not belong together. */
TlsPair *tls_pair_new(const char *cert, const char *key, GError **error);
void tls_pair_free(TlsPair *pair); /* NULL is fine */

/* From now on, handshakes on this thread are made with *pair, as it is then. */
void tls_serve(TlsPair **pair);
/* gnutls_certificate_retrieve_function2 */
int tls_retrieve(gnutls_session_t session, const gnutls_datum_t *authorities, int n_authorities,
                 const gnutls_pk_algorithm_t *algorithms, int n_algorithms,
                 gnutls_pcert_st **ret_chain, unsigned *ret_length, gnutls_privkey_t *ret_key);
