/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "qcow2/build.h"

#include "base/fault.h"
#include "qcow2/window.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <linux/fs.h>
#include <stdio.h>
#include <sys/ioctl.h>
#include <sys/stat.h>

/* Looking --------------------------------------------------------------------------- */

static bool
check_carriable(const MergedMap *map, GError **error)
{
    for (unsigned k = 0; k < map->n; k++) {
        const Qcow2Header *header = map->layers[k].header;
        const char *why = header != NULL ? qcow2_uncarried(header->features) : NULL;

        if (why != NULL && header->bitmaps != NULL)
            return error_set(error, ERR_UNSUPPORTED, "%s %s (%s)", header->path, why,
                             header->bitmaps);
        if (why != NULL)
            return error_set(error, ERR_UNSUPPORTED, "%s %s", header->path, why);
    }
    return true;
}

enum { LARGEST_BITS = 21 };

static bool
open_and_lay_out(MergedMap *map, Layout *layout, const Qcow2Build *build, GError **error)
{
    g_autofree char *what = build->dest != NULL ? g_strdup_printf("building %s", build->dest)
                                                : g_strdup("looking at the volumes");

    return merged_open(map, build->layers, build->n, build->virtual_size, LARGEST_BITS, error) &&
           check_carriable(map, error) &&
           layout_make(layout, map, build->progress, build->data, what, error);
}

bool
qcow2_build_look(const Qcow2Source *layers, unsigned n, uint64_t virtual_size,
                 Qcow2BuildPlan *ret_plan, GError **error)
{
    g_auto(MergedMap) map = MERGED_INIT;
    g_auto(Layout) layout = { 0 };
    g_autoptr(GError) why = NULL;
    Qcow2Build build = { .layers = layers, .n = n, .virtual_size = virtual_size };

    if (open_and_lay_out(&map, &layout, &build, &why)) {
        *ret_plan = (Qcow2BuildPlan){
            .virtual_size = map.virtual_size,
            .data_bytes = layout.data << map.bits,
            .unpacked_bytes = layout.packed << map.bits,
            .metadata_bytes = (layout.total - layout.data) << map.bits,
            .file_size = layout.total << map.bits,
            .pieces = layout.pieces,
            .cluster_bits = map.bits,
        };
        return true;
    }
    if (!g_error_matches(why, ERR, ERR_UNSUPPORTED)) {
        g_propagate_error(error, g_steal_pointer(&why));
        return false;
    }
    *ret_plan = (Qcow2BuildPlan){ .refusal = g_strdup(why->message) };
    return true;
}

/* Known without reading a table: even if all of the disk were data it would fit. */
static bool
is_surely_carried(const MergedMap *map)
{
    Layout most = {
        .bits = map->bits,
        .slices = map->slices,
        .tables = map->slices,
        .data = round_up(map->virtual_size, UINT64_C(1) << map->bits) >> map->bits,
    };

    layout_place(&most);
    return !map->has_ends && most.table_clusters << map->bits <= REFCOUNT_TABLE_MAX;
}

char *
qcow2_build_refusal(const Qcow2Source *layers, unsigned n, uint64_t virtual_size, GError **error)
{
    g_auto(Qcow2BuildPlan) plan = { 0 };
    g_auto(MergedMap) map = MERGED_INIT;

    if (merged_open(&map, layers, n, virtual_size, LARGEST_BITS, NULL) &&
        check_carriable(&map, NULL) && is_surely_carried(&map))
        return NULL;
    return qcow2_build_look(layers, n, virtual_size, &plan, error) ? g_steal_pointer(&plan.refusal)
                                                                   : NULL;
}

/* Checks ---------------------------------------------------------------------------- */

static bool
check_backing(const Qcow2Build *build, const MergedMap *map, GError **error)
{
    const MergedLayer *base = &map->layers[0];
    bool had = base->header != NULL && base->header->backing_file != NULL;
    uint64_t first = UINT64_C(1) << map->bits;

    if (had != (build->backing != NULL))
        return error_set(error, ERR_INVALID,
                         "cannot build %s: %s has %s backing file, so the new volume must have %s",
                         build->dest, base->path, had ? "a" : "no", had ? "one" : "none");
    if (!image_check_backing(build->dest, build->backing, build->backing_format, error))
        return false;
    return image_header_length(build->backing, build->backing_format) <= first ||
           error_set(error, ERR_INVALID,
                     "cannot build %s: the name of its backing file does not fit into the first "
                     "cluster of %" PRIu64 " bytes",
                     build->dest, first);
}

