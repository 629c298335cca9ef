/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "base/meter.h"

#include "base/cleanup.h"

#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
#include <string.h>

struct Meter {
    const MeterKind *kinds;
    GMutex lock;
    GHashTable **series; /* one a kind: labels → Series */
};

typedef struct {
    double sum;
    uint64_t count;
    uint64_t *buckets; /* of a histogram: how many were not above each limit */
} Series;

static void
series_free(void *p)
{
    Series *series = p;

    g_free(series->buckets);
    g_free(series);
}

Meter *
meter_new(const MeterKind *kinds)
{
    Meter *meter = g_new0(Meter, 1);
    size_t n = 0;

    while (kinds[n].name != NULL)
        n++;
    meter->kinds = kinds;
    meter->series = g_new0(GHashTable *, n + 1);
    for (size_t i = 0; i < n; i++)
        meter->series[i] = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, series_free);
    g_mutex_init(&meter->lock);
    return meter;
}

void
meter_free(Meter *meter)
{
    if (meter == NULL)
        return;
    for (GHashTable **series = meter->series; *series != NULL; series++)
        g_hash_table_unref(*series);
    g_free(meter->series);
    g_mutex_clear(&meter->lock);
    g_free(meter);
}

static size_t
find_kind(const Meter *meter, const char *name)
{
    for (size_t i = 0; meter->kinds[i].name != NULL; i++)
        if (g_str_equal(meter->kinds[i].name, name))
            return i;
    g_error("no number is called %s", name);
}

/* ---- labels: name="value",name="value" ---- */

static void
append_value(GString *into, const char *value)
{
    g_autofree char *valid = g_utf8_make_valid(value, -1);

    for (const char *p = valid; *p != '\0'; p++) {
        if (*p == '\\' || *p == '"')
            g_string_append_c(into, '\\');
        if (*p == '\n')
            g_string_append(into, "\\n");
        else
            g_string_append_c(into, *p);
    }
}

static char *
labels_text(va_list pairs)
{
    GString *text = g_string_new(NULL);
    const char *name;

    while ((name = va_arg(pairs, const char *)) != NULL) {
        const char *value = va_arg(pairs, const char *);
        g_string_append_printf(text, "%s%s=\"", text->len > 0 ? "," : "", name);
        append_value(text, value != NULL ? value : "");
        g_string_append_c(text, '"');
    }
    return g_string_free(text, FALSE);
}

/* ---- counting ---- */

static size_t
bucket_count(const MeterKind *kind)
{
    size_t n = 0;

    while (kind->buckets != NULL && kind->buckets[n] > 0)
        n++;
    return n;
}

void
meter_add(Meter *meter, const char *name, double value, ...)
{
    size_t at = find_kind(meter, name), n = bucket_count(&meter->kinds[at]);
    va_list pairs;

    va_start(pairs, value);
    g_autofree char *labels = labels_text(pairs);
    va_end(pairs);
    WITH_LOCK(&meter->lock);
    Series *series = g_hash_table_lookup(meter->series[at], labels);

    if (series == NULL) {
        series = g_new0(Series, 1);
        series->buckets = g_new0(uint64_t, n + 1);
        g_hash_table_insert(meter->series[at], g_steal_pointer(&labels), series);
    }
    series->sum += value;
    series->count++;
    for (size_t i = 0; i < n; i++)
        series->buckets[i] += value <= meter->kinds[at].buckets[i];
}

/* ---- writing ---- */

static void
write_number(GString *into, const char *name, const char *suffix, const char *labels,
             const char *more, double value)
{
    char text[G_ASCII_DTOSTR_BUF_SIZE];
    bool both = *labels != '\0' && *more != '\0', any = *labels != '\0' || *more != '\0';

    g_string_append_printf(into, "%s%s%s%s%s%s%s %s\n", name, suffix, any ? "{" : "", labels,
                           both ? "," : "", more, any ? "}" : "",
                           g_ascii_formatd(text, sizeof text, "%.15g", value));
}

static void
write_histogram(GString *into, const MeterKind *kind, const char *labels, const Series *series)
{
    char text[G_ASCII_DTOSTR_BUF_SIZE];

    for (size_t i = 0; i < bucket_count(kind); i++) {
        g_autofree char *limit = g_strdup_printf(
            "le=\"%s\"", g_ascii_formatd(text, sizeof text, "%.15g", kind->buckets[i]));
        write_number(into, kind->name, "_bucket", labels, limit, (double)series->buckets[i]);
    }
    write_number(into, kind->name, "_bucket", labels, "le=\"+Inf\"", (double)series->count);
    write_number(into, kind->name, "_sum", labels, "", series->sum);
    write_number(into, kind->name, "_count", labels, "", (double)series->count);
}

static void
write_kind(GString *into, const MeterKind *kind, GHashTable *all)
{
    g_autoptr(GList) keys = g_list_sort(g_hash_table_get_keys(all), (GCompareFunc)strcmp);

    g_string_append_printf(into, "# HELP %s %s\n# TYPE %s %s\n", kind->name, kind->help, kind->name,
                           kind->type);
    for (GList *at = keys; at != NULL; at = at->next) {
        const Series *series = g_hash_table_lookup(all, at->data);
        if (kind->buckets != NULL)
            write_histogram(into, kind, at->data, series);
        else
            write_number(into, kind->name, "", at->data, "", series->sum);
    }
}

void
meter_write(Meter *meter, GString *into)
{
    WITH_LOCK(&meter->lock);

    for (size_t i = 0; meter->kinds[i].name != NULL; i++)
        write_kind(into, &meter->kinds[i], meter->series[i]);
}
