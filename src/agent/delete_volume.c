/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * Deleting volumes that a merge left behind (merge.md section 5).
 *
 *   delete ─► (end)         on refusal ─► failed ─► (end, failed); the files stay
 *
 * Under the domain's lease and the VM's start lock: the live chain and libvirt's definitions are
 * asked again, everything is durable, the headers of all volumes of the domain are read again; what
 * anything names stays.
 */
#include "agent/operation.h"
#include "agent/starting.h"

#include "base/fault.h"
#include "base/text.h"
#include "qcow2/qcow2.h"

#define LOCK_BUDGET_MS 5000

bool
delete_volumes_params(const json_t *params, GError **error)
{
    json_t *list = json_object_get(params, "volumes");
    size_t i;
    json_t *path;

    if (!json_is_array(list))
        return error_set(error, ERR_INVALID, "the operation lacks 'volumes'");
    json_array_foreach (list, i, path)
        if (json_string_value(path) == NULL || !g_path_is_absolute(json_string_value(path)))
            return error_set(error, ERR_INVALID, "volume %zu is not an absolute path", i);
    return true;
}

static bool
is_listed_below(const HvDisk *disk, const char *path)
{
    for (guint i = 0; disk->backing != NULL && i < disk->backing->len; i++)
        if (g_strcmp0(disk->backing->pdata[i], path) == 0)
            return true;
    return false;
}

/* Nothing is lost by waiting, and no try is used up by it: delete_check() looks at this one again.
 */
static bool wait_with(Operation *op, const char *path, GError **error, const char *format, ...)
    G_GNUC_PRINTF(4, 5);
static bool
wait_with(Operation *op, const char *path, GError **error, const char *format, ...)
{
    va_list args;

    va_start(args, format);
    g_autofree char *why = g_strdup_vprintf(format, args);
    va_end(args);
    op_remember(op, "listed", json_string(path));
    return error_set(error, ERR_BUSY, "volume %s is not deleted yet: %s", path, why);
}

static bool
wait_for_power_off(Operation *op, const HvDomain *hv, const HvDisk *disk, const char *path,
                   GError **error)
{
    return wait_with(
        op, path, error,
        "libvirt still takes it for a part of disk %s of VM '%s', though it is merged "
        "(libvirtd was killed just then). No data are lost: power the VM off (a reboot "
        "from inside is not enough), and it is deleted",
        disk->target, hv->name);
}

/* By the manifest a merge has taken it out of the chain. */
static bool
is_left_over(Operation *op, const char *path)
{
    Domain *home = NULL;
    g_autoptr(Vm) vm = op_manifest_look(op, &home, NULL);

    return vm != NULL && vm_has_leftover(vm, path);
}

static bool
refuse_if_named(Operation *op, const HvDomain *hv, const HvDisk *disk, const char *path, bool below,
                GError **error)
{
    if (g_strcmp0(disk->source, path) != 0 && g_strcmp0(disk->mirror_path, path) != 0 && !below)
        return true;
    if (hv->instance == NULL && is_left_over(op, path))
        return wait_with(
            op, path, error,
            "the definition of VM '%s' names it for disk %s, as it did before the host "
            "lost its power; that is put right when nothing else is under way",
            hv->name, disk->target);
    return error_set(error, ERR_REFUSED,
                     "volume %s is still named by disk %s of VM '%s'; it was not deleted", path,
                     disk->target, hv->name);
}

/* libvirtd can be killed after QEMU has ended a commit and before that is written down: it lists
 * the merged volumes below the leaf until the VM is powered off. What QEMU has open its image locks
 * tell; that they do, the volumes of the real chain must show. */
static bool
qemu_has_let_go(char **chain, const char *path)
{
    bool locks = true;

    for (char **volume = chain; *volume != NULL; volume++)
        locks = locks && volume_is_seen_open(*volume);
    return locks && !volume_is_open(path);
}

