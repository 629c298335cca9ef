/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * Merging: has an internal commit really ended when the headers say so?
 *
 * QEMU 7.2 rewrites the header of the volume above before it has flushed the base, which it does as
 * it makes the base read-only again (H13: a known trace of tests/contract). If QEMU, the storage
 * daemon or the host dies in between, the headers name the merged chain, and what was copied may be
 * missing in the base. The volumes of the run still hold all of it. So those headers are believed
 *
 *   - while the process that committed lives, and its image lock says that it writes the base no
 *     more (or libvirt that its job is gone);
 *   - for ever, once the base was synced after that (settle), which the result tells.
 *
 * Otherwise, as soon as the VM is off, and before it starts, the volume above is made to stand on
 * the run again, which is as good as it was before, and the commit is done once more.
 */
#include "agent/merge.h"

#include "base/clock.h"
#include "base/log.h"

#define FLUSH_PATIENCE_US (2 * G_TIME_SPAN_SECOND)

/* The volume above the run. */
static const char *
above_run(const Operation *op)
{
    const json_t *before = json_object_get(op->row.data, "before");
    const char *top = merge_run_top(op);
    size_t i;
    json_t *path;

    json_array_foreach (before, i, path)
        if (g_strcmp0(json_string_value(path), top) == 0)
            return json_string_value(json_array_get(before, i + 1));
    return NULL;
}

static bool
is_internal_commit(const Operation *op)
{
    return !merge_is_forward(op) && !merge_has_leaf(op);
}

/* The VM is off: nobody has the volume above open. */
static bool
stand_on(const char *vm_id, const char *op_id, const char *above, const char *top, GError **error)
{
    g_autofree char *name = relative_name(above, top);
    autofd int lock = image_lock(above, error);

    if (lock < 0 || !qcow2_relink(above, name, "qcow2", error))
        return false;
    log_vm_warn(vm_id, op_id,
                "VM %s: whether all of a merge was flushed when QEMU ended is not known: %s stands "
                "on %s again, which holds all, and the merge is done once more",
                vm_id, above, top);
    return true;
}

static bool
put_back(Operation *op, GError **error)
{
    WITH_WAY(op);

    if (clock_mono_us() < op->entry->starting_until_us)
        return error_set(error, ERR_BUSY, "VM %s is being started", op->row.vm_id);
    return stand_on(op->row.vm_id, op->row.id, above_run(op), merge_run_top(op), error);
}

/* Who has done it is still there. */
static bool
lives(Operation *op, const HvDomain *hv)
{
    if (!merge_was_begun(op) || !merge_same_instance(op, hv))
        return false;
    return merge_is_cold(op) ? cold_is_running(op) : hv->instance != NULL;
}

/* QEMU 7.2 keeps the base of an active commit that was cancelled or failed (a foreign one, too)
 * open for writing as long as it lives: the lock says nothing then, and libvirt is asked for the
 * job, which it forgets after QEMU's word that all is flushed. One that was just killed may not
 * know it yet: it is believed when it says so for a while. */
static bool
is_flushed(Operation *op)
{
    Hypervisor *hv = op->agent->hv;
    MergeScratch *scratch = merge_scratch(op);
    HvJob job = { 0 };

    if (!image_is_written(merge_run_base(op)))
        return true;
    if (merge_is_cold(op) ||
        !hv->ops->job_look(hv, op->row.vm_id, op_data(op, "target"), &job, NULL) ||
        job.type != HV_JOB_NONE) {
        scratch->flushing_us = 0;
        return false;
    }
    if (scratch->flushing_us == 0)
        scratch->flushing_us = clock_mono_us();
    return clock_mono_us() - scratch->flushing_us > FLUSH_PATIENCE_US;
}

bool
merge_judge_commit(Operation *op, const HvDomain *hv, ChainState *ret_state, GError **error)
{
    *ret_state = CHAIN_AFTER;
    if (!is_internal_commit(op) || merge_is_synced(op))
        return true;
    *ret_state = CHAIN_UNKNOWN;
    if (lives(op, hv)) {
        if (!is_flushed(op))
            return error_set(error, ERR_BUSY, "VM '%s', disk %s: what was merged is being flushed",
                             hv->name, op_data(op, "target"));
        *ret_state = CHAIN_AFTER;
        return true;
    }
    if (hv->instance != NULL || hv->state != VM_DOWN)
        return error_set(
            error, ERR_BUSY,
            "VM '%s', disk %s: QEMU ended just as it had merged %s, perhaps before all "
            "of it was flushed, and the VM was started since. Nothing is deleted: %s "
            "holds all. Power the VM off (a reboot from inside is not enough), and it "
            "is put right",
            hv->name, op_data(op, "target"), merge_run_top(op), merge_run_top(op));
    if (!put_back(op, error))
        return false;
    *ret_state = CHAIN_BEFORE;
    return true;
}

/* ---- before a start ---- */

typedef struct {
    char *op_id, *above, *top, *base;
} Run;

static void
run_free(void *data)
{
    Run *run = data;

    g_free(run->op_id);
    g_free(run->above);
    g_free(run->top);
    g_free(run->base);
    g_free(run);
}

/* Of the merges of this VM, which may end, and be freed, at any time. */
static GPtrArray *
unsynced_runs(Agent *agent, AgentVm *entry)
{
    GPtrArray *runs = g_ptr_array_new_with_free_func(run_free);
    WITH_LOCK(&agent->lock);

    for (guint i = 0; i < entry->operations->len; i++) {
        const Operation *op = entry->operations->pdata[i];
        if (op->kind->steps != merge_steps || !merge_flag(op, "started") ||
            !is_internal_commit(op) || merge_is_synced(op))
            continue;
        Run *run = g_new(Run, 1);
        run->op_id = g_strdup(op->row.id);
        run->above = g_strdup(above_run(op));
        run->top = g_strdup(merge_run_top(op));
        run->base = g_strdup(merge_run_base(op));
        g_ptr_array_add(runs, run);
    }
    return runs;
}

/* By its header. */
static bool
stands_on_base(const Run *run)
{
    g_autoptr(Qcow2Header) header = qcow2_header_read(run->above, NULL);
    g_autofree char *below = header != NULL && header->backing_file != NULL
                                 ? qcow2_backing_path(run->above, header->backing_file, NULL)
                                 : NULL;

    return g_strcmp0(below, run->base) == 0;
}

bool
merge_before_start(Agent *agent, AgentVm *entry, bool quiet, GError **error)
{
    g_autoptr(GPtrArray) runs = unsynced_runs(agent, entry);

    for (guint i = 0; i < runs->len; i++) {
        const Run *run = runs->pdata[i];
        if (!stands_on_base(run))
            continue;
        if (!quiet)
            return error_set(error, ERR_REFUSED,
                             "a merge of VM %s into %s is being concluded; no data are lost, try "
                             "again in a moment",
                             entry->id, run->base);
        if (!stand_on(entry->id, run->op_id, run->above, run->top, error))
            return false;
    }
    return true;
}
