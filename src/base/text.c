/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "base/text.h"

#include <string.h>

static GRand *seeded;

void
id_seed(uint64_t seed)
{
    g_clear_pointer(&seeded, g_rand_free);
    seeded = g_rand_new_with_seed((guint32)seed);
}

char *
id_new(void)
{
    if (seeded == NULL)
        return g_uuid_string_random();
    return g_strdup_printf("%08x-0000-4000-8000-%012x", g_rand_int(seeded), g_rand_int(seeded));
}

bool
id_is_valid(const char *id)
{
    return id != NULL && g_uuid_string_is_valid(id);
}

bool
name_check(const char *what, const char *name, GError **error)
{
    if (name == NULL || *name == '\0')
        return error_set(error, ERR_INVALID, "%s is empty", what);
    if (strlen(name) > 255)
        return error_set(error, ERR_INVALID, "%s has %zu bytes; at most 255 are allowed", what,
                         strlen(name));
    if (!g_utf8_validate(name, -1, NULL))
        return error_set(error, ERR_INVALID, "%s is not valid UTF-8", what);
    for (const char *p = name; *p != '\0'; p = g_utf8_next_char(p))
        if (g_unichar_iscntrl(g_utf8_get_char(p)))
            return error_set(error, ERR_INVALID, "%s contains a control character (byte %td)", what,
                             p - name + 1);
    return true;
}

char *
shell_word(const char *text)
{
    static const char plain[] =
        "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789/._-+@%";

    return *text != '\0' && strspn(text, plain) == strlen(text) ? g_strdup(text)
                                                                : g_shell_quote(text);
}

char *
size_text(uint64_t bytes)
{
    static const char *const units[] = { "B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB" };
    double value = (double)bytes;
    unsigned unit = 0;

    for (; value >= 1024 && unit + 1 < G_N_ELEMENTS(units); unit++)
        value /= 1024;
    return g_strdup_printf(unit == 0 ? "%.0f %s" : "%.1f %s", value, units[unit]);
}

char *
seconds_text(double seconds)
{
    if (seconds < 1)
        return g_strdup_printf("%.0f ms", seconds * 1000);
    return g_strdup_printf("%.1f s", seconds);
}

void
text_replace(char **at, const char *text)
{
    char *old = *at;

    *at = g_strdup(text); /* it may be the old one */
    g_free(old);
}
