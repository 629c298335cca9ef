/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * Who asks, and what he may do.
 *
 * Promise: credentials that are sent (a header, or the page's cookie) count and must be good;
 * without any, the kernel says who is at the other end of the local socket, or he gets what is
 * public; nobody else gets in. A cookie alone changes nothing: such requests need the header
 * X-Livemerge, which no foreign page can send.
 *
 * Ownership: results belong to the caller. Threads: any.
 */
#pragma once

#include "api/routes.h"

#define COOKIE "livemerge-session"
/* Over TLS: a browser takes one of this name from us alone, over TLS, and not from a neighbour in
 * the domain nor from somebody in the network who answers for us without TLS. */
#define COOKIE_HOST "__Host-" COOKIE
/* Sent by our own page with what it changes; its value does not matter. */
#define PAGE_HEADER "X-Livemerge"

/* ERR_SIGN_IN, ERR_LIMITED, ERR_FORBIDDEN */
Who *access_who(Api *api, const HttpRequest *request, GError **error);
/* Was it sent by a page of another origin? */
bool access_is_foreign(const Api *api, const HttpRequest *request);
/* What an answer to a request without (good) credentials carries. */
void access_challenge(const HttpRequest *request, const GError *problem, HttpResponse *response);
/* Did it come over TLS? */
bool access_is_secure(const Api *api, const HttpRequest *request);
/* The cookie's token; NULL = none. The caller frees it. */
char *access_cookie(const Api *api, const HttpRequest *request);

/* May who do this? ERR_FORBIDDEN, or ERR_NOT_FOUND for what he may not even see. ids as in Call. */
bool access_check(Manager *manager, const Who *who, const Route *route, const char *const ids[2],
                  GError **error);
/* Of a member of the collection of this kind ("vm", "disk", "job", "event"). */
bool access_sees(const Who *who, const char *kind, const json_t *member);
/* The VMs that he may see, as manager_vms() */
GPtrArray *access_vms(Manager *manager, const Who *who);

/* A sign-in that failed, as an event (oVirt's code 114). */
void access_tell_failed(Api *api, const char *user, const HttpRequest *request,
                        const GError *problem);
