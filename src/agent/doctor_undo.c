/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * The operation "doctor-undo": takes back what a "doctor-fix" has done, last deed first, from what
 * that kept in DIR/.livemerge/undo (doctor.h).
 *
 *   undo ─► (end)         on refusal ─► failed ─► (end, failed)
 */
#include "agent/doctor.h"

#include "base/fault.h"
#include "base/text.h"
#include "storage/salvage.h"

#include <string.h>

bool
doctor_undo_params(const json_t *params, GError **error)
{
    return id_is_valid(json_text(params, "undo")) ||
           error_set(error, ERR_INVALID, "'undo' is not the id of an operation");
}

/* undo.json, and the domain that it lies in. */
static json_t *
load(Operation *op, Domain **ret_home, GError **error)
{
    const char *fix = op_text(op, "undo");

    for (guint i = 0;; i++) {
        g_mutex_lock(&op->agent->lock);
        Domain *domain = i < op->agent->domains->len ? op->agent->domains->pdata[i] : NULL;
        g_mutex_unlock(&op->agent->lock);
        if (domain == NULL) {
            error_set(error, ERR_NOT_FOUND, "nothing is kept of a fix %s", fix);
            return NULL;
        }
        g_autoptr(GError) problem = NULL;
        json_t *list = undo_get_list(domain, fix, op->row.vm_id, &problem);
        if (list == NULL && problem == NULL)
            continue;
        if (list == NULL)
            g_propagate_error(error, g_steal_pointer(&problem));
        *ret_home = domain;
        return list;
    }
}

/* ---- files ---- */

static bool
undo_trashed(Operation *op, Domain *home, const json_t *entry, GError **error)
{
    const char *path = json_text(entry, "path");
    Domain *domain = agent_domain(op->agent, path, false, error);
    g_autofree char *kept = domain != NULL ? trash_kept(domain, op_text(op, "undo"), path) : NULL;

    if (domain == NULL)
        return false;
    if (kept == NULL)
        return g_file_test(path, G_FILE_TEST_EXISTS)
                   ? volume_sync(path, error) /* put back by a try that died before it did that */
                   : error_set(error, ERR_NOT_FOUND, "%s is not in the trash any more", path);
    return trash_restore(domain, kept, path, error);
}

/* ---- the manifest ---- */

static void
add_list(json_t *sum, const json_t *vm, const char *key)
{
    json_t *list = json_object_get(vm, key);

    if (json_is_object(list) || json_array_size(list) > 0)
        json_object_set(sum, key, list);
}

static void
add_branches(json_t *sum, const json_t *vm)
{
    json_t *disks = json_object_get(vm, "disks");

    for (size_t i = 0; i < json_array_size(disks); i++) {
        json_t *disk = json_array_get(disks, i), *branches = json_object_get(disk, "branches");
        for (size_t k = 0; k < json_array_size(branches); k++)
            json_object_set(sum, json_text(json_array_get(branches, k), "id"),
                            json_object_get(disk, "id"));
    }
}

char *
doctor_manifest_sum(const Vm *vm)
{
    g_autoptr(json_t) all = vm != NULL ? vm_to_json(vm) : NULL, sum = json_object();

    for (const char *const *key =
             (const char *const[]){ "snapshots", "operations", "leftovers", "preview", NULL };
         *key != NULL; key++)
        add_list(sum, all, *key);
    add_branches(sum, all);
    autolibc char *text = json_dumps(sum, JSON_COMPACT | JSON_SORT_KEYS);
    return g_compute_checksum_for_string(G_CHECKSUM_SHA256, text, -1);
}

/* Nobody has written anything into it since but looks: what a snapshot, a merge or a preview has
 * written would be lost. */
static bool
is_left(Operation *op, const Domain *home, const json_t *entry, GError **error)
{
    g_autoptr(GError) problem = NULL;
    g_autoptr(Vm) now = manifest_load(home, op->row.vm_id, &problem);

    if (problem != NULL) {
        g_propagate_error(error, g_steal_pointer(&problem));
        return false;
    }
    g_autofree char *sum = doctor_manifest_sum(now);
    return now == NULL || g_strcmp0(sum, json_text(entry, "left")) == 0 ||
           error_set(
               error, ERR_REFUSED,
               "the manifest of VM '%s' has changed since (a snapshot, a merge or a preview): "
               "it stays as it is; as it was before the fix it lies in %s/.livemerge/undo/%s",
               now->name, home->path, op_text(op, "undo"));
}

/* Once it is said to return, it does so whatever a try that died has made of it. */
static bool
undo_manifest(Operation *op, Domain *home, const json_t *entry, GError **error)
{
    if (!json_flag(op->row.data, "manifest_returns")) {
        if (!is_left(op, home, entry, error))
            return false;
        op_remember(op, "manifest_returns", json_true());
        if (!operation_save(op, error) || !fault_point("agent.doctor.undo-manifest", error))
            return false;
    }
    return undo_return_manifest(home, op_text(op, "undo"), op->row.vm_id, error);
}

