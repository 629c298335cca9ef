/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * Which parts of the guest's disk lie in a file, and where.
 */
#include "qcow2/image.h"
#include "qcow2/packed.h"

#include <inttypes.h>

enum { L1_CHUNK = 8192 }; /* entries of the L1 table in memory at a time */
#define SUBCLUSTERS 32

typedef struct {
    const char *path;
    const ImageFile *file;
    const Qcow2Header *header; /* NULL for raw */
    uint64_t virtual_size;
    ExtentFunc each;
    bool (*go_on)(void *data);
    void *data;
    Extent pending; /* length 0 = none; ends where the next one begins */
    bool stopped;   /* by a callback */
    uint64_t tables;
    uint8_t *l2;
} Map;

static bool
has_host(ExtentKind kind)
{
    return kind == EXTENT_DATA || kind == EXTENT_ZERO_ALLOCATED;
}

static bool
continues(const Extent *before, ExtentKind kind, uint64_t host)
{
    return before->length > 0 && before->kind == kind &&
           (!has_host(kind) || before->host + before->length == host);
}

static void
flush(Map *map)
{
    if (map->pending.length > 0 && !map->stopped)
        map->stopped = !map->each(&map->pending, map->data);
    map->pending.length = 0;
}

/* The next "length" bytes are of this kind; what sticks out of the disk is cut off. */
static void
add(Map *map, uint64_t guest, uint64_t length, ExtentKind kind, uint64_t host)
{
    if (guest >= map->virtual_size)
        return;
    length = MIN(length, map->virtual_size - guest);
    if (continues(&map->pending, kind, host)) {
        map->pending.length += length;
        return;
    }
    flush(map);
    map->pending = (Extent){ guest, length, kind, has_host(kind) ? host : 0 };
}

static bool
corrupt_entry(const Map *map, const char *what, uint64_t entry, uint64_t guest, const char *wanted,
              GError **error)
{
    return error_set(error, ERR_CORRUPT,
                     "%s: the %s entry 0x%016" PRIx64 " for byte %" PRIu64
                     " of the disk is not valid: %s. Look at it with: qemu-img check",
                     map->path, what, entry, guest, wanted);
}

/* A running VM lets the file grow, so its size is asked again. */
static bool
is_within(const Map *map, uint64_t host)
{
    if (host < map->file->size)
        return true;
    off_t size = lseek(map->file->fd, 0, SEEK_END);
    return size >= 0 && host < (uint64_t)size;
}

static bool
outside(const Map *map, uint64_t entry, uint64_t guest, GError **error)
{
    return corrupt_entry(map, "L2", entry, guest, "its cluster should lie within the file", error);
}

/* The 32 parts of a cluster, each of which is data, zero or not there. */
static bool
add_subclusters(Map *map, uint64_t guest, const uint8_t *at, GError **error)
{
    uint64_t host = get_be64(at) & OFFSET_MASK, bitmap = get_be64(at + 8);
    uint32_t data = (uint32_t)bitmap, zero = (uint32_t)(bitmap >> 32);
    uint64_t size = (UINT64_C(1) << map->header->cluster_bits) / SUBCLUSTERS;

    if ((data & zero) != 0 || (data != 0 && host == 0))
        return corrupt_entry(map, "subcluster", bitmap, guest,
                             "a part should be data (with a cluster) or zeros, not both", error);
    if (data != 0 && !is_within(map, host))
        return outside(map, get_be64(at), guest, error);
    for (unsigned i = 0; i < SUBCLUSTERS; i++) {
        bool is_zero = zero >> i & 1, is_data = data >> i & 1;
        ExtentKind kind = is_data     ? EXTENT_DATA
                          : !is_zero  ? EXTENT_HOLE
                          : host == 0 ? EXTENT_ZERO
                                      : EXTENT_ZERO_ALLOCATED;
        add(map, guest + i * size, size, kind, host + i * size);
    }
    return true;
}

static bool
add_compressed(Map *map, uint64_t guest, const uint8_t *at, bool extended, GError **error)
{
    unsigned bits = map->header->cluster_bits;
    uint64_t host = 0;
    uint32_t length = 0;

    packed_place(get_be64(at), bits, &host, &length);
    if (!is_within(map, host))
        return outside(map, get_be64(at), guest, error);
    if (extended && get_be64(at + 8) != 0)
        return corrupt_entry(map, "subcluster", get_be64(at + 8), guest,
                             "it should be 0 where data are compressed", error);
    add(map, guest, UINT64_C(1) << bits, EXTENT_COMPRESSED, 0);
    return true;
}

static bool
add_cluster(Map *map, uint64_t guest, const uint8_t *at, GError **error)
{
    uint64_t entry = get_be64(at), host = entry & OFFSET_MASK;
    uint64_t size = UINT64_C(1) << map->header->cluster_bits;
    bool extended = (map->header->features & QCOW2_EXTENDED_L2) != 0;
    bool no_zero_flag = extended || map->header->version < 3;

    if (entry & L2_COMPRESSED)
        return add_compressed(map, guest, at, extended, error);
    if ((entry & L2_RESERVED) != 0 || ((entry & L2_ZERO) != 0 && no_zero_flag))
        return corrupt_entry(map, "L2", entry, guest, "reserved bits should be 0", error);
    if (host % size != 0)
        return corrupt_entry(map, "L2", entry, guest, "its offset should be that of a cluster",
                             error);
    if (extended)
        return add_subclusters(map, guest, at, error);
    if (entry & L2_ZERO)
        add(map, guest, size, host == 0 ? EXTENT_ZERO : EXTENT_ZERO_ALLOCATED, host);
    else if (is_within(map, host))
        add(map, guest, size, host == 0 ? EXTENT_HOLE : EXTENT_DATA, host);
    else
        return outside(map, entry, guest, error);
    return true;
}

