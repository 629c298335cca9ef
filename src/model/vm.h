/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * What livemerge knows of a virtual machine: disks, chains of volumes, the tree of
 * snapshots. One set of structs and one JSON form for all three places where it
 * is written down: the manifest on storage, the wire, the manager's database.
 *
 * Words (HACKING.md has the glossary): a disk is a chain of volumes, volumes[0] is
 * the base, the last one the leaf, which the VM writes. A snapshot owns, for each
 * of its disks, the volume that was the leaf when it was taken; deleting it removes
 * the boundary above that volume.
 *
 * Ownership: vm_free() frees all. Strings are owned. GPtrArrays free their members.
 * Threads: plain data; whoever owns the Vm locks it.
 */
#pragma once

#include "base/cleanup.h"
#include "base/error.h"

#include <stdint.h>

/* clang-format off */
#define VM_STATE_TABLE(X)                                                       \
    X(VM_UNKNOWN,        "unknown")         /* the host does not answer */       \
    X(VM_UP,             "up")                                                   \
    X(VM_PAUSED,         "paused")          /* by a person, or by an I/O error */ \
    X(VM_DOWN,           "down")                                                 \
    X(VM_MIGRATING,      "migrating")                                            \
    X(VM_SAVING,         "saving_state")                                         \
    X(VM_POWERING_DOWN,  "powering_down")                                        \
    X(VM_SUSPENDED,      "suspended")       /* has a managed save image */
/* clang-format on */
#define X(state, word) state,
typedef enum { VM_STATE_TABLE(X) VM_STATE_LAST } VmState;
#undef X
const char *vm_state_word(VmState state);
/* VM_UNKNOWN for words that are none, and for NULL */
VmState vm_state_from_word(const char *word);

typedef struct {
    char *id;                /* UUID; stable as long as the file lives */
    char *path;              /* absolute */
    char *format;            /* "qcow2" or "raw" */
    uint64_t virtual_size;   /* bytes */
    uint64_t allocated;      /* bytes of the file system, all data and metadata */
    bool read_only;          /* the file cannot be written (immutable, read-only mount) */
    char *used_by;           /* NULL, or who else stands on it: "VM web2", "file /x/y.qcow2" */
    bool internal_snapshots; /* the file holds snapshots of its own (qcow2's; virsh takes such) */
    bool bitmaps;            /* the file holds dirty bitmaps, as backup programs make them */
    bool foreign;            /* somebody else put it on top of the leaf that we knew */
    char *seen;              /* in a manifest, of one below the leaf: its file when the manifest was
                                written (volume_look()); NULL = not known */
} Volume;

/* libvirt takes a pivot, or a cancel, for one that is still under way, and begins nothing else on
 * that disk. */
#define DISK_LOST_PIVOT "a pivot that libvirt has lost"
/* By the headers a merge is done of which only the manifest knows, and whether all of it was
 * flushed nobody. Its volumes are shown as they were before it. */
#define DISK_LOST_MERGE "a merge whose journal was lost"
/* The same, and that is just being found out. */
#define DISK_ENDING_MERGE "the end of a merge whose journal was lost"

typedef struct {
    char *id;     /* UUID; what the API calls a disk */
    char *target; /* "vda" */
    char *bus;    /* "virtio" */
    bool read_only;
    bool boot;           /* first disk */
    bool copies_on_read; /* the definition wants copy_on_read: see build_blocker() */
    char *unmanaged;     /* NULL, or why livemerge does not touch this disk */
    char *busy;          /* NULL, or what works on it now that is not ours: "a block job (copy)"; or
                            DISK_LOST_PIVOT, DISK_LOST_MERGE, DISK_ENDING_MERGE */
    GPtrArray *volumes;  /* of Volume, base first, leaf last; empty if unmanaged */
    /* of Volume: what a preview has left standing beside the chain, lower ones first: the old line
     * above the volume that both stand on. Empty without a preview. */
    GPtrArray *branches;
} Disk;

typedef struct {
    char *disk_id;
    char *volume_id;
    bool unusable; /* a merge into it has begun: it can only be deleted (merge.md section 4) */
} SnapshotDisk;

typedef struct {
    char *id;
    char *name;           /* oVirt's "description" */
    char *parent;         /* snapshot id; NULL = none */
    int64_t date;         /* milliseconds since 1970 */
    GPtrArray *disks;     /* of SnapshotDisk */
    char *memory;         /* absolute path of the memory volume; NULL = none */
    uint64_t memory_size; /* bytes */
    bool quiesced;        /* the guest's file systems were frozen */
    bool config_only;     /* it was taken without any disk */
    char *config;         /* domain XML at that instant */
    char *comment;        /* of one that was adopted: libvirt's description; NULL = none */
    char *record;         /* its name in libvirt's own records, which go with it; NULL = none */
} Snapshot;

/* What is under way, for a host that must take over (merge.md section 7). */
typedef struct {
    char *id;
    char *kind;
    char *disk_id; /* may be NULL */
    char *base;    /* volume ids; may be NULL */
    char *top;
    char *strategy;
    char *instance; /* of the VM's QEMU as it began; NULL = the VM was off, or it is not known */
} OperationRecord;

