/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * Passwords, by libcrypt's yescrypt.
 *
 * Promise: no more than a few are computed at a time (each takes about 50 ms of a processor and 16
 * MiB), by threads of their own at low priority; the callers wait. Comparing takes as long for a
 * user who does not exist. Threads: any.
 */
#pragma once

#include "base/error.h"

#define PASSWORD_SHORTEST 8
#define PASSWORD_LONGEST 255 /* bytes */

typedef struct Passwords Passwords;

Passwords *passwords_new(GError **error);
void passwords_free(Passwords *passwords);

/* May it be set? */
bool password_check(const char *password, GError **error);
/* For the store; the caller frees it. */
char *password_hash(Passwords *passwords, const char *password, GError **error);
/* hash NULL: nothing matches, and it takes as long. may(data) is asked when its turn has come, from
 * another thread; if it says no, nothing is computed. False without an error = it is another
 * password. ERR_LIMITED: too many wait already. */
typedef bool (*PasswordMay)(void *data, GError **error);
bool password_matches(Passwords *passwords, const char *hash, const char *password, PasswordMay may,
                      void *data, GError **error);
