/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * Tests of the planner: how the space that is free and other disks change the choice; and that the
 * choice is never dearer than another strategy, for random VMs and facts.
 */
#include "model_cost.h"

#include <math.h>

/* ---- space */

static void
test_space(void)
{
    /* Needs, MiB. s0: commit 4, graft 6, copy 72. s2: commit-active 3, graft 1, copy 15. */
    /* clang-format off */
    static const struct {
        const char *snapshots;
        const Facts *facts;
        bool share;
        Strategy strategy;
        unsigned free;
        Strategy wanted; /* STRATEGY_LAST: refused */
        const char *say[4];
    } rows[] = {
        { "s0", lower_facts, false, STRATEGY_AUTO,   4, STRATEGY_COMMIT, { NULL } },
        { "s0", lower_facts, false, STRATEGY_AUTO,   3, STRATEGY_LAST, { "commit: needs 1048576 bytes more than are free on /dom (4194304 needed)", "copy: needs 72351744 bytes more than are free on /dom (75497472 needed)", "make at least 1.0 MiB free there" } },
        { "s0", lower_facts, true,  STRATEGY_AUTO,   3, STRATEGY_LAST, { "commit: needs 1048576 bytes more", "graft: needs 3145728 bytes more", "make at least 1.0 MiB free there" } },
        { "s2", upper_facts, true,  STRATEGY_AUTO,   1, STRATEGY_GRAFT, { NULL } },
        { "s2", upper_facts, true,  STRATEGY_COMMIT, 1, STRATEGY_LAST, { "vda of VM 'web1': needs 2097152 bytes more than are free on /dom (3145728 needed)", "make at least 2.0 MiB free there, or ask for the strategy graft, which needs only 1.0 MiB" } },
        { "s2", upper_facts, true,  STRATEGY_COPY,  14, STRATEGY_LAST, { "needs 1048576 bytes more than are free on /dom (15728640 needed)", "or ask for the strategy graft, which needs only 1.0 MiB" } },
        { "s2", upper_facts, false, STRATEGY_COPY,  14, STRATEGY_LAST, { "or ask for the strategy commit-active, which needs only 3.0 MiB" } },
        { "s2", upper_facts, true,  STRATEGY_COPY,  15, STRATEGY_COPY, { NULL } },
        { "s2", upper_facts, true,  STRATEGY_COPY,   0, STRATEGY_LAST, { "needs 15728640 bytes more", "make at least 15.0 MiB free there; nothing" } },
        { "s2", no_facts,    true,  STRATEGY_AUTO,   0, STRATEGY_COMMIT_ACTIVE, { NULL } },
    };
    /* clang-format on */
    for (size_t i = 0; i < G_N_ELEMENTS(rows); i++) {
        g_autoptr(GError) error = NULL;
        g_autoptr(Vm) vm = make_cost_vm(false);
        g_autoptr(Plan) plan =
            new_plan(vm, rows[i].snapshots, rows[i].strategy, VERIFY_EXTENTS, rows[i].facts);

        ((PlanDisk *)plan->disks->pdata[0])->can_share = rows[i].share;
        set_free(plan, rows[i].free * MIB);
        plan_choose(plan, vm);
        bool possible = plan_possible(plan, vm, &error);
        g_test_message("row %zu: %s", i, error != NULL ? error->message : "possible");
        g_assert_cmpint(possible, ==, rows[i].wanted != STRATEGY_LAST);
        if (possible) {
            g_assert_cmpstr(strategy_word(chosen_of(plan, 0)->strategy), ==,
                            strategy_word(rows[i].wanted));
            continue;
        }
        g_assert_error(error, ERR, ERR_NO_SPACE);
        for (int j = 0; rows[i].say[j] != NULL; j++)
            g_assert_nonnull(strstr(error->message, rows[i].say[j]));
    }
}

