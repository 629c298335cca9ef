/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * The simulated world: one host with libvirtd, QEMU, a VM and its guest, the agent and the manager,
 * each a process of fibers; the faults that happen to them; and what must hold whatever happens.
 *
 *     sim.c      options
 *     explore.c  which schedules are run; branch.c: what branches off on their way
 *     world.c    one schedule
 *     setup.c    its begin; flows*.c: what is done in it
 *     faults.c   processes that die and come back
 *     check.c    what must hold; lines.c: of a VM that tries a snapshot; others.c: of another VM
 *     libvirt*.c libvirtd: the functions of hypervisor.h, its definitions, its lies
 *     qemu.c     QEMU: the block graph, jobs, the guest that writes
 *     stranger.c somebody else's snapshots
 *     daemon.c   qemu-storage-daemon, for merges of a VM that is off
 *     wire.c     how requests reach the agent
 *     sqlite.c   databases that outlive their program
 *     vfs*.c     files; image.c: what QEMU does to a qcow2 file
 *     fiber*.c   threads, locks and clocks
 *     state.c    all of it saved and put back; heap.c: its malloc()
 *
 * Threads: one.
 */
#pragma once

#include "agent/agent.h"
#include "fiber.h"
#include "image.h"
#include "vfs.h"

enum { P_WORLD, P_AGENT, P_MANAGER, P_LIBVIRTD, P_QEMU, P_DAEMON };

#define MAX_DISKS 2
#define MAX_BELOW 8
#define MAX_CLUSTERS 16
#define MAX_DEPTH 4
#define NEW_SNAPSHOT (MAX_DEPTH - 1) /* SimDisk.content of one that is taken in the schedule */
#define HOME "/sim/dom"
#define HOOKS "/sim/hooks"

/* ---- faults ---- */

typedef enum {
    FAULT_NONE,
    FAULT_AGENT,    /* kill -9, started again after a second */
    FAULT_MANAGER,  /* the same */
    FAULT_QEMU,     /* kill -9; the VM is started again some time later */
    FAULT_LIBVIRTD, /* kill -9, comes back */
    FAULT_POWER,    /* of the host */
    FAULT_SHUTDOWN, /* the guest powers off, QEMU flushes all that it has */
    FAULT_NETWORK,  /* between manager and agent, for some seconds */
    FAULT_CANCEL,   /* somebody cancels what runs */
    FAULT_DAEMON,   /* the storage daemon is killed */
    FAULT_CLOCK,    /* the wall clock jumps, ahead or back */
    FAULT_STORAGE,  /* the storage domain fails or hangs for some seconds */
    FAULT_FULL,     /* nothing can be allocated there for some seconds */
    FAULT_ALL,      /* power, and the manager's too */
    FAULT_STRANGER, /* somebody takes an external snapshot of a running disk with virsh */
    FAULT_KINDS
} FaultKind;
extern const char *const fault_words[FAULT_KINDS];

typedef struct {
    FaultKind kind;
    uint64_t at; /* the number of the point it comes before, counted from the flow's begin */
} Fault;

/* What libvirt and QEMU may do to us besides dying; bits of Schedule.lies */
enum {
    LIE_LATE_EVENTS = 1,    /* up to two seconds */
    LIE_LOST_EVENTS = 2,    /* some never come */
    LIE_NO_JOB = 4,         /* "no such job", for a moment after it began */
    LIE_BUSY = 8,           /* "not ready for pivot yet", some times */
    LIE_ERROR = 16,         /* no answer though it was done */
    LIE_JOB_FAILS = 32,     /* a job ends with an error of its own */
    LIE_REFUSES = 64,       /* an error, and nothing was done */
    LIE_LOST_ANSWERS = 128, /* wire: requests and answers vanish, requests come twice */
    LIE_FORGETS = 256,      /* libvirtd dies between dismissing a job and saving its status */
    LIE_DEFINITION = 512,   /* a power loss takes the last change of the persistent definition */
    LIE_WRONG_ERROR = 1024, /* the same, but one that libvirt gives when it refuses */
    LIE_HEADER = 2048,      /* a header that QEMU rewrote is not durable at once */
    LIE_OFTEN = 4096,       /* all of them more often */
    LIE_VERY_LATE = 8192,   /* requests arrive even after their operation was acknowledged */
    LIE_REORDER = 16384,    /* requests and events overtake each other */
    /* not by chance (explore.c): */
    LIE_LOSES_VM = 32768,  /* libvirtd, killed after a pivot, comes back and takes the VM for off */
    LIE_NO_MIRROR = 65536, /* libvirtd, killed when a mirror begins, forgets it but not its job */
    LIE_QEMU_DIES = 131072, /* by itself, suspended just when a commit ends (H12) */
    LIES = 18,
};

