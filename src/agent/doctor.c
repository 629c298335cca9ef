/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "agent/doctor.h"

#include "storage/salvage.h"

#include <errno.h>
#include <string.h>
#include <unistd.h>

int64_t doctor_grace_s = 30;

Finding *
doctor_find(const Patient *patient, Diagnosis class, const char *disk, const char *file)
{
    Finding *finding = finding_new(class, patient->hv->id, patient->hv->name, disk, file);

    g_ptr_array_add(patient->findings, finding);
    return finding;
}

bool
doctor_is_missing(const Patient *patient, const char *path)
{
    if (access(path, F_OK) == 0)
        return false;
    if (!storage_is_away(errno))
        return true;
    if (patient->away->len == 0)
        g_string_printf(patient->away, "its storage cannot be read: %s: %s", path,
                        g_strerror(errno));
    return false;
}

/* ---- one VM ---- */

static bool
is_looked_at(const HvDisk *disk)
{
    return g_strcmp0(disk->device, "disk") == 0 && g_strcmp0(disk->type, "file") == 0 &&
           disk->source != NULL && g_path_is_absolute(disk->source) &&
           (g_strcmp0(disk->format, "qcow2") == 0 || g_strcmp0(disk->format, "raw") == 0);
}

/* The home that was published, or, if the VM is shown as unmanaged, where its manifest would be. */
static Domain *
home_of(const Patient *patient)
{
    g_autoptr(Vm) shown = agent_vm_published(patient->agent, patient->hv->id);

    if (shown != NULL && shown->home != NULL)
        return agent_home(patient->agent, shown, NULL);
    for (guint i = 0; i < patient->chains->len; i++) {
        const ChainLook *look = patient->chains->pdata[i];
        Domain *domain = agent_domain(patient->agent, look->hv->source, false, NULL);
        if (domain != NULL)
            return domain;
    }
    return NULL;
}

static void
patient_clear(Patient *patient)
{
    hv_domain_free(patient->hv);
    vm_free(patient->stored);
    g_clear_error(&patient->problem);
    if (patient->chains != NULL)
        g_ptr_array_unref(patient->chains);
    if (patient->records != NULL)
        g_ptr_array_unref(patient->records);
    if (patient->away != NULL)
        g_string_free(patient->away, TRUE);
}
G_DEFINE_AUTO_CLEANUP_CLEAR_FUNC(Patient, patient_clear)

static bool
patient_look(Patient *patient, const char *vm_id, GError **error)
{
    Hypervisor *hv = patient->agent->hv;

    patient->hv = agent_look_at_hv(patient->agent, vm_id, error);
    if (patient->hv == NULL)
        return false;
    patient->away = g_string_new(NULL);
    patient->chains = g_ptr_array_new_with_free_func(chain_look_free);
    for (guint i = 0; i < patient->hv->disks->len; i++)
        if (is_looked_at(patient->hv->disks->pdata[i]))
            g_ptr_array_add(patient->chains, chain_look_new(patient, patient->hv->disks->pdata[i]));
    patient->records = hv->ops->snapshot_records != NULL
                           ? hv->ops->snapshot_records(hv, vm_id, error)
                           : g_ptr_array_new();
    if (patient->records == NULL)
        return false;
    patient->home = home_of(patient);
    if (patient->home != NULL)
        patient->stored = manifest_load(patient->home, vm_id, &patient->problem);
    if (patient->problem != NULL)
        doctor_is_missing(patient, patient->home->path);
    return true;
}

/* Also one that has ended: what its flow does next is not done yet. Not if it is acknowledged, and
 * only its worker still has it. */
static char *
why_busy(Agent *agent, const char *vm_id, const Operation *self)
{
    WITH_LOCK(&agent->lock);
    GHashTableIter it;
    void *value;

    g_hash_table_iter_init(&it, agent->operations);
    while (g_hash_table_iter_next(&it, NULL, &value)) {
        const Operation *op = value;
        if (op == self || (op->acked && operation_ended(op)) ||
            g_str_has_prefix(op->row.kind, "doctor-") || !g_str_equal(op->row.vm_id, vm_id))
            continue;
        return operation_ended(op)
                   ? g_strdup_printf("operation %s (%s) has ended, and waits for the manager",
                                     op->row.id, op->row.kind)
                   : g_strdup_printf("operation %s (%s) is under way, at step '%s'", op->row.id,
                                     op->row.kind, op->row.step);
    }
    return NULL;
}

/* Of a VM that could not be wholly seen the last time it is not known which files it has. */
static bool
is_shown(const Patient *patient, AgentVm *entry, GError **error)
{
    g_autoptr(Vm) shown = agent_vm_published(patient->agent, entry->id);

    return patient->home == NULL || (shown != NULL && shown->home != NULL) ||
           agent_look(patient->agent, entry, error);
}

