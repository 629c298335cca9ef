/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * An operation: one deed that the manager asked for, with its place in the journal.
 *
 * Ownership: the agent's table owns it until it is acknowledged. Threads: its VM's worker turns it
 * and alone touches machine and scratch; it changes row under agent->lock, where others read it.
 */
#pragma once

#include "agent/agent.h"
#include "base/pace.h"

/* Beside which other operations of the VM may one be under way? */
typedef enum {
    BESIDE_OTHERS, /* one at a time on a disk */
    BESIDE_POWER,  /* starts and stops alone */
    BESIDE_NONE,
} Beside;

/* What a kind of operation is; the table of kinds is in operation.c. */
typedef struct {
    const char *kind;
    const Step *steps;
    Beside beside;
    /* Are the parameters well formed? Looks at nothing else. NULL = no parameters. */
    bool (*check_params)(const json_t *params, GError **error);
    void (*scratch_free)(void *scratch);
    /* One that the journal held when the agent started: did it end before, so that the journal is
     * an old copy, brought back? Only looks. False: not known yet. NULL = it shows by itself. */
    bool (*is_old)(Operation *op, bool *ret_old, GError **error);
    /* Its VM has left this host: may it be given up? True when nothing of it runs here any more;
     * what it has recorded is put right where the VM is now, as after a lost journal. NULL = no. */
    bool (*leave)(Operation *op, GError **error);
} OperationKind;

struct Operation {
    Agent *agent;
    AgentVm *entry;
    const OperationKind *kind;
    JournalRow row;
    Machine machine;
    bool loaded;     /* from the journal, and not known not to be old */
    int64_t left_us; /* since when its VM was not found on this host; 0 = it was */
    void *scratch;   /* of the kind; not saved */
    HvDomain *seen;  /* the last look of this row of turns; NULL = none (op_hv_seen()) */
    unsigned seen_acts;
    int64_t seen_us;
    int reboots;       /* of its VM, when its guest was frozen; not saved */
    int gaps;          /* the agent's, then */
    unsigned poll_ms;  /* how soon to look again while it waits; 0 = the slow poll */
    bool acked;        /* dropped when it ends */
    char *waiting_for; /* the machine's, as last told; guarded by agent->lock like row */
    char *notice;      /* shown as waiting_for although it goes on; NULL = nothing; likewise */
    /* progress, guarded by agent->lock */
    const char *phase; /* a static string */
    uint64_t bytes_done, bytes_total;
    Pace pace; /* of bytes_done */
    int64_t told_us;
    /* the last block job event of its disk, guarded by agent->lock */
    bool job_event;
    HvJobStatus job_status;
    char *job_reason;
};

/* Begin (or find, if the id is known): journaled before it returns. */
bool operation_begin(Agent *agent, json_t *body, json_t **ret_json, GError **error);
/* Loads all from the journal and starts their workers. */
bool operations_resume(Agent *agent, GError **error);
json_t *operation_to_json(Operation *op);  /* agent->lock held */
bool operation_ended(const Operation *op); /* durably; agent->lock held, or by its worker */
bool operation_cancel(Agent *agent, const char *id, json_t **ret_json, GError **error);
/* One that has paused itself goes on at once; of any other nothing changes. */
bool operation_resume(Agent *agent, const char *id, json_t **ret_json, GError **error);
bool operation_ack(Agent *agent, const char *id, GError **error);
/* Unknown: writes a tombstone, then ERR_NOT_FOUND. */
bool operation_get(Agent *agent, const char *id, json_t **ret_json, GError **error);
json_t *operations_to_json(Agent *agent);

/* ---- operation_told.c, agent->lock held */
const char *operation_state(const Operation *op); /* a word of the wire */
void operation_tell(Operation *op);               /* an event for whoever listens */
/* Others never read the machine: the row and waiting_for are what they see of it. */
void operation_tell_waiting(Operation *op);

/* ---- worker.c */
void agent_kick(Agent *agent, const char *vm_id);     /* its worker looks at once */
void agent_kick_locked(Agent *agent, AgentVm *entry); /* the same, agent->lock held */

/* For the kinds */
bool operation_save(Operation *op, GError **error); /* journal as it stands */
/* For a thread that works for it: nobody has cancelled it, and the agent goes on. */
bool operation_is_wanted(const Operation *op);
void operation_progress(Operation *op, const char *phase, uint64_t done, uint64_t total);
/* Another phase (a static string) with the bytes as they are; told at once. */
void operation_phase(Operation *op, const char *phase);
/* What a person must mend outside although the operation goes on; NULL = nothing. */
void operation_notice(Operation *op, const char *text);
/* The wish to go on was fulfilled. */
bool operation_resumed(Operation *op, GError **error);
const char *op_text(const Operation *op, const char *key); /* a parameter */
const char *op_data(const Operation *op, const char *key); /* remembered */
void op_remember(Operation *op, const char *key, json_t *take_value);
void op_result(Operation *op, const char *key, json_t *take_value);
void op_add_pause(Operation *op, const char *kind, double milliseconds);

