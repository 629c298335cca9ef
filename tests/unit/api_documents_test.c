/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * The documents of the API, and the table of its routes.
 */
#include "api/api.h"
#include "api/routes.h"
#include "api/xml.h"
#include "api_world.h"
#include "base/log.h"

#include <string.h>

static void
test_vm_document(void)
{
    g_autoptr(Vm) vm = sample_vm();
    g_autoptr(json_t) doc = vm_document(vm, NULL, "h");

    assert_at(doc, "id", "\"" VM_ID "\"");
    assert_at(doc, "href", "\"/ovirt-engine/api/vms/" VM_ID "\"");
    assert_at(doc, "name", "\"web1\"");
    assert_at(doc, "status", "\"up\"");
    assert_at(doc, "display.type", "\"vnc\"");
    assert_at(doc, "cpu.topology.sockets", "2");
    assert_at(doc, "memory", "1073741824");
    assert_at(doc, "host.id", "\"h\"");
    assert_at(doc, "template.id", "\"" API_NIL_ID "\"");
    assert_at(doc, "unmanaged", NULL);
    assert_at(doc, "has_illegal_images", NULL);
    g_assert_nonnull(at(doc, "cluster.id"));
    g_assert_nonnull(at(doc, "actions.link.0.href"));

    ((SnapshotDisk *)vm_snapshot(vm, SNAP_1)->disks->pdata[0])->unusable = true;
    vm->state = VM_DOWN;
    vm->unmanaged = g_strdup("why");
    g_autoptr(json_t) down = vm_document(vm, NULL, "h");
    assert_at(down, "has_illegal_images", "true");
    assert_at(down, "host", NULL);
    assert_at(down, "unmanaged", "\"why\"");
    g_autofree char *xml = xml_write("vm", down);
    g_assert_null(strstr(xml, "<description"));
    g_assert_nonnull(strstr(xml, "<boot><devices><device>hd</device></devices></boot>"));
}

/* What the page's list of VMs shows is in it, and little else. */
static void
test_brief_vms(void)
{
    static const char *const shown[] = { "id",   "href",           "name",        "status",
                                         "host", "snapshot_count", "chain_depth", "chain_bytes" };
    static World w;

    world_start(&w);
    json_call(&w, "GET", PATH("/vms"), NULL, 200);
    g_autoptr(json_t) whole = json_deep_copy(at(w.doc, "vm.0"));
    json_call(&w, "GET", PATH("/vms?brief=true"), NULL, 200);
    for (size_t i = 0; i < G_N_ELEMENTS(shown); i++)
        g_assert_true(json_equal(json_object_get(at(w.doc, "vm.0"), shown[i]),
                                 json_object_get(whole, shown[i])));
    assert_at(w.doc, "vm.0.name", "\"web1\"");
    assert_at(w.doc, "vm.0.host.name", "\"h1\"");
    for (const char **none = (const char *[]){ "link", "actions", "memory", "template", NULL };
         *none != NULL; none++)
        g_assert_null(json_object_get(at(w.doc, "vm.0"), *none));
    json_call(&w, "GET", PATH("/vms?brief=true&operations=true"), NULL, 200);
    g_assert_nonnull(at(w.doc, "vm.0.operations.operation.0"));
    json_call(&w, "GET", PATH("/vms?brief=false"), NULL, 200);
    g_assert_true(json_equal(at(w.doc, "vm.0"), whole));
    json_call(&w, "GET", PATH("/vms?brief=true&search=name%%3Dweb1"), NULL, 400);
    g_assert_nonnull(strstr(w.answer.body, "ask for one of them"));
    world_stop(&w);
}

