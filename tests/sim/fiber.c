/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "fiber.h"

#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#define STACK (256 * 1024)
#define MAX_STACKS 512
#define STACKS_PLACE ((char *)UINT64_C(0x180000000000))
#define EPOCH_US INT64_C(1700000000000000) /* virtual clocks begin here */

struct Fiber {
    void *sp; /* saved stack pointer */
    char *stack;
    FiberFunc func;
    void *data;
    char name[32];
    unsigned process;
    bool dead;
    const void *waits_on; /* NULL: for the clock alone, or ready */
    int64_t until_us;     /* -1 = no limit */
    bool ready;
    const char *at; /* the last point */
};

void (*fiber_on_point)(const char *name, void *data);
void *fiber_on_point_data;

static GPtrArray *fibers; /* of Fiber, in the order of their start */
static GPtrArray *stacks; /* free ones */
static unsigned n_stacks; /* ever used */
static guint n_ready;     /* fibers */
static Fiber *running;
static Fiber *goes_on; /* before all others: it was paused */
static void (*on_pause)(void);
static bool somebody_died; /* and is not buried yet */
static bool broken;        /* fibers_run() is to return */
static void *outside;      /* the scheduler's stack pointer */
static int64_t now_us;     /* virtual, since 1970 */
static int64_t wall_us;    /* the wall clock is so much ahead */
static uint64_t random_state, points, hash;

/* ---- switching: the registers that a call must keep, and the stack ---- */

#if defined(__x86_64__)
__attribute__((naked, noinline)) static void
switch_to(void **save __attribute__((unused)), void *to __attribute__((unused)))
{
    __asm__ volatile("pushq %rbp\n pushq %rbx\n pushq %r12\n pushq %r13\n pushq %r14\n pushq %r15\n"
                     "movq %rsp, (%rdi)\n movq %rsi, %rsp\n"
                     "popq %r15\n popq %r14\n popq %r13\n popq %r12\n popq %rbx\n popq %rbp\n ret");
}
static void *
first_frame(char *stack, void (*entry)(void))
{
    uintptr_t *top = (uintptr_t *)(void *)(stack + STACK);

    *--top = 0; /* keeps the entry aligned as after a call */
    *--top = (uintptr_t)entry;
    for (int i = 0; i < 6; i++)
        *--top = 0;
    return top;
}
#else
#error "the simulator knows how to switch stacks on x86-64 only"
#endif

static void
enter(void)
{
    Fiber *self = running;

    self->func(self->data);
    self->dead = somebody_died = true;
    void *unused;
    switch_to(&unused, outside);
    abort();
}

static void
leave(void)
{
    Fiber *self = running;

    switch_to(&self->sp, outside);
}

/* ---- the world ---- */

static inline void
set_ready(Fiber *fiber, bool ready)
{
    n_ready += (guint)ready - (guint)fiber->ready;
    fiber->ready = ready;
}

static void
fiber_free(Fiber *fiber)
{
    g_ptr_array_add(stacks, fiber->stack);
    g_free(fiber);
}

void
fibers_reset(uint64_t seed)
{
    if (fibers == NULL) {
        fibers = g_ptr_array_new();
        stacks = g_ptr_array_new();
    }
    for (guint i = 0; i < fibers->len; i++)
        fiber_free(fibers->pdata[i]);
    g_ptr_array_set_size(fibers, 0);
    n_ready = 0;
    running = goes_on = NULL;
    broken = false;
    now_us = EPOCH_US;
    wall_us = 0;
    random_state = seed;
    points = 0;
    hash = UINT64_C(1469598103934665603);
}

