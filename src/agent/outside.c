/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * What a VM's disks are made of that livemerge does not manage: a clone in another directory that
 * stands on a volume of ours, a CD-ROM, a backing file given as "json:", a volume of a libvirt
 * pool, a disk that it will have from its next start on. Such files are never changed or deleted
 * either, so they must be known before a merge: of another VM, or of another disk of the same.
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
    const char *file = hv_disk_file(disk);

    if (file != NULL && is_plain_medium(disk)) {
        bool device = g_strcmp0(disk->type, "block") == 0; /* a loop device, perhaps */
        g_hash_table_add(files, device ? owners_key(file) : g_strdup(file));
        return;
    }
    note_file(files, file, disk->format, 0);
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

/* The files of one that was managed, and cannot be read just now, are its own. */
static bool
was_never_managed(const Vm *vm, const Disk *known)
{
    return vm->unmanaged == NULL && (known == NULL || known->read_only || known->volumes->len == 0);
}

static void
note_one(Outside *outside, const HvDisk *disk, const Vm *vm)
{
    const Disk *known = vm_disk(vm, disk->target);
    const char *file = hv_disk_file(disk);
    GHashTable *files = was_never_managed(vm, known) ? outside->beside : outside->files;

    if (known == NULL || !disk_is_managed(known) ||
        (file != NULL && agent_known_volume(known, file) == NULL))
        note_disk(files, disk);
    note_definition(files, disk, known);
}

void
outside_find(const GPtrArray *disks, const Vm *vm, Outside *outside)
{
    outside->files = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, NULL);
    outside->beside = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, NULL);
    for (guint i = 0; i < disks->len; i++)
        note_one(outside, disks->pdata[i], vm);
}

void
outside_clear(Outside *outside)
{
    g_clear_pointer(&outside->files, g_hash_table_unref);
    g_clear_pointer(&outside->beside, g_hash_table_unref);
}

/* ---- from the next start on ---- */

static void
take_next(Agent *agent, const char *vm_id, Outside *take_next)
{
    WITH_LOCK(&agent->lock);
    AgentVm *entry = g_hash_table_lookup(agent->vms, vm_id);

    if (entry == NULL) {
        outside_clear(take_next);
        return;
    }
    outside_clear(&entry->next);
    entry->next = *take_next;
}

static bool
look_at_next(Agent *agent, const char *vm_id, GError **error)
{
    g_autoptr(GPtrArray) disks = NULL;
    g_autoptr(GError) problem = NULL;
    g_autoptr(Vm) vm = agent_vm_shown(agent, vm_id);
    Outside next = { 0 };

    if (vm == NULL)
        return true; /* there is none, or nothing is known of it yet */
    if (!agent->hv->ops->stored_disks(agent->hv, vm_id, &disks, &problem) &&
        !g_error_matches(problem, ERR, ERR_NOT_FOUND)) {
        g_propagate_error(error, g_steal_pointer(&problem));
        return false;
    }
    if (disks != NULL)
        outside_find(disks, vm, &next);
    take_next(agent, vm_id, &next);
    return true;
}

static char **
known_vms(Agent *agent)
{
    WITH_LOCK(&agent->lock);
    g_autoptr(GPtrArray) ids = g_ptr_array_new();
    GHashTableIter all;
    void *id;

    g_hash_table_iter_init(&all, agent->vms);
    while (g_hash_table_iter_next(&all, &id, NULL))
        g_ptr_array_add(ids, g_strdup(id));
    g_ptr_array_add(ids, NULL);
    return (char **)g_ptr_array_steal(ids, NULL);
}

bool
outside_look_again(Agent *agent, GError **error)
{
    g_auto(GStrv) ids = NULL;

    if (agent->hv->ops->stored_disks == NULL)
        return true;
    WITH_LOCK(&agent->next_lock); /* or what was read before a change could be put after it */
    ids = known_vms(agent);
    for (char **id = ids; *id != NULL; id++)
        if (!look_at_next(agent, *id, error))
            return false;
    return true;
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

static bool
is_in(GHashTable *files, const char *path, const char *key)
{
    return files != NULL && g_hash_table_size(files) > 0 &&
           (g_hash_table_contains(files, key) || g_hash_table_contains(files, path));
}

static bool
has_file(const Outside *outside, bool same_vm, const char *path, const char *key)
{
    return is_in(outside->beside, path, key) || (!same_vm && is_in(outside->files, path, key));
}

/* Of a VM that is off its stored definition says all, and what was published is old as soon as a
 * disk is detached. */
static bool
uses(const AgentVm *entry, bool same_vm, const char *path, const char *key)
{
    bool stored_alone = entry->vm->state == VM_DOWN && entry->next.files != NULL;

    return has_file(&entry->next, same_vm, path, key) ||
           (!stored_alone && has_file(&entry->now, same_vm, path, key));
}

const char *
outside_user(Agent *agent, const char *vm_id, const char *path, const char *key, bool own)
{
    GHashTableIter all;
    void *value;

    g_hash_table_iter_init(&all, agent->vms);
    while (g_hash_table_iter_next(&all, NULL, &value)) {
        const AgentVm *entry = value;
        bool same = g_str_equal(entry->id, vm_id);
        if (entry->vm != NULL && (own || !same) && uses(entry, same, path, key))
            return entry->vm->name;
    }
    return NULL;
}
