/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * For tests that need more of the real one than stage.h has. Failures of the set-up end the
 * program with a message.
 */
#pragma once

#include "stage.h"

#include <libvirt/libvirt-qemu.h>
#include <libvirt/libvirt.h>

G_DEFINE_AUTOPTR_CLEANUP_FUNC(virDomain, virDomainFree)

/* Our own connection (made again when libvirtd was killed), and the VM; both borrowed. */
virConnectPtr real_conn(void);
virDomainPtr real_domain(void);
/* QEMU's own answer, on a monitor that libvirt has no part in; NULL = refused, or it does not run.
 */
json_t *real_qmp(const char *command, json_t *take_arguments);
/* "/bin/sh -c" in the folder of the images; false: it failed. Output goes to *ret_out if given. */
bool real_shell(const char *command, char **ret_out);
pid_t real_qemu_pid(void);
void real_kill(pid_t pid); /* and waits for its end */
