/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * The hypervisor seam without a hypervisor: domain XML in, disks out; the edit of a definition;
 * which process runs a VM; what a connection that cannot be made does.
 */
#include "base/text.h"
#include "hypervisor/connection.h"
#include "hypervisor/instance.h"

#include <signal.h>
#include <sys/wait.h>

/* ---- golden XML ---- */

#define UUID "11111111-2222-3333-4444-555555555555"
#define OPEN "<domain type='kvm' id='7'><name>web</name><uuid>" UUID "</uuid>"
#define CLOSE "</devices></domain>"

static const char live_xml[] =
    OPEN "<memory unit='KiB'>2097152</memory><vcpu placement='static'>4</vcpu><devices>"
         "<disk type='file' device='disk'><driver name='qemu' type='qcow2' cache='none'/>"
         "<source file='/vm/s2.qcow2' index='5'/><backingStore type='file' index='3'>"
         "<format type='qcow2'/><source file='/vm/s1.qcow2'/><backingStore type='block' index='1'>"
         "<format type='raw'/><source dev='/dev/vg/base'/><backingStore/></backingStore>"
         "</backingStore><mirror type='file' job='active-commit' ready='yes'>"
         "<format type='raw'/><source file='/vm/base.raw' index='1'/></mirror>"
         "<target dev='vda' bus='virtio'/><alias name='virtio-disk0'/></disk>"
         "<disk type='file' device='cdrom'><driver name='qemu'/><target dev='sda' bus='sata'/>"
         "<readonly/></disk>"
         "<disk type='network' device='disk'><driver name='qemu' type='raw'/>"
         "<source protocol='rbd' name='pool/image'><host name='mon' port='6789'/></source>"
         "<target dev='vdb' bus='virtio'/><shareable/></disk>"
         "<disk type='file' device='disk'><driver name='qemu' type='qcow2'/>"
         "<source file='/vm/it&apos;s &amp; &lt;that&gt; &quot;ö&quot;.qcow2'/>"
         "<backingStore type='network'><format type='raw'/><source protocol='nbd' name='e'/>"
         "</backingStore><mirror type='file'/><target dev='vdc' bus='scsi'/><transient/></disk>"
         "<channel type='unix'><target type='virtio' name='org.qemu.guest_agent.0' "
         "state='connected'/></channel><graphics type='vnc' port='5900'/>"
         "<hostdev mode='subsystem' type='pci'/>" CLOSE;

static void
test_parse_live(void)
{
    g_autoptr(GError) error = NULL;
    g_autoptr(HvDomain) domain = hv_domain_new();

    g_assert_true(hv_parse_domain(live_xml, domain, &domain->disks, &error));
    g_assert_no_error(error);
    g_assert_cmpstr(domain->id, ==, UUID);
    g_assert_cmpstr(domain->name, ==, "web");
    g_assert_cmpuint(domain->memory, ==, 2ULL << 30);
    g_assert_cmpuint(domain->vcpus, ==, 4);
    g_assert_true(domain->agent_connected);
    g_assert_cmpstr(domain->graphics, ==, "vnc");
    g_assert_cmpstr(domain->tpm_or_passthrough, ==, "a passed-through device");
    g_assert_cmpuint(domain->disks->len, ==, 4);
    g_assert_null(hv_domain_disk(domain, "vdz"));

    const HvDisk *disk = hv_domain_disk(domain, "vda");
    g_assert_cmpstr(disk->source, ==, "/vm/s2.qcow2");
    g_assert_cmpstr(disk->type, ==, "file");
    g_assert_cmpstr(disk->format, ==, "qcow2");
    g_assert_cmpstr(disk->bus, ==, "virtio");
    g_assert_cmpuint(disk->backing->len, ==, 2);
    g_assert_cmpstr(disk->backing->pdata[0], ==, "/vm/s1.qcow2");
    g_assert_cmpstr(disk->backing->pdata[1], ==, "/dev/vg/base");
    g_assert_true(disk->backing_terminated);
    g_assert_cmpstr(disk->mirror_job, ==, "active-commit");
    g_assert_cmpstr(disk->mirror_path, ==, "/vm/base.raw");
    g_assert_cmpstr(disk->mirror_ready, ==, "yes");

    disk = hv_domain_disk(domain, "sda");
    g_assert_cmpstr(disk->device, ==, "cdrom");
    g_assert_null(disk->source);
    g_assert_null(disk->format);
    g_assert_null(disk->backing);
    g_assert_null(disk->mirror_job);
    g_assert_true(disk->read_only);

    disk = hv_domain_disk(domain, "vdb");
    g_assert_cmpstr(disk->type, ==, "network");
    g_assert_cmpstr(disk->protocol, ==, "rbd");
    g_assert_null(disk->source);
    g_assert_true(disk->shareable);
    g_assert_false(disk->read_only);

    disk = hv_domain_disk(domain, "vdc");
    g_assert_cmpstr(disk->source, ==, "/vm/it's & <that> \"ö\".qcow2");
    g_assert_cmpuint(disk->backing->len, ==, 1);
    g_assert_cmpstr(disk->backing->pdata[0], ==, "nbd:e");
    g_assert_false(disk->backing_terminated);
    g_assert_true(disk->transient);
    g_assert_cmpstr(disk->mirror_job, ==, "");
    g_assert_null(disk->mirror_path);
    g_assert_null(disk->mirror_ready);
}

