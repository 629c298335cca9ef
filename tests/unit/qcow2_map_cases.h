/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * The part of qcow2_test.c that is about maps. qcow2_qemu_test.c compares them with qemu-img's.
 */
#pragma once

#include "qcow2_mapped.h"

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

static void
test_map_raw(void)
{
    FOLDER(folder);
    g_autofree char *path = in(folder, "raw");
    uint64_t size = 4 * MIB + 512 * 3;

    need_qemu();
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
    g_assert_cmpint(truncate(path, (5 + 8192) * INT64_C(65536)), ==, 0);
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
test_map_format(void)
{
    FOLDER(folder);
    g_autoptr(GError) error = NULL;
    g_autofree char *path = image(folder, "a", MIB, NULL, NULL);

    g_assert_false(qcow2_map(path, "vmdk", any_extent, NULL, &error));
    assert_refused(error, ERR_UNSUPPORTED, "vmdk");
}

static void
add_map_tests(void)
{
    g_test_add_func("/qcow2/map/raw", test_map_raw);
    g_test_add_func("/qcow2/map/stops", test_map_stops);
    g_test_add_func("/qcow2/map/format", test_map_format);
}
