/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * What a contract is tried on: one VM with its images, seen through src/hypervisor/hypervisor.h,
 * and what somebody else does to it (a guest writes, QEMU or libvirtd is killed).
 *
 *     stage_sim.c    the simulator, in virtual time
 *     stage_real.c   libvirt and QEMU on a private host (tests/lib/lvhost); the VM has no guest,
 *                    is started paused, and QEMU itself writes to its disks
 *
 * A program links one of the two. Disk "a" is vda, its chain at first a0 (base), a1, a2 (leaf);
 * disk "b" likewise. A file is named without its folder: "a2".
 */
#pragma once

#include "base/cleanup.h"
#include "hypervisor/hypervisor.h"

#define STAGE_CLUSTERS 6
#define STAGE_DISKS 2
#define STAGE_DEPTH 3

typedef struct {
    Hypervisor *hv;
    char vm_id[40];
    char dir[200];
    unsigned disks;
    uint64_t bytes; /* of each disk */
} Stage;
extern Stage stage;
extern const char *const stage_word; /* "the simulator" */
extern const bool stage_is_real;

/* For the whole program. */
void stage_init(void);
void stage_exit(void);

/* A fresh VM, the body, the end of it all. In the simulator the body is a fiber, and seed its
 * world. */
void stage_run(unsigned disks, uint64_t seed, void (*body)(void *), void *data);
/* Called by the back end for each event. */
void stage_event(const HvEvent *event, void *data);

char *stage_path(const char *name);
/* Cluster c is somewhere in the disk, far from the others; values 1 to 255. False: the VM is off.
 */
bool stage_write(const char *target, unsigned cluster, unsigned value);
bool stage_flush(const char *target);
/* What whoever opens this leaf by its headers reads. False: it cannot be opened. */
bool stage_read(const char *leaf, unsigned values[STAGE_CLUSTERS]);
/* QEMU's job of this disk goes at full speed, and libvirt is not asked: it may be dead. */
bool stage_hurry(const char *target);
/* Started paused. */
bool stage_start(GError **error);
void stage_destroy(void);
void stage_kill_qemu(void);
void stage_kill_libvirtd(void);
/* The disk's block job, by QEMU's own monitor, and waits for its end: what a libvirtd does that is
 * killed right after. */
void stage_cancel_in_qemu(const char *target);
/* While libvirtd is dead: its status file has the disk's job, but no mirror, as one that was killed
 * in the begin of the job leaves it (H11). */
void stage_forget_mirror(const char *target);
void stage_start_libvirtd(void);