static void
test_node(void)
{
    static const char xml[] =
        OPEN "<devices><disk type='file'><source file='/a2' index='7'/>"
             "<backingStore type='file' index='6'><source file='/a1'/>"
             "<backingStore type='file' index='2'><source file='/a0'/><backingStore/>"
             "</backingStore></backingStore><target dev='vda'/></disk>"
             "<disk type='file'><source file='/b1' index='1'/><backingStore type='file'>"
             "<source file='/b0'/><backingStore/></backingStore><target dev='vdb'/></disk>"
             "</devices></domain>";
    g_autofree char *node = hv_node_of(xml, "vda", "/a0", NULL);

    g_assert_cmpstr(node, ==, "libvirt-2-format");
    g_autofree char *leaf = hv_node_of(xml, "vda", NULL, NULL);
    g_autofree char *same = hv_node_of(xml, "vda", "/a2", NULL);

    g_assert_cmpstr(leaf, ==, "libvirt-7-format");
    g_assert_cmpstr(same, ==, leaf);
    g_assert_null(hv_node_of(xml, "vda", "/b0", NULL));
    g_assert_null(hv_node_of(xml, "vdb", "/b0", NULL)); /* it does not run */
    g_assert_null(hv_node_of(xml, "vdc", "/a0", NULL));
    g_assert_null(hv_node_of("<domain>", "vda", "/a0", NULL));
}

/* libvirt allows 200 layers, each nested in the one above. */
static void
test_parse_deep(void)
{
    g_autoptr(GString) xml = g_string_new(OPEN "<devices><disk type='file'><source file='/top'/>");
    g_autoptr(GPtrArray) disks = NULL;
    g_autoptr(GError) error = NULL;

    for (int i = 0; i < 200; i++)
        g_string_append_printf(xml, "<backingStore type='file'><source file='/l%d'/>", i);
    g_string_append(xml, "<backingStore/>");
    for (int i = 0; i < 200; i++)
        g_string_append(xml, "</backingStore>");
    g_string_append(xml, "<target dev='vda'/></disk>" CLOSE);

    g_assert_true(hv_parse_domain(xml->str, NULL, &disks, &error));
    g_assert_no_error(error);
    const HvDisk *disk = disks->pdata[0];
    g_assert_cmpuint(disk->backing->len, ==, 200);
    g_assert_true(disk->backing_terminated);
    g_assert_cmpstr(disk->device, ==, "disk");
}

