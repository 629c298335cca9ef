/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * Tests of the planner: every subset of the snapshots of a chain, planned and carried out on the
 * model; the words, and the JSON that the manager shows.
 */
#include "model_cost.h"

/* ---- every subset */

/* What carrying out a run makes of the VM: a commit leaves base, the others new volumes, one for
 * each group. */
static void
apply_run(Vm *vm, const Plan *plan, const Run *run)
{
    const PlanDisk *disk = plan->disks->pdata[0];
    bool builds = run->removed != NULL;
    g_autoptr(GError) error = NULL;
    g_autoptr(Vm) original = vm_copy(vm);

    if (!builds) {
        g_assert_true(vm_apply_merge(vm, run->disk_id, run->base, run->top, NULL, &error));
        return;
    }
    for (guint i = 0; i < disk->groups->len; i++) {
        const PlanGroup *group = disk->groups->pdata[i];
        const Disk *old = vm_disk(original, run->disk_id);
        g_autofree char *id = g_strdup_printf("new%u", i);
        g_autoptr(Volume) volume = volume_new(id, id, "qcow2", 1);
        const Volume *base = old->volumes->pdata[group->base];
        const Volume *top = old->volumes->pdata[group->top];

        if (group->base < run->base_index)
            continue;
        g_assert_true(vm_apply_merge(vm, run->disk_id, base->id, top->id, volume, &error));
    }
}

/* Planning and recording every subset of snapshots, by commits and by grafts, up and down: groups
 * reach from the lowest merged volume to the leaf without a gap; afterwards there is no more to
 * plan, the chain has as many volumes as boundaries are left, and the snapshots that stay still
 * have the volume they had, in order. */
static void
check_subset(unsigned set, Strategy strategy, VmState state)
{
    g_autoptr(GError) error = NULL;
    g_autoptr(Vm) vm = make_vm(6);
    g_autoptr(GPtrArray) ids = g_ptr_array_new();
    Disk *disk = vm_disk(vm, "d1");
    unsigned next = 0, merged = 0;

    vm->state = state;
    for (guint i = 0; i < 5; i++)
        if (set & (1U << i))
            g_ptr_array_add(ids, ((Snapshot *)vm->snapshots->pdata[i])->id);
    g_ptr_array_add(ids, NULL);
    const char *const *names = (const char *const *)ids->pdata;
    g_autoptr(Plan) plan = plan_new(vm, names, NULL, strategy, VERIFY_EXTENTS, &error);
    g_assert_no_error(error);
    plan_guess(plan, vm);
    g_assert_cmpuint(plan->disks->len, ==, set != 0);
    if (set != 0) {
        PlanDisk *planned = plan->disks->pdata[0];
        const PlanGroup *first = planned->groups->pdata[0];
        planned->can_share = true;
        g_assert_cmpuint(g_strv_length(planned->removed), ==, ids->len - 1);
        g_assert_cmpuint(first->base, <, first->top);
        next = first->base;
        for (guint i = 0; i < planned->groups->len; i++) {
            const PlanGroup *group = planned->groups->pdata[i];
            g_assert_cmpuint(group->base, ==, next);
            merged += group->top - group->base;
            next = group->top + 1;
        }
        g_assert_cmpuint(next, ==, 6);
        g_assert_cmpuint(merged, ==, ids->len - 1);
    }
    plan_choose(plan, vm);
    g_assert_true(plan_possible(plan, vm, &error));
    for (guint i = 0; i < plan->runs->len; i++)
        apply_run(vm, plan, plan->runs->pdata[i]);
    g_assert_cmpuint(disk->volumes->len, ==, 6 - (ids->len - 1));
    next = 0;
    for (guint i = 0; i < 5; i++) {
        const SnapshotDisk *entry = snapshot_disk(vm->snapshots->pdata[i], "d1");
        g_assert_cmpint(entry == NULL, ==, (set & (1U << i)) != 0);
        if (entry != NULL)
            g_assert_cmpint(disk_volume_index(disk, entry->volume_id), ==, (int)next);
        next += entry != NULL;
    }
    g_autoptr(Plan) again = plan_new(vm, names, NULL, strategy, VERIFY_EXTENTS, &error);
    g_assert_cmpuint(again->disks->len, ==, 0);
}

