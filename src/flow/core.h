/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * Inside of flow/: the manager's parts and how they see each other.
 *
 * Locks: manager->door is taken first (deeds are begun one at a time), then manager->lock, and
 * nothing that blocks (agents, the database) is called with manager->lock held. The gate is a
 * read lock around the database, closed when the manager stops.
 */
#pragma once

#include "base/meter.h"
#include "flow/manager.h"
#include "wire/wire.h"

#define POLL_MS 10000       /* behind the events */
#define CANCEL_POLL_MS 1000 /* while a cancel is on its way */
#define CALL_MS 30000       /* how long an agent may take for an answer */
#define PLAN_MS 55000       /* and for a plan: it reads the tables of all volumes */

typedef struct Flow Flow;

typedef struct {
    Manager *manager;
    char *name;
    char *address;
    WireClient *client;
    /* under manager->lock */
    GCond wake; /* for its two threads */
    char *agent_id;
    json_t *facts; /* what its agent said of itself and its host (hello); NULL = nothing yet */
    bool up, connected;
    bool was_asked;      /* it has answered, or failed to */
    char *problem;       /* NULL = none */
    GHashTable *look_at; /* ids of VMs that changed */
    bool look_at_all;
    GHashTable *missed; /* ids of VMs whose look was not answered: again with the slow poll */
    bool missed_all;
    bool retry; /* the nap before the next hello is over */
    /* ids of operations that had ended at the last look behind the events, and that nobody waits
     * for; of the looker alone */
    GHashTable *ended;
} Host;

struct Manager {
    Store *store; /* only between gate_enter() and gate_leave() */
    int64_t epoch;
    GPtrArray *hosts; /* of Host; fixed */
    GThreadPool *pool;
    GRWLock gate;
    bool closed; /* under the gate */
    GMutex door;
    Meter *meter; /* measure.h */

    GMutex lock;   /* all below */
    GCond changed; /* a job, an event, or we stop */
    GCond timer;   /* the scheduler's */
    GCond quiet;   /* users fell to 0 */
    bool stopping;
    unsigned users;         /* threads and queued turns that still use this struct */
    bool orphan;            /* the last user frees it */
    GHashTable *flows;      /* id → Flow: the open ones */
    GHashTable *operations; /* agent's operation id → Seen */
    GHashTable *vms;        /* id → Entry */
    int64_t tickets;
    int64_t
        changes; /* counts changes of jobs; begins at the wall clock, so that it never repeats */
    int64_t last_event;
    int64_t revision;                 /* news.c, as all below */
    GHashTable *news_jobs, *news_vms; /* ids; NULL = nobody follows */
    bool news_interrupt;
};

void manager_use(Manager *m);   /* one user more; lock held */
void manager_leave(Manager *m); /* lock not held; may free it */
bool manager_stopping(Manager *m);
bool gate_enter(Manager *m, GError **error);
void gate_leave(Manager *m);

/* ---- kinds of flows ---- */

/* What a flow that is one operation of the agent asks it for (one_call.c). */
typedef struct {
    const char *key;                   /* of the call in the row's data: stored, never changed */
    json_t *(*body)(const Flow *flow); /* all but the ids; the caller's */
    /* The agent lost its journal: what became of it, and why? NULL = nothing tells. */
    StepState (*lost)(Flow *flow, GError **error);
} OneCall;

typedef struct {
    const char *name;
    const Step *steps;
    int code_started, code_done, code_failed, code_refused; /* events; 0 = no such event */
    const char *const *cancel_steps; /* where a cancel still does something; NULL = nowhere */
    Hold hold;                       /* what it does to its VM */
    const OneCall *call;             /* NULL where no step is one_call.c's */
} FlowKind;

