/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * The start guard's judgement: may a VM that is off start from this file, or do its newest data lie
 * elsewhere? Shared by the libvirt hook, which may have to judge alone, and the agent.
 *
 * The manifest says which volume is the leaf of a VM that is off (merge.md section 7). A definition
 * that names another volume of the chain is stale: starting it would lose what was written
 * since, and break the volumes above. So is one that names a leftover of a merge. While an
 * operation is recorded, its disk may be undecided. All else may start: a disk that the manifest
 * does not know, an overlay that somebody else made on the leaf, leftover files of any kind.
 * Whoever wrote into a lower volume since the manifest noted what it looks like (a merge with other
 * tools) has made the manifest old, not the definition.
 *
 * Promise: only reads. Ownership: as each comment says. Threads: any; nothing is shared.
 */
#pragma once

#include "storage/storage.h"

#include <sys/stat.h>

typedef struct {
    Vm *vm;         /* shared; NULL = there is no manifest */
    char *file;     /* of the manifest */
    struct stat st; /* the same */
    Domain domain;  /* where it lies; only path is set, and memory by who has one */
} GuardManifest;

void guard_manifest_clear(GuardManifest *manifest);
G_DEFINE_AUTO_CLEANUP_CLEAR_FUNC(GuardManifest, guard_manifest_clear)

/* Looks for the manifest of a VM in the directories of its disks' files and all directories above;
 * of several the one written last, since the others are no longer kept. No storage domain is made
 * or changed. True with vm NULL: none. ERR_STORAGE: the storage does not answer, so nothing is
 * known, and nothing may start. ERR_CORRUPT ...: it is there and says nothing; file is then set. */
bool guard_load(const char *vm_id, const char *const *sources, GuardManifest *ret_manifest,
                GError **error);
/* Its halves. What is found has no vm yet; between them a manifest->domain.memory can be lent. */
bool guard_find(const char *vm_id, const char *const *sources, GuardManifest *ret_manifest,
                GError **error);
bool guard_read(const char *vm_id, GuardManifest *manifest, GError **error);

typedef enum {
    GUARD_FINE,
    GUARD_STALE,     /* the newest data are in leaf */
    GUARD_UNDECIDED, /* an operation has to be finished first, or something cannot be read */
} GuardVerdict;

typedef struct {
    GuardVerdict verdict;
    char *leaf;   /* STALE, UNDECIDED: the file to start from, if no operation decides it any more;
                     NULL = that cannot be told */
    char *format; /* of leaf */
    char *reason; /* STALE, UNDECIDED: a sentence that names VM, disk and files */
    bool surely;  /* STALE, whatever becomes of the operation that is recorded */
} GuardFinding;

void guard_finding_clear(GuardFinding *finding);
G_DEFINE_AUTO_CLEANUP_CLEAR_FUNC(GuardFinding, guard_finding_clear)

/* May the VM, which is off, start its disk "target" from "source"? format: of source as the
 * definition has it; NULL = qcow2. */
void guard_look(const GuardManifest *manifest, const char *target, const char *source,
                const char *format, GuardFinding *ret_finding);
