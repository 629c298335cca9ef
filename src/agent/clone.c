/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * Cloning a VM that is off, or a snapshot of one in any state, into a new VM (clone.h).
 *
 *   prepare ─► build ─► define ─► settle ─► (end)
 *      │         │         │
 *      └─────────┴─────────┴────► undo ─► (end, failed), or settle: somebody runs it already
 *
 * prepare chooses volumes and names; build makes the volumes; define writes the new VM's manifest
 * and then its definition, which is the moment. Nothing of the first VM is ever changed, so that
 * undo only takes away what is new: the definition first.
 */
#include "agent/clone.h"

#include "agent/built.h"
#include "base/clock.h"
#include "base/fault.h"
#include "base/text.h"
#include "model/verbs.h"

#include <errno.h>
#include <fcntl.h>
#include <glib/gstdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

/* ---- prepare ---- */

static StepState
prepare_check(void *self, GError **error)
{
    Operation *op = self;

    if (!op_connected(op, error))
        return STEP_UNKNOWN;
    return json_object_get(op->row.data, "prepared") != NULL ? STEP_DONE : STEP_TODO;
}

static void
remember_plan(Operation *op, const ClonePlan *plan)
{
    op_remember(op, "disks", json_incref(plan->disks));
    op_remember(op, "left", json_incref(plan->left));
    op_remember(op, "share", json_boolean(plan->share));
    if (plan->xml != NULL)
        op_remember(op, "xml", json_string(plan->xml));
}

/* "DIR/NAME_VARS.1a2b3c4d.fd" */
static void
remember_nvram(Operation *op, const HvDomain *hv)
{
    if (hv->nvram == NULL || !g_file_test(hv->nvram, G_FILE_TEST_EXISTS))
        return; /* libvirt makes one at the first start */
    g_autofree char *dir = g_path_get_dirname(hv->nvram);
    g_autofree char *safe = hv_file_name(op_text(op, "name"));
    g_autofree char *beside = g_strdup_printf("%s/%s_VARS", dir, safe);
    const char *dot = strrchr(hv->nvram, '.');
    g_autofree char *copy =
        new_file_name(beside, op->row.id, dot != NULL && strchr(dot, '/') == NULL ? dot + 1 : "fd");

    op_remember(op, "nvram", json_string(hv->nvram));
    op_remember(op, "nvram_copy", json_string(copy));
}

static bool
prepare_act(void *self, GError **error)
{
    Operation *op = self;
    bool whole = op_text(op, "snapshot_id") == NULL;
    g_autoptr(HvDomain) hv = op_hv(op, error);
    Domain *home = NULL;
    g_autoptr(Vm) vm = NULL;
    g_auto(ClonePlan) plan = { 0 };

    if (op->agent->hv->ops->clone == NULL)
        return error_set(error, ERR_UNSUPPORTED, "VMs cannot be cloned here");
    if (hv == NULL || (vm = op_manifest_look(op, &home, error)) == NULL ||
        !op_allowed(op, whole ? VERB_VM_CLONE : VERB_SNAPSHOT_CLONE, hv, vm, error) ||
        !clone_plan(op->agent, vm, op->row.params, op->row.id, &plan, error))
        return false;
    remember_plan(op, &plan);
    remember_nvram(op, hv);
    op_remember(op, "prepared", json_true());
    return true;
}

/* ---- define ---- */

static Hypervisor *
hv_of(const Operation *op)
{
    return op->agent->hv;
}

/* The new VM; NULL with ERR_NOT_FOUND: it is not there. */
static HvDomain *
look_at_clone(const Operation *op, GError **error)
{
    return hv_of(op)->ops->look(hv_of(op), op_text(op, "clone_id"), error);
}

/* The clone is defined after it was built: it is somebody's by now. */
bool
clone_is_old(Operation *op, bool *ret_old, GError **error)
{
    g_autoptr(GError) problem = NULL;
    g_autoptr(HvDomain) hv = NULL;

    if (!g_str_equal(op->row.step, "prepare") && !g_str_equal(op->row.step, "build"))
        return true;
    hv = look_at_clone(op, &problem);
    *ret_old = hv != NULL;
    if (problem == NULL || g_error_matches(problem, ERR, ERR_NOT_FOUND))
        return true;
    g_propagate_error(error, g_steal_pointer(&problem));
    return false;
}

static StepState
define_check(void *self, GError **error)
{
    Operation *op = self;
    g_autoptr(GError) problem = NULL;
    g_autoptr(HvDomain) hv = look_at_clone(op, &problem);

    clone_build_stop(op); /* it has ended, and what it locked is free */
    if (hv != NULL)
        return STEP_DONE;
    if (g_error_matches(problem, ERR, ERR_NOT_FOUND))
        return STEP_TODO;
    g_propagate_error(error, g_steal_pointer(&problem));
    return STEP_UNKNOWN;
}

