/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * Tests of src/storage/stored.c: what is remembered of a large manifest must never stand for what
 * is in the file.
 */
#include "storage/stored.h"

#include "../lib/image_tools.h"
#include "storage_domain.h"

#include <sys/stat.h>

#define VM_ID "11111111-2222-3333-4444-555555555555"
#define VOLUMES 100 /* enough to be kept: over 16 KiB of text */

static char *
file_of(const Domain *domain)
{
    return g_strdup_printf("%s/.livemerge/vms/" VM_ID ".json", domain->path);
}

static Vm *
large_vm(const char *name)
{
    Vm *vm = vm_new(VM_ID, name);
    Disk *disk = disk_new("d1", "vda");

    g_ptr_array_add(vm->disks, disk);
    for (unsigned i = 0; i < VOLUMES; i++) {
        g_autofree char *id = g_strdup_printf("v%u", i);
        g_autofree char *path = g_strdup_printf("/dom/a-volume-of-the-vm.%u.qcow2", i);
        g_ptr_array_add(disk->volumes, volume_new(id, path, "qcow2", MIB));
    }
    return vm;
}

static void
save(const Domain *domain, Vm *vm)
{
    g_autoptr(GError) error = NULL;

    manifest_save(domain, vm, &error);
    g_assert_no_error(error);
}

static void
assert_name(const Domain *domain, const char *name)
{
    g_autoptr(GError) error = NULL;
    g_autoptr(Vm) vm = manifest_load(domain, VM_ID, &error);

    g_assert_no_error(error);
    g_assert_cmpstr(vm->name, ==, name);
    g_assert_cmpuint(((Disk *)vm->disks->pdata[0])->volumes->len, ==, VOLUMES);
}

/* Replaces a text in the file, which stays the same file of the same size and times. */
static void
forge(const char *file, const char *from, const char *to)
{
    g_autofree char *text = NULL;
    struct stat st;

    g_assert_cmpint(stat(file, &st), ==, 0);
    g_assert_true(g_file_get_contents(file, &text, NULL, NULL));
    char *found = strstr(text, from);
    g_assert_nonnull(found);
    g_assert_cmpuint(strlen(from), ==, strlen(to));
    poke_text(file, (uint64_t)(found - text), to, strlen(to));
    const struct timespec times[] = { st.st_atim, st.st_mtim };
    g_assert_cmpint(utimensat(AT_FDCWD, file, times, 0), ==, 0);
}

static void
test_damage_is_seen(void)
{
    FOLDER(folder);
    g_autoptr(Domain) domain = domain_in(folder);
    g_autoptr(Vm) vm = large_vm("web1");
    g_autofree char *file = file_of(domain);

    save(domain, vm);
    for (int i = 0; i < 3; i++) {
        g_autoptr(GError) error = NULL;

        assert_name(domain, "web1");
        save(domain, vm); /* nothing to write */
        forge(file, "web1", "web2");
        g_assert_null(manifest_load(domain, VM_ID, &error));
        g_assert_error(error, ERR, ERR_CORRUPT);
        g_clear_error(&error);
        g_assert_false(manifest_save(domain, vm, &error));
        g_assert_error(error, ERR, ERR_CORRUPT);
        forge(file, "web2", "web1");
    }
    assert_name(domain, "web1");
}

/* Another host has the same storage domain. */
static void
test_others_write(void)
{
    FOLDER(folder);
    g_autoptr(Domain) mine = domain_in(folder);
    g_autoptr(Domain) theirs = domain_in(folder);
    g_autoptr(Vm) vm = large_vm("web1");
    g_autoptr(GError) error = NULL;

    save(mine, vm);
    assert_name(mine, "web1");
    for (unsigned i = 0; i < 5; i++) {
        g_autofree char *name = g_strdup_printf("web%u", i + 2);
        g_autoptr(Vm) other = manifest_load(theirs, VM_ID, &error);

        g_assert_no_error(error);
        g_free(other->name);
        other->name = g_strdup(name);
        save(theirs, other);
        assert_name(mine, name);
    }
    g_assert_false(manifest_save(mine, vm, &error));
    g_assert_error(error, ERR, ERR_REFUSED);
    g_clear_error(&error);
    g_assert_true(manifest_sync(mine, VM_ID, &error));
    g_assert_true(manifest_remove(theirs, VM_ID, &error));
    g_assert_null(manifest_load(mine, VM_ID, &error));
    g_assert_no_error(error);
    g_assert_false(manifest_sync(mine, VM_ID, &error)); /* there is nothing that could be durable */
    g_assert_error(error, ERR, ERR_STORAGE);
}

/* Who changes what was loaded changes nothing of what the next one gets. */
static void
test_each_has_its_own(void)
{
    FOLDER(folder);
    g_autoptr(Domain) domain = domain_in(folder);
    g_autoptr(Vm) vm = large_vm("web1");

    save(domain, vm);
    for (int i = 0; i < 2; i++) {
        g_autoptr(Vm) loaded = manifest_load(domain, VM_ID, NULL);

        g_free(loaded->name);
        loaded->name = g_strdup("changed");
        g_ptr_array_set_size(((Disk *)loaded->disks->pdata[0])->volumes, 1);
    }
    assert_name(domain, "web1");
}

/* More than is kept: all are still read right. */
static void
test_many(void)
{
    enum { VMS = 60 };
    FOLDER(folder);
    g_autoptr(Domain) domain = domain_in(folder);

    for (unsigned round = 0; round < 2; round++)
        for (unsigned i = 0; i < VMS; i++) {
            g_autoptr(GError) error = NULL;
            g_autofree char *id = g_strdup_printf("11111111-2222-3333-4444-%012u", i);
            g_autoptr(Vm) vm = round == 0 ? large_vm(id) : manifest_load(domain, id, &error);

            g_assert_no_error(error);
            g_assert_cmpstr(vm->name, ==, id);
            g_free(vm->id);
            vm->id = g_strdup(id);
            save(domain, vm);
            g_assert_cmpint(vm->generation, ==, 1);
        }
}

static void *
load_often(void *data)
{
    for (int i = 0; i < 100; i++)
        assert_name(data, "web1");
    return NULL;
}

static void
test_threads(void)
{
    FOLDER(folder);
    g_autoptr(Domain) domain = domain_in(folder);
    g_autoptr(Vm) vm = large_vm("web1");
    GThread *threads[4];

    save(domain, vm);
    for (size_t i = 0; i < G_N_ELEMENTS(threads); i++)
        threads[i] = g_thread_new("load", load_often, domain);
    for (int i = 0; i < 50; i++) {
        vm->memory = (uint64_t)i + 1;
        save(domain, vm);
    }
    for (size_t i = 0; i < G_N_ELEMENTS(threads); i++)
        g_thread_join(threads[i]);
}

int
main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/stored/damage-is-seen", test_damage_is_seen);
    g_test_add_func("/stored/others-write", test_others_write);
    g_test_add_func("/stored/each-has-its-own", test_each_has_its_own);
    g_test_add_func("/stored/many", test_many);
    g_test_add_func("/stored/threads", test_threads);
    return g_test_run();
}
