/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * The door: whether a deed may begin. What cannot be done is refused here, at once and with the
 * reason; what passes is a stored flow when the call returns. One deed goes through at a time.
 */
#include "flow/core.h"

#include "base/log.h"
#include "base/text.h"

#include <string.h>

#define LOOK_MS 5000 /* how long a refusal or a job may wait for a look at the VM */

/* The open job that holds the VM; lock held. */
static const Flow *
holder_locked(Manager *m, const char *vm_id)
{
    GHashTableIter iter;
    const Flow *flow;

    g_hash_table_iter_init(&iter, m->flows);
    while (g_hash_table_iter_next(&iter, NULL, (void **)&flow))
        if (flow->row->parent == NULL && !flow->released && g_str_equal(flow->row->vm_id, vm_id))
            return flow;
    return NULL;
}

static bool
is_allowed(Manager *m, Verb verb, const Vm *vm, GError **error)
{
    const Host *host = host_by_name(m, vm->host);
    g_autofree char *id = NULL, *what = NULL, *problem = NULL;
    VerbContext context = { 0 };
    bool up;

    g_mutex_lock(&m->lock);
    const Flow *flow = holder_locked(m, vm->id);
    if (flow != NULL) {
        id = g_strdup(flow->row->id);
        what = g_strdup(flow->row->description);
    }
    up = host != NULL && host->up;
    problem = g_strdup(host == NULL ? "it is not configured any more" : host->problem);
    g_mutex_unlock(&m->lock);

    context.busy_job = what;
    context.busy_job_id = id;
    if (!up && flow == NULL)
        return error_set(error, ERR_UNREACHABLE,
                         "cannot %s VM '%s': its host '%s' does not answer (%s); nothing was "
                         "begun, try again when it does",
                         verb_word(verb), vm->name, vm->host, problem != NULL ? problem : "?");
    return verb_allowed(verb, vm, &context, error);
}

/* The VM as its host sees it now, if it answers soon, else as it was told last: events can be
 * behind, and some changes have none. Before the door, so that a slow host holds up nobody else. */
static Vm *
vm_now(Manager *m, const char *id_or_name, const char *query, GError **error)
{
    g_autoptr(Vm) vm = manager_vm(m, id_or_name, error);
    Host *host = vm != NULL ? host_by_name(m, vm->host) : NULL;
    g_autoptr(GError) why = NULL;
    bool held;
    Vm *now;

    if (host == NULL)
        return g_steal_pointer(&vm);
    g_mutex_lock(&m->lock);
    held = holder_locked(m, vm->id) != NULL; /* that is answer enough */
    g_mutex_unlock(&m->lock);
    if (held)
        return g_steal_pointer(&vm);
    now = inventory_ask(host, vm->id, query, LOOK_MS, &why);
    if (now != NULL)
        return now;
    log_debug("VM %s was not looked at: %s", vm->name, why->message);
    return manager_vm(m, id_or_name, error);
}

static json_t *
params_new(const Vm *vm, const char *user)
{
    json_t *params = json_pack("{s:s, s:s}", "host", vm->host, "vm_name", vm->name);

    json_put_text(params, "user", user);
    return params;
}

static char *
begin(Manager *m, FlowRow *take_row, const char *correlation_id, char *take_description,
      GError **error)
{
    g_autofree char *id = g_strdup(take_row->id);

    take_row->correlation_id = g_strdup(correlation_id);
    take_row->description = take_description;
    return flow_begin(m, take_row, error) ? g_steal_pointer(&id) : NULL;
}

/* ---- create ---- */

