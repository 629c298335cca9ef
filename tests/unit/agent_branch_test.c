/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * Tests of src/agent/preview.c and branch_end.c on a hypervisor in memory with real qcow2 files:
 * the VM stands on one line or the other, wholly, with what it had there; the start guard knows
 * which; nothing is lost of the line that stays.
 */
#include "agent/inventory.h"
#include "branch_host.h"

/* As if vdb had been added later. */
static void
take_from_snapshot_3(Host *host)
{
    g_autoptr(GError) error = NULL;
    g_autoptr(Domain) domain = domain_open(host->disks, NULL, &error);
    g_autoptr(Vm) vm = stored_vm(host, FAKE_VM);

    g_ptr_array_set_size(vm_snapshot(vm, SNAP(3))->disks, 1);
    g_assert_true(manifest_save(domain, vm, &error));
}

static const char *const old_line[] = { "a.3.q", "b.3.q", "a.2.q", "a.1.q", NULL };

static void
test_undo(void)
{
    g_auto(Host) host = { 0 };

    host_make(&host);
    DO(&host, OP, "snapshot-preview", of_snapshot(SNAP(1)), "done");
    assert_stands_on(&host, 0);
    assert_guarded(&host, old_line);
    assert_sound(&host);
    g_assert_cmpuint(images_in(&host), ==, 11);
    write_leaf(&host, 0, 99); /* the guest tries something */
    agent_end(&host);
    agent_begin(&host);
    assert_sound(&host);
    g_autofree char *tried = leaf_of(&host, 0);
    g_autoptr(json_t) undone =
        do_operation(&host, OP2, "snapshot-undo", of_snapshot(SNAP(1)), "done");
    assert_stands_on(&host, 3);
    delete_left(&host, OP3, undone);
    assert_stands_on(&host, 3);
    assert_guarded(&host, NULL);
    g_assert_cmpuint(images_in(&host), ==, 9);
    g_assert_false(g_file_test(tried, G_FILE_TEST_EXISTS));
    g_autoptr(Vm) vm = stored_vm(&host, FAKE_VM);
    g_assert_cmpuint(vm->snapshots->len, ==, 3);
    g_assert_cmpuint(vm->leftovers->len, ==, 0);
    assert_sound(&host);
}

static void
test_commit(void)
{
    g_auto(Host) host = { 0 };

    host_make(&host);
    DO(&host, OP, "snapshot-preview", of_snapshot(SNAP(1)), "done");
    g_autoptr(json_t) kept =
        do_operation(&host, OP2, "snapshot-commit", of_snapshot(SNAP(1)), "done");
    assert_guarded(&host, old_line); /* leftovers by now */
    delete_left(&host, OP3, kept);
    assert_stands_on(&host, 0);
    /* a.0.q, b.0.q and a leaf for each: the memory of snapshot 3 is gone, too */
    g_assert_cmpuint(images_in(&host), ==, 4);
    g_autoptr(Vm) vm = stored_vm(&host, FAKE_VM);
    g_assert_cmpuint(vm->snapshots->len, ==, 1);
    g_assert_cmpuint(vm->leftovers->len, ==, 0);
    g_assert_null(vm->preview);
    assert_sound(&host);
}

static void
assert_fails(Host *host, const char *id, const char *kind, json_t *take_params, const char *wanted)
{
    g_autoptr(json_t) json = do_operation(host, id, kind, take_params, "failed");
    const char *text = json_text(json_object_get(json, "error"), "message");

    if (strstr(text, wanted) == NULL)
        g_error("the message lacks \"%s\": %s", wanted, text);
    assert_stands_on(host, 3);
    g_assert_cmpuint(images_in(host), ==, 9);
}

static void
test_refused(void)
{
    g_auto(Host) host = { 0 };

    host_make(&host);
    take_from_snapshot_3(&host);
    assert_fails(&host, OP, "snapshot-commit", of_snapshot(SNAP(1)), "does not preview");
    assert_fails(&host, OP2, "snapshot-undo", of_snapshot(SNAP(1)), "does not preview");
    assert_fails(&host, OP3, "snapshot-preview", of_snapshot(SNAP(3)), "nothing of disk vdb");
    assert_fails(&host, SNAP(6), "snapshot-preview", of_snapshot(SNAP(9)), "no snapshot");
    host.fake.running = true;
    assert_fails(&host, SNAP(7), "snapshot-preview", of_snapshot(SNAP(1)), "shut it down");
}

/* The leaf lies behind a symbolic link: "../a.0.q" as seen from there is another file. What would
 * not be read as it is meant is not stood upon. */
