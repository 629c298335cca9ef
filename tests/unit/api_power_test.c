/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * The actions on a VM's power: what is begun, what the VM shows at once, who is answered when.
 */
#include "api_world.h"

#define VM PATH("/vms/" VM_ID)

static World world;

static void
assert_action(World *w, const char *status)
{
    assert_at(w->doc, "status", status);
    if (strstr(status, "failed") == NULL)
        g_assert_nonnull(at(w->doc, "job.href"));
}

static void
turn(World *w, const char *kind, VmState state)
{
    g_autofree char *op = agent_wait_operation(w->agent, kind);
    g_autoptr(Vm) vm = sample_vm();

    vm->state = state;
    if (state == VM_DOWN || state == VM_SUSPENDED)
        g_clear_pointer(&vm->instance, g_free);
    agent_end_operation(w->agent, op, vm);
}

/* Until the VM shows this. */
static void
wait_status(World *w, const char *status)
{
    int64_t until = g_get_monotonic_time() + 20 * G_TIME_SPAN_SECOND;

    do
        json_call(w, "GET", VM, NULL, 200);
    while (g_strcmp0(json_text(w->doc, "status"), status) != 0 && g_get_monotonic_time() < until);
    g_assert_cmpstr(json_text(w->doc, "status"), ==, status);
}

/* Rule 12: what was begun shows in the next answer, before anything was done. */
static void
test_rule_12_status_before_the_answer(void)
{
    World *w = &world;

    json_call(w, "POST", PATH("/vms/" VM_ID "/stop"), "{}", 200);
    assert_action(w, "\"complete\"");
    json_call(w, "GET", VM, NULL, 200);
    assert_at(w->doc, "status", "\"powering_down\"");
    json_call(w, "POST", PATH("/vms/" VM_ID "/start"), "{}", 409);
    assert_action(w, "\"failed\"");
    turn(w, "vm-stop", VM_DOWN);
    wait_status(w, "down");
    assert_at(w->doc, "host", NULL);

    json_call(w, "POST", PATH("/vms/" VM_ID "/stop"), "{}", 409);
    json_call(w, "POST", PATH("/vms/" VM_ID "/shutdown"), "{}", 409);
    json_call(w, "DELETE", PATH("/vms/" VM_ID "?detach_only=true"), NULL, 409);
    assert_at(w->doc, "key", "\"VM_CANNOT_REMOVE_WITH_DETACH_DISKS_SNAPSHOTS_EXIST\"");
    json_call(w, "POST", PATH("/vms/" VM_ID "/start"), "{\"pause\":true}", 200);
    json_call(w, "GET", VM, NULL, 200);
    assert_at(w->doc, "status", "\"powering_up\"");
    turn(w, "vm-start", VM_UP);
    wait_status(w, "up");
}

static void *
end_suspend(void *data)
{
    turn(data, "vm-suspend", VM_SUSPENDED);
    return NULL;
}

/* async=false: the answer comes when it is done. */
static void
test_waits(void)
{
    World *w = &world;
    static const char *const xml[] = { "Content-Type: application/xml", NULL };
    GThread *thread = g_thread_new("agent", end_suspend, w);

    call(w, "POST", PATH("/vms/" VM_ID "/suspend"), xml, "<action><async>false</async></action>");
    g_thread_join(thread);
    g_assert_cmpint(w->answer.status, ==, 200);
    g_assert_nonnull(strstr(w->answer.body, "<status>complete</status>"));
    json_call(w, "GET", VM, NULL, 200);
    assert_at(w->doc, "status", "\"suspended\"");

    json_call(w, "POST", PATH("/vms/" VM_ID "/start"), "{}", 200);
    json_call(w, "GET", VM, NULL, 200);
    assert_at(w->doc, "status", "\"restoring_state\"");
    turn(w, "vm-start", VM_UP);
    wait_status(w, "up");
}

static void
test_bad_bodies(void)
{
    static const struct {
        const char *verb, *body, *says;
    } rows[] = {
        { "start", "{\"pause\":\"perhaps\"}", "pause" },
        { "start", "{\"use_cloud_init\":true}", "use_cloud_init" },
        { "start", "{\"volatile\":true}", "volatile" },
        { "start", "{\"vm\":{\"name\":\"x\"}}", "vm" },
        { "stop", "{\"force\":[]}", "force" },
        { "shutdown", "{\"reason\":{\"a\":1}}", "reason" },
    };
    World *w = &world;

    for (size_t i = 0; i < G_N_ELEMENTS(rows); i++) {
        json_call(w, "POST", PATH("/vms/" VM_ID "/%s", rows[i].verb), rows[i].body, 400);
        g_assert_nonnull(strstr(json_text(at(w->doc, "fault"), "detail"), rows[i].says));
        assert_at(w->doc, "status", "\"failed\"");
    }
    json_call(w, "POST", PATH("/vms/11111111-0000-4000-8000-00000000ffff/start"), "{}", 404);
    json_call(w, "GET", VM, NULL, 200);
    assert_at(w->doc, "status", "\"up\"");
}

int
main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    world_start(&world);
    g_test_add_func("/api/power/rule-12-status-before-the-answer",
                    test_rule_12_status_before_the_answer);
    g_test_add_func("/api/power/waits", test_waits);
    g_test_add_func("/api/power/bad-bodies", test_bad_bodies);
    int failed = g_test_run();
    world_stop(&world);
    return failed;
}
