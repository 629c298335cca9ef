/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * What the tests of previews and of cloning stand on: an agent with a VM of two disks and some
 * snapshots, on a hypervisor in memory with real qcow2 files.
 */
#pragma once

#include "agent/operation.h"
#include "agent_on_fake.h"
#include "base/fault.h"

#include <glib/gstdio.h>

#define SNAP(n) "00000000-0000-4000-8000-00000000000" #n

typedef struct {
    char *folder, *disks, *state;
    Fake fake;
    Agent *agent;
} Host;

/* What each test copies, and how many volumes a disk has there. */
static char *template;
static unsigned volumes;

/* vda: a.0.q (snapshot 1) <- a.1.q (snapshot 2) <- ...; vdb likewise; the newest snapshot has
 * memory. Each layer writes 64 KiB of its own and all of them the first. */
static inline void
template_make(unsigned n)
{
    template = folder_new();
    volumes = n;
    for (char disk = 'a'; disk <= 'b'; disk++) {
        g_autofree char *below = NULL;
        for (unsigned i = 0; i < n; i++) {
            g_autofree char *name = g_strdup_printf("%c.%u.q", disk, i);
            g_autofree char *path =
                image(template, name, MIB, below, below != NULL ? "qcow2" : NULL);
            MUST(template, "qemu-io -f qcow2 -c 'write -P %u 0 64k' -c 'write -P %u %uk 64k' %s",
                 i + 1, i + 11, (i + 1) * 64, path);
            MUST(template, "qemu-img convert -f qcow2 -O raw %s %c.%u.gold", path, disk, i);
            g_free(below);
            below = g_path_get_basename(path);
        }
    }
    MUST(template, "cp a.0.gold a.%u.memory", n - 2);
}

static inline void
agent_begin(Host *host)
{
    const char *names[] = { "d", NULL }, *paths[] = { host->disks, NULL };
    const AgentOptions options = { .state_dir = host->state,
                                   .storage_names = names,
                                   .storage_paths = paths,
                                   .pivot_budget_ms = 1000,
                                   .quiesce_budget_s = 1 };

    host->agent = agent_on(&host->fake, &options);
}

static inline void
agent_end(Host *host)
{
    agent_off(&host->fake, g_steal_pointer(&host->agent));
}

static inline void
host_clear(Host *host)
{
    fault_arm(-1);
    if (host->agent != NULL)
        agent_end(host);
    for (unsigned i = 0; i < FAKE_DISKS; i++) {
        g_free(host->fake.disks[i].live);
        g_free(host->fake.disks[i].stored);
        g_free(host->fake.clone_leaves[i]);
    }
    g_free(host->fake.config);
    g_free(host->fake.clone);
    g_free(host->fake.clone_name);
    g_mutex_clear(&host->fake.lock);
    g_free(host->disks);
    g_free(host->state);
    folder_remove(&host->folder);
}
G_DEFINE_AUTO_CLEANUP_CLEAR_FUNC(Host, host_clear)

/* NULL = there is none */
static inline Vm *
stored_vm(Host *host, const char *id)
{
    g_autoptr(GError) error = NULL;
    g_autoptr(Domain) domain = domain_open(host->disks, NULL, &error);
    Vm *vm = manifest_load(domain, id, &error);

    g_assert_no_error(error);
    return vm;
}

static inline void
add_snapshots(Host *host, const char *config)
{
    static const char *const ids[] = { SNAP(1), SNAP(2), SNAP(3) };
    g_autofree char *memory = g_strdup_printf("a.%u.memory", volumes - 2);
    g_autoptr(GError) error = NULL;
    g_autoptr(Domain) domain = domain_open(host->disks, NULL, &error);
    g_autoptr(Vm) vm = stored_vm(host, FAKE_VM);

    for (unsigned i = 0; i < volumes - 1; i++) {
        Snapshot *snapshot = snapshot_new(ids[i], ids[i] + 35, 1000 + i);
        snapshot->parent = i > 0 ? g_strdup(ids[i - 1]) : NULL;
        snapshot->memory = i == volumes - 2 ? in(host->disks, memory) : NULL;
        snapshot->config = g_strdup(config);
        for (guint k = 0; k < vm->disks->len; k++) {
            const Disk *disk = vm->disks->pdata[k];
            vm_add_snapshot_disk(snapshot, disk->id, ((Volume *)disk->volumes->pdata[i])->id);
        }
        g_ptr_array_add(vm->snapshots, snapshot);
    }
    g_assert_true(manifest_save(domain, vm, &error));
}

