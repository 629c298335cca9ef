/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * Tests of the planner: which groups a set of snapshots leaves, what is chosen for them and why,
 * what is refused and how that reads.
 * What strategies cost is in model_cost_test.c.
 */
#include "model/plan.h"
#include "model_vm.h"

#include <string.h>

/* What is special about the VM of a row */
enum {
    PAUSED = 1 << 0,
    DOWN = 1 << 1,
    V0_USED = 1 << 2,
    V0_READ_ONLY = 1 << 3,
    V1_USED = 1 << 4,
    V4_USED = 1 << 5,
    V0_RAW = 1 << 6,
    MIGRATING = 1 << 7,
    UNKNOWN = 1 << 8,
    S0_ON_LEAF = 1 << 9,
    S0_LOST = 1 << 10,
    S1_WITHOUT_DISK = 1 << 11,
    S1_ON_V0 = 1 << 12,
    UNMANAGED = 1 << 13,
    READ_ONLY_DISK = 1 << 14,
    V4_READ_ONLY = 1 << 15,
    BUSY = 1 << 16,
    /* of the facts */
    BIG = 1 << 17, /* all that is MiB becomes 100 MiB */
    SHARE = 1 << 18,
    ODD = 1 << 19,  /* the lowest group has something that new volumes cannot have */
    FULL = 1 << 20, /* verify=full */
    V1_SHRUNK = 1 << 21,
    V0_INTERNAL = 1 << 22, /* snapshots within the file */
    V1_INTERNAL = 1 << 23,
    V0_BITMAPS = 1 << 24,
    V1_BITMAPS = 1 << 25,
    COR = 1 << 26, /* copy_on_read */
};

static Vm *
make_special_vm(unsigned special)
{
    Vm *vm = make_vm(6);
    Disk *disk = vm_disk(vm, "d1");
    SnapshotDisk *s0 = snapshot_disk(vm_snapshot(vm, "s0"), "d1");
    SnapshotDisk *s1 = snapshot_disk(vm_snapshot(vm, "s1"), "d1");
    static const struct {
        unsigned bit;
        VmState state;
    } states[] = { { PAUSED, VM_PAUSED },
                   { DOWN, VM_DOWN },
                   { MIGRATING, VM_MIGRATING },
                   { UNKNOWN, VM_UNKNOWN } };

    for (size_t i = 0; i < G_N_ELEMENTS(states); i++)
        if (special & states[i].bit)
            vm->state = states[i].state;
    if (special & V0_USED)
        disk_volume(disk, "v0")->used_by = g_strdup("VM web2");
    if (special & V1_USED)
        disk_volume(disk, "v1")->used_by = g_strdup("file /x/y.qcow2");
    if (special & V4_USED)
        disk_volume(disk, "v4")->used_by = g_strdup("VM web3");
    disk_volume(disk, "v0")->read_only = special & V0_READ_ONLY;
    disk_volume(disk, "v4")->read_only = special & V4_READ_ONLY;
    if (special & V1_SHRUNK)
        disk_volume(disk, "v1")->virtual_size = 1 << 29;
    disk_volume(disk, "v0")->internal_snapshots = special & V0_INTERNAL;
    disk_volume(disk, "v1")->internal_snapshots = special & V1_INTERNAL;
    disk->copies_on_read = special & COR;
    disk_volume(disk, "v0")->bitmaps = special & V0_BITMAPS;
    disk_volume(disk, "v1")->bitmaps = special & V1_BITMAPS;
    if (special & V0_RAW) {
        g_free(disk_volume(disk, "v0")->format);
        disk_volume(disk, "v0")->format = g_strdup("raw");
    }
    for (guint i = 0; special & BIG && i < disk->volumes->len; i++)
        ((Volume *)disk->volumes->pdata[i])->allocated *= 100;
    g_free(s0->volume_id);
    s0->volume_id = g_strdup(special & S0_ON_LEAF ? "v5" : special & S0_LOST ? "lost" : "v0");
    if (special & S1_ON_V0) {
        g_free(s1->volume_id);
        s1->volume_id = g_strdup("v0");
    }
    if (special & S1_WITHOUT_DISK)
        g_ptr_array_set_size(vm_snapshot(vm, "s1")->disks, 0);
    if (special & UNMANAGED)
        disk->unmanaged = g_strdup("it is shared by several VMs");
    disk->read_only = special & READ_ONLY_DISK;
    if (special & BUSY)
        disk->busy = g_strdup("a block job (copy)");
    return vm;
}

