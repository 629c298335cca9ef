/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "history.h"

#include "ops.h"
#include "stage_sim.h"

#include "sim/fiber.h"
#include "sim/state.h"

#include <string.h>
#include <sys/mman.h>

#define MOST 512  /* worlds that are kept of one line */
#define MORE 8    /* so many tries for each */
#define RARE 4    /* a kind of which there are fewer takes the place of frequent ones */
#define AS_MUCH 4 /* again for what follows a moment, which decides where something is killed */
#define PAUSE_US 262144
#define MOST_POINTS 24 /* of a call and what follows it */
#define MOST_TURNS 8   /* of what the world is like, meanwhile */
#define LAG_TICKS 3    /* so long after a point it may still turn */
#define TICK_US 10
#define MOMENT_US 16384

/* A world that is kept, and how many of the same kind are. */
typedef struct {
    State *state;
    uint64_t kind;
    unsigned alike;
} World;

/* What is looked for, and where it is: on the stack of main(), which is never put back. */
typedef struct {
    const GPtrArray *lines, *answers;
    History *found;
    uint64_t luck;
    int64_t pause_us, delay_us; /* of the line to be played */
    unsigned points, turns;     /* a moment ends with so many of them; 0 = after delay_us */
    bool stops, same;
    uint64_t told; /* as much of events as this line has seen */
    unsigned n_kept;
    World *kept, *next; /* of the last line, and of the one that is played */
} Search;

static State *clean;     /* before any */
static World *kept_room; /* 2 * MOST; made when needed, in memory that is not put back */

static uint64_t
draw(Search *self)
{
    uint64_t z = self->luck += UINT64_C(0x9E3779B97F4A7C15);

    z = (z ^ (z >> 30)) * UINT64_C(0xBF58476D1CE4E5B9);
    z = (z ^ (z >> 27)) * UINT64_C(0x94D049BB133111EB);
    return z ^ (z >> 31);
}

/* As much at a time as not at all */
static int64_t
draw_pause(Search *self)
{
    uint64_t range = UINT64_C(1) << draw(self) % 19;

    return (int64_t)(draw(self) % range);
}

static void
keep_story(Search *self, unsigned line, const char *story)
{
    if (line + self->same < self->found->good ||
        (line + self->same == self->found->good && *self->found->story != '\0'))
        return;
    self->found->good = line + self->same;
    g_strlcpy(self->found->story, story, HISTORY_STORY);
}

/* What it says instead, where it came farthest: each answer once. */
static void
keep_other(const Search *self, unsigned line, const char *answer)
{
    char *others = self->found->others;
    g_autofree char *row = g_strdup_printf("    %s\n", answer);

    if (line < self->found->others_at)
        return;
    if (line > self->found->others_at)
        *others = '\0';
    self->found->others_at = line;
    if (strstr(others, row) == NULL)
        g_strlcat(others, row, HISTORY_STORY);
}

static void
stop(Search *self)
{
    self->stops = true;
    fiber_break();
}

/* What has come so far has come in the real one's trace, too: the last line asks for all. */
static bool
events_fit(Search *self, Ops *ops)
{
    const char *all = self->answers->pdata[self->answers->len - 1];
    WITH_LOCK(&ops->lock);

    self->told = ops->all_events->len;
    return ops->all_events->len == 0 || g_str_has_prefix(all, ops->all_events->str);
}

static bool
is_moment(const Search *self, unsigned line)
{
    return strcmp(self->lines->pdata[line], "moment") == 0;
}

/* Some windows are shorter than others, but all of them begin with a point. */
static void
wait_for_points(const Search *self)
{
    uint64_t from = fiber_points();

    for (unsigned i = 0; i < MOMENT_US / TICK_US && fiber_points() < from + self->points; i++)
        fiber_sleep_us(TICK_US);
}

/* Others are hit only by who stops as the world has become another: just after libvirt has told of
 * something, say, and before it saves that. */
static void
wait_for_turns(const Search *self)
{
    uint64_t kind = stage_kind_now(), points = fiber_points();

    for (unsigned i = 0, turns = 0, ticks = 0; i < MOMENT_US / TICK_US; i++) {
        fiber_sleep_us(TICK_US);
        ticks = points == fiber_points() ? ticks + 1 : 0;
        points = fiber_points();
        if (ticks > LAG_TICKS || kind == stage_kind_now())
            continue;
        kind = stage_kind_now();
        if (++turns == self->turns)
            return;
    }
}

static void
wait_for_moment(const Search *self)
{
    if (self->points > 0)
        wait_for_points(self);
    else if (self->turns > 0)
        wait_for_turns(self);
    else if (self->pause_us > 0)
        g_usleep((gulong)self->pause_us);
}

/* Each turn of it may be taken many times. */
static void
play(void *data)
{
    Search *self = data;
    Ops ops;

    ops_begin(&ops);
    for (unsigned i = 0;; i++) {
        stop(self);
        if (i > 0 && is_moment(self, i - 1))
            ; /* that was the pause */
        else if (is_moment(self, i))
            wait_for_moment(self);
        else if (self->pause_us > 0)
            g_usleep((gulong)self->pause_us);
        ops.delay_us = self->points == 0 && self->turns == 0 ? (uint64_t)self->delay_us : 0;
        g_autofree char *answer = ops_do(&ops, self->lines->pdata[i]);
        self->same = strcmp(answer, self->answers->pdata[i]) == 0 && events_fit(self, &ops);
        keep_story(self, i, ops.said->str);
        if (!self->same)
            keep_other(self, i, answer);
    }
}