static bool
check_free(const char *path, GError **error)
{
    struct stat st;

    return lstat(path, &st) < 0 ||
           error_set(error, ERR_EXISTS, "cannot build %s: it exists, and was not touched", path);
}

/* Writing --------------------------------------------------------------------------- */

/* Collects small numbers into large writes. */
typedef struct {
    Transfer *transfer;
    uint64_t at; /* where the buffer goes */
    size_t used;
    uint8_t *buffer;
} Stream;

enum { STREAM_SIZE = 256 * 1024 };

static bool
stream_flush(Stream *s, GError **error)
{
    if (s->used > 0 && !transfer_write(s->transfer, s->buffer, s->used, s->at, error))
        return false;
    s->at += s->used;
    s->used = 0;
    return true;
}

static bool
stream_number(Stream *s, uint64_t value, GError **error)
{
    if (s->used == STREAM_SIZE && !stream_flush(s, error))
        return false;
    put_be64(s->buffer + s->used, value);
    s->used += 8;
    return true;
}

/* Zeros up to the end of a table of "clusters" clusters that began at cluster "first" */
static bool
stream_fill(Stream *s, uint64_t first, uint64_t clusters, unsigned bits, GError **error)
{
    uint64_t end = (first + clusters) << bits;

    while (s->at + s->used < end)
        if (!stream_number(s, 0, error))
            return false;
    return true;
}

static bool
write_refcounts(Stream *s, const Layout *l, GError **error)
{
    for (uint64_t i = 0; i < l->blocks; i++)
        if (!stream_number(s, (l->blocks_at + i) << l->bits, error))
            return false;
    if (!stream_fill(s, 1, l->table_clusters, l->bits, error))
        return false;
    for (uint64_t i = 0; i < l->total; i += 4) {
        uint64_t four = UINT64_C(0x0001000100010001);

        if (l->total - i < 4)
            four <<= 16 * (4 - (l->total - i));
        if (!stream_number(s, four, error))
            return false;
    }
    return stream_fill(s, l->blocks_at, l->blocks, l->bits, error);
}

static bool
write_l1(Stream *s, const Layout *l, GError **error)
{
    uint64_t next = l->tables_at;

    for (uint64_t i = 0; i < l->slices; i++) {
        uint64_t entry = layout_needs(l, i) ? next++ << l->bits | L2_COPIED : 0;

        if (!stream_number(s, entry, error))
            return false;
    }
    return stream_fill(s, l->l1_at, l->l1_clusters, l->bits, error);
}

static bool
write_header(Transfer *t, const Layout *l, GError **error)
{
    size_t size = (size_t)1 << l->bits;
    g_autofree uint8_t *header = g_malloc0(size);
    NewHeader new = {
        .cluster_bits = l->bits,
        .virtual_size = t->map->virtual_size,
        .l1_entries = (uint32_t)l->slices,
        .l1_offset = l->l1_at << l->bits,
        .refcount_table_offset = size,
        .refcount_table_clusters = (uint32_t)l->table_clusters,
        .backing = t->build->backing,
        .backing_format = t->build->backing_format,
    };

    image_fill_header(header, &new);
    return transfer_write(t, header, size, 0, error);
}

/* The header comes last: a file cut short by a crash has no magic. */
static bool
write_all(Transfer *t, MergedMap *map, const Layout *l, GError **error)
{
    g_autofree uint8_t *buffer = g_malloc(STREAM_SIZE);
    Stream stream = { t, UINT64_C(1) << l->bits, 0, buffer };

    t->total = l->total << l->bits;
    if (!fault_point("qcow2-build-size", error))
        return false;
    if (ftruncate(t->fd, (off_t)t->total) < 0)
        return error_set_errno(error, "making %s as large as needed", t->build->dest);
    return window_write_all(map, l, t, error) && merged_still_whole(map, error) &&
           write_refcounts(&stream, l, error) && write_l1(&stream, l, error) &&
           stream_flush(&stream, error) && write_header(t, l, error);
}

/* Placing --------------------------------------------------------------------------- */

/* A file under a temporary name, which goes away unless it got its own. */
typedef struct {
    int fd;
    char *path;
} NewFile;

static void
new_file_drop(NewFile *file)
{
    autofd_close(&file->fd);
    if (file->path != NULL)
        unlink(file->path);
    g_clear_pointer(&file->path, g_free);
}
G_DEFINE_AUTO_CLEANUP_CLEAR_FUNC(NewFile, new_file_drop)

