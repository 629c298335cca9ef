/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * The part of qcow2_test.c that is about maps: ours must equal qemu-img's for random images.
 */
#pragma once

#include "../lib/image_tools.h"

typedef struct {
    ExtentKind kind;
    uint64_t host;
} Sector;

typedef struct {
    Extent last;
    uint64_t end;
    GArray *sectors; /* of Sector, one for each 512 bytes */
} Mapped;

static void
mark(GArray *sectors, uint64_t guest, uint64_t length, ExtentKind kind, uint64_t host)
{
    for (uint64_t at = guest; at < guest + length; at += 512) {
        bool has_host = kind == EXTENT_DATA || kind == EXTENT_ZERO_ALLOCATED;
        Sector s = { kind, has_host ? host + at - guest : 0 };
        g_array_append_val(sectors, s);
    }
}

static bool
take_extent(const Extent *e, void *data)
{
    Mapped *m = data;

    g_assert_cmpuint(e->guest, ==, m->end);
    g_assert_cmpuint(e->length, >, 0);
    if (m->end > 0 && e->kind == m->last.kind)
        g_assert_true((e->kind == EXTENT_DATA || e->kind == EXTENT_ZERO_ALLOCATED) &&
                      e->host != m->last.host + m->last.length);
    m->last = *e;
    m->end += e->length;
    if (m->sectors != NULL)
        mark(m->sectors, e->guest, e->length, e->kind, e->host);
    return true;
}

static GArray *
our_map(const char *path, const char *format, uint64_t virtual_size)
{
    g_autoptr(GError) error = NULL;
    Mapped m = { .sectors = g_array_new(FALSE, FALSE, sizeof(Sector)) };

    qcow2_map(path, format, take_extent, &m, &error);
    g_assert_no_error(error);
    g_assert_cmpuint(m.end, ==, virtual_size);
    return m.sectors;
}

static ExtentKind
kind_by_qemu(const json_t *row, bool raw)
{
    bool has_offset = json_object_get(row, "offset") != NULL;

    if (json_integer_value(json_object_get(row, "depth")) != 0 ||
        !json_is_true(json_object_get(row, "present")))
        return EXTENT_HOLE;
    if (json_is_true(json_object_get(row, "data")))
        return has_offset ? EXTENT_DATA : EXTENT_COMPRESSED;
    return has_offset && !raw ? EXTENT_ZERO_ALLOCATED : EXTENT_ZERO;
}

static GArray *
qemu_map(const char *folder, const char *name, const char *format)
{
    g_autofree char *text = must(folder, "qemu-img map -f %s --output=json %s", format, name);
    g_autoptr(json_t) rows = json_loads(text, 0, NULL);
    GArray *sectors = g_array_new(FALSE, FALSE, sizeof(Sector));
    size_t i;
    json_t *row;

    g_assert_nonnull(rows);
    json_array_foreach (rows, i, row) {
        mark(sectors, (uint64_t)json_integer_value(json_object_get(row, "start")),
             (uint64_t)json_integer_value(json_object_get(row, "length")),
             kind_by_qemu(row, strcmp(format, "raw") == 0),
             (uint64_t)json_integer_value(json_object_get(row, "offset")));
    }
    return sectors;
}

static void
compare_maps(const char *folder, const char *name, const char *format, uint64_t size)
{
    g_autofree char *path = in(folder, name);
    g_autoptr(GArray) ours = our_map(path, format, size);
    g_autoptr(GArray) theirs = qemu_map(folder, name, format);

    g_assert_cmpuint(ours->len, ==, theirs->len);
    for (guint i = 0; i < ours->len; i++) {
        const Sector *a = &g_array_index(ours, Sector, i), *b = &g_array_index(theirs, Sector, i);

        if (a->kind != b->kind || a->host != b->host)
            g_error("%s: sector %u: our map says kind %d at %" PRIu64
                    ", qemu-img says kind %d at %" PRIu64,
                    path, i, a->kind, a->host, b->kind, b->host);
    }
}