/* It has no path; which file it is libvirt is asked. */
static void
test_parse_pool(void)
{
    static const char xml[] =
        OPEN "<devices><disk type='volume'><source pool='p' volume='v.qcow2'/>"
             "<target dev='vda'/></disk>" CLOSE;
    g_autoptr(GPtrArray) disks = NULL;

    g_assert_true(hv_parse_domain(xml, NULL, &disks, NULL));
    HvDisk *disk = disks->pdata[0];
    g_assert_cmpstr(disk->pool, ==, "p");
    g_assert_cmpstr(disk->pool_volume, ==, "v.qcow2");
    g_assert_null(hv_disk_file(disk));
    disk->pool_file = g_strdup("/pool/v.qcow2");
    g_assert_cmpstr(hv_disk_file(disk), ==, "/pool/v.qcow2");
    g_assert_null(disk->source);
}

static void
test_parse_memory(void)
{
    /* clang-format off */
    static const struct { const char *element; uint64_t bytes; } rows[] = {
        { "<memory>1024</memory>", 1 << 20 },
        { "<memory unit='bytes'>4096</memory>", 4096 },
        { "<memory unit='MB'>2</memory>", 2000000 },
        { "<memory unit='GiB'> 3 </memory>", 3ULL << 30 },
        { "", 0 },
    };
    /* clang-format on */
    for (size_t i = 0; i < G_N_ELEMENTS(rows); i++) {
        g_autofree char *xml = g_strconcat(OPEN, rows[i].element, "<devices>" CLOSE, NULL);
        g_autoptr(HvDomain) domain = hv_domain_new();
        g_assert_true(hv_parse_domain(xml, domain, &domain->disks, NULL));
        g_assert_cmpuint(domain->memory, ==, rows[i].bytes);
        g_assert_cmpuint(domain->disks->len, ==, 0);
    }
}

static void
test_parse_bad(void)
{
    /* clang-format off */
    static const struct { const char *xml, *message; } rows[] = {
        { "", "*cannot be read*" },
        { "<domain>", "*cannot be read: line 1*" },
        { "<volume/>", "*<volume>*" },
        { "<domain><name>x</name></domain>", "*no uuid*" },
        { "<domain><uuid>x</uuid></domain>", "*no name*" },
        { OPEN "<devices><disk type='file'/>" CLOSE, "*'web'*no target*" },
        { "<!DOCTYPE domain [<!ENTITY a 'aaaa'>]><domain><name>&a;</name><uuid/></domain>",
          "*DOCTYPE*" },
        { "<!DOCTYPE domain SYSTEM 'file:///etc/passwd'><domain/>", "*DOCTYPE*" },
    };
    /* clang-format on */
    for (size_t i = 0; i < G_N_ELEMENTS(rows); i++) {
        g_autoptr(GError) error = NULL;
        g_autoptr(HvDomain) domain = hv_domain_new();
        g_test_message("row %zu", i);
        g_assert_false(hv_parse_domain(rows[i].xml, domain, &domain->disks, &error));
        g_assert_error(error, ERR, ERR_CORRUPT);
        g_assert_true(g_pattern_match_simple(rows[i].message, error->message));
        g_assert_null(domain->disks);
    }
}

/* ---- the edit of a definition ---- */

#define HEAD "<domain type=\"kvm\">\n  <name>web</name>\n  <devices>\n"
#define TAIL "  </devices>\n</domain>"
#define CHAIN                                                                           \
    "      <backingStore type=\"file\">\n        <source file=\"/vm/base\"/>\n        " \
    "<backingStore/>\n      </backingStore>\n"
#define DISK_A(source, backing)                                                      \
    "    <disk type=\"file\" device=\"disk\">\n      <driver name=\"qemu\" "         \
    "type=\"qcow2\" cache=\"none\"/>\n      <source file=\"" source "\"/>\n" backing \
    "      <target dev=\"vda\" bus=\"virtio\"/>\n    </disk>\n"
#define DISK_B(backing)                                                       \
    "    <disk type=\"block\" device=\"disk\">\n      <driver name=\"qemu\" " \
    "type=\"raw\"/>\n      <source dev=\"/dev/vg/b\"/>\n" backing             \
    "      <target dev=\"vdb\"/>\n    </disk>\n"
#define SECRET "    <graphics type=\"vnc\" passwd=\"x&amp;y\"/>\n    <!-- kept -->\n"

