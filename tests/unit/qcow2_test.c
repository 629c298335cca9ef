/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * qcow2 against QEMU's own tools (skipped where they are not installed), and against damaged
 * files and loops. Run with --seed to repeat a failure of the random images.
 */
#include "qcow2/qcow2.h"
#include "qcow2_map_cases.h"

#include <sys/resource.h>
#include <sys/stat.h>

/* Headers --------------------------------------------------------------------------- */

static void
test_header_fields(void)
{
    FOLDER(folder);
    g_autoptr(GError) error = NULL;

    need_qemu();
    MUST(folder, "qemu-img create -q -f qcow2 base 1M");
    MUST(folder, "qemu-img create -q -f qcow2 -b base -F qcow2 -o "
                 "cluster_size=128k,refcount_bits=32 a 3G");
    MUST(folder, "qemu-img bitmap --add a bits");
    MUST(folder, "qemu-img snapshot -c inside a");
    g_autofree char *path = in(folder, "a");
    g_autoptr(Qcow2Header) h = qcow2_header_read(path, &error);
    g_assert_no_error(error);
    g_assert_cmpstr(h->path, ==, path);
    g_assert_cmpuint(h->version, ==, 3);
    g_assert_cmpuint(h->cluster_bits, ==, 17);
    g_assert_cmpuint(h->virtual_size, ==, 3 * GIB);
    g_assert_cmpuint(h->refcount_bits, ==, 32);
    g_assert_cmpstr(h->backing_file, ==, "base");
    g_assert_cmpstr(h->backing_format, ==, "qcow2");
    g_assert_cmpuint(h->features, ==, QCOW2_BITMAPS | QCOW2_INTERNAL_SNAPSHOTS);
    g_assert_cmpuint(h->autoclear, ==, 1);

    g_assert_cmpstr(h->bitmaps, ==, "bits");
    g_assert_cmpuint(h->compression, ==, 0);

    MUST(folder, "qemu-img create -q -f qcow2 -o compression_type=zstd new 5M");
    for (int i = 0; i < 5; i++)
        MUST(folder, "qemu-img bitmap --add new name-%d", i);
    g_autofree char *new = in(folder, "new");
    g_autoptr(Qcow2Header) zstd = qcow2_header_read(new, &error);
    g_assert_no_error(error);
    g_assert_cmpuint(zstd->features, ==, QCOW2_BITMAPS | QCOW2_COMPRESSION_TYPE);
    g_assert_cmpuint(zstd->compression, ==, 1);
    g_assert_cmpstr(zstd->bitmaps, ==, "name-0, name-1, name-2 and 2 more");

    MUST(folder, "qemu-img create -q -f qcow2 -o compat=0.10 old 5M");
    g_autofree char *old = in(folder, "old");
    g_autoptr(Qcow2Header) v2 = qcow2_header_read(old, &error);
    g_assert_no_error(error);
    g_assert_cmpuint(v2->version, ==, 2);
    g_assert_cmpuint(v2->refcount_bits, ==, 16);
    g_assert_null(v2->backing_file);
    g_assert_cmpuint(v2->features, ==, 0);
}

static void
expect_backing(const char *path, const char *backing, const char *format)
{
    g_autoptr(GError) error = NULL;
    g_autoptr(Qcow2Header) h = qcow2_header_read(path, &error);

    g_assert_no_error(error);
    g_assert_cmpstr(h->backing_file, ==, backing);
    g_assert_cmpstr(h->backing_format, ==, format);
}

