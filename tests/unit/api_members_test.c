/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * What oVirt's clients read of VMs, hosts, data centers, storage domains and events, and what they
 * may change of it: PUT vms/V, freezing and thawing, DELETE events/N.
 */
#include "api_world.h"
#include "base/log.h"

static World world;

/* ---- reading ---- */

static void
test_vm(void)
{
    World *w = &world;

    json_call(w, "GET", PATH("/vms/" VM_ID), NULL, 200);
    assert_at(w->doc, "description", "\"of eggs\"");
    assert_at(w->doc, "comment", "\"a shop\"");
    assert_at(w->doc, "bios.type", "\"q35_ovmf\"");
    assert_at(w->doc, "memory_policy.ballooning", "true");
    assert_at(w->doc, "memory_policy.max", "1073741824");
    assert_at(w->doc, "creation_time", "\"2023-11-14T22:13:20.123Z\""); /* of its oldest snapshot */
    assert_at(w->doc, "start_time", "\"2023-11-14T22:13:21.000Z\"");
    assert_at(w->doc, "stop_time", NULL);
    assert_at(w->doc, "frozen", NULL);
    assert_at(w->doc, "foreign_job", NULL);
    assert_at(w->doc, "template.name", "\"Blank\"");
    json_call(w, "GET", PATH("/vms?search=description%%3Dof*+and+comment%%3D%%22a+shop%%22"), NULL,
              200);
    assert_at(w->doc, "vm.0.name", "\"web1\"");
    json_call(w, "GET", PATH("/vms?search=creationdate+%%3E+2024-01-01"), NULL, 200);
    assert_at(w->doc, "vm.0", NULL);
}

static void
test_around(void)
{
    World *w = &world;

    json_call(w, "GET", PATH("/hosts"), NULL, 200);
    assert_at(w->doc, "host.0.version.full_version", "\"1.2.3\"");
    assert_at(w->doc, "host.0.version.minor", "2");
    assert_at(w->doc, "host.0.libvirt_version.major", "9");
    assert_at(w->doc, "host.0.memory", "8589934592");
    assert_at(w->doc, "host.0.cpu.name", "\"abacus\"");
    assert_at(w->doc, "host.0.cpu.topology.cores", "4");
    json_call(w, "GET", PATH("/datacenters"), NULL, 200);
    assert_at(w->doc, "data_center.0.supported_versions.version.0.major", "4");
    json_call(w, "GET", PATH("/storagedomains?search=name%%3D%%22/images%%22"), NULL, 200);
    assert_at(w->doc, "storage_domain.0.committed", "1073741824");
    json_call(w, "GET", PATH(""), NULL, 200);
    assert_at(w->doc, "summary.storage_domains.active", "1");
    assert_at(w->doc, "summary.hosts.total", "1");
    g_assert_cmpint(json_integer_value(at(w->doc, "summary.users.total")), >=, 0);
}

/* ---- events ---- */

static void
test_events(void)
{
    World *w = &world;

    json_call(w, "POST", PATH("/events"),
              "{\"custom_id\":7,\"description\":\"too hot\",\"origin\":\"o\",\"severity\":"
              "\"warning\",\"vm\":{\"id\":\"" VM_ID "\"}}",
              201);
    g_autofree char *id = g_strdup(json_text(w->doc, "id"));
    g_assert_nonnull(at(w->doc, "user.id"));
    assert_at(w->doc, "host.name", "\"h1\"");
    g_assert_nonnull(at(w->doc, "host.href"));
    assert_at(w->doc, "cluster.name", "\"Default\"");
    g_assert_nonnull(at(w->doc, "data_center.id"));
    g_autofree char *host = g_strdup(json_text(at(w->doc, "host"), "href"));
    json_call(w, "GET", g_steal_pointer(&host), NULL, 200);
    assert_at(w->doc, "name", "\"h1\"");
    json_call(w, "GET", PATH("/events?search=host%%3Dh1+and+origin%%3Do"), NULL, 200);
    assert_at(w->doc, "event.0.custom_id", "7");

    json_call(w, "DELETE", PATH("/events/%s", id), NULL, 200);
    assert_at(w->doc, "status", "\"complete\"");
    json_call(w, "GET", PATH("/events/%s", id), NULL, 404);
    json_call(w, "DELETE", PATH("/events/%s", id), NULL, 404);
    json_call(w, "DELETE", PATH("/events/x"), NULL, 404);
    json_call(w, "GET", PATH("/events?max=1"), NULL, 200); /* which tells of it */
    assert_at(w->doc, "event.0.code", "10600");
    g_assert_nonnull(strstr(json_text(at(w->doc, "event.0"), "description"), "too hot"));
    g_assert_cmpstr(json_text(at(w->doc, "event.0"), "id"), !=, id);
}

/* ---- changing ---- */

typedef struct {
    const char *kind;
    Vm *vm; /* as it is then */
} Deed;

static void *
end_deed(void *data)
{
    const Deed *deed = data;
    g_autofree char *id = agent_wait_operation(world.agent, deed->kind);

    agent_end_operation(world.agent, id, deed->vm);
    return NULL;
}

static Vm *
described(const char *description)
{
    g_autoptr(Vm) seen = manager_vm(world.manager, VM_ID, NULL);
    Vm *vm = vm_copy(seen);

    g_free(vm->description);
    vm->description = g_strdup(description);
    return vm;
}

