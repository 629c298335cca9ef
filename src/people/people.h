/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * People: users, their roles and passwords, tokens, and signing in.
 *
 * Promise: no password and no token is stored: passwords as yescrypt hashes, tokens (256 random
 * bits) as SHA-256. There is no default password: the first start makes the user "admin", who has
 * none and so cannot sign in until one was set. A change of a password ends all tokens of the user;
 * a change of a role holds from the next request on. Signing in costs one yescrypt, for unknown
 * users too; at most a few are computed at a time, by threads of low priority, so that sign-ins
 * cannot starve other requests. Failed ones are limited for each peer address and each user. Of
 * Basic credentials that were right a keyed hash is kept in memory for some minutes.
 *
 * How: all users and tokens are kept in memory (limits below), and written through to the store.
 *
 * Names: a user is "alice"; who signs in says "alice", "alice@internal" (internal is our only
 * profile), and is called "alice@internal" in events.
 *
 * Ownership: results belong to the caller. The Store is borrowed and must outlive it. Threads: all
 * functions from any thread. Errors: ERR_SIGN_IN (wrong or no credentials), ERR_LIMITED.
 */
#pragma once

#include "base/cleanup.h"
#include "model/role.h"
#include "store/store.h"

#define PEOPLE_MOST 1000       /* users */
#define PEOPLE_MOST_TOKENS 100 /* of one user; the one that was not used for longest goes */
#define PEOPLE_PROFILE "internal"

typedef struct People People;

People *people_open(Store *store, GError **error);
/* Nobody may be inside any more. NULL is fine. */
void people_close(People *people);
/* Has any administrator a password? Nobody can sign in before. */
bool people_ready(People *people);

/* ---- who asks ---- */

typedef struct {
    char *name; /* "alice@internal", "root@local" */
    char *user; /* "alice"; NULL = not one of ours */
    Role role;
    GHashTable *vms; /* VM id → Role, beside role; NULL = none */
    unsigned life;   /* of the user's password: what was found with an older one is void */
} Who;
Who *who_local(const char *name, Role role); /* whom the kernel names */
void who_free(Who *who);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(Who, who_free)
/* What who is for a VM. */
Role who_role_on(const Who *who, const char *vm_id);

/* peer: the address that is limited. Takes as long as yescrypt does. */
Who *people_sign_in(People *people, const char *user, const char *password, const char *peer,
                    GError **error);
/* The same for credentials that come with each request. */
Who *people_basic(People *people, const char *user, const char *password, const char *peer,
                  GError **error);

/* ---- tokens ---- */

/* clang-format off */
/*    kind            word       lives      ends when it was not used for   seconds */
#define TOKEN_TABLE(X)                                                              \
    X(TOKEN_API,      "api",     7 * 86400,  3600)  /* oVirt's clients */            \
    X(TOKEN_BROWSER,  "browser", 7 * 86400,  3600)  /* the page's cookie */          \
    X(TOKEN_PROGRAM,  "program", 30 * 86400, 30 * 86400) /* our command line */
/* clang-format on */
#define X(kind, word, lives, idle) kind,
typedef enum { TOKEN_TABLE(X) TOKEN_LAST } TokenKind;
#undef X

/* NULL: the user was changed or removed since who signed in, or the store failed. */
char *people_token_new(People *people, const Who *who, TokenKind kind, int64_t *ret_expires,
                       GError **error);
/* NULL = unknown, revoked or expired. */
Who *people_token(People *people, const char *token, TokenKind *ret_kind);
/* Who had it, as a name for events; NULL without an error = it was none. */
char *people_token_revoke(People *people, const char *token, GError **error);

/* ---- users ---- */

typedef struct {
    char *name;
    Role role;
    GHashTable *vms; /* VM id → Role (GINT_TO_POINTER); may be empty */
    bool has_password;
    unsigned tokens;
    int64_t created, changed; /* ms */
} Person;
void person_free(Person *person);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(Person, person_free)

GPtrArray *people_list(People *people); /* of Person, by name */
/* ERR_NOT_FOUND. Here and below a name may carry its profile. */
Person *people_find(People *people, const char *name, GError **error);
/* password NULL = none yet. ERR_EXISTS. */
bool people_add(People *people, const char *name, Role role, const char *password, GError **error);
bool people_set_password(People *people, const char *name, const char *password, GError **error);
/* vm_id NULL: the role for all. ROLE_NONE takes it away. */
bool people_set_role(People *people, const char *name, const char *vm_id, Role role,
                     GError **error);
bool people_remove(People *people, const char *name, GError **error);
