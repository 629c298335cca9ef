/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * Tests of src/agent/starting.c, what libvirt's hook is answered and how a stale definition is
 * mended, on a hypervisor in memory.
 */
#include "agent/operation.h"
#include "agent/starting.h"
#include "agent_on_fake.h"
#include "base/clock.h"

#include <glib/gstdio.h>
#include <sys/stat.h>

/* A VM that is off, with disks vda: a.0.q <- a.1.q <- a.2.q and vdb likewise, and its agent. */
typedef struct {
    char *folder;
    Fake fake;
    Agent *agent;
    AgentVm *entry;
    Operation *op;
} Host;

static char *
volume(const Host *host, char disk, unsigned i)
{
    return g_strdup_printf("%s/d/%c.%u.q", host->folder, disk, i);
}

static bool
is_loaded(Host *host)
{
    WITH_LOCK(&host->agent->lock);

    return host->agent->loaded;
}

static void
agent_begin(Host *host, bool connected)
{
    g_autofree char *state = in(host->folder, "s");
    const AgentOptions options = { .state_dir = state,
                                   .pivot_budget_ms = 1000,
                                   .quiesce_budget_s = 1 };

    fake_is_away(&host->fake, !connected);
    host->agent = agent_attached(&host->fake, &options);
    if (connected)
        agent_connect(host->agent);
    host->entry = agent_entry(host->agent, FAKE_VM, connected);
}

static void
agent_end(Host *host)
{
    fake_is_away(&host->fake, true);
    agent_free(g_steal_pointer(&host->agent));
}

static void
host_make(Host *host)
{
    host->folder = folder_new();
    MUST(host->folder, "mkdir -m 700 s d");
    host->fake.hv.ops = &fake_ops;
    g_mutex_init(&host->fake.lock);
    for (char disk = 'a'; disk <= 'b'; disk++) {
        FakeDisk *fake = &host->fake.disks[disk - 'a'];
        g_autofree char *below = NULL;
        for (unsigned i = 0; i < 3; i++) {
            g_autofree char *name = g_strdup_printf("d/%c.%u.q", disk, i);
            g_autofree char *path =
                image(host->folder, name, MIB, below, below != NULL ? "qcow2" : NULL);
            g_free(below);
            below = g_path_get_basename(path);
        }
        g_snprintf(fake->target, sizeof fake->target, "vd%c", disk);
        fake->stored = volume(host, disk, 2);
        fake->live = g_strdup(fake->stored);
    }
    agent_begin(host, true);
}

static void
host_clear(Host *host)
{
    if (host->op != NULL) {
        g_ptr_array_remove(host->entry->operations, host->op);
        json_decref(host->op->row.data);
        json_decref(host->op->row.params);
        g_free(host->op);
    }
    agent_end(host);
    for (unsigned i = 0; i < FAKE_DISKS; i++) {
        g_free(host->fake.disks[i].live);
        g_free(host->fake.disks[i].stored);
    }
    g_mutex_clear(&host->fake.lock);
    folder_remove(&host->folder);
}
G_DEFINE_AUTO_CLEANUP_CLEAR_FUNC(Host, host_clear)

static void
define(Host *host, const char *target, const char *source)
{
    WITH_LOCK(&host->fake.lock);
    fake_set(&fake_disk(&host->fake, target)->stored, source);
}

static char *
defined(Host *host, const char *target)
{
    WITH_LOCK(&host->fake.lock);
    return g_strdup(fake_disk(&host->fake, target)->stored);
}

static void
wait_defined(Host *host, const char *target, const char *source)
{
    int64_t until = g_get_monotonic_time() + PATIENCE_US;
    g_autofree char *now = defined(host, target);

    while (g_strcmp0(now, source) != 0) {
        if (g_get_monotonic_time() > until)
            g_error("the definition names %s, but should name %s", now, source);
        g_usleep(2000);
        g_free(now);
        now = defined(host, target);
    }
}

