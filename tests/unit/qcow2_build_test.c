/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * Building, checking and comparing volumes: thousands of random chains on real file systems,
 * each judged by what its generator knows; samples of them by QEMU's tools. Run with --seed to
 * repeat a failure; the message names the chain's own seed.
 */
#include "base/fault.h"
#include "qcow2_build_fs.h"
#include "qcow2_build_gen.h"

#include <signal.h>
#include <sys/resource.h>
#include <sys/wait.h>

/* Helpers --------------------------------------------------------------------------- */

typedef struct {
    Qcow2Source sources[8];
    Qcow2Build build;
    char *dest;
    const GenLayer *top, *below;
} Job;

static void
job_clear(Job *job)
{
    if (job->dest != NULL)
        unlink(job->dest);
    g_clear_pointer(&job->dest, g_free);
}
G_DEFINE_AUTO_CLEANUP_CLEAR_FUNC(Job, job_clear)

static void
job_init(Job *job, const GenChain *c, const char *dest, bool share)
{
    *job = (Job){ .top = &c->layers[c->last],
                  .below = c->first > 0 ? &c->layers[c->first - 1] : NULL,
                  .dest = g_build_filename(c->folder, dest, NULL) };
    for (unsigned i = 0; i < c->n; i++)
        job->sources[i] = (Qcow2Source){ c->layers[i].path, c->layers[i].format };
    job->build = (Qcow2Build){
        .layers = job->sources + c->first,
        .n = c->last - c->first + 1,
        .dest = job->dest,
        .backing = job->below != NULL ? job->below->name : NULL,
        .backing_format = job->below != NULL ? job->below->format : NULL,
        .mode = 0640,
        .uid = -1,
        .gid = -1,
        .share = share,
    };
}

/* A chain of the usual shape: whole clusters of this size, all merged. */
static GenChain
plain_chain(const char *folder, guint32 seed, unsigned bits, unsigned n)
{
    GenChain c = { .rand = g_rand_new_with_seed(seed), .folder = g_strdup(folder) };

    for (unsigned i = 0; i < n; i++)
        gen_layer(&c, bits, (UINT64_C(1) << bits) * 40, false);
    c.last = n - 1;
    return c;
}

static void
assert_sound(const char *path)
{
    g_autoptr(GError) error = NULL;
    g_autoptr(GPtrArray) lines = qcow2_check(path, &error);

    g_assert_no_error(error);
    for (guint i = 0; i < lines->len; i++)
        g_error("not sound: %s", (const char *)lines->pdata[i]);
}

/* Chains ---------------------------------------------------------------------------- */

/* Whole chains before and after: what is above the run stands on it no more. */
static void
assert_same_content(const GenChain *c, const Job *job)
{
    g_autoptr(GError) error = NULL;
    Qcow2Source after[8];

    memcpy(after, job->sources, sizeof after);
    after[c->first] = (Qcow2Source){ job->dest, "qcow2" };
    qcow2_same_content(job->sources, c->last + 1, after, c->first + 1, NULL, NULL, NULL, &error);
    g_assert_no_error(error);
}

static void
ask_qemu(const GenChain *c, const Job *job)
{
    MUST(c->folder, "qemu-img check -q -f qcow2 %s", job->dest);
    MUST(c->folder, "qemu-img compare -q -f %s -F qcow2 %s %s", job->top->format, job->top->name,
         job->dest);
}

/* A layer ends within a cluster that both of its sides need: the writer says so and refuses. */
static bool
may_refuse(const GenChain *c, const GError *error)
{
    if (!g_error_matches(error, ERR, ERR_UNSUPPORTED))
        return false;
    for (unsigned i = c->first; i < c->last && c->first > 0; i++)
        if (strstr(error->message, "ends at byte") != NULL && c->layers[i].size % 65536 != 0)
            return true;
    return strstr(error->message, "too small") != NULL ||
           strstr(error->message, "cannot be mapped") != NULL;
}

static bool
check_chain(const TestFs *fs, guint32 seed, bool share, bool qemu)
{
    g_auto(GenChain) c = gen_chain(fs->folder, seed);
    g_auto(Job) job = { 0 };
    g_autoptr(GError) error = NULL;
    Qcow2Built built = { 0 };
    Qcow2Compared compared = { 0 };

    job_init(&job, &c, "new", share);
    if (!qcow2_build(&job.build, &built, &error)) {
        g_autofree char *refusal = qcow2_build_refusal(job.build.layers, job.build.n, 0, NULL);
        if (!may_refuse(&c, error))
            g_error("%s, chain %u: %s", fs->name, seed, error->message);
        g_assert_cmpstr(refusal, ==, error->message);
        g_assert_cmpuint(count_files(fs->folder), ==, c.n);
        return false;
    }
    if (g_test_verbose())
        g_test_message("%s, chain %u", fs->name, seed);
    gen_verify(job.dest, job.top, job.below);
    assert_sound(job.dest);
    qcow2_same_map(job.build.layers, job.build.n, job.dest, NULL, NULL, &compared, &error);
    g_assert_no_error(error);
    assert_same_content(&c, &job);
    if (qemu)
        ask_qemu(&c, &job);
    if (!fs->shares)
        g_assert_cmpuint(built.bytes_shared, ==, 0);
    else if (share) /* less where the disk of a layer ends within a cluster */
        g_assert_cmpuint(compared.bytes_same_blocks + c.n * 64 * KIB, >=, built.bytes_shared);
    g_assert_cmpuint(count_files(fs->folder), ==, c.n + 1);
    return true;
}

