/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * The pace of what goes in bursts, and of what stands.
 */
#include "base/pace.h"

#include <glib.h>

#define S 1000000
#define MIB 1048576

static void
test_even(void)
{
    Pace pace;

    pace_begin(&pace, 0, 0);
    g_assert_cmpfloat(pace.rate, ==, 0);
    for (int i = 1; i <= 20; i++)
        pace_take(&pace, i * S, (uint64_t)i * 3 * MIB);
    g_assert_cmpfloat(pace.rate, ==, 3 * MIB);
}

/* 16 MiB at once, then a rest, as QEMU does under a limit: as fast as it is on the whole, and never
 * almost nothing, which would make a remaining time of hours. */
static void
test_bursts(void)
{
    Pace pace;
    uint64_t done = 0;

    pace_begin(&pace, 0, 0);
    for (int64_t now = S / 2; now < 60 * S; now += S / 2) {
        if (now % (5 * S) == 0)
            done += 16 * MIB;
        pace_take(&pace, now, done);
        if (now >= 5 * S) {
            g_assert_cmpfloat(pace.rate, >, 3 * MIB);
            g_assert_cmpfloat(pace.rate, <, 4 * MIB);
        }
    }
}

static void
test_stands(void)
{
    Pace pace;

    pace_begin(&pace, 0, 0);
    pace_take(&pace, S, MIB);
    g_assert_cmpfloat(pace.rate, ==, MIB);
    for (int i = 2; i < 20; i++)
        pace_take(&pace, i * S, MIB);
    g_assert_cmpfloat(pace.rate, ==, 0);
    pace_take(&pace, 20 * S, 2 * MIB); /* it was standing: that is no part of the new pace */
    g_assert_cmpfloat(pace.rate, >, MIB / 10);
}

int
main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/base/pace/even", test_even);
    g_test_add_func("/base/pace/bursts", test_bursts);
    g_test_add_func("/base/pace/stands", test_stands);
    return g_test_run();
}