/* A strategy that needs no room at all is named so. */
static void
test_space_none(void)
{
    static const Facts facts[] = { { 5, 0, 14, 6, 1, 5, 11,
                                     3 } }; /* all of it is in base already */
    g_autoptr(GError) error = NULL;
    g_autoptr(Vm) vm = make_cost_vm(false);
    g_autoptr(Plan) plan = new_plan(vm, "s2", STRATEGY_COPY, VERIFY_EXTENTS, facts);

    set_free(plan, 0);
    plan_choose(plan, vm);
    g_assert_false(plan_possible(plan, vm, &error));
    g_assert_error(error, ERR, ERR_NO_SPACE);
    g_assert_nonnull(strstr(error->message, "the strategy commit-active, which needs none"));
    g_autoptr(json_t) json = plan_to_json(plan, vm);
    g_assert_cmpstr(json_text(json, "code"), ==, "no-space");
    json_t *run = json_array_get(json_object_get(json, "runs"), 0);
    json_t *option = json_array_get(json_object_get(run, "options"), 0);
    g_assert_cmpint(json_number(option, "space_missing"), ==, 15 * (int64_t)MIB);
}

/* Two disks alike. Needs of each, MiB: commit-active 3, graft 1; sharing takes long here, so
 * commits are taken where there is room. */
static void
test_space_of_disks(void)
{
    /* clang-format off */
    static const struct { unsigned free; bool two_storages; Strategy strategy; const char *wanted; /* or what it says */ } rows[] = {
        { 6, false, STRATEGY_AUTO,   "commit-active commit-active" },
        { 5, false, STRATEGY_AUTO,   "commit-active graft" },
        { 4, false, STRATEGY_AUTO,   "commit-active graft" },
        { 3, false, STRATEGY_AUTO,   "graft graft" },
        { 2, false, STRATEGY_AUTO,   "graft graft" },
        { 1, false, STRATEGY_AUTO,   "the merges of vda, vdb together need 1048576 bytes more than are free on /dom (2097152 needed)" },
        { 0, false, STRATEGY_AUTO,   "the merges of vda, vdb together need 2097152 bytes more than are free on /dom (2097152 needed)" },
        { 5, false, STRATEGY_COMMIT, "the merges of vda, vdb together need 1048576 bytes more than are free on /dom (6291456 needed)" },
        { 5, false, STRATEGY_COMMIT, "make at least 1.0 MiB free there, or ask for the strategy graft" },
        { 3, true,  STRATEGY_AUTO,   "commit-active commit-active" },
        { 2, true,  STRATEGY_AUTO,   "graft graft" },
        { 2, true,  STRATEGY_COMMIT, "disk vda of VM 'web1': needs 1048576 bytes more than are free on /dom (3145728 needed)" },
    };
    /* clang-format on */
    for (size_t i = 0; i < G_N_ELEMENTS(rows); i++) {
        g_autoptr(GError) error = NULL;
        g_autoptr(Vm) vm = make_cost_vm(false);
        g_autoptr(GString) found = g_string_new(NULL);

        add_twin(vm);
        g_autoptr(Plan) plan = new_plan(vm, "s2", rows[i].strategy, VERIFY_EXTENTS, upper_facts);
        for (guint j = 0; j < plan->disks->len; j++) {
            PlanDisk *disk = plan->disks->pdata[j];
            disk->rates.value[RATE_SHARE] = 1;
            if (rows[i].two_storages && j > 0) {
                g_free(disk->storage);
                disk->storage = g_strdup("/other");
            }
        }
        set_free(plan, rows[i].free * MIB);
        plan_choose(plan, vm);
        bool possible = plan_possible(plan, vm, &error);
        g_test_message("row %zu: %s", i, error != NULL ? error->message : "possible");
        if (!possible) {
            g_assert_error(error, ERR, ERR_NO_SPACE);
            g_assert_nonnull(strstr(error->message, rows[i].wanted));
            continue;
        }
        for (guint j = 0; j < plan->runs->len; j++)
            g_string_append_printf(found, "%s%s", j > 0 ? " " : "",
                                   strategy_word(chosen_of(plan, j)->strategy));
        /* which of the two disks goes the lean way does not matter */
        if (g_strcmp0(found->str, "graft commit-active") == 0)
            g_string_assign(found, "commit-active graft");
        g_assert_cmpstr(found->str, ==, rows[i].wanted);
    }
}

