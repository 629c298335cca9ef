/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "base/pace.h"

#define LEAST_US 500000    /* less says nothing */
#define STANDS_US 10000000 /* a burst of 16 MiB under a limit of 2 MiB/s rests for 8 s */

void
pace_begin(Pace *pace, int64_t now_us, uint64_t count)
{
    *pace = (Pace){ .since_us = now_us, .since = count };
}

void
pace_take(Pace *pace, int64_t now_us, uint64_t count)
{
    int64_t took = now_us - pace->since_us;

    if (count == pace->since) {
        if (took > STANDS_US)
            pace_begin(pace, now_us, count);
        return;
    }
    if (took <= LEAST_US)
        return;
    double fresh = (double)(count - pace->since) * 1e6 / (double)took;
    pace->rate = pace->rate > 0 ? (pace->rate + fresh) / 2 : fresh;
    pace->since_us = now_us;
    pace->since = count;
}