/* Data that lie in one piece, as most do; plan_guess() must take them for scattered. */
static void
make_shareable(PlanDisk *disk)
{
    disk->can_share = true;
    for (guint i = 0; i < disk->groups->len; i++) {
        PlanGroup *group = disk->groups->pdata[i];
        group->pieces = group->below_pieces = 10;
    }
}

/* With the facts of plan_guess(), and what "special" says of them. NULL with the error of
 * plan_new(), or with the one of plan_possible(). */
static Plan *
make_plan(const Vm *vm, const char *snapshots, Strategy wanted, unsigned special, GError **error)
{
    g_auto(GStrv) ids = make_ids(snapshots);
    g_autoptr(Plan) plan = plan_new(vm, (const char *const *)ids, NULL, wanted,
                                    special & FULL ? VERIFY_FULL : VERIFY_EXTENTS, error);

    if (plan == NULL)
        return NULL;
    plan_guess(plan, vm);
    for (guint i = 0; i < plan->disks->len; i++) {
        PlanDisk *disk = plan->disks->pdata[i];
        if (special & SHARE)
            make_shareable(disk);
        if (special & ODD)
            ((PlanGroup *)disk->groups->pdata[0])->uncarried = g_strdup("v0.qcow2 has a bitmap");
    }
    plan_choose(plan, vm);
    return plan_possible(plan, vm, error) ? g_steal_pointer(&plan) : NULL;
}

/* ---- groups */

static char *
text_of_groups(const Plan *plan)
{
    GString *text = g_string_new(NULL);

    for (guint i = 0; i < plan->disks->len; i++) {
        const PlanDisk *disk = plan->disks->pdata[i];
        g_string_append_printf(text, "%s%s", i > 0 ? "; " : "", disk->target);
        for (guint j = 0; j < disk->groups->len; j++) {
            const PlanGroup *group = disk->groups->pdata[j];
            g_string_append_printf(text, " %u-%u", group->base, group->top);
        }
        for (char **id = disk->removed; *id != NULL; id++)
            g_string_append_printf(text, " -%s", *id);
    }
    return g_string_free(text, FALSE);
}

static void
test_groups(void)
{
    /* clang-format off */
    static const struct { const char *snapshots; unsigned special; const char *wanted; } rows[] = {
        { "",               0, "" },
        { "s0",             0, "vda 0-1 2-2 3-3 4-4 5-5 -v0" },
        { "s0 s0",          0, "vda 0-1 2-2 3-3 4-4 5-5 -v0" },
        { "s4",             0, "vda 4-5 -v4" },
        { "s3",             0, "vda 3-4 5-5 -v3" },
        { "s2 s1",          0, "vda 1-3 4-4 5-5 -v1 -v2" },
        { "s0 s2",          0, "vda 0-1 2-3 4-4 5-5 -v0 -v2" },
        { "s0 s1 s3 s4",    0, "vda 0-2 3-5 -v0 -v1 -v3 -v4" },
        { "s0 s1 s2 s3 s4", 0, "vda 0-5 -v0 -v1 -v2 -v3 -v4" },
        { "s0 s4",          0, "vda 0-1 2-2 3-3 4-5 -v0 -v4" },
        { "s0 s1 s2", S1_WITHOUT_DISK, "vda 0-1 2-3 4-4 5-5 -v0 -v2" },
        { "s1",       S1_WITHOUT_DISK, "" },
        { "s1", BUSY | S1_WITHOUT_DISK, "" },
        { "s0 s1",          S1_ON_V0, "vda 0-1 2-2 3-3 4-4 5-5 -v0" },
        { "s0",             DOWN, "vda 0-1 2-2 3-3 4-4 5-5 -v0" },
    };
    /* clang-format on */
    for (size_t i = 0; i < G_N_ELEMENTS(rows); i++) {
        g_autoptr(GError) error = NULL;
        g_autoptr(Vm) vm = make_special_vm(rows[i].special);
        g_autoptr(Plan) plan =
            make_plan(vm, rows[i].snapshots, STRATEGY_AUTO, rows[i].special, &error);

        g_test_message("row %zu: %s", i, rows[i].snapshots);
        g_assert_no_error(error);
        g_autofree char *found = text_of_groups(plan);
        g_assert_cmpstr(found, ==, rows[i].wanted);
        g_assert_cmpuint(plan->runs->len > 0, ==, *rows[i].wanted != '\0');
    }
}