/* btrfs shares blocks only between files that both have, or both lack, "no copy on write". */
static void
copy_nocow(int fd, const MergedMap *map)
{
    int flags = 0, own = 0;

    if (ioctl(map->layers[map->n - 1].file.fd, FS_IOC_GETFLAGS, &flags) < 0 ||
        ioctl(fd, FS_IOC_GETFLAGS, &own) < 0 || ((flags ^ own) & FS_NOCOW_FL) == 0)
        return;
    own ^= FS_NOCOW_FL;
    if (ioctl(fd, FS_IOC_SETFLAGS, &own) < 0)
        errno = 0; /* then the data are copied, ignoring */
}

char *
qcow2_build_name(const char *dest)
{
    g_autofree char *folder = g_path_get_dirname(dest);
    g_autofree char *own = g_path_get_basename(dest);
    g_autofree char *sum = g_compute_checksum_for_string(G_CHECKSUM_SHA256, own, -1);
    g_autofree char *name = g_strdup_printf(QCOW2_BUILD_PREFIX "%.16s", sum); /* always fits */

    return g_build_filename(folder, name, NULL);
}

static bool
create(NewFile *file, const Qcow2Build *build, GError **error)
{
    if (!fault_point("qcow2-build-create", error))
        return false;
    for (unsigned i = 0; i < 2; i++) {
        g_autofree char *path = qcow2_build_name(build->dest);

        /* Not to be opened by others before owner and mode are right */
        file->fd = open(path, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0600);
        if (file->fd >= 0) {
            file->path = g_steal_pointer(&path);
            return true;
        }
        /* left by a build of the same volume that was killed */
        if (errno != EEXIST || unlink(path) < 0)
            break;
    }
    error_set_errno(error, "creating %s", build->dest);
    return false;
}

/* Never over a file that exists. File systems without such a rename (NFS) have hard links. */
static int
rename_to_new(const char *from, const char *to)
{
    if (renameat2(AT_FDCWD, from, AT_FDCWD, to, RENAME_NOREPLACE) == 0)
        return 0;
    if (errno != EINVAL && errno != ENOSYS)
        return -1;
    if (link(from, to) < 0)
        return -1;
    if (unlink(from) == 0)
        return 0;
    unlink(to);
    return -1;
}

static bool
own_and_sync(const NewFile *file, const Qcow2Build *build, GError **error)
{
    if (!fault_point("qcow2-build-sync", error))
        return false;
    if (((build->uid >= 0 || build->gid >= 0) &&
         fchown(file->fd, (uid_t)build->uid, (gid_t)build->gid) < 0) ||
        fchmod(file->fd, build->mode) < 0 || fsync(file->fd) < 0)
        return error_set_errno(error, "bringing %s to the disk", build->dest);
    return true;
}

static bool
publish(NewFile *file, const Qcow2Build *build, GError **error)
{
    if (!fault_point("qcow2-build-rename", error))
        return false;
    if (rename_to_new(file->path, build->dest) < 0)
        return errno == EEXIST
                   ? error_set(error, ERR_EXISTS,
                               "cannot build %s: it exists now, and was not touched", build->dest)
                   : error_set_errno(error, "giving %s its name", build->dest);
    g_free(file->path);
    file->path = g_strdup(build->dest);
    if (!fault_point("qcow2-build-sync-folder", error))
        return false;
    if (!image_sync_folder(build->dest))
        return error_set_errno(error, "bringing the name %s to the disk", build->dest);
    g_clear_pointer(&file->path, g_free); /* it stays */
    return true;
}

bool
qcow2_build(const Qcow2Build *build, Qcow2Built *ret_built, GError **error)
{
    g_auto(MergedMap) map = MERGED_INIT;
    g_auto(Layout) layout = { 0 };
    g_auto(NewFile) file = { .fd = -1 };
    g_auto(Transfer) transfer = { 0 };

    if (!check_free(build->dest, error) || !open_and_lay_out(&map, &layout, build, error) ||
        !check_backing(build, &map, error) || !create(&file, build, error))
        return false;
    copy_nocow(file.fd, &map);
    transfer_init(&transfer, build, &map, file.fd);
    if (!write_all(&transfer, &map, &layout, error) || !own_and_sync(&file, build, error) ||
        !publish(&file, build, error))
        return false;
    if (ret_built != NULL)
        *ret_built = transfer.built;
    return true;
}
