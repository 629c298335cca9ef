/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * The operation "doctor-fix": what the doctor found of a VM is mended, as far as that was asked
 * for.
 *
 *   look ─► mend ─► (end)         on refusal ─► failed ─► (end, failed)
 *
 * look remembers the findings that will be mended. mend takes them one by one, looks again whether
 * each is still so, and remembers what became of it. One that cannot be mended is left, with the
 * reason; the others go on.
 */
#include "agent/doctor.h"

#include "base/fault.h"
#include "base/log.h"
#include "base/text.h"
#include "storage/salvage.h"

#include <gio/gio.h>

/* How often what a lost journal left is put right without being asked. Of the end of a merge users
 * are told that it is being done: its storage may be full for a while. */
#define MOST_LOSSES 5
#define LOSSES_REST_US (10 * G_TIME_SPAN_SECOND)

bool
doctor_fix_params(const json_t *params, GError **error)
{
    json_t *list = json_object_get(params, "classes");

    if (list != NULL && !json_is_array(list))
        return error_set(error, ERR_INVALID, "'classes' is not a list");
    for (size_t i = 0; i < json_array_size(list); i++) {
        const char *word = json_string_value(json_array_get(list, i));
        if (diagnosis_from_word(word) == DIAG_LAST)
            return error_set(error, ERR_INVALID, "'%s' is no class of the doctor's",
                             word != NULL ? word : "");
    }
    return true;
}

/* ---- what is kept for an undo ---- */

Domain *
doctor_home(Operation *op, GError **error)
{
    g_autoptr(Vm) shown = agent_vm_published(op->agent, op->row.vm_id);
    g_autoptr(HvDomain) hv = NULL;
    const char *dir = op_data(op, "home");

    if (dir == NULL && shown != NULL)
        dir = shown->home;
    if (dir != NULL) {
        g_autofree char *inside = g_build_filename(dir, "x", NULL);
        return agent_domain(op->agent, inside, false, error);
    }
    hv = op_hv(op, error);
    for (guint i = 0; hv != NULL && i < hv->disks->len; i++) {
        const HvDisk *disk = hv->disks->pdata[i];
        Domain *domain =
            disk->source != NULL ? agent_domain(op->agent, disk->source, false, NULL) : NULL;
        if (domain != NULL)
            return domain;
    }
    if (hv != NULL)
        error_set(error, ERR_NOT_FOUND, "VM '%s' has no disk in a storage domain", hv->name);
    return NULL;
}

static bool
is_kept(const json_t *list, const json_t *entry)
{
    for (size_t i = 0; i < json_array_size(list); i++)
        if (json_equal(json_array_get(list, i), entry))
            return true;
    return false;
}

bool
doctor_has_begun(const Operation *op, const char *path)
{
    g_autoptr(json_t) entry = json_pack("{s:s, s:s}", "what", "trashed", "path", path);

    return is_kept(json_object_get(op->row.data, "undo"), entry);
}

bool
doctor_keep(Operation *op, json_t *take_entry, GError **error)
{
    g_autoptr(json_t) entry = take_entry;
    json_t *list = json_object_get(op->row.data, "undo");
    Domain *home = doctor_home(op, error);

    if (home == NULL)
        return false;
    if (is_kept(list, entry))
        return true; /* an earlier try's */
    g_autoptr(json_t) longer = list != NULL ? json_deep_copy(list) : json_array();
    json_array_append(longer, entry);
    /* not remembered before it lies there: a next try would take it for kept */
    if (!undo_put_list(home, op->row.id, op->row.vm_id, longer, error))
        return false;
    op_remember(op, "undo", json_incref(longer));
    op_remember(op, "home", json_string(home->path));
    return operation_save(op, error) && fault_point("agent.doctor.kept", error) &&
           lease_confirm(home->lease, error); /* the next is the deed */
}

/* ---- qemu-img ---- */