static void
test_edit(void)
{
    /* clang-format off */
    static const struct {
        const char *what, *xml, *target, *source, *format, *wanted;
    } rows[] = {
        { "only the chains go", HEAD DISK_A("/vm/s1", CHAIN) DISK_B("      <backingStore/>\n") SECRET TAIL,
          NULL, NULL, NULL, HEAD DISK_A("/vm/s1", "") DISK_B("") SECRET TAIL },
        { "one source, all chains", HEAD DISK_A("/vm/s1", CHAIN) DISK_B("      <backingStore/>\n") TAIL,
          "vda", "/vm/a&b<c'\"", "qcow2",
          HEAD DISK_A("/vm/a&amp;b&lt;c'&quot;", "") DISK_B("") TAIL },
        { "block becomes file", HEAD DISK_B("") TAIL, "vdb", "/vm/s1", "qcow2",
          HEAD "    <disk type=\"file\" device=\"disk\">\n      <driver name=\"qemu\" type=\"qcow2\"/>\n"
          "      <source file=\"/vm/s1\"/>\n      <target dev=\"vdb\"/>\n    </disk>\n" TAIL },
        { "a driver is added", HEAD "<disk type=\"file\"><source file=\"/a\"/><target dev=\"vda\"/></disk>" TAIL,
          "vda", "/dev/vg/c", "raw",
          HEAD "<disk type=\"block\"><driver name=\"qemu\" type=\"raw\"/><source dev=\"/dev/vg/c\"/>"
          "<target dev=\"vda\"/></disk>" TAIL },
        { "already so", HEAD DISK_A("/vm/s1", "") SECRET TAIL, "vda", "/vm/s1", "qcow2",
          HEAD DISK_A("/vm/s1", "") SECRET TAIL },
    };
    /* clang-format on */
    for (size_t i = 0; i < G_N_ELEMENTS(rows); i++) {
        g_autoptr(GError) error = NULL;
        unsigned n = rows[i].target != NULL ? 1 : 0;
        g_autofree char *edited = hv_edit_sources(rows[i].xml, &rows[i].target, &rows[i].source,
                                                  &rows[i].format, n, &error);
        g_test_message("%s", rows[i].what);
        g_assert_no_error(error);
        g_assert_cmpstr(edited, ==, rows[i].wanted);
    }
}

static void
test_edit_bad(void)
{
    static const char cdrom[] = HEAD "<disk type='file'><target dev='sda'/></disk>"
                                     "<disk type='network'><source protocol='nbd'/>"
                                     "<target dev='vdn'/></disk>" TAIL;
    /* clang-format off */
    static const struct { const char *xml, *target; ErrorCode code; const char *message; } rows[] = {
        { "<domain>", "vda", ERR_CORRUPT, "*cannot be read*" },
        { cdrom, "vda", ERR_NOT_FOUND, "*no disk vda*" },
        { cdrom, "sda", ERR_INVALID, "*disk sda*" },
        { cdrom, "vdn", ERR_INVALID, "*disk vdn*" },
    };
    /* clang-format on */
    for (size_t i = 0; i < G_N_ELEMENTS(rows); i++) {
        g_autoptr(GError) error = NULL;
        const char *source = "/vm/x", *format = "qcow2";
        g_assert_null(hv_edit_sources(rows[i].xml, &rows[i].target, &source, &format, 1, &error));
        g_assert_error(error, ERR, (int)rows[i].code);
        g_assert_true(g_pattern_match_simple(rows[i].message, error->message));
    }
}

/* ---- small parts ---- */

