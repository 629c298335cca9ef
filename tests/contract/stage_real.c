/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "stage_real.h"

#include "agent/qmp.h"
#include "base/text.h"
#include "qcow2/qcow2.h"

#include <errno.h>
#include <fcntl.h>
#include <glib-unix.h>
#include <glib/gstdio.h>
#include <libvirt/virterror.h>
#include <poll.h>
#include <signal.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/un.h>

#define STRIDE UINT64_C(1048576) /* far enough that a slow job copies one cluster only */
#define CLUSTER 65536

Stage stage;
const char *const stage_word = "libvirt and QEMU";
const bool stage_is_real = true;
static char *root;     /* of the host; below it templates of images */
static pid_t libvirtd; /* 0 = it does not run */
static virConnectPtr own;
static virDomainPtr domain;
static char vm_name[32];

/* ---- commands ---- */

static bool
run(const char *dir, GSpawnFlags flags, char **ret_out, const char *const *argv)
{
    g_autofree char *out = NULL, *err = NULL, *line = g_strjoinv(" ", (char **)argv);
    g_autoptr(GError) error = NULL;
    int status = 0;

    if (!g_spawn_sync(dir, (char **)argv, NULL, G_SPAWN_SEARCH_PATH | flags, NULL, NULL, &out, &err,
                      &status, &error))
        g_error("%s: %s", line, error->message);
    if (status != 0)
        g_test_message("%s: status %d: %s%s", line, status, out, err);
    if (ret_out != NULL)
        *ret_out = g_steal_pointer(&out);
    return status == 0;
}

#define RUN(dir, out, ...) run(dir, 0, out, (const char *const[]){ __VA_ARGS__, NULL })

bool
real_shell(const char *command, char **ret_out)
{
    return RUN(stage.dir, ret_out, "/bin/sh", "-c", command);
}

static bool
lvhost(GSpawnFlags flags, char **ret_out, const char *verb, const char *more)
{
    const char *argv[] = { LVHOST, verb, "h", more, NULL };

    return run(NULL, flags, ret_out, argv);
}

/* ---- the host ---- */

/* At once and without a shell when it is to be killed: some windows are short. */
static void
find_libvirtd(void)
{
    g_autofree char *text = NULL;

    if (!lvhost(0, &text, "lpid", NULL))
        g_error("the private host has no libvirtd");
    libvirtd = (pid_t)g_ascii_strtoll(text, NULL, 10);
}

void
real_kill(pid_t pid)
{
    autofd int fd = (int)syscall(SYS_pidfd_open, pid, 0);
    struct pollfd end = { .fd = fd, .events = POLLIN };

    if (fd < 0 && errno == ESRCH)
        return; /* it has died by itself */
    kill(pid, SIGKILL);
    if (poll(&end, 1, 10000) != 1)
        g_error("process %d does not die", pid);
}

/* The host dies with us: it reads from a pipe that only we hold open. */
static void
host_up(void)
{
    g_autoptr(GError) error = NULL;
    int leash[2];

    if (!g_unix_open_pipe(leash, FD_CLOEXEC, &error) || dup2(leash[0], 0) != 0)
        g_error("no pipe: %s", error != NULL ? error->message : g_strerror(errno));
    close(leash[0]);
    g_setenv("LVROOT", root, TRUE);
    g_setenv("LVWATCH", "1", TRUE);
    if (!lvhost(G_SPAWN_CHILD_INHERITS_STDIN, NULL, "up", NULL))
        g_error("the private host does not come up (tests/lib/lvhost)");
    find_libvirtd();
}

static void
make_template(const char *dir, char letter, unsigned i)
{
    static const unsigned held[STAGE_DEPTH] = { 0x0f, 0x06, 0x0c };
    g_autofree char *path = g_strdup_printf("%s/%c%u.qcow2", dir, letter, i);
    g_autofree char *below = i > 0 ? g_strdup_printf("%c%u.qcow2", letter, i - 1) : NULL;
    g_autoptr(GPtrArray) argv = g_ptr_array_new_with_free_func(g_free);
    g_autoptr(GError) error = NULL;

    if (!qcow2_create(path, stage.bytes, below, below != NULL ? "qcow2" : NULL, 0600, -1, -1,
                      &error))
        g_error("%s", error->message);
    g_ptr_array_add(argv, g_strdup("qemu-io"));
    for (unsigned c = 0; c < STAGE_CLUSTERS; c++) {
        if ((held[i] >> c & 1) == 0)
            continue;
        g_ptr_array_add(argv, g_strdup("-c"));
        g_ptr_array_add(
            argv, g_strdup_printf("write -P %u %u 64k", i * 16 + c + 1, (unsigned)(c * STRIDE)));
    }
    g_ptr_array_add(argv, g_strdup(path));
    g_ptr_array_add(argv, NULL);
    if (!run(NULL, 0, NULL, (const char *const *)argv->pdata))
        g_error("%s cannot be filled", path);
}