static void
test_random_chains(gconstpointer data)
{
    const TestFs *fs = data;
    unsigned built = 0, rounds = g_test_slow() ? 5000 : fs->shares ? 500 : 800;
    g_autofree char *qemu = g_find_program_in_path("qemu-img");
    gint64 begin = g_get_monotonic_time();

    if (fs->folder == NULL) {
        g_test_skip("this file system is not to be had here");
        return;
    }
    for (unsigned i = 0; i < rounds; i++)
        built += check_chain(fs, g_test_rand_int(), i % 8 != 7, qemu != NULL && i % 25 == 0);
    g_test_message("%u of %u chains built on %s in %.1f s", built, rounds, fs->name,
                   (double)(g_get_monotonic_time() - begin) / 1e6);
    g_assert_cmpuint(built, >, rounds * 85 / 100);
}

/* Chains that QEMU wrote. */
static void
scribble(const char *folder, const char *name, uint64_t size, uint64_t cluster)
{
    static const char *const kinds[] = { "write -P 7", "write -P 9",  "write",
                                         "write -z",   "write -z -u", "discard" };
    g_autoptr(GString) line = g_string_new("qemu-io -f qcow2 -d unmap");

    for (int i = 0; i < 12; i++) {
        uint64_t unit = g_test_rand_bit() ? cluster : 512;
        uint64_t at = (uint64_t)g_test_rand_int_range(0, (int)(size / unit)) * unit;
        uint64_t length = (uint64_t)g_test_rand_int_range(1, 12) * unit;

        g_string_append_printf(line, " -c '%s %" PRIu64 " %" PRIu64 "'",
                               kinds[g_test_rand_int_range(0, G_N_ELEMENTS(kinds))], at,
                               MIN(length, size - at));
    }
    g_string_append_printf(line, " %s", name);
    MUST(folder, "%s", line->str);
}

static void
build_qemus_chain(const TestFs *fs, unsigned first, const char *const *names)
{
    g_autoptr(GError) error = NULL;
    g_autofree char *dest = in(fs->folder, "new");
    g_auto(GStrv) paths = g_new0(char *, 4);
    Qcow2Source sources[3];

    for (unsigned i = 0; i < 3; i++) {
        paths[i] = in(fs->folder, names[i]);
        sources[i] = (Qcow2Source){ paths[i], "qcow2" };
    }
    Qcow2Build build = {
        .layers = sources + first,
        .n = 3 - first,
        .dest = dest,
        .backing = first > 0 ? names[first - 1] : NULL,
        .backing_format = "qcow2",
        .mode = 0600,
        .uid = -1,
        .gid = -1,
        .share = true,
    };
    qcow2_build(&build, NULL, &error);
    if (error != NULL && g_error_matches(error, ERR, ERR_UNSUPPORTED))
        return; /* ends within a cluster */
    g_assert_no_error(error);
    assert_sound(dest);
    qcow2_same_map(build.layers, build.n, dest, NULL, NULL, NULL, &error);
    g_assert_no_error(error);
    MUST(fs->folder, "qemu-img check -q -f qcow2 new");
    MUST(fs->folder, "qemu-img compare -q -f qcow2 -F qcow2 leaf new");
    unlink(dest);
}

static void
test_qemus_chains(void)
{
    static const char *const names[] = { "base", "mid", "leaf" };
    static const char *const options[] = { "compat=1.1", "compat=0.10", "lazy_refcounts=on",
                                           "refcount_bits=1", "preallocation=metadata" };
    const TestFs *fs = any_fs(true);

    if (fs == NULL || !have_qemu())
        return;
    for (unsigned round = 0; round < 25; round++) {
        uint64_t cluster = UINT64_C(512) << g_test_rand_int_range(0, 11);
        uint64_t size = cluster * (uint64_t)g_test_rand_int_range(20, 60) +
                        512 * (uint64_t)g_test_rand_int_range(0, (int)(cluster / 512));

        for (unsigned i = 0; i < 3; i++) {
            g_autofree char *below =
                i > 0 ? g_strdup_printf("-b %s -F qcow2", names[i - 1]) : g_strdup("");
            MUST(fs->folder,
                 "qemu-img create -q -f qcow2 %s -o cluster_size=%" PRIu64 ",%s %s %" PRIu64, below,
                 cluster, options[i > 0 && round % 5 == 4 ? 0 : round % 5], names[i], size);
            scribble(fs->folder, names[i], size, cluster);
            g_autofree char *path = in(fs->folder, names[i]);
            assert_sound(path);
            size += 512 * (uint64_t)g_test_rand_int_range(0, 1000);
        }
        build_qemus_chain(fs, 0, names);
        build_qemus_chain(fs, round % 3, names);
    }
    MUST(fs->folder, "rm base mid leaf");
}

