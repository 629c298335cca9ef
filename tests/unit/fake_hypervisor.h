/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * A hypervisor in memory with one VM, whose disks are real qcow2 files: for tests of the agent. It
 * survives the agents that use it. While "away" is set every call is ERR_UNREACHABLE, which is how
 * a test keeps an agent that it is about to end from going on.
 */
#pragma once

#include "fake_jobs.h"

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
    if (fake->gap_in_snapshot) {
        fake->frozen = false;
        fake->tell(&(HvEvent){ .kind = HV_EVENT_DISCONNECTED }, fake->tell_data);
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
        return error_set(error, ERR_HYPERVISOR, "the agent is in frozen state");
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

static inline bool
fake_flush(Hypervisor *hv, const char *vm_id, const char *disk, const char *path, GError **error)
{
    FAKE_ENTER(false)

    return fake->running || error_set(error, ERR_HYPERVISOR, "domain is not running");
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
    .flush = fake_flush,
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
