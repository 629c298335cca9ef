/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * Smaller answers, for clients that ask for it (browsers and oVirt's SDK do): a list of VMs says
 * the same words again and again. Used for kept answers alone, which are packed once.
 *
 * Threads: any.
 */
#pragma once

#include "base/cleanup.h"

#include <stdbool.h>

/* Of the header Accept-Encoding; NULL: no. */
bool gzip_accepted(const char *accept_encoding);
/* NULL if it is too small to be worth it. */
GBytes *gzip_pack(GBytes *plain);
