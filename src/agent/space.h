/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * Free space is watched while data are copied, by merges and by clones.
 *
 * Promise: before the storage domain that the data go to is full, at its reserve
 * (domain_reserve()), whatever moves them stands still. Guest and chain are left as they are. The
 * operation shows why ("attention") and goes on by itself when there is room again, at once when a
 * person says so (POST .../resume), or is cancelled. Killed, it still stands still, if what it has
 * copied by then is kept.
 *
 * How: a block job is held by a limit of one byte a second: QEMU copies at most one more round (512
 * KiB of an internal commit, 16 MiB of a mirror) and then sleeps until the limit changes; tried
 * with libvirt 9.0 and QEMU 7.2, no byte moved afterwards. libvirt has no call that pauses a job.
 * What a thread of ours copies waits in it.
 *
 * Where there is less than the reserve from the beginning (a delete is what frees space), or a
 * person said "go on" all the same, it goes on down to half of what was free then.
 *
 * Remembered in row.data: attention {kind, message}; space_floor (bytes that stay free).
 */
#pragma once

#include "agent/operation.h"

#define SPACE_HOLD 1 /* bytes a second: the limit that means "stand still" */

/* Tells what moves the data its limit, in bytes a second; 0 = none. */
typedef bool (*SpaceLimit)(Operation *op, uint64_t limit, void *data, GError **error);

/* Kept by the kind between the looks; zeroed at first. */
typedef struct {
    int64_t due_us; /* when the free space is looked at next */
    bool near;      /* there is little room: look often */
} SpacePace;

typedef struct {
    SpacePace *pace;
    const char *what, *target; /* "merge"; the disk */
    const char *growing;       /* the file that grows */
    uint64_t left;             /* bytes to copy */
    uint64_t now, limit;       /* the limit in force, and what it is else */
    SpaceLimit set_limit;      /* NULL: it asks space_is_held() */
    void *data;
} SpaceWatch;

/* Called by whoever looks how the copying goes: looks at the free space (every 250 ms) and holds or
 * releases. What cannot be asked or told is tried again at the next look; it changes nothing.
 * Threads: the VM's worker, without agent->lock: storage that hangs holds up nobody else. */
void space_watch(Operation *op, const SpaceWatch *watch);
/* It is over. */
void space_watch_end(Operation *op);
bool space_is_held(const Operation *op);
/* "paused" or "copying" */
const char *space_phase(const Operation *op);
