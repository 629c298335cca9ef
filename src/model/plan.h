/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * The planner: which volumes a set of deleted snapshots merges, how, and what that costs. Pure.
 *
 * Deleting any set of snapshots of a disk leaves maximal runs [base..top] of volumes that become
 * one volume each (merge.md section 1). Each run gets one strategy, or the whole disk one:
 *
 *   commit         internal run, running VM: data move down into base
 *   commit-active  run that holds the leaf, running VM: the same, then a pivot
 *   cold-commit    the same, VM off
 *   graft          the disk from its lowest run up to the leaf, running or off: new volumes take
 *                  the place of all of them. They share the blocks of the old ones; no data are
 *                  moved and nothing that exists is changed. Needs storage that can share.
 *   copy           the same by copying: of a run that holds the leaf, or of the disk as graft does
 *                  (usually dear, but where all else is impossible, or a commit moves even more)
 *
 * Three steps, so that what must be looked up lies between two pure functions:
 *
 *   plan_new()     which runs and groups there are; refuses what no strategy could do
 *   the agent      fills in the facts of each group and of the storage (agent/survey.c);
 *                  plan_guess() instead makes upper bounds of what a Vm tells
 *   plan_choose()  every strategy of every run: what it costs, or why it is impossible; then the
 *                  cheapest safe one ("auto"), or the one that was asked for
 *
 * What others stand on (Volume.used_by) is never changed and never deleted: that blocks commits
 * into it and through it; graft and copy leave it where it is.
 *
 * Ownership: plan_free() frees all. Threads: plain data.
 */
#pragma once

#include "model/rates.h"
#include "model/vm.h"

/* clang-format off */
#define STRATEGY_TABLE(X)                        \
    X(STRATEGY_AUTO,          "auto")             \
    X(STRATEGY_COMMIT,        "commit")           \
    X(STRATEGY_COMMIT_ACTIVE, "commit-active")    \
    X(STRATEGY_COPY,          "copy")             \
    X(STRATEGY_GRAFT,         "graft")            \
    X(STRATEGY_COLD_COMMIT,   "cold-commit")

/* How a merge is checked before the old volumes go. */
#define VERIFY_TABLE(X)                                                             \
    X(VERIFY_EXTENTS, "extents") /* the maps: same blocks, nothing left out */       \
    X(VERIFY_NONE,    "none")                                                       \
    X(VERIFY_FULL,    "full")    /* all that the guest sees is read and compared */
/* clang-format on */
#define X(strategy, word) strategy,
typedef enum { STRATEGY_TABLE(X) STRATEGY_LAST } Strategy;
typedef enum { VERIFY_TABLE(X) VERIFY_LAST } Verify;
#undef X
const char *strategy_word(Strategy strategy);
/* Does it make new volumes of what lies below, and leave those as they are? NULL: no. */
bool strategy_is_forward(const char *word);
/* Why no commit may make one volume of this run, or NULL (g_free): it leaves the base's end. */
char *commit_size_blocker(const Volume *base, const Volume *top);
/* Of volumes [base..top] all but the base's file go with a commit, and with them what snapshots
 * they hold inside: why it is not done; NULL = none holds any. The caller frees it. */
char *commit_snapshots_blocker(const Disk *disk, unsigned base, unsigned top);
/* The same of dirty bitmaps, where libvirt is not there to carry them over: the VM is off. */
char *commit_bitmaps_blocker(const Disk *disk, unsigned base, unsigned top);
const char *verify_word(Verify verify);
/* ERR_INVALID that lists the known words */
bool strategy_from_word(const char *word, Strategy *ret_strategy, GError **error);
bool verify_from_word(const char *word, Verify *ret_verify, GError **error); /* NULL = extents */

/* Volumes [base..top] that become one; base == top: a volume that only gets a new one below it,
 * when the disk is grafted. All numbers in bytes of clusters, each guest cluster counted once. */
typedef struct {
    unsigned base, top; /* indices in the chain as it is */
    /* facts, from the maps */
    uint64_t upper;    /* data in (base..top]: what a commit moves */
    uint64_t grow;     /* of these, where base has no cluster: it grows by that */
    uint64_t all;      /* data in [base..top]: what one new volume for them holds */
    uint64_t pieces;   /* share calls for that */
    uint64_t metadata; /* of such a new volume */
    /* of the group that holds the leaf: the leaf alone, and the others without it (what both have
     * counts in both: a running VM's leaf is copied over them) */
    uint64_t leaf, below, below_pieces;
    char *uncarried; /* why the writer of new volumes cannot carry these; NULL = it can */
    char *unread;    /* why these and what is below cannot be compared in full; NULL = they can, or
                        that is not wanted */
} PlanGroup;

