/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "people/limit.h"

#include "base/cleanup.h"
#include "base/clock.h"

typedef struct {
    int64_t spent_ms; /* tries that were spent and did not come back, each refill_ms long */
    int64_t at_ms;    /* then */
} Bucket;

struct Limit {
    GMutex lock;
    GHashTable *buckets;
    int64_t tries, refill_ms;
    unsigned most;
};

Limit *
limit_new(unsigned tries, unsigned refill_ms, unsigned most)
{
    Limit *limit = g_new0(Limit, 1);

    g_mutex_init(&limit->lock);
    limit->buckets = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, g_free);
    limit->tries = tries;
    limit->refill_ms = refill_ms;
    limit->most = most;
    return limit;
}

void
limit_free(Limit *limit)
{
    if (limit == NULL)
        return;
    g_hash_table_unref(limit->buckets);
    g_mutex_clear(&limit->lock);
    g_free(limit);
}

static int64_t
spent_now(const Bucket *bucket, int64_t now_ms)
{
    return MAX(0, bucket->spent_ms - (now_ms - bucket->at_ms));
}

int64_t
limit_wait(Limit *limit, const char *key)
{
    WITH_LOCK(&limit->lock);
    const Bucket *bucket = g_hash_table_lookup(limit->buckets, key);
    int64_t may = (limit->tries - 1) * limit->refill_ms;

    return bucket == NULL ? 0 : MAX(0, spent_now(bucket, clock_mono_us() / 1000) - may);
}

/* Room for one more: all that have recovered go; if there are none, the one with the least. */
static void
make_room(Limit *limit, int64_t now_ms)
{
    GHashTableIter all;
    void *key, *value, *best = NULL;
    int64_t least = G_MAXINT64;

    g_hash_table_iter_init(&all, limit->buckets);
    while (g_hash_table_iter_next(&all, &key, &value)) {
        int64_t spent = spent_now(value, now_ms);
        if (spent == 0) {
            g_hash_table_iter_remove(&all);
        } else if (spent < least) {
            least = spent;
            best = key;
        }
    }
    if (g_hash_table_size(limit->buckets) >= limit->most && best != NULL)
        g_hash_table_remove(limit->buckets, best);
}

void
limit_spend(Limit *limit, const char *key)
{
    WITH_LOCK(&limit->lock);
    int64_t now_ms = clock_mono_us() / 1000;
    Bucket *bucket = g_hash_table_lookup(limit->buckets, key);

    if (bucket == NULL) {
        if (g_hash_table_size(limit->buckets) >= limit->most)
            make_room(limit, now_ms);
        bucket = g_new0(Bucket, 1);
        g_hash_table_insert(limit->buckets, g_strdup(key), bucket);
    }
    bucket->spent_ms =
        MIN(spent_now(bucket, now_ms) + limit->refill_ms, limit->tries * limit->refill_ms);
    bucket->at_ms = now_ms;
}
