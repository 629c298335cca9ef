/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * Who may do what in which state: one table, operation × state of the VM and operation × condition
 * (verbs_table.c), after oVirt's rules as far as the operations exist. The manager asks before it
 * begins anything, the agent again before it begins a deed; the API tells the answer beforehand
 * (operations of VMs, snapshots and jobs); docs/states.md is written from it.
 *
 * A cell is a Refusal: our error code, oVirt's key, why, and what helps; or nothing: allowed.
 *
 * Threads: constant tables and pure functions.
 */
#pragma once

#include "model/vm.h"

typedef enum { SUBJECT_VM, SUBJECT_SNAPSHOT, SUBJECT_JOB } Subject;

/* clang-format off */
/*    verb                           name in the API                of what           in "cannot ... VM 'web'" */
#define VERB_TABLE(X) \
    X(VERB_SNAPSHOT_CREATE,          "create_snapshot",             SUBJECT_VM,       "create a snapshot of") \
    X(VERB_SNAPSHOT_CREATE_MEMORY,   "create_snapshot_with_memory", SUBJECT_VM,       "create a snapshot with memory of") \
    X(VERB_SNAPSHOT_CREATE_QUIESCED, "create_snapshot_quiesced",    SUBJECT_VM,       "create a snapshot with frozen file systems of") \
    X(VERB_SNAPSHOT_DELETE,          "delete_snapshot",             SUBJECT_SNAPSHOT, "delete") \
    X(VERB_SNAPSHOT_PLAN,            "plan",                        SUBJECT_SNAPSHOT, "plan the deletion of") \
    X(VERB_SNAPSHOT_RENAME,          "rename_snapshot",             SUBJECT_SNAPSHOT, "rename") \
    X(VERB_SNAPSHOT_PREVIEW,         "preview",                     SUBJECT_SNAPSHOT, "preview") \
    X(VERB_SNAPSHOT_COMMIT,          "commit",                      SUBJECT_VM,       "commit the preview of") \
    X(VERB_SNAPSHOT_UNDO,            "undo",                        SUBJECT_VM,       "undo the preview of") \
    X(VERB_SNAPSHOT_RESTORE,         "restore",                     SUBJECT_SNAPSHOT, "restore") \
    X(VERB_SNAPSHOT_CLONE,           "clone",                       SUBJECT_SNAPSHOT, "clone") \
    X(VERB_VM_CLONE,                 "clone_vm",                    SUBJECT_VM,       "clone") \
    X(VERB_VM_START,                 "start",                       SUBJECT_VM,       "start") \
    X(VERB_VM_STOP,                  "stop",                        SUBJECT_VM,       "power off") \
    X(VERB_VM_SHUTDOWN,              "shutdown",                    SUBJECT_VM,       "shut down") \
    X(VERB_VM_REBOOT,                "reboot",                      SUBJECT_VM,       "reboot") \
    X(VERB_VM_RESET,                 "reset",                       SUBJECT_VM,       "reset") \
    X(VERB_VM_SUSPEND,               "suspend",                     SUBJECT_VM,       "suspend") \
    X(VERB_VM_FREEZE,                "freeze",                      SUBJECT_VM,       "freeze the file systems of") \
    X(VERB_VM_THAW,                  "thaw",                        SUBJECT_VM,       "thaw the file systems of") \
    X(VERB_VM_UPDATE,                "update",                      SUBJECT_VM,       "change the description of") \
    X(VERB_VM_RENAME,                "rename",                      SUBJECT_VM,       "rename") \
    X(VERB_VM_REMOVE,                "remove",                      SUBJECT_VM,       "remove") \
    X(VERB_DOCTOR,                   "doctor",                      SUBJECT_VM,       "mend") \
    X(VERB_JOB_CANCEL,               "cancel",                      SUBJECT_JOB,      "cancel") \
    X(VERB_JOB_RESUME,               "resume",                      SUBJECT_JOB,      "resume")