static void
test_disk_documents(void)
{
    g_autoptr(Vm) vm = sample_vm();
    g_autoptr(json_t) a = disk_document(vm, vm_disk(vm, "vda"));
    g_autoptr(json_t) b = disk_document(vm, vm_disk(vm, "vdb"));
    g_autoptr(json_t) attachment = disk_attachment_document(vm, vm_disk(vm, "vda"));

    assert_at(a, "name", "\"web1_vda\"");
    assert_at(a, "status", "\"ok\"");
    assert_at(a, "format", "\"cow\"");
    assert_at(a, "provisioned_size", "1073741824");
    assert_at(a, "actual_size", "30");
    assert_at(a, "total_size", "130");
    assert_at(a, "image_id", "\"44444444-0000-4000-8000-000000000002\"");
    assert_at(a, "volumes.volume.0.path", "\"/images/base.qcow2\"");
    assert_at(a, "volumes.volume.1.allocated", "30");
    assert_at(a, "vms.vm.0.name", "\"web1\"");
    g_assert_nonnull(at(a, "storage_domains.storage_domain.0.id"));
    assert_at(b, "unmanaged", "\"network disk\"");
    assert_at(b, "volumes.volume", "[]");
    assert_at(attachment, "href", "\"/ovirt-engine/api/vms/" VM_ID "/diskattachments/" DISK_A "\"");
    assert_at(attachment, "bootable", "true");
    assert_at(attachment, "interface", "\"virtio\"");
    assert_at(attachment, "logical_name", "\"/dev/vda\"");
    g_assert_true(disk_find(vm, "web1_vda") == disk_find(vm, DISK_A));
    g_assert_null(disk_find(vm, "vdz"));

    const Snapshot *one = vm_snapshot(vm, SNAP_1);
    g_autoptr(json_t) part = snapshot_disk_document(vm, one, one->disks->pdata[0]);
    assert_at(part, "image_id", "\"44444444-0000-4000-8000-000000000001\"");
    assert_at(part, "actual_size", "100");
    assert_at(part, "snapshot.id", "\"" SNAP_1 "\"");
}

static void
test_snapshot_documents(void)
{
    g_autoptr(Vm) vm = sample_vm();
    Snapshot *one = vm_snapshot(vm, SNAP_1);
    g_autoptr(json_t) regular = snapshot_document(vm, one, false);
    g_autoptr(json_t) locked = snapshot_document(vm, one, true);
    g_autoptr(json_t) active = active_snapshot_document(vm);
    g_autofree char *first_id = active_snapshot_id(vm);

    assert_at(regular, "description", "\"before update\"");
    assert_at(regular, "date", "\"2023-11-14T22:13:20.123Z\"");
    assert_at(regular, "snapshot_status", "\"ok\"");
    assert_at(regular, "snapshot_type", "\"regular\"");
    assert_at(regular, "persist_memorystate", "false");
    assert_at(regular, "vm.name", "\"web1\"");
    assert_at(regular, "size", "100");
    assert_at(regular, "unusable", NULL);
    assert_at(locked, "snapshot_status", "\"locked\"");
    assert_at(active, "snapshot_type", "\"active\"");
    assert_at(active, "description", "\"Active VM\"");
    assert_at(active, "vm", NULL);
    assert_at(active, "link", NULL);
    assert_at(active, "parent.id", "\"" SNAP_1 "\"");
    g_assert_cmpstr(json_text(active, "id"), ==, first_id);
    g_assert_true(g_uuid_string_is_valid(first_id));

    /* the id goes with the leaf */
    add_volume(vm_disk(vm, "vda"), "44444444-0000-4000-8000-000000000003", "/images/3", "qcow2", 1);
    g_autofree char *second_id = active_snapshot_id(vm);
    g_assert_cmpstr(first_id, !=, second_id);

    one->memory = g_strdup("/images/m");
    one->memory_size = 5;
    ((SnapshotDisk *)one->disks->pdata[0])->unusable = true;
    g_autoptr(json_t) with_memory = snapshot_document(vm, one, false);
    assert_at(with_memory, "persist_memorystate", "true");
    assert_at(with_memory, "size", "105");
    assert_at(with_memory, "unusable", "true");
}