/* The VM stands on a branch that may be thrown away: a leaf above a snapshot's volume, beside the
 * line that it had. Commit makes the branch the line, undo goes back (branch.c). */
typedef struct {
    char *disk_id;
    char *old_leaf; /* volume ids */
    char *leaf;
} PreviewDisk;

typedef struct {
    char *snapshot; /* id of the one that is tried */
    int64_t date;
    char *former;     /* domain XML before; NULL = the definition did not go back but for disks */
    bool memory;      /* a start goes on from the snapshot's, as long as the leaves are empty */
    char *begun_by;   /* without disks: the operation's id; else its leaves tell */
    GPtrArray *disks; /* of PreviewDisk; other disks stay on their line */
} Preview;

/* A file that a merge has taken out of the chain and nobody has deleted yet. The manifest names it
 * until then: a definition that names it is stale, however new the file looks. */
typedef struct {
    char *path;
} Leftover;

/* Of a VM that has none: why none can be managed. */
#define VM_NO_DISK "it has no disk"

typedef struct {
    char *id; /* libvirt's UUID of the domain */
    char *name;
    char *host; /* set by the manager */
    VmState state;
    char *state_detail; /* "eio", "enospc", or NULL */
    char *instance;     /* "PID.STARTTIME" of the running QEMU; NULL = not running */
    char *unmanaged;    /* NULL, or why no disk of it can be managed */
    char *home;         /* directory of the storage domain that holds the manifest; NULL = none */
    char *description;  /* libvirt's; NULL */
    char *comment;      /* what libvirt calls a title; NULL */
    char *firmware;     /* oVirt's word: "q35_ovmf"; NULL = it has none for it */
    uint64_t memory;    /* bytes */
    unsigned vcpus;
    bool ballooning;
    int64_t
        created; /* ms since 1970: made, or first seen by the manager; 0 = not known, as below */
    int64_t started;       /* the QEMU that runs, or ran last */
    int64_t stopped;       /* the last end of one that the manager saw */
    char *frozen;          /* the instance whose file systems a user has frozen; NULL = none */
    char *foreign_job;     /* what is under way with all of it and not ours: "backup"; NULL */
    bool agent_connected;  /* QEMU guest agent */
    char *fqdn;            /* what the guest calls itself, while it runs; NULL = it has not said */
    char *graphics;        /* "vnc", "spice" or NULL */
    char *display_address; /* of it, while it runs; a name or an address */
    unsigned display_port; /* 0 = none, as for the next */
    unsigned display_tls_port;
    int64_t generation;    /* of the manifest */
    GPtrArray *disks;      /* of Disk */
    GPtrArray *snapshots;  /* of Snapshot, oldest first */
    GPtrArray *operations; /* of OperationRecord */
    GPtrArray *leftovers;  /* of Leftover */
    Preview *preview;      /* NULL = the VM stands on its line */
    char *goes_on_from;    /* a snapshot that was restored with its memory: the next start goes on
                              there, if it still can; NULL = none */
    gint shared;           /* owners beside the first */
} Vm;

Vm *vm_new(const char *id, const char *name);
/* One owner more of what nobody changes any more; each calls vm_free(). */
Vm *vm_share(Vm *vm);
void vm_free(Vm *vm);
Vm *vm_copy(const Vm *vm);
/* What no host shows: snapshots, records, leftovers, the preview and the generation. */
void vm_take_records(Vm *vm, const Vm *stored);
/* To be changed: itself, if nobody else has it, else a copy. */
Vm *vm_unshare(Vm *take_vm);
bool vm_equal(const Vm *a, const Vm *b); /* their JSON is; none is equal to none */
/* Is what a manifest tells of them the same, but for its generation and what files look like? */
bool vm_lasting_equal(const Vm *a, const Vm *b);
/* Are they equal, but for what changes while a guest just runs: how much its volumes hold? */
bool vm_kept_equal(const Vm *a, const Vm *b);
Disk *disk_new(const char *id, const char *target);
void disk_free(Disk *disk);
Volume *volume_new(const char *id, const char *path, const char *format, uint64_t virtual_size);
void volume_free(Volume *volume);
Volume *volume_copy(const Volume *volume);
Snapshot *snapshot_new(const char *id, const char *name, int64_t date);
void snapshot_free(Snapshot *snapshot);
void operation_record_free(OperationRecord *record);
void leftover_free(Leftover *leftover);
Preview *preview_new(const char *snapshot_id, int64_t date);
void preview_free(Preview *preview);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(Vm, vm_free)
G_DEFINE_AUTOPTR_CLEANUP_FUNC(Disk, disk_free)
G_DEFINE_AUTOPTR_CLEANUP_FUNC(Volume, volume_free)
G_DEFINE_AUTOPTR_CLEANUP_FUNC(Snapshot, snapshot_free)
G_DEFINE_AUTOPTR_CLEANUP_FUNC(Preview, preview_free)

