/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * A VM is to change from its leaf to an empty overlay that we have made: for a snapshot, and for
 * the seal of a graft. libvirtd can be killed in the middle, and names the old leaf then for ever
 * (facts/libvirt H3): did QEMU change, and which of the two volumes is the newer one? That is told
 * by what was seen. Times are no proof: a clock can be set back, and a power loss takes them from
 * files whose data stay.
 *
 * What an operation remembers of it (row.data):
 *   life        the instance whose switch it is; absent = the VM was off
 *   guarded     the start guard stood then
 *   ran_on_old  a later one was seen to run on the old leaves when an overlay held data already
 * and of each disk, in an object of an array of its own ("disks" below):
 *   target, leaf, format (of the leaf), overlay
 *   empty_look  how the overlay looked when it was made
 *   leaf_look   how the leaf did while a QEMU wrote the overlay
 */
#pragma once

#include "agent/operation.h"

/* Some QEMU writes an overlay, or wrote it: the name of the first one, NULL = none. */
const char *overlay_in_use(const json_t *disks, bool *ret_open);
/* Does the disk stand on its overlay, as libvirt tells it now? Also one that somebody else has
 * taken a snapshot of since. */
bool overlay_is_used_by(const HvDisk *disk, const char *overlay, const char *leaf);
/* How many of the disks do? */
size_t overlay_count(const json_t *disks, const HvDomain *hv);
/* May the overlay of any of them be there? */
bool overlay_is_any_left(const json_t *disks);
/* Has somebody else's volume come between an overlay and its leaf (relink.h)? That costs nothing
 * where none has. */
bool overlay_is_skipping(const json_t *disks, const HvDomain *hv);
/* And puts that right. */
bool overlay_relink(Operation *op, const json_t *disks, const HvDomain *hv, GError **error);
/* Makes the definition name the overlays: of a VM that is off, that is the switch. */
bool overlay_define(Operation *op, const json_t *disks, GError **error);

/* Makes the empty overlay of one entry, as large as its leaf is now; it must be unused. */
bool overlay_make(const json_t *disk, GError **error);
/* Right before the change: QEMU takes an overlay as it is, and one that is smaller than a disk that
 * has been made larger meanwhile would cut off its end. Such a one is made anew, and that is saved.
 * One that is in use stays. */
bool overlay_refit(Operation *op, json_t *disks, GError **error);

/* They are durable, and empty: one that holds data and still looks so has lost its time with the
 * power. Not saved by itself. */
void overlay_note_empty(json_t *disks);
/* Whose switch it will be, and whether the start guard stands. Not saved by itself. */
void overlay_note_life(Operation *op, const HvDomain *hv);
/* Saves what is seen of the old leaves: later it may be all that tells whether they were written
 * after the overlays on top of them. */
bool overlay_note_leaves(Operation *op, json_t *disks, const HvDomain *hv, GError **error);
/* Of a VM that is off: to go on from the overlays loses nothing. False: a person has to decide, and
 * the error says how. */
bool overlay_check_leaves(Operation *op, const json_t *disks, const HvDomain *hv, GError **error);
