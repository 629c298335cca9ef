/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * Tests of src/storage: volumes that others stand on, the trash, the start lock, QEMU's image
 * locks.
 */
#include "../lib/need_tool.h"
#include "storage_place.h"

#include <sys/sysmacros.h>

/* ---- volumes */

static void
create(const Place *place, const char *name, const char *backing)
{
    g_autofree char *path = at(place, name);
    g_autofree char *dir = g_path_get_dirname(path);
    g_autoptr(GError) error = NULL;

    g_assert_cmpint(g_mkdir_with_parents(dir, 0700), ==, 0);
    qcow2_create(path, MIB, backing, backing != NULL ? "qcow2" : NULL, 0600, -1, -1, &error);
    g_assert_no_error(error);
}

/* What is in a qcow2 header as a name, without asking whether it makes sense. */
static void
put_header(const Place *place, const char *name, const char *backing)
{
    static const guint8 head[4096] = { 'Q', 'F', 'I', 0xfb, 0, 0, 0, 3 };

    if (backing == NULL) { /* the magic, and then nothing that makes sense */
        put(place, name, (const char *)head, 40);
        return;
    }
    create(place, name, "placeholder-that-is-long-enough-for-all");
    g_autofree char *path = at(place, name);
    gsize length = 0;
    g_autofree char *bytes = NULL;
    g_assert_true(g_file_get_contents(path, &bytes, &length, NULL));
    guint32 size = GUINT32_TO_BE((guint32)strlen(backing));
    guint64 offset;
    memcpy(&offset, bytes + 8, sizeof offset);
    memcpy(bytes + GUINT64_FROM_BE(offset), backing, strlen(backing));
    memcpy(bytes + 16, &size, sizeof size);
    put(place, name, bytes, (gssize)length);
}

static void
make_absolute(const Place *place, const char *name)
{
    g_autofree char *backing = at(place, "base.qcow2");

    create(place, name, backing);
}

/* Every way in which a file can stand on base.qcow2 keeps it from being deleted. */
static void
test_volume_users(void)
{
    /* clang-format off */
    static const struct { const char *name, *backing; /* NULL = absolute */ bool uses; } rows[] = {
        { "top.qcow2",          "base.qcow2",              true },
        { "top.qcow2",          "./base.qcow2",            true },
        { "top.qcow2",          NULL,                      true },
        { "sub/top.qcow2",      "../base.qcow2",           true },
        { "sub/deep/top.qcow2", "../../sub/../base.qcow2", true },
        { "sub/top.qcow2",      "../to-base.qcow2",        true },  /* a symbolic link */
        { "sub/top.qcow2",      "../hard-base.qcow2",      true },
        { "sub/top.qcow2",      "../here/base.qcow2",      true },  /* through a linked directory */
        { ".hidden/.top",       "../base.qcow2",           true },
        { "top.qcow2",          "other.qcow2",             false },
        { "sub/base.qcow2",     "other.qcow2",             false },
        { "sub/top.qcow2",      "base.qcow2",              false }, /* sub/base.qcow2 */
        { "top.qcow2",          "/nonexistent/base.qcow2", false },
    };
    /* clang-format on */
    for (size_t i = 0; i < G_N_ELEMENTS(rows); i++) {
        g_auto(Place) place = place_make();
        g_autoptr(GError) error = NULL;
        g_autofree char *base = at(&place, "base.qcow2");
        g_autofree char *top = at(&place, rows[i].name);
        g_autofree char *link_path = at(&place, "to-base.qcow2");
        g_autofree char *hard_path = at(&place, "hard-base.qcow2");
        g_autofree char *here_path = at(&place, "here");
        g_autofree char *user = NULL;
        const char *const ignore[] = { top, NULL };

        create(&place, "base.qcow2", NULL);
        g_assert_cmpint(symlink("base.qcow2", link_path), ==, 0);
        g_assert_cmpint(symlink(".", here_path), ==, 0);
        g_assert_cmpint(link(base, hard_path), ==, 0);
        if (rows[i].backing != NULL)
            create(&place, rows[i].name, rows[i].backing);
        else
            make_absolute(&place, rows[i].name);

        g_test_message("row %zu: %s on %s", i, rows[i].name, rows[i].backing);
        g_assert_true(volume_find_user(place.domain, base, NULL, &user, &error));
        g_assert_no_error(error);
        g_assert_cmpstr(user, ==, rows[i].uses ? top : NULL);
        g_clear_pointer(&user, g_free);
        g_assert_true(volume_find_user(place.domain, base, ignore, &user, &error));
        g_assert_null(user);

        g_assert_cmpint(volume_delete(place.domain, "op1", base, TRASH_EMPTY, &error), ==,
                        !rows[i].uses);
        g_assert_cmpint(exists(&place, "base.qcow2"), ==, rows[i].uses);
        if (rows[i].uses) {
            g_assert_error(error, ERR, ERR_REFUSED);
            g_assert_nonnull(strstr(error->message, top));
        }
        g_autofree char *trash = listing(&place, ".livemerge/trash");
        g_assert_cmpstr(trash, ==, "");
    }
}

