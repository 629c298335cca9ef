/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * Tests of src/agent/power.c on a hypervisor in memory: what libvirt is asked for, and that an
 * operation that is repeated by the next agent does to no VM what was meant for another life of it.
 */
#include "agent_host.h"

#define MERGE "bbbbbbbb-0000-4000-8000-000000000002"

static void
asked(Host *host, const char *kind, const char *how, const char *wanted)
{
    g_autoptr(json_t) doc = NULL;
    g_autoptr(GError) error = NULL;

    g_string_truncate(host->fake.powers, 0);
    begin(host, kind, how);
    doc = wait_for(host, "done");
    g_assert_cmpstr(host->fake.powers->str, ==, wanted);
    while (!operation_ack(host->agent, host->op, &error))
        g_clear_error(&error);
}

static void
test_each(Host *host, gconstpointer data)
{
    asked(host, "vm-start", NULL, "start ");
    asked(host, "vm-start", NULL, ""); /* it runs */
    asked(host, "vm-stop", "reboot", "reboot ");
    asked(host, "vm-stop", "reset", "reset ");
    asked(host, "vm-stop", "shutdown",
          "shutdown "); /* what the guest makes of it nobody waits for */
    asked(host, "vm-stop", "off", "off ");
    asked(host, "vm-stop", "off", ""); /* it is off */
    asked(host, "vm-stop", "reset", "");
    asked(host, "vm-start", NULL, "start ");
    asked(host, "vm-suspend", NULL, "save ");
    asked(host, "vm-suspend", NULL, "");
    asked(host, "vm-stop", "off", "forget ");
    g_assert_false(host->fake.saved);
    asked(host, "vm-start", NULL, "start ");
    host->fake.paused = true;
    asked(host, "vm-start", NULL, ""); /* resumed, not started */
    g_assert_cmpuint(host->fake.resumes, ==, 1);
}

static void
test_params(Host *host, gconstpointer data)
{
    g_autoptr(json_t) body = json_pack("{s:s, s:s, s:s, s:s}", "id", MERGE, "kind", "vm-stop",
                                       "vm_id", FAKE_VM, "how", "kick");
    g_autoptr(json_t) answer = NULL;
    g_autoptr(GError) error = NULL;

    g_assert_false(operation_begin(host->agent, body, &answer, &error));
    assert_refused(error, ERR_INVALID, "kick");
}

/* libvirtd dies between telling which VMs there are and what they are like: not knowing is not "no
 * such VM". */
static void
test_not_seen_yet(Host *host, gconstpointer data)
{
    g_autoptr(json_t) body =
        json_pack("{s:s, s:s, s:s}", "id", MERGE, "kind", "vm-start", "vm_id", FAKE_VM);
    g_autoptr(json_t) answer = NULL;
    g_autoptr(GError) error = NULL;
    const HvEvent event = { .kind = HV_EVENT_CONNECTED };
    g_autoptr(Vm) seen = NULL;

    agent_end(host);
    host->fake.dies_after_list = true;
    agent_begin(host);
    g_assert_false(operation_begin(host->agent, body, &answer, &error));
    g_assert_error(error, ERR, ERR_UNREACHABLE);

    g_mutex_lock(&host->fake.lock);
    host->fake.dies_after_list = host->fake.away = false;
    g_mutex_unlock(&host->fake.lock);
    agent_on_hv_event(&event, host->agent);
    for (int64_t until = clock_mono_us() + PATIENCE_US; seen == NULL && clock_mono_us() < until;) {
        g_usleep(1000);
        seen = agent_vm_shown(host->agent, FAKE_VM);
    }
    asked(host, "vm-start", NULL, "start ");
}

/* libvirtd and agent die when the VM is off. Somebody starts it; the next agent lets it run. */
static void
test_another_life(Host *host, gconstpointer data)
{
    g_autoptr(json_t) done = NULL;

    asked(host, "vm-start", NULL, "start ");
    die_in(host, &host->fake.dies_after_power, "vm-stop", "off");
    fake_power_on(&host->fake);
    g_string_truncate(host->fake.powers, 0);
    agent_begin(host);
    done = wait_for(host, "done");
    g_assert_cmpstr(host->fake.powers->str, ==, "");
    g_assert_true(host->fake.running);
}

/* The same with a start: it is not started twice. */
static void
test_started_once(Host *host, gconstpointer data)
{
    g_autoptr(json_t) done = NULL;

    die_in(host, &host->fake.dies_after_power, "vm-start", NULL);
    agent_begin(host);
    done = wait_for(host, "done");
    g_assert_cmpstr(host->fake.powers->str, ==, "start ");
}

/* Nobody knows whether the guest has heard of it before libvirtd and agent died: it is asked again,
 * for a shutdown that never came would be worse than one that came twice. It is the same instance,
 * or nothing is asked. */
