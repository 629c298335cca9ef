/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * What a domain looks like and does, and its definition.
 */
#include "hypervisor/connection.h"
#include "hypervisor/edit.h"
#include "hypervisor/instance.h"
#include "hypervisor/status.h"

#include <libvirt/virterror.h>

enum { LOOKS = 4 };

static char *
uuid_of(virDomainPtr domain)
{
    char uuid[VIR_UUID_STRING_BUFLEN] = "";

    virDomainGetUUIDString(domain, uuid);
    return g_strdup(uuid);
}

char **
domain_list(Hypervisor *hv, GError **error)
{
    g_autoptr(virConnect) conn = libvirt_conn((Libvirt *)hv, error);
    autolibc virDomainPtr *domains = NULL;

    if (conn == NULL)
        return NULL;
    int n = virConnectListAllDomains(conn, &domains, 0);
    if (n < 0) {
        const virError *last = virGetLastError();
        error_set(error,
                  last != NULL ? libvirt_error_code(last->code, last->domain, last->message)
                               : ERR_HYPERVISOR,
                  "listing the VMs: %s", virGetLastErrorMessage());
        return NULL;
    }
    char **ids = g_new0(char *, (size_t)n + 1);
    for (int i = 0; i < n; i++) {
        ids[i] = uuid_of(domains[i]);
        virDomainFree(domains[i]);
    }
    return ids;
}

/* ---- domain jobs: migration, save, backup ... (not block jobs) ---- */

/* Sets *ret_operation to VIR_DOMAIN_JOB_OPERATION_*, or to -1 if none runs. */
static bool
read_job(virDomainPtr domain, int *ret_operation, GError **error)
{
    virTypedParameterPtr params = NULL;
    int n = 0, type = VIR_DOMAIN_JOB_NONE, operation = VIR_DOMAIN_JOB_OPERATION_UNKNOWN;

    *ret_operation = -1;
    if (virDomainGetJobStats(domain, &type, &params, &n, 0) < 0) {
        g_autoptr(GError) why = NULL;
        libvirt_refused(domain, &why, "asking for its job");
        if (libvirt_is_off(domain))
            return true; /* no process, no job */
        g_propagate_error(error, g_steal_pointer(&why));
        return false;
    }
    virTypedParamsGetInt(params, n, VIR_DOMAIN_JOB_OPERATION, &operation);
    virTypedParamsFree(params, n);
    if (type == VIR_DOMAIN_JOB_BOUNDED || type == VIR_DOMAIN_JOB_UNBOUNDED)
        *ret_operation = operation;
    return true;
}

static const char *
operation_word(int operation)
{
    switch (operation) {
    case VIR_DOMAIN_JOB_OPERATION_MIGRATION_IN:
    case VIR_DOMAIN_JOB_OPERATION_MIGRATION_OUT:
        return "migration";
    case VIR_DOMAIN_JOB_OPERATION_BACKUP:
        return "backup";
    case VIR_DOMAIN_JOB_OPERATION_SAVE:
        return "save";
    case VIR_DOMAIN_JOB_OPERATION_DUMP:
        return "dump";
    case VIR_DOMAIN_JOB_OPERATION_START:
    case VIR_DOMAIN_JOB_OPERATION_RESTORE:
        return "start";
    case VIR_DOMAIN_JOB_OPERATION_SNAPSHOT:
    case VIR_DOMAIN_JOB_OPERATION_SNAPSHOT_REVERT:
    case VIR_DOMAIN_JOB_OPERATION_SNAPSHOT_DELETE:
        return "snapshot";
    default:
        return "another job";
    }
}

bool
domain_foreign_job(Hypervisor *hv, const char *vm_id, char **ret_job, GError **error)
{
    g_autoptr(virDomain) domain = libvirt_domain(hv, vm_id, error);
    int operation;

    if (domain == NULL || !read_job(domain, &operation, error))
        return false;
    *ret_job = operation >= 0 ? g_strdup(operation_word(operation)) : NULL;
    return true;
}

/* ---- state ---- */

/* libvirt keeps these after the VM has recovered: ask only while it is paused for one. */
static char *
io_error_detail(virDomainPtr domain)
{
    virDomainDiskError errors[16];
    int n = virDomainGetDiskErrors(domain, errors, G_N_ELEMENTS(errors), 0);
    bool full = false;

    for (int i = 0; i < n; i++) {
        full |= errors[i].error == VIR_DOMAIN_DISK_ERROR_NO_SPACE;
        free(errors[i].disk);
    }
    return g_strdup(full ? "enospc" : "eio");
}

