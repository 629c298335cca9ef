/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * Is the metadata of a volume sound? Every use of a cluster is counted and compared with its
 * refcount. Large files are checked a range of host clusters at a time, going through the tables
 * again for each, so that memory stays bounded.
 */
#include "qcow2/build.h"
#include "qcow2/image.h"
#include "qcow2/packed.h"

#include <inttypes.h>
#include <sys/mman.h>

enum {
    RANGE = 1 << 24, /* clusters at a time: 1 TiB of a file with clusters of 64 KiB */
    L1_CHUNK = 8192,
};

/* What is known of a host cluster: uses found so far, its refcount; both end at the largest. */
#define EXCLUSIVE UINT16_C(0x8000) /* used by something that may not share it */
#define COUNT_MAX UINT16_C(0x7fff)
typedef struct {
    uint16_t uses;
    uint16_t refcount;
} Cluster;

static bool
is_exactly(const Cluster *cluster, uint16_t uses, uint16_t refcount)
{
    return cluster->uses == uses && cluster->refcount == refcount;
}

typedef struct {
    const char *path;
    ImageFile file;
    Qcow2Header *header;
    uint64_t size;         /* of a cluster */
    uint64_t clusters;     /* of the file, a part of one counts */
    uint64_t first, count; /* the range */
    Cluster *range;
    uint8_t *block; /* buffers of a cluster */
    uint8_t *l2;
    GPtrArray *lines;
    uint64_t problems;
    uint64_t tables;
} Check;

static void G_GNUC_PRINTF(2, 3) problem(Check *c, const char *format, ...)
{
    va_list args;

    if (c->problems++ >= QCOW2_CHECK_LINES)
        return;
    va_start(args, format);
    g_autofree char *text = g_strdup_vprintf(format, args);
    va_end(args);
    g_ptr_array_add(c->lines, g_strdup_printf("%s: %s", c->path, text));
}

static Cluster *
find(const Check *c, uint64_t offset)
{
    uint64_t index = offset / c->size;

    return index >= c->first && index - c->first < c->count ? &c->range[index - c->first] : NULL;
}

/* Problems that do not depend on the range are told once. */
static bool
is_first_range(const Check *c)
{
    return c->first == 0;
}

/* A use of a cluster by "what" (for byte "guest" of the disk, or UINT64_MAX). */
static void
use(Check *c, uint64_t offset, bool exclusive, const char *what, uint64_t where)
{
    Cluster *cluster = find(c, offset);

    if (cluster == NULL)
        return;
    if ((cluster->uses & COUNT_MAX) > 0 && (exclusive || (cluster->uses & EXCLUSIVE)))
        problem(c,
                "%s %" PRIu64 ": the cluster at %" PRIu64 " is used already, expected one of "
                "its own",
                what, where, offset);
    if ((cluster->uses & COUNT_MAX) < COUNT_MAX)
        cluster->uses++;
    if (exclusive)
        cluster->uses |= EXCLUSIVE;
}

/* Is it a place where a cluster can be? */
static bool
is_place(Check *c, uint64_t offset, uint64_t length, const char *what, uint64_t where)
{
    if (offset % c->size != 0) {
        if (is_first_range(c))
            problem(c, "%s %" PRIu64 ": offset %" PRIu64 ", expected a multiple of %" PRIu64, what,
                    where, offset, c->size);
        return false;
    }
    if (offset >= c->file.size || length > c->file.size - offset) {
        if (is_first_range(c))
            problem(c,
                    "%s %" PRIu64 ": offset %" PRIu64 ", expected one within the file of %" PRIu64
                    " bytes",
                    what, where, offset, c->file.size);
        return false;
    }
    return true;
}

static void
use_area(Check *c, uint64_t offset, uint64_t length, const char *what)
{
    for (uint64_t at = 0; at < length; at += c->size)
        use(c, offset + at, true, what, at / c->size);
}

/* Refcounts ------------------------------------------------------------------------- */

static uint64_t
refcount_at(const uint8_t *block, uint64_t index, unsigned bits)
{
    uint64_t value = 0;

    if (bits < 8)
        return block[index * bits / 8] >> (index * bits % 8) & ((1U << bits) - 1);
    for (unsigned i = 0; i < bits / 8; i++)
        value = value << 8 | block[index * bits / 8 + i];
    return value;
}

