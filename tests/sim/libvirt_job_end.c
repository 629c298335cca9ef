/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * How a block job ends for libvirt: what it takes for the chain then, what it tells, and what it
 * writes into the definition.
 */
#include "libvirt.h"

#include <string.h>

#define LATE_US 300000 /* longer than it takes: somebody is to start the VM so soon */

/* ---- what the chain is then ---- */

/* Where the definition names the chain down to the base of an active commit it goes on to name what
 * it named below; to be asked before the views follow. *ret_names: is it so? */
static GPtrArray *
defined_below(const SimDisk *disk, bool *ret_names)
{
    GPtrArray *below = NULL;
    bool same = libvirt_names_leaf(disk);

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
take_notes(SimDisk *disk, HvJobStatus status)
{
    bool defines = libvirt_names_leaf(disk);
    GPtrArray *backing = follow(disk);

    forget_notes(disk);
    disk->noted = disk->job.number;
    disk->notes =
        (Notes){ .there = true, .defines = defines, .status = status, .backing = backing };
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

    if (notes->there && notes->defines)
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

/* A copy that it does not know to have been asked to pivot was cancelled for it, whatever QEMU has
 * done (H2). */
static HvJobStatus
outcome_for_chain(const SimDisk *disk, HvJobStatus told)
{
    const Job *job = &disk->job;

    if (job->type == HV_JOB_COPY && job->outcome == HV_JOB_COMPLETED && !disk->live.job_pivots)
        return HV_JOB_CANCELED;
    return job->type == HV_JOB_ACTIVE_COMMIT ? told : job->outcome;
}

/* A definition that does not name the base of a commit says nothing of what is below the leaf any
 * more; somebody may look before the chain of the VM that runs follows. */
static bool
clear_definition(SimDisk *disk, unsigned life)
{
    GPtrArray *named = disk->defined_backing;

    if (!plan.no_guest || !fiber_chance(30) || named == NULL || !libvirt_names_leaf(disk) ||
        g_ptr_array_find_with_equal_func(named, disk->job.base, g_str_equal, NULL))
        return true;
    libvirt_define(disk, disk->defined, NULL);
    fiber_sleep_us((int64_t)fiber_below(5000));
    return conclude_point(disk, life, "libvirt has cleared the definition");
}

/* The client may have heard of it before it is in the status file. */
static bool
told_point(SimDisk *disk, unsigned life)
{
    if (plan.no_guest && fiber_chance(50))
        fiber_sleep_us((int64_t)fiber_below(2000));
    return conclude_point(disk, life, "libvirt has told of the job's end");
}

/* libvirt knows of a job that has ended: it is dismissed, the views follow, then the event is sent,
 * and then status and definition are saved. libvirtd can be killed between any two of them. */
void
libvirt_conclude_job(SimDisk *disk)
{
    HvJobType type = disk->job.type;
    HvJobStatus told = outcome_to_tell(&disk->job);
    HvJobStatus outcome = outcome_for_chain(disk, told);
    unsigned life = vm.life;
    bool lost_mirror = *disk->live.mirror_path == '\0', completed = outcome == HV_JOB_COMPLETED;

    if (type == HV_JOB_NONE || disk->job.state != JOB_CONCLUDED || disk->concluding)
        return;
    disk->concluding = true;
    if (type == HV_JOB_COMMIT && completed && !clear_definition(disk, life))
        return;
    disk->noting = true;
    libvirt_show_no_mirror(disk);
    if (completed)
        take_notes(disk, told);
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
    if (!told_point(disk, life))
        return;
    disk->live.job_is_new = disk->live.job_is_ready = false;
    disk->live.job_aborts = disk->live.job_pivots = false;
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
        vm.disks[i].live.job_aborts = vm.disks[i].live.job_pivots = false;
    }
    if (vm.found_again)
        vm.late_end_us = fiber_now_us() + LATE_US;
    vm.found_again = false;
    libvirt_send(HV_EVENT_DOMAIN, NULL, 0);
}