typedef struct {
    const struct Flow *flow;
    uint64_t seed;
    Fault faults[8];
    unsigned n_faults;
    unsigned lies;
    uint64_t salt;   /* chance is another from the first fault on; 0 = it is not */
    unsigned mutant; /* 0 = none */
    bool trace;
    bool strict;   /* small debris counts, too */
    bool no_guest; /* nobody writes by itself */
} Schedule;

typedef enum {
    MUTANT_NONE,
    MUTANT_NO_SUSPEND,   /* the VM is never suspended for a pivot */
    MUTANT_LATE_JOURNAL, /* the journal is written after the deed */
    MUTANT_NO_TOMBSTONE, /* "no such operation" without one */
    MUTANT_NO_LOAD,      /* requests are answered without what the journal holds */
    MUTANT_BLIND_DELETE, /* volumes are deleted without looking again */
    MUTANT_ALONE,        /* a pivot resumes the VM while another disk's is not recorded */
    MUTANT_TALK,         /* the talk's own: no suspend, the old leaf is marked before the pivot */
    MUTANT_LATE_SWITCH,  /* the VM is resumed before the manifest names its new leaf */
    MUTANT_EARLY_DELETE, /* the old leaf goes before the switch is in the manifest */
    MUTANT_NO_SYNC,      /* nothing is made durable in the storage domain */
    MUTANT_STOP_ANY,     /* a stop, repeated, stops what was started since */
    MUTANT_NO_GUARD,     /* a start is never refused, and no definition is put right */
    MUTANT_EARLY_UNDO,   /* the tried line goes before the manifest names the old one */
    MUTANT_OWN_LIST,     /* what is to be deleted is, whoever stands on it */
    MUTANT_REMOVE_FIRST, /* volumes go before the VM is undefined */
    MUTANT_EARLY_CLONE,  /* a clone is defined before its volumes are whole */
    MUTANT_OLD_MEMORY,   /* what a leaf holds is not looked at: memory goes on with newer disks */
    MUTANT_LOOSE_MEMORY, /* memory is not made durable */
    MUTANT_OLD_CONFIG,   /* the definition goes back with its disks alone */
    MUTANT_BELIEVES,     /* an internal commit is done when the headers say so (H13) */
    MUTANT_FORGETS,      /* the same of one whose journal was lost */
    MUTANTS
} Mutant;
extern const char *const mutant_words[MUTANTS];

/* ---- what a flow needs of the world ---- */

typedef struct Flow {
    const char *name;
    unsigned disks, depth; /* volumes in each chain */
    bool off;              /* the VM is off */
    bool can_share;        /* the file system shares blocks */
    void (*run)(void);     /* in a fiber of the manager; begun again when that was killed */
    const char *what;
    bool manager; /* it is the real one, and can be killed */
    int below;    /* another VM stands on this volume of the first disk, counted from 1; 0 = none */
    bool apart;   /* somebody else's snapshot beside other faults is not told wholly yet */
    bool singly;  /* several faults by chance are not withstood wholly yet (--flow tries them) */
} Flow;

/* ---- one VM ---- */

typedef enum { JOB_NONE, JOB_RUNS, JOB_READY, JOB_CONCLUDED } JobState;
typedef struct {
    HvJobType type; /* NONE = there is none */
    JobState state;
    unsigned number;
    char base[256], top[256]; /* commit; of an active one and a copy, base is the target */
    uint64_t dirty;           /* clusters to be mirrored */
    uint64_t current, end, bandwidth;
    unsigned moved;            /* clusters, at this bandwidth */
    int64_t began_us, late_us; /* it begins to copy so long after */
    bool pivot, cancel;        /* asked for */
    bool alone;                /* a copy of a leaf that stood on nothing */
    bool was_ready;
    bool woken;           /* though its bandwidth is used up */
    bool cancel_is_known; /* to the libvirtd that lives */
    HvJobStatus outcome;  /* when CONCLUDED */
} Job;