/* As QEMU's own "rebase -u", whatever name and format there were before. */
static void
test_relink(void)
{
    FOLDER(folder);
    g_autofree char *dots = g_strnfill(400, '/');
    g_autofree char *long_name = g_strconcat(".", dots, "b", NULL);
    const char *const options[] = { "compat=1.1", "compat=0.10", "cluster_size=2M",
                                    "cluster_size=512" };
    const struct {
        const char *backing, *format;
    } rows[] = { { "raw", "raw" }, { "b", "qcow2" }, { long_name, "qcow2" }, { "raw", "raw" } };

    need_qemu();
    MUST(folder, "truncate -s 1M raw");
    MUST(folder, "qemu-img create -q -f qcow2 b 1M");
    for (size_t i = 0; i < G_N_ELEMENTS(options); i++) {
        MUST(folder, "qemu-img create -q -f qcow2 -b b -F qcow2 -o %s o%zu 2M", options[i], i);
        MUST(folder, "qemu-io -f qcow2 -c 'write -P 3 64k 64k' o%zu", i);
        g_autofree char *name = g_strdup_printf("o%zu", i);
        g_autofree char *path = in(folder, name);
        for (size_t k = 0; k < G_N_ELEMENTS(rows); k++) {
            g_autoptr(GError) error = NULL;
            bool room = i < 3 || rows[k].backing != long_name; /* of 512 bytes */
            if (qcow2_relink(path, rows[k].backing, rows[k].format, &error) != room)
                g_error("%s, %s: %s", options[i], rows[k].backing,
                        error != NULL ? error->message : "there should be no room");
            if (!room)
                continue;
            expect_backing(path, rows[k].backing, rows[k].format);
            MUST(folder, "qemu-img check -q %s", name);
            g_autofree char *read = must(
                folder, "qemu-io -f qcow2 -c 'read -P 3 64k 64k' -c 'read -P 0 0 64k' %s", name);
            g_assert_null(strstr(read, "failed"));
        }
    }
    g_autoptr(GError) error = NULL;
    g_autofree char *alone = in(folder, "b");
    g_assert_false(qcow2_relink(alone, "raw", "raw", &error));
    g_assert_error(error, ERR, ERR_UNSUPPORTED);
    g_assert_nonnull(strstr(error->message, alone));
}

static void
test_header_features(void)
{
    /* clang-format off */
    static const struct { unsigned at, width; uint64_t value; unsigned wanted; } rows[] = {
        { 72, 8, 1,                   QCOW2_DIRTY },
        { 72, 8, 2,                   QCOW2_CORRUPT },
        { 72, 8, 4,                   QCOW2_EXTERNAL_DATA },
        { 72, 8, 16,                  QCOW2_EXTENDED_L2 },
        { 72, 8, UINT64_C(1) << 63,   QCOW2_UNKNOWN_INCOMPATIBLE },
        { 72, 8, 32 | 1,              QCOW2_UNKNOWN_INCOMPATIBLE | QCOW2_DIRTY },
        { 32, 4, 1,                   QCOW2_ENCRYPTED },
        { 60, 4, 1,                   QCOW2_INTERNAL_SNAPSHOTS },
        { 80, 8, UINT64_MAX,          0 },
    };
    /* clang-format on */
    for (size_t i = 0; i < G_N_ELEMENTS(rows); i++) {
        FOLDER(folder);
        g_autoptr(GError) error = NULL;
        g_autofree char *path = image(folder, "a", MIB, NULL, NULL);

        poke(path, rows[i].at, rows[i].width, rows[i].value);
        g_autoptr(Qcow2Header) h = qcow2_header_read(path, &error);
        g_assert_no_error(error);
        g_assert_cmpuint(h->features, ==, rows[i].wanted);
    }
}

static void
test_header_cut_short(void)
{
    static const off_t lengths[] = { 0, 3, 4, 71, 72, 103, 104, 4096, 65536, 3 * 65536 };
    FOLDER(folder);
    g_autofree char *path = image(folder, "a", MIB, "base", "qcow2");

    for (size_t i = G_N_ELEMENTS(lengths); i-- > 0;) {
        g_autoptr(GError) error = NULL;

        g_assert_cmpint(truncate(path, lengths[i]), ==, 0);
        g_assert_null(qcow2_header_read(path, &error));
        assert_refused(error, ERR_CORRUPT, path);
    }
}

