/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * Mistakes put in on purpose, one at a time, in front of the product's functions: a simulator that
 * does not find them is worth nothing.
 */
#include "world.h"

#include "agent/merge.h"

#include <string.h>

#pragma GCC diagnostic ignored "-Wmissing-prototypes"
#define WRAP(name) __wrap_##name
#define REAL(name) __real_##name

int __wrap_unlink(const char *path);

const char *const mutant_words[MUTANTS] = { "none",         "no-suspend", "late-journal",
                                            "no-tombstone", "no-load",    "blind-delete",
                                            "alone",        "talk",       "late-switch",
                                            "early-delete", "no-sync" };

static JournalRow late; /* of MUTANT_LATE_JOURNAL: what is not written yet */

void
mutants_reset(void)
{
    memset(&late, 0, sizeof late);
}

/* ---- the journal ---- */

bool REAL(journal_update)(Journal *journal, const JournalRow *row, GError **error);

static bool
write_late(Journal *journal, GError **error)
{
    JournalRow row = late;

    late.id = NULL;
    return row.id == NULL || REAL(journal_update)(journal, &row, error);
}

static JournalRow
copy_row(const JournalRow *row)
{
    JournalRow copy = *row;

    copy.id = g_strdup(row->id);
    copy.step = g_strdup(row->step);
    copy.error_word = g_strdup(row->error_word);
    copy.error_text = g_strdup(row->error_text);
    copy.data = json_deep_copy(row->data);
    return copy;
}

bool
WRAP(journal_update)(Journal *journal, const JournalRow *row, GError **error)
{
    if (plan.mutant != MUTANT_LATE_JOURNAL)
        return REAL(journal_update)(journal, row, error);
    if (!write_late(journal, error))
        return false;
    late = copy_row(row);
    return true;
}

bool REAL(journal_tombstone)(Journal *journal, const char *id, GError **error);
bool
WRAP(journal_tombstone)(Journal *journal, const char *id, GError **error)
{
    return plan.mutant == MUTANT_NO_TOMBSTONE || REAL(journal_tombstone)(journal, id, error);
}

GPtrArray *REAL(journal_load)(Journal *journal, GError **error);
GPtrArray *
WRAP(journal_load)(Journal *journal, GError **error)
{
    late.id = NULL; /* of the agent that died */
    return plan.mutant == MUTANT_NO_LOAD ? g_ptr_array_new() : REAL(journal_load)(journal, error);
}

/* ---- a pivot that does not look at the other disks of its VM ---- */

static void *turned; /* the operation whose pivot is at work */

bool REAL(pivot_act)(void *self, GError **error);
bool
WRAP(pivot_act)(void *self, GError **error)
{
    turned = self;
    return REAL(pivot_act)(self, error);
}

bool REAL(merge_flag)(const Operation *op, const char *key);
bool
WRAP(merge_flag)(const Operation *op, const char *key)
{
    if (plan.mutant == MUTANT_ALONE && op != turned && strcmp(key, "pivoting") == 0)
        return false;
    return REAL(merge_flag)(op, key);
}

/* ---- the switch ---- */

/* The old leaf is no longer the truth, though it holds writes that the new one lacks; whoever finds
 * the VM off takes the new one. */
void
mutant_before_pivot(void)
{
    g_autoptr(GError) error = NULL;

    if (plan.mutant != MUTANT_TALK || turned == NULL)
        return;
    merge_save_chain(turned, false, &error);
    fiber_sleep_us(20000); /* the agent is not always quick */
}

bool REAL(merge_save_chain)(Operation *op, bool settled, GError **error);
bool
WRAP(merge_save_chain)(Operation *op, bool settled, GError **error)
{
    if (plan.mutant == MUTANT_LATE_SWITCH && !settled)
        return true;
    if (plan.mutant == MUTANT_EARLY_DELETE && !settled)
        __wrap_unlink(merge_old_leaf(op));
    return REAL(merge_save_chain)(op, settled, error);
}

bool
mutant_syncs_nothing(void)
{
    return plan.mutant == MUTANT_NO_SYNC && fiber_inside() && fiber_process() == P_AGENT;
}

/* ---- deleting ---- */

/* A delete is at work: it holds the VM's start lock. */
bool
mutant_is_blind(void)
{
    g_autofree char *path = NULL;
    const VfsNode *node;

    if (plan.mutant != MUTANT_BLIND_DELETE || fiber_process() != P_AGENT)
        return false;
    path = g_strdup_printf(HOME "/.livemerge/vms/%s.lock", vm.id);
    node = vfs_find(path);
    return node != NULL && node->locks->len > 0;
}

bool REAL(volume_is_open)(const char *path);
bool
WRAP(volume_is_open)(const char *path)
{
    return plan.mutant != MUTANT_BLIND_DELETE && REAL(volume_is_open)(path);
}

bool REAL(volume_delete)(const Domain *domain, const char *op_id, const char *path, TrashWhat mode,
                         GError **error);
bool
WRAP(volume_delete)(const Domain *domain, const char *op_id, const char *path, TrashWhat mode,
                    GError **error)
{
    if (plan.mutant != MUTANT_BLIND_DELETE)
        return REAL(volume_delete)(domain, op_id, path, mode, error);
    __wrap_unlink(path);
    vfs_sync(vfs_find(HOME));
    return true;
}
