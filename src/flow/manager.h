/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * The manager's core: hosts, what they told about their VMs, flows and events. The API
 * and nothing else stands above it.
 *
 * Promise: every call that begins something stores the intent before it returns, so the work is
 * done even if the manager dies the next instant. Nothing here waits for an agent but where the
 * comment says so.
 *
 * How: one thread a host follows its event stream and keeps the inventory; one scheduler
 * thread hands flows that are due (kicked by events, or by their back-off, or by a slow poll of 10
 * s behind it) to a small pool; a flow is turned by one thread at a time.
 *
 * Ownership: results belong to the caller. Threads: all functions from any thread.
 */
#pragma once

#include "base/steps.h"
#include "model/plan.h"
#include "model/verbs.h"
#include "model/vm.h"
#include "store/store.h"

typedef struct Manager Manager;

typedef struct {
    const char *name;
    const char *address; /* "unix:PATH" or "https://..." */
    const char *ca_file; /* NULL */
} HostConfig;

/* Opens nothing but takes the store (borrowed, must outlive it); starts threads; resumes every open
 * flow. */
Manager *manager_new(Store *store, const HostConfig *hosts, unsigned n_hosts, GError **error);
void manager_free(Manager *manager); /* stops threads within 0.5 s; flows stay where they are */

/* ---- what is there ---- */
/* VMs are shared: who is to change one calls vm_unshare(). */
GPtrArray *manager_vms(Manager *manager);                                 /* of Vm, by name */
Vm *manager_vm(Manager *manager, const char *id_or_name, GError **error); /* ERR_NOT_FOUND */
typedef struct {
    char *id; /* of the agent; a UUID derived from the name until it was seen */
    char *name;
    char *address;
    bool up;        /* the agent answers */
    bool connected; /* and its libvirt too */
    char *problem;  /* why not */
    json_t *facts;  /* the agent's answer to /v1/hello (wire/wire.h); NULL = never heard of */
} HostInfo;
GPtrArray *manager_hosts(Manager *manager); /* of HostInfo */
void host_info_free(HostInfo *info);
/* Does an open job name this snapshot? */
bool manager_snapshot_locked(Manager *manager, const char *vm_id, const char *snapshot_id);
/* Does an open job take, delete, or go back to snapshots of this VM? */
bool manager_disks_locked(Manager *manager, const char *vm_id);

/* ---- may it be done? (allowed.c) ---- */
/* The table of model/verbs.h, with all that the manager knows besides what is asked about
 * (snapshot, disks; NULL = nothing): who holds the VM, and whether its host answers. */
bool manager_allowed(Manager *manager, Verb verb, const Vm *vm, const VerbContext *asked,
                     GError **error);
/* Array of verb_answer() for each verb of the subject. */
json_t *manager_operations(Manager *manager, const Vm *vm, Subject subject,
                           const VerbContext *asked);

/* ---- deeds: each returns the new flow's id (g_free), NULL = refused with the reason ---- */
typedef struct {
    const char *vm_id;
    const char *name;
    const char *const *disks; /* ids or targets; NULL = all, none = the configuration alone */
    bool memory;
    const char *quiesce; /* "no", "auto", "require"; NULL = "auto" */
    const char *correlation_id;
    const char *user;
    const char *snapshot_id; /* minted by the caller of the API layer; NULL = mint */
} SnapshotCreate;
char *manager_snapshot_create(Manager *manager, const SnapshotCreate *what, char **ret_snapshot_id,
                              GError **error);

typedef struct {
    const char *vm_id;
    const char *const *snapshot_ids;
    const char *disk; /* NULL = all */
    Strategy strategy;
    Verify verify;
    uint64_t bandwidth; /* bytes a second for each disk, 0 = none */
    const char *correlation_id;
    const char *user;
} SnapshotsRemove;
char *manager_snapshots_remove(Manager *manager, const SnapshotsRemove *what, GError **error);
/* What the same would be: the agent's plan (plan_to_json() of model/plan.h), with its blockers if
 * it is not possible. Nothing is begun and no event written. Asks the host, which may take a while.
 * Errors: what else would refuse the removal (unknown snapshots, a VM that is busy, a host that
 * does not answer). */
bool manager_plan(Manager *manager, const SnapshotsRemove *what, json_t **ret_plan, GError **error);

/* Trying a snapshot on a VM that is off, and what becomes of it (docs/snapshots.md). */
typedef enum { BRANCH_PREVIEW, BRANCH_COMMIT, BRANCH_UNDO, BRANCH_RESTORE } BranchVerb;
typedef struct {
    const char *vm_id;
    const char *snapshot_id;  /* PREVIEW, RESTORE */
    const char *const *disks; /* the same: ids or targets; NULL = all */
    bool memory;              /* PREVIEW: a start goes on from the snapshot's */
    const char *correlation_id;
    const char *user;
} BranchDeed;
char *manager_snapshot_branch(Manager *manager, BranchVerb verb, const BranchDeed *what,
                              GError **error);
char *manager_snapshot_rename(Manager *manager, const char *vm_id, const char *snapshot_id,
                              const char *name, const char *correlation_id, const char *user,
                              GError **error);

