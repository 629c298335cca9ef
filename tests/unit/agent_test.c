/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * Tests of src/agent: the journal, the step tables, names of new files, and whole operations on a
 * hypervisor in memory with real qcow2 files, stopped at every fault point they pass: whoever comes
 * after must finish or undo them, lose nothing, and leave no VM suspended.
 */
#include "agent/merge.h"
#include "agent/operation.h"
#include "agent_on_fake.h"
#include "base/fault.h"
#include "base/text.h"

#include <glib/gstdio.h>
#include <sched.h>
#include <sqlite3.h>
#include <sys/mount.h>
#include <sys/wait.h>

#define OP "aaaaaaaa-0000-4000-8000-000000000001"
#define OP2 "bbbbbbbb-0000-4000-8000-000000000002"

/* ---- the journal ---- */

static JournalRow
row_make(const char *id)
{
    return (JournalRow){ .id = g_strdup(id),
                         .kind = g_strdup("merge"),
                         .vm_id = g_strdup(FAKE_VM),
                         .step = g_strdup("record"),
                         .params = json_pack("{s:s}", "disk_id", "d"),
                         .data = json_object() };
}

static Journal *
journal_in(const char *folder)
{
    g_autofree char *file = in(folder, "journal.db");
    g_autoptr(GError) error = NULL;
    Journal *journal = journal_open(file, &error);

    g_assert_no_error(error);
    return journal;
}

static void
test_journal(void)
{
    FOLDER(folder);
    g_autoptr(Journal) journal = journal_in(folder);
    g_autofree char *agent_id = g_strdup(journal_agent_id(journal));
    JournalRow row = row_make(OP), other = row_make(OP2);
    g_autoptr(GError) error = NULL;

    g_assert_true(journal_begin(journal, &row, &error));
    g_assert_cmpint(row.created, >, 0);
    g_assert_false(journal_begin(journal, &row, &error));
    g_assert_error(error, ERR, ERR_EXISTS);
    g_clear_error(&error);
    g_assert_false(journal_tombstone(journal, OP, &error));
    g_assert_error(error, ERR, ERR_EXISTS);
    g_clear_error(&error);

    g_assert_true(journal_tombstone(journal, OP2, &error));
    g_assert_true(journal_tombstone(journal, OP2, &error));
    g_assert_false(journal_begin(journal, &other, &error));
    g_assert_error(error, ERR, ERR_GONE);
    g_clear_error(&error);

    /* a cancel is kept, whatever the machine saves afterwards */
    g_assert_true(journal_cancel(journal, OP, &error));
    g_free(row.step);
    row.step = g_strdup("settle");
    row.tried = 2;
    row.error_word = g_strdup("refused");
    row.error_text = g_strdup("because");
    json_object_set_new(row.data, "strategy", json_string("commit"));
    g_assert_true(journal_update(journal, &row, &error));
    journal_close(g_steal_pointer(&journal));

    journal = journal_in(folder);
    g_assert_cmpstr(journal_agent_id(journal), ==, agent_id);
    g_autoptr(GPtrArray) rows = journal_load(journal, &error);
    g_assert_no_error(error);
    g_assert_cmpuint(rows->len, ==, 1);
    JournalRow *back = rows->pdata[0];
    g_assert_cmpstr(back->step, ==, "settle");
    g_assert_cmpuint(back->tried, ==, 2);
    g_assert_true(back->cancel);
    g_assert_cmpstr(back->error_word, ==, "refused");
    g_assert_cmpstr(back->error_text, ==, "because");
    g_assert_cmpstr(json_text(back->data, "strategy"), ==, "commit");
    g_assert_cmpstr(json_text(back->params, "disk_id"), ==, "d");
    g_assert_true(journal_forget(journal, OP, &error));
    g_ptr_array_unref(g_steal_pointer(&rows));
    rows = journal_load(journal, &error);
    g_assert_cmpuint(rows->len, ==, 0);
    journal_row_clear(&row);
    journal_row_clear(&other);
}

static void
test_journal_epoch(void)
{
    FOLDER(folder);
    Journal *journal = journal_in(folder);
    g_autoptr(GError) error = NULL;

    g_assert_true(journal_epoch(journal, 3, &error));
    g_assert_true(journal_epoch(journal, 3, &error));
    g_assert_true(journal_epoch(journal, 7, &error));
    journal_close(journal);
    journal = journal_in(folder);
    g_assert_false(journal_epoch(journal, 6, &error));
    g_assert_error(error, ERR, ERR_STALE_EPOCH);
    g_clear_error(&error);
    g_assert_true(journal_epoch(journal, 7, &error));
    journal_close(journal);
}

/* What cannot be read is never guessed, and never replaced. */
static void
test_journal_damaged(void)
{
    FOLDER(folder);
    g_autoptr(Journal) journal = journal_in(folder);
    g_autofree char *file = in(folder, "journal.db");
    JournalRow row = row_make(OP);
    g_autoptr(GError) error = NULL;
    sqlite3 *db = NULL;

    g_assert_true(journal_begin(journal, &row, &error));
    g_assert_cmpint(sqlite3_open(file, &db), ==, SQLITE_OK);
    g_assert_cmpint(sqlite3_exec(db, "UPDATE operations SET data='{'", NULL, NULL, NULL), ==,
                    SQLITE_OK);
    sqlite3_close(db);
    g_assert_null(journal_load(journal, &error));
    assert_refused(error, ERR_CORRUPT, OP);
    journal_row_clear(&row);
}

