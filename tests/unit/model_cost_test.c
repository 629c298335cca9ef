/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * Tests of the planner: what strategies cost, to the byte, and how the measured rates of the
 * storage decide between them.
 */
#include "model_cost.h"

/* ---- to the byte */

enum { DOWN = 1, V2_USED = 2, FULL = 4, V0_READ_ONLY = 8, SMALL = 16 };

static Vm *
special_vm(unsigned special)
{
    Vm *vm = make_cost_vm(special & DOWN);

    if (special & V2_USED)
        disk_volume(vm_disk(vm, "d1"), "v2")->used_by = g_strdup("VM web2");
    disk_volume(vm_disk(vm, "d1"), "v0")->read_only = special & V0_READ_ONLY;
    if (special & SMALL)
        disk_volume(vm_disk(vm, "d1"), "v3")->allocated = 4 * MIB;
    return vm;
}

static void
test_costs(void)
{
    /* clang-format off */
    static const struct {
        const char *snapshot;
        const Facts *facts;
        unsigned special;
        Strategy strategy;
        int read, written, peak, freed; /* MiB */
        unsigned pauses;
        int at[RATE_LAST]; /* MiB (share: calls) at each rate: commit, cold, copy, share, read */
    } rows[] = {
        /* an internal run */
        { "s0", lower_facts, 0,            STRATEGY_COMMIT,        10, 10,  4,  8, 0, { 10 } },
        { "s0", lower_facts, FULL,         STRATEGY_COMMIT,        30, 10,  4,  8, 0, { 10, 0, 0, 0, 20 } },
        { "s0", lower_facts, DOWN,         STRATEGY_COLD_COMMIT,   10, 10,  4,  8, 0, { 0, 10 } },
        { "s0", lower_facts, DOWN | FULL,  STRATEGY_COLD_COMMIT,   30, 10,  4,  8, 0, { 0, 10, 0, 0, 20 } },
        { "s0", lower_facts, 0,            STRATEGY_GRAFT,          0,  6,  6, 19, 2, { 0, 0, 6, 13 } },
        { "s0", lower_facts, DOWN,         STRATEGY_GRAFT,          0,  6,  6, 19, 0, { 0, 0, 6, 13 } },
        { "s0", small_facts, SMALL,        STRATEGY_GRAFT,          3,  9,  9, 19, 1, { 3, 0, 6, 9 } },
        { "s0", small_facts, SMALL | FULL, STRATEGY_GRAFT,        125,  9,  9, 19, 1, { 3, 0, 6, 9, 122 } },
        { "s0", small_facts, SMALL | DOWN, STRATEGY_GRAFT,          0,  6,  6, 19, 0, { 0, 0, 6, 13 } },
        { "s0", lower_facts, FULL,         STRATEGY_GRAFT,        132,  6,  6, 19, 2, { 0, 0, 6, 13, 132 } },
        { "s0", lower_facts, 0,            STRATEGY_COPY,          66, 72, 72, 19, 1, { 5, 0, 67 } },
        { "s0", lower_facts, DOWN,         STRATEGY_COPY,          66, 72, 72, 19, 0, { 0, 0, 72 } },
        { "s0", lower_facts, FULL,         STRATEGY_COPY,         188, 72, 72, 19, 1, { 5, 0, 67, 0, 122 } },
        { "s0", lower_facts, DOWN | FULL,  STRATEGY_COPY,         198, 72, 72, 19, 0, { 0, 0, 72, 0, 132 } },
        /* the run that holds the leaf */
        { "s2", upper_facts, 0,            STRATEGY_COMMIT_ACTIVE,  5,  5,  3,  3, 1, { 5 } },
        { "s2", upper_facts, DOWN,         STRATEGY_COLD_COMMIT,    5,  5,  3,  3, 0, { 0, 5 } },
        { "s2", upper_facts, 0,            STRATEGY_GRAFT,          0,  1,  1,  4, 2, { 0, 0, 1, 6 } },
        { "s2", upper_facts, 0,            STRATEGY_COPY,          16, 17, 15,  4, 1, { 5, 0, 12 } },
        { "s2", upper_facts, DOWN,         STRATEGY_COPY,          14, 15, 15,  4, 0, { 0, 0, 15 } },
        /* all in one */
        { "s0 s2", both_facts, 0,          STRATEGY_GRAFT,          0,  4,  4, 23, 2, { 0, 0, 4, 13 } },
        { "s0 s2", both_facts, 0,          STRATEGY_COPY,          66, 70, 68, 23, 1, { 5, 0, 65 } },
        /* what stays frees nothing, and what is shared with it costs nothing */
        { "s2", upper_facts, V2_USED,      STRATEGY_GRAFT,          0,  1,  1, -1, 2, { 0, 0, 1, 6 } },
        { "s2", upper_facts, V2_USED,      STRATEGY_COPY,          16, 17, 15, -9, 1, { 5, 0, 12 } },
        { "s0", lower_facts, V2_USED,      STRATEGY_GRAFT,          0,  6,  6, -6, 2, { 0, 0, 6, 13 } },
        { "s0", lower_facts, V2_USED,      STRATEGY_COPY,          66, 72, 72, -66, 1, { 5, 0, 67 } },
        { "s0", lower_facts, V0_READ_ONLY, STRATEGY_COPY,          66, 72, 72, -41, 1, { 5, 0, 67 } },
        { "s0", lower_facts, V0_READ_ONLY | DOWN, STRATEGY_GRAFT,   0,  6,  6, -6, 0, { 0, 0, 6, 13 } },
    };
    /* clang-format on */
    for (size_t i = 0; i < G_N_ELEMENTS(rows); i++) {
        g_autoptr(Vm) vm = special_vm(rows[i].special);
        Verify verify = rows[i].special & FULL ? VERIFY_FULL : VERIFY_EXTENTS;
        g_autoptr(Plan) plan =
            new_plan(vm, rows[i].snapshot, rows[i].strategy, verify, rows[i].facts);
        g_autoptr(Plan) empty =
            new_plan(vm, rows[i].snapshot, rows[i].strategy, VERIFY_EXTENTS, no_facts);
        double data = 0, fixed;

        plan_choose(plan, vm);
        plan_choose(empty, vm);
        const PlanOption *option = chosen_of(plan, 0);
        g_test_message("row %zu: %s %s, special %x", i, rows[i].snapshot,
                       strategy_word(rows[i].strategy), rows[i].special);
        g_assert_cmpuint(plan->runs->len, ==, 1);
        g_assert_null(option->blocker);
        g_assert_cmpint(option->strategy, ==, rows[i].strategy);
        g_assert_cmpint((int64_t)option->bytes_read, ==, rows[i].read * (int64_t)MIB);
        g_assert_cmpint((int64_t)option->bytes_written, ==, rows[i].written * (int64_t)MIB);
        g_assert_cmpint((int64_t)option->space_peak, ==, rows[i].peak * (int64_t)MIB);
        g_assert_cmpint(option->space_freed, ==, rows[i].freed * (int64_t)MIB);
        g_assert_cmpuint(option->pauses, ==, rows[i].pauses);
        g_assert_cmpint(option->pause_ms > 0, ==, rows[i].pauses > 0);
        for (int rate = 0; rate < RATE_LAST; rate++)
            data += rows[i].at[rate] * (rate == RATE_SHARE ? 1.0 : (double)MIB) /
                    plan_disk(plan, 0)->rates.value[rate];
        fixed = chosen_of(empty, 0)->seconds; /* what there is besides the data */
        g_assert_cmpfloat_with_epsilon(option->seconds, fixed + data, 1e-9);
        g_assert_cmpfloat(fixed, >, 0.03);
        g_assert_cmpfloat(fixed, <, 0.3);
    }
}