static void
test_asked_again(Host *host, gconstpointer data)
{
    g_autoptr(json_t) done = NULL;

    asked(host, "vm-start", NULL, "start ");
    g_string_truncate(host->fake.powers, 0);
    die_in(host, &host->fake.dies_after_power, "vm-stop", "shutdown");
    agent_begin(host);
    done = wait_for(host, "done");
    g_assert_cmpstr(host->fake.powers->str, ==, "shutdown shutdown ");
}

static void
test_suspend_too_late(Host *host, gconstpointer data)
{
    g_autoptr(json_t) failed = NULL;

    asked(host, "vm-start", NULL, "start ");
    die_in(host, &host->fake.dies_after_power, "vm-suspend", NULL);
    host->fake.saved = false; /* it was not saved after all */
    fake_power_on(&host->fake);
    agent_begin(host);
    failed = wait_for(host, "failed");
    g_assert_nonnull(strstr(json_text(json_object_get(failed, "error"), "message"), "web1"));
    g_assert_true(host->fake.running);
}

/* Somebody else's internal commit, which is in no definition (H12). */
static void
test_suspend_beside_a_job(Host *host, gconstpointer data)
{
    g_autoptr(json_t) failed = NULL;

    asked(host, "vm-start", NULL, "start ");
    g_string_truncate(host->fake.powers, 0);
    host->fake.disks[1].job = HV_JOB_COMMIT;
    host->fake.disks[1].bandwidth = 1; /* it does not end */
    begin(host, "vm-suspend", NULL);
    failed = wait_for(host, "failed");
    const char *why = json_text(json_object_get(failed, "error"), "message");
    g_assert_nonnull(strstr(why, "virsh blockjob web1 vdb --abort"));
    g_assert_cmpstr(host->fake.powers->str, ==, "");
    g_assert_true(host->fake.running);
    fake_job_clear(&host->fake.disks[1]);
}

static StepState
stay(void *self, GError **error)
{
    return STEP_RUNNING;
}
static const Step stay_steps[] = { { "stay", stay, NULL, 0, false, NULL, STEP_END }, { NULL } };

/* Into the list of the VM's operations. */
static void
put_merge(Host *host, json_t *take_data)
{
    static const OperationKind kind = { .kind = "merge", .steps = stay_steps };
    AgentVm *entry = agent_entry(host->agent, FAKE_VM, false);
    WITH_LOCK(&entry->lock); /* nobody turns them now */

    host->merge = (Operation){
        .agent = host->agent,
        .entry = entry,
        .kind = &kind,
        .row = { .id = (char *)MERGE,
                 .kind = (char *)"merge",
                 .vm_id = (char *)FAKE_VM,
                 .step = (char *)"stay",
                 .data = take_data },
        .machine = { .self = &host->merge, .steps = stay_steps, .step = (char *)"stay" },
    };
    g_mutex_lock(&host->agent->lock);
    g_ptr_array_add(entry->operations, &host->merge);
    g_mutex_unlock(&host->agent->lock);
}

static void
merge_has_pivoted(Host *host)
{
    WITH_LOCK(&host->merge.entry->lock);

    op_remember(&host->merge, "pivoting", NULL);
}

/* A guest that a merge has suspended for its pivot is the merge's to resume. */
static void
test_resume_beside_pivot(Host *host, gconstpointer data)
{
    g_autoptr(json_t) waits = NULL, done = NULL;

    asked(host, "vm-start", NULL, "start ");
    host->fake.paused = true;
    put_merge(host, json_pack("{s:s, s:{s:b}}", "target", "vda", "pivoting", "suspended", 1));
    begin(host, "vm-start", NULL);
    waits = wait_for(host, NULL);
    g_assert_nonnull(strstr(json_text(waits, "waiting_for"), "vda"));
    g_assert_true(host->fake.paused);

    merge_has_pivoted(host);
    done = wait_for(host, "done");
    g_assert_false(host->fake.paused);
}

int
main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
#define TEST(path, function) g_test_add(path, Host, NULL, set_up, function, tear_down)
    TEST("/agent/power/each", test_each);
    TEST("/agent/power/params", test_params);
    TEST("/agent/power/not-seen-yet", test_not_seen_yet);
    TEST("/agent/power/another-life", test_another_life);
    TEST("/agent/power/started-once", test_started_once);
    TEST("/agent/power/asked-again", test_asked_again);
    TEST("/agent/power/suspend-too-late", test_suspend_too_late);
    TEST("/agent/power/suspend-beside-a-job", test_suspend_beside_a_job);
    TEST("/agent/power/resume-beside-pivot", test_resume_beside_pivot);
    return g_test_run();
}
