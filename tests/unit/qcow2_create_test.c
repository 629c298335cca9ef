/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * What creates a qcow2: what QEMU's own tools say of it, what a full disk and a bad wish leave
 * behind; and how much a copy would have to read.
 */
#include "qcow2/qcow2.h"
#include "qcow2_mapped.h"

#include <sched.h>
#include <signal.h>
#include <sys/mount.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>

/* Creating -------------------------------------------------------------------------- */

static void
check_created(const char *folder, const char *name, uint64_t size, const char *backing)
{
    MUST(folder, "qemu-img check -q -f qcow2 %s", name);
    g_autofree char *text = must(folder, "qemu-img info -f qcow2 --output=json %s", name);
    g_autoptr(json_t) info = json_loads(text, 0, NULL);

    g_assert_cmpuint((uint64_t)json_integer_value(json_object_get(info, "virtual-size")), ==, size);
    g_assert_cmpstr(json_string_value(json_object_get(info, "backing-filename")), ==, backing);
    g_assert_cmpstr(json_string_value(json_object_get(info, "backing-filename-format")), ==,
                    backing != NULL ? "qcow2" : NULL);
}

static void
test_create_overlays(void)
{
    /* clang-format off */
    static const uint64_t sizes[] = {
        512, 1024, 65536 - 512, 65536, 65536 + 512, 512 * MIB, 512 * MIB + 512, 5 * GIB + 512 * 77,
        4 * TIB + 512, 64 * TIB,
    };
    /* clang-format on */
    need_qemu();
    for (size_t i = 0; i < G_N_ELEMENTS(sizes); i++) {
        FOLDER(folder);
        uint64_t size = sizes[i], last = size - 512;
        g_autofree char *base = image(folder, "base", size, NULL, NULL);
        g_autofree char *over = image(folder, "over", size, "base", "qcow2");

        g_test_message("size %" PRIu64, size);
        check_created(folder, "base", size, NULL);
        check_created(folder, "over", size, "base");
        MUST(folder, "qemu-img create -q -f qcow2 same %" PRIu64, size);
        MUST(folder, "qemu-io -f qcow2 -c 'write -P 1 0 512' base");
        MUST(folder, "qemu-img compare -q -f qcow2 -F qcow2 base over");
        MUST(folder, "qemu-io -f qcow2 -c 'write -P 2 %" PRIu64 " 512' over", last);
        MUST(folder, "qemu-io -f qcow2 -c 'read -P 2 %" PRIu64 " 512' over", last);
        MUST(folder, "qemu-io -f qcow2 -c 'write -P 1 0 512' -c 'write -P 2 %" PRIu64 " 512' same",
             last);
        MUST(folder, "qemu-img compare -q -f qcow2 -F qcow2 same over");
        MUST(folder, "qemu-img check -q -f qcow2 over");
        Mapped m = { 0 };
        g_assert_true(qcow2_map(over, "qcow2", take_extent, &m, NULL));
        g_assert_cmpuint(m.end, ==, size);
    }
}

static void
test_create_details(void)
{
    FOLDER(folder);
    g_autoptr(GError) error = NULL;
    g_autofree char *path = in(folder, "a");
    g_autofree char *longest = g_strnfill(1023, 'n');
    bool root = geteuid() == 0;
    struct stat st;

    g_assert_true(
        qcow2_create(path, MIB, longest, "raw", 0664, root ? 36 : -1, root ? 37 : -1, &error));
    g_assert_no_error(error);
    g_assert_cmpint(stat(path, &st), ==, 0);
    g_assert_cmpint(st.st_mode & 07777, ==, 0664);
    g_assert_cmpint(st.st_uid, ==, root ? 36 : geteuid());
    g_assert_cmpint(st.st_gid, ==, root ? 37 : st.st_gid);
    g_autoptr(Qcow2Header) h = qcow2_header_read(path, &error);
    g_assert_no_error(error);
    g_assert_cmpstr(h->backing_file, ==, longest);
    g_assert_cmpstr(h->backing_format, ==, "raw");

    g_assert_false(qcow2_create(path, MIB, NULL, NULL, 0600, -1, -1, &error));
    assert_refused(error, ERR_EXISTS, path);
    g_assert_cmpint(access(path, F_OK), ==, 0);
}

