/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * Lines by chance (ops.h), of which most make sense; the same seed is the same lines.
 */
#pragma once

#include <glib.h>
#include <stdint.h>

GPtrArray *sequence_new(uint64_t seed); /* of char* */
