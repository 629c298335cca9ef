/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * Snapshots of the configuration alone: taken, tried, kept, gone back from and forgotten, and each
 * of these stopped at every fault point. The disks never change. A snapshot that has lost all its
 * disks is none of them.
 */
#include "agent/import.h"
#include "branch_host.h"

#define ALONE SNAP(8)
#define LATER "<domain>later</domain>" /* what a user makes of the VM after it was taken */
#define TAKEN "<domain/>"              /* what it was */

static json_t *
alone(void)
{
    return json_pack("{s:s, s:s, s:[]}", "snapshot_id", ALONE, "name", "alone", "disks");
}

static void
edit(Host *host, const char *config)
{
    WITH_LOCK(&host->fake.lock);

    fake_set(&host->fake.config, config);
}

static void
assert_configured(Host *host, const char *config)
{
    WITH_LOCK(&host->fake.lock);

    g_assert_cmpstr(host->fake.config, ==, config);
}

static void
host_with_one(Host *host)
{
    host_make(host);
    edit(host, TAKEN);
    DO(host, SNAP(5), "snapshot-create", alone(), "done");
    edit(host, LATER);
}

/* Nothing of the disks has changed, and nobody finds anything wrong. */
static void
assert_untouched(Host *host)
{
    g_autoptr(Vm) shown = agent_vm_shown(host->agent, FAKE_VM);
    g_autoptr(json_t) todo = import_todo(shown);

    assert_stands_on(host, 3);
    assert_guarded(host, NULL);
    g_assert_cmpuint(images_in(host), ==, 9);
    g_assert_false(import_is_needed(todo));
    assert_sound(host);
}

static void
test_take(void)
{
    g_auto(Host) host = { 0 };

    host_with_one(&host);
    assert_untouched(&host);
    g_autoptr(Vm) vm = stored_vm(&host, FAKE_VM);
    const Snapshot *snapshot = vm_snapshot(vm, ALONE);
    g_assert_nonnull(snapshot);
    g_assert_true(snapshot_is_config_only(snapshot));
    g_assert_cmpstr(snapshot->config, ==, TAKEN);
    g_assert_cmpstr(snapshot->parent, ==, SNAP(3));
    g_assert_cmpuint(vm->operations->len, ==, 0);
}

/* Nothing is asked of a guest that runs. */
static void
test_take_of_a_running_one(void)
{
    g_auto(Host) host = { 0 };
    json_t *params = alone();

    host_make(&host);
    fake_power_on(&host.fake);
    host.fake.guest_agent = true;
    json_object_set_new(params, "quiesce", json_string("auto"));
    DO(&host, OP, "snapshot-create", params, "done");
    g_assert_cmpuint(host.fake.snapshots, ==, 0);
    g_assert_cmpuint(host.fake.freezes, ==, 0);
    g_assert_cmpuint(host.fake.suspends, ==, 0);
    fake_power_off(&host.fake);
    assert_untouched(&host);
}

static void
test_bad_params(void)
{
    static const struct {
        const char *member, *value, *says;
    } rows[] = {
        { "memory", "true", "'memory'" },
        { "quiesce", "\"require\"", "'quiesce'" },
        { "disks", "\"vda\"", "'disks' is not a list" },
        { "disks", "{}", "'disks' is not a list" },
    };

    for (size_t i = 0; i < G_N_ELEMENTS(rows); i++) {
        g_autoptr(json_t) params = alone();
        g_autoptr(GError) error = NULL;
        json_object_set_new(params, rows[i].member,
                            json_loads(rows[i].value, JSON_DECODE_ANY, NULL));
        g_assert_false(snapshot_create_params(params, &error));
        g_assert_error(error, ERR, ERR_INVALID);
        if (strstr(error->message, rows[i].says) == NULL)
            g_error("'%s' does not say %s", error->message, rows[i].says);
    }
}

