/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * The host agent: does the deeds next to libvirtd, and holds no truth of its own but its journal.
 *
 * Promise: killed at any instant and started again, it finishes or undoes whatever it had
 * begun; its start and stop touch no guest and no running job, but for a VM that it had itself
 * suspended for a pivot, which it always finishes and resumes.
 *
 * How: each operation is a step table (base/steps.h): snapshot.c, merge.c, delete_volume.c. A
 * thread for each VM that has operations turns them one after another, so calls on one VM never
 * overlap; libvirt's events and requests wake it. The inventory (inventory.c) is what is known of
 * each VM: libvirt's definition, the qcow2 headers, and the manifest, read again whenever an event
 * says so.
 *
 * Ownership: the Agent owns all; AgentVm and Operation live as long as it does.
 * Threads: agent->lock guards the tables, the published Vm of each entry, and progress. An
 * AgentVm's own lock is held by whoever looks at or changes that VM. Order: entry->lock before
 * way_lock or guest_lock before agent->lock.
 */
#pragma once

#include "agent/journal.h"
#include "base/steps.h"
#include "hypervisor/hypervisor.h"
#include "model/vm.h"
#include "storage/storage.h"
#include "wire/wire.h"

typedef struct Agent Agent;
typedef struct Operation Operation;

/* outside.c: the files that disks of a VM are made of which are not managed, as sets of
 * owners_key(), of plain CD-ROMs and floppies of paths. Both NULL: nobody has looked. */
typedef struct {
    GHashTable *beside; /* of disks that never were managed: no disk of this VM may change them */
    GHashTable *files;  /* of the others, and what a definition says of managed ones */
} Outside;

typedef struct {
    char *id;
    GMutex lock;           /* whoever works on this VM */
    Vm *vm;                /* as last published; guarded by agent->lock; NULL = not here */
    Outside now;           /* as last published; guarded by agent->lock */
    Outside next;          /* by its stored definition; guarded by agent->lock */
    GHashTable *keys;      /* outside.c: of vm's volumes; guarded by agent->lock */
    uint64_t told;         /* agent_vm_told(): grows with what is; guarded by agent->lock */
    char *told_users;      /* who used its volumes then; NULL = nobody; guarded by agent->lock */
    bool looked;           /* libvirt has answered since this agent began; guarded by agent->lock */
    GPtrArray *operations; /* of Operation, not ended; guarded by agent->lock */
    bool worker;           /* a thread turns them; guarded by agent->lock */
    bool kicked;
    int64_t quiet_until_us; /* an operation has just ended: the next may follow; guarded by
                               agent->lock */
    GCond wake;             /* with agent->lock */
    gint starting;          /* atomic: the holder of lock is in libvirt's start of it (power.c) */
    unsigned losses;        /* doctor_after_loss(): of the refresher alone */
    int64_t lost_us;        /* the last one, on the monotonic clock */
    gint loss_is_left;      /* atomic: there is still something to be put right */
    /* merge_make_way(): guarded by way_lock, which is never held across a call of libvirt */
    GMutex way_lock;
    int64_t starting_until_us; /* the VM is being started: no cold job is begun until then */
    GMutex guest_lock; /* whoever asks its guest's agent, which is one at a time: libvirt's limit of
                          the time that an answer takes is the domain's. After lock */
    /* guest.c: what the guest of that instance calls itself (NULL = nothing), and who is asked now;
     * guarded by agent->lock */
    char *guest_name, *guest_instance, *guest_asked;
    int64_t guest_asked_us;
    bool guest_is_asked;
    int reboots;   /* atomic: how often libvirt told of one */
    int frozen_at; /* what it was when a user froze the guest; guarded by lock */
    /* agent->gaps when the guest was known to be frozen last; -1: in no life of this agent; guarded
     * by lock */
    int frozen_gaps;
    int look_again; /* atomic: what the last look saw or wrote was not all */
    int image_lock; /* keeps QEMU from the old leaf while a cold switch is under way; -1 = none */
} AgentVm;

