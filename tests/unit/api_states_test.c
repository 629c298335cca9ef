/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * Operation × state over HTTP (docs/states.md): what ?operations=true tells beforehand is what the
 * attempt gets, by status, key and why; and what it calls possible is begun. The VM of the played
 * agent is put into each state, and each condition that can be seen of a VM or made by a job.
 * tests/unit/model_verbs_test.c says what stands in the cells.
 */
#include "api_world.h"

#include "base/log.h"

static World world;
static uint64_t look;    /* the VM's memory, so that each look at it can be told from the last */
static char *subject_id; /* instead of SNAP_1: the snapshot that is meant; NULL = that one */

/* ---- the requests ---- */

#define V "vms/" VM_ID
#define S V "/snapshots/" SNAP_1

/* clang-format off */
static const struct { const char *verb, *method, *path, *body; } requests[] = {
    { "create_snapshot",             "POST",   V "/snapshots",       "{\"description\":\"x\",\"persist_memorystate\":false,\"quiesce\":\"no\"}" },
    { "create_snapshot_with_memory", "POST",   V "/snapshots",       "{\"description\":\"x\",\"persist_memorystate\":true}" },
    { "create_snapshot_quiesced",    "POST",   V "/snapshots",       "{\"description\":\"x\",\"persist_memorystate\":false,\"quiesce\":\"require\"}" },
    { "delete_snapshot",             "DELETE", S,                    NULL },
    { "plan",                        "DELETE", S "?dry_run=true",    NULL },
    { "rename_snapshot",             "PUT",    S,                    "{\"description\":\"y\"}" },
    { "preview",                     "POST",   V "/previewsnapshot", "{\"async\":true,\"snapshot\":{\"id\":\"" SNAP_1 "\"}}" },
    { "commit",                      "POST",   V "/commitsnapshot",  "{\"async\":true}" },
    { "undo",                        "POST",   V "/undosnapshot",    "{\"async\":true}" },
    { "restore",                     "POST",   S "/restore",         "{\"async\":true}" },
    { "start",                       "POST",   V "/start",           "{\"async\":true}" },
    { "stop",                        "POST",   V "/stop",            "{\"async\":true}" },
    { "shutdown",                    "POST",   V "/shutdown",        "{\"async\":true}" },
    { "reboot",                      "POST",   V "/reboot",          "{\"async\":true}" },
    { "reset",                       "POST",   V "/reset",           "{\"async\":true}" },
    { "suspend",                     "POST",   V "/suspend",         "{\"async\":true}" },
    { "freeze",                      "POST",   V "/freezefilesystems", "{\"async\":true}" },
    { "thaw",                        "POST",   V "/thawfilesystems", "{\"async\":true}" },
    { "update",                      "PUT",    V "?async=true",      "{\"description\":\"of eggs\"}" },
    { "rename",                      "PUT",    V "?async=true",      "{\"name\":\"shop\"}" },
    { "doctor",                      "POST",   V "/doctor",          "{}" },
    { "clone",                       "POST",   V "/clone",           "{\"async\":true,\"vm\":{\"name\":\"twin\"},\"snapshot\":{\"id\":\"" SNAP_1 "\"}}" },
    { "clone_vm",                    "POST",   V "/clone",           "{\"async\":true,\"vm\":{\"name\":\"twin\"}}" },
    { "remove",                      "DELETE", V "?async=true",      NULL },
};
/* clang-format on */

static char *
of_subject(const char *text)
{
    g_auto(GStrv) parts = g_strsplit(text != NULL ? text : "", SNAP_1, -1);

    return g_strjoinv(subject_id != NULL ? subject_id : SNAP_1, parts);
}

static bool
attempt(const char *verb)
{
    static const char *const headers[] = { "Accept: application/json",
                                           "Content-Type: application/json", NULL };

    for (size_t i = 0; i < G_N_ELEMENTS(requests); i++) {
        if (!g_str_equal(requests[i].verb, verb))
            continue;
        g_autofree char *path = of_subject(requests[i].path), *body = of_subject(requests[i].body);
        call(&world, requests[i].method, PATH("/%s", path), headers,
             requests[i].body != NULL ? body : NULL);
        return true;
    }
    g_error("?operations=true tells of '%s', and this test does not know how to do it", verb);
}

/* ---- the VM ---- */

