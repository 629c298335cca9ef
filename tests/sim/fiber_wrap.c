/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * GLib's threads and clocks as fibers: what the linker puts in their place (--wrap) in the
 * product's objects. Outside of a fiber (the simulator's own code) nothing ever blocks.
 *
 * A GMutex holds in i[0] the process that has it, plus 1; its address is what is waited on. Mutexes
 * held by a process that is killed are freed, since those in static variables outlive it here.
 */
#include "fiber.h"

#include <string.h>

#define WRAP(name) __wrap_##name
#define EXPORT(result) __attribute__((used)) result

/* ---- mutexes ---- */

static void **held; /* mutexes, all that are locked now */
static guint n_held, room;

typedef struct {
    guint owner; /* process + 1; 0 = free */
    guint readers;
} Lock;

static Lock *
lock_of(void *mutex)
{
    return mutex;
}

static guint
me(void)
{
    return fiber_inside() ? fiber_process() + 1 : FIBER_PROCESSES + 1;
}

static void
note_held(void *mutex)
{
    if (n_held == room) {
        room = 2 * room + 32;
        held = g_renew(void *, held, room);
    }
    held[n_held++] = mutex;
}

/* Mostly it is the last one. */
static void
forget_held(void *mutex)
{
    for (guint i = n_held; i > 0; i--) {
        if (held[i - 1] != mutex)
            continue;
        held[i - 1] = held[--n_held];
        return;
    }
}

void fiber_forget_locks(unsigned process);
void
fiber_forget_locks(unsigned process)
{
    for (guint i = n_held; i > 0; i--) {
        Lock *lock = held[i - 1];
        if (lock->owner != process + 1)
            continue;
        lock->owner = 0;
        lock->readers = 0;
        held[i - 1] = held[--n_held];
    }
}

void WRAP(g_mutex_init)(GMutex *mutex);
EXPORT(void)
WRAP(g_mutex_init)(GMutex *mutex)
{
    memset(mutex, 0, sizeof *mutex);
}

void WRAP(g_mutex_clear)(GMutex *mutex);
EXPORT(void)
WRAP(g_mutex_clear)(GMutex *mutex)
{
    memset(mutex, 0, sizeof *mutex);
}

void WRAP(g_mutex_lock)(GMutex *mutex);
EXPORT(void)
WRAP(g_mutex_lock)(GMutex *mutex)
{
    Lock *lock = lock_of(mutex);

    while (lock->owner != 0) {
        g_assert(fiber_inside());
        fiber_wait_on(mutex, -1);
    }
    lock->owner = me();
    note_held(mutex);
}

gboolean WRAP(g_mutex_trylock)(GMutex *mutex);
EXPORT(gboolean)
WRAP(g_mutex_trylock)(GMutex *mutex)
{
    Lock *lock = lock_of(mutex);

    if (lock->owner != 0)
        return FALSE;
    lock->owner = me();
    note_held(mutex);
    return TRUE;
}

void WRAP(g_mutex_unlock)(GMutex *mutex);
EXPORT(void)
WRAP(g_mutex_unlock)(GMutex *mutex)
{
    lock_of(mutex)->owner = 0;
    forget_held(mutex);
    if (fiber_inside())
        fiber_wake(mutex, true);
}

/* ---- conditions ---- */

void WRAP(g_cond_init)(GCond *cond);
EXPORT(void)
WRAP(g_cond_init)(GCond *cond)
{
    memset(cond, 0, sizeof *cond);
}

void WRAP(g_cond_clear)(GCond *cond);
EXPORT(void)
WRAP(g_cond_clear)(GCond *cond)
{
    (void)cond;
}

void WRAP(g_cond_broadcast)(GCond *cond);
EXPORT(void)
WRAP(g_cond_broadcast)(GCond *cond)
{
    if (fiber_inside())
        fiber_wake(cond, true);
}

void WRAP(g_cond_signal)(GCond *cond);
EXPORT(void)
WRAP(g_cond_signal)(GCond *cond)
{
    if (fiber_inside())
        fiber_wake(cond, false);
}

gboolean WRAP(g_cond_wait_until)(GCond *cond, GMutex *mutex, gint64 end_time);
EXPORT(gboolean)
WRAP(g_cond_wait_until)(GCond *cond, GMutex *mutex, gint64 end_time)
{
    WRAP(g_mutex_unlock)(mutex);
    fiber_wait_on(cond, end_time);
    bool in_time = fiber_now_us() < end_time;
    WRAP(g_mutex_lock)(mutex);
    return in_time;
}

