/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * Tests of src/agent/freeze.c, update.c and guest.c on a hypervisor in memory: a guest that a user
 * has frozen stays so, whoever dies and whatever is done to the VM meanwhile, and never longer than
 * that; a VM is called what was asked for, and its guest what it says itself.
 */
#include "agent_host.h"

static void
end(Host *host, const char *kind, json_t *take_params, const char *state)
{
    g_autoptr(json_t) params = take_params != NULL ? take_params : json_object();
    g_autoptr(json_t) doc = NULL;
    g_autoptr(GError) error = NULL;

    begin_with(host, kind, params);
    doc = wait_for(host, state);
    while (!operation_ack(host->agent, host->op, &error))
        g_clear_error(&error);
}

static void
fail(Host *host, const char *kind, json_t *take_params, const char *says)
{
    g_autoptr(json_t) params = take_params != NULL ? take_params : json_object();
    g_autoptr(json_t) doc = NULL;

    begin_with(host, kind, params);
    doc = wait_for(host, "failed");
    const char *text = json_text(json_object_get(doc, "error"), "message");
    if (text == NULL || strstr(text, says) == NULL)
        g_error("%s failed with '%s', which does not say '%s'", kind, text, says);
}

static bool
shows_frozen(Host *host)
{
    g_autoptr(Vm) vm = agent_vm_shown(host->agent, FAKE_VM);

    return vm->frozen != NULL && g_strcmp0(vm->frozen, vm->instance) == 0;
}

static void
begin_again(Host *host)
{
    agent_end(host);
    agent_begin(host);
}

static void
take_snapshot(Host *host, unsigned n, bool quiesced)
{
    g_autofree char *id = g_strdup_printf("cccccccc-0000-4000-8000-%012u", n);
    g_autofree char *name = g_strdup_printf("s%u", n);

    end(host, "snapshot-create",
        json_pack("{s:s, s:s, s:s}", "snapshot_id", id, "name", name, "quiesce", "require"),
        "done");
    g_assert_true(host->fake.was_frozen);
    g_autoptr(Vm) vm = agent_vm_shown(host->agent, FAKE_VM);
    g_assert_cmpint(vm_snapshot(vm, id)->quiesced, ==, quiesced);
}

static void
set_up_running(Host *host, gconstpointer data)
{
    set_up(host, data);
    host->fake.guest_agent = true;
    end(host, "vm-start", NULL, "done");
}

static void
test_freeze(Host *host, gconstpointer data)
{
    g_assert_false(shows_frozen(host));
    end(host, "vm-freeze", NULL, "done");
    g_assert_true(host->fake.frozen);
    g_assert_true(shows_frozen(host));
    end(host, "vm-freeze", NULL, "done"); /* it is */
    g_assert_cmpuint(host->fake.freezes, ==, 1);
    take_snapshot(host, 1, true);
    g_assert_cmpuint(host->fake.freezes, ==, 1);
    g_assert_cmpuint(host->fake.thaws, ==, 0);
    begin_again(host);
    g_assert_true(shows_frozen(host));
    take_snapshot(host, 2, true);
    g_assert_true(host->fake.frozen);
    end(host, "vm-thaw", NULL, "done");
    g_assert_false(host->fake.frozen);
    g_assert_false(shows_frozen(host));
    end(host, "vm-thaw", NULL, "done"); /* harmless */
    take_snapshot(host, 3, true);
    g_assert_false(host->fake.frozen);
}

/* Its next life begins thawed. */
static void
test_off(Host *host, gconstpointer data)
{
    end(host, "vm-freeze", NULL, "done");
    end(host, "vm-stop", json_pack("{s:s}", "how", "off"), "done");
    g_assert_false(shows_frozen(host));
    end(host, "vm-thaw", NULL, "done");
    end(host, "vm-start", NULL, "done");
    g_assert_false(shows_frozen(host));
    take_snapshot(host, 1, true);
    g_assert_false(host->fake.frozen);
}

/* The same QEMU, but the guest begins anew: a snapshot must freeze it again. */
static void
test_reset(Host *host, gconstpointer data)
{
    end(host, "vm-freeze", NULL, "done");
    end(host, "vm-stop", json_pack("{s:s}", "how", "reset"), "done");
    g_assert_false(host->fake.frozen);
    g_assert_false(shows_frozen(host));
    take_snapshot(host, 1, true);
    g_assert_cmpuint(host->fake.freezes, ==, 2);
    g_assert_false(host->fake.frozen);
}

static void
wait_until_thawed(Host *host)
{
    int64_t until = clock_mono_us() + PATIENCE_US;

    while (shows_frozen(host)) {
        if (clock_mono_us() > until)
            g_error("the guest that has rebooted is still shown as frozen");
        g_usleep(1000);
    }
}

