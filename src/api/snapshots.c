/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * Snapshots of a VM: list and show.
 *
 * The list begins with the active one, which is what the VM runs on: it is no snapshot that could
 * be deleted, and its id changes when a snapshot is taken. A snapshot that is being taken is
 * listed as locked from the answer to its POST on.
 */
#include "api/snapshots.h"

#include "base/clock.h"

/* ---- documents ---- */

static uint64_t
snapshot_size(const Vm *vm, const Snapshot *snapshot)
{
    uint64_t size = snapshot->memory != NULL ? snapshot->memory_size : 0;

    for (guint i = 0; i < snapshot->disks->len; i++) {
        const SnapshotDisk *part = snapshot->disks->pdata[i];
        const Disk *disk = vm_disk(vm, part->disk_id);
        const Volume *volume = disk != NULL ? disk_any_volume(disk, part->volume_id) : NULL;
        size += volume != NULL ? volume->allocated : 0;
    }
    return size;
}

static void
put_parent(json_t *doc, const Vm *vm, const char *parent)
{
    if (parent != NULL)
        doc_ref(doc, "parent", parent, "/vms/%s/snapshots/%s", vm->id, parent);
}

static const char *
status_word(const Vm *vm, const Snapshot *snapshot, bool locked)
{
    bool tried = vm->preview != NULL && g_str_equal(vm->preview->snapshot, snapshot->id);

    return locked ? "locked" : tried ? "in_preview" : "ok";
}

json_t *
snapshot_document(const Vm *vm, const Snapshot *snapshot, bool locked)
{
    static const char *const links[] = { "disks", "nics", "cdroms" };
    json_t *doc = doc_new(snapshot->id, "/vms/%s/snapshots/%s", vm->id, snapshot->id);

    doc_text(doc, "description", snapshot->name);
    if (snapshot->comment != NULL)
        doc_text(doc, "comment", snapshot->comment);
    for (size_t i = 0; i < G_N_ELEMENTS(links); i++)
        doc_link(doc, links[i], "/vms/%s/snapshots/%s/%s", vm->id, snapshot->id, links[i]);
    doc_action(doc, "restore", "/vms/%s/snapshots/%s/restore", vm->id, snapshot->id);
    doc_time(doc, "date", snapshot->date);
    doc_flag(doc, "persist_memorystate", snapshot->memory != NULL);
    doc_text(doc, "snapshot_status", status_word(vm, snapshot, locked));
    doc_text(doc, "snapshot_type", "regular");
    doc_ref(doc, "vm", vm->id, "/vms/%s", vm->id);
    doc_text(json_object_get(doc, "vm"), "name", vm->name);
    put_parent(doc, vm, snapshot->parent);
    doc_number(doc, "size", snapshot_size(vm, snapshot));
    if (snapshot->quiesced)
        doc_flag(doc, "quiesced", true);
    if (snapshot->config_only)
        doc_flag(doc, "configuration_only", true);
    if (snapshot_is_unusable(snapshot))
        doc_flag(doc, "unusable", true);
    return doc;
}

/* The first disk that is a chain: its leaf changes with every snapshot. */
static const Disk *
first_chain(const Vm *vm)
{
    for (guint i = 0; i < vm->disks->len; i++) {
        const Disk *disk = vm->disks->pdata[i];
        if (disk_is_managed(disk) && disk->volumes->len > 0)
            return disk;
    }
    return NULL;
}

static char *
id_of_leaf(const Vm *vm, const char *leaf_id)
{
    g_autofree char *words = g_strconcat(vm->id, ":", leaf_id, NULL);

    return derived_id("active-snapshot", words);
}

char *
active_snapshot_id(const Vm *vm)
{
    const Disk *disk = first_chain(vm);

    return id_of_leaf(vm, disk != NULL ? disk_leaf(disk)->id : "");
}

/* What was active before the preview: the same id as then, if its first disk takes part. Without
 * disks that is the active one's still, and this one has to have another. */
static char *
previewed_from_id(const Vm *vm)
{
    if (vm->preview->disks->len == 0)
        return id_of_leaf(vm, vm->preview->snapshot);

    const Disk *disk = first_chain(vm);
    const PreviewDisk *part = disk != NULL ? preview_disk(vm->preview, disk->id) : NULL;

    if (part != NULL)
        return id_of_leaf(vm, part->old_leaf);
    return id_of_leaf(vm, ((const PreviewDisk *)vm->preview->disks->pdata[0])->old_leaf);
}

static const char *
newest_id(const Vm *vm)
{
    guint n = vm->snapshots->len;

    return n > 0 ? ((const Snapshot *)vm->snapshots->pdata[n - 1])->id : NULL;
}