/* The refusal, NULL = it may start. The caller frees. */
static char *
ask(Host *host, const char *target, const char *source)
{
    g_autoptr(json_t) body = json_pack("{s:[{s:s, s:s, s:s}]}", "disks", "target", target, "source",
                                       source, "format", "qcow2");
    json_t *answer = NULL;
    g_autoptr(GError) error = NULL;

    if (starting_ask(host->agent, NULL, FAKE_VM, body, &answer, &error)) {
        g_assert_no_error(error);
        g_assert_null(answer);
        return NULL;
    }
    g_assert_error(error, ERR, ERR_REFUSED);
    return g_strdup(error->message);
}

static void
expect(Host *host, const char *target, char disk, unsigned i, const char *refusal)
{
    g_autofree char *source = volume(host, disk, i);
    g_autofree char *said = ask(host, target, source);

    if (refusal == NULL)
        g_assert_cmpstr(said, ==, NULL);
    else if (said == NULL || strstr(said, refusal) == NULL)
        g_error("starting from %s: \"%s\" is not in: %s", source, refusal, said);
}

/* ---- the answer ---- */

static void
test_answers(void)
{
    g_auto(Host) host = { 0 };
    g_autofree char *leaf = NULL;

    host_make(&host);
    leaf = volume(&host, 'a', 2);
    expect(&host, "vda", 'a', 2, NULL);
    expect(&host, "vdb", 'b', 2, NULL);
    expect(&host, "vda", 'a', 1, leaf);
    expect(&host, "vda", 'a', 0, "start the VM again");
    expect(&host, "vdb", 'a', 0, "newest data");
    g_autofree char *other = ask(&host, "vdc", "/nonexistent/file");
    g_assert_cmpstr(other, ==, NULL);
}

/* libvirt is not connected: it starts its VMs before it lets anybody in. */
static void
test_before_libvirt(void)
{
    g_auto(Host) host = { 0 };

    host_make(&host);
    agent_end(&host);
    agent_begin(&host, false);
    g_assert_false(is_loaded(&host));
    expect(&host, "vda", 'a', 2, NULL);
    expect(&host, "vda", 'a', 1, "newest data");
}

static void
test_bad_requests(void)
{
    static const char *const bodies[] = {
        "{}",
        "{\"disks\": {}}",
        "{\"disks\": [1]}",
        "{\"disks\": [{\"target\": \"vda\"}]}",
        "{\"disks\": [{\"source\": \"/x\"}]}",
        "{\"disks\": [{\"target\": \"vda\", \"source\": \"x\"}]}",
    };
    g_auto(Host) host = { 0 };
    json_t *answer = NULL;

    host_make(&host);
    for (size_t i = 0; i < G_N_ELEMENTS(bodies); i++) {
        g_autoptr(json_t) body = json_loads(bodies[i], 0, NULL);
        g_autoptr(GError) error = NULL;
        g_assert_false(starting_ask(host.agent, NULL, FAKE_VM, body, &answer, &error));
        g_assert_error(error, ERR, ERR_INVALID);
    }
    g_autoptr(json_t) none = json_pack("{s:[]}", "disks");
    g_assert_true(starting_ask(host.agent, NULL, FAKE_VM, none, &answer, NULL));
    g_assert_true(starting_ask(host.agent, NULL, "no id", none, &answer, NULL));
}

static void
test_damaged_manifest(void)
{
    g_auto(Host) host = { 0 };

    host_make(&host);
    g_autofree char *file = g_strdup_printf("%s/d/.livemerge/vms/" FAKE_VM ".json", host.folder);
    g_assert_true(g_file_set_contents(file, "{", 1, NULL));
    expect(&host, "vda", 'a', 1, NULL);
}

/* ---- whoever is at work on the VM ---- */

