/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * The doctor: own records × libvirt live and inactive × the headers on disk (model/diagnosis.h).
 *
 * Promise: looking changes nothing, but that a look also is a look of the inventory's: what that
 * mends by itself is found only while it cannot. While an operation is under way on a VM, or its
 * outcome is not acknowledged, nothing is said of that VM: it changes one after the other what is
 * compared here. A fix looks again before it acts, touches no file that a running VM names, and
 * deletes nothing: files go into the trash to be kept; what is needed to undo it lies in
 * DIR/.livemerge/undo before the deed.
 *
 * doctor.c       asks all, answers
 * doctor_chain.c the headers of one disk's chain
 * doctor_vm.c    libvirt's definitions, jobs and records; the manifest
 * doctor_files.c the files of storage domains that nobody has; doctor_owners.c: who has which
 * doctor_fix.c   the operation "doctor-fix"; doctor_mend.c, doctor_mend_vm.c: what each class does
 * doctor_record.c records of operations whose journal was lost
 * doctor_undo.c  the operation "doctor-undo"
 */
#pragma once

#include "agent/lost_merge.h"
#include "agent/operation.h"
#include "model/diagnosis.h"
#include "qcow2/qcow2.h"

/* Files younger than this may just be being made (tests: 0). */
extern int64_t doctor_grace_s;

/* One volume as it was found going down from the leaf. */
typedef struct {
    char *path;
    char *format;        /* as whoever names it says; NULL = it does not */
    Qcow2Header *header; /* NULL = raw, or it could not be read */
    uint64_t device, inode;
    uint64_t size; /* of the guest's disk */
} ChainLink;

typedef struct {
    const HvDisk *hv;
    GPtrArray *links; /* of ChainLink, leaf first, as far as they could be read */
    bool whole;       /* down to the base, and every format is told */
    char *away;       /* a volume whose storage did not answer; NULL = none */
} ChainLook;

/* A VM as the doctor sees it. */
typedef struct {
    Agent *agent;
    HvDomain *hv;
    Domain *home; /* where its manifest is; NULL = it has none */
    Vm *stored;   /* the manifest; NULL = none, or it cannot be read: problem */
    GError *problem;
    GPtrArray *chains;   /* of ChainLook: the disks that are files */
    GPtrArray *records;  /* of HvSnapshotRecord */
    GPtrArray *findings; /* of Finding; borrowed */
    GString *away;       /* why its storage could not be read; empty: it could */
} Patient;

/* entry->lock held. Adds what is found of the VM; *ret_busy: nothing was asked, and why. self: an
 * operation of the doctor's that does not count; NULL. */
bool doctor_look_vm(Agent *agent, AgentVm *entry, const Operation *self, GPtrArray *findings,
                    char **ret_busy, GError **error);
/* Adds what is found in the storage domains that the VM (NULL: any) has files in. self: NULL, or a
 * fix, whose own deeds make no file look as if it was just being made. unread: takes {"path",
 * "why"} of those that cannot be read; NULL: that is an error. May be called with or without
 * entry->lock. */
bool doctor_look_files(Agent *agent, const char *vm_id, const Operation *self, GPtrArray *findings,
                       json_t *unread, GError **error);
/* GET /v1/doctor?vm=ID: vm_id may be NULL. */
bool doctor_answer(Agent *agent, const char *vm_id, json_t **ret_json, GError **error);
/* The finding is kept by the patient; what is NULL is not said. */
Finding *doctor_find(const Patient *patient, Diagnosis class, const char *disk, const char *file);

/* There is no such file. One of a storage that does not answer may be there: that is noted. */
bool doctor_is_missing(const Patient *patient, const char *path);

/* doctor_chain.c */
ChainLook *chain_look_new(const Patient *patient, const HvDisk *disk);
void chain_look_free(void *look);
/* Walks down without saying anything. *ret_away (NULL before): the file at which it ended, since
 * its storage did not answer; the caller's. */
GPtrArray *chain_links(const char *leaf, const char *format, char **ret_away);
void doctor_look_chain(const Patient *patient, const ChainLook *look);
/* Is it off, so that nobody has its volumes open? */
bool doctor_is_off(const HvDomain *hv);
/* The volume in the chain, or NULL. */
const ChainLink *chain_link(const ChainLook *look, const char *path);

/* doctor_vm.c */
void doctor_look_definition(const Patient *patient);
void doctor_look_manifest(const Patient *patient);
void doctor_look_jobs(const Patient *patient);
void doctor_look_records(const Patient *patient);
void doctor_look_overlays(const Patient *patient);
/* doctor_record.c: records of operations that this agent does not know */
void doctor_look_operation(const Patient *patient, const OperationRecord *record);
/* The manifest records a merge of ours whose journal was lost. */
bool doctor_is_lost_merge(const Patient *patient, const char *target);
/* The same, which by the headers is done (lost_merge.h). */
bool doctor_has_lost_merge(const Patient *patient, const char *target);
/* libvirt's record that made this overlay of the disk; NULL = none. */
const HvSnapshotRecord *doctor_record_of(GPtrArray *records, const char *target, const char *file);

/* doctor_mend.c: does what the finding says, keeping what is needed to undo it first. Safe to
 * repeat.
 */
bool doctor_mend(Operation *op, const Finding *finding, GError **error);
/* It is not found any more, perhaps since an earlier try mended it and died: makes that durable. */
bool doctor_settle(Operation *op, const Finding *finding, GError **error);

/* doctor_fix.c: after each look at a VM, by the refresher: if its manifest records an operation
 * that the journal does not know, the block job that it left is ended and the record goes; what it
 * may have changed becomes unusable. */
void doctor_after_loss(Agent *agent, const char *vm_id);

/* doctor_fix.c: what must be done to undo the next deed, durable when it returns true:
 *   {"what": "trashed", "path"}                            a file was moved to the trash
 *   {"what": "manifest", "left"}                           the manifest is kept beside it; left:
 *                                                          doctor_manifest_sum() after the deed
 *   {"what": "definition", "targets", "sources", "formats", "target", "leaf"}
 *                                                          of that disk the deed made it name leaf
 *   {"what": "backing", "path", "backing", "format"}       as the header named it; of a merge
 *   {..., "made", "record"}                                also what it names then, and which
 *   {"what": "adopted", "snapshot_id", "disk_id"}
 *   {"what": "record", "xml", "current"}                   of libvirt's snapshot
 *   {"what": "none", "why"}                                it cannot be undone
 *   {..., "undone": the id of the undo that has done it} */
bool doctor_keep(Operation *op, json_t *take_entry, GError **error);
/* What looks at the VM do not change by themselves in its manifest: what a snapshot, a merge or a
 * person's wish has written. NULL = of one that knows of none. */
char *doctor_manifest_sum(const Vm *vm);
/* Has this fix begun to move the file to the trash? */
bool doctor_has_begun(const Operation *op, const char *path);
/* Where it is kept: beside the VM's manifest, or in the domain of one of its disks. */
Domain *doctor_home(Operation *op, GError **error);
/* "qemu-img rebase -u": nothing but the header changes. Refused while somebody has the file open.
 */
bool doctor_write_backing(const char *path, const char *backing, const char *format,
                          GError **error);
bool doctor_qemu_img(const char *const *argv, GError **error);
/* The lock that keeps the VM from being started, which is off; else -1 and an error. */
int doctor_hold_off(Operation *op, GError **error);
