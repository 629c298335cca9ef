/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * Merging: has an internal commit really ended when the headers say so?
 *
 * QEMU 7.2 rewrites the header of the volume above before it has flushed the base, which it does as
 * it makes the base read-only again (H13: a known trace of tests/contract). If QEMU, the storage
 * daemon or the host dies in between, the headers name the merged chain, and what was copied may be
 * missing in the base. The volumes of the run still hold all of it. So those headers are believed
 *
 *   - for ever, once the base was synced while the process that committed lives, and its image lock
 *     says that it writes the base no more; or libvirt that its job is gone, if QEMU had the base
 *     open for writing before already: then it is asked to flush it;
 *   - or, if the VM was started since, once the base was compared with the run, all of it, and
 *     synced: nobody writes either of them.
 *
 * Otherwise, as soon as the VM is off, and before it starts, the volume above is made to stand on
 * the run again, which is as good as it was before, and the commit is done once more.
 */
#include "agent/merge.h"

#include "agent/verify_work.h"
#include "base/clock.h"
#include "base/log.h"
#include "base/text.h"
#include "qcow2/build.h"

#include <errno.h>
#include <fcntl.h>
#include <unistd.h>

#define FLUSH_PATIENCE_US (2 * G_TIME_SPAN_SECOND)
#define UNFLUSHED_MAX 3

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

static bool
is_surely_flushed(const Operation *op)
{
    return merge_is_synced(op) || merge_flag(op, "whole");
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

static bool
is_unflushed(const Operation *op)
{
    return merge_flag(op, "unflushed");
}

/* Whatever the storage says when it is asked again: what it could not write once, the kernel has
 * forgotten by then. Always false. */
static bool
note_unflushed(Operation *op, const char *why, GError **error)
{
    op_remember(op, "unflushed", json_string(why));
    log_vm_warn(op->row.vm_id, op->row.id,
                "disk %s: not all of what was merged into %s has reached the storage: %s",
                op_data(op, "target"), merge_run_base(op), why);
    return operation_save(op, error) &&
           error_set(error, ERR_BUSY, "disk %s: not all of what was merged has reached the storage",
                     op_data(op, "target"));
}

/* libvirt, or the storage daemon, says that the job has ended. libvirt forgets it after QEMU's word
 * that all is flushed; one that was just killed may not know it yet. */
static bool
job_has_ended(Operation *op)
{
    Hypervisor *hv = op->agent->hv;
    HvJob job = { 0 };

    if (merge_is_cold(op))
        return cold_has_concluded(op);
    return hv->ops->job_look(hv, op->row.vm_id, op_data(op, "target"), &job, NULL) &&
           job.type == HV_JOB_NONE;
}

/* At its end a commit makes its base read-only again, for which QEMU flushes it: a failure of that
 * is told to nobody, but the base stays open for writing. QEMU 7.2 also keeps the base of an active
 * commit that was cancelled or failed (a foreign one, too) open for writing as long as it lives,
 * and then nothing is flushed at the end of the next job. */
static bool
is_flushed(Operation *op, GError **error)
{
    Hypervisor *hv = op->agent->hv;
    MergeScratch *scratch = merge_scratch(op);
    const char *base = merge_run_base(op), *target = op_data(op, "target");

    if (!image_is_written(base))
        return true;
    if (!job_has_ended(op))
        scratch->flushing_us = 0;
    else if (scratch->flushing_us == 0)
        scratch->flushing_us = clock_mono_us();
    if (scratch->flushing_us == 0 || clock_mono_us() - scratch->flushing_us <= FLUSH_PATIENCE_US)
        return error_set(error, ERR_BUSY, "VM %s, disk %s: what was merged is being flushed",
                         op->row.vm_id, target);
    if (merge_is_cold(op) || !merge_flag(op, "base_open"))
        return note_unflushed(op, "QEMU could not flush it", error);
    return hv->ops->flush(hv, op->row.vm_id, target, base, error);
}

/* The look of a moment ago was at what is in memory. */
static bool
sync_base(Operation *op, GError **error)
{
    const char *base = merge_run_base(op);
    autofd int fd = open(base, O_RDONLY | O_CLOEXEC | O_NONBLOCK);

    if (fd < 0)
        return error_set_errno(error, "opening %s", base);
    if (fsync(fd) == 0) {
        op_remember(op, "whole", json_true());
        return true;
    }
    return note_unflushed(op, g_strerror(errno), error);
}

/* So that the disk is read, and not what never got there. */
static void
drop_cache(const char *path)
{
    autofd int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);

    if (fd >= 0)
        (void)posix_fadvise(fd, 0, 0, POSIX_FADV_DONTNEED);
}

