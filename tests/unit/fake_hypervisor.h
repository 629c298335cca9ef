/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * A hypervisor in memory with one VM, whose disks are real qcow2 files: for tests of the agent. It
 * survives the agents that use it. While "away" is set every call is ERR_UNREACHABLE, which is how
 * a test keeps an agent that it is about to end from going on.
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
    bool reboots_frozen, reboots_in_snapshot;
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
    domain->inactive_xml = g_strdup("<domain/>");
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

static inline bool
fake_foreign_job(Hypervisor *hv, const char *vm_id, char **ret_job, GError **error)
{
    FAKE_ENTER(false)
    *ret_job = g_strdup(fake->foreign_job);
    return true;
}

/* From inside, or by anybody else: the same QEMU. */
static inline void
fake_reboot(Fake *fake)
{
    const HvEvent event = { .kind = HV_EVENT_REBOOT, .vm_id = FAKE_VM };

    fake->frozen = false;
    if (fake->tell != NULL)
        fake->tell(&event, fake->tell_data);
}

static inline bool
fake_snapshot(Hypervisor *hv, const char *vm_id, const HvSnapshotDisk *disks, unsigned n_disks,
              const char *memory, GError **error)
{
    FAKE_ENTER(false)
    if (!fake->running)
        return error_set(error, ERR_HYPERVISOR, "the domain is not running");
    if (fake->refuse_snapshot != 0)
        return error_set(error, fake->refuse_snapshot, "the test refuses the snapshot");
    if (fake->dies_in_snapshot) {
        fake->away = true;
        return error_set(error, ERR_UNREACHABLE, "the connection is lost");
    }
    if (fake->reboots_in_snapshot) {
        fake->guest_agent = false;
        fake_reboot(fake);
    }
    fake->snapshots++;
    fake->was_frozen = fake->frozen;
    for (unsigned i = 0; i < n_disks; i++) {
        FakeDisk *disk = fake_disk(fake, disks[i].target);
        g_assert_true(g_file_test(disks[i].overlay, G_FILE_TEST_EXISTS));
        fake_set(&disk->live, disks[i].overlay);
        fake_set(&disk->stored, disks[i].overlay);
    }
    return true;
}

/* As QEMU's agent has it: what is frozen cannot be frozen. */
static inline bool
fake_set_frozen(Fake *fake, bool frozen, GError **error)
{
    if (!fake->guest_agent)
        return error_set(error, ERR_HYPERVISOR, "no guest agent");
    if (frozen && fake->frozen)
        return error_set(error, ERR_HYPERVISOR, "the command is not allowed when frozen");
    fake->frozen = frozen;
    if (!fake->deaf)
        return true;
    return error_set(error, ERR_HYPERVISOR, "the guest agent does not answer");
}

static inline char *
fake_guest_name(Hypervisor *hv, const char *vm_id, unsigned budget_s, GError **error)
{
    FAKE_ENTER(NULL)
    fake->guest_asked++;
    while (fake->guest_hangs) {
        g_mutex_unlock(&fake->lock);
        g_usleep(1000);
        g_mutex_lock(&fake->lock);
    }
    if (fake->guest_says == NULL)
        error_set(error, ERR_HYPERVISOR, "the guest agent does not answer");
    return g_strdup(fake->guest_says);
}

static inline bool
fake_freeze(Hypervisor *hv, const char *vm_id, unsigned budget_s, GError **error)
{
    FAKE_ENTER(false)
    fake->freezes++;
    if (fake->reboots_frozen) {
        fake->guest_agent = false;
        fake_reboot(fake);
        return true;
    }
    if (!fake->dies_in_freeze)
        return fake_set_frozen(fake, true, error);
    fake->away = fake->frozen = true;
    return error_set(error, ERR_UNREACHABLE, "the connection is lost");
}

static inline bool
fake_thaw(Hypervisor *hv, const char *vm_id, unsigned budget_s, GError **error)
{
    FAKE_ENTER(false)
    fake->thaws++;
    fake->deaf = false;
    return fake_set_frozen(fake, false, error);
}

static inline bool
fake_rename(Hypervisor *hv, const char *vm_id, const char *name, GError **error)
{
    FAKE_ENTER(false)
    g_assert_false(fake->running);
    g_strlcpy(fake->called, name, sizeof fake->called);
    return true;
}

static inline bool
fake_describe(Hypervisor *hv, const char *vm_id, const char *description, const char *title,
              GError **error)
{
    FAKE_ENTER(false)
    g_strlcpy(fake->description, description, sizeof fake->description);
    g_strlcpy(fake->title, title, sizeof fake->title);
    return true;
}

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

static inline bool
fake_suspend(Hypervisor *hv, const char *vm_id, GError **error)
{
    FAKE_ENTER(false)
    if (!fake->running)
        return error_set(error, ERR_HYPERVISOR, "the domain is not running");
    fake->suspends++;
    fake->paused = true;
    return true;
}

static inline bool
fake_resume(Hypervisor *hv, const char *vm_id, GError **error)
{
    FAKE_ENTER(false)
    if (!fake->running || fake->lost)
        return error_set(error, ERR_HYPERVISOR, "the domain is not running");
    fake->resumes++;
    fake->paused = false;
    return true;
}

