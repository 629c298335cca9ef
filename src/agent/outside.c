/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * What a VM's disks are made of that livemerge does not manage: a clone in another directory that
 * stands on a volume of ours, a CD-ROM, a backing file given as "json:". Such files are never
 * changed or deleted either, so they must be known before a merge of another VM.
 */
#include "agent/agent.h"
#include "agent/doctor.h"
#include "agent/doctor_owners.h"
#include "agent/inventory.h"

#define NESTED_MAX 8 /* "json:" in "json:" ... */

static void note_file(GHashTable *files, const char *path, const char *format, unsigned depth);

/* Every "filename" of a "json:" name, wherever it stands. */
static void
note_names(GHashTable *files, const json_t *node, const char *folder, unsigned depth)
{
    const char *key;
    json_t *value;
    size_t i;

    json_object_foreach ((json_t *)node, key, value) {
        const char *name = json_string_value(value);
        if (name == NULL) {
            note_names(files, value, folder, depth);
        } else if (g_str_equal(key, "filename") || g_str_has_suffix(key, ".filename")) {
            g_autofree char *path = g_canonicalize_filename(name, folder);
            note_file(files, path, NULL, depth);
        }
    }
    json_array_foreach (node, i, value)
        note_names(files, value, folder, depth);
}

/* The walk has ended here, perhaps at a name that is no plain path. */
static void
note_odd_name(GHashTable *files, const ChainLink *last, unsigned depth)
{
    const char *name = last->header != NULL ? last->header->backing_file : NULL;
    g_autofree char *folder = g_path_get_dirname(last->path);

    if (name == NULL || depth >= NESTED_MAX)
        return;
    if (g_str_has_prefix(name, "file:")) {
        g_autofree char *path = g_canonicalize_filename(name + strlen("file:"), folder);
        note_file(files, path, last->header->backing_format, depth + 1);
    } else if (g_str_has_prefix(name, "json:")) {
        g_autoptr(json_t) node = json_loads(name + strlen("json:"), 0, NULL);
        note_names(files, node, folder, depth + 1);
    }
}

static void
note_file(GHashTable *files, const char *path, const char *format, unsigned depth)
{
    g_autofree char *away = NULL;
    g_autoptr(GPtrArray) links = NULL;

    if (path == NULL || !g_path_is_absolute(path) || !g_hash_table_add(files, owners_key(path)))
        return;
    links = chain_links(path, format, &away);
    for (guint i = 0; i < links->len; i++)
        g_hash_table_add(files, owners_key(((const ChainLink *)links->pdata[i])->path));
    if (links->len > 0)
        note_odd_name(files, links->pdata[links->len - 1], depth);
}

/* It may lie on a server of ISO images that hangs; no look at a VM waits for that. */
static bool
is_plain_medium(const HvDisk *disk)
{
    return g_strcmp0(disk->device, "disk") != 0 && g_strcmp0(disk->format, "qcow2") != 0;
}

static void
note_disk(GHashTable *files, const HvDisk *disk)
{
    if (disk->source != NULL && is_plain_medium(disk)) {
        g_hash_table_add(files, g_strdup(disk->source));
        return;
    }
    note_file(files, disk->source, disk->format, 0);
    note_file(files, disk->mirror_path, disk->mirror_format, 0);
}

/* What the definition says, and libvirt believes, though the headers may say otherwise */
static void
note_definition(GHashTable *files, const HvDisk *disk, const Disk *known)
{
    for (guint i = 0; disk->backing != NULL && i < disk->backing->len; i++)
        if (agent_known_volume(known, disk->backing->pdata[i]) == NULL)
            note_file(files, disk->backing->pdata[i], NULL, 0);
}

GHashTable *
outside_files(const HvDomain *hv, const Vm *vm)
{
    g_autoptr(GHashTable) files = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, NULL);

    for (guint i = 0; i < hv->disks->len; i++) {
        const HvDisk *disk = hv->disks->pdata[i];
        const Disk *known = vm_disk(vm, disk->target);
        if (known == NULL || !disk_is_managed(known))
            note_disk(files, disk);
        note_definition(files, disk, known);
    }
    return g_hash_table_size(files) > 0 ? g_steal_pointer(&files) : NULL;
}

GHashTable *
outside_keys(const Vm *vm)
{
    GHashTable *keys = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, g_free);

    for (guint i = 0; vm != NULL && i < vm->disks->len; i++) {
        const Disk *disk = vm->disks->pdata[i];
        for (guint k = 0; k < disk->volumes->len; k++) {
            const char *path = ((const Volume *)disk->volumes->pdata[k])->path;
            g_hash_table_insert(keys, g_strdup(path), owners_key(path));
        }
    }
    return keys;
}

const char *
outside_user(Agent *agent, const char *vm_id, const char *path, const char *key)
{
    GHashTableIter all;
    void *value;

    g_hash_table_iter_init(&all, agent->vms);
    while (g_hash_table_iter_next(&all, NULL, &value)) {
        const AgentVm *entry = value;
        if (entry->vm != NULL && entry->outside != NULL && !g_str_equal(entry->id, vm_id) &&
            (g_hash_table_contains(entry->outside, key) ||
             g_hash_table_contains(entry->outside, path)))
            return entry->vm->name;
    }
    return NULL;
}
