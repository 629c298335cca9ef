/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * The one VM of fake_hypervisor.h, and how libvirt shows it.
 */
#pragma once

#include "../lib/image_tools.h"
#include "hypervisor/hypervisor.h"

#define FAKE_VM "11111111-2222-3333-4444-555555555555"
#ifndef FAKE_DISKS
#define FAKE_DISKS 2
#endif

typedef struct {
    char target[4];
    char *live;   /* the leaf of the running VM */
    char *stored; /* the leaf in the definition */
    HvJobType job;
    char *base, *top, *dest; /* of the job; paths */
    unsigned looks;
    uint64_t bandwidth;       /* of the job */
    const char *lists;        /* libvirt, below the leaf of the running VM; the headers do not */
    const char *hides;        /* where an internal job's top goes at its end; NULL = it stays */
    bool spoils;              /* what an internal job has merged is not what it should be */
    const char *mirror_ready; /* of an active job: "yes", or what a test wants libvirt to show */
    char *shown; /* what libvirt takes for the leaf of the running VM; NULL = it knows */
} FakeDisk;

typedef struct {
    Hypervisor hv;
    GMutex lock;
    bool running, paused, away, transient;
    bool gone;             /* no such VM */
    bool saved;            /* memory, while it is off */
    bool dies_after_power; /* libvirtd goes away when it has done what was asked */
    bool dies_after_list;
    unsigned dies_after_looks; /* at the first VM; 0 = never */
    GString *powers;           /* NULL, or takes a word for each start and power */
    const char *io_error;      /* why QEMU has paused it: "enospc"; NULL = it has not */
    unsigned instance, suspends, resumes, pivots, cancels, snapshots, redefines;
    ErrorCode refuse_snapshot; /* the switch is refused; 0 = not */
    unsigned refuse_redefines; /* so many times */
    bool dies_in_pivot;
    bool lost;             /* libvirt takes it for off, and look() has found its QEMU */
    bool dies_in_snapshot; /* libvirtd goes away in the call */
    bool dies_in_cancel;   /* the same, and takes the job for pivoted when it is back */
    bool endless;          /* internal jobs do not end, active ones are never ready */
    bool refuse_configs;   /* libvirt does not take what was */
    char *config;          /* what the definition went back to last; NULL = never */
    char restored[256];    /* the memory that it went on from last; "" = none */
    FakeDisk disks[FAKE_DISKS];
    /* a VM that was made out of it; NULL = none */
    char *clone, *clone_name, *clone_leaves[FAKE_DISKS];
    bool clone_runs;
    bool removed;           /* the first one was */
    bool dies_after_define; /* libvirtd goes away when it has defined, or undefined, a VM */
    bool guest_agent;       /* it answers */
    const char *guest_says; /* what the guest calls itself; NULL = it does not answer to that */
    unsigned guest_asked;   /* how often */
    bool guest_hangs;       /* it answers to that when it does not any more */
    bool frozen, deaf;   /* the file systems; deaf: it does what it is asked and does not say so */
    bool dies_in_freeze; /* libvirtd goes away when it is done */
    unsigned freezes, thaws;
    bool was_frozen; /* in the last snapshot */
    /* the guest reboots as it has been frozen, or before the switch, and its agent is gone */
    bool reboots_frozen, reboots_in_snapshot, gap_in_snapshot;
    HvEventFunc tell; /* of that; NULL = nobody hears of it */
    void *tell_data;
    const char *foreign_job; /* NULL = none */
    char called[64];         /* "" = web1 */
    char description[64], title[64];
} Fake;

static inline FakeDisk *
fake_disk(Fake *fake, const char *target)
{
    for (unsigned i = 0; i < FAKE_DISKS; i++)
        if (strcmp(fake->disks[i].target, target) == 0)
            return &fake->disks[i];
    g_assert_not_reached();
}

static inline void
fake_set(char **at, const char *text)
{
    g_free(*at);
    *at = g_strdup(text);
}

static inline void
fake_job_clear(FakeDisk *disk)
{
    disk->job = HV_JOB_NONE;
    g_clear_pointer(&disk->base, g_free);
    g_clear_pointer(&disk->top, g_free);
    g_clear_pointer(&disk->dest, g_free);
    disk->mirror_ready = NULL;
}

/* The power goes, or the QEMU does. */
static inline void
fake_power_off(Fake *fake)
{
    fake->running = fake->paused = fake->frozen = false;
    for (unsigned i = 0; i < FAKE_DISKS; i++) {
        fake_job_clear(&fake->disks[i]);
        g_clear_pointer(&fake->disks[i].shown, g_free);
    }
}

static inline void
fake_power_on(Fake *fake)
{
    fake->running = true;
    fake->instance++;
    for (unsigned i = 0; i < FAKE_DISKS; i++)
        fake_set(&fake->disks[i].live, fake->disks[i].stored);
}

#define FAKE_ENTER(result)                                               \
    Fake *fake = (Fake *)hv;                                             \
    WITH_LOCK(&fake->lock);                                              \
    if (fake->away) {                                                    \
        error_set(error, ERR_UNREACHABLE, "the test's libvirt is away"); \
        return result;                                                   \
    }                                                                    \
    if (fake->gone) {                                                    \
        error_set(error, ERR_NOT_FOUND, "no domain");                    \
        return result;                                                   \
    }

static inline void
fake_free(Hypervisor *hv)
{
}

