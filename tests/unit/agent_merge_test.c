/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * Merges beside which something happens: a VM that is suspended or lost, a job of somebody else, a
 * cancel.
 */
#include "chain_host.h"

/* A VM that a person suspended is neither suspended nor resumed. */
static void
test_paused_by_user(void)
{
    g_autoptr(Host) host = host_new(true);

    host->fake.paused = true;
    operation_start(host, &cases[3]);
    g_autoptr(json_t) op = operation_end(host);
    g_assert_cmpstr(json_text(op, "state"), ==, "done");
    g_assert_true(host->fake.paused);
    g_assert_cmpuint(host->fake.suspends + host->fake.resumes, ==, 0);
    g_assert_cmpuint(host->fake.pivots, ==, 1);
}

/* The agent dies with libvirt's answer to its pivot, which QEMU may have made. */
static void
stop_in_pivot(Host *host)
{
    fault_arm(-1);
    host->fake.dies_in_pivot = true;
    operation_start(host, &cases[3]);
    json_decref(wait_for_step(host, "pivot"));
    agent_end(host);
}

/* After a restart libvirt shows for a while the old leaf and a mirror that is asked to pivot: the
 * VM that we suspended stays so until it is known which leaf QEMU writes. */
static void
test_pivot_in_doubt(void)
{
    g_autoptr(Host) host = host_new(true);
    FakeDisk *disk = &host->fake.disks[0];

    stop_in_pivot(host);
    g_assert_true(host->fake.paused);
    host->fake.dies_in_pivot = false;
    disk->mirror_ready = "pivot";
    agent_begin(host);
    g_autoptr(json_t) op = wait_for_step(host, "pivot");
    g_assert_true(host->fake.paused);
    g_assert_cmpuint(host->fake.resumes, ==, 0);

    g_assert_true(fake_job_pivot(&host->fake.hv, FAKE_VM, "vda", NULL));
    agent_kick(host->agent, FAKE_VM);
    g_autofree char *state = assert_whole(host, &cases[3]);
    g_assert_cmpstr(state, ==, "done");
}

/* libvirtd comes back without the VM, whose definition names the new leaf or still the old one:
 * that it is suspended by us is not forgotten meanwhile. */
static void
test_pivot_of_a_lost_vm(void)
{
    for (unsigned defined = 0; defined < 2; defined++) {
        g_autoptr(Host) host = host_new(true);
        FakeDisk *disk = &host->fake.disks[0];

        stop_in_pivot(host);
        host->fake.dies_in_pivot = host->fake.away = false;
        g_autofree char *old = g_strdup(disk->stored);
        g_assert_true(fake_job_pivot(&host->fake.hv, FAKE_VM, "vda", NULL));
        if (defined == 0)
            fake_set(&disk->stored, old);
        host->fake.lost = true;
        agent_begin(host);
        for (unsigned i = 0; i < 3; i++) {
            g_autoptr(json_t) op = wait_for_step(host, "pivot");
            assert_says(op, "its QEMU runs");
            agent_kick(host->agent, FAKE_VM);
        }
        g_assert_true(host->fake.paused);
        host->fake.lost = false;
        agent_kick(host->agent, FAKE_VM);
        g_autofree char *state = assert_whole(host, &cases[3]);
        g_assert_cmpstr(state, ==, "done");
    }
}

/* Somebody else's job on the disk is not taken for ours, and not touched. */
static void
test_foreign_job(void)
{
    g_autoptr(Host) host = host_new(true);
    FakeDisk *disk = &host->fake.disks[0];

    disk->job = HV_JOB_ACTIVE_COMMIT;
    disk->base = in(host->disks, "a.q");
    disk->mirror_ready = "yes";
    operation_start(host, &cases[3]);
    g_autoptr(json_t) op = operation_end(host);
    g_assert_cmpstr(json_text(op, "state"), ==, "failed");
    g_assert_cmpint(disk->job, ==, HV_JOB_ACTIVE_COMMIT);
    g_assert_cmpuint(host->fake.cancels + host->fake.pivots, ==, 0);
}

/* H12: QEMU dies if it is suspended just as an internal commit ends, of whichever disk. */
static void
test_no_pivot_beside_a_commit(void)
{
    g_autoptr(Host) host = host_new(true);
    FakeDisk *other = &host->fake.disks[1];

    other->job = HV_JOB_COMMIT;
    other->bandwidth = 1; /* it does not end */
    other->base = in(host->disks, "b.q");
    operation_start(host, &cases[3]);
    json_decref(operation_wait(host, op_is_at, "pivot"));
    for (unsigned looks = other->looks; other->looks < looks + 3;)
        g_usleep(1000);
    g_assert_cmpuint(host->fake.suspends + host->fake.pivots, ==, 0);
    other->job = HV_JOB_NONE;
    g_autofree char *state = assert_whole(host, &cases[3]);
    g_assert_cmpstr(state, ==, "done");
    g_assert_cmpuint(host->fake.pivots, ==, 1);
}

static void
test_cancel_a_running_job(void)
{
    g_autoptr(Host) host = host_new(true);
    g_autoptr(json_t) answer = NULL;
    g_autoptr(GError) error = NULL;

    host->fake.endless = true;
    operation_start(host, &cases[2]);
    while (host->fake.disks[0].looks < 2)
        g_usleep(1000);
    g_assert_true(operation_cancel(host->agent, OP, &answer, &error));
    g_autofree char *state = assert_whole(host, &cases[2]);
    g_assert_cmpstr(state, ==, "cancelled");
    g_assert_cmpuint(host->fake.cancels, ==, 1);
}