/* Waits until the manager has seen it. */
static void
put_vm(Vm *vm)
{
    vm->memory = (uint64_t)(1024 + ++look) << 20;
    if (vm->state == VM_DOWN || vm->state == VM_SUSPENDED)
        g_clear_pointer(&vm->instance, g_free);
    {
        Agent *agent = world.agent;
        WITH_LOCK(&agent->lock);
        json_decref(agent->vm);
        agent->vm = vm_to_json(vm);
        g_queue_push_tail(&agent->lines, g_strdup("{\"event\": \"vm\", \"vm_id\": \"" VM_ID "\"}"));
        g_cond_broadcast(&agent->changed);
    }
    for (int i = 0; i < 2000; i++) {
        g_autoptr(Vm) told = manager_vm(world.manager, VM_ID, NULL);
        if (told != NULL && told->memory == vm->memory)
            return;
        g_usleep(2000);
    }
    g_error("the manager did not look at the VM within 4 s");
}

/* With a snapshot that everything can be done to. */
static Vm *
good_vm(VmState state)
{
    Vm *vm = sample_vm();

    vm->state = state;
    vm->agent_connected = state == VM_UP;
    ((Snapshot *)vm->snapshots->pdata[0])->config = g_strdup("<domain/>");
    return vm;
}

static void
begin_anew(void)
{
    world_stop(&world);
    memset(&world, 0, sizeof world);
    world_start(&world);
}

/* ---- one cell ---- */

/* oVirt's clients ask for the memory unless they are told not to: of a VM that is off they get a
 * snapshot without. */
static bool
is_without_memory(const char *verb)
{
    g_autoptr(Vm) vm = manager_vm(world.manager, VM_ID, NULL);

    return vm->state == VM_DOWN && g_str_equal(verb, "create_snapshot_with_memory");
}

/* In the fault, wherever the answer has it. */
static const json_t *
fault_of(const json_t *doc)
{
    return at(doc, "fault") != NULL ? at(doc, "fault") : doc;
}

static void
check_refused(const json_t *told, const char *what)
{
    const char *verb = json_text(told, "name");
    g_autoptr(GError) word = NULL;

    if (is_without_memory(verb) || !attempt(verb))
        return;
    error_set(&word, error_code_from_word(json_text(told, "code")), "x");
    const json_t *fault = fault_of(world.doc);
    if (world.answer.status != error_http_status(word) ||
        g_strcmp0(json_text(fault, "code"), json_text(told, "code")) != 0 ||
        g_strcmp0(json_text(fault, "key"), json_text(told, "key")) != 0 ||
        g_strcmp0(json_text(fault, "why"), json_text(told, "why")) != 0) {
        autolibc char *text = json_dumps(told, 0);
        g_error("%s, %s: ?operations=true tells %s, and the attempt says %d:\n%s", what, verb, text,
                world.answer.status, world.answer.body);
    }
}

static bool
is_renaming(const char *verb)
{
    return g_str_equal(verb, "rename_snapshot"); /* waits a while for its job, which nobody ends */
}

/* Has it begun something? */
static bool
check_possible(const json_t *told, const char *what)
{
    const char *verb = json_text(told, "name");

    if (is_renaming(verb) || !attempt(verb))
        return false;
    if (world.answer.status != 200 && world.answer.status != 201)
        g_error("%s: ?operations=true tells that %s is possible, and the attempt says %d:\n%s",
                what, verb, world.answer.status, world.answer.body);
    return !g_str_equal(verb, "plan");
}

/* What is told of the VM and of its snapshot. */
static json_t *
operations(void)
{
    json_call(&world, "GET", PATH("/" V "?operations=true"), NULL, 200);
    json_t *all = json_deep_copy(at(world.doc, "operations.operation"));
    g_autofree char *path = of_subject(S);
    json_call(&world, "GET", PATH("/%s?operations=true", path), NULL, 200);
    json_array_extend(all, (json_t *)at(world.doc, "operations.operation"));
    return all;
}

static unsigned
check_refusals(const char *what)
{
    g_autoptr(json_t) all = operations();
    unsigned refused = 0;
    size_t i;
    json_t *told;

    g_assert_cmpuint(json_array_size(all), >, 15);
    json_array_foreach (all, i, told) {
        if (json_is_true(json_object_get(told, "possible")))
            continue;
        check_refused(told, what);
        refused++;
    }
    return refused;
}

/* Each is begun, on a VM that is as it was. */
static unsigned
check_possibles(Vm *vm, const char *what)
{
    g_autoptr(json_t) all = operations();
    unsigned begun = 0;
    size_t i;
    json_t *told;

    json_array_foreach (all, i, told) {
        if (!json_is_true(json_object_get(told, "possible")) || !check_possible(told, what))
            continue;
        begun++;
        begin_anew(); /* the VM is held now */
        put_vm(vm);
    }
    return begun;
}

/* ---- states ---- */

static void
test_states(void)
{
    for (VmState state = 0; state < VM_STATE_LAST; state++) {
        g_autoptr(Vm) vm = good_vm(state);
        put_vm(vm);
        g_assert_cmpuint(check_refusals(vm_state_word(state)), >, 0);
        check_possibles(vm, vm_state_word(state));
    }
}

