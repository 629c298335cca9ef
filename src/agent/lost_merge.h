/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * A commit of volumes below the leaf that the VM's manifest records and this agent's journal does
 * not know (it was lost, or is another host's), while the headers say that it is done. Whether the
 * base was flushed before its QEMU ended, nobody knows then (H13, merge_whole.c); the volumes of
 * the run still hold all.
 *
 * Nothing is decided by looking: the manifest keeps the volumes, the disk is shown with them and as
 * busy, the start guard refuses, and nothing that the manifest names is deleted. The doctor decides
 * (doctor_record.c).
 *
 * Ownership: a LostMerge borrows from the Vm and the Disk. Threads: any.
 */
#pragma once

#include "agent/agent.h"

typedef struct {
    const OperationRecord *record;
    const Disk *disk; /* as the manifest has it */
    int base, top;    /* of its volumes; the one above top stands on base, by its header */
} LostMerge;

/* Is there one of this disk? stored: the manifest; disk: of it; layers: its chain, if that was read
 * just now (NULL: the header is read, and one that cannot be says no). */
bool lost_merge_find(Agent *agent, const Vm *stored, const Disk *disk, const GPtrArray *layers,
                     LostMerge *ret_lost);
/* Does the QEMU that committed live? Then all is flushed as soon as it writes the base no more. */
bool lost_merge_lives(const LostMerge *lost, const char *instance);
const char *lost_merge_path(const LostMerge *lost, int volume);
/* disk: as the headers have it. It gets the volumes of the run again. */
void lost_merge_show(const LostMerge *lost, Disk *disk, const char *instance);
/* Has its journal that operation, ended or not? */
bool agent_knows_operation(Agent *agent, const char *id);
