/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * What is there: the VMs of this host with what is to be done for each, and what only a person can
 * decide. Every VM is looked at as if its QEMU had crashed: the headers say what its chains are,
 * and the doctor what does not fit.
 */
#include "agent/doctor.h"
#include "agent/import.h"

#include "base/text.h"

#include <string.h>

typedef struct {
    Agent *agent;
    const Domain *domain; /* NULL = all */
    bool dry;
    json_t *vms, *doubtful; /* borrowed */
} Tour;

/* ---- what is in question, and the command that decides */

static void
doubt(const Tour *tour, const char *vm_id, const char *vm_name, const char *file, const char *why,
      char *take_command)
{
    g_autofree char *command = take_command;
    json_t *entry = json_object();

    json_put_text(entry, "vm_id", vm_id);
    json_put_text(entry, "vm", vm_name);
    json_put_text(entry, "file", file);
    json_put_text(entry, "why", why);
    json_put_text(entry, "command", command);
    json_array_append_new(tour->doubtful, entry);
}

/* Its volume is in no chain any more: who took it out may have written it into the one below. */
static bool
is_lost(const Vm *vm, const Snapshot *snapshot)
{
    for (guint i = 0; i < snapshot->disks->len; i++) {
        const SnapshotDisk *sd = snapshot->disks->pdata[i];
        const Disk *disk = vm_disk(vm, sd->disk_id);
        if (disk != NULL && disk_any_volume(disk, sd->volume_id) == NULL)
            return true;
    }
    return false;
}

static char *
why_unusable(const Vm *vm, const Snapshot *snapshot)
{
    const Snapshot *below = snapshot->parent != NULL ? vm_snapshot(vm, snapshot->parent) : NULL;

    if (!is_lost(vm, snapshot))
        return g_strdup_printf("snapshot '%s' is unusable: a merge has begun to change its volume; "
                               "it can only be deleted",
                               snapshot->name);
    return g_strdup_printf(
        "snapshot '%s' is unusable: its volume was merged, and the manifest does "
        "not know how; it can only be deleted%s%s%s",
        snapshot->name, below != NULL ? ". If it was merged downwards, '" : "",
        below != NULL ? below->name : "", below != NULL ? "' now holds its state" : "");
}

static void
doubt_snapshots(const Tour *tour, const Vm *vm)
{
    g_autofree char *name = g_shell_quote(vm->name);

    for (guint i = 0; i < vm->snapshots->len; i++) {
        const Snapshot *snapshot = vm->snapshots->pdata[i];
        g_autofree char *why = why_unusable(vm, snapshot);

        if (!snapshot_is_unusable(snapshot))
            continue;
        doubt(tour, vm->id, vm->name, NULL, why,
              g_strdup_printf("livemerge snapshot delete %s %s", name, snapshot->id));
    }
}

/* Those that no data hang on are left to whoever asks the doctor himself. */
static bool
is_in_question(const json_t *finding)
{
    Diagnosis class = diagnosis_from_word(json_text(finding, "class"));

    return class != DIAG_LOST_SNAPSHOT && /* see doubt_snapshots() */
           (g_strcmp0(json_text(finding, "severity"), "notice") != 0 ||
            class == DIAG_ORPHAN_VOLUME || class == DIAG_LEFTOVER_BUILD);
}

static bool
is_adopted(const json_t *todo, const Vm *vm, const json_t *finding)
{
    const json_t *adopt = json_object_get(todo, "adopt");
    const char *file = json_text(finding, "file");

    for (size_t i = 0; i < json_array_size(adopt); i++) {
        const json_t *disks = json_object_get(json_array_get(adopt, i), "disks");
        for (size_t k = 0; k < json_array_size(disks); k++) {
            const json_t *part = json_array_get(disks, k);
            const Disk *disk = vm_disk(vm, json_text(part, "disk_id"));
            int at = disk != NULL ? disk_volume_index(disk, json_text(part, "volume_id")) : -1;
            if (at >= 0 && at + 1 < (int)disk->volumes->len &&
                g_strcmp0(((Volume *)disk->volumes->pdata[at + 1])->path, file) == 0)
                return true;
        }
    }
    return false;
}

static void
doubt_finding(const Tour *tour, const Vm *vm, const json_t *todo, const json_t *finding)
{
    const char *help = json_text(finding, "help"), *class = json_text(finding, "class");
    bool can_fix = g_strcmp0(json_text(finding, "can_fix"), "no") != 0;
    g_autofree char *name = g_shell_quote(vm->name);
    g_autofree char *why =
        g_strdup_printf("%s: %s%s%s", class, json_text(finding, "text"),
                        help != NULL ? ". What helps: " : "", help != NULL ? help : "");

    if (!is_in_question(finding) || is_adopted(todo, vm, finding))
        return;
    doubt(tour, vm->id, vm->name, json_text(finding, "file"), why,
          can_fix ? g_strdup_printf("livemerge doctor %s --fix --class %s", name, class)
                  : g_strdup_printf("livemerge doctor %s", name));
}