/* ---- what is chosen */

static char *
text_of_runs(const Plan *plan)
{
    GString *text = g_string_new(NULL);

    for (guint i = 0; i < plan->runs->len; i++) {
        const Run *run = plan->runs->pdata[i];
        g_string_append_printf(text, "%s%s[%s..%s] %s", i > 0 ? "; " : "", run->target, run->base,
                               run->top, strategy_word(run_chosen(run)->strategy));
        for (char **id = run->removed; id != NULL && *id != NULL; id++)
            g_string_append_printf(text, " -%s", *id);
        for (char **path = run->kept; path != NULL && *path != NULL; path++)
            g_string_append_printf(text, " =%c%c", (*path)[5], (*path)[6]); /* of /dom/vN.qcow2 */
    }
    return g_string_free(text, FALSE);
}

static void
test_choice(void)
{
    /* clang-format off */
    static const struct {
        const char *snapshots;
        unsigned special;
        Strategy strategy;
        const char *wanted; /* -v: a boundary that goes, =v: a volume that stays */
    } rows[] = {
        /* nothing can be shared */
        { "",            0, STRATEGY_AUTO, "" },
        { "s0",          0, STRATEGY_AUTO, "vda[v0..v1] commit" },
        { "s4",          0, STRATEGY_AUTO, "vda[v4..v5] commit-active" },
        { "s2 s1",       0, STRATEGY_AUTO, "vda[v1..v3] commit" },
        { "s0 s2",       0, STRATEGY_AUTO, "vda[v0..v1] commit; vda[v2..v3] commit" },
        { "s0 s1 s3 s4", 0, STRATEGY_AUTO, "vda[v0..v2] commit; vda[v3..v5] commit-active" },
        { "s0 s1 s2 s3 s4", 0, STRATEGY_AUTO, "vda[v0..v5] commit-active" },
        { "s0 s1 s2", S1_WITHOUT_DISK, STRATEGY_AUTO, "vda[v0..v1] commit; vda[v2..v3] commit" },
        { "s0",          V0_RAW, STRATEGY_AUTO, "vda[v0..v1] commit" },
        { "s0",          V0_INTERNAL, STRATEGY_AUTO, "vda[v0..v1] commit" },
        { "s0",          V0_BITMAPS | DOWN, STRATEGY_COLD_COMMIT, "vda[v0..v1] cold-commit" },
        { "s0",          V1_BITMAPS, STRATEGY_AUTO, "vda[v0..v1] commit" }, /* libvirt has them too */
        { "s0",          PAUSED, STRATEGY_AUTO, "vda[v0..v1] commit" },
        { "s4",          PAUSED, STRATEGY_AUTO, "vda[v4..v5] commit-active" },
        { "s0",          BIG, STRATEGY_AUTO, "vda[v0..v1] commit" },
        { "s4",          BIG, STRATEGY_AUTO, "vda[v4..v5] commit-active" },
        { "s0 s4",       DOWN, STRATEGY_AUTO, "vda[v0..v1] cold-commit; vda[v4..v5] cold-commit" },
        /* three runs: three jobs take longer than one copy of so little, but write less */
        { "s0 s2 s4",    0, STRATEGY_AUTO, "vda[v0..v1] commit; vda[v2..v3] commit; vda[v4..v5] commit-active" },
        { "s0 s2 s4",    DOWN, STRATEGY_AUTO, "vda[v0..v1] cold-commit; vda[v2..v3] cold-commit; vda[v4..v5] cold-commit" },
        /* all can be shared: graft wherever there are data; little is as fast by a commit */
        { "s0",          SHARE | BIG, STRATEGY_AUTO, "vda[v0..v5] graft -v0" },
        { "s0 s4",       SHARE | BIG, STRATEGY_AUTO, "vda[v0..v5] graft -v0 -v4" },
        { "s4",          SHARE | BIG, STRATEGY_AUTO, "vda[v4..v5] graft -v4" },
        { "s1 s2",       SHARE | BIG, STRATEGY_AUTO, "vda[v1..v5] graft -v1 -v2" },
        { "s0",          SHARE | BIG | DOWN, STRATEGY_AUTO, "vda[v0..v5] graft -v0" },
        { "s0",          SHARE | BIG | PAUSED, STRATEGY_AUTO, "vda[v0..v5] graft -v0" },
        { "s0",          SHARE, STRATEGY_AUTO, "vda[v0..v1] commit" },
        { "s0",          SHARE | BIG | ODD, STRATEGY_AUTO, "vda[v0..v1] commit" },
        { "s0 s4",       SHARE | BIG | ODD, STRATEGY_AUTO, "vda[v0..v1] commit; vda[v4..v5] commit-active" },
        /* forced, VM up */
        { "s4",          0, STRATEGY_COMMIT, "vda[v4..v5] commit-active" },
        { "s4",          0, STRATEGY_COMMIT_ACTIVE, "vda[v4..v5] commit-active" },
        { "s4",          0, STRATEGY_COPY, "vda[v4..v5] copy -v4" },
        { "s0",          0, STRATEGY_COMMIT, "vda[v0..v1] commit" },
        { "s0 s4",       0, STRATEGY_COMMIT, "vda[v0..v1] commit; vda[v4..v5] commit-active" },
        { "s0",          0, STRATEGY_COPY, "vda[v0..v5] copy -v0" },
        { "s0 s4",       0, STRATEGY_COPY, "vda[v0..v5] copy -v0 -v4" },
        { "s0",          SHARE, STRATEGY_GRAFT, "vda[v0..v5] graft -v0" },
        { "s4",          SHARE, STRATEGY_GRAFT, "vda[v4..v5] graft -v4" },
        { "s0",          SHARE | BIG, STRATEGY_COMMIT, "vda[v0..v1] commit" },
        { "s0",          SHARE | BIG, STRATEGY_COPY, "vda[v0..v5] copy -v0" },
        /* VM down */
        { "s0",          DOWN, STRATEGY_COLD_COMMIT, "vda[v0..v1] cold-commit" },
        { "s0 s4",       DOWN, STRATEGY_COMMIT, "vda[v0..v1] cold-commit; vda[v4..v5] cold-commit" },
        { "s4",          DOWN, STRATEGY_COPY, "vda[v4..v5] copy -v4" },
        { "s0",          DOWN, STRATEGY_COPY, "vda[v0..v5] copy -v0" },
        { "s0",          DOWN | SHARE, STRATEGY_GRAFT, "vda[v0..v5] graft -v0" },
        { "s0",          COR | DOWN | SHARE, STRATEGY_GRAFT, "vda[v0..v5] graft -v0" },
        /* a base that must not change stays where it is */
        { "s0 s1 s2 s3 s4", V0_USED, STRATEGY_AUTO, "vda[v0..v5] copy -v0 -v1 -v2 -v3 -v4 =v0" },
        { "s0 s1 s2 s3 s4", V0_USED, STRATEGY_COPY, "vda[v0..v5] copy -v0 -v1 -v2 -v3 -v4 =v0" },
        { "s0 s1 s2 s3 s4", V0_READ_ONLY, STRATEGY_AUTO, "vda[v0..v5] copy -v0 -v1 -v2 -v3 -v4 =v0" },
        { "s4",          V4_READ_ONLY, STRATEGY_AUTO, "vda[v4..v5] copy -v4 =v4" },
        { "s4",          V4_READ_ONLY | DOWN, STRATEGY_AUTO, "vda[v4..v5] copy -v4 =v4" },
        { "s4",          V4_READ_ONLY | SHARE, STRATEGY_AUTO, "vda[v4..v5] graft -v4 =v4" },
        { "s0",          V0_USED, STRATEGY_AUTO, "vda[v0..v5] copy -v0 =v0" },
        { "s0",          V0_USED | DOWN, STRATEGY_AUTO, "vda[v0..v5] copy -v0 =v0" },
        { "s0",          V0_USED | SHARE, STRATEGY_AUTO, "vda[v0..v5] graft -v0 =v0" },
        { "s0",          V0_USED | SHARE | DOWN, STRATEGY_AUTO, "vda[v0..v5] graft -v0 =v0" },
        { "s0",          V0_READ_ONLY | DOWN, STRATEGY_AUTO, "vda[v0..v5] copy -v0 =v0" },
        { "s0",          V1_SHRUNK | DOWN, STRATEGY_AUTO, "vda[v0..v5] copy -v0" },
        /* one below all that is merged, or not above any of it, is in nobody's way */
        { "s4",          V0_USED, STRATEGY_AUTO, "vda[v4..v5] commit-active" },
        { "s4",          V1_USED, STRATEGY_AUTO, "vda[v4..v5] commit-active" },
        { "s4",          V1_USED | SHARE, STRATEGY_GRAFT, "vda[v4..v5] graft -v4" },
        /* a file that others stand on, and all below it that they read through */
        { "s4",          V4_USED, STRATEGY_AUTO, "vda[v4..v5] copy -v4 =v4" },
        { "s0",          V1_USED, STRATEGY_AUTO, "vda[v0..v5] copy -v0 =v0 =v1" },
        { "s0",          V1_USED | DOWN, STRATEGY_AUTO, "vda[v0..v5] copy -v0 =v0 =v1" },
        { "s0",          V1_USED | SHARE, STRATEGY_AUTO, "vda[v0..v5] graft -v0 =v0 =v1" },
        { "s0 s1 s2 s3 s4", V1_USED, STRATEGY_COPY, "vda[v0..v5] copy -v0 -v1 -v2 -v3 -v4 =v0 =v1" },
        { "s2",          V4_USED, STRATEGY_AUTO, "vda[v2..v5] copy -v2 =v2 =v3 =v4" },
        { "s2",          V1_USED | V4_READ_ONLY, STRATEGY_COPY, "vda[v2..v5] copy -v2 =v4" },
        { "s2",          V1_USED | V4_READ_ONLY, STRATEGY_AUTO, "vda[v2..v3] commit" },
        /* only the run with the leaf needs another strategy */
        { "s0 s4",       V4_READ_ONLY, STRATEGY_AUTO, "vda[v0..v1] commit; vda[v4..v5] copy -v4 =v4" },
        { "s0 s4",       V4_READ_ONLY | DOWN, STRATEGY_AUTO, "vda[v0..v1] cold-commit; vda[v4..v5] copy -v4 =v4" },
        { "s0 s4",       V4_READ_ONLY | ODD, STRATEGY_AUTO, "vda[v0..v1] commit; vda[v4..v5] copy -v4 =v4" },
        /* a check that compares everything */
        { "s0",          FULL, STRATEGY_AUTO, "vda[v0..v1] commit" },
        { "s4",          FULL, STRATEGY_AUTO, "vda[v4..v5] copy -v4" },
        { "s4",          FULL | SHARE, STRATEGY_AUTO, "vda[v4..v5] graft -v4" },
        { "s4",          FULL | DOWN, STRATEGY_AUTO, "vda[v4..v5] cold-commit" },
        { "s0 s4",       FULL, STRATEGY_AUTO, "vda[v0..v1] commit; vda[v4..v5] copy -v4" },
    };
    /* clang-format on */
    for (size_t i = 0; i < G_N_ELEMENTS(rows); i++) {
        g_autoptr(GError) error = NULL;
        g_autoptr(Vm) vm = make_special_vm(rows[i].special);
        g_autoptr(Plan) plan =
            make_plan(vm, rows[i].snapshots, rows[i].strategy, rows[i].special, &error);

        g_test_message("row %zu: %s, %s, special %x", i, rows[i].snapshots,
                       strategy_word(rows[i].strategy), rows[i].special);
        g_assert_no_error(error);
        g_autofree char *found = text_of_runs(plan);
        g_assert_cmpstr(found, ==, rows[i].wanted);
        for (guint j = 0; j < plan->runs->len; j++) {
            const Run *run = plan->runs->pdata[j];
            g_assert_cmpint(run->has_leaf, ==, run->top_index == 5);
            g_assert_null(run_chosen(run)->blocker);
        }
    }
}

