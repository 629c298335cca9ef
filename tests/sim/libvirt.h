/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * What libvirt.c (the client: asking, events), libvirt_do.c (calls that change something) and
 * libvirtd.c (starting the VM, libvirtd's own life) share.
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
    uint64_t bandwidth;
    HvJobType type;
    const HvSnapshotDisk *disks;
    const char *memory;
    const char *const *targets, *const *sources;
    unsigned n;
    bool done, ok;
    GError *error;
} Call;

extern GPtrArray *libvirt_calls; /* all of this world */

/* ---- libvirt.c ---- */
void libvirt_send(HvEventKind kind, const char *disk, HvJobStatus status);
void libvirt_broke(void); /* the client sees that libvirtd is gone */
/* The call belongs to libvirtd: it is never freed, since the caller may die. */
bool libvirt_do(Client *self, const char *what, const Call *wanted, GError **error);
void libvirt_run_call(void *call);
GPtrArray *libvirt_copy_backing(const GPtrArray *from);
HvDisk *libvirt_defined_disk(const SimDisk *disk);

/* ---- libvirt_do.c ---- */
bool libvirt_sees_vm(void); /* it runs, and libvirtd knows it */
bool libvirt_needs_running(GError **error);
void libvirt_save_status(SimDisk *disk);
void libvirt_show_graph(SimDisk *disk);
void libvirt_show_no_mirror(SimDisk *disk);
/* libvirt knows of a job that has ended: the views follow, and it is dismissed. */
void libvirt_conclude_job(SimDisk *disk);
extern const HypervisorOps libvirt_doing; /* the functions that change something */
