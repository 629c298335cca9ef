/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * Tests of the guards of a merge: the check before old volumes go (verify.c), and the free space
 * that is watched (space.c), with a hypervisor in memory, real qcow2 files, and storage that tells
 * what the test wants it to.
 */
#include "agent/merge.h"
#include "agent/space.h"
#include "agent_on_fake.h"
#include "base/text.h"
#include "qcow2/verify.h"

#include <glib/gstdio.h>

#define OP "aaaaaaaa-0000-4000-8000-000000000001"
#define LIMIT 50000000 /* bytes a second, as the user asked for */

/* ---- what is compared ---- */

/* base.q, or (with_below) below.q <- base.q; on it mid.q <- top.q. A line of writes each. */
typedef struct {
    const char *name;
    bool with_below;
    const char *base, *mid, *top; /* what qemu-io does; NULL = nothing */
    const char *differs;          /* NULL = all is there */
} CommitCase;

/* clang-format off */
static const CommitCase commit_cases[] = {
    { "all-there",        false, "write 0 256k",      "write 0 64k",    "write 64k 64k",      NULL },
    { "nothing-above",    true,  NULL,                NULL,             NULL,                 NULL },
    { "mid-left-out",     false, "write 64k 64k",     "write -P 3 0 64k", "write 64k 64k",    "does not hold the same" },
    { "top-left-out",     true,  "write 64k 64k",     "write 64k 64k",  "write 128k 64k",     "byte 131072 " },
    { "zeros-over-below", true,  NULL,                "write -z 0 64k", NULL,                 "byte 0 " },
    { "zeros-over-none",  false, NULL,                "write -z 0 64k", NULL,                 NULL },
    { "data-of-zeros",    false, NULL,                "write -P 0 0 64k", NULL,               NULL },
    { "zeros-for-zeros",  true,  "write -z 0 64k",    "write -P 0 0 64k", "write -z 0 64k",   NULL },
    { "zeros-for-data",   true,  "write -z 0 64k",    "write -P 9 0 64k", NULL,               "does not hold the same" },
    { "older-covered",    false, "write 0 64k",       "write -P 3 0 64k", "write -P 4 0 64k", NULL },
};
/* clang-format on */

static void
write_layer(const char *folder, const char *name, const char *what)
{
    if (what != NULL)
        MUST(folder, "qemu-io -f qcow2 -c '%s' %s", what, name);
}

static void
test_commit_maps(void)
{
    if (!have_qemu())
        return;
    for (size_t i = 0; i < G_N_ELEMENTS(commit_cases); i++) {
        const CommitCase *c = &commit_cases[i];
        FOLDER(folder);
        g_autofree char *below = image(folder, "below.q", MIB, NULL, NULL),
                        *base = image(folder, "base.q", MIB, c->with_below ? "below.q" : NULL,
                                      c->with_below ? "qcow2" : NULL),
                        *mid = image(folder, "mid.q", MIB, "base.q", "qcow2"),
                        *top = image(folder, "top.q", MIB, "mid.q", "qcow2");
        const Qcow2Source upper[] = { { mid, "qcow2" }, { top, "qcow2" } },
                          lower = { base, "qcow2" };
        const Qcow2Verify how = { .virtual_size = MIB };
        g_autoptr(GError) error = NULL;

        write_layer(folder, "below.q", "write -P 77 0 1M");
        write_layer(folder, "base.q", c->base);
        write_layer(folder, "mid.q", c->mid);
        write_layer(folder, "top.q", c->top);
        bool same = qcow2_verify_commit(upper, 2, &lower, &how, NULL, &error);
        if (same != (c->differs == NULL))
            g_error("%s: %s", c->name, same ? "no difference was found" : error->message);
        if (!same)
            assert_refused(error, ERR_CORRUPT, c->differs);
    }
}

/* Sizes that differ are a difference, unless the caller knows better; what was copied is not read
 * when only maps are compared, but a hole in it is seen. */
