/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * Merging one run of one disk: parts shared by merge.c, merge_*.c, graft.c, build.c, seal.c,
 * pivot.c, cold.c and cold_switch.c.
 *
 * What a merge remembers (row.data), all written before the deed they speak of:
 *   target            "vda"
 *   strategy          the one in use: commit, commit-active, cold-commit, graft, copy
 *   before, after     the chain's paths, base first, as it was and as it must become
 *   run               paths of the run, base first
 *   base_format       of the volume that remains lowest
 *   instance          of the VM in whose life it is done; absent = while the VM is off
 *   started           a job was begun: what it writes into may have changed
 *   started_in        the instance it was begun in; "" = while the VM was off
 *   pivoting          {"suspended": bool}: a pivot has begun, and whether we suspend the VM for it
 *   switching         the definition is about to name the new leaf (VM off)
 *   pivoted           the new leaf is in the manifest, and the VM runs or is off
 *   whole             all of what an internal commit wrote into the base is surely durable
 *   base_open         before it began, QEMU had the base open for writing already
 *   unflushed         why not all of it reached the storage
 *   completed         the storage daemon has copied all; leaf_seen: the leaf as it was then
 *   bytes, began      for the result; and shared, written
 * graft and copy:
 *   groups            [{volumes: [{path, format}], top (volume id), dest, dest_id, built}]: the
 *                     volumes that become one each. The leaf is among them if nothing writes it
 *                     (the VM is off, or it is sealed); else it comes later, by a job
 *   dest, dest_id     of the topmost group: the new leaf
 *   prefilled         all groups are built; so many bytes of the progress
 *   leaf_seen         {dev, ino, size, mtime, ctime} of the leaf before it was read
 *   seal, seal_id     the temporary overlay T; sealed: the VM stands on it
 *   sealing           the change to it; and life, guarded, ran_on_old (overlay.h)
 * a graft that was given up after its seal:
 *   unsealing         T is committed into the old leaf again; base_id, top_id: of that
 */
#pragma once

#include "agent/operation.h"
#include "agent/space.h"
#include "qcow2/qcow2.h"

typedef struct Builder Builder;

typedef struct {
    WorkMap *work; /* of a job: data to copy; turns the offset of an internal one into bytes */
    uint64_t job_first_total;   /* bytes, as the job told when it was seen first */
    bool settled;               /* settle has done its work in this process */
    Builder *builder;           /* graft, copy: builds in a thread of its own */
    struct VerifyWork *verify;  /* compares in a thread of its own */
    struct VerifyWork *whole;   /* the same, for merge_whole.c */
    char *differs, *differs_in; /* what it has found, and the VM's instance then */
    SpacePace space;
    int64_t job_unseen_us; /* when signs of it were first seen without it */
    bool job_ended;        /* libvirt has said so */
    int64_t job_gone_us;   /* when the job was first found gone with the chain unchanged */
    unsigned unflushed;    /* how often what was merged did not reach the storage */
    int64_t flushing_us;   /* when the base was first seen written without a job */
    int64_t job_began_us;  /* by this process; 0 = by an earlier one */
    uint64_t base_had;     /* bytes allocated to the base's file then */
    unsigned daemon_deaths, build_failures; /* in this process */
    bool stray_in_way; /* the storage daemon could not begin while there were strays (strays.c) */
} MergeScratch;
MergeScratch *merge_scratch(Operation *op);

/* ---- merge_chain.c: which chain does the disk have, and whose is its block job? ---- */

bool merge_is(const Operation *op, const char *strategy);
bool merge_flag(const Operation *op, const char *key); /* is it remembered? */
/* New volumes take the place of the old ones, which are left as they are: copy and graft. */
bool merge_is_forward(const Operation *op);
/* The leaf takes part: the VM must change to another one. */
bool merge_has_leaf(const Operation *op);
/* It is done while the VM is off. */
bool merge_is_cold(const Operation *op);
/* The lowest and the highest path of the run. */
const char *merge_run_base(const Operation *op);
const char *merge_run_top(const Operation *op);
const char *merge_new_leaf(const Operation *op); /* the path the VM must run on afterwards */
const char *merge_old_leaf(const Operation *op);