static void
take_refcount(Check *c, uint64_t cluster, uint64_t value)
{
    if (value == 0)
        return;
    if (cluster >= c->clusters) {
        if (is_first_range(c))
            problem(c,
                    "refcount of cluster %" PRIu64 ": %" PRIu64
                    ", expected 0: it lies beyond the end of the file",
                    cluster, value);
        return;
    }
    Cluster *known = find(c, cluster * c->size);
    if (known != NULL)
        known->refcount = (uint16_t)MIN(value, UINT16_MAX);
}

/* How many refcounts of the block that was read, from this one on, are the usual: 16 bits, 1, of
 * clusters of this range. They are taken. */
static uint64_t
take_ones(Check *c, uint64_t cluster, uint64_t index, uint64_t number)
{
    uint64_t n = 0;

    if (c->header->refcount_bits != 16 || cluster < c->first || cluster - c->first >= c->count)
        return 0;
    number = MIN(number, c->count - (cluster - c->first));
    const uint8_t *counts = c->block + index * 2;
    Cluster *known = &c->range[cluster - c->first];
    for (; n < number && counts[n * 2] == 0 && counts[n * 2 + 1] == 1; n++)
        known[n].refcount = 1;
    return n;
}

static bool
read_refcount_block(Check *c, uint64_t index, uint64_t offset, GError **error)
{
    uint64_t per_block = c->size * 8 / c->header->refcount_bits, first = index * per_block;
    uint64_t in_word = 64 / c->header->refcount_bits;
    bool matters =
        is_first_range(c) || (first < c->first + c->count && first + per_block > c->first);

    if (!is_place(c, offset, c->size, "refcount table entry", index))
        return true;
    use(c, offset, true, "refcount table entry", index);
    if (!matters)
        return true;
    if (!image_read(&c->file, c->path, "refcount block", offset, c->block, c->size, error))
        return false;
    for (uint64_t i = 0; i < per_block;) {
        /* mostly nothing */
        if (i % in_word == 0 && get_be64(c->block + i / in_word * 8) == 0) {
            i += in_word;
            continue;
        }
        uint64_t ones = take_ones(c, first + i, i, per_block - i);

        if (ones == 0)
            take_refcount(c, first + i, refcount_at(c->block, i, c->header->refcount_bits));
        i += MAX(ones, 1);
    }
    return true;
}

static bool
read_refcounts(Check *c, GError **error)
{
    uint64_t length = (uint64_t)c->header->refcount_table_clusters * c->size, blocks = 0;
    g_autofree uint8_t *table = g_malloc(length);

    if (!image_read(&c->file, c->path, "refcount table", c->header->refcount_table_offset, table,
                    length, error))
        return false;
    for (uint64_t i = 0; i < length / 8; i++) {
        uint64_t offset = get_be64(table + i * 8);

        /* More of them than clusters would only cost time */
        if (offset == 0 || ++blocks > c->clusters)
            continue;
        if (!read_refcount_block(c, i, offset, error))
            return false;
    }
    if (blocks > c->clusters && is_first_range(c))
        problem(c,
                "refcount table: %" PRIu64 " blocks, expected no more than the file has clusters",
                blocks);
    return true;
}

/* Mapping --------------------------------------------------------------------------- */

static void
check_copied(Check *c, uint64_t offset, bool copied, const char *what, uint64_t where)
{
    const Cluster *cluster = find(c, offset);

    if (cluster != NULL && copied != (cluster->refcount == 1))
        problem(c, "%s %" PRIu64 ": COPIED flag %d, expected %d: the refcount is %u", what, where,
                copied, !copied, cluster->refcount);
}

/* Compressed data begin and end at any byte. */
static void
use_compressed(Check *c, uint64_t entry, uint64_t guest)
{
    uint64_t offset = 0, end = 0;
    uint32_t length = 0;

    packed_place(entry, c->header->cluster_bits, &offset, &length);
    end = offset + length;
    if ((entry & L2_COPIED) && is_first_range(c))
        problem(c, "L2 entry of byte %" PRIu64 ": COPIED flag 1, expected 0: it is compressed",
                guest);
    if (offset >= c->file.size) {
        if (is_first_range(c))
            problem(c,
                    "L2 entry of byte %" PRIu64 ": offset %" PRIu64
                    ", expected one within the file of %" PRIu64 " bytes",
                    guest, offset, c->file.size);
        return;
    }
    for (uint64_t at = offset / c->size * c->size; at < end && at < c->file.size; at += c->size)
        use(c, at, false, "L2 entry of byte", guest);
}