/* In a child with mounts of its own: 0 = as promised. */
static int
fill_and_begin(const char *folder)
{
    g_autoptr(GError) error = NULL;
    JournalRow row = row_make(OP), second = row_make(OP2);
    g_autofree char *ballast = in(folder, "ballast");

    if (unshare(CLONE_NEWNS) != 0 || mount("none", "/", NULL, MS_REC | MS_PRIVATE, NULL) != 0 ||
        mount("tmpfs", folder, "tmpfs", 0, "size=2m") != 0)
        return 77;
    Journal *journal = journal_in(folder);
    if (!journal_begin(journal, &row, &error))
        return 1;
    autofd int fd = open(ballast, O_CREAT | O_WRONLY | O_CLOEXEC, 0600);
    static const char block[4096];
    while (write(fd, block, sizeof block) > 0)
        ;
    for (int i = 0; i < 2000; i++) {
        g_autofree char *key = g_strdup_printf("key%d", i);
        json_object_set_new(second.data, key, json_string("a value that takes some space"));
    }
    if (journal_begin(journal, &second, &error))
        return 2;
    if (!g_error_matches(error, ERR, ERR_NO_SPACE) && !g_error_matches(error, ERR, ERR_STORAGE))
        return 3;
    if (ftruncate(fd, 0) != 0)
        return 6;
    g_clear_error(&error);
    g_autoptr(GPtrArray) rows = journal_load(journal, &error);
    if (rows == NULL || rows->len != 1)
        return 4;
    if (!journal_begin(journal, &second, &error)) {
        fprintf(stderr, "# %s\n", error->message);
        return 5;
    }
    return 0;
}

static void
test_journal_full(void)
{
    FOLDER(folder);
    pid_t child = fork();
    int status = 0;

    if (child == 0)
        _exit(fill_and_begin(folder));
    g_assert_cmpint(waitpid(child, &status, 0), ==, child);
    g_assert_true(WIFEXITED(status));
    if (WEXITSTATUS(status) == 77)
        g_test_skip("no right to mount");
    else
        g_assert_cmpint(WEXITSTATUS(status), ==, 0);
}

/* ---- tables and names ---- */

static void
test_tables(void)
{
    for (const OperationKind *kind = operation_kinds; kind->kind != NULL; kind++) {
        g_autoptr(GError) error = NULL;
        steps_check(kind->steps, &error);
        g_assert_no_error(error);
    }
}

static void
test_relative_name(void)
{
    static const struct {
        const char *from, *path, *name;
    } rows[] = {
        { "/a/b/leaf.q", "/a/b/base.q", "base.q" },
        { "/a/b/leaf.q", "/a/base.q", "../base.q" },
        { "/a/b/leaf.q", "/a/c/base.q", "../c/base.q" },
        { "/a/leaf.q", "/a/b/c/base.q", "b/c/base.q" },
        { "/leaf.q", "/base.q", "base.q" },
        { "/leaf.q", "/a/base.q", "a/base.q" },
        { "/a/b/leaf.q", "/x", "../../x" },
        { "/a/b/leaf.q", "/a/b", "../b" },
    };

    for (size_t i = 0; i < G_N_ELEMENTS(rows); i++) {
        g_autofree char *name = relative_name(rows[i].from, rows[i].path);
        g_autoptr(GError) error = NULL;
        g_assert_cmpstr(name, ==, rows[i].name);
        g_autofree char *back = qcow2_backing_path(rows[i].from, name, &error);
        g_assert_no_error(error);
        g_assert_cmpstr(back, ==, rows[i].path);
    }
}

static void
test_new_file_name(void)
{
    static const struct {
        const char *beside, *name;
    } rows[] = {
        { "web.qcow2", "web.aaaaaaaa.qcow2" },
        { "web.12345678.qcow2", "web.aaaaaaaa.qcow2" },
        { "web.img", "web.aaaaaaaa.qcow2" },
        { "web", "web.aaaaaaaa.qcow2" },
        { "web.v2", "web.v2.aaaaaaaa.qcow2" },
        { "web.1234567g.raw", "web.1234567g.aaaaaaaa.qcow2" },
    };
    FOLDER(folder);

    for (size_t i = 0; i < G_N_ELEMENTS(rows); i++) {
        g_autofree char *beside = in(folder, rows[i].beside);
        g_autofree char *wanted = in(folder, rows[i].name);
        g_autofree char *path = new_file_name(beside, OP, "qcow2");
        g_assert_cmpstr(path, ==, wanted);
    }
    g_autofree char *taken = in(folder, "web.aaaaaaaa.qcow2");
    g_assert_true(g_file_set_contents(taken, "x", 1, NULL));
    g_autofree char *beside = in(folder, "web.qcow2");
    g_autofree char *path = new_file_name(beside, OP, "qcow2");
    g_autofree char *wanted = in(folder, "web." OP ".qcow2");
    g_assert_cmpstr(path, ==, wanted);
}

/* ---- operations on a hypervisor in memory ---- */

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

static char *
folder_make(void)
{
    g_autoptr(GError) error = NULL;
    char *folder = g_dir_make_tmp("livemerge-agent-XXXXXX", &error);

    g_assert_no_error(error);
    return folder;
}

