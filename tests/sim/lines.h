/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * The two lines of a VM that tries a snapshot: from which may it start?
 */
#pragma once

#include "world.h"

typedef enum { LINE_OLD, LINE_TRIED, LINES } Line;

void lines_reset(void);
/* A preview is asked for: from now on the VM may also stand on this snapshot (0: the oldest). */
void lines_try(unsigned snapshot);
void lines_allow(unsigned bits); /* 1 << LINE_... */
/* The VM is about to run on its graphs: what it was promised is that of one allowed line. */
void lines_start(void);
/* On the line that the VM runs on, or was last, and on which libvirt has lost what the guest wrote
 * since: what it holds of this disk. */
Line lines_now(void);
void lines_take(Line line, SimDisk *disk, const uint64_t *acked);
/* The manifest names this volume for a disk. */
bool lines_is_known(const char *path);
/* The manifest says that a snapshot is tried. */
bool lines_is_tried(void);
bool lines_has_snapshot(const char *id);
bool lines_snapshot_is_called(const char *id, const char *name);
bool lines_snapshot_is_there(const char *id);
bool lines_is_quiesced(const char *name);  /* the newest snapshot of this name is said to be so */
bool lines_vm_is_called(const char *name); /* there */
bool lines_has_memory(const char *id);     /* with its memory */
/* While a snapshot is tried: what this leaf of the old line holds is what the guest was promised.
 */
void lines_check_left(const SimDisk *disk, const char *leaf);
/* No file goes that the manifest names, for either line. */
void lines_name_gone(const char *path, const VfsNode *node);
/* libvirt's hook lets the VM start (on these leaves; NULL: as it is defined): from the line that
 * the manifest names. */
void lines_hook_passed(void);
