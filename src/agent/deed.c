/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * What the operations share: looking at the world, and the record in the manifest.
 */
#include "agent/operation.h"

#include "base/clock.h"
#include "model/verbs.h"
#include "qcow2/qcow2.h"

#include <errno.h>
#include <fcntl.h>
#include <glib/gstdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define SEEN_STAYS_US (20 * G_TIME_SPAN_MILLISECOND)
#define LEASE_WAIT_MS 500 /* what a start of the VM may have to wait for */

bool
required_texts(const json_t *params, const char *const *keys, GError **error)
{
    for (; *keys != NULL; keys++)
        if (json_text(params, *keys) == NULL)
            return error_set(error, ERR_INVALID, "the operation lacks '%s'", *keys);
    return true;
}

bool
op_connected(Operation *op, GError **error)
{
    return op->agent->hv->ops->is_connected(op->agent->hv) ||
           error_set(error, ERR_UNREACHABLE, "libvirt is not connected; it is tried again");
}

static bool
is_shown_with_home(Operation *op)
{
    g_autoptr(Vm) shown = agent_vm_published(op->agent, op->row.vm_id);

    return shown != NULL && shown->home != NULL;
}

bool
op_has_home(Operation *op, const HvDomain *hv, bool *ret_home, GError **error)
{
    *ret_home = is_shown_with_home(op);
    if (*ret_home)
        return true;
    if (!agent_disks_can_be_read(hv, error) || !agent_look(op->agent, op->entry, error))
        return false;
    *ret_home = is_shown_with_home(op);
    return *ret_home || agent_disks_can_be_read(hv, error);
}

void
op_forget_seen(Operation *op)
{
    g_clear_pointer(&op->seen, hv_domain_free);
}

static void
note_seen(Operation *op, HvDomain *hv)
{
    op_forget_seen(op);
    if (hv == NULL)
        return;
    op->seen = hv_domain_share(hv);
    op->seen_acts = op->machine.acts;
    op->seen_us = clock_mono_us();
}

HvDomain *
op_hv(Operation *op, GError **error)
{
    HvDomain *hv = agent_look_at_hv(op->agent, op->row.vm_id, error);

    note_seen(op, hv);
    return hv;
}

HvDomain *
op_hv_seen(Operation *op, GError **error)
{
    if (op->seen == NULL || op->seen_acts != op->machine.acts ||
        clock_mono_us() - op->seen_us > SEEN_STAYS_US)
        return op_hv(op, error);
    return hv_domain_share(op->seen);
}

HvDomain *
op_hv_published(Operation *op, GError **error)
{
    HvDomain *hv = NULL;

    if (!agent_look_and_keep(op->agent, op->entry, &hv, error))
        return NULL;
    if (hv == NULL)
        error_set(error, ERR_NOT_FOUND, "VM %s is not on this host", op->row.vm_id);
    note_seen(op, hv);
    return hv;
}

bool
op_lease(Operation *op, const Domain *domain, LeaseHold *ret_hold, GError **error)
{
    g_autoptr(GError) problem = NULL;

    if (lease_hold(domain->lease, LEASE_WAIT_MS, ret_hold, &problem))
        return true;
    if (g_error_matches(problem, ERR, ERR_BUSY) && op->machine.tried > 0)
        op->machine.tried--; /* waiting in line is no try */
    g_propagate_error(error, g_steal_pointer(&problem));
    return false;
}

Vm *
op_manifest_look(Operation *op, Domain **ret_home, GError **error)
{
    g_autoptr(Vm) shown = agent_vm_published(op->agent, op->row.vm_id);
    g_autoptr(GError) problem = NULL;
    Vm *stored;

    if (shown == NULL || shown->home == NULL) {
        /* after a restart of the agent: nothing was looked at yet */
        if (!agent_look(op->agent, op->entry, error))
            return NULL;
        g_clear_pointer(&shown, vm_free);
        shown = agent_vm_published(op->agent, op->row.vm_id);
    }
    if (shown == NULL) {
        error_set(error, ERR_NOT_FOUND, "VM %s is not on this host", op->row.vm_id);
        return NULL;
    }
    /* nothing could be read: that it has no manifest is not known */
    if (shown->home == NULL && shown->unmanaged != NULL &&
        !g_str_equal(shown->unmanaged, VM_NO_DISK)) {
        error_set(error, ERR_UNREACHABLE, "VM %s: %s", shown->name, shown->unmanaged);
        return NULL;
    }
    *ret_home = agent_home(op->agent, shown, error);
    if (*ret_home == NULL)
        return NULL;
    stored = manifest_look(*ret_home, op->row.vm_id, &problem);
    if (stored == NULL) {
        if (problem != NULL)
            g_propagate_error(error, g_steal_pointer(&problem));
        else
            error_set(error, ERR_NOT_FOUND, "VM %s has no manifest in %s", shown->name,
                      (*ret_home)->path);
        return NULL;
    }
    if (!manifest_sync(*ret_home, op->row.vm_id, error))
        g_clear_pointer(&stored, vm_free);
    return stored;
}