/* Each layer writes 64 KiB of its own, and all of them the first 64 KiB. */
static void
template_make(void)
{
    template = folder_make();
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

static void
agent_begin(Host *host)
{
    g_autofree char *hooks = in(host->folder, "hooks");
    const AgentOptions options = {
        .state_dir = host->state, .hooks_dir = hooks, .pivot_budget_ms = 1000, .quiesce_budget_s = 1
    };

    host->agent = agent_on(&host->fake, &options);
}

/* As if it were killed: from now on nothing answers it. */
static void
agent_end(Host *host)
{
    fake_is_away(&host->fake, true);
    agent_stop(host->agent);
    g_assert_cmpuint(host->agent->workers, ==, 0);
    agent_free(g_steal_pointer(&host->agent));
}

static void
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

static void
host_make(Host *host, bool running)
{
    host->folder = folder_make();
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
    host->vm = agent_vm_copy(host->agent, FAKE_VM);
    g_assert_nonnull(host->vm);
    g_assert_cmpstr(host->vm->unmanaged, ==, NULL);
    host->disk_id = vm_disk(host->vm, "vda")->id;
}

static json_t *
operation_now(Host *host)
{
    json_t *json = NULL;
    g_autoptr(GError) error = NULL;

    operation_get(host->agent, OP, &json, &error);
    return json;
}

/* The operation once it has ended; if it does not, the test fails with what it waits for. */
static json_t *
operation_end(Host *host)
{
    int64_t until = g_get_monotonic_time() + PATIENCE_US;

    for (;;) {
        json_t *json = operation_now(host);
        if (json == NULL || !g_str_equal(json_text(json, "state"), "running"))
            return json;
        if (g_get_monotonic_time() > until)
            g_error("the operation stands at '%s' and waits for: %s", json_text(json, "step"),
                    json_text(json, "waiting_for"));
        json_decref(json);
        g_usleep(2000);
    }
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
    /* where it cannot share after all, it is undone after its seal */
    { "graft-sealed", "merge", false, 1, 3, "graft", "a.q +", "a.1.q a.2.q a.3.q +", 0, true },
};

static void
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

static char *
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
static char *
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

static char *
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
static void
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

static unsigned
files_of(Host *host)
{
    g_autoptr(GDir) dir = g_dir_open(host->disks, 0, NULL);
    const char *name;
    unsigned n = 0;

    while ((name = g_dir_read_name(dir)) != NULL)
        n += !g_str_has_prefix(name, ".") && !g_str_has_suffix(name, ".gold");
    return n;
}

static void
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

static void
assert_undone(Host *host, const Case *c, const Vm *stored)
{
    g_autofree char *chain = chain_now(host);
    g_autofree char *manifest = chain_in_manifest(host, stored);

    g_assert_cmpstr(chain, ==, "a.q a.1.q a.2.q a.3.q");
    g_assert_cmpstr(manifest, ==, chain);
    g_assert_cmpuint(stored->snapshots->len, ==, 0);
    g_assert_cmpuint(files_of(host), ==, 8);
}

/* Whatever happened: it has ended, and the world is whole. Returns its state. */
static char *
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
    g_assert_cmpuint(stored->operations->len, ==, 0);
    g_assert_cmpint(host->fake.disks[0].job, ==, HV_JOB_NONE);
    assert_data(host);
    if (g_str_equal(json_text(op, "state"), "done"))
        assert_done(host, c, op, stored);
    else
        assert_undone(host, c, stored);
    return g_strdup(json_text(op, "state"));
}

/* Its leaf takes more room than it seems to need, and graft is not refused. */
static void
make_sealable(Host *host)
{
    MUST(host->disks, "fallocate -n -o 8M -l 5M a.3.q");
    for (guint i = 0; i < host->agent->domains->len; i++)
        ((Domain *)host->agent->domains->pdata[i])->sharing = SHARING_YES;
}

/* TURN_*: the agent lives on, and what stops at the fault point is only a call; but the VM stops or
 * starts at that moment. */
typedef enum {
    RESTART,
    RESTART_AND_CANCEL,
    POWER_OFF,
    POWER_CYCLE,
    TURN,
    TURN_TWICE,
    SWEEPS
} Sweep;

static void
turn_vm(Host *host, bool on)
{
    AgentVm *entry = agent_entry(host->agent, FAKE_VM, false);
    const HvEvent event = { .kind = HV_EVENT_DOMAIN, .vm_id = FAKE_VM };
    g_autoptr(GError) error = NULL;

    if (on) { /* what libvirt's hook asks for */
        merge_make_way(host->agent, entry, 5000, &error);
        g_assert_no_error(error);
    }
    g_mutex_lock(&host->fake.lock);
    if (on)
        fake_power_on(&host->fake);
    else
        fake_power_off(&host->fake);
    g_mutex_unlock(&host->fake.lock);
    agent_on_hv_event(&event, host->agent);
    agent_kick(host->agent, FAKE_VM);
}

static void
wait_for_fault_or_end(Host *host)
{
    int64_t until = g_get_monotonic_time() + PATIENCE_US;
    bool running = true;

    while (running && !fault_fired() && g_get_monotonic_time() < until) {
        g_autoptr(json_t) json = operation_now(host);
        running = json != NULL && g_str_equal(json_text(json, "state"), "running");
        g_usleep(200);
    }
}

/* Stops the agent at its n-th fault point. False when there is none any more. */
static bool
stop_at(const Case *c, Sweep sweep, int n)
{
    g_auto(Host) host = { 0 };
    g_autoptr(json_t) answer = NULL;

    host_make(&host, !c->off);
    if (c->sealed)
        make_sealable(&host);
    fault_arm(n);
    operation_start(&host, c);
    wait_for_fault_or_end(&host);
    bool fired = fault_fired();
    if (sweep == TURN || sweep == TURN_TWICE) {
        turn_vm(&host, c->off);
        if (sweep == TURN_TWICE)
            turn_vm(&host, !c->off);
        g_autofree char *end = assert_whole(&host, c);
        g_test_message("%s, turned at point %d: %s", c->name, n, end);
        if (!c->sealed)
            g_assert_cmpstr(end, ==, "done");
        return fired;
    }
    agent_end(&host);
    fault_arm(-1);
    if ((sweep == POWER_OFF || sweep == POWER_CYCLE) && !c->off)
        fake_power_off(&host.fake);
    if (sweep == POWER_CYCLE)
        fake_power_on(&host.fake);
    agent_begin(&host);
    if (sweep == RESTART_AND_CANCEL)
        operation_cancel(host.agent, OP, &answer, NULL);
    g_autofree char *state = assert_whole(&host, c);
    g_test_message("%s, stopped at point %d: %s", c->name, n, state);
    if (sweep == RESTART && !c->sealed)
        g_assert_cmpstr(state, ==, "done");
    return fired;
}

