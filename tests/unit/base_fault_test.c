/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * Tests of fault points by name, each in a process of its own: the environment is read once.
 */
#include "base/error.h"
#include "base/fault.h"

#include <glib/gstdio.h>
#include <signal.h>
#include <sys/wait.h>

static void
test_fault_names(void)
{
    g_autoptr(GError) error = NULL;

    if (!g_test_subprocess()) {
        g_test_trap_subprocess(NULL, 0, G_TEST_SUBPROCESS_DEFAULT);
        g_test_trap_assert_passed();
        return;
    }
    g_setenv("LIVEMERGE_FAULTS", "a=error@2,b=error@1", TRUE);
    fault_init();
    g_assert_true(fault_point("a", &error));
    g_assert_true(fault_point("other", &error));
    g_assert_false(fault_point("a", &error));
    g_assert_error(error, ERR, ERR_STOPPED);
    g_clear_error(&error);
    g_assert_true(fault_point("a", &error));
    g_assert_false(fault_point("b", &error));
}

static void
test_fault_trace(void)
{
    g_autofree char *file = g_build_filename(g_get_tmp_dir(), "lm-trace-XXXXXX", NULL);
    g_autofree char *text = NULL;

    if (!g_test_subprocess()) {
        g_test_trap_subprocess(NULL, 0, G_TEST_SUBPROCESS_DEFAULT);
        g_test_trap_assert_passed();
        return;
    }
    close(g_mkstemp(file));
    g_setenv("LIVEMERGE_FAULT_TRACE", file, TRUE);
    fault_init();
    g_assert_true(fault_point("a", NULL));
    g_assert_true(fault_point("b", NULL));
    g_assert_true(g_file_get_contents(file, &text, NULL, NULL));
    unlink(file);
    g_assert_cmpstr(text, ==, "a\nb\n");
}

static void
test_fault_die(void)
{
    int status = 0;
    pid_t child = fork();

    g_assert_cmpint(child, >=, 0);
    if (child == 0) {
        g_setenv("LIVEMERGE_FAULTS", "x=die@1", TRUE);
        fault_init();
        fault_point("x", NULL);
        _exit(0);
    }
    g_assert_cmpint(waitpid(child, &status, 0), ==, child);
    g_assert_true(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
}

int
main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/fault/names", test_fault_names);
    g_test_add_func("/fault/trace", test_fault_trace);
    g_test_add_func("/fault/die", test_fault_die);
    return g_test_run();
}