/* config: of each snapshot */
static inline void
host_make_with(Host *host, const char *config)
{
    host->folder = folder_new();
    host->disks = in(host->folder, "d");
    host->state = in(host->folder, "s");
    MUST("/", "cp -r %s %s", template, host->disks);
    g_assert_cmpint(g_mkdir(host->state, 0700), ==, 0);
    host->fake.hv.ops = &fake_ops;
    g_mutex_init(&host->fake.lock);
    for (unsigned i = 0; i < FAKE_DISKS; i++) {
        FakeDisk *disk = &host->fake.disks[i];
        g_autofree char *leaf = g_strdup_printf("%c.%u.q", 'a' + (int)i, volumes - 1);
        g_snprintf(disk->target, sizeof disk->target, "vd%c", 'a' + (int)i);
        disk->stored = in(host->disks, leaf);
        disk->live = g_strdup(disk->stored);
    }
    agent_begin(host);
    add_snapshots(host, config);
}

static inline bool
operation_start(Host *host, const char *id, const char *kind, json_t *take_params, GError **error)
{
    g_autoptr(json_t) body = take_params;
    g_autoptr(json_t) answer = NULL;

    json_object_set_new(body, "id", json_string(id));
    json_object_set_new(body, "kind", json_string(kind));
    json_object_set_new(body, "vm_id", json_string(FAKE_VM));
    return operation_begin(host->agent, body, &answer, error);
}

static inline json_t *
operation_wait(Host *host, const char *id)
{
    int64_t until = g_get_monotonic_time() + PATIENCE_US;

    for (;;) {
        json_t *json = NULL;
        if (!operation_get(host->agent, id, &json, NULL) ||
            !g_str_equal(json_text(json, "state"), "running"))
            return json;
        if (g_get_monotonic_time() > until)
            g_error("%s stands at '%s' and waits for: %s", id, json_text(json, "step"),
                    json_text(json, "waiting_for"));
        json_decref(json);
        g_usleep(2000);
    }
}

/* Its document, once it has ended as wanted. */
static inline json_t *
do_operation(Host *host, const char *id, const char *kind, json_t *take_params, const char *wanted)
{
    g_autoptr(GError) error = NULL;
    json_t *json;

    operation_start(host, id, kind, take_params, &error);
    g_assert_no_error(error);
    json = operation_wait(host, id);
    operation_ack(host->agent, id, NULL);
    if (!g_str_equal(json_text(json, "state"), wanted))
        g_error("%s is %s: %s", kind, json_text(json, "state"),
                json_text(json_object_get(json, "error"), "message"));
    return json;
}
#define DO(...) json_decref(do_operation(__VA_ARGS__))

/* Until the armed fault has struck, or the operation has ended without. */
static inline void
wait_for_fault_or_end(Host *host, const char *id)
{
    int64_t until = g_get_monotonic_time() + PATIENCE_US;
    bool running = true;

    while (running && !fault_fired() && g_get_monotonic_time() < until) {
        g_autoptr(json_t) json = NULL;
        running = operation_get(host->agent, id, &json, NULL) &&
                  g_str_equal(json_text(json, "state"), "running");
        g_usleep(200);
    }
}

/* ---- looking */

/* Volumes and memory. */
static inline unsigned
images_in(Host *host)
{
    g_autoptr(GDir) dir = g_dir_open(host->disks, 0, NULL);
    const char *name;
    unsigned n = 0;

    while ((name = g_dir_read_name(dir)) != NULL)
        n += !g_str_equal(name, ".livemerge") && !g_str_has_suffix(name, ".gold");
    return n;
}

static inline bool
is_leased(Host *host)
{
    Lease *lease = ((const Domain *)host->agent->domains->pdata[0])->lease;
    WITH_LOCK(&lease->lock);

    return lease->users > 0;
}

/* A thread empties it, with the lease of the agent's storage domain in its hands. */
static inline void
wait_for_trash(Host *host)
{
    int64_t until = g_get_monotonic_time() + PATIENCE_US;
    g_autofree char *trash = g_build_filename(host->disks, ".livemerge", "trash", NULL);

    for (bool busy = true; busy; g_usleep(1000)) {
        g_autoptr(GDir) dir = g_dir_open(trash, 0, NULL);
        busy = (dir != NULL && g_dir_read_name(dir) != NULL) || is_leased(host);
        g_assert_cmpint(g_get_monotonic_time(), <, until);
    }
}
