/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * A file system of some size at a folder, for a child process alone.
 */
#pragma once

#include <glib.h>
#include <sched.h>
#include <sys/mount.h>
#include <sys/wait.h>
#include <unistd.h>

/* What then() returns; 77: there is no right to mount. */
static inline int
on_small(const char *folder, const char *size, int (*then)(const char *folder))
{
    pid_t child = fork();
    int status = 0;

    if (child == 0) {
        if (unshare(CLONE_NEWNS) != 0 || mount("none", "/", NULL, MS_REC | MS_PRIVATE, NULL) != 0 ||
            mount("tmpfs", folder, "tmpfs", 0, size) != 0)
            _exit(77);
        _exit(then(folder));
    }
    g_assert_cmpint(waitpid(child, &status, 0), ==, child);
    g_assert_true(WIFEXITED(status));
    return WEXITSTATUS(status);
}

/* then() returns 0. */
static inline void
is_fine_on_small(const char *folder, int (*then)(const char *folder))
{
    int code = on_small(folder, "size=128k", then);

    if (code == 77)
        g_test_skip("no right to mount");
    else
        g_assert_cmpint(code, ==, 0);
}
