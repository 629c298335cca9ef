/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * Taking a snapshot: one instant over all chosen disks.
 *
 *   prepare ─► switch ─► settle ─► (end)
 *      │          │        ▲
 *      └──────────┴───── verify ─► undo ─► (end, failed)
 *
 * The overlays are ours: created empty under names made from the snapshot's id, so that a repeat
 * finds what an earlier try left. If anything fails they go, and the VM runs on its old leaf.
 * Whether the switch happened is asked of libvirt, never inferred from an error. libvirt itself can
 * be wrong: killed between QEMU's switch and writing that down, it names the old leaf for ever. So
 * an overlay that a QEMU has open, or that holds data, is never removed (verify).
 */
#include "agent/operation.h"

#include "base/clock.h"
#include "base/fault.h"
#include "base/log.h"
#include "base/text.h"
#include "model/verbs.h"
#include "qcow2/qcow2.h"

#include <errno.h>
#include <glib/gstdio.h>
#include <string.h>
#include <sys/stat.h>

bool
snapshot_create_params(const json_t *params, GError **error)
{
    static const char *const keys[] = { "snapshot_id", "name", NULL };
    const char *quiesce = json_text(params, "quiesce");
    static const char *const words[] = { "no", "auto", "require", NULL };

    if (!required_texts(params, keys, error) ||
        !name_check("the snapshot's name", json_text(params, "name"), error))
        return false;
    if (!id_is_valid(json_text(params, "snapshot_id")))
        return error_set(error, ERR_INVALID, "snapshot id '%s' is not a UUID",
                         json_text(params, "snapshot_id"));
    if (quiesce != NULL && !g_strv_contains(words, quiesce))
        return error_set(error, ERR_INVALID, "quiesce '%s' is none of no, auto, require", quiesce);
    return true;
}

/* ---- which disks, and where their overlays go ---- */

static bool
is_wanted(const Operation *op, const Disk *disk)
{
    json_t *list = json_object_get(op->row.params, "disks");
    size_t i;
    json_t *id;

    if (!disk_is_managed(disk) || disk->read_only)
        return false;
    if (list == NULL)
        return true;
    json_array_foreach (list, i, id)
        if (g_strcmp0(json_string_value(id), disk->id) == 0)
            return true;
    return false;
}

static char *
memory_path(const Operation *op, const Vm *vm)
{
    const Disk *first = NULL;

    for (guint i = 0; i < vm->disks->len && first == NULL; i++)
        if (disk_is_managed(vm->disks->pdata[i]))
            first = vm->disks->pdata[i];
    if (first == NULL)
        return NULL;
    return new_file_name(disk_leaf(first)->path, op_text(op, "snapshot_id"), "memory");
}

/* {"disks": [{"id", "target", "leaf", "leaf_id", "format", "overlay"}], "memory": path} */
static bool
make_plan(Operation *op, const Vm *vm, GError **error)
{
    g_autoptr(json_t) disks = json_array();

    for (guint i = 0; i < vm->disks->len; i++) {
        const Disk *disk = vm->disks->pdata[i];
        if (!is_wanted(op, disk))
            continue;
        const Volume *leaf = disk_leaf(disk);
        g_autofree char *overlay = new_file_name(leaf->path, op_text(op, "snapshot_id"), "qcow2");
        json_array_append_new(disks,
                              json_pack("{s:s, s:s, s:s, s:s, s:s, s:s}", "id", disk->id, "target",
                                        disk->target, "leaf", leaf->path, "leaf_id", leaf->id,
                                        "format", leaf->format, "overlay", overlay));
    }
    json_t *list = json_object_get(op->row.params, "disks");
    if (list != NULL && json_array_size(list) != json_array_size(disks))
        return error_set(error, ERR_REFUSED,
                         "VM '%s': %zu of the %zu disks named cannot be part of a snapshot "
                         "(unknown, read-only or not managed); livemerge vm show tells why",
                         vm->name, json_array_size(list) - json_array_size(disks),
                         json_array_size(list));
    if (json_array_size(disks) == 0)
        return error_set(error, ERR_REFUSED, "VM '%s' has no disk that can be part of a snapshot",
                         vm->name);
    op_remember(op, "disks", g_steal_pointer(&disks));
    if (json_flag(op->row.params, "memory")) {
        g_autofree char *memory = memory_path(op, vm);
        op_remember(op, "memory", json_string(memory));
    }
    return true;
}

