/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "agent/doctor_owners.h"

#include <errno.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>

static void
owner_free(void *p)
{
    Owner *owner = p;

    g_free(owner->vm_id);
    g_free(owner->vm_name);
    g_free(owner->target);
    g_ptr_array_unref(owner->stems);
    g_free(owner);
}

void
owners_init(Owners *owners, Agent *agent)
{
    owners->agent = agent;
    owners->used = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, NULL);
    owners->leaves = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, NULL);
    owners->left = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, NULL);
    owners->list = g_ptr_array_new_with_free_func(owner_free);
    owners->away = g_ptr_array_new_with_free_func(g_free);
}

void
owners_clear(Owners *owners)
{
    g_hash_table_unref(owners->used);
    g_hash_table_unref(owners->leaves);
    g_hash_table_unref(owners->left);
    g_ptr_array_unref(owners->list);
    g_ptr_array_unref(owners->away);
}

/* A loop device is the file behind it: the kernel says which. */
static void
look_behind_loop(struct stat *st)
{
    g_autofree char *told = g_strdup_printf("/sys/dev/block/%u:%u/loop/backing_file",
                                            major(st->st_rdev), minor(st->st_rdev));
    g_autofree char *file = NULL;
    struct stat behind;

    if (!g_file_get_contents(told, &file, NULL, NULL))
        return;
    if (stat(g_strchomp(file), &behind) == 0)
        *st = behind;
}

/* owners NULL: who asks for the key alone. */
static char *
note_key(Owners *owners, const char *path)
{
    struct stat st;
    bool there = stat(path, &st) == 0;

    if (there && S_ISBLK(st.st_mode))
        look_behind_loop(&st);
    if (there)
        return g_strdup_printf("%" G_GUINT64_FORMAT ":%" G_GUINT64_FORMAT, (uint64_t)st.st_dev,
                               (uint64_t)st.st_ino);
    if (owners != NULL && storage_is_away(errno))
        g_ptr_array_add(owners->away, g_strdup(path));
    return g_strdup(path);
}

char *
owners_key(const char *path)
{
    return note_key(NULL, path);
}

static bool
all_were_seen(const Owners *owners, const Domain *domain, GError **error)
{
    for (guint i = 0; i < owners->away->len; i++)
        if (g_str_has_prefix(owners->away->pdata[i], domain->path))
            return error_set(
                error, ERR_STORAGE,
                "%s cannot be looked at, so that it is not known which files of %s are used",
                (char *)owners->away->pdata[i], domain->path);
    return true;
}

static void
note_used(Owners *owners, const char *path, Owner *owner)
{
    g_autofree char *key = path != NULL ? note_key(owners, path) : NULL;

    if (key != NULL && g_hash_table_lookup(owners->used, key) == NULL)
        g_hash_table_insert(owners->used, g_steal_pointer(&key), owner);
}

static void
add_stem(Owner *owner, const char *path)
{
    g_autofree char *stem = file_stem(path);

    for (guint i = 0; i < owner->stems->len; i++)
        if (g_str_equal(owner->stems->pdata[i], stem))
            return;
    g_ptr_array_add(owner->stems, g_steal_pointer(&stem));
}

/* What else belongs to it stands in its manifest, which lies where its other disk is. */
static bool
home_is_not_known(const Owners *owners, const char *vm_id)
{
    g_autoptr(Vm) vm = agent_vm_published(owners->agent, vm_id);

    for (guint i = 0; vm != NULL && vm->home == NULL && i < vm->disks->len; i++)
        if (disk_is_managed(vm->disks->pdata[i]))
            return true;
    return false;
}

static Owner *
owner_new(Owners *owners, const HvDomain *hv, const HvDisk *disk)
{
    Owner *owner = g_new0(Owner, 1);

    owner->vm_id = g_strdup(hv->id);
    owner->vm_name = g_strdup(hv->name);
    owner->target = g_strdup(disk->target);
    owner->stems = g_ptr_array_new_with_free_func(g_free);
    owner->running = hv->instance != NULL;
    owner->undecided = hv->state == VM_UNKNOWN || /* it runs on who knows what */
                       home_is_not_known(owners, hv->id);
    g_ptr_array_add(owners->list, owner);
    return owner;
}

static void
note_disk(Owners *owners, const HvDomain *hv, const HvDisk *disk)
{
    const char *file = hv_disk_file(disk);

    if (file == NULL)
        return;
    Owner *owner = owner_new(owners, hv, disk);
    char *away = NULL;
    g_autoptr(GPtrArray) links = chain_links(file, disk->format, &away);

    note_used(owners, file, owner);
    note_used(owners, disk->mirror_path, owner);
    if (away != NULL)
        g_ptr_array_add(owners->away, away);
    g_hash_table_insert(owners->leaves, owners_key(file), owner);
    for (guint i = 0; i < links->len; i++) {
        note_used(owners, ((ChainLink *)links->pdata[i])->path, owner);
        add_stem(owner, ((ChainLink *)links->pdata[i])->path);
    }
    for (guint i = 0; disk->backing != NULL && i < disk->backing->len; i++)
        note_used(owners, disk->backing->pdata[i], owner);
}

