/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * What a VM is: libvirt's definition (which disks, and which leaf, while it runs), the qcow2
 * headers (which volumes stand below), the manifest (ids, snapshots). VMs that exist are adopted in
 * place: whoever has no manifest gets one. Where libvirt and the headers disagree on a running VM,
 * the disk is not touched until they agree again.
 */
#include "agent/inventory.h"
#include "agent/doctor_owners.h"
#include "agent/operation.h"
#include "agent/starting.h"

#include "base/log.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <unistd.h>

/* ---- storage domains ---- */

static Domain *
longest_domain(Agent *agent, const char *path)
{
    Domain *best = NULL;

    for (guint i = 0; i < agent->domains->len; i++) {
        Domain *domain = agent->domains->pdata[i];
        if (domain_holds(domain, path) &&
            (best == NULL || strlen(domain->path) > strlen(best->path)))
            best = domain;
    }
    return best;
}

/* agent->lock held. The storage was mounted after it was opened: what was there was the empty mount
 * point. Nobody does anything with that (domain_is_there()). One in which VMs were seen is never
 * taken for another one: unmounted, it would have lost all that is known of them. */
static Domain *
if_mounted_since(Agent *agent, Domain *before)
{
    g_autoptr(GError) error = NULL;
    guint i = 0;

    if (g_atomic_int_get(&before->empty) == 0 || !domain_is_another(before))
        return before;
    Domain *now = domain_open(before->path, before->name, &error);
    if (now == NULL) { /* the next look tries again */
        log_warn("%s was mounted, but cannot be used: %s", before->path, error->message);
        return before;
    }
    log_info("%s was mounted: it is storage domain %s from now on, not %s", now->path, now->id,
             before->id);
    g_ptr_array_find(agent->domains, before, &i);
    agent->domains->pdata[i] = now;
    g_ptr_array_add(agent->mount_points, before);
    if (!trash_sweep(now, NULL)) /* what a crash left */
        agent_sweep_later_locked(agent, now);
    return now;
}

Domain *
agent_domain(Agent *agent, const char *path, bool create, GError **error)
{
    g_autofree char *dir = g_path_get_dirname(path);
    WITH_LOCK(&agent->lock);
    Domain *domain = longest_domain(agent, path);

    if (domain != NULL)
        return if_mounted_since(agent, domain);
    if (!create) {
        if (access(path, F_OK) == 0 || errno == ENOENT || errno == ENOTDIR || errno == ELOOP)
            error_set(error, ERR_NOT_FOUND, "%s lies in no storage domain", path);
        else /* where it lies cannot be seen just now */
            error_set_errno(error, "looking at %s", path);
        return NULL;
    }
    domain = domain_open(dir, NULL, error);
    if (domain == NULL) {
        g_prefix_error(error, "making %s a storage domain: ", dir);
        return NULL;
    }
    log_info("%s is a storage domain from now on (id %s)", domain->path, domain->id);
    g_ptr_array_add(agent->domains, domain);
    if (!trash_sweep(domain, NULL)) /* what a crash left */
        agent_sweep_later_locked(agent, domain);
    return domain;
}

Domain *
agent_domain_at(Agent *agent, const char *path)
{
    WITH_LOCK(&agent->lock);

    for (guint i = 0; path != NULL && i < agent->domains->len; i++) {
        Domain *domain = agent->domains->pdata[i];
        if (g_str_equal(domain->path, path))
            return domain;
    }
    return NULL;
}

Domain *
agent_home(Agent *agent, const Vm *vm, GError **error)
{
    Domain *domain = agent_domain_at(agent, vm->home);

    if (domain == NULL)
        error_set(error, ERR_NOT_FOUND, "VM %s has no storage domain", vm->name);
    return domain;
}

bool
agent_is_busy(Agent *agent, const AgentVm *entry)
{
    WITH_LOCK(&agent->lock);

    return entry->operations->len > 0;
}

/* ---- the VMs ---- */

