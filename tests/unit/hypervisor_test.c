/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * The hypervisor seam. Without a hypervisor: domain XML in, disks out; the edit of a definition;
 * which process runs a VM; what a connection that cannot be made does.
 *
 * With LIVEMERGE_TEST_URI set also every function on a real VM (no guest: it is started paused, and
 * QEMU itself writes to its disks). Two more need help from outside:
 *     LIVEMERGE_TEST_SMALL_DIR  a directory on a file system of about 16 MiB: a job that fails
 *     LIVEMERGE_TEST_RESTART    a shell command that kills libvirtd and starts it again
 */
#include "base/text.h"
#include "hypervisor/connection.h"
#include "hypervisor/instance.h"

#include <glib/gstdio.h>
#include <libvirt/libvirt-qemu.h>
#include <libvirt/virterror.h>
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
        { "libvirt-3-format", NULL },
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

/* ---- on a real VM ---- */

typedef struct {
    HvEventKind kind;
    HvJobStatus status;
    char *vm_id, *disk, *reason;
} Seen;

typedef struct {
    Hypervisor *hv;
    const HypervisorOps *ops;
    GAsyncQueue *events; /* of Seen */
    virConnectPtr conn;  /* our own, to make and drive the VM */
    virDomainPtr vm;
    char *id, *dir;
} Real;

static void
seen_free(gpointer data)
{
    Seen *seen = data;
    g_free(seen->vm_id);
    g_free(seen->disk);
    g_free(seen->reason);
    g_free(seen);
}
G_DEFINE_AUTOPTR_CLEANUP_FUNC(Seen, seen_free)

static void
queue_event(const HvEvent *event, void *data)
{
    Seen *seen = g_new0(Seen, 1);

    seen->kind = event->kind;
    seen->status = event->job_status;
    seen->vm_id = g_strdup(event->vm_id);
    seen->disk = g_strdup(event->disk);
    seen->reason = g_strdup(event->reason);
    g_async_queue_push(data, seen);
}

/* The next event of this kind (of this disk); others are dropped. */
static Seen *
next_event(Real *r, HvEventKind kind, const char *disk)
{
    gint64 end = g_get_monotonic_time() + 20 * G_USEC_PER_SEC;

    for (;;) {
        gint64 left = end - g_get_monotonic_time();
        Seen *seen = left > 0 ? g_async_queue_timeout_pop(r->events, (guint64)left) : NULL;
        if (seen == NULL)
            g_error("no event of kind %d for disk %s came within 20 s: look at libvirtd's log",
                    kind, disk != NULL ? disk : "(any)");
        bool ours = seen->vm_id == NULL || r->id == NULL || g_str_equal(seen->vm_id, r->id);
        if (seen->kind == kind && ours && (disk == NULL || g_strcmp0(seen->disk, disk) == 0))
            return seen;
        seen_free(seen);
    }
}

static void
wait_job(Real *r, const char *disk, HvJobStatus status)
{
    g_autoptr(Seen) seen = next_event(r, HV_EVENT_BLOCK_JOB, disk);
    if (seen->status != status)
        g_error("disk %s: the job event is %d (%s), not %d", disk, seen->status,
                seen->reason != NULL ? seen->reason : "no reason", status);
}

static char *
in_dir(Real *r, const char *name)
{
    return g_build_filename(r->dir, name, NULL);
}

static void
run(const char *dir, const char *command)
{
    const char *argv[] = { "sh", "-c", command, NULL };
    g_autofree char *out = NULL, *err = NULL;
    g_autoptr(GError) error = NULL;
    int status = -1;

    g_spawn_sync(dir, (char **)argv, NULL, G_SPAWN_SEARCH_PATH, NULL, NULL, &out, &err, &status,
                 &error);
    g_assert_no_error(error);
    if (status != 0 || strstr(out, "failed") != NULL)
        g_error("%s: status %d: %s%s", command, status, out, err);
}