typedef enum { CHAIN_UNKNOWN, CHAIN_BEFORE, CHAIN_AFTER, CHAIN_OTHER } ChainState;
/* Which of the two the headers and libvirt tell now; OTHER is an error that shows it, and UNKNOWN
 * one that it could not be asked. */
bool merge_chain_state(Operation *op, const HvDomain *hv, ChainState *ret_state, GError **error);
/* It is the one before, perhaps with volumes on top that somebody else's snapshot has added. */
bool merge_is_before(Operation *op, const HvDomain *hv);
/* The VM is off, and its definition may name the new leaf though nobody has pivoted it. */
bool merge_definition_runs_ahead(const Operation *op, const HvDomain *hv);
/* What the merge has changed was synced: settle has told its result. */
bool merge_is_synced(const Operation *op);
/* merge_whole.c: the headers tell the merged chain. That of an internal commit is only believed
 * when its base was surely flushed; else, if the VM is off, what stood on the run is put back
 * (BEFORE).
 */
bool merge_judge_commit(Operation *op, const HvDomain *hv, ChainState *ret_state, GError **error);
/* Can such a base that was not flushed be committed into once more? */
bool merge_base_is_sound(Operation *op, GError **error);
/* The same before a start of the VM, from its hook: libvirt is not asked. quiet: nobody else is at
 * work on the VM. Called after merge_make_way(). ERR_REFUSED or another error: it must not start.
 */
bool merge_before_start(Agent *agent, AgentVm *entry, bool quiet, GError **error);
/* Writes the merged chain, with the new leaf, into the manifest; conclude: and takes the record of
 * the operation out of it, in the same write. Safe to repeat. */
bool merge_save_chain(Operation *op, bool conclude, GError **error);
/* Does the manifest name the new leaf already? From then on it is the truth. */
bool merge_manifest_is_new(Operation *op, bool *ret_new, GError **error);
/* fsync of what the merge has changed. */
bool merge_sync_changed(Operation *op, GError **error);

/* Does the VM live the life in which the merge is done: the same QEMU process, or off? */
typedef enum {
    LIFE_SAME,
    LIFE_OTHER,
    LIFE_UNCLEAR, /* it is starting or ending just now; an error says so */
} Life;
Life merge_life(const Operation *op, const HvDomain *hv, GError **error);
bool merge_same_instance(const Operation *op, const HvDomain *hv);
/* The job that is waited for was begun in the life that op's instance tells (else it is to be
 * begun). */
bool merge_was_begun(const Operation *op);
/* A block job of the disk that this merge has begun, and nobody else. */
bool merge_owns_job(const Operation *op, const HvDomain *hv, const HvJob *job);
/* QEMU has changed to the new leaf, in a pivot of ours, and libvirt does not know. */
bool merge_pivot_is_hidden(const Operation *op, const HvDomain *hv);
/* Nothing can be changing the leaf now: libvirt knows of no mirror, or of one that waits for a
 * pivot. After a restart libvirt shows the old leaf for some milliseconds although QEMU has
 * pivoted.
 */
bool merge_leaf_is_settled(const Operation *op, const HvDomain *hv);
/* First the job, then the chain: if the job is gone by then, the chain tells what became of it. The
 * other way round it could end in between, merged, and look as if it had never run. A job of ours
 * that shows signs of life, but libvirt does not tell of, is an error for a while. The caller frees
 * *ret_hv, which may be set on an error too. */
bool merge_look_job_first(Operation *op, HvJob *ret_job, HvDomain **ret_hv, ChainState *ret_state,
                          GError **error);
/* Is there a job of this merge? False: libvirt cannot tell it now. */
bool merge_find_own_job(Operation *op, const HvDomain *hv, bool *ret_ours, GError **error);

/* ---- merge_turn.c: the VM stopped, or runs again ---- */

/* Remembers how the merge goes on in the life that the VM has now; the chain must be as before. The
 * caller returns STEP_BACK. */
