/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * What the two halves of the inventory have of each other.
 */
#pragma once

#include "agent/agent.h"

/* Operations of ours are under way: they alone write the manifest. */
bool agent_is_busy(Agent *agent, const AgentVm *entry);
/* The VM as it stands now; *ret_home is its storage domain, NULL if no disk can be managed. NULL
 * with an error if its manifest cannot be read. */
Vm *agent_build_vm(Agent *agent, AgentVm *entry, const HvDomain *hv, Domain **ret_home,
                   GError **error);
/* The volume of a disk at this path, in its chain or beside it; NULL = none. known may be NULL. */
Volume *agent_known_volume(const Disk *known, const char *path);