/* QEMU writes by itself, the way a guest would: "write -P 3 6M 4M" */
static void
write_to(Real *r, const char *disk, const char *command)
{
    g_autofree char *hmp =
        g_strdup_printf("qemu-io -d /machine/peripheral/%s/virtio-backend \"%s\"", disk, command);
    autolibc char *answer = NULL;

    g_assert_cmpint(
        virDomainQemuMonitorCommand(r->vm, hmp, &answer, VIR_DOMAIN_QEMU_MONITOR_COMMAND_HMP), ==,
        0);
    g_assert_cmpstr(g_strstrip(answer), ==, "");
}

static char *
real_xml(Real *r, const char *name)
{
    g_autoptr(GString) disks = g_string_new(NULL);

    for (const char *letter = "ab"; *letter != '\0'; letter++)
        g_string_append_printf(disks,
                               "<disk type='file' device='disk'><driver name='qemu' type='qcow2'/>"
                               "<source file='%s/base-%c'/><target dev='vd%c' bus='virtio'/><alias "
                               "name='ua-%c'/></disk>",
                               r->dir, *letter, *letter, *letter);
    return g_strdup_printf(
        "<domain type='qemu'><name>%s</name><uuid>%s</uuid><memory unit='MiB'>32</memory>"
        "<os><type arch='x86_64' machine='pc'>hvm</type></os><devices>%s"
        "<disk type='file' device='cdrom'><target dev='hdc' bus='ide'/></disk>"
        "<controller type='usb' model='none'/><memballoon model='none'/>"
        "<graphics type='vnc' passwd='secret' socket='%s/vnc'/><video><model type='none'/></video>"
        "<channel type='unix'><target type='virtio' name='org.qemu.guest_agent.0'/></channel>"
        "</devices></domain>",
        name, r->id, disks->str, r->dir);
}

static void
real_open(Real *r)
{
    const char *uri = g_getenv("LIVEMERGE_TEST_URI");
    g_autoptr(GError) error = NULL;

    *r = (Real){ .events = g_async_queue_new_full(seen_free), .id = id_new() };
    r->dir = g_dir_make_tmp("livemerge-hv-XXXXXX", &error);
    g_assert_no_error(error);
    r->hv = hypervisor_libvirt_new(uri, queue_event, r->events);
    r->ops = r->hv->ops;
    seen_free(next_event(r, HV_EVENT_CONNECTED, NULL));

    r->conn = virConnectOpen(uri);
    g_assert_nonnull(r->conn);
    run(r->dir, "umask 077; for d in a b; do qemu-img create -q -f qcow2 base-$d 64M; done");
    g_autofree char *name = g_strdup_printf("lm-test-%.8s", r->id);
    g_autofree char *xml = real_xml(r, name);
    r->vm = virDomainDefineXML(r->conn, xml);
    if (r->vm == NULL || virDomainCreateWithFlags(r->vm, VIR_DOMAIN_START_PAUSED) < 0)
        g_error("the test VM does not start: %s", virGetLastErrorMessage());
}

static void
real_close(Real *r)
{
    virDomainDestroy(r->vm);
    virDomainUndefine(r->vm);
    virDomainFree(r->vm);
    virConnectClose(r->conn);
    r->ops->free(r->hv);
    g_async_queue_unref(r->events);
    g_autofree char *remove = g_strdup_printf("rm -rf '%s'", r->dir);
    run(NULL, remove);
    g_free(r->id);
    g_free(r->dir);
}

/* "s1 base-a": the file names of the disk's chain, leaf first */
static void
check_chain(Real *r, const char *target, const char *wanted)
{
    g_autoptr(GError) error = NULL;
    g_autoptr(HvDomain) domain = r->ops->look(r->hv, r->id, &error);
    g_autoptr(GString) chain = g_string_new(NULL);

    g_assert_no_error(error);
    const HvDisk *disk = hv_domain_disk(domain, target);
    g_autofree char *leaf = g_path_get_basename(disk->source);
    g_string_append(chain, leaf);
    for (unsigned i = 0; disk->backing != NULL && i < disk->backing->len; i++) {
        g_autofree char *name = g_path_get_basename(disk->backing->pdata[i]);
        g_string_append_printf(chain, " %s", name);
    }
    g_assert_cmpstr(chain->str, ==, wanted);
    if (domain->inactive != NULL) { /* libvirt wrote the persistent one too */
        for (unsigned i = 0; i < domain->inactive->len; i++) {
            const HvDisk *stored = domain->inactive->pdata[i];
            if (g_str_equal(stored->target, target))
                g_assert_cmpstr(stored->source, ==, disk->source);
        }
    }
}

