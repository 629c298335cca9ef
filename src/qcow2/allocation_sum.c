/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * One sweep over the extents of several layers, from the guest's first byte to its last: between
 * two neighbouring ends of extents it is always the same layer that shows. What the builder will do
 * (merged.c, layout.c, window.c) is counted along with it, extents at a time instead of clusters.
 */
#include "qcow2/allocation.h"

#include "qcow2/layout.h"
#include "qcow2/transfer.h"
#include "qcow2/window.h"

#include <inttypes.h>

/* What one new volume of all layers would be ------------------------------------------- */

/* Data that are together in guest and file */
typedef struct {
    uint64_t host, length;
    unsigned layer;
} Piece;

/* The disk of a layer ends within a cluster */
typedef struct {
    uint64_t at;
    unsigned layer;
    bool covered; /* a layer has the cluster */
} End;

typedef struct {
    unsigned bits;
    uint64_t block, below;
    Allocation *const *layers;
    GArray *ends;
    size_t per_slice;             /* clusters that a L2 table maps */
    uint64_t tables, before;      /* so far; and before this window */
    uint64_t slice;               /* the last one with a table */
    GArray *pieces;               /* of this window */
    bool unpacks;                 /* this window does */
    uint64_t data, packed, calls; /* clusters; bytes; share calls of earlier windows */
    uint64_t patches, patched;    /* bytes; the last cluster */
} New;

static int
by_source(const void *a, const void *b)
{
    const Piece *x = a, *y = b;

    if (x->layer != y->layer)
        return x->layer < y->layer ? -1 : 1;
    return x->host < y->host ? -1 : x->host > y->host;
}

static uint64_t
calls_of(const New *new, const Piece *piece)
{
    uint64_t size = new->layers[piece->layer]->file_size;
    uint64_t there = piece->host < size ? MIN(piece->length, size - piece->host) : 0;

    return transfer_share_calls(piece->host, there, new->block);
}

/* Pieces that follow each other in a file are one call. */
static void
end_window(New *new)
{
    const GArray *pieces = new->pieces;
    Piece all = { 0 };

    g_array_sort(new->pieces, by_source);
    for (guint i = 0; i < pieces->len; i++) {
        const Piece *piece = &g_array_index(pieces, Piece, i);

        if (piece->layer == all.layer && piece->host == all.host + all.length) {
            all.length += piece->length;
            continue;
        }
        new->calls += calls_of(new, &all);
        all = *piece;
    }
    new->calls += calls_of(new, &all);
    g_array_set_size(new->pieces, 0);
    new->before = new->tables;
    new->unpacks = false;
}

/* Something lies in this slice: it gets a table, and maybe begins a window. */
static void
need_table(New *new, uint64_t slice)
{
    if (slice == new->slice)
        return;
    if (window_is_full(new->tables - new->before, new->per_slice, new->unpacks, new->pieces,
                       by_source))
        end_window(new);
    new->slice = slice;
    new->tables++;
}

static void
add_piece(New *new, unsigned layer, uint64_t host, uint64_t length)
{
    GArray *pieces = new->pieces;
    Piece *last = pieces->len > 0 ? &g_array_index(pieces, Piece, pieces->len - 1) : NULL;

    if (last != NULL && last->layer == layer && last->host + last->length == host) {
        last->length += length;
        return;
    }
    Piece piece = { host, length, layer };
    g_array_append_val(pieces, piece);
}

/* Data of which a layer above shows only the beginning are written over from there on. */
static void
add_patches(New *new, uint64_t from, uint64_t to, unsigned layer)
{
    for (guint i = 0; i < new->ends->len; i++) {
        const End *end = &g_array_index(new->ends, End, i);
        uint64_t cluster = end->at >> new->bits;

        if (end->at < from || end->at >= to || end->layer < layer || cluster == new->patched)
            continue;
        new->patched = cluster;
        new->patches += ((cluster + 1) << new->bits) - end->at;
    }
}

static void
cover_ends(New *new, uint64_t from, uint64_t to)
{
    for (guint i = 0; i < new->ends->len; i++) {
        End *end = &g_array_index(new->ends, End, i);
        end->covered = end->covered || (end->at >= from && end->at < to);
    }
}

/* Whole clusters [from, to) that this extent of the layer shows. */
static void
add_to_new(New *new, uint64_t from, uint64_t to, unsigned layer, const AllocationExtent *extent)
{
    bool packed = extent->kind == EXTENT_COMPRESSED;
    bool data = packed || extent->kind == EXTENT_DATA;
    unsigned span = l2_span_bits(new->bits, false);

    cover_ends(new, from, to);
    if (!data && from < new->below) /* zeros above the end of what is below are left out */
        to = new->below < to ? round_up(new->below, UINT64_C(1) << new->bits) : to;
    else if (!data)
        return;
    if (data) {
        new->data += (to - from) >> new->bits;
        new->packed += packed ? to - from : 0;
        add_patches(new, from, to, layer);
    }
    for (uint64_t at = from, next; at < to; at = next) {
        next = MIN(to, ((at >> span) + 1) << span);
        need_table(new, at >> span);
        new->unpacks = new->unpacks || packed;
        if (data && !packed)
            add_piece(new, layer, extent->host + (at - extent->guest), next - at);
    }
}

