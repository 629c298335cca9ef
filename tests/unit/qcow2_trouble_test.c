/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * Builds in trouble: full disks, errors of the disk, cancels, kills. Whatever happens the old chain
 * is untouched, nothing is left of the new volume, and the error says what happened to which file.
 */
#include "base/fault.h"
#include "qcow2_build_fs.h"
#include "qcow2_build_job.h"
#include "qcow2_readers.h"

#include <signal.h>
#include <sys/resource.h>
#include <sys/wait.h>

/* Trouble --------------------------------------------------------------------------- */

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

/* A real error of the disk: the file system is larger than what it lies on, as thin storage is, and
 * so writes fail when they are brought to the disk. */
static void
test_thin_storage(void)
{
    FOLDER(root);
    g_autofree char *thin = in(root, "thin"), *fs = in(root, "fs"), *line = NULL;
    g_auto(GenChain) c = plain_chain(root, 16, 16, 3);
    g_autoptr(GBytes) before = all_bytes(&c);
    unsigned failed = 0;
    bool built = false;

    g_assert_cmpint(mkdir(thin, 0700), ==, 0);
    g_assert_cmpint(mkdir(fs, 0700), ==, 0);
    for (unsigned size = 800; !built && size < 16000; size += 400) {
        g_autofree char *limit = g_strdup_printf("%uK", size);
        g_autofree char *make =
            g_strdup_printf("truncate -s 64M %s/disk && mkfs.ext4 -q -O ^has_journal -E "
                            "lazy_itable_init=0 %s/disk && mount -o loop %s/disk %s",
                            thin, thin, thin, fs);
        g_auto(Job) job = { 0 };
        g_autoptr(GError) error = NULL;

        if (!make_fs(root, "tmpfs", thin, limit) || !quietly(make)) {
            umount2(thin, MNT_DETACH);
            g_test_skip("no loop devices to be had here");
            return;
        }
        job_init(&job, &c, "new", true);
        g_free(job.dest);
        job.dest = in(fs, "new");
        job.build.dest = job.dest;
        built = qcow2_build(&job.build, NULL, &error);
        if (built) {
            gen_verify(job.dest, job.top, NULL);
        } else {
            g_assert_true(g_error_matches(error, ERR, ERR_NO_SPACE) ||
                          g_error_matches(error, ERR, ERR_STORAGE));
            assert_one_line("build", job.dest, error);
            assert_no_debris(fs, job.dest);
            failed++;
        }
        g_clear_pointer(&job.dest, g_free);
        umount2(fs, MNT_DETACH);
        umount2(thin, MNT_DETACH);
    }
    g_autoptr(GBytes) after = all_bytes(&c);
    g_assert_true(g_bytes_equal(before, after));
    g_assert_true(built);
    g_assert_cmpuint(failed, >, 0);
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

int
main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    enter_file_systems();
    g_test_add_func("/qcow2/trouble/faults", test_faults);
    g_test_add_func("/qcow2/trouble/thin-storage", test_thin_storage);
    g_test_add_func("/qcow2/trouble/cancel", test_cancel);
    g_test_add_func("/qcow2/trouble/killed", test_killed);
    g_test_add_func("/qcow2/trouble/write-errors", test_write_errors);
    g_test_add_func("/qcow2/trouble/full-disk", test_full_disk);
    g_test_add_func("/qcow2/trouble/vanished", test_vanished);
    int status = g_test_run();
    leave_file_systems();
    return status;
}