static void
check_entry(Check *c, uint64_t entry, uint64_t guest)
{
    static const char what[] = "L2 entry of byte";
    bool extended = (c->header->features & QCOW2_EXTENDED_L2) != 0;
    uint64_t offset = entry & OFFSET_MASK;
    uint64_t reserved = L2_RESERVED | (c->header->version < 3 || extended ? L2_ZERO : 0);

    if (entry & L2_COMPRESSED) {
        use_compressed(c, entry, guest);
        return;
    }
    if ((entry & reserved) && is_first_range(c))
        problem(c, "%s %" PRIu64 ": 0x%016" PRIx64 ", expected reserved bits to be 0", what, guest,
                entry);
    if (offset == 0 || !is_place(c, offset, 1, what, guest)) {
        if (offset == 0 && (entry & L2_COPIED) && is_first_range(c))
            problem(c, "%s %" PRIu64 ": COPIED flag 1, expected 0: it has no cluster", what, guest);
        return;
    }
    use(c, offset, true, what, guest);
    check_copied(c, offset, (entry & L2_COPIED) != 0, what, guest);
}

/* How many entries from here on are the usual: data in one piece of the file, within this range, of
 * which no other use is known and whose refcounts are 1. They are used. No entry beyond them is
 * looked at, so that a table of which every second one is wrong takes no longer. */
static size_t
use_run(Check *c, const uint8_t *entries, size_t number)
{
    uint64_t entry = get_be64(entries);
    Cluster *cluster = find(c, entry & OFFSET_MASK);
    size_t n = 0;

    if (!(entry & L2_COPIED) || cluster == NULL ||
        image_plain_run(entries, 1, c->header->cluster_bits, c->file.size) == 0)
        return 0;
    number = MIN(number, (size_t)(&c->range[c->count] - cluster));
    for (; n < number && get_be64(entries + n * 8) == entry + n * c->size &&
           is_exactly(&cluster[n], 0, 1);
         n++)
        cluster[n].uses = EXCLUSIVE | 1;
    return n;
}

static bool
check_table(Check *c, uint64_t index, uint64_t entry, GError **error)
{
    static const char what[] = "L1 entry";
    bool extended = (c->header->features & QCOW2_EXTENDED_L2) != 0;
    uint64_t offset = entry & OFFSET_MASK, width = extended ? 16 : 8;
    uint64_t guest = index << l2_span_bits(c->header->cluster_bits, extended);

    if ((entry & L1_RESERVED) && is_first_range(c))
        problem(c, "%s %" PRIu64 ": 0x%016" PRIx64 ", expected reserved bits to be 0", what, index,
                entry);
    if (offset == 0 || !is_place(c, offset, c->size, what, index) || ++c->tables > c->clusters)
        return true;
    use(c, offset, true, what, index);
    check_copied(c, offset, (entry & L2_COPIED) != 0, what, index);
    if (!image_read(&c->file, c->path, "L2 table", offset, c->l2, c->size, error))
        return false;
    for (uint64_t i = 0; i < c->size / width;) {
        uint64_t at = get_be64(c->l2 + i * width);
        size_t usual = at == 0 || extended ? 0 : use_run(c, c->l2 + i * 8, c->size / 8 - i);

        if (usual == 0 && at != 0)
            check_entry(c, at, guest + i * c->size);
        i += MAX(usual, 1);
    }
    return true;
}

static bool
check_mapping(Check *c, GError **error)
{
    const Qcow2Header *h = c->header;
    g_autofree uint8_t *l1 = g_malloc(L1_CHUNK * 8);

    c->tables = 0;
    for (uint32_t i = 0; i < h->l1_entries; i++) {
        uint32_t in_chunk = i % L1_CHUNK;
        size_t wanted = MIN(L1_CHUNK, h->l1_entries - i) * 8;

        if (in_chunk == 0 &&
            !image_read(&c->file, c->path, "L1 table", h->l1_offset + i * 8ULL, l1, wanted, error))
            return false;
        if (!check_table(c, i, get_be64(l1 + in_chunk * 8), error))
            return false;
    }
    if (c->tables > c->clusters && is_first_range(c))
        problem(c, "L1 table: more L2 tables than the file has clusters (%" PRIu64 ")",
                c->clusters);
    return true;
}

/* All ------------------------------------------------------------------------------- */

