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
    guint number;   /* its turn is turns[number] */
    const char *at; /* the last point */
};

typedef struct {
    Fiber *fiber;
    const void *waits_on; /* NULL: for the clock alone, or ready */
    bool ready, dead;
} Turn;
#define NEVER INT64_MAX

void (*fiber_on_point)(const char *name, void *data);
void *fiber_on_point_data;

static Turn *turns; /* of all fibers, in the order of their start */
/* When the clock wakes them; NEVER. Close together, for the scheduler looks at all of them each
 * time. */
static int64_t *until;
static guint n_fibers, room;
static guint n_ready, last_ready; /* the number of the one who became so last */
static GPtrArray *stacks;         /* free ones */
static unsigned n_stacks;         /* ever used */
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
    turns[self->number].dead = somebody_died = true;
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

/* How many wait on what has this number: mostly nobody does on what is to be woken. */
static guint waiting[256];

static inline guint *
waiting_on(const void *what)
{
    return &waiting[(uintptr_t)what / 8 % G_N_ELEMENTS(waiting)];
}

static inline void
set_waits_on(Turn *turn, const void *what)
{
    if (turn->waits_on != NULL)
        --*waiting_on(turn->waits_on);
    if (what != NULL)
        ++*waiting_on(what);
    turn->waits_on = what;
}

static inline void
set_ready(Turn *turn, bool ready)
{
    n_ready += (guint)ready - (guint)turn->ready;
    turn->ready = ready;
    if (ready)
        last_ready = (guint)(turn - turns);
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
    if (stacks == NULL)
        stacks = g_ptr_array_new();
    for (guint i = 0; i < n_fibers; i++)
        fiber_free(turns[i].fiber);
    n_fibers = n_ready = 0;
    memset(waiting, 0, sizeof waiting);
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

static void
turn_new(Fiber *fiber)
{
    if (n_fibers == room) {
        room = 2 * room + 32;
        turns = g_renew(Turn, turns, room);
        until = g_renew(int64_t, until, room);
    }
    fiber->number = n_fibers++;
    turns[fiber->number] = (Turn){ .fiber = fiber };
    until[fiber->number] = NEVER;
    set_ready(&turns[fiber->number], true);
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
    g_strlcpy(fiber->name, name != NULL ? name : "?", sizeof fiber->name);
    turn_new(fiber);
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

static inline void
hash_add_word(uint64_t word)
{
    hash = (hash ^ word) * UINT64_C(0x9E3779B97F4A7C15);
    hash ^= hash >> 32;
}

void
fiber_hash_add(const void *bytes, size_t n)
{
    const unsigned char *p = bytes;
    uint64_t word;

    for (; n >= sizeof word; n -= sizeof word, p += sizeof word) {
        memcpy(&word, p, sizeof word);
        hash_add_word(word);
    }
    if (n == 0)
        return;
    word = n;
    for (size_t i = 0; i < n; i++)
        word = word << 8 | p[i];
    hash_add_word(word);
}

/* The order stays. */
static void
turn_end(guint number)
{
    fiber_free(turns[number].fiber);
    n_fibers--;
    for (guint i = number; i < n_fibers; i++) {
        turns[i] = turns[i + 1];
        until[i] = until[i + 1];
        turns[i].fiber->number = i;
    }
}

static void
bury(void)
{
    if (!somebody_died)
        return;
    somebody_died = false;
    for (guint i = n_fibers; i > 0; i--) {
        const Turn *turn = &turns[i - 1];
        if (turn->dead && turn->fiber == running)
            somebody_died = true; /* later */
        else if (turn->dead)
            turn_end(i - 1);
    }
}

/* One of those that are ready; NULL = none */
static Turn *
pick(void)
{
    guint chosen = n_ready > 1 ? (guint)fiber_below(n_ready) : 0;

    if (n_ready == 1 && last_ready < n_fibers && turns[last_ready].ready)
        return &turns[last_ready]; /* as mostly */
    for (guint i = 0; n_ready > 0 && i < n_fibers; i++)
        if (turns[i].ready && chosen-- == 0)
            return &turns[i];
    return NULL;
}

/* When the clock wakes somebody; NEVER. Who is the first of them, and whether the only one. */
static int64_t
next_us(guint *ret_first, bool *ret_alone)
{
    int64_t next = NEVER;

    for (guint i = 0; i < n_fibers; i++) {
        if (until[i] < next) {
            next = until[i];
            *ret_first = i;
            *ret_alone = true;
        } else if (until[i] == next) {
            *ret_alone = false;
        }
    }
    return next;
}

/* The clock goes to the next one that waits for it. */
static bool
advance(int64_t until_us, int64_t *ret_soonest_us)
{
    guint first = 0;
    bool alone = false;
    int64_t next = *ret_soonest_us = next_us(&first, &alone), before_us = now_us;

    if (next == NEVER)
        return false;
    now_us = MAX(now_us, MIN(next, until_us));
    if (next > until_us)
        return false;
    if (alone && next >= before_us) {
        set_ready(&turns[first], true);
        return true;
    }
    for (guint i = 0; i < n_fibers; i++)
        if (until[i] <= now_us)
            set_ready(&turns[i], true);
    return true;
}

/* What runs next; NULL = nothing can just now */
static Turn *
next(void)
{
    return goes_on != NULL ? &turns[g_steal_pointer(&goes_on)->number] : pick();
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
    for (guint i = 0; i < n_fibers; i++)
        each(turns[i].fiber->sp, turns[i].fiber->stack + STACK, data);
}

bool
fibers_run(int64_t until_us)
{
    for (;;) {
        Turn *turn = next();
        if (turn == NULL) {
            int64_t soonest_us;
            if (advance(until_us, &soonest_us))
                continue;
            return soonest_us != NEVER;
        }
        set_ready(turn, false);
        set_waits_on(turn, NULL);
        until[turn - turns] = NEVER;
        run(turn->fiber);
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
    for (guint i = 0; i < n_fibers; i++) {
        Turn *turn = &turns[i];
        if (turn->fiber->process == process) {
            turn->dead = somebody_died = true;
            set_ready(turn, false);
            until[i] = NEVER;
            set_waits_on(turn, NULL);
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

    for (guint i = 0; i < n_fibers; i++)
        n += turns[i].fiber->process == process && !turns[i].dead;
    return n;
}

void
fiber_wait_on(const void *what, int64_t until_us)
{
    Turn *turn = &turns[running->number];

    set_waits_on(turn, what);
    until[running->number] = until_us >= 0 ? until_us : NEVER;
    set_ready(turn, false);
    leave();
}

void
fiber_wake(const void *what, bool all)
{
    if (*waiting_on(what) == 0)
        return;
    for (guint i = 0; i < n_fibers; i++) {
        Turn *turn = &turns[i];
        if (turn->waits_on != what || turn->dead || turn->ready)
            continue;
        set_ready(turn, true);
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

    for (guint i = 0; i < n_fibers; i++) {
        const Fiber *fiber = turns[i].fiber;
        g_string_append_printf(text, "  process %u %-16s last at %s%s\n", fiber->process,
                               fiber->name, fiber->at != NULL ? fiber->at : "its begin",
                               until[i] != NEVER   ? ", waits for the clock"
                               : turns[i].waits_on ? ", waits to be woken"
                                                   : "");
    }
    return g_string_free(text, FALSE);
}
