/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * A VM and facts of its volumes, for tests of what strategies cost.
 */
#pragma once

#include "model/plan.h"
#include "model_vm.h"

#include <string.h>

#define MIB ((uint64_t)1 << 20)

/* A chain of four: v0 to v3, and what their files take. */
static const uint64_t allocated[] = { 60 * MIB, 12 * MIB, 13 * MIB, 6 * MIB };

/* The facts of groups in MiB; calls for pieces. */
typedef struct {
    unsigned upper, grow, all, pieces, metadata, leaf, below, below_pieces;
} Facts;

/* clang-format off */
/* Delete s0: [v0 v1] [v2] [v3]. The leaf holds so much that graft seals it. */
static const Facts lower_facts[] = { { 10, 4, 50, 7, 3, 0, 0, 0 }, { 0, 0, 11, 2, 1, 0, 0, 0 }, { 0, 0, 5, 4, 2, 5, 0, 0 } };
/* The same with a leaf that holds little. */
static const Facts small_facts[] = { { 10, 4, 50, 7, 3, 0, 0, 0 }, { 0, 0, 11, 2, 1, 0, 0, 0 }, { 0, 0, 3, 4, 2, 3, 0, 0 } };
/* Delete s2: [v2 v3]. Of 11 MiB in v2 and 5 in v3, 2 are in both. */
static const Facts upper_facts[] = { { 5, 3, 14, 6, 1, 5, 11, 3 } };
/* Delete s0 and s2: [v0 v1] [v2 v3]. */
static const Facts both_facts[] = { { 10, 4, 50, 7, 3, 0, 0, 0 }, { 5, 3, 14, 6, 1, 5, 11, 3 } };
static const Facts no_facts[4];
/* clang-format on */

static inline Vm *
make_cost_vm(bool down)
{
    Vm *vm = make_vm(4);
    const Disk *disk = vm_disk(vm, "d1");

    vm->state = down ? VM_DOWN : VM_UP;
    for (guint i = 0; i < disk->volumes->len; i++)
        ((Volume *)disk->volumes->pdata[i])->allocated = allocated[i];
    return vm;
}

/* d2 (vdb), as d1 but its volumes are w0 to w3. */
static inline void
add_twin(Vm *vm)
{
    const Disk *one = vm_disk(vm, "d1");
    Disk *twin = disk_new("d2", "vdb");

    g_ptr_array_add(vm->disks, twin);
    for (guint i = 0; i < one->volumes->len; i++) {
        Volume *volume = volume_copy(one->volumes->pdata[i]);
        volume->id[0] = 'w';
        strstr(volume->path, "/v")[1] = 'w';
        g_ptr_array_add(twin->volumes, volume);
        if (i + 1 < one->volumes->len)
            vm_add_snapshot_disk(vm->snapshots->pdata[i], "d2", volume->id);
    }
}

static inline void
set_facts(PlanDisk *disk, const Facts *facts)
{
    disk->exact = true;
    disk->can_share = true;
    disk->free = UINT64_MAX;
    g_free(disk->storage);
    disk->storage = g_strdup("/dom");
    for (guint i = 0; i < disk->groups->len; i++) {
        PlanGroup *group = disk->groups->pdata[i];
        group->upper = facts[i].upper * MIB;
        group->grow = facts[i].grow * MIB;
        group->all = facts[i].all * MIB;
        group->pieces = facts[i].pieces;
        group->metadata = facts[i].metadata * MIB;
        group->leaf = facts[i].leaf * MIB;
        group->below = facts[i].below * MIB;
        group->below_pieces = facts[i].below_pieces;
    }
}

static inline Plan *
new_plan(const Vm *vm, const char *snapshots, Strategy wanted, Verify verify, const Facts *facts)
{
    g_autoptr(GError) error = NULL;
    g_auto(GStrv) ids = make_ids(snapshots);
    Plan *plan = plan_new(vm, (const char *const *)ids, NULL, wanted, verify, &error);

    g_assert_no_error(error);
    for (guint i = 0; i < plan->disks->len; i++)
        set_facts(plan->disks->pdata[i], facts);
    return plan;
}

static inline const PlanDisk *
plan_disk(const Plan *plan, guint i)
{
    return plan->disks->pdata[i];
}

static inline void
set_free(Plan *plan, uint64_t bytes)
{
    for (guint i = 0; i < plan->disks->len; i++)
        ((PlanDisk *)plan->disks->pdata[i])->free = bytes;
}

static inline const Run *
plan_run(const Plan *plan, guint i)
{
    g_assert_cmpuint(i, <, plan->runs->len);
    return plan->runs->pdata[i];
}

static inline const PlanOption *
chosen_of(const Plan *plan, guint i)
{
    return run_chosen(plan_run(plan, i));
}
