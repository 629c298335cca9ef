/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * A preview, its commit and its undo, each stopped at every fault point: the VM stands on one line
 * or the other, on both disks, and the start guard knows which.
 */
#include "branch_host.h"

/* As libvirt would start it: from the definition, if the guard allows that. */
static void
try_to_start(Host *host)
{
    g_autofree char *a = leaf_of(host, 0), *b = leaf_of(host, 1);
    const char *sources[] = { a, b, NULL };
    g_auto(GuardManifest) manifest = { 0 };
    g_autoptr(GError) error = NULL;
    bool fine = true;

    g_assert_true(guard_load(FAKE_VM, sources, &manifest, &error));
    for (unsigned i = 0; i < 2; i++) {
        g_auto(GuardFinding) finding = { 0 };
        guard_look(&manifest, i == 0 ? "vda" : "vdb", sources[i], "qcow2", &finding);
        fine = fine && finding.verdict == GUARD_FINE;
    }
    if (fine)
        fake_power_on(&host->fake);
}

/* Where it stands must be one of the two lines, on both disks, with all its data. */
static unsigned
layer_now(Host *host, unsigned low)
{
    g_autofree char *leaf = leaf_of(host, 0);
    g_autofree char *old = in(host->disks, "a.3.q");
    unsigned layer = g_str_equal(leaf, old) ? 3 : low;

    assert_stands_on(host, layer);
    return layer;
}

/* Stops the agent at its n-th fault point in this operation; false when there is none any more. */
static bool
stop_at(const char *kind, Sweep sweep, int n)
{
    g_auto(Host) host = { 0 };
    g_autoptr(json_t) ended = NULL;
    bool preview = g_str_equal(kind, "snapshot-preview");

    host_make(&host);
    if (!preview)
        DO(&host, OP3, "snapshot-preview", of_snapshot(SNAP(2)), "done");
    bool fired = stop_and_go_on(&host, kind, of_snapshot(SNAP(2)), sweep, n, try_to_start, &ended);
    const char *state = ended != NULL ? json_text(ended, "state") : "unknown";
    unsigned layer = layer_now(&host, 1);
    g_autoptr(Vm) vm = stored_vm(&host, FAKE_VM);

    g_test_message("%s, stopped at point %d: %s, on layer %u", kind, n, state, layer);
    assert_guarded(&host, NULL);
    if (g_str_equal(state, "done"))
        g_assert_cmpuint(layer, ==, g_str_equal(kind, "snapshot-undo") ? 3 : 1);
    else
        g_assert_cmpuint(layer, ==, preview ? 3 : 1);
    if (sweep == RESTART && ended != NULL)
        g_assert_cmpstr(state, ==, "done");
    if (sweep == RESTART) /* else somebody may have started it before it went back */
        g_assert_cmpstr(host.fake.config, ==, layer == 1 ? CONFIG : preview ? NULL : "<domain/>");
    g_assert_cmpuint(vm->operations->len, ==, 0);
    if (preview && layer == 3)
        g_assert_cmpuint(images_in(&host), ==, 9);
    bool ends = !preview && g_str_equal(state, "done");
    if (ends && sweep == RESTART)
        delete_left(&host, OP2, ended);
    if (!ends || sweep == RESTART) /* else what is to be deleted is still there */
        assert_sound(&host);
    return fired;
}

/* Stops at the n-th point; true when the definition names the new leaf and the operation is not at
 * its end. */
static bool
stop_after_define(Host *host, int n)
{
    g_autoptr(GError) error = NULL;
    g_autofree char *old = NULL, *now = NULL;

    host_make(host);
    fault_arm(n);
    operation_start(host, OP, "snapshot-preview", of_snapshot(SNAP(2)), &error);
    wait_for_fault_or_end(host, OP);
    g_assert_true(fault_fired());
    agent_end(host);
    fault_arm(-1);
    old = in(host->disks, "a.3.q");
    now = leaf_of(host, 0);
    return !g_str_equal(now, old);
}

/* What the guest has written on the new leaf is not thrown away, and nothing waits for ever. */
static void
test_started_before_it_is_taken_back(void)
{
    bool found = false;

    for (int n = 0; !found; n++) {
        g_auto(Host) host = { 0 };
        found = stop_after_define(&host, n);
        if (!found)
            continue;
        let_it_be_taken_back(&host);
        write_leaf(&host, 0, 99);
        fake_power_on(&host.fake);
        agent_begin(&host);
        g_autoptr(json_t) ended = operation_wait(&host, OP);
        g_assert_cmpstr(json_text(ended, "state"), ==, "done");
        g_autoptr(Vm) vm = stored_vm(&host, FAKE_VM);
        g_assert_nonnull(vm->preview);
        g_assert_cmpuint(vm->operations->len, ==, 0);
        g_autofree char *leaf = leaf_of(&host, 0);
        g_assert_true(g_file_test(leaf, G_FILE_TEST_EXISTS));
    }
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
    g_test_add_func("/branch-stop/started-before-it-is-taken-back",
                    test_started_before_it_is_taken_back);
    g_test_add_data_func("/branch-stop/preview", "snapshot-preview", test_stop_anywhere);
    g_test_add_data_func("/branch-stop/commit", "snapshot-commit", test_stop_anywhere);
    g_test_add_data_func("/branch-stop/undo", "snapshot-undo", test_stop_anywhere);
    int result = g_test_run();
    folder_remove(&template);
    return result;
}
