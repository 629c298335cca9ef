/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * One holder at a time: an open file description lock (OFD) on a file, which
 * the kernel gives back when its holder dies, however it dies.
 */
#pragma once

#include "base/error.h"

/* Takes the lock without waiting. Returns the fd that holds it (close it to
 * release); -1 with ERR_BUSY that names the file and, where known, the pid written
 * in it, if somebody else holds it. The file is created (0600) and keeps our pid. */
int lockfile_take(const char *path, const char *what, GError **error);
/* The same, but waits up to budget_ms. */
int lockfile_wait(const char *path, const char *what, unsigned budget_ms, GError **error);