/* Some writes of all kinds at random places. */
static void
scribble(const char *folder, const char *name, uint64_t size, uint64_t cluster, bool compressed)
{
    g_autoptr(GPtrArray) argv = g_ptr_array_new_with_free_func(g_free);
    /* clang-format off */
    static const char *const kinds[] = { "write", "write", "write", "write -z", "write -z -u", "discard" };
    /* clang-format on */

    g_ptr_array_add(argv, g_strdup("qemu-io"));
    g_ptr_array_add(argv, g_strdup("-f"));
    g_ptr_array_add(argv, g_strdup("qcow2"));
    g_ptr_array_add(argv, g_strdup("-d"));
    g_ptr_array_add(argv, g_strdup("unmap"));
    for (int i = 0; i < 30; i++) {
        bool whole = g_test_rand_bit(); /* clusters, or any sectors */
        uint64_t unit = whole ? cluster : 512;
        uint64_t at = (uint64_t)g_test_rand_double_range(0, (double)(size / unit)) * unit;
        uint64_t length = (uint64_t)g_test_rand_int_range(1, whole ? 6 : 100) * unit;
        const char *kind = kinds[g_test_rand_int_range(0, G_N_ELEMENTS(kinds))];

        if (compressed && whole && g_test_rand_bit()) {
            kind = "write -c";
            length = cluster;
        }
        length = MIN(length, size - at);
        g_ptr_array_add(argv, g_strdup("-c"));
        g_ptr_array_add(argv, g_strdup_printf("%s %" PRIu64 " %" PRIu64, kind, at, length));
    }
    g_ptr_array_add(argv, g_strdup(name));
    g_ptr_array_add(argv, NULL);
    /* Some may fail (compressing over data): the image is what counts */
    g_autoptr(GError) error = NULL;
    g_spawn_sync(folder, (char **)argv->pdata, NULL,
                 G_SPAWN_SEARCH_PATH | G_SPAWN_STDOUT_TO_DEV_NULL | G_SPAWN_STDERR_TO_DEV_NULL,
                 NULL, NULL, NULL, NULL, NULL, &error);
    g_assert_no_error(error);
}

static void
test_map_equals_qemus(void)
{
    /* clang-format off */
    static const struct { uint64_t cluster; const char *options; bool compressed; } rows[] = {
        { 512,       "compat=1.1", false },
        { 512,       "compat=0.10", true },
        { 4 * KIB,   "compat=1.1", true },
        { 64 * KIB,  "compat=1.1", false },
        { 64 * KIB,  "compat=1.1,preallocation=metadata", false },
        { 64 * KIB,  "compat=1.1,refcount_bits=1", true },
        { 64 * KIB,  "compat=1.1,extended_l2=on", true },
        { 16 * KIB,  "compat=1.1,extended_l2=on", false },
        { 64 * KIB,  "compat=0.10", true },
        { 256 * KIB, "compat=1.1,compression_type=zstd", true },
        { 2 * MIB,   "compat=1.1", true },
    };
    /* clang-format on */
    if (!have_qemu())
        return;
    for (size_t i = 0; i < G_N_ELEMENTS(rows); i++) {
        FOLDER(folder);
        uint64_t cluster = rows[i].cluster;
        uint64_t size = cluster * (uint64_t)g_test_rand_int_range(20, cluster < 4096 ? 2000 : 60) +
                        512 * (uint64_t)g_test_rand_int_range(0, (int)(cluster / 512));

        g_test_message("clusters of %" PRIu64 ", %s, size %" PRIu64, cluster, rows[i].options,
                       size);
        MUST(folder, "qemu-img create -q -f qcow2 -o cluster_size=%" PRIu64 ",%s base %" PRIu64,
             cluster, rows[i].options, size);
        if (strstr(rows[i].options, "preallocation") == NULL)
            scribble(folder, "base", size, cluster, rows[i].compressed);
        compare_maps(folder, "base", "qcow2", size);

        /* A chain on it, whose leaf is larger than the others */
        const char *names[] = { "base", "mid", "leaf" };
        for (int layer = 1; layer < 3; layer++) {
            uint64_t grown = size + (layer == 2 ? 5 * cluster : 0);
            MUST(folder,
                 "qemu-img create -q -f qcow2 -b %s -F qcow2 -o cluster_size=%" PRIu64
                 " %s %" PRIu64,
                 names[layer - 1], cluster, names[layer], grown);
            scribble(folder, names[layer], grown, cluster, rows[i].compressed);
            compare_maps(folder, names[layer], "qcow2", grown);
        }
    }
}

