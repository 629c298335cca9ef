/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * What volumes hold, and what a merge of them would be: random chains, judged cluster by cluster by
 * a slow and plain count, and by what the builder reports after it built them.
 */
#include "qcow2/allocation.h"
#include "qcow2_build_fs.h"
#include "qcow2_build_gen.h"

typedef struct {
    Allocation *layers[8];
    unsigned n;
} Run;

static void
run_clear(Run *run)
{
    for (unsigned i = 0; i < run->n; i++)
        allocation_unref(run->layers[i]);
}
G_DEFINE_AUTO_CLEANUP_CLEAR_FUNC(Run, run_clear)

static Allocation *
read_one(const char *path, const char *format)
{
    g_autoptr(GError) error = NULL;
    Allocation *a = allocation_read(path, format, ALLOCATION_MAX, NULL, NULL, &error);

    g_assert_no_error(error);
    g_assert_true(a->exact);
    return a;
}

static void
read_run(Run *run, const GenChain *c)
{
    *run = (Run){ .n = c->last - c->first + 1 };
    for (unsigned i = 0; i < run->n; i++)
        run->layers[i] = read_one(c->layers[c->first + i].path, c->layers[c->first + i].format);
}

/* ---- the plain count */

/* The kinds of a layer's sectors, as qcow2_map() tells them. */
typedef struct {
    uint8_t *kinds;
    uint64_t sectors;
} Flat;

static bool
flatten(const Extent *extent, void *data)
{
    Flat *flat = data;

    for (uint64_t at = extent->guest / 512;
         at * 512 < extent->guest + extent->length && at < flat->sectors; at++)
        flat->kinds[at] = (uint8_t)extent->kind;
    return true;
}

static bool
is_data(unsigned kind)
{
    return kind == EXTENT_DATA || kind == EXTENT_COMPRESSED;
}

/* What a cluster of the size of the sweep is in a layer. */
static unsigned
kind_in(const Flat *flat, const GenLayer *layer, uint64_t guest, uint64_t cluster)
{
    unsigned kind = EXTENT_ZERO;

    if (guest >= layer->size)
        return EXTENT_ZERO; /* above its end */
    if (strcmp(layer->format, "raw") != 0)
        return flat->kinds[guest / 512];
    for (uint64_t at = guest / 512; at < (guest + cluster) / 512 && at < flat->sectors; at++)
        kind = flat->kinds[at] == EXTENT_DATA ? EXTENT_DATA : kind;
    return kind;
}

static void
count_plainly(const GenChain *c, unsigned bits, AllocationSum *sum)
{
    const GenLayer *base = &c->layers[c->first];
    uint64_t cluster = UINT64_C(1) << bits, size = c->layers[c->last].size, grown = UINT64_MAX;
    unsigned own_bits = strcmp(base->format, "raw") == 0 ? bits : base->bits;
    Flat flats[8] = { 0 };

    for (unsigned k = c->first; k <= c->last; k++) {
        flats[k].sectors = MAX(size, c->layers[k].size) / 512 + 1;
        flats[k].kinds = g_malloc0(flats[k].sectors);
        g_assert_true(qcow2_map(c->layers[k].path, c->layers[k].format, flatten, &flats[k], NULL));
    }
    *sum = (AllocationSum){ 0 };
    for (uint64_t guest = 0; guest < size; guest += cluster) {
        unsigned kind = EXTENT_HOLE, in_base = kind_in(&flats[c->first], base, guest, cluster);
        unsigned k = c->last + 1;

        while (kind == EXTENT_HOLE && k-- > c->first)
            kind = kind_in(&flats[k], &c->layers[k], guest, cluster);
        sum->all += is_data(kind) ? cluster : 0;
        sum->packed += kind == EXTENT_COMPRESSED ? cluster : 0;
        sum->top += is_data(kind) && k == c->last ? cluster : 0;
        if (kind == EXTENT_HOLE || k == c->first)
            continue;
        *(is_data(kind) ? &sum->upper : &sum->upper_zero) += cluster;
        if (in_base != EXTENT_DATA && in_base != EXTENT_ZERO_ALLOCATED &&
            guest >> own_bits != grown) {
            *(is_data(kind) ? &sum->grow : &sum->grow_zero) += UINT64_C(1) << own_bits;
            grown = guest >> own_bits;
        }
    }
    for (unsigned k = c->first; k <= c->last; k++)
        g_free(flats[k].kinds);
}