static void
test_built_maps(void)
{
    FOLDER(folder);
    g_autofree char *old = image(folder, "old.q", MIB, NULL, NULL),
                    *grown = image(folder, "grown.q", 2 * MIB, NULL, NULL);
    const Qcow2Source run = { old, "qcow2" };
    Qcow2Verify how = { 0 };
    Qcow2Compared compared = { 0 };
    g_autoptr(GError) error = NULL;

    if (!have_qemu())
        return;
    MUST(folder, "qemu-io -f qcow2 -c 'write -P 1 0 256k' old.q");
    MUST(folder, "qemu-io -f qcow2 -c 'write -P 1 0 256k' grown.q");
    g_assert_false(qcow2_verify_map(&run, 1, grown, &how, NULL, &error));
    assert_refused(error, ERR_CORRUPT, "2097152");
    g_clear_error(&error);
    how.virtual_size = 2 * MIB;
    g_assert_true(qcow2_verify_map(&run, 1, grown, &how, &compared, &error));
    g_assert_cmpuint(compared.bytes_compared + compared.bytes_same_blocks, ==, 256 * KIB);

    MUST(folder, "qemu-io -f qcow2 -c 'write -P 2 64k 4k' grown.q");
    how.maps_only = true;
    g_assert_true(qcow2_verify_map(&run, 1, grown, &how, &compared, &error));
    how.maps_only = false;
    g_assert_false(qcow2_verify_map(&run, 1, grown, &how, &compared, &error));
    assert_refused(error, ERR_CORRUPT, "byte 65536 ");
    g_clear_error(&error);
    how.maps_only = true;
    MUST(folder, "qemu-io -f qcow2 -c 'discard 128k 64k' grown.q");
    g_assert_false(qcow2_verify_map(&run, 1, grown, &how, &compared, &error));
    assert_refused(error, ERR_CORRUPT, "byte 131072 ");
}

static bool
stop_at_third(uint64_t done, uint64_t total, void *data)
{
    return ++*(unsigned *)data < 3;
}

/* A cancel is asked for every few MiB, not once for each table. */
static void
test_cancel_soon(void)
{
    FOLDER(folder);
    g_autofree char *a = image(folder, "a.q", 64 * MIB, NULL, NULL),
                    *b = image(folder, "b.q", 64 * MIB, NULL, NULL);
    const Qcow2Source one = { a, "qcow2" }, other = { b, "qcow2" };
    unsigned asked = 0;
    const Qcow2Verify how = { .progress = stop_at_third, .data = &asked };
    g_autoptr(GError) error = NULL;

    if (!have_qemu())
        return;
    MUST(folder, "qemu-io -f qcow2 -c 'write -P 1 0 64M' a.q");
    MUST(folder, "qemu-io -f qcow2 -c 'write -P 1 0 32M' -c 'write -P 2 32M 32M' b.q");
    g_assert_false(qcow2_verify_content(&one, 1, &other, 1, &how, NULL, &error));
    g_assert_error(error, ERR, ERR_CANCELLED); /* not the difference at 32 MiB */
}

/* ---- a host in memory ---- */

typedef struct {
    char *folder, *disks, *state;
    Fake fake;
    Agent *agent;
} Host;

static uintptr_t room; /* atomic */
static uint64_t total; /* what every storage domain tells */
static int asked;      /* atomic: how often */

static void
tell_space(const Domain *domain, uint64_t *ret_free, uint64_t *ret_total)
{
    *ret_free = (uint64_t)g_atomic_pointer_get(&room);
    *ret_total = total;
    g_atomic_int_inc(&asked);
}

/* It has seen the room as it is now, and had the time to act on it. */
static void
wait_for_looks(void)
{
    int64_t until = g_get_monotonic_time() + PATIENCE_US;
    int begun = g_atomic_int_get(&asked);

    while (g_atomic_int_get(&asked) < begun + 3) {
        g_assert_cmpint(g_get_monotonic_time(), <, until);
        g_usleep(1000);
    }
}

static void
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

static void
agent_end(Host *host)
{
    agent_off(&host->fake, g_steal_pointer(&host->agent));
}

/* a.q <- a.1.q <- a.2.q <- a.3.q, each with 64 KiB of its own and 64 KiB over all others */
static void
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

static Host *
host_new(void)
{
    Host *host = g_new0(Host, 1);

    host_make(host);
    return host;
}

static void
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