static void
test_create_refuses(void)
{
    g_autofree char *too_long = g_strnfill(1024, 'n');
    /* clang-format off */
    const struct { uint64_t size; const char *backing, *format; ErrorCode code; } rows[] = {
        { 0,               NULL,       NULL,    ERR_INVALID },
        { 513,             NULL,       NULL,    ERR_INVALID },
        { UINT64_MAX - 511, NULL,      NULL,    ERR_INVALID },
        { 3 * 1024 * 1024 * TIB, NULL, NULL,    ERR_INVALID },
        { MIB,             "base",     NULL,    ERR_INVALID },
        { MIB,             "base",     "vmdk",  ERR_INVALID },
        { MIB,             too_long,   "raw",   ERR_INVALID },
        { MIB,             "json:{}",  "raw",   ERR_UNSUPPORTED },
        { MIB,             "",         "raw",   ERR_UNSUPPORTED },
    };
    /* clang-format on */
    FOLDER(folder);
    g_autofree char *path = in(folder, "a");
    g_autofree char *nowhere = in(folder, "missing/a");

    for (size_t i = 0; i < G_N_ELEMENTS(rows); i++) {
        g_autoptr(GError) error = NULL;

        g_assert_false(qcow2_create(path, rows[i].size, rows[i].backing, rows[i].format, 0600, -1,
                                    -1, &error));
        assert_refused(error, rows[i].code, path);
        g_assert_cmpint(access(path, F_OK), !=, 0);
    }
    g_autoptr(GError) error = NULL;
    g_assert_false(qcow2_create(nowhere, MIB, NULL, NULL, 0600, -1, -1, &error));
    assert_refused(error, ERR_STORAGE, nowhere);
}

enum { CHILD_GOOD = 0, CHILD_BAD = 1, CHILD_SKIP = 77 };

/* Exit status of a child: did creating fail with this code and leave nothing? */
static int
create_in_child(const char *path, ErrorCode wanted)
{
    g_autoptr(GError) error = NULL;

    if (qcow2_create(path, 64 * GIB, "base", "qcow2", 0600, -1, -1, &error))
        return CHILD_BAD;
    return g_error_matches(error, ERR, (int)wanted) && access(path, F_OK) != 0 ? CHILD_GOOD
                                                                               : CHILD_BAD;
}

static int
wait_child(pid_t child)
{
    int status = 0;

    g_assert_cmpint(child, >, 0);
    g_assert_cmpint(waitpid(child, &status, 0), ==, child);
    g_assert_true(WIFEXITED(status));
    return WEXITSTATUS(status);
}

static void
test_create_leaves_nothing(void)
{
    static const rlim_t limits[] = { 0, 1, 4096, 65536, 65536 * 2 + 1, 65536 * 3, 65536 * 4 - 1 };
    FOLDER(folder);
    g_autofree char *path = in(folder, "a");

    for (size_t i = 0; i < G_N_ELEMENTS(limits); i++) {
        pid_t child = fork();
        if (child == 0) {
            struct rlimit limit = { limits[i], limits[i] };
            signal(SIGXFSZ, SIG_IGN);
            _exit(setrlimit(RLIMIT_FSIZE, &limit) < 0 ? CHILD_SKIP
                                                      : create_in_child(path, ERR_STORAGE));
        }
        g_assert_cmpint(wait_child(child), ==, CHILD_GOOD);
        g_assert_cmpint(access(path, F_OK), !=, 0);
    }
}

/* A tiny file system in a mount namespace of its own, which goes away with the child. */
static void
test_create_on_a_full_disk(void)
{
    FOLDER(folder);
    g_autofree char *path = in(folder, "a");
    pid_t child = fork();

    if (child == 0) {
        if (unshare(geteuid() == 0 ? CLONE_NEWNS : CLONE_NEWUSER | CLONE_NEWNS) < 0 ||
            mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) < 0 ||
            mount("tiny", folder, "tmpfs", 0, "size=128k") < 0)
            _exit(CHILD_SKIP);
        _exit(create_in_child(path, ERR_NO_SPACE));
    }
    int status = wait_child(child);
    if (status == CHILD_SKIP)
        g_test_skip("no mount namespaces here");
    else
        g_assert_cmpint(status, ==, CHILD_GOOD);
}

/* Work ------------------------------------------------------------------------------ */

