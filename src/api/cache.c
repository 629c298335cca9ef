/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "api/cache.h"

#define MOST_BYTES (16u * 1024 * 1024)

struct Cache {
    Manager *manager;
    GMutex lock;
    CacheMark mark;      /* of all that is in it */
    GHashTable *answers; /* key → GBytes */
    size_t bytes;
};

Cache *
cache_new(Manager *manager)
{
    Cache *cache = g_new0(Cache, 1);

    cache->manager = manager;
    g_mutex_init(&cache->lock);
    cache->answers =
        g_hash_table_new_full(g_str_hash, g_str_equal, g_free, (GDestroyNotify)g_bytes_unref);
    return cache;
}

void
cache_free(Cache *cache)
{
    if (cache == NULL)
        return;
    g_hash_table_unref(cache->answers);
    g_mutex_clear(&cache->lock);
    g_free(cache);
}

CacheMark
cache_mark(Cache *cache)
{
    return (CacheMark){ .manager = manager_revision(cache->manager),
                        .store = store_changes(manager_store(cache->manager)) };
}

static bool
same(CacheMark a, CacheMark b)
{
    return a.manager == b.manager && a.store == b.store;
}

GBytes *
cache_get(Cache *cache, const char *key)
{
    CacheMark now = cache_mark(cache);
    WITH_LOCK(&cache->lock);
    GBytes *answer = same(cache->mark, now) ? g_hash_table_lookup(cache->answers, key) : NULL;

    return answer != NULL ? g_bytes_ref(answer) : NULL;
}

void
cache_put(Cache *cache, const char *key, CacheMark mark, GBytes *answer)
{
    size_t size = strlen(key) + g_bytes_get_size(answer);
    CacheMark now = cache_mark(cache);
    WITH_LOCK(&cache->lock);

    if (!same(mark, now) || size > MOST_BYTES / 4)
        return;
    if (!same(cache->mark, mark) || cache->bytes + size > MOST_BYTES) {
        g_hash_table_remove_all(cache->answers);
        cache->bytes = 0;
        cache->mark = mark;
    }
    if (g_hash_table_contains(cache->answers, key))
        return;
    g_hash_table_insert(cache->answers, g_strdup(key), g_bytes_ref(answer));
    cache->bytes += size;
}