static void
test_map_raw(void)
{
    FOLDER(folder);
    g_autofree char *path = in(folder, "raw");
    uint64_t size = 4 * MIB + 512 * 3;

    if (!have_qemu())
        return;
    MUST(folder, "qemu-img create -q -f raw raw %" PRIu64, size);
    compare_maps(folder, "raw", "raw", size);
    MUST(folder,
         "qemu-io -f raw -c 'write 64k 64k' -c 'write 1M 4k' -c 'write %" PRIu64 " 512' raw",
         size - 512);
    compare_maps(folder, "raw", "raw", size);

    /* Not a whole number of sectors: rounded up, as QEMU does */
    g_autoptr(GError) error = NULL;
    g_assert_cmpint(truncate(path, 100001), ==, 0);
    g_autoptr(GArray) map = our_map(path, "raw", 100352);
    g_autoptr(GPtrArray) chain = qcow2_chain_walk(path, "raw", NULL, &error);
    g_assert_no_error(error);
    g_assert_cmpuint(((Qcow2Layer *)chain->pdata[0])->virtual_size, ==, 100352);
}

static bool
stop_at_second(const Extent *extent, void *data)
{
    return ++*(int *)data < 2;
}

static void
test_map_stops(void)
{
    FOLDER(folder);
    g_autoptr(GError) error = NULL;
    g_autofree char *path = image(folder, "a", GIB, NULL, NULL);
    int calls = 0;

    /* L1 entry 1 leads to a L2 table at cluster 4, with data at every second cluster */
    poke(path, 3 * 65536 + 8, 8, 4 * 65536);
    for (unsigned i = 1; i < 8192; i += 2)
        poke(path, 4 * 65536 + i * 8, 8, (5 + i) * 65536);
    g_assert_true(qcow2_map(path, "qcow2", stop_at_second, &calls, &error));
    g_assert_no_error(error);
    g_assert_cmpint(calls, ==, 2);
}

static bool
any_extent(const Extent *extent, void *data)
{
    return true;
}

static void
test_map_refuses(void)
{
    enum { L1 = 3 * 65536, L2 = 4 * 65536 };
    /* clang-format off */
    static const struct { const char *name; uint64_t at; uint64_t value; const char *wanted; } rows[] = {
        { "L1 reserved bit",    L1, L2 | 1,                        "L1 entry" },
        { "L1 high bit",        L1, L2 | UINT64_C(1) << 57,        "L1 entry" },
        { "L1 unaligned",       L1, L2 + 512,                      "L1 entry" },
        { "L2 outside",         L1, 99 * 65536,                    "beyond the end" },
        { "L2 far outside",     L1, UINT64_C(0x00fffffffff0000),   "beyond the end" },
        { "L2 reserved bit",    L2 + 8, 5 * 65536 | 2,             "L2 entry" },
        { "L2 high bit",        L2 + 8, UINT64_C(1) << 56,         "L2 entry" },
        { "L2 unaligned",       L2 + 8, 5 * 65536 + 512,           "L2 entry" },
        { "L2 zero, unaligned", L2 + 8, 5 * 65536 + 513,           "L2 entry" },
    };
    /* clang-format on */
    for (size_t i = 0; i < G_N_ELEMENTS(rows); i++) {
        FOLDER(folder);
        g_autoptr(GError) error = NULL;
        g_autofree char *path = image(folder, "a", MIB, NULL, NULL);

        g_test_message("%s", rows[i].name);
        poke(path, L1, 8, L2);
        poke(path, L2 + 65536 - 8, 8, 0);
        g_assert_true(qcow2_map(path, "qcow2", any_extent, NULL, &error));
        g_assert_no_error(error);
        poke(path, rows[i].at, 8, rows[i].value);
        g_assert_false(qcow2_map(path, "qcow2", any_extent, NULL, &error));
        assert_refused(error, ERR_CORRUPT, rows[i].wanted);
        g_assert_nonnull(strstr(error->message, path));
    }

    /* A small file whose tables are all one table must not cost hours */
    FOLDER(folder);
    g_autoptr(GError) error = NULL;
    g_autofree char *path = image(folder, "many", TIB, NULL, NULL);
    for (unsigned i = 0; i < 100; i++)
        poke(path, L1 + 8 * i, 8, L2);
    poke(path, L2 + 65536 - 8, 8, 0);
    g_assert_false(qcow2_map(path, "qcow2", any_extent, NULL, &error));
    assert_refused(error, ERR_CORRUPT, "more L2 tables than clusters");
    g_clear_error(&error);
    g_assert_false(qcow2_map(path, "vmdk", any_extent, NULL, &error));
    assert_refused(error, ERR_UNSUPPORTED, "vmdk");
}

static void
add_map_tests(void)
{
    g_test_add_func("/qcow2/map/equals-qemus", test_map_equals_qemus);
    g_test_add_func("/qcow2/map/raw", test_map_raw);
    g_test_add_func("/qcow2/map/stops", test_map_stops);
    g_test_add_func("/qcow2/map/refuses", test_map_refuses);
}