/* Two disks that differ: MiB that each needs for commit-active (graft needs 1), and calls at one a
 * second that graft would take. */
static void
test_space_of_unlike_disks(void)
{
    /* clang-format off */
    static const struct { unsigned grow[2], calls[2], free[2]; const char *wanted; } rows[] = {
        { { 10, 3 }, { 100, 20 }, { 13, 13 }, "commit-active commit-active" },
        /* less is missing than either would save: the one that costs less time goes over */
        { { 10, 3 }, { 100, 20 }, { 12, 12 }, "commit-active graft" },
        { { 10, 3 }, { 20, 100 }, { 12, 12 }, "graft commit-active" },
        /* the small one would not be enough */
        { { 10, 3 }, { 100, 90 }, { 10, 10 }, "graft commit-active" },
        { { 10, 3 }, { 100, 2 },  { 10, 10 }, "graft commit-active" }, /* it is tried first, and taken back */
        { { 10, 3 }, { 100, 20 }, { 3, 3 },   "graft graft" },
        /* what is free was read twice and has become less: the least counts */
        { { 10, 3 }, { 100, 20 }, { 13, 12 }, "commit-active graft" },
        { { 10, 3 }, { 100, 20 }, { 12, 13 }, "commit-active graft" },
    };
    /* clang-format on */
    for (size_t i = 0; i < G_N_ELEMENTS(rows); i++) {
        g_autoptr(GError) error = NULL;
        g_autoptr(GString) found = g_string_new(NULL);
        g_autoptr(Vm) vm = make_cost_vm(false);

        add_twin(vm);
        g_autoptr(Plan) plan = new_plan(vm, "s2", STRATEGY_AUTO, VERIFY_EXTENTS, upper_facts);
        for (guint j = 0; j < 2; j++) {
            PlanDisk *disk = plan->disks->pdata[j];
            PlanGroup *group = disk->groups->pdata[0];
            disk->rates.value[RATE_SHARE] = 1;
            disk->free = rows[i].free[j] * MIB;
            group->grow = rows[i].grow[j] * MIB;
            group->all = 100 * MIB; /* no copy */
            group->pieces = rows[i].calls[j];
        }
        plan_choose(plan, vm);
        g_test_message("row %zu", i);
        g_assert_true(plan_possible(plan, vm, &error));
        for (guint j = 0; j < plan->runs->len; j++)
            g_string_append_printf(found, "%s%s", j > 0 ? " " : "",
                                   strategy_word(chosen_of(plan, j)->strategy));
        g_assert_cmpstr(found->str, ==, rows[i].wanted);
    }
}

/* A strategy that has room alone, but needs more than what has none together, is no way out. */
static void
test_no_wrong_advice(void)
{
    static const Facts facts[] = { { 3, 3, 4, 6, 1, 3, 1, 3 } }; /* commit-active 3, copy 5 */
    g_autoptr(GError) error = NULL;
    g_autoptr(Vm) vm = make_cost_vm(false);

    add_twin(vm);
    g_autoptr(Plan) plan = new_plan(vm, "s2", STRATEGY_COMMIT, VERIFY_EXTENTS, facts);
    for (guint i = 0; i < 2; i++)
        ((PlanDisk *)plan->disks->pdata[i])->can_share = false;
    set_free(plan, 5 * MIB);
    plan_choose(plan, vm);
    g_assert_false(plan_possible(plan, vm, &error));
    g_assert_error(error, ERR, ERR_NO_SPACE);
    g_assert_nonnull(strstr(error->message, "together need 1048576 bytes more"));
    g_assert_null(strstr(error->message, "copy"));
}

