/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * A server's own certificate, and the authority that signs it again before it ends.
 */
#include "base/clock.h"
#include "http/http.h"
#include "http/tls.h"

#include <arpa/inet.h>
#include <gnutls/crypto.h>
#include <gnutls/x509.h>
#include <string.h>
#include <unistd.h>

#define DAY (24 * 60 * 60)
#define CA_DAYS (10 * 365)
#define VALID_DAYS 365
#define RENEW_DAYS 30 /* before the end */

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

static time_t
now_s(void)
{
    return (time_t)(clock_wall_ms() / 1000);
}

/* ---- making ---- */

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
make_cert(GnutlsKey *key, const char *name, time_t end)
{
    g_autoptr(GnutlsCert) cert = NULL;
    unsigned char serial[16];
    unsigned char key_id[64];
    size_t key_id_size = sizeof key_id;

    if (gnutls_x509_crt_init(&cert) < 0 || gnutls_rnd(GNUTLS_RND_NONCE, serial, sizeof serial) < 0)
        return NULL;
    serial[0] = (serial[0] & 0x3f) | 0x40; /* positive, no leading zero */
    /* A day back: clocks of clients may be behind. */
    if (gnutls_x509_crt_set_version(cert, 3) < 0 ||
        gnutls_x509_crt_set_serial(cert, serial, sizeof serial) < 0 ||
        gnutls_x509_crt_set_activation_time(cert, now_s() - DAY) < 0 ||
        gnutls_x509_crt_set_expiration_time(cert, end) < 0 ||
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
    g_autoptr(GnutlsCert) ca = make_cert(key, name, now_s() + (time_t)CA_DAYS * DAY);

    if (ca == NULL || gnutls_x509_crt_set_basic_constraints(ca, 1, 0) < 0 ||
        gnutls_x509_crt_set_key_usage(ca, GNUTLS_KEY_KEY_CERT_SIGN | GNUTLS_KEY_CRL_SIGN) < 0 ||
        gnutls_x509_crt_sign2(ca, ca, key, GNUTLS_DIG_SHA256, 0) < 0)
        return NULL;
    return g_steal_pointer(&ca);
}

/* "::1" → its 16 bytes; 0 = it is a name */
static unsigned
address_bytes(const char *name, unsigned char bytes[16])
{
    return inet_pton(AF_INET, name, bytes) == 1    ? 4
           : inet_pton(AF_INET6, name, bytes) == 1 ? 16
                                                   : 0;
}

static bool
add_names(GnutlsCert *cert, const char *const *names)
{
    for (; *names != NULL; names++) {
        unsigned char bytes[16];
        unsigned size = address_bytes(*names, bytes);
        int failed = size > 0
                         ? gnutls_x509_crt_set_subject_alt_name(cert, GNUTLS_SAN_IPADDRESS, bytes,
                                                                size, GNUTLS_FSAN_APPEND)
                         : gnutls_x509_crt_set_subject_alt_name(cert, GNUTLS_SAN_DNSNAME, *names,
                                                                (unsigned)strlen(*names),
                                                                GNUTLS_FSAN_APPEND);
        if (failed < 0)
            return false;
    }
    return true;
}

static GnutlsCert *
make_server_cert(GnutlsKey *key, const char *const *names, GnutlsCert *ca, GnutlsKey *ca_key)
{
    g_autofree char *name = g_strndup(names[0], 64); /* the longest common name there is */
    time_t end = MIN(now_s() + (time_t)VALID_DAYS * DAY, gnutls_x509_crt_get_expiration_time(ca));
    g_autoptr(GnutlsCert) cert = make_cert(key, name, end);
    unsigned char ca_id[64];
    size_t ca_id_size = sizeof ca_id;

    if (cert == NULL || gnutls_x509_crt_set_basic_constraints(cert, 0, -1) < 0 ||
        gnutls_x509_crt_set_key_usage(cert, GNUTLS_KEY_DIGITAL_SIGNATURE) < 0 ||
        gnutls_x509_crt_set_key_purpose_oid(cert, GNUTLS_KP_TLS_WWW_SERVER, 0) < 0 ||
        !add_names(cert, names) ||
        gnutls_x509_crt_get_subject_key_id(ca, ca_id, &ca_id_size, NULL) < 0 ||
        gnutls_x509_crt_set_authority_key_id(cert, ca_id, ca_id_size) < 0 ||
        gnutls_x509_crt_sign2(cert, ca, ca_key, GNUTLS_DIG_SHA256, 0) < 0)
        return NULL;
    return g_steal_pointer(&cert);
}

/* ---- files ---- */

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
write_cert(const char *dir, const char *name, GnutlsCert *cert, GError **error)
{
    g_auto(Datum) pem = { 0 };

    if (cert == NULL || gnutls_x509_crt_export2(cert, GNUTLS_X509_FMT_PEM, &pem) < 0)
        return error_set(error, ERR_INTERNAL, "making the TLS certificate %s/%s failed", dir, name);
    return write_pem(dir, name, &pem, 0644, error);
}

static bool
write_key(const char *dir, const char *name, GnutlsKey *key, GError **error)
{
    g_auto(Datum) pem = { 0 };

    if (key == NULL || gnutls_x509_privkey_export2(key, GNUTLS_X509_FMT_PEM, &pem) < 0)
        return error_set(error, ERR_INTERNAL, "making the TLS key %s/%s failed", dir, name);
    return write_pem(dir, name, &pem, 0600, error);
}

/* Empty if it cannot be read. */
static char *
read_text(const char *dir, const char *name)
{
    g_autofree char *path = g_build_filename(dir, name, NULL);
    char *text = NULL;

    return g_file_get_contents(path, &text, NULL, NULL) ? text : g_strdup("");
}

/* NULL = it is not there, or is none */
static GnutlsCert *
read_cert(const char *dir, const char *name)
{
    g_autofree char *text = read_text(dir, name);
    const gnutls_datum_t pem = { (unsigned char *)text, (unsigned)strlen(text) };
    g_autoptr(GnutlsCert) cert = NULL;

    return gnutls_x509_crt_init(&cert) >= 0 &&
                   gnutls_x509_crt_import(cert, &pem, GNUTLS_X509_FMT_PEM) >= 0
               ? g_steal_pointer(&cert)
               : NULL;
}

static GnutlsKey *
read_key(const char *dir, const char *name)
{
    g_autofree char *text = read_text(dir, name);
    const gnutls_datum_t pem = { (unsigned char *)text, (unsigned)strlen(text) };
    g_autoptr(GnutlsKey) key = NULL;
    bool good = gnutls_x509_privkey_init(&key) >= 0 &&
                gnutls_x509_privkey_import(key, &pem, GNUTLS_X509_FMT_PEM) >= 0;

    explicit_bzero(text, strlen(text));
    return good ? g_steal_pointer(&key) : NULL;
}

static bool
belong_together(GnutlsCert *cert, GnutlsKey *key)
{
    unsigned char of_cert[64], of_key[64];
    size_t cert_size = sizeof of_cert, key_size = sizeof of_key;

    return cert != NULL && key != NULL &&
           gnutls_x509_crt_get_key_id(cert, 0, of_cert, &cert_size) >= 0 &&
           gnutls_x509_privkey_get_key_id(key, 0, of_key, &key_size) >= 0 &&
           cert_size == key_size && memcmp(of_cert, of_key, key_size) == 0;
}

static bool
has_file(const char *dir, const char *name)
{
    g_autofree char *path = g_build_filename(dir, name, NULL);

    return access(path, F_OK) == 0;
}

/* ---- is it time? ---- */

static bool
has_name(GnutlsCert *cert, const char *name)
{
    unsigned char wanted[16], found[512];
    unsigned wanted_size = address_bytes(name, wanted);

    for (unsigned i = 0;; i++) {
        size_t size = sizeof found - 1;
        int kind = gnutls_x509_crt_get_subject_alt_name(cert, i, found, &size, NULL);
        if (kind == GNUTLS_E_SHORT_MEMORY_BUFFER)
            continue;
        if (kind < 0)
            return false;
        if (kind == GNUTLS_SAN_IPADDRESS && wanted_size > 0 && size == wanted_size &&
            memcmp(found, wanted, size) == 0)
            return true;
        found[size] = '\0';
        if (kind == GNUTLS_SAN_DNSNAME && wanted_size == 0 &&
            g_ascii_strcasecmp((const char *)found, name) == 0)
            return true;
    }
}

static char *
day_of(time_t when)
{
    g_autoptr(GDateTime) date = g_date_time_new_from_unix_utc(when);

    return date != NULL ? g_date_time_format(date, "%Y-%m-%d") : g_strdup("another time");
}

/* Why a new one is wanted; NULL = it is good. end: how far a new one would reach */
static char *
why_renew(GnutlsCert *cert, GnutlsKey *key, const char *const *names, time_t end)
{
    time_t ends = gnutls_x509_crt_get_expiration_time(cert);
    g_autofree char *day = day_of(ends);

    if (!belong_together(cert, key))
        return g_strdup("it does not belong to key.pem");
    if (gnutls_x509_crt_get_activation_time(cert) > now_s())
        return g_strdup("it is not valid yet");
    if (ends - now_s() < (time_t)RENEW_DAYS * DAY && end - ends > DAY)
        return g_strdup_printf("it ends on %s", day);
    for (; *names != NULL; names++)
        if (!has_name(cert, *names))
            return g_strdup_printf("it is not for %s", *names);
    return NULL;
}

/* ---- the whole ---- */

static bool
issue(const char *dir, const char *const *names, GnutlsKey *key, GnutlsCert *ca, GnutlsKey *ca_key,
      GError **error)
{
    g_autoptr(GnutlsCert) cert = make_server_cert(key, names, ca, ca_key);

    return write_cert(dir, "cert.pem", cert, error);
}

/* The key first: it alone is nothing, and is made anew. */
static bool
make_authority(const char *dir, const char *host, GnutlsCert **ret_ca, GnutlsKey **ret_key,
               GError **error)
{
    g_autoptr(GnutlsKey) key = make_key();
    g_autoptr(GnutlsCert) ca = key != NULL ? make_ca(key, host) : NULL;

    if (!write_key(dir, "ca-key.pem", key, error) || !write_cert(dir, "ca.pem", ca, error))
        return false;
    *ret_key = g_steal_pointer(&key);
    *ret_ca = g_steal_pointer(&ca);
    return true;
}

static bool
make_first(const char *dir, const char *const *names, GError **error)
{
    g_autoptr(GnutlsCert) ca = read_cert(dir, "ca.pem");
    g_autoptr(GnutlsKey) ca_key = read_key(dir, "ca-key.pem");
    g_autoptr(GnutlsKey) key = read_key(dir, "key.pem");

    if (g_mkdir_with_parents(dir, 0755) < 0)
        return error_set_errno(error, "making the folder %s", dir);
    if (!belong_together(ca, ca_key)) {
        g_clear_pointer(&ca, gnutls_x509_crt_deinit);
        g_clear_pointer(&ca_key, gnutls_x509_privkey_deinit);
        if (!make_authority(dir, names[0], &ca, &ca_key, error))
            return false;
    }
    if (key == NULL) {
        key = make_key();
        if (!write_key(dir, "key.pem", key, error))
            return false;
    }
    return issue(dir, names, key, ca, ca_key, error);
}

static bool
look_again(const char *dir, const char *const *names, char **ret_news, GError **error)
{
    g_autoptr(GnutlsCert) cert = read_cert(dir, "cert.pem");
    g_autoptr(GnutlsKey) key = read_key(dir, "key.pem");
    g_autoptr(GnutlsCert) ca = read_cert(dir, "ca.pem");
    g_autoptr(GnutlsKey) ca_key = read_key(dir, "ca-key.pem");
    bool can = key != NULL && belong_together(ca, ca_key);
    time_t end = can ? gnutls_x509_crt_get_expiration_time(ca) : now_s() + (time_t)CA_DAYS * DAY;

    if (cert == NULL) /* whoever uses it says what is wrong with it */
        return true;
    g_autofree char *why = why_renew(cert, key, names, end);
    if (why == NULL)
        return true;
    if (!can) {
        *ret_news = g_strdup_printf(
            "the TLS certificate %s/cert.pem should be made anew (%s), and cannot be: the key of "
            "its authority, ca-key.pem, was not kept. Remove ca.pem, cert.pem and key.pem there, "
            "restart, and give clients the new ca.pem",
            dir, why);
        return true;
    }
    *ret_news = g_strdup_printf("the TLS certificate %s/cert.pem was renewed: %s", dir, why);
    return issue(dir, names, key, ca, ca_key, error);
}

bool
http_keep_certificate(const char *dir, const char *const *names, char **ret_news, GError **error)
{
    bool has_cert = has_file(dir, "cert.pem"), has_key = has_file(dir, "key.pem");

    *ret_news = NULL;
    if (has_cert && has_key)
        return look_again(dir, names, ret_news, error);
    if (has_cert || (has_key && !has_file(dir, "ca-key.pem")))
        return error_set(error, ERR_EXISTS,
                         "%s has %s but no %s: put the other file there, or remove this one to "
                         "have a new certificate made",
                         dir, has_cert ? "cert.pem" : "key.pem", has_cert ? "key.pem" : "cert.pem");
    return make_first(dir, names, error);
}

/* ---- when somebody wants it ---- */

char *
http_certificate_lacks(const char *dir)
{
    g_autoptr(GnutlsKey) key = read_key(dir, "key.pem");
    g_autoptr(GnutlsCert) ca = read_cert(dir, "ca.pem");
    g_autoptr(GnutlsKey) ca_key = read_key(dir, "ca-key.pem");

    if (key == NULL)
        return g_strdup_printf("its key %s/key.pem cannot be read", dir);
    return belong_together(ca, ca_key)
               ? NULL
               : g_strdup_printf("the key of its authority, %s/ca-key.pem, is not there", dir);
}

bool
http_renew_certificate(const char *dir, const char *const *names, GError **error)
{
    g_autofree char *lacks = http_certificate_lacks(dir);

    if (lacks != NULL)
        return error_set(error, ERR_REFUSED,
                         "the TLS certificate %s/cert.pem cannot be made anew: %s. Put it back; or "
                         "remove ca.pem, cert.pem and key.pem there, restart, and give clients the "
                         "new ca.pem",
                         dir, lacks);
    g_autoptr(GnutlsKey) key = read_key(dir, "key.pem");
    g_autoptr(GnutlsCert) ca = read_cert(dir, "ca.pem");
    g_autoptr(GnutlsKey) ca_key = read_key(dir, "ca-key.pem");
    return issue(dir, names, key, ca, ca_key, error);
}
