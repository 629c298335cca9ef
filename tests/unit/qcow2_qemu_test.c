/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * Hundreds of random chains that QEMU makes, on several file systems: our maps must equal those of
 * qemu-img, our checker must find QEMU's volumes sound, and what is built of them must pass
 * "qemu-img check" and "qemu-img compare".
 */
#include "qcow2/merged.h"
#include "qcow2_seed.h"
#include "qcow2_sound.h"

/* Maps ------------------------------------------------------------------------------ */

/* A row of "qemu-img map --output=json" */
typedef struct {
    uint64_t guest, length, offset;
    unsigned depth;
    bool present, data, has_offset;
} Row;

static GArray *
qemus_rows(const QemuChain *c, unsigned top)
{
    const QemuLayer *layer = &c->layers[top];
    g_autofree char *text =
        must(c->folder, "qemu-img map -f %s --output=json %s", layer->format, layer->name);
    g_autoptr(json_t) list = json_loads(text, 0, NULL);
    GArray *rows = g_array_new(FALSE, FALSE, sizeof(Row));
    uint64_t end = 0;
    size_t i;
    json_t *each;

    json_array_foreach (list, i, each) {
        Row row = {
            .guest = (uint64_t)json_integer_value(json_object_get(each, "start")),
            .length = (uint64_t)json_integer_value(json_object_get(each, "length")),
            .offset = (uint64_t)json_integer_value(json_object_get(each, "offset")),
            .depth = (unsigned)json_integer_value(json_object_get(each, "depth")),
            .present = json_is_true(json_object_get(each, "present")),
            .data = json_is_true(json_object_get(each, "data")),
            .has_offset = json_object_get(each, "offset") != NULL,
        };
        g_assert_cmpuint(row.guest, ==, end);
        end += row.length;
        g_array_append_val(rows, row);
    }
    g_assert_cmpuint(end, ==, layer->size);
    return rows;
}

/* What the row says of the layer itself */
static ExtentKind
kind_of(const Row *row, bool raw)
{
    if (row->depth != 0 || !row->present)
        return EXTENT_HOLE;
    if (row->data)
        return row->has_offset ? EXTENT_DATA : EXTENT_COMPRESSED;
    return row->has_offset && !raw ? EXTENT_ZERO_ALLOCATED : EXTENT_ZERO;
}

typedef struct {
    const QemuLayer *layer;
    const GArray *rows;
    guint at;
    uint64_t end;
    unsigned seen; /* kinds, as bits */
} Walk;

/* An extent of ours, against all rows of QEMU's that it meets */
static bool
compare_extent(const Extent *e, void *data)
{
    Walk *w = data;

    g_assert_cmpuint(e->guest, ==, w->end);
    w->end += e->length;
    w->seen |= 1U << e->kind;
    while (w->at < w->rows->len) {
        const Row *row = &g_array_index(w->rows, Row, w->at);
        uint64_t from = MAX(row->guest, e->guest);
        ExtentKind kind = kind_of(row, strcmp(w->layer->format, "raw") == 0);
        bool has_host = kind == EXTENT_DATA || kind == EXTENT_ZERO_ALLOCATED;

        if (row->guest >= w->end)
            break;
        if (kind != e->kind ||
            (has_host && row->offset + (from - row->guest) != e->host + (from - e->guest)))
            g_error("%s, byte %" PRIu64 ": our map says kind %d at %" PRIu64
                    ", qemu-img says kind %d at %" PRIu64,
                    w->layer->path, from, e->kind, e->host + (from - e->guest), kind,
                    row->offset + (from - row->guest));
        if (row->guest + row->length > w->end)
            break;
        w->at++;
    }
    return true;
}

static unsigned
compare_map(const QemuLayer *layer, const GArray *rows)
{
    g_autoptr(GError) error = NULL;
    Walk walk = { .layer = layer, .rows = rows };

    qcow2_map(layer->path, layer->format, compare_extent, &walk, &error);
    g_assert_no_error(error);
    g_assert_cmpuint(walk.end, ==, layer->size);
    return walk.seen;
}