Vm *
op_manifest(Operation *op, Domain **ret_home, GError **error)
{
    return vm_unshare(op_manifest_look(op, ret_home, error));
}

bool
op_manifest_if_any(Operation *op, Vm **ret_vm, GError **error)
{
    g_autoptr(GError) problem = NULL;
    Domain *home = NULL;

    *ret_vm = op_manifest_look(op, &home, &problem);
    if (*ret_vm != NULL || g_error_matches(problem, ERR, ERR_NOT_FOUND))
        return true;
    g_propagate_error(error, g_steal_pointer(&problem));
    return false;
}

char **
op_chain(Operation *op, const HvDomain *hv, const char *target, GError **error)
{
    HvDisk *disk = hv_domain_disk(hv, target);
    g_autoptr(GPtrArray) layers = NULL;
    g_autoptr(GPtrArray) paths = g_ptr_array_new();

    if (disk == NULL || disk->source == NULL) {
        error_set(error, ERR_NOT_FOUND, "VM %s has no disk %s", hv->name, target);
        return NULL;
    }
    layers = qcow2_chain_walk(disk->source, disk->format, NULL, error);
    if (layers == NULL) {
        g_prefix_error(error, "VM %s, disk %s: ", hv->name, target);
        return NULL;
    }
    for (guint i = 0; i < layers->len; i++)
        g_ptr_array_add(paths, g_strdup(((Qcow2Layer *)layers->pdata[i])->path));
    g_ptr_array_add(paths, NULL);
    return (char **)g_ptr_array_steal(paths, NULL);
}

bool
op_allowed(Operation *op, int verb, const HvDomain *hv, const Vm *vm, GError **error)
{
    g_autoptr(Vm) now = vm_copy(vm);
    g_autofree char *foreign = NULL;
    VerbContext context = { 0 };

    now->state = hv->state;
    now->agent_connected = hv->agent_connected;
    if (!op->agent->hv->ops->foreign_job(op->agent->hv, op->row.vm_id, &foreign, error))
        return false;
    context.foreign_job = foreign;
    return verb_allowed((Verb)verb, now, &context, error);
}

/* An internal commit is in no definition: each disk is asked. */
static bool
find_block_job(Operation *op, const HvDomain *hv, const char **ret_target, GError **error)
{
    Hypervisor *libvirt = op->agent->hv;

    *ret_target = NULL;
    for (guint i = 0; hv->instance != NULL && i < hv->disks->len; i++) {
        const HvDisk *disk = hv->disks->pdata[i];
        HvJob job = { .type = HV_JOB_NONE };
        if (g_strcmp0(disk->device, "disk") != 0)
            continue;
        if (!libvirt->ops->job_look(libvirt, op->row.vm_id, disk->target, &job, error))
            return false;
        if (job.type != HV_JOB_NONE) {
            *ret_target = disk->target;
            return true;
        }
    }
    return true;
}

bool
op_may_stop_guest(Operation *op, int verb, const HvDomain *hv, GError **error)
{
    g_autoptr(Vm) vm = vm_new(hv->id, hv->name);
    const char *target = NULL;

    if (!find_block_job(op, hv, &target, error))
        return false;
    if (target == NULL)
        return true;
    Disk *disk = disk_new(target, target);
    disk->busy = g_strdup("a block job");
    g_ptr_array_add(vm->disks, disk);
    const VerbContext context = { .busy_disk = disk };
    vm->state = hv->state;
    return verb_allowed((Verb)verb, vm, &context, error);
}

bool
op_is_recorded(const Operation *op, const Vm *vm)
{
    return vm_operation(vm, op->row.id) != NULL;
}

void
op_record(Operation *op, Vm *vm)
{
    OperationRecord *record;

    if (op_is_recorded(op, vm))
        return;
    record = g_new0(OperationRecord, 1);
    record->id = g_strdup(op->row.id);
    record->kind = g_strdup(op->row.kind);
    record->disk_id = g_strdup(op_text(op, "disk_id"));
    record->base = g_strdup(op_text(op, "base"));
    record->top = g_strdup(op_text(op, "top"));
    record->strategy = g_strdup(op_data(op, "strategy"));
    record->instance = g_strdup(op_data(op, "instance"));
    g_ptr_array_add(vm->operations, record);
}