typedef struct {
    char *disk_id;
    char *target;      /* "vda" */
    GPtrArray *groups; /* of PlanGroup, from the lowest that is merged up to the leaf's, no gaps */
    char **removed;    /* ids of the volumes whose upper boundary goes */
    /* facts */
    bool exact;     /* from the maps; else upper bounds by what the files take */
    char *storage;  /* directory of the storage domain that new volumes go to */
    bool can_share; /* between all files that take part: one file system, and it can */
    uint64_t free;  /* bytes that may be used there: the reserve is taken off already */
    Rates rates;    /* of that domain */
} PlanDisk;

/* What one strategy would cost for one run (of graft, and of copy of a whole disk: for all). Beside
 * a chosen graft or copy of a disk, commit stands for commits of all its runs. */
typedef struct {
    Strategy strategy;
    char *blocker;          /* NULL = possible; else why not: what blocks, and what would free it */
    uint64_t space_missing; /* bytes, if only that blocks; else 0 */
    uint64_t bytes_read, bytes_written;
    uint64_t space_peak; /* more than now, at the worst moment */
    int64_t space_freed; /* in the end; negative = it takes more */
    double seconds;      /* 0: the strategy does not fit at all, there are no costs */
    unsigned pauses;     /* how often the guest stands still ... */
    double pause_ms;     /* ... and about how long each time */
} PlanOption;

typedef struct {
    char *disk_id;
    char *target;
    char *base; /* volume ids */
    char *top;
    unsigned base_index, top_index; /* in the chain before any run is merged */
    bool has_leaf;
    char **removed;     /* graft, copy: ids of the volumes whose upper boundary goes; else NULL */
    char **kept;        /* paths of volumes that stay: used by others, or read-only; else NULL */
    GPtrArray *options; /* of PlanOption: every one that was thought of, the chosen one first */
} Run;

typedef struct {
    Strategy wanted;
    Verify verify;
    GPtrArray *disks; /* of PlanDisk */
    GPtrArray *runs;  /* of Run, disk by disk, lowest first; empty until plan_choose() */
} Plan;

void plan_free(Plan *plan);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(Plan, plan_free)

/* For deleting these snapshots (NULL-terminated ids) of the VM. only_disk (id or target) may be
 * NULL. Snapshots without such a disk add nothing. Nothing to merge: no disks.
 * Errors: ERR_NOT_FOUND names an unknown snapshot or disk; ERR_REFUSED what stands in the way of
 * every strategy (a disk that is not managed, or busy; a snapshot on the leaf; two snapshots on one
 * boundary); ERR_UNREACHABLE if the state of the VM is not known. */
Plan *plan_new(const Vm *vm, const char *const *snapshot_ids, const char *only_disk,
               Strategy wanted, Verify verify, GError **error);

/* Upper bounds from Volume.allocated for all facts; no sharing, no limit of space, guessed
 * rates. */
void plan_guess(Plan *plan, const Vm *vm);

/* Fills in plan->runs. True also if some run is impossible: ask plan_possible(). */
void plan_choose(Plan *plan, const Vm *vm);

static inline const PlanOption *
run_chosen(const Run *run)
{
    return run->options->pdata[0];
}

/* Why the plan cannot be carried out: ERR_REFUSED (ERR_NO_SPACE if bytes are what is missing: the
 * message says how many, and which strategy would need none) that names VM, disk and reason.
 * True = it can. */
bool plan_possible(const Plan *plan, const Vm *vm, GError **error);

/* {"possible": bool, "why": text, "code": error word, "wanted", "verify", "exact": bool,
 *  "totals": COSTS,
 *  "runs": [{"disk_id", "target", "base", "top", "strategy", "has_leaf", "exact",
 *            "volumes": [{"id", "path"}] (the run as it is, base first), "remove": [id],
 *            "kept": [path], COSTS of the chosen one...,
 *            "options": [{"strategy", "possible", "why", "space_missing", COSTS}]}]}
 * COSTS: bytes_read, bytes_written, space_peak, space_freed, seconds, pauses, pause_ms.
 * Members without a value are left out. The manager stores this and never reads it back into a
 * struct. */
json_t *plan_to_json(const Plan *plan, const Vm *vm);
