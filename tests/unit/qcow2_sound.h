/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * What QEMU says of a file that was built.
 */
#pragma once

#include "qcow2_build_fs.h"
#include "qcow2_qemu_gen.h"

#include <jansson.h>

static inline void
assert_sound(const char *path)
{
    g_autoptr(GError) error = NULL;

    qcow2_check_sound(path, &error);
    g_assert_no_error(error);
}