void WRAP(g_cond_wait)(GCond *cond, GMutex *mutex);
EXPORT(void)
WRAP(g_cond_wait)(GCond *cond, GMutex *mutex)
{
    WRAP(g_mutex_unlock)(mutex);
    fiber_wait_on(cond, -1);
    WRAP(g_mutex_lock)(mutex);
}

/* ---- reader writer locks: readers and a writer take turns as they come ---- */

void WRAP(g_rw_lock_init)(GRWLock *lock);
EXPORT(void)
WRAP(g_rw_lock_init)(GRWLock *lock)
{
    memset(lock, 0, sizeof *lock);
}

void WRAP(g_rw_lock_clear)(GRWLock *lock);
EXPORT(void)
WRAP(g_rw_lock_clear)(GRWLock *lock)
{
    memset(lock, 0, sizeof *lock);
}

void WRAP(g_rw_lock_writer_lock)(GRWLock *rw);
EXPORT(void)
WRAP(g_rw_lock_writer_lock)(GRWLock *rw)
{
    Lock *lock = lock_of(rw);

    while (lock->owner != 0 || lock->readers > 0)
        fiber_wait_on(rw, -1);
    lock->owner = me();
    note_held(rw);
}

void WRAP(g_rw_lock_writer_unlock)(GRWLock *rw);
EXPORT(void)
WRAP(g_rw_lock_writer_unlock)(GRWLock *rw)
{
    WRAP(g_mutex_unlock)((GMutex *)(void *)rw);
}

void WRAP(g_rw_lock_reader_lock)(GRWLock *rw);
EXPORT(void)
WRAP(g_rw_lock_reader_lock)(GRWLock *rw)
{
    Lock *lock = lock_of(rw);

    while (lock->owner != 0)
        fiber_wait_on(rw, -1);
    lock->readers++;
}

void WRAP(g_rw_lock_reader_unlock)(GRWLock *rw);
EXPORT(void)
WRAP(g_rw_lock_reader_unlock)(GRWLock *rw)
{
    lock_of(rw)->readers--;
    if (fiber_inside())
        fiber_wake(rw, true);
}

/* ---- threads ---- */

typedef struct {
    GThreadFunc func;
    void *data;
    bool ended;
} Thread;

static void
thread_main(void *data)
{
    Thread *thread = data;

    thread->func(thread->data);
    thread->ended = true;
    fiber_wake(thread, true);
}

GThread *WRAP(g_thread_new)(const char *name, GThreadFunc func, void *data);
EXPORT(GThread *)
WRAP(g_thread_new)(const char *name, GThreadFunc func, void *data)
{
    Thread *thread = g_new0(Thread, 1);

    thread->func = func;
    thread->data = data;
    fiber_start(fiber_process(), name, thread_main, thread);
    return (GThread *)(void *)thread;
}

void *WRAP(g_thread_join)(GThread *handle);
EXPORT(void *)
WRAP(g_thread_join)(GThread *handle)
{
    Thread *thread = (Thread *)(void *)handle;

    while (!thread->ended)
        fiber_wait_on(thread, -1);
    return NULL;
}

void WRAP(g_thread_unref)(GThread *handle);
EXPORT(void)
WRAP(g_thread_unref)(GThread *handle)
{
    (void)handle; /* small, and the world is short */
}

/* ---- queues and pools ---- */

typedef struct {
    GQueue items;
    GDestroyNotify free;
} Queue;

GAsyncQueue *WRAP(g_async_queue_new_full)(GDestroyNotify free);
EXPORT(GAsyncQueue *)
WRAP(g_async_queue_new_full)(GDestroyNotify free)
{
    Queue *queue = g_new0(Queue, 1);

    queue->free = free;
    return (GAsyncQueue *)(void *)queue;
}

GAsyncQueue *WRAP(g_async_queue_new)(void);
EXPORT(GAsyncQueue *)
WRAP(g_async_queue_new)(void)
{
    return WRAP(g_async_queue_new_full)(NULL);
}

void WRAP(g_async_queue_unref)(GAsyncQueue *handle);
EXPORT(void)
WRAP(g_async_queue_unref)(GAsyncQueue *handle)
{
    Queue *queue = (Queue *)(void *)handle;

    if (queue->free != NULL)
        g_queue_clear_full(&queue->items, queue->free);
    g_free(queue);
}

