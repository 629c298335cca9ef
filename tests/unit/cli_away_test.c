/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * The command line when its manager goes away, and when the user does.
 */
#include "fake_manager.h"

#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>

static void
test_no_manager(void)
{
    g_autofree char *dir = g_dir_make_tmp("livemerge-cli-XXXXXX", NULL);
    g_autofree char *line = g_strdup_printf("vm list --connect unix:%s/none", dir);
    Run run = run_line(NULL, line);

    g_assert_cmpint(run.code, ==, 1);
    assert_contains(run.err, "livemerge: livemerge-manager cannot be reached: nobody is listening");
    assert_contains(run.err, "; 'systemctl status livemerge-manager' tells whether it runs");
    run_clear(&run);
    g_rmdir(dir);
}

/* Tokens are for other machines: whatever is wrong with their file, the local socket needs none. */
static void
test_tokens_of_others(void)
{
    g_autofree char *dir = g_dir_make_tmp("livemerge-cli-XXXXXX", NULL);
    g_autofree char *sub = g_build_filename(dir, "livemerge", NULL);
    g_autofree char *file = g_build_filename(sub, "tokens.json", NULL);
    Fake fake = { 0 };

    fake_start(&fake);
    g_assert_cmpint(g_mkdir(sub, 0700), ==, 0);
    g_assert_true(g_file_set_contents_full(file, "{}", -1, G_FILE_SET_CONTENTS_NONE, 0666, NULL));
    g_assert_cmpint(g_chmod(file, 0666), ==, 0);
    g_setenv("XDG_CONFIG_HOME", dir, TRUE); /* GLib looks once: this test comes first */
    Run here = run_line(&fake, "job list");
    Run there = run_line(NULL, "job list --connect https://127.0.0.1:1");
    g_assert_cmpint(here.code, ==, 0);
    g_assert_cmpint(there.code, ==, 4);
    assert_contains(there.err, "chmod 600");
    run_clear(&here);
    run_clear(&there);
    g_unlink(file);
    g_rmdir(sub);
    g_rmdir(dir);
    fake_stop(&fake);
}

typedef struct {
    Fake *fake;
    bool comes_back;
} Absence;

/* In the server's place: hangs up on the client, and again should it have tried twice by itself. */
static void
hang_up(const Fake *fake)
{
    struct sockaddr_un name = { .sun_family = AF_UNIX };
    const struct timeval patience = { .tv_sec = 30 };
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

    g_strlcpy(name.sun_path, fake->address + strlen("unix:"), sizeof name.sun_path);
    g_unlink(name.sun_path);
    g_assert_cmpint(bind(fd, (struct sockaddr *)&name, sizeof name), ==, 0);
    g_assert_cmpint(listen(fd, 1), ==, 0);
    setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience);
    for (int i = 0; i < 2; i++) {
        int client = accept4(fd, NULL, NULL, SOCK_CLOEXEC);
        g_assert_cmpint(client, >=, 0);
        close(client);
    }
    g_unlink(name.sun_path);
    close(fd);
}

/* Stops the server once the job was polled twice; brings it back when the client has noticed. */
static void *
come_and_go(void *data)
{
    Absence *absence = data;
    Fake *fake = absence->fake;

    for (;;) {
        g_mutex_lock(&fake->mutex);
        bool now = fake->polls >= 2;
        g_mutex_unlock(&fake->mutex);
        if (now)
            break;
        g_usleep(1000);
    }
    http_server_stop(fake->server);
    fake->server = NULL;
    if (!absence->comes_back)
        return NULL;
    hang_up(fake);
    fake->never_ends = false;
    fake_listen(fake);
    return NULL;
}

static void
test_manager_away(void)
{
    static const struct {
        bool comes_back;
        int code;
        const char *err;
    } rows[] = { { true, 0, "The manager answers again." },
                 { false, 5, "gave up waiting for the job, which goes on" } };

    for (size_t i = 0; i < G_N_ELEMENTS(rows); i++) {
        Fake fake = { .never_ends = true };
        Absence absence = { &fake, rows[i].comes_back };
        fake_start(&fake);
        GThread *thread = g_thread_new("away", come_and_go, &absence);
        Run run = run_line(&fake, "snapshot delete web nightly -y");
        g_thread_join(thread);
        g_test_message("%s%s", run.out, run.err);
        g_assert_cmpint(run.code, ==, rows[i].code);
        assert_contains(run.err, "The manager does not answer (");
        assert_contains(run.err, rows[i].err);
        run_clear(&run);
        fake_stop(&fake);
    }
}

/* Runs in a child of test_interrupt(), because Ctrl-C ends the program. */
static int
interrupted_child(void)
{
    Fake fake = { .interrupt_at = 2, .never_ends = true };
    CliIo io = { .patience_s = 2 };
    const char *argv[] = { "livemerge", "job", "watch", JOB_ID };

    fake_start(&fake);
    g_setenv("LIVEMERGE_CONNECT", fake.address, TRUE);
    printf("%s\n", fake.dir);
    fflush(stdout);
    io.out = stdout;
    io.err = stderr;
    return (int)cli_run(G_N_ELEMENTS(argv), argv, &io);
}

static void
test_interrupt(void)
{
    char *argv[] = { (char *)"/proc/self/exe", (char *)"--interrupted-child", NULL };
    g_autofree char *self = g_file_read_link("/proc/self/exe", NULL);
    g_autofree char *out = NULL, *err = NULL;
    g_autoptr(GError) error = NULL;
    int status;

    argv[0] = self;
    g_assert_true(g_spawn_sync(NULL, argv, NULL, 0, NULL, NULL, &out, &err, &status, &error));
    g_assert_true(WIFEXITED(status));
    g_assert_cmpint(WEXITSTATUS(status), ==, 5);
    assert_contains(err, "Interrupted; the job goes on. To watch it: livemerge job watch " JOB_ID);

    g_autofree char *socket = g_strconcat(g_strchomp(out), "/s", NULL);
    g_unlink(socket);
    g_rmdir(out);
}

int
main(int argc, char **argv)
{
    g_setenv("TZ", "UTC", TRUE);
    if (argc > 1 && g_str_equal(argv[1], "--interrupted-child"))
        return interrupted_child();
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/cli/tokens-of-others", test_tokens_of_others);
    g_test_add_func("/cli/no-manager", test_no_manager);
    g_test_add_func("/cli/manager-away", test_manager_away);
    g_test_add_func("/cli/interrupt", test_interrupt);
    return g_test_run();
}