static void
ask(Map *map)
{
    map->stopped = map->stopped || (map->go_on != NULL && !map->go_on(map->data));
}

/* Tables that all lie in one place would make a small file cost hours: there cannot be more
 * tables than the file has clusters. A running VM lets the file grow, so its size is asked. */
static bool
count_table(Map *map, GError **error)
{
    off_t size = lseek(map->file->fd, 0, SEEK_END);

    map->tables++;
    return (size >= 0 && map->tables <= (uint64_t)size >> map->header->cluster_bits) ||
           error_set(error, ERR_CORRUPT,
                     "%s has more L2 tables than clusters: every L1 entry should name a table of "
                     "its own",
                     map->path);
}

static bool
add_l2(Map *map, uint64_t guest, uint64_t l1_entry, GError **error)
{
    unsigned bits = map->header->cluster_bits;
    size_t size = (size_t)1 << bits;
    size_t width = map->header->features & QCOW2_EXTENDED_L2 ? 16 : 8;
    uint64_t offset = l1_entry & OFFSET_MASK;

    if ((l1_entry & L1_RESERVED) != 0)
        return corrupt_entry(map, "L1", l1_entry, guest, "reserved bits should be 0", error);
    if (offset % size != 0)
        return corrupt_entry(map, "L1", l1_entry, guest, "its offset should be that of a cluster",
                             error);
    if (offset == 0) {
        add(map, guest, UINT64_C(1) << l2_span_bits(bits, width == 16), EXTENT_HOLE, 0);
        return true;
    }
    ask(map);
    if (!count_table(map, error) ||
        !image_read(map->file, map->path, "L2 table", offset, map->l2, size, error))
        return false;
    for (size_t i = 0, n; i < size / width && !map->stopped && guest < map->virtual_size; i += n) {
        const uint8_t *at = map->l2 + i * width;

        n = width == 8 ? image_plain_run(at, size / 8 - i, bits, map->file->size) : 0;
        if (n > 0)
            add(map, guest, n * size, EXTENT_DATA, get_be64(at) & OFFSET_MASK);
        else if (!add_cluster(map, guest, at, error))
            return false;
        n = MAX(n, 1);
        guest += n * size;
    }
    return true;
}

static bool
map_qcow2(Map *map, GError **error)
{
    const Qcow2Header *h = map->header;
    uint64_t span = UINT64_C(1) << l2_span_bits(h->cluster_bits, h->features & QCOW2_EXTENDED_L2);
    g_autofree uint8_t *l2 = g_malloc((size_t)1 << h->cluster_bits);
    g_autofree uint8_t *l1 = g_malloc(L1_CHUNK * 8);

    if (h->features & (QCOW2_EXTERNAL_DATA | QCOW2_UNKNOWN_INCOMPATIBLE))
        return error_set(error, ERR_UNSUPPORTED,
                         "%s has an external data file or features unknown here: its tables "
                         "cannot be read",
                         map->path);
    map->l2 = l2;
    for (uint32_t i = 0; i * span < h->virtual_size && !map->stopped; i++) {
        uint32_t in_chunk = i % L1_CHUNK;
        size_t wanted = MIN(L1_CHUNK, h->l1_entries - i) * 8;

        if (in_chunk == 0) {
            if (!image_read(map->file, map->path, "L1 table", h->l1_offset + i * 8ULL, l1, wanted,
                            error))
                return false;
            image_expect_tables(map->file, l1, wanted / 8, (size_t)1 << h->cluster_bits);
        }
        if (!add_l2(map, i * span, get_be64(l1 + in_chunk * 8), error))
            return false;
    }
    return true;
}

static bool
map_raw(Map *map, GError **error)
{
    for (uint64_t at = 0; at < map->virtual_size && !map->stopped;) {
        uint64_t begin = 0, end = 0;

        if (!image_find_data(map->file, map->path, at, &begin, &end, error))
            return false;
        if (begin > at)
            add(map, at, begin - at, EXTENT_ZERO, 0);
        if (end > begin)
            add(map, begin, end - begin, EXTENT_DATA, begin);
        at = MAX(end, at + 1);
        ask(map);
    }
    return true;
}

bool
image_map(const char *path, const char *format, ExtentFunc each, bool (*go_on)(void *data),
          void *data, GError **error)
{
    g_auto(ImageFile) file = IMAGE_FILE_INIT;
    g_autoptr(Qcow2Header) header = NULL;
    bool raw = g_strcmp0(format, "raw") == 0;

    if (!raw && g_strcmp0(format, "qcow2") != 0)
        return error_set(error, ERR_UNSUPPORTED, "%s: the format \"%s\" is not supported", path,
                         format != NULL ? format : "");
    if (!image_open(path, &file, error))
        return false;
    if (!raw && (header = image_header(&file, path, error)) == NULL)
        return false;

    Map map = {
        .path = path,
        .file = &file,
        .header = header,
        .virtual_size = raw ? raw_virtual_size(&file) : header->virtual_size,
        .each = each,
        .go_on = go_on,
        .data = data,
    };
    if (!(raw ? map_raw(&map, error) : map_qcow2(&map, error)))
        return false;
    flush(&map);
    return true;
}

bool
qcow2_map(const char *path, const char *format, ExtentFunc each, void *data, GError **error)
{
    return image_map(path, format, each, NULL, data, error);
}