/* In the order in which they are looked at: the first that refuses is told. */
/*    condition             refused with  in the documents */
#define CONDITION_TABLE(X)                                                                               \
    X(COND_NO_DISK,        REF_NO_DISK,    "the VM has no disk")                                          \
    X(COND_UNMANAGED,      REF_UNMANAGED,  "no disk of the VM can be managed")                            \
    X(COND_ACTIVE,         REF_ACTIVE,     "the snapshot is the active one")                              \
    X(COND_LOCKED,         REF_LOCKED,     "the snapshot is locked: a job works on it")                   \
    X(COND_TAKING,         REF_TAKING,     "a job takes a snapshot of the VM")                            \
    X(COND_DELETING,       REF_SNAPSHOTS,  "a job deletes snapshots of the VM")                           \
    X(COND_CHANGING,       REF_SNAPSHOTS,  "a job does something else with the VM's snapshots")           \
    X(COND_SHUTDOWN,       REF_HELD,       "a job waits until the guest has shut down")                   \
    X(COND_POWER,          REF_HELD,       "a job starts, stops, resets or suspends the VM")              \
    X(COND_HELD,           REF_HELD,       "another job holds the VM")                                    \
    X(COND_SILENT,         REF_SILENT,     "the VM's host does not answer")                               \
    X(COND_NO_PREVIEW,     REF_NO_PREVIEW, "no snapshot is being previewed")                              \
    X(COND_STATE,          REF_NONE,       "the state of the VM (the table above)")                       \
    X(COND_PREVIEW,        REF_PREVIEW,    "a snapshot is being previewed")                               \
    X(COND_UNUSABLE,       REF_UNUSABLE,   "the snapshot is unusable: its deletion has begun")            \
    X(COND_NO_CONFIG,      REF_NO_CONFIG,  "the snapshot has no definition of the VM")                    \
    X(COND_CONFIG_ONLY,    REF_CONFIG_ONLY, "the snapshot holds the configuration alone")                 \
    X(COND_DISK_UNMANAGED, REF_BAD_DISK,   "a disk that is meant can have no snapshots")                  \
    X(COND_DISK_BUSY,      REF_BUSY_DISK,  "a block job that is not ours works on a disk that is meant")  \
    X(COND_FOREIGN,        REF_FOREIGN,    "something else that is not ours is under way (a backup)")     \
    X(COND_NO_AGENT,       REF_NO_AGENT,   "the guest agent does not answer")                             \
    X(COND_JOB_OTHERS,     REF_JOB_OTHERS, "the job is another program's")                                \
    X(COND_JOB_ENDED,      REF_JOB_ENDED,  "the job has ended")                                           \
    X(COND_JOB_LATE,       REF_JOB_LATE,   "the job is past the point where it can be cancelled")         \
    X(COND_JOB_RUNS,       REF_JOB_RUNS,   "the job has not paused")
/* clang-format on */

#define X(verb, name, subject, words) verb,
typedef enum { VERB_TABLE(X) VERB_LAST } Verb;
#undef X
#define X(condition, refusal, text) condition,
typedef enum { CONDITION_TABLE(X) CONDITION_LAST } Condition;
#undef X

/* What an open job does to the VM that it holds. */
typedef enum {
    HOLD_SNAPSHOTS,
    HOLD_TAKING,
    HOLD_DELETING,
    HOLD_SHUTDOWN,
    HOLD_POWER,
    HOLD_OTHER,
} Hold;

/* What is known besides the VM itself; all may be NULL. */
typedef struct {
    const char *busy_job_id; /* the job that holds the VM, and its description */
    const char *busy_job;
    Hold hold;
    const char *host_problem; /* the VM's host does not answer: why */
    const char *foreign_job;  /* "migration", "backup", "block job on vda" */
    const char *preview;      /* name of the snapshot that is being previewed, if not as vm says */
    /* the snapshot that is meant */
    const Snapshot *snapshot;
    bool active; /* it is the active one */
    bool locked; /* the job above works on it */
    /* a disk that is meant and can have no snapshots, or is not free */
    const Disk *bad_disk;
    const Disk *busy_disk;
    /* the job that is meant */
    const char *job_id;
    const char *job; /* its description */
    const char *job_step;
    bool job_others; /* another program began it */
    bool job_ended;
    bool job_late; /* at its step it cannot be cancelled any more */
    bool job_paused;
} VerbContext;

const char *verb_name(Verb verb);
const char *verb_word(Verb verb);
Subject verb_subject(Verb verb);
const char *condition_text(Condition condition);

/* quiesce: "no", "auto", "require"; NULL = auto. With memory the guest's caches are saved too. */
Verb verb_of_create(bool memory, const char *quiesce);
/* May this be done now? False with a message (what blocks, who holds it, what frees it) and an
 * ErrorReason with oVirt's key. vm may be NULL for a job; context may be. */
bool verb_allowed(Verb verb, const Vm *vm, const VerbContext *context, GError **error);
/* The same for the VM's state alone. */
bool verb_state_allowed(Verb verb, const Vm *vm, GError **error);
/* {"name", "possible": bool, "code", "key", "why", "help", "job_id"}, the last five of what
 * verb_allowed() has refused (NULL = it has not), where they have a value. */
json_t *verb_answer(Verb verb, const GError *refusal);

/* ---- the bare table, for documents and the test that tries every cell ---- */
typedef struct {
    ErrorCode code;
    const char *key; /* oVirt's; "" = it has none */
    const char *why; /* with {names} */
    const char *help;
} Refusal;
/* False = allowed. The state must be one of the table. */
bool verb_state_refuses(Verb verb, VmState state, Refusal *ret_refusal);
bool verb_condition_refuses(Verb verb, Condition condition, Refusal *ret_refusal);
/* docs/states.md */
char *states_document(void);
