/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * For the benchmarks: one call of the qcow2 code, timed.
 *
 *     qcow2_tool build DEST share|copy LAYER...     base first
 *     qcow2_tool check VOLUME
 *     qcow2_tool same DEST LAYER...
 *     qcow2_tool headers FOLDER                      "floor": the same files opened, 4 KiB read,
 * closed
 *
 * Prints one line of JSON.
 */
#include "base/cleanup.h"
#include "qcow2/build.h"

#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

static double
seconds_since(gint64 begin)
{
    return (double)(g_get_monotonic_time() - begin) / 1e6;
}

static int
fail(const GError *error)
{
    fprintf(stderr, "%s\n", error->message);
    return 1;
}

static Qcow2Source *
sources(char **paths, unsigned n)
{
    Qcow2Source *all = g_new(Qcow2Source, n);

    for (unsigned i = 0; i < n; i++)
        all[i] = (Qcow2Source){ paths[i], "qcow2" };
    return all;
}

static int
build(char **argv, unsigned n)
{
    g_autoptr(GError) error = NULL;
    g_autofree Qcow2Source *layers = sources(argv + 2, n - 2);
    Qcow2Build b = { .layers = layers,
                     .n = n - 2,
                     .dest = argv[0],
                     .mode = 0600,
                     .uid = -1,
                     .gid = -1,
                     .share = strcmp(argv[1], "share") == 0 };
    Qcow2Built built;
    gint64 begin = g_get_monotonic_time();

    if (!qcow2_build(&b, &built, &error))
        return fail(error);
    printf("{\"seconds\": %.6f, \"shared\": %" PRIu64 ", \"copied\": %" PRIu64
           ", \"written\": %" PRIu64 ", \"share_calls\": %u, \"copy_calls\": %u}\n",
           seconds_since(begin), built.bytes_shared, built.bytes_copied, built.bytes_written,
           built.share_calls, built.copy_calls);
    return 0;
}

static int
check(const char *path)
{
    g_autoptr(GError) error = NULL;
    gint64 begin = g_get_monotonic_time();

    if (!qcow2_check_sound(path, &error))
        return fail(error);
    printf("{\"seconds\": %.6f}\n", seconds_since(begin));
    return 0;
}

static int
same(char **argv, unsigned n)
{
    g_autoptr(GError) error = NULL;
    g_autofree Qcow2Source *layers = sources(argv + 1, n - 1);
    Qcow2Compared compared;
    gint64 begin = g_get_monotonic_time();

    if (!qcow2_same_map(layers, n - 1, argv[0], NULL, NULL, &compared, &error))
        return fail(error);
    printf("{\"seconds\": %.6f, \"same_blocks\": %" PRIu64 ", \"compared\": %" PRIu64 "}\n",
           seconds_since(begin), compared.bytes_same_blocks, compared.bytes_compared);
    return 0;
}

static bool
touch(int folder, const char *name)
{
    char block[4096];
    autofd int fd = openat(folder, name, O_RDONLY | O_CLOEXEC);

    return fd >= 0 && pread(fd, block, sizeof(block), 0) > 0;
}

/* Seconds that the kernel alone takes. */
static double
floor_of(const char *folder)
{
    autofd int fd = open(folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    g_autoptr(GDir) dir = g_dir_open(folder, 0, NULL);
    gint64 begin = g_get_monotonic_time();

    for (const char *name; fd >= 0 && dir != NULL && (name = g_dir_read_name(dir)) != NULL;)
        if (!touch(fd, name))
            return 0;
    return seconds_since(begin);
}

static int
headers(const char *folder)
{
    g_autoptr(GError) error = NULL;
    g_autoptr(GDir) dir = g_dir_open(folder, 0, &error);
    gint64 begin = g_get_monotonic_time();
    unsigned count = 0, links = 0;

    if (dir == NULL)
        return fail(error);
    for (const char *name; (name = g_dir_read_name(dir)) != NULL; count++) {
        g_autofree char *path = g_build_filename(folder, name, NULL);
        g_autoptr(Qcow2Header) header = qcow2_header_read(path, &error);
        if (header == NULL)
            return fail(error);
        g_autofree char *backing = header->backing_file != NULL
                                       ? qcow2_backing_path(path, header->backing_file, NULL)
                                       : NULL;
        links += backing != NULL;
    }
    double seconds = seconds_since(begin);
    printf("{\"seconds\": %.6f, \"volumes\": %u, \"links\": %u, \"floor\": %.6f}\n", seconds, count,
           links, floor_of(folder));
    return 0;
}

int
main(int argc, char **argv)
{
    if (argc > 4 && strcmp(argv[1], "build") == 0)
        return build(argv + 2, (unsigned)argc - 2);
    if (argc == 3 && strcmp(argv[1], "check") == 0)
        return check(argv[2]);
    if (argc > 3 && strcmp(argv[1], "same") == 0)
        return same(argv + 2, (unsigned)argc - 2);
    if (argc == 3 && strcmp(argv[1], "headers") == 0)
        return headers(argv[2]);
    fprintf(stderr, "usage: qcow2_tool build|check|same|headers ...\n");
    return 2;
}
