/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "base/clock.h"

#include <stdbool.h>

static bool faked;
static int64_t fake_ms;

int64_t
clock_mono_us(void)
{
    return faked ? fake_ms * 1000 : g_get_monotonic_time();
}

int64_t
clock_wall_ms(void)
{
    return faked ? fake_ms : g_get_real_time() / 1000;
}

void
clock_fake(int64_t wall_ms)
{
    faked = true;
    fake_ms = wall_ms;
}

void
clock_fake_advance(int64_t ms)
{
    fake_ms += ms;
}

char *
clock_iso8601(int64_t wall_ms)
{
    g_autoptr(GDateTime) at = g_date_time_new_from_unix_utc(wall_ms / 1000);
    g_autofree char *seconds = NULL;

    if (at == NULL)
        return g_strdup("1970-01-01T00:00:00.000Z");
    seconds = g_date_time_format(at, "%Y-%m-%dT%H:%M:%S");
    return g_strdup_printf("%s.%03dZ", seconds, (int)(wall_ms % 1000));
}
