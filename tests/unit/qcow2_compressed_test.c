/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * Images that were built from what QEMU packed, or from what cannot be carried over.
 */
#include "qcow2_seed.h"
#include "qcow2_sound.h"

static bool
build_of(const char *path, const char *dest, Qcow2Built *ret_built, GError **error)
{
    Qcow2Source source = { path, "qcow2" };
    Qcow2Build build = { .layers = &source,
                         .n = 1,
                         .dest = dest,
                         .mode = 0600,
                         .uid = -1,
                         .gid = -1,
                         .share = true,
                         .must_share = true };

    return qcow2_build(&build, ret_built, error);
}

/* Bytes of the compressed data that are other ones: an error, or by luck other data; a whole file
 * or none. */
static unsigned
damage(const char *packed, const char *dest)
{
    Qcow2Source source = { packed, "qcow2" };
    struct stat st;
    unsigned refused = 0;

    g_assert_cmpint(stat(packed, &st), ==, 0);
    for (int i = 0; i < 30; i++) {
        g_autoptr(GError) error = NULL;

        poke(packed, (uint64_t)g_test_rand_int_range((gint32)st.st_size / 4, (gint32)st.st_size), 1,
             (uint64_t)g_test_rand_int_range(0, 256));
        if (build_of(packed, dest, NULL, &error)) {
            qcow2_same_content(&source, 1, &(Qcow2Source){ dest, "qcow2" }, 1, NULL, NULL, NULL,
                               &error);
            g_assert_no_error(error);
            unlink(dest);
            continue;
        }
        g_assert_error(error, ERR, ERR_CORRUPT);
        g_assert_nonnull(strstr(error->message, packed));
        g_assert_cmpint(access(dest, F_OK), !=, 0);
        refused++;
    }
    return refused;
}

/* What "qemu-img convert -c" makes: all data compressed, even where blocks must be shared. */
static void
test_compressed(void)
{
    /* clang-format off */
    static const char *const options[] = {
        "cluster_size=512", "cluster_size=4k", "cluster_size=64k", "cluster_size=2M",
        "cluster_size=64k,compat=0.10", "cluster_size=512,compression_type=zstd",
        "cluster_size=64k,compression_type=zstd", "cluster_size=2M,compression_type=zstd",
    };
    /* clang-format on */
    const TestFs *fs = any_fs(true);
    unsigned refused = 0;

    if (fs == NULL)
        return;
    g_autofree char *packed = in(fs->folder, "packed"), *dest = in(fs->folder, "new");
    for (size_t i = 0; i < G_N_ELEMENTS(options); i++) {
        g_autoptr(GError) error = NULL;
        QemuChain c = { .rand = g_rand_new_with_seed(g_test_rand_int()), .folder = fs->folder };
        g_auto(Qcow2BuildPlan) plan = { 0 };
        Qcow2Source source = { packed, "qcow2" };
        Qcow2Built built;

        qemu_pattern(&c);
        g_rand_free(c.rand);
        MUST(fs->folder, "qemu-img create -q -f raw raw 5M");
        MUST(fs->folder, "qemu-io -f raw -c 'write -s pattern 0 1M' -c 'write -s pattern 1234567 "
                         "654321' -c 'write -P 3 3M 777k' raw");
        MUST(fs->folder, "qemu-img convert -c -f raw -O qcow2 -o %s raw packed", options[i]);
        g_assert_true(qcow2_build_look(&source, 1, 0, &plan, &error));
        g_assert_cmpuint(plan.unpacked_bytes, >=, 2 * MIB);
        g_assert_cmpuint(plan.unpacked_bytes, <=, plan.data_bytes);
        build_of(packed, dest, &built, &error);
        g_assert_no_error(error);
        g_assert_cmpuint(built.bytes_copied, >=, plan.unpacked_bytes);
        assert_sound(dest);
        MUST(fs->folder, "qemu-img check -q -f qcow2 new");
        MUST(fs->folder, "qemu-img compare -q -f raw -F qcow2 raw new");
        unlink(dest);
        refused += damage(packed, dest);
        MUST(fs->folder, "rm raw packed pattern");
    }
    g_assert_cmpuint(refused, >, 0);
}

/* What was reserved of a raw volume and never written is a hole to some file systems until somebody
 * reads it, and then data: it is no difference. What is one is found all the same. */
