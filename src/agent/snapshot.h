/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * Taking a snapshot: parts shared by snapshot.c, snapshot_prepare.c and snapshot_undo.c.
 *
 * What it remembers (row.data):
 *   disks      [{"id", "target", "leaf", "leaf_id", "format", "overlay", "empty_look": how that
 *              looked when it was made, "leaf_look": how the leaf did while a QEMU wrote the
 *              overlay}], those that take part
 *   life       the instance whose switch it is; absent = the VM was off
 *   ran_on_old a later one was seen to run on the old leaves when an overlay held data already
 *   memory     the path of the memory file; absent = without memory
 *   memory_of  the instance whose memory it is
 *   memory_durable  all of it is on disk
 *   prepared   all overlays were created; before that, the switch was never tried
 *   frozen     the guest's file systems are frozen, or may be
 */
#pragma once

#include "agent/operation.h"

/* snapshot_prepare.c: chooses the disks, records the operation, creates the overlays */
StepState snapshot_prepare_check(void *op, GError **error);
bool snapshot_prepare_act(void *op, GError **error);

/* Makes the empty overlay of one entry of "disks" on its "leaf". */
bool snapshot_make_overlay(const json_t *disk, GError **error);

/* snapshot.c */
/* How many of the disks stand on their overlay, as libvirt tells it now? */
size_t snapshot_count_switched(Operation *op, const HvDomain *hv);
/* Makes the definition name the overlays: of a VM that is off, that is the switch. */
bool snapshot_switch_stopped(Operation *op, GError **error);
/* Safe to repeat; a VM that is off has nothing frozen. */
bool snapshot_thaw_if_frozen(Operation *op, GError **error);

/* Whose switch it will be. */
void snapshot_note_life(Operation *op, const HvDomain *hv);

/* snapshot_undo.c */
/* Saves what is seen of the old leaves: later it may be all that tells whether they were written
 * after the overlays on top of them. Times do not: a clock can be set back, and a power loss takes
 * them from files whose data stay. */
bool snapshot_note_old_leaves(Operation *op, const HvDomain *hv, GError **error);
/* Of a VM that is off: to go on from the overlays loses nothing. False: a person has to decide, and
 * the error says how. */
bool snapshot_check_old_leaves(Operation *op, const HvDomain *hv, GError **error);
/* Some QEMU writes an overlay, or wrote it: the name of the first one, NULL = none. */
const char *snapshot_overlay_in_use(const Operation *op, bool *ret_open);
/* Did the switch happen after all? DONE: yes, FAILED: no, and it can be undone. */
StepState snapshot_verify_check(void *op, GError **error);
bool snapshot_verify_act(void *op, GError **error);
/* Removes what was created; refuses while the VM uses any of it. */
StepState snapshot_undo_check(void *op, GError **error);
bool snapshot_undo_act(void *op, GError **error);