/* PUT is answered when it is so. */
static void
test_put(void)
{
    World *w = &world;
    g_autoptr(Vm) vm = described("of ham");
    const Deed deed = { "vm-update", vm };

    json_call(w, "GET", PATH("/vms/" VM_ID), NULL, 200);
    g_autoptr(json_t) whole = json_deep_copy(w->doc);
    json_object_set_new(whole, "description", json_string("of ham"));
    json_object_set_new(whole, "status", json_string("down")); /* it was, when they asked */
    autolibc char *text = json_dumps(whole, 0);
    GThread *ends = g_thread_new("deed", end_deed, (void *)&deed);
    json_call(w, "PUT", PATH("/vms/" VM_ID), text, 200);
    g_thread_join(ends);
    assert_at(w->doc, "description", "\"of ham\"");
    assert_at(w->doc, "status", "\"up\"");
    json_call(w, "PUT", PATH("/vms/" VM_ID), text, 200); /* nothing to do: nobody is asked */
    assert_at(w->doc, "description", "\"of ham\"");
    json_call(w, "GET", PATH("/events?search=code%%3D35"), NULL, 200);
    g_assert_nonnull(at(w->doc, "event.0"));
    assert_at(w->doc, "event.1", NULL);
}

/* As the SDK prints it, and Ansible's module. */
static void
test_put_xml(void)
{
    static const char *const xml[] = { "Content-Type: application/xml", "Accept: application/xml",
                                       NULL };
    World *w = &world;
    g_autoptr(Vm) vm = described("");
    const Deed deed = { "vm-update", vm };
    GThread *ends = g_thread_new("deed", end_deed, (void *)&deed);

    call(w, "PUT", PATH("/vms/" VM_ID), xml,
         "<vm id=\"" VM_ID "\"><cluster><name>Default</name></cluster><description></description>"
         "<memory>1073741824</memory><name>web1</name><os><boot><devices><device>hd</device>"
         "</devices></boot></os><stateless>false</stateless><wheels>4</wheels></vm>");
    g_thread_join(ends);
    g_assert_cmpint(w->answer.status, ==, 200);
    g_assert_null(strstr(w->answer.body, "<description>"));
    call(w, "PUT", PATH("/vms/" VM_ID), xml, "<vm><memory>2147483648</memory></vm>");
    g_assert_cmpint(w->answer.status, ==, 409);
    g_assert_nonnull(strstr(w->answer.body, "<fault>"));
    g_assert_nonnull(strstr(w->answer.body, "<detail>memory cannot be changed here"));
    g_assert_nonnull(strstr(w->answer.body, "<reason>Broken immutability constraint</reason>"));
}

static void
test_put_refused(void)
{
    static const struct {
        const char *body, *names;
        int status;
    } rows[] = {
        { "{\"id\":\"x\"}", "id ", 409 },
        { "{\"cluster\":{\"id\":\"x\"}}", "cluster", 409 },
        { "{\"cpu\":{\"topology\":{\"cores\":64}}}", "cpu", 409 },
        { "{\"high_availability\":{\"enabled\":true}}", "high_availability", 409 },
        { "{\"time_zone\":{\"name\":\"Etc/GMT\"}}", "time_zone", 409 },
        { "{\"os\":{\"boot\":{\"devices\":{\"device\":[\"hd\",\"network\"]}}}}", "os ", 409 },
        { "{\"name\":\"shop\"}", "it is not off", 409 },
        { "{\"name\":\"\"}", "name", 400 },
        { "{\"description\":[\"a\"]}", "description", 400 },
        { "{\"comment\":\"two\\nlines\"}", "comment", 400 },
    };

    for (size_t i = 0; i < G_N_ELEMENTS(rows); i++) {
        json_call(&world, "PUT", PATH("/vms/" VM_ID), rows[i].body, rows[i].status);
        if (strstr(world.answer.body, rows[i].names) == NULL)
            g_error("%s: the fault does not name '%s':\n%s", rows[i].body, rows[i].names,
                    world.answer.body);
    }
    json_call(&world, "PUT", PATH("/vms/none"), "{}", 404);
}

static void
test_freeze(void)
{
    World *w = &world;
    g_autoptr(Vm) vm = described("");
    const Deed freeze = { "vm-freeze", vm }, thaw = { "vm-thaw", vm };

    vm->frozen = g_strdup(vm->instance);
    GThread *ends = g_thread_new("deed", end_deed, (void *)&freeze);
    json_call(w, "POST", PATH("/vms/" VM_ID "/freezefilesystems"), "{}", 200);
    g_thread_join(ends);
    assert_at(w->doc, "status", "\"complete\"");
    json_call(w, "GET", PATH("/vms/" VM_ID), NULL, 200);
    assert_at(w->doc, "frozen", "true");
    g_clear_pointer(&vm->frozen, g_free);
    ends = g_thread_new("deed", end_deed, (void *)&thaw);
    json_call(w, "POST", PATH("/vms/" VM_ID "/thawfilesystems"), "{}", 200);
    g_thread_join(ends);
    json_call(w, "GET", PATH("/vms/" VM_ID), NULL, 200);
    assert_at(w->doc, "frozen", NULL);
    json_call(w, "GET", PATH("/events?max=1"), NULL, 200);
    assert_at(w->doc, "event.0.code", "10768");
}

/* ---- begin ---- */

static void
begin(void)
{
    g_autoptr(Vm) vm = sample_vm();

    vm->description = g_strdup("of eggs");
    vm->comment = g_strdup("a shop");
    vm->firmware = g_strdup("q35_ovmf");
    vm->ballooning = vm->agent_connected = true;
    vm->started = 1700000001000;
    world_start_with(&world, vm);
}

int
main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    log_init("api_members_test");
    begin();
#define TEST(path, function) g_test_add_func("/api/members/" path, function)
    TEST("vm", test_vm);
    TEST("around", test_around);
    TEST("events", test_events);
    TEST("put", test_put);
    TEST("put-xml", test_put_xml);
    TEST("put-refused", test_put_refused);
    TEST("freeze", test_freeze);
    int failed = g_test_run();
    world_stop(&world);
    return failed;
}
