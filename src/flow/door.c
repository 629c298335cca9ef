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

Vm *
door_vm_now(Manager *m, const char *id_or_name, GError **error)
{
    g_autoptr(Vm) vm = manager_vm(m, id_or_name, error);
    Host *host = vm != NULL ? host_by_name(m, vm->host) : NULL;
    g_autoptr(GError) why = NULL;
    Vm *now;

    if (host == NULL || vm_is_held(m, vm->id)) /* that is answer enough */
        return g_steal_pointer(&vm);
    now = inventory_ask(host, vm->id, true, LOOK_MS, &why);
    if (now != NULL)
        return now;
    log_debug("VM %s was not looked at: %s", vm->name, why->message);
    return manager_vm(m, id_or_name, error);
}

json_t *
door_params(const Vm *vm, const char *user)
{
    json_t *params = json_pack("{s:s, s:s}", "host", vm->host, "vm_name", vm->name);

    json_put_text(params, "user", user);
    return params;
}

char *
door_begin(Manager *m, FlowRow *take_row, const char *correlation_id, char *take_description,
           GError **error)
{
    g_autofree char *id = g_strdup(take_row->id);

    take_row->correlation_id = g_strdup(correlation_id);
    take_row->description = take_description;
    return flow_begin(m, take_row, error) ? g_steal_pointer(&id) : NULL;
}

char *
door_refuse(Manager *m, const char *kind, const Vm *vm, const char *snapshot_name,
            const char *correlation_id, const char *user, GError *take_why, GError **error)
{
    event_refused(m, flow_kind(kind), vm, snapshot_name, correlation_id, user, take_why);
    g_propagate_error(error, take_why);
    return NULL;
}

char *
door_pass(Manager *m, const DoorDeed *deed, GError **error)
{
    g_autoptr(Vm) vm = door_vm_now(m, deed->vm_id, error);
    WITH_LOCK(&m->door);
    g_autofree char *id = NULL;
    GError *why = NULL;

    if (vm == NULL)
        return NULL;
    id = deed->begin(m, deed->what, vm, &why);
    if (id != NULL)
        return g_steal_pointer(&id);
    return door_refuse(m, deed->kind, vm, NULL, deed->correlation_id, deed->user, why, error);
}

/* ---- create ---- */

bool
door_disk_ids(const Vm *vm, const char *const *disks, json_t **ret_ids, VerbContext *asked,
              GError **error)
{
    g_autoptr(json_t) ids = json_array();
    g_autoptr(GHashTable) named = g_hash_table_new(g_str_hash, g_str_equal);

    *ret_ids = NULL;
    if (disks == NULL) {
        asked->busy_disk = first_busy_disk(vm, NULL);
        return true;
    }
    for (; *disks != NULL; disks++) {
        const Disk *disk = vm_disk(vm, *disks);
        if (disk == NULL)
            return error_set(error, ERR_NOT_FOUND, "VM '%s' has no disk '%s'", vm->name, *disks);
        if (!g_hash_table_add(named, disk->id))
            return error_set(error, ERR_INVALID, "disk '%s' is named twice", *disks);
        if (!disk_is_managed(disk) && asked->bad_disk == NULL)
            asked->bad_disk = disk;
        else if (disk->busy != NULL && asked->busy_disk == NULL)
            asked->busy_disk = disk;
        json_array_append_new(ids, json_string(disk->id));
    }
    *ret_ids = g_steal_pointer(&ids);
    return true;
}

