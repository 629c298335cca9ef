/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * The header of a qcow2 file and its extensions. Field names in messages are those of QEMU's
 * docs/interop/qcow2.txt.
 */
#include "qcow2/image.h"
#include "qcow2/packed.h"

#include <inttypes.h>

enum {
    MAGIC = 0x514649fb,
    V3_LENGTH = 104,
    HEAD = 4096,          /* what is read at once: mostly all that matters */
    COMPRESSION_AT = 104, /* a byte; only there if the header is longer */
    FORMAT_MAX = 15,      /* QEMU's own limit */
    EXT_END = 0,
    BITMAPS_LENGTH = 24,
    BITMAP_ENTRY = 24, /* of the directory, without extra data and name */
    BITMAPS_NAMED = 3,
};
#define EXT_BITMAPS UINT32_C(0x23852875)

void
qcow2_header_free(Qcow2Header *header)
{
    if (header == NULL)
        return;
    g_free(header->path);
    g_free(header->backing_file);
    g_free(header->backing_format);
    g_free(header->bitmaps);
    g_free(header);
}

static bool G_GNUC_PRINTF(3, 4)
    corrupt(GError **error, const Qcow2Header *header, const char *format, ...)
{
    va_list args;

    va_start(args, format);
    g_autofree char *what = g_strdup_vprintf(format, args);
    va_end(args);
    return error_set(error, ERR_CORRUPT, "%s: the qcow2 header is damaged: %s", header->path, what);
}

/* Takes a string out of the first cluster; NULL with an error if it has a NUL inside. */
static char *
take_string(const Qcow2Header *header, const char *field, const uint8_t *at, size_t length,
            GError **error)
{
    if (memchr(at, '\0', length) != NULL) {
        corrupt(error, header, "%s has a NUL byte inside", field);
        return NULL;
    }
    return g_strndup((const char *)at, length);
}

/* fixed: a buffer of HEAD bytes, "have" of them are read */
static bool
read_fixed_part(Qcow2Header *h, const ImageFile *file, uint8_t *fixed, size_t have,
                uint32_t *ret_length, GError **error)
{
    if (!image_read(file, h->path, "qcow2 header", 0, fixed, have, error))
        return false;
    if (get_be32(fixed) != MAGIC)
        return error_set(error, ERR_CORRUPT,
                         "%s is not a qcow2 file: its magic is 0x%08" PRIx32 ", expected 0x%08x",
                         h->path, get_be32(fixed), (unsigned)MAGIC);
    h->version = get_be32(fixed + 4);
    if (h->version != 2 && h->version != 3)
        return error_set(error, ERR_UNSUPPORTED,
                         "%s is of qcow2 version %" PRIu32 "; versions 2 and 3 are supported",
                         h->path, h->version);
    *ret_length = V2_LENGTH;
    if (h->version == 3 && have < V3_LENGTH &&
        !image_read(file, h->path, "qcow2 header", 0, fixed, V3_LENGTH, error))
        return false;
    if (h->version == 3)
        *ret_length = get_be32(fixed + 100);
    h->cluster_bits = get_be32(fixed + 20);
    if (h->cluster_bits < 9 || h->cluster_bits > 21)
        return corrupt(error, h, "cluster_bits is %" PRIu32 ", not 9 to 21", h->cluster_bits);
    if (h->version == 3 &&
        (*ret_length < V3_LENGTH || *ret_length > (UINT32_C(1) << h->cluster_bits)))
        return corrupt(error, h, "header_length is %" PRIu32 ", expected %d to %" PRIu32,
                       *ret_length, V3_LENGTH, UINT32_C(1) << h->cluster_bits);
    return true;
}