static void
vm_is_gone(Host *host, bool gone)
{
    const HvEvent event = { .kind = HV_EVENT_DOMAIN, .vm_id = FAKE_VM };

    g_mutex_lock(&host->fake.lock);
    host->fake.gone = gone;
    g_mutex_unlock(&host->fake.lock);
    agent_on_hv_event(&event, host->agent);
    agent_kick(host->agent, FAKE_VM);
}

/* Somebody has migrated it, or undefined it: nobody can tell here what became of the merge, and it
 * holds the VM no longer. Undefined for a moment alone, it goes on. */
static void
test_vm_has_left(void)
{
    const int64_t usual = worker_left_us;

    for (unsigned comes_back = 0; comes_back < 2; comes_back++) {
        g_autoptr(Host) host = host_new(true);

        host->fake.endless = true;
        operation_start(host, &cases[2]);
        while (host->fake.disks[0].looks < 2)
            g_usleep(1000);
        worker_left_us = comes_back ? usual : G_TIME_SPAN_SECOND / 10;
        vm_is_gone(host, true);
        if (comes_back) {
            json_decref(operation_wait(host, op_waits_at, "transfer"));
            host->fake.endless = false;
            vm_is_gone(host, false);
            g_autofree char *state = assert_whole(host, &cases[2]);
            g_assert_cmpstr(state, ==, "done");
            continue;
        }
        g_autoptr(json_t) op = operation_end(host);
        g_assert_cmpstr(json_text(op, "state"), ==, "failed");
        g_assert_cmpstr(json_text(json_object_get(op, "error"), "code"), ==, "gone");
    }
    worker_left_us = usual;
}

/* A cancel in which libvirtd dies, and the agent's end. */
static void
cancel_taken_for_a_pivot(Host *host)
{
    g_autoptr(json_t) answer = NULL;
    g_autoptr(GError) error = NULL;

    fault_arm(-1);
    host->fake.endless = host->fake.dies_in_cancel = true;
    operation_start(host, &cases[3]);
    json_decref(wait_for_step(host, "pivot"));
    g_assert_true(operation_cancel(host->agent, OP, &answer, &error));
    while (fake_is_connected(&host->fake.hv))
        g_usleep(1000);
    agent_end(host);
    host->fake.dies_in_cancel = false;
}

/* libvirtd takes the cancelled job for pivoted, also in the definition. The VM is then still on its
 * old leaf, or was powered off on it (by somebody, or before a new agent looked). */
static void
test_cancel_taken_for_a_pivot(void)
{
    for (unsigned off = 0; off < 2; off++) {
        g_autoptr(Host) host = host_new(true);

        cancel_taken_for_a_pivot(host);
        if (off > 0)
            fake_power_off(&host->fake);
        agent_begin(host);
        g_autofree char *state = assert_whole(host, &cases[3]);
        g_assert_cmpstr(state, ==, "cancelled");
        g_autoptr(Vm) vm = look_closely(host);
        g_autofree char *chain = chain_in_manifest(host, vm);
        g_assert_cmpstr(chain, ==, "a.q a.1.q a.2.q a.3.q");
        g_assert_cmpstr(host->fake.disks[0].stored, ==, host->fake.disks[0].live);
        g_assert_cmpstr(vm_disk(vm, "vda")->busy, ==, off > 0 ? NULL : DISK_LOST_PIVOT);
    }
}

/* The same, and somebody has got it started on what it was not on: nobody decides that, and nothing
 * is deleted, until it is off. */
static void
test_cancel_taken_for_a_pivot_and_started(void)
{
    g_autoptr(Host) host = host_new(true);

    cancel_taken_for_a_pivot(host);
    g_autofree char *leaf = g_strdup(host->fake.disks[0].live);
    fake_power_off(&host->fake);
    fake_power_on(&host->fake);
    agent_begin(host);
    for (unsigned i = 0; i < 3; i++) {
        g_autoptr(json_t) op = wait_for_step(host, "stop");
        assert_says(op, "Power the VM off");
        agent_kick(host->agent, FAKE_VM);
    }
    fake_power_off(&host->fake);
    agent_kick(host->agent, FAKE_VM);
    g_autofree char *state = assert_whole(host, &cases[3]);
    g_assert_cmpstr(state, ==, "cancelled");
    g_assert_cmpstr(host->fake.disks[0].stored, ==, leaf);
}

int
main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    need_qemu();
    template_make();
    g_test_add_func("/merge/paused-by-user", test_paused_by_user);
    g_test_add_func("/merge/pivot-in-doubt", test_pivot_in_doubt);
    g_test_add_func("/merge/pivot-of-a-lost-vm", test_pivot_of_a_lost_vm);
    g_test_add_func("/merge/foreign-job", test_foreign_job);
    g_test_add_func("/merge/no-pivot-beside-a-commit", test_no_pivot_beside_a_commit);
    g_test_add_func("/merge/cancel", test_cancel_a_running_job);
    g_test_add_func("/merge/cancel-taken-for-a-pivot", test_cancel_taken_for_a_pivot);
    g_test_add_func("/merge/cancel-taken-for-a-pivot-and-started",
                    test_cancel_taken_for_a_pivot_and_started);
    g_test_add_func("/merge/vm-has-left", test_vm_has_left);
    int result = g_test_run();
    folder_remove(&template);
    return result;
}
