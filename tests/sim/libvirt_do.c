/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "libvirt.h"

#include <string.h>

bool
libvirt_sees_vm(void)
{
    return vm.runs && !vm.lost;
}

bool
libvirt_needs_running(GError **error)
{
    return libvirt_sees_vm() || error_set(error, ERR_HYPERVISOR, "domain is not running");
}

void
libvirt_save_status(SimDisk *disk)
{
    View *from = &disk->live, *to = &disk->status;

    if (vm.passed_left)
        vm.left_nodes = vm.passed_left = false;

    if (to->backing != NULL)
        g_ptr_array_unref(to->backing);
    *to = *from;
    to->backing = libvirt_copy_backing(from->backing);
}

void
libvirt_show_graph(SimDisk *disk)
{
    View *view = &disk->live;

    g_strlcpy(view->source, ((Node *)disk->graph->pdata[0])->path, sizeof view->source);
    if (view->backing != NULL)
        g_ptr_array_unref(view->backing);
    view->backing = g_ptr_array_new_with_free_func(g_free);
    for (guint i = 1; i < disk->graph->len; i++)
        g_ptr_array_add(view->backing, g_strdup(((Node *)disk->graph->pdata[i])->path));
}

bool
libvirt_keeps_mirror(const SimDisk *disk)
{
    return strcmp(disk->live.mirror_ready, "pivot") == 0 ||
           strcmp(disk->live.mirror_ready, "abort") == 0;
}

void
libvirt_show_no_mirror(SimDisk *disk)
{
    *disk->live.mirror_job = *disk->live.mirror_path = *disk->live.mirror_ready = '\0';
}

/* A snapshot puts the overlay on top of what the definition said before. */
static void
define_overlay(SimDisk *disk, const char *overlay)
{
    GPtrArray *backing = libvirt_copy_backing(disk->defined_backing);

    g_ptr_array_insert(backing, 0, g_strdup(disk->defined));
    libvirt_define(disk, overlay, backing);
}

/* Where the definition names the chain down to the base of an active commit it goes on to name what
 * it named below; to be asked before the views follow. *ret_names: is it so? */
static GPtrArray *
defined_below(const SimDisk *disk, bool *ret_names)
{
    GPtrArray *below = NULL;
    bool same = strcmp(disk->defined, disk->live.source) == 0;

    *ret_names = false;
    for (guint i = 0; same && disk->defined_backing != NULL && i < disk->defined_backing->len;
         i++) {
        const char *path = disk->defined_backing->pdata[i];
        if (*ret_names) {
            if (below == NULL)
                below = g_ptr_array_new_with_free_func(g_free);
            g_ptr_array_add(below, g_strdup(path));
            continue;
        }
        same = i < disk->live.backing->len && strcmp(path, disk->live.backing->pdata[i]) == 0;
        *ret_names = same && strcmp(path, disk->job.base) == 0;
    }
    return below;
}

/* What libvirt has found out by itself is not written into a definition; what it has read in its
 * status file is taken for said by the user. A copy of a leaf that stood on nothing ends the chain,
 * whatever its header says. */
static GPtrArray *
backing_after_pivot(SimDisk *disk, HvJobType type)
{
    if (disk->job.alone)
        return g_ptr_array_new_with_free_func(g_free);
    if (type == HV_JOB_COPY)
        disk->live_is_read = disk->mirror_is_read;
    return disk->live_is_read && disk->live.backing->len > 0
               ? libvirt_copy_backing(disk->live.backing)
               : NULL;
}

/* After a commit the definition follows if it names all layers down to the base; else it says
 * nothing of them any more. */
static GPtrArray *
backing_after_commit(const SimDisk *disk)
{
    GPtrArray *kept = g_ptr_array_new_with_free_func(g_free);
    bool to_base = false;

    for (guint i = 0; disk->defined_backing != NULL && i < disk->defined_backing->len; i++) {
        const char *path = disk->defined_backing->pdata[i];
        to_base |= strcmp(path, disk->job.base) == 0;
        if (g_ptr_array_find_with_equal_func(disk->live.backing, path, g_str_equal, NULL))
            g_ptr_array_add(kept, g_strdup(path));
    }
    if (!to_base)
        g_clear_pointer(&kept, g_ptr_array_unref);
    return kept;
}