/* ---- prepare ---- */

static StepState
prepare_check(void *self, GError **error)
{
    Operation *op = self;
    size_t i;
    json_t *disk;

    if (!op_connected(op, error))
        return STEP_UNKNOWN;
    if (json_object_get(op->row.data, "prepared") == NULL)
        return STEP_TODO;
    json_array_foreach (json_object_get(op->row.data, "disks"), i, disk)
        if (!g_file_test(json_text(disk, "overlay"), G_FILE_TEST_EXISTS))
            return STEP_TODO;
    return STEP_DONE;
}

/* Owner and group of the leaf: whom libvirt gave it to. */
static bool
create_overlay(const json_t *disk, GError **error)
{
    const char *leaf = json_text(disk, "leaf"), *overlay = json_text(disk, "overlay");
    g_autoptr(GPtrArray) layers = qcow2_chain_walk(leaf, json_text(disk, "format"), NULL, error);
    g_autofree char *backing = relative_name(overlay, leaf);
    struct stat st;

    if (layers == NULL)
        return false;
    if (layers->len >= QCOW2_MAX_DEPTH)
        return error_set(
            error, ERR_REFUSED,
            "disk %s has %u volumes; libvirt allows no more than %d. Delete a snapshot first",
            json_text(disk, "target"), layers->len, QCOW2_MAX_DEPTH);
    Qcow2Layer *top = layers->pdata[layers->len - 1];
    if (stat(leaf, &st) < 0)
        return error_set_errno(error, "%s", leaf);
    /* ours by its name, and never in use: a use would have been found by switch_check() */
    if (g_unlink(overlay) < 0 && errno != ENOENT)
        return error_set_errno(error, "removing the leftover %s", overlay);
    return qcow2_create(overlay, top->virtual_size, backing, json_text(disk, "format"), 0600,
                        (int)st.st_uid, (int)st.st_gid, error);
}

static bool
overlays_are_unused(Operation *op, const HvDomain *hv, GError **error)
{
    size_t i;
    json_t *disk;

    json_array_foreach (json_object_get(op->row.data, "disks"), i, disk) {
        HvDisk *now = hv_domain_disk(hv, json_text(disk, "target"));
        if (now != NULL && g_strcmp0(now->source, json_text(disk, "overlay")) == 0)
            return error_set(error, ERR_INTERNAL, "overlay %s is in use already",
                             json_text(disk, "overlay"));
    }
    return true;
}

static bool
prepare_act(void *self, GError **error)
{
    Operation *op = self;
    g_autoptr(HvDomain) hv = op_hv(op, error);
    Domain *home = NULL;
    g_autoptr(Vm) vm = NULL;
    size_t i;
    json_t *disk;
    int verb =
        json_flag(op->row.params, "memory") ? VERB_SNAPSHOT_CREATE_MEMORY : VERB_SNAPSHOT_CREATE;

    if (hv == NULL || (vm = op_manifest(op, &home, error)) == NULL ||
        !op_allowed(op, verb, hv, vm, error))
        return false;
    if (json_flag(op->row.params, "memory") && hv->tpm_or_passthrough != NULL)
        return error_set(
            error, ERR_REFUSED,
            "VM '%s' has %s: its memory cannot be saved; a snapshot without memory is possible",
            vm->name, hv->tpm_or_passthrough);
    if (vm_snapshot(vm, op_text(op, "snapshot_id")) != NULL)
        return error_set(error, ERR_EXISTS, "VM '%s' has a snapshot %s already", vm->name,
                         op_text(op, "snapshot_id"));
    if (json_object_get(op->row.data, "disks") == NULL && !make_plan(op, vm, error))
        return false;
    if (!overlays_are_unused(op, hv, error) || !operation_save(op, error))
        return false; /* the names are durable before the files exist */
    op_record(op, vm);
    if (!manifest_save(home, vm, error) || !fault_point("agent.snapshot.before-create", error))
        return false;
    json_array_foreach (json_object_get(op->row.data, "disks"), i, disk)
        if (!create_overlay(disk, error))
            return false;
    op_remember(op, "prepared", json_true());
    return true;
}

