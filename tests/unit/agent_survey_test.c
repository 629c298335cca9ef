/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * The facts for the planner: what a plan knows of real chains, what is learned.
 */
#include "agent_survey_host.h"

/* ---- volumes */

static void
set_feature(const char *path, unsigned bit)
{
    autofd int fd = open(path, O_RDWR | O_CLOEXEC);

    put64(fd, 72, UINT64_C(1) << bit); /* incompatible features */
}

/* ---- a host with one VM */

/* The facts themselves, as the planner gets them. */
static Plan *
facts(Host *host, const int *snapshots)
{
    g_autoptr(json_t) answer = ask(host, snapshots, "vda");
    g_autoptr(GError) error = NULL;
    g_autoptr(Vm) vm = vm_from_json(json_object_get(answer, "vm"), &error);
    g_autoptr(json_t) body = request(snapshots, NULL);
    json_t *list = json_object_get(body, "snapshots");
    g_autoptr(GPtrArray) ids = g_ptr_array_new();

    g_assert_no_error(error);
    for (size_t i = 0; i < json_array_size(list); i++)
        g_ptr_array_add(ids, (void *)json_string_value(json_array_get(list, i)));
    g_ptr_array_add(ids, NULL);
    Plan *plan =
        plan_new(vm, (const char *const *)ids->pdata, "vda", STRATEGY_AUTO, VERIFY_EXTENTS, &error);
    g_assert_no_error(error);
    survey_fill(host->agent, vm, plan);
    return plan;
}

/* ---- facts */

static const Patch base_has[] = { { 0, 10, false }, { 0 } };
static const Patch one_has[] = { { 5, 10, false }, { 30, 4, true }, { 0 } };
static const Patch two_has[] = { { 12, 8, false }, { 0, 2, true }, { 0 } };
static const Patch leaf_has[] = { { 19, 3, false }, { 6, 1, true }, { 0 } };
static const Patch *const small_chain[] = { base_has, one_has, two_has, leaf_has };

typedef struct {
    unsigned base, top, upper, grow, all, pieces, leaf, below, below_pieces; /* clusters */
} Wanted;

static void
assert_group(const PlanDisk *disk, guint index, const Wanted *wanted)
{
    const PlanGroup *group = disk->groups->pdata[index];
    const struct {
        const char *what;
        uint64_t is, wanted;
    } rows[] = {
        { "base", group->base, wanted->base },
        { "top", group->top, wanted->top },
        { "upper", group->upper / CLUSTER, wanted->upper },
        { "grow", group->grow / CLUSTER, wanted->grow },
        { "all", group->all / CLUSTER, wanted->all },
        { "pieces", group->pieces, wanted->pieces },
        { "leaf", group->leaf / CLUSTER, wanted->leaf },
        { "below", group->below / CLUSTER, wanted->below },
        { "below_pieces", group->below_pieces, wanted->below_pieces },
    };

    for (size_t i = 0; i < G_N_ELEMENTS(rows); i++)
        if (rows[i].is != rows[i].wanted)
            g_error("group %u: %s is %" PRIu64 ", expected %" PRIu64, index, rows[i].what,
                    rows[i].is, rows[i].wanted);
    g_assert_cmpuint(group->metadata, >=, 5 * CLUSTER);
}

static void
test_facts(void)
{
    g_auto(Host) host = { 0 };
    const int lowest[] = { 0, -1 }, all[] = { 0, 1, 2, -1 }, upper[] = { 2, -1 };
    uint64_t room = 0, total = 0;

    host_make(&host, 4, small_chain);
    add_snapshots(&host, 4);

    /* an internal run: zeros are written out by QEMU's commit. Above it two volumes that only get
     * new ones below them, if it is grafted */
    g_autoptr(Plan) plan = facts(&host, lowest);
    const PlanDisk *disk = plan->disks->pdata[0];
    g_assert_true(disk->exact);
    g_assert_cmpuint(disk->groups->len, ==, 3);
    assert_group(disk, 0, &(Wanted){ 0, 1, 14, 9, 15, 2, 0, 0, 0 });
    assert_group(disk, 1, &(Wanted){ 2, 2, 0, 0, 8, 1, 0, 0, 0 });
    assert_group(disk, 2, &(Wanted){ 3, 3, 0, 0, 3, 1, 3, 0, 0 });

    g_assert_cmpstr(disk->storage, ==, host.disks);
    g_autoptr(GError) error = NULL;
    Domain *domain = agent_domain(host.agent, host.fake.disks[0].live, false, &error);
    g_assert_cmpint(disk->can_share, ==, domain_can_share(domain));
    g_assert_true(domain_space(domain, &room, &total, &error));
    g_assert_cmpuint(disk->free, <, room);
    g_assert_cmpuint(disk->free, >, 0);
    g_clear_pointer(&plan, plan_free);

    /* all of it: 2..4, 6 hidden by a zero, 5, 7..11, 12..18, 19..21 */
    plan = facts(&host, all);
    disk = plan->disks->pdata[0];
    g_assert_cmpuint(disk->groups->len, ==, 1);
    assert_group(disk, 0, &(Wanted){ 0, 3, 16, 12, 19, 5, 3, 18, 3 });
    g_clear_pointer(&plan, plan_free);

    plan = facts(&host, upper);
    disk = plan->disks->pdata[0];
    g_assert_cmpuint(disk->groups->len, ==, 1);
    assert_group(disk, 0, &(Wanted){ 2, 3, 3, 2, 10, 2, 3, 8, 1 });
}