/* Not knowing is not "nobody". */
static void
test_volume_unreadable_candidate(void)
{
    static const char *const backings[] = { NULL, "json:{\"file\":1}", "nbd://h/x" };

    for (size_t i = 0; i < G_N_ELEMENTS(backings); i++) {
        g_auto(Place) place = place_make();
        g_autoptr(GError) error = NULL;
        g_autofree char *base = at(&place, "base.qcow2");

        create(&place, "base.qcow2", NULL);
        put_header(&place, "odd.qcow2", backings[i]);
        g_assert_false(volume_delete(place.domain, "op1", base, TRASH_EMPTY, &error));
        g_test_message("%s", error->message);
        g_assert_error(error, ERR, ERR_STORAGE);
        g_assert_nonnull(
            strstr(error->message, "nothing was deleted: cannot tell whether anything stands on "));
        g_assert_nonnull(strstr(error->message, "odd.qcow2"));
        g_assert_true(exists(&place, "base.qcow2"));
    }
}

/* Several chains in one walk: each set ignores its own files only. */
static void
test_volume_users_of_several(void)
{
    g_auto(Place) place = place_make();
    g_autoptr(GError) error = NULL;
    g_autofree char *base = at(&place, "base.qcow2");
    g_autofree char *one = at(&place, "one.qcow2");
    g_autofree char *two = at(&place, "two.qcow2");
    g_autofree char *top = at(&place, "top.qcow2");
    const char *const first[] = { base, one, NULL }, *const second[] = { base, two, NULL };
    const char *const first_own[] = { base, one, NULL }, *const second_own[] = { two, base, NULL };
    char *users[2][2] = { 0 };
    VolumeUsers sets[] = { { first, first_own, users[0] }, { second, second_own, users[1] } };

    create(&place, "base.qcow2", NULL);
    create(&place, "one.qcow2", "base.qcow2");
    create(&place, "two.qcow2", "base.qcow2");
    create(&place, "top.qcow2", "two.qcow2");
    g_assert_true(volume_find_users(place.domain, sets, 2, &error));
    g_assert_no_error(error);
    g_assert_cmpstr(users[0][0], ==, two);
    g_assert_cmpstr(users[0][1], ==, NULL);
    g_assert_cmpstr(users[1][0], ==, one);
    g_assert_cmpstr(users[1][1], ==, top);
    for (int i = 0; i < 4; i++)
        g_clear_pointer(&users[i / 2][i % 2], g_free);

    /* beside a file that nobody understands the answers are those that are certain */
    put_header(&place, "odd.qcow2", "nbd://h/x");
    g_assert_false(volume_find_users(place.domain, sets, 2, &error));
    g_assert_error(error, ERR, ERR_STORAGE);
    g_assert_nonnull(strstr(error->message, "odd.qcow2"));
    g_assert_cmpstr(users[1][1], ==, top);
    for (int i = 0; i < 4; i++)
        g_free(users[i / 2][i % 2]);
}

