/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * Stands between src/qcow2 and the C library: the n-th call that reads, writes, shares, syncs or
 * names anything fails, and those of the same name after it, or finds that something has vanished
 * just before. The functions below have the names of the C library's (and liburing's), which a
 * program's own come before.
 */
#pragma once

#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <glib.h>
#include <liburing.h>
#include <linux/fs.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

/* The kinds of calls, as bits */
enum {
    CALL_READ = 1,
    CALL_WRITE = 2,
    CALL_SHARE = 4,
    CALL_COPY = 8,
    CALL_SYNC = 16,
    CALL_NAME = 32, /* create, truncate, change owner or mode, rename */
    CALL_RING = 64,
    CALL_ALL = 127,
};

static struct {
    bool armed;
    unsigned kinds;
    unsigned countdown; /* 0 = now */
    int number;         /* errno; 0 = only act() */
    void (*act)(void *data);
    void *data;
    bool fired;
    const char *at; /* the call that it was */
    unsigned met;   /* kinds */
    bool no_ring, no_copy;
} inject;

/* True: this call is to fail, with errno set. */
static inline bool
inject_here(unsigned kind, const char *name)
{
    if (inject.armed && inject.fired && inject.number != 0 && strcmp(name, inject.at) == 0) {
        errno = inject.number; /* what is broken stays so */
        return true;
    }
    if (inject.armed)
        inject.met |= kind;
    if (!inject.armed || inject.fired || (inject.kinds & kind) == 0 || inject.countdown-- > 0)
        return false;
    inject.fired = true;
    inject.at = name;
    if (inject.act != NULL) {
        inject.armed = false;
        inject.act(inject.data);
        inject.armed = true;
    }
    errno = inject.number;
    return inject.number != 0;
}

#define FIND(name)           \
    if (real_##name == NULL) \
        real_##name = dlsym(RTLD_NEXT, #name);
#define INJECTED(kind, type, name, params, args)                 \
    type name params                                             \
    {                                                            \
        static type(*real_##name) params;                        \
                                                                 \
        FIND(name)                                               \
        return inject_here(kind, #name) ? -1 : real_##name args; \
    }

INJECTED(CALL_READ, ssize_t, pread, (int fd, void *buffer, size_t length, off_t at),
         (fd, buffer, length, at))
INJECTED(CALL_READ, off_t, lseek, (int fd, off_t at, int whence), (fd, at, whence))
INJECTED(CALL_WRITE, ssize_t, pwrite, (int fd, const void *buffer, size_t length, off_t at),
         (fd, buffer, length, at))
INJECTED(CALL_SYNC, int, fsync, (int fd), (fd))
INJECTED(CALL_NAME, int, ftruncate, (int fd, off_t length), (fd, length))
INJECTED(CALL_NAME, int, fchmod, (int fd, mode_t mode), (fd, mode))
INJECTED(CALL_NAME, int, fchown, (int fd, uid_t uid, gid_t gid), (fd, uid, gid))
INJECTED(CALL_NAME, int, renameat2,
         (int from_fd, const char *from, int to_fd, const char *to, unsigned flags),
         (from_fd, from, to_fd, to, flags))

ssize_t
copy_file_range(int in, off_t *in_at, int out, off_t *out_at, size_t length, unsigned flags)
{
    static ssize_t (*real_copy_file_range)(int, off_t *, int, off_t *, size_t, unsigned);

    FIND(copy_file_range)
    if (inject.no_copy) {
        errno = EXDEV;
        return -1;
    }
    return inject_here(CALL_COPY, "copy_file_range")
               ? -1
               : real_copy_file_range(in, in_at, out, out_at, length, flags);
}

int
ioctl(int fd, unsigned long request, ...)
{
    static int (*real_ioctl)(int, unsigned long, ...);
    va_list args;

    FIND(ioctl)
    va_start(args, request);
    void *argument = va_arg(args, void *);
    va_end(args);
    if (request == FICLONERANGE && inject_here(CALL_SHARE, "FICLONERANGE"))
        return -1;
    return real_ioctl(fd, request, argument);
}

int
open(const char *path, int flags, ...)
{
    static int (*real_open)(const char *, int, ...);
    va_list args;

    FIND(open)
    va_start(args, flags);
    mode_t mode = (flags & O_CREAT) ? va_arg(args, mode_t) : 0;
    va_end(args);
    if (inject_here(CALL_NAME, "open"))
        return -1;
    return real_open(path, flags, mode);
}

int
io_uring_queue_init(unsigned entries, struct io_uring *ring, unsigned flags)
{
    static int (*real_io_uring_queue_init)(unsigned, struct io_uring *, unsigned);

    FIND(io_uring_queue_init)
    return inject.no_ring ? -EPERM : real_io_uring_queue_init(entries, ring, flags);
}

/* A read or write that came back fails afterwards, for who asked. */
int
io_uring_submit_and_wait(struct io_uring *ring, unsigned count)
{
    static int (*real_io_uring_submit_and_wait)(struct io_uring *, unsigned);
    struct io_uring_cqe *cqe = NULL;
    unsigned head = 0;

    FIND(io_uring_submit_and_wait)
    int result = real_io_uring_submit_and_wait(ring, count);
    io_uring_for_each_cqe(ring, head, cqe) if (inject_here(CALL_RING, "io_uring")) cqe->res =
        -inject.number;
    return result;
}