/* The same by the guest itself. */
static void
test_reboot(Host *host, gconstpointer data)
{
    end(host, "vm-freeze", NULL, "done");
    fake_reboot(&host->fake);
    wait_until_thawed(host);
    begin_again(host);
    g_assert_false(shows_frozen(host));
    take_snapshot(host, 1, true);
    g_assert_cmpuint(host->fake.freezes, ==, 2);
    g_assert_false(host->fake.frozen);
    end(host, "vm-freeze", NULL, "done");
    g_assert_true(shows_frozen(host));
    fake_reboot(&host->fake);
    end(host, "vm-freeze", NULL, "done"); /* at once, also before the agent has looked */
    g_assert_true(host->fake.frozen);
    g_assert_true(shows_frozen(host));
    begin_again(host);
    g_assert_true(shows_frozen(host));
}

/* The guest reboots while nobody is there to hear of it. */
static void
reboot_unheard(Host *host, bool agent_is_away)
{
    static const HvEvent gone = { .kind = HV_EVENT_DISCONNECTED },
                         back = { .kind = HV_EVENT_CONNECTED };

    if (agent_is_away)
        agent_end(host);
    else
        host->fake.tell(&gone, host->fake.tell_data);
    host->fake.frozen = false;
    if (agent_is_away)
        agent_begin(host);
    else
        host->fake.tell(&back, host->fake.tell_data);
}

/* A snapshot is not called one of a frozen guest on the strength of the note: it freezes it. */
static void
freeze_and_reboot(Host *host, bool agent_is_away)
{
    end(host, "vm-freeze", NULL, "done");
    reboot_unheard(host, agent_is_away);
    g_assert_true(shows_frozen(host));
    take_snapshot(host, 1, true);
    g_assert_false(host->fake.frozen);
    wait_until_thawed(host);
    end(host, "vm-freeze", NULL, "done");
    reboot_unheard(host, agent_is_away);
    end(host, "vm-freeze", NULL, "done");
    g_assert_true(host->fake.frozen);
    take_snapshot(host, 2, true);
    g_assert_true(host->fake.frozen);
    g_assert_true(shows_frozen(host));
    end(host, "vm-thaw", NULL, "done");
    g_assert_false(host->fake.frozen);
}

static void
test_reboot_agent_away(Host *host, gconstpointer data)
{
    freeze_and_reboot(host, true);
}

static void
test_reboot_libvirt_away(Host *host, gconstpointer data)
{
    freeze_and_reboot(host, false);
}

/* Nor is it if the guest does not tell; and what a user may have frozen is not thawed. */
static void
test_reboot_unheard_and_deaf(Host *host, gconstpointer data)
{
    static const char id[] = "cccccccc-0000-4000-8000-000000000001";

    end(host, "vm-freeze", NULL, "done");
    reboot_unheard(host, true);
    host->fake.deaf = true;
    fail(host, "snapshot-create",
         json_pack("{s:s, s:s, s:s}", "snapshot_id", id, "name", "s", "quiesce", "require"),
         "livemerge vm thaw");
    host->fake.frozen = false;
    end(host, "snapshot-create",
        json_pack("{s:s, s:s, s:s}", "snapshot_id", id, "name", "s", "quiesce", "auto"), "done");
    g_autoptr(Vm) vm = agent_vm_shown(host->agent, FAKE_VM);
    g_assert_false(vm_snapshot(vm, id)->quiesced);
    g_assert_cmpuint(host->fake.thaws, ==, 0);
    g_assert_true(shows_frozen(host));
}

/* Nobody can say whether before or after. */
static void
test_reboot_while_freezing(Host *host, gconstpointer data)
{
    host->fake.reboots_frozen = true;
    fail(host, "vm-freeze", NULL, "rebooted");
    g_assert_false(shows_frozen(host));
    g_assert_false(host->fake.frozen);
}

static void
take_rebooting(Host *host, const char *quiesce, const char *state)
{
    static const char id[] = "cccccccc-0000-4000-8000-000000000001";

    host->fake.guest_agent = true;
    end(host, "snapshot-create",
        json_pack("{s:s, s:s, s:s}", "snapshot_id", id, "name", "s", "quiesce", quiesce), state);
    g_assert_false(host->fake.frozen);
    g_autoptr(Vm) vm = agent_vm_shown(host->agent, FAKE_VM);
    const Snapshot *snapshot = vm_snapshot(vm, id);
    if (g_str_equal(state, "done"))
        g_assert_false(snapshot->quiesced);
    else
        g_assert_null(snapshot);
}