static void
test_refusals(void)
{
    /* clang-format off */
    static const struct {
        const char *snapshots;
        unsigned special;
        Strategy strategy;
        const char *say;
        ErrorCode code;
    } rows[] = {
        /* what does not fit */
        { "s0", 0,            STRATEGY_COMMIT_ACTIVE, "commit-active needs a run that holds the leaf, and this one ends below it, at /dom/v1.qcow2", ERR_REFUSED },
        { "s0 s4", 0,         STRATEGY_COMMIT_ACTIVE, "needs a run that holds the leaf", ERR_REFUSED },
        { "s0", 0,            STRATEGY_COLD_COMMIT, "needs a VM that is down", ERR_REFUSED },
        { "s4", PAUSED,       STRATEGY_COLD_COMMIT, "needs a VM that is down", ERR_REFUSED },
        { "s4", DOWN,         STRATEGY_COMMIT_ACTIVE, "needs a running VM", ERR_REFUSED },
        { "s0", 0,            STRATEGY_GRAFT, "the file system of /dom cannot share blocks between files", ERR_REFUSED },
        { "s0", DOWN,         STRATEGY_GRAFT, "the file system of /dom cannot share blocks between files", ERR_REFUSED },
        { "s0", SHARE | ODD,  STRATEGY_GRAFT, "v0.qcow2 has a bitmap; the strategy commit is possible", ERR_REFUSED },
        { "s0", ODD,          STRATEGY_COPY, "v0.qcow2 has a bitmap; the strategy commit is possible", ERR_REFUSED },
        { "s4", FULL,         STRATEGY_COMMIT, "cannot be compared while it runs; copy or graft can be checked, or verify=extents", ERR_REFUSED },
        { "s0 s4", FULL,      STRATEGY_COMMIT, "cannot be compared while it runs", ERR_REFUSED },
        /* a base that must not change */
        { "s0 s1 s2 s3 s4", V0_USED, STRATEGY_COMMIT, "VM web2 stands on its base /dom/v0.qcow2", ERR_REFUSED },
        { "s0 s1 s2 s3 s4", V0_USED, STRATEGY_COMMIT, "once VM web2 is deleted or has data of its own; the strategy copy is possible", ERR_REFUSED },
        { "s0 s1 s2 s3 s4", V0_READ_ONLY, STRATEGY_COMMIT_ACTIVE, "/dom/v0.qcow2 is read-only", ERR_REFUSED },
        { "s0", V0_USED,      STRATEGY_COMMIT, "VM web2 stands on its base /dom/v0.qcow2", ERR_REFUSED },
        { "s0", V0_USED | SHARE, STRATEGY_COMMIT, "the strategy graft is possible", ERR_REFUSED },
        { "s0", V0_READ_ONLY, STRATEGY_COMMIT, "can be written", ERR_REFUSED },
        { "s0", V1_SHRUNK, STRATEGY_COMMIT, "v1.qcow2 is smaller", ERR_REFUSED },
        { "s0", V1_INTERNAL, STRATEGY_COMMIT, "/dom/v1.qcow2 holds internal snapshots", ERR_REFUSED },
        { "s0", V1_INTERNAL | DOWN, STRATEGY_COLD_COMMIT, "qemu-img snapshot -d", ERR_REFUSED },
        { "s0", V1_BITMAPS | DOWN, STRATEGY_COLD_COMMIT, "Start the VM, or", ERR_REFUSED },
        { "s0", DOWN | V0_USED, STRATEGY_COMMIT, "VM web2 stands on its base", ERR_REFUSED },
        { "s0", DOWN | V0_READ_ONLY, STRATEGY_COLD_COMMIT, "is read-only", ERR_REFUSED },
        /* a file that would vanish, or a chain above that others read through */
        { "s0", V1_USED,      STRATEGY_COMMIT, "file /x/y.qcow2 stands on /dom/v1.qcow2", ERR_REFUSED },
        { "s0", V1_USED | DOWN, STRATEGY_COMMIT, "file /x/y.qcow2 stands on /dom/v1.qcow2", ERR_REFUSED },
        { "s0", V4_USED,      STRATEGY_COMMIT, "VM web3 stands on /dom/v4.qcow2", ERR_REFUSED },
        { "s4", V4_USED,      STRATEGY_COMMIT, "VM web3 stands on its base /dom/v4.qcow2", ERR_REFUSED },
        /* nothing is left: every reason is told */
        { "s0", V0_USED | ODD, STRATEGY_AUTO, "no strategy is possible (commit: VM web2 stands on its base", ERR_REFUSED },
        { "s0", V0_USED | ODD, STRATEGY_AUTO, "graft: the file system of /dom cannot share", ERR_REFUSED },
        { "s0", V0_USED | ODD, STRATEGY_AUTO, "copy: v0.qcow2 has a bitmap)", ERR_REFUSED },
        { "s0", V0_USED | ODD | DOWN, STRATEGY_AUTO, "no strategy is possible (cold-commit: ", ERR_REFUSED },
        /* what cannot be planned */
        { "s0 nine", 0,       STRATEGY_AUTO, "no snapshot 'nine'", ERR_NOT_FOUND },
        { "s0", MIGRATING,    STRATEGY_AUTO, "migrating", ERR_REFUSED },
        { "s0", UNKNOWN,      STRATEGY_AUTO, "does not answer", ERR_UNREACHABLE },
        { "s0", S0_ON_LEAF,   STRATEGY_AUTO, "recorded on the leaf /dom/v5.qcow2", ERR_REFUSED },
        { "s0", S0_LOST,      STRATEGY_AUTO, "volume lost of snapshot 's0'", ERR_REFUSED },
        { "s0", S1_ON_V0,     STRATEGY_AUTO, "delete both together", ERR_REFUSED },
        { "s0", UNMANAGED,    STRATEGY_AUTO, "it is shared by several VMs", ERR_REFUSED },
        { "s0", READ_ONLY_DISK, STRATEGY_AUTO, "read-only", ERR_REFUSED },
        { "s0", BUSY,         STRATEGY_AUTO, "virsh blockjob web1 vda --abort", ERR_REFUSED },
        { "s0", COR | SHARE, STRATEGY_GRAFT, "copy_on_read", ERR_REFUSED },
        { "s0", BUSY | SHARE, STRATEGY_GRAFT, "virsh blockjob web1 vda --abort", ERR_REFUSED },
    };
    /* clang-format on */
    for (size_t i = 0; i < G_N_ELEMENTS(rows); i++) {
        g_autoptr(GError) error = NULL;
        g_autoptr(Vm) vm = make_special_vm(rows[i].special);
        g_autoptr(Plan) plan =
            make_plan(vm, rows[i].snapshots, rows[i].strategy, rows[i].special, &error);

        g_test_message("row %zu: %s, %s, special %x: %s", i, rows[i].snapshots,
                       strategy_word(rows[i].strategy), rows[i].special,
                       error != NULL ? error->message : "planned");
        g_assert_null(plan);
        g_assert_error(error, ERR, (int)rows[i].code);
        g_assert_nonnull(strstr(error->message, "web1"));
        g_assert_nonnull(strstr(error->message, rows[i].say));
        if (rows[i].code == ERR_REFUSED && strstr(error->message, "migrating") == NULL)
            g_assert_true(g_str_has_suffix(error->message, "; nothing was changed"));
    }
}

