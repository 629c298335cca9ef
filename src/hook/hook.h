/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * The parts of livemerge-hook, which libvirt runs before it starts a VM.
 *
 * Promise: it never calls libvirt, which waits for it and holds the VM meanwhile; it changes
 * nothing (but what hv_mend_status_files() mends when libvirtd itself starts); whatever goes wrong
 * with it lets the VM start. It is meant to be small and quick, so it
 * speaks its one HTTP call itself: loading libcurl would take longer than all the rest.
 *
 * Threads: one.
 */
#pragma once

#include "hypervisor/hypervisor.h"

/* Where the agent listens, by its configuration file (NULL = the default one). The file is the
 * agent's: what else it says is the agent's business. The caller frees; never NULL. */
char *hook_agent_address(const char *config_file);

/* Asks the agent. True: it answered, and *ret_refusal (owned) is the reason why the VM must not
 * start, or NULL. An error: it is not there, too slow, or cannot tell. */
bool hook_ask(const char *address, const char *vm_id, const json_t *body, unsigned budget_ms,
              char **ret_refusal, GError **error);

/* The disks that are judged, as the agent is asked: {"disks": [{target, source, format}]}. */
json_t *hook_question(const GPtrArray *disks);

/* Judges alone, by the manifest. The reason why the VM must not start (the caller frees), or NULL.
 * A manifest that cannot be read is an error beside NULL. */
char *hook_judge(const char *vm_id, const json_t *question, GError **error);

/* Does a QEMU of this VM run, which libvirt takes for off? The reason why it must not start (the
 * caller frees), or NULL. No file's lock would tell: a QEMU that has pivoted holds none of the old
 * leaf. */
char *hook_lost(const char *vm_id, const char *name);