static void
test_link(void)
{
    g_auto(Host) host = { 0 };

    host_make(&host);
    agent_end(&host);
    MUST(host.disks, "mkdir -p deep/down");
    MUST(host.disks, "ln -s deep/down link");
    MUST(host.disks, "qemu-img create -q -f qcow2 -b %s/a.3.q -F qcow2 deep/down/a.4.q",
         host.disks);
    g_autofree char *leaf = in(host.disks, "link/a.4.q");
    fake_set(&host.fake.disks[0].stored, leaf);
    agent_begin(&host);
    g_autoptr(json_t) json =
        do_operation(&host, OP, "snapshot-preview", of_snapshot(SNAP(1)), "failed");
    g_autofree char *now = leaf_of(&host, 0);
    g_assert_cmpstr(now, ==, leaf);
    assert_stands_on(&host, 3);
    g_autoptr(Vm) vm = stored_vm(&host, FAKE_VM);
    g_assert_null(vm->preview);
    g_assert_cmpuint(vm->operations->len, ==, 0);
    g_autofree char *left = must(host.disks, "find . -name '*.aaaaaaaa.qcow2'");
    g_assert_cmpstr(left, ==, "");
}

/* With the disk named, one that the snapshot does not have goes on from what it has. */
static void
test_one_disk(void)
{
    g_auto(Host) host = { 0 };

    host_make(&host);
    take_from_snapshot_3(&host);
    g_autoptr(Vm) before = stored_vm(&host, FAKE_VM);
    json_t *params = of_snapshot(SNAP(3));
    json_object_set_new(params, "disks", json_pack("[s]", vm_disk(before, "vda")->id));
    DO(&host, OP, "snapshot-preview", params, "done");
    g_autofree char *b = leaf_of(&host, 1), *wanted = in(host.disks, "b.3.q");
    g_assert_cmpstr(b, ==, wanted);
    g_autofree char *a = leaf_of(&host, 0);
    MUST(host.disks, "qemu-img compare -q -f qcow2 -F raw %s a.2.gold", a);
}

/* A start goes on from the memory, until anything was written. */
static void
test_memory(void)
{
    g_auto(Host) host = { 0 };
    json_t *params = of_snapshot(SNAP(3));

    host_make(&host);
    json_object_set_new(params, "memory", json_true());
    DO(&host, OP, "snapshot-preview", params, "done");
    DO(&host, OP2, "vm-start", json_object(), "done");
    g_assert_true(g_str_has_suffix(host.fake.restored, "/a.2.memory"));
    for (unsigned i = 0; i < FAKE_DISKS; i++)
        g_assert_cmpstr(host.fake.disks[i].live, ==, host.fake.disks[i].stored);
    *host.fake.restored = '\0';
    fake_power_off(&host.fake);
    host.fake.saved = true; /* what was saved later is what it goes on from */
    DO(&host, SNAP(5), "vm-start", json_object(), "done");
    g_assert_cmpstr(host.fake.restored, ==, "");
    fake_power_off(&host.fake);
    write_leaf(&host, 1, 99);
    DO(&host, OP3, "vm-start", json_object(), "done");
    g_assert_cmpstr(host.fake.restored, ==, "");
    g_assert_true(host.fake.running);
}

/* A look of the agent while nothing is under way, which writes down what it sees. */
static void
look(Host *host)
{
    AgentVm *entry = agent_entry(host->agent, FAKE_VM, false);
    g_autoptr(GMutexLocker) here G_GNUC_UNUSED = g_mutex_locker_new(&entry->lock);
    g_autoptr(GError) error = NULL;

    g_assert_false(agent_is_busy(host->agent, entry));
    g_assert_true(agent_look(host->agent, entry, &error));
}

/* Kept as it is now, the snapshot's memory is gone on from once, and only from there. */
static void
test_restored_memory(void)
{
    g_auto(Host) host = { 0 };
    json_t *params = of_snapshot(SNAP(3));

    host_make(&host);
    json_object_set_new(params, "memory", json_true());
    DO(&host, OP, "snapshot-preview", params, "done");
    DO(&host, OP2, "snapshot-commit", of_snapshot(SNAP(3)), "done");
    look(&host);
    DO(&host, SNAP(5), "vm-start", json_object(), "done");
    g_assert_true(g_str_has_suffix(host.fake.restored, "/a.2.memory"));
    *host.fake.restored = '\0';
    fake_power_off(&host.fake);
    DO(&host, OP3, "vm-start", json_object(), "done");
    g_assert_cmpstr(host.fake.restored, ==, "");
}

