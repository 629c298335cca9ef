/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "sequences.h"

#include "stage.h"

typedef struct {
    GRand *luck;
    GPtrArray *lines;
    unsigned chain[16]; /* what it may be by now, leaf first: numbers of files */
    unsigned depth;
    unsigned next; /* number of the next new file */
    unsigned base; /* of the job that may run */
    bool mirror;   /* it is an active one or a copy */
} Maker;

static unsigned
below(Maker *m, unsigned n)
{
    return (unsigned)g_rand_int_range(m->luck, 0, (gint32)n);
}

static void G_GNUC_PRINTF(2, 3) say(Maker *m, const char *format, ...)
{
    va_list args;

    va_start(args, format);
    g_ptr_array_add(m->lines, g_strdup_vprintf(format, args));
    va_end(args);
}

static const char *
maybe_slow(Maker *m)
{
    return below(m, 3) == 0 ? " slow" : "";
}

/* The line, or it begins and something dies. */
static void
deed(Maker *m, const char *line)
{
    switch (below(m, 8)) {
    case 0:
        say(m, "begin %s", line);
        say(m, "moment");
        say(m, "kill-libvirtd");
        say(m, "answer");
        say(m, "start-libvirtd");
        say(m, "connected");
        say(m, "events");
        return;
    case 1:
        say(m, "begin %s", line);
        say(m, "moment");
        say(m, "kill-qemu");
        say(m, "answer");
        say(m, "off");
        say(m, "start");
        return;
    default:
        say(m, "%s", line);
    }
}

static void
make_snapshot(Maker *m)
{
    g_autofree char *line = g_strdup_printf("snapshot a%u", m->next);

    if (m->depth + 1 >= G_N_ELEMENTS(m->chain))
        return;
    say(m, "overlay a%u a%u", m->next, m->chain[0]);
    deed(m, line);
    memmove(m->chain + 1, m->chain, m->depth * sizeof m->chain[0]);
    m->chain[0] = m->next++;
    m->depth++;
}

static void
make_commit(Maker *m)
{
    unsigned top = below(m, m->depth), base = below(m, m->depth);
    g_autofree char *line = g_strdup_printf("commit a a%u a%u%s", m->chain[MAX(top, base)],
                                            m->chain[MIN(top, base)], maybe_slow(m));

    deed(m, line);
    m->mirror = false;
}

static void
make_active(Maker *m)
{
    m->base = below(m, m->depth);
    g_autofree char *line = g_strdup_printf("active a a%u%s", m->chain[m->base], maybe_slow(m));
    deed(m, line);
    m->mirror = true;
}

static void
make_copy(Maker *m)
{
    g_autofree char *line = g_strdup_printf("copy a a%u%s", m->next, maybe_slow(m));

    if (m->depth < 2)
        return;
    say(m, "overlay a%u a%u", m->next, m->chain[1]);
    deed(m, line);
    m->next++;
    m->mirror = true;
    m->base = 1; /* near enough */
}

static void
make_end(Maker *m)
{
    if (below(m, 2) == 0)
        say(m, "speed a full");
    if (m->mirror && below(m, 4) > 0) {
        say(m, "speed a full");
        say(m, "ready a");
    }
    deed(m, below(m, 4) > 0 ? "pivot a" : "cancel a");
    if (m->mirror && below(m, 3) > 0 && m->base < m->depth) {
        m->depth -= m->base;
        memmove(m->chain, m->chain + m->base, m->depth * sizeof m->chain[0]);
    }
    m->mirror = false;
}

static void
make_death(Maker *m)
{
    if (below(m, 2) == 0) {
        say(m, below(m, 2) == 0 ? "kill-qemu" : "destroy");
        say(m, "off");
        say(m, below(m, 3) == 0 ? "redefine" : "look a");
        say(m, "start");
        m->mirror = false;
        return;
    }
    say(m, "kill-libvirtd");
    if (below(m, 2) == 0)
        say(m, "write a %u", below(m, STAGE_CLUSTERS));
    say(m, "start-libvirtd");
    say(m, "connected");
    say(m, "events");
}

static void
make_small(Maker *m)
{
    switch (below(m, 6)) {
    case 0:
        say(m, "suspend");
        return;
    case 1:
        say(m, "resume");
        return;
    case 2:
        say(m, "speed a %s", below(m, 2) == 0 ? "slow" : "full");
        return;
    case 3:
        say(m, "job a");
        return;
    default:
        say(m, "write a %u", below(m, STAGE_CLUSTERS));
    }
}

/* What it has become, when all is quiet. */
static void
make_last(Maker *m)
{
    say(m, "cancel a");
    say(m, "ended a");
    say(m, "flush a");
    say(m, "look a");
    say(m, "job a");
    say(m, "verify a");
    say(m, "events");
}

GPtrArray *
sequence_new(uint64_t seed)
{
    static void (*const makers[])(Maker *) = {
        make_snapshot, make_commit, make_commit, make_active, make_active, make_copy,  make_end,
        make_end,      make_end,    make_death,  make_small,  make_small,  make_small,
    };
    Maker m = { .chain = { 2, 1, 0 }, .depth = STAGE_DEPTH, .next = STAGE_DEPTH };

    m.luck = g_rand_new_with_seed((guint32)seed);
    m.lines = g_ptr_array_new_with_free_func(g_free);
    for (unsigned n = 5 + below(&m, 8); n > 0; n--) {
        makers[below(&m, G_N_ELEMENTS(makers))](&m);
        if (below(&m, 3) == 0)
            say(&m, "look a");
    }
    make_last(&m);
    g_rand_free(m.luck);
    return m.lines;
}
