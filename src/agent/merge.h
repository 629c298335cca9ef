/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * Merging one run of one disk: parts shared by merge.c, merge_*.c, pivot.c, prefill.c and cold.c.
 *
 * What a merge remembers (row.data), all written before the deed they speak of:
 *   target            "vda"
 *   strategy          the one in use: commit, commit-active, copy, cold-commit
 *   before, after     the chain's paths, base first, as it was and as it must become
 *   run               paths of the run, base first
 *   dest, dest_id     copy: the new volume
 *   instance          of the VM when the job began; absent = off
 *   pivoting          {"suspended": bool}: a pivot has begun, and whether we suspend the VM for it
 *   pivoted           the new leaf is in the manifest and the VM runs
 *   bytes, began      for the result
 */
#pragma once

#include "agent/operation.h"
#include "qcow2/qcow2.h"

#include <gio/gio.h>

typedef struct {
    WorkMap *work;        /* internal commits: turns QEMU's offset into bytes */
    bool settled;         /* settle has done its work in this process */
    GSubprocess *prefill; /* copy: qemu-img convert */
    int64_t job_gone_us;  /* when the job was first found gone with the chain unchanged */
} MergeScratch;
MergeScratch *merge_scratch(Operation *op);

/* ---- merge_chain.c: which chain does the disk have, and whose is its block job? ---- */

bool merge_is(const Operation *op, const char *strategy);
/* New volumes take the place of the run, which is left as it is: copy and graft. */
bool merge_is_forward(const Operation *op);
/* The leaf takes part: a pivot is needed. */
bool merge_has_leaf(const Operation *op);
const char *merge_new_leaf(const Operation *op); /* the path the VM must run on afterwards */

typedef enum { CHAIN_UNKNOWN, CHAIN_BEFORE, CHAIN_AFTER, CHAIN_OTHER } ChainState;
/* Which of the two the headers and libvirt tell now; OTHER is an error that shows it, and UNKNOWN
 * one that it could not be asked. */
bool merge_chain_state(Operation *op, const HvDomain *hv, ChainState *ret_state, GError **error);
/* Writes the merged chain, with the new leaf, into the manifest; conclude: and takes the record of
 * the operation out of it, in the same write. Safe to repeat. */
bool merge_save_chain(Operation *op, bool conclude, GError **error);
/* fsync of what the merge has changed. */
bool merge_sync_changed(Operation *op, GError **error);

/* The VM still lives the life in which the merge was recorded: the same QEMU process, or off. */
bool merge_same_instance(const Operation *op, const HvDomain *hv);
/* A block job of the disk that this merge has begun, and nobody else. */
bool merge_owns_job(const Operation *op, const HvDomain *hv, const HvJob *job);
/* Nothing can be changing the leaf now: libvirt knows of no mirror, or of one that waits for a
 * pivot. After a restart libvirt shows the old leaf for some milliseconds although QEMU has
 * pivoted.
 */
bool merge_leaf_is_settled(const Operation *op, const HvDomain *hv);
/* First the job, then the chain: if the job is gone by then, the chain tells what became of it. The
 * other way round it could end in between, merged, and look as if it had never run. The caller
 * frees *ret_hv, which may be set on an error too. */
bool merge_look_job_first(Operation *op, HvJob *ret_job, HvDomain **ret_hv, ChainState *ret_state,
                          GError **error);

/* merge_record.c: decides what will be done, and writes it down before anything is changed */
StepState merge_record_check(void *op, GError **error);
bool merge_record_act(void *op, GError **error);

/* merge_undo.c: ends the job, unless it was faster; and what the merge has left goes */
StepState merge_stop_check(void *op, GError **error);
bool merge_stop_act(void *op, GError **error);
StepState merge_undo_check(void *op, GError **error);
bool merge_undo_act(void *op, GError **error);

/* pivot.c: merge.md section 4 */
StepState pivot_check(void *op, GError **error);
bool pivot_act(void *op, GError **error);
/* Resumes the VM if a pivot of ours left it suspended. */
bool pivot_unsuspend(Operation *op, const HvDomain *hv, GError **error);

/* prefill.c: copy, everything below the leaf */
StepState prefill_check(void *op, GError **error);
bool prefill_act(void *op, GError **error);
void prefill_stop(Operation *op);

/* graft.c: forward without moving data */
/* Can the storage share blocks, and can the writer carry these volumes? */
bool graft_is_possible(Operation *op, const Disk *disk, int base, GError **error);
void graft_plan(Operation *op, const Disk *disk, int base);
StepState seal_check(void *op, GError **error);
bool seal_act(void *op, GError **error);
/* Remembers a seal that happened although its call failed. */
void graft_note_seal(Operation *op, const HvDomain *hv);
/* After an undo: what the seal left becomes a snapshot that can be deleted. */
void graft_keep_seal(Operation *op, Vm *vm);
StepState graft_build_check(Operation *op);
bool graft_build_act(Operation *op, GError **error);
bool graft_has_built(const Operation *op);
bool graft_remove_built(Operation *op, GError **error);
/* The manifest after the switch. */
bool graft_apply(const Operation *op, Vm *vm, Disk *disk, GError **error);

/* cold.c: the VM is off */
bool cold_start(Operation *op, GError **error);
StepState cold_look(Operation *op, GError **error);
StepState cold_pivot_check(Operation *op, GError **error);
bool cold_pivot(Operation *op, GError **error);
/* Ends the storage daemon; cancel: its job first. True when it is gone. */
bool cold_stop(Operation *op, GError **error);
bool cold_is_running(Operation *op); /* or might: it does not answer */
/* DONE if its job was begun, TODO if not */
StepState cold_has_job(Operation *op, GError **error);
