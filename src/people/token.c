/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * Tokens. What is stored of one is its SHA-256: it has 256 random bits, nothing slower is needed.
 */
#include "base/clock.h"
#include "people/inside.h"

#include <string.h>

#define LONGEST 100        /* of what is taken for a token at all */
#define SAVE_EACH_MS 60000 /* how exact the store knows the last use */

static const struct {
    const char *word;
    int64_t lives_ms, idle_ms;
} kinds[] = {
#define X(kind, word, lives, idle) [kind] = { word, (lives)*INT64_C(1000), (idle)*INT64_C(1000) },
    TOKEN_TABLE(X)
#undef X
};

void
token_free(Token *token)
{
    token_row_free(token->row);
    g_free(token);
}

const char *
token_kind_word(TokenKind kind)
{
    return kinds[kind].word;
}

int64_t
token_ends(const Token *token)
{
    return MIN(token->row->expires, token->row->used + kinds[token->kind].idle_ms);
}

static bool
has_expired(const Token *token, int64_t now)
{
    return now >= token_ends(token);
}

/* Takes the row. */
static void
put_token(People *people, TokenRow *row, TokenKind kind)
{
    Token *token = g_new0(Token, 1);
    WITH_LOCK(&people->lock);

    token->row = row;
    token->kind = kind;
    token->saved = row->used;
    g_hash_table_replace(people->tokens, row->hash, token);
}

/* Kinds that are not known (of a newer version) sign nobody in. */
bool
tokens_load(People *people, GError **error)
{
    g_autoptr(GPtrArray) rows = store_tokens(people->store, error);

    if (rows == NULL)
        return false;
    while (rows->len > 0) {
        g_autoptr(TokenRow) row = g_ptr_array_steal_index(rows, rows->len - 1);
        for (TokenKind kind = 0; kind < TOKEN_LAST; kind++)
            if (g_str_equal(kinds[kind].word, row->kind) &&
                g_hash_table_contains(people->members, row->person)) {
                put_token(people, g_steal_pointer(&row), kind);
                break;
            }
    }
    return true;
}

void
tokens_forget(People *people, const char *name, const char *keep)
{
    GHashTableIter all;
    void *hash, *token;
    WITH_LOCK(&people->lock);

    g_hash_table_iter_init(&all, people->tokens);
    while (g_hash_table_iter_next(&all, &hash, &token))
        if (g_str_equal(((Token *)token)->row->person, name) && g_strcmp0(hash, keep) != 0)
            g_hash_table_iter_remove(&all);
}

/* ---- making room ---- */

/* Hashes of what has expired; and of the user's own, if there are too many, the one that was not
 * used for longest. */
static GPtrArray *
find_old(People *people, const char *name)
{
    GPtrArray *old = g_ptr_array_new_with_free_func(g_free);
    int64_t now = clock_wall_ms();
    const Token *oldest = NULL;
    unsigned own = 0;
    GHashTableIter all;
    void *value;
    WITH_LOCK(&people->lock);

    g_hash_table_iter_init(&all, people->tokens);
    while (g_hash_table_iter_next(&all, NULL, &value)) {
        const Token *token = value;
        if (has_expired(token, now)) {
            g_ptr_array_add(old, g_strdup(token->row->hash));
        } else if (g_str_equal(token->row->person, name)) {
            own++;
            if (oldest == NULL || token->row->used < oldest->row->used)
                oldest = token;
        }
    }
    if (own >= PEOPLE_MOST_TOKENS)
        g_ptr_array_add(old, g_strdup(oldest->row->hash));
    return old;
}

bool
token_drop(People *people, const char *hash, GError **error)
{
    if (!store_token_remove(people->store, hash, error))
        return false;
    WITH_LOCK(&people->lock);
    g_hash_table_remove(people->tokens, hash);
    return true;
}

static bool
drop_old(People *people, const char *name, GError **error)
{
    g_autoptr(GPtrArray) old = find_old(people, name);

    for (guint i = 0; i < old->len; i++)
        if (!token_drop(people, old->pdata[i], error))
            return false;
    return true;
}

/* ---- a token's life ---- */

static char *
hash_of(const char *token)
{
    return g_compute_checksum_for_string(G_CHECKSUM_SHA256, token, -1);
}

static char *
random_text(GError **error)
{
    unsigned char bytes[32];

    if (!people_random(bytes, error))
        return NULL;
    char *text = g_base64_encode(bytes, sizeof bytes);
    /* base64url without padding: safe in headers, cookies and forms */
    g_strdelimit(text, "+", '-');
    g_strdelimit(text, "/", '_');
    text[strcspn(text, "=")] = '\0';
    return text;
}

