/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * The clock seam: nobody else reads the time. Tests set a fake one.
 */
#pragma once

#include <glib.h>
#include <stdint.h>

int64_t clock_mono_us(void); /* microseconds; only differences mean something */
int64_t clock_wall_ms(void); /* milliseconds since 1970, UTC */
/* From now on the clock stands at this time and moves only by clock_fake_advance(). */
void clock_fake(int64_t wall_ms);
void clock_fake_advance(int64_t ms);
/* "2026-01-31T12:34:56.789Z"; the caller frees it */
char *clock_iso8601(int64_t wall_ms);
