/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * What a survey keeps in memory: what volumes hold, and how fast storage domains were.
 */
#include "agent/survey.h"

#include "base/log.h"
#include "base/memory.h"

#include <fcntl.h>
#include <linux/fs.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>

#define SAVE_EVERY_US (5 * G_TIME_SPAN_SECOND)

/* A file that has these is as it was. */
typedef struct {
    uint64_t device, inode, size;
    struct timespec changed, written;
} Stamp;

typedef struct {
    Stamp stamp; /* its first two members are the key */
    SurveyVolume volume;
    int64_t used_us;
    GList link; /* in Survey.by_use */
} Kept;

typedef struct {
    const Domain *domain;
    Rates rates;
    bool dirty;
    int64_t saved_us;
} KnownRates;

struct Survey {
    size_t bytes_max;
    int64_t keep_us;
    GMutex lock; /* guards all below */
    GCond wake;
    GHashTable *kept;  /* Stamp → Kept */
    GQueue by_use;     /* of Kept, the one used last at the head */
    GHashTable *rates; /* Domain → KnownRates */
    SurveyState state;
    GThread *keeper;
    bool keeps, stopping; /* the thread goes on; it shall not */
};

/* ---- one volume */

static Stamp
stamp_of(const struct stat *st)
{
    return (Stamp){ st->st_dev, st->st_ino, (uint64_t)st->st_size, st->st_ctim, st->st_mtim };
}

static bool
same_time(const struct timespec *a, const struct timespec *b)
{
    return a->tv_sec == b->tv_sec && a->tv_nsec == b->tv_nsec;
}

static bool
same_stamp(const Stamp *a, const Stamp *b)
{
    return a->device == b->device && a->inode == b->inode && a->size == b->size &&
           same_time(&a->changed, &b->changed) && same_time(&a->written, &b->written);
}

static guint
file_hash(const void *key)
{
    const Stamp *stamp = key;

    return (guint)(stamp->inode ^ stamp->inode >> 32 ^ stamp->device * 31);
}

static gboolean
file_equal(const void *a, const void *b)
{
    const Stamp *x = a, *y = b;

    return x->device == y->device && x->inode == y->inode;
}

static size_t
kept_bytes(const Kept *kept)
{
    return sizeof *kept + allocation_memory(kept->volume.allocation);
}

static SurveyVolume
volume_ref(const SurveyVolume *volume)
{
    SurveyVolume copy = *volume;

    allocation_ref(copy.allocation);
    return copy;
}

static bool
has_no_cow(const char *path)
{
    autofd int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
    int flags = 0;

    return fd >= 0 && ioctl(fd, FS_IOC_GETFLAGS, &flags) == 0 && (flags & FS_NOCOW_FL) != 0;
}

static bool
in_time(void *deadline_us)
{
    return g_get_monotonic_time() < *(const int64_t *)deadline_us;
}

/* ---- keeping; the lock is held */

static void
drop(Survey *s, Kept *kept)
{
    s->state.bytes -= kept_bytes(kept);
    s->state.volumes--;
    g_queue_unlink(&s->by_use, &kept->link);
    g_hash_table_remove(s->kept, &kept->stamp);
    survey_volume_clear(&kept->volume);
    g_free(kept);
}

static bool
find(Survey *s, const Stamp *stamp, const char *path, SurveyVolume *ret_volume)
{
    Kept *kept = g_hash_table_lookup(s->kept, stamp);

    if (kept == NULL)
        return false;
    if (!same_stamp(&kept->stamp, stamp) || strcmp(kept->volume.allocation->path, path) != 0) {
        drop(s, kept);
        return false;
    }
    kept->used_us = g_get_monotonic_time();
    g_queue_unlink(&s->by_use, &kept->link);
    g_queue_push_head_link(&s->by_use, &kept->link);
    *ret_volume = volume_ref(&kept->volume);
    return true;
}

static void *keeper(void *data);

static void
wake_keeper(Survey *s)
{
    if (s->keeps) {
        g_cond_signal(&s->wake);
        return;
    }
    if (s->keeper != NULL)
        g_thread_join(s->keeper); /* it has let go of the lock */
    s->keeps = true;
    s->keeper = g_thread_new("survey", keeper, s);
}

static void
keep(Survey *s, const Stamp *stamp, const SurveyVolume *volume)
{
    Kept *old = g_hash_table_lookup(s->kept, stamp); /* another thread was as quick */
    Kept *kept = g_new0(Kept, 1);

    if (old != NULL)
        drop(s, old);
    *kept = (Kept){ *stamp, volume_ref(volume), g_get_monotonic_time(), { .data = kept } };
    g_hash_table_insert(s->kept, &kept->stamp, kept);
    g_queue_push_head_link(&s->by_use, &kept->link);
    s->state.bytes += kept_bytes(kept);
    s->state.volumes++;
    while (s->state.bytes > s->bytes_max)
        drop(s, g_queue_peek_tail(&s->by_use));
    if (s->state.volumes > 0 && !s->keeps)
        wake_keeper(s);
}

