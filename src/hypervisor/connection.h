/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * What the files behind hypervisor_libvirt_new() share: the kept connection, how a call gets at a
 * domain, and how libvirt's errors become ours. Nobody outside this folder includes it.
 *
 * Threads: self->lock guards the members below it and is never held across a call that libvirt may
 * block in: its close callback, which runs under libvirt's own locks, takes it too.
 */
#pragma once

#include "hypervisor/hypervisor.h"

#include <libvirt/libvirt.h>

G_DEFINE_AUTOPTR_CLEANUP_FUNC(virDomain, virDomainFree)
G_DEFINE_AUTOPTR_CLEANUP_FUNC(virConnect, virConnectClose)

enum { N_EVENTS = 9 };

typedef struct {
    Hypervisor hypervisor; /* must be first */
    gint refs;             /* the owner, the connector thread, each callback that libvirt holds */
    char *uri;
    HvEventFunc each;
    void *data;
    GMutex emit_lock; /* one event at a time, none once silent */
    bool silent;

    GMutex lock;
    GCond changed;
    virConnectPtr conn; /* NULL = not connected; owned by the connector thread */
    bool broken;        /* the connection that the connector holds has ended */
    bool stopping;
    bool finished;         /* the connector thread is past its last use of libvirt */
    int64_t opening_us;    /* monotonic: it is being opened since then; 0 = it is not */
    char *why;             /* the last failure to connect, or how the connection ended */
    GHashTable *reasons;   /* "UUID/target" → why QEMU says that the last job failed */
    GHashTable *instances; /* UUID → "PID.STARTTIME" */
    GHashTable *processes; /* UUIDs whose QEMU ran when conn was new (domain.c); NULL = not asked */
    GHashTable
        *sure_leaves;    /* "UUID/target": libvirt knows of conn on which file it is (domain.c) */
    GHashTable *domains; /* UUID → virDomainPtr of conn: each call would look it up again */
    GThread *connector;
} Libvirt;

Libvirt *libvirt_ref(Libvirt *self);
void libvirt_unref(void *self);
void libvirt_emit(Libvirt *self, const HvEvent *event);

/* pool.c: of disks that are volumes of a pool. No error: without its pool a VM cannot start. */
void pool_files_find(virConnectPtr conn, const GPtrArray *disks);

/* events.c. Deregistering works on a dead connection too. */
bool events_register(Libvirt *self, virConnectPtr conn, int ids[N_EVENTS], int *ret_monitor_id);
void events_deregister(virConnectPtr conn, const int ids[N_EVENTS], int monitor_id);
/* A new job begins on this disk: what an older one said is of no interest. */
void events_forget_reason(Libvirt *self, const char *vm_id, const char *disk);
/* "vda" of QEMU's job name "commit-vda-libvirt-3-format"; NULL if it is none of libvirt's. */
char *events_disk_of_job(const char *job_name);

/* The connection with a reference of its own, or ERR_UNREACHABLE at once. */
virConnectPtr libvirt_conn(Libvirt *self, GError **error);
/* The domain, or ERR_UNREACHABLE, or ERR_NOT_FOUND; that it is gone may also be told by the first
 * call on it. */
virDomainPtr libvirt_domain(Hypervisor *hv, const char *vm_id, GError **error);
/* It was defined anew (perhaps by another name), undefined, or is not found any more. */
void libvirt_forget_domain(Libvirt *self, const char *vm_id);

/* Turns the error of this thread's last libvirt call into ours: "VM 'name' (uuid): DOING:
 * libvirt's message". Must follow that call directly. Always false. */
bool libvirt_refused(virDomainPtr domain, GError **error, const char *doing, ...)
    G_GNUC_PRINTF(3, 4);
/* The last error of this thread is this one (text NULL: any text). */
bool libvirt_error_is(int code, const char *text);
ErrorCode libvirt_error_code(int code, int domain, const char *message);
/* Not running, as far as libvirt knows; false if it cannot tell. Overwrites the last error. */
bool libvirt_is_off(virDomainPtr domain);

/* The functions of the seam, by file. */
char **domain_list(Hypervisor *hv, GError **error);
HvDomain *domain_look(Hypervisor *hv, const char *vm_id, GError **error);
bool domain_stored_disks(Hypervisor *hv, const char *vm_id, GPtrArray **ret_disks, GError **error);
bool domain_foreign_job(Hypervisor *hv, const char *vm_id, char **ret_job, GError **error);
bool domain_suspend(Hypervisor *hv, const char *vm_id, GError **error);
bool domain_resume(Hypervisor *hv, const char *vm_id, GError **error);
bool power_start(Hypervisor *hv, const char *vm_id, bool paused, GError **error);
bool power_restore(Hypervisor *hv, const char *vm_id, const char *memory,
                   const char *const *targets, const char *const *sources,
                   const char *const *formats, unsigned n, bool paused, GError **error);