extern const OperationKind operation_kinds[];
extern const Step snapshot_create_steps[], snapshot_rename_steps[], snapshot_forget_steps[],
    merge_steps[], delete_volumes_steps[], doctor_fix_steps[], doctor_undo_steps[], import_steps[],
    vm_start_steps[], vm_stop_steps[], vm_suspend_steps[], preview_steps[], branch_commit_steps[],
    branch_undo_steps[], clone_steps[], vm_remove_steps[], vm_freeze_steps[], vm_thaw_steps[],
    vm_update_steps[];
bool snapshot_create_params(const json_t *params, GError **error);
bool snapshot_rename_params(const json_t *params, GError **error);
bool snapshot_forget_params(const json_t *params, GError **error);
bool preview_params(const json_t *params, GError **error);
bool branch_end_params(const json_t *params, GError **error);
bool merge_params(const json_t *params, GError **error);
bool merge_is_old(Operation *op, bool *ret_old, GError **error);
bool merge_leave(Operation *op, GError **error);
bool snapshot_create_is_old(Operation *op, bool *ret_old, GError **error);
bool preview_is_old(Operation *op, bool *ret_old, GError **error);
bool branch_end_is_old(Operation *op, bool *ret_old, GError **error);
bool snapshot_create_leave(Operation *op, GError **error);
bool delete_volumes_params(const json_t *params, GError **error);
bool doctor_fix_params(const json_t *params, GError **error);
bool doctor_undo_params(const json_t *params, GError **error);
bool vm_stop_params(const json_t *params, GError **error);
bool clone_params(const json_t *params, GError **error);
bool clone_is_old(Operation *op, bool *ret_old, GError **error);
bool vm_update_params(const json_t *params, GError **error);
bool vm_remove_params(const json_t *params, GError **error);
bool vm_remove_is_old(Operation *op, bool *ret_old, GError **error);
void merge_scratch_free(void *scratch);
void clone_scratch_free(void *scratch);

/* How long a VM is not there before what needs it gives up (worker.c); tests shorten it. */
extern int64_t worker_left_us;

/* ---- definition.c ---- */

/* Makes libvirt's persistent definition name the leaves that the VM has, without any <backingStore>
 * (H2..H4). ERR_BUSY: it has others by now, look again. */
bool definition_mend(Agent *agent, const HvDomain *domain, GError **error);
bool op_mend_definition(Operation *op, const HvDomain *domain, GError **error); /* NULL: false */
bool op_definition_is_right(const HvDomain *hv);
/* Makes the definition name this file for one disk. */
bool op_point_at(Operation *op, const char *target, const char *source, const char *format,
                 GError **error);
/* The same for several: [{"target", key: the file, format_key: its format; NULL = qcow2}]. config
 * (domain XML): all else of it becomes as that says; NULL = it stays. */
bool op_define(Operation *op, const char *config, const json_t *disks, const char *key,
               const char *format_key, GError **error);

/* ---- deed.c: what the kinds share ---- */

/* The manifest as stored, to change and save; home is borrowed. */
Vm *op_manifest(Operation *op, Domain **ret_home, GError **error);
/* The same, shared: for who does not change it. */
Vm *op_manifest_look(Operation *op, Domain **ret_home, GError **error);
/* The same; no VM, or no manifest, is no error: *ret_vm is NULL. */
bool op_manifest_if_any(Operation *op, Vm **ret_vm, GError **error);
/* The lease of a storage domain, for an act that deletes or repairs: false with ERR_BUSY if
 * somebody else has it, which costs no try. Taken before the VM's start lock. */
bool op_lease(Operation *op, const Domain *domain, LeaseHold *ret_hold, GError **error);
/* Looks at the VM, whose start lock is held; a stale definition of one that is off is mended first.
 */
HvDomain *op_hv_for_delete(Operation *op, GError **error);
/* Looks at everything that could need this volume, then puts it into the trash. The VM's start lock
 * is held; several volumes of a chain go from the top down (delete_volume.c). hv NULL: the VM is
 * not defined any more. */
bool op_delete_volume(Operation *op, const HvDomain *hv, const char *path, GError **error);
/* Empties, in a thread of its own, the trashes of the domains that these volumes came from. */
void op_sweep_trash(Operation *op, const json_t *paths);
/* Takes a snapshot out of the VM's tree, and removes its memory volume (snapshot_edit.c). */
bool op_forget_snapshot(Operation *op, const Domain *home, Vm *vm, Snapshot *snapshot,
                        GError **error);