static bool
is_same_life(People *people, const Who *who)
{
    WITH_LOCK(&people->lock);
    const Member *member =
        who->user != NULL ? g_hash_table_lookup(people->members, who->user) : NULL;

    return member != NULL && member->life == who->life && member->row->locked == 0;
}

char *
people_token_new(People *people, const Who *who, TokenKind kind, const char *peer,
                 int64_t *ret_expires, GError **error)
{
    g_autofree char *text = random_text(error);
    WITH_LOCK(&people->writing);

    if (text == NULL)
        return NULL;
    if (!is_same_life(people, who)) {
        error_set(error, ERR_SIGN_IN, "user '%s' was changed meanwhile; sign in again", who->name);
        return NULL;
    }
    if (!drop_old(people, who->user, error))
        return NULL;
    g_autoptr(TokenRow) row = g_new0(TokenRow, 1);
    row->hash = hash_of(text);
    row->person = g_strdup(who->user);
    row->kind = g_strdup(kinds[kind].word);
    row->peer = g_strdup(peer);
    row->created = row->used = clock_wall_ms();
    row->expires = row->created + kinds[kind].lives_ms;
    if (!store_token_put(people->store, row, error))
        return NULL;
    *ret_expires = row->expires;
    put_token(people, g_steal_pointer(&row), kind);
    return g_steal_pointer(&text);
}

/* Who has it, now used; a copy of its row in *ret_save if the store should hear of that. */
static Who *
use(People *people, const char *hash, const char *peer, TokenKind *ret_kind, TokenRow **ret_save)
{
    WITH_LOCK(&people->lock);
    Token *token = g_hash_table_lookup(people->tokens, hash);
    int64_t now = clock_wall_ms();

    if (token == NULL || has_expired(token, now))
        return NULL;
    const Member *member = g_hash_table_lookup(people->members, token->row->person);
    if (member == NULL || member->row->locked != 0)
        return NULL;
    token->row->used = MAX(token->row->used, now);
    if (g_strcmp0(token->row->peer, peer) != 0) {
        g_free(token->row->peer);
        token->row->peer = g_strdup(peer);
    }
    if (now - token->saved >= SAVE_EACH_MS) {
        token->saved = now;
        *ret_save = g_memdup2(token->row, sizeof *token->row);
        (*ret_save)->hash = g_strdup(token->row->hash);
        (*ret_save)->person = g_strdup(token->row->person);
        (*ret_save)->kind = g_strdup(token->row->kind);
        (*ret_save)->peer = g_strdup(token->row->peer);
    }
    *ret_kind = token->kind;
    Who *who = people_who(member);
    who->token = g_strdup(hash);
    return who;
}

/* The user who has it; NULL = it is none */
static char *
owner_of(People *people, const char *hash)
{
    WITH_LOCK(&people->lock);
    const Token *token = g_hash_table_lookup(people->tokens, hash);

    return token != NULL ? g_strdup(token->row->person) : NULL;
}

/* If it fails, a restart takes the token for a minute older than it is. */
static void
save_use(People *people, const TokenRow *row)
{
    WITH_LOCK(&people->writing);
    g_autofree char *owner = owner_of(people, row->hash);

    if (owner != NULL) /* not revoked in this moment */
        store_token_put(people->store, row, NULL);
}

Who *
people_token(People *people, const char *token, const char *peer, TokenKind *ret_kind)
{
    g_autoptr(TokenRow) to_save = NULL;

    if (*token == '\0' || strlen(token) > LONGEST)
        return NULL;
    g_autofree char *hash = hash_of(token);
    Who *who = use(people, hash, peer, ret_kind, &to_save);
    if (to_save != NULL)
        save_use(people, to_save);
    return who;
}

Who *
people_again(People *people, const Who *who)
{
    if (who->user == NULL) /* whom the kernel names */
        return who_copy(who);
    WITH_LOCK(&people->lock);
    const Member *member = g_hash_table_lookup(people->members, who->user);
    const Token *token =
        who->token != NULL ? g_hash_table_lookup(people->tokens, who->token) : NULL;

    if (member == NULL || member->life != who->life || member->row->locked != 0)
        return NULL;
    if (who->token != NULL && (token == NULL || has_expired(token, clock_wall_ms())))
        return NULL;
    Who *now = people_who(member);
    now->token = g_strdup(who->token);
    return now;
}

char *
people_token_revoke(People *people, const char *token, GError **error)
{
    g_autofree char *hash = hash_of(token);
    WITH_LOCK(&people->writing);
    g_autofree char *owner = owner_of(people, hash);

    if (owner == NULL || !token_drop(people, hash, error))
        return NULL;
    return g_strconcat(owner, "@" PEOPLE_PROFILE, NULL);
}