/* -m slow tries every point in every way. Else each way begins at another point, so that what one
 * leaves out another has. */
static int
stride_of(const Case *c, Sweep sweep)
{
    bool builds = c->strategy != NULL && (strstr(c->strategy, "copy") != NULL || c->sealed);

    if (g_test_slow())
        return 1;
    if (builds)
        return 5;
    return sweep == RESTART ? 1 : sweep < TURN ? 2 : 3;
}

static void
test_sweep(const void *data)
{
    size_t number = GPOINTER_TO_SIZE(data);
    const Case *c = &cases[number / SWEEPS];
    Sweep sweep = (Sweep)(number % SWEEPS);
    int stride = stride_of(c, sweep), n = (int)sweep % stride;

    while (stop_at(c, sweep, n))
        n += stride;
    g_assert_cmpint(n, >, 5);
}

static Host *
host_new(bool running)
{
    Host *host = g_new0(Host, 1);

    host_make(host, running);
    return host;
}

static void
host_free(Host *host)
{
    host_clear(host);
    g_free(host);
}
G_DEFINE_AUTOPTR_CLEANUP_FUNC(Host, host_free)

/* A VM that a person suspended is neither suspended nor resumed. */
static void
test_paused_by_user(void)
{
    g_autoptr(Host) host = host_new(true);

    host->fake.paused = true;
    operation_start(host, &cases[3]);
    g_autoptr(json_t) op = operation_end(host);
    g_assert_cmpstr(json_text(op, "state"), ==, "done");
    g_assert_true(host->fake.paused);
    g_assert_cmpuint(host->fake.suspends + host->fake.resumes, ==, 0);
    g_assert_cmpuint(host->fake.pivots, ==, 1);
}

static json_t *
wait_for_step(Host *host, const char *step)
{
    int64_t until = g_get_monotonic_time() + PATIENCE_US;

    for (;;) {
        json_t *json = operation_now(host);
        if (g_str_equal(json_text(json, "step"), step) && json_text(json, "waiting_for") != NULL)
            return json;
        if (g_get_monotonic_time() > until)
            g_error("the operation stands at '%s', not at '%s'", json_text(json, "step"), step);
        json_decref(json);
        g_usleep(2000);
    }
}

/* libvirtd was killed between QEMU's switch and writing it down: it names the old leaf, and refuses
 * to do it again. The overlay holds what the guest wrote since. */
static void
test_snapshot_that_libvirt_lost(void)
{
    g_autoptr(Host) host = host_new(true);

    fault_arm(-1);
    host->fake.dies_in_snapshot = true;
    operation_start(host, &cases[0]);
    json_decref(wait_for_step(host, "switch"));
    agent_end(host);
    for (char disk = 'a'; disk <= 'b'; disk++)
        MUST(host->disks,
             "sh -c 'qemu-io -f qcow2 -c \"write -P 99 512k 64k\" %c.3.bbbbbbbb.qcow2; "
             "qemu-img convert -f qcow2 -O raw %c.3.bbbbbbbb.qcow2 %c.gold'",
             disk, disk, disk);
    host->fake.dies_in_snapshot = false;
    host->fake.refuse_snapshot = ERR_HYPERVISOR;
    host->fake.refuse_redefines = 1; /* an error is no reason to undo it */
    agent_begin(host);
    g_autoptr(json_t) op = wait_for_step(host, "verify");
    g_assert_nonnull(strstr(json_text(op, "waiting_for"), "bbbbbbbb"));
    g_assert_cmpuint(files_of(host), ==, 10);

    fake_power_off(&host->fake);
    agent_queue_refresh(host->agent, FAKE_VM);
    g_autofree char *state = assert_whole(host, &cases[0]);
    g_assert_cmpstr(state, ==, "done");
}

/* The same, and both agent and libvirtd are gone when the guest has written to its new volumes,
 * which keep the time of an empty one if that is lost. */
static void
lose_switch(Host *host, bool lose_time)
{
    fault_arm(-1);
    host->fake.dies_in_snapshot = true;
    operation_start(host, &cases[0]);
    json_decref(wait_for_step(host, "switch"));
    agent_end(host);
    for (char disk = 'a'; disk <= 'b'; disk++)
        MUST(host->disks,
             "sh -c 'o=%c.3.bbbbbbbb.qcow2; t=$(stat -c %%y $o); "
             "qemu-io -f qcow2 -c \"write -P 99 512k 64k\" $o; %s touch -d \"$t\" $o; "
             "qemu-img convert -f qcow2 -O raw $o %c.gold'",
             disk, lose_time ? "" : ":", disk);
    host->fake.dies_in_snapshot = false;
    host->fake.refuse_snapshot = ERR_HYPERVISOR;
}