static void
snapshot_both(Real *r, const char *name, const char *below, const char *memory)
{
    g_autoptr(GError) error = NULL;
    g_autofree char *create = g_strdup_printf(
        "umask 077; for d in a b; do qemu-img create -q -f qcow2 -b %s-$d -F qcow2 %s-$d; done",
        below, name);
    g_autofree char *a = g_strdup_printf("%s/%s-a", r->dir, name);
    g_autofree char *b = g_strdup_printf("%s/%s-b", r->dir, name);
    HvSnapshotDisk disks[] = { { "vda", a }, { "vdb", b } };

    run(r->dir, create);
    r->ops->snapshot(r->hv, r->id, disks, 2, memory, &error);
    g_assert_no_error(error);
}

/* "must" is where the call puts its error */
#define MUST(call)                       \
    do {                                 \
        g_autoptr(GError) error_ = NULL; \
        GError **must = &error_;         \
        bool done_ = call;               \
        g_assert_no_error(error_);       \
        g_assert_true(done_);            \
    } while (0)

static VmState
state_of(Real *r)
{
    g_autoptr(GError) error = NULL;
    g_autoptr(HvDomain) domain = r->ops->look(r->hv, r->id, &error);
    g_assert_no_error(error);
    return domain->state;
}

static void
real_look(Real *r)
{
    g_autoptr(GError) error = NULL;
    g_autoptr(HvDomain) domain = r->ops->look(r->hv, r->id, &error);
    g_autofree char *job = NULL;

    g_assert_no_error(error);
    g_assert_cmpint(domain->state, ==, VM_PAUSED);
    g_assert_null(domain->state_detail);
    g_assert_true(domain->persistent);
    g_assert_false(domain->has_managed_save);
    g_assert_false(domain->agent_connected);
    g_assert_nonnull(domain->instance);
    g_assert_cmpint(ABS(domain->started - g_get_real_time() / 1000), <, 10 * 60 * 1000);
    g_assert_cmpuint(domain->memory, ==, 32 << 20);
    g_assert_cmpuint(domain->disks->len, ==, 3);
    g_assert_cmpuint(domain->inactive->len, ==, 3);
    g_assert_null(strstr(domain->xml, "secret"));
    g_auto(GStrv) ids = r->ops->list(r->hv, &error);
    g_assert_no_error(error);
    g_assert_true(g_strv_contains((const char *const *)ids, r->id));
    MUST(r->ops->foreign_job(r->hv, r->id, &job, must));
    g_assert_null(job);
    MUST(r->ops->job_cancel(r->hv, r->id, "vda", must));
}

static void
real_internal_commit(Real *r)
{
    g_autofree char *base = in_dir(r, "base-a"), *top = in_dir(r, "s1-a");
    HvJob job = { 0 };

    MUST(r->ops->commit_start(r->hv, r->id, "vda", base, top, 1 << 20, must));
    MUST(r->ops->job_look(r->hv, r->id, "vda", &job, must));
    g_assert_cmpint(job.type, ==, HV_JOB_COMMIT);
    g_assert_cmpuint(job.bandwidth, ==, 1 << 20);
    g_assert_cmpuint(job.end, >, 0);
    g_autoptr(GError) busy = NULL;
    g_assert_false(r->ops->commit_start(r->hv, r->id, "vda", base, top, 0, &busy));
    g_assert_error(busy, ERR, ERR_BUSY);
    g_test_message("%s", busy->message);
    MUST(r->ops->job_set_bandwidth(r->hv, r->id, "vda", 0, must));
    wait_job(r, "vda", HV_JOB_COMPLETED);
    MUST(r->ops->job_look(r->hv, r->id, "vda", &job, must));
    g_assert_cmpint(job.type, ==, HV_JOB_NONE);
    check_chain(r, "vda", "s2-a base-a");
    run(r->dir, "qemu-img info -U s2-a | grep -qx 'backing file: base-a'"); /* still relative */
}

