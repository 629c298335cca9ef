/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * Tests of src/storage: domains, rates, storage that is away or full.
 */
#include "storage_manifest.h"

#include <sched.h>
#include <sys/mount.h>

/* ---- domains */

static void
test_domain_open(void)
{
    g_auto(Place) place = place_make();
    g_autoptr(GError) error = NULL;
    g_autofree char *last = g_path_get_basename(place.dir);
    g_autoptr(Domain) again = domain_open(place.dir, NULL, &error);
    g_autoptr(Domain) named = domain_open(place.dir, "gold", &error);
    g_autofree char *slash = g_strconcat(place.dir, "/./", NULL);
    g_autoptr(Domain) other_name = domain_open(slash, NULL, &error);
    struct stat st;

    g_assert_no_error(error);
    g_assert_true(id_is_valid(place.domain->id));
    g_assert_cmpstr(place.domain->id, ==, again->id);
    g_assert_cmpstr(place.domain->id, ==, named->id);
    g_assert_cmpstr(place.domain->name, ==, last);
    g_assert_cmpstr(named->name, ==, "gold");
    g_assert_cmpstr(other_name->path, ==, place.domain->path);
    g_autofree char *folder = at(&place, ".livemerge");
    g_assert_cmpint(stat(folder, &st), ==, 0);
    g_assert_cmpint(st.st_mode & 0777, ==, 0700);
    g_autofree char *names = listing(&place, ".livemerge");
    g_assert_cmpstr(names, ==, "domain.json trash vms");
}

static void
test_domain_refuses(void)
{
    /* clang-format off */
    static const struct { const char *text; ErrorCode code; } rows[] = {
        { "",                                                                    ERR_CORRUPT },
        { "{",                                                                   ERR_CORRUPT },
        { "[]",                                                                  ERR_CORRUPT },
        { "{\"format\": 1}",                                                     ERR_CORRUPT },
        { "{\"format\": 1, \"id\": \"x\"}",                                      ERR_CORRUPT },
        { "{\"format\": 0, \"id\": \"" VM_ID "\", \"name\": \"x\"}",             ERR_CORRUPT },
        { "{\"format\": 2, \"id\": \"" VM_ID "\", \"name\": \"x\"}",             ERR_REFUSED },
        { "{\"format\": 1, \"id\": \"" VM_ID "\", \"name\": \"x\"}",             ERR_LAST },
    };
    /* clang-format on */
    g_auto(Place) place = place_make();

    for (size_t i = 0; i < G_N_ELEMENTS(rows); i++) {
        g_autoptr(GError) error = NULL;

        put(&place, ".livemerge/domain.json", rows[i].text, -1);
        g_autoptr(Domain) domain = domain_open(place.dir, NULL, &error);
        if (rows[i].code == ERR_LAST) {
            g_assert_no_error(error);
            g_assert_cmpstr(domain->name, ==, "x");
            continue;
        }
        g_assert_null(domain);
        g_assert_error(error, ERR, (int)rows[i].code);
        g_assert_nonnull(strstr(error->message, place.dir));
    }
}

static void
test_domain_missing(void)
{
    g_auto(Place) place = place_make();
    g_autoptr(GError) error = NULL;
    g_autofree char *none = at(&place, "none");
    g_autofree char *file = at(&place, "file");

    g_assert_null(domain_open(none, NULL, &error));
    g_assert_error(error, ERR, ERR_NOT_FOUND);
    g_clear_error(&error);
    put(&place, "file", "x", 1);
    g_assert_null(domain_open(file, NULL, &error));
    g_assert_error(error, ERR, ERR_STORAGE);
}

static gpointer
open_in_thread(gpointer dir)
{
    g_autoptr(GError) error = NULL;
    Domain *domain = domain_open(dir, NULL, &error);

    g_assert_no_error(error);
    return domain;
}