bool
doctor_qemu_img(const char *const *argv, GError **error)
{
    g_autoptr(GError) problem = NULL;
    g_autofree char *said = NULL;
    g_autoptr(GSubprocess) process = g_subprocess_newv(
        argv, G_SUBPROCESS_FLAGS_STDOUT_SILENCE | G_SUBPROCESS_FLAGS_STDERR_PIPE, &problem);

    if (process == NULL ||
        !g_subprocess_communicate_utf8(process, NULL, NULL, NULL, &said, &problem))
        return error_set(error, ERR_STORAGE, "qemu-img: %s", problem->message);
    return g_subprocess_get_successful(process) ||
           error_set(error, ERR_STORAGE, "%s", said != NULL ? g_strchomp(said) : "qemu-img failed");
}

bool
doctor_write_backing(const char *path, const char *backing, const char *format, GError **error)
{
    const char *const argv[] = { "qemu-img", "rebase", "-u",    "-f", "qcow2", "-F",
                                 format,     "-b",     backing, path, NULL };

    if (volume_is_open(path))
        return error_set(error, ERR_BUSY, "%s is open in a QEMU; it is not changed", path);
    return doctor_qemu_img(argv, error) && volume_sync(path, error);
}

/* ---- look ---- */

static bool
is_of_files(const Finding *finding)
{
    return finding->class == DIAG_ORPHAN_VOLUME || finding->class == DIAG_LEFTOVER_BUILD ||
           finding->class == DIAG_LEFTOVER_TRASH;
}

static bool
look_again(Operation *op, bool files, GPtrArray *findings, GError **error)
{
    g_autofree char *busy = NULL;

    if (!doctor_look_vm(op->agent, op->entry, op, findings, &busy, error) ||
        (files && !doctor_look_files(op->agent, op->row.vm_id, op, findings, NULL, error)))
        return false;
    return busy == NULL ||
           error_set(error, ERR_BUSY, "VM %s is left alone: %s", op->row.vm_id, busy);
}

static StepState
look_check(void *self, GError **error)
{
    Operation *op = self;

    if (json_object_get(op->row.data, "findings") != NULL)
        return STEP_DONE;
    return op_connected(op, error) ? STEP_TODO : STEP_UNKNOWN;
}

static char **
classes_of(const Operation *op)
{
    json_t *list = json_object_get(op->row.params, "classes");
    char **classes = g_new0(char *, json_array_size(list) + 1);

    for (size_t i = 0; i < json_array_size(list); i++)
        classes[i] = g_strdup(json_string_value(json_array_get(list, i)));
    return classes;
}

/* The target of a disk with a record of an operation that this agent does not know: its journal was
 * lost. "" = of the whole VM; NULL = there is none. A VM that is off is left to a person: another
 * host may be at it. *ret_is_ending: by the headers it is a merge that is done. */
static char *
lost_target(Agent *agent, const AgentVm *entry, bool *ret_is_ending)
{
    WITH_LOCK(&agent->lock);
    const Vm *vm = entry->vm;

    if (vm == NULL || vm->instance == NULL || entry->operations->len > 0)
        return NULL;
    for (guint i = 0; i < vm->operations->len; i++) {
        const OperationRecord *record = vm->operations->pdata[i];
        const Disk *disk = vm_disk(vm, record->disk_id);
        if (g_hash_table_contains(agent->operations, record->id))
            continue;
        *ret_is_ending = disk != NULL && g_strcmp0(disk->busy, DISK_ENDING_MERGE) == 0;
        return g_strdup(disk != NULL ? disk->target : "");
    }
    return NULL;
}

/* One that ends by itself is not ended: its end tells what the record is worth. */
static bool
is_committing(Agent *agent, const char *vm_id, const char *target)
{
    HvJob job = { .type = HV_JOB_NONE };

    return *target != '\0' && agent->hv->ops->job_look(agent->hv, vm_id, target, &job, NULL) &&
           (job.type == HV_JOB_COMMIT || job.type == HV_JOB_PULL);
}