/* Somebody who asks libvirt for this VM waits for the hook: the hook cannot wait for him. */
static void
test_does_not_wait(void)
{
    g_auto(Host) host = { 0 };
    int64_t began;

    host_make(&host);
    g_autofree char *lock_file =
        g_strdup_printf("%s/d/.livemerge/vms/" FAKE_VM ".lock", host.folder);
    g_autoptr(Domain) domain = NULL;
    g_autofree char *dir = in(host.folder, "d");
    domain = domain_open(dir, NULL, NULL);
    autofd int lock = vm_start_lock(domain, FAKE_VM, 0, NULL);
    g_assert_cmpint(lock, >=, 0);
    g_mutex_lock(&host.entry->lock);
    began = clock_mono_us();
    expect(&host, "vda", 'a', 2, NULL);
    expect(&host, "vda", 'a', 1, "newest data");
    g_assert_cmpint(clock_mono_us() - began, <, 8 * G_TIME_SPAN_SECOND); /* libvirt has 10 s */
    g_mutex_unlock(&host.entry->lock);
}

static void
stand_at_pivot(Host *host, const char *kind, json_t *take_data)
{
    host->op = g_new0(Operation, 1);
    host->op->row.id = (char *)"aaaaaaaa-0000-4000-8000-000000000001";
    host->op->row.step = (char *)"pivot";
    host->op->agent = host->agent;
    host->op->entry = host->entry;
    host->op->kind = operation_kinds;
    while (!g_str_equal(host->op->kind->kind, kind))
        host->op->kind++;
    host->op->row.params = json_object();
    host->op->row.data = take_data;
    WITH_LOCK(&host->agent->lock);
    host->entry->worker = true; /* nobody turns it */
    g_ptr_array_add(host->entry->operations, host->op);
}

static void
begin_pivot(Host *host, bool suspended)
{
    stand_at_pivot(
        host, "snapshot-create",
        json_pack("{s:s, s:{s:b}}", "target", "vda", "pivoting", "suspended", (int)suspended));
}

/* The definition names the new leaf, and the manifest does not yet (its storage is full): until it
 * does the old leaf is the truth, and what the VM wrote to the new one could be merged over. */
static void
test_open_switch(void)
{
    g_auto(Host) host = { 0 };

    host_make(&host);
    g_autofree char *base = volume(&host, 'a', 0), *middle = volume(&host, 'a', 1),
                    *leaf = volume(&host, 'a', 2);
    stand_at_pivot(&host, "merge",
                   json_pack("{s:s, s:b, s:[s, s, s], s:[s, s]}", "target", "vda", "switching", 1,
                             "before", base, middle, leaf, "after", base, middle));
    expect(&host, "vda", 'a', 1, "the operation that is under way decides");
}

static void
test_open_pivot(void)
{
    static const struct {
        bool suspended, quiet, starts;
    } rows[] = {
        { true, true, true },   /* the guest stood still: the manifest has the leaf */
        { true, false, false }, /* it is being written just now */
        { false, true, false }, /* somebody may have resumed the guest meanwhile */
        { false, false, false },
    };

    for (size_t i = 0; i < G_N_ELEMENTS(rows); i++) {
        g_auto(Host) host = { 0 };
        host_make(&host);
        begin_pivot(&host, rows[i].suspended);
        if (!rows[i].quiet)
            g_mutex_lock(&host.entry->lock);
        expect(&host, "vda", 'a', 2, rows[i].starts ? NULL : "try again in a moment");
        if (!rows[i].quiet)
            g_mutex_unlock(&host.entry->lock);
        expect(&host, "vda", 'a', 1,
               rows[i].suspended ? "the operation that is under way decides" : "in a moment");
    }
}

/* ---- mending ---- */

static int64_t
generation(Host *host)
{
    g_autoptr(Vm) vm = agent_vm_shown(host->agent, FAKE_VM);

    return vm->generation;
}

static void
look(Host *host)
{
    g_autoptr(GError) error = NULL;
    WITH_LOCK(&host->entry->lock);

    g_assert_true(agent_look(host->agent, host->entry, &error));
    g_assert_no_error(error);
}

