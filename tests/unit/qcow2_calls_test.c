/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * Every call of a build fails in turn, or a file vanishes just before it. The old chain is
 * untouched, nothing is left of the new volume, and the error says what happened to which file.
 */
#include "qcow2_build_fs.h"
#include "qcow2_build_job.h"
#include "qcow2_inject.h"
#include "qcow2_readers.h"

/* Every call ------------------------------------------------------------------------ */

typedef struct {
    const char *name;
    const TestFs *from, *to; /* sources and new volume */
    bool share, no_ring, no_copy;
    unsigned kinds; /* of calls that must have been met */
} Way;

typedef struct {
    Way way;
    GenChain *chain;
    Job *job;
    GBytes *before;
    gsize sizes[8];  /* of the chain's files */
    unsigned others; /* files in the folder of the new volume */
} Scene;

static bool
build_with(const Scene *scene, int number, void (*act)(void *), unsigned call, GError **error)
{
    inject.countdown = call;
    inject.number = number;
    inject.kinds = CALL_ALL;
    inject.act = act;
    inject.data = (void *)scene;
    inject.fired = false;
    inject.met = 0;
    inject.no_ring = scene->way.no_ring;
    inject.no_copy = scene->way.no_copy;
    inject.armed = true;
    bool built = qcow2_build(&scene->job->build, NULL, error);
    inject.armed = inject.no_ring = inject.no_copy = false;
    return built;
}

static void
assert_nothing_left(const Scene *scene)
{
    g_autoptr(GBytes) after = all_bytes(scene->chain);
    g_autofree char *folder = g_path_get_dirname(scene->job->dest);

    g_assert_true(g_bytes_equal(scene->before, after));
    assert_no_debris(folder, scene->job->dest);
    g_assert_cmpuint(count_files(folder), ==, scene->others);
}

static void
assert_whole(const Scene *scene)
{
    gen_verify(scene->job->dest, scene->job->top, scene->job->below);
    assert_sound(scene->job->dest);
    unlink(scene->job->dest);
}

/* The message says the reason, and names the new volume or one of the sources. */
static void
assert_says(const Scene *scene, const GError *error, int number)
{
    bool named = strstr(error->message, scene->job->dest) != NULL;

    for (unsigned i = 0; i < scene->chain->n; i++)
        named = named || strstr(error->message, scene->chain->layers[i].path) != NULL;
    if (!named || strstr(error->message, g_strerror(number)) == NULL ||
        !g_error_matches(error, ERR, number == ENOSPC ? ERR_NO_SPACE : ERR_STORAGE))
        g_error("%s: %s fails with %s: %s", scene->way.name, inject.at, g_strerror(number),
                error->message);
}

static void
fail_each_call(const Scene *scene, int number)
{
    bool built = false;
    unsigned call = 0;

    for (; !built; call++) {
        g_autoptr(GError) error = NULL;

        built = build_with(scene, number, NULL, call, &error);
        if (built && inject.fired)
            g_error("%s: %s fails with %s, and nobody minds", scene->way.name, inject.at,
                    g_strerror(number));
        if (!built) {
            g_assert_true(inject.fired);
            assert_says(scene, error, number);
            assert_nothing_left(scene);
        }
    }
    g_assert_cmpuint(call, >, 20);
    g_assert_cmpuint(inject.met & scene->way.kinds, ==, scene->way.kinds);
    assert_whole(scene);
}

/* What can vanish ------------------------------------------------------------------- */

static void
lose_new_file(void *data)
{
    const Scene *scene = data;
    g_autofree char *folder = g_path_get_dirname(scene->job->dest);
    g_autoptr(GDir) dir = g_dir_open(folder, 0, NULL);

    for (const char *name; (name = g_dir_read_name(dir)) != NULL;) {
        g_autofree char *path = in(folder, name);
        if (g_str_has_prefix(name, QCOW2_BUILD_PREFIX))
            unlink(path);
    }
}

static void
lose_source(void *data)
{
    const Scene *scene = data;

    unlink(scene->chain->layers[1].path);
}

static void
cut_source(void *data)
{
    const Scene *scene = data;
    const char *path = scene->chain->layers[1].path;
    struct stat st;

    g_assert_cmpint(stat(path, &st), ==, 0);
    g_assert_cmpint(truncate(path, st.st_size / 2), ==, 0);
}

