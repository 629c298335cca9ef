/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * Damaged, truncated, hostile and unsupported volumes: whoever meets one says in one line which
 * file, which field, and what was expected, and leaves nothing behind.
 */
#include "qcow2_build_fs.h"
#include "qcow2_build_job.h"
#include "qcow2_readers.h"

typedef struct {
    uint64_t at;
    unsigned width;
    uint64_t value;
} Poke;

typedef struct {
    const char *name;
    Poke pokes[3]; /* width 0 ends them */
    unsigned who;  /* must refuse; the others must not */
    ErrorCode code;
    const char *wanted, *check; /* parts of the message; of CHECK's if it is another */
} Row;

/* In memory: there are thousands of builds, which sync. */
#define MEMORY_FOLDER(name) __attribute__((cleanup(folder_remove))) char *name = fs_folder_new()

static void
try_row(const char *folder, const char *path, const Row *row)
{
    for (unsigned i = 0; i < G_N_ELEMENTS(row->pokes) && row->pokes[i].width > 0; i++)
        poke(path, row->pokes[i].at, row->pokes[i].width, row->pokes[i].value);
    for (size_t i = 0; i < G_N_ELEMENTS(readers); i++) {
        g_autoptr(GError) error = NULL;
        bool of_check = readers[i].bit == CHECK && row->check != NULL;
        const char *wanted = of_check ? row->check : row->wanted;
        bool good = readers[i].read(folder, path, &error);

        if (good != ((row->who & readers[i].bit) == 0))
            g_error("\"%s\": %s says %s", row->name, readers[i].name,
                    error != NULL ? error->message : "nothing");
        if (good)
            continue;
        assert_one_line(readers[i].name, path, error);
        if (strstr(error->message, wanted) == NULL)
            g_error("\"%s\": %s should say \"%s\", says: %s", row->name, readers[i].name, wanted,
                    error->message);
        if (error->code != (int)row->code && !of_check)
            g_error("\"%s\": %s gives code %d: %s", row->name, readers[i].name, error->code,
                    error->message);
    }
}

/* Headers --------------------------------------------------------------------------- */

#define EXT(n) (112 + (n))

/* Of a volume with a backing file, whose name lies at 512, so that there is room for extensions */
static char *
volume_with_backing(const char *folder)
{
    g_autofree char *base = image(folder, "base", MIB, NULL, NULL);
    char *path = image(folder, "a", MIB, "base", "qcow2");

    poke_text(path, 512, "base", 4);
    poke(path, 8, 8, 512);
    return path;
}

