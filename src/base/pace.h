/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * How fast something goes, of a count that grows by steps: smoothed. Between two steps it is as
 * fast as it was, since what is limited goes in bursts with rests; after a long rest it stands
 * still.
 *
 * Threads: the caller's.
 */
#pragma once

#include <stdint.h>

typedef struct {
    int64_t since_us;
    uint64_t since; /* the count then */
    double rate;    /* a second; 0 = it stands, or is not known yet */
} Pace;

void pace_begin(Pace *pace, int64_t now_us, uint64_t count);
/* The count is not below that of the last time. */
void pace_take(Pace *pace, int64_t now_us, uint64_t count);
