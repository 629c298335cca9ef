/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * QEMU's block jobs.
 *
 * As QEMU 7.2 does it: an internal commit rewrites the header above, flushes its base as that is
 * made read-only again (H13), and is then gone from the graph; a mirror copies in the background,
 * so what the guest writes and flushes is in the leaf only until the next round; a pivot stops the
 * guest's writes, copies the rest, flushes and switches. A job that has ended stays until libvirt
 * dismisses it.
 */
#include "qemu.h"

#include <string.h>

static void
job_end(SimDisk *disk, HvJobStatus outcome)
{
    /* seen of QEMU 7.2: the base of an active commit that was cancelled stays open for writing */
    Node *base = graph_find(disk, disk->job.base, NULL);
    if (base != NULL && outcome != HV_JOB_COMPLETED && disk->job.type == HV_JOB_ACTIVE_COMMIT)
        base->kept_open = true;
    disk->job.state = JOB_CONCLUDED;
    disk->concluded = disk->job.number;
    disk->job.outcome = outcome;
    disk->job.dirty = 0;
    qemu_relock();
    fiber_wake(&disk->job, true);
    libvirt_job_event(disk, outcome);
}

void
qemu_dismiss(SimDisk *disk)
{
    memset(&disk->job, 0, sizeof(Job));
    qemu_relock();
}

/* False: somebody cancelled it, or it fails. */
static bool
job_goes_on(SimDisk *disk, unsigned number)
{
    bool trouble = storage_error() != 0 || storage_is_full(); /* may wait */

    if (disk->job.number != number)
        return false;
    if (disk->job.cancel) {
        job_end(disk, HV_JOB_CANCELED);
        return false;
    }
    if (trouble || world_lies(LIE_JOB_FAILS, 4)) {
        world_trace("the job of %s fails", disk->target);
        job_end(disk, HV_JOB_FAILED);
        return false;
    }
    return true;
}

/* It begins at the latest when the VM is suspended. */
static void
wait_to_begin(SimDisk *disk)
{
    int64_t until = fiber_now_us() + disk->job.late_us;

    while (!disk->job.woken && fiber_now_us() < until)
        fiber_wait_on(&disk->job, until);
}

/* The first piece at a new speed goes at once. */
static void
pace(SimDisk *disk)
{
    uint64_t limit = disk->job.bandwidth;

    fiber_point("job copies");
    disk->job.woken = false;
    if (limit > 0 && disk->job.moved > 0) {
        int64_t us = (int64_t)(CLUSTER_BYTES * 1000000 / limit);
        int64_t until = fiber_now_us() + MIN(us, 3600 * G_TIME_SPAN_SECOND);
        while (disk->job.bandwidth == limit && !disk->job.cancel && !disk->job.woken &&
               fiber_now_us() < until)
            fiber_wait_on(&disk->job, until);
        if (disk->job.bandwidth != limit)
            fiber_sleep_us(disk->job.late_us);
    }
}

static const char *
last_part(const char *path)
{
    return strrchr(path, '/') + 1;
}

/* Has the run of this commit something to be copied there? */
static bool
run_holds(SimDisk *disk, unsigned cluster)
{
    guint base = 0, top = 0;
    uint64_t value;

    if (graph_find(disk, disk->job.base, &base) == NULL ||
        graph_find(disk, disk->job.top, &top) == NULL)
        return false;
    while (top < base && !image_value(&((Node *)disk->graph->pdata[top])->image, cluster, &value))
        top++;
    return top < base;
}

static void
internal_commit(void *data)
{
    SimDisk *disk = data;
    unsigned number = disk->job.number;
    guint base = 0, top = 0;

    disk->job.end = vm.clusters * CLUSTER_BYTES;
    wait_to_begin(disk);
    for (unsigned c = 0; c < vm.clusters; c++) {
        if (run_holds(disk, c))
            pace(disk);
        if (!job_goes_on(disk, number))
            return;
        if (graph_find(disk, disk->job.base, &base) == NULL ||
            graph_find(disk, disk->job.top, &top) == NULL)
            return;
        for (guint i = top; i < base; i++) {
            uint64_t value;
            if (!image_value(&((Node *)disk->graph->pdata[i])->image, c, &value))
                continue;
            image_put(&((Node *)disk->graph->pdata[base])->image, c, value);
            disk->job.moved++;
            break;
        }
        disk->job.current = (c + 1) * CLUSTER_BYTES;
    }
    Node *bottom = graph_find(disk, disk->job.base, &base);
    graph_find(disk, disk->job.top, &top);
    fiber_point("commit is about to rewrite the header");
    if (fiber_now_us() < vm.flushes_until_us)
        qemu_died(); /* H12 */
    Node *above = disk->graph->pdata[top - 1];
    image_set_backing(&above->image, last_part(disk->job.base), bottom->image.raw);
    image_at(above->image.node, above->path, false, &above->image);
    fiber_point("commit has rewritten the header");
    if (!bottom->kept_open)
        image_flush(&bottom->image); /* H13: as it is made read-only again */
    g_ptr_array_remove_range(disk->graph, top, base - top);
    job_end(disk, HV_JOB_COMPLETED);
}

