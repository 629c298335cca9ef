/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * Taking over storage whose manager was lost. The manifests and the headers are the truth, so the
 * VMs and their snapshots are there by themselves; what is missing is the end of what the lost
 * manager had under way, and snapshots whose manifest was lost with it.
 *
 * import_todo.c  what is to be done for a VM, by its manifest and the names of its files
 * import.c       the operation "import", which does it
 * import_look.c  the answer to POST /v1/import: everything that is there
 */
#pragma once

#include "agent/operation.h"

/* Of a VM whose operations have all ended:
 *   {"adopt":  [{"id", "name", "date", "memory", "disks": [{"disk_id", "volume_id"}]}],
 *    "delete": [path...],
 *    "forget": [{"id", "name"}]}
 * adopt: a boundary in a chain that no snapshot owns, although the volume above has a name that a
 * snapshot of ours gives. delete: leftovers of merges. forget: snapshots that a delete has merged
 * on all disks. The same manifest gives the same answer. */
json_t *import_todo(const Vm *vm);
bool import_is_needed(const json_t *todo);
/* Does what "adopt" says to the VM. */
void import_adopt(Vm *vm, const json_t *adopt);

/* POST /v1/import {"path": DIR (absent = all storage domains), "dry_run": bool}: looks at all VMs
 * that have files there as if their QEMU had crashed, and says what is there (wire.h). Changes
 * nothing but that DIR becomes a storage domain, unless it is a dry run. */
bool import_answer(Agent *agent, const json_t *body, json_t **ret_json, GError **error);
