/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * Threads that are not: the product's own code, with its threads, locks and clocks, as fibers of
 * one thread in virtual time, so that one seed is one history.
 *
 * How: the linker replaces (--wrap) GLib's threads, mutexes, conditions, rw locks, pools, queues,
 * clocks, sleeps and UUIDs in the product's objects by those of fiber_wrap.c. A fiber runs until it
 * waits or passes fiber_point(); then the scheduler picks the next one, by the seed.
 *
 * A process is a number: its fibers can be killed all at once, at any point, as kill -9 does. Heap
 * that they held is lost (the caller forks now and then); locks that they held in static variables
 * are freed, for a new process has none.
 *
 * Threads: one.
 */
#pragma once

#include <glib.h>
#include <stdbool.h>
#include <stdint.h>

#define FIBER_PROCESSES 8

typedef struct Fiber Fiber;
typedef void (*FiberFunc)(void *data);

/* A new world; all fibers of the last one are gone. Its clocks, in microseconds, begin some day in
 * 2023. */
void fibers_reset(uint64_t seed);
Fiber *fiber_start(unsigned process, const char *name, FiberFunc func, void *data);
/* Runs until nothing can run any more or until virtual time "until_us". True: something still
 * could. */
bool fibers_run(int64_t until_us);
/* Kills all fibers of a process; may be called by a fiber (of another process, or of its own: then
 * it does not return) or from outside. */
void fibers_kill(unsigned process);
unsigned fibers_alive(unsigned process);
/* The running fiber stops here; "func" is called outside of all fibers; then it goes on, and nobody
 * else has run. func may itself run the fibers, and put all back as it was (state.h). */
void fiber_pause(void (*func)(void));
/* The running fiber stops here, and fibers_run() returns (true); when it is called again, this
 * fiber goes on before all others. */
void fiber_break(void);
/* The used part of each fiber's stack; outside of fibers. */
void fibers_each_stack(void (*each)(char *from, char *to, void *data), void *data);
/* From here on chance is another. */
void fiber_reseed(uint64_t salt);
/* Called at every fiber_point() with its name, before anything else; for crashes and traces. */
extern void (*fiber_on_point)(const char *name, void *data);
extern void *fiber_on_point_data;

/* ---- for what simulates the world, called in a fiber ---- */

/* Something happens here that others can see, or a crash can separate: others may run first. */
void fiber_point(const char *name);
void fiber_sleep_us(int64_t us);
unsigned fiber_process(void); /* of the running fiber */
const char *fiber_name(void);
bool fiber_inside(void);     /* is a fiber running at all? */
int64_t fiber_now_us(void);  /* virtual, monotonic */
int64_t fiber_wall_us(void); /* the same but for jumps */
void fiber_wall_jump(int64_t us);
uint64_t fiber_random(void); /* of the seed; the same for all uses */
static inline uint64_t
fiber_below(uint64_t n)
{
    return n > 0 ? fiber_random() % n : 0;
}
static inline bool
fiber_chance(unsigned percent)
{
    return fiber_below(100) < percent;
}
uint64_t fiber_points(void); /* passed so far in this world */
uint64_t fiber_hash(void);   /* of the history: equal seeds give equal ones */
void fiber_hash_add(const void *bytes, size_t n);

/* Who waits for what, for a message when the world stands still. The caller frees it. */
char *fibers_state(void);

/* Used by fiber_wrap.c */
void fiber_wait_on(const void *what, int64_t until_us); /* until woken or (>= 0) that time */
void fiber_wake(const void *what, bool all);