/* The first page is read at once, the whole cluster only where somebody put more into it. */
static void
test_header_beyond_a_page(void)
{
    static const char backing[] = "a/rather/long/name/of.a.base";

    for (unsigned filler = 3800; filler <= 4200; filler += 8)
        for (unsigned gap = 0; gap < 8; gap += 3) {
            FOLDER(folder);
            g_autoptr(GError) error = NULL;
            g_autofree char *path = image(folder, "a", MIB, NULL, NULL);
            unsigned format = 112 + 8 + filler, end = format + 8 + 8, name = end + gap;

            poke(path, 112, 4, 0x6803f857); /* a table of names that nobody needs */
            poke(path, 116, 4, filler - gap);
            poke(path, format, 4, 0xe2792aca);
            poke(path, format + 4, 4, 3);
            poke_text(path, format + 8, "raw", 3);
            poke_text(path, name, backing, strlen(backing));
            poke(path, 8, 8, name);
            poke(path, 16, 4, strlen(backing));
            g_autoptr(Qcow2Header) h = qcow2_header_read(path, &error);
            g_assert_no_error(error);
            g_assert_cmpstr(h->backing_format, ==, "raw");
            g_assert_cmpstr(h->backing_file, ==, backing);
        }
}

static void
test_never_waits(void)
{
    FOLDER(folder);
    g_autofree char *fifo = in(folder, "fifo");
    g_autofree char *missing = in(folder, "missing");
    /* clang-format off */
    const struct { const char *path; ErrorCode code; } rows[] = {
        { fifo, ERR_UNSUPPORTED }, { folder, ERR_UNSUPPORTED }, { "/dev/zero", ERR_UNSUPPORTED },
        { missing, ERR_NOT_FOUND },
    };
    /* clang-format on */
    g_assert_cmpint(mkfifo(fifo, 0600), ==, 0);
    for (size_t i = 0; i < G_N_ELEMENTS(rows); i++) {
        g_autoptr(GError) error = NULL;

        g_assert_null(qcow2_header_read(rows[i].path, &error));
        assert_refused(error, rows[i].code, rows[i].path);
        g_clear_error(&error);
        g_assert_null(qcow2_chain_walk(rows[i].path, "raw", NULL, &error));
        assert_refused(error, rows[i].code, rows[i].path);
        g_clear_error(&error);
        g_assert_false(qcow2_map(rows[i].path, "raw", any_extent, NULL, &error));
        assert_refused(error, rows[i].code, rows[i].path);
    }
}

/* Chains ---------------------------------------------------------------------------- */

static void
test_backing_path(void)
{
    /* clang-format off */
    static const struct { const char *of, *backing, *wanted; } rows[] = {
        { "/a/b/leaf", "base",           "/a/b/base" },
        { "/a/b/leaf", "./base",         "/a/b/base" },
        { "/a/b/leaf", "../c//base",     "/a/c/base" },
        { "/a/b/leaf", "/x/../y/base",   "/y/base" },
        { "/a/b/leaf", "./nbd:x",        "/a/b/nbd:x" },
        { "/a/b/leaf", "/d/a:b",         "/d/a:b" },
        { "/a/b/leaf", "",               NULL },
        { "/a/b/leaf", "json:{\"driver\":\"raw\"}", NULL },
        { "/a/b/leaf", "nbd://host/x",   NULL },
        { "/a/b/leaf", "nbd:unix:/s",    NULL },
        { "/a/b/leaf", "file:/etc/x",    NULL },
        { "/a/b/leaf", "fd:3",           NULL },
        { "/a/b/leaf", "two\nlines",     NULL },
        { "/a/b/leaf", "not utf8 \xff",  NULL },
    };
    /* clang-format on */
    for (size_t i = 0; i < G_N_ELEMENTS(rows); i++) {
        g_autoptr(GError) error = NULL;
        g_autofree char *path = qcow2_backing_path(rows[i].of, rows[i].backing, &error);

        g_assert_cmpstr(path, ==, rows[i].wanted);
        if (rows[i].wanted == NULL)
            assert_refused(error, ERR_UNSUPPORTED, rows[i].of);
    }
}