static void
compare_counts(Check *c)
{
    for (uint64_t i = 0; i < c->count; i++) {
        unsigned uses = c->range[i].uses & COUNT_MAX,
                 refcount = MIN(c->range[i].refcount, COUNT_MAX);

        if (uses != refcount)
            problem(c, "refcount of the cluster at %" PRIu64 ": %u, expected %u%s",
                    (c->first + i) * c->size, refcount, uses,
                    uses == 0 ? " (only space is lost)" : "");
    }
}

static bool
check_range(Check *c, GError **error)
{
    const Qcow2Header *h = c->header;

    if (!is_first_range(c))
        memset(c->range, 0, c->count * sizeof *c->range);
    use(c, 0, true, "header", 0);
    use_area(c, h->refcount_table_offset, (uint64_t)h->refcount_table_clusters * c->size,
             "refcount table cluster");
    use_area(c, h->l1_offset, (uint64_t)h->l1_entries * 8, "L1 table cluster");
    if (!read_refcounts(c, error) || !check_mapping(c, error))
        return false;
    compare_counts(c);
    return true;
}

static bool
check_can_tell(const Qcow2Header *h, GError **error)
{
    unsigned strange = QCOW2_EXTERNAL_DATA | QCOW2_UNKNOWN_INCOMPATIBLE | QCOW2_INTERNAL_SNAPSHOTS |
                       QCOW2_BITMAPS | QCOW2_ENCRYPTED;

    return (h->features & strange) == 0 ||
           error_set(error, ERR_UNSUPPORTED,
                     "%s has features whose clusters are not counted here: check it with qemu-img "
                     "check",
                     h->path);
}

/* Zeroed memory. Its pages are all touched, mostly one after another: had in one call they take a
 * third of the time. */
static void *
pages_new(size_t length, GError **error)
{
    void *pages = mmap(NULL, length, PROT_READ | PROT_WRITE,
                       MAP_PRIVATE | MAP_ANONYMOUS | MAP_POPULATE, -1, 0);

    if (pages != MAP_FAILED)
        return pages;
    error_set_errno(error, "taking %zu bytes of memory", length);
    return NULL;
}

static bool
check_ranges(Check *c, GError **error)
{
    g_autofree uint8_t *block = g_malloc(c->size);
    g_autofree uint8_t *l2 = g_malloc(c->size);

    c->block = block;
    c->l2 = l2;
    for (c->first = 0; c->first < c->clusters; c->first += c->count) {
        c->count = MIN(c->clusters - c->first, RANGE);
        if (!check_range(c, error))
            return false;
    }
    return true;
}

GPtrArray *
qcow2_check(const char *path, GError **error)
{
    g_autoptr(GPtrArray) lines = g_ptr_array_new_with_free_func(g_free);
    g_auto(ImageFile) file = IMAGE_FILE_INIT;
    g_autoptr(Qcow2Header) header = NULL;

    if (!image_open(path, &file, error) || (header = image_header(&file, path, error)) == NULL ||
        !check_can_tell(header, error))
        return NULL;
    Check c = {
        .path = path,
        .file = file,
        .header = header,
        .size = UINT64_C(1) << header->cluster_bits,
        .clusters = (file.size >> header->cluster_bits) +
                    (file.size % (UINT64_C(1) << header->cluster_bits) != 0),
        .lines = lines,
    };
    if (header->features & QCOW2_CORRUPT)
        problem(&c, "incompatible features: the corrupt bit is set, expected 0");
    size_t length = MIN(c.clusters, RANGE) * sizeof *c.range;
    if ((c.range = pages_new(length, error)) == NULL)
        return NULL;
    bool told = check_ranges(&c, error);
    munmap(c.range, length);
    if (!told)
        return NULL;
    if (c.problems > QCOW2_CHECK_LINES)
        g_ptr_array_add(lines, g_strdup_printf("%s: %" PRIu64 " more problems", path,
                                               c.problems - QCOW2_CHECK_LINES));
    return g_steal_pointer(&lines);
}

bool
qcow2_check_sound(const char *path, GError **error)
{
    g_autoptr(GPtrArray) lines = qcow2_check(path, error);

    if (lines == NULL)
        return false;
    return lines->len == 0 ||
           error_set(error, ERR_CORRUPT, "%s%s. Look at it with: qemu-img check",
                     (const char *)lines->pdata[0], lines->len > 1 ? " (and there is more)" : "");
}