/* What it takes for the graph after a pivot onto that file. */
static void
show_pivoted(SimDisk *disk)
{
    View *view = &disk->live;
    guint at = 0;

    libvirt_show_graph(disk);
    if (disk->job.type != HV_JOB_ACTIVE_COMMIT || strcmp(view->source, disk->job.base) == 0 ||
        !g_ptr_array_find_with_equal_func(view->backing, disk->job.base, g_str_equal, &at))
        return;
    g_strlcpy(view->source, disk->job.base, sizeof view->source);
    g_ptr_array_remove_range(view->backing, 0, at + 1);
}

/* What the definition says below the new leaf, or the same leaf; the views follow. */
static GPtrArray *
follow(SimDisk *disk)
{
    HvJobType type = disk->job.type;
    bool names = false;
    GPtrArray *below = type == HV_JOB_ACTIVE_COMMIT ? defined_below(disk, &names) : NULL;

    show_pivoted(disk);
    if (names)
        return below;
    return type == HV_JOB_COMMIT ? backing_after_commit(disk) : backing_after_pivot(disk, type);
}

/* ---- how a job has ended: told, and written into the definition ---- */

static void
forget_notes(SimDisk *disk)
{
    g_clear_pointer(&disk->notes.backing, g_ptr_array_unref);
    memset(&disk->notes, 0, sizeof disk->notes);
}

void
libvirt_forget_notes(void)
{
    for (unsigned i = 0; i < MAX_DISKS; i++)
        forget_notes(&vm.disks[i]);
}

static void
take_notes(SimDisk *disk, HvJobStatus status, GPtrArray *backing)
{
    forget_notes(disk);
    disk->noted = disk->job.number;
    disk->notes = (Notes){ .there = true, .status = status, .backing = backing };
    if (disk->job.type != HV_JOB_COMMIT)
        g_strlcpy(disk->notes.source, disk->live.source, sizeof disk->notes.source);
}

static void
tell_notes(SimDisk *disk)
{
    if (!disk->notes.there || disk->notes.told)
        return;
    disk->notes.told = true;
    libvirt_send(HV_EVENT_BLOCK_JOB, disk->target, disk->notes.status);
}

static void
define_notes(SimDisk *disk)
{
    Notes *notes = &disk->notes;

    if (notes->there)
        libvirt_define(disk, *notes->source != '\0' ? notes->source : disk->defined,
                       g_steal_pointer(&notes->backing));
    forget_notes(disk);
}

/* It is still the QEMU whose job has ended. */
static bool
conclude_point(SimDisk *disk, unsigned life, const char *what)
{
    fiber_point(what);
    if (vm.runs && vm.life == life)
        return true;
    disk->noting = false;
    return false;
}

/* One that was cancelled when it was ready ends like one that was pivoted: QEMU says "concluded",
 * without an error. What libvirtd was asked, it knows; the next one does not (H10). It tells of a
 * copy that it has completed, too, but knows that it did not pivot. One that was not ready has
 * failed for it. */
static HvJobStatus
outcome_to_tell(const Job *job)
{
    if (job->outcome != HV_JOB_CANCELED || job->cancel_is_known)
        return job->outcome;
    return job->type != HV_JOB_COMMIT && job->was_ready ? HV_JOB_COMPLETED : HV_JOB_FAILED;
}

/* libvirt knows of a job that has ended: it is dismissed, the views follow, then the event is sent,
 * and then status and definition are saved. libvirtd can be killed between any two of them. */