static void
test_chain_good(void)
{
    FOLDER(folder);
    g_autoptr(GError) error = NULL;
    g_autofree char *raw = in(folder, "base.raw");
    g_assert_true(g_file_set_contents(raw, "0123456789abcdef", 16, NULL));
    g_assert_cmpint(truncate(raw, 1000 * 512), ==, 0);
    g_autofree char *mid = image(folder, "mid", MIB, "base.raw", "raw");
    g_autofree char *leaf = image(folder, "leaf", 2 * MIB, mid, "qcow2");

    g_autoptr(GPtrArray) chain = qcow2_chain_walk(leaf, "qcow2", folder, &error);
    g_assert_no_error(error);
    g_assert_cmpuint(chain->len, ==, 3);
    const Qcow2Layer *const *layers = (const Qcow2Layer *const *)chain->pdata;
    g_assert_cmpstr(layers[0]->path, ==, raw);
    g_assert_cmpstr(layers[0]->format, ==, "raw");
    g_assert_null(layers[0]->header);
    g_assert_cmpuint(layers[0]->virtual_size, ==, 1000 * 512);
    g_assert_cmpstr(layers[1]->path, ==, mid);
    g_assert_cmpuint(layers[1]->virtual_size, ==, MIB);
    g_assert_cmpstr(layers[2]->path, ==, leaf);
    g_assert_cmpstr(layers[2]->header->backing_file, ==, mid);
    g_assert_cmpuint(layers[2]->virtual_size, ==, 2 * MIB);
    g_assert_cmpuint(layers[2]->allocated, ==, layers[2]->header->allocated);

    /* A qcow2 leaf that is declared raw is raw: content is never looked at */
    g_autoptr(GPtrArray) alone = qcow2_chain_walk(leaf, "raw", folder, &error);
    g_assert_no_error(error);
    g_assert_cmpuint(alone->len, ==, 1);
    g_assert_null(((Qcow2Layer *)alone->pdata[0])->header);
}

static void
assert_walk_refused(const char *leaf, const char *root, ErrorCode code, const char *wanted)
{
    g_autoptr(GError) error = NULL;

    g_assert_null(qcow2_chain_walk(leaf, "qcow2", root, &error));
    assert_refused(error, code, wanted);
    g_assert_nonnull(strstr(error->message, leaf));
}

static void
test_chain_refuses_names(void)
{
    /* clang-format off */
    static const struct { const char *backing, *format; ErrorCode code; const char *wanted; } rows[] = {
        { "json:{\"driver\":\"qcow2\"}", "qcow2", ERR_UNSUPPORTED, "json:" },
        { "nbd://10.0.0.1/x", "raw",   ERR_UNSUPPORTED, "nbd://10.0.0.1/x" },
        { "gone",             "qcow2", ERR_NOT_FOUND,   "/gone does not exist" },
        { "sub",              "raw",   ERR_UNSUPPORTED, "/sub is neither" },
        { "base",             "vmdk",  ERR_UNSUPPORTED, "\"vmdk\"" },
        { "base",             "r\x01w",  ERR_UNSUPPORTED, "\"r\\001w\"" },
        { "base",             NULL,    ERR_UNSUPPORTED, "qemu-img rebase -u -b base -F FORMAT /" },
        { "b'; rm x",         NULL,    ERR_UNSUPPORTED, "rebase -u -b 'b'\\''; rm x' -F FORMAT /" },
        { "text",             "qcow2", ERR_CORRUPT,     "/text is not a qcow2 file" },
        { "/dev/null",        "raw",   ERR_UNSUPPORTED, "/dev/null is neither" },
    };
    /* clang-format on */
    FOLDER(folder);
    g_autofree char *base = image(folder, "base", MIB, NULL, NULL);
    g_autofree char *text = in(folder, "text");
    g_autofree char *sub = in(folder, "sub");
    g_assert_cmpint(mkdir(sub, 0700), ==, 0);
    g_autofree char *long_text = g_strnfill(100000, 'x');
    g_assert_true(g_file_set_contents(text, long_text, -1, NULL));

    for (size_t i = 0; i < G_N_ELEMENTS(rows); i++) {
        g_autofree char *name = g_strdup_printf("leaf%zu", i);
        g_autofree char *leaf = image_naming(folder, name, rows[i].backing, rows[i].format);

        assert_walk_refused(leaf, NULL, rows[i].code, rows[i].wanted);
    }
    g_autoptr(GError) error = NULL;
    g_assert_null(qcow2_chain_walk(base, NULL, NULL, &error));
    assert_refused(error, ERR_UNSUPPORTED, base);
}

