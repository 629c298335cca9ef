/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * What a domain looks like and does, and its definition.
 */
#include "base/log.h"
#include "hypervisor/connection.h"
#include "hypervisor/edit.h"
#include "hypervisor/instance.h"
#include "hypervisor/status.h"

#include <libvirt/virterror.h>
#include <string.h>

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

/* A VM that went on from saved memory and stays paused has this reason, too, for as long as it is
 * (seen with libvirt 9.0). */
static VmState
migrating_state(virDomainPtr domain)
{
    int operation;

    return read_job(domain, &operation, NULL) && operation < 0 ? VM_PAUSED : VM_MIGRATING;
}

static VmState
paused_state(virDomainPtr domain, int reason, char **ret_detail)
{
    switch (reason) {
    case VIR_DOMAIN_PAUSED_MIGRATION:
        return migrating_state(domain);
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

/* While a job of the whole domain runs, libvirt may still say "running". *ret_job: of those that
 * are no state of their own. */
static VmState
running_state(virDomainPtr domain, char **ret_job)
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
        *ret_job = operation >= 0 ? g_strdup(operation_word(operation)) : NULL;
        return VM_UP;
    }
}

static VmState
map_state(virDomainPtr domain, int state, int reason, HvDomain *look)
{
    switch (state) {
    case VIR_DOMAIN_RUNNING:
    case VIR_DOMAIN_BLOCKED:
        return running_state(domain, &look->foreign_job);
    case VIR_DOMAIN_PAUSED:
        return paused_state(domain, reason, &look->state_detail);
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
    g_hash_table_remove(self->instances, vm_id); /* the next life has another */
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

static void
find_pool_files(virDomainPtr domain, const HvDomain *look)
{
    pool_files_find(virDomainGetConnect(domain), look->disks);
    if (look->inactive != NULL)
        pool_files_find(virDomainGetConnect(domain), look->inactive);
}

static bool
same_moment(virDomainPtr domain, int state, int reason)
{
    int state_now = -1, reason_now = -1;

    virDomainGetState(domain, &state_now, &reason_now, 0);
    return state_now == state && reason_now == reason;
}

/* What a libvirtd that was killed meanwhile has half written is none, though libvirt counts it: a
 * start throws it away. */
static bool
is_whole_save(virDomainPtr domain)
{
    autolibc char *xml = virDomainManagedSaveGetXMLDesc(domain, 0);

    return xml != NULL || strstr(virGetLastErrorMessage(), "save image is incomplete") == NULL;
}

/* A libvirtd that was killed right before it ended QEMU leaves memory beside a VM that runs on:
 * with that, a start would later put an old guest on newer disks. Memory that was seen while this
 * instance runs is not the end of it: a save ends the instance. */
static void
drop_stale_save(Libvirt *self, virDomainPtr domain, const HvDomain *look)
{
    const char *id = look->id;
    int operation;

    if ((look->state != VM_UP && look->state != VM_PAUSED) || look->instance == NULL ||
        !read_job(domain, &operation, NULL) || operation >= 0)
        return;
    g_autofree char *now = find_instance(self, id);
    if (g_strcmp0(now, look->instance) != 0 || virDomainIsActive(domain) != 1)
        return;
    if (virDomainManagedSaveRemove(domain, 0) == 0)
        log_vm_warn(id, NULL,
                    "memory of VM '%s' that was saved before it went on is thrown away: it no "
                    "longer fits the disks",
                    look->name);
}

static bool
look_for_saved(Libvirt *self, virDomainPtr domain, HvDomain *look, bool active, GError **error)
{
    int saved = virDomainHasManagedSaveImage(domain, 0);

    if (saved < 0)
        return active || libvirt_refused(domain, error, "asking for a managed save image");
    if (active && saved > 0)
        drop_stale_save(self, domain, look);
    look->has_managed_save = !active && saved > 0 && is_whole_save(domain);
    if (look->has_managed_save)
        look->state = VM_SUSPENDED;
    return true;
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
    look->state = map_state(domain, state, reason, look);
    bool active = look->state != VM_DOWN;
    g_autofree char *hidden = active ? NULL : find_hidden(self, vm_id);
    if (active)
        look->instance = find_instance(self, vm_id);
    look->started = look->instance != NULL ? instance_started(look->instance) : 0;
    if (!read_definitions(domain, look, active, error) ||
        (active && !lost_pivots_correct(self, domain, vm_id, look->disks, error)))
        return NULL;
    find_pool_files(domain, look);

    if (!look_for_saved(self, domain, look, active, error))
        return NULL;
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

bool
domain_stored_disks(Hypervisor *hv, const char *vm_id, GPtrArray **ret_disks, GError **error)
{
    g_autoptr(virDomain) domain = libvirt_domain(hv, vm_id, error);
    g_autofree char *xml = domain != NULL ? read_xml(domain, VIR_DOMAIN_XML_INACTIVE, error) : NULL;

    if (xml == NULL || !hv_parse_domain(xml, NULL, ret_disks, error))
        return false;
    pool_files_find(virDomainGetConnect(domain), *ret_disks);
    return true;
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

/* The stored definition, with passwords, or they would be lost. */
static char *
read_stored(virDomain *domain, const char *vm_id, GError **error)
{
    int persistent = virDomainIsPersistent(domain);

    if (persistent == 1)
        return read_xml(domain, VIR_DOMAIN_XML_INACTIVE | VIR_DOMAIN_XML_SECURE, error);
    if (persistent < 0)
        libvirt_refused(domain, error, "asking whether it is persistent");
    else /* defining it would make it persistent */
        error_set(error, ERR_REFUSED,
                  "VM '%s' (%s) is transient: it has no definition that could be rewritten",
                  virDomainGetName(domain), vm_id);
    return NULL;
}

bool
domain_reconfigure(Hypervisor *hv, const char *vm_id, const char *config,
                   const char *const *targets, const char *const *sources,
                   const char *const *formats, unsigned n, GError **error)
{
    g_autoptr(virDomain) domain = libvirt_domain(hv, vm_id, error);
    g_autofree char *xml = domain != NULL ? read_stored(domain, vm_id, error) : NULL;
    bool changed = config != NULL;

    if (xml == NULL)
        return false;
    g_autofree char *wanted = config != NULL ? hv_edit_config(xml, config, error) : g_strdup(xml);
    g_autofree char *edited = wanted != NULL ? edit_sources(wanted, targets, sources, formats, n,
                                                            config != NULL ? NULL : &changed, error)
                                             : NULL;
    if (edited == NULL) {
        g_prefix_error(error, "VM '%s' (%s): ", virDomainGetName(domain), vm_id);
        return false;
    }
    if (!changed)
        return true;
    g_autoptr(virDomain) defined = virDomainDefineXMLFlags(virDomainGetConnect(domain), edited, 0);
    return defined != NULL || libvirt_refused(domain, error, "rewriting its definition");
}

bool
domain_redefine(Hypervisor *hv, const char *vm_id, const char *const *targets,
                const char *const *sources, const char *const *formats, unsigned n, GError **error)
{
    return domain_reconfigure(hv, vm_id, NULL, targets, sources, formats, n, error);
}
