/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * A host whose VM has two disks of four volumes, on a hypervisor in memory with real qcow2 files;
 * operations that change the chain of the first disk, and what must be true when one has ended.
 */
#pragma once

#include "agent/operation.h"
#include "agent_on_fake.h"
#include "base/fault.h"
#include "qcow2/build.h"

#include <glib/gstdio.h>

#define OP "aaaaaaaa-0000-4000-8000-000000000001"
#define OP2 "bbbbbbbb-0000-4000-8000-000000000002"

/* A host: its disks (a.q <- a.1.q <- a.2.q <- a.3.q, and b likewise), the state of its agent, and
 * what the guest sees on each disk. */
typedef struct {
    char *folder, *disks, *state;
    Fake fake;
    Agent *agent;
    const char *disk_id; /* of vda, owned by vm */
    Vm *vm;              /* as at the beginning */
} Host;

static const char *const layers[] = { "%c.q", "%c.1.q", "%c.2.q", "%c.3.q" };
static char *template;

/* Each layer writes 64 KiB of its own, and all of them the first 64 KiB. */
static inline void
template_make(void)
{
    template = folder_new();
    for (char disk = 'a'; disk <= 'b'; disk++) {
        g_autofree char *below = NULL;
        for (unsigned i = 0; i < G_N_ELEMENTS(layers); i++) {
            char name[16];
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wformat-nonliteral"
            g_snprintf(name, sizeof name, layers[i], disk);
#pragma GCC diagnostic pop
            g_autofree char *path =
                image(template, name, MIB, below, below != NULL ? "qcow2" : NULL);
            MUST(template, "qemu-io -f qcow2 -c 'write -P %u 0 64k' -c 'write -P %u %uk 64k' %s",
                 i + 1, i + 11, (i + 1) * 64, path);
            g_free(below);
            below = g_strdup(name);
        }
        MUST(template, "qemu-img convert -f qcow2 -O raw %s %c.gold", below, disk);
    }
}

static inline void
agent_begin(Host *host)
{
    g_autofree char *hooks = in(host->folder, "hooks");
    const AgentOptions options = {
        .state_dir = host->state, .hooks_dir = hooks, .pivot_budget_ms = 1000, .quiesce_budget_s = 1
    };

    host->agent = agent_on(&host->fake, &options);
}

/* As if it were killed: from now on nothing answers it. */
static inline void
agent_end(Host *host)
{
    fake_is_away(&host->fake, true);
    agent_stop(host->agent);
    g_assert_cmpuint(host->agent->workers, ==, 0);
    agent_free(g_steal_pointer(&host->agent));
}

static inline void
host_clear(Host *host)
{
    fault_arm(-1);
    if (host->agent != NULL)
        agent_end(host);
    for (unsigned i = 0; i < FAKE_DISKS; i++) {
        fake_job_clear(&host->fake.disks[i]);
        g_free(host->fake.disks[i].shown);
        g_free(host->fake.disks[i].live);
        g_free(host->fake.disks[i].stored);
    }
    g_mutex_clear(&host->fake.lock);
    vm_free(host->vm);
    g_free(host->disks);
    g_free(host->state);
    folder_remove(&host->folder);
}
G_DEFINE_AUTO_CLEANUP_CLEAR_FUNC(Host, host_clear)

static inline void
host_make(Host *host, bool running)
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
        strcpy(disk->target, i == 0 ? "vda" : "vdb");
        disk->stored = in(host->disks, i == 0 ? "a.3.q" : "b.3.q");
        disk->live = g_strdup(disk->stored);
    }
    host->fake.running = running;
    agent_begin(host);
    host->vm = agent_vm_shown(host->agent, FAKE_VM);
    g_assert_nonnull(host->vm);
    g_assert_cmpstr(host->vm->unmanaged, ==, NULL);
    host->disk_id = vm_disk(host->vm, "vda")->id;
}

static inline json_t *
operation_now(Host *host)
{
    json_t *json = NULL;
    g_autoptr(GError) error = NULL;

    operation_get(host->agent, OP, &json, &error);
    return json;
}

typedef bool (*OperationIs)(const json_t *op, const char *word);

/* The operation (NULL = it was forgotten) once it is so; if it does not become so, the test fails
 * with what it waits for. */