static void
test_headers(void)
{
    static const uint64_t far = UINT64_C(0xffffffffffff0000);
    /* clang-format off */
    static const Row rows[] = {
        { "magic",                { { 0, 4, 0x514649fa } },         ALL, ERR_CORRUPT,     "magic is 0x514649fa, expected 0x514649fb" },
        { "version 1",            { { 4, 4, 1 } },                  ALL, ERR_UNSUPPORTED, "version 1; versions 2 and 3" },
        { "version 4",            { { 4, 4, 4 } },                  ALL, ERR_UNSUPPORTED, "version 4; versions 2 and 3" },
        { "cluster_bits 8",       { { 20, 4, 8 } },                 ALL, ERR_CORRUPT,     "cluster_bits is 8, not 9 to 21" },
        { "cluster_bits 22",      { { 20, 4, 22 } },                ALL, ERR_CORRUPT,     "cluster_bits is 22, not 9 to 21" },
        { "cluster_bits 63",      { { 20, 4, 63 } },                ALL, ERR_CORRUPT,     "cluster_bits" },
        { "cluster_bits 2^32-1",  { { 20, 4, UINT32_MAX } },        ALL, ERR_CORRUPT,     "cluster_bits" },
        { "size 2^63",            { { 24, 8, UINT64_C(1) << 63 } }, ALL, ERR_CORRUPT,     "size is 9223372036854775808, over 2^63" },
        { "size 2^64-1",          { { 24, 8, UINT64_MAX } },        ALL, ERR_CORRUPT,     "over 2^63" },
        { "size above L1",        { { 24, 8, GIB } },               ALL, ERR_CORRUPT,     "l1_size is 1, too small for size 1073741824" },
        { "size 2^63-512",        { { 24, 8, INT64_MAX - 511 } },   ALL, ERR_CORRUPT,     "l1_size is 1, too small" },
        { "size 2^63-1",          { { 24, 8, INT64_MAX } },         ALL, ERR_CORRUPT,     "l1_size is 1, too small" },
        { "L1 of 4 billion",      { { 36, 4, UINT32_MAX } },        ALL, ERR_CORRUPT,     "l1_size is 4294967295, over 4194304" },
        { "L1 of none",           { { 36, 4, 0 } },                 ALL, ERR_CORRUPT,     "l1_size is 0, too small" },
        { "L1 beyond the end",    { { 36, 4, 100000 } },            ALL, ERR_CORRUPT,     "l1_table_offset 196608 and the length 800000 lead outside the file" },
        { "L1 outside",           { { 40, 8, 64 * MIB } },          ALL, ERR_CORRUPT,     "l1_table_offset" },
        { "L1 wraps round",       { { 40, 8, far } },               ALL, ERR_CORRUPT,     "l1_table_offset" },
        { "L1 unaligned",         { { 40, 8, 3 * 65536 + 8 } },     ALL, ERR_CORRUPT,     "l1_table_offset 196616 is not aligned to a cluster" },
        { "L1 over the header",   { { 40, 8, 0 } },                 ALL, ERR_CORRUPT,     "l1_table_offset is 0, where the header lies" },
        { "refcounts outside",    { { 48, 8, 64 * MIB } },          ALL, ERR_CORRUPT,     "refcount_table_offset" },
        { "refcounts wrap round", { { 48, 8, far } },               ALL, ERR_CORRUPT,     "refcount_table_offset" },
        { "refcounts unaligned",  { { 48, 8, 65537 } },             ALL, ERR_CORRUPT,     "refcount_table_offset 65537 is not aligned" },
        { "refcounts on header",  { { 48, 8, 0 } },                 ALL, ERR_CORRUPT,     "refcount_table_offset is 0, where the header lies" },
        { "refcounts too long",   { { 56, 4, 100 } },               ALL, ERR_CORRUPT,     "refcount_table_offset" },
        { "refcounts 4 billion",  { { 56, 4, UINT32_MAX } },        ALL, ERR_CORRUPT,     "refcount_table_clusters is 4294967295, expected 1 to 128" },
        { "no refcounts",         { { 56, 4, 0 } },                 ALL, ERR_CORRUPT,     "refcount_table_clusters is 0, expected 1 to 128" },
        { "refcount_order 7",     { { 96, 4, 7 } },                 ALL, ERR_CORRUPT,     "refcount_order is 7, over 6" },
        { "refcount_order 2^31",  { { 96, 4, UINT32_C(1) << 31 } }, ALL, ERR_CORRUPT,     "refcount_order" },
        { "header_length 103",    { { 100, 4, 103 } },              ALL, ERR_CORRUPT,     "header_length is 103, expected 104 to 65536" },
        { "header_length 4G",     { { 100, 4, UINT32_MAX } },       ALL, ERR_CORRUPT,     "header_length is 4294967295, expected" },
        { "backing outside",      { { 8, 8, 65536 } },              ALL, ERR_CORRUPT,     "backing_file_offset is 65536 and backing_file_size 4, expected" },
        { "backing half outside", { { 8, 8, 65534 } },              ALL, ERR_CORRUPT,     "backing_file_offset is 65534" },
        { "backing far outside",  { { 8, 8, UINT64_MAX } },         ALL, ERR_CORRUPT,     "backing_file_offset" },
        { "backing in header",    { { 8, 8, 8 } },                  ALL, ERR_CORRUPT,     "backing_file_offset is 8" },
        { "backing 1024 long",    { { 16, 4, 1024 } },              ALL, ERR_CORRUPT,     "backing_file_size is 1024, over 1023" },
        { "backing 4G long",      { { 16, 4, UINT32_MAX } },        ALL, ERR_CORRUPT,     "backing_file_size" },
        { "backing has NUL",      { { 16, 4, 6 } },                 ALL, ERR_CORRUPT,     "the backing file name has a NUL byte inside" },
        { "extension too long",   { { EXT(4), 4, 65536 } },         ALL, ERR_CORRUPT,     "header extension 0xe2792aca of 65536 bytes does not fit" },
        { "extension 4G long",    { { EXT(4), 4, UINT32_MAX } },    ALL, ERR_CORRUPT,     "header extension 0xe2792aca of 4294967295 bytes" },
        { "over the name",        { { EXT(0), 4, 1 }, { EXT(4), 4, 512 - EXT(8) + 1 } }, ALL, ERR_CORRUPT, "header extension 0x00000001" },
        { "unknown, too long",    { { EXT(0), 4, 0xcafe }, { EXT(4), 4, 40000 } }, ALL, ERR_CORRUPT, "header extension 0x0000cafe of 40000" },
        { "format 16 long",       { { EXT(4), 4, 16 } },            ALL, ERR_CORRUPT,     "the backing format is 16 bytes long, over 15" },
        { "format has NUL",       { { EXT(4), 4, 6 } },             ALL, ERR_CORRUPT,     "the backing format has a NUL byte inside" },
        { "two formats",          { { EXT(16), 4, 0xe2792aca }, { EXT(20), 4, 3 }, { EXT(24), 3, 0x726177 } }, ALL, ERR_CORRUPT, "two backing formats" },
        { "bitmaps too short",    { { EXT(16), 4, 0x23852875 }, { EXT(20), 4, 23 } }, ALL, ERR_CORRUPT, "the bitmaps extension is 23 bytes long, expected 24" },
        { "compression unsaid",   { { 104, 1, 1 } },                ALL, ERR_CORRUPT,     "compression_type is 1 and its incompatible feature bit 0, expected both 0 or neither" },
        { "compression missing",  { { 72, 8, 8 } },                 ALL, ERR_CORRUPT,     "compression_type is 0 and its incompatible feature bit 1" },
        { "short header, zstd",   { { 72, 8, 8 }, { 104, 1, 1 }, { 100, 4, 104 } }, ALL, ERR_CORRUPT, "compression_type is 0" },
        { "extended, 8 KiB",      { { 72, 8, 16 }, { 20, 4, 13 } }, ALL, ERR_CORRUPT,     "extended L2 entries need cluster_bits of 14 or more, it has 13" },
        { "no format",            { { EXT(0), 4, 0 } },             CHAIN, ERR_UNSUPPORTED, "does not say of which format" },
        { "unknown compression",  { { 72, 8, 8 }, { 104, 1, 2 } },  MAP | BUILD | CHECK | CONTENT, ERR_UNSUPPORTED, "unknown", "not counted here" },
        { "unknown extension",    { { EXT(16), 4, 0xcafe }, { EXT(20), 4, 5 } }, 0, 0, NULL },
        { "extension to the end", { { EXT(16), 4, 0xcafe }, { EXT(20), 4, 512 - EXT(24) } }, 0, 0, NULL },
        { "no end of extensions", { { EXT(16), 4, 0xcafe }, { EXT(20), 4, 512 - EXT(24) - 7 } }, 0, 0, NULL },
        { "unknown autoclear",    { { 88, 8, UINT64_MAX } },        0, 0, NULL },
        { "unknown compatible",   { { 80, 8, UINT64_MAX } },        0, 0, NULL },
        { "name of length 0",     { { 16, 4, 0 }, { EXT(0), 4, 0 } }, 0, 0, NULL },
    };
    /* clang-format on */
    for (size_t i = 0; i < G_N_ELEMENTS(rows); i++) {
        MEMORY_FOLDER(folder);
        g_autofree char *path = volume_with_backing(folder);

        try_row(folder, path, &rows[i]);
    }
}