static void
take_features(Qcow2Header *h, const uint8_t *fixed)
{
    /* clang-format off */
    static const struct { unsigned bit, feature; } known[] = {
        { 0, QCOW2_DIRTY },
        { 1, QCOW2_CORRUPT },
        { 2, QCOW2_EXTERNAL_DATA },
        { 3, QCOW2_COMPRESSION_TYPE },
        { 4, QCOW2_EXTENDED_L2 },
    };
    /* clang-format on */
    uint64_t incompatible = h->version == 3 ? get_be64(fixed + 72) : 0;

    for (size_t i = 0; i < G_N_ELEMENTS(known); i++) {
        if (incompatible & (UINT64_C(1) << known[i].bit))
            h->features |= known[i].feature;
        incompatible &= ~(UINT64_C(1) << known[i].bit);
    }
    if (incompatible != 0)
        h->features |= QCOW2_UNKNOWN_INCOMPATIBLE;
    if (get_be32(fixed + 32) != 0)
        h->features |= QCOW2_ENCRYPTED;
    if (get_be32(fixed + 60) != 0)
        h->features |= QCOW2_INTERNAL_SNAPSHOTS;
    h->autoclear = h->version == 3 ? get_be64(fixed + 88) : 0;
}

/* Lies [offset, offset + length) in the file, aligned and not over the header? */
static bool
check_table(const Qcow2Header *h, const char *field, uint64_t offset, uint64_t length,
            GError **error)
{
    uint64_t cluster = UINT64_C(1) << h->cluster_bits;

    if (offset % cluster != 0)
        return corrupt(error, h, "%s %" PRIu64 " is not aligned to a cluster", field, offset);
    if (length == 0)
        return true;
    if (offset == 0)
        return corrupt(error, h, "%s is 0, where the header lies", field);
    if (offset > h->file_size || length > h->file_size - offset)
        return corrupt(error, h,
                       "%s %" PRIu64 " and the length %" PRIu64 " lead outside the file of %" PRIu64
                       " bytes",
                       field, offset, length, h->file_size);
    return true;
}

static bool
take_l1(Qcow2Header *h, const uint8_t *fixed, GError **error)
{
    bool extended = (h->features & QCOW2_EXTENDED_L2) != 0;
    unsigned span_bits = l2_span_bits(h->cluster_bits, extended);

    h->virtual_size = get_be64(fixed + 24);
    h->l1_entries = get_be32(fixed + 36);
    h->l1_offset = get_be64(fixed + 40);
    if (extended && h->cluster_bits < 14)
        return corrupt(error, h, "extended L2 entries need cluster_bits of 14 or more, it has %u",
                       h->cluster_bits);
    if (h->virtual_size > INT64_MAX)
        return corrupt(error, h, "size is %" PRIu64 ", over 2^63", h->virtual_size);
    if (h->l1_entries > L1_MAX_ENTRIES)
        return corrupt(error, h, "l1_size is %" PRIu32 ", over %" PRIu32, h->l1_entries,
                       L1_MAX_ENTRIES);

    uint64_t needed = (h->virtual_size + (UINT64_C(1) << span_bits) - 1) >> span_bits;
    if (h->l1_entries < needed)
        return corrupt(error, h, "l1_size is %" PRIu32 ", too small for size %" PRIu64,
                       h->l1_entries, h->virtual_size);
    return check_table(h, "l1_table_offset", h->l1_offset, (uint64_t)h->l1_entries * 8, error);
}

static bool
take_refcounts(Qcow2Header *h, const uint8_t *fixed, GError **error)
{
    uint32_t order = h->version == 3 ? get_be32(fixed + 96) : 4;

    h->refcount_table_offset = get_be64(fixed + 48);
    h->refcount_table_clusters = get_be32(fixed + 56);
    uint64_t length = (uint64_t)h->refcount_table_clusters << h->cluster_bits;
    if (order > 6)
        return corrupt(error, h, "refcount_order is %" PRIu32 ", over 6", order);
    h->refcount_bits = 1U << order;
    if (length == 0 || length > REFCOUNT_TABLE_MAX)
        return corrupt(error, h, "refcount_table_clusters is %" PRIu32 ", expected 1 to %" PRIu64,
                       h->refcount_table_clusters, REFCOUNT_TABLE_MAX >> h->cluster_bits);
    return check_table(h, "refcount_table_offset", h->refcount_table_offset, length, error);
}

