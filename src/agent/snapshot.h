/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * Taking a snapshot: parts shared by snapshot.c, snapshot_prepare.c and snapshot_undo.c.
 *
 * What it remembers (row.data):
 *   disks      [{"id", "target", "leaf", "leaf_id", "format", "overlay"}], those that take part;
 *              and what overlay.h notes of them
 *   memory     the path of the memory file; absent = without memory
 *   memory_of  the instance whose memory it is
 *   memory_durable  all of it is on disk
 *   prepared   all overlays were created; before that, the switch was never tried
 *   frozen     the guest's file systems are frozen, or may be
 *   thaws_left how often it is still tried to thaw them, after a freeze that has failed
 */
#pragma once

#include "agent/overlay.h"

/* snapshot_prepare.c: chooses the disks, records the operation, creates the overlays */
StepState snapshot_prepare_check(void *op, GError **error);
bool snapshot_prepare_act(void *op, GError **error);

/* Of the configuration alone: no disk was asked for, which is not the same as all. It has no
 * overlays and no switch, and its instant is that of the step "settle". */
bool snapshot_is_of_config(const Operation *op);
/* Makes the empty overlay of one entry of "disks" on its "leaf". */
bool snapshot_make_overlay(const json_t *disk, GError **error);

/* snapshot.c */
json_t *snapshot_disks(const Operation *op);
/* Makes the definition name the overlays: of a VM that is off, that is the switch. */
bool snapshot_switch_stopped(Operation *op, GError **error);
/* Safe to repeat; a VM that is off has nothing frozen. */
bool snapshot_thaw_if_frozen(Operation *op, GError **error);

/* snapshot_undo.c */
/* overlay_in_use() of its disks; before all overlays are there, the switch was never tried. */
const char *snapshot_overlay_in_use(const Operation *op, bool *ret_open);
/* Did the switch happen after all? DONE: yes, FAILED: no, and it can be undone. */
StepState snapshot_verify_check(void *op, GError **error);
bool snapshot_verify_act(void *op, GError **error);
/* Is this of an old copy of the journal (OperationKind.is_old)? recorded: steps, besides "prepare",
 * in which the manifest records it if it is under way. */
bool snapshot_is_old(Operation *op, const char *const *recorded, bool *ret_old, GError **error);
/* Removes what was created; refuses while the VM uses any of it. */
StepState snapshot_undo_check(void *op, GError **error);
bool snapshot_undo_act(void *op, GError **error);