/* At a place of their own: what state.h saves comes back there. */
static char *
stack_new(void)
{
    char *at = STACKS_PLACE + (size_t)n_stacks * STACK;

    if (stacks->len > 0)
        return g_ptr_array_steal_index_fast(stacks, stacks->len - 1);
    if (n_stacks == 0 &&
        mmap(STACKS_PLACE, (size_t)MAX_STACKS * STACK, PROT_READ | PROT_WRITE,
             MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_FIXED, -1, 0) != STACKS_PLACE)
        g_error("no room for stacks");
    if (n_stacks == 0)
        madvise(STACKS_PLACE, (size_t)MAX_STACKS * STACK, MADV_HUGEPAGE);
    g_assert(n_stacks < MAX_STACKS);
    n_stacks++;
    return at;
}

Fiber *
fiber_start(unsigned process, const char *name, FiberFunc func, void *data)
{
    Fiber *fiber = g_new0(Fiber, 1);

    fiber->stack = stack_new();
    fiber->sp = first_frame(fiber->stack, enter);
    fiber->func = func;
    fiber->data = data;
    fiber->process = process;
    set_ready(fiber, true);
    fiber->until_us = -1;
    g_strlcpy(fiber->name, name != NULL ? name : "?", sizeof fiber->name);
    g_ptr_array_add(fibers, fiber);
    return fiber;
}

uint64_t
fiber_random(void)
{
    uint64_t z = random_state += UINT64_C(0x9E3779B97F4A7C15);

    z = (z ^ (z >> 30)) * UINT64_C(0xBF58476D1CE4E5B9);
    z = (z ^ (z >> 27)) * UINT64_C(0x94D049BB133111EB);
    return z ^ (z >> 31);
}

void
fiber_reseed(uint64_t salt)
{
    random_state ^= salt * UINT64_C(0xD1342543DE82EF95);
    fiber_random();
}

void
fiber_hash_add(const void *bytes, size_t n)
{
    const unsigned char *p = bytes;

    for (size_t i = 0; i < n; i++)
        hash = (hash ^ p[i]) * UINT64_C(1099511628211);
}

static void
bury(void)
{
    if (!somebody_died)
        return;
    somebody_died = false;
    for (guint i = fibers->len; i > 0; i--) {
        Fiber *fiber = fibers->pdata[i - 1];
        if (fiber->dead && fiber == running)
            somebody_died = true; /* later */
        else if (fiber->dead)
            fiber_free(g_ptr_array_steal_index(fibers, i - 1)); /* the order stays */
    }
}

/* One of those that are ready; NULL = none */
static Fiber *
pick(void)
{
    guint chosen = n_ready > 1 ? (guint)fiber_below(n_ready) : 0;

    for (guint i = 0; n_ready > 0 && i < fibers->len; i++)
        if (((Fiber *)fibers->pdata[i])->ready && chosen-- == 0)
            return fibers->pdata[i];
    return NULL;
}

/* The clock goes to the next one that waits for it. */
static bool
advance(int64_t until_us)
{
    int64_t next = INT64_MAX;

    for (guint i = 0; i < fibers->len; i++) {
        const Fiber *fiber = fibers->pdata[i];
        if (fiber->until_us >= 0)
            next = MIN(next, fiber->until_us);
    }
    if (next == INT64_MAX)
        return false;
    if (next > until_us) {
        now_us = MAX(now_us, until_us);
        return false;
    }
    now_us = MAX(now_us, next);
    for (guint i = 0; i < fibers->len; i++) {
        Fiber *fiber = fibers->pdata[i];
        if (fiber->until_us >= 0 && fiber->until_us <= now_us)
            set_ready(fiber, true);
    }
    return true;
}

/* What runs next; NULL = nothing can just now */
static Fiber *
next(void)
{
    return goes_on != NULL ? g_steal_pointer(&goes_on) : pick();
}

static void
run(Fiber *fiber)
{
    running = fiber;
    switch_to(&outside, fiber->sp);
    running = NULL;
    bury();
    if (on_pause != NULL)
        g_steal_pointer (&on_pause)();
}

void
fiber_pause(void (*func)(void))
{
    on_pause = func;
    goes_on = running;
    leave();
}

void
fiber_break(void)
{
    broken = true;
    goes_on = running;
    leave();
}