/* Tables ---------------------------------------------------------------------------- */

enum { RT = CLUSTER, RB = 2 * CLUSTER };
#define COPIED (UINT64_C(1) << 63)
#define PACKED (UINT64_C(1) << 62)
#define READ (MAP | BUILD | CONTENT)

static void
test_tables(void)
{
    static const uint64_t far = UINT64_C(0x00ffffffffff0000);
    /* clang-format off */
    static const Row rows[] = {
        { "good",                { { 0, 0, 0 } },                          0, 0, NULL },
        { "L1 reserved bit",     { { L1, 8, L2 | COPIED | 1 } },           READ | CHECK, ERR_CORRUPT, "L1 entry 0x8000000000040001 for byte 0 of the disk is not valid: reserved bits should be 0", "L1 entry 0: 0x8000000000040001, expected reserved bits to be 0" },
        { "L1 high bit",         { { L1, 8, L2 | COPIED | UINT64_C(1) << 57 } }, READ | CHECK, ERR_CORRUPT, "reserved bits should be 0", "expected reserved bits to be 0" },
        { "L1 unaligned",        { { L1, 8, (L2 + 512) | COPIED } },       READ | CHECK, ERR_CORRUPT, "its offset should be that of a cluster", "L1 entry 0: offset 262656, expected a multiple of 65536" },
        { "L2 table outside",    { { L1, 8, 99 * CLUSTER | COPIED } },     READ | CHECK, ERR_CORRUPT, "L2 table should reach to byte", "L1 entry 0: offset 6488064, expected one within the file of 458752 bytes" },
        { "L2 table far",        { { L1, 8, far | COPIED } },              READ | CHECK, ERR_CORRUPT, "L2 table should reach to byte", "expected one within the file" },
        { "L2 table of header",  { { L1, 8, 0 | COPIED } },                CHECK, ERR_CORRUPT, NULL, "refcount of the cluster at 262144: 1, expected 0" },
        { "L2 reserved bit",     { { L2, 8, DATA | COPIED | 2 } },         READ | CHECK, ERR_CORRUPT, "L2 entry 0x8000000000050002 for byte 0 of the disk is not valid: reserved bits should be 0", "L2 entry of byte 0: 0x8000000000050002, expected reserved bits to be 0" },
        { "L2 high bit",         { { L2, 8, DATA | COPIED | UINT64_C(1) << 56 } }, READ | CHECK, ERR_CORRUPT, "reserved bits should be 0", "expected reserved bits to be 0" },
        { "L2 unaligned",        { { L2, 8, (DATA + 512) | COPIED } },     READ | CHECK, ERR_CORRUPT, "its offset should be that of a cluster", "offset 328192, expected a multiple of 65536" },
        { "L2 zero, unaligned",  { { L2, 8, (DATA + 512) | COPIED | 1 } }, READ | CHECK, ERR_CORRUPT, "its offset should be that of a cluster", "expected a multiple of 65536" },
        { "data outside",        { { L2 + 8, 8, 99 * CLUSTER | COPIED } }, READ | CHECK, ERR_CORRUPT, "for byte 65536 of the disk is not valid: its cluster should lie within the file", "L2 entry of byte 65536: offset 6488064, expected one within the file" },
        { "data at the end",     { { L2 + 8, 8, 7 * CLUSTER | COPIED } },  READ | CHECK, ERR_CORRUPT, "its cluster should lie within the file", "expected one within the file" },
        { "data far outside",    { { L2, 8, far | COPIED } },              READ | CHECK, ERR_CORRUPT, "its cluster should lie within the file", "expected one within the file" },
        { "compressed outside",  { { L2, 8, PACKED | 99 * CLUSTER } },     READ | CHECK, ERR_CORRUPT, "should lie within the file", "expected one within the file" },
        { "compressed far",      { { L2, 8, PACKED | UINT64_C(0x003fffffffffffff) } }, READ | CHECK, ERR_CORRUPT, "should lie within the file", "expected one within the file" },
        { "compressed rubbish",  { { L2, 8, PACKED | DATA } },             BUILD, ERR_CORRUPT, "the compressed data at byte 327680 of the file are damaged, expected a cluster of 65536 bytes" },
        { "compressed, too long", { { L2, 8, PACKED | UINT64_C(0xff) << 54 | (DATA + 5) } }, BUILD | CHECK, ERR_CORRUPT, "the compressed data at byte 327685", "used already" },
        { "compressed, COPIED",  { { L2, 8, PACKED | COPIED | DATA } },    BUILD | CHECK, ERR_CORRUPT, "compressed data at byte", "L2 entry of byte 0: COPIED flag 1, expected 0: it is compressed" },
        { "zero flag in v2",     { { L2, 8, DATA | COPIED | 1 }, { 4, 4, 2 } }, READ | CHECK, ERR_CORRUPT, "reserved bits should be 0", "expected reserved bits to be 0" },
        { "two on one offset",   { { L2 + 16, 8, DATA | COPIED } },        BUILD | CHECK, ERR_CORRUPT, "two L2 entries name the cluster at byte 327680 of the file: every entry should name a cluster of its own", "L2 entry of byte 131072: the cluster at 327680 is used already, expected one of its own" },
        { "on one, refcount 2",  { { L2 + 16, 8, DATA }, { L2, 8, DATA }, { RB + 10, 2, 2 } }, BUILD | CHECK, ERR_CORRUPT, "two L2 entries name the cluster", "used already, expected one of its own" },
        { "data on L1 table",    { { L2, 8, L1 | COPIED } },               CHECK, ERR_CORRUPT, NULL, "the cluster at 196608 is used already" },
        { "data on L2 table",    { { L2, 8, L2 | COPIED } },               CHECK, ERR_CORRUPT, NULL, "the cluster at 262144 is used already" },
        { "table on refcounts",  { { L1, 8, RB | COPIED } },               READ | CHECK, ERR_CORRUPT, "L2 entry", "the cluster at 131072 is used already" },
        { "table on L1",         { { L1, 8, L1 | COPIED } },               CHECK, ERR_CORRUPT, NULL, "the cluster at 196608 is used already" },
        { "refcount 0",          { { RB + 10, 2, 0 } },                    CHECK, ERR_CORRUPT, NULL, "L2 entry of byte 0: COPIED flag 1, expected 0: the refcount is 0" },
        { "refcount 2",          { { RB + 10, 2, 2 } },                    CHECK, ERR_CORRUPT, NULL, "COPIED flag 1, expected 0: the refcount is 2" },
        { "refcount 65535",      { { RB + 10, 2, 65535 }, { L2, 8, DATA } }, CHECK, ERR_CORRUPT, NULL, "refcount of the cluster at 327680: 32767, expected 1" },
        { "refcount of header",  { { RB, 2, 0 } },                         CHECK, ERR_CORRUPT, NULL, "refcount of the cluster at 0: 0, expected 1" },
        { "refcount of nothing", { { RB + 14, 2, 1 } },                    CHECK, ERR_CORRUPT, NULL, "refcount of cluster 7: 1, expected 0: it lies beyond the end of the file" },
        { "leak",                { { L2 + 8, 8, 0 } },                     CHECK, ERR_CORRUPT, NULL, "refcount of the cluster at 393216: 1, expected 0 (only space is lost)" },
        { "block outside",       { { RT + 8, 8, 99 * CLUSTER } },          CHECK, ERR_CORRUPT, NULL, "refcount table entry 1: offset 6488064, expected one within the file" },
        { "block far outside",   { { RT + 8, 8, UINT64_MAX << 16 } },      CHECK, ERR_CORRUPT, NULL, "refcount table entry 1: offset" },
        { "block unaligned",     { { RT + 8, 8, 512 } },                   CHECK, ERR_CORRUPT, NULL, "refcount table entry 1: offset 512, expected a multiple of 65536" },
        { "block is the table",  { { RT, 8, RT } },                        CHECK, ERR_CORRUPT, NULL, "refcount table entry 0: the cluster at 65536 is used already" },
        { "COPIED of data",      { { L2, 8, DATA } },                      CHECK, ERR_CORRUPT, NULL, "L2 entry of byte 0: COPIED flag 0, expected 1" },
        { "COPIED of a table",   { { L1, 8, L2 } },                        CHECK, ERR_CORRUPT, NULL, "L1 entry 0: COPIED flag 0, expected 1" },
        { "COPIED of nothing",   { { L2 + 16, 8, COPIED } },               CHECK, ERR_CORRUPT, NULL, "has no cluster" },
        { "dirty",               { { 72, 8, 1 } },                         BUILD, ERR_UNSUPPORTED, "is marked as dirty" },
        { "corrupt",             { { 72, 8, 2 } },                         BUILD | CHECK, ERR_UNSUPPORTED, "is marked as corrupt", "the corrupt bit is set, expected 0" },
        { "data file",           { { 72, 8, 4 } },                         READ | CHAIN | CHECK, ERR_UNSUPPORTED, "file", "features" },
        { "extended L2",         { { 72, 8, 16 } },                        BUILD | CONTENT | CHECK, ERR_UNSUPPORTED, "extended L2 entries", "refcount of the cluster" },
        { "unknown feature",     { { 72, 8, 1 << 20 } },                   READ | CHECK, ERR_UNSUPPORTED, "unknown", "features" },
        { "all features",        { { 72, 8, UINT64_MAX & ~UINT64_C(8) } }, READ | CHAIN | CHECK, ERR_UNSUPPORTED, "file", "features" },
        { "encrypted",           { { 32, 4, 2 } },                         BUILD | CONTENT | CHAIN | CHECK, ERR_UNSUPPORTED, "is encrypted", "features" },
        { "snapshots",           { { 60, 4, 1 } },                         BUILD | CHECK, ERR_UNSUPPORTED, "internal snapshots", "features" },
    };
    /* clang-format on */
    for (size_t i = 0; i < G_N_ELEMENTS(rows); i++) {
        MEMORY_FOLDER(folder);
        g_autofree char *path = small_volume(folder, "a");

        try_row(folder, path, &rows[i]);
    }
}

