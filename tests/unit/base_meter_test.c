/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "base/meter.h"

#include <string.h>

static const double limits[] = { 0.1, 1, 0 };
static const MeterKind kinds[] = {
    { "a_total", "counter", "Of a.", NULL },
    { "b", "gauge", "Of b.", NULL },
    { "c_seconds", "histogram", "Of c.", limits },
    { NULL },
};

static char *
written(Meter *meter)
{
    GString *text = g_string_new(NULL);

    meter_write(meter, text);
    return g_string_free(text, FALSE);
}

static void
test_empty(void)
{
    g_autoptr(Meter) meter = meter_new(kinds);
    g_autofree char *text = written(meter);

    g_assert_cmpstr(text, ==,
                    "# HELP a_total Of a.\n# TYPE a_total counter\n"
                    "# HELP b Of b.\n# TYPE b gauge\n"
                    "# HELP c_seconds Of c.\n# TYPE c_seconds histogram\n");
}

static void
test_counted(void)
{
    g_autoptr(Meter) meter = meter_new(kinds);

    meter_add(meter, "a_total", 1, "y", "2", NULL);
    meter_add(meter, "a_total", 2, "y", "1", NULL);
    meter_add(meter, "a_total", 40, "y", "1", NULL);
    meter_add(meter, "b", 1234567890123.5, NULL);
    meter_add(meter, "c_seconds", 0.1, NULL);
    meter_add(meter, "c_seconds", 0.5, NULL);
    meter_add(meter, "c_seconds", 7, NULL);
    meter_add(meter, "c_seconds", 0.01, "kind", "x", NULL);
    g_autofree char *text = written(meter);
    g_assert_cmpstr(text, ==,
                    "# HELP a_total Of a.\n# TYPE a_total counter\n"
                    "a_total{y=\"1\"} 42\n"
                    "a_total{y=\"2\"} 1\n"
                    "# HELP b Of b.\n# TYPE b gauge\n"
                    "b 1234567890123.5\n"
                    "# HELP c_seconds Of c.\n# TYPE c_seconds histogram\n"
                    "c_seconds_bucket{le=\"0.1\"} 1\n"
                    "c_seconds_bucket{le=\"1\"} 2\n"
                    "c_seconds_bucket{le=\"+Inf\"} 3\n"
                    "c_seconds_sum 7.6\n"
                    "c_seconds_count 3\n"
                    "c_seconds_bucket{kind=\"x\",le=\"0.1\"} 1\n"
                    "c_seconds_bucket{kind=\"x\",le=\"1\"} 1\n"
                    "c_seconds_bucket{kind=\"x\",le=\"+Inf\"} 1\n"
                    "c_seconds_sum{kind=\"x\"} 0.01\n"
                    "c_seconds_count{kind=\"x\"} 1\n");
}

/* Names of VMs can be any text. */
static void
test_any_label(void)
{
    static const struct {
        const char *value, *wanted;
    } rows[] = {
        { "a\"b", "a_total{vm=\"a\\\"b\"} 1\n" },
        { "a\\b", "a_total{vm=\"a\\\\b\"} 1\n" },
        { "a\nb", "a_total{vm=\"a\\nb\"} 1\n" },
        { "", "a_total{vm=\"\"} 1\n" },
        { NULL, "a_total{vm=\"\"} 1\n" },
        { "ü€", "a_total{vm=\"ü€\"} 1\n" },
        { "\xff", "a_total{vm=\"\xef\xbf\xbd\"} 1\n" },
        { "}", "a_total{vm=\"}\"} 1\n" },
    };

    for (size_t i = 0; i < G_N_ELEMENTS(rows); i++) {
        g_autoptr(Meter) meter = meter_new(kinds);
        meter_add(meter, "a_total", 1, "vm", rows[i].value, NULL);
        g_autofree char *text = written(meter);
        if (strstr(text, rows[i].wanted) == NULL)
            g_error("row %zu: %s is not in\n%s", i, rows[i].wanted, text);
    }
}

static void *
count_much(void *meter)
{
    for (int i = 0; i < 10000; i++)
        meter_add(meter, "a_total", 1, NULL);
    return NULL;
}

static void
test_threads(void)
{
    g_autoptr(Meter) meter = meter_new(kinds);
    GThread *threads[4];

    for (size_t i = 0; i < G_N_ELEMENTS(threads); i++)
        threads[i] = g_thread_new("count", count_much, meter);
    for (size_t i = 0; i < G_N_ELEMENTS(threads); i++)
        g_thread_join(threads[i]);
    g_autofree char *text = written(meter);
    g_assert_nonnull(strstr(text, "\na_total 40000\n"));
}

int
main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/base/meter/empty", test_empty);
    g_test_add_func("/base/meter/counted", test_counted);
    g_test_add_func("/base/meter/any-label", test_any_label);
    g_test_add_func("/base/meter/threads", test_threads);
    return g_test_run();
}