StepState merge_turn(Operation *op, const HvDomain *hv);
/* For a check: STEP_DONE if the VM lives the life in which the merge is done; else what the check
 * returns, turned if need be. */
StepState merge_follow(Operation *op, const HvDomain *hv, GError **error);
/* After an act has failed: if the VM stopped or started meanwhile that is no failure, and the check
 * is asked again. Always false. */
bool merge_excuse(Operation *op, GError **error);
/* Remembers how the leaf is now, to see later that nothing wrote it. */
bool merge_note_leaf(Operation *op, GError **error);
bool merge_leaf_changed(const Operation *op);
/* The VM is about to start: nothing is begun that would keep its QEMU from its images. */
bool merge_may_be_cold(Operation *op, GError **error);
/* While it is held, merge_make_way() waits. Never held across a call of libvirt. */
#define WITH_WAY(op) WITH_LOCK(&(op)->entry->way_lock)
/* Called before the VM's QEMU starts (hook): whatever keeps it from its images is stopped, safely,
 * and stays so while the VM starts. Merges go on when it runs, or when it is still off after
 * MAKE_WAY_S (libvirt shows it as starting from before the hook on, so a start that takes longer is
 * seen). Never calls libvirt, which waits for the hook. False: it could not be done in the budget;
 * then QEMU's own locks refuse the start. Threads: any. */
#define MAKE_WAY_S 5
bool merge_make_way(Agent *agent, AgentVm *entry, unsigned budget_ms, GError **error);

/* merge_record.c: decides what will be done, and writes it down before anything is changed */
StepState merge_record_check(void *op, GError **error);
bool merge_record_act(void *op, GError **error);

/* merge_settle.c: the records say what is true */
StepState merge_settle_check(void *op, GError **error);
bool merge_settle_act(void *op, GError **error);
/* Nothing is called merged that is not; mends a definition that a power loss left behind. */
bool merge_is_done(Operation *op, const HvDomain *hv, GError **error);

/* merge_undo.c: ends the job, unless it was faster; and what the merge has left goes */
StepState merge_stop_check(void *op, GError **error);
bool merge_stop_act(void *op, GError **error);
StepState merge_undo_check(void *op, GError **error);
bool merge_undo_act(void *op, GError **error);
/* Ends the live job; after that nobody need look for it. */
bool merge_cancel_job(Operation *op, GError **error);
/* Ends whatever job of this merge runs, and resumes the VM if a pivot left it suspended. */
bool merge_end_jobs(Operation *op, const HvDomain *hv, GError **error);

/* merge.c: the job */
StepState merge_start_check(void *op, GError **error);
bool merge_start_act(void *op, GError **error);
StepState merge_transfer_check(void *op, GError **error);
void merge_show_job(Operation *op, uint64_t done, uint64_t total);

/* pivot.c: merge.md section 4 */
StepState pivot_check(void *op, GError **error);
bool pivot_act(void *op, GError **error);
/* False; the error becomes one that is tried again. */
bool pivot_look_again_later(GError **error);
/* Resumes the VM if a pivot of ours left it suspended. */
bool pivot_unsuspend(Operation *op, const HvDomain *hv, GError **error);
/* The manifest is written in the pause, and a guest stands still, or is not started, until it is: a
 * full storage is found before. */
bool pivot_has_room(Operation *op, GError **error);

/* ---- graft.c: forward; which new volumes there will be ---- */

/* Can the storage share blocks (graft), and can the writer carry these volumes? */
bool graft_is_possible(Operation *op, const HvDomain *hv, const Disk *disk, int base,
                       GError **error);
/* Remembers groups, after, dest, seal. */
void graft_plan(Operation *op, const Disk *disk, int base);
/* What the new leaf is built from includes the leaf: no job is needed. */
bool graft_leaf_is_built(const Operation *op);
/* How it goes on when the VM runs or is off now (op's instance). */
void graft_turn(Operation *op);
/* The topmost group must be built again. */
void graft_forget_top(Operation *op);
bool graft_has_built(const Operation *op);
/* Is any of the new volumes in this chain? */
bool graft_is_in(const Operation *op, char **chain);
bool graft_remove_built(Operation *op, GError **error);
/* The manifest after the switch. */
bool graft_apply(const Operation *op, Vm *vm, Disk *disk, GError **error);