/* ---- random chains */

static bool
is_raw(const GenChain *c, unsigned k)
{
    return strcmp(c->layers[k].format, "raw") == 0;
}

static unsigned
smallest_bits(const GenChain *c)
{
    unsigned bits = is_raw(c, c->last) ? 16 : 21;

    for (unsigned k = c->first; k <= c->last; k++)
        if (!is_raw(c, k))
            bits = MIN(bits, c->layers[k].bits);
    return bits;
}

static void
compare_with_plain(const GenChain *c, guint32 seed, const AllocationSum *sum)
{
    AllocationSum plain;
    const struct {
        const char *what;
        uint64_t is, wanted;
    } rows[] = {
        { "all", sum->all, (count_plainly(c, smallest_bits(c), &plain), plain.all) },
        { "packed", sum->packed, plain.packed },
        { "upper", sum->upper, plain.upper },
        { "upper_zero", sum->upper_zero, plain.upper_zero },
        { "grow + grow_zero", sum->grow + sum->grow_zero, plain.grow + plain.grow_zero },
        { "grow", sum->grow, plain.grow },
        { "top", sum->top, plain.top },
    };

    for (size_t i = 0; i < G_N_ELEMENTS(rows); i++)
        if (rows[i].is != rows[i].wanted)
            g_error("chain %u (layers %u to %u): %s is %" PRIu64 ", expected %" PRIu64, seed,
                    c->first, c->last, rows[i].what, rows[i].is, rows[i].wanted);
}

static void
compare_with_build(const GenChain *c, guint32 seed, const TestFs *fs, const AllocationSum *sum)
{
    g_autoptr(GError) error = NULL;
    g_autofree char *dest = in(c->folder, "new");
    Qcow2Source sources[8];
    Qcow2Built built = { 0 };
    const GenLayer *below = c->first > 0 ? &c->layers[c->first - 1] : NULL;

    for (unsigned i = c->first; i <= c->last; i++)
        sources[i - c->first] = (Qcow2Source){ c->layers[i].path, c->layers[i].format };
    Qcow2Build build = {
        .layers = sources,
        .n = c->last - c->first + 1,
        .dest = dest,
        .backing = below != NULL ? below->name : NULL,
        .backing_format = below != NULL ? below->format : NULL,
        .mode = 0600,
        .uid = -1,
        .gid = -1,
        .share = fs->shares,
    };
    bool done = qcow2_build(&build, &built, &error);
    if (done != (sum->refusal == NULL))
        g_error("chain %u: refusal \"%s\", but the build says \"%s\"", seed, sum->refusal,
                done ? "yes" : error->message);
    if (!done) {
        g_assert_error(error, ERR, ERR_UNSUPPORTED);
        return;
    }
    unlink(dest);
    if (built.bytes_written != sum->metadata)
        g_error("chain %u: metadata %" PRIu64 ", but the build wrote %" PRIu64, seed, sum->metadata,
                built.bytes_written);
    if (fs->shares && smallest_bits(c) >= 12 && built.share_calls != sum->pieces)
        g_error("chain %u: %" PRIu64 " pieces, but the build took %u calls", seed, sum->pieces,
                built.share_calls);
    if (built.bytes_shared + built.bytes_copied > sum->all)
        g_error("chain %u: all is %" PRIu64 ", but the build moved %" PRIu64, seed, sum->all,
                built.bytes_shared + built.bytes_copied);
}

