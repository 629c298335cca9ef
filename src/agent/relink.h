/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * The header of each volume of a running VM must name the one that its QEMU reads below it. libvirt
 * puts an overlay on whatever the disk is on in that instant: a snapshot of somebody else's that
 * comes between the last look and the call is skipped by the overlay's header. The VM reads rightly
 * as long as it runs; started again it would miss what was written there.
 */
#pragma once

#include "agent/agent.h"

/* The volume that libvirt shows right below this one in the disk's running chain, borrowed; NULL =
 * none, or it says nothing. */
const char *relink_below(const HvDisk *disk, const char *path);
/* Does the header of "path" name a deeper volume of the chain than the one that libvirt shows right
 * below it? Sets *ret_below, borrowed. Reads that header. */
bool relink_is_needed(const HvDisk *disk, const char *path, const char **ret_below);
/* Has QEMU put right what is needed of that, durably. True also if nothing is; ERR_BUSY beside a
 * block job. */
bool relink(Agent *agent, const HvDomain *hv, const HvDisk *disk, const char *path, GError **error);
