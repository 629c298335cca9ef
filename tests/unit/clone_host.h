/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * What the tests of cloning stand on: a VM of three volumes a disk, and a look at its clone.
 */
#pragma once

#include "agent/clone.h"
#include "two_disk_host.h"

#define OP "aaaaaaaa-0000-4000-8000-000000000001"
#define TWIN "99999999-2222-3333-4444-555555555555"

static inline void
host_make(Host *host)
{
    host_make_with(host, "<domain/>");
}

static inline json_t *
clone_of(const char *snapshot_id)
{
    json_t *params = json_pack("{s:s, s:s}", "clone_id", TWIN, "name", "twin");

    json_put_text(params, "snapshot_id", snapshot_id);
    return params;
}

/* ---- looking */

/* Each of its disks is one sound volume that reads as that layer; the manifest and libvirt agree.
 */
static inline void
assert_twin(Host *host, unsigned layer)
{
    g_autoptr(Vm) vm = stored_vm(host, TWIN);

    g_assert_nonnull(vm);
    g_assert_cmpstr(vm->name, ==, "twin");
    g_assert_cmpuint(vm->snapshots->len, ==, 0);
    g_assert_cmpuint(vm->disks->len, ==, 2);
    for (guint i = 0; i < 2; i++) {
        const Disk *disk = vm->disks->pdata[i];
        g_assert_cmpuint(disk->volumes->len, ==, 1);
        g_assert_cmpstr(disk_leaf(disk)->path, ==, host->fake.clone_leaves[i]);
        MUST(host->disks, "qemu-img compare -q -f qcow2 -F raw %s %c.%u.gold",
             disk_leaf(disk)->path, 'a' + (int)i, layer);
        MUST(host->disks, "qemu-img check -q %s", disk_leaf(disk)->path);
    }
    g_assert_cmpuint(images_in(host), ==, 9);
}

static inline void
assert_no_twin(Host *host)
{
    g_autoptr(Vm) vm = stored_vm(host, TWIN);

    g_assert_null(vm);
    g_assert_null(host->fake.clone);
    g_assert_cmpuint(images_in(host), ==, 7);
}

/* Nothing of it has changed. */
static inline void
assert_source(Host *host)
{
    g_autoptr(Vm) vm = stored_vm(host, FAKE_VM);

    g_assert_cmpuint(vm->snapshots->len, ==, 2);
    g_assert_cmpuint(vm->operations->len, ==, 0);
    for (char disk = 'a'; disk <= 'b'; disk++)
        MUST(host->disks, "qemu-img compare -q -f qcow2 -F raw %c.2.q %c.2.gold", disk, disk);
}

static inline void
assert_fails(Host *host, json_t *take_params, const char *kind, const char *part)
{
    static unsigned count;
    g_autofree char *id = g_strdup_printf("bbbbbbbb-0000-4000-8000-%012u", ++count);
    g_autoptr(json_t) json = do_operation(host, id, kind, take_params, "failed");
    const char *text = json_text(json_object_get(json, "error"), "message");

    if (strstr(text, part) == NULL)
        g_error("'%s' is not in: %s", part, text);
}