static int64_t
active_date(const Vm *vm)
{
    const Snapshot *first = vm->snapshots->len > 0 ? vm->snapshots->pdata[0] : NULL;

    /* lists are in the order of dates, and this one comes first */
    return first != NULL ? first->date - 1 : clock_wall_ms();
}

static uint64_t
leaves_size(const Vm *vm)
{
    uint64_t size = 0;

    for (guint i = 0; i < vm->disks->len; i++) {
        const Volume *leaf = disk_leaf(vm->disks->pdata[i]);
        size += leaf != NULL ? leaf->allocated : 0;
    }
    return size;
}

/* Clients tell it from the others by its type, and by what it does not have: a VM and links. */
json_t *
active_snapshot_document(const Vm *vm)
{
    g_autofree char *id = active_snapshot_id(vm);
    json_t *doc = doc_new(id, "/vms/%s/snapshots/%s", vm->id, id);

    doc_text(doc, "description", "Active VM");
    doc_time(doc, "date", active_date(vm));
    doc_flag(doc, "persist_memorystate", false);
    doc_text(doc, "snapshot_status", "ok");
    doc_text(doc, "snapshot_type", "active");
    put_parent(doc, vm, vm->preview != NULL ? vm->preview->snapshot : newest_id(vm));
    doc_number(doc, "size", leaves_size(vm));
    return doc;
}

/* NULL without a preview. */
static json_t *
previewed_from_document(const Vm *vm)
{
    g_autofree char *id = vm->preview != NULL ? previewed_from_id(vm) : NULL;
    json_t *doc;

    if (id == NULL)
        return NULL;
    doc = doc_new(id, "/vms/%s/snapshots/%s", vm->id, id);
    doc_text(doc, "description", "Active VM before the preview");
    doc_time(doc, "date", active_date(vm));
    doc_flag(doc, "persist_memorystate", false);
    doc_text(doc, "snapshot_status", "ok");
    doc_text(doc, "snapshot_type", "preview");
    put_parent(doc, vm, newest_id(vm));
    return doc;
}

/* ---- what the manager knows, with the snapshots that are being taken ---- */

void
snapshot_list_clear(SnapshotList *list)
{
    vm_free(list->vm);
}

/* Absent: it takes all. */
static bool
takes_no_disk(const json_t *disks)
{
    return disks != NULL && json_array_size(disks) == 0;
}

static Snapshot *
pending_snapshot(Manager *manager, const FlowRow *row)
{
    const char *id = json_text(row->params, "snapshot_id");

    if (!g_str_equal(row->kind, "create-snapshot") || id == NULL ||
        !manager_snapshot_locked(manager, row->vm_id, id))
        return NULL;
    const char *name = json_text(row->params, "name");
    Snapshot *snapshot = snapshot_new(id, name != NULL ? name : row->description, row->created);
    if (json_flag(row->params, "memory"))
        snapshot->memory = g_strdup(""); /* it will have one */
    snapshot->config_only = takes_no_disk(json_object_get(row->params, "disks"));
    return snapshot;
}

/* Those that are being taken are asked for before the VM: one that gets ready in between is then
 * found there, and never in neither place. */
bool
snapshot_list_load(Manager *manager, const char *vm_id, SnapshotList *loaded, GError **error)
{
    g_autoptr(Vm) first = manager_vm(manager, vm_id, error);
    g_autoptr(GPtrArray) rows = NULL;
    g_autoptr(GPtrArray) pending = g_ptr_array_new_with_free_func((GDestroyNotify)snapshot_free);

    if (first == NULL)
        return false;
    rows = store_flow_list(manager_store(manager), true, NULL, first->id, error);
    if (rows == NULL)
        return false;
    for (guint i = 0; i < rows->len; i++) {
        Snapshot *snapshot = pending_snapshot(manager, rows->pdata[i]);
        if (snapshot != NULL)
            g_ptr_array_add(pending, snapshot);
    }
    loaded->vm = vm_unshare(manager_vm(manager, first->id, error));
    if (loaded->vm == NULL)
        return false;
    loaded->n_real = loaded->vm->snapshots->len;
    while (pending->len > 0) {
        Snapshot *snapshot = g_ptr_array_steal_index(pending, 0);
        if (vm_snapshot(loaded->vm, snapshot->id) == NULL)
            g_ptr_array_add(loaded->vm->snapshots, snapshot);
        else
            snapshot_free(snapshot);
    }
    return true;
}

