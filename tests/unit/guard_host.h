/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * A host whose VM has a disk of four volumes, on a hypervisor in memory and on storage that tells
 * what room the test wants it to tell; merges that are checked, and watched for space.
 */
#pragma once

#include "agent/operation.h"
#include "agent_on_fake.h"
#include "base/text.h"

#include <glib/gstdio.h>

#define OP "aaaaaaaa-0000-4000-8000-000000000001"
#define LIMIT 50000000 /* bytes a second, as the user asked for */

typedef struct {
    char *folder, *disks, *state;
    Fake fake;
    Agent *agent;
} Host;

static uintptr_t room; /* atomic */
static uint64_t total; /* what every storage domain tells */
static int asked;      /* atomic: how often */

static inline void
tell_space(const Domain *domain, uint64_t *ret_free, uint64_t *ret_total)
{
    *ret_free = (uint64_t)g_atomic_pointer_get(&room);
    *ret_total = total;
    g_atomic_int_inc(&asked);
}

/* It has seen the room as it is now, and had the time to act on it. */
static inline void
wait_for_looks(void)
{
    int64_t until = g_get_monotonic_time() + PATIENCE_US;
    int begun = g_atomic_int_get(&asked);

    while (g_atomic_int_get(&asked) < begun + 3) {
        g_assert_cmpint(g_get_monotonic_time(), <, until);
        g_usleep(1000);
    }
}

static inline void
agent_begin(Host *host)
{
    const AgentOptions options = { .state_dir = host->state,
                                   .pivot_budget_ms = 1000,
                                   .quiesce_budget_s = 1 };
    g_autoptr(GError) error = NULL;

    fake_is_away(&host->fake, false);
    host->agent = agent_attached(&host->fake, &options);
    /* the domain is there, and tells what it should, before an operation goes on */
    Domain *domain = domain_open(host->disks, NULL, &error);
    g_assert_no_error(error);
    domain->space = tell_space;
    g_ptr_array_add(host->agent->domains, domain);
    agent_connect(host->agent);
}

static inline void
agent_end(Host *host)
{
    agent_off(&host->fake, g_steal_pointer(&host->agent));
}

/* a.q <- a.1.q <- a.2.q <- a.3.q, each with 64 KiB of its own and 64 KiB over all others */
static inline void
host_make(Host *host)
{
    static const char *const names[] = { "a.q", "a.1.q", "a.2.q", "a.3.q" };

    host->folder = folder_new();
    host->disks = in(host->folder, "d");
    host->state = in(host->folder, "s");
    g_assert_cmpint(g_mkdir(host->disks, 0700) + g_mkdir(host->state, 0700), ==, 0);
    for (unsigned i = 0; i < G_N_ELEMENTS(names); i++) {
        g_autofree char *path =
            image(host->disks, names[i], MIB, i > 0 ? names[i - 1] : NULL, i > 0 ? "qcow2" : NULL);
        MUST(host->disks, "qemu-io -f qcow2 -c 'write -P %u 0 64k' -c 'write -P %u %uk 64k' %s",
             i + 1, i + 11, (i + 1) * 64, names[i]);
    }
    MUST(host->disks, "qemu-img convert -f qcow2 -O raw a.3.q a.gold");
    MUST(host->disks, "qemu-img create -q -f qcow2 b.q 1M");
    host->fake.hv.ops = &fake_ops;
    g_mutex_init(&host->fake.lock);
    for (unsigned i = 0; i < FAKE_DISKS; i++) {
        FakeDisk *disk = &host->fake.disks[i];
        strcpy(disk->target, i == 0 ? "vda" : "vdb");
        disk->stored = in(host->disks, i == 0 ? "a.3.q" : "b.q");
        disk->live = g_strdup(disk->stored);
    }
    host->fake.running = true;
    room = 10 * GIB;
    total = 40 * GIB;
    agent_begin(host);
}

static inline Host *
host_new(void)
{
    Host *host = g_new0(Host, 1);

    host_make(host);
    return host;
}

static inline void
host_free(Host *host)
{
    agent_end(host);
    for (unsigned i = 0; i < FAKE_DISKS; i++) {
        fake_job_clear(&host->fake.disks[i]);
        g_free(host->fake.disks[i].live);
        g_free(host->fake.disks[i].stored);
    }
    g_mutex_clear(&host->fake.lock);
    g_free(host->disks);
    g_free(host->state);
    folder_remove(&host->folder);
    g_free(host);
}
G_DEFINE_AUTOPTR_CLEANUP_FUNC(Host, host_free)

static inline bool
merge_begin(Host *host, unsigned base, unsigned top, const char *strategy, const char *verify,
            GError **error)
{
    g_autoptr(Vm) vm = agent_vm_shown(host->agent, FAKE_VM);
    const Disk *disk = vm_disk(vm, "vda");
    g_autoptr(json_t) answer = NULL;
    g_autoptr(json_t) body = json_pack(
        "{s:s, s:s, s:s, s:s, s:s, s:s, s:s, s:s, s:i, s:[s]}", "id", OP, "kind", "merge", "vm_id",
        FAKE_VM, "disk_id", disk->id, "base", ((Volume *)disk->volumes->pdata[base])->id, "top",
        ((Volume *)disk->volumes->pdata[top])->id, "strategy", strategy, "verify", verify,
        "bandwidth", LIMIT, "remove", ((Volume *)disk->volumes->pdata[base])->id);

    return operation_begin(host->agent, body, &answer, error);
}

static inline json_t *
operation_now(Host *host)
{
    json_t *json = NULL;
    g_autoptr(GError) error = NULL;

    operation_get(host->agent, OP, &json, &error);
    g_assert_no_error(error);
    return json;
}

static inline bool
has_ended(const json_t *op)
{
    return !g_str_equal(json_text(op, "state"), "running");
}

static inline bool
is_held(const json_t *op)
{
    return json_object_get(op, "attention") != NULL;
}

static inline bool
is_not_held(const json_t *op)
{
    return !is_held(op);
}

/* The operation, once it is as wanted; if it never is, the test fails with how it stands. */
static inline json_t *
wait_until(Host *host, bool (*wanted)(const json_t *op), const char *what)
{
    int64_t until = g_get_monotonic_time() + PATIENCE_US;

    for (;;) {
        g_autoptr(json_t) op = operation_now(host);
        if (wanted(op))
            return g_steal_pointer(&op);
        if (g_get_monotonic_time() > until) {
            g_autofree char *text = json_dumps(op, 0);
            g_error("it never %s: %s", what, text);
        }
        g_usleep(1000);
    }
}

static inline uint64_t
job_limit(Host *host)
{
    WITH_LOCK(&host->fake.lock);

    return host->fake.disks[0].bandwidth;
}

static inline void
set_endless(Host *host, bool endless)
{
    WITH_LOCK(&host->fake.lock);

    host->fake.endless = endless;
}

static inline void
assert_guest(Host *host)
{
    MUST(host->disks, "qemu-img compare -q -f qcow2 -F raw %s a.gold", host->fake.disks[0].live);
}