static void
test_undo(void)
{
    g_auto(Host) host = { 0 };

    host_with_one(&host);
    DO(&host, OP, "snapshot-preview", of_snapshot(ALONE), "done");
    assert_configured(&host, TAKEN);
    assert_untouched(&host);
    agent_end(&host);
    agent_begin(&host);
    write_leaf(&host, 0, 99); /* the disks go on: this stays */
    g_autofree char *leaf = leaf_of(&host, 0);
    DO(&host, OP2, "snapshot-undo", of_snapshot(ALONE), "done");
    assert_configured(&host, LATER);
    g_autofree char *now = leaf_of(&host, 0);
    g_assert_cmpstr(now, ==, leaf);
    MUST(host.disks, "qemu-io -f qcow2 -c 'read -q -P 99 512k 64k' %s", leaf);
    g_autoptr(Vm) vm = stored_vm(&host, FAKE_VM);
    g_assert_null(vm->preview);
    g_assert_cmpuint(vm->snapshots->len, ==, 4);
    assert_sound(&host);
}

static void
test_commit(void)
{
    g_auto(Host) host = { 0 };

    host_with_one(&host);
    DO(&host, OP, "snapshot-preview", of_snapshot(ALONE), "done");
    g_autoptr(json_t) kept =
        do_operation(&host, OP2, "snapshot-commit", of_snapshot(ALONE), "done");
    g_assert_cmpuint(
        json_array_size(json_object_get(json_object_get(kept, "result"), "volumes_left")), ==, 0);
    assert_configured(&host, TAKEN);
    assert_untouched(&host);
    g_autoptr(Vm) vm = stored_vm(&host, FAKE_VM);
    g_assert_null(vm->preview);
    g_assert_cmpuint(vm->snapshots->len, ==, 4);
}

/* The host lost its power, and libvirt the definition that it had just written. */
static void
test_commit_of_a_lost_definition(void)
{
    g_auto(Host) host = { 0 };

    host_with_one(&host);
    DO(&host, OP, "snapshot-preview", of_snapshot(ALONE), "done");
    edit(&host, LATER);
    DO(&host, OP2, "snapshot-commit", of_snapshot(ALONE), "done");
    assert_configured(&host, TAKEN);
}

/* What is changed in the preview is kept with it. */
static void
test_commit_of_a_changed_one(void)
{
    g_auto(Host) host = { 0 };

    host_with_one(&host);
    DO(&host, OP, "snapshot-preview", of_snapshot(ALONE), "done");
    edit(&host, "<domain>other</domain>");
    DO(&host, OP2, "snapshot-commit", of_snapshot(ALONE), "done");
    assert_configured(&host, "<domain>other</domain>");
}

static void
assert_fails(Host *host, const char *id, json_t *take_params, const char *wanted)
{
    g_autoptr(json_t) json = do_operation(host, id, "snapshot-preview", take_params, "failed");
    const char *text = json_text(json_object_get(json, "error"), "message");

    if (strstr(text, wanted) == NULL)
        g_error("the message lacks \"%s\": %s", wanted, text);
    assert_configured(host, LATER);
    assert_untouched(host);
    g_autoptr(Vm) vm = stored_vm(host, FAKE_VM);
    g_assert_null(vm->preview);
}

static void
test_refused(void)
{
    g_auto(Host) host = { 0 };

    host_with_one(&host);
    g_autoptr(Vm) vm = stored_vm(&host, FAKE_VM);
    json_t *params = of_snapshot(ALONE);
    json_object_set_new(params, "disks", json_pack("[s]", vm_disk(vm, "vda")->id));
    assert_fails(&host, OP, params, "holds the configuration alone, and nothing of disk vda");
    params = of_snapshot(ALONE);
    json_object_set_new(params, "memory", json_true());
    assert_fails(&host, OP2, params, "has no memory");
}

/* With disks, what libvirt does not take is left out; here nothing else is left. */
static void
test_configuration_is_refused(void)
{
    g_auto(Host) host = { 0 };

    host_with_one(&host);
    host.fake.refuse_configs = true;
    assert_fails(&host, OP, of_snapshot(ALONE), "it stays as it is now");
}

static void
test_forget(void)
{
    g_auto(Host) host = { 0 };
    json_t *child = alone();

    host_with_one(&host);
    json_object_set_new(child, "snapshot_id", json_string(SNAP(9)));
    DO(&host, OP, "snapshot-create", child, "done");
    DO(&host, OP2, "snapshot-forget", json_pack("{s:[s]}", "snapshots", ALONE), "done");
    g_autoptr(Vm) vm = stored_vm(&host, FAKE_VM);
    g_assert_null(vm_snapshot(vm, ALONE));
    g_assert_cmpstr(vm_snapshot(vm, SNAP(9))->parent, ==, SNAP(3));
    assert_untouched(&host);
}