/* Every strategy that was thought of, the chosen one first; "!" = blocked. */
static void
test_options(void)
{
    /* clang-format off */
    static const struct { const char *snapshots; unsigned special; Strategy strategy; const char *wanted; } rows[] = {
        { "s0",    0,            STRATEGY_AUTO,   "commit graft! copy" },
        { "s4",    0,            STRATEGY_AUTO,   "commit-active graft! copy" },
        { "s0 s4", 0,            STRATEGY_AUTO,   "commit graft! copy; commit-active copy graft!" },
        { "s0 s4", DOWN,         STRATEGY_AUTO,   "cold-commit graft! copy; cold-commit copy graft!" },
        { "s0",    SHARE | BIG,  STRATEGY_AUTO,   "graft commit copy" },
        { "s4",    SHARE | BIG,  STRATEGY_AUTO,   "graft commit-active copy" },
        { "s0 s4", SHARE | BIG,  STRATEGY_AUTO,   "graft commit copy" },
        { "s0 s4", SHARE | BIG | DOWN, STRATEGY_AUTO, "graft cold-commit copy" },
        { "s0",    V0_USED,      STRATEGY_AUTO,   "copy commit! graft!" },
        { "s0",    0,            STRATEGY_COPY,   "copy commit graft!" },
        { "s4",    FULL,         STRATEGY_AUTO,   "copy commit-active! graft!" },
        { "s0 s4", FULL,         STRATEGY_AUTO,   "commit graft! copy; copy commit-active! graft!" },
        { "s4",    0,            STRATEGY_COMMIT, "commit-active graft! copy" },
        { "s4",    DOWN | SHARE, STRATEGY_AUTO,   "graft cold-commit copy" },
    };
    /* clang-format on */
    for (size_t i = 0; i < G_N_ELEMENTS(rows); i++) {
        g_autoptr(GError) error = NULL;
        g_autoptr(Vm) vm = make_special_vm(rows[i].special);
        g_autoptr(Plan) plan =
            make_plan(vm, rows[i].snapshots, rows[i].strategy, rows[i].special, &error);
        g_autoptr(GString) found = g_string_new(NULL);

        g_test_message("row %zu: %s, %s, special %x", i, rows[i].snapshots,
                       strategy_word(rows[i].strategy), rows[i].special);
        g_assert_no_error(error);
        for (guint j = 0; j < plan->runs->len; j++) {
            const Run *run = plan->runs->pdata[j];
            for (guint k = 0; k < run->options->len; k++) {
                const PlanOption *option = run->options->pdata[k];
                g_string_append_printf(found, "%s%s%s",
                                       k > 0   ? " "
                                       : j > 0 ? "; "
                                               : "",
                                       strategy_word(option->strategy),
                                       option->blocker != NULL ? "!" : "");
            }
        }
        g_assert_cmpstr(found->str, ==, rows[i].wanted);
    }
}

