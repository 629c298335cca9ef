/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * Block jobs, as they are asked for: begun, limited, cancelled, pivoted.
 */
#include "libvirt.h"

#include <string.h>

/* Those that an earlier libvirtd left in QEMU have the names that it gives to the next ones, once;
 * but until it saves its status, the next libvirtd will do it again. */
bool
libvirt_add_nodes(unsigned files, GError **error)
{
    if (vm.passed_left < vm.left_nodes) {
        vm.passed_left++;
        return error_set(error, ERR_HYPERVISOR, "Duplicate nodes with node-name");
    }
    vm.adds_nodes = files;
    fiber_point("libvirt has given QEMU the new file");
    return libvirt_needs_running(error);
}

/* How deep libvirt believes this file to be; -1 = not in the chain */
static int
depth_in_view(const View *view, const char *path)
{
    guint i = 0;

    if (strcmp(view->source, path) == 0)
        return 0;
    return g_ptr_array_find_with_equal_func(view->backing, path, g_str_equal, &i) ? (int)i + 1 : -1;
}

static bool
check_files(const SimDisk *disk, const Call *call, GError **error)
{
    if (call->type == HV_JOB_COPY)
        return vfs_find(call->base) != NULL ||
               error_set(error, ERR_HYPERVISOR, "missing existing file");
    int base = depth_in_view(&disk->live, call->base);
    int top = call->top != NULL ? depth_in_view(&disk->live, call->top) : 0;
    if (base < 0 || top < 0)
        return error_set(error, ERR_HYPERVISOR, "could not find image in chain");
    if (call->top != NULL && top == 0)
        return error_set(error, ERR_HYPERVISOR, "active layer requires active flag");
    return base > top || error_set(error, ERR_HYPERVISOR, "base is not below top");
}

bool
libvirt_lost_end(const SimDisk *disk)
{
    return disk->job.type == HV_JOB_NONE && libvirt_keeps_mirror(disk);
}

bool
libvirt_knows_job(const SimDisk *disk)
{
    return disk->job.type != HV_JOB_NONE &&
           (!disk->live.job_is_new || *disk->live.mirror_path != '\0');
}

/* Opened once more by a libvirtd that was killed as it pivoted a copy. */
static bool
is_left_below(SimDisk *disk, const char *base)
{
    const Node *node = graph_find(disk, base, NULL);

    for (unsigned i = 0; node != NULL && i < vm.n_left_below; i++)
        if (vm.left_below[i] == node->image.node)
            return true;
    return false;
}

static bool
check_job(SimDisk *disk, const Call *call, GError **error)
{
    /* what it looks at first depends */
    bool files_first =
        call->type == HV_JOB_ACTIVE_COMMIT || (call->type == HV_JOB_COMMIT && fiber_chance(50));

    if (files_first && !check_files(disk, call, error))
        return false;
    if (disk->concluding || libvirt_lost_end(disk) || libvirt_knows_job(disk))
        return error_set(error, ERR_BUSY, "disk '%s' already in active block job", disk->target);
    if (!check_files(disk, call, error))
        return false;
    if (disk->job.type != HV_JOB_NONE)
        return error_set(error, ERR_HYPERVISOR, "disk '%s' has a blockjob assigned", disk->target);
    const Node *leaf = disk->graph->pdata[0];
    if (strcmp(disk->live.source, leaf->path) != 0 ||
        (call->type != HV_JOB_COPY &&
         (graph_find(disk, call->base, NULL) == NULL ||
          (call->top != NULL && graph_find(disk, call->top, NULL) == NULL))))
        return error_set(error, ERR_HYPERVISOR, "Need a root block node");
    if (call->type != HV_JOB_COPY && is_left_below(disk, call->base))
        return error_set(error, ERR_HYPERVISOR, "Failed to get \"write\" lock");
    return call->type != HV_JOB_COPY || libvirt_add_nodes(1, error);
}