/* A snapshot is not called one of a frozen guest that was none, and its job does not wait for the
 * agent of a guest in which nothing is frozen any more. */
static void
test_reboot_in_a_snapshot(Host *host, gconstpointer data)
{
    host->fake.reboots_frozen = true;
    take_rebooting(host, "require", "failed");
    take_rebooting(host, "auto", "done");
}

static void
test_reboot_before_the_switch(Host *host, gconstpointer data)
{
    host->fake.reboots_in_snapshot = true;
    take_rebooting(host, "require", "done");
}

/* libvirt is away in between: whether the guest rebooted meanwhile is not known. */
static void
test_gap_in_a_snapshot(Host *host, gconstpointer data)
{
    host->fake.gap_in_snapshot = true;
    take_rebooting(host, "require", "done");
}

/* It did, but nobody heard of it. */
static void
test_deaf(Host *host, gconstpointer data)
{
    host->fake.deaf = true;
    fail(host, "vm-freeze", NULL, "does not answer");
    g_assert_false(host->fake.frozen);
    g_assert_false(shows_frozen(host));
    g_assert_cmpuint(host->fake.thaws, ==, 1);
}

static void
test_no_agent(Host *host, gconstpointer data)
{
    host->fake.guest_agent = false;
    fail(host, "vm-freeze", NULL, "guest agent");
    g_assert_cmpuint(host->fake.freezes, ==, 0);
    g_assert_cmpuint(host->fake.thaws, ==, 0); /* nothing was begun */
    fail(host, "vm-thaw", NULL, "no guest agent");
}

/* libvirtd and agent die when the guest is frozen. It refuses to be frozen again, so it is thawed:
 * a job that has failed leaves nothing frozen. */
static void
test_killed(Host *host, gconstpointer data)
{
    g_autoptr(json_t) failed = NULL;

    die_in(host, &host->fake.dies_in_freeze, "vm-freeze", NULL);
    agent_begin(host);
    failed = wait_for(host, "failed");
    g_assert_false(host->fake.frozen);
    g_assert_false(shows_frozen(host));
}

/* ---- what it is called ---- */

static void
assert_called(Host *host, const char *name, const char *description, const char *comment)
{
    g_autoptr(Vm) vm = agent_vm_shown(host->agent, FAKE_VM);

    g_assert_cmpstr(vm->name, ==, name);
    g_assert_cmpstr(vm->description, ==, description);
    g_assert_cmpstr(vm->comment, ==, comment);
}

static void
test_update(Host *host, gconstpointer data)
{
    end(host, "vm-update", json_pack("{s:s, s:s}", "description", "the shop", "comment", "of eggs"),
        "done");
    assert_called(host, "web1", "the shop", "of eggs");
    end(host, "vm-update", json_pack("{s:s, s:s}", "name", "shop", "comment", ""), "done");
    assert_called(host, "shop", "the shop", "");
    begin_again(host);
    assert_called(host, "shop", "the shop", "");
    g_autofree char *file = in(host->folder, "d/.livemerge/vms/" FAKE_VM ".json");
    g_autofree char *text = NULL;
    g_assert_true(g_file_get_contents(file, &text, NULL, NULL));
    g_assert_nonnull(strstr(text, "\"shop\""));
    g_assert_null(strstr(text, "the shop")); /* libvirt keeps that */
}

static void
test_update_refused(Host *host, gconstpointer data)
{
    fail(host, "vm-update", json_pack("{s:s}", "name", "shop"), "it is not off");
    assert_called(host, "web1", "", "");
    end(host, "vm-update", json_pack("{s:s, s:s}", "name", "web1", "description", "x"), "done");
    assert_called(host, "web1", "x", "");
}

/* ---- what the guest calls itself ---- */

/* Until it is so: a thread asks the guest. */
static void
wait_fqdn(Host *host, const char *wanted)
{
    int64_t until = g_get_monotonic_time() + 20 * G_TIME_SPAN_SECOND;

    for (;;) {
        g_autoptr(Vm) vm = agent_vm_shown(host->agent, FAKE_VM);
        if (g_strcmp0(vm->fqdn, wanted) == 0)
            return;
        if (g_get_monotonic_time() > until)
            g_error("the guest is called %s, not %s", vm->fqdn, wanted);
        g_usleep(2000);
    }
}

static unsigned
times_asked(Host *host)
{
    WITH_LOCK(&host->fake.lock);
    return host->fake.guest_asked;
}

static void
wait_asked(Host *host, unsigned times)
{
    int64_t until = g_get_monotonic_time() + 20 * G_TIME_SPAN_SECOND;

    while (times_asked(host) < times) {
        g_assert_cmpint(g_get_monotonic_time(), <, until);
        g_usleep(2000);
    }
}