struct Agent {
    Hypervisor *hv;
    Journal *journal;
    GMutex lock;
    GHashTable *vms;         /* id → AgentVm */
    GHashTable *operations;  /* id → Operation, until acknowledged */
    GPtrArray *domains;      /* of Domain, configured and found */
    GPtrArray *mount_points; /* of Domain: what was in a domain's place before it was mounted */
    GMutex next_lock;        /* outside_look_again(); before lock */
    bool loaded;             /* journal and first inventory are there: requests may be answered */
    int stopping;            /* atomic */
    unsigned workers;        /* running worker threads */
    GCond idle;              /* workers became 0 */
    /* sweep.c */
    GPtrArray *unswept; /* of Domain: something lies in its trash */
    bool sweeps;        /* a thread does it, one of the workers */
    int64_t sweep_at_us;
    GCond sweep;          /* with lock: it is to be earlier, or the agent stops */
    GAsyncQueue *refresh; /* of char *vm_id, "" = all */
    GThread *refresher;
    struct EventHub *events;
    struct Survey *survey; /* agent/survey.h */
    char *life;            /* of this agent: no other one, and none before or after, has it */
    char *run_dir;         /* sockets of our storage daemons */
    int gaps;              /* atomic: how often libvirt was away, and nothing was heard of guests */
    int strays;            /* atomic: there are some of operations that the journal has lost */
    unsigned pivot_budget_ms;
    unsigned quiesce_budget_s;
    char *hooks_dir;
    GThreadPool *guests; /* guest.c; NULL = none was asked yet */
};

typedef struct {
    const char *state_dir;
    const char *const *storage_names; /* configured domains */
    const char *const *storage_paths;
    unsigned pivot_budget_ms;
    unsigned quiesce_budget_s;
    const char *hooks_dir; /* of libvirt; NULL = HOOKS_DIR */
} AgentOptions;

/* Opens the journal, starts the refresher. The hypervisor is attached with agent_attach() right
 * after, because its events need the agent. */
Agent *agent_new(const AgentOptions *options, GError **error);
void agent_attach(Agent *agent, Hypervisor *take_hv);
/* Lets every thread end where it stands (at most 0.8 s, mostly at once); operations stay in the
 * journal. A VM that is suspended for a pivot runs again before its thread ends. */
void agent_stop(Agent *agent);
static inline bool
agent_stopping(Agent *agent)
{
    return g_atomic_int_get(&agent->stopping) != 0;
}
void agent_free(Agent *agent);
void agent_on_hv_event(const HvEvent *event, void *agent);

/* ---- guest.c */
/* Puts what the guest calls itself into vm, and has it asked if it is time. entry->lock held. */
void agent_note_guest(Agent *agent, AgentVm *entry, const HvDomain *hv, Vm *vm);
/* Waits for those that are being asked. */
void agent_forget_guests(Agent *agent);

/* ---- keep.c */
/* Empties the trash of what was kept in it for more than so many days; 0 = never. May take long. */
void agent_expire_kept(Agent *agent, unsigned days);

/* ---- sweep.c */
/* Empties the domain's trash in a moment, in a thread of its own; again and again until it could be
 * done. agent->lock must not be held, but for the second. */
void agent_sweep_later(Agent *agent, Domain *domain);
void agent_sweep_later_locked(Agent *agent, Domain *domain);

/* ---- strays.c */
/* Ends the storage daemons of operations that the journal does not know, in a thread of its own;
 * again and again until it could be done. */
void strays_begin(Agent *agent);

/* ---- requests.c: the wire */
void agent_serve(const HttpRequest *request, HttpResponse *response, void *agent);

/* ---- inventory.c */
/* Looks at one VM again and publishes it; true also when the VM is gone. entry->lock must be held.
 */
bool agent_look(Agent *agent, AgentVm *entry, GError **error);
/* The same; *ret_hv is what libvirt said, NULL if the VM is gone. */
bool agent_look_and_keep(Agent *agent, AgentVm *entry, HvDomain **ret_hv, GError **error);
/* A storage that does not answer may hold all of the VM, and its manifest. */
bool agent_disks_can_be_read(const HvDomain *hv, GError **error);
/* The same, and asks for block jobs of each disk: those of others that the definition does not
 * show. */