/* hv NULL: it is not here. */
static void
publish(Agent *agent, AgentVm *entry, const HvDomain *hv, Vm *take_vm)
{
    Outside outside = { 0 };
    GHashTable *keys = outside_keys(take_vm);
    if (hv != NULL && take_vm != NULL)
        outside_find(hv->disks, take_vm, &outside);
    WITH_LOCK(&agent->lock);
    bool changed = !vm_equal(entry->vm, take_vm);

    vm_free(entry->vm);
    entry->vm = take_vm;
    outside_clear(&entry->now);
    entry->now = outside;
    g_clear_pointer(&entry->keys, g_hash_table_unref);
    entry->keys = keys;
    entry->looked = true;
    if (!changed)
        return;
    entry->told++;
    event_hub_send(agent->events, json_pack("{s:s, s:s}", "event", "vm", "vm_id", entry->id));
}

/* Not being able to read a manifest is not "no manifest": the VM is shown, and left alone. */
static Vm *
shown_but_unmanaged(const HvDomain *hv, const char *why)
{
    Vm *vm = vm_new(hv->id, hv->name);

    vm->state = hv->state;
    vm->instance = g_strdup(hv->instance);
    vm->memory = hv->memory;
    vm->vcpus = hv->vcpus;
    vm->unmanaged = g_strdup(why);
    return vm;
}

/* Jobs while no operation of ours is under way: somebody else's. Internal commits are in no
 * definition, so who wants to be sure asks for each disk. */
static void
note_foreign_jobs(Agent *agent, const HvDomain *hv, Vm *vm, bool ask)
{
    static const char *const words[] = {
        [HV_JOB_COMMIT] = "commit", [HV_JOB_ACTIVE_COMMIT] = "active-commit",
        [HV_JOB_COPY] = "copy",     [HV_JOB_PULL] = "pull",
        [HV_JOB_OTHER] = "other",
    };

    vm->foreign_job = g_strdup(hv->foreign_job);
    for (guint i = 0; hv->instance != NULL && i < vm->disks->len; i++) {
        Disk *disk = vm->disks->pdata[i];
        const HvDisk *hv_disk = hv_domain_disk(hv, disk->target);
        HvJob job = { .type = HV_JOB_NONE };

        if (!disk_is_managed(disk) || hv_disk == NULL || disk->busy != NULL)
            continue;
        if (hv_disk->lost_pivot)
            disk->busy = g_strdup(DISK_LOST_PIVOT);
        else if (hv_disk->mirror_job != NULL)
            disk->busy = *hv_disk->mirror_job == '\0'
                             ? g_strdup("a block job")
                             : g_strdup_printf("a block job (%s)", hv_disk->mirror_job);
        else if (ask && agent->hv->ops->job_look(agent->hv, vm->id, disk->target, &job, NULL) &&
                 job.type != HV_JOB_NONE && /* who cannot be asked is met again by the merge */
                 !(job.type == HV_JOB_OTHER && hv->foreign_job != NULL)) /* a part of that */
            disk->busy = g_strdup_printf("a block job (%s)", words[job.type]);
    }
}

/* The volume that QEMU writes is not the one that libvirt has put into the definition: it would be
 * started from that one day, and no operation comes to mend it. */
static void
mend_lost(Agent *agent, const HvDomain *hv)
{
    g_autoptr(GError) problem = NULL;
    bool lost = false;

    for (guint i = 0; i < hv->disks->len; i++)
        lost |= ((HvDisk *)hv->disks->pdata[i])->lost_pivot;
    if (lost && !definition_mend(agent, hv, &problem)) /* the next look tries again */
        log_vm_warn(hv->id, NULL, "VM %s: its definition names an old leaf: %s", hv->name,
                    problem->message);
}