void
stage_init(void)
{
    const char *above = g_getenv("LM_CONTRACT_ROOT");

    signal(SIGPIPE, SIG_IGN); /* libvirt writes to those who were killed */
    root = g_strconcat(above != NULL ? above : "/var/tmp", "/lmcXXXXXX", NULL);
    if (g_mkdtemp(root) == NULL)
        g_error("%s: %s", root, g_strerror(errno));
    stage.bytes = 16 * STRIDE;
    g_autofree char *templates = g_build_filename(root, "templates", NULL);
    g_mkdir(templates, 0700);
    for (unsigned d = 0; d < STAGE_DISKS; d++)
        for (unsigned i = 0; i < STAGE_DEPTH; i++)
            make_template(templates, (char)('a' + d), i);
    host_up();
}

static void
drop_conn(void)
{
    if (domain != NULL)
        virDomainFree(g_steal_pointer(&domain));
    if (own != NULL)
        virConnectClose(g_steal_pointer(&own));
}

void
stage_exit(void)
{
    drop_conn();
    lvhost(0, NULL, "down", "purge");
    RUN(NULL, NULL, "rm", "-rf", root);
    g_free(root);
}

/* ---- the VM ---- */

static char *
own_uri(void)
{
    return g_strdup_printf("qemu+unix:///system?socket=%s/h/run/libvirt/libvirt-sock", root);
}

virConnectPtr
real_conn(void)
{
    g_autofree char *uri = own_uri();

    /* a libvirtd that has just been started may still refuse */
    gint64 until = g_get_monotonic_time() + 20 * G_TIME_SPAN_SECOND;
    while (own == NULL && (own = virConnectOpen(uri)) == NULL && g_get_monotonic_time() < until)
        g_usleep(20000);
    if (own == NULL)
        g_error("%s: %s", uri, virGetLastErrorMessage());
    return own;
}

virDomainPtr
real_domain(void)
{
    virConnectPtr conn = real_conn();

    if (domain == NULL)
        domain = virDomainLookupByUUIDString(conn, stage.vm_id);
    if (domain == NULL)
        g_error("the VM is gone: %s", virGetLastErrorMessage());
    return domain;
}

static char *
domain_xml(void)
{
    g_autoptr(GString) disks = g_string_new(NULL);

    for (unsigned d = 0; d < stage.disks; d++)
        g_string_append_printf(
            disks,
            "<disk type='file' device='disk'><driver name='qemu' type='qcow2' cache='none' "
            "error_policy='stop' discard='unmap'/><source file='%s/%c%u.qcow2'/>"
            "<target dev='vd%c' bus='virtio'/></disk>",
            stage.dir, 'a' + d, STAGE_DEPTH - 1, 'a' + d);
    return g_strdup_printf(
        "<domain type='qemu' "
        "xmlns:qemu='http://libvirt.org/schemas/domain/qemu/1.0'><name>%s</name><uuid>%s</"
        "uuid><memory unit='MiB'>32</memory>"
        "<os><type arch='x86_64' machine='pc'>hvm</type></os><devices>%s"
        "<controller type='usb' model='none'/><memballoon model='none'/></devices>"
        "<qemu:commandline><qemu:arg value='-qmp'/>"
        "<qemu:arg value='unix:%s/qmp,server=on,wait=off'/></qemu:commandline></domain>",
        vm_name, stage.vm_id, disks->str, stage.dir);
}

static void
vm_up(void)
{
    static unsigned numbers;
    g_autofree char *from = g_build_filename(root, "templates/.", NULL), *id = id_new();
    g_autoptr(GError) error = NULL;

    g_strlcpy(stage.vm_id, id, sizeof stage.vm_id);
    g_snprintf(vm_name, sizeof vm_name, "vm%u", ++numbers);
    g_snprintf(stage.dir, sizeof stage.dir, "%s/%s", root, vm_name);
    if (g_mkdir(stage.dir, 0700) != 0 || !RUN(NULL, NULL, "cp", "-a", from, stage.dir))
        g_error("%s cannot be made", stage.dir);
    g_autofree char *xml = domain_xml();
    domain = virDomainDefineXML(real_conn(), xml);
    if (domain == NULL)
        g_error("the VM cannot be defined: %s", virGetLastErrorMessage());
    if (!stage_start(&error))
        g_error("the VM does not start: %s", error->message);
}