/* Look-ups return borrowed pointers, NULL = not there. */
Disk *vm_disk(const Vm *vm, const char *disk_id_or_target);
Snapshot *vm_snapshot(const Vm *vm, const char *snapshot_id);
SnapshotDisk *snapshot_disk(const Snapshot *snapshot, const char *disk_id);
/* On at least one disk: it can only be deleted. */
bool snapshot_is_unusable(const Snapshot *snapshot);
/* It was taken without disks and holds the configuration: it has lost nothing. One that has lost
 * all its disks is none. */
bool snapshot_is_config_only(const Snapshot *snapshot);
bool snapshot_has_lost_all(const Snapshot *snapshot); /* nothing of any disk is left of it */
/* Is the volume some snapshot's on that disk? */
bool vm_snapshot_owns(const Vm *vm, const char *disk_id, const char *volume_id);
Volume *disk_volume(const Disk *disk, const char *volume_id);
Volume *disk_volume_by_path(const Disk *disk, const char *path);
/* In which disk's chain is the file? NULL = in none. */
const Disk *vm_disk_by_path(const Vm *vm, const char *path);
int disk_volume_index(const Disk *disk, const char *volume_id); /* -1 = not in the chain */
Volume *disk_leaf(const Disk *disk);                            /* NULL if unmanaged */
/* In the chain, or beside it. */
Volume *disk_any_volume(const Disk *disk, const char *volume_id);
Volume *disk_branch_by_path(const Disk *disk, const char *path); /* beside it only */
PreviewDisk *preview_disk(const Preview *preview, const char *disk_id);
OperationRecord *vm_operation(const Vm *vm, const char *op_id);
bool vm_has_leftover(const Vm *vm, const char *path);
/* Both may be repeated. */
void vm_add_leftover(Vm *vm, const char *path);
void vm_remove_leftover(Vm *vm, const char *path);
void vm_add_snapshot_disk(Snapshot *snapshot, const char *disk_id, const char *volume_id);
/* Puts a snapshot that will own this volume of the disk into the row, before the first one that
 * owns a volume further up. */
void vm_insert_snapshot(Vm *vm, Snapshot *take_snapshot, const char *disk_id,
                        const char *volume_id);
/* Takes it out, and frees it: those above it hang on its parent. */
void vm_remove_snapshot(Vm *vm, Snapshot *snapshot);
/* A disk that VMs and snapshots can use: managed, writable. */
bool disk_is_managed(const Disk *disk);
/* What the user must know of a disk that is busy, and how to end it; NULL = it is not. */
char *disk_busy_reason(const Vm *vm, const Disk *disk);

/* The chain after [base..top] became one volume. For backward merges "kept" is base's id, and
 * the volumes above base up to top leave the chain. For forward ones (copy) "replacement" takes
 * the place of all of them. Snapshots of deleted boundaries lose their entry for this disk, the
 * snapshot of top (if any) moves to the volume that remains. Either kept or replacement is given.
 * Repeating it changes nothing. */
bool vm_apply_merge(Vm *vm, const char *disk_id, const char *base, const char *top,
                    const Volume *replacement, GError **error);

/* ---- branch.c: each changes the whole VM at once, or nothing. ---- */

/* For each of these disks the volumes above the snapshot's go beside the chain, and a new leaf (of
 * leaves, at the same index) stands on it. False: the snapshot has no volume of one of them in the
 * chain. */
bool vm_begin_preview(Vm *vm, const char *snapshot_id, int64_t date, GPtrArray *disks,
                      GPtrArray *leaves, GError **error);
/* Back to the old line. left (of char*, owned): the leaves that are thrown away, to be deleted;
 * they become leftovers. False: somebody has put volumes on top of them. Without a preview: true.
 */
bool vm_undo_preview(Vm *vm, GPtrArray *left, GError **error);
/* The branch becomes the line. left: the volumes of the old one, and the memory volumes of the
 * snapshots that had theirs there, lower ones first; those lose their entries, and go if they have
 * none left. False: a disk does not stand on its branch. */
bool vm_commit_preview(Vm *vm, GPtrArray *left, GError **error);

/* JSON. vm_from_json() refuses unknown state and format words, wrong types and missing ids (of a
 * VM or volume also name, target, path, format) with ERR_CORRUPT, and ignores members it does not
 * know. Text that is not UTF-8 (a file name can be anything) is written with replacement
 * characters. The members are listed once, in shape.c. */
json_t *vm_to_json(const Vm *vm);
json_t *vm_to_stored_json(const Vm *vm); /* as it is in a manifest; shape.c says what is not */
Vm *vm_from_json(const json_t *json, GError **error);

/* Small readers shared by all who parse our JSON: NULL/0/false where absent. */
const char *json_text(const json_t *object, const char *key);
int64_t json_number(const json_t *object, const char *key);
bool json_flag(const json_t *object, const char *key);
/* sets object[key] only if text is not NULL */
void json_put_text(json_t *object, const char *key, const char *text);
