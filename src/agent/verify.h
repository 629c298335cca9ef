/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * Merging: is the merged disk what it was? Asked before any old volume goes.
 *
 *   verify-built  graft, copy: the new volumes, before the VM is switched to them
 *   verify        commits: the base, after the data were moved into it
 *
 * How much is compared is the parameter "verify": none, extents (the maps: every cluster is there;
 * data that are shared are the same, data that were copied are not read again), full (all that the
 * guest sees is read and compared). What QEMU still brings afterwards (a block copy of the leaf, an
 * active commit) is its job's result and the safe pivot's: the result says "job" there.
 *
 * Promise: only reads, in a thread of its own, so that a cancel and the agent's end need not wait.
 * Killed, it begins again. After a difference no old volume is deleted: the operation fails with
 * ERR_CORRUPT and result.mismatch. New volumes are moved into the trash, to be kept; an internal
 * commit has changed the chain already, and its old volumes stay where they are.
 *
 * What cannot be read is neither alike nor different: it is tried again, for ever. If that is
 * cancelled, the old volumes stay too. A cancel of a check that goes well leaves an internal commit
 * done and unchecked.
 *
 * Remembered in row.data: checked (how, so that it is not done twice), mismatch (the difference),
 * unreadable (why the last try could not tell), set_aside (what became of the new volumes).
 */
#pragma once

#include "agent/operation.h"

#include "model/vm.h"

/* Before anything is begun: can the check that was asked for be done with volumes [0..top]? */
bool verify_is_possible(Operation *op, const Disk *disk, unsigned top, const char *strategy,
                        GError **error);
/* Can all be read that volumes [0..top] hold? The plan asks the same. */
bool verify_can_read(const Disk *disk, unsigned top, GError **error);

/* Steps */
StepState verify_built_check(void *op, GError **error);
bool verify_built_act(void *op, GError **error);
StepState verify_check(void *op, GError **error);
bool verify_act(void *op, GError **error);

/* What was compared has changed meanwhile, for a good reason: as if nothing had been compared. */
void verify_forget(Operation *op);
/* A difference was found: the merge has failed, whatever the chain says. */
bool verify_found_mismatch(const Operation *op);
/* Ends the thread, if there is one. Safe to repeat. */
void verify_stop(Operation *op);
/* The same, for a merge that has failed or was cancelled. */
void verify_give_up(Operation *op);