/* More runs of one disk: the bytes add up; the space is needed one after the other. */
static void
test_sum(void)
{
    g_autoptr(Vm) vm = make_cost_vm(false);
    g_autoptr(Plan) plan = new_plan(vm, "s0 s2", STRATEGY_COMMIT, VERIFY_EXTENTS, both_facts);

    plan_choose(plan, vm);
    g_assert_cmpuint(plan->runs->len, ==, 2);
    g_autoptr(json_t) json = plan_to_json(plan, vm);
    json_t *totals = json_object_get(json, "totals");
    g_assert_cmpint(json_number(totals, "bytes_read"), ==, 15 * (int64_t)MIB);
    g_assert_cmpint(json_number(totals, "bytes_written"), ==, 15 * (int64_t)MIB);
    g_assert_cmpint(json_number(totals, "space_peak"), ==, 4 * (int64_t)MIB);
    g_assert_cmpint(json_number(totals, "space_freed"), ==, 11 * (int64_t)MIB);
    g_assert_cmpint(json_number(totals, "pauses"), ==, 1);
    g_assert_cmpfloat_with_epsilon(json_number_value(json_object_get(totals, "seconds")),
                                   chosen_of(plan, 0)->seconds + chosen_of(plan, 1)->seconds, 1e-9);
}

