/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * The planner: which volumes a set of deleted snapshots merges, and how. Pure.
 *
 * Deleting any set of snapshots of a disk leaves maximal runs [base..top] of
 * volumes that become one volume each (merge.md section 1). Each run gets one strategy:
 *
 *   commit         internal run, data moves down into base
 *   commit-active  run that holds the leaf, the same, then a pivot
 *   copy           run that holds the leaf, forward: a new volume takes all data, then a pivot
 *   cold-commit    VM off
 *   graft          running VM on storage whose files share blocks: new volumes take the place of
 *                  everything from the lowest that is merged up to the leaf; no data are moved and
 * nothing that exists is changed. All runs of a disk in one. So far only where it is asked for.
 *
 * "auto" takes the cheapest safe one: backward, unless base is read-only or used by
 * somebody else, which leaves copy. A forced strategy that is unsafe or impossible is
 * refused with the reason. A run is refused for every strategy if somebody else stands on
 * a volume above its base: the file would vanish, or (above an internal run) its header change.
 *
 * copy takes every file of the run out of the chain. A base that is read-only or used by somebody
 * else stays where it is then: whoever deletes the others must leave it.
 */
#pragma once

#include "model/vm.h"

/* clang-format off */
#define STRATEGY_TABLE(X)                        \
    X(STRATEGY_AUTO,          "auto")             \
    X(STRATEGY_COMMIT,        "commit")           \
    X(STRATEGY_COMMIT_ACTIVE, "commit-active")    \
    X(STRATEGY_COPY,          "copy")             \
    X(STRATEGY_GRAFT,         "graft")            \
    X(STRATEGY_COLD_COMMIT,   "cold-commit")
/* clang-format on */
#define X(strategy, word) strategy,
typedef enum { STRATEGY_TABLE(X) STRATEGY_LAST } Strategy;
#undef X
const char *strategy_word(Strategy strategy);
/* ERR_INVALID that lists the known words */
bool strategy_from_word(const char *word, Strategy *ret_strategy, GError **error);

typedef struct {
    char *disk_id;
    char *target; /* "vda" */
    char *base;   /* volume ids */
    char *top;
    unsigned base_index, top_index; /* in the chain before any run is merged */
    bool has_leaf;
    Strategy strategy;
    char **removed; /* graft: ids of the volumes whose upper boundary goes; else NULL */
    uint64_t bytes; /* upper bound of what moves: allocation above base, or all of it for copy */
} Run;

void run_free(Run *run);

/* The runs (GPtrArray of Run, disk by disk, lowest run first) for deleting these snapshots
 * (NULL-terminated ids) of the VM. only_disk (id or target) may be NULL.
 * Snapshots without such a disk add no run. Nothing to merge: an empty array.
 * Errors: ERR_NOT_FOUND names an unknown snapshot or disk; ERR_REFUSED says why a run cannot be
 * merged; ERR_UNREACHABLE if the state of the VM is not known. */
GPtrArray *plan_runs(const Vm *vm, const char *const *snapshot_ids, const char *only_disk,
                     Strategy wanted, GError **error);
