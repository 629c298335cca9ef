/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * The start guard, the agent's side: what libvirt's hook asks before a VM starts, and mending a
 * definition that names an old leaf.
 */
#pragma once

#include "agent/agent.h"

/* POST /v1/vms/ID/starting: {"disks": [{target, source, format}]}. True: it may start. ERR_REFUSED:
 * not, with the reason; what can be mended is mended right after. Cold merges make way first.
 *
 * libvirt holds the domain while its hook waits for the answer, so nothing here asks libvirt, or
 * waits without end for who may be asking it (entry->lock). At most about 9 s; mostly 1 ms. */
bool starting_ask(void *agent, const HttpRequest *request, const char *id, json_t *body,
                  json_t **ret_json, GError **error);

/* The definition of a VM that is off names an old leaf by the manifest's word: it is made to name
 * the right one, and *hv is looked at again. While a merge or a snapshot is under way, which knows
 * better, only one whose file is gone. Nothing to mend: true. ERR_REFUSED: it cannot be told which
 * is right, and nothing may be concluded from the definition. entry->lock must be held. */
bool starting_mend(Agent *agent, AgentVm *entry, HvDomain **hv, GError **error);