static bool
merge_begin(Host *host, unsigned base, unsigned top, const char *strategy, const char *verify,
            GError **error)
{
    g_autoptr(Vm) vm = agent_vm_copy(host->agent, FAKE_VM);
    const Disk *disk = vm_disk(vm, "vda");
    g_autoptr(json_t) answer = NULL;
    g_autoptr(json_t) body = json_pack(
        "{s:s, s:s, s:s, s:s, s:s, s:s, s:s, s:s, s:i, s:[s]}", "id", OP, "kind", "merge", "vm_id",
        FAKE_VM, "disk_id", disk->id, "base", ((Volume *)disk->volumes->pdata[base])->id, "top",
        ((Volume *)disk->volumes->pdata[top])->id, "strategy", strategy, "verify", verify,
        "bandwidth", LIMIT, "remove", ((Volume *)disk->volumes->pdata[base])->id);

    return operation_begin(host->agent, body, &answer, error);
}

static json_t *
operation_now(Host *host)
{
    json_t *json = NULL;
    g_autoptr(GError) error = NULL;

    operation_get(host->agent, OP, &json, &error);
    g_assert_no_error(error);
    return json;
}

static bool
has_ended(const json_t *op)
{
    return !g_str_equal(json_text(op, "state"), "running");
}

static bool
is_held(const json_t *op)
{
    return json_object_get(op, "attention") != NULL;
}

static bool
is_not_held(const json_t *op)
{
    return !is_held(op);
}

/* The operation, once it is as wanted; if it never is, the test fails with how it stands. */
static json_t *
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

static uint64_t
job_limit(Host *host)
{
    WITH_LOCK(&host->fake.lock);

    return host->fake.disks[0].bandwidth;
}

static void
set_endless(Host *host, bool endless)
{
    WITH_LOCK(&host->fake.lock);

    host->fake.endless = endless;
}

static void
assert_guest(Host *host)
{
    MUST(host->disks, "qemu-img compare -q -f qcow2 -F raw %s a.gold", host->fake.disks[0].live);
}

/* ---- space ---- */

static void
merge_until_held(Host *host, uint64_t left_free)
{
    g_autoptr(GError) error = NULL;

    set_endless(host, true);
    merge_begin(host, 1, 2, "commit", "extents", &error);
    g_assert_no_error(error);
    while (host->fake.disks[0].looks < 3)
        g_usleep(1000);
    g_atomic_pointer_set(&room, left_free);
    g_autoptr(json_t) op = wait_until(host, is_held, "paused");
    const json_t *attention = json_object_get(op, "attention");
    g_assert_cmpstr(json_text(attention, "kind"), ==, "space");
    g_assert_nonnull(strstr(json_text(attention, "message"), host->disks));
    g_assert_cmpstr(json_text(json_object_get(op, "progress"), "phase"), ==, "paused");
    while (job_limit(host) != SPACE_HOLD) /* at most until the next look */
        g_usleep(1000);
}

static void
assert_merged(Host *host)
{
    set_endless(host, false);
    agent_kick(host->agent, FAKE_VM);
    g_autoptr(json_t) op = wait_until(host, has_ended, "ended");
    g_assert_cmpstr(json_text(op, "state"), ==, "done");
    g_assert_null(json_object_get(op, "attention"));
    g_assert_cmpstr(json_text(json_object_get(op, "result"), "verified"), ==, "extents");
    assert_guest(host);
}

static void
test_goes_on_by_itself(void)
{
    g_autoptr(Host) host = host_new();

    merge_until_held(host, GIB - 1); /* the reserve is 1 GiB */
    g_atomic_pointer_set(&room, GIB + MIB);
    json_decref(wait_until(host, is_not_held, "went on"));
    g_assert_cmpuint(job_limit(host), ==, LIMIT);
    assert_merged(host);
}

static void
test_person_says_go_on(void)
{
    g_autoptr(Host) host = host_new();
    g_autoptr(GError) error = NULL;
    g_autoptr(json_t) answer = NULL;

    merge_until_held(host, GIB - 1);
    g_assert_true(operation_resume(host->agent, OP, &answer, &error));
    json_decref(wait_until(host, is_not_held, "went on"));
    g_assert_cmpuint(job_limit(host), ==, LIMIT);
    g_atomic_pointer_set(&room, GIB / 2 + MIB); /* half of what was free may be used */
    wait_for_looks();
    g_autoptr(json_t) op = operation_now(host);
    g_assert_false(is_held(op));
    g_atomic_pointer_set(&room, GIB / 2 - MIB);
    json_decref(wait_until(host, is_held, "paused again"));
    g_atomic_pointer_set(&room, 5 * GIB);
    json_decref(wait_until(host, is_not_held, "went on"));
    assert_merged(host);
}

