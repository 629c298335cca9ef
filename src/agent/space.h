/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * Merging: free space is watched while data are copied.
 *
 * Promise: before the storage domain that the data go to is full, at its reserve
 * (domain_reserve()), whatever moves them stands still. Guest and chain are left as they are. The
 * operation shows why
 * ("attention") and goes on by itself when there is room again, at once when a person says so
 * (POST .../resume), or is cancelled. Killed, it still stands still.
 *
 * How: a block job is held by a limit of one byte a second: QEMU copies at most one more round (512
 * KiB of an internal commit, 16 MiB of a mirror) and then sleeps until the limit changes; tried
 * with libvirt 9.0 and QEMU 7.2, no byte moved afterwards. libvirt has no call that pauses a job.
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

/* Called by whoever looks how the transfer goes: looks at the free space (every 250 ms) and holds
 * or releases. now: the limit in force; left: bytes to copy. What cannot be asked or told is tried
 * again at the next look; it changes nothing. Threads: the VM's worker, without agent->lock:
 * storage that hangs holds up nobody else. */
void space_watch(Operation *op, uint64_t left, uint64_t now, SpaceLimit set_limit, void *data);
/* For a block job of a running VM. */
void space_watch_job(Operation *op, const HvJob *job);
/* The transfer is over. */
void space_watch_end(Operation *op);
bool space_is_held(const Operation *op);
/* "paused" or "copying" */
const char *space_phase(const Operation *op);

/* A VM that QEMU suspended because a write failed is resumed by people, not by us: shown as what is
 * waited for. */
void space_show_guest(Operation *op, const HvDomain *hv);
