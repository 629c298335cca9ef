/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * One VM that is put into a state, and what the API then tells of each deed and does on request.
 */
#pragma once

#include "api_world.h"

static World world;
static uint64_t look;    /* the VM's memory, so that each look at it can be told from the last */
static char *subject_id; /* instead of SNAP_1: the snapshot that is meant; NULL = that one */

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

static inline char *
of_subject(const char *text)
{
    g_auto(GStrv) parts = g_strsplit(text != NULL ? text : "", SNAP_1, -1);

    return g_strjoinv(subject_id != NULL ? subject_id : SNAP_1, parts);
}

static inline bool
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

/* Waits until the manager has seen it. */
static inline void
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
static inline Vm *
good_vm(VmState state)
{
    Vm *vm = sample_vm();

    vm->state = state;
    vm->agent_connected = state == VM_UP;
    ((Snapshot *)vm->snapshots->pdata[0])->config = g_strdup("<domain/>");
    return vm;
}

static inline void
begin_anew(void)
{
    world_stop(&world);
    memset(&world, 0, sizeof world);
    world_start(&world);
}

/* oVirt's clients ask for the memory unless they are told not to: of a VM that is off they get a
 * snapshot without. */
static inline bool
is_without_memory(const char *verb)
{
    g_autoptr(Vm) vm = manager_vm(world.manager, VM_ID, NULL);

    return vm->state == VM_DOWN && g_str_equal(verb, "create_snapshot_with_memory");
}

/* In the fault, wherever the answer has it. */
static inline const json_t *
fault_of(const json_t *doc)
{
    return at(doc, "fault") != NULL ? at(doc, "fault") : doc;
}

static inline void
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

static inline bool
is_renaming(const char *verb)
{
    return g_str_equal(verb, "rename_snapshot"); /* waits a while for its job, which nobody ends */
}

/* Has it begun something? */
static inline bool
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
static inline json_t *
operations(void)
{
    json_call(&world, "GET", PATH("/" V "?operations=true"), NULL, 200);
    json_t *all = json_deep_copy(at(world.doc, "operations.operation"));
    g_autofree char *path = of_subject(S);
    json_call(&world, "GET", PATH("/%s?operations=true", path), NULL, 200);
    json_array_extend(all, (json_t *)at(world.doc, "operations.operation"));
    return all;
}

static inline unsigned
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
static inline unsigned
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

/* It stands on a new leaf above the snapshot's volume. */
static inline void
be_previewed(Vm *vm)
{
    PreviewDisk *part = g_new0(PreviewDisk, 1);

    part->disk_id = g_strdup(DISK_A);
    part->old_leaf = g_strdup("44444444-0000-4000-8000-000000000009");
    part->leaf = g_strdup("44444444-0000-4000-8000-000000000002");
    vm->preview = preview_new(SNAP_1, 1700000003000);
    g_ptr_array_add(vm->preview->disks, part);
}