static void
test_held_through_restart(void)
{
    g_autoptr(Host) host = host_new();

    merge_until_held(host, GIB - 1);
    agent_end(host);
    host->fake.disks[0].bandwidth = 0; /* somebody let it loose meanwhile */
    agent_begin(host);
    g_autoptr(json_t) op = operation_now(host);
    g_assert_true(is_held(op));
    while (job_limit(host) != SPACE_HOLD)
        g_usleep(1000);
    g_atomic_pointer_set(&room, 5 * GIB);
    json_decref(wait_until(host, is_not_held, "went on"));
    assert_merged(host);
}

/* Asked for just before the agent dies: it is kept. */
static void
test_resume_through_restart(void)
{
    g_autoptr(Host) host = host_new();
    g_autoptr(GError) error = NULL;
    g_autoptr(json_t) answer = NULL;

    merge_until_held(host, GIB - 1);
    g_mutex_lock(&host->fake.lock);
    host->fake.away = true;
    g_mutex_unlock(&host->fake.lock);
    g_assert_true(operation_resume(host->agent, OP, &answer, &error));
    agent_end(host);
    agent_begin(host);
    json_decref(wait_until(host, is_not_held, "went on"));
    assert_merged(host);
}

static void
test_cancel_while_held(void)
{
    g_autoptr(Host) host = host_new();
    g_autoptr(GError) error = NULL;
    g_autoptr(json_t) answer = NULL;

    merge_until_held(host, GIB - 1);
    g_assert_true(operation_cancel(host->agent, OP, &answer, &error));
    g_autoptr(json_t) op = wait_until(host, has_ended, "ended");
    g_assert_cmpstr(json_text(op, "state"), ==, "cancelled");
    g_assert_null(json_object_get(op, "attention"));
    g_assert_cmpuint(host->fake.cancels, ==, 1);
    assert_guest(host);
}

/* Less than the reserve from the start: half of it may be used. */
static void
test_little_from_the_start(void)
{
    g_autoptr(Host) host = host_new();
    g_autoptr(GError) error = NULL;

    g_atomic_pointer_set(&room, GIB / 2);
    set_endless(host, true);
    merge_begin(host, 1, 2, "commit", "extents", &error);
    g_assert_no_error(error);
    while (host->fake.disks[0].looks < 6)
        g_usleep(1000);
    g_autoptr(json_t) op = operation_now(host);
    g_assert_false(is_held(op));
    g_atomic_pointer_set(&room, GIB / 4 - 1);
    json_decref(wait_until(host, is_held, "paused"));
    g_atomic_pointer_set(&room, GIB);
    json_decref(wait_until(host, is_not_held, "went on"));
    assert_merged(host);
}

/* To go on is asked of one that has not paused: nothing happens, now or later. */
static void
test_resume_of_nothing(void)
{
    g_autoptr(Host) host = host_new();
    g_autoptr(GError) error = NULL;
    g_autoptr(json_t) answer = NULL;

    g_assert_false(operation_resume(host->agent, OP, &answer, &error));
    g_assert_error(error, ERR, ERR_NOT_FOUND);
    g_clear_error(&error);
    set_endless(host, true);
    merge_begin(host, 1, 2, "commit", "extents", &error);
    g_assert_no_error(error);
    while (host->fake.disks[0].looks < 3)
        g_usleep(1000);
    g_assert_true(operation_resume(host->agent, OP, &answer, &error));
    g_atomic_pointer_set(&room, MIB);
    json_decref(wait_until(host, is_held, "paused"));
    wait_for_looks();
    g_autoptr(json_t) op = operation_now(host);
    g_assert_true(is_held(op));
}

static bool
shows_suspended(const json_t *op)
{
    const char *text = json_text(op, "waiting_for");

    return text != NULL && strstr(text, "virsh resume web1") != NULL;
}