static char *
check_ends(const New *new)
{
    for (guint i = 0; i < new->ends->len; i++) {
        const End *end = &g_array_index(new->ends, End, i);

        if (!end->covered && end->at < new->below)
            return g_strdup_printf("%s ends at byte %" PRIu64
                                   ", within a cluster of which its backing file holds both sides: "
                                   "that cannot be carried over",
                                   new->layers[end->layer]->path, end->at);
    }
    return NULL;
}

static void
finish_new(New *new, uint64_t virtual_size, AllocationSum *sum)
{
    unsigned span = l2_span_bits(new->bits, false);
    Layout layout = {
        .bits = new->bits,
        .slices = (virtual_size >> span) + ((virtual_size & ((UINT64_C(1) << span) - 1)) != 0),
        .tables = new->tables,
        .data = new->data,
    };

    end_window(new);
    layout_place(&layout);
    sum->all = new->data << new->bits;
    sum->packed = new->packed;
    sum->pieces = new->calls;
    sum->metadata = ((layout.total - layout.data) << new->bits) + new->patches;
    sum->refusal = check_ends(new);
    if (sum->refusal == NULL &&
        (layout.slices > L1_MAX_ENTRIES || layout.table_clusters << new->bits > REFCOUNT_TABLE_MAX))
        sum->refusal = g_strdup_printf("clusters of %" PRIu64 " bytes are too small for a volume "
                                       "with %" PRIu64 " bytes of data on a disk of %" PRIu64,
                                       UINT64_C(1) << new->bits, sum->all, virtual_size);
}

/* The sweep ----------------------------------------------------------------------------- */

enum { WORDS = (QCOW2_MAX_DEPTH + 63) / 64 };

/* A layer: the extent that is next or under way, in whole clusters of the sweep */
typedef struct {
    const Allocation *allocation;
    size_t next; /* in its extents */
    AllocationExtent extent;
    uint64_t edge; /* where it begins or ends; UINT64_MAX = there is none */
    bool inside;
} Cursor;

typedef struct {
    Cursor *cursors;
    unsigned n, bits;
    uint64_t virtual_size, end; /* end: in whole clusters */
    unsigned *heap;             /* numbers of cursors; the first has the next edge */
    uint64_t active[WORDS];     /* a bit for each cursor that is inside of an extent */
    uint64_t grown;             /* the base's cluster that was counted last, plus one */
    New new;
    AllocationSum *sum;
} Sweep;

static bool
is_before(const Sweep *s, unsigned a, unsigned b)
{
    return s->cursors[s->heap[a]].edge < s->cursors[s->heap[b]].edge;
}

static void
sink(Sweep *s, unsigned at)
{
    for (;;) {
        unsigned least = at, left = 2 * at + 1, right = left + 1, number = s->heap[at];

        if (left < s->n && is_before(s, left, least))
            least = left;
        if (right < s->n && is_before(s, right, least))
            least = right;
        if (least == at)
            return;
        s->heap[at] = s->heap[least];
        s->heap[least] = number;
        at = least;
    }
}

/* The next extent, widened to whole clusters, never back over the one before. Above the end of a
 * layer that is smaller than the disk there are zeros. */
static void
load(const Sweep *s, Cursor *c, uint64_t from)
{
    const Allocation *a = c->allocation;
    uint64_t cluster = UINT64_C(1) << s->bits, end = round_up(a->virtual_size, cluster);

    c->edge = UINT64_MAX;
    while (c->next < a->n) {
        AllocationExtent *e = &c->extent;
        uint64_t begin, stop;

        *e = a->extents[c->next++];
        begin = MAX(e->guest / cluster * cluster, from);
        stop = MIN(round_up(e->guest + e->length, cluster), s->end);
        if (begin >= stop)
            continue;
        e->host += begin - e->guest; /* of a raw volume also less than before */
        e->guest = begin;
        e->length = stop - begin;
        c->edge = begin;
        return;
    }
    if (c->next == a->n && end < s->end) {
        c->next++;
        c->extent = (AllocationExtent){ end, s->end - end, 0, EXTENT_ZERO };
        c->edge = c->extent.guest;
    }
}

static void
turn(Sweep *s, unsigned number)
{
    Cursor *c = &s->cursors[number];
    uint64_t bit = UINT64_C(1) << number % 64, at = c->edge;

    if (c->inside)
        load(s, c, at);
    c->inside = c->edge == at; /* it begins here, or the next one right behind the last */
    if (c->inside) {
        s->active[number / 64] |= bit;
        c->edge = at + c->extent.length;
    } else {
        s->active[number / 64] &= ~bit;
    }
}