/* More disks: they go side by side, the space is needed at once. */
static void
test_sum_of_disks(void)
{
    g_autoptr(Vm) vm = make_cost_vm(false);

    add_twin(vm);
    g_autoptr(Plan) plan = new_plan(vm, "s0 s2", STRATEGY_COMMIT, VERIFY_EXTENTS, both_facts);
    plan_choose(plan, vm);
    g_assert_cmpuint(plan->runs->len, ==, 4);
    g_autoptr(json_t) json = plan_to_json(plan, vm);
    json_t *totals = json_object_get(json, "totals");
    g_assert_cmpint(json_number(totals, "bytes_written"), ==, 30 * (int64_t)MIB);
    g_assert_cmpint(json_number(totals, "space_peak"), ==, 8 * (int64_t)MIB);
    g_assert_cmpint(json_number(totals, "space_freed"), ==, 22 * (int64_t)MIB);
    g_assert_cmpint(json_number(totals, "pauses"), ==, 2);
}

static void
test_guess(void)
{
    /* clang-format off */
    static const struct { const char *snapshots; guint group; uint64_t upper, all, leaf, below; } rows[] = { /* MiB */
        { "s0",       0, 12, 72,  0,  0 },
        { "s0",       1,  0, 13,  0,  0 },
        { "s0",       2,  0,  6,  6,  0 },
        { "s2",       0,  6, 19,  6, 13 },
        { "s0 s1 s2", 0, 31, 80,  6, 80 }, /* not more than the 80 MiB that the guest sees */
    };
    /* clang-format on */
    g_autoptr(Vm) vm = make_cost_vm(false);

    for (guint i = 0; i < 4; i++)
        disk_volume(vm_disk(vm, "d1"), (const char *[]){ "v0", "v1", "v2", "v3" }[i])
            ->virtual_size = 80 * MIB;
    for (size_t i = 0; i < G_N_ELEMENTS(rows); i++) {
        g_autoptr(Plan) plan =
            new_plan(vm, rows[i].snapshots, STRATEGY_AUTO, VERIFY_EXTENTS, lower_facts);

        plan_guess(plan, vm);
        const PlanDisk *disk = plan_disk(plan, 0);
        const PlanGroup *group = disk->groups->pdata[rows[i].group];
        g_test_message("row %zu: %s", i, rows[i].snapshots);
        g_assert_false(disk->exact);
        g_assert_false(disk->can_share);
        g_assert_cmpstr(disk->storage, ==, "/dom");
        g_assert_cmpuint(disk->free, ==, UINT64_MAX);
        g_assert_cmpuint(group->upper, ==, rows[i].upper * MIB);
        g_assert_cmpuint(group->grow, ==, rows[i].upper * MIB);
        g_assert_cmpuint(group->all, ==, rows[i].all * MIB);
        g_assert_cmpuint(group->leaf, ==, rows[i].leaf * MIB);
        g_assert_cmpuint(group->below, ==, rows[i].below * MIB);
        g_assert_cmpuint(group->pieces, >=, group->all / 65536);
        g_assert_cmpuint(group->metadata, >=, 5 * 65536 + group->all / 8192);
        g_assert_cmpuint(group->metadata, <, 2 * MIB);
        plan_choose(plan, vm);
        g_assert_true(plan_possible(plan, vm, NULL));
    }
}

