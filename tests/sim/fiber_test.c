/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * Fibers: locks exclude, clocks are virtual, a kill frees locks, a seed is a history.
 */
#include "fiber.h"

static GMutex lock;
static GCond cond;
static int inside, total, woken;

static void *
adder(void *data)
{
    for (int i = 0; i < 10; i++) {
        g_mutex_lock(&lock);
        g_assert_cmpint(inside++, ==, 0);
        fiber_point("inside");
        inside--;
        total++;
        g_mutex_unlock(&lock);
    }
    return data;
}

static void
many(void *data)
{
    GThread *threads[4];

    for (int i = 0; i < 4; i++)
        threads[i] = g_thread_new("adder", adder, NULL);
    for (int i = 0; i < 4; i++)
        g_thread_join(threads[i]);
    *(bool *)data = true;
}

static void
test_locks(void)
{
    uint64_t hashes[2];
    bool done = false;

    for (int round = 0; round < 2; round++) {
        total = 0;
        fibers_reset(7);
        fiber_start(0, "main", many, &done);
        g_assert_false(fibers_run(INT64_MAX));
        g_assert_true(done);
        g_assert_cmpint(total, ==, 40);
        hashes[round] = fiber_hash();
    }
    g_assert_cmpuint(hashes[0], ==, hashes[1]);
    fibers_reset(8);
    fiber_start(0, "main", many, &done);
    fibers_run(INT64_MAX);
    g_assert_cmpuint(fiber_hash(), !=, hashes[0]);
}

static void
sleeper(void *data)
{
    int64_t begin = g_get_monotonic_time();

    g_mutex_lock(&lock);
    g_assert_false(g_cond_wait_until(&cond, &lock, begin + 3600 * G_TIME_SPAN_SECOND));
    g_assert_cmpint(g_get_monotonic_time() - begin, >=, 3600 * G_TIME_SPAN_SECOND);
    g_cond_wait(&cond, &lock);
    woken++;
    g_mutex_unlock(&lock);
    (void)data;
}

static void
waker(void *data)
{
    g_usleep(2 * 3600 * 1000000UL);
    g_cond_broadcast(&cond);
    (void)data;
}

static void
test_clock(void)
{
    woken = 0;
    fibers_reset(1);
    fiber_start(0, "sleeper", sleeper, NULL);
    fiber_start(1, "waker", waker, NULL);
    g_assert_false(fibers_run(INT64_MAX));
    g_assert_cmpint(woken, ==, 1);
}

static void
holder(void *data)
{
    g_mutex_lock(&lock);
    fiber_sleep_us(1000000);
    g_assert_not_reached();
    (void)data;
}

static void
killer(void *data)
{
    fiber_sleep_us(1000);
    fibers_kill(0);
    g_mutex_lock(&lock); /* free again */
    g_mutex_unlock(&lock);
    woken++;
    (void)data;
}

static void
test_kill(void)
{
    woken = 0;
    fibers_reset(1);
    fiber_start(0, "holder", holder, NULL);
    fiber_start(1, "killer", killer, NULL);
    g_assert_false(fibers_run(INT64_MAX));
    g_assert_cmpint(woken, ==, 1);
    g_assert_cmpuint(fibers_alive(0), ==, 0);
}

int
main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/fiber/locks", test_locks);
    g_test_add_func("/fiber/clock", test_clock);
    g_test_add_func("/fiber/kill", test_kill);
    return g_test_run();
}