char *guest_name(Hypervisor *hv, const char *vm_id, unsigned budget_s, GError **error);
bool ticket_set(Hypervisor *hv, const char *vm_id, const char *password, unsigned seconds,
                GError **error);
bool domain_rename(Hypervisor *hv, const char *vm_id, const char *name, GError **error);
bool domain_describe(Hypervisor *hv, const char *vm_id, const char *description, const char *title,
                     GError **error);
bool host_look(Hypervisor *hv, HvHost *ret_host, GError **error);
bool power_ask(Hypervisor *hv, const char *vm_id, HvPower how, GError **error);
bool domain_reconfigure(Hypervisor *hv, const char *vm_id, const char *config,
                        const char *const *targets, const char *const *sources,
                        const char *const *formats, unsigned n, GError **error);
bool domain_redefine(Hypervisor *hv, const char *vm_id, const char *const *targets,
                     const char *const *sources, const char *const *formats, unsigned n,
                     GError **error);
bool define_clone(Hypervisor *hv, const char *vm_id, const HvClone *clone, GPtrArray *left,
                  GError **error);
bool define_undo(Hypervisor *hv, const char *vm_id, bool all, GError **error);
bool snapshot_take(Hypervisor *hv, const char *vm_id, const HvSnapshotDisk *disks, unsigned n_disks,
                   const char *memory, GError **error);
bool snapshot_freeze(Hypervisor *hv, const char *vm_id, unsigned budget_s, GError **error);
bool snapshot_thaw(Hypervisor *hv, const char *vm_id, unsigned budget_s, GError **error);
GPtrArray *snapshot_records(Hypervisor *hv, const char *vm_id, GError **error);
bool snapshot_record_forget(Hypervisor *hv, const char *vm_id, const char *name, GError **error);
bool snapshot_record_restore(Hypervisor *hv, const char *vm_id, const char *xml, bool current,
                             GError **error);
bool jobs_commit_start(Hypervisor *hv, const char *vm_id, const char *disk, const char *base,
                       const char *top, uint64_t bandwidth, GError **error);
bool jobs_copy_start(Hypervisor *hv, const char *vm_id, const char *disk, const char *dest,
                     bool shallow, uint64_t bandwidth, GError **error);
/* What a running VM's QEMU says of its disks; asked when first needed, and no more than once: with
 * long chains the answer is large (monitor.c). */
typedef struct {
    virDomainPtr domain; /* borrowed */
    char *blocks, *nodes;
} Monitor;
void monitor_clear(Monitor *monitor);
G_DEFINE_AUTO_CLEANUP_CLEAR_FUNC(Monitor, monitor_clear)
/* Which file a disk is on, in QEMU's own words. *ret_above: it stands on what libvirt takes for the
 * leaf. */
bool monitor_leaf(Monitor *monitor, const HvDisk *disk, char **ret_path, bool *ret_above,
                  GError **error);
/* Of QEMU's answers to query-block and query-named-block-nodes; NULL = it is not in there.
 * *ret_above: it stands on path. *ret_cut: it is in "nodes", which was NULL. */
char *monitor_find_leaf(const char *blocks, const char *nodes, const char *alias, const char *path,
                        bool *ret_above, bool *ret_cut);
/* Disks whose leaf QEMU knows better get it, and lost_pivot. UNREACHABLE = QEMU did not answer. */
bool lost_pivots_correct(Libvirt *self, virDomainPtr domain, const char *vm_id, GPtrArray *disks,
                         GError **error);
bool jobs_look(Hypervisor *hv, const char *vm_id, const char *disk, HvJob *ret_job, GError **error);
bool jobs_set_bandwidth(Hypervisor *hv, const char *vm_id, const char *disk, uint64_t bandwidth,
                        GError **error);
bool jobs_cancel(Hypervisor *hv, const char *vm_id, const char *disk, GError **error);
bool relink_volume(Hypervisor *hv, const char *vm_id, const char *disk, const char *path,
                   const char *below, const char *name, GError **error);
bool flush_volume(Hypervisor *hv, const char *vm_id, const char *disk, const char *path,
                  GError **error);
bool jobs_pivot(Hypervisor *hv, const char *vm_id, const char *disk, GError **error);
