/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * The seam to the hypervisor: a struct of functions, with libvirt behind it (connection.c ...);
 * a simulator will stand behind the same struct.
 *
 * Promise: each call says what it asked and of which VM; no call changes more than its comment
 * says. A lost connection is ERR_UNREACHABLE and is mended in the background (close callback,
 * keepalive, back-off); what libvirt refuses is ERR_HYPERVISOR with its message, or ERR_BUSY where
 * it says that another job holds the VM or disk (libvirt errors 68, 83, and 55 "domain has active
 * block job"), ERR_NOT_FOUND for an unknown domain (42). All facts are from trials with libvirt 9.0
 * and QEMU 7.2.
 *
 * Threads: every function may be called from any thread; calls on one VM are serialised by the
 * caller. Events come on threads of the hypervisor, one at a time, none after free(), and must not
 * block: they only queue. libvirt's event loop runs in a thread of its own on GLib's *default*
 * main context: nobody else may iterate that or attach sources to it (use g_main_context_new()).
 * Ownership: results belong to the caller.
 */
#pragma once

#include "model/vm.h"

/* ---- what a domain looks like ---- */

typedef struct {
    char *target; /* "vda" */
    char *alias;  /* QEMU's name of the device, if it runs; NULL */
    char *bus;
    char *device;             /* "disk", "cdrom", "lun", "floppy" */
    char *type;               /* "file", "block", "network", ... */
    char *format;             /* driver type; NULL = not given */
    char *source;             /* path; NULL = empty */
    char *protocol;           /* of a network disk: "nbd", ...; NULL */
    char *pool, *pool_volume; /* of type "volume": by which names libvirt finds its file; NULL */
    char *pool_file;          /* that file, if the pool is known; NULL. Such a disk has no source */
    bool read_only;
    bool shareable;
    bool transient;
    bool copies_on_read;
    GPtrArray *backing; /* of char*: paths that libvirt names below source, top first; NULL = it
                           says nothing. A layer without a path is "PROTOCOL:NAME" */
    bool backing_terminated; /* the <backingStore> chain ends with an empty element */
    char *mirror_job;        /* "active-commit", "copy", "" ; NULL = no <mirror> */
    char *mirror_path;       /* may be NULL */
    char *mirror_format;     /* may be NULL */
    char *mirror_ready;      /* "yes", "pivot", "abort"; NULL */
    /* A libvirtd that was killed in a pivot, or as it cancelled a mirror, shows it as under way
     * until the VM is powered off, and starts no other job (seen with libvirt 9.0). Then source is
     * what QEMU writes, there is no mirror, and backing is not told. */
    bool lost_pivot;
    /* What QEMU writes, if that stands on source: libvirt was killed and does not know it. It can
     * be the overlay of a snapshot, or the leaf of a commit that was cancelled when all was copied:
     * libvirt 9.0 takes that for completed. NULL = none was found. */
    char *hidden_leaf;
} HvDisk;

typedef struct {
    char *id; /* UUID */
    char *name;
    VmState state;
    char *state_detail; /* "eio", "enospc"; of VM_UNKNOWN: "lost", "mended"; NULL */
    bool persistent;
    char *instance;  /* "PID.STARTTIME" of QEMU; NULL = not running */
    uint64_t memory; /* bytes */
    unsigned vcpus;
    bool agent_connected;
    bool ballooning;   /* its memory can be taken away from it and given back */
    char *description; /* NULL, as the next two */
    char *title;
    char *firmware;        /* oVirt's word: "q35_ovmf", ... */
    int64_t started;       /* when its QEMU began, ms since 1970; 0 = it does not run */
    char *foreign_job;     /* as foreign_job() tells it; NULL also where that was not asked */
    char *graphics;        /* "vnc", "spice", NULL */
    char *display_listen;  /* where its display listens; NULL */
    unsigned display_port; /* 0 = none */
    unsigned display_tls_port;
    char *tpm_or_passthrough; /* NULL, or what forbids a memory snapshot: "a TPM", ... */
    bool has_managed_save;    /* only of a VM that is off; half written ones do not count */
    char *nvram;              /* file with its UEFI variables; NULL = none, or none yet */
    GPtrArray *disks;         /* of HvDisk, live if running, else inactive */
    GPtrArray *inactive;      /* of HvDisk, of the persistent definition; NULL if transient */
    char *xml;                /* the live (or only) definition */
    char *inactive_xml;       /* NULL if transient */
    gint shared;              /* owners beside the first */
} HvDomain;
/* What is to be said of a VM whose state is VM_UNKNOWN. */
const char *hv_why_unknown(const HvDomain *domain);

HvDomain *hv_domain_new(void);
/* One owner more of what nobody changes any more; each calls hv_domain_free(). */
HvDomain *hv_domain_share(HvDomain *domain);
void hv_domain_free(HvDomain *domain);
void hv_disk_free(HvDisk *disk);
/* QEMU writes that file, and libvirt has forgotten it: the source is it, and lost_pivot is set. */
void hv_disk_take_leaf(HvDisk *disk, char *take_path);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(HvDomain, hv_domain_free)
HvDisk *hv_domain_disk(const HvDomain *domain, const char *target);
/* What it is in, also if it is a volume of a pool; NULL = no file. */
const char *hv_disk_file(const HvDisk *disk);
HvDisk *hv_disk_find(const GPtrArray *disks,
                     const char *target); /* of HvDisk; NULL = there is none */

typedef enum {
    HV_JOB_NONE,
    HV_JOB_COMMIT,
    HV_JOB_ACTIVE_COMMIT,
    HV_JOB_COPY,
    HV_JOB_PULL,
    HV_JOB_OTHER
} HvJobType;
typedef struct {
    HvJobType type;        /* NONE = no block job on this disk */
    uint64_t current, end; /* bytes as QEMU counts them: see facts in merge.c */
    uint64_t bandwidth;    /* bytes a second, 0 = unlimited */
} HvJob;

/* ---- events ---- */

typedef enum {
    HV_EVENT_CONNECTED, /* again or at last: look at everything */
    HV_EVENT_DISCONNECTED,
    HV_EVENT_DOMAIN, /* defined, undefined, started, stopped, suspended, resumed ...: look again */
    HV_EVENT_REBOOT, /* its guest begins anew in the same QEMU: look again, too */
    HV_EVENT_BLOCK_JOB, /* disk, job_status, reason */
} HvEventKind;
typedef enum { HV_JOB_READY, HV_JOB_COMPLETED, HV_JOB_FAILED, HV_JOB_CANCELED } HvJobStatus;
typedef struct {
    HvEventKind kind;
    const char *vm_id; /* borrowed for the call; NULL for (dis)connected */
    const char *disk;  /* target */
    HvJobStatus job_status;
    const char
        *reason; /* of FAILED, as QEMU says it ("No space left on device"); NULL = it said none */
} HvEvent;
typedef void (*HvEventFunc)(const HvEvent *event, void *data);

/* ---- a snapshot ---- */
typedef struct {
    const char *target;
    const char *overlay; /* NULL = this disk is not part of it (snapshot='no') */
    /* that the overlay names below it: if the disk is not on it any more that is ERR_REFUSED, and
     * nothing is done. NULL = it may be on any */
    const char *leaf;
} HvSnapshotDisk;

/* libvirt's own record of a snapshot (ours leave none): "virsh snapshot-list". */
typedef struct {
    char *name;
    char *parent;      /* NULL */
    int64_t created;   /* ms */
    char *description; /* NULL */
    bool external;     /* at least one disk is */
    bool current;
    GPtrArray *targets; /* of char*: the disks that are external, and at the same index */
    GPtrArray *files;   /* the overlay that was made, as a path */
    char *xml;          /* all of it, without passwords */
} HvSnapshotRecord;
void hv_snapshot_record_free(HvSnapshotRecord *record);
/* From libvirt's XML. */
HvSnapshotRecord *hv_parse_snapshot(const char *xml, GError **error);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(HvSnapshotRecord, hv_snapshot_record_free)

/* What a VM's power is asked for. */
typedef enum {
    HV_POWER_OFF,      /* as if the plug was pulled: what the guest has not flushed is lost */
    HV_POWER_SHUTDOWN, /* asks the guest, by its agent or by ACPI; returns before it is off */
    HV_POWER_REBOOT,   /* likewise */
    HV_POWER_RESET,    /* the reset button: the same QEMU begins anew */
    HV_POWER_SAVE,     /* its memory goes to disk, then it is off (managed save); takes long */
    HV_POWER_FORGET,   /* of one that is off: its saved memory is thrown away */
} HvPower;

/* A new VM made after the definition of one that is there. */
typedef struct {
    const char *id, *name;
    const char *xml; /* what it is made after (of a snapshot); NULL = as the VM is defined now */
    const char *const *targets, *const *sources; /* its disks, qcow2; all others go, but for those
                                                    that are read-only or shareable */
    unsigned n;
    const char *nvram; /* its own file with UEFI variables; NULL = made anew when it starts */
} HvClone;

/* What a host is; 0 and NULL = not known. */
typedef struct {
    char *cpu;                        /* "AMD EPYC 7302 16-Core Processor" */
    uint64_t memory;                  /* bytes */
    unsigned sockets, cores, threads; /* cores of a socket, threads of a core */
    unsigned mhz;
    char *libvirt; /* version: "9.0.0" */
} HvHost;
void hv_host_clear(HvHost *host);
G_DEFINE_AUTO_CLEANUP_CLEAR_FUNC(HvHost, hv_host_clear)

typedef struct Hypervisor Hypervisor;
typedef struct {
    void (*free)(Hypervisor *hv);
    /* Is the connection up? Never blocks. */
    bool (*is_connected)(Hypervisor *hv);
    /* UUIDs of all domains, running or not; g_strfreev() */
    char **(*list)(Hypervisor *hv, GError **error);
    /* Everything about one domain. ERR_NOT_FOUND if there is none. Of one that runs, memory that
     * was saved before is thrown away: it would be restored on newer disks. */
    HvDomain *(*look)(Hypervisor *hv, const char *vm_id, GError **error);
    /* The disks (of HvDisk) of its stored definition, which changes without an event; of a
     * transient VM those that it has. May be NULL: no definition changes so. */
    bool (*stored_disks)(Hypervisor *hv, const char *vm_id, GPtrArray **ret_disks, GError **error);
    /* "migration", "backup", "save", "dump" or another domain job that would make mutating calls
     * block for 30 s (facts/libvirt 3.6): NULL = none */
    bool (*foreign_job)(Hypervisor *hv, const char *vm_id, char **ret_job, GError **error);

    /* External snapshot of exactly these disks (those of the domain that the caller leaves out are
     * not part of it), onto overlays that exist (REUSE_EXT | NO_METADATA | ATOMIC, and DISK_ONLY
     * without memory; with memory: LIVE). memory: absolute path to write, or NULL. Blocks until
     * done. */
    bool (*snapshot)(Hypervisor *hv, const char *vm_id, const HvSnapshotDisk *disks,
                     unsigned n_disks, const char *memory, GError **error);
    /* Guest agent, each command bounded by budget_s (the hello before it by 5 s): freeze all file
     * systems / thaw. A freeze that failed may still have begun: thaw all the same. */
    bool (*freeze)(Hypervisor *hv, const char *vm_id, unsigned budget_s, GError **error);
    bool (*thaw)(Hypervisor *hv, const char *vm_id, unsigned budget_s, GError **error);

    /* What the guest calls itself, as its agent says it (with a domain, if it has one): any text.
     * Bounded as these two are; not beside them on one VM, but beside all others. May be NULL:
     * nothing is known of guests. */
    char *(*guest_name)(Hypervisor *hv, const char *vm_id, unsigned budget_s, GError **error);

    /* Block jobs; disk is a target, base and top are paths; top NULL = the leaf (ACTIVE).
     * bandwidth in bytes a second, 0 = no limit. RELATIVE is used where the headers are relative
     * (retried without when libvirt cannot keep relative names). ERR_BUSY if the disk has a job. */
    bool (*commit_start)(Hypervisor *hv, const char *vm_id, const char *disk, const char *base,
                         const char *top, uint64_t bandwidth, GError **error);
    /* SHALLOW | REUSE_EXT | TRANSIENT_JOB copy to an overlay that exists. shallow false: full copy
     * (no SHALLOW). */
    bool (*copy_start)(Hypervisor *hv, const char *vm_id, const char *disk, const char *dest,
                       bool shallow, uint64_t bandwidth, GError **error);
    /* A VM that is off has no job: NONE, not an error. */
    bool (*job_look)(Hypervisor *hv, const char *vm_id, const char *disk, HvJob *ret_job,
                     GError **error);
    bool (*job_set_bandwidth)(Hypervisor *hv, const char *vm_id, const char *disk,
                              uint64_t bandwidth, GError **error);
    /* Cancel the job: the VM stays on its old leaf. No job: true. */
    bool (*job_cancel)(Hypervisor *hv, const char *vm_id, const char *disk, GError **error);
    /* Pivot of a READY job; returns when it has ended. ERR_BUSY (retry) while libvirt still says
     * "not ready for pivot yet" (error 83). */
    bool (*job_pivot)(Hypervisor *hv, const char *vm_id, const char *disk, GError **error);

    /* QEMU flushes this volume below the disk's leaf, which it has open for writing though no job
     * writes it. What was written without an error may still be lost then: sync it, too. */
    bool (*flush)(Hypervisor *hv, const char *vm_id, const char *disk, const char *path,
                  GError **error);

    /* Of a VM that runs: QEMU writes into the header of this qcow2 volume of the chain that it
     * stands on the volume "below", as it does (if not: ERR_REFUSED); name is what is written, the
     * format is qcow2. Not durable: sync it. May be repeated. ERR_BUSY: the
     * disk has a block job. May be NULL: no header is corrected here. */
    bool (*relink)(Hypervisor *hv, const char *vm_id, const char *disk, const char *path,
                   const char *below, const char *name, GError **error);

    /* Both are true when the VM already is as asked. */
    bool (*suspend)(Hypervisor *hv, const char *vm_id, GError **error);
    bool (*resume)(Hypervisor *hv, const char *vm_id, GError **error);

    /* These two may be NULL: nothing is started or stopped here. start() also restores saved
     * memory; true when the VM runs already. libvirt asks our start guard meanwhile. */
    bool (*start)(Hypervisor *hv, const char *vm_id, bool paused, GError **error);
    /* Starts a VM that is off from a snapshot's memory, with these leaves. The stored definition
     * stays as it is. Also true if somebody else was faster. */
    bool (*restore)(Hypervisor *hv, const char *vm_id, const char *memory,
                    const char *const *targets, const char *const *sources,
                    const char *const *formats, unsigned n, bool paused, GError **error);
    /* A password for the display of a running VM, for so long; what it was is gone. */
    bool (*ticket)(Hypervisor *hv, const char *vm_id, const char *password, unsigned seconds,
                   GError **error);
    bool (*power)(Hypervisor *hv, const char *vm_id, HvPower how, GError **error);

    /* These two may be NULL: VMs keep name and description here. */
    /* Of a VM that is off. What libvirt has in the way (records of snapshots) it says. */
    bool (*rename)(Hypervisor *hv, const char *vm_id, const char *name, GError **error);
    /* Both texts in the definition and, if it runs, in the running VM; "" = none. */
    bool (*describe)(Hypervisor *hv, const char *vm_id, const char *description, const char *title,
                     GError **error);
    /* May be NULL: nothing is known of the host. */
    bool (*host)(Hypervisor *hv, HvHost *ret_host, GError **error);

    /* Rewrites the persistent definition so that the disks named have this source path and format,
     * with every <backingStore> of every disk removed (a stale one beats the qcow2 header: H4).
     * Nothing else changes. n may be 0: only the <backingStore>s go. No effect on a running
     * instance. If the definition already is so, nothing is written and no event comes. A
     * transient VM is ERR_REFUSED. */
    bool (*redefine)(Hypervisor *hv, const char *vm_id, const char *const *targets,
                     const char *const *sources, const char *const *formats, unsigned n,
                     GError **error);

    /* The same, and all else of the definition becomes what config (domain XML, without passwords)
     * says: memory, CPUs, devices. Name, description, UUID, metadata, passwords and which disks
     * there are stay.
     * May be NULL: nothing but disks goes back here. */
    bool (*reconfigure)(Hypervisor *hv, const char *vm_id, const char *config,
                        const char *const *targets, const char *const *sources,
                        const char *const *formats, unsigned n, GError **error);

    /* These two may be NULL: VMs are neither made nor removed here. Both may be repeated. */
    /* Defines a new VM (hv_edit_clone()); what it does not have of the first one goes into left.
     * Passwords of displays come from the definition of today. */
    bool (*clone)(Hypervisor *hv, const char *vm_id, const HvClone *clone, GPtrArray *left,
                  GError **error);
    /* Removes the definition of a VM that is off, and what libvirt keeps beside it (saved memory,
     * records of snapshots); all: also its UEFI variables and the state of its TPM. One that is not
     * there: true. ERR_REFUSED: it is not off. */
    bool (*undefine)(Hypervisor *hv, const char *vm_id, bool all, GError **error);

    /* libvirt's records of snapshots; these three may be NULL: there are none. */
    /* of HvSnapshotRecord, in libvirt's order */
    GPtrArray *(*snapshot_records)(Hypervisor *hv, const char *vm_id, GError **error);
    /* Removes the record alone; files and chain stay. No such record: true. */
    bool (*snapshot_record_forget)(Hypervisor *hv, const char *vm_id, const char *name,
                                   GError **error);
    /* Puts one back. */
    bool (*snapshot_record_restore)(Hypervisor *hv, const char *vm_id, const char *xml,
                                    bool current, GError **error);
} HypervisorOps;

struct Hypervisor {
    const HypervisorOps *ops;
};

/* Connects in the background and keeps the connection. uri: "qemu:///system", ... Returns at once;
 * the first HV_EVENT_CONNECTED tells when it is up. */
Hypervisor *hypervisor_libvirt_new(const char *uri, HvEventFunc each, void *data);

/* Parses a domain XML into disks and, if domain is not NULL, the rest that XML tells (not state,
 * persistent, instance, has_managed_save). */
bool hv_parse_domain(const char *xml, HvDomain *domain, GPtrArray **ret_disks, GError **error);
/* The name of QEMU's node of a volume of the chain (NULL: the leaf), from the XML of a VM that
 * runs; g_free(). */
char *hv_node_of(const char *xml, const char *target, const char *path, GError **error);
/* The XML edit behind redefine(); the caller frees it with g_free. */
char *hv_edit_sources(const char *xml, const char *const *targets, const char *const *sources,
                      const char *const *formats, unsigned n, GError **error);
/* And the one before it, of reconfigure(); xml: the definition as it is, with passwords. */
char *hv_edit_config(const char *xml, const char *config, GError **error);

/* The XML edit behind clone(): another name and uuid, its own disks, no MAC addresses, and nothing
 * that two VMs of one host cannot both have: fixed ports and CIDs, sockets and files of character
 * devices (get another name), devices of the host (go). left takes texts: what the new VM does not
 * have. present: the definition of today, for passwords; may be NULL. */
char *hv_edit_clone(const char *xml, const char *present, const HvClone *clone, GPtrArray *left,
                    GError **error);
/* A name as a part of a file name: of at most 64 bytes, letters, digits, "._-" alone. */
char *hv_file_name(const char *name);

/* Where libvirt notes what it must know of the VMs that run, if it is killed: NAME.xml each. */
#define HV_STATUS_DIR "/run/libvirt/qemu"
/* Such a note, mended where libvirt would refuse it and so lose the VM (status.c); g_free(). */
char *hv_mend_status(const char *xml, GError **error);
/* All notes of a folder, before a libvirtd reads them. Calls each for those that were mended
 * (error NULL) or cannot be; the others are not touched. */
typedef void (*HvMendFunc)(const char *path, const GError *error, void *data);
void hv_mend_status_files(const char *folder, HvMendFunc each, void *data);
