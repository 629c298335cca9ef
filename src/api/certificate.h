/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * The certificate of the TCP address: its own one, which is made and renewed, or that of tls_cert.
 *
 * Promise: once an hour, and at the start, it is looked at: its own one is renewed 30 days before
 * its end, or when it lacks a name, by the same authority; what the files hold by then is what new
 * connections get. Those that are open stay. A file that cannot be used changes nothing.
 *
 * One that ends within 30 days and is not renewed is an event: a warning, within a week an alert.
 *
 * Threads: one of its own; what stands below the watch, from any thread.
 */
#pragma once

#include "api/api.h"
#include "http/http.h"

typedef struct Certificate Certificate;

/* host: where is listened. Reads, and makes or renews. manager: who is told; borrowed */
Certificate *certificate_new(Manager *manager, const ApiOptions *options, const char *host,
                             GError **error);
void certificate_end(Certificate *certificate);  /* of the watch; NULL is fine */
void certificate_free(Certificate *certificate); /* the same; nobody may ask any more */
/* PEM texts; borrowed, until the watch begins */
const char *certificate_pem(const Certificate *certificate);
const char *certificate_key(const Certificate *certificate);
const char *certificate_ca(const Certificate *certificate); /* NULL = not known; never changes */
/* The server must stop after certificate_end(). */
void certificate_watch(Certificate *certificate, HttpServer *server);
/* The watch asks the clock again: for tests, whose time moves at once. */
void certificate_wake(Certificate *certificate);

/* Its own one is made anew; of tls_cert, what the files hold by now is taken. ERR_REFUSED: neither
 * can be, and what helps. */
bool certificate_renew(Certificate *certificate, GError **error);

typedef struct {
    HttpCertificate served; /* to new connections */
    const char *file, *key_file;
    bool is_own;
    char *why_not; /* why it is not renewed by itself; NULL = it is */
} CertificateView;
/* Strings that are not of the view live as long as the certificate. */
bool certificate_view(Certificate *certificate, CertificateView *ret_view, GError **error);
void certificate_view_clear(CertificateView *view);
G_DEFINE_AUTO_CLEANUP_CLEAR_FUNC(CertificateView, certificate_view_clear)
