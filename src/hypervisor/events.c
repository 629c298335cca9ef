/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * libvirt's events become ours. They come on libvirt's event thread.
 *
 * BLOCK_JOB_2 says that a job failed but not why; QEMU's own BLOCK_JOB_COMPLETED does, and comes
 * first on the same connection. Listening to it does not taint the domain.
 */
#include "hypervisor/connection.h"

#include <libvirt/libvirt-qemu.h>

char *
events_disk_of_job(const char *job_name)
{
    const char *target = strchr(job_name, '-');
    const char *end = target != NULL ? strstr(target, "-libvirt-") : NULL;

    return end != NULL && end > target + 1 ? g_strndup(target + 1, end - target - 1) : NULL;
}

static char *
reason_key(const char *vm_id, const char *disk)
{
    return g_strdup_printf("%s/%s", vm_id, disk);
}

void
events_forget_reason(Libvirt *self, const char *vm_id, const char *disk)
{
    g_autofree char *key = reason_key(vm_id, disk);
    WITH_LOCK(&self->lock);

    g_hash_table_remove(self->reasons, key);
}

static char *
take_reason(Libvirt *self, const char *vm_id, const char *disk)
{
    g_autofree char *key = reason_key(vm_id, disk);
    char *old_key = NULL, *reason = NULL;
    WITH_LOCK(&self->lock);

    g_hash_table_steal_extended(self->reasons, key, (gpointer *)&old_key, (gpointer *)&reason);
    g_free(old_key);
    return reason;
}

static void
on_monitor(virConnectPtr conn, virDomainPtr domain, const char *event, long long seconds,
           unsigned micros, const char *details, void *data)
{
    Libvirt *self = data;
    char uuid[VIR_UUID_STRING_BUFLEN];
    g_autoptr(json_t) json = details != NULL ? json_loads(details, 0, NULL) : NULL;
    const char *name = json_string_value(json_object_get(json, "device"));
    const char *why = json_string_value(json_object_get(json, "error"));
    g_autofree char *disk = name != NULL ? events_disk_of_job(name) : NULL;

    if (disk == NULL || why == NULL || virDomainGetUUIDString(domain, uuid) < 0)
        return;
    WITH_LOCK(&self->lock);
    g_hash_table_replace(self->reasons, reason_key(uuid, disk), g_strdup(why));
}

static bool
job_status(int status, HvJobStatus *ret_status)
{
    switch (status) {
    case VIR_DOMAIN_BLOCK_JOB_COMPLETED:
        *ret_status = HV_JOB_COMPLETED;
        return true;
    case VIR_DOMAIN_BLOCK_JOB_FAILED:
        *ret_status = HV_JOB_FAILED;
        return true;
    case VIR_DOMAIN_BLOCK_JOB_CANCELED:
        *ret_status = HV_JOB_CANCELED;
        return true;
    case VIR_DOMAIN_BLOCK_JOB_READY:
        *ret_status = HV_JOB_READY;
        return true;
    default:
        return false;
    }
}

static void
on_block_job(virConnectPtr conn, virDomainPtr domain, const char *disk, int type, int status,
             void *data)
{
    char uuid[VIR_UUID_STRING_BUFLEN];
    HvEvent event = { .kind = HV_EVENT_BLOCK_JOB, .vm_id = uuid, .disk = disk };
    g_autofree char *reason = NULL;

    if (virDomainGetUUIDString(domain, uuid) < 0 || !job_status(status, &event.job_status))
        return;
    if (event.job_status == HV_JOB_FAILED)
        reason = take_reason(data, uuid, disk);
    event.reason = reason;
    libvirt_emit(data, &event);
}

static void
emit(Libvirt *self, HvEventKind kind, virDomainPtr domain)
{
    char uuid[VIR_UUID_STRING_BUFLEN];

    if (virDomainGetUUIDString(domain, uuid) == 0)
        libvirt_emit(self, &(HvEvent){ .kind = kind, .vm_id = uuid });
}

static void
emit_domain(Libvirt *self, virDomainPtr domain)
{
    emit(self, HV_EVENT_DOMAIN, domain);
}

static void
forget_domain(Libvirt *self, virDomainPtr domain)
{
    char uuid[VIR_UUID_STRING_BUFLEN];

    if (virDomainGetUUIDString(domain, uuid) < 0)
        return;
    libvirt_forget_domain(self, uuid);
    WITH_LOCK(&self->lock);
    g_hash_table_remove(self->instances, uuid);
}