/* Several hosts find a new directory in the same moment: they agree on one id. */
static void
test_domain_made_by_many(void)
{
    for (int round = 0; round < 10; round++) {
        g_autofree char *dir = g_dir_make_tmp("livemerge-storage-XXXXXX", NULL);
        GThread *threads[6];
        g_autofree char *id = NULL;

        for (size_t i = 0; i < G_N_ELEMENTS(threads); i++)
            threads[i] = g_thread_new("opener", open_in_thread, dir);
        for (size_t i = 0; i < G_N_ELEMENTS(threads); i++) {
            g_autoptr(Domain) domain = g_thread_join(threads[i]);
            if (id == NULL)
                id = g_strdup(domain->id);
            g_assert_cmpstr(domain->id, ==, id);
        }
        tree_remove(dir);
    }
}

static void
test_domain_holds(void)
{
    /* clang-format off */
    static const struct { const char *path; bool holds; } rows[] = {
        { "a",              true },   { "sub/b",         true },
        { "not-yet",        true },   { "sub/not-yet",   true },
        { "none/not-yet",   false },  { ".",             false },
        { "../x",           false },  { "sub/../../x",   false },
        { "inside/b",       true },   { "outside/passwd", false },
        { "dangling",       true },   { "sub/../a",      true },
    };
    /* clang-format on */
    g_auto(Place) place = place_make();
    g_autofree char *sub = at(&place, "sub");
    g_autofree char *inside = at(&place, "inside");
    g_autofree char *outside = at(&place, "outside");
    g_autofree char *sibling = g_strconcat(place.domain->path, "-sibling/a", NULL);
    uint64_t space = 0, total = 0;

    g_assert_cmpint(mkdir(sub, 0700), ==, 0);
    g_assert_cmpint(symlink("sub", inside), ==, 0);
    g_assert_cmpint(symlink("/etc", outside), ==, 0);
    put(&place, "a", "", 0);
    put(&place, "sub/b", "", 0);
    for (size_t i = 0; i < G_N_ELEMENTS(rows); i++) {
        g_autofree char *path = g_strconcat(place.dir, "/", rows[i].path, NULL);
        g_test_message("%s", rows[i].path);
        g_assert_cmpint(domain_holds(place.domain, path), ==, rows[i].holds);
    }
    g_assert_false(domain_holds(place.domain, sibling));
    g_assert_true(domain_space(place.domain, &space, &total, NULL));
    g_assert_cmpuint(total, >, 0);
    g_assert_cmpuint(space, <=, total);
    g_assert_true(domain_space(place.domain, NULL, NULL, NULL));
}

/* ---- manifests */

/* An empty mount point is not "no manifest", and not "the volume is gone". */
static void
test_unmounted(void)
{
    g_auto(Place) place = place_make();
    g_autoptr(Vm) vm = make_vm("one");
    g_autofree char *folder = at(&place, ".livemerge");
    g_autofree char *volume = at(&place, "gone.qcow2");
    g_autofree char *user = NULL;
    GError *errors[6] = { NULL };

    save(&place, vm);
    tree_remove(folder);
    g_assert_null(manifest_load(place.domain, VM_ID, &errors[0]));
    g_assert_false(manifest_save(place.domain, vm, &errors[1]));
    g_assert_null(manifest_list(place.domain, &errors[2]));
    g_assert_false(manifest_remove(place.domain, VM_ID, &errors[3]));
    g_assert_false(volume_delete(place.domain, "op1", volume, TRASH_EMPTY, &errors[4]));
    g_assert_false(volume_find_user(place.domain, volume, NULL, &user, &errors[5]));
    for (size_t i = 0; i < G_N_ELEMENTS(errors); i++) {
        g_assert_error(errors[i], ERR, ERR_STORAGE);
        g_assert_nonnull(strstr(errors[i]->message, "mounted"));
        g_clear_error(&errors[i]);
    }
}

/* ---- rates */

static void
assert_guesses(const Rates *rates)
{
    Rates guesses;

    rates_init(&guesses);
    for (int i = 0; i < RATE_LAST; i++) {
        g_assert_cmpfloat(rates->value[i], ==, guesses.value[i]);
        g_assert_cmpuint(rates->samples[i], ==, 0);
    }
}