static void
assert_waits(Host *host, const char *why)
{
    g_autoptr(json_t) op = wait_for_step(host, "verify");

    g_test_message("%s", json_text(op, "waiting_for"));
    g_assert_nonnull(strstr(json_text(op, "waiting_for"), why));
    g_assert_cmpuint(files_of(host), ==, 10);
}

static void
assert_ends(Host *host, const char *state)
{
    agent_queue_refresh(host->agent, FAKE_VM);
    g_autofree char *end = assert_whole(host, &cases[0]);
    g_assert_cmpstr(end, ==, state);
}

/* Both volumes were written: a person decides, as he is told. */
static void
test_snapshot_and_a_stale_start(void)
{
    g_autoptr(Host) host = host_new(true);

    lose_switch(host, false);
    fake_power_off(&host->fake);
    fake_power_on(&host->fake);
    agent_begin(host);
    assert_waits(host, "was then seen to run on its old one");
    agent_end(host);
    fake_power_off(&host->fake);
    agent_begin(host); /* it remembers */
    assert_waits(host, "mv ");
    for (char disk = 'a'; disk <= 'b'; disk++)
        MUST(host->disks,
             "sh -c 'mv %c.3.bbbbbbbb.qcow2 ../%c.aside; "
             "qemu-img convert -f qcow2 -O raw %c.3.q %c.gold'",
             disk, disk, disk, disk);
    assert_ends(host, "failed");
}

/* A power loss took the new volumes' times and kept their data. */
static void
test_snapshot_that_lost_its_time(void)
{
    g_autoptr(Host) host = host_new(true);

    lose_switch(host, true);
    MUST(host->disks, "touch a.3.q b.3.q");
    fake_power_off(&host->fake);
    agent_begin(host);
    assert_ends(host, "done");
}

/* Where nothing guards the start, times are a reason to ask. */
static void
test_snapshot_and_the_guard(void)
{
    g_autoptr(Host) host = host_new(true);

    lose_switch(host, false);
    MUST(host->disks, "touch -d 'now + 1 hour' a.3.q b.3.q");
    fake_power_off(&host->fake);
    agent_begin(host);
    assert_waits(host, "start guard");
    MUST(host->folder, "sh -c 'mkdir -p hooks/qemu.d; cp /bin/true hooks/livemerge-hook; "
                       "cp /bin/true hooks/qemu.d/livemerge'");
    assert_ends(host, "done");
}

/* As QEMU does it. */
static void
lock_overlays(const Host *host, int fds[2])
{
    for (unsigned i = 0; i < 2; i++) {
        g_autofree char *path =
            in(host->disks, i == 0 ? "a.3.bbbbbbbb.qcow2" : "b.3.bbbbbbbb.qcow2");
        struct flock lock = { .l_type = F_RDLCK, .l_whence = SEEK_SET, .l_start = 100, .l_len = 1 };
        fds[i] = open(path, O_RDWR | O_CLOEXEC);
        g_assert_cmpint(fcntl(fds[i], F_OFD_SETLK, &lock), ==, 0);
    }
}

/* A look while a QEMU wrote the overlays counts more than any time. libvirt refused just then to
 * let the definition name them. */
static void
test_snapshot_that_was_seen(const void *data)
{
    const bool written = GPOINTER_TO_INT(data) != 0;
    g_autoptr(Host) host = host_new(true);
    int fds[2];

    lose_switch(host, false);
    lock_overlays(host, fds);
    host->fake.refuse_redefines = UINT_MAX;
    agent_begin(host);
    json_decref(wait_for_step(host, "verify"));
    agent_end(host);
    host->fake.refuse_redefines = 0;
    MUST(host->disks, "touch -d 'now - 1 day' %s",
         written ? "a.3.q" : "a.3.bbbbbbbb.qcow2 b.3.bbbbbbbb.qcow2");
    close(fds[0]);
    close(fds[1]);
    fake_power_off(&host->fake);
    agent_begin(host);
    if (written)
        assert_waits(host, "has been written since");
    else
        assert_ends(host, "done");
}

/* libvirtd was killed as a merge ended: it lists the merged volume for ever. No image lock tells
 * that QEMU has let go of it (this QEMU has none at all), so it stays until the VM is off. */
static void
test_delete_of_what_libvirt_lists(void)
{
    g_autoptr(Host) host = host_new(true);
    g_autofree char *path = g_build_filename(host->disks, "a.merged.q", NULL);
    Disk *disk = vm_disk(host->vm, "vda");
    g_autoptr(json_t) body =
        json_pack("{s:s, s:s, s:s, s:s, s:[s]}", "id", OP, "kind", "delete-volumes", "vm_id",
                  FAKE_VM, "disk_id", disk->id, "volumes", path);
    g_autoptr(json_t) answer = NULL;
    g_autoptr(GError) error = NULL;

    fault_arm(-1);
    MUST(host->disks, "qemu-img create -q -f qcow2 a.merged.q 1M");
    host->fake.disks[0].lists = path;
    operation_begin(host->agent, body, &answer, &error);
    g_assert_no_error(error);
    g_autoptr(json_t) op = wait_for_step(host, "delete");
    g_assert_nonnull(strstr(json_text(op, "waiting_for"), "power the VM off"));
    g_assert_true(g_file_test(path, G_FILE_TEST_EXISTS));

    fake_power_off(&host->fake);
    agent_queue_refresh(host->agent, FAKE_VM);
    g_autoptr(json_t) end = operation_end(host);
    g_assert_cmpstr(json_text(end, "state"), ==, "done");
    g_assert_false(g_file_test(path, G_FILE_TEST_EXISTS));
}

