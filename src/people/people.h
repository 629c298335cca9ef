/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * People: users, their roles and passwords, tokens, and signing in.
 *
 * Promise: no password and no token is stored: passwords as yescrypt hashes, tokens (256 random
 * bits) as SHA-256. There is no default password: the first start makes the user "admin", who has
 * none and so cannot sign in until one was set. A change of a password ends all tokens of the user
 * (of one's own: all others); a change of a role holds from the next request on. Signing in costs
 * one yescrypt, for unknown users too; at most a few are computed at a time, by threads of low
 * priority, so that sign-ins cannot starve other requests. Failed ones are limited for each peer
 * address and each user. Of Basic credentials that were right a keyed hash is kept in memory for
 * some minutes.
 *
 * Or passwords are the system's, by PAM (pam.h). Then only the roles are ours: who is no user here
 * does not get in, whatever PAM says. We do not hear when such a password changes: tokens go on.
 *
 * How: all users and tokens are kept in memory (limits below), and written through to the store.
 *
 * Names: a user is "alice"; who signs in says "alice", "alice@internal" (internal is our only
 * profile), and is called "alice@internal" in events.
 *
 * Ownership: results belong to the caller. The Store is borrowed and must outlive it. Threads: all
 * functions from any thread. Errors: ERR_SIGN_IN (wrong or no credentials), ERR_LIMITED,
 * those of pam.h.
 */
#pragma once

#include "base/cleanup.h"
#include "model/role.h"
#include "store/store.h"

#define PEOPLE_MOST 1000       /* users */
#define PEOPLE_MOST_TOKENS 100 /* of one user; the one that was not used for longest goes */
#define PEOPLE_PROFILE "internal"

typedef struct People People;

typedef struct {
    const char *pam_service;  /* passwords are PAM's, of this service; NULL = our own */
    const char *pam_dir;      /* where its file is; NULL = where the system has them */
    unsigned pam_patience_ms; /* how long PAM may take; 0 = 20 s */
} PeopleOptions;
/* options: NULL = none. ERR_INVALID, ERR_UNSUPPORTED: PAM cannot be asked. */
People *people_open(Store *store, const PeopleOptions *options, GError **error);
/* Nobody may be inside any more. NULL is fine. */
void people_close(People *people);
/* Are passwords PAM's? Then none of ours counts, and none can be set or changed (ERR_REFUSED). */
bool people_use_pam(const People *people);
/* Has any administrator who is not locked a password? Nobody can sign in before. With PAM: is there
 * one? */
bool people_ready(People *people);

/* ---- who asks ---- */

typedef struct {
    char *name; /* "alice@internal", "root@local" */
    char *user; /* "alice"; NULL = not one of ours */
    Role role;
    GHashTable *vms; /* VM id → Role, beside role; NULL = none */
    unsigned life;   /* of the user's password: what was found with an older one is void */
    char *token;     /* the hash of the one he came with; NULL = with none */
} Who;
Who *who_local(const char *name, Role role); /* whom the kernel names */
Who *who_copy(const Who *who);               /* shares its VMs, which nobody changes */
void who_free(Who *who);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(Who, who_free)
/* Is he the user of this name, with its profile or without? */
bool people_is(const Who *who, const char *name);
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

/* peer: his address. NULL: the user was changed or removed since who signed in, or the store
 * failed. */
char *people_token_new(People *people, const Who *who, TokenKind kind, const char *peer,
                       int64_t *ret_expires, GError **error);
/* NULL = unknown, revoked or expired. */
Who *people_token(People *people, const char *token, const char *peer, TokenKind *ret_kind);
/* Who had it, as a name for events; NULL without an error = it was none. */
char *people_token_revoke(People *people, const char *token, GError **error);

/* Who that is now, with the roles that he has now. NULL: he was removed or has another password, or
 * his token was revoked or has expired. It does not count as a use of the token. */
Who *people_again(People *people, const Who *who);

/* ---- tokens as users see them ---- */

typedef struct {
    char *id;         /* of its own: it says nothing of the token */
    const char *kind; /* a word of TOKEN_TABLE; static */
    char *peer;       /* where it was used from last; NULL = not known */
    int64_t created, used;
    int64_t ends; /* if it is not used until then */
    bool is_mine; /* who asks came with it */
} Session;

/* The id of the session of this token, whether there is one or not. */
char *people_session_id(const char *token);
/* Those of the user that are valid, the one that was used last first. ERR_NOT_FOUND: no user */
GPtrArray *people_sessions(People *people, const Who *who, const char *name, GError **error);
/* ERR_NOT_FOUND: that user has none of this id. *ret_kind: a word, static */
bool people_session_end(People *people, const char *name, const char *id, const char **ret_kind,
                        GError **error);
/* All of the user's but the one that who came with. */
bool people_sessions_end(People *people, const Who *who, const char *name, unsigned *ret_ended,
                         GError **error);

/* ---- users ---- */

typedef struct {
    char *name;
    Role role;
    GHashTable *vms; /* VM id → Role (GINT_TO_POINTER); may be empty */
    bool has_password;
    unsigned tokens;
    int64_t created, changed; /* ms */
    int64_t locked;           /* since then; 0 = not */
} Person;
void person_free(Person *person);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(Person, person_free)

GPtrArray *people_list(People *people); /* of Person, by name */
/* ERR_NOT_FOUND. Here and below a name may carry its profile. */
Person *people_find(People *people, const char *name, GError **error);
/* password NULL = none yet. ERR_EXISTS. */
bool people_add(People *people, const char *name, Role role, const char *password, GError **error);
bool people_set_password(People *people, const char *name, const char *password, GError **error);
/* One's own. The old one is asked for as people_sign_in() does it: a wrong one is counted, and is
 * ERR_FORBIDDEN (who asks is signed in). All tokens of the user end but the one that who came
 * with. */
bool people_change_password(People *people, const Who *who, const char *old, const char *password,
                            const char *peer, GError **error);
/* vm_id NULL: the role for all. ROLE_NONE takes it away. */
bool people_set_role(People *people, const char *name, const char *vm_id, Role role,
                     GError **error);
/* Who is locked cannot sign in, and what was signed in ends; password and roles stay, for when the
 * lock is taken away. who: asks for it, and cannot lock himself (ERR_REFUSED). *ret_changed: it was
 * not so before. */
bool people_set_locked(People *people, const Who *who, const char *name, bool locked,
                       bool *ret_changed, GError **error);
bool people_remove(People *people, const char *name, GError **error);
