/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include "base/error.h"

/* The names of persistent dirty bitmaps that can never be used again: they are marked as in use, as
 * a QEMU that died leaves them. Of an image that a QEMU has open they all are: ask only when nobody
 * has. Owned by the caller; empty if there are none. Threads: any. Errors: as of
 * qcow2_header_read(). */
char **qcow2_stale_bitmaps(const char *path, GError **error);