/* ---- conditions of the VM ---- */

static void
be_without_agent(Vm *vm)
{
    vm->agent_connected = false;
}

static void
be_unmanaged(Vm *vm)
{
    vm->unmanaged = g_strdup("all on tape");
}

static void
be_unusable(Vm *vm)
{
    ((SnapshotDisk *)((Snapshot *)vm->snapshots->pdata[0])->disks->pdata[0])->unusable = true;
}

static void
be_busy(Vm *vm)
{
    ((Disk *)vm->disks->pdata[0])->busy = g_strdup("a block job (copy)");
}

/* Somebody else's, with all of it. */
static void
be_backed_up(Vm *vm)
{
    vm->foreign_job = g_strdup("backup");
}

static void
have_no_disk(Vm *vm)
{
    g_ptr_array_set_size(vm->disks, 0);
}

static void
be_without_definition(Vm *vm)
{
    g_clear_pointer(&((Snapshot *)vm->snapshots->pdata[0])->config, g_free);
}

/* It stands on a new leaf above the snapshot's volume. */
static void
be_previewed(Vm *vm)
{
    PreviewDisk *part = g_new0(PreviewDisk, 1);

    part->disk_id = g_strdup(DISK_A);
    part->old_leaf = g_strdup("44444444-0000-4000-8000-000000000009");
    part->leaf = g_strdup("44444444-0000-4000-8000-000000000002");
    vm->preview = preview_new(SNAP_1, 1700000003000);
    g_ptr_array_add(vm->preview->disks, part);
}

static void
test_conditions(void)
{
    static const struct {
        const char *what;
        void (*be)(Vm *vm);
        VmState state;
    } rows[] = { { "no guest agent", be_without_agent, VM_UP },
                 { "unmanaged", be_unmanaged, VM_UP },
                 { "unusable", be_unusable, VM_DOWN },
                 { "a busy disk, up", be_busy, VM_UP },
                 { "a busy disk, down", be_busy, VM_DOWN },
                 { "a backup", be_backed_up, VM_UP },
                 { "no disk", have_no_disk, VM_DOWN },
                 { "no definition", be_without_definition, VM_UP },
                 { "a preview, down", be_previewed, VM_DOWN },
                 { "a preview, up", be_previewed, VM_UP } };

    for (size_t i = 0; i < G_N_ELEMENTS(rows); i++) {
        g_autoptr(Vm) vm = good_vm(rows[i].state);
        rows[i].be(vm);
        put_vm(vm);
        g_assert_cmpuint(check_refusals(rows[i].what), >, 0);
    }
}

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

/* ---- the active snapshot, a host that is silent ---- */

static void
test_active(void)
{
    g_autoptr(Vm) vm = good_vm(VM_DOWN);

    begin_anew();
    put_vm(vm);
    subject_id = active_snapshot_id(vm);
    g_assert_cmpuint(check_refusals("the active snapshot"), >, 4);
    g_clear_pointer(&subject_id, g_free);
}

static void
be_silent(Agent *agent)
{
    g_mutex_lock(&agent->lock);
    agent->stopping = true;
    g_cond_broadcast(&agent->changed);
    g_mutex_unlock(&agent->lock);
    http_server_stop(g_steal_pointer(&agent->server));
}

/* And it is known that nobody listens there: from then on the reason that is told does not change,
 * as it does while the streams to it end, one by one. */
static bool
is_unreachable(void)
{
    json_call(&world, "GET", PATH("/hosts"), NULL, 200);
    const char *detail = json_text(at(world.doc, "host.0"), "status_detail");
    return g_strcmp0(json_text(at(world.doc, "host.0"), "status"), "up") != 0 && detail != NULL &&
           strstr(detail, "nobody is listening") != NULL;
}

static void
test_silent(void)
{
    g_autoptr(Vm) vm = good_vm(VM_DOWN);
    int64_t until = g_get_monotonic_time() + 20 * G_TIME_SPAN_SECOND;

    begin_anew();
    put_vm(vm);
    be_silent(world.agent);
    while (!is_unreachable()) {
        g_assert_cmpint(g_get_monotonic_time(), <, until);
        g_usleep(5000);
    }
    g_assert_cmpuint(check_refusals("a silent host"), >, 10);
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
    log_init("api_states_test");
    world_start(&world);
    g_test_add_func("/api/states/conditions", test_conditions);
    g_test_add_func("/api/states/states", test_states);
    g_test_add_func("/api/states/preview", test_preview);
    g_test_add_func("/api/states/jobs", test_jobs);
    g_test_add_func("/api/states/active", test_active);
    g_test_add_func("/api/states/job-verbs", test_job_verbs);
    g_test_add_func("/api/states/silent", test_silent);
    int failed = g_test_run();
    world_stop(&world);
    return failed;
}