static int
on_lifecycle(virConnectPtr conn, virDomainPtr domain, int event, int detail, void *data)
{
    if (event == VIR_DOMAIN_EVENT_STOPPED || event == VIR_DOMAIN_EVENT_UNDEFINED ||
        event == VIR_DOMAIN_EVENT_DEFINED)
        forget_domain(data, domain);
    emit_domain(data, domain);
    return 0;
}

static void
on_agent(virConnectPtr conn, virDomainPtr domain, int state, int reason, void *data)
{
    emit_domain(data, domain);
}

/* By the guest, by virsh reset, by us. */
static void
on_reboot(virConnectPtr conn, virDomainPtr domain, void *data)
{
    emit(data, HV_EVENT_REBOOT, domain);
}

/* A migration, a backup, a save: its end. */
static void
on_job_end(virConnectPtr conn, virDomainPtr domain, virTypedParameterPtr params, int n, void *data)
{
    emit_domain(data, domain);
}

/* Other programs write their own notes into the metadata again and again: those are not shown. */
static void
on_metadata(virConnectPtr conn, virDomainPtr domain, int type, const char *uri, void *data)
{
    if (type != VIR_DOMAIN_METADATA_ELEMENT)
        emit_domain(data, domain);
}

/* A disk that was attached or is gone, as the guest agrees to it. Those of definitions are told to
 * nobody. */
static void
on_device(virConnectPtr conn, virDomainPtr domain, const char *alias, void *data)
{
    emit_domain(data, domain);
}

/* Perhaps with another medium. */
static void
on_tray(virConnectPtr conn, virDomainPtr domain, const char *alias, int reason, void *data)
{
    emit_domain(data, domain);
}

static const struct {
    int id;
    virConnectDomainEventGenericCallback callback;
} event_table[N_EVENTS] = {
    { VIR_DOMAIN_EVENT_ID_LIFECYCLE, VIR_DOMAIN_EVENT_CALLBACK(on_lifecycle) },
    { VIR_DOMAIN_EVENT_ID_REBOOT, VIR_DOMAIN_EVENT_CALLBACK(on_reboot) },
    { VIR_DOMAIN_EVENT_ID_BLOCK_JOB_2, VIR_DOMAIN_EVENT_CALLBACK(on_block_job) },
    { VIR_DOMAIN_EVENT_ID_AGENT_LIFECYCLE, VIR_DOMAIN_EVENT_CALLBACK(on_agent) },
    { VIR_DOMAIN_EVENT_ID_JOB_COMPLETED, VIR_DOMAIN_EVENT_CALLBACK(on_job_end) },
    { VIR_DOMAIN_EVENT_ID_METADATA_CHANGE, VIR_DOMAIN_EVENT_CALLBACK(on_metadata) },
    { VIR_DOMAIN_EVENT_ID_DEVICE_ADDED, VIR_DOMAIN_EVENT_CALLBACK(on_device) },
    { VIR_DOMAIN_EVENT_ID_DEVICE_REMOVED, VIR_DOMAIN_EVENT_CALLBACK(on_device) },
    { VIR_DOMAIN_EVENT_ID_TRAY_CHANGE, VIR_DOMAIN_EVENT_CALLBACK(on_tray) },
};

bool
events_register(Libvirt *self, virConnectPtr conn, int ids[N_EVENTS], int *ret_monitor_id)
{
    /* reasons are a courtesy: a connection without libvirt's QEMU extension does without them.
     * First, so that the caller finds the error of the others as the last one. */
    *ret_monitor_id = virConnectDomainQemuMonitorEventRegister(
        conn, NULL, "BLOCK_JOB_COMPLETED", on_monitor, libvirt_ref(self), libvirt_unref, 0);
    if (*ret_monitor_id < 0)
        libvirt_unref(self);

    for (int i = 0; i < N_EVENTS; i++) {
        ids[i] =
            virConnectDomainEventRegisterAny(conn, NULL, event_table[i].id, event_table[i].callback,
                                             libvirt_ref(self), libvirt_unref);
        if (ids[i] < 0) {
            libvirt_unref(self);
            return false;
        }
    }
    return true;
}

void
events_deregister(virConnectPtr conn, const int ids[N_EVENTS], int monitor_id)
{
    for (int i = 0; i < N_EVENTS; i++)
        if (ids[i] >= 0)
            virConnectDomainEventDeregisterAny(conn, ids[i]);
    if (monitor_id >= 0)
        virConnectDomainQemuMonitorEventDeregister(conn, monitor_id);
}