/* ---- build.c: forward; the new volumes are built, in a thread ---- */

StepState build_check(void *op, GError **error);
bool build_act(void *op, GError **error);
/* The leaf of a VM that is off was, or is being, read: BACK if the VM was started since. In all
 * other cases "otherwise". */
StepState build_still_off(Operation *op, StepState otherwise, GError **error);
/* Ends the thread, if there is one; it ends within 0.2 s. */
void build_stop(Operation *op);
void builder_free(Builder *builder);

/* ---- seal.c: a leaf that holds much becomes immutable, and the way back ---- */

StepState seal_check(void *op, GError **error);
bool seal_act(void *op, GError **error);
/* Remembers a seal that happened although its call failed. */
void seal_note(Operation *op, const HvDomain *hv);
/* Undo: makes the operation one that commits T into the old leaf. */
bool seal_begin_undo(Operation *op, const HvDomain *hv, GError **error);
/* Undo: a T that the VM never stood on. */
bool seal_remove_unused(Operation *op, GError **error);
/* The steps after undo; all are done at once where nothing was sealed. */
StepState unseal_start_check(void *op, GError **error);
StepState unseal_transfer_check(void *op, GError **error);
StepState unseal_pivot_check(void *op, GError **error);
StepState unseal_settle_check(void *op, GError **error);
bool unseal_settle_act(void *op, GError **error);
/* It cannot be: T stays, as a snapshot that can be deleted like any other. */
StepState keep_seal_check(void *op, GError **error);
bool keep_seal_act(void *op, GError **error);

/* ---- cold.c: the VM is off; a job in a storage daemon ---- */

bool cold_start(Operation *op, GError **error);
StepState cold_look(Operation *op, GError **error);
/* Waits until the job has copied the last, and ends the daemon. */
bool cold_complete(Operation *op, GError **error);
/* Ends the storage daemon, its job first. True when it is gone. */
bool cold_stop(Operation *op, GError **error);
/* The same without the operation, which may end meanwhile. */
bool cold_end(Agent *agent, const char *op_id, int budget_ms, GError **error);
/* cold_socket.c: where the operation's daemon listens; is a file, by its name, such a socket, and
 * this operation's? */
char *cold_socket_path(const Agent *agent, const char *op_id);
bool cold_is_socket(const char *name);
bool cold_is_socket_of(const char *name, const char *op_id);
/* One that is proved to be of an agent, and belongs to no operation of this one; others are left
 * alone. The socket of a dead one goes. */
bool cold_end_stray(const char *path, bool *ret_was_one, GError **error);
bool cold_is_running(Operation *op); /* or might: it does not answer */
/* DONE if its job was begun, TODO if not */
StepState cold_has_job(Operation *op, GError **error);
bool cold_has_concluded(Operation *op); /* its job, whatever became of it */

/* ---- cold_switch.c: the VM is off; its definition changes to the new leaf ---- */

/* Before it: the storage daemon's job copies the last and ends, so that what it wrote can be
 * checked. Safe to repeat. */
bool cold_finish_job(Operation *op, GError **error);

StepState cold_switch_check(Operation *op, const HvDomain *hv, ChainState state, GError **error);
bool cold_switch(Operation *op, GError **error);

/* ---- merge_space.c ---- */

/* now: the limit in force; left: bytes to copy (space.h). */
void merge_watch_space(Operation *op, uint64_t left, uint64_t now, SpaceLimit set_limit,
                       void *data);
/* For a block job of a running VM. */
void merge_watch_job(Operation *op, const HvJob *job);
/* A VM that QEMU suspended because a write failed is resumed by people, not by us: shown as what is
 * waited for. */
void merge_show_guest(Operation *op, const HvDomain *hv);