static void
real_active_commit(Real *r)
{
    g_autofree char *base = in_dir(r, "base-a");
    g_autoptr(GError) error_early = NULL;
    HvJob job = { 0 };

    write_to(r, "ua-a", "write -P 4 40M 20M");
    MUST(r->ops->commit_start(r->hv, r->id, "vda", base, NULL, 1 << 20, must));
    g_assert_false(r->ops->job_pivot(r->hv, r->id, "vda", &error_early));
    g_assert_error(error_early, ERR, ERR_BUSY); /* not ready yet */
    MUST(r->ops->job_set_bandwidth(r->hv, r->id, "vda", 0, must));
    wait_job(r, "vda", HV_JOB_READY);
    g_autoptr(HvDomain) domain = r->ops->look(r->hv, r->id, NULL);
    g_assert_cmpstr(hv_domain_disk(domain, "vda")->mirror_job, ==, "active-commit");
    g_assert_cmpstr(hv_domain_disk(domain, "vda")->mirror_path, ==, base);
    g_assert_cmpstr(hv_domain_disk(domain, "vda")->mirror_ready, ==, "yes");
    g_assert_null(hv_domain_disk(domain, "vdb")->mirror_job);

    MUST(r->ops->resume(r->hv, r->id, must));
    MUST(r->ops->resume(r->hv, r->id, must)); /* repeated: the same */
    g_assert_cmpint(state_of(r), ==, VM_UP);
    MUST(r->ops->suspend(r->hv, r->id, must));
    MUST(r->ops->suspend(r->hv, r->id, must));
    g_assert_cmpint(state_of(r), ==, VM_PAUSED);
    MUST(r->ops->job_look(r->hv, r->id, "vda", &job, must));
    g_assert_cmpint(job.type, ==, HV_JOB_ACTIVE_COMMIT);
    g_assert_cmpuint(job.current, ==, job.end);
    MUST(r->ops->job_pivot(r->hv, r->id, "vda", must));
    wait_job(r, "vda", HV_JOB_COMPLETED);
    check_chain(r, "vda", "base-a");
    MUST(r->ops->resume(r->hv, r->id, must));
}

static void
real_copy(Real *r)
{
    g_autofree char *dest = in_dir(r, "copy-b");
    HvJob job = { 0 };

    /* s2-b stands on s1-b: copy what s2-b holds, onto s1-b again */
    run(r->dir, "umask 077; qemu-img create -q -f qcow2 -b s1-b -F qcow2 copy-b");
    MUST(r->ops->copy_start(r->hv, r->id, "vdb", dest, true, 4 << 20, must));
    MUST(r->ops->job_look(r->hv, r->id, "vdb", &job, must));
    g_assert_cmpint(job.type, ==, HV_JOB_COPY);
    g_assert_cmpuint(job.bandwidth, ==, 4 << 20);
    MUST(r->ops->job_cancel(r->hv, r->id, "vdb", must));
    wait_job(r, "vdb", HV_JOB_CANCELED);
    check_chain(r, "vdb", "s2-b s1-b base-b");

    run(r->dir, "qemu-img create -q -f qcow2 -b s1-b -F qcow2 copy-b");
    MUST(r->ops->copy_start(r->hv, r->id, "vdb", dest, true, 0, must));
    wait_job(r, "vdb", HV_JOB_READY);
    MUST(r->ops->suspend(r->hv, r->id, must));
    MUST(r->ops->job_pivot(r->hv, r->id, "vdb", must));
    wait_job(r, "vdb", HV_JOB_COMPLETED);
    MUST(r->ops->resume(r->hv, r->id, must));
    check_chain(r, "vdb", "copy-b s1-b base-b");
}

/* A copy onto an image of another size fails in QEMU, with a reason that libvirt does not tell. */
static void
real_failure(Real *r)
{
    g_autofree char *dest = in_dir(r, "wrong-b");

    run(r->dir, "umask 077; qemu-img create -q -f qcow2 wrong-b 16M");
    MUST(r->ops->copy_start(r->hv, r->id, "vdb", dest, false, 0, must));
    g_autoptr(Seen) seen = next_event(r, HV_EVENT_BLOCK_JOB, "vdb");
    g_assert_cmpint(seen->status, ==, HV_JOB_FAILED);
    g_assert_cmpstr(seen->reason, ==, "Source and target image have different sizes");
    check_chain(r, "vdb", "copy-b s1-b base-b");
}

