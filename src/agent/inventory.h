/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * What the parts of the inventory have of each other.
 */
#pragma once

#include "agent/agent.h"

/* Operations of ours are under way: they alone write the manifest. */
bool agent_is_busy(Agent *agent, const AgentVm *entry);
/* The VM as it stands now; *ret_home is its storage domain, NULL if no disk can be managed, or
 * where its manifest lies is not known. NULL with an error if its manifest cannot be read. */
Vm *agent_build_vm(Agent *agent, AgentVm *entry, const HvDomain *hv, Domain **ret_home,
                   GError **error);

typedef struct {
    GPtrArray *layers; /* NULL = unmanaged */
    Domain *domain;    /* where it lies; NULL = not managed, or its file is not there */
    char *why;
} DiskView;

/* NULL = it can be. */
char *agent_why_not_managed(const HvDisk *disk);
/* The storage domain of the first disk that lies in one with a manifest of the VM; if there is
 * none, of the first disk that can be managed. *ret_home stays NULL: it has none, or *ret_why says
 * why that is not known. *ret_stored is shared. views: of DiskView, one a disk. */
bool agent_find_home(Agent *agent, const AgentVm *entry, const HvDomain *hv, const GPtrArray *views,
                     Domain **ret_home, Vm **ret_stored, char **ret_why, GError **error);

/* The volume of a disk at this path, in its chain or beside it; NULL = none. known may be NULL. */
Volume *agent_known_volume(const Disk *known, const char *path);