static void
test_random_chains(void)
{
    const TestFs *fs = any_fs(true);
    unsigned rounds = g_test_slow() ? 3000 : 250;

    if (fs == NULL)
        return;
    for (unsigned i = 0; i < rounds; i++) {
        guint32 seed = g_test_rand_int();
        g_auto(GenChain) c = gen_chain(fs->folder, seed);
        g_auto(Run) run = { .n = 0 };
        g_auto(AllocationSum) sum = { 0 };

        read_run(&run, &c);
        allocation_sum(run.layers, run.n, 0, c.first > 0 ? c.layers[c.first - 1].size : 0, 4096,
                       &sum);
        compare_with_plain(&c, seed, &sum);
        compare_with_build(&c, seed, fs, &sum);
    }
}

/* ---- QEMU */

static uint64_t
data_in(const char *path)
{
    g_autoptr(Allocation) a = read_one(path, "qcow2");
    uint64_t bytes = 0;

    for (size_t i = 0; i < a->n; i++)
        bytes += is_data(a->extents[i].kind) ? a->extents[i].length : 0;
    return bytes;
}

/* Chains of which QEMU moves whole clusters as they are: all alike, of version 3. */
static bool
is_plain(const GenChain *c)
{
    for (unsigned k = 0; k < c->n; k++) {
        g_autoptr(Qcow2Header) header =
            is_raw(c, k) ? NULL : qcow2_header_read(c->layers[k].path, NULL);
        if (header == NULL || header->version < 3 || header->cluster_bits < 12 ||
            header->cluster_bits != c->layers[0].bits ||
            header->virtual_size != c->layers[0].size ||
            header->virtual_size % (UINT64_C(1) << header->cluster_bits) != 0)
            return false;
    }
    return c->n > 1;
}

/* After QEMU's commit of a whole chain its base holds the data that were foretold. */
static void
test_commits(void)
{
    const TestFs *fs = any_fs(true);
    unsigned done = 0;

    if (fs == NULL)
        return;
    for (unsigned i = 0; i < 2000 && done < 10; i++) {
        guint32 seed = g_test_rand_int();
        g_auto(GenChain) c = gen_chain(fs->folder, seed);
        g_auto(Run) run = { .n = 0 };
        g_auto(AllocationSum) sum = { 0 };

        if (!is_plain(&c))
            continue;
        c.first = 0;
        c.last = c.n - 1;
        read_run(&run, &c);
        allocation_sum(run.layers, run.n, 0, 0, 4096, &sum);
        uint64_t before = data_in(c.layers[0].path);
        g_test_message("chain %u", seed);
        MUST(fs->folder, "qemu-img commit -q -d -b %s %s", c.layers[0].name, c.layers[c.last].name);
        uint64_t after = data_in(c.layers[0].path);
        if (after != sum.all)
            g_error("chain %u: the base has %" PRIu64 " bytes of data (%" PRIu64
                    " before), expected %" PRIu64,
                    seed, after, before, sum.all);
        done++;
    }
    g_assert_cmpuint(done, ==, 10);
}

/* A call does not cross the border of the builder's windows: here of 64 tables of 2 MiB as long as
 * the data are in order, and of what is left where they are not. */
static void
test_windows(void)
{
    const TestFs *fs = any_fs(true);
    g_autofree char *path = NULL, *script = NULL, *dest = NULL;
    g_autoptr(GString) lines = g_string_new("");
    g_autoptr(GError) error = NULL;
    g_auto(AllocationSum) sum = { 0 };
    Qcow2Built built = { 0 };

    if (fs == NULL)
        return;
    path = in(fs->folder, "v");
    dest = in(fs->folder, "new");
    script = in(fs->folder, "script");
    MUST(fs->folder, "qemu-img create -q -f qcow2 -o cluster_size=4096 v 5G");
    for (uint64_t i = 0; i < 2100; i++)
        g_string_append_printf(lines, "write -q %" PRIu64 " 4k\n", i * 2 * MIB + MIB);
    for (uint64_t i = 2046; i < 2051; i++)
        g_string_append_printf(lines, "write -q %" PRIu64 " 8k\n", i * 2 * MIB - 4 * KIB);
    g_assert_true(g_file_set_contents(script, lines->str, -1, NULL));
    MUST(fs->folder, "sh -c 'qemu-io -t unsafe -f qcow2 v < script > out'");
    Qcow2Source source = { path, "qcow2" };
    Qcow2Build build = {
        .layers = &source, .n = 1, .dest = dest, .mode = 0600, .uid = -1, .gid = -1, .share = true
    };
    g_assert_true(qcow2_build(&build, &built, &error));
    g_autoptr(Allocation) a = read_one(path, "qcow2");
    allocation_sum(&a, 1, 0, 0, 4096, &sum);
    g_assert_cmpuint(sum.pieces, ==, built.share_calls);
    g_assert_cmpuint(sum.metadata, ==, built.bytes_written);
    g_test_message("%" PRIu64 " pieces, %zu extents", sum.pieces, a->n);
    unlink(path);
    unlink(dest);
}

