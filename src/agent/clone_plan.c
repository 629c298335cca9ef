/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * Cloning: which disks, out of which volumes, under which names; and whether it can be done.
 */
#include "agent/clone.h"

#include "agent/built.h"
#include "base/text.h"
#include "qcow2/build.h"

#include <string.h>
#include <sys/stat.h>

void
clone_plan_clear(ClonePlan *plan)
{
    json_decref(plan->disks);
    json_decref(plan->left);
    g_free(plan->xml);
}

static bool
is_strategy(const char *word)
{
    return word == NULL || g_str_equal(word, "auto") || g_str_equal(word, "share") ||
           g_str_equal(word, "copy");
}

/* libvirt takes no slash in the name of a VM. */
static bool
check_name(const char *name, GError **error)
{
    return name_check("the new VM's name", name, error) &&
           (strchr(name, '/') == NULL ||
            error_set(error, ERR_INVALID, "the name of a VM can have no slash: '%s'", name));
}

/* "places": the id of a disk → the directory that its clone goes to */
static bool
check_places(const json_t *params, GError **error)
{
    const json_t *places = json_object_get(params, "places");
    const char *disk;
    json_t *place;

    if (places != NULL && !json_is_object(places))
        return error_set(error, ERR_INVALID, "'places' is not an object");
    json_object_foreach ((json_t *)places, disk, place)
        if (!json_is_string(place) || *json_string_value(place) != '/')
            return error_set(error, ERR_INVALID,
                             "'places': the place of disk %s is not an absolute path", disk);
    return true;
}

bool
clone_params(const json_t *params, GError **error)
{
    static const char *const keys[] = { "clone_id", "name", NULL };
    const char *snapshot = json_text(params, "snapshot_id");

    if (!required_texts(params, keys, error) || !check_name(json_text(params, "name"), error))
        return false;
    if (!id_is_valid(json_text(params, "clone_id")) || (snapshot != NULL && !id_is_valid(snapshot)))
        return error_set(error, ERR_INVALID, "'clone_id' or 'snapshot_id' is not a UUID");
    if (!is_strategy(json_text(params, "strategy")))
        return error_set(error, ERR_INVALID, "strategy is auto, share or copy, not '%s'",
                         json_text(params, "strategy"));
    return check_places(params, error);
}

/* ---- which disks ---- */

/* -1 = it cannot be cloned from there, with the reason. */
static int
top_of_snapshot(const Vm *vm, const Snapshot *snapshot, const Disk *disk, GError **error)
{
    const SnapshotDisk *part = snapshot_disk(snapshot, disk->id);
    int at = disk_volume_index(disk, part->volume_id);

    if (part->unusable) {
        error_set(
            error, ERR_REFUSED,
            "snapshot '%s' of VM '%s' is unusable on disk %s: a merge has begun to change its "
            "volume; it can only be deleted",
            snapshot->name, vm->name, disk->target);
        return -1;
    }
    if (at < 0)
        error_set(error, ERR_REFUSED,
                  "snapshot '%s' of VM '%s': its volume of disk %s is not in the chain any more; "
                  "look what livemerge doctor %s says",
                  snapshot->name, vm->name, disk->target, vm->id);
    return at;
}

/* The index of the volume up to which a disk is cloned; -1 with an error: it cannot be; -1 without
 * one: it is no part of it, why is told in left. */
static int
top_of(const Vm *vm, const Snapshot *snapshot, const Disk *disk, json_t *left, GError **error)
{
    bool held = snapshot == NULL || snapshot_disk(snapshot, disk->id) != NULL;

    if (disk->read_only) /* both VMs can have it */
        return -1;
    if (!disk_is_managed(disk) || !held) {
        const char *why =
            disk->unmanaged != NULL ? disk->unmanaged : "the snapshot holds nothing of it";
        json_array_append_new(left, json_pack("{s:s, s:s}", "target", disk->target, "why", why));
        return -1;
    }
    return snapshot != NULL ? top_of_snapshot(vm, snapshot, disk, error)
                            : (int)disk->volumes->len - 1;
}

/* "DIR/NAME-vda.1a2b3c4d.qcow2", beside what the VM has, or where it was wanted. */
static char *
dest_of(const Disk *disk, const Volume *top, const json_t *params, const char *id)
{
    const char *place = json_text(json_object_get(params, "places"), disk->id);
    g_autofree char *dir = place != NULL ? g_strdup(place) : g_path_get_dirname(top->path);
    g_autofree char *safe = hv_file_name(json_text(params, "name"));
    g_autofree char *beside = g_strdup_printf("%s/%s-%s.qcow2", dir, safe, disk->target);

    return new_file_name(beside, id, "qcow2");
}

