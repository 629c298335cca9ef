/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * A host with one VM whose volumes have the data that a test wants, and the survey of it.
 */
#pragma once

#define FAKE_DISKS 8
#include "agent/survey.h"
#include "agent_on_fake.h"

#include <glib/gstdio.h>

#define CLUSTER UINT64_C(65536)
#define L1_AT (3 * CLUSTER)
#define L2_AT (4 * CLUSTER) /* behind what qcow2_create() makes */
#define COPIED (UINT64_C(1) << 63)
#define SNAPSHOT "dddddddd-0000-4000-8000-%012u"

typedef struct {
    unsigned from, count; /* clusters of the guest */
    bool zero;
} Patch;

static inline void
put64(int fd, uint64_t at, uint64_t value)
{
    uint64_t big = GUINT64_TO_BE(value);

    g_assert_cmpint(pwrite(fd, &big, 8, (off_t)at), ==, 8);
}

/* A volume of 1 GiB that holds these clusters; the data themselves are holes. The list ends with a
 * count of 0. */
static inline char *
volume_make(const char *folder, const char *name, const char *backing, const Patch *patches)
{
    char *path = in(folder, name);
    g_autoptr(GError) error = NULL;
    uint64_t next = 5;

    qcow2_create(path, GIB, backing, backing != NULL ? "qcow2" : NULL, 0600, -1, -1, &error);
    g_assert_no_error(error);
    autofd int fd = open(path, O_RDWR | O_CLOEXEC);
    g_autofree uint64_t *table = g_malloc0(CLUSTER);
    put64(fd, L1_AT, L2_AT | COPIED);
    for (; patches->count > 0; patches++)
        for (unsigned i = 0; i < patches->count; i++)
            table[patches->from + i] =
                GUINT64_TO_BE(patches->zero ? 1 : (next++ * CLUSTER) | COPIED);
    g_assert_cmpint(pwrite(fd, table, CLUSTER, L2_AT), ==, CLUSTER);
    g_assert_cmpint(ftruncate(fd, (off_t)(next * CLUSTER)), ==, 0);
    return path;
}

static inline int64_t
later(void)
{
    return g_get_monotonic_time() + PATIENCE_US;
}

typedef struct {
    char *folder, *disks, *state;
    Fake fake;
    Agent *agent;
} Host;

static inline void
host_begin(Host *host)
{
    const AgentOptions options = { .state_dir = host->state,
                                   .pivot_budget_ms = 1000,
                                   .quiesce_budget_s = 1 };

    host->agent = agent_on(&host->fake, &options);
}

static inline void
host_end(Host *host)
{
    agent_stop(host->agent);
    agent_free(g_steal_pointer(&host->agent));
}

/* Chains of so many volumes, all alike but for their names; the last volume is the leaf. */
static inline void
host_make(Host *host, unsigned depth, const Patch *const *patches)
{
    host->folder = folder_new();
    host->disks = in(host->folder, "d");
    host->state = in(host->folder, "s");
    g_assert_cmpint(g_mkdir(host->disks, 0700), ==, 0);
    g_assert_cmpint(g_mkdir(host->state, 0700), ==, 0);
    host->fake.hv.ops = &fake_ops;
    g_mutex_init(&host->fake.lock);
    for (unsigned i = 0; i < FAKE_DISKS; i++) {
        FakeDisk *disk = &host->fake.disks[i];
        g_autofree char *below = NULL;

        g_snprintf(disk->target, sizeof disk->target, "vd%c", 'a' + (int)i);
        for (unsigned k = 0; k < depth; k++) {
            g_autofree char *name = g_strdup_printf("%s.%u.q", disk->target, k);
            g_free(disk->stored);
            disk->stored = volume_make(host->disks, name, below, patches[k]);
            g_free(below);
            below = g_steal_pointer(&name);
        }
        disk->live = g_strdup(disk->stored);
    }
    host->fake.running = true;
    host_begin(host);
}

static inline void
host_clear(Host *host)
{
    if (host->agent != NULL)
        host_end(host);
    for (unsigned i = 0; i < FAKE_DISKS; i++) {
        g_free(host->fake.disks[i].live);
        g_free(host->fake.disks[i].stored);
    }
    g_mutex_clear(&host->fake.lock);
    g_free(host->disks);
    g_free(host->state);
    folder_remove(&host->folder);
}
G_DEFINE_AUTO_CLEANUP_CLEAR_FUNC(Host, host_clear)

/* Snapshot i of the VM owns volume i of each disk. */
static inline void
add_snapshots(Host *host, unsigned depth)
{
    g_autoptr(GError) error = NULL;
    g_autoptr(Domain) domain = domain_open(host->disks, NULL, &error);
    g_autoptr(Vm) vm = manifest_load(domain, FAKE_VM, &error);

    g_assert_no_error(error);
    for (unsigned k = 0; k + 1 < depth; k++) {
        g_autofree char *id = g_strdup_printf(SNAPSHOT, k);
        Snapshot *snapshot = snapshot_new(id, id, 1000 + k);
        for (guint i = 0; i < vm->disks->len; i++) {
            const Disk *disk = vm->disks->pdata[i];
            vm_add_snapshot_disk(snapshot, disk->id, ((Volume *)disk->volumes->pdata[k])->id);
        }
        g_ptr_array_add(vm->snapshots, snapshot);
    }
    manifest_save(domain, vm, &error);
    g_assert_no_error(error);
}

/* {"snapshots": [i...], "disk"}; the list ends with -1. */
static inline json_t *
request(const int *snapshots, const char *disk)
{
    json_t *body = json_pack("{s:[]}", "snapshots");

    for (; *snapshots >= 0; snapshots++) {
        g_autofree char *id = g_strdup_printf(SNAPSHOT, (unsigned)*snapshots);
        json_array_append_new(json_object_get(body, "snapshots"), json_string(id));
    }
    json_put_text(body, "disk", disk);
    return body;
}

static inline json_t *
ask(Host *host, const int *snapshots, const char *disk)
{
    g_autoptr(json_t) body = request(snapshots, disk);
    g_autoptr(GError) error = NULL;
    json_t *answer = NULL;

    survey_plan(host->agent, FAKE_VM, body, &answer, &error);
    g_assert_no_error(error);
    return answer;
}
