/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * Tests of src/storage/salvage.c: the files of a storage domain, its trash, and what is kept for an
 * undo.
 */
#include "storage/salvage.h"

#include "base/clock.h"

#include "../lib/image_tools.h"
#include "storage_domain.h"

#include <glib/gstdio.h>

#define OP "aaaaaaaa-0000-4000-8000-000000000001"
#define VM "11111111-2222-3333-4444-555555555555"

static void
test_files(void)
{
    FOLDER(folder);
    g_autoptr(Domain) domain = domain_in(folder);
    g_autoptr(GError) error = NULL;
    unsigned qcow2 = 0;

    MUST(folder, "mkdir sub");
    g_free(image(folder, "sub/a.qcow2", MIB, NULL, NULL));
    MUST(folder, "touch b.raw .livemerge/trash/x");
    MUST(folder, "ln -s sub/a.qcow2 link");
    MUST(folder, "mkfifo fifo");
    g_autoptr(GPtrArray) files = domain_files(domain, &error);
    g_assert_no_error(error);
    g_assert_cmpuint(files->len, ==, 2);
    for (guint i = 0; i < files->len; i++)
        qcow2 += ((StoredFile *)files->pdata[i])->is_qcow2;
    g_assert_cmpuint(qcow2, ==, 1);

    MUST(folder, "mv .livemerge gone");
    g_assert_null(domain_files(domain, &error));
    g_assert_error(error, ERR, ERR_STORAGE);
}

static void
test_trash(void)
{
    FOLDER(folder);
    g_autoptr(Domain) domain = domain_in(folder);
    g_autofree char *a = image(folder, "a.1.qcow2", MIB, NULL, NULL);
    g_autofree char *b = image(folder, "b", MIB, NULL, NULL);
    g_autoptr(GError) error = NULL;
    const TrashEntry *kept = NULL, *other = NULL;

    g_assert_true(volume_delete(domain, OP, a, TRASH_KEEP, &error));
    g_assert_true(volume_delete(domain, OP, b, TRASH_LATER, &error));
    MUST(folder, "touch .livemerge/trash/nonsense .livemerge/trash/a.b.c .livemerge/trash/keep.x");
    g_autoptr(GPtrArray) list = trash_list(domain, &error);
    g_assert_no_error(error);
    g_assert_cmpuint(list->len, ==, 2);
    for (guint i = 0; i < list->len; i++)
        *(((TrashEntry *)list->pdata[i])->kept ? &kept : &other) = list->pdata[i];
    g_assert_nonnull(kept);
    g_assert_nonnull(other);
    g_assert_cmpstr(kept->op_id, ==, OP);
    g_assert_cmpstr(kept->name, ==, "a.1.qcow2");
    g_assert_cmpstr(other->name, ==, "b");

    /* what is kept, or lies elsewhere, is never purged */
    g_assert_false(trash_purge(domain, kept->path, &error));
    g_assert_error(error, ERR, ERR_REFUSED);
    g_clear_error(&error);
    g_assert_false(trash_purge(domain, a, &error));
    g_clear_error(&error);
    g_assert_true(trash_purge(domain, other->path, &error));
    g_assert_true(trash_purge(domain, other->path, &error));
    g_assert_false(g_file_test(other->path, G_FILE_TEST_EXISTS));

    /* back to where it was; never over another file, never out of the domain */
    g_autofree char *entry = trash_kept(domain, OP, a);
    g_assert_cmpstr(entry, ==, kept->path);
    MUST(folder, "touch a.1.qcow2");
    g_assert_false(trash_restore(domain, entry, a, &error));
    g_assert_error(error, ERR, ERR_EXISTS);
    g_clear_error(&error);
    g_assert_false(trash_restore(domain, entry, "/tmp/x", &error));
    g_assert_error(error, ERR, ERR_REFUSED);
    g_clear_error(&error);
    g_assert_cmpint(g_unlink(a), ==, 0);
    g_assert_true(trash_restore(domain, entry, a, &error));
    g_assert_true(trash_restore(domain, entry, a, &error)); /* a repeat */
    g_assert_true(g_file_test(a, G_FILE_TEST_EXISTS));
    g_assert_null(trash_kept(domain, OP, a));
}

static void
test_undo(void)
{
    FOLDER(folder);
    g_autoptr(Domain) domain = domain_in(folder);
    g_autoptr(GError) error = NULL;

    g_assert_null(undo_get(domain, OP, "x", &error));
    g_assert_no_error(error);
    g_assert_true(undo_put(domain, OP, "x", "one", false, &error));
    g_assert_true(undo_put(domain, OP, "x", "two", false, &error));
    g_autofree char *first = undo_get(domain, OP, "x", &error);
    g_assert_cmpstr(first, ==, "one");
    g_assert_true(undo_put(domain, OP, "x", "two", true, &error));
    g_autofree char *second = undo_get(domain, OP, "x", &error);
    g_assert_cmpstr(second, ==, "two");
    g_assert_false(undo_put(domain, "../x", "x", "one", true, &error));
    g_assert_error(error, ERR, ERR_INVALID);
}