/* ---- the definition ---- */

/* Borrowed texts; NULL = they are not so many. */
static const char **
texts_of(const json_t *entry, const char *key, size_t n)
{
    json_t *list = json_object_get(entry, key);
    g_autofree const char **texts = g_new0(const char *, n + 1);

    for (size_t i = 0; i < n; i++)
        if ((texts[i] = json_string_value(json_array_get(list, i))) == NULL)
            return NULL;
    return json_array_size(list) == n ? g_steal_pointer(&texts) : NULL;
}

/* It is still what the fix made of it, and nothing starts from it meanwhile. */
static bool
may_name(const HvDomain *hv, const char *target, const char *source, const json_t *entry,
         GError **error)
{
    const HvDisk *now = hv_disk_find(hv->inactive, target);

    if (now == NULL || g_strcmp0(now->source, source) == 0)
        return true;
    if (hv->instance == NULL) /* off, saved, or being started, which may fail */
        return error_set(error, ERR_REFUSED,
                         "VM '%s' does not run: with %s as disk %s again it would start from a "
                         "volume that is not its newest",
                         hv->name, source, target);
    return (g_strcmp0(json_text(entry, "target"), target) == 0 &&
            g_strcmp0(json_text(entry, "leaf"), now->source) == 0) ||
           error_set(error, ERR_REFUSED,
                     "the definition of VM '%s' has changed since: disk %s is %s now, and stays so",
                     hv->name, target, now->source);
}

static bool
undo_definition(Operation *op, Domain *home, const json_t *entry, GError **error)
{
    size_t n = json_array_size(json_object_get(entry, "targets"));
    g_autofree const char **targets = texts_of(entry, "targets", n);
    g_autofree const char **sources = texts_of(entry, "sources", n);
    g_autofree const char **formats = texts_of(entry, "formats", n);
    Hypervisor *hv = op->agent->hv;

    if (targets == NULL || sources == NULL || formats == NULL)
        return error_set(error, ERR_CORRUPT, "what was kept of the definition of VM %s is damaged",
                         op->row.vm_id);
    g_autoptr(HvDomain) now = op_hv(op, error);
    for (size_t i = 0; now != NULL && i < n; i++)
        if (!may_name(now, targets[i], sources[i], entry, error))
            return false;
    return now != NULL &&
           hv->ops->redefine(hv, op->row.vm_id, targets, sources, formats, (unsigned)n, error);
}

/* ---- headers ---- */

/* The same file is meant as now, or the one that the fix had made it stand on: another one may be
 * below it since, and the old one be merged or gone. */
static bool
is_same_below(const char *path, const char *backing, const char *made, GError **error)
{
    g_autoptr(Qcow2Header) header = qcow2_header_read(path, error);
    g_autofree char *then = NULL, *now = NULL;

    if (header == NULL || (then = qcow2_backing_path(path, backing, error)) == NULL)
        return false;
    if (header->backing_file != NULL &&
        (now = qcow2_backing_path(path, header->backing_file, error)) == NULL)
        return false;
    return g_strcmp0(then, now) == 0 || (made != NULL && g_strcmp0(made, now) == 0) ||
           error_set(error, ERR_REFUSED, "%s stands on %s now, and not on %s any more: it stays so",
                     path, now != NULL ? now : "nothing", then);
}

/* A merge whose volumes only its record keeps from being forgotten (lost_merge.h): the manifest has
 * returned with it. */
static bool
is_recorded(Operation *op, const json_t *entry, GError **error)
{
    const char *record = json_text(entry, "record");
    Domain *home = NULL;
    g_autoptr(Vm) vm = record != NULL ? op_manifest(op, &home, error) : NULL;

    if (record == NULL)
        return true;
    return vm != NULL &&
           (vm_operation(vm, record) != NULL ||
            error_set(error, ERR_REFUSED,
                      "the manifest of VM '%s' does not record operation %s any more: "
                      "%s stays as it is",
                      vm->name, record, json_text(entry, "path")));
}

static bool
undo_backing(Operation *op, Domain *home, const json_t *entry, GError **error)
{
    const char *path = json_text(entry, "path"), *backing = json_text(entry, "backing");
    autofd int lock = doctor_hold_off(op, error);

    return lock >= 0 && is_recorded(op, entry, error) &&
           is_same_below(path, backing, json_text(entry, "made"), error) &&
           doctor_write_backing(path, backing, json_text(entry, "format"), error);
}

/* ---- what was adopted, libvirt's records ---- */