/* What lies beside volumes is passed by: it is no qcow2, or no file. */
static void
test_volume_odd_neighbours(void)
{
    g_auto(Place) place = place_make();
    g_autoptr(GError) error = NULL;
    g_autofree char *base = at(&place, "base.qcow2");
    g_autofree char *fifo = at(&place, "fifo");
    g_autofree char *device = at(&place, "device");
    g_autofree char *loop = at(&place, "loop");
    g_autofree char *dangling = at(&place, "dangling");
    g_autofree char *user = NULL;

    create(&place, "base.qcow2", NULL);
    put(&place, "empty", "", 0);
    put(&place, "short", "QFI", 3);
    put(&place, "disk.raw", "not a qcow2 at all", -1);
    put(&place, "name\nwith\tblanks \xff", "x", 1);
    put(&place, ".livemerge/trash/other.0.x", "QFI\xfb garbage", -1); /* not looked at */
    g_assert_cmpint(mkfifo(fifo, 0600), ==, 0);
    if (mknod(device, S_IFCHR | 0600, makedev(1, 5)) < 0)
        g_test_message("no device made (not root), going on without");
    g_assert_cmpint(symlink(".", loop), ==, 0);
    g_assert_cmpint(symlink("nowhere", dangling), ==, 0);
    g_assert_true(volume_find_user(place.domain, base, NULL, &user, &error));
    g_assert_no_error(error);
    g_assert_null(user);
    g_assert_true(volume_delete(place.domain, "op1", base, TRASH_EMPTY, &error));
    g_assert_false(exists(&place, "base.qcow2"));
}

static void
test_volume_delete_refuses(void)
{
    g_auto(Place) place = place_make();
    g_autofree char *outside = g_dir_make_tmp("livemerge-outside-XXXXXX", NULL);
    g_autofree char *outside_file = g_build_filename(outside, "x.qcow2", NULL);
    g_autofree char *link_path = at(&place, "link.qcow2");
    g_autofree char *dir_path = at(&place, "dir");
    g_autofree char *ours = at(&place, ".livemerge/domain.json");
    g_autofree char *escape = g_build_filename(place.dir, "dir/../..", "x.qcow2", NULL);
    g_autofree char *good = at(&place, "base.qcow2");
    /* clang-format off */
    const struct { const char *op, *path; ErrorCode code; } rows[] = {
        { "op1",  outside_file, ERR_REFUSED }, { "op1", link_path, ERR_REFUSED },
        { "op1",  dir_path,     ERR_REFUSED }, { "op1", ours,      ERR_REFUSED },
        { "op1",  escape,       ERR_REFUSED }, { "../x", good,     ERR_INVALID },
        { "a/b",  good,         ERR_INVALID }, { "",     good,     ERR_INVALID },
        { "a.b",  good,         ERR_INVALID }, { NULL,   good,     ERR_INVALID },
    };
    /* clang-format on */
    create(&place, "base.qcow2", NULL);
    g_assert_cmpint(mkdir(dir_path, 0700), ==, 0);
    g_assert_cmpint(symlink("base.qcow2", link_path), ==, 0);
    g_assert_true(g_file_set_contents(outside_file, "x", 1, NULL));
    for (size_t i = 0; i < G_N_ELEMENTS(rows); i++) {
        g_autoptr(GError) error = NULL;
        g_test_message("row %zu: %s", i, rows[i].path);
        g_assert_false(volume_delete(place.domain, rows[i].op, rows[i].path, TRASH_EMPTY, &error));
        g_assert_error(error, ERR, (int)rows[i].code);
    }
    g_assert_true(exists(&place, "base.qcow2") && exists(&place, "link.qcow2"));
    g_assert_true(exists(&place, ".livemerge/domain.json"));
    g_assert_true(g_file_test(outside_file, G_FILE_TEST_EXISTS));
    tree_remove(outside);
}

