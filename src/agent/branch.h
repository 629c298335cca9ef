/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * Trying a snapshot: parts shared by preview.c and branch_end.c.
 *
 * The manifest says on which line a VM that is off stands: one write of it is the moment when a
 * preview begins or ends, made while the domain's lease and the VM's start lock are held and the VM
 * is off. The definition follows, by the operation or whoever looks first: until then the start
 * guard refuses the leaf of the other line (storage/guard.c).
 */
#pragma once

#include "agent/operation.h"

typedef struct {
    LeaseHold lease;
    int start_lock;
    HvDomain *hv;
    Vm *vm;
    Domain *home; /* borrowed */
} BranchHold;

void branch_hold_clear(BranchHold *hold);
G_DEFINE_AUTO_CLEANUP_CLEAR_FUNC(BranchHold, branch_hold_clear)
#define BRANCH_HOLD_NONE \
    {                    \
        .start_lock = -1 \
    }

/* Locks, looks at the VM and its manifest, and asks whether the verb may be done. Nothing starts
 * the VM until the hold is cleared, but for a start that shows as such. */
bool branch_hold(Operation *op, int verb, BranchHold *ret_hold, GError **error);
/* Does libvirt's definition (of a running VM: what it runs on) name these? disks: of {"target",
 * KEY: path}. */
bool branch_is_on(const HvDomain *hv, const json_t *disks, const char *key);
/* Makes the definition of a VM that is off name them. formats: at FORMAT_KEY. */
bool branch_define(Operation *op, const json_t *disks, const char *key, const char *format_key,
                   GError **error);
/* Was that error libvirt's last word on a definition? */
bool branch_is_refused(const GError *problem);
/* And all else of it what config says (NULL: as it is). What libvirt does not take of the past
 * stays as it is, and the operation's result says why (configuration_kept). Remembers "configured".
 */
bool branch_configure(Operation *op, const char *config, const json_t *disks, const char *key,
                      const char *format_key, GError **error);

/* preview_alone.c: of a snapshot of the configuration alone */
/* Its plan has no disks. Before it is made: false. */
bool preview_is_alone(const Operation *op);
bool preview_alone_is_ours(const Operation *op, const Vm *vm);
/* DONE: nothing is against it. FAILED: the VM was started before its definition had gone back; in
 * doubt it had, for what it was before is kept for an undo. */
StepState preview_alone_check(const Operation *op, const HvDomain *hv, const Vm *vm,
                              GError **error);
bool preview_alone_define(Operation *op, const HvDomain *hv, const char *config, GError **error);
/* Before a commit, of previews of all kinds: the definition is made once more if need be. */
bool preview_alone_define_lost(Operation *op, const HvDomain *hv, const Vm *vm, GError **error);