static inline json_t *
operation_wait(Host *host, OperationIs is_so, const char *word)
{
    int64_t until = g_get_monotonic_time() + PATIENCE_US;

    for (;;) {
        json_t *json = operation_now(host);
        if (is_so(json, word))
            return json;
        if (g_get_monotonic_time() > until)
            g_error("the operation stands at '%s' and waits for: %s (not: %s)",
                    json_text(json, "step"), json_text(json, "waiting_for"), word);
        json_decref(json);
        g_usleep(1000);
    }
}

static inline bool
op_has_ended(const json_t *op, const char *unused)
{
    (void)unused;
    return op == NULL || !g_str_equal(json_text(op, "state"), "running");
}

static inline bool
op_is_at(const json_t *op, const char *step)
{
    return g_strcmp0(json_text(op, "step"), step) == 0;
}

static inline bool
op_waits_at(const json_t *op, const char *step)
{
    return op_is_at(op, step) && json_text(op, "waiting_for") != NULL;
}

static inline bool
op_says_or_has_ended(const json_t *op, const char *what)
{
    const char *text = json_text(op, "waiting_for");

    return op_has_ended(op, NULL) || (text != NULL && strstr(text, what) != NULL);
}

static inline json_t *
operation_end(Host *host)
{
    return operation_wait(host, op_has_ended, "its end");
}

typedef struct {
    const char *name;
    const char *kind;
    bool off;           /* the VM is */
    unsigned base, top; /* indexes, of a merge */
    const char *strategy;
    const char *chain; /* of vda, when it is done; '+' = a new volume */
    const char *left;  /* volumes_left */
    unsigned remove;   /* the index of the only volume whose upper boundary goes; 0 = all do */
    bool sealed;       /* the leaf holds much, and the storage says it could share blocks */
} Case;

static const Case cases[] = {
    { "snapshot", "snapshot-create", false, 0, 0, NULL, "a.q a.1.q a.2.q a.3.q +", NULL },
    { "snapshot-off", "snapshot-create", true, 0, 0, NULL, "a.q a.1.q a.2.q a.3.q +", NULL },
    { "commit", "merge", false, 1, 2, "commit", "a.q a.1.q a.3.q", "a.2.q" },
    { "commit-active", "merge", false, 2, 3, "commit-active", "a.q a.1.q a.2.q", "a.3.q" },
    { "copy", "merge", false, 2, 3, "copy", "a.q a.1.q +", "a.2.q a.3.q" },
    { "cold", "merge", true, 1, 2, "auto", "a.q a.1.q a.3.q", "a.2.q" },
    { "cold-active", "merge", true, 2, 3, "auto", "a.q a.1.q a.2.q", "a.3.q" },
    { "copy-one", "merge", false, 1, 3, "copy", "a.q + +", "a.1.q a.2.q a.3.q", 1 },
    { "cold-copy", "merge", true, 1, 3, "copy", "a.q +", "a.1.q a.2.q a.3.q" },
    { "cold-copy-one", "merge", true, 0, 3, "copy", "+ + +", "a.q a.1.q a.2.q a.3.q", 2 },
    /* the leaf becomes a volume of its own, which is empty at first if the VM is started */
    { "cold-copy-leaf", "merge", true, 1, 3, "copy", "a.q + +", "a.1.q a.2.q a.3.q", 1 },
    /* where it cannot share after all, it is undone after its seal */
    { "graft-sealed", "merge", false, 1, 3, "graft", "a.q +", "a.1.q a.2.q a.3.q +", 0, true },
};

static inline void
operation_start(Host *host, const Case *c)
{
    Disk *disk = vm_disk(host->vm, "vda");
    g_autoptr(json_t) body =
        json_pack("{s:s, s:s, s:s}", "id", OP, "kind", c->kind, "vm_id", FAKE_VM);
    g_autoptr(json_t) answer = NULL;
    g_autoptr(GError) error = NULL;

    if (c->strategy != NULL) {
        json_object_set_new(body, "disk_id", json_string(disk->id));
        json_object_set_new(body, "base",
                            json_string(((Volume *)disk->volumes->pdata[c->base])->id));
        json_object_set_new(body, "top", json_string(((Volume *)disk->volumes->pdata[c->top])->id));
        json_object_set_new(body, "strategy", json_string(c->strategy));
        if (c->remove > 0)
            json_object_set_new(body, "remove",
                                json_pack("[s]", ((Volume *)disk->volumes->pdata[c->remove])->id));
    } else {
        json_object_set_new(body, "snapshot_id", json_string(OP2));
        json_object_set_new(body, "name", json_string("one"));
    }
    operation_begin(host->agent, body, &answer, &error);
    g_assert_no_error(error);
}