/* What libvirt thinks, in memory and in its status file */
typedef struct {
    char source[256];
    GPtrArray *backing;                                     /* of char* */
    char mirror_job[16], mirror_path[256], mirror_ready[8]; /* "" = none */
    bool job_is_new;   /* it takes the job for one that is about to begin */
    bool job_is_ready; /* also of a job whose mirror it does not know */
    bool job_aborts;   /* it was asked to cancel it, which goes into the status file, too */
    bool job_pivots;   /* the same of a pivot */
} View;

/* Of a job that has ended well: it is told, and the definition, if it defines, will name this */
typedef struct {
    bool there, told, defines;
    HvJobStatus status;
    char source[256];   /* "" = the leaf that it names then */
    GPtrArray *backing; /* of char*; NULL = it says nothing of them */
} Notes;

typedef struct {
    char target[8], id[40];
    char volumes[MAX_DEPTH][256]; /* as they were at the begin */
    /* QEMU */
    GPtrArray *graph; /* of Node, leaf first; empty = not running */
    GPtrArray
        *left_open; /* of VfsNode: after a pivot, until libvirt has them closed; may be NULL */
    Job job;
    unsigned concluded; /* number of the last job that ended */
    unsigned noted;     /* of the last one that libvirt has seen to end well */
    bool pivoted;       /* and the guest has written nothing since */
    /* libvirt */
    View live, status;
    bool live_is_read,
        mirror_is_read; /* from the status file, by a libvirtd that was started again */
    bool concluding;
    bool noting;                             /* that a job has ended: nobody looks meanwhile */
    Notes notes;                             /* what it will write of that, though QEMU dies */
    char defined[256], defined_durable[256]; /* persistent definition */
    int64_t defined_us;
    GPtrArray *defined_backing; /* stale <backingStore>; NULL = it says nothing; empty: none */
    char starting[256]; /* its leaf at the begin of a start, whatever is defined meanwhile */
    /* what the guest was promised */
    uint64_t acked[MAX_CLUSTERS];
    uint64_t pending[MAX_CLUSTERS];            /* written, not yet acknowledged; 0 = nothing */
    uint64_t content[MAX_DEPTH][MAX_CLUSTERS]; /* up to each volume, at the begin; NEW_SNAPSHOT */
} SimDisk;
typedef struct {
    char path[256];
    Image image;
    bool kept_open; /* for writing */
} Node;

/* Managed save. What a libvirtd has half written when it was killed looks like one, and is not. */
typedef struct {
    bool there, half;
    bool paused; /* the VM was */
    char sources[MAX_DISKS][256];
} SavedMemory;

/* What people say of it, in its definition. */
typedef struct {
    char name[16], description[32], title[32];
} VmTexts;

typedef struct {
    char id[40];
    SimDisk disks[MAX_DISKS];
    unsigned n_disks, clusters;
    /* QEMU */
    bool runs, paused;
    int64_t flushes_until_us; /* all images, as it is suspended */
    char instance[32];
    unsigned life; /* how many times it was started */
    /* libvirt */
    bool libvirtd, starting, in_hook;
    /* it does so for so many new files; it died then, and QEMU kept some; the names of so many were
     * met, which its status does not say yet */
    unsigned adds_nodes, left_nodes, passed_left;
    /* those of the chain below a copy, base first, as it pivots: QEMU keeps them open, and lets
     * nobody write to them, itself neither */
    const VfsNode *adds_below[MAX_BELOW], *left_below[MAX_BELOW];
    unsigned n_adds_below, n_left_below;
    bool there;  /* it is defined */
    bool saving; /* its memory is being written */
    SavedMemory saved;
    bool restored;                   /* it goes on from saved memory */
    unsigned config, config_durable; /* what its definition says beside disks */
    VmTexts texts, texts_durable;
    int64_t config_us, texts_us;
    bool lost;           /* libvirtd could not read its status file: it takes the VM for off */
    bool found_again;    /* libvirtd asks its QEMU, which it knows from its status file */
    int64_t late_end_us; /* it hears until then that this QEMU has died meanwhile; 0 = it did not */
    bool user_paused;
    bool guest_agent;      /* its guest has one */
    bool frozen;           /* its file systems are */
    bool frozen_at_switch; /* they were when the last snapshot was taken */
    unsigned resets;       /* of its guest, by whoever */
    unsigned reboots;      /* of which libvirt tells nobody */
    bool wanted;           /* the user wants it to run */
    uint64_t versions;     /* given out so far */
} SimVm;
extern SimVm vm;