static void
test_chain_loops(void)
{
    FOLDER(folder);
    g_autofree char *a = image(folder, "a", MIB, "b", "qcow2");
    g_autofree char *b = image(folder, "b", MIB, "a", "qcow2");
    assert_walk_refused(a, NULL, ERR_CORRUPT, "loop");

    g_autofree char *self = image(folder, "self", MIB, "self", "qcow2");
    assert_walk_refused(self, NULL, ERR_CORRUPT, "loop");

    /* by a hard link and by a symbolic link */
    g_autofree char *c = image(folder, "c", MIB, "hard", "qcow2");
    g_autofree char *hard = in(folder, "hard");
    g_assert_cmpint(link(c, hard), ==, 0);
    assert_walk_refused(c, NULL, ERR_CORRUPT, "loop");
    g_autofree char *d = image(folder, "d", MIB, "soft", "qcow2");
    g_autofree char *soft = in(folder, "soft");
    g_assert_cmpint(symlink("d", soft), ==, 0);
    assert_walk_refused(d, NULL, ERR_CORRUPT, "loop");
}

static void
test_chain_depth(void)
{
    FOLDER(folder);
    g_autoptr(GError) error = NULL;
    g_autofree char *leaf = image(folder, "1", MIB, NULL, NULL);

    for (int i = 2; i <= QCOW2_MAX_DEPTH; i++) {
        g_autofree char *name = g_strdup_printf("%d", i), *below = g_strdup_printf("%d", i - 1);
        g_free(leaf);
        leaf = image(folder, name, MIB, below, "qcow2");
    }
    g_autoptr(GPtrArray) chain = qcow2_chain_walk(leaf, "qcow2", folder, &error);
    g_assert_no_error(error);
    g_assert_cmpuint(chain->len, ==, QCOW2_MAX_DEPTH);
    g_assert_true(g_str_has_suffix(((Qcow2Layer *)chain->pdata[0])->path, "/1"));

    g_free(leaf);
    leaf = image(folder, "201", MIB, "200", "qcow2");
    g_assert_null(qcow2_chain_walk(leaf, "qcow2", folder, &error));
    assert_refused(error, ERR_UNSUPPORTED, "200 layers");
}

static void
test_chain_root(void)
{
    FOLDER(folder);
    g_autoptr(GError) error = NULL;
    g_autofree char *root = in(folder, "root"), *beside = in(folder, "root2");
    g_autofree char *link_to_root = in(folder, "link"), *way_out = in(root, "way-out");
    g_assert_cmpint(mkdir(root, 0700), ==, 0);
    g_assert_cmpint(mkdir(beside, 0700), ==, 0);
    g_assert_cmpint(symlink("root", link_to_root), ==, 0);
    g_assert_cmpint(symlink("../root2", way_out), ==, 0);
    g_autofree char *outside = image(beside, "base", MIB, NULL, NULL);
    g_autofree char *inside = image(root, "base", MIB, NULL, NULL);
    g_autofree char *good = image(root, "good", MIB, "base", "qcow2");
    g_autofree char *dots = image(root, "dots", MIB, "../root2/base", "qcow2");
    g_autofree char *link_out = image(root, "linked", MIB, "way-out/base", "qcow2");

    assert_walk_refused(dots, root, ERR_REFUSED, outside);
    assert_walk_refused(link_out, root, ERR_REFUSED, outside);
    assert_walk_refused(dots, link_to_root, ERR_REFUSED, outside);
    g_autoptr(GPtrArray) anywhere = qcow2_chain_walk(dots, "qcow2", NULL, &error);
    g_assert_no_error(error);
    g_assert_cmpuint(anywhere->len, ==, 2);
    /* The root may be named through a link, the leaf too */
    g_autofree char *by_link = in(link_to_root, "good");
    g_autoptr(GPtrArray) linked = qcow2_chain_walk(by_link, "qcow2", root, &error);
    g_assert_no_error(error);
    g_assert_cmpuint(linked->len, ==, 2);
    g_autoptr(GPtrArray) other = qcow2_chain_walk(good, "qcow2", link_to_root, &error);
    g_assert_no_error(error);
    g_assert_cmpuint(other->len, ==, 2);

    /* ".." after a symbolic link: the kernel goes elsewhere than the text says */
    g_autofree char *sub = in(beside, "sub"), *short_cut = in(root, "cut");
    g_assert_cmpint(mkdir(sub, 0700), ==, 0);
    g_assert_cmpint(symlink("../root2/sub", short_cut), ==, 0);
    g_autofree char *made = image(sub, "leaf", MIB, "../base", "qcow2");
    g_autofree char *ambiguous = in(short_cut, "leaf");
    assert_walk_refused(ambiguous, NULL, ERR_UNSUPPORTED, "through symbolic links");
}

