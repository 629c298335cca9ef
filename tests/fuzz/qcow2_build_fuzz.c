/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * libFuzzer target: any bytes as a qcow2 file, which is checked, merged with a good base, and
 * rebuilt alone. Whatever is built must be sound and hold what its sources hold; whatever is
 * refused must leave nothing behind. Build and run: see tests/fuzz/qcow2_seeds.sh.
 */
#include "qcow2/build.h"

#include <fcntl.h>
#include <glib/gstdio.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static char *folder, *image, *base, *dest;

static void
clean_up(void)
{
    g_unlink(image);
    g_unlink(base);
    g_unlink(dest);
    g_rmdir(folder);
}

static void
set_up(void)
{
    folder = g_strdup("/dev/shm/qcow2-fuzz-XXXXXX");
    if (g_mkdtemp(folder) == NULL)
        abort();
    image = g_build_filename(folder, "a", NULL);
    base = g_build_filename(folder, "b", NULL);
    dest = g_build_filename(folder, "new", NULL);
    if (!qcow2_create(base, 65536, NULL, NULL, 0600, -1, -1, NULL))
        abort();
    atexit(clean_up);
}

static void
write_image(const uint8_t *data, size_t size)
{
    autofd int fd = open(image, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);

    if (fd < 0 || write(fd, data, size) != (ssize_t)size)
        abort();
}

static void
die(const char *what, const GError *error)
{
    fprintf(stderr, "%s: %s\n", what, error != NULL ? error->message : "no error");
    abort();
}

static void
check_error(bool good, const GError *error)
{
    if (good != (error == NULL))
        die("result and error disagree", error);
    if (error != NULL &&
        (!g_utf8_validate(error->message, -1, NULL) || strchr(error->message, '\n') != NULL))
        die("not a line of text", error);
}

static bool
has_debris(void)
{
    g_autoptr(GDir) dir = g_dir_open(folder, 0, NULL);

    for (const char *name; (name = g_dir_read_name(dir)) != NULL;)
        if (strlen(name) > 1)
            return true;
    return false;
}

static void
try_build(const Qcow2Source *layers, unsigned n, const char *backing)
{
    g_autoptr(GError) error = NULL;
    Qcow2Build build = { .layers = layers,
                         .n = n,
                         .dest = dest,
                         .backing = backing,
                         .backing_format = "raw",
                         .mode = 0600,
                         .uid = -1,
                         .gid = -1 };
    bool built = qcow2_build(&build, NULL, &error);

    check_error(built, error);
    if (!built) {
        if (has_debris())
            die("refused, but something is left", error);
        return;
    }
    if (!qcow2_check_sound(dest, &error))
        die("what was built is not sound", error);
    if (!qcow2_same_map(layers, n, dest, NULL, NULL, NULL, &error))
        die("what was built differs", error);
    g_unlink(dest);
}

static void
try_check(void)
{
    g_autoptr(GError) error = NULL;
    g_autoptr(GPtrArray) lines = qcow2_check(image, &error);

    check_error(lines != NULL, error);
    for (guint i = 0; lines != NULL && i < lines->len; i++)
        if (!g_utf8_validate(lines->pdata[i], -1, NULL))
            die("not a line of text", NULL);
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (folder == NULL)
        set_up();
    write_image(data, size);
    Qcow2Source layers[] = { { base, "qcow2" }, { image, "qcow2" } };

    try_check();
    try_build(layers + 1, 1, NULL);
    try_build(layers + 1, 1, "b");
    try_build(layers, 2, NULL);
    return 0;
}
