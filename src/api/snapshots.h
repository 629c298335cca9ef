/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * A VM with the snapshots that are being taken, for snapshots.c and snapshot_verbs.c.
 */
#pragma once

#include "api/routes.h"

typedef struct {
    Vm *vm;       /* owned */
    guint n_real; /* its snapshots from here on are being taken */
} SnapshotList;

bool snapshot_list_load(Manager *manager, const char *vm_id, SnapshotList *ret_list,
                        GError **error);
void snapshot_list_clear(SnapshotList *list);
G_DEFINE_AUTO_CLEANUP_CLEAR_FUNC(SnapshotList, snapshot_list_clear)
int snapshot_list_index(const SnapshotList *list, const char *snapshot_id); /* -1 = not there */
bool snapshot_list_locked(const SnapshotList *list, Manager *manager, guint i);
/* Always false: ERR_NOT_FOUND */
bool snapshot_list_unknown(const SnapshotList *list, const char *snapshot_id, GError **error);
