/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * Asks the table of model/verbs.h with all that the manager knows: who holds the VM, and whether
 * its host answers.
 */
#include "flow/core.h"

/* One of the jobs that hold the VM: several can, where the table lets one go beside another. */
typedef struct {
    char *id, *description;
    Hold hold;
    bool locks; /* the snapshot that is meant */
} Holder;

static void
holder_free(void *holder_)
{
    Holder *holder = holder_;

    g_free(holder->id);
    g_free(holder->description);
    g_free(holder);
}

/* Holds its VM, as long as it has not released it. */
static bool
is_holder(const Flow *flow, const char *vm_id)
{
    return flow->row->parent == NULL && !flow->released &&
           (g_str_equal(flow->row->vm_id, vm_id) || flow_makes(flow, vm_id));
}

const Flow *
vm_holder_locked(Manager *m, const char *vm_id)
{
    GHashTableIter iter;
    const Flow *flow;

    g_hash_table_iter_init(&iter, m->flows);
    while (g_hash_table_iter_next(&iter, NULL, (void **)&flow))
        if (is_holder(flow, vm_id))
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
manager_disks_locked(Manager *m, const char *vm_id)
{
    WITH_LOCK(&m->lock);
    GHashTableIter iter;
    const Flow *flow;

    g_hash_table_iter_init(&iter, m->flows);
    while (g_hash_table_iter_next(&iter, NULL, (void **)&flow))
        if (is_holder(flow, vm_id) && flow->kind != NULL &&
            (flow->kind->hold == HOLD_TAKING || flow->kind->hold == HOLD_DELETING ||
             flow->kind->hold == HOLD_SNAPSHOTS))
            return true;
    return false;
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

static GPtrArray *
holders_locked(Manager *m, const char *vm_id, const Snapshot *snapshot)
{
    GPtrArray *holders = g_ptr_array_new_with_free_func(holder_free);
    GHashTableIter iter;
    const Flow *flow;

    g_hash_table_iter_init(&iter, m->flows);
    while (g_hash_table_iter_next(&iter, NULL, (void **)&flow)) {
        if (!is_holder(flow, vm_id))
            continue;
        Holder *holder = g_new0(Holder, 1);
        holder->id = g_strdup(flow->row->id);
        holder->description = g_strdup(flow->row->description);
        holder->hold =
            flow->kind != NULL && !flow_makes(flow, vm_id) ? flow->kind->hold : HOLD_OTHER;
        holder->locks = snapshot != NULL && flow_names_snapshot(flow, snapshot->id);
        g_ptr_array_add(holders, holder);
    }
    return holders;
}

/* Why the host does not answer; NULL = it does. Lock held. */
static char *
problem_locked(Manager *m, const char *name)
{
    const Host *host = host_by_name(m, name);

    if (host == NULL)
        return g_strdup("it is not configured any more");
    if (host->up)
        return NULL;
    return g_strdup(host->problem != NULL ? host->problem : "no answer yet");
}

/* For each job that holds the VM: each may be what is in the way. */
static bool
ask(Verb verb, const Vm *vm, VerbContext context, const GPtrArray *holders, GError **error)
{
    for (guint i = 0; i < holders->len; i++) {
        const Holder *holder = holders->pdata[i];
        context.busy_job_id = holder->id;
        context.busy_job = holder->description;
        context.hold = holder->hold;
        context.locked = holder->locks;
        if (!verb_allowed(verb, vm, &context, error))
            return false;
    }
    return holders->len > 0 || verb_allowed(verb, vm, &context, error);
}

/* What is asked of each verb about one VM: what holds it, and why its host does not answer. */
typedef struct {
    GPtrArray *holders;
    char *problem;
} Situation;

static void
situation_clear(Situation *now)
{
    g_clear_pointer(&now->holders, g_ptr_array_unref);
    g_clear_pointer(&now->problem, g_free);
}

G_DEFINE_AUTO_CLEANUP_CLEAR_FUNC(Situation, situation_clear)

static Situation
look_at(Manager *m, const Vm *vm, VerbContext *context)
{
    g_mutex_lock(&m->lock);
    Situation now = { .holders = holders_locked(m, vm->id, context->snapshot),
                      .problem = problem_locked(m, vm->host) };
    g_mutex_unlock(&m->lock);
    context->host_problem = now.problem;
    if (context->foreign_job == NULL)
        context->foreign_job = vm->foreign_job;
    return now;
}

bool
manager_allowed(Manager *m, Verb verb, const Vm *vm, const VerbContext *asked, GError **error)
{
    VerbContext context = asked != NULL ? *asked : (VerbContext){ 0 };

    /* nothing of it in particular is meant; its memory is no disk's alone */
    if (asked == NULL || verb == VERB_SNAPSHOT_CREATE_MEMORY)
        context.busy_disk = first_busy_disk(vm, NULL);
    g_auto(Situation) now = look_at(m, vm, &context);
    return ask(verb, vm, context, now.holders, error);
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
    json_t *answers = json_array();

    context.busy_disk = first_busy_disk(vm, context.snapshot);
    g_auto(Situation) now = look_at(m, vm, &context);
    for (Verb verb = 0; verb < VERB_LAST; verb++) {
        g_autoptr(GError) refusal = NULL;
        if (verb_subject(verb) != subject)
            continue;
        ask(verb, vm, context, now.holders, &refusal);
        json_array_append_new(answers, verb_answer(verb, refusal));
    }
    return answers;
}
