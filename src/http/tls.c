/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "http/tls.h"
#include "base/clock.h"
#include "http/http.h"

#include <arpa/inet.h>
#include <errno.h>
#include <gnutls/crypto.h>
#include <gnutls/x509.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define DAY (24 * 60 * 60)
#define VALID_DAYS (10 * 365)

typedef struct gnutls_x509_crt_int GnutlsCert;
typedef struct gnutls_x509_privkey_int GnutlsKey;
G_DEFINE_AUTOPTR_CLEANUP_FUNC(GnutlsCert, gnutls_x509_crt_deinit)
G_DEFINE_AUTOPTR_CLEANUP_FUNC(GnutlsKey, gnutls_x509_privkey_deinit)

typedef gnutls_datum_t Datum;
static void
datum_clear(Datum *datum)
{
    gnutls_free(datum->data);
}
G_DEFINE_AUTO_CLEANUP_CLEAR_FUNC(Datum, datum_clear)

bool
tls_check_pair(const char *cert, const char *key, GError **error)
{
    gnutls_certificate_credentials_t both = NULL;

    if (cert == NULL || key == NULL)
        return error_set(error, ERR_INVALID, "TLS needs a certificate and its key: one is missing");
    gnutls_datum_t cert_text = { (unsigned char *)cert, (unsigned)strlen(cert) };
    gnutls_datum_t key_text = { (unsigned char *)key, (unsigned)strlen(key) };
    int failed = gnutls_certificate_allocate_credentials(&both);
    if (failed < 0)
        return error_set(error, ERR_INTERNAL, "preparing TLS: %s", gnutls_strerror(failed));
    failed = gnutls_certificate_set_x509_key_mem(both, &cert_text, &key_text, GNUTLS_X509_FMT_PEM);
    gnutls_certificate_free_credentials(both);
    return failed >= 0 || error_set(error, ERR_INVALID,
                                    "the TLS certificate and key cannot be used (both must be PEM "
                                    "texts and belong together): %s",
                                    gnutls_strerror(failed));
}

/* ---- making a certificate ---- */

static GnutlsKey *
make_key(void)
{
    gnutls_x509_privkey_t key = NULL;

    if (gnutls_x509_privkey_init(&key) < 0)
        return NULL;
    if (gnutls_x509_privkey_generate(key, GNUTLS_PK_ECDSA,
                                     GNUTLS_CURVE_TO_BITS(GNUTLS_ECC_CURVE_SECP256R1), 0) < 0) {
        gnutls_x509_privkey_deinit(key);
        return NULL;
    }
    return key;
}

/* The parts that a CA and a server certificate share */
static GnutlsCert *
make_cert(GnutlsKey *key, const char *name)
{
    g_autoptr(GnutlsCert) cert = NULL;
    unsigned char serial[16];
    unsigned char key_id[64];
    size_t key_id_size = sizeof key_id;
    time_t now = (time_t)(clock_wall_ms() / 1000);

    if (gnutls_x509_crt_init(&cert) < 0 || gnutls_rnd(GNUTLS_RND_NONCE, serial, sizeof serial) < 0)
        return NULL;
    serial[0] = (serial[0] & 0x3f) | 0x40; /* positive, no leading zero */
    /* A day back: clocks of clients may be behind. */
    if (gnutls_x509_crt_set_version(cert, 3) < 0 ||
        gnutls_x509_crt_set_serial(cert, serial, sizeof serial) < 0 ||
        gnutls_x509_crt_set_activation_time(cert, now - DAY) < 0 ||
        gnutls_x509_crt_set_expiration_time(cert, now + (time_t)VALID_DAYS * DAY) < 0 ||
        gnutls_x509_crt_set_key(cert, key) < 0 ||
        gnutls_x509_crt_get_key_id(cert, 0, key_id, &key_id_size) < 0 ||
        gnutls_x509_crt_set_subject_key_id(cert, key_id, key_id_size) < 0 ||
        gnutls_x509_crt_set_dn_by_oid(cert, GNUTLS_OID_X520_COMMON_NAME, 0, name,
                                      (unsigned)strlen(name)) < 0)
        return NULL;
    return g_steal_pointer(&cert);
}

static GnutlsCert *
make_ca(GnutlsKey *key, const char *host)
{
    g_autofree char *name = g_strdup_printf("livemerge CA %.40s", host);
    g_autoptr(GnutlsCert) ca = make_cert(key, name);

    if (ca == NULL || gnutls_x509_crt_set_basic_constraints(ca, 1, 0) < 0 ||
        gnutls_x509_crt_set_key_usage(ca, GNUTLS_KEY_KEY_CERT_SIGN | GNUTLS_KEY_CRL_SIGN) < 0 ||
        gnutls_x509_crt_sign2(ca, ca, key, GNUTLS_DIG_SHA256, 0) < 0)
        return NULL;
    return g_steal_pointer(&ca);
}

