/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * What the parts of QEMU (qemu.c, qemu_job.c) have of each other.
 */
#pragma once

#include "world.h"

/* The images from this leaf down to the base. said (NULL = nothing): what libvirt says of the
 * files below, which goes before what the headers say. False: ret_why (128 bytes) has the reason.
 */
bool graph_open(SimDisk *disk, const char *leaf, const GPtrArray *said, char *ret_why);
/* All image locks anew, as graph and jobs need them now. */
void qemu_relock(void);
/* What a pivot has left stays open until libvirt has it closed. */
void qemu_leave_open(SimDisk *disk, guint n);
/* What is under way ends before anything else happens. */
void qemu_drain(void);