/* ---- switch ---- */

/* How many of the disks stand on their overlay now? */
static size_t
switched(Operation *op, const HvDomain *hv)
{
    size_t i, n = 0;
    json_t *disk;

    json_array_foreach (json_object_get(op->row.data, "disks"), i, disk) {
        HvDisk *now = hv_domain_disk(hv, json_text(disk, "target"));
        n += now != NULL && g_strcmp0(now->source, json_text(disk, "overlay")) == 0;
    }
    return n;
}

static StepState
switch_check(void *self, GError **error)
{
    Operation *op = self;
    g_autoptr(HvDomain) hv = op_hv(op, error);
    size_t all = json_array_size(json_object_get(op->row.data, "disks"));

    if (hv == NULL)
        return STEP_UNKNOWN;
    size_t n = switched(op, hv);
    if (n == all)
        return STEP_DONE;
    if (n == 0)
        return STEP_TODO;
    error_set(error, ERR_INTERNAL, "%zu of %zu disks of VM '%s' run on the new volume", n, all,
              hv->name);
    return STEP_UNKNOWN;
}

static bool
thaw_if_frozen(Operation *op, GError **error)
{
    Hypervisor *hv = op->agent->hv;

    if (json_object_get(op->row.data, "frozen") == NULL)
        return true;
    if (!hv->ops->thaw(hv, op->row.vm_id, op->agent->quiesce_budget_s, error)) {
        g_autoptr(HvDomain) domain = op_hv(op, NULL);
        if (domain == NULL || domain->instance != NULL)
            return false;
        g_clear_error(error); /* off: nothing is frozen any more */
    }
    op_remember(op, "frozen", NULL);
    return true;
}

/* As asked: not at all, if it can be done, or not without. */
static bool
freeze(Operation *op, const HvDomain *domain, bool *ret_frozen, GError **error)
{
    Hypervisor *hv = op->agent->hv;
    const char *quiesce = op_text(op, "quiesce");
    bool must = g_strcmp0(quiesce, "require") == 0;
    g_autoptr(GError) problem = NULL;

    *ret_frozen = false;
    if (quiesce == NULL || g_str_equal(quiesce, "no") || op_data(op, "memory") != NULL)
        return true; /* with memory, the guest's caches are saved too */
    if (domain->state != VM_UP || !domain->agent_connected) {
        if (must)
            return error_set(
                error, ERR_REFUSED,
                "VM '%s': its file systems cannot be frozen (%s); nothing was changed. "
                "--quiesce=auto takes the snapshot without",
                domain->name,
                domain->state != VM_UP ? "it does not run" : "no guest agent answers");
        return true;
    }
    op_remember(op, "frozen", json_true());
    if (!operation_save(op, error))
        return false;
    if (hv->ops->freeze(hv, op->row.vm_id, op->agent->quiesce_budget_s, &problem)) {
        *ret_frozen = true;
        return true;
    }
    /* it may be half frozen: thaw in any case */
    if (!thaw_if_frozen(op, NULL))
        op_remember(op, "frozen", NULL);
    if (must)
        return error_set(error, ERR_REFUSED,
                         "VM '%s': freezing its file systems failed (%s); nothing was changed",
                         domain->name, problem->message);
    log_vm_warn(op->row.vm_id, op->row.id, "VM '%s': freezing failed (%s), going on without",
                domain->name, problem->message);
    return true;
}

static bool
switch_running(Operation *op, GError **error)
{
    Hypervisor *hv = op->agent->hv;
    json_t *disks = json_object_get(op->row.data, "disks");
    g_autofree HvSnapshotDisk *list = g_new0(HvSnapshotDisk, json_array_size(disks));
    size_t i;
    json_t *disk;

    json_array_foreach (disks, i, disk) {
        list[i].target = json_text(disk, "target");
        list[i].overlay = json_text(disk, "overlay");
    }
    return fault_point("agent.snapshot.before-switch", error) &&
           hv->ops->snapshot(hv, op->row.vm_id, list, (unsigned)json_array_size(disks),
                             op_data(op, "memory"), error) &&
           fault_point("agent.snapshot.after-switch", error);
}