void
libvirt_conclude_job(SimDisk *disk)
{
    HvJobType type = disk->job.type;
    HvJobStatus told = outcome_to_tell(&disk->job);
    HvJobStatus outcome = type == HV_JOB_ACTIVE_COMMIT ? told : disk->job.outcome;
    unsigned life = vm.life;
    bool lost_mirror = *disk->live.mirror_path == '\0', completed = outcome == HV_JOB_COMPLETED;

    if (type == HV_JOB_NONE || disk->job.state != JOB_CONCLUDED || disk->concluding)
        return;
    disk->concluding = disk->noting = true;
    libvirt_show_no_mirror(disk);
    if (completed) {
        GPtrArray *backing = follow(disk);
        take_notes(disk, told, backing);
    }
    if ((plan.lies & LIE_LOSES_VM) != 0 && type != HV_JOB_COMMIT && !lost_mirror) {
        if ((plan.lies & LIE_FORGETS) != 0)
            qemu_dismiss(disk);
        *disk->status.mirror_job = '\0'; /* see libvirtd.c */
        if (!conclude_point(disk, life, "libvirt saves a status that it cannot read"))
            return;
    }
    if ((plan.lies & LIE_FORGETS) != 0)
        qemu_dismiss(disk);
    if (!conclude_point(disk, life, "libvirt saves its status"))
        return;
    if (type == HV_JOB_ACTIVE_COMMIT && !completed && lost_mirror) {
        qemu_dismiss(disk);
        libvirtd_crashed();
        return;
    }
    if (completed)
        tell_notes(disk);
    else
        libvirt_send(HV_EVENT_BLOCK_JOB, disk->target, told);
    disk->live.job_is_new = disk->live.job_is_ready = disk->live.job_aborts = false;
    libvirt_save_status(disk);
    qemu_dismiss(disk);
    qemu_close_left(disk);
    disk->concluding = false;
    fiber_point("libvirt saves the definition");
    disk->noting = false;
    define_notes(disk);
}

typedef struct {
    SimDisk *disk;
    HvJobStatus status;
    unsigned life;
} JobEvent;

static void
handle_job_event(void *data)
{
    JobEvent *event = data;
    SimDisk *disk = event->disk;

    fiber_sleep_us(200 + (int64_t)fiber_below(5000)); /* libvirt lags */
    if (!vm.runs || vm.life != event->life)
        return;
    if (event->status != HV_JOB_READY) {
        libvirt_conclude_job(disk);
    } else if (disk->job.state == JOB_READY) {
        if (*disk->live.mirror_path != '\0')
            g_strlcpy(disk->live.mirror_ready, "yes", sizeof disk->live.mirror_ready);
        disk->live.job_is_new = false;
        disk->live.job_is_ready = true;
        libvirt_save_status(disk);
        libvirt_send(HV_EVENT_BLOCK_JOB, disk->target, HV_JOB_READY);
    }
}

void
libvirt_job_event(SimDisk *disk, HvJobStatus status)
{
    if (!vm.libvirtd)
        return;
    JobEvent *event = g_new0(JobEvent, 1);
    *event = (JobEvent){ disk, status, vm.life };
    fiber_start(P_LIBVIRTD, "job event", handle_job_event, event);
}

/* It goes on with what it has begun to note before it looks at why QEMU is gone. */
void
libvirt_vm_stopped(void)
{
    for (unsigned i = 0; i < vm.n_disks; i++) {
        tell_notes(&vm.disks[i]);
        define_notes(&vm.disks[i]);
        libvirt_show_no_mirror(&vm.disks[i]);
        vm.disks[i].concluding = vm.disks[i].noting = false;
        vm.disks[i].live.job_is_new = vm.disks[i].live.job_is_ready = false;
        vm.disks[i].live.job_aborts = false;
    }
    libvirt_send(HV_EVENT_DOMAIN, NULL, 0);
}

/* Those that an earlier libvirtd left in QEMU have the names that it gives to the next ones, once;
 * but until it saves its status, the next libvirtd will do it again. */