static void
real_snapshot_refused(Real *r)
{
    g_autofree char *missing = in_dir(r, "missing");
    HvSnapshotDisk row = { "vda", missing };
    g_autoptr(GError) error = NULL;

    g_assert_false(r->ops->snapshot(r->hv, r->id, &row, 1, NULL, &error));
    g_assert_error(error, ERR, ERR_HYPERVISOR);
    g_test_message("%s", error->message);
    g_clear_error(&error);
    row.target = "vdz";
    g_assert_false(r->ops->snapshot(r->hv, r->id, &row, 1, NULL, &error));
    g_assert_error(error, ERR, ERR_NOT_FOUND);
    check_chain(r, "vda", "base-a");
}

static void
real_redefine(Real *r)
{
    const char *target = "vdb", *format = "qcow2";
    g_autofree char *other = in_dir(r, "it's & <b>");
    g_autoptr(GError) error = NULL;

    MUST(r->ops->redefine(r->hv, r->id, &target, (const char *const *)&other, &format, 1, must));
    g_autoptr(HvDomain) domain = r->ops->look(r->hv, r->id, &error);
    g_assert_no_error(error);
    g_assert_null(strstr(domain->inactive_xml, "<backingStore"));
    g_assert_cmpstr(((HvDisk *)domain->inactive->pdata[1])->source, ==, other);
    g_assert_true(g_str_has_suffix(hv_domain_disk(domain, "vdb")->source, "/copy-b"));
    autolibc char *secure =
        virDomainGetXMLDesc(r->vm, VIR_DOMAIN_XML_INACTIVE | VIR_DOMAIN_XML_SECURE);
    g_assert_nonnull(strstr(secure, "secret")); /* the password is still there */
    target = "vdz";
    g_assert_false(
        r->ops->redefine(r->hv, r->id, &target, (const char *const *)&other, &format, 1, &error));
    g_assert_error(error, ERR, ERR_NOT_FOUND);
}

/* While a backup runs, whatever changes the VM would block for 30 s. */
static void
real_foreign_job(Real *r)
{
    g_autofree char *job = NULL;
    g_autofree char *xml = g_strdup_printf(
        "<domainbackup mode='pull'><server transport='unix' socket='%s/nbd'/><disks>"
        "<disk name='vda' backup='yes' type='file'><scratch file='%s/scratch'/></disk>"
        "<disk name='vdb' backup='no'/></disks></domainbackup>",
        r->dir, r->dir);

    if (virDomainBackupBegin(r->vm, xml, NULL, 0) < 0)
        g_error("no backup begins: %s", virGetLastErrorMessage());
    MUST(r->ops->foreign_job(r->hv, r->id, &job, must));
    g_assert_cmpstr(job, ==, "backup");
    g_autoptr(HvDomain) domain = r->ops->look(r->hv, r->id, NULL);
    g_assert_cmpint(domain->state, ==, VM_UP);
    g_assert_cmpstr(domain->foreign_job, ==, "backup");
    g_assert_cmpint(virDomainAbortJob(r->vm), ==, 0);
}

static void
assert_described(Real *r, const char *name, const char *description, const char *title)
{
    g_autoptr(GError) error = NULL;
    g_autoptr(HvDomain) domain = r->ops->look(r->hv, r->id, &error);

    g_assert_no_error(error);
    if (name != NULL)
        g_assert_cmpstr(domain->name, ==, name);
    g_assert_cmpstr(domain->description, ==, description);
    g_assert_cmpstr(domain->title, ==, title);
}

