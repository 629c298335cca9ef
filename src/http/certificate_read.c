/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * What a certificate says of itself.
 */
#include "http/http.h"

#include <arpa/inet.h>
#include <gnutls/x509.h>
#include <string.h>

void
http_certificate_clear(HttpCertificate *certificate)
{
    g_free(certificate->subject);
    g_free(certificate->issuer);
    g_free(certificate->serial);
    g_free(certificate->fingerprint);
    g_strfreev(certificate->names);
    *certificate = (HttpCertificate){ 0 };
}

/* "A1:B2": as openssl writes it */
static char *
hex_text(const unsigned char *bytes, size_t size)
{
    GString *text = g_string_new(NULL);

    for (size_t i = 0; i < size; i++)
        g_string_append_printf(text, "%s%02X", i > 0 ? ":" : "", bytes[i]);
    return g_string_free(text, FALSE);
}

static char *
take_name(int failed, gnutls_datum_t *name)
{
    char *text =
        failed < 0 ? g_strdup("") : g_utf8_make_valid((const char *)name->data, name->size);

    gnutls_free(name->data);
    return text;
}

/* NULL: it is neither a name nor an address */
static char *
name_text(int kind, const unsigned char *bytes, size_t size)
{
    char text[INET6_ADDRSTRLEN];

    if (kind == GNUTLS_SAN_DNSNAME)
        return g_utf8_make_valid((const char *)bytes, (gssize)size);
    if (kind == GNUTLS_SAN_IPADDRESS && (size == 4 || size == 16))
        return g_strdup(inet_ntop(size == 4 ? AF_INET : AF_INET6, bytes, text, sizeof text));
    return NULL;
}

static char **
read_names(gnutls_x509_crt_t cert)
{
    g_autoptr(GPtrArray) names = g_ptr_array_new_with_free_func(g_free);

    for (unsigned i = 0;; i++) {
        unsigned char bytes[512];
        size_t size = sizeof bytes;
        int kind = gnutls_x509_crt_get_subject_alt_name(cert, i, bytes, &size, NULL);
        if (kind == GNUTLS_E_SHORT_MEMORY_BUFFER)
            continue;
        if (kind < 0)
            break;
        char *name = name_text(kind, bytes, size);
        if (name != NULL)
            g_ptr_array_add(names, name);
    }
    g_ptr_array_add(names, NULL);
    return (char **)g_ptr_array_free(g_steal_pointer(&names), FALSE);
}

static void
read_all(gnutls_x509_crt_t cert, HttpCertificate *ret)
{
    unsigned char bytes[64];
    size_t size = sizeof bytes;
    gnutls_datum_t name = { 0 };

    ret->subject = take_name(gnutls_x509_crt_get_dn2(cert, &name), &name);
    name = (gnutls_datum_t){ 0 };
    ret->issuer = take_name(gnutls_x509_crt_get_issuer_dn2(cert, &name), &name);
    ret->serial =
        gnutls_x509_crt_get_serial(cert, bytes, &size) < 0 ? g_strdup("") : hex_text(bytes, size);
    size = sizeof bytes;
    ret->fingerprint = gnutls_x509_crt_get_fingerprint(cert, GNUTLS_DIG_SHA256, bytes, &size) < 0
                           ? g_strdup("")
                           : hex_text(bytes, size);
    ret->names = read_names(cert);
    ret->from = (int64_t)gnutls_x509_crt_get_activation_time(cert) * 1000;
    ret->ends = (int64_t)gnutls_x509_crt_get_expiration_time(cert) * 1000;
}

bool
http_certificate_read(const char *pem, HttpCertificate *ret, GError **error)
{
    const gnutls_datum_t text = { (unsigned char *)pem, (unsigned)strlen(pem) };
    gnutls_x509_crt_t cert = NULL;
    int failed = gnutls_x509_crt_init(&cert);

    if (failed >= 0)
        failed = gnutls_x509_crt_import(cert, &text, GNUTLS_X509_FMT_PEM);
    if (failed >= 0)
        read_all(cert, ret);
    if (cert != NULL)
        gnutls_x509_crt_deinit(cert);
    return failed >= 0 || error_set(error, ERR_INVALID, "the TLS certificate cannot be read: %s",
                                    gnutls_strerror(failed));
}