static const PlanGroup *
group_of(const Plan *plan, guint index)
{
    return ((PlanDisk *)plan->disks->pdata[0])->groups->pdata[index];
}

static void
test_uncarried(void)
{
    g_auto(Host) host = { 0 };
    const int lowest[] = { 0, -1 };
    g_autofree char *middle = NULL;

    host_make(&host, 4, small_chain);
    add_snapshots(&host, 4);
    middle = in(host.disks, "vda.2.q");

    /* the leaf of a VM that runs may be dirty, and that of one that is off not */
    set_feature(host.fake.disks[0].live, 0);
    autofd int leaf = open(host.fake.disks[0].live, O_RDWR | O_CLOEXEC);
    g_autoptr(Plan) plan = facts(&host, lowest);
    for (guint i = 0; i < 3; i++)
        g_assert_cmpstr(group_of(plan, i)->uncarried, ==, NULL);
    g_clear_pointer(&plan, plan_free);
    fake_power_off(&host.fake);
    plan = facts(&host, lowest);
    g_assert_nonnull(strstr(group_of(plan, 2)->uncarried, "dirty"));
    g_assert_nonnull(strstr(group_of(plan, 2)->uncarried, host.fake.disks[0].stored));
    g_clear_pointer(&plan, plan_free);

    set_feature(middle, 0);
    put64(leaf, 60, UINT64_C(1) << 32); /* internal snapshots: one */
    plan = facts(&host, lowest);
    g_assert_cmpstr(group_of(plan, 0)->uncarried, ==, NULL);
    g_assert_nonnull(strstr(group_of(plan, 1)->uncarried, middle));
    g_assert_nonnull(strstr(group_of(plan, 2)->uncarried, "dirty"));
    g_clear_pointer(&plan, plan_free);
    put64(leaf, 72, 0);
    plan = facts(&host, lowest);
    g_assert_nonnull(strstr(group_of(plan, 2)->uncarried, "internal snapshots"));
    g_clear_pointer(&plan, plan_free);

    /* tables that cannot be read: upper bounds, and nothing that the writer could carry */
    autofd int fd = open(middle, O_RDWR | O_CLOEXEC);
    put64(fd, 72, 0);
    put64(fd, L1_AT, UINT64_C(1) << 40 | COPIED);
    plan = facts(&host, lowest);
    g_assert_false(((PlanDisk *)plan->disks->pdata[0])->exact);
    g_assert_nonnull(strstr(group_of(plan, 1)->uncarried, middle));
    g_assert_cmpuint(group_of(plan, 0)->all, >, 0);
}

/* ---- rates */

static double
rate_on_disk(const char *folder, Rate rate)
{
    g_autoptr(Domain) domain = domain_open(folder, NULL, NULL);
    Rates rates;

    g_assert_true(rates_load(domain, &rates, NULL));
    return rates.samples[rate] > 0 ? rates.value[rate] : 0;
}