static bool
write_all(int fd, const char *data, size_t size)
{
    while (size > 0) {
        ssize_t n = write(fd, data, size);
        if (n < 0)
            return false;
        data += n;
        size -= (size_t)n;
    }
    return true;
}

static bool
copy_bytes(int from, int to)
{
    char buffer[65536];
    ssize_t n;

    for (off_t at = 0; (n = pread(from, buffer, sizeof buffer, at)) > 0; at += n)
        if (!write_all(to, buffer, (size_t)n))
            return false;
    return n == 0;
}

/* The UEFI variables of a guest: small, and libvirt creates none if the file is there. */
static bool
copy_nvram(const Operation *op, GError **error)
{
    const char *from = op_data(op, "nvram"), *to = op_data(op, "nvram_copy");
    struct stat st;

    if (to == NULL)
        return true;
    if (g_unlink(to) < 0 && errno != ENOENT)
        return error_set_errno(error, "removing the unfinished %s", to);
    autofd int source = open(from, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    autofd int dest = open(to, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
    if (source < 0 || fstat(source, &st) < 0)
        return error_set_errno(error, "reading the UEFI variables %s", from);
    if (dest < 0 || !copy_bytes(source, dest) || fchown(dest, st.st_uid, st.st_gid) < 0)
        return error_set_errno(error, "copying the UEFI variables to %s", to);
    return volume_sync(to, error);
}

static Vm *
new_vm(const Operation *op)
{
    Vm *vm = vm_new(op_text(op, "clone_id"), op_text(op, "name"));
    size_t i;
    json_t *entry;

    json_array_foreach (json_object_get(op->row.data, "disks"), i, entry) {
        Disk *disk = disk_new(json_text(entry, "disk_id"), json_text(entry, "target"));
        disk->bus = g_strdup(json_text(entry, "bus"));
        disk->boot = i == 0;
        g_ptr_array_add(disk->volumes,
                        volume_new(json_text(entry, "volume_id"), json_text(entry, "dest"), "qcow2",
                                   (uint64_t)json_number(entry, "size")));
        g_ptr_array_add(vm->disks, disk);
    }
    return vm;
}

static Domain *
home_of_clone(const Operation *op, GError **error)
{
    const json_t *first = json_array_get(json_object_get(op->row.data, "disks"), 0);

    return agent_domain(op->agent, json_text(first, "dest"), false, error);
}

/* One of an earlier try is as good. */
static bool
write_manifest(const Operation *op, GError **error)
{
    Domain *home = home_of_clone(op, error);
    g_autoptr(GError) problem = NULL;
    g_autoptr(Vm) there =
        home != NULL ? manifest_load(home, op_text(op, "clone_id"), &problem) : NULL;
    g_autoptr(Vm) vm = new_vm(op);

    if (home == NULL || problem != NULL) {
        if (problem != NULL)
            g_propagate_error(error, g_steal_pointer(&problem));
        return false;
    }
    return there != NULL ? manifest_sync(home, there->id, error) : manifest_save(home, vm, error);
}

static const char *
why_left(const Operation *op, const char *target)
{
    size_t i;
    json_t *entry;

    json_array_foreach (json_object_get(op->row.data, "left"), i, entry)
        if (g_strcmp0(json_text(entry, "target"), target) == 0)
            return json_text(entry, "why");
    return "it is no part of what is cloned";
}

/* What the new VM does not have, for people. */
static void
tell_left(Operation *op, const GPtrArray *left)
{
    json_t *texts = json_array();

    for (guint i = 0; i < left->len; i++) {
        const char *text = left->pdata[i];
        bool is_disk = g_str_has_prefix(text, "disk ");
        g_autofree char *whole =
            is_disk ? g_strdup_printf("%s: %s", text, why_left(op, text + strlen("disk ")))
                    : g_strdup(text);
        json_array_append_new(texts, json_string(whole));
    }
    op_result(op, "left_out", texts);
}

static bool
define(Operation *op, GError **error)
{
    const json_t *disks = json_object_get(op->row.data, "disks");
    size_t n = json_array_size(disks);
    g_autofree const char **targets = g_new0(const char *, n), **sources = g_new0(const char *, n);
    g_autoptr(GPtrArray) left = g_ptr_array_new_with_free_func(g_free);

    for (size_t i = 0; i < n; i++) {
        targets[i] = json_text(json_array_get(disks, i), "target");
        sources[i] = json_text(json_array_get(disks, i), "dest");
    }
    const HvClone clone = { .id = op_text(op, "clone_id"),
                            .name = op_text(op, "name"),
                            .xml = op_data(op, "xml"),
                            .targets = targets,
                            .sources = sources,
                            .n = (unsigned)n,
                            .nvram = op_data(op, "nvram_copy") };
    if (!hv_of(op)->ops->clone(hv_of(op), op->row.vm_id, &clone, left, error))
        return false;
    tell_left(op, left);
    return true;
}

/* Nobody looks at the new VM before it is whole. */
static bool
define_act(void *self, GError **error)
{
    Operation *op = self;
    AgentVm *clone = agent_entry(op->agent, op_text(op, "clone_id"), true);
    WITH_LOCK(&clone->lock);

    return copy_nvram(op, error) && fault_point("agent.clone.before-manifest", error) &&
           write_manifest(op, error) && fault_point("agent.clone.before-define", error) &&
           define(op, error) && fault_point("agent.clone.after-define", error);
}

/* ---- settle: it is there, for everybody ---- */

static bool
look(Operation *op, GError **error)
{
    AgentVm *clone = agent_entry(op->agent, op_text(op, "clone_id"), true);
    WITH_LOCK(&clone->lock);

    return agent_look(op->agent, clone, error);
}

static StepState
settle_check(void *self, GError **error)
{
    Operation *op = self;

    return json_object_get(op->row.data, "settled") != NULL ? STEP_DONE : STEP_TODO;
}

static bool
settle_act(void *self, GError **error)
{
    Operation *op = self;

    if (!look(op, error))
        return false;
    op_result(op, "clone_id", json_string(op_text(op, "clone_id")));
    op_result(op, "name", json_string(op_text(op, "name")));
    op_remember(op, "settled", json_true());
    return true;
}

/* ---- undo ---- */

static bool
is_gone(Operation *op, GError **error)
{
    Domain *home = home_of_clone(op, error);
    const char *nvram = op_data(op, "nvram_copy");
    g_autoptr(GError) problem = NULL;
    g_autoptr(Vm) vm = home != NULL ? manifest_load(home, op_text(op, "clone_id"), &problem) : NULL;

    return vm == NULL && problem == NULL && !any_is_built(json_object_get(op->row.data, "disks")) &&
           (nvram == NULL || !file_may_be_there(nvram));
}

static StepState
undo_check(void *self, GError **error)
{
    Operation *op = self;
    g_autoptr(GError) problem = NULL;
    g_autoptr(HvDomain) hv = NULL;

    clone_build_stop(op);
    if (json_object_get(op->row.data, "prepared") == NULL)
        return STEP_DONE;
    hv = look_at_clone(op, &problem);
    if (hv == NULL && !g_error_matches(problem, ERR, ERR_NOT_FOUND)) {
        g_propagate_error(error, g_steal_pointer(&problem));
        return STEP_UNKNOWN;
    }
    if (hv != NULL && hv->state != VM_DOWN) {
        machine_forgive(&op->machine); /* somebody uses it: it was done all the same */
        return STEP_BACK;
    }
    /* an earlier life may have died before it was durable that all is gone */
    bool undone = json_flag(op->row.data, "undone");
    return hv == NULL && undone && is_gone(op, NULL) ? STEP_DONE : STEP_TODO;
}

static bool
undo_act(void *self, GError **error)
{
    Operation *op = self;
    const char *nvram = op_data(op, "nvram_copy");
    AgentVm *clone = agent_entry(op->agent, op_text(op, "clone_id"), true);
    Domain *home = home_of_clone(op, error);
    WITH_LOCK(&clone->lock);

    if (home == NULL ||
        !hv_of(op)->ops->undefine(hv_of(op), op_text(op, "clone_id"), false, error) ||
        !clone_remove_volumes(op, error) ||
        (nvram != NULL && !volume_unlink((const char *const[]){ nvram, NULL }, error)) ||
        !manifest_remove(home, op_text(op, "clone_id"), error))
        return false;
    op_remember(op, "undone", json_true());
    return agent_look(op->agent, clone, error);
}

/* clang-format off */
const Step clone_steps[] = {
    /* name       check              act              tries  cancel  if it failed  next      back */
    { "prepare",  prepare_check,     prepare_act,     3,     true,   "undo",       NULL },
    { "build",    clone_build_check, clone_build_act, 0,     true,   "undo",       NULL },
    { "define",   define_check,      define_act,      5,     true,   "undo",       NULL },
    { "settle",   settle_check,      settle_act,      0,     false,  NULL,         STEP_END },
    { "undo",     undo_check,        undo_act,        0,     false,  NULL,         STEP_END, "settle" },
    { NULL },
};
/* clang-format on */