static bool
add_names(GnutlsCert *cert, const char *host)
{
    struct in_addr four = { htonl(INADDR_LOOPBACK) };
    struct in6_addr six = IN6ADDR_LOOPBACK_INIT;
    const char *names[] = { host, "localhost" };

    for (size_t i = 0; i < G_N_ELEMENTS(names); i++)
        if (gnutls_x509_crt_set_subject_alt_name(cert, GNUTLS_SAN_DNSNAME, names[i],
                                                 (unsigned)strlen(names[i]),
                                                 GNUTLS_FSAN_APPEND) < 0)
            return false;
    return gnutls_x509_crt_set_subject_alt_name(cert, GNUTLS_SAN_IPADDRESS, &four, sizeof four,
                                                GNUTLS_FSAN_APPEND) >= 0 &&
           gnutls_x509_crt_set_subject_alt_name(cert, GNUTLS_SAN_IPADDRESS, &six, sizeof six,
                                                GNUTLS_FSAN_APPEND) >= 0;
}

static GnutlsCert *
make_server_cert(GnutlsKey *key, const char *host, GnutlsCert *ca, GnutlsKey *ca_key)
{
    g_autofree char *name = g_strndup(host, 64); /* the longest common name there is */
    g_autoptr(GnutlsCert) cert = make_cert(key, name);
    unsigned char ca_id[64];
    size_t ca_id_size = sizeof ca_id;

    if (cert == NULL || gnutls_x509_crt_set_basic_constraints(cert, 0, -1) < 0 ||
        gnutls_x509_crt_set_key_usage(cert, GNUTLS_KEY_DIGITAL_SIGNATURE) < 0 ||
        gnutls_x509_crt_set_key_purpose_oid(cert, GNUTLS_KP_TLS_WWW_SERVER, 0) < 0 ||
        !add_names(cert, host) ||
        gnutls_x509_crt_get_subject_key_id(ca, ca_id, &ca_id_size, NULL) < 0 ||
        gnutls_x509_crt_set_authority_key_id(cert, ca_id, ca_id_size) < 0 ||
        gnutls_x509_crt_sign2(cert, ca, ca_key, GNUTLS_DIG_SHA256, 0) < 0)
        return NULL;
    return g_steal_pointer(&cert);
}

static bool
write_pem(const char *dir, const char *name, const Datum *pem, int mode, GError **error)
{
    g_autofree char *path = g_build_filename(dir, name, NULL);
    g_autoptr(GError) why = NULL;

    if (!g_file_set_contents_full(path, (const char *)pem->data, pem->size,
                                  G_FILE_SET_CONTENTS_CONSISTENT | G_FILE_SET_CONTENTS_DURABLE,
                                  mode, &why))
        return error_set(error, ERR_STORAGE, "writing the TLS file %s: %s", path, why->message);
    return true;
}

static bool
has_file(const char *dir, const char *name)
{
    g_autofree char *path = g_build_filename(dir, name, NULL);

    return access(path, F_OK) == 0;
}

bool
http_make_certificate(const char *dir, GError **error)
{
    bool has_cert = has_file(dir, "cert.pem");
    bool has_key = has_file(dir, "key.pem");
    char host[256] = "localhost";

    if (has_cert && has_key)
        return true;
    if (has_cert != has_key)
        return error_set(error, ERR_EXISTS,
                         "%s has %s but no %s: put the other file there, or remove this one to "
                         "have a new certificate made",
                         dir, has_cert ? "cert.pem" : "key.pem", has_cert ? "key.pem" : "cert.pem");
    gethostname(host, sizeof host - 1);
    g_autoptr(GnutlsKey) ca_key = make_key();
    g_autoptr(GnutlsKey) key = make_key();
    g_autoptr(GnutlsCert) ca = ca_key == NULL ? NULL : make_ca(ca_key, host);
    g_autoptr(GnutlsCert) cert =
        ca == NULL || key == NULL ? NULL : make_server_cert(key, host, ca, ca_key);
    g_auto(Datum) ca_pem = { 0 };
    g_auto(Datum) cert_pem = { 0 };
    g_auto(Datum) key_pem = { 0 };

    if (cert == NULL || gnutls_x509_crt_export2(ca, GNUTLS_X509_FMT_PEM, &ca_pem) < 0 ||
        gnutls_x509_crt_export2(cert, GNUTLS_X509_FMT_PEM, &cert_pem) < 0 ||
        gnutls_x509_privkey_export2(key, GNUTLS_X509_FMT_PEM, &key_pem) < 0)
        return error_set(error, ERR_INTERNAL, "making a TLS certificate for \"%s\" failed", host);
    if (g_mkdir_with_parents(dir, 0755) < 0)
        return error_set_errno(error, "making the folder %s", dir);
    /* The CA's key is never written: nobody can sign with it a second time. The pair that
     * counts as "there" comes last. */
    return write_pem(dir, "ca.pem", &ca_pem, 0644, error) &&
           write_pem(dir, "key.pem", &key_pem, 0600, error) &&
           write_pem(dir, "cert.pem", &cert_pem, 0644, error);
}