/* Ids of the disks that were named; NULL in *ret_ids = all. */
static bool
disk_ids(const Vm *vm, const char *const *disks, json_t **ret_ids, GError **error)
{
    g_autoptr(json_t) ids = json_array();
    g_autoptr(GHashTable) named = g_hash_table_new(g_str_hash, g_str_equal);

    *ret_ids = NULL;
    if (disks == NULL)
        return true;
    for (; *disks != NULL; disks++) {
        const Disk *disk = vm_disk(vm, *disks);
        if (disk == NULL)
            return error_set(error, ERR_NOT_FOUND, "VM '%s' has no disk '%s'", vm->name, *disks);
        if (!disk_is_managed(disk))
            return error_set(error, ERR_REFUSED, "disk %s of VM '%s' can have no snapshots: %s",
                             disk->target, vm->name,
                             disk->unmanaged != NULL ? disk->unmanaged : "it is read-only");
        if (!g_hash_table_add(named, disk->id))
            return error_set(error, ERR_INVALID, "disk '%s' is named twice", *disks);
        json_array_append_new(ids, json_string(disk->id));
    }
    *ret_ids = g_steal_pointer(&ids);
    return true;
}

/* libvirt takes no snapshot of a disk that has a block job. */
static bool
are_free(const Vm *vm, const json_t *ids, GError **error)
{
    for (guint i = 0; i < vm->disks->len; i++) {
        const Disk *disk = vm->disks->pdata[i];
        g_autofree char *busy = disk_busy_reason(vm, disk);
        bool wanted = ids == NULL;
        size_t k;
        json_t *id;

        json_array_foreach (ids, k, id)
            wanted = wanted || g_strcmp0(json_string_value(id), disk->id) == 0;
        if (wanted && busy != NULL)
            return error_set(error, ERR_REFUSED,
                             "cannot create a snapshot of disk %s of VM '%s': %s", disk->target,
                             vm->name, busy);
    }
    return true;
}

static bool
quiesce_check(const char *word, GError **error)
{
    return g_str_equal(word, "no") || g_str_equal(word, "auto") || g_str_equal(word, "require") ||
           error_set(error, ERR_INVALID, "quiesce is 'no', 'auto' or 'require', not '%s'", word);
}

static char *
create(Manager *m, const SnapshotCreate *what, const Vm *vm, const char *snapshot_id,
       GError **error)
{
    const char *quiesce = what->quiesce != NULL ? what->quiesce : "auto";
    Verb verb = what->memory ? VERB_SNAPSHOT_CREATE_MEMORY : VERB_SNAPSHOT_CREATE;
    g_autoptr(json_t) disks = NULL;
    json_t *params;

    if (!name_check("snapshot", what->name, error) || !quiesce_check(quiesce, error))
        return NULL;
    if (!id_is_valid(snapshot_id)) {
        error_set(error, ERR_INVALID, "'%s' is not an id for a snapshot", snapshot_id);
        return NULL;
    }
    if (vm_snapshot(vm, snapshot_id) != NULL) {
        error_set(error, ERR_EXISTS, "VM '%s' already has a snapshot %s", vm->name, snapshot_id);
        return NULL;
    }
    if (!is_allowed(m, verb, vm, error) || !disk_ids(vm, what->disks, &disks, error) ||
        !are_free(vm, disks, error))
        return NULL;
    params = params_new(vm, what->user);
    json_object_set_new(params, "snapshot_id", json_string(snapshot_id));
    json_object_set_new(params, "name", json_string(what->name));
    json_object_set_new(params, "snapshots", json_pack("[s]", snapshot_id));
    json_object_set_new(params, "names", json_pack("[s]", what->name));
    json_object_set_new(params, "memory", json_boolean(what->memory));
    json_object_set_new(params, "quiesce", json_string(quiesce));
    if (disks != NULL)
        json_object_set(params, "disks", disks);
    return begin(m, flow_row_new("create-snapshot", vm->id, NULL, params), what->correlation_id,
                 g_strdup_printf("Creating snapshot '%s' of VM '%s'", what->name, vm->name), error);
}