/* Large disks ----------------------------------------------------------------------- */

/* 64 TiB, with data in the first and last cluster. */
static void
test_huge(void)
{
    const TestFs *fs = any_fs(true);
    g_autoptr(GError) error = NULL;
    uint64_t l1 = 3 * 65536, end = l1 + 131072 * 8, size = 64 * TIB;

    if (fs == NULL)
        return;
    g_autofree char *base = image(fs->folder, "base", size, NULL, NULL);
    g_autofree char *top = image(fs->folder, "top", size, "base", "qcow2");
    g_autofree char *dest = in(fs->folder, "new");
    poke(base, end - 8, 8, end);
    poke(base, end + 65536 - 8, 8, (end + 65536));
    poke_text(base, end + 65536, "last", 4);
    poke(top, l1, 8, end);
    poke(top, end, 8, (end + 65536));
    poke_text(top, end + 65536, "first", 5);
    poke_text(top, end + 65536 + 65535, "", 1);

    Qcow2Source sources[] = { { base, "qcow2" }, { top, "qcow2" } };
    Qcow2Build build = {
        .layers = sources, .n = 2, .dest = dest, .mode = 0600, .uid = -1, .gid = -1, .share = true
    };
    Qcow2Built built;
    qcow2_build(&build, &built, &error);
    g_assert_no_error(error);
    assert_sound(dest);
    g_assert_true(qcow2_same_map(sources, 2, dest, NULL, NULL, NULL, &error));
    g_assert_cmpuint(built.bytes_written, <, 2 * MIB);
    MUST(fs->folder, "rm %s %s %s", base, top, dest);
}

/* What is together in a source is shared in one call, in whatever order the guest sees it. */
static void
test_few_calls(void)
{
    const TestFs *fs = any_fs(true);
    g_autoptr(GError) error = NULL;
    Qcow2Built built;

    if (fs == NULL)
        return;
    GenShape shape = { .bits = 16, .version = 3, .size = 24 * 65536, .order = 2, .data = 1 };
    g_auto(GenChain) c = { .rand = g_rand_new_with_seed(1), .folder = g_strdup(fs->folder) };
    c.layers[0].name = g_strdup("v0");
    c.layers[0].path = in(fs->folder, "v0");
    gen_qcow2(c.rand, &c.layers[0], &shape);
    c.n = 1;
    g_auto(Job) job = { 0 };
    job_init(&job, &c, "new", true);
    job.build.must_share = true;
    qcow2_build(&job.build, &built, &error);
    g_assert_no_error(error);
    g_assert_cmpuint(built.share_calls, ==, 1);
    g_assert_cmpuint(built.bytes_shared, ==, 24 * 65536);
    g_assert_cmpuint(built.bytes_copied, ==, 0);
    gen_verify(job.dest, job.top, NULL);
}

static void
test_must_share(void)
{
    const TestFs *fs = any_fs(false), *sharing = any_fs(true);
    g_autoptr(GError) error = NULL;

    if (fs == NULL || sharing == NULL)
        return;
    g_auto(GenChain) c = plain_chain(fs->folder, 3, 16, 2);
    g_auto(Job) job = { 0 };
    job_init(&job, &c, "new", true);
    job.build.must_share = true;
    g_assert_false(qcow2_build(&job.build, NULL, &error));
    assert_refused(error, ERR_UNSUPPORTED, c.layers[0].path);
    g_assert_cmpuint(count_files(fs->folder), ==, 2);
    g_clear_error(&error);

    /* Clusters smaller than a block of the file system */
    g_auto(GenChain) small = plain_chain(sharing->folder, 4, 10, 1);
    g_auto(Job) other = { 0 };
    job_init(&other, &small, "new", true);
    other.build.must_share = true;
    if (qcow2_build(&other.build, NULL, &error)) /* they may lie well by luck */
        return;
    g_assert_error(error, ERR, ERR_UNSUPPORTED);
    g_assert_cmpuint(count_files(sharing->folder), ==, 1);
}

/* From one file system to another: reads and writes, several in flight. */
static void
test_across(void)
{
    for (unsigned i = 0; i < G_N_ELEMENTS(file_systems); i++) {
        const TestFs *from = &file_systems[i], *to = &file_systems[(i + 1) % 4];
        g_autoptr(GError) error = NULL;
        Qcow2Built built;
        Qcow2Compared compared;

        if (from->folder == NULL || to->folder == NULL)
            continue;
        g_auto(GenChain) c = plain_chain(from->folder, 5 + i, 16, 4);
        g_auto(Job) job = { 0 };
        job_init(&job, &c, "new", true);
        g_free(job.dest);
        job.dest = in(to->folder, "new");
        job.build.dest = job.dest;
        qcow2_build(&job.build, &built, &error);
        g_assert_no_error(error);
        g_assert_cmpuint(built.bytes_shared, ==, 0);
        g_assert_cmpuint(built.bytes_copied, >, 0);
        gen_verify(job.dest, job.top, NULL);
        assert_sound(job.dest);
        qcow2_same_map(job.build.layers, job.build.n, job.dest, NULL, NULL, &compared, &error);
        g_assert_no_error(error);
        g_assert_cmpuint(compared.bytes_compared, >, 0);
    }
}

