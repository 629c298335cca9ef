/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * libFuzzer target: any bytes as a qcow2 file, through everything that reads images. It must
 * return, with an answer or an error, never crash, and never leave the folder it was told to stay
 * in. Build and run: see tests/fuzz/qcow2_seeds.sh, which makes the first inputs.
 */
#include "qcow2/allocation.h"

#include <fcntl.h>
#include <glib/gstdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static char *folder, *image, *base, *fifo;

static void
clean_up(void)
{
    g_unlink(image);
    g_unlink(base);
    g_unlink(fifo);
    g_rmdir(folder);
}

/* A folder in memory with the image, a file it may have as its backing file, and a trap. */
static void
set_up(void)
{
    folder = g_strdup("/dev/shm/qcow2-fuzz-XXXXXX");
    if (g_mkdtemp(folder) == NULL)
        abort();
    image = g_build_filename(folder, "a", NULL);
    base = g_build_filename(folder, "b", NULL);
    fifo = g_build_filename(folder, "f", NULL);
    if (!qcow2_create(base, 65536, NULL, NULL, 0600, -1, -1, NULL) || mkfifo(fifo, 0600) < 0)
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

typedef struct {
    Extent last;
    uint64_t end;
} Seen;

static bool
check_extent(const Extent *extent, void *data)
{
    Seen *seen = data;

    if (extent->guest != seen->end || extent->length == 0)
        abort();
    seen->end += extent->length;
    return true;
}

static void
check_error(bool good, const GError *error)
{
    if (good != (error == NULL))
        abort();
    if (error != NULL && !g_utf8_validate(error->message, -1, NULL))
        abort();
}

/* Returns where the map ended; UINT64_MAX if it was refused. */
static uint64_t
try_map(const char *format)
{
    g_autoptr(GError) error = NULL;
    Seen seen = { 0 };
    bool mapped = qcow2_map(image, format, check_extent, &seen, &error);

    check_error(mapped, error);
    return mapped ? seen.end : UINT64_MAX;
}

static void
try_header_and_map(size_t size)
{
    g_autoptr(GError) error = NULL;
    g_autoptr(Qcow2Header) header = qcow2_header_read(image, &error);

    check_error(header != NULL, error);
    uint64_t end = try_map("qcow2");
    if (end != UINT64_MAX && (header == NULL || end != header->virtual_size))
        abort();
    if (try_map("raw") != (size + 511) / 512 * 512)
        abort();
}

static void
try_chain(void)
{
    g_autoptr(GError) error = NULL;
    g_autoptr(GPtrArray) chain = qcow2_chain_walk(image, "qcow2", folder, &error);

    check_error(chain != NULL, error);
    if (chain == NULL)
        return;
    for (guint i = 0; i < chain->len; i++) {
        const Qcow2Layer *layer = chain->pdata[i];
        if (!g_str_has_prefix(layer->path, folder))
            abort();
    }
}

static void
try_allocation(void)
{
    g_autoptr(GError) error = NULL;
    g_autoptr(Allocation) all = allocation_read(image, "qcow2", ALLOCATION_MAX, NULL, NULL, &error);
    g_auto(AllocationSum) sum = { 0 };

    check_error(all != NULL, error);
    if (all != NULL && all->exact)
        allocation_sum(&all, 1, 0, 65536, 4096, &sum);
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (folder == NULL)
        set_up();
    write_image(data, size);
    try_header_and_map(size);
    try_chain();
    try_allocation();
    return 0;
}