static VmState
paused_state(virDomainPtr domain, int reason, char **ret_detail)
{
    switch (reason) {
    case VIR_DOMAIN_PAUSED_MIGRATION:
    case VIR_DOMAIN_PAUSED_POSTCOPY:
    case VIR_DOMAIN_PAUSED_POSTCOPY_FAILED:
        return VM_MIGRATING;
    case VIR_DOMAIN_PAUSED_SAVE:
    case VIR_DOMAIN_PAUSED_DUMP:
    case VIR_DOMAIN_PAUSED_SNAPSHOT: /* while memory is written */
        return VM_SAVING;
    case VIR_DOMAIN_PAUSED_SHUTTING_DOWN:
        return VM_POWERING_DOWN;
    case VIR_DOMAIN_PAUSED_IOERROR:
        *ret_detail = io_error_detail(domain);
        return VM_PAUSED;
    default:
        return VM_PAUSED;
    }
}

/* While a job of the whole domain runs, libvirt may still say "running". */
static VmState
running_state(virDomainPtr domain)
{
    int operation;

    if (!read_job(domain, &operation, NULL))
        return VM_UP;
    switch (operation) {
    case VIR_DOMAIN_JOB_OPERATION_MIGRATION_IN:
    case VIR_DOMAIN_JOB_OPERATION_MIGRATION_OUT:
        return VM_MIGRATING;
    case VIR_DOMAIN_JOB_OPERATION_SAVE:
        return VM_SAVING;
    default:
        return VM_UP;
    }
}

static VmState
map_state(virDomainPtr domain, int state, int reason, char **ret_detail)
{
    switch (state) {
    case VIR_DOMAIN_RUNNING:
    case VIR_DOMAIN_BLOCKED:
        return running_state(domain);
    case VIR_DOMAIN_PAUSED:
        return paused_state(domain, reason, ret_detail);
    case VIR_DOMAIN_PMSUSPENDED: /* asleep, its QEMU lives */
        return VM_PAUSED;
    case VIR_DOMAIN_SHUTDOWN:
        return VM_POWERING_DOWN;
    case VIR_DOMAIN_SHUTOFF:
        return VM_DOWN;
    case VIR_DOMAIN_CRASHED: /* kept for inspection (on_crash=preserve), or gone */
        return libvirt_is_off(domain) ? VM_DOWN : VM_PAUSED;
    default:
        return VM_UNKNOWN;
    }
}

/* ---- look ---- */

static char *
find_instance(Libvirt *self, const char *vm_id)
{
    g_autofree char *cached = NULL;

    g_mutex_lock(&self->lock);
    cached = g_strdup(g_hash_table_lookup(self->instances, vm_id));
    g_mutex_unlock(&self->lock);

    char *found = instance_look(vm_id, cached);

    g_mutex_lock(&self->lock);
    if (found != NULL)
        g_hash_table_replace(self->instances, g_strdup(vm_id), g_strdup(found));
    else
        g_hash_table_remove(self->instances, vm_id);
    g_mutex_unlock(&self->lock);
    return found;
}

/* A libvirtd that was killed can come back without a VM that runs: it refuses a status file that it
 * has itself written right after a pivot, and takes the VM for off, on its old leaf (seen with
 * libvirt 9.0). It comes back with a new connection, so its word is compared with the processes
 * that were there then. The instance; NULL = it is off indeed. */
static char *
find_hidden(Libvirt *self, const char *vm_id)
{
    g_mutex_lock(&self->lock);
    if (self->processes == NULL)
        self->processes = instance_all();
    bool ran = g_hash_table_contains(self->processes, vm_id);
    g_mutex_unlock(&self->lock);

    char *instance = ran ? instance_look(vm_id, NULL) : NULL;
    if (instance != NULL)
        return instance;
    WITH_LOCK(&self->lock);
    if (ran && self->processes != NULL)
        g_hash_table_remove(self->processes, vm_id);
    return NULL;
}

static char *
read_xml(virDomainPtr domain, unsigned flags, GError **error)
{
    autolibc char *xml = virDomainGetXMLDesc(domain, flags);

    if (xml == NULL)
        libvirt_refused(domain, error, "reading its definition");
    return g_strdup(xml);
}