bool
survey_volume(Survey *survey, const char *path, const char *format, int64_t deadline_us,
              SurveyVolume *ret_volume, GError **error)
{
    SurveyVolume volume = { 0 };
    struct stat st, after;

    if (stat(path, &st) < 0)
        return error_set_errno(error, "looking at %s", path);
    Stamp stamp = stamp_of(&st);
    g_mutex_lock(&survey->lock);
    bool found = find(survey, &stamp, path, ret_volume);
    survey->state.reads += !found;
    g_mutex_unlock(&survey->lock);
    if (found)
        return true;

    volume.allocation = allocation_read(path, format, ALLOCATION_MAX, in_time, &deadline_us, error);
    if (volume.allocation == NULL)
        return false;
    volume.device = st.st_dev;
    volume.no_cow = has_no_cow(path);
    /* what was written meanwhile is read again next time, and what only took too long this time */
    if (stat(path, &after) == 0 && in_time(&deadline_us)) {
        Stamp now = stamp_of(&after);
        WITH_LOCK(&survey->lock);
        if (same_stamp(&stamp, &now))
            keep(survey, &stamp, &volume);
    }
    *ret_volume = volume;
    return true;
}

SurveyState
survey_state(Survey *survey)
{
    WITH_LOCK(&survey->lock);

    return survey->state;
}

/* ---- rates */

/* The lock is held; it is not while the file is read. */
static KnownRates *
known_rates(Survey *s, const Domain *domain)
{
    KnownRates *known = g_hash_table_lookup(s->rates, domain);
    g_autoptr(GError) error = NULL;
    Rates rates;

    if (known != NULL)
        return known;
    g_mutex_unlock(&s->lock);
    if (!rates_load(domain, &rates, &error))
        log_warn("%s; estimates begin with guesses again", error->message);
    g_mutex_lock(&s->lock);
    known = g_hash_table_lookup(s->rates, domain);
    if (known == NULL) {
        known = g_new0(KnownRates, 1);
        known->domain = domain;
        known->rates = rates;
        g_hash_table_insert(s->rates, (void *)domain, known);
    }
    return known;
}

Rates
survey_rates(Survey *survey, const Domain *domain)
{
    WITH_LOCK(&survey->lock);

    return known_rates(survey, domain)->rates;
}

void
survey_note(Survey *survey, const Domain *domain, Rate rate, double amount, double seconds)
{
    WITH_LOCK(&survey->lock);
    KnownRates *known = known_rates(survey, domain);

    if (!rates_add(&known->rates, rate, amount, seconds))
        return;
    known->dirty = true;
    wake_keeper(survey);
}

/* ---- the thread */

static bool
is_due_to_save(const KnownRates *known, int64_t now)
{
    return known->dirty && (known->saved_us == 0 || now - known->saved_us >= SAVE_EVERY_US);
}

/* The lock is let go of while one is written. */
static void
save(Survey *s, KnownRates *known)
{
    Rates rates = known->rates;
    g_autoptr(GError) error = NULL;

    known->dirty = false;
    known->saved_us = g_get_monotonic_time();
    g_mutex_unlock(&s->lock);
    if (!rates_save(known->domain, &rates, &error))
        log_warn("noting how fast merges were: %s, ignoring", error->message);
    g_mutex_lock(&s->lock);
}

/* Does what is due. The time of what comes next; INT64_MAX = nothing does. */
static int64_t
tidy(Survey *s, int64_t now)
{
    int64_t next = INT64_MAX;
    Kept *oldest;
    GHashTableIter it;
    void *value;

    while ((oldest = g_queue_peek_tail(&s->by_use)) != NULL && now - oldest->used_us >= s->keep_us)
        drop(s, oldest);
    if (oldest != NULL)
        next = oldest->used_us + s->keep_us;
    g_hash_table_iter_init(&it, s->rates);
    while (g_hash_table_iter_next(&it, NULL, &value)) {
        KnownRates *known = value;
        if (is_due_to_save(known, now)) {
            save(s, known);
            return now; /* the table may be another by now */
        }
        if (known->dirty)
            next = MIN(next, known->saved_us + SAVE_EVERY_US);
    }
    return next;
}

static void *
keeper(void *data)
{
    Survey *s = data;

    g_mutex_lock(&s->lock);
    while (!s->stopping) {
        int64_t next = tidy(s, g_get_monotonic_time());

        if (next < INT64_MAX) {
            g_cond_wait_until(&s->wake, &s->lock, next);
            continue;
        }
        g_mutex_unlock(&s->lock);
        memory_trim();
        g_mutex_lock(&s->lock);
        if (s->state.volumes == 0 && tidy(s, g_get_monotonic_time()) == INT64_MAX)
            break;
    }
    s->keeps = false;
    g_mutex_unlock(&s->lock);
    return NULL;
}

Survey *
survey_new(size_t bytes_max, unsigned keep_ms)
{
    Survey *survey = g_new0(Survey, 1);

    survey->bytes_max = bytes_max;
    survey->keep_us = (int64_t)keep_ms * 1000;
    g_mutex_init(&survey->lock);
    g_cond_init(&survey->wake);
    g_queue_init(&survey->by_use);
    survey->kept = g_hash_table_new(file_hash, file_equal);
    survey->rates = g_hash_table_new_full(NULL, NULL, NULL, g_free);
    return survey;
}

void
survey_free(Survey *survey)
{
    if (survey == NULL)
        return;
    g_mutex_lock(&survey->lock);
    survey->stopping = true;
    g_cond_signal(&survey->wake);
    g_mutex_unlock(&survey->lock);
    if (survey->keeper != NULL)
        g_thread_join(survey->keeper);
    for (Kept *kept; (kept = g_queue_peek_tail(&survey->by_use)) != NULL;)
        drop(survey, kept);
    g_hash_table_unref(survey->kept);
    g_hash_table_unref(survey->rates);
    g_mutex_clear(&survey->lock);
    g_cond_clear(&survey->wake);
    g_free(survey);
}