/* Another one, which is off. */
typedef struct {
    bool there;
    char id[40], name[16];
    unsigned n_disks;
    char targets[MAX_DISKS][8], sources[MAX_DISKS][256];
} SimOther;
extern SimOther second;
extern Schedule plan;

/* ---- world.c ---- */

typedef struct {
    bool ok;
    uint64_t points, hash;
    char wrong[2048];
} Outcome;

/* Called outside of fibers before each point of the flow. */
typedef void (*WorldVisit)(void);

/* One schedule, from its begin to its end; each may be NULL. */
void world_run(const Schedule *what, WorldVisit each, Outcome *outcome);
/* In a visit: from here to the end by another plan, which must be the same up to here. The world is
 * what it was when it has been put back (state.h). */
void world_branch(const Schedule *what, Outcome *outcome);
uint64_t world_point(void); /* the number of the last one, counted from the flow's begin */
/* Something that must never be; the first one is kept. */
void world_wrong(const char *format, ...) G_GNUC_PRINTF(1, 2);
bool world_is_wrong(void);
void world_trace(const char *format, ...) G_GNUC_PRINTF(1, 2);
bool world_lies(unsigned lie, unsigned percent);
bool world_is_calm(void);              /* no more faults will come, or none has come for long */
bool world_is_untouched(void);         /* nothing has happened so far that does not always happen */
bool world_is_hit(void);               /* all faults of the schedule have come, if it has any */
bool world_was_hit_by(FaultKind kind); /* one of this kind has come */
extern int64_t world_calm_since_us;
void world_done(void);     /* the flow has ended */
extern Agent *world_agent; /* NULL = it does not run */

/* ---- setup.c ---- */
void make_vm(void);
void make_files(void);

/* ---- others.c ---- */
void other_reset(void);
void other_make(unsigned n);         /* it stands on volume n of the first disk */
void other_expect(int snapshot);     /* what a clone holds; -1: what the VM does now */
void check_cloned(void);             /* it is defined now */
void check_other(GHashTable *names); /* at the end; adds its files */

/* ---- faults.c ---- */
void faults_reset(void);
void do_fault(FaultKind kind); /* may not return: it kills */
/* The kind of which do_fault() would now do the very same; FAULT_NONE: nothing at all. */
FaultKind fault_like(FaultKind kind);
void agent_start(void);
void manager_start(void);
void world_later(int64_t after_us, const char *name, void (*func)(void));
extern bool world_network;
extern bool world_cancel_wanted; /* somebody wants what runs to be cancelled */

/* The storage domain; while it hangs, whoever uses it waits. 0, or what a call fails with. */
int storage_error(void);
bool storage_is_full(void);
bool storage_is_well(void);
bool storage_was_unwell(void); /* in this schedule */

/* ---- check.c ---- */
void check_guest_data(void);                                /* cheap: after each point */
uint64_t check_read(const SimDisk *disk, unsigned cluster); /* as QEMU would */
void check_start(void); /* the VM is about to run on these graphs */
void check_end(void);
/* The guest is about to write to a leaf that a pivot gave it: the manifest must name it. */
bool check_pivoted(SimDisk *disk);
/* A request for an operation that the agent promised never to begin. */
void check_promise(const char *id);
void check_note_promise(const char *id);
void check_note_end(const char *id); /* acknowledged */
bool check_has_ended(const char *id);
/* The VM is about to be powered off: one operation does that to one instance only. */
void check_note_off(void);
void check_stop_begins(void); /* another one */
void check_reset(void);
void check_name_gone(const char *path, VfsNode *node, const char *to);

/* ---- qemu.c ---- */
/* sources: its leaves; NULL = what the definition names */
void qemu_take_leaves(const char *const *sources);
/* From the leaves that it took. restored: whatever the definition says of backing files.
 * ret_why: 128 bytes */
