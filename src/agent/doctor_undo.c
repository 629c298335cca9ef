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

/* ---- one entry ---- */

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

static bool
undo_manifest(Operation *op, Domain *home, const json_t *entry, GError **error)
{
    return undo_return_manifest(home, op_text(op, "undo"), op->row.vm_id, error);
}

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
    return hv->ops->redefine(hv, op->row.vm_id, targets, sources, formats, (unsigned)n, error);
}

static bool
undo_backing(Operation *op, Domain *home, const json_t *entry, GError **error)
{
    g_autoptr(HvDomain) hv = op_hv(op, error);

    if (hv == NULL)
        return false;
    if (!doctor_is_off(hv))
        return error_set(error, ERR_BUSY, "VM '%s' is not off: %s stays as it is", hv->name,
                         json_text(entry, "path"));
    return doctor_write_backing(json_text(entry, "path"), json_text(entry, "backing"),
                                json_text(entry, "format"), error);
}

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

    if (list == NULL || !op_lease(op, home, &lease, error))
        return false;
    for (size_t i = json_array_size(list); i > 0; i--) {
        json_t *entry = json_array_get(list, i - 1);
        g_autoptr(GError) problem = NULL;
        if (!lease_check(&lease, error))
            return false;
        if (undo_entry(op, home, entry, &problem))
            continue;
        if (g_error_matches(problem, ERR, ERR_UNREACHABLE)) {
            g_propagate_error(error, g_steal_pointer(&problem));
            return false;
        }
        json_array_append_new(left, json_string(problem->message));
    }
    op_result(op, "left", json_incref(left));
    op_result(op, "undone",
              json_integer((json_int_t)(json_array_size(list) - json_array_size(left))));
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
