/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * Asks the table of model/verbs.h with all that the manager knows: who holds the VM, and whether
 * its host answers.
 */
#include "flow/core.h"

/* What a VerbContext borrows. */
typedef struct {
    char *job_id, *job, *problem;
} Known;

static void
known_clear(Known *known)
{
    g_free(known->job_id);
    g_free(known->job);
    g_free(known->problem);
}
G_DEFINE_AUTO_CLEANUP_CLEAR_FUNC(Known, known_clear)

const Flow *
vm_holder_locked(Manager *m, const char *vm_id)
{
    GHashTableIter iter;
    const Flow *flow;

    g_hash_table_iter_init(&iter, m->flows);
    while (g_hash_table_iter_next(&iter, NULL, (void **)&flow))
        if (flow->row->parent == NULL && !flow->released && g_str_equal(flow->row->vm_id, vm_id))
            return flow;
    return NULL;
}

bool
vm_is_held(Manager *m, const char *vm_id)
{
    WITH_LOCK(&m->lock);

    return vm_holder_locked(m, vm_id) != NULL;
}

bool
flow_names_snapshot(const Flow *flow, const char *snapshot_id)
{
    size_t i;
    json_t *id;

    json_array_foreach (json_object_get(flow->row->params, "snapshots"), i, id)
        if (g_strcmp0(json_string_value(id), snapshot_id) == 0)
            return true;
    return false;
}

/* Adds it to what was asked. */
static void
look(Manager *m, const Vm *vm, VerbContext *c, Known *known)
{
    const Host *host = host_by_name(m, vm->host);
    WITH_LOCK(&m->lock);
    const Flow *flow = vm_holder_locked(m, vm->id);

    if (flow != NULL) {
        c->busy_job_id = known->job_id = g_strdup(flow->row->id);
        c->busy_job = known->job = g_strdup(flow->row->description);
        c->hold = flow->kind != NULL ? flow->kind->hold : HOLD_OTHER;
        c->locked = c->snapshot != NULL && flow_names_snapshot(flow, c->snapshot->id);
    }
    if (host == NULL)
        known->problem = g_strdup("it is not configured any more");
    else if (!host->up)
        known->problem = g_strdup(host->problem != NULL ? host->problem : "no answer yet");
    c->host_problem = known->problem;
}

bool
manager_allowed(Manager *m, Verb verb, const Vm *vm, const VerbContext *asked, GError **error)
{
    VerbContext context = asked != NULL ? *asked : (VerbContext){ 0 };
    g_auto(Known) known = { 0 };

    look(m, vm, &context, &known);
    return verb_allowed(verb, vm, &context, error);
}

const Disk *
first_busy_disk(const Vm *vm, const Snapshot *snapshot)
{
    for (guint i = 0; i < vm->disks->len; i++) {
        const Disk *disk = vm->disks->pdata[i];
        const SnapshotDisk *part = snapshot != NULL ? snapshot_disk(snapshot, disk->id) : NULL;
        bool meant =
            snapshot == NULL || (part != NULL && disk_volume_index(disk, part->volume_id) >= 0);
        if (disk->busy != NULL && disk_is_managed(disk) && meant)
            return disk;
    }
    return NULL;
}

json_t *
manager_operations(Manager *m, const Vm *vm, Subject subject, const VerbContext *asked)
{
    VerbContext context = asked != NULL ? *asked : (VerbContext){ 0 };
    g_auto(Known) known = { 0 };
    json_t *answers = json_array();

    look(m, vm, &context, &known);
    context.busy_disk = first_busy_disk(vm, context.snapshot);
    for (Verb verb = 0; verb < VERB_LAST; verb++)
        if (verb_subject(verb) == subject)
            json_array_append_new(answers, verb_answer(verb, vm, &context));
    return answers;
}
