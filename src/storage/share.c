/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * Can files of this domain share blocks? Found out once, by doing it with two temporary files: a
 * file system's name says too little (XFS made without reflink, an NFS server without CLONE).
 */
#include "storage/domain.h"
#include "storage/files.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/fs.h>
#include <string.h>
#include <sys/ioctl.h>

#define PROBE_BYTES (64 * 1024)

/* A file whose name is gone at once (O_TMPFILE would be nicer, and NFS has it not). */
static int
nameless_file(const Domain *domain)
{
    g_autofree char *name =
        g_build_filename(domain->path, DOMAIN_FOLDER, "probe-XXXXXX" FILES_TEMPORARY, NULL);
    int fd = g_mkstemp_full(name, O_RDWR | O_CLOEXEC, 0600);

    if (fd >= 0)
        unlink(name);
    return fd;
}

/* What failed for another reason (a full storage, one that is away) says nothing. */
static Sharing
answer(int number)
{
    return number == EOPNOTSUPP || number == ENOTTY || number == ENOSYS || number == EINVAL ||
                   number == EXDEV
               ? SHARING_NO
               : SHARING_UNKNOWN;
}

static Sharing
try_to_share(const Domain *domain)
{
    autofd int from = nameless_file(domain);
    autofd int to = nameless_file(domain);
    g_autofree char *bytes = g_malloc(PROBE_BYTES);
    struct file_clone_range range = { .src_length = PROBE_BYTES };

    if (from < 0 || to < 0)
        return SHARING_UNKNOWN;
    memset(bytes, 'x', PROBE_BYTES);
    range.src_fd = from;
    if (write(from, bytes, PROBE_BYTES) != PROBE_BYTES)
        return SHARING_UNKNOWN;
    return ioctl(to, FICLONERANGE, &range) == 0 ? SHARING_YES : answer(errno);
}

bool
domain_can_share(Domain *domain)
{
    static GMutex lock;
    WITH_LOCK(&lock);

    if (domain->sharing == SHARING_UNKNOWN)
        domain->sharing = try_to_share(domain);
    return domain->sharing == SHARING_YES;
}
