/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * Tests of src/agent/hookfile.c: the start guard is put up and taken away.
 */
#include "agent/hookfile.h"

#include "../lib/image_tools.h"

#include <glib/gstdio.h>
#include <sys/stat.h>
#include <sys/syscall.h>

/* The directories that were made durable, by their real numbers: "DEV:INO ". */
static GString *synced;

int
fsync(int fd)
{
    struct stat st;

    if (synced != NULL && fstat(fd, &st) == 0 && S_ISDIR(st.st_mode))
        g_string_append_printf(synced, "%ju:%ju ", (uintmax_t)st.st_dev, (uintmax_t)st.st_ino);
    return (int)syscall(SYS_fsync, fd);
}

static void
assert_synced(const char *dir)
{
    struct stat st;

    g_assert_cmpint(stat(dir, &st), ==, 0);
    g_autofree char *id = g_strdup_printf("%ju:%ju ", (uintmax_t)st.st_dev, (uintmax_t)st.st_ino);
    if (strstr(synced->str, id) == NULL)
        g_error("a power loss would take what was put into %s", dir);
}

/* Who is told that the guard stands has it also after a power loss: the files and the directories
 * that were made for them. */
static void
test_durable(void)
{
    FOLDER(folder);
    g_autofree char *program = in(folder, "hook"), *hooks = in(folder, "etc/hooks"),
                    *vms = in(folder, "etc/hooks/qemu.d"), *above = in(folder, "etc"),
                    *daemons = in(folder, "etc/hooks/daemon.d");
    g_autoptr(GError) error = NULL;
    bool first = false;

    g_assert_true(g_file_set_contents(program, "#!/bin/sh\n", -1, NULL));
    synced = g_string_new(NULL);
    g_assert_true(hookfile_install(hooks, program, NULL, &first, &error));
    g_assert_no_error(error);
    assert_synced(folder);
    assert_synced(above);
    assert_synced(hooks);
    assert_synced(vms);
    assert_synced(daemons);
    g_string_free(g_steal_pointer(&synced), TRUE);
}

static void
test_hookfile(void)
{
    FOLDER(folder);
    g_autofree char *hooks = in(folder, "hooks");
    g_autofree char *program = in(folder, "program");
    g_autofree char *copy = in(hooks, "livemerge-hook");
    g_autofree char *script = in(hooks, "qemu.d/livemerge");
    g_autofree char *daemon = in(hooks, "daemon.d/livemerge");
    g_autoptr(GError) error = NULL;
    g_autofree char *text = NULL;
    bool first = false, was = true;

    g_assert_true(hookfile_remove(hooks, &was, &error));
    g_assert_false(was);
    g_assert_false(hookfile_install(hooks, program, NULL, &first, &error));
    g_assert_error(error, ERR, ERR_NOT_FOUND);
    g_clear_error(&error);
    g_assert_false(g_file_test(hooks, G_FILE_TEST_EXISTS));

    g_assert_true(g_file_set_contents(program, "#!/bin/sh\necho \"$@\"\nexit $CODE\n", -1, NULL));
    g_assert_true(hookfile_install(hooks, program, NULL, &first, &error));
    g_assert_true(first);
    g_assert_true(hookfile_install(hooks, program, "/x/it's.conf", &first, &error));
    g_assert_false(first);
    g_assert_no_error(error);

    /* as libvirt would call it: only exit code 1 of the program is a refusal */
    static const struct {
        const char *code, *arguments, *out;
        int status;
    } rows[] = {
        { "0", "web prepare begin -", "--config /x/it's.conf web prepare begin -\n", 0 },
        { "1", "web prepare begin -", "--config /x/it's.conf web prepare begin -\n", 1 },
        { "2", "web prepare begin -", "--config /x/it's.conf web prepare begin -\n", 0 },
        { "127", "web prepare begin -", "--config /x/it's.conf web prepare begin -\n", 0 },
        { "1", "web started begin -", "", 0 },
        { "1", "web prepare end -", "", 0 },
    };
    for (size_t i = 0; i < G_N_ELEMENTS(rows); i++) {
        g_autofree char *line =
            g_strdup_printf("CODE=%s exec %s %s", rows[i].code, script, rows[i].arguments);
        char *argv[] = { (char *)"sh", (char *)"-c", line, NULL };
        g_autofree char *out = NULL;
        int status = run(folder, argv, &out);
        g_assert_cmpint(WEXITSTATUS(status), ==, rows[i].status);
        g_assert_cmpstr(out, ==, rows[i].out);
    }

    /* as libvirtd calls it at its own start and end: nothing is refused */
    static const char *const starts[][2] = { { "- start - start", "--libvirtd-starts\n" },
                                             { "- shutdown - shutdown", "" } };
    for (size_t i = 0; i < G_N_ELEMENTS(starts); i++) {
        g_autofree char *line = g_strdup_printf("CODE=1 exec %s %s", daemon, starts[i][0]);
        char *argv[] = { (char *)"sh", (char *)"-c", line, NULL };
        g_autofree char *out = NULL;
        g_assert_cmpint(WEXITSTATUS(run(folder, argv, &out)), ==, 0);
        g_assert_cmpstr(out, ==, starts[i][1]);
    }

    g_assert_true(hookfile_remove(hooks, &was, &error));
    g_assert_true(was);
    g_assert_false(g_file_test(script, G_FILE_TEST_EXISTS));
    g_assert_false(g_file_test(daemon, G_FILE_TEST_EXISTS));
    g_assert_false(g_file_test(copy, G_FILE_TEST_EXISTS));

    /* somebody else's */
    g_assert_true(g_file_set_contents(script, "#!/bin/sh\n", -1, NULL));
    g_assert_false(hookfile_install(hooks, program, NULL, &first, &error));
    g_assert_error(error, ERR, ERR_EXISTS);
    g_clear_error(&error);
    g_assert_false(hookfile_remove(hooks, &was, &error));
    g_assert_error(error, ERR, ERR_EXISTS);
    g_assert_true(g_file_get_contents(script, &text, NULL, NULL));
    g_assert_cmpstr(text, ==, "#!/bin/sh\n");
}

int
main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/hookfile/durable", test_durable);
    g_test_add_func("/hookfile/put-up-and-taken-away", test_hookfile);
    return g_test_run();
}
