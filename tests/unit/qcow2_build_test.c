/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * Building, checking and comparing volumes: thousands of random chains on real file systems,
 * each judged by what its generator knows; samples of them by QEMU's tools. A failure says the seed
 * that repeats it.
 */
#include "qcow2_build_fs.h"
#include "qcow2_build_job.h"
#include "qcow2_seed.h"

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
    for (unsigned i = 0; i < rounds && !(i > 0 && seed_is_last()); i++)
        built += check_chain(fs, seed_next("/qcow2/build/chains", i), i % 8 != 7,
                             qemu != NULL && i % 25 == 0);
    seed_done();
    g_test_message("%u of %u chains built on %s in %.1f s", built, rounds, fs->name,
                   (double)(g_get_monotonic_time() - begin) / 1e6);
    g_assert_true(seed_is_last() || built > rounds * 85 / 100);
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
    g_test_add_func("/qcow2/build/huge", test_huge);
    g_test_add_func("/qcow2/build/few-calls", test_few_calls);
    g_test_add_func("/qcow2/build/must-share", test_must_share);
    g_test_add_func("/qcow2/build/across", test_across);
    g_test_add_func("/qcow2/build/owner-and-names", test_owner_and_names);
    g_test_add_func("/qcow2/build/plan", test_plan);
    g_test_add_func("/qcow2/compare/differences", test_differences);
    int status = g_test_run();
    leave_file_systems();
    return status;
}