static void
test_every_subset(void)
{
    static const Strategy strategies[] = { STRATEGY_AUTO, STRATEGY_COMMIT, STRATEGY_GRAFT,
                                           STRATEGY_COPY };

    for (unsigned set = 0; set < 1 << 5; set++)
        for (size_t i = 0; i < G_N_ELEMENTS(strategies); i++) {
            g_test_message("set %x, %s", set, strategy_word(strategies[i]));
            check_subset(set, strategies[i], VM_UP);
            check_subset(set, strategies[i], VM_DOWN);
        }
}

/* ---- words and JSON */

static void
test_words(void)
{
    g_autoptr(GError) error = NULL, other = NULL;
    Strategy untouched = STRATEGY_COPY;
    Verify verify = VERIFY_FULL;

    for (int i = 0; i < STRATEGY_LAST; i++) {
        Strategy strategy = STRATEGY_LAST;
        g_assert_true(strategy_from_word(strategy_word((Strategy)i), &strategy, &error));
        g_assert_cmpint(strategy, ==, i);
    }
    g_assert_false(strategy_from_word("pull", &untouched, &error));
    g_assert_error(error, ERR, ERR_INVALID);
    g_assert_nonnull(
        strstr(error->message, "auto, commit, commit-active, copy, graft, cold-commit"));
    g_assert_cmpint(untouched, ==, STRATEGY_COPY);
    g_assert_false(strategy_from_word(NULL, &untouched, NULL));
    g_assert_cmpstr(strategy_word(STRATEGY_LAST), ==, "unknown");

    g_assert_false(verify_from_word("maybe", &verify, &other));
    g_assert_error(other, ERR, ERR_INVALID);
    g_assert_nonnull(strstr(other->message, "'maybe'; known are extents, none, full"));
    g_assert_cmpint(verify, ==, VERIFY_FULL);
    for (int i = 0; i < VERIFY_LAST; i++) {
        g_assert_true(verify_from_word(verify_word((Verify)i), &verify, NULL));
        g_assert_cmpint(verify, ==, i);
    }
    g_assert_true(verify_from_word(NULL, &verify, NULL));
    g_assert_cmpint(verify, ==, VERIFY_EXTENTS);
    g_assert_cmpstr(verify_word(VERIFY_LAST), ==, "unknown");
}

static char *
members_of(const json_t *json)
{
    g_autoptr(GList) names = NULL;
    GString *text = g_string_new(NULL);
    const char *key;
    json_t *value;

    json_object_foreach ((json_t *)json, key, value)
        names = g_list_insert_sorted(names, (void *)key, (GCompareFunc)strcmp);
    for (GList *l = names; l != NULL; l = l->next)
        g_string_append_printf(text, "%s%s", l == names ? "" : " ", (char *)l->data);
    return g_string_free(text, FALSE);
}

#define COSTS "bytes_read bytes_written "
#define MORE_COSTS "pause_ms pauses "
#define LAST_COSTS "seconds space_freed space_peak"

static json_t *
plan_json(const Vm *vm, const char *snapshots, Strategy strategy)
{
    g_autoptr(Plan) plan = new_plan(vm, snapshots, strategy, VERIFY_EXTENTS, upper_facts);

    plan_choose(plan, vm);
    return plan_to_json(plan, vm);
}