/* Runs of a disk follow each other; what the first keeps, the second does not have. */
static void
test_space_of_runs(void)
{
    /* compressed data grow when they move: 20 MiB out of a file of 12 */
    static const Facts facts[] = { { 20, 20, 50, 7, 3, 0, 0, 0 }, { 15, 15, 20, 6, 1, 5, 11, 3 } };
    g_autoptr(GError) error = NULL;
    g_autoptr(Vm) vm = make_cost_vm(false);
    g_autoptr(Plan) plan = new_plan(vm, "s0 s2", STRATEGY_COMMIT, VERIFY_EXTENTS, facts);

    set_free(plan, 23 * MIB);
    plan_choose(plan, vm);
    g_assert_true(plan_possible(plan, vm, &error));
    set_free(plan, 23 * MIB - 1);
    plan_choose(plan, vm);
    g_assert_false(plan_possible(plan, vm, &error));
    g_assert_error(error, ERR, ERR_NO_SPACE);
    g_assert_nonnull(strstr(error->message, "the merges of vda together need 1 bytes more"));
}

/* ---- properties */

static uint64_t
random_bytes(GRand *rand)
{
    return (uint64_t)(g_rand_double_range(rand, 1, 2) *
                      (double)(1ULL << g_rand_int_range(rand, 0, 38)));
}

static void
random_facts(GRand *rand, PlanDisk *disk)
{
    disk->can_share = g_rand_boolean(rand);
    disk->storage = g_strdup("/dom");
    disk->free = g_rand_boolean(rand) ? UINT64_MAX : random_bytes(rand);
    for (int i = 0; i < RATE_LAST; i++)
        disk->rates.value[i] =
            g_rand_double_range(rand, 1, 2) * (double)(1ULL << g_rand_int_range(rand, 10, 32));
    for (guint i = 0; i < disk->groups->len; i++) {
        PlanGroup *group = disk->groups->pdata[i];
        group->upper = random_bytes(rand);
        group->grow = group->upper / (unsigned)g_rand_int_range(rand, 1, 5);
        group->all = group->upper + random_bytes(rand);
        group->pieces = random_bytes(rand) >> 16;
        group->metadata = random_bytes(rand) >> 10;
        group->leaf = MIN(group->all, random_bytes(rand));
        group->below = group->all - group->leaf / 2;
        group->below_pieces = group->pieces / 2;
        if (g_rand_int_range(rand, 0, 10) == 0)
            group->uncarried = g_strdup("something odd");
    }
}

static Vm *
random_vm(GRand *rand, unsigned *ret_set)
{
    unsigned n = (unsigned)g_rand_int_range(rand, 2, 7);
    Vm *vm = make_vm(n);
    const Disk *disk = vm_disk(vm, "d1");

    vm->state = g_rand_boolean(rand) ? VM_UP : VM_DOWN;
    for (guint i = 0; i < n; i++) {
        Volume *volume = disk->volumes->pdata[i];
        volume->allocated = random_bytes(rand);
        volume->read_only = g_rand_int_range(rand, 0, 12) == 0;
        if (g_rand_int_range(rand, 0, 12) == 0)
            volume->used_by = g_strdup("VM other");
    }
    *ret_set = (unsigned)g_rand_int_range(rand, 1, 1 << (n - 1));
    return vm;
}

/* The same facts, another strategy. */
static Plan *
replan(const Vm *vm, const char *const *ids, Strategy wanted, Verify verify, guint32 seed)
{
    g_autoptr(GRand) rand = g_rand_new_with_seed(seed);
    g_autoptr(GError) error = NULL;
    Plan *plan = plan_new(vm, ids, NULL, wanted, verify, &error);

    g_assert_no_error(error);
    for (guint i = 0; i < plan->disks->len; i++)
        random_facts(rand, plan->disks->pdata[i]);
    plan_choose(plan, vm);
    return plan;
}

static double
total_seconds(const Plan *plan)
{
    double sum = 0;

    for (guint i = 0; i < plan->runs->len; i++)
        sum += chosen_of(plan, i)->seconds;
    return sum;
}

/* What holds for every plan: either one run for all, or one for each merged group; the chosen
 * option first, none twice; and what kind of run has what. */