/* Details --------------------------------------------------------------------------- */

static void
test_owner_and_names(void)
{
    FOLDER(folder);
    g_autoptr(GError) error = NULL;
    g_auto(GenChain) c = plain_chain(folder, 6, 9, 3);
    g_auto(Job) job = { 0 };
    struct stat st;
    bool root = geteuid() == 0;

    c.first = 1;
    job_init(&job, &c, "new", false);
    job.build.uid = root ? 36 : -1;
    job.build.gid = root ? 37 : -1;
    qcow2_build(&job.build, NULL, &error);
    g_assert_no_error(error);
    g_assert_cmpint(stat(job.dest, &st), ==, 0);
    g_assert_cmpint(st.st_mode & 07777, ==, 0640);
    g_assert_cmpint(st.st_uid, ==, root ? 36 : geteuid());
    g_autoptr(Qcow2Header) h = qcow2_header_read(job.dest, &error);
    g_assert_no_error(error);
    g_assert_cmpstr(h->backing_file, ==, "v0");
    g_assert_cmpstr(h->backing_format, ==, "qcow2");
    g_assert_cmpuint(h->cluster_bits, ==, 9);

    g_assert_false(qcow2_build(&job.build, NULL, &error));
    assert_refused(error, ERR_EXISTS, job.dest);
    g_clear_error(&error);
    g_assert_cmpuint(count_files(folder), ==, 4);
    unlink(job.dest);
    g_autofree char *too_long = g_strnfill(500, 'n');
    job.build.backing = too_long;
    g_assert_false(qcow2_build(&job.build, NULL, &error));
    assert_refused(error, ERR_INVALID, "does not fit");
    g_clear_error(&error);
    job.build.backing = NULL;
    g_assert_false(qcow2_build(&job.build, NULL, &error));
    assert_refused(error, ERR_INVALID, "must have one");
    g_clear_error(&error);
    job.build.layers = job.sources;
    job.build.backing = "v0";
    g_assert_false(qcow2_build(&job.build, NULL, &error));
    assert_refused(error, ERR_INVALID, "must have none");
    g_assert_cmpuint(count_files(folder), ==, 3);
}

static void
test_plan(void)
{
    FOLDER(folder);
    g_autoptr(GError) error = NULL;
    g_auto(GenChain) c = plain_chain(folder, 7, 12, 3);
    g_auto(Job) job = { 0 };
    g_auto(Qcow2BuildPlan) plan = { 0 };
    Qcow2Built built;
    struct stat st;

    job_init(&job, &c, "new", false);
    qcow2_build_look(job.build.layers, 3, 0, &plan, &error);
    g_assert_no_error(error);
    g_assert_null(plan.refusal);
    qcow2_build(&job.build, &built, &error);
    g_assert_no_error(error);
    g_assert_cmpint(stat(job.dest, &st), ==, 0);
    g_assert_cmpuint(plan.file_size, ==, st.st_size);
    g_assert_cmpuint(plan.metadata_bytes, ==, built.bytes_written);
    g_assert_cmpuint(plan.data_bytes, ==, built.bytes_copied);
    g_assert_cmpuint(plan.data_bytes + plan.metadata_bytes, ==, plan.file_size);
    g_assert_cmpuint(plan.virtual_size, ==, job.top->size);
    g_assert_cmpuint(plan.pieces, >, 0);
}

/* Trouble --------------------------------------------------------------------------- */

static GBytes *
all_bytes(const GenChain *c)
{
    g_autoptr(GByteArray) all = g_byte_array_new();

    for (unsigned i = 0; i < c->n; i++) {
        g_autofree char *text = NULL;
        gsize length = 0;
        g_assert_true(g_file_get_contents(c->layers[i].path, &text, &length, NULL));
        g_byte_array_append(all, (const guint8 *)text, (guint)length);
    }
    return g_byte_array_free_to_bytes(g_steal_pointer(&all));
}

static void
assert_untouched(const GenChain *c, GBytes *before)
{
    g_autoptr(GBytes) after = all_bytes(c);

    g_assert_true(g_bytes_equal(before, after));
    g_assert_cmpuint(count_files(c->folder), ==, c->n);
}

static void
stop_everywhere(const TestFs *fs)
{
    g_auto(GenChain) c = plain_chain(fs->folder, 8, 12, 3);
    g_autoptr(GBytes) before = all_bytes(&c);
    bool built = false;

    for (int point = 0; !built; point++) {
        g_autoptr(GError) error = NULL;
        g_auto(Job) job = { 0 };

        job_init(&job, &c, "new", true);
        fault_arm(point);
        built = qcow2_build(&job.build, NULL, &error);
        bool fired = fault_fired();
        fault_arm(-1);
        g_assert_cmpint(built, ==, !fired);
        if (built) {
            g_assert_cmpint(point, >, 8);
            gen_verify(job.dest, job.top, NULL);
            continue;
        }
        g_assert_error(error, ERR, ERR_STOPPED);
        assert_untouched(&c, before);
    }
}

