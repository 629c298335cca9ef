/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * Tests of src/base/folder.c: it must say the same as realpath(3), whatever the path looks like.
 */
#include "base/folder.h"

#include "base/cleanup.h"

#include <errno.h>
#include <glib/gstdio.h>
#include <string.h>
#include <sys/stat.h>

/* In a folder of its own: one/file, one/link -> file, one/away -> ../two/file, one/gone -> nothing,
 * one/loop -> loop, two/file, three -> two. */
static char *
make_tree(void)
{
    char *root = g_dir_make_tmp("livemerge-folder-XXXXXX", NULL);

    g_assert_nonnull(root);
    g_assert_cmpint(g_chdir(root), ==, 0);
    g_assert_cmpint(g_mkdir("one", 0700), ==, 0);
    g_assert_cmpint(g_mkdir("two", 0700), ==, 0);
    g_assert_true(g_file_set_contents("one/file", "1", 1, NULL));
    g_assert_true(g_file_set_contents("two/file", "2", 1, NULL));
    g_assert_cmpint(symlink("file", "one/link"), ==, 0);
    g_assert_cmpint(symlink("../two/file", "one/away"), ==, 0);
    g_assert_cmpint(symlink("nothing", "one/gone"), ==, 0);
    g_assert_cmpint(symlink("loop", "one/loop"), ==, 0);
    g_assert_cmpint(symlink("two", "three"), ==, 0);
    return root;
}

static void
remove_tree(char *root)
{
    static const char *const names[] = { "one/file", "two/file", "one/link", "one/away", "one/gone",
                                         "one/loop", "three",    "one",      "two" };

    for (size_t i = 0; i < G_N_ELEMENTS(names); i++)
        g_assert_cmpint(g_remove(names[i]), ==, 0);
    g_assert_cmpint(g_chdir("/"), ==, 0);
    g_assert_cmpint(g_rmdir(root), ==, 0);
    g_free(root);
}

static void
assert_as_realpath(Folder *folder, const char *path)
{
    errno = 0;
    autolibc char *wanted = realpath(path, NULL);
    int wanted_errno = errno;
    errno = 0;
    g_autofree char *real = folder_realpath(folder, path);
    int real_errno = errno;

    g_test_message("%s", path);
    g_assert_cmpstr(real, ==, wanted);
    if (wanted == NULL)
        g_assert_cmpint(real_errno, ==, wanted_errno);
}

static void
test_realpath(void)
{
    static const char *const paths[] = {
        "one/file",
        "one/link",
        "one/away",
        "one/gone",
        "one/loop",
        "one/missing",
        "two/file",
        "one//file",
        "./one/file",
        "two/../one/file",
        "three/file",
        "three/missing",
        "three",
        "three/",
        "one/",
        "one/.",
        "one/..",
        "three/..",
        ".",
        "..",
        "/",
        "//",
        "/tmp",
        "/missing",
        "one/file/",
        "one/file/x",
        "missing/file",
        "",
    };
    char *root = make_tree();
    g_auto(Folder) kept = { 0 };

    /* relative and absolute; with what the one before has left, and without */
    for (size_t i = 0; i < G_N_ELEMENTS(paths) * 2; i++) {
        const char *name = paths[i / 2];
        g_auto(Folder) fresh = { 0 };
        g_autofree char *path =
            i % 2 == 0 || name[0] == '/' ? g_strdup(name) : g_strconcat(root, "/", name, NULL);

        assert_as_realpath(&fresh, path);
        assert_as_realpath(&kept, path);
        assert_as_realpath(&kept, path);
    }
    remove_tree(root);
}

static void
test_resolve(void)
{
    /* clang-format off */
    static const struct { const char *path, *wanted; } rows[] = {
        { "three/missing", "two/missing" },
        { "one/link",      "one/link" },
        { "one/gone",      "one/gone" },
        { "link",          "link" },
        { "missing/file",  NULL },
    };
    /* clang-format on */
    char *root = make_tree();
    autolibc char *here = realpath(".", NULL);
    g_auto(Folder) folder = { 0 };

    for (size_t i = 0; i < G_N_ELEMENTS(rows); i++) {
        g_autofree char *real = folder_resolve(&folder, rows[i].path);
        g_autofree char *wanted =
            rows[i].wanted != NULL ? g_build_filename(here, rows[i].wanted, NULL) : NULL;

        g_test_message("%s", rows[i].path);
        g_assert_cmpstr(real, ==, wanted);
    }
    g_autofree char *top = folder_resolve(&folder, "/vmlinuz");
    g_assert_cmpstr(top, ==, "/vmlinuz");
    remove_tree(root);
}

int
main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/folder/realpath", test_realpath);
    g_test_add_func("/folder/resolve", test_resolve);
    return g_test_run();
}