static void
test_reserved(void)
{
    for (size_t i = 0; i < G_N_ELEMENTS(file_systems); i++) {
        const char *folder = file_systems[i].folder;
        if (folder == NULL)
            continue;
        g_autofree char *raw = in(folder, "raw"), *dest = in(folder, "new");
        Qcow2Source source = { raw, "raw" };
        Qcow2Build build = {
            .layers = &source, .n = 1, .dest = dest, .mode = 0600, .uid = -1, .gid = -1
        };
        g_autoptr(GError) error = NULL;
        g_autofree char *buffer = g_malloc(400 * 1024);

        MUST(folder, "truncate -s 2M raw");
        MUST(folder, "fallocate -n -o 512K -l 512K raw");
        poke(raw, 64 * 1024, 4, 0x12345678);
        MUST(folder, "sync raw");
        qcow2_build(&build, NULL, &error);
        g_assert_no_error(error);
        autofd int fd = open(raw, O_RDWR | O_CLOEXEC);
        g_assert_cmpint(pread(fd, buffer, 400 * 1024, 512 * 1024), ==, 400 * 1024);
        qcow2_same_map(&source, 1, dest, NULL, NULL, NULL, &error);
        g_assert_no_error(error);

        memset(buffer, 7, 8192);
        g_assert_cmpint(pwrite(fd, buffer, 8192, 900 * 1024), ==, 8192);
        g_assert_false(qcow2_same_map(&source, 1, dest, NULL, NULL, NULL, &error));
        g_assert_error(error, ERR, ERR_CORRUPT);
        g_assert_nonnull(strstr(error->message, "at byte 921600 of the disk"));
        unlink(dest);
        unlink(raw);
    }
}

/* Runs of data need not end at the same places in both maps. */
static void
test_other_order(void)
{
    static const char *const orders[] = { "01234567", "10327654", "71602534" };
    FOLDER(folder);
    g_autofree char *a = in(folder, "a"), *b = in(folder, "b");
    Qcow2Source source = { a, "qcow2" };
    g_autoptr(GError) error = NULL;

    need_qemu();
    for (size_t i = 0; i < G_N_ELEMENTS(orders); i++) {
        MUST(folder, "qemu-img create -q -f qcow2 -o cluster_size=4k a 4M");
        MUST(folder, "qemu-img create -q -f qcow2 -o cluster_size=4k b 4M");
        for (const char *part = orders[i]; *part != '\0'; part++) {
            int k = (int)(part - orders[i]), n = *part - '0';
            MUST(folder, "qemu-io -c 'write -q -P %d %dk 512k' a", k, k * 512);
            MUST(folder, "qemu-io -c 'write -q -P %d %dk 512k' b", n, n * 512);
        }
        qcow2_same_map(&source, 1, b, NULL, NULL, NULL, &error);
        g_assert_no_error(error);
        MUST(folder, "qemu-io -c 'write -q -P 9 1644k 1k' b");
        g_assert_false(qcow2_same_map(&source, 1, b, NULL, NULL, NULL, &error));
        g_assert_nonnull(strstr(error->message, "at byte 1683456 of the disk"));
        g_clear_error(&error);
    }
}

/* What cannot be carried over is said by name. */
static void
test_uncarried(void)
{
    FOLDER(folder);
    g_autofree char *path = in(folder, "a");
    Qcow2Source source = { path, "qcow2" };

    need_qemu();
    MUST(folder, "qemu-img create -q -f qcow2 a 1M");
    MUST(folder, "qemu-img bitmap --add a nightly");
    MUST(folder, "qemu-img bitmap --add a weekly");
    g_autofree char *refusal = qcow2_build_refusal(&source, 1, 0, NULL);
    g_assert_nonnull(strstr(refusal, path));
    g_assert_nonnull(strstr(refusal, "bitmaps"));
    g_assert_nonnull(strstr(refusal, "nightly, weekly"));
}

int
main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    enter_file_systems();
    g_test_add_func("/qcow2/qemu/compressed", test_compressed);
    g_test_add_func("/qcow2/qemu/reserved", test_reserved);
    g_test_add_func("/qcow2/qemu/other-order", test_other_order);
    g_test_add_func("/qcow2/qemu/uncarried", test_uncarried);
    int status = g_test_run();
    leave_file_systems();
    return status;
}
