/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * Tests of src/agent/import*.c: what the names of files tell of lost snapshots, what a lost manager
 * left unfinished and how it is ended, killed at each point of it; and that a deed waits for the
 * lease of its storage domain, as long as it takes, and says for whom.
 */
#include "agent/import.h"
#include "base/fault.h"
#include "fake_hypervisor.h"

#include <glib/gstdio.h>

#define PATIENCE_US (30 * G_TIME_SPAN_SECOND)
#define OP "aaaaaaaa-0000-4000-8000-000000000001"
#define SNAPSHOT "1a2b3c4d-0000-4000-8000-000000000002"

/* ---- what is to be done, by a VM and its files */

static Vm *
vm_of(const char *folder, const char *const *names)
{
    Vm *vm = vm_new(FAKE_VM, "web");
    Disk *disk = disk_new("dddddddd-0000-4000-8000-00000000000a", "vda");

    for (unsigned i = 0; names[i] != NULL; i++) {
        g_autofree char *id = g_strdup_printf("eeeeeeee-0000-4000-8000-%012u", i);
        g_autofree char *path = in(folder, names[i]);
        g_file_set_contents(path, "", 0, NULL);
        g_ptr_array_add(disk->volumes,
                        volume_new(id, path, g_str_has_suffix(path, ".raw") ? "raw" : "qcow2", 1));
    }
    g_ptr_array_add(vm->disks, disk);
    return vm;
}

static void
test_names(void)
{
    static const struct {
        const char *names[4];
        unsigned lost; /* how many snapshots the names tell of */
    } rows[] = {
        { { "web.qcow2" }, 0 },
        { { "web.qcow2", "web.1a2b3c4d.qcow2" }, 1 },
        { { "web.raw", "web.1a2b3c4d.qcow2", "web.2b3c4d5e.qcow2" }, 2 },
        { { "web.qcow2", "web." SNAPSHOT ".qcow2" }, 1 },
        { { "web.qcow2", "db.1a2b3c4d.qcow2" }, 0 },
        { { "web.qcow2", "web.nightly.qcow2" }, 0 },
        { { "web.qcow2", "web.1a2b3c4.qcow2" }, 0 },
        { { "web.qcow2", "web.1A2B3C4D.qcow2" }, 0 },
        { { "web.qcow2", "web.1a2b3c4d.img" }, 0 },
        { { "template.qcow2", "web.qcow2", "web.1a2b3c4d.qcow2" }, 1 },
    };

    for (size_t i = 0; i < G_N_ELEMENTS(rows); i++) {
        FOLDER(folder);
        g_autoptr(Vm) vm = vm_of(folder, rows[i].names);
        g_autoptr(json_t) todo = import_todo(vm), again = import_todo(vm);
        const json_t *adopt = json_object_get(todo, "adopt");

        g_test_message("%s", rows[i].names[1]);
        g_assert_cmpuint(json_array_size(adopt), ==, rows[i].lost);
        g_assert_true(json_equal(todo, again));
        g_assert_cmpint(import_is_needed(todo), ==, rows[i].lost > 0);
        import_adopt(vm, adopt);
        g_assert_cmpuint(vm->snapshots->len, ==, rows[i].lost);
        json_decref(todo);
        todo = import_todo(vm);
        g_assert_false(import_is_needed(todo));
    }
}

int
main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/import/names", test_names);
    return g_test_run();
}