/* Is libvirt there to be asked? Else ERR_UNREACHABLE: no reason to use up a try. */
bool op_connected(Operation *op, GError **error);
/* The hypervisor's look at a VM; where libvirt has lost the leaf of a disk that runs, and QEMU
 * writes a volume of the manifest, that is shown as its source, with lost_pivot. An error also if
 * the manifest could not be read then: nothing may be made of what libvirt says. (hidden_leaf.c) */
HvDomain *agent_look_at_hv(Agent *agent, const char *vm_id, GError **error);
/* Looks at the VM at libvirt. */
HvDomain *op_hv(Operation *op, GError **error);
/* What a check of this row of turns has seen some milliseconds before, if no act has ended since:
 * for whoever is first after it and would only see the same. Never after a deed, after
 * a lock was taken, or after something else was read that must be older. */
HvDomain *op_hv_seen(Operation *op, GError **error);
void op_forget_seen(Operation *op);
/* agent_look(), and what libvirt said; NULL with ERR_NOT_FOUND if the VM is gone. */
HvDomain *op_hv_published(Operation *op, GError **error);
/* freeze.c: asks the guest's agent, within its budget. */
bool op_freeze(Operation *op, GError **error);
bool op_thaw(Operation *op, GError **error);
/* freeze.c: the guest is about to be frozen; has it rebooted since (as far as libvirt told this
 * agent)? Then nothing is frozen any more. */
void freeze_begins(Operation *op);
bool freeze_is_lost(const Operation *op);
/* Or perhaps: libvirt was away meanwhile, and would not have told of a reboot. */
bool freeze_may_be_lost(const Operation *op);
/* Is the guest frozen that the note says a user has frozen? If not all was heard since, it is
 * frozen to find out: WAS_WRONG, it was not, and is now. Also freeze_begins(). */
typedef enum { NOTE_HOLDS, NOTE_WAS_WRONG, NOTE_UNKNOWN } NoteState;
NoteState freeze_ask_note(Operation *op, GError **error);
/* freeze.c: a step: its guest is not frozen any more, and no snapshot is to take it for that. */
StepState freeze_forget_check(void *op, GError **error);
bool freeze_forget_act(void *op, GError **error);
/* Has it a home, where its manifest is? An error if that cannot be seen just now. */
bool op_has_home(Operation *op, const HvDomain *hv, bool *ret_home, GError **error);
/* The paths of a disk's chain as the headers tell it from the leaf that libvirt names, base first.
 */
char **op_chain(Operation *op, const HvDomain *hv, const char *target, GError **error);
/* May the verb be done now (table of model/verbs.h, foreign jobs)? */
bool op_allowed(Operation *op, int verb, const HvDomain *hv, const Vm *vm, GError **error);
/* The same for a verb that stops the guest while QEMU goes on: not beside a block job of whichever
 * disk. QEMU 7.2 dies if it is stopped just as an internal commit ends (H12), and libvirt, asked
 * for a snapshot with memory, stops it before it finds the job. */
bool op_may_stop_guest(Operation *op, int verb, const HvDomain *hv, GError **error);
/* Writes / removes the record of this operation in the manifest. */
void op_record(Operation *op, Vm *vm);
bool op_is_recorded(const Operation *op, const Vm *vm);
void op_unrecord(Operation *op, Vm *vm);
/* Does a QEMU have this image open, whatever libvirt says of it? What cannot be asked might be. */
bool volume_is_open(const char *path);
/* The same, but what cannot be asked is not. */
bool volume_is_seen_open(const char *path);
/* A storage that does not answer just now has not lost it. */
bool file_may_be_there(const char *path);
/* Does this overlay hold anything that its backing file does not? What cannot be read might. */
bool volume_holds_data(const char *path);
/* What a file's name has in common with those of ours beside it: "web.1a2b3c4d.qcow2" and
 * "web.qcow2" → "web" */
char *file_stem(const char *path);
/* A path for a new file of ours beside another: "web.qcow2" → "web.1a2b3c4d.qcow2", where no file
 * is yet. Asked once, and journaled before the file is made: afterwards a file of that name is
 * ours. */
char *new_file_name(const char *beside, const char *id, const char *suffix);
/* The relative name of "path" as seen from the directory of "from"; the caller frees it. */
char *relative_name(const char *from, const char *path);
/* Makes an empty overlay of a leaf, owned as the leaf is (whom libvirt gave it to). An earlier
 * try's of that name, journaled as ours and not in use, is made anew. */
bool make_overlay(const char *path, const char *leaf, const char *leaf_format, uint64_t size,
                  GError **error);
bool required_texts(const json_t *params, const char *const *keys, GError **error);