static void
mirror_one(SimDisk *disk, Image *target)
{
    unsigned cluster = (unsigned)__builtin_ctzll(disk->job.dirty);
    uint64_t value;

    disk->job.dirty &= ~(UINT64_C(1) << cluster);
    for (guint i = 0; i < disk->graph->len; i++) {
        if (!image_value(&((Node *)disk->graph->pdata[i])->image, cluster, &value))
            continue;
        image_put(target, cluster, value);
        disk->job.moved++;
        break;
    }
    disk->job.current += CLUSTER_BYTES;
    disk->job.end = MAX(disk->job.end, disk->job.current);
}

static uint64_t
allocated_above(SimDisk *disk, guint end)
{
    uint64_t mask = 0, value;

    for (unsigned c = 0; c < vm.clusters; c++)
        for (guint i = 0; i < end; i++)
            if (image_value(&((Node *)disk->graph->pdata[i])->image, c, &value))
                mask |= UINT64_C(1) << c;
    return mask;
}

static void
pivot(SimDisk *disk, Image *target)
{
    guint base = 0;
    char why[128];

    qemu_drain();
    while (disk->job.dirty != 0)
        mirror_one(disk, target);
    image_flush(target);
    if (disk->job.type == HV_JOB_ACTIVE_COMMIT) {
        graph_find(disk, disk->job.base, &base);
        qemu_leave_open(disk, base);
        g_ptr_array_remove_range(disk->graph, 0, base);
    } else {
        g_autoptr(GPtrArray) nothing = g_ptr_array_new();
        qemu_leave_open(disk, 1);
        graph_open(disk, disk->job.base, disk->job.alone ? nothing : NULL, why);
    }
    disk->pivoted = true;
    job_end(disk, HV_JOB_COMPLETED);
}

static void
mirror_is_ready(SimDisk *disk)
{
    disk->job.state = JOB_READY;
    disk->job.was_ready = true;
    libvirt_job_event(disk, HV_JOB_READY);
}

static void
mirror(void *data)
{
    SimDisk *disk = data;
    unsigned number = disk->job.number;
    Image target;
    guint base = 1;

    if (!image_at(vfs_find(disk->job.base), disk->job.base,
                  g_str_has_suffix(disk->job.base, ".raw"), &target)) {
        job_end(disk, HV_JOB_FAILED);
        return;
    }
    if (disk->job.type == HV_JOB_ACTIVE_COMMIT)
        graph_find(disk, disk->job.base, &base);
    wait_to_begin(disk);
    fiber_point("mirror begins");
    if (!job_goes_on(disk, number))
        return;
    disk->job.dirty |= allocated_above(disk, base);
    for (;;) {
        uint64_t lag = (uint64_t)__builtin_popcountll(disk->job.dirty) * CLUSTER_BYTES;
        disk->job.end = disk->job.current + lag;
        if (disk->job.dirty == 0 && disk->job.state == JOB_RUNS) {
            image_flush(&target);
            fiber_point("all is copied, and the mirror not ready yet");
            if (plan.no_guest && fiber_chance(30)) /* flushing takes its time */
                fiber_sleep_us((int64_t)fiber_below(5000));
            if (!job_goes_on(disk, number))
                return;
            if (disk->job.dirty == 0)
                mirror_is_ready(disk);
        }
        if (disk->job.pivot && disk->job.state == JOB_READY) {
            pivot(disk, &target);
            return;
        }
        if (disk->job.dirty == 0)
            fiber_wait_on(&disk->job, fiber_now_us() + 3000);
        else
            pace(disk);
        if (!job_goes_on(disk, number))
            return;
        if (disk->job.dirty != 0)
            mirror_one(disk, &target);
    }
}

void
qemu_job_start(SimDisk *disk, HvJobType type, const char *base, const char *top)
{
    static unsigned numbers;
    uint64_t bandwidth = disk->job.bandwidth;

    memset(&disk->job, 0, sizeof(Job));
    disk->job.type = type;
    disk->job.state = JOB_RUNS;
    disk->job.alone = type == HV_JOB_COPY && disk->graph->len == 1;
    disk->job.number = ++numbers;
    disk->job.began_us = fiber_now_us();
    disk->job.bandwidth = bandwidth;
    g_strlcpy(disk->job.base, base, sizeof disk->job.base);
    g_strlcpy(disk->job.top, top != NULL ? top : "", sizeof disk->job.top);
    qemu_relock();
    disk->job.late_us = fiber_chance(30) ? (int64_t)fiber_below(50000) : 0;
    fiber_start(P_QEMU, "job", type == HV_JOB_COMMIT ? internal_commit : mirror, disk);
}