static void
show_mirror(SimDisk *disk, const Call *call)
{
    if (call->type == HV_JOB_COMMIT)
        return;
    disk->mirror_is_read = false;
    g_strlcpy(disk->live.mirror_path, call->base, sizeof disk->live.mirror_path);
    g_strlcpy(disk->live.mirror_job, call->type == HV_JOB_COPY ? "copy" : "active-commit",
              sizeof disk->live.mirror_job);
}

/* The status file knows of the job before QEMU does, and of its mirror only after. */
static bool
do_job(Call *call, GError **error)
{
    SimDisk *disk = call->disk;
    bool early = (plan.lies & LIE_NO_MIRROR) == 0;

    if (!libvirt_needs_running(error) || !check_job(disk, call, error))
        return false;
    if (early)
        show_mirror(disk, call);
    disk->live.job_is_new = true;
    disk->live.job_is_ready = disk->live.job_aborts = disk->live.job_pivots = false;
    libvirt_save_status(disk);
    fiber_point("libvirt has saved its status");
    if (!libvirt_needs_running(error))
        return false;
    qemu_job_start(disk, call->type, call->base, call->top);
    disk->job.bandwidth = call->bandwidth;
    vm.adds_nodes = 0;
    fiber_point("QEMU has started the job");
    if (!early && disk->job.type == call->type)
        show_mirror(disk, call);
    disk->live.job_is_new = false;
    libvirt_save_status(disk);
    fiber_point("libvirt has started the job");
    return true;
}

static SimDisk *
find_disk(const char *target, GError **error)
{
    SimDisk *disk = qemu_disk(target);

    if (disk == NULL)
        error_set(error, ERR_HYPERVISOR, "no disk %s", target);
    return disk;
}

bool
libvirt_op_commit_start(Hypervisor *hv, const char *vm_id, const char *target, const char *base,
                        const char *top, uint64_t bandwidth, GError **error)
{
    SimDisk *disk = find_disk(target, error);

    (void)vm_id;
    return disk != NULL &&
           libvirt_do((Client *)hv, top != NULL ? "commit" : "active commit",
                      &(Call){ .func = do_job,
                               .disk = disk,
                               .type = top != NULL ? HV_JOB_COMMIT : HV_JOB_ACTIVE_COMMIT,
                               .base = g_strdup(base),
                               .top = g_strdup(top),
                               .bandwidth = bandwidth },
                      error);
}

bool
libvirt_op_copy_start(Hypervisor *hv, const char *vm_id, const char *target, const char *dest,
                      bool shallow, uint64_t bandwidth, GError **error)
{
    SimDisk *disk = find_disk(target, error);

    (void)vm_id;
    g_assert(shallow);
    return disk != NULL && libvirt_do((Client *)hv, "copy",
                                      &(Call){ .func = do_job,
                                               .disk = disk,
                                               .type = HV_JOB_COPY,
                                               .base = g_strdup(dest),
                                               .bandwidth = bandwidth },
                                      error);
}

static bool
do_set_bandwidth(Call *call, GError **error)
{
    Job *job = &call->disk->job;

    if (!libvirt_needs_running(error))
        return false;
    if (job->type == HV_JOB_NONE || job->state == JOB_CONCLUDED)
        return error_set(error, ERR_HYPERVISOR, "no active block job");
    job->bandwidth = call->bandwidth;
    job->moved = 0;
    fiber_wake(job, true);
    return true;
}

bool
libvirt_op_set_bandwidth(Hypervisor *hv, const char *vm_id, const char *target, uint64_t bandwidth,
                         GError **error)
{
    SimDisk *disk = find_disk(target, error);

    (void)vm_id;
    return disk != NULL &&
           libvirt_do((Client *)hv, "set speed",
                      &(Call){ .func = do_set_bandwidth, .disk = disk, .bandwidth = bandwidth },
                      error);
}

static bool
do_flush(Call *call, GError **error)
{
    fiber_point("QEMU is asked to flush a volume");
    const Node *node = libvirt_sees_vm() ? graph_find(call->disk, call->base, NULL) : NULL;
    if (node == NULL)
        return error_set(error, ERR_BUSY, "QEMU has no such volume");
    if (node->kept_open)
        image_flush(&node->image);
    return true;
}