static bool
shows_nothing(const json_t *op)
{
    return json_text(op, "waiting_for") == NULL;
}

/* QEMU suspended the guest, whose own write found the storage full: shown, and left alone. */
static void
test_guest_ran_out_of_space(void)
{
    g_autoptr(Host) host = host_new();
    g_autoptr(GError) error = NULL;

    set_endless(host, true);
    merge_begin(host, 1, 2, "commit", "extents", &error);
    g_assert_no_error(error);
    g_mutex_lock(&host->fake.lock);
    host->fake.io_error = "enospc";
    host->fake.paused = true;
    g_mutex_unlock(&host->fake.lock);
    g_autoptr(json_t) op = wait_until(host, shows_suspended, "told that the VM is suspended");
    g_assert_false(is_held(op));
    g_mutex_lock(&host->fake.lock);
    host->fake.paused = false; /* a person did that */
    g_mutex_unlock(&host->fake.lock);
    json_decref(wait_until(host, shows_nothing, "went on"));
    g_assert_cmpuint(host->fake.resumes, ==, 0);
    assert_merged(host);
}

/* ---- the check ---- */

static void
test_commit_is_spoilt(void)
{
    static const struct {
        const char *verify, *state;
    } rows[] = { { "full", "failed" }, { "extents", "done" }, { "none", "done" } };

    for (size_t i = 0; i < G_N_ELEMENTS(rows); i++) {
        g_autoptr(Host) host = host_new();
        g_autoptr(GError) error = NULL;
        g_autofree char *old = in(host->disks, "a.2.q"), *base = in(host->disks, "a.1.q");

        host->fake.disks[0].spoils = true;
        merge_begin(host, 1, 2, "commit", rows[i].verify, &error);
        g_assert_no_error(error);
        g_autoptr(json_t) op = wait_until(host, has_ended, "ended");
        const json_t *result = json_object_get(op, "result"), *why = json_object_get(op, "error");
        g_assert_cmpstr(json_text(op, "state"), ==, rows[i].state);
        g_assert_cmpstr(json_text(result, "verified"), ==, rows[i].verify);
        g_assert_true(g_file_test(old, G_FILE_TEST_EXISTS));
        if (g_str_equal(rows[i].state, "done"))
            continue;
        g_assert_true(json_flag(result, "mismatch"));
        g_assert_cmpuint(json_array_size(json_object_get(result, "volumes_left")), ==, 0);
        g_assert_cmpstr(json_text(why, "code"), ==, "corrupt");
        g_assert_nonnull(strstr(json_text(why, "message"), old));
        g_assert_nonnull(strstr(json_text(why, "message"), base));
        g_assert_nonnull(strstr(json_text(why, "message"), "byte 4096 "));
        g_autoptr(Domain) domain = domain_open(host->disks, NULL, &error);
        g_autoptr(Vm) stored = manifest_load(domain, FAKE_VM, &error);
        g_assert_no_error(error);
        g_assert_cmpuint(stored->operations->len, ==, 0);
        g_assert_cmpuint(vm_disk(stored, "vda")->volumes->len, ==, 3); /* as QEMU has it */
    }
}

static bool
cannot_tell(const json_t *op)
{
    const char *text = json_text(op, "waiting_for");

    return text != NULL && strstr(text, "a.2.q") != NULL;
}

/* What cannot be read is not called a difference: it waits; given up, the old volumes stay. */
static void
test_unreadable(void)
{
    g_autoptr(Host) host = host_new();
    g_autoptr(GError) error = NULL;
    g_autoptr(json_t) answer = NULL;
    g_autofree char *old = in(host->disks, "a.2.q"), *away = in(host->disks, "away.q");

    host->fake.disks[0].hides = away;
    merge_begin(host, 1, 2, "commit", "extents", &error);
    g_assert_no_error(error);
    json_decref(wait_until(host, cannot_tell, "waited"));
    g_assert_cmpint(g_rename(away, old), ==, 0);
    agent_kick(host->agent, FAKE_VM);
    g_autoptr(json_t) op = wait_until(host, has_ended, "ended");
    g_assert_cmpstr(json_text(op, "state"), ==, "done");
    g_assert_cmpstr(json_text(json_object_get(op, "result"), "verified"), ==, "extents");
}

