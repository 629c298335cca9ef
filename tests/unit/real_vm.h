/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * A real VM of libvirt at LIVEMERGE_TEST_URI. It has no guest: it is started paused, and QEMU
 * itself writes to its disks.
 */
#pragma once

#include "base/text.h"
#include "hypervisor/hypervisor.h"

#include <libvirt/libvirt-qemu.h>
#include <libvirt/virterror.h>

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

static inline void
seen_free(gpointer data)
{
    Seen *seen = data;
    g_free(seen->vm_id);
    g_free(seen->disk);
    g_free(seen->reason);
    g_free(seen);
}
G_DEFINE_AUTOPTR_CLEANUP_FUNC(Seen, seen_free)

static inline void
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
static inline Seen *
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

static inline void
wait_job(Real *r, const char *disk, HvJobStatus status)
{
    g_autoptr(Seen) seen = next_event(r, HV_EVENT_BLOCK_JOB, disk);
    if (seen->status != status)
        g_error("disk %s: the job event is %d (%s), not %d", disk, seen->status,
                seen->reason != NULL ? seen->reason : "no reason", status);
}

static inline char *
in_dir(Real *r, const char *name)
{
    return g_build_filename(r->dir, name, NULL);
}

static inline void
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
static inline void
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

static inline char *
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

static inline void
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

static inline void
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
static inline void
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

static inline void
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

static inline VmState
state_of(Real *r)
{
    g_autoptr(GError) error = NULL;
    g_autoptr(HvDomain) domain = r->ops->look(r->hv, r->id, &error);
    g_assert_no_error(error);
    return domain->state;
}