/* Older headers end before the compression_type, which is zlib then. */
static bool
take_compression(Qcow2Header *h, const uint8_t *cluster, uint32_t header_length, GError **error)
{
    bool said = (h->features & QCOW2_COMPRESSION_TYPE) != 0;

    if (h->version == 3 && header_length > COMPRESSION_AT)
        h->compression = cluster[COMPRESSION_AT];
    if (said != (h->compression != PACKED_ZLIB))
        return corrupt(error, h,
                       "compression_type is %u and its incompatible feature bit %d, expected "
                       "both 0 or neither",
                       h->compression, said);
    if (h->compression > PACKED_ZSTD)
        h->features |= QCOW2_UNKNOWN_INCOMPATIBLE;
    return true;
}

static bool
take_backing(Qcow2Header *h, const uint8_t *cluster, uint32_t header_length, GError **error)
{
    uint64_t offset = get_be64(cluster + 8);
    uint32_t length = get_be32(cluster + 16);
    uint64_t size = UINT64_C(1) << h->cluster_bits;

    if (offset == 0 || length == 0) /* what "qemu-img rebase -u -b ''" leaves */
        return true;
    if (length > BACKING_MAX)
        return corrupt(error, h, "backing_file_size is %" PRIu32 ", over %d", length, BACKING_MAX);
    if (offset < header_length || offset > size || length > size - offset)
        return corrupt(error, h,
                       "backing_file_offset is %" PRIu64 " and backing_file_size %" PRIu32
                       ", expected a name between the header and the end of the first cluster",
                       offset, length);
    h->backing_file = take_string(h, "the backing file name", cluster + offset, length, error);
    return h->backing_file != NULL;
}

/* Names in a bitmap directory: the first few, since they are only said to people. */
static char *
bitmap_names(const uint8_t *directory, size_t size, uint32_t count)
{
    g_autoptr(GString) names = g_string_new(NULL);
    uint32_t found = 0;

    for (size_t at = 0; found < count && found < BITMAPS_NAMED && size - at >= BITMAP_ENTRY;) {
        size_t length = (size_t)directory[at + 18] << 8 | directory[at + 19];
        uint64_t name_at = at + BITMAP_ENTRY + (uint64_t)get_be32(directory + at + 20);

        if (length == 0 || name_at > size || length > size - name_at)
            break;
        g_autofree char *name = g_strndup((const char *)directory + name_at, length);
        g_autofree char *shown = image_shown(name);
        g_string_append_printf(names, "%s%s", found++ > 0 ? ", " : "", shown);
        at = (size_t)MIN(round_up(name_at + length, 8), size);
    }
    if (found == 0)
        return NULL;
    if (found < count)
        g_string_append_printf(names, " and %" PRIu32 " more", count - found);
    return g_string_free(g_steal_pointer(&names), FALSE);
}

static bool
take_bitmaps(Qcow2Header *h, const ImageFile *file, const uint8_t *at, uint32_t length,
             GError **error)
{
    uint8_t directory[4096];

    if (length != BITMAPS_LENGTH)
        return corrupt(error, h, "the bitmaps extension is %" PRIu32 " bytes long, expected %d",
                       length, BITMAPS_LENGTH);
    uint64_t size = MIN(get_be64(at + 8), sizeof directory), offset = get_be64(at + 16);
    if (get_be32(at) == 0)
        return true;
    h->features |= QCOW2_BITMAPS;
    g_free(h->bitmaps);
    h->bitmaps =
        image_read(file, h->path, "bitmap directory", offset, directory, (size_t)size, NULL)
            ? bitmap_names(directory, (size_t)size, get_be32(at))
            : NULL;
    return true;
}

static bool
take_extension(Qcow2Header *h, const ImageFile *file, uint32_t type, const uint8_t *at,
               uint32_t length, GError **error)
{
    if (type == EXT_BITMAPS)
        return take_bitmaps(h, file, at, length, error);
    if (type != EXT_BACKING_FORMAT || length == 0)
        return true;
    if (length > FORMAT_MAX)
        return corrupt(error, h, "the backing format is %" PRIu32 " bytes long, over %d", length,
                       FORMAT_MAX);
    if (h->backing_format != NULL) /* readers would not agree which one counts */
        return corrupt(error, h, "it names two backing formats");
    h->backing_format = take_string(h, "the backing format", at, length, error);
    return h->backing_format != NULL;
}