static bool
live_disk_does_not_name(Operation *op, const HvDomain *hv, const HvDisk *disk, const char *path,
                        GError **error)
{
    bool runs = hv->instance != NULL, below = is_listed_below(disk, path);

    if (!refuse_if_named(op, hv, disk, path, below && !runs, error))
        return false;
    if (disk->source == NULL || g_strcmp0(disk->type, "file") != 0 ||
        g_strcmp0(disk->device, "disk") != 0)
        return refuse_if_named(op, hv, disk, path, below, error);
    g_auto(GStrv) chain = op_chain(op, hv, disk->target, error);
    if (chain == NULL)
        return false;
    if (g_strv_contains((const char *const *)chain, path))
        return error_set(error, ERR_REFUSED,
                         "volume %s is still part of disk %s of VM '%s'; it was not deleted", path,
                         disk->target, hv->name);
    /* nobody has had QEMU close the old leaf */
    if (disk->lost_pivot && volume_is_open(path))
        return wait_for_power_off(op, hv, disk, path, error);
    return !below || qemu_has_let_go(chain, path) || wait_for_power_off(op, hv, disk, path, error);
}

/* No definition of this VM, live or stored, and no stored chain may name it. */
static bool
vm_does_not_name(Operation *op, const HvDomain *hv, const char *path, GError **error)
{
    for (guint i = 0; i < hv->disks->len; i++)
        if (!live_disk_does_not_name(op, hv, hv->disks->pdata[i], path, error))
            return false;
    for (guint i = 0; hv->inactive != NULL && i < hv->inactive->len; i++)
        if (!refuse_if_named(op, hv, hv->inactive->pdata[i], path,
                             is_listed_below(hv->inactive->pdata[i], path), error))
            return false;
    return true;
}

/* What libvirt alone still lists is waited for as long as it takes; no try is used up by that. */
static StepState
delete_check(void *self, GError **error)
{
    Operation *op = self;
    g_autofree char *listed = g_strdup(op_data(op, "listed"));
    g_autoptr(HvDomain) hv = NULL;
    g_autoptr(GError) why = NULL;

    if (json_object_get(op->row.data, "deleted") != NULL)
        return STEP_DONE;
    if (listed == NULL)
        return op_connected(op, error) ? STEP_TODO : STEP_UNKNOWN;
    if ((hv = op_hv(op, error)) == NULL)
        return STEP_UNKNOWN;
    if (vm_does_not_name(op, hv, listed, &why) || !g_error_matches(why, ERR, ERR_BUSY)) {
        op_remember(op, "listed", NULL);
        return STEP_TODO; /* which says why, if it is refused */
    }
    g_propagate_error(error, g_steal_pointer(&why));
    return STEP_UNKNOWN;
}

/* A disk of another VM, or one of this that is not managed, or a QEMU that has the file open though
 * no definition names it. */
static bool
nobody_has_it(Operation *op, const char *path, bool vm_is_there, GError **error)
{
    g_autofree char *vm = agent_user_of(op->agent, op->row.vm_id, path, vm_is_there);

    if (vm != NULL)
        return error_set(error, ERR_REFUSED, "volume %s belongs to VM '%s'; it was not deleted",
                         path, vm);
    return !volume_is_open(path) ||
           error_set(error, ERR_BUSY, "volume %s is open in a QEMU; it was not deleted", path);
}

/* A merge whose journal was lost, say: whether it was done is not decided. */
static bool
manifest_does_not_name(const Vm *vm, const json_t *list, GError **error)
{
    size_t i;
    json_t *path;

    json_array_foreach (list, i, path) {
        const Disk *disk = vm_disk_by_path(vm, json_string_value(path));
        if (disk == NULL)
            continue;
        g_autofree char *name = shell_word(vm->name);
        return error_set(error, ERR_REFUSED,
                         "by its manifest volume %s is part of disk %s of VM '%s'; it was "
                         "not deleted. See livemerge doctor %s",
                         json_string_value(path), disk->target, vm->name, name);
    }
    return true;
}

