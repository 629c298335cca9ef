/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * The block jobs of fake_hypervisor.h, which do what they say by qemu-img.
 */
#pragma once

#include "fake_vm.h"

static inline bool
fake_commit_start(Hypervisor *hv, const char *vm_id, const char *target, const char *base,
                  const char *top, uint64_t bandwidth, GError **error)
{
    FAKE_ENTER(false)
    FakeDisk *disk = fake_disk(fake, target);

    if (!fake->running)
        return error_set(error, ERR_HYPERVISOR, "the domain is not running");
    if (disk->job != HV_JOB_NONE)
        return error_set(error, ERR_BUSY, "disk %s has a job", target);
    disk->job = top != NULL ? HV_JOB_COMMIT : HV_JOB_ACTIVE_COMMIT;
    disk->mirror_ready = "yes";
    disk->looks = 0;
    disk->bandwidth = bandwidth;
    fake_set(&disk->base, base);
    fake_set(&disk->top, top != NULL ? top : disk->live);
    return true;
}

static inline bool
fake_copy_start(Hypervisor *hv, const char *vm_id, const char *target, const char *dest,
                bool shallow, uint64_t bandwidth, GError **error)
{
    FAKE_ENTER(false)
    FakeDisk *disk = fake_disk(fake, target);

    if (!fake->running)
        return error_set(error, ERR_HYPERVISOR, "the domain is not running");
    if (disk->job != HV_JOB_NONE)
        return error_set(error, ERR_BUSY, "disk %s has a job", target);
    disk->job = HV_JOB_COPY;
    disk->mirror_ready = "yes";
    fake_set(&disk->dest, dest);
    return true;
}

/* The volume above top gets base as its backing file, as QEMU does at the end of an internal job.
 */
static inline void
fake_end_commit(FakeDisk *disk)
{
    g_autoptr(GError) error = NULL;
    g_autoptr(GPtrArray) layers = qcow2_chain_walk(disk->live, "qcow2", NULL, &error);
    g_autofree char *name = g_path_get_basename(disk->base);

    g_assert_no_error(error);
    MUST("/", "qemu-img commit -q -d -b %s %s", disk->base, disk->top);
    if (disk->spoils)
        MUST("/", "qemu-io -f qcow2 -c 'write -P 200 4k 1k' %s", disk->base);
    for (guint i = 1; i < layers->len; i++)
        if (strcmp(((Qcow2Layer *)layers->pdata[i - 1])->path, disk->top) == 0)
            MUST("/", "qemu-img rebase -q -u -b %s -F qcow2 %s", name,
                 ((Qcow2Layer *)layers->pdata[i])->path);
    if (disk->hides != NULL)
        MUST("/", "mv %s %s", disk->top, disk->hides);
    fake_job_clear(disk);
}

static inline bool
fake_job_look(Hypervisor *hv, const char *vm_id, const char *target, HvJob *ret_job, GError **error)
{
    FAKE_ENTER(false)
    FakeDisk *disk = fake_disk(fake, target);

    bool held = disk->bandwidth == 1; /* a byte a second */
    if (disk->job == HV_JOB_COMMIT && disk->looks++ > 0 && !fake->endless && !held)
        fake_end_commit(disk);
    *ret_job = (HvJob){ .type = disk->job,
                        .current = fake->endless ? 4096 : 65536,
                        .end = 65536,
                        .bandwidth = disk->bandwidth };
    return true;
}

static inline bool
fake_job_set_bandwidth(Hypervisor *hv, const char *vm_id, const char *disk, uint64_t bandwidth,
                       GError **error)
{
    FAKE_ENTER(false)
    fake_disk(fake, disk)->bandwidth = bandwidth;
    return true;
}

static inline bool
fake_job_cancel(Hypervisor *hv, const char *vm_id, const char *target, GError **error)
{
    FAKE_ENTER(false)
    FakeDisk *disk = fake_disk(fake, target);

    fake->cancels++;
    if (fake->dies_in_cancel) {
        fake->away = true;
        fake_set(&disk->shown, disk->base);
        fake_set(&disk->stored, disk->base);
    }
    fake_job_clear(disk);
    return !fake->away || error_set(error, ERR_UNREACHABLE, "the connection is lost");
}

static inline bool
fake_job_pivot(Hypervisor *hv, const char *vm_id, const char *target, GError **error)
{
    FAKE_ENTER(false)
    FakeDisk *disk = fake_disk(fake, target);

    if (!fake->running || (disk->job != HV_JOB_ACTIVE_COMMIT && disk->job != HV_JOB_COPY))
        return error_set(error, ERR_HYPERVISOR, "no job to pivot");
    if (fake->dies_in_pivot) {
        fake->away = true;
        return error_set(error, ERR_UNREACHABLE, "the connection is lost");
    }
    fake->pivots++;
    if (disk->job == HV_JOB_COPY)
        MUST("/", "qemu-img convert -n -f qcow2 -O qcow2 %s %s", disk->live, disk->dest);
    else
        MUST("/", "qemu-img commit -q -d -b %s %s", disk->base, disk->live);
    fake_set(&disk->live, disk->job == HV_JOB_COPY ? disk->dest : disk->base);
    fake_set(&disk->stored, disk->live);
    fake_job_clear(disk);
    return true;
}