extern const FlowKind flow_kinds[]; /* ends with a NULL name */
const FlowKind *flow_kind(const char *name);
extern const Step one_call_steps[], remove_snapshots_steps[], merge_run_steps[], import_vm_steps[],
    power_steps[], preview_snapshot_steps[], commit_snapshot_steps[], undo_snapshot_steps[],
    restore_snapshot_steps[], clone_vm_steps[], remove_vm_steps[];
/* Of what is asked for alone: does it fit together? */
bool create_check(const SnapshotCreate *what, const char *quiesce, GError **error);
extern const OneCall create_snapshot_call, rename_snapshot_call, doctor_call, import_vm_call,
    power_call, update_vm_call;
/* The steps of one_call_steps, for tables that have more. */
StepState one_call_begin_check(void *self, GError **error);
bool one_call_begin_act(void *self, GError **error);
StepState one_call_wait_check(void *self, GError **error);

/* ---- one flow ---- */

/* A row and the machine that turns it. id, kind, vm_id, parent, description and params of the row
 * never change and may be read by whoever holds manager->lock; all else of row and machine belongs
 * to the thread that turns the flow. */
struct Flow {
    Manager *manager;
    const FlowKind *kind;
    FlowRow *row;
    Machine machine;
    char *unsent;   /* id of the operation that was minted and surely never sent */
    bool just_sent; /* the agent has answered a call a moment ago: no need to ask it again */

    /* under manager->lock */
    bool turning;   /* queued or being turned */
    bool again;     /* kicked meanwhile */
    bool cancel;    /* asked for */
    bool released;  /* nothing more will touch the VM: it and its snapshots are free */
    bool stuck;     /* written by a version that knew more: never turned */
    int64_t due_us; /* 0 = not waiting for the clock */
    int64_t change; /* of the job's document */
    char *step;     /* a copy for readers */
    char *waiting_for;
};

Flow *flow_new(Manager *m, FlowRow *take_row);
void flow_free(Flow *flow);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(Flow, flow_free)
/* A row for a new flow with a fresh id; parent may be NULL. */
FlowRow *flow_row_new(const char *kind, const char *vm_id, const char *parent, json_t *take_params);
/* Stores it, then it is scheduled. The row is consumed. */
bool flow_begin(Manager *m, FlowRow *take_row, GError **error);
/* The intent to cancel, durable. */
bool flow_cancel(Manager *m, const char *id, GError **error);
/* In the pool: turns it until it waits or ends. */
void flow_run(Flow *flow);
void flow_release(Flow *flow);
const char *flow_param(const Flow *flow, const char *key);
GPtrArray *flow_children(Manager *m, const char *id, GError **error); /* rows */
/* Where the flow's VM is; ERR_UNREACHABLE = on no host that is configured. */
Host *flow_host(Flow *flow, GError **error);
/* The VM as its host sees it now; also put into the inventory. ERR_NOT_FOUND: it is gone. */
Vm *flow_look_at_vm(Flow *flow, GError **error);
/* The same as the agent published it last, without another look at libvirt: enough right after an
 * operation, which ends with a look. */
Vm *flow_last_seen_vm(Flow *flow, GError **error);
/* The last step of every job: the inventory is made fresh, the VM released, the event written and
 * the agent's operations acknowledged. */
StepState job_end_check(void *self, GError **error);

/* ---- scheduler.c; lock held where _locked ---- */
void flow_kick_locked(Flow *flow);
void flows_kick_all(Manager *m);
void flows_kick_vm(Manager *m, const char *vm_id);
void job_changed_locked(Manager *m, const Flow *flow);
void *scheduler_thread(void *manager);

/* ---- news.c; lock held ---- */
/* Something that its document shows has changed, or what jobs do with it. */
void news_vm_locked(Manager *m, const char *vm_id);
void news_job_locked(Manager *m, const char *job_id);