static void
test_gives_up(void)
{
    FOLDER(folder);
    g_autofree char *path = in(folder, "v0");
    g_autoptr(GError) error = NULL;
    GenChain c = { .rand = g_rand_new_with_seed(1), .folder = g_strdup(folder) };

    gen_layer(&c, 12, 4096 * 40, false);
    g_autoptr(Allocation) whole = read_one(path, "qcow2");
    g_assert_cmpuint(whole->n, >, 1);
    g_assert_cmpuint(allocation_memory(whole), >=, whole->n * sizeof(AllocationExtent));
    g_autoptr(Allocation) part = allocation_read(path, "qcow2", whole->n - 1, NULL, NULL, &error);
    g_assert_no_error(error);
    g_assert_false(part->exact);
    g_assert_cmpuint(part->n, ==, 0);
    g_assert_cmpuint(part->virtual_size, ==, 4096 * 40);
    g_autoptr(Allocation) just = allocation_read(path, "qcow2", whole->n, NULL, NULL, &error);
    g_assert_true(just->exact);
    g_assert_null(allocation_read("/nowhere", "qcow2", 10, NULL, NULL, &error));
    g_assert_error(error, ERR, ERR_NOT_FOUND);
    gen_clear(&c);
}

static bool
say_no(void *data)
{
    (*(unsigned *)data)++;
    return false;
}

static void
test_out_of_time(void)
{
    FOLDER(folder);
    g_autofree char *path = in(folder, "v0");
    g_autoptr(GError) error = NULL;
    GenChain c = { .rand = g_rand_new_with_seed(1), .folder = g_strdup(folder) };
    unsigned asked = 0;

    gen_layer(&c, 12, 4096 * 40, false);
    g_autoptr(Allocation) a =
        allocation_read(path, "qcow2", ALLOCATION_MAX, say_no, &asked, &error);
    g_assert_no_error(error);
    g_assert_false(a->exact);
    g_assert_cmpuint(asked, ==, 1);
    gen_clear(&c);
}

/* Of what cannot be mapped the features are still known. */
static void
test_features(void)
{
    FOLDER(folder);
    g_autofree char *path = in(folder, "v");
    g_autoptr(GError) error = NULL;

    need_qemu();
    MUST(folder, "qemu-img create -q -f qcow2 -o data_file=d,data_file_raw=on v 1M");
    g_autoptr(Allocation) a = allocation_read(path, "qcow2", 10, NULL, NULL, &error);
    g_assert_no_error(error);
    g_assert_false(a->exact);
    g_assert_true((a->features & QCOW2_EXTERNAL_DATA) != 0);
    g_assert_nonnull(strstr(qcow2_uncarried(a->features), "data_file"));
    g_assert_null(qcow2_uncarried(QCOW2_COMPRESSION_TYPE));
}

int
main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    enter_file_systems();
    g_test_add_func("/qcow2/allocation/chains", test_random_chains);
    g_test_add_func("/qcow2/allocation/commits", test_commits);
    g_test_add_func("/qcow2/allocation/windows", test_windows);
    g_test_add_func("/qcow2/allocation/gives-up", test_gives_up);
    g_test_add_func("/qcow2/allocation/out-of-time", test_out_of_time);
    g_test_add_func("/qcow2/allocation/features", test_features);
    int status = g_test_run();
    leave_file_systems();
    return status;
}