bool
libvirt_op_flush(Hypervisor *hv, const char *vm_id, const char *target, const char *path,
                 GError **error)
{
    SimDisk *disk = find_disk(target, error);

    (void)vm_id;
    return disk != NULL &&
           libvirt_do((Client *)hv, "flush",
                      &(Call){ .func = do_flush, .disk = disk, .base = g_strdup(path) }, error);
}

static bool
do_relink(Call *call, GError **error)
{
    fiber_point("QEMU is asked to correct a header");
    guint at = 0;
    const Node *node = libvirt_sees_vm() ? graph_find(call->disk, call->top, &at) : NULL;
    const Node *below =
        node != NULL && at + 1 < call->disk->graph->len ? call->disk->graph->pdata[at + 1] : NULL;
    if (below == NULL || strcmp(below->path, call->base) != 0)
        return error_set(error, ERR_REFUSED, "QEMU does not have %s on %s", call->top, call->base);
    if (call->disk->job.type != HV_JOB_NONE)
        return error_set(error, ERR_BUSY, "block device is in use by block job");
    image_set_backing(&node->image, call->name, below->image.raw);
    return true;
}

bool
libvirt_op_relink(Hypervisor *hv, const char *vm_id, const char *target, const char *path,
                  const char *below, const char *name, GError **error)
{
    SimDisk *disk = find_disk(target, error);

    (void)vm_id;
    return disk != NULL && libvirt_do((Client *)hv, "relink",
                                      &(Call){ .func = do_relink,
                                               .disk = disk,
                                               .top = g_strdup(path),
                                               .base = g_strdup(below),
                                               .name = g_strdup(name) },
                                      error);
}

/* Waits for QEMU to have ended the job, and does what follows. */
static bool
end_of_job(SimDisk *disk, unsigned number, unsigned life, GError **error)
{
    bool forgotten =
        disk->job.type == HV_JOB_ACTIVE_COMMIT && *disk->live.mirror_path == '\0'; /* H11 */

    while (vm.runs && vm.life == life && disk->job.number == number &&
           disk->job.state != JOB_CONCLUDED)
        fiber_wait_on(&disk->job, fiber_now_us() + 1000);
    if (vm.runs && vm.life == life && disk->job.number == number)
        fiber_point("QEMU has told of the job's end");
    if (!vm.runs || vm.life != life) {
        if (disk->concluded != number)
            return error_set(error, ERR_HYPERVISOR, "domain is not running");
        if (forgotten && disk->noted != number) /* it cannot ask how, and takes it for failed */
            libvirtd_crashed();
        return true; /* QEMU had told of the end: no error, whatever it was */
    }
    if (disk->job.number == number)
        libvirt_conclude_job(disk);
    while (disk->concluding && vm.runs && vm.life == life)
        fiber_sleep_us(100);
    return true; /* even if QEMU has died meanwhile */
}

/* The next libvirtd knows it, too; and if it does not find the job, shows its mirror for ever. */
static void
note_abort(SimDisk *disk)
{
    disk->live.job_aborts = true;
    if (*disk->live.mirror_path != '\0')
        g_strlcpy(disk->live.mirror_ready, "abort", sizeof disk->live.mirror_ready);
    libvirt_save_status(disk);
    fiber_point("libvirt has saved that it cancels");
}

static bool
do_cancel(Call *call, GError **error)
{
    SimDisk *disk = call->disk;
    Job *job = &disk->job;
    unsigned number = job->number, life = vm.life;

    if (!libvirt_needs_running(error))
        return false;
    if (job->type == HV_JOB_NONE)
        return error_set(error, ERR_HYPERVISOR, "no active block job");
    job->cancel = job->cancel_is_known = true;
    fiber_wake(job, true);
    fiber_point("libvirt has asked QEMU to cancel");
    if (job->number == number && !disk->concluding)
        note_abort(disk);
    return end_of_job(disk, number, life, error);
}

