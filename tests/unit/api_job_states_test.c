/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * What a job that holds a VM forbids, and which verbs a job has: what is told, and what is
 * answered.
 */
#include "api_states.h"
#include "base/log.h"

/* ---- jobs that hold it ---- */

static void
test_jobs(void)
{
    static const struct {
        const char *verb;
        VmState state;
    } rows[] = { { "create_snapshot", VM_UP }, { "delete_snapshot", VM_UP }, { "stop", VM_UP },
                 { "shutdown", VM_UP },        { "preview", VM_DOWN },       { "start", VM_DOWN },
                 { "doctor", VM_DOWN } };

    for (size_t i = 0; i < G_N_ELEMENTS(rows); i++) {
        g_autoptr(Vm) vm = good_vm(rows[i].state);
        begin_anew();
        put_vm(vm);
        g_assert_true(attempt(rows[i].verb));
        if (world.answer.status >= 300)
            g_error("%s: %d\n%s", rows[i].verb, world.answer.status, world.answer.body);
        g_assert_cmpuint(check_refusals(rows[i].verb), >, 0);
    }
}

/* Commit and undo, and the VM's power, which nothing else begins. */
static void
test_preview(void)
{
    g_autoptr(Vm) vm = good_vm(VM_DOWN);

    be_previewed(vm);
    begin_anew();
    put_vm(vm);
    g_assert_cmpuint(check_possibles(vm, "a preview"), >=, 3);
}

/* ---- jobs as what is meant ---- */

/* Which of the two is possible; what is not is refused as it was told. */
static void
check_job(const char *job, bool cancel, bool resume, const char *what)
{
    const struct {
        const char *verb;
        bool possible;
    } rows[] = { { "cancel", cancel }, { "resume", resume } };

    json_call(&world, "GET", PATH("/jobs/%s?operations=true", job), NULL, 200);
    g_autoptr(json_t) all = json_incref((json_t *)at(world.doc, "operations.operation"));
    for (size_t i = 0; i < G_N_ELEMENTS(rows); i++) {
        const json_t *told = json_array_get(all, i);
        g_assert_cmpstr(json_text(told, "name"), ==, rows[i].verb);
        if (json_is_true(json_object_get(told, "possible")) != rows[i].possible)
            g_error("%s, %s: %s", what, rows[i].verb, json_text(told, "why"));
        if (rows[i].possible)
            continue;
        json_call(&world, "POST", PATH("/jobs/%s/%s", job, rows[i].verb), "{}", 409);
        g_assert_cmpstr(json_text(fault_of(world.doc), "code"), ==, json_text(told, "code"));
        g_assert_cmpstr(json_text(fault_of(world.doc), "why"), ==, json_text(told, "why"));
    }
}

static char *
job_of_answer(void)
{
    return g_strdup(json_text(at(world.doc, "job"), "id"));
}

static void
wait_ended(const char *job)
{
    do
        json_call(&world, "GET", PATH("/jobs/%s?wait=30&pace=30000", job), NULL, 200);
    while (g_strcmp0(json_text(world.doc, "status"), "started") == 0);
}

static void
test_job_verbs(void)
{
    g_autoptr(Vm) vm = good_vm(VM_UP);

    begin_anew();
    put_vm(vm);
    attempt("clone");
    g_autofree char *job = job_of_answer();
    g_autofree char *operation = agent_wait_operation(world.agent, "clone");
    check_job(job, true, false, "one that goes on");
    agent_pause_operation(world.agent, operation, "no room");
    /* an answer of the agent that was under way then may be told once more */
    do
        json_call(&world, "GET", PATH("/jobs/%s?operations=true", job), NULL, 200);
    while (!json_is_true(at(world.doc, "operations.operation.1.possible")));
    do
        call(&world, "POST", PATH("/jobs/%s/resume", job), json_headers, "{}");
    while (world.answer.status == 409);
    g_assert_cmpint(world.answer.status, ==, 200);
    json_call(&world, "POST", PATH("/jobs/%s/cancel", job), "{}", 200);
    agent_end_operation(world.agent, operation, vm);
    wait_ended(job);
    check_job(job, false, false, "one that has ended");

    json_call(&world, "PUT", PATH("/" S "?async=true"), "{\"description\":\"y\"}", 200);
    g_autofree char *late = job_of_answer();
    do /* where it stays */
        json_call(&world, "GET", PATH("/jobs/%s", late), NULL, 200);
    while (g_strcmp0(json_text(world.doc, "step"), "wait") != 0);
    check_job(late, false, false, "one that cannot be cancelled");

    json_call(&world, "POST", PATH("/jobs"), "{\"description\":\"backing up\"}", 201);
    g_autofree char *others = g_strdup(json_text(world.doc, "id"));
    check_job(others, false, false, "another program's");
}

int
main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    log_init("api_job_states_test");
    world_start(&world);
    g_test_add_func("/api/states/preview", test_preview);
    g_test_add_func("/api/states/jobs", test_jobs);
    g_test_add_func("/api/states/job-verbs", test_job_verbs);
    int failed = g_test_run();
    world_stop(&world);
    return failed;
}