static void
wait_until_gone(const char *path)
{
    int64_t until = g_get_monotonic_time() + PATIENCE_US;

    while (g_file_test(path, G_FILE_TEST_EXISTS)) {
        if (g_get_monotonic_time() > until)
            g_error("%s is still there", path);
        g_usleep(2000);
    }
}

/* A storage that is away for a while has not lost the VM's manifest: the delete waits for it. */
static void
test_delete_while_the_storage_is_away(void)
{
    g_autoptr(Host) host = host_new(true);
    g_autofree char *path = g_build_filename(host->disks, "a.merged.q", NULL),
                    *away = g_strconcat(host->disks, ".away", NULL);
    Disk *disk = vm_disk(host->vm, "vda");
    g_autoptr(json_t) body =
        json_pack("{s:s, s:s, s:s, s:s, s:[s]}", "id", OP, "kind", "delete-volumes", "vm_id",
                  FAKE_VM, "disk_id", disk->id, "volumes", path);
    g_autoptr(json_t) answer = NULL;
    g_autoptr(GError) error = NULL;

    fault_arm(-1);
    MUST(host->disks, "qemu-img create -q -f qcow2 a.merged.q 1M");
    g_assert_cmpint(g_rename(host->disks, away), ==, 0);
    operation_begin(host->agent, body, &answer, &error);
    g_assert_no_error(error);
    for (unsigned i = 0; i < 7; i++) { /* more often than it used to be tried */
        json_decref(wait_for_step(host, "delete"));
        agent_kick(host->agent, FAKE_VM);
    }
    g_assert_cmpint(g_rename(away, host->disks), ==, 0);
    agent_kick(host->agent, FAKE_VM);
    g_autoptr(json_t) end = operation_end(host);
    g_assert_cmpstr(json_text(end, "state"), ==, "done");
    g_assert_false(g_file_test(path, G_FILE_TEST_EXISTS));
}

static bool
is_swept_later(Agent *agent)
{
    WITH_LOCK(&agent->lock);

    return agent->unswept->len == 1 &&
           agent->sweep_at_us - g_get_monotonic_time() > 500 * G_TIME_SPAN_MILLISECOND;
}

/* A trash that could not be emptied is emptied when it can be read again. */
static void
test_trash_is_swept_again(void)
{
    g_autoptr(Host) host = host_new(true);
    g_autofree char *trash = in(host->disks, ".livemerge/trash"),
                    *away = in(host->disks, ".livemerge/trash.away"),
                    *entry = g_build_filename(trash, OP ".0.a.q", NULL);
    Domain *domain = agent_domain(host->agent, host->fake.disks[0].live, false, NULL);
    int64_t until = g_get_monotonic_time() + PATIENCE_US;

    fault_arm(-1);
    g_assert_true(g_file_set_contents(entry, "x", 1, NULL));
    g_assert_cmpint(g_rename(trash, away), ==, 0);
    agent_sweep_later(host->agent, domain);
    while (!is_swept_later(host->agent)) {
        g_assert_cmpint(g_get_monotonic_time(), <, until);
        g_usleep(2000);
    }
    g_assert_cmpint(g_rename(away, trash), ==, 0);
    wait_until_gone(entry);
}

static Vm *
look_closely(Host *host)
{
    AgentVm *entry = agent_entry(host->agent, FAKE_VM, false);
    g_autoptr(GError) error = NULL;
    Vm *vm;

    g_mutex_lock(&entry->lock);
    agent_look_closely(host->agent, entry, &error);
    g_mutex_unlock(&entry->lock);
    g_assert_no_error(error);
    vm = agent_vm_copy(host->agent, FAKE_VM);
    agent_find_users(host->agent, vm);
    return vm;
}

/* Somebody else's block job is seen, also one that the definition does not show. */
static void
test_foreign_block_jobs(void)
{
    static const struct {
        HvJobType job;
        const char *busy;
    } rows[] = { { HV_JOB_NONE, NULL },
                 { HV_JOB_COPY, "a block job (copy)" },
                 { HV_JOB_ACTIVE_COMMIT, "a block job (active-commit)" },
                 { HV_JOB_PULL, "a block job (pull)" } };
    g_autoptr(Host) host = host_new(true);

    for (size_t i = 0; i < G_N_ELEMENTS(rows); i++) {
        g_mutex_lock(&host->fake.lock);
        host->fake.disks[1].job = rows[i].job;
        g_mutex_unlock(&host->fake.lock);
        g_autoptr(Vm) vm = look_closely(host);
        g_assert_cmpstr(vm_disk(vm, "vda")->busy, ==, NULL);
        g_assert_cmpstr(vm_disk(vm, "vdb")->busy, ==, rows[i].busy);
    }
}

/* A file that no VM has stands on a volume. Those of the chain itself do not count. */
static void
test_users_without_vm(void)
{
    g_autoptr(Host) host = host_new(true);
    g_autofree char *clone = in(host->disks, "clone.q"),
                    *wanted = g_strconcat("file ", clone, NULL);

    MUST(host->disks, "qemu-img create -q -f qcow2 -b a.1.q -F qcow2 clone.q");
    g_autoptr(Vm) vm = look_closely(host);
    for (guint i = 0; i < vm->disks->len; i++) {
        const Disk *disk = vm->disks->pdata[i];
        for (guint k = 0; k < disk->volumes->len; k++)
            g_assert_cmpstr(((Volume *)disk->volumes->pdata[k])->used_by, ==,
                            i == 0 && k == 1 ? wanted : NULL);
    }
}

/* A snapshot that is refused leaves nothing behind. */
static void
test_snapshot_refused(void)
{
    g_autoptr(Host) host = host_new(true);

    host->fake.refuse_snapshot = ERR_HYPERVISOR;
    operation_start(host, &cases[0]);
    g_autofree char *state = assert_whole(host, &cases[0]);
    g_assert_cmpstr(state, ==, "failed");
}