void
op_unrecord(Operation *op, Vm *vm)
{
    OperationRecord *record = vm_operation(vm, op->row.id);

    if (record != NULL)
        g_ptr_array_remove(vm->operations, record);
}

/* QEMU locks single bytes of its images from offset 100 on (block/file-posix.c): an open file
 * description of anybody else shows whether some process has the image open. */
static bool
is_locked(int fd, bool in_doubt)
{
    struct flock lock = { .l_type = F_WRLCK, .l_whence = SEEK_SET, .l_start = 100, .l_len = 200 };

    return fcntl(fd, F_OFD_GETLK, &lock) == 0 ? lock.l_type != F_UNLCK : in_doubt;
}

bool
volume_is_open(const char *path)
{
    autofd int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);

    return fd >= 0 ? is_locked(fd, true) : errno != ENOENT;
}

bool
volume_is_seen_open(const char *path)
{
    autofd int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);

    return fd >= 0 && is_locked(fd, false);
}

bool
file_may_be_there(const char *path)
{
    return access(path, F_OK) == 0 || errno != ENOENT;
}

static bool
stop_at_data(const Extent *extent, void *found)
{
    *(bool *)found = extent->kind != EXTENT_HOLE;
    return extent->kind == EXTENT_HOLE;
}

bool
volume_holds_data(const char *path)
{
    bool found = false;

    return !qcow2_map(path, "qcow2", stop_at_data, &found, NULL) || found;
}

char *
relative_name(const char *from, const char *path)
{
    g_autofree char *dir = g_path_get_dirname(from);
    g_auto(GStrv) a = g_strsplit(dir, "/", -1);
    g_auto(GStrv) b = g_strsplit(path, "/", -1);
    GString *name = g_string_new(NULL);
    unsigned same = 0;

    while (a[same] != NULL && b[same] != NULL && b[same + 1] != NULL &&
           g_str_equal(a[same], b[same]))
        same++;
    for (unsigned i = same; a[i] != NULL; i++)
        if (*a[i] != '\0')
            g_string_append(name, "../");
    for (unsigned i = same; b[i] != NULL; i++)
        g_string_append_printf(name, "%s%s", b[i], b[i + 1] != NULL ? "/" : "");
    if (name->str[strcspn(name->str, ":/")] == ':') /* QEMU would take it for a protocol */
        g_string_prepend(name, "./");
    return g_string_free(name, FALSE);
}

/* How long what is before ".1a2b3c4d" is, if these characters end with that */
static size_t
without_id(const char *path, size_t length)
{
    size_t digits = 0;

    while (digits < length && memchr("0123456789abcdef", path[length - 1 - digits], 16) != NULL)
        digits++;
    bool is_id = digits >= 8 && digits <= 36 && digits < length && path[length - 1 - digits] == '.';
    return is_id ? length - 1 - digits : length;
}

/* No regular expression: a name need not be UTF-8. */
char *
file_stem(const char *path)
{
    static const char *const suffixes[] = { ".qcow2", ".img", ".raw", ".q", ".qcow" };
    size_t length = strlen(path);

    for (size_t i = 0; i < G_N_ELEMENTS(suffixes); i++)
        if (g_str_has_suffix(path, suffixes[i]))
            return g_strndup(path, without_id(path, length - strlen(suffixes[i])));
    return g_strdup(path);
}

char *
new_file_name(const char *beside, const char *id, const char *suffix)
{
    g_autofree char *dir = g_path_get_dirname(beside);
    g_autofree char *name = g_path_get_basename(beside);
    g_autofree char *stem = file_stem(name);

    /* the short form of the id reads better; the whole one cannot collide */
    for (int length = 8; length <= 36; length += 28) {
        g_autofree char *file = g_strdup_printf("%s.%.*s.%s", stem, length, id, suffix);
        g_autofree char *path = g_build_filename(dir, file, NULL);
        if (!g_file_test(path, G_FILE_TEST_EXISTS) || length == 36)
            return g_steal_pointer(&path);
    }
    return NULL;
}

bool
make_overlay(const char *path, const char *leaf, const char *leaf_format, uint64_t size,
             GError **error)
{
    g_autofree char *backing = relative_name(path, leaf);
    struct stat st;

    if (stat(leaf, &st) < 0)
        return error_set_errno(error, "%s", leaf);
    if (g_unlink(path) < 0 && errno != ENOENT)
        return error_set_errno(error, "removing the leftover %s", path);
    return qcow2_create(path, size, backing, leaf_format, 0600, (int)st.st_uid, (int)st.st_gid,
                        error);
}
