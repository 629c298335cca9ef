/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * What tools/install-deps.sh installs is there: without it nothing would be tested, and a skipped
 * test counts as passed.
 */
#pragma once

#include <glib.h>

static inline void
need_tool(const char *name)
{
    g_autofree char *path = g_find_program_in_path(name);

    if (path == NULL)
        g_error("%s is not installed: tools/install-deps.sh test", name);
}