void
doctor_after_loss(Agent *agent, const char *vm_id)
{
    AgentVm *entry = agent_entry(agent, vm_id, false);
    g_autofree char *id = id_new();
    g_autoptr(json_t) body = NULL, answer = NULL;
    g_autoptr(GError) error = NULL;

    if (entry == NULL)
        return;
    bool is_ending = false;
    g_autofree char *target = lost_target(agent, entry, &is_ending);
    g_atomic_int_set(&entry->loss_is_left, is_ending);
    if (target == NULL)
        return;
    bool rests = entry->losses >= MOST_LOSSES &&
                 (!is_ending || g_get_monotonic_time() < entry->lost_us + LOSSES_REST_US);
    if (rests || is_committing(agent, vm_id, target))
        return;
    entry->losses++;
    entry->lost_us = g_get_monotonic_time();
    log_vm_warn(vm_id, NULL,
                "the manifest of VM %s records what this agent's journal does not know: it was "
                "lost, or the VM came from another host. What is left of it is put right",
                vm_id);
    body = json_pack("{s:s, s:s, s:s, s:[s, s], s:b}", "id", id, "kind", "doctor-fix", "vm_id",
                     vm_id, "classes", diagnosis_word(DIAG_FOREIGN_JOB),
                     diagnosis_word(DIAG_LEFTOVER_RECORD), "safe_only", 1);
    if (!operation_begin(agent, body, &answer, &error))
        log_vm_warn(vm_id, NULL, "%s; see livemerge doctor", error->message);
}

/* In which order they are mended: a job before the record that tells whose it was. */
static void
add_wanted(const Operation *op, GPtrArray *findings, bool jobs, json_t *list)
{
    g_auto(GStrv) classes = classes_of(op);

    for (guint i = 0; i < findings->len; i++) {
        const Finding *finding = findings->pdata[i];
        if ((finding->class == DIAG_FOREIGN_JOB) == jobs &&
            g_strcmp0(finding->vm_id, op->row.vm_id) == 0 &&
            finding_wanted(finding, (const char *const *)classes) &&
            (finding->fix_kind == FIX_SAFE || !json_flag(op->row.params, "safe_only")))
            json_array_append_new(list, finding_to_json(finding));
    }
}

static bool
look_act(void *self, GError **error)
{
    Operation *op = self;
    g_autoptr(GPtrArray) findings = g_ptr_array_new_with_free_func((GDestroyNotify)finding_free);
    json_t *list;

    if (!look_again(op, true, findings, error))
        return false;
    g_ptr_array_sort(findings, finding_compare);
    list = json_array();
    add_wanted(op, findings, true, list);
    add_wanted(op, findings, false, list);
    op_remember(op, "findings", list);
    return true;
}

/* ---- mend ---- */

static bool
all_judged(const Operation *op)
{
    json_t *list = json_object_get(op->row.data, "findings");

    for (size_t i = 0; i < json_array_size(list); i++)
        if (json_text(json_array_get(list, i), "state") == NULL)
            return false;
    return true;
}

static StepState
mend_check(void *self, GError **error)
{
    Operation *op = self;

    if (all_judged(op))
        return STEP_DONE;
    return op_connected(op, error) ? STEP_TODO : STEP_UNKNOWN;
}

/* What is wrong with the definition has another name once the VM has stopped, or started. */
static Diagnosis
other_name(Diagnosis class)
{
    return class == DIAG_STALE_DEFINITION ? DIAG_STALE_LEAF
           : class == DIAG_STALE_LEAF     ? DIAG_STALE_DEFINITION
                                          : DIAG_LAST;
}

static const Finding *
find_again(const GPtrArray *findings, const Finding *wanted)
{
    const Finding *renamed = NULL;

    for (guint i = 0; i < findings->len; i++) {
        const Finding *now = findings->pdata[i];
        if (finding_same(now, wanted))
            return now;
        if (now->class == other_name(wanted->class) && g_str_equal(now->vm_id, wanted->vm_id) &&
            g_strcmp0(now->disk, wanted->disk) == 0)
            renamed = now;
    }
    return renamed;
}

