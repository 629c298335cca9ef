/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "api/cache.h"

#define MOST_BYTES (16u * 1024 * 1024)

/* The state of the world. */
typedef struct {
    int64_t manager;
    int store;
} Mark;

struct Cache {
    Manager *manager;
    GMutex lock;         /* for what follows, turns included */
    GCond ended;         /* a turn has */
    Mark mark;           /* of all answers */
    GHashTable *answers; /* key → GBytes */
    GHashTable *turns;   /* key → CacheTurn, which lies with its maker and who waits for it */
    size_t bytes;
};

struct CacheTurn {
    char *key;
    Mark mark; /* before anything was looked at */
    unsigned users;
    bool ended;
    GBytes *answer; /* NULL = there is none */
};

Cache *
cache_new(Manager *manager)
{
    Cache *cache = g_new0(Cache, 1);

    cache->manager = manager;
    g_mutex_init(&cache->lock);
    g_cond_init(&cache->ended);
    cache->answers =
        g_hash_table_new_full(g_str_hash, g_str_equal, g_free, (GDestroyNotify)g_bytes_unref);
    cache->turns = g_hash_table_new(g_str_hash, g_str_equal);
    return cache;
}

void
cache_free(Cache *cache)
{
    if (cache == NULL)
        return;
    g_hash_table_unref(cache->answers);
    g_hash_table_unref(cache->turns);
    g_cond_clear(&cache->ended);
    g_mutex_clear(&cache->lock);
    g_free(cache);
}

static Mark
mark_now(Cache *cache)
{
    return (Mark){ .manager = manager_revision(cache->manager),
                   .store = store_changes(manager_store(cache->manager)) };
}

static bool
same(Mark a, Mark b)
{
    return a.manager == b.manager && a.store == b.store;
}

/* ---- turns ---- */

static void
leave_locked(CacheTurn *turn)
{
    if (--turn->users > 0)
        return;
    if (turn->answer != NULL)
        g_bytes_unref(turn->answer);
    g_free(turn->key);
    g_free(turn);
}

/* Of one who began when the world was as it is for who asks now: what he makes is new enough,
 * whatever changes meanwhile. NULL: there is nobody, or he has failed. */
static GBytes *
wait_locked(Cache *cache, const char *key, Mark now)
{
    CacheTurn *turn = g_hash_table_lookup(cache->turns, key);
    GBytes *answer;

    if (turn == NULL || !same(turn->mark, now))
        return NULL;
    turn->users++;
    while (!turn->ended)
        g_cond_wait(&cache->ended, &cache->lock);
    answer = turn->answer != NULL ? g_bytes_ref(turn->answer) : NULL;
    leave_locked(turn);
    return answer;
}

GBytes *
cache_begin(Cache *cache, const char *key, CacheTurn **ret_turn)
{
    Mark now = mark_now(cache);
    WITH_LOCK(&cache->lock);
    GBytes *answer = same(cache->mark, now) ? g_hash_table_lookup(cache->answers, key) : NULL;
    CacheTurn *turn;

    answer = answer != NULL ? g_bytes_ref(answer) : wait_locked(cache, key, now);
    if (answer != NULL)
        return answer;
    turn = g_new0(CacheTurn, 1);
    turn->key = g_strdup(key);
    turn->mark = now;
    turn->users = 1;
    g_hash_table_replace(cache->turns, turn->key, turn);
    *ret_turn = turn;
    return NULL;
}

static void
keep_locked(Cache *cache, const CacheTurn *turn)
{
    size_t size = strlen(turn->key) + g_bytes_get_size(turn->answer);

    if (size > MOST_BYTES / 4)
        return;
    if (!same(cache->mark, turn->mark) || cache->bytes + size > MOST_BYTES) {
        g_hash_table_remove_all(cache->answers);
        cache->bytes = 0;
        cache->mark = turn->mark;
    }
    if (g_hash_table_contains(cache->answers, turn->key))
        return;
    g_hash_table_insert(cache->answers, g_strdup(turn->key), g_bytes_ref(turn->answer));
    cache->bytes += size;
}

void
cache_end(Cache *cache, CacheTurn *take_turn, GBytes *answer)
{
    Mark now = mark_now(cache);
    WITH_LOCK(&cache->lock);

    take_turn->ended = true;
    if (answer != NULL) {
        take_turn->answer = g_bytes_ref(answer);
        if (same(take_turn->mark, now))
            keep_locked(cache, take_turn);
    }
    if (g_hash_table_lookup(cache->turns, take_turn->key) == take_turn)
        g_hash_table_remove(cache->turns, take_turn->key);
    g_cond_broadcast(&cache->ended);
    leave_locked(take_turn);
}
