/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * What libvirt has noted of a VM that runs, and reads when it starts; see hv_mend_status().
 */
#pragma once

#include <stdbool.h>

/* Mends the note of a VM that libvirt takes for off although this instance ("PID.STARTTIME") of its
 * QEMU runs. True: it is there, and the next libvirtd will not refuse it for what we know of. */
bool status_mend_lost(const char *name, const char *instance);
