/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * Tests of src/qcow2/bitmaps.c: bitmaps that were not closed, and directories that lie.
 */
#include "qcow2/bitmaps.h"

#include "../lib/image_tools.h"

#define BITMAPS_EXTENSION 0x23852875

static uint64_t
number_at(const char *path, uint64_t at, unsigned width)
{
    autofd int fd = open(path, O_RDONLY | O_CLOEXEC);
    uint64_t big = 0;

    g_assert_cmpint(pread(fd, (char *)&big + 8 - width, width, (off_t)at), ==, width);
    return GUINT64_FROM_BE(big);
}

/* Where the extension's data begin. */
static uint64_t
extension_at(const char *path)
{
    uint64_t at = number_at(path, 100, 4);

    while (number_at(path, at, 4) != BITMAPS_EXTENSION)
        at += 8 + (number_at(path, at + 4, 4) + 7) / 8 * 8;
    return at + 8;
}

static char *
stale(const char *path)
{
    g_autoptr(GError) error = NULL;
    g_auto(GStrv) names = qcow2_stale_bitmaps(path, &error);

    return names != NULL ? g_strjoinv(",", names) : g_strdup("error");
}

static char *
two_bitmaps(const char *folder)
{
    char *path = image(folder, "a.qcow2", MIB, NULL, NULL);

    MUST(folder, "qemu-img bitmap --add -f qcow2 a.qcow2 monday");
    MUST(folder, "qemu-img bitmap --add -f qcow2 a.qcow2 tuesday");
    return path;
}

static void
test_names(void)
{
    FOLDER(folder);
    need_qemu();
    g_autofree char *plain = image(folder, "plain.qcow2", MIB, NULL, NULL);
    g_autofree char *path = two_bitmaps(folder);
    g_autofree char *of_plain = stale(plain), *of_closed = stale(path);
    uint64_t directory = number_at(path, extension_at(path) + 16, 8);

    g_assert_cmpstr(of_plain, ==, "");
    g_assert_cmpstr(of_closed, ==, "");
    poke(path, directory + 12, 4, number_at(path, directory + 12, 4) | 1);
    g_autofree char *of_one = stale(path);
    g_assert_cmpstr(of_one, ==, "monday");
    MUST(folder, "qemu-img bitmap --remove -f qcow2 a.qcow2 monday");
    g_autofree char *of_none = stale(path);
    g_assert_cmpstr(of_none, ==, "");
}

/* Whatever stands there: an answer, and no byte read that is not there (run it under ASan). */
static void
test_lies(void)
{
    static const uint64_t values[] = { 0, 1, 0xffff, 0x7fffffff, 0xffffffff };
    FOLDER(folder);
    need_qemu();
    g_autofree char *good = two_bitmaps(folder);
    uint64_t extension = extension_at(good), directory = number_at(good, extension + 16, 8);
    const uint64_t places[] = { 100,
                                extension - 4,
                                extension + 8,
                                extension + 12,
                                extension + 16,
                                extension + 20,
                                directory + 16,
                                directory + 20 };

    for (size_t i = 0; i < G_N_ELEMENTS(places); i++)
        for (size_t k = 0; k < G_N_ELEMENTS(values); k++) {
            g_autofree char *bad = in(folder, "bad.qcow2");
            MUST(folder, "cp a.qcow2 bad.qcow2");
            poke(bad, places[i], 4, values[k]);
            g_free(stale(bad));
        }
}

int
main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/bitmaps/names", test_names);
    g_test_add_func("/bitmaps/lies", test_lies);
    return g_test_run();
}