static bool
read_definitions(virDomainPtr domain, HvDomain *look, bool active, GError **error)
{
    int persistent = virDomainIsPersistent(domain);
    if (persistent < 0)
        return libvirt_refused(domain, error, "asking whether it is persistent");
    look->persistent = persistent > 0;

    if (look->persistent) {
        look->inactive_xml = read_xml(domain, VIR_DOMAIN_XML_INACTIVE, error);
        if (look->inactive_xml == NULL ||
            !hv_parse_domain(look->inactive_xml, active ? NULL : look, &look->inactive, error))
            return false;
    }
    if (!active && look->persistent) {
        look->xml = g_strdup(look->inactive_xml);
        look->disks = g_ptr_array_ref(look->inactive);
        return true;
    }
    look->xml = read_xml(domain, 0, error);
    return look->xml != NULL && hv_parse_domain(look->xml, look, &look->disks, error);
}

static bool
has_job(virDomainPtr domain, const HvDisk *disk)
{
    virDomainBlockJobInfo info;

    return virDomainGetBlockJobInfo(domain, disk->target, &info, 0) != 0; /* not knowing: yes */
}

/* A libvirtd that was killed in the begin of a job does not know its mirror; if another is killed
 * in its pivot the next one shows the old leaf, and no trace of either. Then QEMU is asked: once a
 * connection, for what it knows of the disk is right from then on; and for ever where it is not. */
static bool
correct_traceless_pivot(Libvirt *self, virDomainPtr domain, const char *vm_id, HvDisk *disk,
                        GError **error)
{
    g_autofree char *key = g_strdup_printf("%s/%s", vm_id, disk->target);
    g_autofree char *leaf = NULL;
    g_autoptr(GError) problem = NULL;

    if (disk->alias == NULL || disk->source == NULL || disk->backing == NULL)
        return true;
    g_mutex_lock(&self->lock);
    bool known = g_hash_table_contains(self->sure_leaves, key);
    g_mutex_unlock(&self->lock);
    if (known || has_job(domain, disk))
        return true;
    if (!monitor_leaf(domain, disk, &leaf, &problem)) {
        if (!g_error_matches(problem, ERR, ERR_UNREACHABLE))
            return true; /* it cannot tell of this kind of disk */
        g_propagate_error(error, g_steal_pointer(&problem));
        return false;
    }
    for (guint i = 0; i < disk->backing->len; i++)
        if (g_str_equal(leaf, disk->backing->pdata[i])) {
            g_free(disk->source);
            disk->source = g_steal_pointer(&leaf);
            g_clear_pointer(&disk->backing, g_ptr_array_unref);
            disk->backing_terminated = false;
            disk->lost_pivot = true;
            return true;
        }
    WITH_LOCK(&self->lock);
    g_hash_table_add(self->sure_leaves, g_steal_pointer(&key));
    return true;
}

/* A mirror without a job is what a killed libvirtd remembers of one. Where the pivot was asked for,
 * QEMU knows what became of it. */
static bool
correct_lost_pivot(Libvirt *self, virDomainPtr domain, const char *vm_id, HvDisk *disk,
                   GError **error)
{
    bool pivots = g_strcmp0(disk->mirror_ready, "pivot") == 0;
    g_autofree char *leaf = NULL;

    if (disk->mirror_path == NULL)
        return correct_traceless_pivot(self, domain, vm_id, disk, error);
    if ((!pivots && g_strcmp0(disk->mirror_ready, "yes") != 0) || has_job(domain, disk))
        return true;
    if (!monitor_leaf(domain, disk, &leaf, error))
        return false;
    bool pivoted = g_str_equal(leaf, disk->mirror_path);
    if (!pivoted && !pivots)
        return true;
    if (pivoted) {
        g_free(disk->source);
        g_free(disk->format);
        disk->source = g_steal_pointer(&leaf);
        disk->format = g_strdup(disk->mirror_format);
        g_clear_pointer(&disk->backing, g_ptr_array_unref);
        disk->backing_terminated = false;
    }
    g_clear_pointer(&disk->mirror_job, g_free);
    g_clear_pointer(&disk->mirror_path, g_free);
    g_clear_pointer(&disk->mirror_ready, g_free);
    disk->lost_pivot = true;
    return true;
}

static bool
correct_lost_pivots(Libvirt *self, virDomainPtr domain, const char *vm_id, HvDomain *look,
                    GError **error)
{
    for (guint i = 0; i < look->disks->len; i++)
        if (!correct_lost_pivot(self, domain, vm_id, look->disks->pdata[i], error))
            return false;
    return true;
}

static bool
same_moment(virDomainPtr domain, int state, int reason)
{
    int state_now = -1, reason_now = -1;

    virDomainGetState(domain, &state_now, &reason_now, 0);
    return state_now == state && reason_now == reason;
}