char *
manager_snapshot_create(Manager *m, const SnapshotCreate *what, char **ret_snapshot_id,
                        GError **error)
{
    g_autoptr(Vm) vm = vm_now(m, what->vm_id, "?fresh=1", error);
    WITH_LOCK(&m->door);
    g_autofree char *snapshot_id =
        what->snapshot_id != NULL ? g_strdup(what->snapshot_id) : id_new();
    g_autoptr(GError) why = NULL;
    char *id;

    if (vm == NULL)
        return NULL;
    id = create(m, what, vm, snapshot_id, &why);
    if (id == NULL) {
        event_refused(m, flow_kind("create-snapshot"), vm, what->name, what->correlation_id,
                      what->user, why);
        g_propagate_error(error, g_steal_pointer(&why));
    } else if (ret_snapshot_id != NULL) {
        *ret_snapshot_id = g_steal_pointer(&snapshot_id);
    }
    return id;
}

/* ---- remove ---- */

static bool
snapshots_named(const Vm *vm, const char *const *ids, json_t *snapshots, json_t *names,
                GError **error)
{
    g_autoptr(GHashTable) named = g_hash_table_new(g_str_hash, g_str_equal);

    if (ids == NULL || *ids == NULL)
        return error_set(error, ERR_INVALID, "no snapshot of VM '%s' is named", vm->name);
    for (; *ids != NULL; ids++) {
        const Snapshot *snapshot = vm_snapshot(vm, *ids);
        if (snapshot == NULL)
            return error_set(error, ERR_NOT_FOUND, "VM '%s' has no snapshot %s", vm->name, *ids);
        if (!g_hash_table_add(named, snapshot->id))
            return error_set(error, ERR_INVALID, "snapshot '%s' (%s) is named twice",
                             snapshot->name, snapshot->id);
        json_array_append_new(snapshots, json_string(snapshot->id));
        json_array_append_new(names, json_string(snapshot->name));
    }
    return true;
}

static bool
disk_named(const Vm *vm, const char *disk, GError **error)
{
    return disk == NULL || vm_disk(vm, disk) != NULL ||
           error_set(error, ERR_NOT_FOUND, "VM '%s' has no disk '%s'", vm->name, disk);
}

/* Would it work as the VM stands now? The flow plans again from a fresh look. */
static bool
can_plan(const Vm *vm, const SnapshotsRemove *what, GError **error)
{
    g_autoptr(GPtrArray) runs =
        plan_runs(vm, what->snapshot_ids, what->disk, what->strategy, error);

    return runs != NULL;
}

static char *
remove_description(const Vm *vm, const json_t *names)
{
    size_t n = json_array_size(names);

    if (n == 1)
        return g_strdup_printf("Removing snapshot '%s' of VM '%s'",
                               json_string_value(json_array_get(names, 0)), vm->name);
    return g_strdup_printf("Removing %zu snapshots of VM '%s'", n, vm->name);
}

static char *
remove_snapshots(Manager *m, const SnapshotsRemove *what, const Vm *vm, GError **error)
{
    g_autoptr(json_t) snapshots = json_array(), names = json_array();
    json_t *params;

    if (!snapshots_named(vm, what->snapshot_ids, snapshots, names, error) ||
        !disk_named(vm, what->disk, error) || !is_allowed(m, VERB_SNAPSHOT_DELETE, vm, error) ||
        !can_plan(vm, what, error))
        return NULL;
    params = params_new(vm, what->user);
    json_object_set(params, "snapshots", snapshots);
    json_object_set(params, "names", names);
    json_object_set_new(params, "strategy", json_string(strategy_word(what->strategy)));
    json_object_set_new(params, "bandwidth", json_integer((json_int_t)what->bandwidth));
    if (what->disk != NULL)
        json_object_set_new(params, "disk", json_string(vm_disk(vm, what->disk)->id));
    return begin(m, flow_row_new("remove-snapshots", vm->id, NULL, params), what->correlation_id,
                 remove_description(vm, names), error);
}