static void
check_plan(const Plan *plan, const Vm *vm)
{
    const PlanDisk *disk = plan_disk(plan, 0);
    const Disk *chain = vm_disk(vm, disk->disk_id);
    guint next = 0, merged = 0;

    for (guint i = 0; i < disk->groups->len; i++) {
        const PlanGroup *group = disk->groups->pdata[i];
        merged += group->base < group->top;
    }
    g_assert_true(plan->runs->len == 1 || plan->runs->len == merged);
    for (guint i = 0; i < plan->runs->len; i++) {
        const Run *run = plan_run(plan, i);
        const PlanOption *chosen = run_chosen(run);
        bool builds = chosen->strategy == STRATEGY_GRAFT || chosen->strategy == STRATEGY_COPY;
        unsigned seen = 0;

        g_assert_true(i == 0 || run->base_index > next);
        next = run->top_index;
        g_assert_cmpint(run->has_leaf, ==, run->top_index + 1 == chain->volumes->len);
        g_assert_cmpint(run->removed != NULL, ==, builds);
        g_assert_true(!builds || run->has_leaf);
        g_assert_true(builds || run->kept == NULL);
        g_assert_cmpstr(run->base, ==, ((Volume *)chain->volumes->pdata[run->base_index])->id);
        g_assert_cmpstr(run->top, ==, ((Volume *)chain->volumes->pdata[run->top_index])->id);
        for (guint j = 0; j < run->options->len; j++) {
            const PlanOption *option = run->options->pdata[j];
            int64_t files = 0;
            g_assert_cmpuint(seen & (1U << option->strategy), ==, 0);
            seen |= 1U << option->strategy;
            g_assert_true(isfinite(option->seconds));
            for (guint k = 0; k < chain->volumes->len; k++)
                files += (int64_t)((Volume *)chain->volumes->pdata[k])->allocated;
            g_assert_cmpint(option->space_freed, <=, files);
            g_assert_true(option->space_missing == 0 || option->blocker != NULL);
            g_assert_true(option->blocker != NULL || option->space_peak <= disk->free);
        }
    }
}

/* "auto" is possible wherever something is, and never slower than what could be asked for instead
 * (but for what is within the error of estimates). */
static void
test_never_dearer(void)
{
    static const Strategy others[] = { STRATEGY_COMMIT, STRATEGY_COMMIT_ACTIVE,
                                       STRATEGY_COLD_COMMIT, STRATEGY_GRAFT, STRATEGY_COPY };
    unsigned possible = 0, chosen[STRATEGY_LAST] = { 0 };

    for (guint32 seed = 0; seed < 3000; seed++) {
        g_autoptr(GRand) rand = g_rand_new_with_seed(seed);
        g_autoptr(GError) error = NULL;
        unsigned set;
        g_autoptr(Vm) vm = random_vm(rand, &set);
        Verify verify = (Verify)g_rand_int_range(rand, 0, VERIFY_LAST);
        g_autoptr(GPtrArray) ids = g_ptr_array_new();

        for (guint i = 0; i < vm->snapshots->len; i++)
            if (set & (1U << i))
                g_ptr_array_add(ids, ((Snapshot *)vm->snapshots->pdata[i])->id);
        g_ptr_array_add(ids, NULL);
        const char *const *names = (const char *const *)ids->pdata;
        g_autoptr(Plan) plan = replan(vm, names, STRATEGY_AUTO, verify, seed);
        bool can = plan_possible(plan, vm, &error);
        check_plan(plan, vm);
        possible += can;
        if (can)
            chosen[chosen_of(plan, 0)->strategy]++;
        for (size_t i = 0; i < G_N_ELEMENTS(others); i++) {
            g_autoptr(Plan) other = replan(vm, names, others[i], verify, seed);
            check_plan(other, vm);
            if (!plan_possible(other, vm, NULL))
                continue;
            if (error != NULL)
                g_error("seed %u: auto says %s, but %s is possible", seed, error->message,
                        strategy_word(others[i]));
            double slack = others[i] == STRATEGY_COPY ? 0.2 : 0.05;
            double limit = MAX(total_seconds(other) * 1.1, total_seconds(other) + slack);
            if (total_seconds(plan) > limit * (1 + 1e-9))
                g_error("seed %u: auto takes %g s, %s %g s", seed, total_seconds(plan),
                        strategy_word(others[i]), total_seconds(other));
        }
    }
    /* the test has seen all sorts */
    g_assert_cmpuint(possible, >, 1500);
    g_assert_cmpuint(possible, <, 3000);
    for (int i = STRATEGY_COMMIT; i < STRATEGY_LAST; i++)
        g_assert_cmpuint(chosen[i], >, 30);
}