bool
agent_disks_can_be_read(const HvDomain *hv, GError **error)
{
    for (guint i = 0; i < hv->disks->len; i++) {
        const HvDisk *disk = hv->disks->pdata[i];
        char byte;
        if (g_strcmp0(disk->type, "file") != 0 || disk->source == NULL)
            continue;
        autofd int fd = open(disk->source, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
        if ((fd >= 0 && pread(fd, &byte, 1, 0) >= 0) || !storage_is_away(errno))
            continue;
        return error_set_errno(error,
                               "VM '%s': disk %s, %s, cannot be read, so it is not known what "
                               "belongs to it; nothing was changed",
                               hv->name, disk->target, disk->source);
    }
    return true;
}

/* Nothing tells of a storage that is mounted. */
static bool
disk_is_missing(const HvDomain *hv)
{
    for (guint i = 0; i < hv->disks->len; i++) {
        const HvDisk *disk = hv->disks->pdata[i];
        if (g_strcmp0(disk->type, "file") == 0 && disk->source != NULL &&
            access(disk->source, F_OK) != 0 && errno == ENOENT)
            return true;
    }
    return false;
}

static bool
look(Agent *agent, AgentVm *entry, bool closely, HvDomain **ret_hv, GError **error)
{
    g_autoptr(GError) problem = NULL;
    g_autoptr(HvDomain) hv = agent_look_at_hv(agent, entry->id, &problem);
    Domain *home = NULL;
    Vm *vm = NULL;

    if (hv == NULL) {
        if (!g_error_matches(problem, ERR, ERR_NOT_FOUND)) {
            g_propagate_error(error, g_steal_pointer(&problem));
            return false;
        }
        publish(agent, entry, NULL, NULL);
        return true;
    }
    if (starting_mend(agent, entry, &hv, &problem))
        vm = agent_build_vm(agent, entry, hv, &home, &problem);
    g_atomic_int_set(&entry->look_again, vm == NULL || disk_is_missing(hv) ||
                                             (home == NULL && !agent_disks_can_be_read(hv, NULL)));
    if (home != NULL)
        g_atomic_int_set(&home->empty, 0);
    if (vm == NULL) {
        log_vm_warn(entry->id, NULL, "VM %s: %s", hv->name, problem->message);
        publish(agent, entry, hv, shown_but_unmanaged(hv, problem->message));
        return true;
    }
    if (ret_hv != NULL)
        *ret_hv = hv_domain_share(hv);
    /* its definition may name an old leaf: nothing is written down */
    if (hv->state == VM_UNKNOWN) {
        g_free(vm->unmanaged);
        vm->unmanaged = g_strdup(hv_why_unknown(hv));
        publish(agent, entry, hv, vm);
        return true;
    }
    if (!agent_is_busy(agent, entry)) {
        note_foreign_jobs(agent, hv, vm, closely);
        mend_lost(agent, hv);
    }
    if (home != NULL && !agent_is_busy(agent, entry) && !manifest_save(home, vm, &problem)) {
        /* shown as it is; the next look tries again; operations insist on their own save */
        g_atomic_int_set(&entry->look_again, 1);
        log_vm_warn(entry->id, NULL, "VM %s: its manifest could not be written: %s", hv->name,
                    problem->message);
    }
    publish(agent, entry, hv, vm);
    return true;
}

bool
agent_no_vm(const AgentVm *entry, const char *vm_id, GError **error)
{
    if (entry == NULL || entry->looked)
        return error_set(error, ERR_NOT_FOUND, "no VM %s on this host", vm_id);
    return error_set(error, ERR_UNREACHABLE,
                     "VM %s could not be looked at since the agent was started (is libvirtd "
                     "running?); nothing was begun",
                     vm_id);
}

bool
agent_look(Agent *agent, AgentVm *entry, GError **error)
{
    return look(agent, entry, false, NULL, error);
}

bool
agent_look_and_keep(Agent *agent, AgentVm *entry, HvDomain **ret_hv, GError **error)
{
    return look(agent, entry, false, ret_hv, error);
}

bool
agent_look_closely(Agent *agent, AgentVm *entry, GError **error)
{
    return look(agent, entry, true, NULL, error);
}

AgentVm *
agent_entry(Agent *agent, const char *vm_id, bool create)
{
    WITH_LOCK(&agent->lock);
    AgentVm *entry = g_hash_table_lookup(agent->vms, vm_id);

    if (entry == NULL && create) {
        entry = g_new0(AgentVm, 1);
        entry->id = g_strdup(vm_id);
        g_mutex_init(&entry->lock);
        g_cond_init(&entry->wake);
        g_mutex_init(&entry->way_lock);
        g_mutex_init(&entry->guest_lock);
        entry->image_lock = -1;
        entry->frozen_gaps = -1;
        entry->operations = g_ptr_array_new();
        g_hash_table_insert(agent->vms, entry->id, entry);
    }
    return entry;
}

/* agent->lock held: another VM whose chain holds this file */
static const char *
other_user(Agent *agent, const char *vm_id, const char *path)
{
    GHashTableIter it;
    void *value;

    g_hash_table_iter_init(&it, agent->vms);
    while (g_hash_table_iter_next(&it, NULL, &value)) {
        AgentVm *entry = value;
        if (entry->vm == NULL || g_str_equal(entry->id, vm_id))
            continue;
        for (guint i = 0; i < entry->vm->disks->len; i++)
            if (agent_known_volume(entry->vm->disks->pdata[i], path) != NULL)
                return entry->vm->name;
    }
    return NULL;
}

char *
agent_user_of(Agent *agent, const char *vm_id, const char *path, bool own)
{
    /* what a storage does not tell is not waited for under the lock */
    g_autofree char *key = owners_key(path);
    WITH_LOCK(&agent->lock);
    const char *user = other_user(agent, vm_id, path);

    return g_strdup(user != NULL ? user : outside_user(agent, vm_id, path, key, own));
}

/* The same, as it is told of a VM: whoever has it as a file of no chain comes first. */
static const char *
told_user(Agent *agent, const AgentVm *entry, const char *path)
{
    const char *key = g_hash_table_lookup(entry->keys, path);
    const char *user = outside_user(agent, entry->id, path, key, true);

    return user != NULL ? user : other_user(agent, entry->id, path);
}

static void
note_user(Volume *volume, const char *user)
{
    g_free(volume->used_by);
    volume->used_by = g_strdup_printf("VM %s", user);
}

static Volume *
volume_at(const Vm *vm, guint disk, guint volume)
{
    return ((const Disk *)vm->disks->pdata[disk])->volumes->pdata[volume];
}

/* agent->lock held. What is published, or a copy if anybody uses its volumes. */
static Vm *
with_users(Agent *agent, const AgentVm *entry)
{
    Vm *vm = vm_share(entry->vm);

    for (guint i = 0; i < vm->disks->len; i++) {
        for (guint k = 0; k < ((Disk *)vm->disks->pdata[i])->volumes->len; k++) {
            const char *user = told_user(agent, entry, volume_at(vm, i, k)->path);
            if (user == NULL)
                continue;
            vm = vm_unshare(vm);
            note_user(volume_at(vm, i, k), user);
        }
    }
    return vm;
}

/* agent->lock held; NULL = nobody. Two texts are the same only if all users are. */
static char *
users_text(Agent *agent, const AgentVm *entry)
{
    GString *text = NULL;

    for (guint i = 0; i < entry->vm->disks->len; i++) {
        const Disk *disk = entry->vm->disks->pdata[i];
        for (guint k = 0; k < disk->volumes->len; k++) {
            const Volume *volume = disk->volumes->pdata[k];
            const char *user = told_user(agent, entry, volume->path);
            if (user == NULL)
                continue;
            text = text != NULL ? text : g_string_new(NULL);
            g_string_append_printf(text, "%u %u %zu %s;", i, k, strlen(user), user);
        }
    }
    return text != NULL ? g_string_free(text, FALSE) : NULL;
}

Vm *
agent_vm_published(Agent *agent, const char *vm_id)
{
    WITH_LOCK(&agent->lock);
    const AgentVm *entry = g_hash_table_lookup(agent->vms, vm_id);

    return entry != NULL && entry->vm != NULL ? vm_share(entry->vm) : NULL;
}

Vm *
agent_vm_shown(Agent *agent, const char *vm_id)
{
    WITH_LOCK(&agent->lock);
    const AgentVm *entry = g_hash_table_lookup(agent->vms, vm_id);

    return entry != NULL && entry->vm != NULL ? with_users(agent, entry) : NULL;
}

/* Other VMs begin and cease to use its volumes, and nothing says so to it: who asks finds out. The
 * lock is held to the end: users may come and go. */
Vm *
agent_vm_told(Agent *agent, const char *vm_id, const char *known, char **ret_tag)
{
    WITH_LOCK(&agent->lock);
    AgentVm *entry = g_hash_table_lookup(agent->vms, vm_id);

    if (entry == NULL || entry->vm == NULL)
        return NULL;
    g_autofree char *users = users_text(agent, entry);
    if (g_strcmp0(users, entry->told_users) != 0) {
        g_free(entry->told_users);
        entry->told_users = g_steal_pointer(&users);
        entry->told++;
    }
    *ret_tag = g_strdup_printf("%s.%" G_GUINT64_FORMAT, agent->life, entry->told);
    return g_strcmp0(*ret_tag, known) == 0 ? NULL : with_users(agent, entry);
}