/* A small file must not cost hours or terabytes. */
static void
test_many_of_one(void)
{
    MEMORY_FOLDER(folder);
    g_autoptr(GError) error = NULL;
    g_autofree char *path = image(folder, "a", TIB, NULL, NULL);
    const Row many_tables = {
        "many tables",
        { { 0, 0, 0 } },
        READ | CHECK,
        ERR_CORRUPT,
        "has more L2 tables than clusters: every L1 entry should name a table of its own",
        "L1 entry 0: COPIED flag 1, expected 0: the refcount is 0"
    };

    /* Two tables in turn, since one of them twice in a row is read once */
    poke(path, DATA + CLUSTER - 8, 8, 0);
    for (unsigned i = 0; i < 100; i++)
        poke(path, L1 + 8 * i, 8, (i % 2 == 0 ? L2 : DATA) | COPIED);
    try_row(folder, path, &many_tables);

    g_autofree char *small = small_volume(folder, "small"), *dest = in(folder, "new");
    Qcow2Source twice[] = { { small, "qcow2" }, { small, "qcow2" } };
    Qcow2Build build = {
        .layers = twice, .n = 2, .dest = dest, .mode = 0600, .uid = -1, .gid = -1
    };
    g_assert_false(qcow2_build(&build, NULL, &error));
    assert_refused(error, ERR_INVALID, "the same file");
}