static bool
play_line(Search *self, const State *from, unsigned number)
{
    state_restore(from);
    self->pause_us = number % 4 == 0 ? 0 : number % 4 == 1 ? PAUSE_US : draw_pause(self);
    self->delay_us = draw_pause(self);
    self->points = number % 4 == 1 ? 1 + (unsigned)(draw(self) % MOST_POINTS) : 0;
    self->turns = number % 4 == 3 ? 1 + (unsigned)(draw(self) % MOST_TURNS) : 0;
    stage_choose(draw(self));
    self->stops = false;
    stage_go_on(&self->stops);
    self->found->tries++;
    return self->same;
}

static uint64_t
kind_now(const Search *self)
{
    return stage_kind() ^ self->told * UINT64_C(0x9E3779B97F4A7C15);
}

/* How many of that kind are among the first n. */
static unsigned
alike(const Search *self, unsigned n, uint64_t kind)
{
    for (unsigned k = 0; k < n; k++)
        if (self->next[k].kind == kind)
            return self->next[k].alike;
    return 0;
}

static void
count_kind(Search *self, unsigned n, uint64_t kind, unsigned count)
{
    for (unsigned k = 0; k < n; k++)
        if (self->next[k].kind == kind)
            self->next[k].alike = count;
}

/* Of n that there are: a new one, or in place of another one. */
static void
keep(Search *self, unsigned i, unsigned n)
{
    World *world = &self->next[i];
    uint64_t kind = kind_now(self);
    unsigned others = alike(self, n, kind);

    if (world->state == NULL)
        world->state = state_new_small();
    if (i < n)
        count_kind(self, n, world->kind, world->alike - 1);
    state_save(world->state);
    count_kind(self, n, kind, others + 1);
    world->kind = kind;
    world->alike = others + 1;
}

static unsigned
most_frequent(const Search *self, unsigned n)
{
    unsigned found = 0;

    for (unsigned k = 1; k < n; k++)
        if (self->next[k].alike > self->next[found].alike)
            found = k;
    return found;
}

/* What is rare matters as much as what is not: it may show many lines later only. */
static const State *
choose(Search *self)
{
    for (;;) {
        const World *world = &self->kept[draw(self) % self->n_kept];
        if (draw(self) % world->alike == 0)
            return world->state;
    }
}

/* From all worlds that are left; how many are now. It does not end with the first that are enough:
 * as long as there are new kinds they are kept, too, and kinds that are rare yet take the place of
 * frequent ones. */
static unsigned
play_all(Search *self, unsigned line, unsigned most)
{
    unsigned patience = is_moment(self, line) ? most * MORE * AS_MUCH : most;
    unsigned n = 0, dull = 0, longest = MAX(most * MORE, patience);

    for (unsigned i = 0; i < longest && (n < most || dull < patience); i++) {
        dull++;
        if (!play_line(self, choose(self), i))
            continue;
        unsigned others = alike(self, n, kind_now(self)), other = most_frequent(self, n);
        if (others == 0)
            dull = 0;
        if (n < most || (others == 0 && n < MOST))
            keep(self, n, n), n++;
        else if (others < RARE && self->next[other].alike > others + 1)
            keep(self, other, n);
    }
    return n;
}

static bool
search(Search *self, unsigned most)
{
    state_restore(clean);
    stage_begin(1, draw(self), play, self);
    self->stops = false;
    stage_go_on(&self->stops);
    self->next = kept_room;
    keep(self, 0, 0);
    self->n_kept = 1;
    for (unsigned i = 0; i < self->lines->len && self->n_kept > 0; i++) {
        self->kept = self->next;
        self->next = kept_room + (i % 2 == 0 ? MOST : 0);
        self->n_kept = play_all(self, i, most);
        self->found->alive = MIN(self->found->alive, self->n_kept);
    }
    return self->n_kept > 0;
}

void *
history_outside(size_t bytes)
{
    void *memory = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

    g_assert(memory != MAP_FAILED);
    return memory;
}

void
history_begin(void)
{
    stage_init();
    fibers_reset(0);
    clean = state_new();
    kept_room = history_outside(sizeof(World) * 2 * MOST);
    state_begin();
    state_save(clean);
}

bool
history_find(const GPtrArray *lines, const GPtrArray *answers, History *found)
{
    /* each with other luck: a few more make a window that is hardly ever hit one that is hit */
    static const unsigned most[] = { 32, 32, 128, 128, 128, MOST, MOST, MOST, MOST, MOST, MOST };
    Search self = { .lines = lines, .answers = answers, .found = found, .luck = 1 };
    bool known = false;

    found->good = found->tries = found->others_at = 0;
    *found->story = *found->others = '\0';
    for (size_t i = 0; i < G_N_ELEMENTS(most) && !known; i++) {
        found->alive = most[i];
        known = search(&self, most[i]);
    }
    state_restore(clean);
    return known;
}
