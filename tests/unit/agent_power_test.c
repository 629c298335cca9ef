/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * Tests of src/agent/power.c on a hypervisor in memory: what libvirt is asked for, and that an
 * operation that is repeated by the next agent does to no VM what was meant for another life of it.
 */
#include "agent/operation.h"
#include "base/clock.h"
#include "fake_hypervisor.h"

#include <glib/gstdio.h>

#define MERGE "bbbbbbbb-0000-4000-8000-000000000002"
#define PATIENCE_US (30 * G_TIME_SPAN_SECOND)

typedef struct {
    char *folder;
    Fake fake;
    Agent *agent;
    char op[40]; /* the last operation */
    unsigned ops;
} Host;

static bool
is_loaded(Host *host)
{
    WITH_LOCK(&host->agent->lock);

    return host->agent->loaded;
}

static void
agent_begin(Host *host)
{
    g_autofree char *state = in(host->folder, "s");
    const AgentOptions options = { .state_dir = state, .pivot_budget_ms = 1000 };
    const HvEvent event = { .kind = HV_EVENT_CONNECTED };
    int64_t until = clock_mono_us() + PATIENCE_US;
    g_autoptr(GError) error = NULL;

    g_mutex_lock(&host->fake.lock);
    host->fake.away = false;
    g_mutex_unlock(&host->fake.lock);
    host->agent = agent_new(&options, &error);
    g_assert_no_error(error);
    agent_attach(host->agent, &host->fake.hv);
    agent_on_hv_event(&event, host->agent);
    while (!is_loaded(host) && clock_mono_us() < until)
        g_usleep(1000);
    g_assert_true(is_loaded(host));
}

static void
agent_end(Host *host)
{
    g_mutex_lock(&host->fake.lock);
    host->fake.away = true;
    g_mutex_unlock(&host->fake.lock);
    agent_free(g_steal_pointer(&host->agent));
}

static void
set_up(Host *host, gconstpointer data)
{
    host->folder = folder_new();
    MUST(host->folder, "mkdir -m 700 s d");
    host->fake.hv.ops = &fake_ops;
    host->fake.powers = g_string_new(NULL);
    g_mutex_init(&host->fake.lock);
    for (unsigned i = 0; i < FAKE_DISKS; i++) {
        g_autofree char *name = g_strdup_printf("d/%u.q", i);
        g_snprintf(host->fake.disks[i].target, 4, "vd%c", 'a' + i);
        host->fake.disks[i].stored = image(host->folder, name, MIB, NULL, NULL);
        host->fake.disks[i].live = g_strdup(host->fake.disks[i].stored);
    }
    agent_begin(host);
}

static void
tear_down(Host *host, gconstpointer data)
{
    agent_end(host);
    for (unsigned i = 0; i < FAKE_DISKS; i++) {
        g_free(host->fake.disks[i].stored);
        g_free(host->fake.disks[i].live);
    }
    g_string_free(host->fake.powers, TRUE);
    g_mutex_clear(&host->fake.lock);
    folder_remove(&host->folder);
}

static void
begin(Host *host, const char *kind, const char *how)
{
    g_snprintf(host->op, sizeof host->op, "aaaaaaaa-0000-4000-8000-%012u", ++host->ops);
    g_autoptr(json_t) body =
        json_pack("{s:s, s:s, s:s}", "id", host->op, "kind", kind, "vm_id", FAKE_VM);
    g_autoptr(json_t) answer = NULL;
    g_autoptr(GError) error = NULL;

    json_put_text(body, "how", how);
    operation_begin(host->agent, body, &answer, &error);
    g_assert_no_error(error);
}

/* Until its state is this one, or it waits for something if that is NULL. */
static json_t *
wait_for(Host *host, const char *state)
{
    int64_t until = clock_mono_us() + PATIENCE_US;

    for (;;) {
        g_autoptr(json_t) doc = NULL;
        g_autoptr(GError) error = NULL;
        g_assert_true(operation_get(host->agent, host->op, &doc, &error));
        if (state != NULL ? g_str_equal(json_text(doc, "state"), state)
                          : json_text(doc, "waiting_for") != NULL)
            return g_steal_pointer(&doc);
        if (clock_mono_us() > until)
            g_error("the operation is not '%s': %s", state, json_dumps(doc, JSON_INDENT(1)));
        g_usleep(1000);
    }
}

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
        seen = agent_vm_copy(host->agent, FAKE_VM);
    }
    asked(host, "vm-start", NULL, "start ");
}