/* Runs of one cluster each: whoever looked at the rest of the table for each would need minutes. */
static void
test_every_second_wrong(void)
{
    enum { BIG = 2 << 20, N = BIG / 8, FIRST = 5 }; /* header, refcount table and block, L1, L2 */
    MEMORY_FOLDER(folder);
    g_autoptr(GError) error = NULL;
    g_autofree char *path = in(folder, "a");
    g_autofree uint64_t *l2 = g_new(uint64_t, N);
    g_autofree uint16_t *counts = g_new0(uint16_t, N + FIRST);

    MUST(folder, "qemu-img create -q -f qcow2 -o cluster_size=2M a 512G");
    for (uint64_t i = 0; i < N + FIRST; i++)
        counts[i] = GUINT16_TO_BE(i < FIRST || i % 2 == 0 ? 1 : 0);
    for (uint64_t i = 0; i < N; i++)
        l2[i] = GUINT64_TO_BE((FIRST + i) * BIG | COPIED);
    int fd = open(path, O_WRONLY | O_CLOEXEC);
    g_assert_cmpint(pwrite(fd, counts, (N + FIRST) * 2, 2 * (off_t)BIG), ==, (N + FIRST) * 2);
    g_assert_cmpint(pwrite(fd, l2, BIG, 4 * (off_t)BIG), ==, BIG);
    g_assert_cmpint(ftruncate(fd, (off_t)(N + FIRST) * BIG), ==, 0);
    close(fd);
    poke(path, 3 * UINT64_C(2097152), 8, 4 * UINT64_C(2097152) | COPIED);

    g_test_timer_start();
    g_autoptr(GPtrArray) lines = qcow2_check(path, &error);
    g_assert_cmpfloat(g_test_timer_elapsed(), <, 4);
    g_assert_no_error(error);
    g_assert_cmpuint(lines->len, ==, QCOW2_CHECK_LINES + 1);
    /* of each wrong one its flag and its refcount */
    g_autofree char *rest = g_strdup_printf(": %d more problems", N - QCOW2_CHECK_LINES);
    g_assert_true(g_str_has_suffix(lines->pdata[QCOW2_CHECK_LINES], rest));
}

