/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * What every document of the API is made of: id and href, links, references, times; the ids
 * of things that exist only in the API (cluster, data center, storage domain, the active snapshot);
 * and the documents themselves, each a pure function of what the manager knows.
 *
 * Ownership: the caller gets each new document. Threads: any.
 */
#pragma once

#include "flow/manager.h"

#define API_ROOT "/ovirt-engine/api"
#define API_NIL_ID "00000000-0000-0000-0000-000000000000"

/* href is API_ROOT and the formatted rest ("/vms/%s") */
json_t *doc_new(const char *id, const char *format, ...) G_GNUC_PRINTF(2, 3);
void doc_link(json_t *doc, const char *rel, const char *format, ...) G_GNUC_PRINTF(3, 4);
void doc_action(json_t *doc, const char *rel, const char *format, ...) G_GNUC_PRINTF(3, 4);
/* doc[key] = {"id","href"} */
void doc_ref(json_t *doc, const char *key, const char *id, const char *format, ...)
    G_GNUC_PRINTF(4, 5);
/* The same of a user, by name; whom only the kernel knows has no document, and so no href. */
void doc_user(json_t *doc, const char *key, const char *name);
void doc_text(json_t *doc, const char *key, const char *text); /* not if NULL or empty */
void doc_number(json_t *doc, const char *key, uint64_t number);
void doc_flag(json_t *doc, const char *key, bool flag);
void doc_time(json_t *doc, const char *key, int64_t wall_ms); /* not if 0 */
/* {key: members}; takes members */
json_t *doc_list(const char *key, json_t *members);

/* A UUID that is always the same for the same words. */
char *derived_id(const char *kind, const char *name);
char *cluster_id(void);
char *data_center_id(void);

/* vms.c */
/* status: what to show instead of the state; NULL = nothing */
json_t *vm_document(const Vm *vm, const char *status, const char *host_id);
/* disks.c */
char *disk_name(const Vm *vm, const Disk *disk); /* "web1_vda" */
/* The disk of the VM with this id, target or name; NULL = none */
Disk *disk_find(const Vm *vm, const char *word);
char *storage_domain_id(const Volume *volume);
char *storage_domain_id_of(const char *directory);
json_t *disk_document(const Vm *vm, const Disk *disk);
json_t *disk_attachment_document(const Vm *vm, const Disk *disk);
/* the disk as the snapshot has it; NULL = it has none */
/* consoles.c: where the display is, if it runs */
void display_put(json_t *doc, const Vm *vm);
/* The volume at that place of the chain, as an image of the disk. */
json_t *disk_snapshot_document(const Vm *vm, const Disk *disk, guint index);
json_t *snapshot_disk_document(const Vm *vm, const Snapshot *snapshot, const SnapshotDisk *part);
/* snapshots.c */
json_t *snapshot_document(const Vm *vm, const Snapshot *snapshot, bool locked);
json_t *active_snapshot_document(const Vm *vm);
char *active_snapshot_id(const Vm *vm);
/* jobs.c: from manager_job() */
json_t *job_document(const json_t *job);
json_t *step_document(const json_t *step, const char *job_id);
/* plan.c: from manager_plan() */
json_t *plan_document(const Vm *vm, const char *const *snapshot_ids, const json_t *plan);
/* doctor.c: of manager_doctor(), or of the result of a job */
json_t *findings_document(const json_t *findings);
/* events.c */
json_t *event_document(const EventRow *row);
/* hosts.c */
json_t *host_document(const HostInfo *host, unsigned vms, unsigned running);