static bool
switch_stopped(Operation *op, GError **error)
{
    Hypervisor *hv = op->agent->hv;
    json_t *disks = json_object_get(op->row.data, "disks");
    size_t n = json_array_size(disks), i;
    g_autofree const char **targets = g_new0(const char *, n);
    g_autofree const char **sources = g_new0(const char *, n);
    g_autofree const char **formats = g_new0(const char *, n);
    json_t *disk;

    json_array_foreach (disks, i, disk) {
        targets[i] = json_text(disk, "target");
        sources[i] = json_text(disk, "overlay");
        formats[i] = "qcow2";
    }
    return fault_point("agent.snapshot.before-switch", error) &&
           hv->ops->redefine(hv, op->row.vm_id, targets, sources, formats, (unsigned)n, error);
}

static bool
switch_act(void *self, GError **error)
{
    Operation *op = self;
    g_autoptr(HvDomain) domain = op_hv(op, error);
    g_autoptr(GError) thaw_problem = NULL;
    bool frozen = false;

    if (domain == NULL)
        return false;
    if (domain->instance == NULL) {
        if (json_flag(op->row.params, "memory"))
            return error_set(error, ERR_REFUSED, "VM '%s' stopped: there is no memory to save",
                             domain->name);
        if (g_strcmp0(op_text(op, "quiesce"), "require") == 0)
            return error_set(error, ERR_REFUSED, "VM '%s' stopped: nothing can be frozen",
                             domain->name);
        return switch_stopped(op, error);
    }
    if (!freeze(op, domain, &frozen, error))
        return false;
    int64_t t0 = clock_mono_us();
    bool ok = switch_running(op, error);
    if (!thaw_if_frozen(op, &thaw_problem))
        log_vm_warn(op->row.vm_id, op->row.id, "VM '%s': thawing failed: %s; it is tried again",
                    domain->name, thaw_problem->message);
    if (ok && frozen) {
        op_result(op, "quiesced", json_true());
        op_add_pause(op, "freeze", (double)(clock_mono_us() - t0) / 1000);
    }
    return ok;
}

/* ---- settle ---- */

static StepState
settle_check(void *self, GError **error)
{
    Operation *op = self;
    Domain *home = NULL;
    g_autoptr(Vm) vm = op_manifest(op, &home, error);

    if (vm == NULL)
        return STEP_UNKNOWN;
    if (vm_snapshot(vm, op_text(op, "snapshot_id")) == NULL || op_is_recorded(op, vm))
        return STEP_TODO;
    return STEP_DONE;
}

static void
add_to_tree(Operation *op, Vm *vm, const HvDomain *hv)
{
    const char *memory = op_data(op, "memory");
    Snapshot *snapshot;
    size_t i;
    json_t *disk;

    if (vm_snapshot(vm, op_text(op, "snapshot_id")) != NULL)
        return;
    snapshot = snapshot_new(op_text(op, "snapshot_id"), op_text(op, "name"), op->row.created);
    if (vm->snapshots->len > 0)
        snapshot->parent = g_strdup(((Snapshot *)vm->snapshots->pdata[vm->snapshots->len - 1])->id);
    snapshot->quiesced = json_flag(json_object_get(op->row.data, "result"), "quiesced");
    snapshot->config = g_strdup(hv->inactive_xml != NULL ? hv->inactive_xml : hv->xml);
    if (memory != NULL) {
        struct stat st;
        snapshot->memory = g_strdup(memory);
        snapshot->memory_size = stat(memory, &st) == 0 ? (uint64_t)st.st_size : 0;
    }
    json_array_foreach (json_object_get(op->row.data, "disks"), i, disk) {
        Disk *d = vm_disk(vm, json_text(disk, "id"));
        const char *overlay = json_text(disk, "overlay");
        vm_add_snapshot_disk(snapshot, json_text(disk, "id"), json_text(disk, "leaf_id"));
        if (d != NULL && disk_volume_by_path(d, overlay) == NULL) {
            g_autofree char *id = id_new();
            g_ptr_array_add(d->volumes,
                            volume_new(id, overlay, "qcow2", disk_leaf(d)->virtual_size));
        }
    }
    g_ptr_array_add(vm->snapshots, snapshot);
}