/* Puts the sources back as they were. */
static void
restore(const Scene *scene)
{
    gsize length = 0, at = 0;
    const char *all = g_bytes_get_data(scene->before, &length);

    for (unsigned i = 0; i < scene->chain->n; i++) {
        gsize size = scene->sizes[i];

        g_assert_true(g_file_set_contents_full(scene->chain->layers[i].path, all + at, (gssize)size,
                                               G_FILE_SET_CONTENTS_NONE, 0600, NULL));
        at += size;
    }
}

typedef struct {
    const char *name;
    void (*act)(void *data);
    ErrorCode code;
} Loss;

/* Whenever it vanishes: the build fails in a line that says so, or had all that it needed. */
static void
lose_at_each_call(Scene *scene, const Loss *loss)
{
    unsigned failed = 0, built = 0;

    for (bool fired = true; fired;) {
        g_autoptr(GError) error = NULL;
        bool done = build_with(scene, 0, loss->act, failed + built, &error);

        fired = inject.fired;
        if (!done) {
            g_autofree char *folder = g_path_get_dirname(scene->job->dest);
            if (!g_error_matches(error, ERR, (int)loss->code) &&
                !g_error_matches(error, ERR, ERR_NOT_FOUND))
                g_error("%s, %s at %s: %s", scene->way.name, loss->name, inject.at, error->message);
            assert_no_debris(folder, scene->job->dest);
            failed++;
        } else {
            assert_whole(scene);
            built++;
        }
        restore(scene);
    }
    g_assert_cmpuint(failed + built, >, 20);
    g_assert_cmpuint(failed, >, 0);
}

/* Sets a scene and plays one part after the other. */
static void
play(const Way *way)
{
    /* clang-format off */
    static const Loss losses[] = {
        { "the new file is deleted", lose_new_file, ERR_STORAGE },
        { "a source is deleted",     lose_source,   ERR_NOT_FOUND },
        { "a source is cut short",   cut_source,    ERR_CORRUPT },
    };
    /* clang-format on */
    g_auto(GenChain) c = plain_chain(way->from->folder, 15, 12, 3);
    g_autoptr(GBytes) before = all_bytes(&c);
    g_auto(Job) job = { 0 };
    Scene scene = { .way = *way, .chain = &c, .job = &job, .before = before };

    job_init(&job, &c, "new", way->share);
    g_free(job.dest);
    job.dest = in(way->to->folder, "new");
    job.build.dest = job.dest;
    job.build.uid = geteuid() == 0 ? 36 : -1; /* so that there is something to change */
    for (unsigned i = 0; i < c.n; i++) {
        struct stat st;
        g_assert_cmpint(stat(c.layers[i].path, &st), ==, 0);
        scene.sizes[i] = (gsize)st.st_size;
    }
    scene.others = count_files(way->to->folder);
    fail_each_call(&scene, EIO);
    fail_each_call(&scene, ENOSPC);
    for (size_t i = 0; i < G_N_ELEMENTS(losses); i++)
        lose_at_each_call(&scene, &losses[i]);
}

static void
test_each_call(void)
{
    const TestFs *xfs = &file_systems[0], *btrfs = &file_systems[1], *ext4 = &file_systems[2],
                 *tmpfs = &file_systems[3];
    /* clang-format off */
    const Way ways[] = {
        { "sharing on XFS",            xfs,   xfs,   true,  false, false, CALL_SHARE },
        { "sharing on btrfs",          btrfs, btrfs, true,  false, false, CALL_SHARE },
        { "io_uring on XFS",           xfs,   xfs,   false, false, false, CALL_RING },
        { "copy_file_range on ext4",   ext4,  ext4,  true,  false, false, CALL_COPY },
        { "io_uring on ext4",          ext4,  ext4,  false, false, true,  CALL_RING },
        { "io_uring to another",       xfs,   tmpfs, true,  false, true,  CALL_RING },
        { "reads and writes on tmpfs", tmpfs, tmpfs, false, true,  true,  CALL_WRITE },
    };
    /* clang-format on */
    for (size_t i = 0; i < G_N_ELEMENTS(ways); i++)
        if (ways[i].from->folder != NULL && ways[i].to->folder != NULL) {
            g_test_message("%s", ways[i].name);
            play(&ways[i]);
        }
}

int
main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    enter_file_systems();
    g_test_add_func("/qcow2/calls/each", test_each_call);
    int status = g_test_run();
    leave_file_systems();
    return status;
}