/* It also dies by itself (H11), and may then be nobody's child for a while. */
static bool
libvirtd_runs(void)
{
    autofd int fd = libvirtd > 0 ? (int)syscall(SYS_pidfd_open, libvirtd, 0) : -1;
    struct pollfd end = { .fd = fd, .events = POLLIN };

    return fd >= 0 && poll(&end, 1, 0) == 0;
}

static void
vm_down(void)
{
    if (!libvirtd_runs()) {
        drop_conn();
        stage_start_libvirtd();
    }
    virDomainDestroy(real_domain());
    if (virDomainUndefineFlags(real_domain(), VIR_DOMAIN_UNDEFINE_MANAGED_SAVE) < 0 &&
        virGetLastErrorCode() != VIR_ERR_NO_DOMAIN)
        g_error("the VM cannot be undefined: %s", virGetLastErrorMessage());
    virDomainFree(g_steal_pointer(&domain));
    if (!RUN(NULL, NULL, "rm", "-rf", stage.dir))
        g_error("%s cannot be removed", stage.dir);
}

void
stage_run(unsigned disks, uint64_t seed, void (*body)(void *), void *data)
{
    g_autofree char *uri = own_uri();

    (void)seed;
    stage.disks = disks;
    vm_up();
    stage.hv = hypervisor_libvirt_new(uri, stage_event, NULL);
    for (unsigned i = 0; i < 10000 && !stage.hv->ops->is_connected(stage.hv); i++)
        g_usleep(1000);
    body(data);
    stage.hv->ops->free(stage.hv);
    vm_down();
}

/* ---- what others do ---- */

/* Past libvirt, which may be dead. */
json_t *
real_qmp(const char *command, json_t *take_arguments)
{
    g_autofree char *path = g_build_filename(stage.dir, "qmp", NULL);
    g_autoptr(GError) error = NULL;
    g_autoptr(Qmp) qmp = qmp_open(path, &error);
    json_t *answer = NULL;

    if (qmp == NULL || !qmp_call(qmp, command, take_arguments, &answer, &error)) {
        g_test_message("QEMU: %s: %s", command, error->message);
        return NULL;
    }
    return answer;
}

static bool
qemu_io(const char *target, const char *command)
{
    g_autofree char *line =
        g_strdup_printf("qemu-io -d /machine/peripheral/virtio-disk%d/virtio-backend \"%s\"",
                        target[2] - 'a', command);
    g_autoptr(json_t) answer =
        real_qmp("human-monitor-command", json_pack("{s:s}", "command-line", line));

    if (answer != NULL && *json_string_value(answer) != '\0')
        g_error("QEMU: %s: %s", line, json_string_value(answer));
    return answer != NULL;
}

bool
stage_write(const char *target, unsigned cluster, unsigned value)
{
    g_autofree char *command =
        g_strdup_printf("write -P %u %u 64k", value, (unsigned)(cluster * STRIDE));

    return qemu_io(target, command);
}

bool
stage_flush(const char *target)
{
    return qemu_io(target, "flush");
}

bool
stage_hurry(const char *target)
{
    g_autoptr(json_t) jobs = real_qmp("query-block-jobs", NULL);
    json_t *job = NULL;
    size_t i = 0;

    json_array_foreach (jobs, i, job) {
        const char *id = json_string_value(json_object_get(job, "device"));
        if (strstr(id, target) == NULL)
            continue;
        g_autoptr(json_t) done =
            real_qmp("block-job-set-speed", json_pack("{s:s, s:i}", "device", id, "speed", 0));
        return done != NULL;
    }
    return false;
}

/* By other eyes than ours: qemu-img */
bool
stage_read(const char *leaf, unsigned values[STAGE_CLUSTERS])
{
    g_autofree char *path = stage_path(leaf), *raw = stage_path("content.raw");

    if (!RUN(NULL, NULL, "qemu-img", "convert", "-U", "-f", "qcow2", "-O", "raw", path, raw))
        return false;
    autofd int fd = open(raw, O_RDONLY | O_CLOEXEC);
    for (unsigned c = 0; c < STAGE_CLUSTERS; c++) {
        uint8_t first = 0, last = 0;
        if (pread(fd, &first, 1, (off_t)(c * STRIDE)) != 1 ||
            pread(fd, &last, 1, (off_t)(c * STRIDE + CLUSTER - 1)) != 1)
            return false;
        values[c] = first == last ? first : 999;
    }
    g_unlink(raw);
    return true;
}

