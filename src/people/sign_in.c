/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * Signing in with a password, and remembering for a while that one was right.
 */
#include "base/clock.h"
#include "people/inside.h"

#include <arpa/inet.h>
#include <string.h>

#define REMEMBER_US (5 * 60 * INT64_C(1000000))
#define MOST_REMEMBERED 1000

void
remembered_free(Remembered *remembered)
{
    g_free(remembered->name);
    g_free(remembered);
}

/* ---- limits ---- */

typedef struct {
    People *people;
    char *peer, *name; /* keys of the limits */
} Tries;

static void
tries_clear(Tries *tries)
{
    g_free(tries->peer);
    g_free(tries->name);
}
G_DEFINE_AUTO_CLEANUP_CLEAR_FUNC(Tries, tries_clear)

/* A host has a whole /64 of IPv6 addresses. */
static char *
peer_key(const char *peer)
{
    struct in6_addr address;
    char text[INET6_ADDRSTRLEN];
    g_autofree char *plain = g_strndup(peer, strcspn(peer, "%"));

    if (inet_pton(AF_INET6, plain, &address) != 1 || IN6_IS_ADDR_V4MAPPED(&address))
        return g_strdup(peer);
    memset(address.s6_addr + 8, 0, 8);
    return g_strdup(inet_ntop(AF_INET6, &address, text, sizeof text));
}

/* However it is written: with the profile or without. */
static char *
name_key(const char *user, const char *plain)
{
    return plain != NULL ? g_strdup(plain)
                         : g_utf8_substring(user, 0, MIN(64, g_utf8_strlen(user, -1)));
}

static bool
may_try(void *data, GError **error)
{
    const Tries *tries = data;
    int64_t wait_ms = MAX(limit_wait(tries->people->peers, tries->peer),
                          limit_wait(tries->people->names, tries->name));

    return wait_ms == 0 ||
           error_set(error, ERR_LIMITED,
                     "too many failed sign-ins of this user or from this address: try again in "
                     "%d s",
                     (int)(wait_ms / 1000 + 1));
}

/* ---- passwords ---- */

/* What the store says of a user; NULL if there is none, or no password. */
static char *
known_hash(People *people, const char *name, unsigned *ret_life)
{
    WITH_LOCK(&people->lock);
    const Member *member = name != NULL ? g_hash_table_lookup(people->members, name) : NULL;

    if (member == NULL)
        return NULL;
    *ret_life = member->life;
    return g_strdup(member->row->password);
}

static Who *
who_in_life(People *people, const char *name, unsigned life)
{
    WITH_LOCK(&people->lock);
    const Member *member = g_hash_table_lookup(people->members, name);

    return member != NULL && member->life == life && member->row->locked == 0 ? people_who(member)
                                                                              : NULL;
}

static bool
is_locked(People *people, const char *name)
{
    WITH_LOCK(&people->lock);
    const Member *member = g_hash_table_lookup(people->members, name);

    return member != NULL && member->row->locked != 0;
}

/* Is it the password? False without an error = it is another one, or there is no such user, which
 * takes as long. */
static bool
matches(Tries *tries, const char *name, const char *password, const char *peer, unsigned *ret_life,
        GError **error)
{
    People *people = tries->people;
    g_autofree char *hash = known_hash(people, name, ret_life);

    /* PAM is asked for our users only: no stranger can have it lock accounts of the system. Life 0
     * is nobody's. */
    if (people->pam != NULL && *ret_life != 0)
        return pam_check(people->pam, name, password, peer, may_try, tries, error);
    return password_matches(people->passwords, people->pam != NULL ? NULL : hash, password, may_try,
                            tries, error);
}

/* What PAM could not tell was a try, too: one does not see from here what its modules have tried.
 */
static bool
counts(const GError *problem)
{
    return g_error_matches(problem, ERR, ERR_SIGN_IN) ||
           g_error_matches(problem, ERR, ERR_UNREACHABLE);
}