/* ---- host.c ---- */
Host *host_new(Manager *m, const HostConfig *config, GError **error);
void host_free(Host *host);
Host *host_by_name(Manager *m, const char *name);
char *host_id_locked(const Host *host); /* as the API shows it */
/* Every VM of the host anew. */
bool host_look_at_all(Host *host, GError **error);
/* Outcomes that were heard of while nobody listened. Those of flows that have ended, or of a
 * manager that was lost, are acknowledged: nobody is left who would ask for them. strange (may be
 * NULL): takes those that run and are none of ours. */
bool host_look_at_operations(Host *host, json_t *strange, GError **error);
/* The manager's word that an outcome is not needed any more can be lost while the agent stays
 * connected: it is said again for all that have ended and that no flow waits for. Before the doctor
 * is asked, who leaves the VM of such an operation alone; and each POLL_MS, of those that had ended
 * the time before. */
void host_acknowledge_again(Host *host);
/* One call; a host that is known to be down is not asked. A newer manager that took over reads as
 * ERR_UNREACHABLE: wait, never fail. */
bool host_call(Host *host, const char *method, const char *path, const json_t *body,
               json_t **ret_json, GError **error);
bool host_call_within(Host *host, unsigned timeout_ms, const char *method, const char *path,
                      const json_t *body, json_t **ret_json, GError **error);
/* It does not answer, and why. Did it before? */
bool host_mark_down(Host *host, const char *problem);
/* Another manager with a higher epoch gives the orders: ours must not be carried out. False. */
bool host_taken_over(Host *host, const GError *why, GError **error);
/* Nothing but that: of those that a flow waits for the events know more than this answer, which
 * they may have overtaken. before (NULL: whenever): only those that are in it. The ids of all that
 * had ended; NULL: the agent did not answer. */
GHashTable *host_acknowledge_ended(Host *host, GHashTable *before);

/* ---- host_follow.c ---- */
void host_start(Host *host);        /* lock held */
void host_retry_locked(Host *host); /* lock held: says hello again at once */

/* ---- inventory.c ---- */
/* Taken before asking, shown when putting: an answer to an older question never replaces a newer
 * one's. */
int64_t inventory_ticket(Manager *m);
/* Returns what was put; others have the same one. */
Vm *inventory_put(Host *host, const json_t *doc, int64_t ticket, GError **error);
void inventory_remove(Host *host, const char *vm_id, int64_t ticket);
bool inventory_put_all(Host *host, const json_t *docs, int64_t ticket, GError **error);
bool inventory_load(Manager *m, GError **error);
void inventory_keep(Manager *m, const char *vm_id); /* writes what was not while a job was at it */
void inventory_entry_free(void *entry);
char *inventory_host_of(Manager *m, const char *vm_id); /* NULL = nowhere */
/* What is known of the host has changed, and so of its VMs; lock held. */
void inventory_host_changed_locked(const Host *host);
/* What the host says of a VM now, put into the inventory. fresh: it looks again first. */
Vm *inventory_ask(Host *host, const char *vm_id, bool fresh, unsigned timeout_ms, GError **error);

/* ---- door.c: for all deeds ---- */
/* The VM as its host sees it now, if it answers soon, else as it was told last: events can be
 * behind, and some changes have none. Before the door, so that a slow host holds up nobody else. */
Vm *door_vm_now(Manager *m, const char *id_or_name, GError **error);
/* What every job has. A member "status" (text) is what the VM shows as its status while the job
 * is open. */
json_t *door_params(const Vm *vm, const char *user);
/* Stores it; the job's id. */
char *door_begin(Manager *m, FlowRow *take_row, const char *correlation_id, char *take_description,
                 GError **error);
/* The way in of a deed on a VM alone: looks at the VM, and begins the deed behind the door. What
 * begin() refuses has been an event, as below. The job's id, or NULL. */
typedef struct {
    const char *kind; /* of the flow */
    const char *vm_id;
    const char *correlation_id;
    const char *user;
    char *(*begin)(Manager *m, const void *what, const Vm *vm, GError **error);
    const void *what; /* for begin() */
} DoorDeed;
char *door_pass(Manager *m, const DoorDeed *deed, GError **error);
/* Nothing was begun, and that is an event, if event_refused() finds it news. NULL. */
char *door_refuse(Manager *m, const char *kind, const Vm *vm, const char *snapshot_name,
                  const char *correlation_id, const char *user, GError *take_why, GError **error);