static void
test_json_possible(void)
{
    g_autoptr(Vm) vm = make_cost_vm(false);
    disk_volume(vm_disk(vm, "d1"), "v2")->used_by = g_strdup("VM web2");
    g_autoptr(json_t) json = plan_json(vm, "s2", STRATEGY_AUTO);
    json_t *run = json_array_get(json_object_get(json, "runs"), 0);
    json_t *options = json_object_get(run, "options");
    json_t *volumes = json_object_get(run, "volumes");
    g_autofree char *top = members_of(json), *totals = members_of(json_object_get(json, "totals"));
    g_autofree char *members = members_of(run), *option = members_of(json_array_get(options, 0));
    g_autofree char *blocked = members_of(json_array_get(options, 1));

    g_assert_cmpstr(top, ==, "exact possible runs totals verify wanted");
    g_assert_cmpstr(totals, ==, COSTS MORE_COSTS LAST_COSTS);
    g_assert_cmpstr(members, ==,
                    "base " COSTS "disk_id exact has_leaf kept options " MORE_COSTS
                    "remove seconds space_freed space_peak strategy target top volumes");
    g_assert_cmpstr(option, ==, COSTS MORE_COSTS "possible " LAST_COSTS " strategy");
    g_assert_cmpstr(blocked, ==, COSTS MORE_COSTS "possible " LAST_COSTS " strategy why");

    g_assert_true(json_flag(json, "possible"));
    g_assert_true(json_flag(json, "exact"));
    g_assert_cmpstr(json_text(json, "wanted"), ==, "auto");
    g_assert_cmpstr(json_text(json, "verify"), ==, "extents");
    g_assert_cmpstr(json_text(run, "strategy"), ==, "graft");
    g_assert_cmpstr(json_text(run, "base"), ==, "v2");
    g_assert_cmpstr(json_text(run, "top"), ==, "v3");
    g_assert_cmpstr(json_text(run, "disk_id"), ==, "d1");
    g_assert_cmpstr(json_text(run, "target"), ==, "vda");
    g_assert_true(json_flag(run, "has_leaf"));
    g_assert_cmpuint(json_array_size(volumes), ==, 2);
    g_assert_cmpstr(json_text(json_array_get(volumes, 0), "id"), ==, "v2");
    g_assert_cmpstr(json_text(json_array_get(volumes, 1), "path"), ==, "/dom/v3.qcow2");
    g_assert_cmpuint(json_array_size(json_object_get(run, "kept")), ==, 1);
    g_assert_cmpuint(json_array_size(json_object_get(run, "remove")), ==, 1);
    g_assert_cmpstr(json_string_value(json_array_get(json_object_get(run, "remove"), 0)), ==, "v2");
    g_assert_cmpstr(json_text(json_array_get(options, 0), "strategy"), ==, "graft");
    g_assert_cmpstr(json_text(json_array_get(options, 1), "strategy"), ==, "commit-active");
    g_assert_cmpint(json_number(json_object_get(json, "totals"), "pauses"), ==, 2);
    g_assert_cmpint(json_number(run, "space_freed"), ==, -(int64_t)MIB);
    g_assert_cmpint(json_number(json_array_get(options, 2), "space_peak"), ==, 15 * (int64_t)MIB);
    g_assert_cmpfloat(
        json_number_value(json_object_get(run, "seconds")), ==,
        json_number_value(json_object_get(json_object_get(json, "totals"), "seconds")));
}

static void
test_json_impossible(void)
{
    g_autoptr(Vm) vm = make_cost_vm(false);
    g_autoptr(json_t) json = plan_json(vm, "s2", STRATEGY_COLD_COMMIT);
    json_t *run = json_array_get(json_object_get(json, "runs"), 0);
    json_t *option = json_array_get(json_object_get(run, "options"), 0);
    g_autofree char *top = members_of(json), *unfit = members_of(option);

    g_assert_cmpstr(top, ==, "code exact possible runs totals verify wanted why");
    g_assert_cmpstr(unfit, ==, "possible strategy why");
    g_assert_false(json_flag(json, "possible"));
    g_assert_cmpstr(json_text(json, "code"), ==, "refused");
    g_assert_nonnull(strstr(json_text(json, "why"), "cannot merge disk vda of VM 'web1'"));
    g_assert_false(json_flag(option, "possible"));
    g_assert_null(json_object_get(run, "remove"));
    g_assert_null(json_object_get(run, "kept"));
}

static void
test_json_nothing(void)
{
    g_autoptr(Vm) vm = make_cost_vm(false);
    g_ptr_array_set_size(vm_snapshot(vm, "s1")->disks, 0);
    g_autoptr(json_t) json = plan_json(vm, "s1", STRATEGY_AUTO);

    g_assert_true(json_flag(json, "possible"));
    g_assert_cmpuint(json_array_size(json_object_get(json, "runs")), ==, 0);
    g_assert_cmpint(json_number(json_object_get(json, "totals"), "bytes_read"), ==, 0);
}

int
main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/plan/every-subset", test_every_subset);
    g_test_add_func("/plan/words", test_words);
    g_test_add_func("/plan/json/possible", test_json_possible);
    g_test_add_func("/plan/json/impossible", test_json_impossible);
    g_test_add_func("/plan/json/nothing", test_json_nothing);
    return g_test_run();
}