static void
test_rates(void)
{
    g_auto(Place) place = place_make();
    g_autoptr(GError) error = NULL;
    Rates rates, back;

    g_assert_true(rates_load(place.domain, &rates, &error));
    assert_guesses(&rates);
    g_assert_true(rates_add(&rates, RATE_COPY, 3e9, 2));
    g_assert_true(rates_save(place.domain, &rates, &error));
    g_assert_true(rates_load(place.domain, &back, &error));
    g_assert_cmpfloat(back.value[RATE_COPY], ==, 1.5e9);
    g_assert_cmpuint(back.samples[RATE_COPY], ==, 1);
    g_assert_cmpuint(back.samples[RATE_SHARE], ==, 0);

    /* a damaged file is guesses again, and can be replaced */
    static const char *const texts[] = { "", "{", "[1]", "\"x\"", "{\"rates\": 3", "\xff\xfe" };
    for (size_t i = 0; i < G_N_ELEMENTS(texts); i++) {
        put(&place, ".livemerge/rates.json", texts[i], -1);
        g_assert_false(rates_load(place.domain, &back, &error));
        g_assert_error(error, ERR, ERR_CORRUPT);
        g_assert_nonnull(strstr(error->message, "rates.json"));
        g_clear_error(&error);
        assert_guesses(&back);
    }
    put(&place, ".livemerge/rates.json", "{\"rates\": {\"copy\": 7}}", -1);
    g_assert_true(rates_load(place.domain, &back, &error));
    assert_guesses(&back);
    g_assert_true(rates_save(place.domain, &rates, &error));
    g_assert_true(rates_load(place.domain, &back, &error));
    g_assert_cmpfloat(back.value[RATE_COPY], ==, 1.5e9);
    g_assert_cmpuint(domain_reserve(place.domain, 1000), ==, 50);
    g_assert_cmpuint(domain_reserve(place.domain, UINT64_C(1) << 40), ==, UINT64_C(1) << 30);
}

/* ---- a full disk */

/* A small tmpfs that only this process sees; false = we may not (no root). */
static bool
mount_small(const char *dir, const char *options)
{
    static bool own_namespace;

    if (!own_namespace &&
        (unshare(CLONE_NEWNS) < 0 || mount("none", "/", NULL, MS_REC | MS_PRIVATE, NULL) < 0)) {
        g_test_skip("needs root, to mount a small file system");
        return false;
    }
    own_namespace = true;
    g_assert_cmpint(mount("tmpfs", dir, "tmpfs", 0, options), ==, 0);
    return true;
}