/* ---- the VM's power (power.c) ---- */
typedef struct {
    const char *vm_id;
    Verb verb;   /* VERB_VM_... */
    bool paused; /* start: the guest does not run yet */
    const char *correlation_id;
    const char *user;
} VmPower;
char *manager_vm_power(Manager *manager, const VmPower *what, GError **error);

/* ---- what a VM is called (update_vm.c) ---- */
typedef struct {
    const char *vm_id;
    const char *name; /* NULL = as it is, as for the next two; "" = none */
    const char *description;
    const char *comment;
    const char *correlation_id;
    const char *user;
} VmUpdate;
char *manager_vm_update(Manager *manager, const VmUpdate *what, GError **error);

/* ---- making and removing VMs ---- */
typedef struct {
    const char *vm_id;
    const char *name;
    const char *snapshot_id; /* NULL = the VM, which is off, as it is now */
    const char *strategy;    /* "auto", "share", "copy"; NULL = auto */
    const json_t *places;    /* {disk id: directory}; NULL, or left out: beside the source's */
    const char *correlation_id;
    const char *user;
} VmClone;
/* The new VM is in the inventory when the call returns, and "image_locked" until it is whole. */
char *manager_vm_clone(Manager *manager, const VmClone *what, char **ret_clone_id, GError **error);
typedef struct {
    const char *vm_id;
    bool keep_disks;
    const char *correlation_id;
    const char *user;
} VmRemove;
char *manager_vm_remove(Manager *manager, const VmRemove *what, GError **error);
/* A password for its display. Asks the host, and is no job. */
bool manager_vm_ticket(Manager *manager, const char *vm_id, const char *password, unsigned seconds,
                       const char *correlation_id, const char *user, GError **error);
/* What to show as the VM's status: what an open job makes of it, else its state. */
char *manager_vm_status(Manager *manager, const Vm *vm);
/* Waits until the job has done what was asked for, though it may still watch what becomes of it (a
 * guest that was asked to shut down); false with the job's error if it failed. Not *ret_done: it
 * takes longer. */
bool manager_job_await(Manager *manager, const char *job_id, unsigned timeout_ms, bool *ret_done,
                       GError **error);

/* Has it still to do it? Never blocks. */
bool manager_job_works(Manager *manager, const char *job_id);

/* ---- the doctor (model/diagnosis.h) ---- */
/* {"findings": [finding_to_json() and "host"], "busy": [{"vm_id", "vm", "why"}]: not looked at,
 *  "silent": [{"name", "why"}]: hosts that were not heard,
 *  "unread": [{"host", "path", "why"}]: storage that could not be read, "kept": {"files", "bytes"}}
 * vm_id NULL: all VMs of all hosts. Asks the hosts, which may take a while. */
bool manager_doctor(Manager *manager, const char *vm_id, json_t **ret_answer, GError **error);
typedef struct {
    const char *vm_id;
    const char *const *classes; /* empty: all findings whose fix is safe */
    const char *undo;           /* a job or operation that has mended something; NULL = mend */
    const char *correlation_id;
    const char *user;
} DoctorFix;
/* Begins a job, like the other deeds. */
char *manager_doctor_fix(Manager *manager, const DoctorFix *what, GError **error);

/* ---- storage (storage.c) ---- */
/* [{"host", "path", "available", "used": bytes, "shares_blocks": absent = not known, "holder"}]:
 * what the hosts say of their storage domains now. One that does not answer soon is missing. The
 * caller's. */
json_t *manager_storage(Manager *manager);

/* ---- import: of a manager that was lost (import.c) ---- */
typedef struct {
    const char *path; /* a directory of the hosts; NULL = all their storage domains */
    bool dry_run;     /* only say what would be done */
    bool take_over;   /* hosts that obey another manager obey this one from now on */
    const char *correlation_id;
    const char *user;
} StorageImport;
/* Looks at everything, and begins a job for each VM that another manager has left unfinished:
 * {"vms": [{"vm_id","vm","host","state","path","disks","volumes","snapshots","unmanaged",
 *   "running": [{"id","kind","step"}], "todo": {"adopt","delete","forget"} (agent/import.h),
 *   "job": id, "held": true (by a job of ours, which ends it)}],
 *  "doubtful": [{"vm_id","vm","host","file","why","command"}],
 *  "domains": [{"id","name","path","host"}], "silent": [{"name","why"}]}
 * Asks the hosts, which may take a while. ERR_NOT_FOUND: no host has the directory. */
bool manager_import(Manager *manager, const StorageImport *what, json_t **ret_answer,
                    GError **error);