static char *
create(Manager *m, const SnapshotCreate *what, const Vm *vm, const char *snapshot_id,
       GError **error)
{
    const char *quiesce = what->quiesce != NULL ? what->quiesce : "auto";
    g_autoptr(json_t) disks = NULL;
    VerbContext asked = { 0 };
    json_t *params;

    if (!name_check("snapshot", what->name, error) || !create_check(what, quiesce, error))
        return NULL;
    if (!id_is_valid(snapshot_id)) {
        error_set(error, ERR_INVALID, "'%s' is not an id for a snapshot", snapshot_id);
        return NULL;
    }
    if (vm_snapshot(vm, snapshot_id) != NULL) {
        error_set(error, ERR_EXISTS, "VM '%s' already has a snapshot %s", vm->name, snapshot_id);
        return NULL;
    }
    if (!door_disk_ids(vm, what->disks, &disks, &asked, error) ||
        !manager_allowed(m, verb_of_create(what->memory, quiesce), vm, &asked, error))
        return NULL;
    params = door_params(vm, what->user);
    json_object_set_new(params, "snapshot_id", json_string(snapshot_id));
    json_object_set_new(params, "name", json_string(what->name));
    json_object_set_new(params, "snapshots", json_pack("[s]", snapshot_id));
    json_object_set_new(params, "names", json_pack("[s]", what->name));
    json_object_set_new(params, "memory", json_boolean(what->memory));
    json_object_set_new(params, "quiesce", json_string(quiesce));
    if (disks != NULL)
        json_object_set(params, "disks", disks);
    return door_begin(
        m, flow_row_new("create-snapshot", vm->id, NULL, params), what->correlation_id,
        g_strdup_printf("Creating snapshot '%s' of VM '%s'", what->name, vm->name), error);
}

char *
manager_snapshot_create(Manager *m, const SnapshotCreate *what, char **ret_snapshot_id,
                        GError **error)
{
    g_autoptr(Vm) vm = door_vm_now(m, what->vm_id, error);
    WITH_LOCK(&m->door);
    g_autofree char *snapshot_id =
        what->snapshot_id != NULL ? g_strdup(what->snapshot_id) : id_new();
    GError *why = NULL;
    char *id;

    if (vm == NULL)
        return NULL;
    id = create(m, what, vm, snapshot_id, &why);
    if (id == NULL)
        return door_refuse(m, "create-snapshot", vm, what->name, what->correlation_id, what->user,
                           why, error);
    if (ret_snapshot_id != NULL)
        *ret_snapshot_id = g_steal_pointer(&snapshot_id);
    return id;
}

/* ---- remove ---- */

static bool
no_vm(const char *id_or_name, GError **error)
{
    return error_set(error, ERR_NOT_FOUND, "there is no VM '%s'", id_or_name);
}

static bool
snapshots_named(const Vm *vm, const char *const *ids, json_t *names, GError **error)
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

static char *
remove_description(const Vm *vm, const json_t *names)
{
    size_t n = json_array_size(names);

    if (n == 1)
        return g_strdup_printf("Removing snapshot '%s' of VM '%s'",
                               json_string_value(json_array_get(names, 0)), vm->name);
    return g_strdup_printf("Removing %zu snapshots of VM '%s'", n, vm->name);
}

/* What the host said when it was asked for a plan. */
typedef struct {
    Vm *vm;       /* as fresh as could be had; NULL = there is none */
    json_t *plan; /* NULL = none was told */
    GError *why;  /* why not; also NULL where nobody was asked */
} Look;

static void
look_clear(Look *look)
{
    vm_free(look->vm);
    json_decref(look->plan);
    g_clear_error(&look->why);
}
G_DEFINE_AUTO_CLEANUP_CLEAR_FUNC(Look, look_clear)

static json_t *
remove_params(const Vm *vm, const SnapshotsRemove *what)
{
    json_t *params = door_params(vm, what->user), *snapshots = json_array();

    for (const char *const *id = what->snapshot_ids; id != NULL && *id != NULL; id++)
        json_array_append_new(snapshots, json_string(*id));
    json_object_set_new(params, "snapshots", snapshots);
    json_object_set_new(params, "strategy", json_string(strategy_word(what->strategy)));
    json_object_set_new(params, "verify", json_string(verify_word(what->verify)));
    json_object_set_new(params, "bandwidth", json_integer((json_int_t)what->bandwidth));
    json_put_text(params, "disk", what->disk);
    return params;
}