static void
test_disks(void)
{
    static const char *const ids[] = { "s0", NULL };
    /* clang-format off */
    static const struct { const char *disk, *wanted; } rows[] = {
        { NULL,  "vda[v0..v1] commit; vdb[w0..w1] commit-active" },
        { "vda", "vda[v0..v1] commit" },
        { "d2",  "vdb[w0..w1] commit-active" },
    };
    /* clang-format on */
    g_autoptr(GError) error = NULL;
    g_autoptr(Vm) vm = make_vm(3);

    add_second_disk(vm);
    for (size_t i = 0; i < G_N_ELEMENTS(rows); i++) {
        g_autoptr(Plan) plan =
            plan_new(vm, ids, rows[i].disk, STRATEGY_AUTO, VERIFY_EXTENTS, &error);
        g_assert_no_error(error);
        plan_guess(plan, vm);
        for (int turn = 0; turn < 2; turn++) { /* choosing again begins anew */
            plan_choose(plan, vm);
            g_autofree char *found = text_of_runs(plan);
            g_assert_cmpstr(found, ==, rows[i].wanted);
        }
    }
    g_assert_null(plan_new(vm, ids, "vdz", STRATEGY_AUTO, VERIFY_NONE, &error));
    g_assert_error(error, ERR, ERR_NOT_FOUND);
    g_assert_nonnull(strstr(error->message, "vdz"));
    plan_free(NULL);
}

int
main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/plan/groups", test_groups);
    g_test_add_func("/plan/choice", test_choice);
    g_test_add_func("/plan/refusals", test_refusals);
    g_test_add_func("/plan/options", test_options);
    g_test_add_func("/plan/disks", test_disks);
    return g_test_run();
}
