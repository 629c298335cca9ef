/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "base/lockfile.h"

#include "base/cleanup.h"
#include "base/clock.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>

static int
say_busy(int fd, const char *path, const char *what, GError **error)
{
    char holder[32] = "";
    ssize_t n = pread(fd, holder, sizeof holder - 1, 0);

    if (n <= 0)
        g_strlcpy(holder, "?", sizeof holder);
    error_set(error, ERR_BUSY, "%s: another process (pid %s) holds %s; nothing was changed", what,
              g_strstrip(holder), path);
    return -1;
}

int
lockfile_take(const char *path, const char *what, GError **error)
{
    autofd int fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
    struct flock lock = { .l_type = F_WRLCK, .l_whence = SEEK_SET };
    char pid[32];

    if (fd < 0) {
        error_set_errno(error, "%s: opening the lock file %s", what, path);
        return -1;
    }
    if (fcntl(fd, F_OFD_SETLK, &lock) < 0) {
        if (errno == EAGAIN || errno == EACCES)
            return say_busy(fd, path, what, error);
        error_set_errno(error, "%s: locking %s", what, path);
        return -1;
    }
    /* for humans and for say_busy(); the lock itself does not depend on it */
    int n = snprintf(pid, sizeof pid, "%d\n", (int)getpid());
    if (ftruncate(fd, 0) < 0 || pwrite(fd, pid, (size_t)n, 0) < 0)
        errno = 0;
    return steal_fd(&fd);
}

int
lockfile_wait(const char *path, const char *what, unsigned budget_ms, GError **error)
{
    int64_t until = clock_mono_us() + (int64_t)budget_ms * 1000;

    for (;;) {
        g_autoptr(GError) problem = NULL;
        int fd = lockfile_take(path, what, &problem);
        if (fd >= 0)
            return fd;
        if (!g_error_matches(problem, ERR, ERR_BUSY) || clock_mono_us() >= until) {
            g_propagate_error(error, g_steal_pointer(&problem));
            return -1;
        }
        g_usleep(5000);
    }
}