/* Before the door, so that a slow host holds up nobody else. A host that gives no plan is asked
 * for the VM alone: if that explains it, the reason is a better one. */
static Look
look_and_plan(Manager *m, const SnapshotsRemove *what, unsigned timeout_ms)
{
    Look look = { .vm = manager_vm(m, what->vm_id, NULL) };
    Host *host = look.vm != NULL ? host_by_name(m, look.vm->host) : NULL;
    g_autoptr(json_t) params = NULL;
    Vm *now = NULL;

    if (host == NULL || vm_is_held(m, look.vm->id))
        return look;
    params = remove_params(look.vm, what);
    if (!agent_plan_ask(host, look.vm->id, params, timeout_ms, &now, &look.plan, &look.why)) {
        log_debug("VM %s: no plan: %s", look.vm->name, look.why->message);
        if (!g_error_matches(look.why, ERR, ERR_TIMEOUT))
            now = inventory_ask(host, look.vm->id, true, LOOK_MS, NULL);
        if (now == NULL)
            now = manager_vm(m, look.vm->id, NULL);
    }
    vm_free(look.vm);
    look.vm = now;
    return look;
}

/* What must be so for a removal and for a plan of it alike. */
static bool
can_remove(Manager *m, Verb verb, const SnapshotsRemove *what, const Vm *vm, json_t *names,
           GError **error)
{
    if (!snapshots_named(vm, what->snapshot_ids, names, error) ||
        !disk_named(vm, what->disk, error))
        return false;
    for (const char *const *id = what->snapshot_ids; *id != NULL; id++) {
        VerbContext asked = { .snapshot = vm_snapshot(vm, *id) };
        asked.busy_disk = first_busy_disk(vm, asked.snapshot);
        if (what->disk != NULL && asked.busy_disk != vm_disk(vm, what->disk))
            asked.busy_disk = NULL;
        if (!manager_allowed(m, verb, vm, &asked, error))
            return false;
    }
    return true;
}

/* Would it work as the VM stands now? A host that did not answer may do so later: the flow asks
 * again, in its own time. */
static bool
can_plan(const Look *look, GError **error)
{
    if (look->plan != NULL)
        return agent_plan_judge(look->plan, error);
    if (look->why == NULL || error_may_retry(look->why))
        return true;
    g_propagate_error(error, g_error_copy(look->why));
    return false;
}

/* Has no other deed changed the VM between the look and the door? Then its plan need not be made
 * again; the agent compares it with the chain before it begins. */
static bool
is_current(Manager *m, const Vm *seen)
{
    g_autoptr(Vm) now = manager_vm(m, seen->id, NULL);

    return now != NULL && now->generation == seen->generation;
}

static char *
remove_snapshots(Manager *m, const SnapshotsRemove *what, const Look *look, GError **error)
{
    g_autoptr(json_t) names = json_array();
    const Vm *vm = look->vm;
    json_t *params;
    FlowRow *row;

    if (!can_remove(m, VERB_SNAPSHOT_DELETE, what, vm, names, error) || !can_plan(look, error))
        return NULL;
    params = remove_params(vm, what);
    json_object_set(params, "names", names);
    if (what->disk != NULL)
        json_object_set_new(params, "disk", json_string(vm_disk(vm, what->disk)->id));
    row = flow_row_new("remove-snapshots", vm->id, NULL, params);
    if (look->plan != NULL && is_current(m, vm)) {
        json_object_set(row->data, "plan", look->plan);
        json_object_set_new(row->data, "runs", agent_plan_runs(look->plan, params, vm->host));
    }
    return door_begin(m, row, what->correlation_id, remove_description(vm, names), error);
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
    g_auto(Look) look = look_and_plan(m, what, LOOK_MS);
    WITH_LOCK(&m->door);
    GError *why = NULL;
    char *id;

    if (look.vm == NULL) {
        no_vm(what->vm_id, error);
        return NULL;
    }
    id = remove_snapshots(m, what, &look, &why);
    if (id != NULL)
        return id;
    return door_refuse(m, "remove-snapshots", look.vm,
                       what->snapshot_ids != NULL ? name_of(look.vm, what->snapshot_ids[0]) : NULL,
                       what->correlation_id, what->user, why, error);
}