/* That the base is not written tells nothing if who wrote it had just died, and libvirt did not
 * know it yet: it must be there afterwards. */
static bool
still_lives(Operation *op, GError **error)
{
    g_autoptr(HvDomain) now = agent_look_at_hv(op->agent, op->row.vm_id, error);

    if (now == NULL)
        return false;
    return lives(op, now) ||
           error_set(error, ERR_BUSY, "VM '%s', disk %s: who has merged it has just ended",
                     now->name, op_data(op, "target"));
}

/* ---- the VM was started since ---- */

/* From the base of the chain up to the top of the run, and up to its base. */
static VerifyWork *
plan_comparison(Operation *op, GError **error)
{
    const char *base = merge_run_base(op);
    g_autoptr(GPtrArray) layers = qcow2_chain_walk(merge_run_top(op), "qcow2", NULL, error);
    g_autoptr(VerifyWork) work = verify_work_new(false);
    guint at = 0;

    if (layers == NULL)
        return NULL;
    while (at < layers->len && g_strcmp0(((Qcow2Layer *)layers->pdata[at])->path, base) != 0)
        at++;
    if (at + 1 >= layers->len) {
        error_set(error, ERR_CORRUPT, "%s does not stand on %s any more", merge_run_top(op), base);
        return NULL;
    }
    Comparison *all = verify_work_add(work, COMPARE_CONTENT,
                                      ((Qcow2Layer *)layers->pdata[layers->len - 1])->virtual_size);
    verify_work_layers(work, all->a, layers, 0, layers->len);
    verify_work_layers(work, all->b, layers, 0, at + 1);
    return g_steal_pointer(&work);
}

static void
forget_comparison(Operation *op)
{
    MergeScratch *scratch = merge_scratch(op);

    g_clear_pointer(&scratch->whole, verify_work_free);
    g_clear_pointer(&scratch->differs, g_free);
    g_clear_pointer(&scratch->differs_in, g_free);
}

static bool
say_being_compared(Operation *op, const HvDomain *hv, uint64_t done, uint64_t total, GError **error)
{
    return error_set(
        error, ERR_BUSY,
        "VM '%s', disk %s: QEMU ended just as it had merged %s, and the VM was started "
        "since. Whether all was flushed is being found out (%u %%): %s is compared "
        "with it",
        hv->name, op_data(op, "target"), merge_run_top(op),
        total > 0 ? (unsigned)(MIN(done, total) * 100 / total) : 0, merge_run_base(op));
}

static bool
say_unflushed(Operation *op, const HvDomain *hv, GError **error)
{
    g_autofree char *name = shell_word(hv->name);

    return error_set(
        error, ERR_BUSY,
        "VM '%s', disk %s: not all of what was merged into %s has reached the storage (%s), and "
        "what the VM reads of it may be old some day. Nothing is deleted: %s holds all. See to the "
        "storage, then power the VM off (a reboot from inside is not enough), and it is put right: "
        "virsh shutdown %s",
        hv->name, op_data(op, "target"), merge_run_base(op), op_data(op, "unflushed"),
        merge_run_top(op), name);
}

static bool
say_differs(Operation *op, const HvDomain *hv, GError **error)
{
    g_autofree char *name = shell_word(hv->name);

    if (is_unflushed(op))
        return say_unflushed(op, hv, error);
    return error_set(
        error, ERR_BUSY,
        "VM '%s', disk %s: QEMU ended just as it had merged %s, before all of it was flushed, and "
        "the VM was started since: it reads old data (%s). Nothing is deleted: %s holds all. Power "
        "the VM off (a reboot from inside is not enough), and it is put right: virsh shutdown %s",
        hv->name, op_data(op, "target"), merge_run_top(op), merge_scratch(op)->differs,
        merge_run_top(op), name);
}

/* What was the same, and is written by nobody, is made durable: it is the same for ever. */
static bool
is_whole_now(Operation *op, GError **error)
{
    if (!merge_sync_changed(op, error))
        return false;
    op_remember(op, "whole", json_true());
    if (operation_save(op, error))
        return true;
    op_remember(op, "whole", NULL);
    return false;
}

