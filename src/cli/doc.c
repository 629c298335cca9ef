/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "cli/doc.h"
#include "base/clock.h"

#include <string.h>

#define DAY INT64_C(86400)

const json_t *
doc_at(const json_t *doc, const char *path)
{
    g_auto(GStrv) names = g_strsplit(path, ".", -1);

    for (char **name = names; *name != NULL && doc != NULL; name++)
        doc = json_object_get(doc, *name);
    return doc;
}

const char *
doc_text(const json_t *doc, const char *path)
{
    const char *text = json_string_value(doc_at(doc, path));

    return text != NULL ? text : "";
}

double
doc_number(const json_t *doc, const char *path, double otherwise)
{
    const json_t *value = doc_at(doc, path);
    const char *text = json_string_value(value);
    char *end = NULL;

    if (json_is_number(value))
        return json_number_value(value);
    if (text == NULL || *text == '\0')
        return otherwise;
    double number = g_ascii_strtod(text, &end);
    return *end == '\0' ? number : otherwise;
}

uint64_t
doc_bytes(const json_t *doc, const char *path)
{
    double number = doc_number(doc, path, 0);

    return number > 0 && number < 0x1p63 ? (uint64_t)number : 0;
}

bool
doc_bool(const json_t *doc, const char *path)
{
    return json_is_true(doc_at(doc, path)) || g_ascii_strcasecmp(doc_text(doc, path), "true") == 0;
}

const json_t *
doc_items(const json_t *doc, const char *outer, const char *inner)
{
    const json_t *holder = outer != NULL ? json_object_get(doc, outer) : doc;
    const json_t *items = json_is_array(holder) ? holder : json_object_get(holder, inner);

    return json_is_array(items) ? items : NULL;
}

static bool
is_direction_mark(gunichar c)
{
    return (c >= 0x200e && c <= 0x200f) || (c >= 0x202a && c <= 0x202e) ||
           (c >= 0x2066 && c <= 0x2069) || c == 0x2028 || c == 0x2029 || c == 0xfeff;
}

static void
append_escaped(GString *out, gunichar c)
{
    static const char *const words[] = {
        ['\a'] = "\\a", ['\b'] = "\\b", ['\t'] = "\\t", ['\n'] = "\\n",
        ['\v'] = "\\v", ['\f'] = "\\f", ['\r'] = "\\r"
    };

    if (c < G_N_ELEMENTS(words) && words[c] != NULL)
        g_string_append(out, words[c]);
    else if (g_unichar_iscntrl(c) && c < 0x80)
        g_string_append_printf(out, "\\x%02x", c);
    else if (g_unichar_iscntrl(c) || is_direction_mark(c))
        g_string_append_printf(out, "\\u%04x", c);
    else
        g_string_append_unichar(out, c);
}

char *
escape_text(const char *text, bool keep_newlines)
{
    GString *out = g_string_new(NULL);

    while (*text != '\0') {
        gunichar c = g_utf8_get_char_validated(text, -1);
        if (c == (gunichar)-1 || c == (gunichar)-2) {
            g_string_append_printf(out, "\\x%02x", (unsigned char)*text++);
            continue;
        }
        if (c == '\n' && keep_newlines)
            g_string_append_c(out, '\n');
        else
            append_escaped(out, c);
        text = g_utf8_next_char(text);
    }
    return g_string_free(out, FALSE);
}

char *
short_id(const char *id)
{
    return g_strndup(id, 8);
}

static GDateTime *
parse_date(const char *iso8601)
{
    g_autoptr(GTimeZone) utc = g_time_zone_new_utc();

    return iso8601 != NULL ? g_date_time_new_from_iso8601(iso8601, utc) : NULL;
}

char *
date_text(const char *iso8601)
{
    g_autoptr(GDateTime) date = parse_date(iso8601);
    g_autoptr(GDateTime) local = date != NULL ? g_date_time_to_local(date) : NULL;

    return local != NULL ? g_date_time_format(local, "%Y-%m-%d %H:%M:%S") : g_strdup("");
}

char *
age_text(const char *iso8601)
{
    static const struct {
        int64_t below, unit; /* seconds */
        const char *one, *many;
    } rows[] = {
        { 60, 1, "s", "s" },
        { 3600, 60, "min", "min" },
        { 2 * DAY, 3600, "h", "h" },
        { 14 * DAY, DAY, "day", "days" },
        { 60 * DAY, 7 * DAY, "week", "weeks" },
        { 730 * DAY, 30 * DAY, "month", "months" },
        { G_MAXINT64, 365 * DAY, "year", "years" },
    };
    g_autoptr(GDateTime) date = parse_date(iso8601);
    int64_t age;

    if (date == NULL)
        return g_strdup("");
    age = clock_wall_ms() / 1000 - g_date_time_to_unix(date);
    if (age < -5) /* small differences between two machines' clocks are not the future */
        return g_strdup("");
    if (age < 5)
        return g_strdup("just now");
    for (size_t i = 0;; i++)
        if (age < rows[i].below) {
            int64_t n = age / rows[i].unit;
            return g_strdup_printf("%" G_GINT64_FORMAT " %s ago", n,
                                   n == 1 ? rows[i].one : rows[i].many);
        }
}

char *
duration_text(double seconds)
{
    if (seconds < 0 || seconds > 1e9)
        return g_strdup("");
    uint64_t s = (uint64_t)(seconds + 0.5);
    if (s < 60)
        return g_strdup_printf("%u s", (unsigned)s);
    if (s < 3600)
        return g_strdup_printf("%u min %u s", (unsigned)(s / 60), (unsigned)(s % 60));
    return g_strdup_printf("%u h %u min", (unsigned)(s / 3600), (unsigned)(s % 3600 / 60));
}

double
seconds_between(const char *iso8601_start, const char *iso8601_end)
{
    g_autoptr(GDateTime) start = parse_date(iso8601_start);
    g_autoptr(GDateTime) end = parse_date(iso8601_end);

    if (start == NULL || end == NULL)
        return -1;
    return (double)g_date_time_difference(end, start) / 1e6;
}