bool
snapshot_list_locked(const SnapshotList *loaded, Manager *manager, guint i)
{
    const Snapshot *snapshot = loaded->vm->snapshots->pdata[i];

    return i >= loaded->n_real || manager_snapshot_locked(manager, loaded->vm->id, snapshot->id);
}

int
snapshot_list_index(const SnapshotList *loaded, const char *snapshot_id)
{
    const Vm *vm = loaded->vm;

    for (guint i = 0; i < vm->snapshots->len; i++)
        if (g_str_equal(((const Snapshot *)vm->snapshots->pdata[i])->id, snapshot_id))
            return (int)i;
    return -1;
}

bool
snapshot_list_unknown(const SnapshotList *loaded, const char *snapshot_id, GError **error)
{
    return error_set(error, ERR_NOT_FOUND, "VM '%s' has no snapshot '%s'", loaded->vm->name,
                     snapshot_id);
}

/* The VM as loaded without those that are being taken: what the active one stands on. */
static json_t *
active_document(const SnapshotList *loaded)
{
    g_autoptr(Vm) real = vm_copy(loaded->vm);

    g_ptr_array_set_size(real->snapshots, (gint)loaded->n_real);
    return active_snapshot_document(real);
}

/* What can be done with it now, and why not. */
static void
put_operations(json_t *doc, Manager *manager, const Vm *vm, const Snapshot *snapshot)
{
    VerbContext asked = { .snapshot = snapshot, .active = snapshot == NULL };

    json_object_set_new(
        doc, "operations",
        doc_list("operation", manager_operations(manager, vm, SUBJECT_SNAPSHOT, &asked)));
}

/* i is -1 for the active one. */
static json_t *
one_document(Manager *manager, const SnapshotList *loaded, int i, bool operations)
{
    const Vm *vm = loaded->vm;
    const Snapshot *snapshot = i >= 0 ? vm->snapshots->pdata[i] : NULL;
    json_t *doc =
        snapshot == NULL
            ? active_document(loaded)
            : snapshot_document(vm, snapshot, snapshot_list_locked(loaded, manager, (guint)i));

    if (operations)
        put_operations(doc, manager, vm, snapshot);
    return doc;
}

static json_t *
all_documents(Manager *manager, const SnapshotList *loaded, bool operations)
{
    json_t *list = json_array();

    for (int i = -1; i < (int)loaded->vm->snapshots->len; i++) {
        json_array_append_new(list, one_document(manager, loaded, i, operations));
        if (i == -1 && loaded->vm->preview != NULL)
            json_array_append_new(list, previewed_from_document(loaded->vm));
    }
    return list;
}

bool
get_snapshots(Call *call, Reply *reply, GError **error)
{
    g_auto(SnapshotList) loaded = { 0 };

    if (!snapshot_list_load(call->manager, call->id, &loaded, error))
        return false;
    return reply_part(call, reply, "snapshot",
                      all_documents(call->manager, &loaded, call_wants_operations(call)), error);
}

bool
get_snapshot(Call *call, Reply *reply, GError **error)
{
    g_auto(SnapshotList) loaded = { 0 };

    if (!snapshot_list_load(call->manager, call->id, &loaded, error))
        return false;
    g_autofree char *active = active_snapshot_id(loaded.vm);
    g_autofree char *before = loaded.vm->preview != NULL ? previewed_from_id(loaded.vm) : NULL;
    int i = snapshot_list_index(&loaded, call->sub_id);
    if (g_strcmp0(before, call->sub_id) == 0) {
        reply->body = previewed_from_document(loaded.vm);
        return true;
    }
    if (i < 0 && !g_str_equal(active, call->sub_id))
        return snapshot_list_unknown(&loaded, call->sub_id, error);
    reply->body = one_document(call->manager, &loaded, i, call_wants_operations(call));
    return true;
}

bool
get_snapshot_disks(Call *call, Reply *reply, GError **error)
{
    g_auto(SnapshotList) loaded = { 0 };
    json_t *list;

    if (!snapshot_list_load(call->manager, call->id, &loaded, error))
        return false;
    int i = snapshot_list_index(&loaded, call->sub_id);
    if (i < 0)
        return snapshot_list_unknown(&loaded, call->sub_id, error);
    const Snapshot *snapshot = loaded.vm->snapshots->pdata[i];
    list = json_array();
    for (guint d = 0; d < snapshot->disks->len; d++) {
        json_t *doc = snapshot_disk_document(loaded.vm, snapshot, snapshot->disks->pdata[d]);
        if (doc != NULL)
            json_array_append_new(list, disk_locked_by_jobs(call, loaded.vm, doc));
    }
    return reply_part(call, reply, "disk", list, error);
}
