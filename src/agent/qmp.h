/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * A small QMP client for qemu-storage-daemon: one command, one answer, told by its id; events are
 * skipped, since the jobs are asked for. Threads: a Qmp belongs to one thread.
 */
#pragma once

#include "base/cleanup.h"
#include "base/error.h"

typedef struct Qmp Qmp;
/* Connects and negotiates. ERR_UNREACHABLE if nobody listens on the socket. */
Qmp *qmp_open(const char *socket_path, GError **error);
void qmp_close(Qmp *qmp);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(Qmp, qmp_close)
/* take_arguments may be NULL. *ret_return (may be NULL) is the answer's "return"; QEMU's refusal is
 * ERR_HYPERVISOR with its words. */
bool qmp_call(Qmp *qmp, const char *command, json_t *take_arguments, json_t **ret_return,
              GError **error);
/* Is the one that listens there a storage daemon which was started with this socket? */
bool qmp_is_spawned(const Qmp *qmp, const char *socket_path);
/* Tells the daemon to end, and waits until its process is gone. */
bool qmp_quit(Qmp *qmp, int budget_ms, GError **error);