static void
differs(const QemuChain *c, uint64_t guest, const MergedCluster *cluster, const Row *row)
{
    g_error("%s: byte %" PRIu64 ": the chain's map says kind %d in layer %u at %" PRIu64
            ", qemu-img says data %d, present %d at depth %u, offset %" PRIu64,
            c->folder, guest, cluster->kind, cluster->layer, cluster->host, row->data, row->present,
            row->depth, row->offset);
}

/* Part of a cluster of the chain, which the row tells of too */
static void
compare_part(const QemuChain *c, const MergedMap *map, uint64_t guest, const MergedCluster *cluster,
             const Row *row, uint64_t from)
{
    bool data = merged_has_data(cluster) && from < merged_shown_end(map, guest, cluster->layer);
    bool raw = map->layers[cluster->layer].header == NULL;
    bool good;

    if (data && raw && !row->data) /* clusters are what counts for us */
        good = true;
    else if (!data)
        good = !row->data;
    else if (cluster->kind == MERGED_PACKED)
        good = row->data && !row->has_offset && row->depth == map->n - 1 - cluster->layer;
    else
        good = row->data && row->has_offset && row->depth == map->n - 1 - cluster->layer &&
               row->offset + (from - row->guest) == cluster->host + (from - guest);
    if (!good)
        differs(c, from, cluster, row);
}

static void
compare_cluster(const QemuChain *c, const MergedMap *map, uint64_t guest,
                const MergedCluster *cluster, const GArray *rows, guint *at)
{
    uint64_t end = MIN(guest + (UINT64_C(1) << map->bits), map->virtual_size);

    for (uint64_t from = guest; from < end;) {
        const Row *row = &g_array_index(rows, Row, *at);

        compare_part(c, map, guest, cluster, row, from);
        from = MIN(end, row->guest + row->length);
        *at += row->guest + row->length == from;
    }
}

/* The layers up to this one, as one map. */
static void
compare_chain(const QemuChain *c, unsigned top, const GArray *rows)
{
    g_auto(MergedMap) map = MERGED_INIT;
    g_autoptr(GError) error = NULL;
    Qcow2Source sources[G_N_ELEMENTS(c->layers)];
    bool extended = false;
    guint at = 0;

    for (unsigned i = 0; i <= top; i++) {
        sources[i] = (Qcow2Source){ c->layers[i].path, c->layers[i].format };
        extended = extended || c->layers[i].extended;
    }
    merged_open(&map, sources, top + 1, 0, 21, &error);
    if (extended) {
        assert_refused(error, ERR_UNSUPPORTED, "extended L2");
        return;
    }
    g_assert_no_error(error);
    g_autofree MergedCluster *clusters = g_new(MergedCluster, map.per_slice);
    for (uint64_t slice = 0; slice < map.slices; slice++) {
        bool empty = false;
        uint64_t first = slice << l2_span_bits(map.bits, false);

        merged_slice(&map, slice, clusters, &empty, &error);
        g_assert_no_error(error);
        for (size_t i = 0; i < merged_count(&map, slice); i++)
            compare_cluster(c, &map, first + ((uint64_t)i << map.bits), &clusters[i], rows, &at);
    }
    g_assert_cmpuint(at, ==, rows->len);
}

/* Building -------------------------------------------------------------------------- */

/* A layer's disk ends within a cluster that both of its sides need: that cannot be built. */
static bool
may_refuse(const QemuChain *c, unsigned first, unsigned last, const GError *error)
{
    bool extended = false, grows = false;

    if (!g_error_matches(error, ERR, ERR_UNSUPPORTED))
        return false;
    for (unsigned i = first; i <= last; i++) {
        extended = extended || c->layers[i].extended;
        grows = grows || (i < last && c->layers[i].size % 512 == 0 && first > 0);
    }
    if (extended)
        return strstr(error->message, "extended L2") != NULL;
    return grows && strstr(error->message, "ends at byte") != NULL;
}

typedef struct {
    unsigned volumes, chains, built, refused, unpacked, kinds;
} Tally;