/* ---- jobs: a job is a flow without parent; its steps are its children ---- */
/* {"id","kind","description","vm_id","vm_name","snapshots":[id..],"correlation_id","status":"started|finished|failed|aborted",
 *  "names":[name..],"user","cancel":bool,"error_code":word,"result":{} of the operation, where
 *    there is one only (create, rename, doctor),
 *  "step","waiting_for","error","start_time"(ms),"end_time"(ms or 0),"last_updated"(ms),
 *  "progress":{"percent","bytes_done","bytes_total","rate","eta"},
 *  "attention": why it has paused itself,
 *  "configuration_kept": why a VM's definition did not go back with its disks,
 *  "disks":[{"id","name","strategy","status","phase","bytes_copied","bytes_total","seconds","pauses":[{"kind","milliseconds"}],"volumes_removed":[..],"error","attention",
 *    "plan":{"strategy","bytes_read","bytes_written","space_peak","space_freed","seconds","pauses","pause_ms"},
 *    "outcome":{"strategy","bytes_copied","bytes_shared","bytes_written","space_freed","seconds","pauses","pause_ms","verified"}}],
 *  "steps":[{"id","description","status","start_time","end_time","progress"(percent),"number"}],
 * "rev": N } A disk's status may also be "waiting" or "paused". pauses of plan and outcome is how
 * many, pause_ms the longest. Members without a value are left out.
 */
json_t *manager_job(Manager *manager, const char *id, GError **error);
/* Array, newest first. only_open: without what its ended steps did. */
json_t *manager_jobs(Manager *manager, bool only_open, GError **error);
/* Blocks up to timeout_ms until the job's document changes from rev, which before not_before_us (of
 * the monotonic clock) is not enough, or it has ended. */
json_t *manager_job_wait(Manager *manager, const char *id, int64_t rev, int64_t not_before_us,
                         unsigned timeout_ms, GError **error);
/* The rev of its document; -1 = it has ended, or is another program's. Never blocks. */
int64_t manager_job_rev(Manager *manager, const char *id);
/* Array of verb_answer(): can it be cancelled, resumed? */
json_t *manager_job_operations(Manager *manager, const char *id, GError **error);
bool manager_job_cancel(Manager *manager, const char *id, GError **error);
/* Goes on after it has paused itself; the agent's answer. ERR_REFUSED: it has not. */
bool manager_job_resume(Manager *manager, const char *id, GError **error);

/* ---- jobs of other programs (external.c): documents as above, with "external", "auto_cleared" and
 * without VM; who began one ends it ---- */
typedef struct {
    const char *description;
    bool auto_cleared;
    const char *correlation_id;
    const char *user;
} ExternalJob;
char *manager_external_begin(Manager *manager, const ExternalJob *what, GError **error); /* id */
typedef struct {
    const char *description;
    const char *type;   /* "executing", "unknown" ... */
    const char *parent; /* a step of the job; NULL = none */
} ExternalStep;
/* The step's id. ERR_REFUSED, for all below: the job is ours, or has ended. */
char *manager_external_step(Manager *manager, const char *job_id, const ExternalStep *what,
                            GError **error);
bool manager_external_end_step(Manager *manager, const char *job_id, const char *step_id,
                               bool succeeded, GError **error);
/* With all its open steps. */
bool manager_external_end(Manager *manager, const char *job_id, bool succeeded, GError **error);
/* It need not be kept for the program that began it. */
bool manager_external_clear(Manager *manager, const char *job_id, GError **error);

/* All that is counted and how things are now, in Prometheus' text format (docs/api.md). */
bool manager_measure(Manager *manager, GString *into, GError **error);

/* ---- events ---- */
bool manager_event(Manager *manager, int code, const char *severity, const char *vm_id,
                   const char *snapshot_id, const char *job_id, const char *correlation_id,
                   const char *user, const char *format, ...) G_GNUC_PRINTF(9, 10);
/* One that another program reports; about: what only it knows of it, shown as it is. */
bool manager_event_report(Manager *manager, int code, const char *severity, const char *vm_id,
                          const char *about, const char *correlation_id, const char *user,
                          const char *text, int64_t *ret_id, GError **error);
/* Takes one away, and tells of it by another. ERR_NOT_FOUND */
bool manager_event_remove(Manager *manager, int64_t id, const char *correlation_id,
                          const char *user, GError **error);
/* The id of the newest one; 0 = none. */
int64_t manager_last_event(Manager *manager);

/* ---- news: what has changed since one looked (news.c) ---- */
/* Grows with each change of VMs, hosts and jobs, before anybody can see the change: what was made
 * of them after asking for this number is as new as any while it stays the same. */
int64_t manager_revision(Manager *manager);
typedef struct {
    GPtrArray *jobs; /* ids */
    GPtrArray *vms;  /* ids, also of VMs that are gone */
    int64_t last_event;
} News;
void news_clear(News *news);
G_DEFINE_AUTO_CLEANUP_CLEAR_FUNC(News, news_clear)
/* From now on (or never mind), for one reader. */
void manager_news_follow(Manager *manager, bool on);
/* Blocks until there is something, or an event with a greater id than event_from, or somebody
 * interrupts, or the manager stops, or the time is up; takes it. Fills *ret_news. */
void manager_news_wait(Manager *manager, int64_t event_from, unsigned timeout_ms, News *ret_news);
/* From any thread: the wait that is under way, or the next one, ends. */
void manager_news_interrupt(Manager *manager);

Store *manager_store(Manager *manager);