void
fibers_each_stack(void (*each)(char *from, char *to, void *data), void *data)
{
    for (guint i = 0; i < fibers->len; i++) {
        Fiber *fiber = fibers->pdata[i];
        each(fiber->sp, fiber->stack + STACK, data);
    }
}

bool
fibers_run(int64_t until_us)
{
    for (;;) {
        Fiber *fiber = next();
        if (fiber == NULL) {
            if (advance(until_us))
                continue;
            for (guint i = 0; i < fibers->len; i++)
                if (((Fiber *)fibers->pdata[i])->until_us >= 0)
                    return true;
            return false;
        }
        set_ready(fiber, false);
        fiber->waits_on = NULL;
        fiber->until_us = -1;
        run(fiber);
        if (broken) {
            broken = false;
            return true;
        }
    }
}

void fiber_forget_locks(unsigned process); /* fiber_wrap.c */

void
fibers_kill(unsigned process)
{
    bool suicide = running != NULL && running->process == process;

    fiber_forget_locks(process);
    for (guint i = 0; i < fibers->len; i++) {
        Fiber *fiber = fibers->pdata[i];
        if (fiber->process == process) {
            fiber->dead = somebody_died = true;
            set_ready(fiber, false);
            fiber->until_us = -1;
            fiber->waits_on = NULL;
        }
    }
    if (suicide) {
        leave();
        abort();
    }
    if (running == NULL)
        bury();
}

unsigned
fibers_alive(unsigned process)
{
    unsigned n = 0;

    for (guint i = 0; i < fibers->len; i++) {
        const Fiber *fiber = fibers->pdata[i];
        n += fiber->process == process && !fiber->dead;
    }
    return n;
}

void
fiber_wait_on(const void *what, int64_t until_us)
{
    running->waits_on = what;
    running->until_us = until_us;
    set_ready(running, false);
    leave();
}

void
fiber_wake(const void *what, bool all)
{
    for (guint i = 0; i < fibers->len; i++) {
        Fiber *fiber = fibers->pdata[i];
        if (fiber->waits_on != what || fiber->dead || fiber->ready)
            continue;
        set_ready(fiber, true);
        if (!all)
            return;
    }
}

void
fiber_sleep_us(int64_t us)
{
    fiber_wait_on(NULL, now_us + MAX(us, 0));
}

void
fiber_point(const char *name)
{
    points++;
    running->at = name;
    fiber_hash_add(name, strlen(name));
    fiber_hash_add(&now_us, sizeof now_us);
    if (fiber_on_point != NULL)
        fiber_on_point(name, fiber_on_point_data);
    /* what takes no time is rare; and others may come first */
    fiber_wait_on(NULL, now_us + 1 + (int64_t)fiber_below(200));
}

unsigned
fiber_process(void)
{
    return running->process;
}

const char *
fiber_name(void)
{
    return running != NULL ? running->name : "scheduler";
}

bool
fiber_inside(void)
{
    return running != NULL;
}

int64_t
fiber_now_us(void)
{
    return now_us;
}

int64_t
fiber_wall_us(void)
{
    return now_us + wall_us;
}

void
fiber_wall_jump(int64_t us)
{
    wall_us += us;
}

uint64_t
fiber_points(void)
{
    return points;
}

uint64_t
fiber_hash(void)
{
    return hash;
}

char *
fibers_state(void)
{
    GString *text = g_string_new(NULL);

    for (guint i = 0; i < fibers->len; i++) {
        const Fiber *fiber = fibers->pdata[i];
        g_string_append_printf(text, "  process %u %-16s last at %s%s\n", fiber->process,
                               fiber->name, fiber->at != NULL ? fiber->at : "its begin",
                               fiber->until_us >= 0 ? ", waits for the clock"
                               : fiber->waits_on    ? ", waits to be woken"
                                                    : "");
    }
    return g_string_free(text, FALSE);
}