/* Keeping a preview with disks throws away the newer snapshots of its disks. This one stands on
 * none of them. */
static void
test_stays_when_another_is_kept(void)
{
    g_auto(Host) host = { 0 };

    host_with_one(&host);
    DO(&host, OP, "snapshot-preview", of_snapshot(SNAP(1)), "done");
    DO(&host, OP2, "snapshot-commit", of_snapshot(SNAP(1)), "done");
    g_autoptr(Vm) vm = stored_vm(&host, FAKE_VM);
    g_assert_cmpuint(vm->snapshots->len, ==, 2);
    g_assert_true(snapshot_is_config_only(vm_snapshot(vm, ALONE)));
    g_assert_cmpstr(vm_snapshot(vm, ALONE)->parent, ==, SNAP(1));
}

/* ---- one that has lost all that it had ---- */

static void
lose_disks(Host *host, bool forge)
{
    g_autoptr(GError) error = NULL;
    g_autoptr(Domain) domain = domain_open(host->disks, NULL, &error);
    g_autoptr(Vm) vm = stored_vm(host, FAKE_VM);
    Snapshot *snapshot = vm_snapshot(vm, SNAP(2));

    snapshot->config_only = forge;
    g_assert_true(manifest_save(domain, vm, &error)); /* a mark beside its disks */
    vm_free(g_steal_pointer(&vm));
    vm = stored_vm(host, FAKE_VM);
    g_assert_false(vm_snapshot(vm, SNAP(2))->config_only);
    g_ptr_array_set_size(vm_snapshot(vm, SNAP(2))->disks, 0);
    g_assert_true(manifest_save(domain, vm, &error));
}

static void
test_lost(gconstpointer forge)
{
    g_auto(Host) host = { 0 };

    host_with_one(&host);
    lose_disks(&host, forge != NULL);
    g_autoptr(json_t) answer = ask_doctor(&host);
    json_t *findings = json_object_get(answer, "findings");
    unsigned lost = 0;
    for (size_t i = 0; i < json_array_size(findings); i++) {
        const json_t *finding = json_array_get(findings, i);
        if (!g_str_equal(json_text(finding, "class"), "lost-snapshot"))
            continue;
        g_assert_cmpstr(json_text(finding, "file"), ==, SNAP(2));
        lost++;
    }
    g_assert_cmpuint(lost, ==, 1);
    g_autoptr(Vm) vm = stored_vm(&host, FAKE_VM);
    g_autoptr(json_t) todo = import_todo(vm);
    json_t *forget = json_object_get(todo, "forget");
    g_assert_cmpuint(json_array_size(forget), ==, 1);
    g_assert_cmpstr(json_text(json_array_get(forget, 0), "id"), ==, SNAP(2));
}

/* Stops a preview at the n-th point: has libvirt been told? */
static bool
stop_after_define(Host *host, int n)
{
    g_autoptr(GError) error = NULL;

    host_with_one(host);
    fault_arm(n);
    operation_start(host, OP, "snapshot-preview", of_snapshot(ALONE), &error);
    wait_for_fault_or_end(host, OP);
    g_assert_true(fault_fired());
    agent_end(host);
    fault_arm(-1);
    return g_str_equal(host->fake.config, TAKEN);
}

/* The preview could not be written down to its end (a full storage, say), and the VM was started
 * before that was taken back: its definition goes back beside it. */
static void
test_taken_back_while_it_runs(void)
{
    bool found = false;

    for (int n = 0; !found; n++) {
        g_auto(Host) host = { 0 };
        found = stop_after_define(&host, n);
        if (!found)
            continue;
        let_it_be_taken_back(&host);
        fake_power_on(&host.fake);
        agent_begin(&host);
        g_autoptr(json_t) ended = operation_wait(&host, OP);
        g_assert_cmpstr(json_text(ended, "state"), ==, "failed");
        operation_ack(host.agent, OP, NULL);
        assert_configured(&host, LATER);
        fake_power_off(&host.fake);
        g_autoptr(Vm) vm = stored_vm(&host, FAKE_VM);
        g_assert_null(vm->preview);
        assert_untouched(&host);
    }
}