static bool
undo_adopted(Operation *op, Domain *home, const json_t *entry, GError **error)
{
    Domain *where = NULL;
    g_autoptr(Vm) vm = op_manifest(op, &where, error);
    Snapshot *snapshot = vm != NULL ? vm_snapshot(vm, json_text(entry, "snapshot_id")) : NULL;
    SnapshotDisk *sd =
        snapshot != NULL ? snapshot_disk(snapshot, json_text(entry, "disk_id")) : NULL;

    if (vm == NULL)
        return false;
    if (sd == NULL)
        return true; /* deleted meanwhile */
    g_ptr_array_remove(snapshot->disks, sd);
    if (snapshot->disks->len == 0)
        vm_remove_snapshot(vm, snapshot);
    return manifest_save(where, vm, error);
}

static bool
undo_record(Operation *op, Domain *home, const json_t *entry, GError **error)
{
    Hypervisor *hv = op->agent->hv;

    return hv->ops->snapshot_record_restore(hv, op->row.vm_id, json_text(entry, "xml"),
                                            json_flag(entry, "current"), error);
}

/* ---- one entry ---- */

static bool
undo_none(Operation *op, Domain *home, const json_t *entry, GError **error)
{
    return error_set(error, ERR_REFUSED, "it cannot be undone: %s", json_text(entry, "why"));
}

static bool
undo_entry(Operation *op, Domain *home, const json_t *entry, GError **error)
{
    static const struct {
        const char *what;
        bool (*undo)(Operation *, Domain *, const json_t *, GError **);
    } rows[] = {
        { "trashed", undo_trashed },
        { "manifest", undo_manifest },
        { "definition", undo_definition },
        { "backing", undo_backing },
        { "adopted", undo_adopted },
        { "record", undo_record },
        { "none", undo_none },
    };

    for (size_t i = 0; i < G_N_ELEMENTS(rows); i++)
        if (g_strcmp0(rows[i].what, json_text(entry, "what")) == 0)
            return rows[i].undo(op, home, entry, error);
    return error_set(error, ERR_UNSUPPORTED, "a newer version wrote what is kept ('%s')",
                     json_text(entry, "what"));
}

/* ---- the step ---- */

/* The operation that has undone it; NULL = none yet. */
static const char *
undone_by(const json_t *entry)
{
    return json_text(entry, "undone");
}

/* A storage that is full keeps no undo from being done: a second one would do all of it again,
 * which changes nothing. */
static bool
keep_undone(Operation *op, const Domain *home, json_t *list, GError **error)
{
    g_autoptr(GError) problem = NULL;

    if (undo_put_list(home, op_text(op, "undo"), op->row.vm_id, list, &problem) ||
        g_error_matches(problem, ERR, ERR_NO_SPACE))
        return true;
    g_propagate_error(error, g_steal_pointer(&problem));
    return false;
}

static StepState
undo_check(void *self, GError **error)
{
    Operation *op = self;

    if (json_object_get(op->row.data, "undone") != NULL)
        return STEP_DONE;
    return op_connected(op, error) ? STEP_TODO : STEP_UNKNOWN;
}

static bool
undo_act(void *self, GError **error)
{
    Operation *op = self;
    Domain *home = NULL;
    g_autoptr(json_t) list = load(op, &home, error);
    g_autoptr(json_t) left = json_array();
    g_auto(LeaseHold) lease = { 0 };
    json_int_t undone = 0;

    if (list == NULL || !op_lease(op, home, &lease, error))
        return false;
    for (size_t i = json_array_size(list); i > 0; i--) {
        json_t *entry = json_array_get(list, i - 1);
        g_autoptr(GError) problem = NULL;
        if (undone_by(entry) != NULL && !g_str_equal(undone_by(entry), op->row.id))
            continue;
        if (!lease_check(&lease, error))
            return false;
        if (undo_entry(op, home, entry, &problem)) {
            json_object_set_new(entry, "undone", json_string(op->row.id));
            undone++;
            continue;
        }
        if (g_error_matches(problem, ERR, ERR_UNREACHABLE) ||
            g_error_matches(problem, ERR, ERR_STOPPED)) { /* later, and not "left" */
            g_propagate_error(error, g_steal_pointer(&problem));
            return false;
        }
        json_array_append_new(left, json_string(problem->message));
    }
    if (undone > 0 && !keep_undone(op, home, list, error))
        return false;
    op_result(op, "left", json_incref(left));
    op_result(op, "undone", json_integer(undone));
    op_remember(op, "undone", json_true());
    return agent_look(op->agent, op->entry, error);
}

static StepState
failed_check(void *self, GError **error)
{
    return STEP_DONE;
}

/* clang-format off */
const Step doctor_undo_steps[] = {
    /* name     check         act       tries  cancel  if it failed  next     */
    { "undo",   undo_check,   undo_act, 5,     true,   "failed",     STEP_END },
    { "failed", failed_check, NULL,     0,     false,  NULL,         STEP_END },
    { NULL },
};
/* clang-format on */