/* Ids of the disks that were named; NULL in *ret_ids = all. The first that can have no snapshots,
 * or is not free (libvirt takes no snapshot of a disk that has a block job), into what is asked. */
bool door_disk_ids(const Vm *vm, const char *const *disks, json_t **ret_ids, VerbContext *asked,
                   GError **error);

/* clone.c: can a VM be called so, and is none yet? */
bool door_check_vm_name(Manager *m, const char *name, GError **error);

/* ---- clone.c: VMs that are being made; lock held */
bool flow_makes(const Flow *flow, const char *vm_id);
/* As it is shown until its host tells of it; NULL = the flow makes none. source may be NULL. */
Vm *flow_vm_being_made(const Flow *flow, const Vm *source);

/* ---- allowed.c */
/* The open job that holds the VM; NULL = none. Lock held. */
const Flow *vm_holder_locked(Manager *m, const char *vm_id);
bool vm_is_held(Manager *m, const char *vm_id);
bool flow_names_snapshot(const Flow *flow, const char *snapshot_id);
/* The first managed disk (on which the snapshot, if one is given, has a volume) that is busy with
 * what is not ours. */
const Disk *first_busy_disk(const Vm *vm, const Snapshot *snapshot);

/* ---- plan.c: the agent's plan of a removal (plan_to_json() of model/plan.h) ---- */
/* What deleting the snapshots that params name (snapshots, disk, strategy, verify) would be. The
 * VM, as it was seen for that, is put into the inventory. Also true for a plan that is not
 * possible. */
bool agent_plan_ask(Host *host, const char *vm_id, const json_t *params, unsigned timeout_ms,
                    Vm **ret_vm, json_t **ret_plan, GError **error);
/* Can it be carried out? Else the plan's own code and reason. */
bool agent_plan_judge(const json_t *plan, GError **error);
/* Its runs as the params of children of kind merge-run. */
json_t *agent_plan_runs(const json_t *plan, const json_t *params, const char *host);

/* ---- event_texts.c ---- */
/* What the events of a kind of flow say; NULL = there is no such event. In {braces}: a member of
 * EventValues. */
typedef struct {
    const char *kind;
    const char *started, *done, *failed, *refused;
} EventTexts;
typedef struct {
    const char *names; /* of the snapshots, quoted */
    const char *vm, *user, *host;
    const char *name; /* the new one */
    const char *why;
} EventValues;
const EventTexts *event_texts(const char *kind); /* never NULL */
char *event_fill(const char *text, const EventValues *values);

/* ---- events.c ---- */
/* Our own codes, for what oVirt has no word for. */
#define EVENT_PAUSED 30001     /* a merge has paused itself and needs somebody */
#define EVENT_GOES_ON 30002    /* it goes on */
#define EVENT_MISMATCH 30003   /* the check of a merge found a difference */
#define EVENT_DATABASE 30004   /* the manager's database was damaged and set aside */
#define EVENT_TAKEN_OVER 30005 /* hosts of a manager that was lost obey this one */
#define EVENT_IMPORTED 30006   /* storage was imported */
/* Of the flow of one run, told by its job. about: one such event for each. */
bool event_of_run(Flow *flow, int code, const char *severity, const char *about, char *take_text,
                  GError **error);
bool event_job_started(Manager *m, const FlowRow *row, GError **error);
bool event_job_ended(Flow *flow, GError **error);
/* The VM runs now, or is off, by whomever. */
void event_vm_turned(Manager *m, const Vm *vm);
void event_refused(Manager *m, const FlowKind *kind, const Vm *vm, const char *snapshot_name,
                   const char *correlation_id, const char *user, const GError *why);