/* Reads volumes below the leaf, in a thread of its own. True: all was flushed. */
static bool
compare(Operation *op, const HvDomain *hv, GError **error)
{
    MergeScratch *scratch = merge_scratch(op);
    uint64_t done = 0, total = 0;
    Qcow2Compared compared;

    if (g_strcmp0(scratch->differs_in, hv->instance) != 0 || hv->instance == NULL) {
        forget_comparison(op);
        scratch->differs_in = g_strdup(hv->instance);
    }
    if (hv->instance == NULL)
        return error_set(error, ERR_BUSY, "VM '%s' is starting or stopping just now", hv->name);
    if (scratch->differs != NULL)
        return say_differs(op, hv, error);
    if (image_is_written(merge_run_base(op))) { /* somebody's job: what was read is void */
        g_clear_pointer(&scratch->whole, verify_work_free);
        return is_unflushed(op)
                   ? say_unflushed(op, hv, error)
                   : error_set(error, ERR_BUSY, "VM '%s', disk %s: %s is being written by somebody",
                               hv->name, op_data(op, "target"), merge_run_base(op));
    }
    if (scratch->whole == NULL) {
        drop_cache(merge_run_base(op));
        if ((scratch->whole = plan_comparison(op, error)) == NULL)
            return false;
        verify_work_start(scratch->whole);
    }
    if (!verify_work_wait(scratch->whole, g_get_monotonic_time(), &done, &total))
        return say_being_compared(op, hv, done, total, error);
    g_autoptr(GError) problem = verify_work_result(scratch->whole, &compared);
    g_clear_pointer(&scratch->whole, verify_work_free);
    if (problem == NULL)
        return is_whole_now(op, error);
    if (g_error_matches(problem, ERR, ERR_CORRUPT) ||
        g_error_matches(problem, ERR, ERR_UNSUPPORTED)) {
        scratch->differs = g_strdup(problem->message);
        return say_differs(op, hv, error);
    }
    g_propagate_error(error, g_steal_pointer(&problem)); /* it is tried again */
    return false;
}

/* What could not be flushed may have left its tables half written: what a commit takes for free
 * space would not be. */
bool
merge_base_is_sound(Operation *op, GError **error)
{
    const char *base = merge_run_base(op), *target = op_data(op, "target");

    if (!is_unflushed(op))
        return true;
    if (merge_scratch(op)->unflushed++ >= UNFLUSHED_MAX)
        return error_set(error, ERR_HYPERVISOR,
                         "disk %s: again and again the storage did not take what was merged (%s). "
                         "No data were lost: the chain is as before. See to the storage, then "
                         "delete the snapshot again",
                         target, op_data(op, "unflushed"));
    drop_cache(base);
    if (g_strcmp0(op_data(op, "base_format"), "raw") == 0 || qcow2_check_sound(base, error))
        return true;
    g_prefix_error(
        error,
        "disk %s: the storage did not take all of what was merged, and %s may be damaged "
        "by that. No data were lost: the chain is as before, and holds all. See to the "
        "storage, then (with the VM off) qemu-img check -r all, or delete with "
        "--strategy copy: ",
        target, base);
    return false;
}

bool
merge_judge_commit(Operation *op, const HvDomain *hv, ChainState *ret_state, GError **error)
{
    *ret_state = CHAIN_AFTER;
    if (!is_internal_commit(op) || is_surely_flushed(op))
        return true;
    *ret_state = CHAIN_UNKNOWN;
    if (!is_unflushed(op) && lives(op, hv)) {
        if (!is_flushed(op, error) || !still_lives(op, error) || !sync_base(op, error))
            return false;
        *ret_state = CHAIN_AFTER;
        return true;
    }
    if (hv->instance != NULL || hv->state != VM_DOWN) {
        if (!compare(op, hv, error))
            return false;
        *ret_state = CHAIN_AFTER;
        return true;
    }
    forget_comparison(op);
    if ((is_unflushed(op) && merge_is_cold(op) && !cold_stop(op, error)) || !put_back(op, error))
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
            !is_internal_commit(op) || is_surely_flushed(op))
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

/* By its header. False: it cannot be read just now. */
static bool
stands_on_base(const Run *run, bool *ret_stands, GError **error)
{
    g_autoptr(Qcow2Header) header = qcow2_header_read(run->above, error);
    g_autofree char *below = header != NULL && header->backing_file != NULL
                                 ? qcow2_backing_path(run->above, header->backing_file, NULL)
                                 : NULL;

    *ret_stands = g_strcmp0(below, run->base) == 0;
    return header != NULL;
}

bool
merge_before_start(Agent *agent, AgentVm *entry, bool quiet, GError **error)
{
    g_autoptr(GPtrArray) runs = unsynced_runs(agent, entry);

    for (guint i = 0; i < runs->len; i++) {
        const Run *run = runs->pdata[i];
        bool stands = false;
        if (!stands_on_base(run, &stands, error))
            return false;
        if (!stands)
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