static bool
settle_act(void *self, GError **error)
{
    Operation *op = self;
    g_autoptr(HvDomain) hv = op_hv(op, error);
    Domain *home = NULL;
    g_autoptr(Vm) vm = NULL;

    if (hv == NULL || !thaw_if_frozen(op, error) || !op_mend_definition(op, hv, error) ||
        (vm = op_manifest(op, &home, error)) == NULL)
        return false;
    add_to_tree(op, vm, hv);
    op_unrecord(op, vm);
    op_result(op, "memory_size",
              json_integer((json_int_t)vm_snapshot(vm, op_text(op, "snapshot_id"))->memory_size));
    if (!fault_point("agent.snapshot.before-manifest", error) || !operation_save(op, error) ||
        !manifest_save(home, vm, error))
        return false;
    return agent_look(op->agent, op->entry, error);
}

/* ---- verify ---- */

static bool
stop_at_data(const Extent *extent, void *found)
{
    *(bool *)found = extent->kind != EXTENT_HOLE;
    return extent->kind == EXTENT_HOLE;
}

/* Does it hold anything that its backing file does not? What cannot be read might. */
static bool
holds_data(const char *path)
{
    bool found = false;

    return !qcow2_map(path, "qcow2", stop_at_data, &found, NULL) || found;
}

/* Some QEMU writes an overlay, or wrote it: the name of the first one, NULL = none. */
static const char *
overlay_in_use(const Operation *op, bool *ret_open)
{
    size_t i;
    json_t *disk;

    *ret_open = false;
    if (json_object_get(op->row.data, "prepared") == NULL)
        return NULL; /* the switch was never tried */
    json_array_foreach (json_object_get(op->row.data, "disks"), i, disk) {
        const char *overlay = json_text(disk, "overlay");
        if (!g_file_test(overlay, G_FILE_TEST_EXISTS))
            continue;
        *ret_open = volume_is_open(overlay);
        if (*ret_open || holds_data(overlay))
            return overlay;
    }
    return NULL;
}

/* Was an old leaf written after the overlay on top of it? */
static bool
leaf_is_newer(const Operation *op)
{
    size_t i;
    json_t *disk;

    json_array_foreach (json_object_get(op->row.data, "disks"), i, disk) {
        struct stat leaf, overlay;
        if (stat(json_text(disk, "leaf"), &leaf) == 0 &&
            stat(json_text(disk, "overlay"), &overlay) == 0 &&
            holds_data(json_text(disk, "overlay")) &&
            (leaf.st_mtim.tv_sec > overlay.st_mtim.tv_sec ||
             (leaf.st_mtim.tv_sec == overlay.st_mtim.tv_sec &&
              leaf.st_mtim.tv_nsec > overlay.st_mtim.tv_nsec)))
            return true;
    }
    return false;
}

static bool
definition_names_overlays(const Operation *op, const HvDomain *hv)
{
    size_t i;
    json_t *disk;

    json_array_foreach (json_object_get(op->row.data, "disks"), i, disk) {
        bool named = hv->inactive == NULL;
        for (guint k = 0; !named && k < hv->inactive->len; k++) {
            const HvDisk *stored = hv->inactive->pdata[k];
            named = g_str_equal(stored->target, json_text(disk, "target")) &&
                    g_strcmp0(stored->source, json_text(disk, "overlay")) == 0;
        }
        if (!named)
            return false;
    }
    return true;
}

/* Did the switch happen after all, or can it be undone? To start from the overlays is right in any
 * case: empty, they show the old leaf. So in doubt the definition names them, and once the VM is
 * off there is no doubt. */