bool
doctor_look_vm(Agent *agent, AgentVm *entry, const Operation *self, GPtrArray *findings,
               char **ret_busy, GError **error)
{
    g_auto(Patient) patient = { .agent = agent, .findings = findings };
    g_autoptr(GError) problem = NULL;

    *ret_busy = why_busy(agent, entry->id, self);
    if (*ret_busy != NULL)
        return true;
    if (!patient_look(&patient, entry->id, &problem)) {
        if (g_error_matches(problem, ERR, ERR_NOT_FOUND))
            return true; /* it is gone */
        g_propagate_error(error, g_steal_pointer(&problem));
        return false;
    }
    if (!is_shown(&patient, entry, error))
        return false;
    if (patient.hv->state == VM_UNKNOWN) { /* libvirt's definition is not what it runs on */
        *ret_busy = g_strdup(hv_why_unknown(patient.hv));
        return true;
    }
    if (patient.hv->state == VM_MIGRATING || patient.hv->state == VM_SAVING) {
        *ret_busy = g_strdup_printf("it is %s", vm_state_word(patient.hv->state));
        return true;
    }
    for (guint i = 0; i < patient.chains->len; i++)
        doctor_look_chain(&patient, patient.chains->pdata[i]);
    doctor_look_definition(&patient);
    doctor_look_jobs(&patient);
    doctor_look_manifest(&patient);
    doctor_look_records(&patient);
    doctor_look_overlays(&patient);
    if (patient.away->len > 0)
        *ret_busy = g_strdup(patient.away->str);
    return true;
}

/* ---- all that were asked for ---- */

static char **
ids_of(Agent *agent, const char *vm_id, GError **error)
{
    g_autoptr(GPtrArray) ids = g_ptr_array_new();
    WITH_LOCK(&agent->lock);
    GHashTableIter it;
    void *key, *value;

    g_hash_table_iter_init(&it, agent->vms);
    while (g_hash_table_iter_next(&it, &key, &value))
        if (((AgentVm *)value)->vm != NULL && (vm_id == NULL || g_str_equal(vm_id, key)))
            g_ptr_array_add(ids, g_strdup(key));
    if (vm_id != NULL && ids->len == 0) {
        agent_no_vm(g_hash_table_lookup(agent->vms, vm_id), vm_id, error);
        return NULL;
    }
    g_ptr_array_add(ids, NULL);
    return (char **)g_ptr_array_steal(ids, NULL);
}

static bool
look_at_all(Agent *agent, const char *vm_id, char **ids, GPtrArray *findings, json_t *busy,
            json_t *unread, GError **error)
{
    for (char **id = ids; *id != NULL; id++) {
        AgentVm *entry = agent_entry(agent, *id, false);
        g_autofree char *why = NULL;
        if (entry == NULL)
            continue;
        WITH_LOCK(&entry->lock);
        if (!doctor_look_vm(agent, entry, NULL, findings, &why, error))
            return false;
        if (why != NULL)
            json_array_append_new(busy, json_pack("{s:s, s:s}", "vm_id", *id, "why", why));
    }
    return doctor_look_files(agent, vm_id, NULL, findings, unread, error);
}

/* What doctor's fixes have put into the trash: no finding, but it takes space. */
static json_t *
kept_json(Agent *agent)
{
    uint64_t bytes = 0;
    json_int_t files = 0;

    for (guint i = 0;; i++) {
        g_mutex_lock(&agent->lock);
        const Domain *domain = i < agent->domains->len ? agent->domains->pdata[i] : NULL;
        g_mutex_unlock(&agent->lock);
        if (domain == NULL)
            return json_pack("{s:I, s:I}", "files", files, "bytes", (json_int_t)bytes);
        g_autoptr(GPtrArray) list = trash_list(domain, NULL);
        for (guint k = 0; list != NULL && k < list->len; k++) {
            const TrashEntry *entry = list->pdata[k];
            files += entry->kept;
            bytes += entry->kept ? entry->allocated : 0;
        }
    }
}

bool
doctor_answer(Agent *agent, const char *vm_id, json_t **ret_json, GError **error)
{
    g_auto(GStrv) ids = ids_of(agent, vm_id, error);
    g_autoptr(GPtrArray) findings = g_ptr_array_new_with_free_func((GDestroyNotify)finding_free);
    g_autoptr(json_t) busy = json_array();
    g_autoptr(json_t) unread = json_array();
    json_t *list;

    if (ids == NULL || !look_at_all(agent, vm_id, ids, findings, busy, unread, error))
        return false;
    g_ptr_array_sort(findings, finding_compare);
    list = json_array();
    for (guint i = 0; i < findings->len; i++) {
        const Finding *finding = findings->pdata[i];
        if (vm_id == NULL || g_strcmp0(finding->vm_id, vm_id) == 0)
            json_array_append_new(list, finding_to_json(finding));
    }
    *ret_json = json_pack("{s:o, s:O, s:O, s:o}", "findings", list, "busy", busy, "unread", unread,
                          "kept", kept_json(agent));
    return true;
}
