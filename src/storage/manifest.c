/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "base/clock.h"
#include "base/text.h"
#include "storage/domain.h"
#include "storage/files.h"
#include "storage/stored.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* ---- reading */

Vm *
manifest_look(const Domain *domain, const char *vm_id, GError **error)
{
    g_autofree char *file = domain_vm_file(domain, vm_id, "json", error);
    g_auto(Stored) stored = { 0 };
    g_autoptr(Vm) vm = NULL;

    if (file == NULL || !stored_read(domain, file, &stored, error))
        return NULL;
    if (stored.vm == NULL) {
        domain_is_there(domain, error);
        return NULL;
    }
    vm = stored_share_vm(&stored);
    if (!g_str_equal(vm->id, vm_id)) {
        error_set(error, ERR_CORRUPT, "the manifest %s is that of another VM, %s", file, vm->id);
        return NULL;
    }
    return g_steal_pointer(&vm);
}

Vm *
manifest_load(const Domain *domain, const char *vm_id, GError **error)
{
    return vm_unshare(manifest_look(domain, vm_id, error));
}

/* ---- what the volumes below a leaf look like */

static bool
may_be_written(const Vm *vm, const Disk *disk)
{
    for (guint i = 0; i < vm->operations->len; i++)
        if (g_strcmp0(((const OperationRecord *)vm->operations->pdata[i])->disk_id, disk->id) == 0)
            return true;
    return false;
}

/* Durable before the manifest is: after a power loss an older time would be another one's write. */
static void
note_look(Volume *volume)
{
    g_autofree char *now = volume_look(volume->path);

    if (g_strcmp0(now, volume->seen) == 0)
        return;
    g_free(volume->seen);
    volume->seen =
        now != NULL && volume_sync_data(volume->path, NULL) ? g_steal_pointer(&now) : NULL;
}

static void
note_looks(const Vm *vm)
{
    for (guint i = 0; i < vm->disks->len; i++) {
        const Disk *disk = vm->disks->pdata[i];
        guint below =
            may_be_written(vm, disk) || disk->volumes->len == 0 ? 0 : disk->volumes->len - 1;

        for (guint k = 0; k < disk->volumes->len; k++) {
            Volume *volume = disk->volumes->pdata[k];
            if (k < below)
                note_look(volume);
            else
                g_clear_pointer(&volume->seen, g_free);
        }
    }
}

/* ---- writing */

static char *
manifest_text(json_t *content, int64_t generation)
{
    g_autoptr(json_t) json = json_object();
    g_autofree char *checksum = NULL;

    json_object_set_new(content, "generation", json_integer(generation));
    checksum = stored_checksum(content);
    json_object_set_new(json, "livemerge", json_integer(MANIFEST_FORMAT));
    json_object_set_new(json, "generation", json_integer(generation));
    json_put_text(json, "checksum", checksum);
    json_object_set_new(json, "written", json_integer(clock_wall_ms()));
    json_object_set(json, "vm", content);
    return json_dumps(json, JSON_INDENT(2));
}

static bool
write_manifest(const Domain *domain, const char *file, Vm *vm, GError **error)
{
    g_autoptr(json_t) content = NULL;
    autolibc char *text = NULL;
    bool renamed = false;

    note_looks(vm);
    content = vm_to_stored_json(vm);
    text = manifest_text(content, vm->generation + 1);
    bool saved = file_replace(file, text, &renamed, error);
    if (renamed) { /* also when it could not be made durable: it is what the next reader sees */
        vm->generation++;
        stored_note(domain, file, text, content);
    }
    if (saved)
        stored_is_synced(domain, file);
    return saved;
}

bool
manifest_save(const Domain *domain, Vm *vm, GError **error)
{
    g_autofree char *file = domain_vm_file(domain, vm->id, "json", error);
    g_auto(Stored) stored = { 0 };

    g_assert(g_atomic_int_get(&vm->shared) == 0); /* it is changed */
    if (file == NULL || !stored_read(domain, file, &stored, error))
        return false;
    if (stored.vm == NULL)
        return domain_is_there(domain, error) && write_manifest(domain, file, vm, error);
    /* What files look like is no change: somebody who merges with other tools writes a volume first
     * and changes the definition then; the manifest must be older than both. */
    if (vm_lasting_equal(stored.vm, vm)) {
        vm->generation = MAX(vm->generation, stored.vm->generation);
        return stored_sync(domain, file, error);
    }
    if (stored.vm->generation > vm->generation)
        return error_set(error, ERR_REFUSED,
                         "the manifest %s of VM '%s' has generation %" G_GINT64_FORMAT
                         ", what should be written comes from generation %" G_GINT64_FORMAT
                         ": somebody else wrote it since; it was not changed, read it again",
                         file, vm->name, stored.vm->generation, vm->generation);
    return write_manifest(domain, file, vm, error);
}

bool
manifest_sync(const Domain *domain, const char *vm_id, GError **error)
{
    g_autofree char *file = domain_vm_file(domain, vm_id, "json", error);

    return file != NULL && stored_sync(domain, file, error);
}

bool
manifest_remove(const Domain *domain, const char *vm_id, GError **error)
{
    g_autofree char *file = domain_vm_file(domain, vm_id, "json", error);
    g_auto(LeaseHold) hold = { 0 };

    if (file == NULL || !lease_hold(domain->lease, LEASE_BUDGET_MS, &hold, error) ||
        !lease_check(&hold, error))
        return false;
    if (unlink(file) < 0) {
        if (errno != ENOENT)
            return error_set_errno(error, "removing the manifest %s", file);
        if (!domain_is_there(domain, error))
            return false;
    }
    return dir_sync_of(file, error);
}

static int
compare_ids(const void *a, const void *b)
{
    return strcmp(*(char *const *)a, *(char *const *)b);
}

char **
manifest_list(const Domain *domain, GError **error)
{
    g_autofree char *dir = domain_vms_dir(domain);
    g_autoptr(GPtrArray) ids = g_ptr_array_new_with_free_func(g_free);
    g_autoptr(GError) problem = NULL;
    g_autoptr(GDir) entries = g_dir_open(dir, 0, &problem);
    const char *name;

    if (entries == NULL) {
        error_set(error, ERR_STORAGE, "listing the manifests: %s; is the storage mounted?",
                  problem->message);
        return NULL;
    }
    while ((name = g_dir_read_name(entries)) != NULL) {
        g_autofree char *id = g_strndup(name, MIN(strlen(name), 36));
        if (id_is_valid(id) && g_str_equal(name + 36, ".json"))
            g_ptr_array_add(ids, g_steal_pointer(&id));
    }
    g_ptr_array_sort(ids, compare_ids);
    g_ptr_array_add(ids, NULL);
    return (char **)g_ptr_array_steal(ids, NULL);
}
