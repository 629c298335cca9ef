/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * Taking a snapshot when libvirt refuses it, or loses it: which of the two volumes of a disk is the
 * newer one is told by what was seen.
 */
#include "chain_host.h"

/* A snapshot that is refused leaves nothing behind. */
static void
test_snapshot_refused(void)
{
    g_autoptr(Host) host = host_new(true);

    host->fake.refuse_snapshot = ERR_HYPERVISOR;
    operation_start(host, &cases[0]);
    g_autofree char *state = assert_whole(host, &cases[0]);
    g_assert_cmpstr(state, ==, "failed");
}

/* For a snapshot with memory libvirt suspends the guest before it finds that a disk has a block
 * job, which must not happen beside an internal commit, of whichever disk (H12): it is not asked.
 */
static void
test_memory_beside_a_job(void)
{
    g_autoptr(Host) host = host_new(true);
    FakeDisk *other = &host->fake.disks[1];
    g_autoptr(json_t) body = json_pack("{s:s, s:s, s:s, s:s, s:s, s:b, s:[s]}", "id", OP, "kind",
                                       "snapshot-create", "vm_id", FAKE_VM, "snapshot_id", OP2,
                                       "name", "one", "memory", 1, "disks", host->disk_id);
    g_autoptr(json_t) answer = NULL;
    g_autoptr(GError) error = NULL;

    other->job = HV_JOB_COMMIT;
    other->bandwidth = 1; /* it does not end */
    operation_begin(host->agent, body, &answer, &error);
    g_assert_no_error(error);
    g_autofree char *state = assert_whole(host, &cases[0]);
    g_assert_cmpstr(state, ==, "failed");
    g_autoptr(json_t) op = operation_end(host);
    const char *why = json_text(json_object_get(op, "error"), "message");
    g_assert_nonnull(strstr(why, "vdb"));
    g_assert_nonnull(strstr(why, "virsh blockjob web1 vdb --abort"));
    g_assert_cmpuint(host->fake.snapshots, ==, 0);
    g_assert_cmpint(other->job, ==, HV_JOB_COMMIT);
}

/* libvirtd was killed between QEMU's switch and writing it down: it names the old leaf, and refuses
 * to do it again. The overlay holds what the guest wrote since. */
static void
test_snapshot_that_libvirt_lost(void)
{
    g_autoptr(Host) host = host_new(true);

    fault_arm(-1);
    host->fake.dies_in_snapshot = true;
    operation_start(host, &cases[0]);
    json_decref(wait_for_step(host, "switch"));
    agent_end(host);
    for (char disk = 'a'; disk <= 'b'; disk++)
        MUST(host->disks,
             "sh -c 'qemu-io -f qcow2 -c \"write -P 99 512k 64k\" %c.3.bbbbbbbb.qcow2; "
             "qemu-img convert -f qcow2 -O raw %c.3.bbbbbbbb.qcow2 %c.gold'",
             disk, disk, disk);
    host->fake.dies_in_snapshot = false;
    host->fake.refuse_snapshot = ERR_HYPERVISOR;
    host->fake.refuse_redefines = 1; /* an error is no reason to undo it */
    agent_begin(host);
    g_autoptr(json_t) op = wait_for_step(host, "verify");
    assert_says(op, "bbbbbbbb");
    g_assert_cmpuint(files_of(host), ==, 10);

    fake_power_off(&host->fake);
    agent_queue_refresh(host->agent, FAKE_VM);
    g_autofree char *state = assert_whole(host, &cases[0]);
    g_assert_cmpstr(state, ==, "done");
}

/* The same, and both agent and libvirtd are gone when the guest has written to its new volumes,
 * which keep the time of an empty one if that is lost. */
static void
lose_switch(Host *host, bool lose_time)
{
    fault_arm(-1);
    host->fake.dies_in_snapshot = true;
    operation_start(host, &cases[0]);
    json_decref(wait_for_step(host, "switch"));
    agent_end(host);
    for (char disk = 'a'; disk <= 'b'; disk++)
        MUST(host->disks,
             "sh -c 'o=%c.3.bbbbbbbb.qcow2; t=$(stat -c %%y $o); "
             "qemu-io -f qcow2 -c \"write -P 99 512k 64k\" $o; %s touch -d \"$t\" $o; "
             "qemu-img convert -f qcow2 -O raw $o %c.gold'",
             disk, lose_time ? "" : ":", disk);
    host->fake.dies_in_snapshot = false;
    host->fake.refuse_snapshot = ERR_HYPERVISOR;
}

static void
assert_waits(Host *host, const char *why)
{
    g_autoptr(json_t) op = wait_for_step(host, "verify");

    g_test_message("%s", json_text(op, "waiting_for"));
    assert_says(op, why);
    g_assert_cmpuint(files_of(host), ==, 10);
}