/* ---- the choice by rates */

static void
test_rates(void)
{
    /* Delete s2, nothing can be shared: commit-active moves 400 MiB, copy 300 from below and 400.
     */
    static const Facts big[] = { { 400, 100, 600, 40, 1, 400, 300, 30 } };
    /* The base is small: who copies copies little more than who commits. */
    static const Facts small_base[] = { { 1000, 990, 1010, 40, 1, 4, 1008, 30 } };
    /* clang-format off */
    static const struct {
        const Facts *facts;
        bool down, share;
        double commit, fill, cold, copy, calls; /* rates; MB/s, calls/s */
        Strategy wanted;
    } rows[] = {
        { big,        false, false, 250, 250, 400, 500,  30e3, STRATEGY_COMMIT_ACTIVE },
        { big,        false, false, 250, 250, 400, 5000, 30e3, STRATEGY_COMMIT_ACTIVE },
        { big,        false, true,  250, 250, 400, 500,  30e3, STRATEGY_GRAFT },
        { big,        false, true,  250, 250, 400, 500,  4,    STRATEGY_COMMIT_ACTIVE },
        { big,        true,  false, 250, 250, 400, 500,  30e3, STRATEGY_COLD_COMMIT },
        { big,        true,  false, 250, 250, 100, 500,  30e3, STRATEGY_COPY },
        { big,        true,  true,  250, 250, 100, 500,  30e3, STRATEGY_GRAFT },
        { small_base, false, false, 250, 250, 400, 500,  30e3, STRATEGY_COPY },
        { small_base, false, false, 500, 500, 400, 500,  30e3, STRATEGY_COMMIT_ACTIVE }, /* alike: fewer bytes */
        { small_base, false, false, 250, 250, 400, 250,  30e3, STRATEGY_COMMIT_ACTIVE },
        { small_base, true,  false, 250, 250, 500, 510,  30e3, STRATEGY_COLD_COMMIT },
        { small_base, true,  false, 250, 250, 400, 800,  30e3, STRATEGY_COPY },
        /* what grows the base is slower than what lies over it */
        { small_base, false, false, 900, 250, 400, 500,  30e3, STRATEGY_COPY },
        { small_base, false, false, 250, 900, 400, 500,  30e3, STRATEGY_COMMIT_ACTIVE },
        { big,        false, false, 900, 250, 400, 5000, 30e3, STRATEGY_COMMIT_ACTIVE },
    };
    /* clang-format on */
    for (size_t i = 0; i < G_N_ELEMENTS(rows); i++) {
        g_autoptr(Vm) vm = make_cost_vm(rows[i].down);
        g_autoptr(Plan) plan = new_plan(vm, "s2", STRATEGY_AUTO, VERIFY_EXTENTS, rows[i].facts);
        PlanDisk *disk = plan->disks->pdata[0];

        disk->can_share = rows[i].share;
        disk->rates.value[RATE_COMMIT] = rows[i].commit * 1e6;
        disk->rates.value[RATE_FILL] = rows[i].fill * 1e6;
        disk->rates.value[RATE_COLD] = rows[i].cold * 1e6;
        disk->rates.value[RATE_COPY] = rows[i].copy * 1e6;
        disk->rates.value[RATE_SHARE] = rows[i].calls;
        plan_choose(plan, vm);
        g_test_message("row %zu", i);
        g_assert_cmpstr(strategy_word(chosen_of(plan, 0)->strategy), ==,
                        strategy_word(rows[i].wanted));
    }
}

int
main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/cost/bytes", test_costs);
    g_test_add_func("/cost/sum", test_sum);
    g_test_add_func("/cost/sum-of-disks", test_sum_of_disks);
    g_test_add_func("/cost/guess", test_guess);
    g_test_add_func("/cost/rates", test_rates);
    return g_test_run();
}