/* After a restart libvirt shows for a while the old leaf and a mirror that is asked to pivot: the
 * VM that we suspended stays so until it is known which leaf QEMU writes. */
static void
test_pivot_in_doubt(void)
{
    g_autoptr(Host) host = host_new(true);
    FakeDisk *disk = &host->fake.disks[0];

    fault_arm(-1);
    host->fake.dies_in_pivot = true;
    operation_start(host, &cases[3]);
    json_decref(wait_for_step(host, "pivot"));
    agent_end(host);
    g_assert_true(host->fake.paused);
    host->fake.dies_in_pivot = false;
    disk->mirror_ready = "pivot";
    agent_begin(host);
    g_autoptr(json_t) op = wait_for_step(host, "pivot");
    g_assert_true(host->fake.paused);
    g_assert_cmpuint(host->fake.resumes, ==, 0);

    g_assert_true(fake_job_pivot(&host->fake.hv, FAKE_VM, "vda", NULL));
    agent_kick(host->agent, FAKE_VM);
    g_autofree char *state = assert_whole(host, &cases[3]);
    g_assert_cmpstr(state, ==, "done");
}

/* libvirtd comes back without the VM, whose definition names the new leaf or still the old one:
 * that it is suspended by us is not forgotten meanwhile. */
static void
test_pivot_of_a_lost_vm(void)
{
    for (unsigned defined = 0; defined < 2; defined++) {
        g_autoptr(Host) host = host_new(true);
        FakeDisk *disk = &host->fake.disks[0];

        fault_arm(-1);
        host->fake.dies_in_pivot = true;
        operation_start(host, &cases[3]);
        json_decref(wait_for_step(host, "pivot"));
        agent_end(host);
        host->fake.dies_in_pivot = host->fake.away = false;
        g_autofree char *old = g_strdup(disk->stored);
        g_assert_true(fake_job_pivot(&host->fake.hv, FAKE_VM, "vda", NULL));
        if (defined == 0)
            fake_set(&disk->stored, old);
        host->fake.lost = true;
        agent_begin(host);
        for (unsigned i = 0; i < 3; i++) {
            g_autoptr(json_t) op = wait_for_step(host, "pivot");
            g_assert_nonnull(strstr(json_text(op, "waiting_for"), "its QEMU runs"));
            agent_kick(host->agent, FAKE_VM);
        }
        g_assert_true(host->fake.paused);
        host->fake.lost = false;
        agent_kick(host->agent, FAKE_VM);
        g_autofree char *state = assert_whole(host, &cases[3]);
        g_assert_cmpstr(state, ==, "done");
    }
}

/* Somebody else's job on the disk is not taken for ours, and not touched. */
static void
test_foreign_job(void)
{
    g_autoptr(Host) host = host_new(true);
    FakeDisk *disk = &host->fake.disks[0];

    disk->job = HV_JOB_ACTIVE_COMMIT;
    disk->base = in(host->disks, "a.q");
    disk->mirror_ready = "yes";
    operation_start(host, &cases[3]);
    g_autoptr(json_t) op = operation_end(host);
    g_assert_cmpstr(json_text(op, "state"), ==, "failed");
    g_assert_cmpint(disk->job, ==, HV_JOB_ACTIVE_COMMIT);
    g_assert_cmpuint(host->fake.cancels + host->fake.pivots, ==, 0);
}

static void
test_cancel_a_running_job(void)
{
    g_autoptr(Host) host = host_new(true);
    g_autoptr(json_t) answer = NULL;
    g_autoptr(GError) error = NULL;

    host->fake.endless = true;
    operation_start(host, &cases[2]);
    while (host->fake.disks[0].looks < 2)
        g_usleep(1000);
    g_assert_true(operation_cancel(host->agent, OP, &answer, &error));
    g_autofree char *state = assert_whole(host, &cases[2]);
    g_assert_cmpstr(state, ==, "cancelled");
    g_assert_cmpuint(host->fake.cancels, ==, 1);
}

/* A cancel in which libvirtd dies, and the agent's end. */
static void
cancel_taken_for_a_pivot(Host *host)
{
    g_autoptr(json_t) answer = NULL;
    g_autoptr(GError) error = NULL;

    fault_arm(-1);
    host->fake.endless = host->fake.dies_in_cancel = true;
    operation_start(host, &cases[3]);
    json_decref(wait_for_step(host, "pivot"));
    g_assert_true(operation_cancel(host->agent, OP, &answer, &error));
    while (fake_is_connected(&host->fake.hv))
        g_usleep(1000);
    agent_end(host);
    host->fake.dies_in_cancel = false;
}

/* libvirtd takes the cancelled job for pivoted, also in the definition. The VM is then still on its
 * old leaf, or was powered off on it (by somebody, or before a new agent looked). */
static void
test_cancel_taken_for_a_pivot(void)
{
    for (unsigned off = 0; off < 2; off++) {
        g_autoptr(Host) host = host_new(true);

        cancel_taken_for_a_pivot(host);
        if (off > 0)
            fake_power_off(&host->fake);
        agent_begin(host);
        g_autofree char *state = assert_whole(host, &cases[3]);
        g_assert_cmpstr(state, ==, "cancelled");
        g_autoptr(Vm) vm = look_closely(host);
        g_autofree char *chain = chain_in_manifest(host, vm);
        g_assert_cmpstr(chain, ==, "a.q a.1.q a.2.q a.3.q");
        g_assert_cmpstr(host->fake.disks[0].stored, ==, host->fake.disks[0].live);
        g_assert_cmpstr(vm_disk(vm, "vda")->busy, ==, off > 0 ? NULL : DISK_LOST_PIVOT);
    }
}