static void
test_work(void)
{
    FOLDER(folder);
    g_autoptr(GError) error = NULL;
    g_autofree char *a = image(folder, "a", 64 * MIB, "base", "raw");
    g_autofree char *b = image(folder, "b", 128 * MIB, "a", "qcow2");
    const char *paths[] = { a, b }, *formats[] = { "qcow2", "qcow2" };
    WorkMap map;

    /* L2 tables at cluster 4; data in guest clusters 0 and 1 of a, 1 and 1024 (64 MiB) of b */
    poke(a, 3 * 65536, 8, 4 * 65536);
    poke(a, 5 * 65536 - 8, 8, 0);
    poke(a, 4 * 65536, 8, 5 * 65536);
    poke(a, 4 * 65536 + 8, 8, UINT64_C(1) << 62); /* compressed */
    g_assert_cmpint(truncate(a, 7 * 65536), ==, 0);
    poke(a, 4 * 65536 + 16, 8, 1); /* zeros are no data */
    poke(b, 3 * 65536, 8, 4 * 65536);
    poke(b, 5 * 65536 - 8, 8, 0);
    poke(b, 4 * 65536 + 8, 8, 5 * 65536);
    poke(b, 4 * 65536 + 1024 * 8, 8, 6 * 65536);
    g_assert_cmpint(truncate(b, 7 * 65536), ==, 0);

    qcow2_work_map(paths, formats, 2, &map, &error);
    g_assert_no_error(error);
    g_assert_cmpuint(map.virtual_size, ==, 128 * MIB);
    g_assert_cmpuint(map.total, ==, 3 * 65536);
    g_assert_cmpuint(map.bucket[0], ==, 2 * 65536);
    g_assert_cmpuint(map.bucket[512], ==, 65536);
    g_assert_cmpuint(work_below(&map, 0), ==, 0);
    g_assert_cmpuint(work_below(&map, 65536), ==, 65536); /* half of the first bucket */
    g_assert_cmpuint(work_below(&map, MIB), ==, 2 * 65536);
    g_assert_cmpuint(work_below(&map, 64 * MIB), ==, 2 * 65536);
    g_assert_cmpuint(work_below(&map, 65 * MIB), ==, 3 * 65536);
    g_assert_cmpuint(work_below(&map, UINT64_MAX), ==, 3 * 65536);

    /* One sector, which is smaller than the number of buckets */
    g_autofree char *tiny = image(folder, "tiny", 512, NULL, NULL);
    const char *tiny_path[] = { tiny };
    poke(tiny, 3 * 65536, 8, 4 * 65536);
    poke(tiny, 5 * 65536 - 8, 8, 0);
    poke(tiny, 4 * 65536, 8, 5 * 65536);
    g_assert_cmpint(truncate(tiny, 6 * 65536), ==, 0);
    g_assert_true(qcow2_work_map(tiny_path, formats, 1, &map, &error));
    g_assert_cmpuint(map.total, ==, 512);
    g_assert_cmpuint(work_below(&map, 256), ==, 256);

    /* Nothing at all, and a size where a grain is more than a sector */
    g_assert_true(qcow2_work_map(NULL, NULL, 0, &map, &error));
    g_assert_cmpuint(work_below(&map, 0), ==, 0);
    g_autofree char *huge = image(folder, "huge", 64 * TIB, NULL, NULL);
    const char *huge_path[] = { huge };
    uint64_t end = 3 * 65536 + 131072 * 8;
    poke(huge, end - 8, 8, end);
    poke(huge, end + 65536 - 8, 8, UINT64_C(1) << 40); /* the very last cluster */
    g_assert_cmpint(truncate(huge, (INT64_C(1) << 40) + 65536), ==, 0);
    g_assert_true(qcow2_work_map(huge_path, formats, 1, &map, &error));
    g_assert_no_error(error);
    g_assert_cmpuint(map.total, ==, 262144); /* a grain */
    g_assert_cmpuint(map.bucket[WORK_BUCKETS - 1], ==, map.total);
    g_assert_cmpuint(work_below(&map, 64 * TIB - GIB * 64), ==, 0);

    const char *gone[] = { "/nonexistent/volume" };
    g_assert_false(qcow2_work_map(gone, formats, 1, &map, &error));
    assert_refused(error, ERR_NOT_FOUND, gone[0]);
}

int
main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/qcow2/create/overlays", test_create_overlays);
    g_test_add_func("/qcow2/create/details", test_create_details);
    g_test_add_func("/qcow2/create/refuses", test_create_refuses);
    g_test_add_func("/qcow2/create/leaves-nothing", test_create_leaves_nothing);
    g_test_add_func("/qcow2/create/full-disk", test_create_on_a_full_disk);
    g_test_add_func("/qcow2/work", test_work);
    return g_test_run();
}