static void
test_chain_refuses_features(void)
{
    FOLDER(folder);
    g_autofree char *data = in(folder, "data"), *secret = in(folder, "secret");
    g_autofree char *over = NULL;

    need_qemu();
    MUST(folder, "qemu-img create -q -f qcow2 -o data_file=data.raw data 1M");
    /* on a busy machine it is "Unable to get accurate CPU usage" now and then */
    MUST(folder, "sh -c 'for i in 1 2 3 4 5 6 7 8 9; do qemu-img create -q -f qcow2 "
                 "--object secret,id=s,data=x -o "
                 "encrypt.format=luks,encrypt.key-secret=s,encrypt.iter-time=10 secret 1M "
                 "&& exit 0; done; exit 1'");
    assert_walk_refused(data, NULL, ERR_UNSUPPORTED, "data_file");
    assert_walk_refused(secret, NULL, ERR_UNSUPPORTED, "encrypted");
    over = image(folder, "over", MIB, "data", "qcow2");
    assert_walk_refused(over, NULL, ERR_UNSUPPORTED, "data_file");

    g_autoptr(GError) error = NULL;
    g_assert_false(qcow2_map(data, "qcow2", any_extent, NULL, &error));
    assert_refused(error, ERR_UNSUPPORTED, data);
}

/* A qcow2 on a block device, as on LVM: a loop device, where we may have one. */
static void
test_block_device(void)
{
    FOLDER(folder);
    g_autoptr(GError) error = NULL;
    g_autofree char *file = image(folder, "disk", 64 * MIB, NULL, NULL);
    g_autofree char *device = NULL;
    char *argv[] = { (char *)"losetup", (char *)"-f", (char *)"--show", file, NULL };

    g_assert_cmpint(truncate(file, 2 * MIB), ==, 0);
    need_tool("losetup");
    if (run(folder, argv, &device) != 0) {
        g_test_skip("no loop device to be had here");
        return;
    }
    g_strchomp(device);
    g_autoptr(GPtrArray) raw = qcow2_chain_walk(device, "raw", NULL, NULL);
    g_autoptr(GPtrArray) qcow2 = qcow2_chain_walk(device, "qcow2", NULL, &error);
    Mapped m = { 0 };
    bool mapped = qcow2_map(device, "raw", take_extent, &m, NULL);
    MUST(folder, "losetup -d %s", device);

    g_assert_no_error(error);
    g_assert_nonnull(raw);
    g_assert_cmpuint(((Qcow2Layer *)raw->pdata[0])->virtual_size, ==, 2 * MIB);
    g_assert_cmpuint(((Qcow2Layer *)raw->pdata[0])->allocated, ==, 2 * MIB);
    g_assert_cmpuint(((Qcow2Layer *)qcow2->pdata[0])->virtual_size, ==, 64 * MIB);
    g_assert_true(mapped);
    g_assert_cmpuint(m.end, ==, 2 * MIB);
}

int
main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    add_map_tests();
    g_test_add_func("/qcow2/header/fields", test_header_fields);
    g_test_add_func("/qcow2/relink", test_relink);
    g_test_add_func("/qcow2/header/features", test_header_features);
    g_test_add_func("/qcow2/header/cut-short", test_header_cut_short);
    g_test_add_func("/qcow2/header/beyond-a-page", test_header_beyond_a_page);
    g_test_add_func("/qcow2/never-waits", test_never_waits);
    g_test_add_func("/qcow2/backing-path", test_backing_path);
    g_test_add_func("/qcow2/chain/good", test_chain_good);
    g_test_add_func("/qcow2/chain/refuses-names", test_chain_refuses_names);
    g_test_add_func("/qcow2/chain/loops", test_chain_loops);
    g_test_add_func("/qcow2/chain/depth", test_chain_depth);
    g_test_add_func("/qcow2/chain/root", test_chain_root);
    g_test_add_func("/qcow2/chain/refuses-features", test_chain_refuses_features);
    g_test_add_func("/qcow2/block-device", test_block_device);
    return g_test_run();
}