static void
test_learns(void)
{
    g_auto(Host) host = { 0 };
    const int lowest[] = { 0, -1 };
    int64_t until = later();

    host_make(&host, 4, small_chain);
    add_snapshots(&host, 4);
    const char *path = host.fake.disks[0].live;
    survey_learn(host.agent, "/nowhere/at/all", RATE_COPY, 1e9, 1);
    survey_learn(host.agent, path, RATE_SHARE, 1000, 0.001); /* too short to say anything */
    survey_learn(host.agent, path, RATE_COPY, 3e9, 2);
    g_autoptr(Plan) plan = facts(&host, lowest);
    const PlanDisk *disk = plan->disks->pdata[0];
    g_assert_cmpfloat(disk->rates.value[RATE_COPY], ==, 1.5e9);
    g_assert_cmpuint(disk->rates.samples[RATE_SHARE], ==, 0);
    while (rate_on_disk(host.disks, RATE_COPY) != 1.5e9) {
        g_assert_cmpint(g_get_monotonic_time(), <, until);
        g_usleep(1000);
    }
    /* the next within seconds is known, but not written at once */
    survey_learn(host.agent, path, RATE_COMMIT, 1e9, 2);
    g_clear_pointer(&plan, plan_free);
    plan = facts(&host, lowest);
    disk = plan->disks->pdata[0];
    g_assert_cmpfloat(disk->rates.value[RATE_COMMIT], ==, 5e8);
    g_assert_cmpfloat(rate_on_disk(host.disks, RATE_COMMIT), ==, 0);

    host_end(&host);
    host_begin(&host);
    g_clear_pointer(&plan, plan_free);
    plan = facts(&host, lowest);
    disk = plan->disks->pdata[0];
    g_assert_cmpfloat(disk->rates.value[RATE_COPY], ==, 1.5e9);
}

/* ---- the request */

static void
test_request(void)
{
    /* clang-format off */
    static const struct {
        const char *vm, *body;
        ErrorCode code;
        const char *says;
    } rows[] = {
        { FAKE_VM, "{}", ERR_INVALID, "snapshots" },
        { FAKE_VM, "{\"snapshots\": []}", ERR_INVALID, "snapshots" },
        { FAKE_VM, "{\"snapshots\": [7]}", ERR_INVALID, "snapshots" },
        { FAKE_VM, "{\"snapshots\": [\"x\"], \"disk\": 3}", ERR_INVALID, "disk" },
        { FAKE_VM, "{\"snapshots\": [\"x\"], \"strategy\": \"fast\"}", ERR_INVALID, "fast" },
        { FAKE_VM, "{\"snapshots\": [\"x\"], \"verify\": \"some\"}", ERR_INVALID, "some" },
        { FAKE_VM, "{\"snapshots\": [\"x\"]}", ERR_NOT_FOUND, "x" },
        { "99999999-2222-3333-4444-555555555555", "{\"snapshots\": [\"x\"]}", ERR_NOT_FOUND, "9999" },
    };
    /* clang-format on */
    g_auto(Host) host = { 0 };
    const int all[] = { 0, 1, 2, -1 };

    host_make(&host, 4, small_chain);
    add_snapshots(&host, 4);
    for (size_t i = 0; i < G_N_ELEMENTS(rows); i++) {
        g_autoptr(json_t) body = json_loads(rows[i].body, 0, NULL);
        g_autoptr(json_t) answer = NULL;
        g_autoptr(GError) error = NULL;

        g_assert_false(survey_plan(host.agent, rows[i].vm, body, &answer, &error));
        g_test_message("%s", error->message);
        g_assert_error(error, ERR, (int)rows[i].code);
        g_assert_nonnull(strstr(error->message, rows[i].says));
    }
    /* a file of nobody stands on the base of vdb: the answer knows it */
    const Patch none[] = { { 0 } };
    g_autofree char *foreign = volume_make(host.disks, "foreign.q", "vdb.0.q", none);
    g_autoptr(json_t) answer = ask(&host, all, NULL);
    json_t *vm = json_object_get(answer, "vm"), *plan = json_object_get(answer, "plan");
    json_t *disks = json_object_get(vm, "disks");
    g_assert_cmpuint(json_array_size(disks), ==, FAKE_DISKS);
    for (size_t i = 0; i < FAKE_DISKS; i++) {
        json_t *volumes = json_object_get(json_array_get(disks, i), "volumes");
        g_autofree char *user = g_strdup_printf("file %s", foreign);
        g_assert_cmpstr(json_text(json_array_get(volumes, 0), "used_by"), ==, i == 1 ? user : NULL);
        g_assert_cmpstr(json_text(json_array_get(volumes, 1), "used_by"), ==, NULL);
    }
    g_assert_cmpuint(json_array_size(json_object_get(plan, "runs")), ==, FAKE_DISKS);
    for (size_t i = 0; i < FAKE_DISKS; i++)
        g_assert_true(json_flag(json_array_get(json_object_get(plan, "runs"), i), "exact"));
}

int
main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/agent/survey/facts", test_facts);
    g_test_add_func("/agent/survey/uncarried", test_uncarried);
    g_test_add_func("/agent/survey/learns", test_learns);
    g_test_add_func("/agent/survey/request", test_request);
    return g_test_run();
}