static void
real_describe(Real *r)
{
    g_autoptr(GError) error = NULL;
    g_auto(HvHost) host = { 0 };

    MUST(r->ops->describe(r->hv, r->id, "two\nlines & <more>", "it's one", must));
    assert_described(r, NULL, "two\nlines & <more>", "it's one");
    MUST(r->ops->describe(r->hv, r->id, "", "it's one", must));
    assert_described(r, NULL, NULL, "it's one");
    g_assert_false(r->ops->rename(r->hv, r->id, "shop", &error)); /* it runs */
    g_assert_error(error, ERR, ERR_HYPERVISOR);
    g_test_message("%s", error->message);
    MUST(r->ops->host(r->hv, &host, must));
    g_assert_cmpuint(host.memory, >, 64 << 20);
    g_assert_cmpuint(host.sockets * host.cores * host.threads, >, 0);
    g_assert_nonnull(host.libvirt);
}

static void
real_agent(Real *r)
{
    g_autoptr(GError) error = NULL;
    gint64 start = g_get_monotonic_time();

    g_assert_false(r->ops->freeze(r->hv, r->id, 1, &error)); /* no guest, no agent */
    g_assert_error(error, ERR, ERR_HYPERVISOR);
    g_test_message("%s", error->message);
    g_clear_error(&error);
    g_assert_false(r->ops->thaw(r->hv, r->id, 1, &error));
    g_assert_error(error, ERR, ERR_HYPERVISOR);
    g_assert_cmpint(g_get_monotonic_time() - start, <, 12 * G_USEC_PER_SEC);
}

static void
real_managed_save(Real *r)
{
    g_assert_cmpint(virDomainManagedSave(r->vm, 0), ==, 0);
    g_assert_cmpint(state_of(r), ==, VM_SUSPENDED);
    g_assert_cmpint(virDomainManagedSaveRemove(r->vm, 0), ==, 0);
    g_assert_cmpint(state_of(r), ==, VM_DOWN);
    g_assert_cmpint(virDomainCreateWithFlags(r->vm, VIR_DOMAIN_START_PAUSED), ==, 0);
}

static void
real_off(Real *r)
{
    g_autoptr(GError) error = NULL;
    g_autofree char *job_word = NULL;
    HvJob job = { .type = HV_JOB_COPY };

    g_assert_cmpint(virDomainDestroy(r->vm), ==, 0);
    g_autoptr(HvDomain) domain = r->ops->look(r->hv, r->id, &error);
    g_assert_no_error(error);
    g_assert_cmpint(domain->state, ==, VM_DOWN);
    g_assert_null(domain->instance);
    g_assert_cmpuint(domain->disks->len, ==, 3);
    g_assert_cmpstr(domain->xml, ==, domain->inactive_xml);
    MUST(r->ops->job_look(r->hv, r->id, "vda", &job, must));
    g_assert_cmpint(job.type, ==, HV_JOB_NONE);
    MUST(r->ops->job_cancel(r->hv, r->id, "vda", must));
    MUST(r->ops->foreign_job(r->hv, r->id, &job_word, must));
    g_assert_null(job_word);
    g_assert_false(r->ops->suspend(r->hv, r->id, &error));
    g_assert_error(error, ERR, ERR_HYPERVISOR);
    g_clear_error(&error);
    g_autofree char *other = g_strconcat(domain->name, "-shop", NULL);
    MUST(r->ops->rename(r->hv, r->id, other, must));
    assert_described(r, other, NULL, "it's one");
    MUST(r->ops->describe(r->hv, r->id, "off", "", must));
    assert_described(r, other, "off", NULL);
    g_assert_cmpint(virDomainUndefine(r->vm), ==, 0);
    g_assert_null(r->ops->look(r->hv, r->id, &error));
    g_assert_error(error, ERR, ERR_NOT_FOUND);
}

