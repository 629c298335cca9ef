/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * Mistakes put in on purpose, one at a time, in front of the product's functions: a simulator that
 * does not find them is worth nothing.
 */
#include "world.h"

#include "agent/branch.h"
#include "agent/clone.h"
#include "agent/lost_merge.h"
#include "agent/merge.h"
#include "storage/guard.h"

#include <string.h>

#pragma GCC diagnostic ignored "-Wmissing-prototypes"
#define WRAP(name) __wrap_##name
#define REAL(name) __real_##name

int __wrap_unlink(const char *path);

const char *const mutant_words[MUTANTS] = {
    "none",         "no-suspend", "late-journal", "no-tombstone", "no-load",     "blind-delete",
    "alone",        "talk",       "late-switch",  "early-delete", "no-sync",     "stop-any",
    "no-guard",     "early-undo", "own-list",     "remove-first", "early-clone", "old-memory",
    "loose-memory", "old-config", "believes",     "forgets"
};

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

/* ---- a stop that means whichever instance runs ---- */

const char *REAL(op_data)(const Operation *op, const char *key);
const char *
WRAP(op_data)(const Operation *op, const char *key)
{
    const char *value = REAL(op_data)(op, key);

    return plan.mutant == MUTANT_STOP_ANY && value != NULL && *value != '\0' &&
                   strcmp(key, "instance") == 0 && vm.runs
               ? vm.instance
               : value;
}

/* ---- trying a snapshot ---- */

void REAL(guard_look)(const GuardManifest *manifest, const char *target, const char *source,
                      const char *format, GuardFinding *ret_finding);
void
WRAP(guard_look)(const GuardManifest *manifest, const char *target, const char *source,
                 const char *format, GuardFinding *ret_finding)
{
    memset(ret_finding, 0, sizeof *ret_finding);
    if (plan.mutant != MUTANT_NO_GUARD)
        REAL(guard_look)(manifest, target, source, format, ret_finding);
}

bool REAL(vm_undo_preview)(Vm *vm, GPtrArray *left, GError **error);
bool
WRAP(vm_undo_preview)(Vm *tried, GPtrArray *left, GError **error)
{
    if (!REAL(vm_undo_preview)(tried, left, error))
        return false;
    for (guint i = 0; plan.mutant == MUTANT_EARLY_UNDO && i < left->len; i++)
        __wrap_unlink(left->pdata[i]);
    return true;
}

bool REAL(volume_holds_data)(const char *path);
bool
WRAP(volume_holds_data)(const char *path)
{
    return plan.mutant != MUTANT_OLD_MEMORY && REAL(volume_holds_data)(path);
}

bool REAL(volume_sync)(const char *path, GError **error);
bool
WRAP(volume_sync)(const char *path, GError **error)
{
    return (plan.mutant == MUTANT_LOOSE_MEMORY && g_str_has_suffix(path, ".memory")) ||
           REAL(volume_sync)(path, error);
}

bool REAL(branch_configure)(Operation *op, const char *config, const json_t *disks, const char *key,
                            const char *format_key, GError **error);
bool
WRAP(branch_configure)(Operation *op, const char *config, const json_t *disks, const char *key,
                       const char *format_key, GError **error)
{
    return REAL(branch_configure)(op, plan.mutant == MUTANT_OLD_CONFIG ? NULL : config, disks, key,
                                  format_key, error);
}

/* ---- cloning ---- */

StepState REAL(clone_build_check)(void *op, GError **error);
StepState
WRAP(clone_build_check)(void *op, GError **error)
{
    StepState state = REAL(clone_build_check)(op, error);

    return plan.mutant == MUTANT_EARLY_CLONE && state == STEP_RUNNING ? STEP_DONE : state;
}

/* ---- commits that by the headers are done (H13) ---- */

bool REAL(merge_judge_commit)(Operation *op, const HvDomain *hv, ChainState *ret_state,
                              GError **error);
bool
WRAP(merge_judge_commit)(Operation *op, const HvDomain *hv, ChainState *ret_state, GError **error)
{
    if (plan.mutant != MUTANT_BELIEVES)
        return REAL(merge_judge_commit)(op, hv, ret_state, error);
    *ret_state = CHAIN_AFTER;
    return true;
}

bool REAL(merge_before_start)(Agent *agent, AgentVm *entry, bool quiet, GError **error);
bool
WRAP(merge_before_start)(Agent *agent, AgentVm *entry, bool quiet, GError **error)
{
    return plan.mutant == MUTANT_BELIEVES || REAL(merge_before_start)(agent, entry, quiet, error);
}

bool REAL(lost_merge_find)(Agent *agent, const Vm *stored, const Disk *disk,
                           const GPtrArray *layers, LostMerge *ret_lost);
bool
WRAP(lost_merge_find)(Agent *agent, const Vm *stored, const Disk *disk, const GPtrArray *layers,
                      LostMerge *ret_lost)
{
    return plan.mutant != MUTANT_FORGETS &&
           REAL(lost_merge_find)(agent, stored, disk, layers, ret_lost);
}

/* ---- removing a VM ---- */

char *REAL(agent_user_of)(Agent *agent, const char *vm_id, const char *path);
char *
WRAP(agent_user_of)(Agent *agent, const char *vm_id, const char *path)
{
    return plan.mutant == MUTANT_OWN_LIST ? NULL : REAL(agent_user_of)(agent, vm_id, path);
}

/* The volumes go while the definition still names them. */
void
mutant_before_undefine(const char *vm_id)
{
    for (unsigned i = 0; plan.mutant == MUTANT_REMOVE_FIRST && i < vm.n_disks; i++)
        if (strcmp(vm_id, vm.id) == 0)
            __wrap_unlink(vm.disks[i].defined);
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

/* Nor does it look whether the manifest names the volume. */
const Disk *REAL(vm_disk_by_path)(const Vm *stored, const char *path);
const Disk *
WRAP(vm_disk_by_path)(const Vm *stored, const char *path)
{
    return mutant_is_blind() ? NULL : REAL(vm_disk_by_path)(stored, path);
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
    if (plan.mutant != MUTANT_BLIND_DELETE && plan.mutant != MUTANT_OWN_LIST)
        return REAL(volume_delete)(domain, op_id, path, mode, error);
    __wrap_unlink(path);
    vfs_sync(vfs_find(HOME));
    return true;
}