static inline bool
fake_is_connected(Hypervisor *hv)
{
    Fake *fake = (Fake *)hv;
    WITH_LOCK(&fake->lock);

    return !fake->away;
}

static inline char **
fake_list(Hypervisor *hv, GError **error)
{
    FAKE_ENTER(NULL)
    const char *const ids[] = { fake->removed ? fake->clone : FAKE_VM,
                                fake->removed ? NULL : fake->clone, NULL };

    fake->away = fake->dies_after_list;
    return g_strdupv((char **)ids);
}

static inline HvDisk *
fake_hv_disk(const FakeDisk *disk, const char *source, bool live)
{
    HvDisk *d = g_new0(HvDisk, 1);

    d->target = g_strdup(disk->target);
    d->bus = g_strdup("virtio");
    d->device = g_strdup("disk");
    d->type = g_strdup("file");
    d->format = g_strdup("qcow2");
    d->source = g_strdup(source);
    if (live && disk->shown != NULL) {
        d->hidden_leaf = g_steal_pointer(&d->source);
        d->source = g_strdup(disk->shown);
    }
    if (live && disk->lists != NULL) {
        d->backing = g_ptr_array_new_with_free_func(g_free);
        g_ptr_array_add(d->backing, g_strdup(disk->lists));
    }
    if (live && (disk->job == HV_JOB_ACTIVE_COMMIT || disk->job == HV_JOB_COPY)) {
        d->mirror_job = g_strdup(disk->job == HV_JOB_COPY ? "copy" : "active-commit");
        d->mirror_path = g_strdup(disk->dest != NULL ? disk->dest : disk->base);
        d->mirror_ready = g_strdup(disk->mirror_ready);
    }
    return d;
}

static inline HvDomain *
fake_look_at_clone(const Fake *fake)
{
    HvDomain *domain = hv_domain_new();

    domain->id = g_strdup(fake->clone);
    domain->name = g_strdup(fake->clone_name);
    domain->state = fake->clone_runs ? VM_UP : VM_DOWN;
    domain->instance = fake->clone_runs ? g_strdup("2000.7") : NULL;
    domain->persistent = true;
    domain->disks = g_ptr_array_new_with_free_func((GDestroyNotify)hv_disk_free);
    domain->inactive = g_ptr_array_new_with_free_func((GDestroyNotify)hv_disk_free);
    for (unsigned i = 0; i < FAKE_DISKS; i++) {
        const FakeDisk *disk = &fake->disks[i];
        if (fake->clone_leaves[i] == NULL)
            continue;
        g_ptr_array_add(domain->disks, fake_hv_disk(disk, fake->clone_leaves[i], false));
        g_ptr_array_add(domain->inactive, fake_hv_disk(disk, fake->clone_leaves[i], false));
    }
    return domain;
}

static inline HvDomain *
fake_look(Hypervisor *hv, const char *vm_id, GError **error)
{
    Fake *fake = (Fake *)hv;
    WITH_LOCK(&fake->lock);
    if (fake->away) {
        error_set(error, ERR_UNREACHABLE, "the test's libvirt is away");
        return NULL;
    }
    if (fake->clone != NULL && strcmp(vm_id, fake->clone) == 0)
        return fake_look_at_clone(fake);
    if (fake->gone || fake->removed || strcmp(vm_id, FAKE_VM) != 0) {
        error_set(error, ERR_NOT_FOUND, "no domain %s", vm_id);
        return NULL;
    }
    HvDomain *domain = hv_domain_new();
    bool live = fake->running && !fake->lost;
    fake->away = fake->dies_after_looks > 0 && --fake->dies_after_looks == 0;

    domain->id = g_strdup(vm_id);
    domain->name = g_strdup(*fake->called != '\0' ? fake->called : "web1");
    domain->description = g_strdup(fake->description);
    domain->title = g_strdup(fake->title);
    domain->agent_connected = fake->guest_agent && fake->running;
    domain->foreign_job = fake->running ? g_strdup(fake->foreign_job) : NULL;
    domain->state = !fake->running ? VM_DOWN : fake->paused ? VM_PAUSED : VM_UP;
    domain->state_detail = fake->paused ? g_strdup(fake->io_error) : NULL;
    domain->persistent = true;
    domain->has_managed_save = fake->saved && !fake->running;
    if (domain->has_managed_save)
        domain->state = VM_SUSPENDED;
    if (fake->lost)
        domain->state = VM_UNKNOWN;
    else if (fake->running)
        domain->instance = g_strdup_printf("%u.7", 1000 + fake->instance);
    domain->xml = g_strdup("<domain/>");
    domain->inactive_xml = g_strdup(fake->config != NULL ? fake->config : "<domain/>");
    g_clear_pointer(&domain->disks, g_ptr_array_unref);
    g_clear_pointer(&domain->inactive, g_ptr_array_unref);
    domain->disks = g_ptr_array_new_with_free_func((GDestroyNotify)hv_disk_free);
    domain->inactive = g_ptr_array_new_with_free_func((GDestroyNotify)hv_disk_free);
    for (unsigned i = 0; i < FAKE_DISKS; i++) {
        FakeDisk *disk = &fake->disks[i];
        g_ptr_array_add(domain->disks, fake_hv_disk(disk, live ? disk->live : disk->stored, live));
        g_ptr_array_add(domain->inactive, fake_hv_disk(disk, disk->stored, false));
    }
    return domain;
}
