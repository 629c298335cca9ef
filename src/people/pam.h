/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * Passwords by PAM: the system asks its own sources (files, directories, Kerberos).
 *
 * Promise: what PAM's modules do, and how long they take, is theirs; so they are asked on threads
 * of their own, a few at a time, and nobody waits longer than a limit. Those that do not come back
 * are left behind: when all are, the next are refused at once. Who waits holds a thread of the
 * server, so they are limited, too. No account of the system is asked for that is no user of ours.
 *
 * Threads: any. Errors: ERR_SIGN_IN (it is not right, or the account may not sign in),
 * ERR_UNREACHABLE (PAM cannot tell), ERR_TIMEOUT (it did not answer), ERR_LIMITED,
 * ERR_UNSUPPORTED (built without PAM).
 */
#pragma once

#include "people/password.h"

typedef struct Pam Pam;

/* dir: where the service's file is; NULL = where the system has them. patience_ms: 0 = 20 s */
Pam *pam_new(const char *service, const char *dir, unsigned patience_ms, GError **error);
void pam_free(Pam *pam); /* waits for nobody; NULL is fine */
G_DEFINE_AUTOPTR_CLEANUP_FUNC(Pam, pam_free)
/* may(data) is asked when its turn has come; NULL = yes. */
bool pam_check(Pam *pam, const char *user, const char *password, const char *peer, PasswordMay may,
               void *data, GError **error);

/* ---- pam_ask.c ---- */

typedef struct {
    char *service, *dir; /* dir NULL = the system's */
    char *user, *password, *peer;
} PamQuestion;
bool pam_is_there(void);         /* was it built with it? */
bool pam_refuse(GError **error); /* false: it was not, and what helps */
/* Takes as long as the modules do. */
bool pam_ask(const PamQuestion *question, GError **error);