/* The same, and somebody has got it started on what it was not on: nobody decides that, and nothing
 * is deleted, until it is off. */
static void
test_cancel_taken_for_a_pivot_and_started(void)
{
    g_autoptr(Host) host = host_new(true);

    cancel_taken_for_a_pivot(host);
    g_autofree char *leaf = g_strdup(host->fake.disks[0].live);
    fake_power_off(&host->fake);
    fake_power_on(&host->fake);
    agent_begin(host);
    for (unsigned i = 0; i < 3; i++) {
        g_autoptr(json_t) op = wait_for_step(host, "stop");
        g_assert_nonnull(strstr(json_text(op, "waiting_for"), "Power the VM off"));
        agent_kick(host->agent, FAKE_VM);
    }
    fake_power_off(&host->fake);
    agent_kick(host->agent, FAKE_VM);
    g_autofree char *state = assert_whole(host, &cases[3]);
    g_assert_cmpstr(state, ==, "cancelled");
    g_assert_cmpstr(host->fake.disks[0].stored, ==, leaf);
}

/* Two disks of one VM on one template are two disks. */
static void
test_shared_template(void)
{
    g_autoptr(Host) host = host_new(false);
    g_autoptr(GError) error = NULL;

    agent_end(host);
    g_autofree char *dot = in(host->disks, ".livemerge/vms/" FAKE_VM ".json");
    g_assert_cmpint(g_unlink(dot), ==, 0);
    MUST(host->disks, "qemu-img create -q -f qcow2 -b a.q -F qcow2 c.q");
    g_autofree char *c = in(host->disks, "c.q");
    fake_set(&host->fake.disks[1].stored, c);
    for (unsigned i = 0; i < 2; i++) { /* the second look has the manifest of the first */
        agent_begin(host);
        g_autoptr(Vm) vm = agent_vm_copy(host->agent, FAKE_VM);
        g_assert_cmpstr(vm_disk(vm, "vda")->id, !=, vm_disk(vm, "vdb")->id);
        agent_end(host);
    }
}

int
main(int argc, char **argv)
{
    static const char *const sweeps[] = { "restart",     "cancel", "power-off",
                                          "power-cycle", "turn",   "turn-twice" };

    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/journal/rows", test_journal);
    g_test_add_func("/journal/epoch", test_journal_epoch);
    g_test_add_func("/journal/damaged", test_journal_damaged);
    g_test_add_func("/journal/full", test_journal_full);
    g_test_add_func("/tables", test_tables);
    g_test_add_func("/names/relative", test_relative_name);
    g_test_add_func("/names/new-file", test_new_file_name);
    if (!have_qemu())
        return g_test_run();
    template_make();
    for (size_t i = 0; i < G_N_ELEMENTS(cases) * SWEEPS; i++) {
        if (cases[i / SWEEPS].off && i % SWEEPS == POWER_OFF)
            continue;
        if (cases[i / SWEEPS].strategy == NULL && i % SWEEPS >= TURN)
            continue;
        if (cases[i / SWEEPS].remove > 0 && i % SWEEPS != RESTART && i % SWEEPS != TURN &&
            !g_test_slow())
            continue;
        g_autofree char *name =
            g_strdup_printf("/stopped/%s/%s", cases[i / SWEEPS].name, sweeps[i % SWEEPS]);
        g_test_add_data_func(name, GSIZE_TO_POINTER(i), test_sweep);
    }
    g_test_add_func("/inventory/foreign-block-jobs", test_foreign_block_jobs);
    g_test_add_func("/inventory/users-without-vm", test_users_without_vm);
    g_test_add_func("/merge/paused-by-user", test_paused_by_user);
    g_test_add_func("/merge/pivot-in-doubt", test_pivot_in_doubt);
    g_test_add_func("/merge/pivot-of-a-lost-vm", test_pivot_of_a_lost_vm);
    g_test_add_func("/merge/foreign-job", test_foreign_job);
    g_test_add_func("/merge/cancel", test_cancel_a_running_job);
    g_test_add_func("/merge/cancel-taken-for-a-pivot", test_cancel_taken_for_a_pivot);
    g_test_add_func("/merge/cancel-taken-for-a-pivot-and-started",
                    test_cancel_taken_for_a_pivot_and_started);
    g_test_add_func("/snapshot/refused", test_snapshot_refused);
    g_test_add_func("/snapshot/lost-by-libvirt", test_snapshot_that_libvirt_lost);
    g_test_add_func("/snapshot/stale-start", test_snapshot_and_a_stale_start);
    g_test_add_func("/snapshot/lost-time", test_snapshot_that_lost_its_time);
    g_test_add_func("/snapshot/unguarded", test_snapshot_and_the_guard);
    g_test_add_data_func("/snapshot/seen-unwritten", GINT_TO_POINTER(0),
                         test_snapshot_that_was_seen);
    g_test_add_data_func("/snapshot/seen-written", GINT_TO_POINTER(1), test_snapshot_that_was_seen);
    g_test_add_func("/delete/listed-by-libvirt", test_delete_of_what_libvirt_lists);
    g_test_add_func("/delete/storage-is-away", test_delete_while_the_storage_is_away);
    g_test_add_func("/trash/swept-again", test_trash_is_swept_again);
    g_test_add_func("/inventory/shared-template", test_shared_template);
    int result = g_test_run();
    folder_remove(&template);
    return result;
}