/* Stopped at every point, a repeat finishes; and it may be repeated when all is done. */
static void
test_volume_delete_stopped_anywhere(void)
{
    int n;

    for (n = 0; n < 100; n++) {
        g_auto(Place) place = place_make();
        g_autoptr(GError) error = NULL;
        g_autofree char *base = at(&place, "base.qcow2");

        create(&place, "base.qcow2", NULL);
        fault_arm(n);
        bool deleted = volume_delete(place.domain, "op1", base, TRASH_EMPTY, &error);
        bool fired = fault_fired();
        fault_arm(-1);
        if (fired)
            g_assert_error(error, ERR, ERR_STOPPED);
        else
            g_assert_true(deleted);
        g_clear_error(&error);
        for (int turn = 0; turn < 2; turn++) {
            g_assert_true(volume_delete(place.domain, "op1", base, TRASH_EMPTY, &error));
            g_assert_no_error(error);
        }
        g_autofree char *trash = listing(&place, ".livemerge/trash");
        g_assert_cmpstr(trash, ==, "");
        g_assert_false(exists(&place, "base.qcow2"));
        if (!fired)
            break;
    }
    g_assert_cmpint(n, ==, 2);
}

static void
test_trash(void)
{
    g_auto(Place) place = place_make();
    g_autoptr(GError) error = NULL;
    g_autofree char *one = at(&place, "a/x.qcow2");
    g_autofree char *two = at(&place, "b/x.qcow2");
    g_autofree char *other = at(&place, "y.qcow2");
    g_autofree char *only = NULL, *both = NULL, *rest = NULL;

    create(&place, "a/x.qcow2", NULL);
    create(&place, "b/x.qcow2", NULL); /* the same name: must not replace the first */
    create(&place, "y.qcow2", NULL);
    g_assert_true(volume_delete(place.domain, "op1", one, TRASH_LATER, &error));
    g_assert_true(volume_delete(place.domain, "op1", one, TRASH_LATER, &error));
    only = listing(&place, ".livemerge/trash");
    g_assert_cmpstr(only, ==, "op1.0.x.qcow2");
    g_assert_true(volume_delete(place.domain, "op1", two, TRASH_LATER, &error));
    g_assert_true(volume_delete(place.domain, "op10", other, TRASH_LATER, &error));
    g_assert_no_error(error);
    both = listing(&place, ".livemerge/trash");
    g_assert_cmpstr(both, ==, "op1.0.x.qcow2 op1.1.x.qcow2 op10.0.y.qcow2");
    for (int turn = 0; turn < 2; turn++)
        g_assert_true(trash_empty(place.domain, "op1", &error));
    rest = listing(&place, ".livemerge/trash");
    g_assert_cmpstr(rest, ==, "op10.0.y.qcow2");
    g_assert_false(trash_empty(place.domain, "..", &error));
    g_assert_error(error, ERR, ERR_INVALID);
}

static void
test_volume_sync(void)
{
    g_auto(Place) place = place_make();
    g_autoptr(GError) error = NULL;
    g_autofree char *base = at(&place, "base.qcow2");

    g_assert_false(volume_sync(base, &error));
    g_assert_error(error, ERR, ERR_STORAGE);
    g_assert_nonnull(strstr(error->message, base));
    g_clear_error(&error);
    create(&place, "base.qcow2", NULL);
    g_assert_true(volume_sync(base, &error));
    g_assert_no_error(error);
}

/* ---- locks */

static void
test_start_lock(void)
{
    g_auto(Place) place = place_make();
    g_autoptr(GError) error = NULL;
    int held = vm_start_lock(place.domain, VM_ID, 0, &error);

    g_assert_no_error(error);
    g_assert_cmpint(vm_start_lock(place.domain, VM_ID, 20, &error), ==, -1);
    g_assert_error(error, ERR, ERR_BUSY);
    g_assert_nonnull(strstr(error->message, VM_ID));
    g_clear_error(&error);
    autofd int other = vm_start_lock(place.domain, VM_ID2, 0, &error); /* another VM is free */
    g_assert_cmpint(other, >=, 0);
    close(held);
    autofd int again = vm_start_lock(place.domain, VM_ID, 0, &error);
    g_assert_no_error(error);
    g_assert_cmpint(again, >=, 0);
    g_assert_cmpint(vm_start_lock(place.domain, "../x", 0, &error), ==, -1);
    g_assert_error(error, ERR, ERR_INVALID);
}

