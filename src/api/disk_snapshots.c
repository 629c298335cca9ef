/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * Disk snapshots: the volumes of a disk's chain, each an image of the disk.
 */
#include "api/media.h"
#include "api/routes.h"

#include <string.h>

static bool
query_flag(const Call *call, const char *name)
{
    return flag_from_text(g_hash_table_lookup(call->query, name), false);
}

/* What the VM writes is none, unless it is asked for. */
static void
add_all(const Call *call, json_t *list, const Vm *vm, const Disk *disk, bool include_active)
{
    for (guint i = 0; i < disk->volumes->len; i++)
        if (include_active || i + 1 < disk->volumes->len)
            json_array_append_new(
                list, disk_locked_by_jobs(call, vm, disk_snapshot_document(vm, disk, i)));
}

static bool
each_disk(GPtrArray *vms, const char *id, const Vm **ret_vm, const Disk **ret_disk)
{
    for (guint i = 0; i < vms->len; i++) {
        const Vm *vm = vms->pdata[i];
        for (guint k = 0; k < vm->disks->len; k++) {
            *ret_vm = vm;
            *ret_disk = vm->disks->pdata[k];
            if (g_str_equal((*ret_disk)->id, id))
                return true;
        }
    }
    return false;
}

bool
get_disk_snapshots(Call *call, Reply *reply, GError **error)
{
    g_autoptr(GPtrArray) vms = manager_vms(call->manager);
    json_t *list;
    const Disk *disk;
    const Vm *vm;

    if (!each_disk(vms, call->id, &vm, &disk))
        return error_set(error, ERR_NOT_FOUND, "there is no disk '%s'", call->id);
    list = json_array();
    add_all(call, list, vm, disk, query_flag(call, "include_active"));
    return reply_part(call, reply, "disk_snapshot", list, error);
}

bool
get_disk_snapshot(Call *call, Reply *reply, GError **error)
{
    g_autoptr(GPtrArray) vms = manager_vms(call->manager);
    const Disk *disk;
    const Vm *vm;
    int index;

    if (!each_disk(vms, call->id, &vm, &disk))
        return error_set(error, ERR_NOT_FOUND, "there is no disk '%s'", call->id);
    index = disk_volume_index(disk, call->sub_id);
    if (index < 0)
        return error_set(error, ERR_NOT_FOUND, "disk '%s' has no image '%s'", call->id,
                         call->sub_id);
    reply->body = disk_locked_by_jobs(call, vm, disk_snapshot_document(vm, disk, (guint)index));
    return true;
}

bool
get_domain_disk_snapshots(Call *call, Reply *reply, GError **error)
{
    g_autofree char *parent = g_strdup_printf("/storagedomains/%s", call->id);
    g_autoptr(GPtrArray) vms = manager_vms(call->manager);
    g_autoptr(json_t) domain = NULL;
    const char *root;
    json_t *list;

    if (!api_read(call, parent, &root, &domain, error))
        return false;
    list = json_array();
    for (guint i = 0; i < vms->len; i++) {
        const Vm *vm = vms->pdata[i];
        for (guint k = 0; k < vm->disks->len; k++) {
            const Disk *disk = vm->disks->pdata[k];
            for (guint v = 0; v < disk->volumes->len; v++) {
                g_autofree char *id = storage_domain_id(disk->volumes->pdata[v]);
                bool active = v + 1 == disk->volumes->len;
                if (g_str_equal(id, call->id) && (!active || query_flag(call, "include_active")))
                    json_array_append_new(
                        list, disk_locked_by_jobs(call, vm, disk_snapshot_document(vm, disk, v)));
            }
        }
    }
    return reply_part(call, reply, "disk_snapshot", list, error);
}