/* ---- stopped at every point ---- */

static json_t *
params_of(const char *kind)
{
    return g_str_equal(kind, "snapshot-create") ? alone() : of_snapshot(ALONE);
}

static void
prepare(Host *host, const char *kind)
{
    if (g_str_equal(kind, "snapshot-create")) {
        host_make(host);
        edit(host, LATER);
        return;
    }
    host_with_one(host);
    if (!g_str_equal(kind, "snapshot-preview"))
        DO(host, OP3, "snapshot-preview", of_snapshot(ALONE), "done");
}

/* What it was before, or what it was to become: never a half of it. */
static void
assert_wholly(Host *host, const char *kind, bool done)
{
    g_autoptr(Vm) vm = stored_vm(host, FAKE_VM);
    const Snapshot *snapshot = vm_snapshot(vm, ALONE);
    bool previews = g_str_equal(kind, "snapshot-preview") ? done : !done;
    bool then = g_str_equal(kind, "snapshot-undo")     ? !done
                : g_str_equal(kind, "snapshot-commit") ? true
                                                       : done;

    g_assert_cmpuint(vm->operations->len, ==, 0);
    if (g_str_equal(kind, "snapshot-create")) {
        g_assert_cmpint(snapshot != NULL, ==, done);
        g_assert_true(!done || snapshot_is_config_only(snapshot));
        assert_configured(host, LATER);
        return;
    }
    g_assert_true(snapshot_is_config_only(snapshot));
    g_assert_cmpint(vm->preview != NULL, ==, previews);
    assert_configured(host, then ? TAKEN : LATER);
    if (previews)
        g_assert_cmpstr(vm->preview->former, ==, LATER);
}

/* Nothing keeps it from starting. */
static void
start(Host *host)
{
    fake_power_on(&host->fake);
}

static bool
stop_at(const char *kind, Sweep sweep, int n)
{
    g_auto(Host) host = { 0 };
    g_autoptr(json_t) ended = NULL;

    prepare(&host, kind);
    bool fired = stop_and_go_on(&host, kind, params_of(kind), sweep, n, start, &ended);
    const char *state = ended != NULL ? json_text(ended, "state") : "unknown";
    g_test_message("%s, stopped at point %d (%d): %s", kind, n, (int)sweep, state);
    if (sweep == RESTART && ended != NULL)
        g_assert_cmpstr(state, ==, "done");
    if (ended != NULL)
        assert_wholly(&host, kind, g_str_equal(state, "done"));
    assert_untouched(&host);
    return fired;
}

static void
test_stop_anywhere(gconstpointer kind)
{
    stop_anywhere(kind, stop_at);
}

int
main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    need_qemu();
    template_make(4);
    g_test_add_func("/config/take", test_take);
    g_test_add_func("/config/take-of-a-running-one", test_take_of_a_running_one);
    g_test_add_func("/config/bad-params", test_bad_params);
    g_test_add_func("/config/undo", test_undo);
    g_test_add_func("/config/commit", test_commit);
    g_test_add_func("/config/commit-of-a-lost-definition", test_commit_of_a_lost_definition);
    g_test_add_func("/config/commit-of-a-changed-one", test_commit_of_a_changed_one);
    g_test_add_func("/config/refused", test_refused);
    g_test_add_func("/config/configuration-is-refused", test_configuration_is_refused);
    g_test_add_func("/config/forget", test_forget);
    g_test_add_func("/config/stays-when-another-is-kept", test_stays_when_another_is_kept);
    g_test_add_data_func("/config/lost", NULL, test_lost);
    g_test_add_data_func("/config/lost-and-forged", "forged", test_lost);
    g_test_add_func("/config/taken-back-while-it-runs", test_taken_back_while_it_runs);
    g_test_add_data_func("/config/stop/create", "snapshot-create", test_stop_anywhere);
    g_test_add_data_func("/config/stop/preview", "snapshot-preview", test_stop_anywhere);
    g_test_add_data_func("/config/stop/commit", "snapshot-commit", test_stop_anywhere);
    g_test_add_data_func("/config/stop/undo", "snapshot-undo", test_stop_anywhere);
    int result = g_test_run();
    folder_remove(&template);
    return result;
}