/* libvirtd and agent die when the VM is off. Somebody starts it; the next agent lets it run. */
static void
test_another_life(Host *host, gconstpointer data)
{
    g_autoptr(json_t) waits = NULL, done = NULL;

    asked(host, "vm-start", NULL, "start ");
    host->fake.dies_after_power = true;
    begin(host, "vm-stop", "off");
    waits = wait_for(host, NULL);
    agent_end(host);
    host->fake.dies_after_power = false;
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
    g_autoptr(json_t) waits = NULL, done = NULL;

    host->fake.dies_after_power = true;
    begin(host, "vm-start", NULL);
    waits = wait_for(host, NULL);
    agent_end(host);
    host->fake.dies_after_power = false;
    agent_begin(host);
    done = wait_for(host, "done");
    g_assert_cmpstr(host->fake.powers->str, ==, "start ");
}

static void
test_suspend_too_late(Host *host, gconstpointer data)
{
    g_autoptr(json_t) waits = NULL, failed = NULL;

    asked(host, "vm-start", NULL, "start ");
    host->fake.dies_after_power = true;
    begin(host, "vm-suspend", NULL);
    waits = wait_for(host, NULL);
    agent_end(host);
    host->fake.dies_after_power = false;
    host->fake.saved = false; /* it was not saved after all */
    fake_power_on(&host->fake);
    agent_begin(host);
    failed = wait_for(host, "failed");
    g_assert_nonnull(strstr(json_text(json_object_get(failed, "error"), "message"), "web1"));
    g_assert_true(host->fake.running);
}

static StepState
stay(void *self, GError **error)
{
    return STEP_RUNNING;
}
static const Step stay_steps[] = { { "stay", stay, NULL, 0, false, NULL, STEP_END }, { NULL } };

/* The list of the VM's operations gets one more, or loses it. */
static void
put(Host *host, Operation *merge, bool there)
{
    AgentVm *entry = agent_entry(host->agent, FAKE_VM, false);
    WITH_LOCK(&entry->lock); /* nobody turns them now */

    g_mutex_lock(&host->agent->lock);
    if (there)
        g_ptr_array_add(entry->operations, merge);
    else
        g_ptr_array_remove(entry->operations, merge);
    g_mutex_unlock(&host->agent->lock);
}

/* A guest that a merge has suspended for its pivot is the merge's to resume. */
static void
test_resume_beside_pivot(Host *host, gconstpointer data)
{
    g_autoptr(json_t) waits = NULL, done = NULL;
    g_autoptr(json_t) remembered =
        json_pack("{s:s, s:{s:b}}", "target", "vda", "pivoting", "suspended", 1);
    static const OperationKind kind = { .kind = "merge", .steps = stay_steps };
    Operation merge = { .agent = host->agent,
                        .entry = agent_entry(host->agent, FAKE_VM, false),
                        .kind = &kind,
                        .row = { .id = (char *)MERGE,
                                 .kind = (char *)"merge",
                                 .vm_id = (char *)FAKE_VM,
                                 .step = (char *)"stay",
                                 .data = remembered },
                        .machine = {
                            .self = &merge, .steps = stay_steps, .step = (char *)"stay" } };

    asked(host, "vm-start", NULL, "start ");
    host->fake.paused = true;
    put(host, &merge, true);
    begin(host, "vm-start", NULL);
    waits = wait_for(host, NULL);
    g_assert_nonnull(strstr(json_text(waits, "waiting_for"), "vda"));
    g_assert_true(host->fake.paused);

    op_remember(&merge, "pivoting", NULL);
    done = wait_for(host, "done");
    g_assert_false(host->fake.paused);
    put(host, &merge, false);
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
    TEST("/agent/power/suspend-too-late", test_suspend_too_late);
    TEST("/agent/power/resume-beside-pivot", test_resume_beside_pivot);
    return g_test_run();
}