/* More disks on one storage: if any one strategy fits for all, so does auto; what it chooses fits;
 * and no disk alone could go a faster way in the room that the others leave. */
static void
check_together(const Vm *vm, uint64_t free_bytes, guint32 seed)
{
    static const char *const ids[] = { "s0", NULL };
    static const Strategy others[] = { STRATEGY_COMMIT, STRATEGY_GRAFT, STRATEGY_COPY };
    bool can = false;
    g_autoptr(Plan) plan = replan(vm, ids, STRATEGY_AUTO, VERIFY_EXTENTS, seed);
    uint64_t sum = 0;

    set_free(plan, free_bytes);
    plan_choose(plan, vm);
    for (size_t i = 0; i < G_N_ELEMENTS(others); i++) {
        g_autoptr(Plan) other = replan(vm, ids, others[i], VERIFY_EXTENTS, seed);
        set_free(other, free_bytes);
        plan_choose(other, vm);
        can = can || plan_possible(other, vm, NULL);
    }
    if (!plan_possible(plan, vm, NULL)) {
        g_assert_false(can);
        return;
    }
    for (guint i = 0; i < plan->runs->len; i++)
        sum += chosen_of(plan, i)->space_peak;
    g_assert_cmpuint(sum, <=, free_bytes);
    for (guint i = 0; i < plan->runs->len; i++) {
        const Run *run = plan_run(plan, i);
        uint64_t room = free_bytes - (sum - run_chosen(run)->space_peak);
        for (guint j = 1; j < run->options->len; j++) {
            const PlanOption *option = run->options->pdata[j];
            if (option->blocker == NULL && option->space_peak <= room)
                g_assert_cmpfloat(run_chosen(run)->seconds, <=,
                                  MAX(option->seconds * 1.1, option->seconds + 0.05) * (1 + 1e-9));
        }
    }
}

static void
test_together(void)
{
    for (guint32 seed = 0; seed < 1000; seed++) {
        g_autoptr(GRand) rand = g_rand_new_with_seed(seed);
        g_autoptr(Vm) vm = make_vm(2);
        int disks = g_rand_int_range(rand, 2, 6);

        for (int i = 2; i <= disks; i++) {
            g_autofree char *id = g_strdup_printf("d%d", i);
            g_autofree char *base = g_strdup_printf("b%d", i), *leaf = g_strdup_printf("l%d", i);
            Disk *disk = disk_new(id, id);
            g_ptr_array_add(vm->disks, disk);
            g_ptr_array_add(disk->volumes, volume_new(base, base, "qcow2", 1 << 30));
            g_ptr_array_add(disk->volumes, volume_new(leaf, leaf, "qcow2", 1 << 30));
            vm_add_snapshot_disk(vm_snapshot(vm, "s0"), id, base);
        }
        g_test_message("seed %u", seed);
        check_together(vm, random_bytes(rand), seed);
        check_together(vm, (uint64_t)1 << 36, seed);
        check_together(vm, UINT64_MAX, seed);
    }
}

int
main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/space/one", test_space);
    g_test_add_func("/space/none", test_space_none);
    g_test_add_func("/space/disks", test_space_of_disks);
    g_test_add_func("/space/unlike-disks", test_space_of_unlike_disks);
    g_test_add_func("/space/no-wrong-advice", test_no_wrong_advice);
    g_test_add_func("/space/runs", test_space_of_runs);
    g_test_add_func("/space/never-dearer", test_never_dearer);
    g_test_add_func("/space/together", test_together);
    return g_test_run();
}