/* Where the extensions end, if no end is marked. */
static uint64_t
extensions_end(const Qcow2Header *h, const uint8_t *head)
{
    uint64_t backing = get_be64(head + 8), size = UINT64_C(1) << h->cluster_bits;

    return backing != 0 && backing < size ? backing : size;
}

static bool
take_extensions(Qcow2Header *h, const ImageFile *file, const uint8_t *cluster,
                uint32_t header_length, GError **error)
{
    uint64_t end = extensions_end(h, cluster);

    for (uint64_t at = header_length; at + 8 <= end;) {
        uint32_t type = get_be32(cluster + at);
        uint32_t length = get_be32(cluster + at + 4);

        if (type == EXT_END)
            break;
        at += 8;
        if (length > end - at)
            return corrupt(error, h,
                           "the header extension 0x%08" PRIx32 " of %" PRIu32
                           " bytes does not fit in the first cluster",
                           type, length);
        if (!take_extension(h, file, type, cluster + at, length, error))
            return false;
        at += round_up(length, 8);
    }
    return true;
}

/* Do the extensions and the name of the backing file, as far as they can be right, lie in the first
 * "have" bytes? */
static bool
is_in_head(const Qcow2Header *h, const uint8_t *head, size_t have, uint32_t header_length)
{
    uint64_t backing = get_be64(head + 8), end = extensions_end(h, head);

    if (header_length > have || backing > have || get_be32(head + 16) > have - backing)
        return false;
    for (uint64_t at = header_length; at + 8 <= end;) {
        if (at + 8 > have)
            return false;
        if (get_be32(head + at) == EXT_END)
            return true;
        at += 8 + round_up(get_be32(head + at + 4), 8);
    }
    return end <= have;
}

static bool
take_all(Qcow2Header *h, const ImageFile *file, const uint8_t *cluster, uint32_t length,
         GError **error)
{
    take_features(h, cluster);
    return take_l1(h, cluster, error) && take_refcounts(h, cluster, error) &&
           take_compression(h, cluster, length, error) && take_backing(h, cluster, length, error) &&
           take_extensions(h, file, cluster, length, error);
}

Qcow2Header *
image_header(const ImageFile *file, const char *path, GError **error)
{
    g_autoptr(Qcow2Header) h = g_new0(Qcow2Header, 1);
    uint8_t head[HEAD];
    size_t have = (size_t)CLAMP(file->size, V2_LENGTH, sizeof head);
    g_autofree uint8_t *cluster = NULL;
    uint32_t length = 0;

    h->path = g_strdup(path);
    h->file_size = file->size;
    h->allocated = file->allocated;
    if (!read_fixed_part(h, file, head, have, &length, error))
        return NULL;

    size_t size = (size_t)1 << h->cluster_bits;
    if (file->size < size || !is_in_head(h, head, have, length)) {
        cluster = g_malloc(size);
        if (!image_read(file, path, "first cluster", 0, cluster, size, error))
            return NULL;
        /* A running QEMU may have written in between: what was checked is what must be used */
        memcpy(cluster, head, h->version == 3 ? V3_LENGTH : V2_LENGTH);
    }
    if (!take_all(h, file, cluster != NULL ? cluster : head, length, error))
        return NULL;
    return g_steal_pointer(&h);
}

Qcow2Header *
qcow2_header_read(const char *path, GError **error)
{
    g_auto(ImageFile) file = IMAGE_FILE_INIT;

    return image_open(path, &file, error) ? image_header(&file, path, error) : NULL;
}

Qcow2Header *
qcow2_header_of(int fd, const struct stat *st, const char *path, GError **error)
{
    ImageFile file = { .fd = fd,
                       .size = (uint64_t)st->st_size,
                       .allocated = (uint64_t)st->st_blocks * 512,
                       .device = st->st_dev,
                       .inode = st->st_ino };

    return image_header(&file, path, error);
}