static inline char *
short_names(const char *const *paths)
{
    GString *text = g_string_new(NULL);

    for (; *paths != NULL; paths++) {
        g_autofree char *name = g_path_get_basename(*paths);
        bool known = name[1] == '.' && strlen(name) <= 5;
        g_string_append_printf(text, "%s%s", text->len > 0 ? " " : "", known ? name : "+");
    }
    return g_string_free(text, FALSE);
}

/* The chain of vda by the headers, from the leaf that the VM has (or would start with). */
static inline char *
chain_now(Host *host)
{
    FakeDisk *disk = &host->fake.disks[0];
    g_autoptr(GError) error = NULL;
    g_autoptr(GPtrArray) chain =
        qcow2_chain_walk(host->fake.running ? disk->live : disk->stored, "qcow2", NULL, &error);
    g_autoptr(GPtrArray) paths = g_ptr_array_new();

    g_assert_no_error(error);
    for (guint i = 0; i < chain->len; i++)
        g_ptr_array_add(paths, ((Qcow2Layer *)chain->pdata[i])->path);
    g_ptr_array_add(paths, NULL);
    return short_names((const char *const *)paths->pdata);
}

static inline char *
chain_in_manifest(Host *host, const Vm *vm)
{
    g_autoptr(GPtrArray) paths = g_ptr_array_new();
    Disk *disk = vm_disk(vm, "vda");

    for (guint i = 0; i < disk->volumes->len; i++)
        g_ptr_array_add(paths, ((Volume *)disk->volumes->pdata[i])->path);
    g_ptr_array_add(paths, NULL);
    return short_names((const char *const *)paths->pdata);
}

/* Nothing that the guest wrote is gone, whether it runs or is started from its definition. */
static inline void
assert_data(Host *host)
{
    for (unsigned i = 0; i < FAKE_DISKS; i++) {
        FakeDisk *disk = &host->fake.disks[i];
        if (host->fake.running) {
            MUST(host->disks, "qemu-img compare -q -f qcow2 -F raw %s %c.gold", disk->live,
                 i == 0 ? 'a' : 'b');
            g_assert_cmpstr(disk->live, ==, disk->stored);
        }
        MUST(host->disks, "qemu-img compare -q -f qcow2 -F raw %s %c.gold", disk->stored,
             i == 0 ? 'a' : 'b');
    }
}

static inline unsigned
files_of(Host *host)
{
    g_autoptr(GDir) dir = g_dir_open(host->disks, 0, NULL);
    const char *name;
    unsigned n = 0;

    while ((name = g_dir_read_name(dir)) != NULL)
        n += !g_str_has_prefix(name, ".") && !g_str_has_suffix(name, ".gold");
    return n;
}

static inline void
assert_done(Host *host, const Case *c, const json_t *op, const Vm *stored)
{
    const json_t *left = json_object_get(json_object_get(op, "result"), "volumes_left");
    g_autofree char *chain = chain_now(host);
    g_autofree char *manifest = chain_in_manifest(host, stored);

    g_assert_cmpstr(chain, ==, c->chain);
    g_assert_cmpstr(manifest, ==, c->chain);
    if (c->left == NULL) {
        g_assert_cmpuint(stored->snapshots->len, ==, 1);
        g_assert_cmpuint(files_of(host), ==, 10);
        return;
    }
    g_autoptr(GPtrArray) paths = g_ptr_array_new();
    for (size_t i = 0; i < json_array_size(left); i++)
        g_ptr_array_add(paths, (void *)json_string_value(json_array_get(left, i)));
    g_ptr_array_add(paths, NULL);
    g_autofree char *names = short_names((const char *const *)paths->pdata);
    g_assert_cmpstr(names, ==, c->left);
}