/* ---- one VM */

static bool
is_in_scope(const Tour *tour, const Vm *vm)
{
    if (tour->domain == NULL || g_strcmp0(vm->home, tour->domain->path) == 0)
        return true;
    for (guint i = 0; i < vm->disks->len; i++) {
        const Volume *leaf = disk_leaf(vm->disks->pdata[i]);
        if (leaf != NULL && domain_holds(tour->domain, leaf->path))
            return true;
    }
    return false;
}

/* Operations that have not ended: what they do is not done yet, so nothing else is to be done. */
static json_t *
running_of(Agent *agent, AgentVm *entry)
{
    WITH_LOCK(&agent->lock);
    json_t *list = json_array();

    for (guint i = 0; i < entry->operations->len; i++) {
        const Operation *op = entry->operations->pdata[i];
        if (!operation_ended(op))
            json_array_append_new(list, json_pack("{s:s, s:s, s:s}", "id", op->row.id, "kind",
                                                  op->row.kind, "step", op->row.step));
    }
    return list;
}

static guint
volumes_of(const Disk *disk)
{
    return disk->volumes->len + disk->branches->len;
}

static json_t *
vm_json(const Tour *tour, const Vm *vm, const json_t *running, json_t *take_todo)
{
    json_t *json =
        json_pack("{s:s, s:s, s:s, s:i, s:i, s:O, s:o}", "vm_id", vm->id, "vm", vm->name, "state",
                  vm_state_word(vm->state), "disks", (int)vm->disks->len, "snapshots",
                  (int)vm->snapshots->len, "running", running, "todo", take_todo);
    json_int_t volumes = 0;

    for (guint i = 0; i < vm->disks->len; i++)
        volumes += volumes_of(vm->disks->pdata[i]);
    json_object_set_new(json, "volumes", json_integer(volumes));
    json_put_text(json, "path", vm->home);
    json_put_text(json, "unmanaged", vm->unmanaged);
    return json;
}

static bool
look_again(const Tour *tour, AgentVm *entry, const json_t *running, GError **error)
{
    if (json_array_size(running) > 0)
        return true; /* its operations look at it themselves */
    WITH_LOCK(&entry->lock);

    return agent_look_closely(tour->agent, entry, error);
}

static bool
tour_vm(const Tour *tour, AgentVm *entry, const json_t *findings, GError **error)
{
    g_autoptr(json_t) running = running_of(tour->agent, entry);
    g_autoptr(json_t) todo = NULL;
    g_autoptr(Vm) vm = NULL;

    if (!look_again(tour, entry, running, error))
        return false;
    vm = agent_vm_shown(tour->agent, entry->id);
    if (vm == NULL || !is_in_scope(tour, vm))
        return true;
    todo = json_array_size(running) == 0 ? import_todo(vm) : json_object();
    json_array_append_new(tour->vms, vm_json(tour, vm, running, json_incref(todo)));
    if (vm->unmanaged != NULL)
        doubt(tour, vm->id, vm->name, NULL, vm->unmanaged,
              g_strdup_printf("livemerge doctor %s", vm->id));
    doubt_snapshots(tour, vm);
    for (size_t i = 0; i < json_array_size(findings); i++)
        if (g_strcmp0(json_text(json_array_get(findings, i), "vm_id"), vm->id) == 0)
            doubt_finding(tour, vm, todo, json_array_get(findings, i));
    return true;
}

/* ---- manifests whose VM is not here */

static bool
is_here(Agent *agent, const char *vm_id)
{
    WITH_LOCK(&agent->lock);
    const AgentVm *entry = g_hash_table_lookup(agent->vms, vm_id);

    return entry != NULL && entry->vm != NULL;
}

static void
doubt_manifest(const Tour *tour, const Domain *domain, const char *vm_id)
{
    g_autoptr(GError) problem = NULL;
    g_autoptr(Vm) vm = manifest_load(domain, vm_id, &problem);
    g_autofree char *file = g_strdup_printf("%s/.livemerge/vms/%s.json", domain->path, vm_id);
    g_autofree char *why = NULL;

    if (vm == NULL && problem == NULL)
        return; /* it went away */
    if (vm == NULL)
        why = g_strdup_printf("%s; its VM is on no host", problem->message);
    else
        why = g_strdup_printf("no libvirt defines this VM; its manifest has %u snapshots of %u "
                              "disks, the leaf of %s is %s",
                              vm->snapshots->len, vm->disks->len,
                              vm->disks->len > 0 ? ((Disk *)vm->disks->pdata[0])->target : "none",
                              vm->disks->len > 0 && disk_leaf(vm->disks->pdata[0]) != NULL
                                  ? disk_leaf(vm->disks->pdata[0])->path
                                  : "not known");
    doubt(tour, vm_id, vm != NULL ? vm->name : NULL, file, why,
          g_strdup_printf("virsh define XML, where XML names the leaf and has the id %s; then "
                          "livemerge storage import %s",
                          vm_id, domain->path));
}