bool agent_look_closely(Agent *agent, AgentVm *entry, GError **error);
AgentVm *agent_entry(Agent *agent, const char *vm_id, bool create);
/* Why nothing is published of a VM: it is not here, or nobody could look yet. False. entry may be
 * NULL; agent->lock is held. */
bool agent_no_vm(const AgentVm *entry, const char *vm_id, GError **error);
/* The volumes of a chain (of Qcow2Layer, base first) become those of the disk; ids are taken over
 * from the disk as it was known (may be NULL). */
void agent_fill_volumes(Disk *disk, const Disk *known, GPtrArray *layers);
/* What is published, with used_by filled in; NULL = unknown VM. Others may have the same one: who
 * is to change it calls vm_unshare(). */
Vm *agent_vm_shown(Agent *agent, const char *vm_id);
/* The same, and its tag: as long as that is the same, so is the VM. known: the tag of what the
 * asker has; if it is still that, only the tag is given (the caller frees it). NULL = unknown VM.
 */
Vm *agent_vm_told(Agent *agent, const char *vm_id, const char *known, char **ret_tag);
/* For who does not ask for used_by. */
Vm *agent_vm_published(Agent *agent, const char *vm_id);
/* Fills in used_by for volumes that files of the storage domain stand on which no VM has. Reads the
 * headers of the whole domain: only for who is about to delete. */
void agent_find_users(Agent *agent, Vm *vm);
/* The name of another VM whose chain holds this file; own: or of this one, if a disk of it that is
 * not managed holds it. NULL = none. */
char *agent_user_of(Agent *agent, const char *vm_id, const char *path, bool own);
/* outside.c: of these disks (of HvDisk); into one that is clear. */
void outside_find(const GPtrArray *disks, const Vm *vm, Outside *outside);
void outside_clear(Outside *outside);
/* Reads the stored definitions of all VMs: libvirt tells nobody when a disk is attached to one
 * (attach-device --config). For who is about to change or delete what somebody may use. */
bool outside_look_again(Agent *agent, GError **error);
/* owners_key() of each of its volumes, by path: asked of the storage by who looks at the VM, and
 * not by who is told of it. The caller frees it. */
GHashTable *outside_keys(const Vm *vm);
/* The name of another VM (own: or of this one) that has this file there; NULL = none. agent->lock
 * is held. */
const char *outside_user(Agent *agent, const char *vm_id, const char *path, const char *key,
                         bool own);
/* The storage domain that holds a path (the longest one); with create, the file's own directory
 * becomes one. Borrowed for ever: domains are never freed while the agent lives. */
Domain *agent_domain(Agent *agent, const char *path, bool create, GError **error);
Domain *agent_home(Agent *agent, const Vm *vm, GError **error);
/* The one whose directory this is; NULL = none of ours. */
Domain *agent_domain_at(Agent *agent, const char *path);
/* Has a user frozen the file systems of the instance that runs (freeze.c)? */
bool agent_is_frozen(Agent *agent, const AgentVm *entry, const HvDomain *hv);
void freeze_note_reboot(Agent *agent, const char *vm_id);
/* No reboot was told of since the note in the manifest, if it names that instance. Who was not
 * there to hear of one believes the note. entry->lock held. */
bool freeze_note_holds(const AgentVm *entry, const Vm *stored, const HvDomain *hv);
void agent_queue_refresh(Agent *agent, const char *vm_id);

/* ---- events.c: lines for GET /v1/events */
struct EventHub *event_hub_new(void);
void event_hub_free(struct EventHub *hub);
void event_hub_close(struct EventHub *hub); /* ends all streams */
/* Consumes json. */
void event_hub_send(struct EventHub *hub, json_t *take_json);
bool event_hub_is_heard(struct EventHub *hub); /* false: what is sent now nobody gets */
void event_hub_stream(struct EventHub *hub, HttpResponse *response);