bool qemu_start(bool restored, char *ret_why);
void qemu_died(void);              /* kills its fibers, too: may not return in one of them */
void qemu_shut_down(void);         /* the same */
bool qemu_shutdown_is_death(void); /* just now it is the same as if QEMU died */
void qemu_job_start(SimDisk *disk, HvJobType type, const char *base, const char *top);
bool qemu_snapshot(const HvSnapshotDisk *disks, unsigned n);
void qemu_suspend(void);
void qemu_freeze(bool on);    /* what the guest's agent does */
bool qemu_wake_limited(void); /* as a suspend and a transaction do; is there a commit? */
void qemu_resume(void);
void qemu_dismiss(SimDisk *disk);
void qemu_keep_base_open(SimDisk *disk); /* as after an active commit that was cancelled */
void qemu_close_left(SimDisk *disk);     /* libvirt knows of the pivot */
/* A node more for each file below this one: none of them is written by another. */
bool qemu_can_open_below(const char *path);
SimDisk *qemu_disk(const char *target);
void graph_clear(SimDisk *disk);
Node *graph_find(SimDisk *disk, const char *path, guint *ret_index);

/* ---- libvirt.c ---- */
void libvirt_reset(void);
void libvirt_show_vm(void); /* for the set-up */
Hypervisor *libvirt_client_new(HvEventFunc each, void *data);
void libvirt_client_died(void); /* the agent was killed */
/* The guest may reboot while nobody is there to hear of it. */
void libvirt_is_not_heard(void);
void libvirtd_start(void);
void libvirtd_died(void);
bool libvirt_memory_is_whole(const char *path); /* a file beside a snapshot */
/* By a user: waits for it. */
bool libvirt_start_vm(char *ret_why);
void libvirt_job_event(SimDisk *disk, HvJobStatus status); /* from QEMU */
void libvirt_vm_stopped(void);                             /* from QEMU */
void libvirt_forget_notes(void);                           /* libvirtd dies, or power goes */

/* ---- stranger.c: virsh snapshot-create-as --disk-only, of the first disk ---- */
void stranger_reset(void);
void stranger_comes(void);
bool stranger_was_here(void);            /* QEMU has taken one of theirs, or its file is there */
void stranger_qemu_died(void);           /* is about to, or with the host's power */
void stranger_spare(void);               /* libvirtd dies */
bool stranger_is_told(const char *text); /* an overlay that was lost is, by the doctor */
bool stranger_is_theirs(const char *path);
bool stranger_stands_on(const char *path, const char *leaf); /* theirs, and the highest of ours */
/* A power loss took the last change of the definition. */
void stranger_definition_lost(const SimDisk *disk);
/* The VM is about to run on its graphs: what libvirt has lost of such snapshots is lost. */
void stranger_start(void);
/* Of a snapshot that libvirtd, QEMU or the host died in, or that libvirt has lost: its overlay, and
 * what that stands on, which is not deleted therefore. */
bool stranger_is_left(const char *path);

/* ---- wire.c ---- */
/* In a fiber of any process: what the agent answers. */
bool wire_ask(const char *method, const char *path, const char *query, const json_t *body,
              int64_t budget_us, json_t **ret_json, GError **error);
void wire_agent_died(void);
void wire_cut(void);
void wire_reset(void);

/* ---- sqlite.c ---- */
void sqlite_process_died(unsigned process);
void sqlite_reset(void);
void sqlite_lose(const char *file); /* it is empty, as a new one */

/* ---- mutants.c ---- */
void mutants_reset(void);
bool mutant_is_blind(void); /* what libvirt says is not to be looked at just now */
bool mutant_syncs_nothing(void);
void mutant_before_pivot(void);
void mutant_before_undefine(const char *vm_id);

/* ---- daemon.c ---- */
void daemon_died(void);
bool daemon_runs(void);
void daemon_reset(void);

/* ---- flows.c ---- */
extern const Flow flows[]; /* ends with a NULL name */
void flows_reset(void);
void flow_make_files(void);              /* that stand beside the VM's in this flow */
bool flow_is_kept(const char *path);     /* by the doctor, for an undo */
const Flow *flow_find(const char *name); /* explore.c; NULL = there is none */

/* ---- known.c: schedules that once went wrong ---- */
#define KNOWN_SHIFT 12
bool known_schedule(uint64_t row, Schedule *ret); /* false: there is none */
/* The i-th of its neighbours: 0 is itself. */
void schedule_shift(Schedule *p, uint64_t i);
