/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * Tests of src/agent/clone*.c and vm_remove.c on a hypervisor in memory with real qcow2 files,
 * stopped at every fault point: a clone is there wholly, with what it is made of, or nothing is
 * left of it; a removed VM takes all with it that is its own, and nothing else.
 */
#include "agent/doctor.h"
#include "agent/starting.h"
#include "clone_host.h"

/* ---- clone */

static void
test_of_snapshot(void)
{
    g_auto(Host) host = { 0 };

    host_make(&host);
    fake_power_on(&host.fake); /* whatever the VM does */
    g_autoptr(json_t) json = do_operation(&host, OP, "clone", clone_of(SNAP(1)), "done");
    g_assert_cmpstr(json_text(json_object_get(json, "result"), "clone_id"), ==, TWIN);
    assert_twin(&host, 0);
    assert_source(&host);
    g_autoptr(Vm) shown = agent_vm_shown(host.agent, TWIN);
    g_assert_nonnull(shown);
}

static void
test_as_it_is(void)
{
    g_auto(Host) host = { 0 };

    host_make(&host);
    DO(&host, OP, "clone", clone_of(NULL), "done");
    assert_twin(&host, 2);
    assert_source(&host);
}

static void
test_clone_refused(void)
{
    g_auto(Host) host = { 0 };
    g_autoptr(GError) error = NULL;

    host_make(&host);
    fake_power_on(&host.fake);
    assert_fails(&host, clone_of(NULL), "clone", "--snapshot");
    fake_power_off(&host.fake);
    assert_fails(&host, clone_of(SNAP(9)), "clone", "has no snapshot");
    json_t *params = clone_of(SNAP(1));
    json_object_set_new(params, "name", json_string("web1"));
    assert_fails(&host, params, "clone", "there is a VM 'web1' already");
    assert_no_twin(&host);
    params = clone_of(SNAP(1));
    json_object_set_new(params, "name", json_string("a/b"));
    g_assert_false(operation_start(&host, OP, "clone", params, &error));
    g_assert_error(error, ERR, ERR_INVALID);
}

/* Somebody runs the clone before a cancel could take it away: it stays. */
static void
test_clone_is_used(void)
{
    g_auto(Host) host = { 0 };
    g_autoptr(json_t) answer = NULL;
    g_autoptr(GError) error = NULL;

    host_make(&host);
    host.fake.dies_after_define = true;
    operation_start(&host, OP, "clone", clone_of(SNAP(2)), &error);
    g_assert_no_error(error);
    for (bool away = false; !away; g_usleep(1000)) {
        WITH_LOCK(&host.fake.lock);
        away = host.fake.away;
    }
    operation_cancel(host.agent, OP, &answer, NULL);
    g_mutex_lock(&host.fake.lock);
    host.fake.dies_after_define = false;
    host.fake.clone_runs = true;
    host.fake.away = false;
    g_mutex_unlock(&host.fake.lock);
    agent_kick(host.agent, FAKE_VM);
    g_autoptr(json_t) json = operation_wait(&host, OP);
    g_assert_cmpstr(json_text(json, "state"), ==, "done");
    assert_twin(&host, 1);
}

/* ---- remove */

static json_t *
removal(bool keep_disks)
{
    return json_pack("{s:b}", "keep_disks", (int)keep_disks);
}

static void
assert_removed(Host *host)
{
    g_autoptr(Vm) vm = stored_vm(host, FAKE_VM);

    wait_for_trash(host);
    g_assert_null(vm);
    g_assert_true(host->fake.removed);
    g_assert_cmpuint(images_in(host), ==, 0);
}

static void
test_remove(void)
{
    g_auto(Host) host = { 0 };

    host_make(&host);
    DO(&host, OP, "vm-remove", removal(false), "done");
    assert_removed(&host);
    g_autoptr(Vm) shown = agent_vm_shown(host.agent, FAKE_VM);
    g_assert_null(shown);
}

static void
test_remove_refused(void)
{
    g_auto(Host) host = { 0 };

    host_make(&host);
    fake_power_on(&host.fake);
    assert_fails(&host, removal(false), "vm-remove", "shut it down first");
    fake_power_off(&host.fake);
    assert_fails(&host, removal(true), "vm-remove", "2 snapshots");
    MUST(host.disks, "qemu-img create -q -f qcow2 -b b.2.q -F qcow2 other.q");
    assert_fails(&host, removal(false), "vm-remove", "other.q stands on its disk vdb");
    MUST(host.disks, "rm other.q");
    assert_source(&host);
    g_assert_false(host.fake.removed);
}