static StepState
verify_check(void *self, GError **error)
{
    Operation *op = self;
    size_t all = json_array_size(json_object_get(op->row.data, "disks"));
    g_autoptr(HvDomain) hv = NULL;
    bool open = false;
    const char *overlay = overlay_in_use(op, &open);

    hv = op_hv(op, error);
    if (hv == NULL)
        return g_error_matches(*error, ERR, ERR_NOT_FOUND) && overlay == NULL ? STEP_FAILED
                                                                              : STEP_UNKNOWN;
    size_t n = switched(op, hv);
    if (n == all && all > 0) {
        machine_forgive(&op->machine);
        return STEP_DONE;
    }
    if (n == 0 && overlay == NULL)
        return STEP_FAILED; /* what failed is noted already */
    if (n == 0 && !open && leaf_is_newer(op)) {
        error_set(error, ERR_BUSY,
                  "VM '%s' wrote its new volume %s and then, started from a stale definition, its "
                  "old one: which of the two is right only a person can tell. Nothing is removed",
                  hv->name, overlay);
        return STEP_UNKNOWN;
    }
    if (n == 0 && (open || hv->instance == NULL) && !definition_names_overlays(op, hv))
        return STEP_TODO;
    error_set(error, ERR_BUSY,
              open
                  ? "VM '%s': libvirt says that it runs on its old volumes, but its QEMU has the "
                    "new one %s open (libvirtd was killed in the middle). No data are lost: power "
                    "the VM off (a reboot from inside is not enough), and the snapshot is completed"
                  : "VM '%s' does not run on the new volume %s, which holds data of it: it was "
                    "started on its old one. Nothing is removed; power it off to go on from there",
              hv->name, overlay != NULL ? overlay : "of some disks");
    return STEP_UNKNOWN;
}

static bool
verify_act(void *self, GError **error)
{
    return switch_stopped(self, error);
}

/* ---- undo ---- */

static StepState
undo_check(void *self, GError **error)
{
    Operation *op = self;
    Domain *home = NULL;
    const char *memory = op_data(op, "memory");
    g_autoptr(Vm) vm = NULL;
    size_t i;
    json_t *disk;

    json_array_foreach (json_object_get(op->row.data, "disks"), i, disk)
        if (g_file_test(json_text(disk, "overlay"), G_FILE_TEST_EXISTS))
            return STEP_TODO;
    if (json_object_get(op->row.data, "frozen") != NULL ||
        (memory != NULL && g_file_test(memory, G_FILE_TEST_EXISTS)))
        return STEP_TODO;
    vm = op_manifest(op, &home, error);
    if (vm == NULL)
        return g_error_matches(*error, ERR, ERR_NOT_FOUND) ? (g_clear_error(error), STEP_DONE)
                                                           : STEP_UNKNOWN;
    return op_is_recorded(op, vm) ? STEP_TODO : STEP_DONE;
}

static bool
undo_act(void *self, GError **error)
{
    Operation *op = self;
    g_autoptr(HvDomain) hv = op_hv(op, error);
    Domain *home = NULL;
    const char *memory = op_data(op, "memory");
    g_autoptr(Vm) vm = NULL;
    bool open = false;
    size_t i;
    json_t *disk;

    if (hv == NULL && !g_error_matches(*error, ERR, ERR_NOT_FOUND))
        return false;
    g_clear_error(error);
    /* a definition that was to be used at the next start must not name what goes */
    if (hv != NULL && (!thaw_if_frozen(op, error) || !op_mend_definition(op, hv, error)))
        return false;
    if ((hv != NULL && switched(op, hv) > 0) || overlay_in_use(op, &open) != NULL)
        return error_set(error, ERR_BUSY,
                         "VM %s uses a volume of this snapshot: it cannot be undone",
                         op->row.vm_id);
    json_array_foreach (json_object_get(op->row.data, "disks"), i, disk)
        if (g_unlink(json_text(disk, "overlay")) < 0 && errno != ENOENT)
            return error_set_errno(error, "removing %s", json_text(disk, "overlay"));
    if (memory != NULL && g_unlink(memory) < 0 && errno != ENOENT)
        return error_set_errno(error, "removing %s", memory);
    if (hv == NULL)
        return true;
    if ((vm = op_manifest(op, &home, error)) == NULL)
        return false;
    op_unrecord(op, vm);
    return manifest_save(home, vm, error);
}

/* clang-format off */
const Step snapshot_create_steps[] = {
    /* name       check          act          tries  cancel  if it failed  next     */
    { "prepare",  prepare_check, prepare_act, 3,     true,   "undo",       NULL     },
    { "switch",   switch_check,  switch_act,  3,     true,   "verify",     NULL     },
    { "settle",   settle_check,  settle_act,  0,     false,  NULL,         STEP_END },
    { "verify",   verify_check,  verify_act,  0,     false,  "undo",       "settle" },
    { "undo",     undo_check,    undo_act,    0,     false,  NULL,         STEP_END },
    { NULL },
};
/* clang-format on */