static bool
add_nodes(GError **error)
{
    if (vm.left_nodes && !vm.passed_left) {
        vm.passed_left = true;
        return error_set(error, ERR_HYPERVISOR, "Duplicate nodes with node-name");
    }
    vm.adds_nodes = true;
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

/* An end of a job that it takes for under way for ever, see libvirtd.c */
static bool
lost_end(const SimDisk *disk)
{
    return disk->job.type == HV_JOB_NONE && libvirt_keeps_mirror(disk);
}

/* One that it was killed in the begin of, and whose mirror it does not know, is none for it. */
static bool
knows_job(const SimDisk *disk)
{
    return disk->job.type != HV_JOB_NONE &&
           (!disk->live.job_is_new || *disk->live.mirror_path != '\0');
}

static bool
check_job(SimDisk *disk, const Call *call, GError **error)
{
    /* what it looks at first depends */
    bool files_first =
        call->type == HV_JOB_ACTIVE_COMMIT || (call->type == HV_JOB_COMMIT && fiber_chance(50));

    if (files_first && !check_files(disk, call, error))
        return false;
    if (disk->concluding || lost_end(disk) || knows_job(disk))
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
    return call->type != HV_JOB_COPY || add_nodes(error);
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
    disk->live.job_is_ready = disk->live.job_aborts = false;
    libvirt_save_status(disk);
    fiber_point("libvirt has saved its status");
    if (!libvirt_needs_running(error))
        return false;
    qemu_job_start(disk, call->type, call->base, call->top);
    disk->job.bandwidth = call->bandwidth;
    vm.adds_nodes = false;
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

static bool
op_commit_start(Hypervisor *hv, const char *vm_id, const char *target, const char *base,
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

static bool
op_copy_start(Hypervisor *hv, const char *vm_id, const char *target, const char *dest, bool shallow,
              uint64_t bandwidth, GError **error)
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

static bool
op_set_bandwidth(Hypervisor *hv, const char *vm_id, const char *target, uint64_t bandwidth,
                 GError **error)
{
    SimDisk *disk = find_disk(target, error);

    (void)vm_id;
    return disk != NULL &&
           libvirt_do((Client *)hv, "set speed",
                      &(Call){ .func = do_set_bandwidth, .disk = disk, .bandwidth = bandwidth },
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

static bool
op_cancel(Hypervisor *hv, const char *vm_id, const char *target, GError **error)
{
    SimDisk *disk = find_disk(target, error);
    g_autoptr(GError) why = NULL;
    HvJob job = { 0 };

    if (disk == NULL)
        return false;
    if (libvirt_do((Client *)hv, "cancel the job", &(Call){ .func = do_cancel, .disk = disk },
                   &why))
        return true;
    if (hv->ops->job_look(hv, vm_id, target, &job, NULL) && job.type == HV_JOB_NONE)
        return true; /* as jobs.c */
    g_propagate_error(error, g_steal_pointer(&why));
    return false;
}

/* What the new leaf stands on is opened only now. */
static bool
open_below(const SimDisk *disk, GError **error)
{
    if (!add_nodes(error))
        return false;
    if (disk->job.type != HV_JOB_COPY || disk->job.alone || qemu_can_open_below(disk->job.base))
        return true;
    vm.adds_nodes = false;
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
    if (*disk->live.mirror_path != '\0')
        g_strlcpy(disk->live.mirror_ready, "pivot", sizeof disk->live.mirror_ready);
    libvirt_save_status(disk);
    vm.adds_nodes = false;
    fiber_point("libvirt pivots");
    if (job->number != number)
        return error_set(error, ERR_HYPERVISOR, "the block job is gone");
    job->pivot = true;
    fiber_wake(job, true);
    if (!end_of_job(disk, number, life, error))
        return false;
    fiber_point("libvirt has pivoted");
    return true;
}

static bool
op_pivot(Hypervisor *hv, const char *vm_id, const char *target, GError **error)
{
    SimDisk *disk = find_disk(target, error);

    (void)vm_id;
    mutant_before_pivot();
    return disk != NULL &&
           libvirt_do((Client *)hv, "pivot", &(Call){ .func = do_pivot, .disk = disk }, error);
}

static bool
do_suspend(Call *call, GError **error)
{
    (void)call;
    if (!libvirt_needs_running(error))
        return false;
    if (plan.mutant != MUTANT_NO_SUSPEND && plan.mutant != MUTANT_TALK)
        qemu_suspend();
    fiber_point("the VM is suspended");
    libvirt_send(HV_EVENT_DOMAIN, NULL, 0);
    return true;
}

static bool
op_suspend(Hypervisor *hv, const char *vm_id, GError **error)
{
    (void)vm_id;
    return libvirt_do((Client *)hv, "suspend", &(Call){ .func = do_suspend }, error);
}

static bool
do_resume(Call *call, GError **error)
{
    (void)call;
    if (!libvirt_needs_running(error))
        return false;
    if (vm.user_paused && vm.paused)
        world_wrong("a VM that its user had suspended was resumed");
    qemu_resume();
    fiber_point("the VM is resumed");
    libvirt_send(HV_EVENT_DOMAIN, NULL, 0);
    return true;
}

static bool
op_resume(Hypervisor *hv, const char *vm_id, GError **error)
{
    (void)vm_id;
    return libvirt_do((Client *)hv, "resume", &(Call){ .func = do_resume }, error);
}

/* Of a VM that is off only the definition changes. */
static bool
snapshot_off(const Call *call, GError **error)
{
    for (unsigned i = 0; i < call->n; i++)
        if (vfs_find(call->disks[i].overlay) == NULL)
            return error_set(error, ERR_HYPERVISOR, "missing existing file");
    for (unsigned i = 0; i < call->n; i++)
        libvirt_define(qemu_disk(call->disks[i].target), call->disks[i].overlay, NULL);
    return true;
}

static bool
switch_disks(Call *call, GError **error)
{
    unsigned life = vm.life;

    for (unsigned i = 0; i < call->n; i++) {
        SimDisk *disk = qemu_disk(call->disks[i].target);
        if (disk == NULL || vfs_find(call->disks[i].overlay) == NULL)
            return error_set(error, ERR_HYPERVISOR, "missing existing file");
        if (lost_end(disk))
            return error_set(error, ERR_BUSY, "disk already in active block job");
        if (disk->job.type != HV_JOB_NONE) /* else QEMU refuses */
            return error_set(error, knows_job(disk) ? ERR_BUSY : ERR_HYPERVISOR,
                             "disk already in active block job");
        if (strcmp(((Node *)disk->graph->pdata[0])->path, disk->live.source) != 0)
            return error_set(error, ERR_HYPERVISOR, "Duplicate nodes");
    }
    if (!add_nodes(error))
        return false;
    if (!qemu_snapshot(call->disks, call->n))
        return error_set(error, ERR_HYPERVISOR, "the transaction failed");
    vm.adds_nodes = false;
    for (unsigned i = 0; i < vm.n_disks; i++)
        memcpy(vm.disks[i].content[NEW_SNAPSHOT], vm.disks[i].acked, sizeof vm.disks[i].acked);
    fiber_point("QEMU has switched to the overlays");
    if (!vm.runs || vm.life != life)
        return error_set(error, ERR_HYPERVISOR, "domain is not running");
    for (unsigned i = 0; i < call->n; i++) {
        libvirt_show_graph(qemu_disk(call->disks[i].target));
        libvirt_save_status(qemu_disk(call->disks[i].target));
    }
    fiber_point("libvirt saves the definition");
    for (unsigned i = 0; i < call->n; i++)
        define_overlay(qemu_disk(call->disks[i].target), call->disks[i].overlay);
    return true;
}

static bool
do_snapshot(Call *call, GError **error)
{
    if (!libvirt_sees_vm())
        return call->memory == NULL
                   ? snapshot_off(call, error)
                   : error_set(error, ERR_HYPERVISOR, "memory cannot be saved while it is off");
    return call->memory != NULL ? libvirt_with_memory(call, switch_disks, error)
                                : switch_disks(call, error);
}

static bool
op_snapshot(Hypervisor *hv, const char *vm_id, const HvSnapshotDisk *disks, unsigned n,
            const char *memory, GError **error)
{
    HvSnapshotDisk *copy = g_new0(HvSnapshotDisk, n);
    unsigned kept = 0;

    (void)vm_id;
    for (unsigned i = 0; i < n; i++)
        if (disks[i].overlay != NULL)
            copy[kept++] =
                (HvSnapshotDisk){ g_strdup(disks[i].target), g_strdup(disks[i].overlay) };
    return libvirt_do(
        (Client *)hv, "snapshot",
        &(Call){ .func = do_snapshot, .disks = copy, .n = kept, .memory = g_strdup(memory) },
        error);
}

static bool
op_freeze(Hypervisor *hv, const char *vm_id, unsigned budget_s, GError **error)
{
    (void)hv;
    (void)vm_id;
    (void)budget_s;
    return error_set(error, ERR_HYPERVISOR, "there is no guest agent");
}

const HypervisorOps libvirt_doing = {
    .snapshot = op_snapshot,
    .freeze = op_freeze,
    .thaw = op_freeze,
    .commit_start = op_commit_start,
    .copy_start = op_copy_start,
    .job_set_bandwidth = op_set_bandwidth,
    .job_cancel = op_cancel,
    .job_pivot = op_pivot,
    .suspend = op_suspend,
    .resume = op_resume,
    .start = libvirt_op_start,
    .restore = libvirt_op_restore,
    .power = libvirt_op_power,
    .clone = libvirt_op_clone,
    .undefine = libvirt_op_undefine,
    .redefine = libvirt_op_redefine,
    .reconfigure = libvirt_op_reconfigure,
    .rename = libvirt_op_rename,
    .describe = libvirt_op_describe,
};