static json_t *
disk_plan(const Disk *disk, int top, const json_t *params, const char *id)
{
    const Volume *volume = disk->volumes->pdata[top];
    g_autofree char *dest = dest_of(disk, volume, params, id);
    g_autofree char *disk_id = id_new(), *volume_id = id_new();
    json_t *volumes = json_array();
    json_t *plan =
        json_pack("{s:s, s:s, s:s, s:s, s:s, s:I, s:b, s:o}", "target", disk->target, "disk",
                  disk->id, "disk_id", disk_id, "volume_id", volume_id, "dest", dest, "size",
                  (json_int_t)volume->virtual_size, "boot", (int)disk->boot, "volumes", volumes);

    json_put_text(plan, "bus", disk->bus);
    for (int i = 0; i <= top; i++) {
        volume = disk->volumes->pdata[i];
        json_array_append_new(
            volumes, json_pack("{s:s, s:s}", "path", volume->path, "format", volume->format));
    }
    return plan;
}

static bool
choose(const Vm *vm, const Snapshot *snapshot, const json_t *params, const char *id,
       ClonePlan *plan, GError **error)
{
    plan->disks = json_array();
    plan->left = json_array();
    for (guint i = 0; i < vm->disks->len; i++) {
        const Disk *disk = vm->disks->pdata[i];
        g_autoptr(GError) problem = NULL;
        int top = top_of(vm, snapshot, disk, plan->left, &problem);
        if (problem != NULL) {
            g_propagate_error(error, g_steal_pointer(&problem));
            return false;
        }
        if (top >= 0)
            json_array_append_new(plan->disks, disk_plan(disk, top, params, id));
    }
    return json_array_size(plan->disks) > 0 ||
           error_set(error, ERR_REFUSED, "VM '%s' has no disk that could be cloned%s%s", vm->name,
                     snapshot != NULL ? " from snapshot " : "",
                     snapshot != NULL ? snapshot->name : "");
}

/* ---- can it be done? ---- */

static bool
look_at_disk(const json_t *disk, Qcow2BuildPlan *ret, GError **error)
{
    unsigned n = 0;
    g_autofree Qcow2Source *layers = sources_of(json_object_get(disk, "volumes"), &n);

    if (!qcow2_build_look(layers, n, 0, ret, error))
        return false;
    return ret->refusal == NULL ||
           error_set(error, ERR_UNSUPPORTED, "disk %s cannot be cloned: %s; nothing was changed",
                     json_text(disk, "target"), ret->refusal);
}

/* A part of the reserve stays, or the guests there could not go on writing. */
static bool
has_room(const Domain *domain, uint64_t written, GError **error)
{
    uint64_t room = 0, total = 0;

    if (!domain_space(domain, &room, &total, error))
        return false;
    uint64_t reserve = MIN(domain_reserve(domain, total), room / 2);
    if (written <= room - reserve)
        return true;
    g_autofree char *need = size_text(written), *left = size_text(room), *kept = size_text(reserve);
    return error_set(error, ERR_NO_SPACE,
                     "storage domain %s (%s) has not enough room for the clone: %s are needed, %s "
                     "are free, of which %s are kept in reserve; nothing was changed",
                     domain->name, domain->path, need, left, kept);
}

/* Blocks are only shared inside of one file system. */
static bool
is_one_file_system(const json_t *disk)
{
    const json_t *volumes = json_object_get(disk, "volumes");
    g_autofree char *dir = g_path_get_dirname(json_text(disk, "dest"));
    struct stat there, here;
    size_t i;
    json_t *volume;

    if (stat(dir, &there) < 0)
        return false;
    json_array_foreach ((json_t *)volumes, i, volume)
        if (stat(json_text(volume, "path"), &here) < 0 || here.st_dev != there.st_dev)
            return false;
    return true;
}

/* Why the disk cannot share blocks with its source; NULL = it can, or with an error. */
static char *
why_not_shared(Agent *agent, const json_t *disk, GError **error)
{
    Domain *domain = agent_domain(agent, json_text(disk, "dest"), false, error);

    if (domain == NULL)
        return NULL;
    if (!is_one_file_system(disk))
        return g_strdup_printf("disk %s is in another file system than storage domain %s (%s): "
                               "they cannot share blocks",
                               json_text(disk, "target"), domain->name, domain->path);
    return domain_can_share(domain)
               ? NULL
               : g_strdup_printf("storage domain %s (%s) cannot share blocks between files",
                                 domain->name, domain->path);
}

static bool
can_share_all(Agent *agent, const json_t *disks, const char *strategy, bool *ret_share,
              GError **error)
{
    g_autoptr(GError) problem = NULL;

    *ret_share = g_strcmp0(strategy, "copy") != 0;
    for (size_t i = 0; *ret_share && i < json_array_size(disks); i++) {
        g_autofree char *why = why_not_shared(agent, json_array_get(disks, i), &problem);
        if (problem != NULL) {
            g_propagate_error(error, g_steal_pointer(&problem));
            return false;
        }
        *ret_share = why == NULL;
        if (why != NULL && g_strcmp0(strategy, "share") == 0)
            return error_set(error, ERR_UNSUPPORTED, "%s; the strategies auto and copy copy them",
                             why);
    }
    return true;
}