bool
libvirt_op_cancel(Hypervisor *hv, const char *vm_id, const char *target, GError **error)
{
    SimDisk *disk = find_disk(target, error);
    g_autoptr(GError) why = NULL;
    HvJob job = { 0 };
    bool ran = vm.runs;

    if (disk == NULL)
        return false;
    if (libvirt_do((Client *)hv, "cancel the job", &(Call){ .func = do_cancel, .disk = disk },
                   &why))
        return true;
    /* as jobs.c; but of a QEMU that has just died libvirt does not know what its job is */
    bool known = !ran || vm.runs || !fiber_chance(30);
    if (known && hv->ops->job_look(hv, vm_id, target, &job, NULL) && job.type == HV_JOB_NONE)
        return true;
    g_propagate_error(error, g_steal_pointer(&why));
    return false;
}

/* Only when QEMU has been asked, too. */
static void
note_pivot(SimDisk *disk)
{
    disk->live.job_pivots = true;
    if (*disk->live.mirror_path != '\0')
        g_strlcpy(disk->live.mirror_ready, "pivot", sizeof disk->live.mirror_ready);
    libvirt_save_status(disk);
    fiber_point("libvirt has saved that it pivots");
}

/* What the new leaf stands on is opened only now. */
static bool
open_below(const SimDisk *disk, GError **error)
{
    char broken[128];
    const char *leaf = disk->job.base;
    g_autoptr(GArray) chain = image_chain(leaf, g_str_has_suffix(leaf, ".raw"), broken);
    unsigned below = chain != NULL && !disk->job.alone ? chain->len - 1 : 0;

    vm.n_adds_below = MIN(below, MAX_BELOW);
    for (unsigned i = 0; i < vm.n_adds_below; i++)
        vm.adds_below[i] = g_array_index(chain, Image, chain->len - 1 - i).node;
    bool ok = libvirt_add_nodes(MAX(below, 1), error);
    vm.n_adds_below = 0;
    if (!ok)
        return false;
    if (disk->job.type != HV_JOB_COPY || disk->job.alone || qemu_can_open_below(disk->job.base))
        return true;
    vm.adds_nodes = 0;
    return error_set(error, ERR_HYPERVISOR, "Failed to get shared \"write\" lock");
}

static bool
do_pivot(Call *call, GError **error)
{
    SimDisk *disk = call->disk;
    Job *job = &disk->job;
    unsigned number = job->number, life = vm.life;

    if (!libvirt_needs_running(error))
        return false;
    if (job->type == HV_JOB_NONE)
        return error_set(error, ERR_HYPERVISOR, "no active block job");
    if (!disk->live.job_is_ready || world_lies(LIE_BUSY, 30))
        return error_set(error, ERR_BUSY, "not ready for pivot yet");
    if (*disk->live.mirror_path == '\0' && job->type == HV_JOB_COPY)
        libvirtd_crashed(); /* before QEMU is asked */
    if (job->type == HV_JOB_COPY && !open_below(disk, error))
        return false;
    vm.adds_nodes = 0;
    fiber_point("libvirt pivots");
    if (job->number != number)
        return error_set(error, ERR_HYPERVISOR, "the block job is gone");
    job->pivot = true;
    fiber_wake(job, true);
    if (fiber_chance(50)) /* QEMU may be faster than its answer */
        fiber_point("libvirt has asked QEMU to pivot");
    if (job->number == number && !disk->concluding)
        note_pivot(disk);
    if (!end_of_job(disk, number, life, error))
        return false;
    fiber_point("libvirt has pivoted");
    return true;
}

bool
libvirt_op_pivot(Hypervisor *hv, const char *vm_id, const char *target, GError **error)
{
    SimDisk *disk = find_disk(target, error);

    (void)vm_id;
    mutant_before_pivot();
    return disk != NULL &&
           libvirt_do((Client *)hv, "pivot", &(Call){ .func = do_pivot, .disk = disk }, error);
}
