/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * Completion of words in the shell, which never waits for a manager.
 */
#include "fake_manager.h"

#include <sys/socket.h>
#include <sys/un.h>

static void
test_complete(void)
{
    static const struct {
        const char *words; /* after the program; the last one is being typed */
        const char *wanted;
    } rows[] = {
        { "", "vm\nsnapshot\nplan\nstorage\njob\nevent\ndoctor\nuser\nsession\ncertificate\nlogin\n"
              "logout\nversion\nhelp\n" },
        { "p", "plan\n" },
        { "plan w", "web\n" },
        { "plan web ", "before update\nnightly\n" },
        { "plan web nightly --disk ", "vda\n" },
        { "plan web nightly --al", "--all-options\n" },
        { "plan web nightly --verify ", "extents\nnone\nfull\n" },
        { "job r", "resume\n" },
        { "job resume 2", JOB_ID "\n" },
        { "s", "snapshot\nstorage\nsession\n" },
        { "session end --user alice a1b", "a1b2c3d4e5f60718\n" },
        { "snapshot ", "create\nlist\nshow\ndelete\nrename\npreview\ncommit\nundo\nrestore\n" },
        { "snapshot d", "delete\n" },
        { "--json snapshot re", "rename\nrestore\n" },
        { "vm show ", "web\nraw\na b\n" },
        { "vm show w", "web\n" },
        { "vm clone web n --snapshot ", "before update\nnightly\n" },
        { "vm clone web n --snapshot=n", "--snapshot=nightly\n" },
        { "user role u viewer --vm=w", "--vm=web\n" },
        { "doctor web --undo ", JOB_ID "\n" },
        { "help st", "storage\n" },
        { "help storage ", "list\nimport\n" },
        { "help storage list ", "" },
        { "snapshot delete web ", "before update\nnightly\n" },
        { "snapshot delete web nightly ", "before update\n" },
        { "snapshot delete web nightly nightly b", "before update\n" },
        { "snapshot delete nobody ", "" },
        { "snapshot create web ", "" },
        { "snapshot create web n --qu", "--quiesce\n" },
        { "snapshot create web n --quiesce ", "no\nauto\nrequire\n" },
        { "snapshot create web n --quiesce=a", "--quiesce=auto\n" },
        { "snapshot create web n --disk v", "vda\n" },
        { "snapshot create web n --disk=v", "--disk=vda\n" },
        { "snapshot delete web n --strategy co", "commit\ncommit-active\ncopy\ncold-commit\n" },
        { "job watch 2", JOB_ID "\n" },
        { "vm list x", "" },
        { "nonsense x", "" },
        { "vm list --m", "" },
    };
    Fake fake = { 0 };

    fake_start(&fake);
    for (size_t i = 0; i < G_N_ELEMENTS(rows); i++) {
        g_autofree char *line = g_strconcat("__complete ", rows[i].words, NULL);
        Run run = run_line(&fake, line);
        g_test_message("%s", rows[i].words);
        g_assert_cmpint(run.code, ==, 0);
        g_assert_cmpstr(run.out, ==, rows[i].wanted);
        g_assert_cmpstr(run.err, ==, "");
        run_clear(&run);
    }
    fake_stop(&fake);
}

/* A manager that never answers: a listening socket that nobody reads. */
static void
test_complete_never_blocks(void)
{
    g_autofree char *dir = g_dir_make_tmp("livemerge-cli-XXXXXX", NULL);
    g_autofree char *path = g_strconcat(dir, "/s", NULL);
    g_autofree char *address = g_strconcat("unix:", path, NULL);
    struct sockaddr_un name = { .sun_family = AF_UNIX };
    autofd int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    CliIo io = { 0 };

    g_strlcpy(name.sun_path, path, sizeof name.sun_path);
    g_assert_cmpint(bind(fd, (struct sockaddr *)&name, sizeof name), ==, 0);
    g_assert_cmpint(listen(fd, 5), ==, 0);
    int64_t start = g_get_monotonic_time();
    Run run = run_with(&io, address, "__complete vm show ");
    g_assert_cmpint(g_get_monotonic_time() - start, <, 20 * G_USEC_PER_SEC);
    g_assert_cmpstr(run.out, ==, "");
    g_assert_cmpstr(run.err, ==, "");
    run_clear(&run);
    g_unlink(path);
    g_rmdir(dir);
}

int
main(int argc, char **argv)
{
    g_setenv("TZ", "UTC", TRUE);
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/cli/complete", test_complete);
    g_test_add_func("/cli/complete-never-blocks", test_complete_never_blocks);
    return g_test_run();
}