/* All disks of a domain together. */
static bool
add_cost(GHashTable *needs, const Domain *domain, uint64_t written, GError **error)
{
    uint64_t *sum = g_hash_table_lookup(needs, domain);

    if (sum == NULL) {
        sum = g_new0(uint64_t, 1);
        g_hash_table_insert(needs, (void *)domain, sum);
    }
    *sum += written;
    return has_room(domain, *sum, error);
}

static bool
estimate(Agent *agent, ClonePlan *plan, GError **error)
{
    g_autoptr(GHashTable) needs = g_hash_table_new_full(NULL, NULL, NULL, g_free);
    size_t i;
    json_t *disk;

    json_array_foreach (plan->disks, i, disk) {
        const Domain *domain = agent_domain(agent, json_text(disk, "dest"), false, error);
        g_auto(Qcow2BuildPlan) look = { 0 };

        if (domain == NULL || !look_at_disk(disk, &look, error))
            return false;
        uint64_t written =
            look.metadata_bytes + (plan->share ? look.unpacked_bytes : look.data_bytes);
        json_object_set_new(disk, "bytes", json_integer((json_int_t)look.data_bytes));
        plan->bytes += look.data_bytes;
        plan->written += written;
        if (!add_cost(needs, domain, written, error))
            return false;
    }
    return true;
}

/* Each is a directory in a storage domain of this host, of a disk that is cloned. */
static bool
places_are_there(Agent *agent, const json_t *params, const ClonePlan *plan, GError **error)
{
    const json_t *places = json_object_get(params, "places");
    const char *disk_id;
    json_t *place;

    json_object_foreach ((json_t *)places, disk_id, place) {
        const char *dir = json_string_value(place);
        bool cloned = false;
        for (size_t i = 0; i < json_array_size(plan->disks); i++)
            cloned |= g_strcmp0(json_text(json_array_get(plan->disks, i), "disk"), disk_id) == 0;
        if (!cloned)
            return error_set(error, ERR_INVALID,
                             "there is no disk %s among those that are cloned: it can go nowhere",
                             disk_id);
        if (!g_file_test(dir, G_FILE_TEST_IS_DIR))
            return error_set(error, ERR_INVALID, "there is no directory %s on this host", dir);
        g_autofree char *path = g_build_filename(dir, "-", NULL);
        if (agent_domain(agent, path, false, NULL) == NULL)
            return error_set(error, ERR_INVALID,
                             "%s is in no storage domain of this host; name it in its agent's "
                             "configuration first",
                             dir);
    }
    return true;
}

static bool
name_is_free(Agent *agent, const json_t *params, GError **error)
{
    WITH_LOCK(&agent->lock);
    GHashTableIter it;
    void *value;

    g_hash_table_iter_init(&it, agent->vms);
    while (g_hash_table_iter_next(&it, NULL, &value)) {
        const AgentVm *entry = value;
        if (entry->vm != NULL && g_str_equal(entry->vm->name, json_text(params, "name")) &&
            g_strcmp0(entry->id, json_text(params, "clone_id")) != 0)
            return error_set(error, ERR_EXISTS, "there is a VM '%s' already", entry->vm->name);
    }
    return true;
}

bool
clone_plan(Agent *agent, const Vm *vm, const json_t *params, const char *id, ClonePlan *plan,
           GError **error)
{
    const char *snapshot_id = json_text(params, "snapshot_id");
    const Snapshot *snapshot = snapshot_id != NULL ? vm_snapshot(vm, snapshot_id) : NULL;

    if (snapshot_id != NULL && snapshot == NULL)
        return error_set(error, ERR_NOT_FOUND, "VM '%s' has no snapshot %s", vm->name, snapshot_id);
    if (snapshot != NULL && snapshot->config == NULL)
        return error_set(error, ERR_REFUSED,
                         "no definition of VM '%s' was kept with snapshot '%s'; name another one",
                         vm->name, snapshot->name);
    plan->xml = snapshot != NULL ? g_strdup(snapshot->config) : NULL;
    return name_is_free(agent, params, error) && choose(vm, snapshot, params, id, plan, error) &&
           places_are_there(agent, params, plan, error) &&
           can_share_all(agent, plan->disks, json_text(params, "strategy"), &plan->share, error) &&
           estimate(agent, plan, error);
}

bool
clone_ask(void *self, const HttpRequest *request, const char *id, json_t *body, json_t **ret_json,
          GError **error)
{
    Agent *agent = self;
    g_autoptr(Vm) vm = agent_vm_shown(agent, id);
    g_auto(ClonePlan) plan = { 0 };

    if (vm == NULL) {
        AgentVm *entry = agent_entry(agent, id, false);
        WITH_LOCK(&agent->lock);
        return agent_no_vm(entry, id, error);
    }
    if (!clone_params(body, error) ||
        !clone_plan(agent, vm, body, json_text(body, "clone_id"), &plan, error))
        return false;
    *ret_json = json_pack("{s:s, s:I, s:I, s:O, s:O}", "strategy", plan.share ? "share" : "copy",
                          "bytes", (json_int_t)plan.bytes, "written", (json_int_t)plan.written,
                          "disks", plan.disks, "left", plan.left);
    return true;
}
