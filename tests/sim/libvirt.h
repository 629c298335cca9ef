/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * What libvirt.c (the client: asking, events), libvirt_do.c (calls that change something),
 * libvirt_job.c (its block jobs), libvirt_job_end.c (how they end), libvirt_power.c (starting and
 * stopping the VM), libvirt_memory.c (its memory beside a snapshot), libvirt_guest.c (the guest's
 * agent), libvirt_define.c (defining, undefining), stranger.c (snapshots of somebody else) and
 * libvirtd.c (libvirtd's own life) share.
 *
 * A call that changes something is done by a fiber of libvirtd, so it goes on when its caller dies.
 * What libvirtd knows of a running VM is in its memory (live), in its status file, and in the
 * persistent definition, which it writes one after the other; killed in between, it comes back
 * with the status file and does not look at QEMU's graph, only at its jobs.
 */
#pragma once

#include "world.h"

typedef struct {
    Hypervisor hypervisor; /* must be first */
    HvEventFunc each;
    void *data;
    bool connected, told; /* told: CONNECTED was sent */
    GQueue events;        /* of Event */
} Client;

typedef struct Call {
    bool (*func)(struct Call *call, GError **error);
    SimDisk *disk;
    const char *base, *top;
    const char *name;   /* what a header is to say */
    const char *config; /* of a definition: all but its disks; NULL = it stays */
    uint64_t bandwidth;
    HvJobType type;
    const HvSnapshotDisk *disks;
    const char *memory;
    const char *const *targets, *const *sources;
    unsigned n;
    bool paused;
    HvPower how;
    bool stranger; /* somebody else's */
    bool beside;   /* a job of the whole VM is not in its way */
    bool begun, done, ok;
    GError *error;
} Call;

extern GPtrArray *libvirt_calls; /* all of this world */

/* ---- libvirt.c ---- */
void libvirt_send(HvEventKind kind, const char *disk, HvJobStatus status);
void libvirt_send_domain(const char *vm_id);
void libvirt_broke(void); /* the client sees that libvirtd is gone */
/* The call belongs to libvirtd: it is never freed, since the caller may die. */
bool libvirt_do(Client *self, const char *what, const Call *wanted, GError **error);
void libvirt_run_call(void *call);
GPtrArray *libvirt_copy_backing(const GPtrArray *from);
HvDisk *libvirt_disk(const SimDisk *disk, const char *source);
HvDisk *libvirt_defined_disk(const SimDisk *disk);
/* Of the start that is under way */
HvDisk *libvirt_starting_disk(const SimDisk *disk, bool restored);

/* ---- libvirt_do.c ---- */
bool libvirt_sees_vm(void); /* it runs, and libvirtd knows it */
bool libvirt_needs_running(GError **error);
void libvirt_save_status(SimDisk *disk);
void libvirt_show_graph(SimDisk *disk);
void libvirt_show_no_mirror(SimDisk *disk);
/* A snapshot: the disks of a running VM are switched to its overlays. */
bool libvirt_switch_disks(Call *call, GError **error);
/* A snapshot is a job of the whole VM: its end is noted, whatever became of it. */
void libvirt_save_all_status(void);
/* Asked to end its job; where it does not find that any more it is shown for ever. */
bool libvirt_keeps_mirror(const SimDisk *disk);
/* By a mistake of its own. May not return: not in its own fibers. */
void libvirtd_crashed(void);

/* ---- stranger.c ---- */
/* libvirt holds the domain from the check of its jobs on: no leaf becomes another meanwhile. */
bool stranger_fits(const SimDisk *disk, const char *overlay);
void stranger_switched(const SimDisk *disk, const char *overlay); /* QEMU has done it */
void stranger_defined(const SimDisk *disk);                       /* a definition has changed */

/* ---- libvirt_job.c ---- */
/* QEMU is given new files. False: the VM is gone, or an earlier libvirtd has left some. */
bool libvirt_add_nodes(unsigned files, GError **error);
/* It was asked to end the job, which is gone, and shows it for ever: see libvirtd.c */
bool libvirt_lost_end(const SimDisk *disk);
/* One that it was killed in the begin of, and whose mirror it does not know, is none for it. */
bool libvirt_knows_job(const SimDisk *disk);
bool libvirt_op_commit_start(Hypervisor *hv, const char *vm_id, const char *target,
                             const char *base, const char *top, uint64_t bandwidth, GError **error);
bool libvirt_op_copy_start(Hypervisor *hv, const char *vm_id, const char *target, const char *dest,
                           bool shallow, uint64_t bandwidth, GError **error);
bool libvirt_op_flush(Hypervisor *hv, const char *vm_id, const char *target, const char *path,
                      GError **error);
bool libvirt_op_relink(Hypervisor *hv, const char *vm_id, const char *target, const char *path,
                       const char *below, const char *name, GError **error);
bool libvirt_op_set_bandwidth(Hypervisor *hv, const char *vm_id, const char *target,
                              uint64_t bandwidth, GError **error);
bool libvirt_op_cancel(Hypervisor *hv, const char *vm_id, const char *target, GError **error);
bool libvirt_op_pivot(Hypervisor *hv, const char *vm_id, const char *target, GError **error);

/* ---- libvirt_job_end.c ---- */
/* libvirt knows of a job that has ended: the views follow, and it is dismissed. */
void libvirt_conclude_job(SimDisk *disk);

/* ---- libvirt_define.c ---- */
/* Only a definition that names the leaf follows a job or a snapshot: one that is behind, since
 * libvirtd died between the switch to a leaf and its definition, stays behind. To be asked before
 * the views follow. */
bool libvirt_names_leaf(const SimDisk *disk);
/* backing: what the definition says of the files below, as far as it does (owned); NULL = nothing
 */
void libvirt_define(SimDisk *disk, const char *source, GPtrArray *backing);
void libvirt_name_disks(Call *call, const char *const *targets, const char *const *sources,
                        unsigned n);
bool libvirt_op_redefine(Hypervisor *hv, const char *vm_id, const char *const *targets,
                         const char *const *sources, const char *const *formats, unsigned n,
                         GError **error);
bool libvirt_op_reconfigure(Hypervisor *hv, const char *vm_id, const char *config,
                            const char *const *targets, const char *const *sources,
                            const char *const *formats, unsigned n, GError **error);
bool libvirt_op_rename(Hypervisor *hv, const char *vm_id, const char *name, GError **error);
bool libvirt_op_describe(Hypervisor *hv, const char *vm_id, const char *description,
                         const char *title, GError **error);
/* of other VMs, which are off */
bool libvirt_is_other(const char *vm_id);
HvDomain *libvirt_look_at_other(void);
bool libvirt_op_undefine(Hypervisor *hv, const char *vm_id, bool all, GError **error);
bool libvirt_op_clone(Hypervisor *hv, const char *vm_id, const HvClone *clone, GPtrArray *left,
                      GError **error);

/* ---- libvirt_memory.c ---- */
/* Around the switch of a snapshot: memory is saved before, and the VM goes on after it. */
bool libvirt_with_memory(Call *call, bool (*switch_disks)(Call *call, GError **error),
                         GError **error);
bool libvirt_op_restore(Hypervisor *hv, const char *vm_id, const char *memory,
                        const char *const *targets, const char *const *sources,
                        const char *const *formats, unsigned n, bool paused, GError **error);

/* ---- libvirt_guest.c ---- */
bool libvirt_op_freeze(Hypervisor *hv, const char *vm_id, unsigned budget_s, GError **error);
bool libvirt_op_thaw(Hypervisor *hv, const char *vm_id, unsigned budget_s, GError **error);

/* ---- libvirt_power.c ---- */
bool libvirt_has_job(void); /* a block job, of any disk */
/* On these leaves; NULL = as it is defined, or those of its saved memory. */
bool libvirt_start_on(const Call *call, const char *const *sources, GError **error);
bool libvirt_op_start(Hypervisor *hv, const char *vm_id, bool paused, GError **error);
bool libvirt_op_power(Hypervisor *hv, const char *vm_id, HvPower how, GError **error);

extern const HypervisorOps libvirt_doing; /* the functions that change something */