static void
test_mends(void)
{
    g_auto(Host) host = { 0 };

    host_make(&host);
    g_autofree char *leaf_a = volume(&host, 'a', 2);
    g_autofree char *leaf_b = volume(&host, 'b', 2);
    g_autofree char *old = volume(&host, 'a', 0);
    int64_t before = generation(&host);
    define(&host, "vda", old);
    look(&host);
    g_autofree char *now_a = defined(&host, "vda");
    g_autofree char *now_b = defined(&host, "vdb");
    g_assert_cmpstr(now_a, ==, leaf_a);
    g_assert_cmpstr(now_b, ==, leaf_b);
    g_assert_cmpuint(host.fake.redefines, ==, 1);
    g_assert_cmpint(generation(&host), ==, before);
    g_autoptr(Vm) vm = agent_vm_shown(host.agent, FAKE_VM);
    g_assert_cmpuint(vm_disk(vm, "vda")->volumes->len, ==, 3);
}

/* A refused start is followed by it. */
static void
test_mends_after_refusal(void)
{
    g_auto(Host) host = { 0 };

    host_make(&host);
    g_autofree char *leaf = volume(&host, 'b', 2);
    g_autofree char *old = volume(&host, 'b', 1);
    define(&host, "vdb", old);
    expect(&host, "vdb", 'b', 1, leaf);
    wait_defined(&host, "vdb", leaf);
    expect(&host, "vdb", 'b', 2, NULL);
}

/* A VM that runs has the truth; and a definition is no business of ours while an operation is under
 * way. */
static void
test_leaves_alone(void)
{
    g_auto(Host) host = { 0 };

    host_make(&host);
    g_autofree char *old = volume(&host, 'a', 1);
    begin_pivot(&host, true);
    define(&host, "vda", old);
    look(&host);
    g_mutex_lock(&host.agent->lock);
    g_ptr_array_set_size(host.entry->operations, 0);
    g_mutex_unlock(&host.agent->lock);
    fake_power_on(&host.fake);
    look(&host);
    g_autofree char *now = defined(&host, "vda");
    g_assert_cmpstr(now, ==, old);
    g_assert_cmpuint(host.fake.redefines, ==, 0);
}

/* A leaf that cannot be read: nothing is changed, and the VM is shown with the reason. */
static void
test_unreadable_leaf(void)
{
    g_auto(Host) host = { 0 };

    host_make(&host);
    g_autofree char *leaf = volume(&host, 'a', 2);
    g_autofree char *old = volume(&host, 'a', 1);
    int64_t before = generation(&host);
    poke(leaf, 0, 4, 0);
    define(&host, "vda", old);
    look(&host);
    g_autoptr(Vm) vm = agent_vm_shown(host.agent, FAKE_VM);
    g_assert_nonnull(vm->unmanaged);
    g_assert_nonnull(strstr(vm->unmanaged, leaf));
    g_assert_cmpuint(host.fake.redefines, ==, 0);
    expect(&host, "vda", 'a', 1, "cannot be read");
    poke(leaf, 0, 4, 0x514649fb);
    look(&host);
    g_assert_cmpint(generation(&host), ==, before);
    wait_defined(&host, "vda", leaf);
}

/* ---- the files in libvirt's folder ---- */

int
main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/starting/answers", test_answers);
    g_test_add_func("/starting/before-libvirt", test_before_libvirt);
    g_test_add_func("/starting/bad-requests", test_bad_requests);
    g_test_add_func("/starting/damaged-manifest", test_damaged_manifest);
    g_test_add_func("/starting/does-not-wait", test_does_not_wait);
    g_test_add_func("/starting/open-pivot", test_open_pivot);
    g_test_add_func("/starting/open-switch", test_open_switch);
    g_test_add_func("/starting/mends", test_mends);
    g_test_add_func("/starting/mends-after-refusal", test_mends_after_refusal);
    g_test_add_func("/starting/leaves-alone", test_leaves_alone);
    g_test_add_func("/starting/unreadable-leaf", test_unreadable_leaf);
    return g_test_run();
}