static void
build_run(const QemuChain *c, unsigned first, unsigned last, Tally *tally)
{
    g_autoptr(GError) error = NULL;
    g_autofree char *dest = in(c->folder, "new");
    const QemuLayer *top = &c->layers[last], *below = first > 0 ? &c->layers[first - 1] : NULL;
    Qcow2Source sources[G_N_ELEMENTS(c->layers)];
    g_auto(Qcow2BuildPlan) plan = { 0 };
    Qcow2Built built;

    for (unsigned i = first; i <= last; i++)
        sources[i - first] = (Qcow2Source){ c->layers[i].path, c->layers[i].format };
    Qcow2Build build = {
        .layers = sources,
        .n = last - first + 1,
        .dest = dest,
        .backing = below != NULL ? below->name : NULL,
        .backing_format = below != NULL ? below->format : NULL,
        .mode = 0600,
        .uid = -1,
        .gid = -1,
        .share = qemu_chance(c->rand, 80),
    };
    g_assert_true(qcow2_build_look(sources, build.n, 0, &plan, NULL));
    if (!qcow2_build(&build, &built, &error)) {
        if (!may_refuse(c, first, last, error))
            g_error("%s: %s", c->folder, error->message);
        g_assert_cmpstr(plan.refusal, ==, error->message);
        tally->refused++;
        return;
    }
    tally->unpacked += plan.unpacked_bytes > 0;
    g_assert_cmpuint(built.bytes_copied, >=, plan.unpacked_bytes);
    assert_sound(dest);
    qcow2_same_map(sources, build.n, dest, NULL, NULL, NULL, &error);
    g_assert_no_error(error);
    MUST(c->folder, "qemu-img check -q -f qcow2 new");
    MUST(c->folder, "qemu-img compare -q -f %s -F qcow2 %s new", top->format, top->name);
    unlink(dest);
    tally->built++;
}

static void
try_chain(const char *folder, guint32 seed, Tally *tally)
{
    g_auto(QemuChain) c = qemu_chain(folder, seed);

    for (unsigned i = 0; i < c.n; i++) {
        g_autoptr(GArray) rows = qemus_rows(&c, i);

        tally->kinds |= compare_map(&c.layers[i], rows);
        compare_chain(&c, i, rows);
        if (strcmp(c.layers[i].format, "qcow2") == 0)
            assert_sound(c.layers[i].path);
    }
    unsigned first = (unsigned)g_rand_int_range(c.rand, 0, (int)c.n);
    build_run(&c, first, (unsigned)g_rand_int_range(c.rand, (int)first, (int)c.n), tally);
    if (first > 0)
        build_run(&c, 0, c.n - 1, tally);
    tally->volumes += c.n;
    tally->chains++;
}

static void
test_chains(void)
{
    unsigned rounds = g_test_slow() ? 3000 : 180;
    gint64 begin = g_get_monotonic_time();
    Tally tally = { 0 };

    need_qemu();
    for (unsigned i = 0; i < rounds || (tally.built < 200 && i < 1000); i++) {
        const TestFs *fs = &file_systems[i % 4];
        guint32 seed = seed_next("/qcow2/qemu/chains", i);

        if (fs->folder == NULL)
            fs = &file_systems[2];
        try_chain(fs->folder, seed, &tally);
        if (seed_is_last())
            return;
    }
    seed_done();
    g_test_message("%u volumes in %u chains, %u built (%u of compressed clusters), %u refused, in "
                   "%.1f s",
                   tally.volumes, tally.chains, tally.built, tally.unpacked, tally.refused,
                   (double)(g_get_monotonic_time() - begin) / 1e6);
    g_assert_cmpuint(tally.volumes, >=, 300);
    g_assert_cmpuint(tally.built, >=, 200);
    g_assert_cmpuint(tally.unpacked, >=, 20);
    g_assert_cmpuint(tally.kinds, ==, 0x1f); /* all of ExtentKind */
}

int
main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    enter_file_systems();
    g_test_add_func("/qcow2/qemu/chains", test_chains);
    int status = g_test_run();
    leave_file_systems();
    return status;
}
