/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * Which QEMU process runs a VM, told from /proc: "PID.STARTTIME". Two equal instances are the same
 * process; a restarted VM has another one even if the pid is used again. A process that has ended
 * but was not yet waited for (a zombie) is not running.
 */
#pragma once

#include <glib.h>

/* cached: an earlier answer for this VM, or NULL; it is checked first, which is much cheaper than
 * the search. NULL = no such process. The caller frees it. Any thread. */
char *instance_look(const char *vm_id, const char *cached);

/* When such a process began, in milliseconds since 1970, to some. 0 = the word is none. */
gint64 instance_started(const char *instance);

/* The UUIDs, in lower case, of all VMs that may have a QEMU process now: one search for all of
 * them. The caller unrefs it. */
GHashTable *instance_all(void);