static void
test_job_document(void)
{
    g_autoptr(json_t) job = parse(
        "{\"id\":\"J\",\"kind\":\"remove-snapshots\",\"description\":\"d\",\"vm_id\":\"V\","
        "\"vm_name\":\"web1\",\"snapshots\":[\"S\"],\"correlation_id\":\"c\",\"status\":"
        "\"finished\","
        "\"start_time\":1700000000123,\"end_time\":1700000001123,\"last_updated\":1700000001123,"
        "\"progress\":{\"percent\":100},\"error\":null,\"rev\":7,"
        "\"disks\":[{\"id\":\"D\",\"strategy\":\"commit\",\"seconds\":1.25,"
        "\"pauses\":[{\"kind\":\"pivot\",\"milliseconds\":12}],\"volumes_removed\":[\"/v\"]}],"
        "\"steps\":[{\"id\":\"T\",\"description\":\"merge\",\"status\":\"finished\","
        "\"start_time\":1700000000123,\"end_time\":0,\"progress\":50,\"number\":0}]}");
    g_autoptr(json_t) doc = job_document(job);
    g_autoptr(json_t) step = step_document(json_array_get(json_object_get(job, "steps"), 0), "J");
    g_autofree char *xml = xml_write("job", doc);

    assert_at(doc, "href", "\"/ovirt-engine/api/jobs/J\"");
    assert_at(doc, "start_time", "\"2023-11-14T22:13:20.123Z\"");
    assert_at(doc, "end_time", "\"2023-11-14T22:13:21.123Z\"");
    assert_at(doc, "disks.disk.0.seconds", "1.25");
    assert_at(doc, "snapshots.snapshot.0.id", "\"S\"");
    assert_at(doc, "actions", NULL); /* nothing left to cancel */
    assert_at(doc, "rev", "7");
    assert_at(doc, "error", NULL);
    g_assert_nonnull(strstr(xml, "<pauses><pause><kind>pivot</kind><milliseconds>12</milliseconds>"
                                 "</pause></pauses><volumes_removed><volume>/v</volume>"));
    assert_at(step, "href", "\"/ovirt-engine/api/jobs/J/steps/T\"");
    assert_at(step, "progress", "50");
    assert_at(step, "end_time", NULL);
}

/* Each path once per method, each link of the root document served. */
static void
test_routes_table(void)
{
    g_autoptr(GHashTable) seen = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, NULL);

    for (const Route *route = api_routes; route->method != NULL; route++) {
        char *key = g_strconcat(route->method, " ", route->path, NULL);
        if (!g_hash_table_add(seen, key))
            g_error("%s is there twice", key);
        g_assert_nonnull(route->handler);
        g_assert_nonnull(route->root);
        bool sends = g_str_equal(route->method, "POST") || g_str_equal(route->method, "PUT");
        g_assert_cmpint(route->body_root != NULL, ==, sends);
    }
}

static void
test_options(void)
{
    static const struct {
        const char *listen, *says; /* NULL = good with TLS */
        bool open;                 /* good without TLS, too */
    } rows[] = {
        { "127.0.0.1:8443", NULL, true },
        { "[::1]:0", NULL, true },
        { "localhost:1", NULL, true },
        { "127.1.2.3:80", NULL, true },
        { "", NULL, true },
        { "0.0.0.0:8443", NULL, false },
        { "[::]:8443", NULL, false },
        { "192.0.2.1:1", NULL, false },
        { "host:1", NULL, false },
        { ":8443", "ADDRESS:PORT" },
        { "127.0.0.1", "ADDRESS:PORT" },
        { "127.0.0.1:99999", "ADDRESS:PORT" },
    };

    for (size_t i = 0; i < G_N_ELEMENTS(rows); i++) {
        ApiOptions options = { .listen = rows[i].listen, .tls = true, .socket = "/run/x.sock" };
        g_autoptr(GError) error = NULL;
        bool good = api_options_check(&options, &error);
        g_assert_cmpint(good, ==, rows[i].says == NULL);
        if (!good && strstr(error->message, rows[i].says) == NULL)
            g_error("listen=%s: '%s'", rows[i].listen, error->message);
        if (rows[i].says != NULL)
            continue;
        options.tls = false;
        g_assert_cmpint(api_options_check(&options, &error), ==, rows[i].open);
        if (!rows[i].open)
            g_assert_nonnull(strstr(error->message, "tls = yes"));
    }
}

int
main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    log_init("api_documents_test");
    xml_init();
    g_test_add_func("/api/vm-document", test_vm_document);
    g_test_add_func("/api/brief-vms", test_brief_vms);
    g_test_add_func("/api/disk-documents", test_disk_documents);
    g_test_add_func("/api/snapshot-documents", test_snapshot_documents);
    g_test_add_func("/api/job-document", test_job_document);
    g_test_add_func("/api/routes-table", test_routes_table);
    g_test_add_func("/api/options", test_options);
    return g_test_run();
}