Who *
people_sign_in(People *people, const char *user, const char *password, const char *peer,
               GError **error)
{
    g_autofree char *name = people_plain_name(user);
    g_auto(Tries) tries = { people, peer_key(peer), name_key(user, name) };
    unsigned life = 0;
    g_autoptr(GError) problem = NULL;
    Who *who = NULL;

    if (!may_try(&tries, error))
        return NULL;
    if (matches(&tries, name, password, peer, &life, &problem)) {
        who = who_in_life(people, name, life);
        if (who == NULL && is_locked(people, name)) /* only who knows the password is told so */
            error_set(&problem, ERR_SIGN_IN,
                      "user '%s' is locked; an administrator unlocks: livemerge user unlock %s",
                      name, name);
    }
    if (who != NULL)
        return who;
    if (problem == NULL)
        error_set(&problem, ERR_SIGN_IN, "the user name or the password is not right");
    if (counts(problem)) {
        limit_spend(people->peers, tries.peer);
        limit_spend(people->names, tries.name);
    }
    g_propagate_error(error, g_steal_pointer(&problem));
    return NULL;
}

bool
people_change_password(People *people, const Who *who, const char *old, const char *password,
                       const char *peer, GError **error)
{
    g_autoptr(GError) problem = NULL;

    if (who->user == NULL)
        return error_set(error, ERR_FORBIDDEN, "%s signs in without a password", who->name);
    if (!people_has_passwords(people, error) || !password_check(password, error))
        return false;
    if (g_str_equal(old, password))
        return error_set(error, ERR_INVALID, "password: it is the same as old_password");
    g_autoptr(Who) same = people_sign_in(people, who->user, old, peer, &problem);
    if (g_error_matches(problem, ERR, ERR_SIGN_IN))
        return error_set(error, ERR_FORBIDDEN, "old_password: it is not the password of %s",
                         who->name);
    if (same == NULL) {
        g_propagate_error(error, g_steal_pointer(&problem));
        return false;
    }
    char *hash = password_hash(people->passwords, password, error);
    return hash != NULL && people_put_hash(people, who->user, hash, same->life, who->token, error);
}

/* ---- Basic ---- */

static char *
keyed_hash(People *people, const char *user, const char *password)
{
    g_autoptr(GHmac) hmac = g_hmac_new(G_CHECKSUM_SHA256, people->key, sizeof people->key);

    g_hmac_update(hmac, (const guchar *)user, (gssize)strlen(user) + 1);
    g_hmac_update(hmac, (const guchar *)password, (gssize)strlen(password));
    return g_strdup(g_hmac_get_string(hmac));
}

/* The user whose credentials they are; NULL = they are not remembered */
static char *
remembered(People *people, const char *key, unsigned *ret_life)
{
    WITH_LOCK(&people->lock);
    const Remembered *found = g_hash_table_lookup(people->basic, key);

    if (found == NULL || clock_mono_us() >= found->until_us)
        return NULL;
    *ret_life = found->life;
    return g_strdup(found->name);
}

static gboolean
is_over(void *key, void *value, void *now_us)
{
    return ((const Remembered *)value)->until_us <= *(const int64_t *)now_us;
}

static void
remember(People *people, const char *key, const Who *who)
{
    WITH_LOCK(&people->lock);
    int64_t now_us = clock_mono_us();

    if (g_hash_table_size(people->basic) >= MOST_REMEMBERED)
        g_hash_table_foreach_remove(people->basic, is_over, &now_us);
    if (g_hash_table_size(people->basic) >= MOST_REMEMBERED)
        return; /* it works, only not as fast */
    Remembered *entry = g_new0(Remembered, 1);
    entry->name = g_strdup(who->user);
    entry->life = who->life;
    entry->until_us = now_us + REMEMBER_US;
    g_hash_table_replace(people->basic, g_strdup(key), entry);
}

Who *
people_basic(People *people, const char *user, const char *password, const char *peer,
             GError **error)
{
    g_autofree char *key = keyed_hash(people, user, password);
    unsigned life = 0;
    g_autofree char *name = remembered(people, key, &life);
    Who *who = name != NULL ? who_in_life(people, name, life) : NULL;

    if (who != NULL)
        return who;
    who = people_sign_in(people, user, password, peer, error);
    if (who != NULL)
        remember(people, key, who);
    return who;
}
