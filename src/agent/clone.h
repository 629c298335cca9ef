/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * Cloning a VM, or one of its snapshots: parts shared by clone.c, clone_plan.c and clone_build.c.
 *
 * Each disk of the new VM is one new volume that reads as the chain up to the snapshot's volume
 * (without a snapshot: up to the leaf of a VM that is off). What is read is never changed, and
 * nothing writes it meanwhile: merges and snapshots of the VM wait, and without a snapshot the VM
 * cannot be started.
 *
 * What it remembers (row.data): disks: [{"target", "disk" (the source's id), "disk_id",
 * "volume_id" (of the new one), "bus", "boot", "size", "bytes" (about, to be built), "dest",
 * "volumes": [{"path", "format"}] (base first)}], left: [{"target", "why"}], share, xml (of the
 * snapshot), prepared, built, nvram and nvram_copy, settled; and
 * what space.h remembers.
 */
#pragma once

#include "agent/operation.h"

/* ---- clone_plan.c ---- */

typedef struct {
    json_t *disks, *left; /* as above */
    char *xml;            /* NULL: without a snapshot */
    bool share;
    uint64_t bytes;   /* to share or to copy */
    uint64_t written; /* what the storage must have room for */
} ClonePlan;
void clone_plan_clear(ClonePlan *plan);
G_DEFINE_AUTO_CLEANUP_CLEAR_FUNC(ClonePlan, clone_plan_clear)

/* params: those of the operation, of which id begins the new names. Looks at what the volumes hold,
 * what the storage can do, and whether there is room. False: it cannot be done, with the reason. */
bool clone_plan(Agent *agent, const Vm *vm, const json_t *params, const char *id,
                ClonePlan *ret_plan, GError **error);
/* POST /v1/vms/ID/clone (wire/wire.h) */
bool clone_ask(void *agent, const HttpRequest *request, const char *id, json_t *body,
               json_t **ret_json, GError **error);

/* ---- clone_build.c: the step "build" ---- */
StepState clone_build_check(void *op, GError **error);
bool clone_build_act(void *op, GError **error);
/* Ends the thread that builds, if there is one. */
void clone_build_stop(Operation *op);
/* Removes the new volumes, also half built ones. ERR_BUSY: some process has one open. */
bool clone_remove_volumes(const Operation *op, GError **error);