static void
test_unreadable_given_up(void)
{
    g_autoptr(Host) host = host_new();
    g_autoptr(GError) error = NULL;
    g_autoptr(json_t) answer = NULL;
    g_autofree char *away = in(host->disks, "away.q");

    host->fake.disks[0].hides = away;
    merge_begin(host, 1, 2, "commit", "extents", &error);
    g_assert_no_error(error);
    json_decref(wait_until(host, cannot_tell, "waited"));
    g_assert_true(operation_cancel(host->agent, OP, &answer, &error));
    g_autoptr(json_t) op = wait_until(host, has_ended, "ended");
    const json_t *left = json_object_get(json_object_get(op, "result"), "volumes_left");
    g_assert_cmpstr(json_text(op, "state"), ==, "cancelled");
    g_assert_cmpuint(json_array_size(left), ==, 0);
    assert_guest(host);
}

static void
test_words(void)
{
    g_autoptr(Host) host = host_new();
    g_autoptr(GError) error = NULL;

    g_assert_false(merge_begin(host, 1, 2, "commit", "thoroughly", &error));
    assert_refused(error, ERR_INVALID, "thoroughly");
    g_clear_error(&error);
    merge_begin(host, 2, 3, "commit-active", "full", &error);
    g_assert_no_error(error);
    g_autoptr(json_t) op = wait_until(host, has_ended, "ended");
    g_assert_cmpstr(json_text(json_object_get(op, "error"), "code"), ==, "refused");
    assert_guest(host);
}

/* Of a run that the VM writes, its job's word and the pivot are what there is. */
static void
test_verified_words(void)
{
    static const struct {
        unsigned base, top;
        const char *strategy, *verify, *verified;
    } rows[] = {
        { 1, 2, "commit", "full", "full" },        { 1, 2, "commit", "none", "none" },
        { 2, 3, "commit-active", "none", "none" }, { 2, 3, "commit-active", "extents", "job" },
        { 2, 3, "copy", "extents", "extents" },    { 2, 3, "copy", "full", "full" },
        { 2, 3, "copy", "none", "none" },
    };

    for (size_t i = 0; i < G_N_ELEMENTS(rows); i++) {
        g_autoptr(Host) host = host_new();
        g_autoptr(GError) error = NULL;

        merge_begin(host, rows[i].base, rows[i].top, rows[i].strategy, rows[i].verify, &error);
        g_assert_no_error(error);
        g_autoptr(json_t) op = wait_until(host, has_ended, "ended");
        const json_t *result = json_object_get(op, "result");
        g_assert_cmpstr(json_text(op, "state"), ==, "done");
        g_assert_cmpstr(json_text(result, "verified"), ==, rows[i].verified);
        if (g_str_equal(rows[i].verified, "full"))
            g_assert_cmpint(json_number(result, "bytes_compared") +
                                json_number(result, "bytes_same_blocks"),
                            >, 0);
        assert_guest(host);
    }
}

int
main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/compare/commit-maps", test_commit_maps);
    g_test_add_func("/compare/built-maps", test_built_maps);
    g_test_add_func("/compare/cancel", test_cancel_soon);
    if (!have_qemu())
        return g_test_run();
    g_test_add_func("/space/goes-on-by-itself", test_goes_on_by_itself);
    g_test_add_func("/space/person-says-go-on", test_person_says_go_on);
    g_test_add_func("/space/held-through-restart", test_held_through_restart);
    g_test_add_func("/space/resume-through-restart", test_resume_through_restart);
    g_test_add_func("/space/cancel-while-held", test_cancel_while_held);
    g_test_add_func("/space/little-from-the-start", test_little_from_the_start);
    g_test_add_func("/space/resume-of-nothing", test_resume_of_nothing);
    g_test_add_func("/space/guest-ran-out", test_guest_ran_out_of_space);
    g_test_add_func("/verify/commit-is-spoilt", test_commit_is_spoilt);
    g_test_add_func("/verify/unreadable", test_unreadable);
    g_test_add_func("/verify/unreadable-given-up", test_unreadable_given_up);
    g_test_add_func("/verify/words", test_words);
    g_test_add_func("/verify/verified", test_verified_words);
    return g_test_run();
}