/* What is undone by it moves files and changes definitions: each bit, each length. */
static void
test_spoiled_undo(void)
{
    FOLDER(folder);
    g_autoptr(Domain) domain = domain_in(folder);
    g_autofree char *file = in(folder, ".livemerge/undo/" OP "/undo.json"), *bytes = NULL;
    g_autoptr(json_t) list =
        json_pack("[{s:s, s:s}]", "what", "trashed", "path", "/d/web.9f8e7d6c.qcow2");
    g_autoptr(GError) error = NULL;
    gsize length = 0;

    g_assert_true(undo_put_list(domain, OP, VM, list, &error));
    g_assert_true(g_file_get_contents(file, &bytes, &length, NULL));
    for (gsize i = 0; i < length * 9; i++) {
        g_autoptr(GError) problem = NULL;
        spoil(file, bytes, length, i);
        g_autoptr(json_t) got = undo_get_list(domain, OP, VM, &problem);
        if (got != NULL)
            g_assert_true(json_equal(got, list));
        else
            assert_refused(problem, ERR_CORRUPT, file);
    }
    overwrite(file, bytes, length);
    g_autoptr(json_t) whole = undo_get_list(domain, OP, VM, &error);
    g_assert_true(json_equal(whole, list));
    g_assert_null(undo_get_list(domain, OP, OP, &error));
    g_assert_error(error, ERR, ERR_REFUSED);
}

/* The manifest as it was can be had back, however it was replaced, or damaged before. */
static void
test_manifest(void)
{
    FOLDER(folder);
    g_autoptr(Domain) domain = domain_in(folder);
    g_autofree char *file = in(folder, ".livemerge/vms/" VM ".json");
    g_autoptr(Vm) vm = vm_new(VM, "web");
    g_autofree char *before = NULL, *after = NULL;
    g_autoptr(GError) error = NULL;
    bool kept = true;

    g_assert_true(undo_keep_manifest(domain, OP, VM, &kept, &error));
    g_assert_false(kept);
    g_assert_true(manifest_save(domain, vm, &error));
    g_assert_true(g_file_get_contents(file, &before, NULL, NULL));
    for (unsigned i = 0; i < 2; i++) { /* the second one is a repeat, after the deed */
        g_assert_true(undo_keep_manifest(domain, OP, VM, &kept, &error));
        g_assert_true(kept);
        g_free(vm->name);
        vm->name = g_strdup_printf("other%u", i);
        g_assert_true(manifest_save(domain, vm, &error));
    }
    g_assert_true(undo_return_manifest(domain, OP, VM, &error));
    g_assert_true(undo_return_manifest(domain, OP, VM, &error));
    g_assert_no_error(error);
    g_assert_true(g_file_get_contents(file, &after, NULL, NULL));
    g_assert_cmpstr(before, ==, after);
}

/* ---- what is kept goes one day */

static void
keep(const Domain *domain, const char *op_id, const char *name)
{
    g_autofree char *path = image(domain->path, name, MIB, NULL, NULL);

    g_assert_true(volume_delete(domain, op_id, path, TRASH_KEEP, NULL));
}

static void
test_expire(void)
{
    FOLDER(folder);
    g_autoptr(Domain) domain = domain_in(folder);
    g_autofree char *trash = in(folder, ".livemerge/trash"), *undo = in(folder, ".livemerge/undo");
    g_autoptr(GError) error = NULL;
    int64_t now = clock_wall_ms();
    const int64_t day = 24 * 3600 * INT64_C(1000);
    Expired gone;

    keep(domain, OP, "a.qcow2");
    keep(domain, OP, "needed.qcow2");
    keep(domain, "bbbbbbbb-0000-4000-8000-000000000001", "b.qcow2");
    MUST(folder, "touch .livemerge/trash/something");
    g_free(image_naming(folder, "top.qcow2", "needed.qcow2", "qcow2"));
    g_assert_true(undo_put(domain, OP, "undo.json", "{}", false, &error));
    g_assert_true(
        undo_put(domain, "bbbbbbbb-0000-4000-8000-000000000001", "undo.json", "{}", false, &error));
    clock_fake(now + 7 * day - 60 * 1000);
    g_assert_true(trash_expire(domain, 7, &gone, &error));
    g_assert_cmpuint(gone.files + gone.undos, ==, 0);

    clock_fake_advance(2 * 60 * 1000);
    g_assert_true(trash_expire(domain, 7, &gone, &error));
    g_assert_no_error(error);
    g_assert_cmpuint(gone.files, ==, 2);
    g_assert_cmpuint(gone.undos, ==, 1); /* the other one could still put a file back */
    g_assert_cmpuint(gone.bytes, >, 0);
    MUST(folder, "test -e .livemerge/trash/something");
    MUST(folder, "test -e .livemerge/trash/keep." OP ".0.needed.qcow2");
    MUST(folder, "test -e .livemerge/undo/" OP "/undo.json");
    MUST(folder, "test ! -e .livemerge/undo/bbbbbbbb-0000-4000-8000-000000000001");

    MUST(folder, "rm top.qcow2");
    g_assert_true(trash_expire(domain, 7, &gone, &error));
    g_assert_cmpuint(gone.files, ==, 1);
    g_assert_cmpuint(gone.undos, ==, 1);
    g_assert_true(trash_expire(domain, 7, &gone, &error));
    g_assert_cmpuint(gone.files + gone.undos, ==, 0);

    MUST(folder, "mv .livemerge gone");
    g_assert_false(trash_expire(domain, 7, &gone, &error));
    g_assert_error(error, ERR, ERR_STORAGE);
    clock_fake(now);
}

int
main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/salvage/files", test_files);
    g_test_add_func("/salvage/trash", test_trash);
    g_test_add_func("/salvage/undo", test_undo);
    g_test_add_func("/salvage/undo-spoiled", test_spoiled_undo);
    g_test_add_func("/salvage/manifest", test_manifest);
    g_test_add_func("/salvage/expire", test_expire);
    return g_test_run();
}