static void
test_error_codes(void)
{
    /* clang-format off */
    static const struct { int code, domain; const char *message; ErrorCode wanted; } rows[] = {
        { 42, 10, "Domain not found", ERR_NOT_FOUND },
        { 68, 10, "cannot acquire state change lock", ERR_BUSY },
        { 83, 10, "disk 'vda' already in active block job", ERR_BUSY },
        { 55, 10, "Operation not supported: domain has active block job", ERR_BUSY },
        { 84, 10, "disk 'vda' already in active block job", ERR_BUSY },
        { 8, 10, "disk vda does not have an active block job", ERR_HYPERVISOR },
        { 55, 10, "domain is not running", ERR_HYPERVISOR },
        { 1, 10, "Failed to get \"write\" lock", ERR_HYPERVISOR },
        { 1, 7, "client socket is closed", ERR_UNREACHABLE },
        { 38, 7, "Cannot recv data: Connection reset by peer", ERR_UNREACHABLE },
        { 38, 10, "missing existing file", ERR_HYPERVISOR },
        { 86, 10, "Guest agent is not responding", ERR_HYPERVISOR },
        { 55, 10, NULL, ERR_HYPERVISOR },
    };
    /* clang-format on */
    for (size_t i = 0; i < G_N_ELEMENTS(rows); i++)
        g_assert_cmpint(libvirt_error_code(rows[i].code, rows[i].domain, rows[i].message), ==,
                        rows[i].wanted);
}

static void
test_disk_of_job(void)
{
    /* clang-format off */
    static const struct { const char *job, *disk; } rows[] = {
        { "commit-vda-libvirt-3-format", "vda" },
        { "copy-sdaa-libvirt-12-format", "sdaa" },
        { "commit--libvirt-3-format", NULL },
        { "libvirt-7-format", NULL },
        { "drive-virtio-disk0", NULL },
        { "", NULL },
    };
    /* clang-format on */
    for (size_t i = 0; i < G_N_ELEMENTS(rows); i++) {
        g_autofree char *disk = events_disk_of_job(rows[i].job);
        g_assert_cmpstr(disk, ==, rows[i].disk);
    }
}

static GPid
start_fake_qemu(const char *uuid)
{
    const char *argv[] = { "sh",      "-c",    "read line", "x (y) Z", "-name",
                           "guest=w", "-uuid", uuid,        NULL };
    g_autoptr(GError) error = NULL;
    GPid pid = 0;
    int in = -1;

    g_spawn_async_with_pipes(NULL, (char **)argv, NULL,
                             G_SPAWN_SEARCH_PATH | G_SPAWN_DO_NOT_REAP_CHILD, NULL, NULL, &pid, &in,
                             NULL, NULL, &error);
    g_assert_no_error(error);
    return pid; /* "in" stays open: sh waits */
}

static void
end_fake_qemu(GPid pid)
{
    g_assert_cmpint(kill(pid, SIGKILL), ==, 0);
    g_assert_cmpint(waitpid(pid, NULL, 0), ==, pid);
}

static void
test_instance(void)
{
    g_autofree char *uuid = id_new();
    g_autofree char *upper = g_ascii_strup(uuid, -1);
    siginfo_t info;

    g_assert_null(instance_look(uuid, NULL));
    GPid pid = start_fake_qemu(upper);
    g_autofree char *first = instance_look(uuid, NULL);
    g_assert_nonnull(first);
    g_autofree char *prefix = g_strdup_printf("%d.", (int)pid);
    g_assert_true(g_str_has_prefix(first, prefix));
    g_assert_cmpint(g_ascii_strtoll(strchr(first, '.') + 1, NULL, 10), >, 0);

    static const char *const cached[] = { "1.1", "nonsense", "", "999999999.5" };
    for (size_t i = 0; i < G_N_ELEMENTS(cached); i++) {
        g_autofree char *again = instance_look(uuid, cached[i]);
        g_assert_cmpstr(again, ==, first);
    }
    g_autofree char *again = instance_look(uuid, first);
    g_assert_cmpstr(again, ==, first);

    g_assert_cmpint(kill(pid, SIGKILL), ==, 0);
    g_assert_cmpint(waitid(P_PID, (id_t)pid, &info, WEXITED | WNOWAIT), ==, 0);
    g_assert_null(instance_look(uuid, first)); /* a zombie now */
    g_assert_cmpint(waitpid(pid, NULL, 0), ==, pid);
}