static const Cursor *
topmost(const Sweep *s)
{
    for (unsigned word = WORDS; word-- > 0;)
        if (s->active[word] != 0)
            return &s->cursors[word * 64 + 63 - (unsigned)__builtin_clzll(s->active[word])];
    return NULL;
}

/* Bytes of the base's own clusters in [from, to) that were not counted yet. */
static uint64_t
growth(Sweep *s, uint64_t from, uint64_t to)
{
    const Cursor *base = &s->cursors[0];
    unsigned bits = base->allocation->raw ? s->bits : base->allocation->bits;
    uint64_t first = from >> bits, last = (to - 1) >> bits;

    if (base->inside &&
        (base->extent.kind == EXTENT_DATA || base->extent.kind == EXTENT_ZERO_ALLOCATED))
        return 0;
    first = MAX(first, s->grown);
    s->grown = MAX(last + 1, s->grown);
    return first <= last ? (last + 1 - first) << bits : 0;
}

static void
add_stretch(Sweep *s, uint64_t from, uint64_t to)
{
    const Cursor *top = topmost(s);

    if (top == NULL)
        return;
    bool data = top->extent.kind == EXTENT_DATA || top->extent.kind == EXTENT_COMPRESSED;
    unsigned number = (unsigned)(top - s->cursors);

    add_to_new(&s->new, from, to, number, &top->extent);
    if (data && number + 1 == s->n)
        s->sum->top += to - from;
    if (number == 0)
        return;
    *(data ? &s->sum->upper : &s->sum->upper_zero) += to - from;
    *(data ? &s->sum->grow : &s->sum->grow_zero) += growth(s, from, to);
}

static void
go_through(Sweep *s)
{
    for (uint64_t at = 0; at < s->end;) {
        uint64_t next;

        while ((next = s->cursors[s->heap[0]].edge) == at) {
            turn(s, s->heap[0]);
            sink(s, 0);
        }
        next = MIN(next, s->end);
        add_stretch(s, at, next);
        at = next;
    }
}

static unsigned
choose_bits(Allocation *const *layers, unsigned n)
{
    unsigned bits = layers[n - 1]->raw ? 16 : 21; /* as merged.c does */

    for (unsigned i = 0; i < n; i++)
        if (!layers[i]->raw)
            bits = MIN(bits, layers[i]->bits);
    return bits;
}

static int
by_place(const void *a, const void *b)
{
    const End *x = a, *y = b;

    return x->at < y->at ? -1 : x->at > y->at;
}

static GArray *
find_ends(Allocation *const *layers, unsigned n, unsigned bits, uint64_t virtual_size)
{
    GArray *ends = g_array_new(FALSE, FALSE, sizeof(End));

    for (unsigned i = 0; i < n; i++) {
        End end = { layers[i]->virtual_size, i, false };

        if (end.at < virtual_size && end.at % (UINT64_C(1) << bits) != 0)
            g_array_append_val(ends, end);
    }
    g_array_sort(ends, by_place);
    return ends;
}

void
allocation_sum(Allocation *const *layers, unsigned n, uint64_t virtual_size, uint64_t below,
               uint64_t block, AllocationSum *ret_sum)
{
    *ret_sum = (AllocationSum){ 0 };
    if (n == 0 || n > QCOW2_MAX_DEPTH)
        return;
    unsigned bits = choose_bits(layers, n);
    uint64_t size = virtual_size != 0 ? virtual_size : layers[n - 1]->virtual_size;
    g_autoptr(GArray) pieces = g_array_new(FALSE, FALSE, sizeof(Piece));
    g_autoptr(GArray) ends = find_ends(layers, n, bits, size);
    g_autofree Cursor *cursors = g_new0(Cursor, n);
    g_autofree unsigned *heap = g_new0(unsigned, n);
    Sweep sweep = {
        .cursors = cursors,
        .heap = heap,
        .n = n,
        .bits = bits,
        .virtual_size = size,
        .end = round_up(size, UINT64_C(1) << bits),
        .sum = ret_sum,
        .new = { .bits = bits,
                 .block = block,
                 .below = below,
                 .layers = layers,
                 .ends = ends,
                 .per_slice = (size_t)1 << (bits - 3),
                 .slice = UINT64_MAX,
                 .pieces = pieces,
                 .patched = UINT64_MAX },
    };

    for (unsigned i = 0; i < n; i++) {
        cursors[i].allocation = layers[i];
        load(&sweep, &cursors[i], 0);
        heap[i] = i;
    }
    for (unsigned i = n; i-- > 0;)
        sink(&sweep, i);
    go_through(&sweep);
    finish_new(&sweep.new, size, ret_sum);
}