bool
manager_plan(Manager *m, const SnapshotsRemove *what, json_t **ret_plan, GError **error)
{
    g_auto(Look) look = look_and_plan(m, what, PLAN_MS);
    g_autoptr(json_t) names = json_array();

    if (look.vm == NULL)
        return no_vm(what->vm_id, error);
    if (!can_remove(m, VERB_SNAPSHOT_PLAN, what, look.vm, names, error))
        return false;
    if (look.plan == NULL && look.why != NULL) {
        g_propagate_error(error, g_steal_pointer(&look.why));
        return false;
    }
    if (look.plan == NULL) /* a job ended between two looks */
        return error_set(error, ERR_BUSY, "VM '%s' was busy a moment ago; ask again",
                         look.vm->name);
    *ret_plan = g_steal_pointer(&look.plan);
    return true;
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
    VerbContext asked = { .snapshot = snapshot };
    if (!manager_allowed(m, VERB_SNAPSHOT_RENAME, vm, &asked, error))
        return NULL;
    params = door_params(vm, user);
    json_object_set_new(params, "snapshot_id", json_string(snapshot->id));
    json_object_set_new(params, "name", json_string(name));
    json_object_set_new(params, "snapshots", json_pack("[s]", snapshot->id));
    json_object_set_new(params, "names", json_pack("[s]", snapshot->name));
    return door_begin(m, flow_row_new("rename-snapshot", vm->id, NULL, params), correlation_id,
                      g_strdup_printf("Renaming snapshot '%s' of VM '%s' to '%s'", snapshot->name,
                                      vm->name, name),
                      error);
}

/* ---- the doctor ---- */

/* The operation of the agent that a job of ours has mended with; NULL = no such job, or it mended
 * nothing that can be undone. */
static char *
fix_of_job(Manager *m, const char *job_id)
{
    g_autoptr(json_t) job = manager_job(m, job_id, NULL);

    return g_strdup(json_text(json_object_get(job, "result"), "undo"));
}

static json_t *
doctor_params(Manager *m, const DoctorFix *what, const Vm *vm, GError **error)
{
    json_t *params, *classes = json_array();

    for (const char *const *word = what->classes; word != NULL && *word != NULL; word++)
        json_array_append_new(classes, json_string(*word));
    params = door_params(vm, what->user);
    json_object_set_new(params, "classes", classes);
    if (what->undo == NULL)
        return params;
    g_autofree char *fix = fix_of_job(m, what->undo);
    if (fix == NULL && !id_is_valid(what->undo)) {
        error_set(error, ERR_INVALID, "'%s' is not the id of a job", what->undo);
        json_decref(params);
        return NULL;
    }
    json_object_set_new(params, "undo", json_string(fix != NULL ? fix : what->undo));
    return params;
}

char *
manager_doctor_fix(Manager *m, const DoctorFix *what, GError **error)
{
    g_autoptr(Vm) vm = door_vm_now(m, what->vm_id, error);
    WITH_LOCK(&m->door);
    json_t *params;

    if (vm == NULL || !manager_allowed(m, VERB_DOCTOR, vm, NULL, error) ||
        (params = doctor_params(m, what, vm, error)) == NULL)
        return NULL;
    return door_begin(m, flow_row_new("doctor", vm->id, NULL, params), what->correlation_id,
                      what->undo != NULL
                          ? g_strdup_printf("Undoing what was mended of VM '%s'", vm->name)
                          : g_strdup_printf("Mending what is wrong with VM '%s'", vm->name),
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
    while (g_hash_table_iter_next(&iter, NULL, (void **)&flow))
        if (!flow->released && g_str_equal(flow->row->vm_id, vm_id) &&
            flow_names_snapshot(flow, snapshot_id))
            return true;
    return false;
}