static inline bool
fake_powered(Fake *fake, const char *word, GError **error)
{
    if (fake->powers != NULL)
        g_string_append_printf(fake->powers, "%s ", word);
    if (!fake->dies_after_power)
        return true;
    fake->away = true;
    return error_set(error, ERR_UNREACHABLE, "the connection is lost");
}

static inline bool
fake_start(Hypervisor *hv, const char *vm_id, bool paused, GError **error)
{
    FAKE_ENTER(false)
    g_assert_false(fake->running);
    fake_power_on(fake);
    fake->paused = paused;
    fake->saved = false;
    return fake_powered(fake, "start", error);
}

static inline bool
fake_restore(Hypervisor *hv, const char *vm_id, const char *memory, const char *const *targets,
             const char *const *sources, const char *const *formats, unsigned n, bool paused,
             GError **error)
{
    FAKE_ENTER(false)
    g_assert_false(fake->running);
    fake_power_on(fake);
    fake->paused = paused;
    g_strlcpy(fake->restored, memory, sizeof fake->restored);
    for (unsigned i = 0; i < n; i++)
        fake_set(&fake_disk(fake, targets[i])->live, sources[i]);
    return fake_powered(fake, "restore", error);
}

static inline bool
fake_power(Hypervisor *hv, const char *vm_id, HvPower how, GError **error)
{
    FAKE_ENTER(false)
    static const char *const words[] = { "off", "shutdown", "reboot", "reset", "save", "forget" };

    g_assert_cmpint(fake->running, ==, how != HV_POWER_FORGET);
    if (how == HV_POWER_OFF || how == HV_POWER_SAVE)
        fake_power_off(fake);
    if (how == HV_POWER_RESET)
        fake->frozen = false;
    fake->saved = how == HV_POWER_SAVE;
    return fake_powered(fake, words[how], error);
}

static inline bool
fake_redefine(Hypervisor *hv, const char *vm_id, const char *const *targets,
              const char *const *sources, const char *const *formats, unsigned n, GError **error)
{
    FAKE_ENTER(false)
    fake->redefines++;
    if (fake->refuse_redefines > 0) {
        fake->refuse_redefines--;
        return error_set(error, ERR_HYPERVISOR, "cannot write the definition");
    }
    for (unsigned i = 0; i < n; i++)
        fake_set(&fake_disk(fake, targets[i])->stored, sources[i]);
    return true;
}

static inline bool
fake_reconfigure(Hypervisor *hv, const char *vm_id, const char *config, const char *const *targets,
                 const char *const *sources, const char *const *formats, unsigned n, GError **error)
{
    Fake *fake = (Fake *)hv;

    if (fake->refuse_configs)
        return error_set(error, ERR_HYPERVISOR, "no such machine");
    if (!fake_redefine(hv, vm_id, targets, sources, formats, n, error))
        return false;
    WITH_LOCK(&fake->lock);
    fake_set(&fake->config, config);
    return true;
}

static inline bool
fake_defined(Fake *fake, GError **error)
{
    if (!fake->dies_after_define)
        return true;
    fake->away = true;
    return error_set(error, ERR_UNREACHABLE, "the connection is lost");
}

static inline bool
fake_clone(Hypervisor *hv, const char *vm_id, const HvClone *clone, GPtrArray *left, GError **error)
{
    FAKE_ENTER(false)

    g_assert_cmpstr(vm_id, ==, FAKE_VM);
    fake_set(&fake->clone, clone->id);
    fake_set(&fake->clone_name, clone->name);
    for (unsigned i = 0; i < clone->n; i++) {
        g_assert_true(g_file_test(clone->sources[i], G_FILE_TEST_EXISTS));
        fake_set(&fake->clone_leaves[fake_disk(fake, clone->targets[i]) - fake->disks],
                 clone->sources[i]);
    }
    return fake_defined(fake, error);
}

static inline bool
fake_undefine(Hypervisor *hv, const char *vm_id, bool all, GError **error)
{
    FAKE_ENTER(false)

    if (fake->clone != NULL && strcmp(vm_id, fake->clone) == 0) {
        g_assert_false(fake->clone_runs);
        g_clear_pointer(&fake->clone, g_free);
    } else if (strcmp(vm_id, FAKE_VM) == 0) {
        g_assert_false(fake->running);
        fake->removed = true;
    }
    return fake_defined(fake, error);
}

static const HypervisorOps fake_ops = {
    .free = fake_free,
    .is_connected = fake_is_connected,
    .list = fake_list,
    .look = fake_look,
    .foreign_job = fake_foreign_job,
    .snapshot = fake_snapshot,
    .guest_name = fake_guest_name,
    .freeze = fake_freeze,
    .thaw = fake_thaw,
    .rename = fake_rename,
    .describe = fake_describe,
    .commit_start = fake_commit_start,
    .copy_start = fake_copy_start,
    .job_look = fake_job_look,
    .job_set_bandwidth = fake_job_set_bandwidth,
    .job_cancel = fake_job_cancel,
    .job_pivot = fake_job_pivot,
    .suspend = fake_suspend,
    .resume = fake_resume,
    .start = fake_start,
    .restore = fake_restore,
    .power = fake_power,
    .redefine = fake_redefine,
    .reconfigure = fake_reconfigure,
    .clone = fake_clone,
    .undefine = fake_undefine,
};