void
stage_destroy(void)
{
    if (libvirtd_runs())
        virDomainDestroy(real_domain());
}

pid_t
real_qemu_pid(void)
{
    g_autofree char *path = g_build_filename(stage.dir, "qmp", NULL);
    struct sockaddr_un address = { .sun_family = AF_UNIX };
    struct ucred peer = { 0 };
    socklen_t size = sizeof peer;
    autofd int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

    g_strlcpy(address.sun_path, path, sizeof address.sun_path);
    if (connect(fd, (struct sockaddr *)&address, sizeof address) < 0 ||
        getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &size) < 0)
        return 0;
    return peer.pid;
}

/* The QEMU of a VM that libvirtd has lost goes on to be asked: a second one, which it hinders,
 * takes the place of its socket before it ends. */
bool
stage_start(GError **error)
{
    g_autofree char *path = g_build_filename(stage.dir, "qmp", NULL);
    g_autofree char *aside = g_build_filename(stage.dir, "qmp.lost", NULL);

    if (!libvirtd_runs())
        return error_set(error, ERR_HYPERVISOR, "libvirtd does not run");
    bool kept = real_qemu_pid() > 0 && g_rename(path, aside) == 0;
    bool ok = virDomainCreateWithFlags(real_domain(), VIR_DOMAIN_START_PAUSED) == 0 ||
              error_set(error, ERR_HYPERVISOR, "%s", virGetLastErrorMessage());
    if (kept && !ok)
        g_rename(aside, path);
    return ok;
}

void
stage_kill_qemu(void)
{
    pid_t pid = real_qemu_pid();

    if (pid > 0)
        real_kill(pid);
}

void
stage_kill_libvirtd(void)
{
    if (libvirtd > 0)
        real_kill(libvirtd);
    libvirtd = 0;
    drop_conn();
}

/* "commit-vda-libvirt-1-format" */
static json_t *
job_of(const json_t *jobs, const char *target)
{
    g_autofree char *part = g_strdup_printf("-%s-", target);
    size_t i;
    json_t *job;

    json_array_foreach (jobs, i, job)
        if (strstr(json_string_value(json_object_get(job, "device")), part) != NULL)
            return job;
    return NULL;
}

void
stage_cancel_in_qemu(const char *target)
{
    g_autoptr(json_t) jobs = real_qmp("query-block-jobs", NULL);
    json_t *device = json_object_get(job_of(jobs, target), "device");

    if (device == NULL)
        g_error("QEMU has no job on %s", target);
    json_decref(real_qmp("block-job-cancel", json_pack("{s:O}", "device", device)));
    for (unsigned i = 0;; i++) {
        g_autoptr(json_t) now = real_qmp("query-block-jobs", NULL);
        const json_t *job = job_of(now, target);
        const char *status = json_string_value(json_object_get(job, "status"));
        if (job == NULL || g_strcmp0(status, "concluded") == 0)
            return;
        if (i == 5000)
            g_error("the job on %s does not end: %s", target, status);
        g_usleep(2000);
    }
}

void
stage_forget_mirror(const char *target)
{
    g_autofree char *path = g_strdup_printf("%s/h/run/libvirt/qemu/%s.xml", root, vm_name);
    g_autofree char *end = g_strdup_printf("<target dev='%s'", target), *text = NULL;
    g_autoptr(GError) error = NULL;

    if (!g_file_get_contents(path, &text, NULL, &error))
        g_error("%s", error->message);
    char *of_disk = strstr(text, end);
    char *from = of_disk != NULL ? g_strrstr_len(text, of_disk - text, "<mirror ") : NULL;
    char *to = from != NULL ? strstr(from, "</mirror>") : NULL;
    if (to == NULL || to > of_disk)
        g_error("%s: no mirror of %s", path, target);
    memmove(from, to + strlen("</mirror>"), strlen(to + strlen("</mirror>")) + 1);
    if (!g_file_set_contents(path, text, -1, &error))
        g_error("%s", error->message);
}

void
stage_start_libvirtd(void)
{
    if (!lvhost(0, NULL, "start", NULL))
        g_error("libvirtd does not start again: see %s/h/log", root);
    find_libvirtd();
}