static const char *
name_of(const Vm *vm, const char *snapshot_id)
{
    const Snapshot *snapshot = snapshot_id != NULL ? vm_snapshot(vm, snapshot_id) : NULL;

    return snapshot != NULL ? snapshot->name : NULL;
}

char *
manager_snapshots_remove(Manager *m, const SnapshotsRemove *what, GError **error)
{
    g_autoptr(Vm) vm = vm_now(m, what->vm_id, "?fresh=1&users=1", error);
    WITH_LOCK(&m->door);
    g_autoptr(GError) why = NULL;
    char *id;

    if (vm == NULL)
        return NULL;
    id = remove_snapshots(m, what, vm, &why);
    if (id == NULL) {
        event_refused(m, flow_kind("remove-snapshots"), vm,
                      what->snapshot_ids != NULL ? name_of(vm, what->snapshot_ids[0]) : NULL,
                      what->correlation_id, what->user, why);
        g_propagate_error(error, g_steal_pointer(&why));
    }
    return id;
}

/* ---- rename ---- */

char *
manager_snapshot_rename(Manager *m, const char *vm_id, const char *snapshot_id, const char *name,
                        const char *correlation_id, const char *user, GError **error)
{
    WITH_LOCK(&m->door);
    g_autoptr(Vm) vm = manager_vm(m, vm_id, error);
    const Snapshot *snapshot = vm != NULL ? vm_snapshot(vm, snapshot_id) : NULL;
    json_t *params;

    if (vm == NULL || !name_check("snapshot", name, error))
        return NULL;
    if (snapshot == NULL) {
        error_set(error, ERR_NOT_FOUND, "VM '%s' has no snapshot %s", vm->name, snapshot_id);
        return NULL;
    }
    if (!is_allowed(m, VERB_SNAPSHOT_RENAME, vm, error))
        return NULL;
    params = params_new(vm, user);
    json_object_set_new(params, "snapshot_id", json_string(snapshot->id));
    json_object_set_new(params, "name", json_string(name));
    json_object_set_new(params, "snapshots", json_pack("[s]", snapshot->id));
    json_object_set_new(params, "names", json_pack("[s]", snapshot->name));
    return begin(m, flow_row_new("rename-snapshot", vm->id, NULL, params), correlation_id,
                 g_strdup_printf("Renaming snapshot '%s' of VM '%s' to '%s'", snapshot->name,
                                 vm->name, name),
                 error);
}

/* ---- locks ---- */

bool
manager_snapshot_locked(Manager *m, const char *vm_id, const char *snapshot_id)
{
    WITH_LOCK(&m->lock);
    GHashTableIter iter;
    const Flow *flow;

    g_hash_table_iter_init(&iter, m->flows);
    while (g_hash_table_iter_next(&iter, NULL, (void **)&flow)) {
        size_t i;
        json_t *id;

        if (flow->released || !g_str_equal(flow->row->vm_id, vm_id))
            continue;
        json_array_foreach (json_object_get(flow->row->params, "snapshots"), i, id)
            if (g_strcmp0(json_string_value(id), snapshot_id) == 0)
                return true;
    }
    return false;
}

GPtrArray *
manager_snapshots_creating(Manager *m, const char *vm_id)
{
    GPtrArray *snapshots = g_ptr_array_new_with_free_func((GDestroyNotify)snapshot_free);
    WITH_LOCK(&m->lock);
    GHashTableIter iter;
    const Flow *flow;

    g_hash_table_iter_init(&iter, m->flows);
    while (g_hash_table_iter_next(&iter, NULL, (void **)&flow))
        if (!flow->released && g_str_equal(flow->row->kind, "create-snapshot") &&
            g_str_equal(flow->row->vm_id, vm_id))
            g_ptr_array_add(snapshots, snapshot_new(flow_param(flow, "snapshot_id"),
                                                    flow_param(flow, "name"), flow->row->created));
    return snapshots;
}
