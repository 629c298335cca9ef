/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * The free space (space.h) while a merge copies, and a guest that has stopped for want of it.
 */
#include "agent/merge.h"
#include "base/text.h"

static const char *
growing(const Operation *op)
{
    return merge_is_forward(op) ? op_data(op, "dest") : merge_run_base(op);
}

void
merge_watch_space(Operation *op, uint64_t left, uint64_t now, SpaceLimit set_limit, void *data)
{
    MergeScratch *scratch = merge_scratch(op);
    const SpaceWatch watch = { .pace = &scratch->space,
                               .what = "merge",
                               .target = op_data(op, "target"),
                               .growing = growing(op),
                               .left = left,
                               .now = now,
                               .limit = (uint64_t)json_number(op->row.params, "bandwidth"),
                               .set_limit = set_limit,
                               .data = data };

    space_watch(op, &watch);
    if (space_is_held(op))
        scratch->job_began_us = 0; /* nothing can be learnt of its speed any more */
}

static bool
limit_job(Operation *op, uint64_t limit, void *unused, GError **error)
{
    Hypervisor *hv = op->agent->hv;

    return hv->ops->job_set_bandwidth(hv, op->row.vm_id, op_data(op, "target"), limit, error);
}

/* An internal commit tells the offset that it has reached, the others bytes. */
static uint64_t
left_of(Operation *op, const HvJob *job)
{
    const WorkMap *work = merge_scratch(op)->work;

    if (job->type == HV_JOB_COMMIT && work != NULL)
        return work->total - work_below(work, job->current);
    return job->end - MIN(job->current, job->end);
}

void
merge_watch_job(Operation *op, const HvJob *job)
{
    merge_watch_space(op, left_of(op, job), job->bandwidth, limit_job, NULL);
}

void
merge_show_guest(Operation *op, const HvDomain *hv)
{
    g_autofree char *text = NULL, *name = shell_word(hv->name);

    if (hv->state == VM_PAUSED &&
        (g_strcmp0(hv->state_detail, "enospc") == 0 || g_strcmp0(hv->state_detail, "eio") == 0))
        text = g_strdup_printf(
            "VM '%s' is suspended: one of its writes failed (%s). The merge goes on. When the "
            "cause is gone (free space on its storage), resume it: virsh resume %s",
            hv->name, hv->state_detail, name);
    operation_notice(op, text);
}