static void
test_faults(void)
{
    for (size_t i = 0; i < G_N_ELEMENTS(file_systems); i++)
        if (file_systems[i].folder != NULL)
            stop_everywhere(&file_systems[i]);
}

typedef struct {
    unsigned left, calls;
    uint64_t done, total;
} Patience;

static bool
cancel_later(uint64_t done, uint64_t total, void *data)
{
    Patience *p = data;

    p->calls++;
    g_assert_cmpuint(done, >=, total > 0 ? p->done : 0);
    g_assert_cmpuint(done, <=, total);
    p->done = done;
    p->total = total;
    return p->left-- > 0;
}

static void
test_cancel(void)
{
    FOLDER(folder);
    g_auto(GenChain) c = plain_chain(folder, 9, 16, 3);
    g_autoptr(GBytes) before = all_bytes(&c);
    bool built = false;

    for (unsigned left = 0; !built; left++) {
        g_autoptr(GError) error = NULL;
        g_auto(Job) job = { 0 };
        Patience patience = { .left = left };

        job_init(&job, &c, "new", false);
        job.build.progress = cancel_later;
        job.build.data = &patience;
        built = qcow2_build(&job.build, NULL, &error);
        if (!built) {
            g_assert_error(error, ERR, ERR_CANCELLED);
            assert_untouched(&c, before);
            continue;
        }
        g_assert_cmpuint(patience.total, >, 0);
        g_assert_cmpuint(patience.done, ==, patience.total);
        g_assert_cmpuint(left, >, 3);
    }
}

static int
wait_child(pid_t child)
{
    int status = 0;

    g_assert_cmpint(child, >, 0);
    g_assert_cmpint(waitpid(child, &status, 0), ==, child);
    return WIFSIGNALED(status) ? 128 + WTERMSIG(status) : WEXITSTATUS(status);
}

/* Killed at any write: the name is not there, or names a whole volume. */
static void
test_killed(void)
{
    /* clang-format off */
    static const char *const points[] = { "create=die@1", "size=die@1", "copy=die@1", "copy=die@3", "write=die@1", "write=die@2", "write=die@3", "sync=die@1", "rename=die@1", "sync-folder=die@1" };
    /* clang-format on */
    FOLDER(folder);
    g_auto(GenChain) c = plain_chain(folder, 10, 16, 3);

    for (size_t i = 0; i < G_N_ELEMENTS(points); i++) {
        g_auto(Job) job = { 0 };
        g_autofree char *faults = g_strdup_printf("qcow2-build-%s", points[i]);

        job_init(&job, &c, "new", false);
        pid_t child = fork();
        if (child == 0) {
            g_setenv("LIVEMERGE_FAULTS", faults, TRUE);
            fault_init();
            _exit(qcow2_build(&job.build, NULL, NULL) ? 0 : 1);
        }
        g_assert_cmpint(wait_child(child), ==, 128 + SIGKILL);
        if (i + 1 < G_N_ELEMENTS(points)) {
            g_assert_cmpint(access(job.dest, F_OK), !=, 0);
            continue;
        }
        gen_verify(job.dest, job.top, NULL);
        assert_sound(job.dest);
    }
}

/* Every write fails for once, as on a broken disk. */
static void
test_write_errors(void)
{
    FOLDER(folder);
    g_auto(GenChain) c = plain_chain(folder, 11, 12, 3);
    g_autoptr(GBytes) before = all_bytes(&c);

    for (rlim_t limit = 0; limit < 200000; limit += 7000) {
        g_auto(Job) job = { 0 };

        job_init(&job, &c, "new", false);
        pid_t child = fork();
        if (child == 0) {
            g_autoptr(GError) error = NULL;
            struct rlimit rlimit = { limit, limit };
            signal(SIGXFSZ, SIG_IGN);
            setrlimit(RLIMIT_FSIZE, &rlimit);
            bool built = qcow2_build(&job.build, NULL, &error);
            _exit(built ? 0 : g_error_matches(error, ERR, ERR_STORAGE) ? 1 : 2);
        }
        int status = wait_child(child);
        g_assert_cmpint(status, <, 2);
        if (status == 0)
            break;
        assert_untouched(&c, before);
    }
}