/* One that libvirt has lost is not taken for the VM that was started since. */
static void
test_newest_instance(void)
{
    g_autofree char *uuid = id_new();
    GPid lost = start_fake_qemu(uuid), pid = 0;
    g_autofree char *old = instance_look(uuid, NULL);
    g_autofree char *found = g_strdup(old);

    while (g_str_equal(found, old)) { /* begun within the same tick of the kernel's */
        if (pid != 0)
            end_fake_qemu(pid);
        pid = start_fake_qemu(uuid);
        g_free(found);
        found = instance_look(uuid, NULL);
    }
    g_autofree char *prefix = g_strdup_printf("%d.", (int)pid);
    g_assert_true(g_str_has_prefix(found, prefix));
    end_fake_qemu(pid);
    g_autofree char *left = instance_look(uuid, found);
    g_assert_cmpstr(left, ==, old);
    end_fake_qemu(lost);
}

static void
refuse_event(const HvEvent *event, void *data)
{
    g_assert_not_reached();
}

static void
test_unreachable(void)
{
    Hypervisor *hv =
        hypervisor_libvirt_new("qemu+unix:///system?socket=/nonexistent/sock", refuse_event, NULL);
    g_autoptr(GError) error = NULL;

    g_assert_false(hv->ops->is_connected(hv));
    g_assert_null(hv->ops->look(hv, UUID, &error));
    g_assert_error(error, ERR, ERR_UNREACHABLE);
    g_assert_nonnull(strstr(error->message, "/nonexistent/sock"));
    g_clear_error(&error);
    g_assert_null(hv->ops->list(hv, &error));
    g_assert_error(error, ERR, ERR_UNREACHABLE);
    g_clear_error(&error);
    g_assert_false(hv->ops->job_cancel(hv, UUID, "vda", &error));
    g_assert_error(error, ERR, ERR_UNREACHABLE);
    hv->ops->free(hv);
}

/* libvirt's own test driver: a connection without QEMU's extension, in this process. */
static void
note_connected(const HvEvent *event, void *data)
{
    if (event->kind == HV_EVENT_CONNECTED)
        g_async_queue_push(data, GINT_TO_POINTER(1));
}

static void
test_test_driver(void)
{
    g_autoptr(GAsyncQueue) queue = g_async_queue_new();
    g_autoptr(GError) error = NULL;
    Hypervisor *hv = hypervisor_libvirt_new("test:///default", note_connected, queue);

    g_assert_nonnull(g_async_queue_timeout_pop(queue, 10 * G_USEC_PER_SEC));
    g_assert_true(hv->ops->is_connected(hv));
    g_auto(GStrv) ids = hv->ops->list(hv, &error);
    g_assert_no_error(error);
    g_assert_cmpuint(g_strv_length(ids), ==, 1);
    g_autoptr(HvDomain) domain = hv->ops->look(hv, ids[0], &error);
    g_assert_no_error(error);
    g_assert_cmpstr(domain->name, ==, "test");
    g_assert_cmpint(domain->state, ==, VM_UP);
    g_assert_null(domain->instance);
    g_assert_null(hv->ops->look(hv, UUID, &error));
    g_assert_error(error, ERR, ERR_NOT_FOUND);
    g_clear_error(&error);
    g_assert_null(hv->ops->look(hv, "../x", &error));
    g_assert_error(error, ERR, ERR_NOT_FOUND);
    hv->ops->free(hv);
}

int
main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/hypervisor/parse/live", test_parse_live);
    g_test_add_func("/hypervisor/parse/deep", test_parse_deep);
    g_test_add_func("/hypervisor/node", test_node);
    g_test_add_func("/hypervisor/parse/pool", test_parse_pool);
    g_test_add_func("/hypervisor/parse/memory", test_parse_memory);
    g_test_add_func("/hypervisor/parse/bad", test_parse_bad);
    g_test_add_func("/hypervisor/edit", test_edit);
    g_test_add_func("/hypervisor/edit/bad", test_edit_bad);
    g_test_add_func("/hypervisor/error-codes", test_error_codes);
    g_test_add_func("/hypervisor/disk-of-job", test_disk_of_job);
    g_test_add_func("/hypervisor/instance", test_instance);
    g_test_add_func("/hypervisor/newest-instance", test_newest_instance);
    g_test_add_func("/hypervisor/unreachable", test_unreachable);
    g_test_add_func("/hypervisor/test-driver", test_test_driver);
    return g_test_run();
}