/* One try. *ret_torn: the VM changed meanwhile, so that the parts may not belong together. */
static HvDomain *
look_once(Libvirt *self, virDomainPtr domain, const char *vm_id, bool *ret_torn, GError **error)
{
    g_autoptr(HvDomain) look = hv_domain_new();
    int state = 0, reason = 0;

    if (virDomainGetState(domain, &state, &reason, 0) < 0) {
        libvirt_refused(domain, error, "asking for its state");
        return NULL;
    }
    look->state = map_state(domain, state, reason, &look->state_detail);
    bool active = look->state != VM_DOWN;
    g_autofree char *hidden = active ? NULL : find_hidden(self, vm_id);
    if (active)
        look->instance = find_instance(self, vm_id);
    if (!read_definitions(domain, look, active, error) ||
        (active && !correct_lost_pivots(self, domain, vm_id, look, error)))
        return NULL;

    int saved = active ? 0 : virDomainHasManagedSaveImage(domain, 0);
    if (saved < 0) {
        libvirt_refused(domain, error, "asking for a managed save image");
        return NULL;
    }
    look->has_managed_save = saved > 0;
    if (!active && look->has_managed_save)
        look->state = VM_SUSPENDED;
    if (hidden != NULL) {
        look->state = VM_UNKNOWN;
        look->state_detail = g_strdup(status_mend_lost(look->name, hidden) ? "mended" : "lost");
    }

    g_autofree char *instance_now = active ? find_instance(self, vm_id) : NULL;
    *ret_torn = !same_moment(domain, state, reason) || g_strcmp0(instance_now, look->instance) != 0;
    return g_steal_pointer(&look);
}

HvDomain *
domain_look(Hypervisor *hv, const char *vm_id, GError **error)
{
    g_autoptr(virDomain) domain = libvirt_domain(hv, vm_id, error);
    if (domain == NULL)
        return NULL;
    g_autofree char *id = uuid_of(domain); /* in libvirt's spelling */

    for (unsigned i = 1;; i++) {
        bool torn = false;
        g_autoptr(HvDomain) look = look_once((Libvirt *)hv, domain, id, &torn, error);
        if (look == NULL || !torn)
            return g_steal_pointer(&look);
        if (i == LOOKS) {
            error_set(error, ERR_BUSY, "VM '%s' (%s) changes its state too fast to be read",
                      look->name, id);
            return NULL;
        }
    }
}

/* ---- suspend, resume, redefine ---- */

bool
domain_suspend(Hypervisor *hv, const char *vm_id, GError **error)
{
    g_autoptr(virDomain) domain = libvirt_domain(hv, vm_id, error);

    if (domain == NULL)
        return false;
    return virDomainSuspend(domain) == 0 || libvirt_refused(domain, error, "suspending it");
}

bool
domain_resume(Hypervisor *hv, const char *vm_id, GError **error)
{
    g_autoptr(virDomain) domain = libvirt_domain(hv, vm_id, error);
    g_autoptr(GError) why = NULL;
    int state = -1;

    if (domain == NULL)
        return false;
    if (virDomainResume(domain) == 0)
        return true;
    libvirt_refused(domain, &why, "resuming it");
    if (virDomainGetState(domain, &state, NULL, 0) == 0 && state == VIR_DOMAIN_RUNNING)
        return true; /* it runs, which is what was asked for */
    g_propagate_error(error, g_steal_pointer(&why));
    return false;
}

bool
domain_redefine(Hypervisor *hv, const char *vm_id, const char *const *targets,
                const char *const *sources, const char *const *formats, unsigned n, GError **error)
{
    g_autoptr(virDomain) domain = libvirt_domain(hv, vm_id, error);
    bool changed = false;

    if (domain == NULL)
        return false;
    int persistent = virDomainIsPersistent(domain);
    if (persistent < 0)
        return libvirt_refused(domain, error, "asking whether it is persistent");
    if (persistent == 0) /* defining it would make it persistent */
        return error_set(error, ERR_REFUSED,
                         "VM '%s' (%s) is transient: it has no definition that could be rewritten",
                         virDomainGetName(domain), vm_id);

    /* with passwords, or they would be lost */
    g_autofree char *xml = read_xml(domain, VIR_DOMAIN_XML_INACTIVE | VIR_DOMAIN_XML_SECURE, error);
    if (xml == NULL)
        return false;
    g_autofree char *edited = edit_sources(xml, targets, sources, formats, n, &changed, error);
    if (edited == NULL) {
        g_prefix_error(error, "VM '%s' (%s): ", virDomainGetName(domain), vm_id);
        return false;
    }
    if (!changed)
        return true;
    g_autoptr(virDomain) defined = virDomainDefineXMLFlags(virDomainGetConnect(domain), edited, 0);
    return defined != NULL || libvirt_refused(domain, error, "rewriting its definition");
}
