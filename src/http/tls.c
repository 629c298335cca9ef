/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "http/tls.h"

#include <string.h>

#define LONGEST_CHAIN 16

struct TlsPair {
    gnutls_pcert_st chain[LONGEST_CHAIN];
    unsigned length;
    gnutls_privkey_t key;
};

void
tls_pair_free(TlsPair *pair)
{
    if (pair == NULL)
        return;
    for (unsigned i = 0; i < pair->length; i++)
        gnutls_pcert_deinit(&pair->chain[i]);
    if (pair->key != NULL)
        gnutls_privkey_deinit(pair->key);
    g_free(pair);
}

/* Do they belong together? GnutLS says it where it is given both. */
static int
check_pair(const gnutls_datum_t *cert, const gnutls_datum_t *key)
{
    gnutls_certificate_credentials_t both = NULL;
    int failed = gnutls_certificate_allocate_credentials(&both);

    if (failed < 0)
        return failed;
    failed = gnutls_certificate_set_x509_key_mem(both, cert, key, GNUTLS_X509_FMT_PEM);
    gnutls_certificate_free_credentials(both);
    return failed;
}

static int
load(TlsPair *pair, const gnutls_datum_t *cert, const gnutls_datum_t *key)
{
    unsigned length = LONGEST_CHAIN;
    int failed =
        gnutls_pcert_list_import_x509_raw(pair->chain, &length, cert, GNUTLS_X509_FMT_PEM, 0);

    if (failed < 0)
        return failed;
    pair->length = length;
    failed = gnutls_privkey_init(&pair->key);
    return failed < 0
               ? failed
               : gnutls_privkey_import_x509_raw(pair->key, key, GNUTLS_X509_FMT_PEM, NULL, 0);
}

TlsPair *
tls_pair_new(const char *cert, const char *key, GError **error)
{
    if (cert == NULL || key == NULL) {
        error_set(error, ERR_INVALID, "TLS needs a certificate and its key: one is missing");
        return NULL;
    }
    const gnutls_datum_t cert_text = { (unsigned char *)cert, (unsigned)strlen(cert) };
    const gnutls_datum_t key_text = { (unsigned char *)key, (unsigned)strlen(key) };
    TlsPair *pair = g_new0(TlsPair, 1);
    int failed = check_pair(&cert_text, &key_text);
    if (failed >= 0)
        failed = load(pair, &cert_text, &key_text);
    if (failed >= 0)
        return pair;
    tls_pair_free(pair);
    error_set(error, ERR_INVALID,
              "the TLS certificate and key cannot be used (both must be PEM texts and belong "
              "together): %s",
              gnutls_strerror(failed));
    return NULL;
}

/* ---- which one a handshake gets ---- */

/* libmicrohttpd's callback has no argument of ours, but a server has its thread to itself, and all
 * its connections and handshakes are there. */
static _Thread_local TlsPair **pair_of_thread;

void
tls_serve(TlsPair **pair)
{
    pair_of_thread = pair;
}

int
tls_retrieve(gnutls_session_t session, const gnutls_datum_t *authorities, int n_authorities,
             const gnutls_pk_algorithm_t *algorithms, int n_algorithms, gnutls_pcert_st **ret_chain,
             unsigned *ret_length, gnutls_privkey_t *ret_key)
{
    TlsPair *pair = pair_of_thread != NULL ? g_atomic_pointer_get(pair_of_thread) : NULL;

    if (pair == NULL)
        return -1;
    *ret_chain = pair->chain;
    *ret_length = pair->length;
    *ret_key = pair->key;
    return 0;
}