/* Sizes at the edge of what 64 bits hold. */
static void
test_huge_sizes(void)
{
    MEMORY_FOLDER(folder);
    g_autofree char *raw = in(folder, "raw"), *small = small_volume(folder, "a");
    g_autofree char *dest = in(folder, "new");
    /* clang-format off */
    static const struct { uint64_t raw, wanted_size; ErrorCode code; const char *wanted; } rows[] = {
        { INT64_MAX,             0,                   ERR_INVALID,     "is no size of a disk" },
        { INT64_MAX - 511,       0,                   ERR_UNSUPPORTED, "cannot be mapped" },
        { UINT64_C(1) << 62,     0,                   ERR_UNSUPPORTED, "cannot be mapped" },
        { 0,                     0,                   ERR_INVALID,     "0 bytes is no size of a disk" },
        { MIB,                   UINT64_MAX,          ERR_INVALID,     "is no size of a disk" },
        { MIB,                   UINT64_C(1) << 63,   ERR_INVALID,     "is no size of a disk" },
        { MIB,                   INT64_MAX,           ERR_UNSUPPORTED, "cannot be mapped" },
    };
    /* clang-format on */
    for (size_t i = 0; i < G_N_ELEMENTS(rows); i++) {
        g_autoptr(GError) error = NULL;
        autofd int fd = open(raw, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
        uint64_t end = 0;

        if (ftruncate(fd, (off_t)rows[i].raw) < 0)
            continue; /* no such files here */
        Qcow2Source source = { raw, "raw" };
        Qcow2Build build = { .layers = &source,
                             .n = 1,
                             .dest = dest,
                             .virtual_size = rows[i].wanted_size,
                             .mode = 0600,
                             .uid = -1,
                             .gid = -1 };
        g_assert_false(qcow2_build(&build, NULL, &error));
        assert_refused(error, rows[i].code, rows[i].wanted);
        assert_one_line("build", raw, error);
        assert_no_debris(folder, dest);
        g_clear_error(&error);
        g_assert_true(qcow2_map(raw, "raw", any_extent_is_good, &end, &error));
        g_assert_cmpuint(end, ==, (rows[i].raw + 511) / 512 * 512);
    }

    /* The largest L1 table there is, in a file that is all hole: it takes no time */
    g_autoptr(GError) error = NULL;
    poke(small, 36, 4, UINT32_C(32) << 20 >> 3);
    poke(small, 40, 8, GIB);
    poke(small, GIB + (UINT32_C(32) << 20) - 1, 1, 0);
    poke(small, 24, 8, (UINT64_C(32) << 20 >> 3) << 29);
    g_assert_cmpuint(read_all(folder, small), ==, CHECK);
}

/* Everywhere ------------------------------------------------------------------------ */

/* A small volume with data, zeros, two tables and a compressed cluster. */
static char *
tiny_volume(const char *folder)
{
    g_autofree char *base = image(folder, "base", 64 * KIB, NULL, NULL);

    MUST(folder, "qemu-img create -q -f qcow2 -b base -F qcow2 -o cluster_size=512 a 40k");
    MUST(folder, "qemu-io -f qcow2 -c 'write -P 1 0 1k' -c 'write -z -u 2k 512' -c 'write -P 3 35k "
                 "1k' -c 'write -P 5 5k 700' -c 'write -z 5k 512' -c 'write -c -P 9 20k 512' a");
    return in(folder, "a");
}

/* Cut off at any byte, each reader gives an answer or one line. */
static void
test_cut_anywhere(void)
{
    MEMORY_FOLDER(folder);
    g_autofree char *whole = NULL;
    gsize size = 0;

    need_qemu();
    g_autofree char *path = tiny_volume(folder);
    g_assert_true(g_file_get_contents(path, &whole, &size, NULL));
    g_assert_cmpuint(read_all(folder, path), ==, 0);
    for (gsize length = size; length-- > 0;) {
        g_assert_cmpint(truncate(path, (off_t)length), ==, 0);
        unsigned refused = read_all(folder, path);

        if (length < 512)
            g_assert_cmpuint(refused, ==, ALL);
        if (length < size - 512 && (refused & CHECK) == 0)
            g_error("cut to %zu of %zu bytes, but the checker found nothing", length, size);
    }
}

/* Any byte of the tables is another one. */
static void
test_change_anywhere(void)
{
    static const uint8_t masks[] = { 0x01, 0x80, 0xff };
    MEMORY_FOLDER(folder);
    g_autofree uint8_t *whole = NULL;
    gsize size = 0;

    need_qemu();
    g_autofree char *path = tiny_volume(folder);
    g_assert_true(g_file_get_contents(path, (char **)&whole, &size, NULL));
    for (gsize at = 0; at < size; at++) {
        bool matters = at < 256 || whole[at] != 0 || (at > 0 && whole[at - 1] != 0) || at % 64 == 0;
        bool is_data = at % 512 > 32 && at >= 512 && whole[at] == whole[at - 1];

        for (size_t i = 0; i < G_N_ELEMENTS(masks) && matters && !is_data; i++) {
            poke(path, at, 1, whole[at] ^ masks[i]);
            read_all(folder, path);
            /* and whole again: nobody has written to it */
            poke(path, at, 1, whole[at]);
        }
    }
    g_assert_cmpuint(read_all(folder, path), ==, 0);
}

/* What QEMU complains about our checker finds too, whatever byte of the metadata is wrong. */
static void
test_check_against_qemu(void)
{
    FOLDER(folder);

    need_qemu();
    for (unsigned i = 0; i < 60; i++) {
        g_autoptr(GError) error = NULL;
        g_autofree char *path = small_volume(folder, "a");
        static const unsigned places[] = { CLUSTER, 2 * CLUSTER, L1, L2 };
        g_autofree char *line = g_strdup_printf("qemu-img check -q -f qcow2 %s", path);

        poke(path, places[i % 4] + (unsigned)g_test_rand_int_range(0, 24), 1,
             UINT64_C(1) << g_test_rand_int_range(0, 8));
        g_autoptr(GPtrArray) lines = qcow2_check(path, &error);
        if (!quietly(line) && lines != NULL && lines->len == 0)
            g_error("round %u: qemu-img check found something that qcow2_check() did not", i);
        unlink(path);
    }
}

int
main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/qcow2/hostile/headers", test_headers);
    g_test_add_func("/qcow2/hostile/tables", test_tables);
    g_test_add_func("/qcow2/hostile/many-of-one", test_many_of_one);
    g_test_add_func("/qcow2/hostile/every-second-wrong", test_every_second_wrong);
    g_test_add_func("/qcow2/hostile/huge-sizes", test_huge_sizes);
    g_test_add_func("/qcow2/hostile/cut-anywhere", test_cut_anywhere);
    g_test_add_func("/qcow2/hostile/change-anywhere", test_change_anywhere);
    g_test_add_func("/qcow2/hostile/check-as-qemu", test_check_against_qemu);
    return g_test_run();
}