/* Memory, CPUs and devices are those of the snapshot, and after an undo what they were. */
static void
test_configuration(void)
{
    g_auto(Host) host = { 0 };

    host_make(&host);
    DO(&host, OP, "snapshot-preview", of_snapshot(SNAP(2)), "done");
    g_assert_cmpstr(host.fake.config, ==, CONFIG);
    DO(&host, OP2, "snapshot-undo", of_snapshot(SNAP(2)), "done");
    g_assert_cmpstr(host.fake.config, ==, "<domain/>");
    g_autofree char *leaf = leaf_of(&host, 0);
    g_assert_true(g_str_has_suffix(leaf, "/a.3.q"));
}

/* What libvirt does not take any more does not keep the disks from going back. */
static void
test_configuration_is_refused(void)
{
    g_auto(Host) host = { 0 };

    host_make(&host);
    host.fake.refuse_configs = true;
    DO(&host, OP, "snapshot-preview", of_snapshot(SNAP(2)), "done");
    g_assert_null(host.fake.config);
    g_autofree char *tried = leaf_of(&host, 0);
    g_assert_false(g_str_has_suffix(tried, "/a.3.q"));
    g_autoptr(Vm) vm = stored_vm(&host, FAKE_VM);
    g_assert_nonnull(vm->preview);
}

static void
test_no_memory(void)
{
    g_auto(Host) host = { 0 };
    json_t *params = of_snapshot(SNAP(1));

    host_make(&host);
    json_object_set_new(params, "memory", json_true());
    assert_fails(&host, OP, "snapshot-preview", params, "has no memory");
}

/* The host loses its power, and libvirt the definition that it had just written. */
static void
test_definition_is_lost(void)
{
    g_auto(Host) host = { 0 };
    int64_t until = g_get_monotonic_time() + PATIENCE_US;

    host_make(&host);
    DO(&host, OP, "snapshot-preview", of_snapshot(SNAP(2)), "done");
    g_autofree char *tried = leaf_of(&host, 0), *old = in(host.disks, "a.3.q");
    g_mutex_lock(&host.fake.lock);
    fake_set(&host.fake.disks[0].stored, old);
    g_mutex_unlock(&host.fake.lock);
    agent_queue_refresh(host.agent, FAKE_VM);
    for (g_autofree char *now = leaf_of(&host, 0); strcmp(now, tried) != 0;) {
        g_assert_cmpint(g_get_monotonic_time(), <, until);
        g_usleep(2000);
        g_free(now);
        now = leaf_of(&host, 0);
    }
    assert_stands_on(&host, 1);
}

/* Somebody starts it from its old leaf past the guard: the preview is what stands beside then, and
 * undo takes it away. */
static void
test_started_from_old_leaf(void)
{
    g_auto(Host) host = { 0 };

    host_make(&host);
    DO(&host, OP, "snapshot-preview", of_snapshot(SNAP(2)), "done");
    agent_end(&host);
    for (unsigned i = 0; i < FAKE_DISKS; i++) {
        g_autofree char *old = in(host.disks, i == 0 ? "a.3.q" : "b.3.q");
        fake_set(&host.fake.disks[i].stored, old);
    }
    fake_power_on(&host.fake);
    agent_begin(&host);
    g_autoptr(Vm) vm = agent_vm_shown(host.agent, FAKE_VM);
    g_assert_cmpuint(vm_disk(vm, "vda")->volumes->len, ==, 4);
    g_assert_cmpuint(vm_disk(vm, "vda")->branches->len, ==, 1);
    g_assert_false(snapshot_is_unusable(vm_snapshot(vm, SNAP(2))));
    fake_power_off(&host.fake);
    g_autoptr(json_t) undone =
        do_operation(&host, OP2, "snapshot-undo", of_snapshot(SNAP(2)), "done");
    delete_left(&host, OP3, undone);
    assert_stands_on(&host, 3);
    g_assert_cmpuint(images_in(&host), ==, 9);
    assert_sound(&host);
}

int
main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    need_qemu();
    template_make(4);
    g_test_add_func("/branch/undo", test_undo);
    g_test_add_func("/branch/commit", test_commit);
    g_test_add_func("/branch/refused", test_refused);
    g_test_add_func("/branch/one-disk", test_one_disk);
    g_test_add_func("/branch/link", test_link);
    g_test_add_func("/branch/memory", test_memory);
    g_test_add_func("/branch/restored-memory", test_restored_memory);
    g_test_add_func("/branch/configuration", test_configuration);
    g_test_add_func("/branch/configuration-is-refused", test_configuration_is_refused);
    g_test_add_func("/branch/no-memory", test_no_memory);
    g_test_add_func("/branch/definition-is-lost", test_definition_is_lost);
    g_test_add_func("/branch/started-from-old-leaf", test_started_from_old_leaf);
    int result = g_test_run();
    folder_remove(&template);
    return result;
}