static bool
tour_manifests(const Tour *tour, const Domain *domain, GError **error)
{
    g_auto(GStrv) ids = manifest_list(domain, error);

    if (ids == NULL)
        return false;
    for (char **id = ids; *id != NULL; id++)
        if (!is_here(tour->agent, *id))
            doubt_manifest(tour, domain, *id);
    return true;
}

/* ---- all */

static Domain *
domain_number(Agent *agent, guint i)
{
    WITH_LOCK(&agent->lock);

    return i < agent->domains->len ? agent->domains->pdata[i] : NULL;
}

/* A directory that went away with its last VM is no matter. */
static bool
has_gone(const Tour *tour, const Domain *domain)
{
    if (g_file_test(domain->path, G_FILE_TEST_IS_DIR))
        return false;
    for (size_t i = 0; i < json_array_size(tour->vms); i++)
        if (g_strcmp0(json_text(json_array_get(tour->vms, i), "path"), domain->path) == 0)
            return false;
    return true;
}

static json_t *
tour_domains(const Tour *tour)
{
    json_t *list = json_array();
    Domain *domain;

    for (guint i = 0; (domain = domain_number(tour->agent, i)) != NULL; i++) {
        g_autoptr(GError) problem = NULL;

        if ((tour->domain != NULL && domain != tour->domain) || has_gone(tour, domain))
            continue;
        json_array_append_new(list, json_pack("{s:s, s:s, s:s}", "id", domain->id, "name",
                                              domain->name, "path", domain->path));
        if (!tour_manifests(tour, domain, &problem))
            doubt(tour, NULL, NULL, domain->path, problem->message,
                  g_strdup_printf("livemerge storage import %s", domain->path));
    }
    return list;
}

static GPtrArray *
entries_of(Agent *agent)
{
    GPtrArray *entries = g_ptr_array_new();
    WITH_LOCK(&agent->lock);
    GHashTableIter it;
    void *entry;

    g_hash_table_iter_init(&it, agent->vms);
    while (g_hash_table_iter_next(&it, NULL, &entry))
        g_ptr_array_add(entries, entry);
    return entries;
}

/* *ret_domain stays NULL where a dry run would have to make it one. */
static bool
find_domain(Agent *agent, const char *path, bool dry, Domain **ret_domain, GError **error)
{
    g_autofree char *inside = g_build_filename(path, "x", NULL);
    g_autofree char *mark = g_build_filename(path, ".livemerge", "domain.json", NULL);

    *ret_domain = NULL;
    if (!g_path_is_absolute(path))
        return error_set(error, ERR_INVALID, "'%s' is not an absolute path", path);
    if (!g_file_test(path, G_FILE_TEST_IS_DIR))
        return error_set(error, ERR_NOT_FOUND,
                         "%s is no directory of this host; is the storage "
                         "mounted?",
                         path);
    *ret_domain = agent_domain(agent, inside, !dry || g_file_test(mark, G_FILE_TEST_EXISTS), error);
    if (*ret_domain != NULL || !dry)
        return *ret_domain != NULL;
    g_clear_error(error);
    return true;
}

static bool
tour_all(Tour *tour, const json_t *doctor, GError **error)
{
    g_autoptr(GPtrArray) entries = entries_of(tour->agent);
    const json_t *unread = json_object_get(doctor, "unread");

    for (guint i = 0; i < entries->len; i++)
        if (!tour_vm(tour, entries->pdata[i], json_object_get(doctor, "findings"), error))
            return false;
    for (size_t i = 0; i < json_array_size(unread); i++) {
        const json_t *entry = json_array_get(unread, i);
        doubt(tour, NULL, NULL, json_text(entry, "path"), json_text(entry, "why"),
              g_strdup_printf("livemerge storage import %s", json_text(entry, "path")));
    }
    return true;
}

bool
import_answer(Agent *agent, const json_t *body, json_t **ret_json, GError **error)
{
    const char *path = json_text(body, "path");
    g_autoptr(json_t) vms = json_array();
    g_autoptr(json_t) doubtful = json_array();
    g_autoptr(json_t) doctor = NULL;
    Tour tour = { agent, NULL, json_flag(body, "dry_run"), vms, doubtful };
    Domain *domain = NULL;

    if (path != NULL && !find_domain(agent, path, tour.dry, &domain, error))
        return false;
    tour.domain = domain;
    if (path != NULL && domain == NULL) {
        doubt(&tour, NULL, NULL, path,
              "it is no storage domain yet: no VM has a disk there, and "
              "nothing was ever written about one",
              g_strdup_printf("livemerge storage import %s", path));
        *ret_json = json_pack("{s:[], s:O, s:[]}", "vms", "doubtful", doubtful, "domains");
        return true;
    }
    if (!doctor_answer(agent, NULL, &doctor, error) || !tour_all(&tour, doctor, error))
        return false;
    json_t *domains = tour_domains(&tour);
    *ret_json = json_pack("{s:O, s:O, s:o}", "vms", vms, "doubtful", doubtful, "domains", domains);
    return true;
}