static void
test_real(void)
{
    Real r;

    real_open(&r);
    real_look(&r);
    snapshot_both(&r, "s1", "base", NULL);
    write_to(&r, "ua-a", "write -P 3 4M 20M");
    write_to(&r, "ua-b", "write -P 5 4M 20M");
    g_autofree char *memory = in_dir(&r, "memory");
    /* a VM that was paused before stays in QEMU's state "postmigrate" after this: its images are
     * inactive and refuse commits and writes until it runs again */
    MUST(r.ops->resume(r.hv, r.id, must));
    snapshot_both(&r, "s2", "s1", memory);
    g_assert_true(g_file_test(memory, G_FILE_TEST_EXISTS));
    g_assert_cmpint(state_of(&r), ==, VM_UP); /* as it was */
    MUST(r.ops->suspend(r.hv, r.id, must));
    write_to(&r, "ua-b", "write -P 6 8M 20M");
    check_chain(&r, "vda", "s2-a s1-a base-a");
    check_chain(&r, "vdb", "s2-b s1-b base-b");
    real_internal_commit(&r);
    real_active_commit(&r);
    real_copy(&r);
    real_failure(&r);
    real_snapshot_refused(&r);
    real_foreign_job(&r);
    real_describe(&r);
    real_agent(&r);
    real_managed_save(&r);
    real_redefine(&r);
    real_off(&r);
    run(r.dir, "qemu-io -f qcow2 -c 'read -P 3 4M 20M' -c 'read -P 4 40M 20M' base-a");
    run(r.dir, "qemu-io -f qcow2 -c 'read -P 5 4M 4M' -c 'read -P 6 8M 20M' copy-b");
    run(r.dir, "for i in base-a copy-b s1-b base-b; do qemu-img check -q $i; done");
    real_close(&r);
}

/* The base has no room for what the leaf holds. */
static void
test_real_full(void)
{
    Real r;

    real_open(&r);
    g_autofree char *dest = g_build_filename(g_getenv("LIVEMERGE_TEST_SMALL_DIR"), r.id, NULL);
    g_autofree char *create = g_strdup_printf("qemu-img create -q -f qcow2 '%s' 64M", dest);
    write_to(&r, "ua-a", "write -P 3 0 60M");
    run(NULL, create);
    MUST(r.ops->copy_start(r.hv, r.id, "vda", dest, false, 0, must));
    g_autoptr(Seen) seen = next_event(&r, HV_EVENT_BLOCK_JOB, "vda");
    g_assert_cmpint(seen->status, ==, HV_JOB_FAILED);
    g_assert_cmpstr(seen->reason, ==, "No space left on device");
    check_chain(&r, "vda", "base-a");
    g_assert_cmpint(g_unlink(dest), ==, 0);
    real_close(&r);
}

static void
test_real_restart(void)
{
    Real r;

    real_open(&r);
    virDomainFree(r.vm);
    virConnectClose(r.conn);
    g_autoptr(HvDomain) before = r.ops->look(r.hv, r.id, NULL);
    run(NULL, g_getenv("LIVEMERGE_TEST_RESTART"));
    seen_free(next_event(&r, HV_EVENT_DISCONNECTED, NULL));
    seen_free(next_event(&r, HV_EVENT_CONNECTED, NULL));

    g_autoptr(GError) error = NULL;
    g_autoptr(HvDomain) after = r.ops->look(r.hv, r.id, &error);
    g_assert_no_error(error);
    g_assert_cmpstr(after->instance, ==, before->instance); /* QEMU lived on */
    r.conn = virConnectOpen(g_getenv("LIVEMERGE_TEST_URI"));
    r.vm = virDomainLookupByUUIDString(r.conn, r.id);
    g_assert_nonnull(r.vm);
    snapshot_both(&r, "s1", "base", NULL);
    g_autofree char *base = in_dir(&r, "base-a");
    MUST(r.ops->commit_start(r.hv, r.id, "vda", base, NULL, 0, must));
    wait_job(&r, "vda", HV_JOB_READY); /* events were registered again */
    MUST(r.ops->job_cancel(r.hv, r.id, "vda", must));
    wait_job(&r, "vda", HV_JOB_CANCELED);
    real_close(&r);
}

int
main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/hypervisor/parse/live", test_parse_live);
    g_test_add_func("/hypervisor/parse/deep", test_parse_deep);
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
    if (g_getenv("LIVEMERGE_TEST_URI") != NULL) {
        g_test_add_func("/hypervisor/real", test_real);
        if (g_getenv("LIVEMERGE_TEST_SMALL_DIR") != NULL)
            g_test_add_func("/hypervisor/real/full", test_real_full);
        if (g_getenv("LIVEMERGE_TEST_RESTART") != NULL)
            g_test_add_func("/hypervisor/real/restart", test_real_restart);
    }
    return g_test_run();
}