static void
set_up_named(Host *host, gconstpointer data)
{
    set_up(host, data);
    host->fake.guest_says = "web.example.org";
    host->fake.guest_agent = true;
    end(host, "vm-start", NULL, "done");
}

static void
test_fqdn(Host *host, gconstpointer data)
{
    wait_fqdn(host, "web.example.org");
    g_assert_cmpuint(times_asked(host), ==, 1);
    /* nothing of it is written down, and who looks often does not ask often */
    g_autofree char *file = in(host->folder, "d/.livemerge/vms/" FAKE_VM ".json");
    g_autofree char *text = NULL;
    for (int i = 0; i < 3; i++)
        end(host, "vm-update", json_pack("{s:s}", "comment", "again"), "done");
    g_assert_cmpuint(times_asked(host), ==, 1);
    wait_fqdn(host, "web.example.org");
    take_snapshot(host, 1, true);
    g_assert_true(g_file_get_contents(file, &text, NULL, NULL));
    g_assert_null(strstr(text, "example.org"));
    /* another life of the agent asks, and another life of the guest is another guest */
    begin_again(host);
    wait_fqdn(host, "web.example.org");
    end(host, "vm-stop", json_pack("{s:s}", "how", "off"), "done");
    wait_fqdn(host, NULL);
    host->fake.guest_says = "db.example.org";
    end(host, "vm-start", NULL, "done");
    wait_fqdn(host, "db.example.org");
}

/* A guest can say anything, or nothing: neither is shown, nor asked for again at once. */
/* A guest that takes its time to answer holds nobody up: it is stopped meanwhile. */
static void
test_fqdn_hangs(Host *host, gconstpointer data)
{
    unsigned before = times_asked(host);

    host->fake.guest_hangs = true;
    begin_again(host);
    wait_asked(host, before + 1);
    end(host, "vm-stop", json_pack("{s:s}", "how", "off"), "done");
    g_assert_true(host->fake.guest_hangs);
    host->fake.guest_says = "db.example.org";
    end(host, "vm-start", NULL, "done");
    host->fake.guest_hangs = false;
    wait_fqdn(host, "db.example.org");
}

static void
test_fqdn_rubbish(Host *host, gconstpointer data)
{
    g_autofree char *endless = g_strnfill(300, 'x');
    const char *const says[] = { NULL, "", "a b", "a\nb", "\033[2J", "\377\376", endless };

    for (size_t i = 0; i < G_N_ELEMENTS(says); i++) {
        unsigned before = times_asked(host);
        host->fake.guest_says = says[i];
        begin_again(host);
        wait_asked(host, before + 1);
        end(host, "vm-update", json_pack("{s:s}", "comment", "on"), "done");
        wait_fqdn(host, NULL);
        g_assert_cmpuint(times_asked(host), ==, before + 1);
    }
}

int
main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
#define TEST(path, up, function) g_test_add(path, Host, NULL, up, function, tear_down)
    TEST("/agent/freeze/freeze", set_up_running, test_freeze);
    TEST("/agent/freeze/off", set_up_running, test_off);
    TEST("/agent/freeze/reset", set_up_running, test_reset);
    TEST("/agent/freeze/reboot", set_up_running, test_reboot);
    TEST("/agent/freeze/reboot-while-freezing", set_up_running, test_reboot_while_freezing);
    TEST("/agent/freeze/reboot-in-a-snapshot", set_up_running, test_reboot_in_a_snapshot);
    TEST("/agent/freeze/reboot-before-the-switch", set_up_running, test_reboot_before_the_switch);
    TEST("/agent/freeze/reboot-agent-away", set_up_running, test_reboot_agent_away);
    TEST("/agent/freeze/reboot-libvirt-away", set_up_running, test_reboot_libvirt_away);
    TEST("/agent/freeze/reboot-unheard-and-deaf", set_up_running, test_reboot_unheard_and_deaf);
    TEST("/agent/freeze/gap-in-a-snapshot", set_up_running, test_gap_in_a_snapshot);
    TEST("/agent/freeze/deaf", set_up_running, test_deaf);
    TEST("/agent/freeze/no-agent", set_up_running, test_no_agent);
    TEST("/agent/freeze/killed", set_up_running, test_killed);
    TEST("/agent/guest/fqdn", set_up_named, test_fqdn);
    TEST("/agent/guest/hangs", set_up_running, test_fqdn_hangs);
    TEST("/agent/guest/rubbish", set_up_running, test_fqdn_rubbish);
    TEST("/agent/update/update", set_up, test_update);
    TEST("/agent/update/refused", set_up_running, test_update_refused);
    return g_test_run();
}