static bool
note_domain(Owners *owners, const char *vm_id, GError **error)
{
    Hypervisor *hv = owners->agent->hv;
    g_autoptr(GError) problem = NULL;
    g_autoptr(HvDomain) domain = agent_look_at_hv(owners->agent, vm_id, &problem);
    g_autoptr(GPtrArray) records = NULL;

    if (domain == NULL && g_error_matches(problem, ERR, ERR_NOT_FOUND))
        return true; /* it has just gone; its files are looked at another time */
    if (domain == NULL) {
        g_propagate_error(error, g_steal_pointer(&problem));
        return false;
    }
    for (guint i = 0; i < domain->disks->len; i++)
        note_disk(owners, domain, domain->disks->pdata[i]);
    for (guint i = 0; domain->inactive != NULL && i < domain->inactive->len; i++)
        note_disk(owners, domain, domain->inactive->pdata[i]);
    if (hv->ops->snapshot_records == NULL)
        return true;
    records = hv->ops->snapshot_records(hv, vm_id, error);
    for (guint i = 0; records != NULL && i < records->len; i++) {
        const HvSnapshotRecord *record = records->pdata[i];
        for (guint k = 0; k < record->files->len; k++)
            note_used(owners, record->files->pdata[k], NULL);
    }
    return records != NULL;
}

static void
note_paths(Owners *owners, json_t *json)
{
    const char *key, *text = json_string_value(json);
    json_t *value;
    size_t i;

    if (text != NULL && g_path_is_absolute(text))
        note_used(owners, text, NULL);
    json_object_foreach (json, key, value)
        note_paths(owners, value);
    json_array_foreach (json, i, value)
        note_paths(owners, value);
}

static void
note_operations(Owners *owners)
{
    WITH_LOCK(&owners->agent->lock);
    GHashTableIter it;
    void *value;

    g_hash_table_iter_init(&it, owners->agent->operations);
    while (g_hash_table_iter_next(&it, NULL, &value)) {
        const Operation *op = value;
        if (g_str_has_prefix(op->row.kind, "doctor-"))
            continue;
        note_paths(owners, op->row.params);
        note_paths(owners, op->row.data);
    }
}

static Owner *
owner_by_id(const Owners *owners, const char *vm_id)
{
    for (guint i = 0; i < owners->list->len; i++)
        if (g_str_equal(((Owner *)owners->list->pdata[i])->vm_id, vm_id))
            return owners->list->pdata[i];
    return NULL;
}

static void
note_volumes(Owners *owners, const GPtrArray *volumes)
{
    for (guint k = 0; k < volumes->len; k++)
        note_used(owners, ((Volume *)volumes->pdata[k])->path, NULL);
}

static void
note_vm(Owners *owners, const Vm *vm)
{
    Owner *owner = owner_by_id(owners, vm->id);

    for (guint i = 0; vm->operations->len > 0 && i < owners->list->len; i++)
        if (g_str_equal(((Owner *)owners->list->pdata[i])->vm_id, vm->id))
            ((Owner *)owners->list->pdata[i])->undecided = true;
    for (guint i = 0; owner != NULL && i < vm->leftovers->len; i++)
        g_hash_table_insert(owners->left, owners_key(((Leftover *)vm->leftovers->pdata[i])->path),
                            owner);
    for (guint i = 0; i < vm->disks->len; i++) {
        const Disk *disk = vm->disks->pdata[i];
        note_volumes(owners, disk->volumes);
        note_volumes(owners, disk->branches);
    }
    for (guint i = 0; i < vm->snapshots->len; i++)
        note_used(owners, ((Snapshot *)vm->snapshots->pdata[i])->memory, NULL);
}

bool
owners_note_manifests(Owners *owners, const Domain *domain, GError **error)
{
    g_auto(GStrv) ids = manifest_list(domain, error);

    for (char **id = ids; ids != NULL && *id != NULL; id++) {
        g_autoptr(GError) problem = NULL;
        g_autoptr(Vm) vm = manifest_load(domain, *id, &problem);
        if (vm != NULL)
            note_vm(owners, vm);
        if (problem != NULL) {
            g_propagate_error(error, g_steal_pointer(&problem));
            return false;
        }
    }
    return ids != NULL && all_were_seen(owners, domain, error);
}

bool
owner_is_at_home(const Owners *owners, const Owner *owner, const Domain *domain)
{
    g_autoptr(Vm) vm = agent_vm_published(owners->agent, owner->vm_id);

    return vm != NULL && g_strcmp0(vm->home, domain->path) == 0;
}

void
owners_note_unknown(Owners *owners, const Domain *domain)
{
    for (guint i = 0; i < owners->list->len; i++) {
        Owner *owner = owners->list->pdata[i];
        owner->undecided = owner->undecided || owner_is_at_home(owners, owner, domain);
    }
}

bool
owners_note_everybody(Owners *owners, GError **error)
{
    Hypervisor *hv = owners->agent->hv;
    g_auto(GStrv) ids = hv->ops->list(hv, error);

    for (char **id = ids; ids != NULL && *id != NULL; id++)
        if (!note_domain(owners, *id, error))
            return false;
    note_operations(owners);
    return ids != NULL;
}