/* Its storage is not mounted: an agent that has just started sees neither disks nor snapshots. */
static void
test_remove_not_mounted(void)
{
    g_auto(Host) host = { 0 };

    host_make(&host);
    agent_end(&host);
    MUST("/", "mv %s %s.away", host.disks, host.disks);
    MUST("/", "mkdir %s", host.disks);
    fake_is_away(&host.fake, false);
    agent_begin(&host);
    assert_fails(&host, removal(false), "vm-remove", "is its storage mounted?");
    g_assert_false(host.fake.removed);
    MUST("/", "rm -r %s", host.disks);
    MUST("/", "mv %s.away %s", host.disks, host.disks);
    assert_source(&host);
    MUST("/", "mv %s %s.away", host.disks, host.disks);
    DO(&host, OP, "vm-remove", removal(true), "done"); /* who knows that they are gone says so */
    g_assert_true(host.fake.removed);
    MUST("/", "mv %s.away %s", host.disks, host.disks);
    g_assert_cmpuint(images_in(&host), ==, 7);
}

/* What somebody else stands on stays, with what that stands on. */
static void
test_remove_shared_base(void)
{
    g_auto(Host) host = { 0 };

    host_make(&host);
    MUST(host.disks, "qemu-img create -q -f qcow2 -b b.1.q -F qcow2 other.q");
    g_autoptr(json_t) json = do_operation(&host, OP, "vm-remove", removal(false), "done");
    g_assert_cmpuint(json_array_size(json_object_get(json_object_get(json, "result"), "kept")), ==,
                     2);
    wait_for_trash(&host);
    g_assert_cmpuint(images_in(&host), ==, 3);
    MUST(host.disks, "qemu-img compare -q -f qcow2 -F raw other.q b.1.gold");
}

/* ---- stopped anywhere */

typedef enum { RESTART, CANCEL, SWEEPS } Sweep;

/* Stops the agent at its n-th fault point in this operation; false when there is none any more. */
static bool
stop_at(Sweep sweep, int n)
{
    g_auto(Host) host = { 0 };
    g_autoptr(GError) error = NULL;
    g_autoptr(json_t) answer = NULL;

    host_make(&host);
    fault_arm(n);
    operation_start(&host, OP, "clone", clone_of(SNAP(2)), &error);
    wait_for_fault_or_end(&host, OP);
    bool fired = fault_fired();
    agent_end(&host);
    fault_arm(-1);
    agent_begin(&host);
    if (sweep == CANCEL)
        operation_cancel(host.agent, OP, &answer, NULL);
    g_autoptr(json_t) ended = operation_wait(&host, OP);
    operation_ack(host.agent, OP, NULL);
    const char *state = ended != NULL ? json_text(ended, "state") : "unknown";
    bool done = g_str_equal(state, "done");

    g_test_message("stopped at point %d: %s", n, state);
    if (sweep == RESTART && ended != NULL)
        g_assert_true(done);
    if (done)
        assert_twin(&host, 1);
    else
        assert_no_twin(&host);
    assert_source(&host);
    return fired;
}

static void
test_stop_anywhere(void)
{
    for (Sweep sweep = RESTART; sweep < SWEEPS; sweep++)
        for (int n = 0; stop_at(sweep, n); n++)
            ;
}

int
main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    need_qemu();
    template_make(3);
    g_test_add_func("/clone/of-snapshot", test_of_snapshot);
    g_test_add_func("/clone/as-it-is", test_as_it_is);
    g_test_add_func("/clone/refused", test_clone_refused);
    g_test_add_func("/clone/is-used", test_clone_is_used);
    g_test_add_func("/remove/all", test_remove);
    g_test_add_func("/remove/refused", test_remove_refused);
    g_test_add_func("/remove/not-mounted", test_remove_not_mounted);
    g_test_add_func("/remove/shared-base", test_remove_shared_base);
    g_test_add_func("/clone/stop-anywhere", test_stop_anywhere);
    int result = g_test_run();
    folder_remove(&template);
    return result;
}