/* Fills the disk but for so many pages. */
static void
fill_disk(const char *dir, long pages_left)
{
    g_autofree char *ballast = g_build_filename(dir, "ballast", NULL);
    autofd int fd = open(ballast, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    char page[4096] = { 1 };
    off_t size = 0;

    while (write(fd, page, sizeof page) == (ssize_t)sizeof page)
        size += (off_t)sizeof page;
    g_assert_cmpint(errno, ==, ENOSPC);
    g_assert_cmpint(ftruncate(fd, MAX(size - pages_left * 4096, 0)), ==, 0);
}

static void
test_full_disk(void)
{
    g_autofree char *dir = g_dir_make_tmp("livemerge-full-XXXXXX", NULL);
    long pages;

    if (!mount_small(dir, "size=512k")) {
        g_rmdir(dir);
        return;
    }
    {
        g_autoptr(GError) error = NULL;
        Place place = { .dir = dir, .domain = domain_open(dir, NULL, &error) };
        g_autoptr(Domain) domain = place.domain;
        g_autoptr(Vm) vm = make_vm("old");
        g_autofree char *large = g_strnfill(20000, 'x'); /* several pages */

        g_assert_no_error(error);
        save(&place, vm);
        g_free(vm_snapshot(vm, "s1")->config);
        vm_snapshot(vm, "s1")->config = g_steal_pointer(&large);
        rename_snapshot(vm, "new");
        for (pages = 0; pages < 30; pages++) {
            g_autoptr(GError) full = NULL;

            fill_disk(dir, pages);
            if (manifest_save(domain, vm, &full))
                break;
            g_test_message("%ld pages left: %s", pages, full->message);
            g_assert_error(full, ERR, ERR_NO_SPACE);
            g_assert_nonnull(strstr(full->message, VM_ID ".json (what was there is untouched)"));
            g_assert_cmpint(vm->generation, ==, 1);
            g_autoptr(Vm) old = load(&place);
            g_assert_cmpstr(stored_name(old), ==, "old");
            g_autofree char *names = listing(&place, ".livemerge/vms");
            g_assert_cmpstr(names, ==, VM_ID ".json");
        }
        g_assert_cmpint(pages, >=, 5);
        g_assert_cmpint(pages, <, 30);
        g_autoptr(Vm) new_one = load(&place);
        g_assert_cmpstr(stored_name(new_one), ==, "new");
        g_assert_cmpint(new_one->generation, ==, 2);
    }
    g_assert_cmpint(umount(dir), ==, 0);
    g_rmdir(dir);
}

/* No inode left: neither a manifest, nor a lock, nor a new domain. */
static void
test_full_of_files(void)
{
    g_autofree char *dir = g_dir_make_tmp("livemerge-full-XXXXXX", NULL);

    if (!mount_small(dir, "size=512k,nr_inodes=20")) {
        g_rmdir(dir);
        return;
    }
    {
        g_autoptr(GError) error = NULL;
        Place place = { .dir = dir, .domain = domain_open(dir, NULL, &error) };
        g_autoptr(Domain) domain = place.domain;
        g_autoptr(Vm) vm = make_vm("old");
        g_autofree char *fresh = g_build_filename(dir, "fresh", NULL);

        g_assert_no_error(error);
        save(&place, vm);
        rename_snapshot(vm, "new");
        g_assert_cmpint(mkdir(fresh, 0700), ==, 0);
        for (int i = 0; i < 30; i++) {
            g_autofree char *path = g_strdup_printf("%s/%d", dir, i);
            autofd int fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
            if (fd < 0)
                break;
        }
        g_assert_false(manifest_save(domain, vm, &error));
        g_assert_error(error, ERR, ERR_NO_SPACE);
        g_clear_error(&error);
        g_autoptr(Vm) old = load(&place);
        g_assert_cmpstr(stored_name(old), ==, "old");
        g_assert_cmpint(vm_start_lock(domain, VM_ID, 0, &error), ==, -1);
        g_assert_error(error, ERR, ERR_NO_SPACE);
        g_clear_error(&error);
        g_assert_null(domain_open(fresh, NULL, &error));
        g_assert_error(error, ERR, ERR_NO_SPACE);
        g_clear_error(&error);

        for (int i = 0; i < 5; i++) { /* room again: the half-made domain is finished */
            g_autofree char *path = g_strdup_printf("%s/%d", dir, i);
            g_unlink(path);
        }
        g_autoptr(Domain) made = domain_open(fresh, NULL, &error);
        g_assert_no_error(error);
        g_assert_nonnull(made);
    }
    g_assert_cmpint(umount(dir), ==, 0);
    g_rmdir(dir);
}

int
main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/domain/open", test_domain_open);
    g_test_add_func("/domain/refuses", test_domain_refuses);
    g_test_add_func("/domain/missing", test_domain_missing);
    g_test_add_func("/domain/made-by-many", test_domain_made_by_many);
    g_test_add_func("/domain/holds", test_domain_holds);
    g_test_add_func("/unmounted", test_unmounted);
    g_test_add_func("/full/disk", test_full_disk);
    g_test_add_func("/full/of-files", test_full_of_files);
    g_test_add_func("/storage/rates", test_rates);
    return g_test_run();
}