static inline void
assert_undone(Host *host, const Case *c, const Vm *stored)
{
    g_autofree char *chain = chain_now(host);
    g_autofree char *manifest = chain_in_manifest(host, stored);

    g_assert_cmpstr(chain, ==, "a.q a.1.q a.2.q a.3.q");
    g_assert_cmpstr(manifest, ==, chain);
    g_assert_cmpuint(stored->snapshots->len, ==, 0);
    g_assert_cmpuint(files_of(host), ==, 8);
}

static inline void
assert_nothing_half_built(Host *host)
{
    g_autoptr(GDir) dir = g_dir_open(host->disks, 0, NULL);
    const char *name;

    while ((name = g_dir_read_name(dir)) != NULL)
        if (g_str_has_prefix(name, QCOW2_BUILD_PREFIX))
            g_error("%s is left over", name);
}

/* Whatever happened: it has ended, and the world is whole. Returns its state. */
static inline char *
assert_whole(Host *host, const Case *c)
{
    g_autoptr(json_t) op = operation_end(host);
    g_autoptr(GError) error = NULL;
    g_autoptr(Domain) domain = domain_open(host->disks, NULL, &error);
    g_autoptr(Vm) stored = manifest_load(domain, FAKE_VM, &error);

    g_assert_no_error(error);
    if (op == NULL) { /* it never began: the manager begins it again */
        assert_undone(host, c, stored);
        return g_strdup("unknown");
    }
    g_assert_false(host->fake.paused);
    assert_nothing_half_built(host);
    g_assert_cmpuint(stored->operations->len, ==, 0);
    g_assert_cmpint(host->fake.disks[0].job, ==, HV_JOB_NONE);
    assert_data(host);
    if (g_str_equal(json_text(op, "state"), "done"))
        assert_done(host, c, op, stored);
    else
        assert_undone(host, c, stored);
    return g_strdup(json_text(op, "state"));
}

static inline Host *
host_new(bool running)
{
    Host *host = g_new0(Host, 1);

    host_make(host, running);
    return host;
}

static inline void
host_free(Host *host)
{
    host_clear(host);
    g_free(host);
}
G_DEFINE_AUTOPTR_CLEANUP_FUNC(Host, host_free)

static inline json_t *
wait_for_step(Host *host, const char *step)
{
    return operation_wait(host, op_waits_at, step);
}

static inline Vm *
look_closely(Host *host)
{
    AgentVm *entry = agent_entry(host->agent, FAKE_VM, false);
    g_autoptr(GError) error = NULL;
    Vm *vm;

    g_mutex_lock(&entry->lock);
    agent_look_closely(host->agent, entry, &error);
    g_mutex_unlock(&entry->lock);
    g_assert_no_error(error);
    vm = agent_vm_shown(host->agent, FAKE_VM);
    agent_find_users(host->agent, vm);
    return vm;
}

/* Its leaf takes more room than it seems to need, and graft is not refused. */
static inline void
make_sealable(Host *host)
{
    MUST(host->disks, "fallocate -n -o 8M -l 5M a.3.q");
    for (guint i = 0; i < host->agent->domains->len; i++)
        ((Domain *)host->agent->domains->pdata[i])->sharing = SHARING_YES;
}

/* It waits, and says that. */
static inline void
assert_says(const json_t *op, const char *what)
{
    const char *text = json_text(op, "waiting_for");

    if (strstr(text, what) == NULL)
        g_error("it does not say \"%s\": %s", what, text);
}

/* As QEMU does it: the image is open until the caller closes this. */
static inline int
lock_as_qemu(const char *path)
{
    struct flock lock = { .l_type = F_RDLCK, .l_whence = SEEK_SET, .l_start = 100, .l_len = 1 };
    int fd = open(path, O_RDWR | O_CLOEXEC);

    g_assert_cmpint(fcntl(fd, F_OFD_SETLK, &lock), ==, 0);
    return fd;
}

static inline void
put_up_guard(const Host *host)
{
    MUST(host->folder, "sh -c 'mkdir -p hooks/qemu.d; cp /bin/true hooks/livemerge-hook; "
                       "cp /bin/true hooks/qemu.d/livemerge'");
}