/* Since it was chosen it may have become what nobody asked for: a record of a VM that is off now,
 * an orphan that holds data now. */
static bool
may_still_mend(const Operation *op, const Finding *now, GError **error)
{
    if (now->fix_kind == FIX_NONE)
        return error_set(error, ERR_REFUSED, "it cannot be mended any more: %s",
                         now->help != NULL ? now->help : now->text);
    return now->fix_kind == FIX_SAFE || !json_flag(op->row.params, "safe_only") ||
           error_set(error, ERR_REFUSED, "it is not safe any more: %s", now->fix);
}

/* True: it is mended, or gone by itself. */
static bool
mend_one(Operation *op, const json_t *json, GError **error)
{
    g_autoptr(GPtrArray) findings = g_ptr_array_new_with_free_func((GDestroyNotify)finding_free);
    g_autoptr(Finding) wanted = finding_from_json(json, error);
    const Finding *now;

    if (wanted == NULL || !look_again(op, is_of_files(wanted), findings, error))
        return false;
    now = find_again(findings, wanted);
    if (now == NULL)
        return doctor_settle(op, wanted, error);
    return may_still_mend(op, now, error) && doctor_mend(op, now, error) &&
           fault_point("agent.doctor.mended", error);
}

static void
judge(Operation *op, size_t i, const char *state, const char *why)
{
    json_t *list = json_deep_copy(json_object_get(op->row.data, "findings"));
    json_t *finding = json_array_get(list, i);

    json_put_text(finding, "state", state);
    json_put_text(finding, "why", why);
    op_remember(op, "findings", list);
}

/* One pass; *ret_again: something was mended, so that what failed may succeed now (an orphan on
 * which another one stood). */
static bool
mend_all(Operation *op, bool last, bool *ret_again, GError **error)
{
    size_t n = json_array_size(json_object_get(op->row.data, "findings"));

    *ret_again = false;
    for (size_t i = 0; i < n; i++) {
        json_t *json = json_array_get(json_object_get(op->row.data, "findings"), i);
        g_autoptr(GError) problem = NULL;

        if (json_text(json, "state") != NULL)
            continue;
        if (mend_one(op, json, &problem)) {
            judge(op, i, "mended", NULL);
            *ret_again = true;
        } else if (g_error_matches(problem, ERR, ERR_UNREACHABLE) ||
                   g_error_matches(problem, ERR, ERR_STOPPED)) {
            g_propagate_error(error, g_steal_pointer(&problem));
            return false;
        } else if (last) {
            judge(op, i, "left", problem->message);
        }
        if (!operation_save(op, error))
            return false;
    }
    return true;
}

static bool
mend_act(void *self, GError **error)
{
    Operation *op = self;
    const Domain *home = doctor_home(op, NULL); /* whoever needs it asks again */
    g_auto(LeaseHold) lease = { 0 };
    bool again = true;

    if (home != NULL && !op_lease(op, home, &lease, error))
        return false;
    while (again && !all_judged(op))
        if (!mend_all(op, false, &again, error))
            return false;
    if (!mend_all(op, true, &again, error))
        return false;
    op_result(op, "findings", json_deep_copy(json_object_get(op->row.data, "findings")));
    if (json_object_get(op->row.data, "undo") != NULL)
        op_result(op, "undo", json_string(op->row.id));
    return agent_look(op->agent, op->entry, error);
}

static StepState
failed_check(void *self, GError **error)
{
    return STEP_DONE;
}

/* clang-format off */
const Step doctor_fix_steps[] = {
    /* name     check         act         tries  cancel  if it failed  next     */
    { "look",   look_check,   look_act,   5,     true,   "failed",     NULL     },
    { "mend",   mend_check,   mend_act,   0,     true,   "failed",     STEP_END },
    { "failed", failed_check, NULL,       0,     false,  NULL,         STEP_END },
    { NULL },
};
/* clang-format on */
