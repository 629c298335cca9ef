/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * A storage domain in a folder of the test's.
 */
#pragma once

#include "storage/storage.h"

static inline Domain *
domain_in(const char *folder)
{
    g_autoptr(GError) error = NULL;
    Domain *domain = domain_open(folder, NULL, &error);

    g_assert_no_error(error);
    return domain;
}
