/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * Tokens as their owners see them: which there are, and ending them.
 */
#include "base/clock.h"
#include "people/inside.h"

#include <string.h>

/* 64 bits of the token's hash: no two of a user's hundred are alike, and nobody signs in with it.
 */
#define ID_LENGTH 16

static void
session_free(void *data)
{
    Session *session = data;

    g_free(session->id);
    g_free(session->peer);
    g_free(session);
}

char *
people_session_id(const char *token)
{
    char *hash = g_compute_checksum_for_string(G_CHECKSUM_SHA256, token, -1);

    hash[ID_LENGTH] = '\0';
    return hash;
}

static Session *
session_new(const Token *token, const Who *who)
{
    Session *session = g_new0(Session, 1);

    session->id = g_strndup(token->row->hash, ID_LENGTH);
    session->kind = token_kind_word(token->kind);
    session->peer = g_strdup(token->row->peer);
    session->created = token->row->created;
    session->used = token->row->used;
    session->ends = token_ends(token);
    session->is_mine = g_strcmp0(token->row->hash, who->token) == 0;
    return session;
}

static gint
by_use(const void *a, const void *b)
{
    const Session *one = *(Session *const *)a, *other = *(Session *const *)b;

    if (one->used != other->used)
        return one->used < other->used ? 1 : -1;
    return g_strcmp0(one->id, other->id);
}

/* The name without its profile; ERR_NOT_FOUND. With lock held. */
static char *
known_name(People *people, const char *name, GError **error)
{
    g_autofree char *plain = people_plain_name(name);

    if (plain != NULL && g_hash_table_contains(people->members, plain))
        return g_steal_pointer(&plain);
    error_set(error, ERR_NOT_FOUND, "there is no user '%.100s'", name);
    return NULL;
}

GPtrArray *
people_sessions(People *people, const Who *who, const char *name, GError **error)
{
    g_autoptr(GPtrArray) list = g_ptr_array_new_with_free_func(session_free);
    int64_t now = clock_wall_ms();
    GHashTableIter all;
    void *value;
    WITH_LOCK(&people->lock);
    g_autofree char *plain = known_name(people, name, error);

    if (plain == NULL)
        return NULL;
    g_hash_table_iter_init(&all, people->tokens);
    while (g_hash_table_iter_next(&all, NULL, &value)) {
        const Token *token = value;
        if (g_str_equal(token->row->person, plain) && now < token_ends(token))
            g_ptr_array_add(list, session_new(token, who));
    }
    g_ptr_array_sort(list, by_use);
    return g_steal_pointer(&list);
}

/* The hash of the user's token with this id */
static char *
find(People *people, const char *name, const char *id, const char **ret_kind, GError **error)
{
    GHashTableIter all;
    void *value;
    WITH_LOCK(&people->lock);
    g_autofree char *plain = known_name(people, name, error);

    if (plain == NULL)
        return NULL;
    g_hash_table_iter_init(&all, people->tokens);
    while (strlen(id) == ID_LENGTH && g_hash_table_iter_next(&all, NULL, &value)) {
        const Token *token = value;
        if (!g_str_equal(token->row->person, plain) || !g_str_has_prefix(token->row->hash, id))
            continue;
        *ret_kind = token_kind_word(token->kind);
        return g_strdup(token->row->hash);
    }
    error_set(error, ERR_NOT_FOUND, "user '%s' has no session '%.40s'", plain, id);
    return NULL;
}

bool
people_session_end(People *people, const char *name, const char *id, const char **ret_kind,
                   GError **error)
{
    WITH_LOCK(&people->writing);
    g_autofree char *hash = find(people, name, id, ret_kind, error);

    return hash != NULL && token_drop(people, hash, error);
}

bool
people_sessions_end(People *people, const Who *who, const char *name, unsigned *ret_ended,
                    GError **error)
{
    WITH_LOCK(&people->writing);
    g_autoptr(GPtrArray) sessions = people_sessions(people, who, name, error);
    g_autofree char *plain = people_plain_name(name);

    *ret_ended = 0;
    if (sessions == NULL || !store_tokens_remove(people->store, plain, who->token, error))
        return false;
    for (guint i = 0; i < sessions->len; i++)
        *ret_ended += !((const Session *)sessions->pdata[i])->is_mine;
    tokens_forget(people, plain, who->token);
    return true;
}