static void
assert_ends(Host *host, const char *state)
{
    agent_queue_refresh(host->agent, FAKE_VM);
    g_autofree char *end = assert_whole(host, &cases[0]);
    g_assert_cmpstr(end, ==, state);
}

/* Both volumes were written: a person decides, as he is told. */
static void
test_snapshot_and_a_stale_start(void)
{
    g_autoptr(Host) host = host_new(true);

    lose_switch(host, false);
    fake_power_off(&host->fake);
    fake_power_on(&host->fake);
    agent_begin(host);
    assert_waits(host, "was then seen to run on its old one");
    agent_end(host);
    fake_power_off(&host->fake);
    agent_begin(host); /* it remembers */
    assert_waits(host, "mv ");
    for (char disk = 'a'; disk <= 'b'; disk++)
        MUST(host->disks,
             "sh -c 'mv %c.3.bbbbbbbb.qcow2 ../%c.aside; "
             "qemu-img convert -f qcow2 -O raw %c.3.q %c.gold'",
             disk, disk, disk, disk);
    assert_ends(host, "failed");
}

/* A power loss took the new volumes' times and kept their data. */
static void
test_snapshot_that_lost_its_time(void)
{
    g_autoptr(Host) host = host_new(true);

    lose_switch(host, true);
    MUST(host->disks, "touch a.3.q b.3.q");
    fake_power_off(&host->fake);
    agent_begin(host);
    assert_ends(host, "done");
}

/* Where nothing guards the start, times are a reason to ask; a guard that was put up later has not
 * kept the VM from anything. */
static void
test_snapshot_unguarded(void)
{
    g_autoptr(Host) host = host_new(true);

    lose_switch(host, false);
    MUST(host->disks, "touch -d 'now + 1 hour' a.3.q b.3.q");
    fake_power_off(&host->fake);
    agent_begin(host);
    assert_waits(host, "start guard");
    agent_end(host);
    put_up_guard(host);
    agent_begin(host);
    assert_waits(host, "start guard");
}

static void
test_snapshot_guarded(void)
{
    g_autoptr(Host) host = host_new(true);

    put_up_guard(host);
    lose_switch(host, false);
    MUST(host->disks, "touch -d 'now + 1 hour' a.3.q b.3.q");
    fake_power_off(&host->fake);
    agent_begin(host);
    assert_ends(host, "done");
}

/* A look while a QEMU wrote the overlays counts more than any time. libvirt refused just then to
 * let the definition name them. */
static void
test_snapshot_that_was_seen(const void *data)
{
    const bool written = GPOINTER_TO_INT(data) != 0;
    g_autoptr(Host) host = host_new(true);
    g_autofree char *a = in(host->disks, "a.3.bbbbbbbb.qcow2"),
                    *b = in(host->disks, "b.3.bbbbbbbb.qcow2");

    lose_switch(host, false);
    const int fds[] = { lock_as_qemu(a), lock_as_qemu(b) };
    host->fake.refuse_redefines = UINT_MAX;
    agent_begin(host);
    json_decref(wait_for_step(host, "verify"));
    agent_end(host);
    host->fake.refuse_redefines = 0;
    MUST(host->disks, "touch -d 'now - 1 day' %s",
         written ? "a.3.q" : "a.3.bbbbbbbb.qcow2 b.3.bbbbbbbb.qcow2");
    close(fds[0]);
    close(fds[1]);
    fake_power_off(&host->fake);
    agent_begin(host);
    if (written)
        assert_waits(host, "has been written since");
    else
        assert_ends(host, "done");
}

int
main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    need_qemu();
    template_make();
    g_test_add_func("/snapshot/refused", test_snapshot_refused);
    g_test_add_func("/snapshot/memory-beside-a-job", test_memory_beside_a_job);
    g_test_add_func("/snapshot/lost-by-libvirt", test_snapshot_that_libvirt_lost);
    g_test_add_func("/snapshot/stale-start", test_snapshot_and_a_stale_start);
    g_test_add_func("/snapshot/lost-time", test_snapshot_that_lost_its_time);
    g_test_add_func("/snapshot/unguarded", test_snapshot_unguarded);
    g_test_add_func("/snapshot/guarded", test_snapshot_guarded);
    g_test_add_data_func("/snapshot/seen-unwritten", GINT_TO_POINTER(0),
                         test_snapshot_that_was_seen);
    g_test_add_data_func("/snapshot/seen-written", GINT_TO_POINTER(1), test_snapshot_that_was_seen);
    int result = g_test_run();
    folder_remove(&template);
    return result;
}