static void
fill_disk(const char *kind, const char *step)
{
    FOLDER(root);
    g_autofree char *small = in(root, "small");
    g_auto(GenChain) c = plain_chain(root, 12, 16, 2);
    bool built = false;

    g_assert_cmpint(mkdir(small, 0700), ==, 0);
    if (!make_fs(root, kind, small, step)) {
        g_test_skip("no small file system to be had here");
        return;
    }
    /* Filled up so far that less and less fails */
    g_autofree char *ballast = in(small, "ballast");
    autofd int fd = open(ballast, O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
    g_assert_cmpint(fd, >=, 0);
    struct statfs st;
    g_assert_cmpint(fstatfs(fd, &st), ==, 0);
    off_t size = (off_t)st.f_bavail * st.f_bsize - 16384;
    g_assert_cmpint(posix_fallocate(fd, 0, size), ==, 0);
    for (; !built && size > 0; size -= 150000) {
        g_auto(Job) job = { 0 };
        g_autoptr(GError) error = NULL;

        g_assert_cmpint(ftruncate(fd, size), ==, 0);
        job_init(&job, &c, "new", true);
        g_free(job.dest);
        job.dest = in(small, "new");
        job.build.dest = job.dest;
        built = qcow2_build(&job.build, NULL, &error);
        if (built) {
            gen_verify(job.dest, job.top, NULL);
            continue;
        }
        g_assert_error(error, ERR, ERR_NO_SPACE);
        g_assert_nonnull(strstr(error->message, job.dest));
        g_assert_cmpuint(count_files(small), ==, 1);
    }
    g_assert_true(built);
    umount2(small, MNT_DETACH);
}

static void
test_full_disk(void)
{
    fill_disk("tmpfs", "8M");
    fill_disk("ext4", "8M");
}

static void
test_vanished(void)
{
    FOLDER(folder);
    g_autoptr(GError) error = NULL;
    g_auto(GenChain) c = plain_chain(folder, 13, 16, 2);
    g_auto(Job) job = { 0 };

    job_init(&job, &c, "new", true);
    unlink(c.layers[0].path);
    g_assert_false(qcow2_build(&job.build, NULL, &error));
    assert_refused(error, ERR_NOT_FOUND, c.layers[0].path);
    g_clear_error(&error);
    g_assert_cmpuint(count_files(folder), ==, 1);

    g_autofree char *nowhere = in(folder, "gone/new");
    job.build.layers = job.sources + 1;
    job.build.n = 1;
    job.build.backing = "v0";
    job.build.backing_format = "qcow2";
    job.build.dest = nowhere;
    g_assert_false(qcow2_build(&job.build, NULL, &error));
    assert_refused(error, ERR_STORAGE, nowhere);
}

/* Bad input ------------------------------------------------------------------------- */

enum { CLUSTER = 65536, L1 = 3 * CLUSTER, L2 = 4 * CLUSTER, DATA = 5 * CLUSTER };

/* One L2 table at cluster 4, two clusters of data at 5 and 6. */
static char *
small_volume(const char *folder, const char *name)
{
    char *path = image(folder, name, MIB, NULL, NULL);

    poke(path, L1, 8, L2 | UINT64_C(1) << 63);
    poke(path, L2, 8, DATA | UINT64_C(1) << 63);
    poke(path, L2 + 8, 8, (DATA + CLUSTER) | UINT64_C(1) << 63);
    poke(path, DATA + 2 * CLUSTER - 8, 8, 7);
    poke(path, 2 * CLUSTER + 8, 6, UINT64_C(0x000100010001));
    return path;
}

static void
test_refuses(void)
{
    /* clang-format off */
    static const struct { const char *name; uint64_t at; unsigned width; uint64_t value; ErrorCode code; const char *wanted; } rows[] = {
        { "L1 reserved bit",     L1, 8, L2 | 1,                      ERR_CORRUPT,     "L1 entry" },
        { "L1 unaligned",        L1, 8, L2 + 512,                    ERR_CORRUPT,     "L1 entry" },
        { "L2 table outside",    L1, 8, 99 * CLUSTER,                ERR_CORRUPT,     "beyond the end" },
        { "L2 reserved bit",     L2, 8, DATA | 2,                    ERR_CORRUPT,     "L2 entry" },
        { "L2 unaligned",        L2, 8, DATA + 512,                  ERR_CORRUPT,     "L2 entry" },
        { "data outside",        L2, 8, 99 * CLUSTER,                ERR_CORRUPT,     "within the file" },
        { "data far outside",    L2, 8, UINT64_C(0x00ffffffffff0000), ERR_CORRUPT,    "within the file" },
        { "compressed",          L2, 8, UINT64_C(1) << 62 | DATA,    ERR_UNSUPPORTED, "compressed" },
        { "dirty",               72, 8, 1,                           ERR_UNSUPPORTED, "dirty" },
        { "corrupt",             72, 8, 2,                           ERR_UNSUPPORTED, "corrupt" },
        { "data file",           72, 8, 4,                           ERR_UNSUPPORTED, "data_file" },
        { "extended L2",         72, 8, 16,                          ERR_UNSUPPORTED, "extended L2" },
        { "unknown feature",     72, 8, 1 << 20,                     ERR_UNSUPPORTED, "unknown" },
        { "encrypted",           32, 4, 2,                           ERR_UNSUPPORTED, "encrypted" },
        { "snapshots",           60, 4, 1,                           ERR_UNSUPPORTED, "internal snapshots" },
        { "zero flag in v2",      4, 4, 2,                           ERR_CORRUPT,     "L2 entry" },
        { "magic",                0, 4, 1,                           ERR_CORRUPT,     "magic" },
        { "L1 outside",          40, 8, 64 * MIB,                    ERR_CORRUPT,     "l1_table_offset" },
    };
    /* clang-format on */
    for (size_t i = 0; i < G_N_ELEMENTS(rows); i++) {
        FOLDER(folder);
        g_autoptr(GError) error = NULL;
        g_autofree char *path = small_volume(folder, "a"), *dest = in(folder, "new");
        Qcow2Source source = { path, "qcow2" };
        Qcow2Build build = {
            .layers = &source, .n = 1, .dest = dest, .mode = 0600, .uid = -1, .gid = -1
        };

        g_test_message("%s", rows[i].name);
        poke(path, L2 + 16, 8, rows[i].at == 4 ? 1 : 0);
        poke(path, rows[i].at, rows[i].width, rows[i].value);
        g_assert_false(qcow2_build(&build, NULL, &error));
        assert_refused(error, rows[i].code, rows[i].wanted);
        g_assert_nonnull(strstr(error->message, path));
        g_assert_null(strchr(error->message, '\n'));
        g_assert_cmpuint(count_files(folder), ==, 1);
        g_autoptr(GError) why = NULL;
        g_autofree char *refusal = qcow2_build_refusal(&source, 1, 0, &why);
        g_assert_cmpstr(refusal != NULL ? refusal : why->message, ==, error->message);
        g_assert_true((refusal != NULL) == (rows[i].code == ERR_UNSUPPORTED));
    }
}

/* All entries name one cluster: a small file must not become a large one. */
static void
test_refuses_many_of_one(void)
{
    FOLDER(folder);
    g_autoptr(GError) error = NULL;
    g_autofree char *path = small_volume(folder, "a"), *dest = in(folder, "new");
    Qcow2Source source = { path, "qcow2" };
    Qcow2Source twice[] = { { path, "qcow2" }, { path, "qcow2" } };
    Qcow2Build build = {
        .layers = &source, .n = 1, .dest = dest, .mode = 0600, .uid = -1, .gid = -1
    };

    for (unsigned i = 0; i < 16; i++)
        poke(path, L2 + 8 * i, 8, DATA);
    g_assert_false(qcow2_build(&build, NULL, &error));
    assert_refused(error, ERR_CORRUPT, "more data clusters than the file has");
    g_clear_error(&error);
    build.layers = twice;
    build.n = 2;
    g_assert_false(qcow2_build(&build, NULL, &error));
    assert_refused(error, ERR_INVALID, "the same file");
}

static void
test_check_finds(void)
{
    enum { RT = CLUSTER, RB = 2 * CLUSTER };
    static const uint64_t copied = UINT64_C(1) << 63;
    /* clang-format off */
    const struct { const char *name; uint64_t at; unsigned width; uint64_t value; const char *wanted; } rows[] = {
        { "refcount 0",          RB + 10, 2, 0,                      "refcount of the cluster at 327680: 0, expected 1" },
        { "refcount 2",          RB + 10, 2, 2,                      "refcount of the cluster at 327680: 2, expected 1" },
        { "header's refcount",   RB, 2, 0,                           "refcount of the cluster at 0: 0, expected 1" },
        { "leak",                L2 + 8, 8, 0,                       "refcount of the cluster at 393216: 1, expected 0" },
        { "refcount of nothing", RB + 14, 2, 1,                      "beyond the end of the file" },
        { "COPIED of data",      L2, 8, DATA,                        "L2 entry of byte 0: COPIED flag 0, expected 1" },
        { "COPIED of a table",   L1, 8, L2,                          "L1 entry 0: COPIED flag 0, expected 1" },
        { "COPIED of nothing",   L2 + 16, 8, copied,                 "has no cluster" },
        { "used twice",          L2 + 16, 8, DATA | copied,          "L2 entry of byte 131072: the cluster at 327680 is used already" },
        { "data on a table",     L2, 8, L2 | copied,                 "the cluster at 262144 is used already" },
        { "data on the L1",      L2, 8, L1 | copied,                 "the cluster at 196608 is used already" },
        { "table on refcounts",  L1, 8, RB | copied,                 "the cluster at 131072 is used already" },
        { "data outside",        L2, 8, 99 * CLUSTER | copied,       "within the file" },
        { "data unaligned",      L2, 8, (DATA + 512) | copied,       "expected a multiple of 65536" },
        { "table outside",       L1, 8, 99 * CLUSTER | copied,       "L1 entry 0: offset" },
        { "reserved bit",        L2, 8, DATA | copied | 2,           "expected reserved bits to be 0" },
        { "block outside",       RT + 8, 8, 99 * CLUSTER,            "refcount table entry 1: offset" },
        { "block unaligned",     RT + 8, 8, 512,                     "refcount table entry 1: offset 512" },
        { "corrupt bit",         72, 8, 2,                           "corrupt bit" },
    };
    /* clang-format on */
    FOLDER(folder);
    g_autofree char *good = small_volume(folder, "good");
    assert_sound(good);
    for (size_t i = 0; i < G_N_ELEMENTS(rows); i++) {
        g_autoptr(GError) error = NULL;
        g_autofree char *name = g_strdup_printf("a%zu", i), *path = small_volume(folder, name);
        bool found = false;

        poke(path, rows[i].at, rows[i].width, rows[i].value);
        g_autoptr(GPtrArray) lines = qcow2_check(path, &error);
        g_assert_no_error(error);
        for (guint j = 0; j < lines->len; j++) {
            g_assert_true(g_str_has_prefix(lines->pdata[j], path));
            found = found || strstr(lines->pdata[j], rows[i].wanted) != NULL;
        }
        if (!found)
            g_error("%s: no line with \"%s\", but %s", rows[i].name, rows[i].wanted,
                    lines->len > 0 ? (const char *)lines->pdata[0] : "nothing");
        g_assert_false(qcow2_check_sound(path, &error));
        g_assert_error(error, ERR, ERR_CORRUPT);
    }
}

/* What QEMU complains about our checker finds too, whatever byte of the metadata is wrong. */
static void
test_check_against_qemu(void)
{
    FOLDER(folder);

    if (!have_qemu())
        return;
    for (unsigned i = 0; i < 60; i++) {
        g_autoptr(GError) error = NULL;
        g_autofree char *path = small_volume(folder, "a");
        static const unsigned places[] = { CLUSTER, 2 * CLUSTER, L1, L2 };
        g_autofree char *line = g_strdup_printf("qemu-img check -q -f qcow2 %s", path);

        poke(path, places[i % 4] + (unsigned)g_test_rand_int_range(0, 24), 1,
             UINT64_C(1) << g_test_rand_int_range(0, 8));
        g_autoptr(GPtrArray) lines = qcow2_check(path, &error);
        if (!quietly(line) && lines != NULL && lines->len == 0)
            g_error("round %u: qemu-img check found something that qcow2_check() did not", i);
        unlink(path);
    }
}

static void
test_differences(void)
{
    FOLDER(folder);
    g_auto(GenChain) c = plain_chain(folder, 14, 16, 3);

    for (unsigned round = 0; round < 4; round++) {
        g_autoptr(GError) error = NULL;
        g_auto(Job) job = { 0 };
        Qcow2Source dest = { NULL, "qcow2" };
        struct stat st;

        job_init(&job, &c, "new", false);
        g_assert_true(qcow2_build(&job.build, NULL, &error));
        dest.path = job.dest;
        g_assert_true(qcow2_same_map(job.build.layers, 3, job.dest, NULL, NULL, NULL, &error));
        g_assert_true(qcow2_same_content(job.build.layers, 3, &dest, 1, NULL, NULL, NULL, &error));
        g_assert_cmpint(stat(job.dest, &st), ==, 0);
        if (round == 0) /* a byte of the last data cluster */
            poke(job.dest, (uint64_t)st.st_size - 512 * 3, 8, UINT64_C(0x0123456789abcdef));
        else if (round == 1) /* a mapping lost: there is always a first entry that is used */
            for (unsigned i = 0; i < 40; i++)
                poke(job.dest, L2 + i * 8, 8, 0);
        else if (round == 2) /* another size */
            poke(job.dest, 24, 8, job.top->size - 512);
        else /* all at one place */
            for (unsigned i = 0; i < 40; i++)
                poke(job.dest, L2 + i * 8, 8, DATA | UINT64_C(1) << 63);
        g_assert_false(qcow2_same_map(job.build.layers, 3, job.dest, NULL, NULL, NULL, &error));
        assert_refused(error, ERR_CORRUPT, job.dest);
        g_clear_error(&error);
        g_assert_false(qcow2_same_content(job.build.layers, 3, &dest, 1, NULL, NULL, NULL, &error));
        assert_refused(error, ERR_CORRUPT, job.dest);
    }
}

int
main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    enter_file_systems();
    for (size_t i = 0; i < G_N_ELEMENTS(file_systems); i++) {
        g_autofree char *path = g_strdup_printf("/qcow2/build/chains/%s", file_systems[i].name);
        g_test_add_data_func(path, &file_systems[i], test_random_chains);
    }
    g_test_add_func("/qcow2/build/chains/qemu", test_qemus_chains);
    g_test_add_func("/qcow2/build/huge", test_huge);
    g_test_add_func("/qcow2/build/few-calls", test_few_calls);
    g_test_add_func("/qcow2/build/must-share", test_must_share);
    g_test_add_func("/qcow2/build/across", test_across);
    g_test_add_func("/qcow2/build/owner-and-names", test_owner_and_names);
    g_test_add_func("/qcow2/build/plan", test_plan);
    g_test_add_func("/qcow2/build/faults", test_faults);
    g_test_add_func("/qcow2/build/cancel", test_cancel);
    g_test_add_func("/qcow2/build/killed", test_killed);
    g_test_add_func("/qcow2/build/write-errors", test_write_errors);
    g_test_add_func("/qcow2/build/full-disk", test_full_disk);
    g_test_add_func("/qcow2/build/vanished", test_vanished);
    g_test_add_func("/qcow2/build/refuses", test_refuses);
    g_test_add_func("/qcow2/build/refuses-many-of-one", test_refuses_many_of_one);
    g_test_add_func("/qcow2/check/finds", test_check_finds);
    g_test_add_func("/qcow2/check/against-qemu", test_check_against_qemu);
    g_test_add_func("/qcow2/compare/differences", test_differences);
    int status = g_test_run();
    leave_file_systems();
    return status;
}