bool
op_delete_volume(Operation *op, const HvDomain *hv, const char *path, GError **error)
{
    Domain *domain = agent_domain(op->agent, path, false, error);
    g_auto(LeaseHold) lease = { 0 };

    if (domain == NULL || !op_lease(op, domain, &lease, error) ||
        (hv != NULL && !vm_does_not_name(op, hv, path, error)) ||
        !nobody_has_it(op, path, hv != NULL, error) ||
        !fault_point("agent.delete.before-unlink", error))
        return false;
    return volume_delete(domain, op->row.id, path, TRASH_LATER, error) &&
           fault_point("agent.delete.after-unlink", error);
}

void
op_sweep_trash(Operation *op, const json_t *list)
{
    for (size_t i = 0; i < json_array_size(list); i++) {
        Domain *domain =
            agent_domain(op->agent, json_string_value(json_array_get(list, i)), false, NULL);
        if (domain != NULL)
            agent_sweep_later(op->agent, domain);
    }
}

/* A host that lost its power can have lost the change of the definition, too. */
static bool
definition_is_right(Operation *op, HvDomain **hv, GError **error)
{
    g_autoptr(GError) problem = NULL;

    if ((*hv)->instance != NULL || starting_mend(op->agent, op->entry, hv, &problem))
        return true;
    return error_set(error, ERR_BUSY, "%s", problem->message);
}

HvDomain *
op_hv_for_delete(Operation *op, GError **error)
{
    g_autoptr(HvDomain) hv = op_hv(op, error);

    return hv != NULL && definition_is_right(op, &hv, error) && outside_look_again(op->agent, error)
               ? g_steal_pointer(&hv)
               : NULL;
}

static bool
delete_all(Operation *op, const json_t *list, GError **error)
{
    Domain *home = NULL;
    g_autoptr(Vm) vm = op_manifest(op, &home, error);
    g_autoptr(HvDomain) hv = NULL;
    g_autoptr(json_t) gone = json_array();
    g_auto(LeaseHold) lease = { 0 };
    autofd int lock = -1;

    if (vm == NULL || !op_lease(op, home, &lease, error) ||
        (lock = vm_start_lock(home, op->row.vm_id, LOCK_BUDGET_MS, error)) < 0 ||
        (hv = op_hv_for_delete(op, error)) == NULL || !manifest_does_not_name(vm, list, error))
        return false;
    /* a run is given base first, and each of its volumes is named by the one above it */
    for (size_t i = json_array_size(list); i > 0; i--) {
        if (!op_delete_volume(op, hv, json_string_value(json_array_get(list, i - 1)), error)) {
            op_sweep_trash(op, gone); /* those above it need not wait for it */
            return false;
        }
        json_array_append(gone, json_array_get(list, i - 1));
    }
    for (size_t i = 0; i < json_array_size(list); i++)
        vm_remove_leftover(vm, json_string_value(json_array_get(list, i)));
    return manifest_save(home, vm, error);
}

/* A full storage is no reason to give up: what lies in the trash by now gives its space back. */
static bool
delete_act(void *self, GError **error)
{
    Operation *op = self;
    json_t *list = json_object_get(op->row.params, "volumes");
    g_autoptr(GError) problem = NULL;
    bool ok = delete_all(op, list, &problem);

    if (ok || g_error_matches(problem, ERR, ERR_NO_SPACE))
        op_sweep_trash(op, list);
    if (g_error_matches(problem, ERR, ERR_NO_SPACE))
        return error_set(error, ERR_STORAGE, "%s; it is tried again", problem->message);
    if (!ok) {
        g_propagate_error(error, g_steal_pointer(&problem));
        return false;
    }
    op_result(op, "volumes_removed", json_deep_copy(list));
    op_remember(op, "deleted", json_true());
    return true;
}

static StepState
failed_check(void *self, GError **error)
{
    return STEP_DONE;
}

/* So many tries are nine minutes: a storage that is away or full for a while leaves nothing behind.
 */
#define TRIES 60

/* clang-format off */
const Step delete_volumes_steps[] = {
    /* name     check         act         tries  cancel  if it failed  next     */
    { "delete", delete_check, delete_act, TRIES, false,  "failed",     STEP_END },
    { "failed", failed_check, NULL,       0,     false,  NULL,         STEP_END },
    { NULL },
};
/* clang-format on */