/* Runs qemu-io on the image; true if it succeeded. */
static bool
qemu_io(const char *path, const char *option, const char *command)
{
    const char *argv[] = { "qemu-io", "-f", "qcow2", "-c", command, path, option, NULL };
    g_autoptr(GError) error = NULL;
    g_autofree char *out = NULL, *err = NULL;
    int status = -1;

    g_spawn_sync(NULL, (char **)argv, NULL, G_SPAWN_SEARCH_PATH, NULL, NULL, &out, &err, &status,
                 &error);
    g_assert_no_error(error);
    return status == 0 && strstr(err, "lock") == NULL;
}

/* Keeps the image open for writing until its standard input is closed. */
static int
open_in_qemu(const char *path, GPid *ret_pid)
{
    const char *argv[] = { "qemu-io", "-f", "qcow2", path, NULL };
    g_autoptr(GError) error = NULL;
    int in = -1;

    g_spawn_async_with_pipes(NULL, (char **)argv, NULL,
                             G_SPAWN_SEARCH_PATH | G_SPAWN_STDOUT_TO_DEV_NULL |
                                 G_SPAWN_DO_NOT_REAP_CHILD,
                             NULL, NULL, ret_pid, &in, NULL, NULL, &error);
    g_assert_no_error(error);
    return in;
}

/* The one that a real QEMU keeps to. */
static void
test_image_lock(void)
{
    g_auto(Place) place = place_make();
    g_autofree char *path = g_build_filename(place.dir, "a.q", NULL);
    g_autoptr(GError) error = NULL;
    int64_t until = g_get_monotonic_time() + 30 * G_TIME_SPAN_SECOND;
    GPid pid = 0;

    need_tool("qemu-io");
    g_assert_true(qcow2_create(path, MIB, NULL, NULL, 0600, -1, -1, &error));
    int held = image_lock(path, &error);
    g_assert_no_error(error);
    g_assert_false(qemu_io(path, NULL, "write -P 1 0 4k"));
    g_assert_true(qemu_io(path, "-r", "read -P 0 0 4k"));
    close(held);
    g_assert_true(qemu_io(path, NULL, "write -P 1 0 4k"));
    g_assert_true(qemu_io(path, "-r", "read -P 1 0 4k"));

    int in = open_in_qemu(path, &pid);
    while ((held = image_lock(path, &error)) >= 0) { /* it is not there yet */
        close(held);
        g_assert_cmpint(g_get_monotonic_time(), <, until);
        g_usleep(20000);
    }
    g_assert_error(error, ERR, ERR_BUSY);
    g_clear_error(&error);
    close(in);
    g_assert_cmpint(waitpid(pid, NULL, 0), ==, pid);
    held = image_lock(path, &error);
    g_assert_no_error(error);
    close(held);
    g_assert_cmpint(image_lock("/nonexistent", &error), ==, -1);
    g_assert_error(error, ERR, ERR_STORAGE);
}

int
main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/volume/users", test_volume_users);
    g_test_add_func("/volume/unreadable-candidate", test_volume_unreadable_candidate);
    g_test_add_func("/volume/odd-neighbours", test_volume_odd_neighbours);
    g_test_add_func("/volume/users-of-several", test_volume_users_of_several);
    g_test_add_func("/volume/delete-refuses", test_volume_delete_refuses);
    g_test_add_func("/volume/delete-stopped-anywhere", test_volume_delete_stopped_anywhere);
    g_test_add_func("/volume/sync", test_volume_sync);
    g_test_add_func("/volume/trash", test_trash);
    g_test_add_func("/lock/start", test_start_lock);
    g_test_add_func("/lock/image", test_image_lock);
    return g_test_run();
}