void WRAP(g_async_queue_push)(GAsyncQueue *handle, void *item);
EXPORT(void)
WRAP(g_async_queue_push)(GAsyncQueue *handle, void *item)
{
    g_queue_push_tail(&((Queue *)(void *)handle)->items, item);
    if (fiber_inside())
        fiber_wake(handle, true);
}

void *WRAP(g_async_queue_try_pop)(GAsyncQueue *handle);
EXPORT(void *)
WRAP(g_async_queue_try_pop)(GAsyncQueue *handle)
{
    return g_queue_pop_head(&((Queue *)(void *)handle)->items);
}

void *WRAP(g_async_queue_pop)(GAsyncQueue *handle);
EXPORT(void *)
WRAP(g_async_queue_pop)(GAsyncQueue *handle)
{
    while (g_queue_is_empty(&((Queue *)(void *)handle)->items))
        fiber_wait_on(handle, -1);
    return WRAP(g_async_queue_try_pop)(handle);
}

void *WRAP(g_async_queue_timeout_pop)(GAsyncQueue *handle, guint64 timeout_us);
EXPORT(void *)
WRAP(g_async_queue_timeout_pop)(GAsyncQueue *handle, guint64 timeout_us)
{
    int64_t until = fiber_now_us() + (int64_t)timeout_us;

    while (g_queue_is_empty(&((Queue *)(void *)handle)->items) && fiber_now_us() < until)
        fiber_wait_on(handle, until);
    return WRAP(g_async_queue_try_pop)(handle);
}

typedef struct {
    GFunc func;
    void *data;
    GQueue items;
    unsigned workers, limit;
} Pool;

static void
pool_worker(void *data)
{
    Pool *pool = data;

    while (!g_queue_is_empty(&pool->items))
        pool->func(g_queue_pop_head(&pool->items), pool->data);
    pool->workers--;
    fiber_wake(pool, true);
}

GThreadPool *WRAP(g_thread_pool_new)(GFunc func, void *data, int limit, gboolean exclusive,
                                     GError **error);
EXPORT(GThreadPool *)
WRAP(g_thread_pool_new)(GFunc func, void *data, int limit, gboolean exclusive, GError **error)
{
    Pool *pool = g_new0(Pool, 1);

    (void)exclusive;
    (void)error;
    pool->func = func;
    pool->data = data;
    pool->limit = limit > 0 ? (unsigned)limit : 8;
    return (GThreadPool *)(void *)pool;
}

gboolean WRAP(g_thread_pool_push)(GThreadPool *handle, void *item, GError **error);
EXPORT(gboolean)
WRAP(g_thread_pool_push)(GThreadPool *handle, void *item, GError **error)
{
    Pool *pool = (Pool *)(void *)handle;

    (void)error;
    g_queue_push_tail(&pool->items, item);
    if (pool->workers < pool->limit) {
        pool->workers++;
        fiber_start(fiber_process(), "pool", pool_worker, pool);
    }
    return TRUE;
}

void WRAP(g_thread_pool_free)(GThreadPool *handle, gboolean immediate, gboolean wait);
EXPORT(void)
WRAP(g_thread_pool_free)(GThreadPool *handle, gboolean immediate, gboolean wait)
{
    Pool *pool = (Pool *)(void *)handle;

    if (immediate)
        g_queue_clear(&pool->items);
    while (wait && pool->workers > 0)
        fiber_wait_on(pool, -1);
}

/* ---- clocks, sleep, chance ---- */

gint64 WRAP(g_get_monotonic_time)(void);
EXPORT(gint64)
WRAP(g_get_monotonic_time)(void)
{
    return fiber_now_us();
}

gint64 WRAP(g_get_real_time)(void);
EXPORT(gint64)
WRAP(g_get_real_time)(void)
{
    return fiber_wall_us();
}

void WRAP(g_usleep)(gulong us);
EXPORT(void)
WRAP(g_usleep)(gulong us)
{
    fiber_sleep_us((int64_t)us);
}

char *WRAP(g_uuid_string_random)(void);
EXPORT(char *)
WRAP(g_uuid_string_random)(void)
{
    uint64_t a = fiber_random(), b = fiber_random();

    return g_strdup_printf("%08x-%04x-4%03x-8%03x-%012" G_GINT64_MODIFIER "x", (unsigned)a,
                           (unsigned)(a >> 32 & 0xffff), (unsigned)(a >> 48 & 0xfff),
                           (unsigned)(b & 0xfff), b >> 16 & UINT64_C(0xffffffffffff));
}
