/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * Tests of how fast a storage is said to be.
 */
#include "model/rates.h"

#include <math.h>

static void
test_rates_learn(void)
{
    /* clang-format off */
    static const struct { double amount, seconds, wanted; bool taken; } rows[] = { /* one after another */
        { 1e6,   0.049, 250e6,  false }, /* too short to say anything */
        { 0,     1,     250e6,  false },
        { -5,    1,     250e6,  false },
        { 1e6,   -1,    250e6,  false },
        { 1e6,   0,     250e6,  false },
        { NAN,   1,     250e6,  false },
        { 1e6,   NAN,   250e6,  false },
        { INFINITY, 1,  250e6,  false },
        { 1e6, INFINITY, 250e6, false },
        { 0.5,   1,     250e6,  false },
        { 5e6,   0.05,  100e6,  true },  /* the first replaces the guess */
        { 600e6, 2,     200e6,  true },  /* of two the middle */
        { 400e6, 1,     300e6,  true },  /* the median of the last seven */
        { 1e6,   0.01,  300e6,  false },
        { 2,     2,     200e6,  true },
        { 400e6, 1,     300e6,  true },
        { 400e6, 1,     350e6,  true },
        { 400e6, 1,     400e6,  true },
        { 400e6, 1,     400e6,  true },  /* the first is forgotten */
        { 1e6,   1,     400e6,  true },  /* one slow one changes nothing */
    };
    /* clang-format on */
    Rates rates;
    unsigned taken = 0;

    rates_init(&rates);
    for (size_t i = 0; i < G_N_ELEMENTS(rows); i++) {
        bool took = rates_add(&rates, RATE_COMMIT, rows[i].amount, rows[i].seconds);
        g_test_message("row %zu: %g in %g s", i, rows[i].amount, rows[i].seconds);
        taken += took;
        g_assert_cmpint(took, ==, rows[i].taken);
        g_assert_cmpfloat_with_epsilon(rates.value[RATE_COMMIT], rows[i].wanted, 1e-3);
        g_assert_cmpuint(rates.samples[RATE_COMMIT], ==, taken);
    }
    g_assert_false(rates_add(&rates, RATE_LAST, 1e6, 1));
    g_assert_cmpfloat(rates.value[RATE_COLD], ==, 400e6); /* the others are as they were */
    g_assert_cmpuint(rates.samples[RATE_COLD], ==, 0);
}

/* A storage that becomes slow is known as slow after a few merges. */
static void
test_rates_forget(void)
{
    Rates rates;

    rates_init(&rates);
    for (unsigned i = 0; i < 100; i++)
        rates_add(&rates, RATE_COPY, 1e9, 1);
    for (unsigned i = 0; i < 7; i++)
        rates_add(&rates, RATE_COPY, 1e8, 1);
    g_assert_cmpfloat(rates.value[RATE_COPY], <, 1.1e8);
    g_assert_cmpuint(rates.samples[RATE_COPY], ==, 107);
}

static void
test_rates_json(void)
{
    Rates rates, back;

    rates_init(&rates);
    for (int i = 0; i < RATE_LAST; i++)
        for (int turn = 0; turn <= i; turn++)
            g_assert_true(rates_add(&rates, (Rate)i, 12345.678 * (i + 1), 1.5));
    g_autoptr(json_t) json = rates_to_json(&rates);
    g_assert_cmpuint(json_object_size(json), ==, RATE_LAST);
    autolibc char *text = json_dumps(json, 0);
    g_autoptr(json_t) parsed = json_loads(text, 0, NULL);
    rates_from_json(&back, parsed);
    for (int i = 0; i < RATE_LAST; i++) {
        g_assert_cmpfloat_with_epsilon(back.value[i], rates.value[i], 1e-6);
        g_assert_cmpuint(back.samples[i], ==, (unsigned)i + 1);
        for (size_t k = 0; k < RATES_KEPT; k++)
            g_assert_cmpfloat_with_epsilon(back.last[i][k], rates.last[i][k], 1e-6);
    }
}

static void
test_rates_garbage(void)
{
    /* clang-format off */
    static const struct { const char *json; double value; unsigned samples; } rows[] = { /* of commit */
        { "{'commit':{'value':1000.5,'samples':3}}",         1000.5, 3 },
        { "{'commit':{'value':1000,'samples':3}}",           1000,   3 },
        { "{'commit':{'value':1000}}",                       1000,   0 },
        { "{'commit':{'value':1000,'samples':3,'new':[]}}",  1000,   3 },
        { "{}",                                              250e6,  0 },
        { "[]",                                              250e6,  0 },
        { "7",                                               250e6,  0 },
        { "{'commit':7}",                                    250e6,  0 },
        { "{'commit':{}}",                                   250e6,  0 },
        { "{'commit':{'value':0,'samples':3}}",              250e6,  0 },
        { "{'commit':{'value':-1000,'samples':3}}",          250e6,  0 },
        { "{'commit':{'value':1e-300,'samples':3}}",         250e6,  0 },
        { "{'commit':{'value':1e300,'samples':3}}",          250e6,  0 },
        { "{'commit':{'value':'1000','samples':3}}",         250e6,  0 },
        { "{'commit':{'value':null,'samples':3}}",           250e6,  0 },
        { "{'commit':{'value':1000,'samples':-1}}",          250e6,  0 },
        { "{'commit':{'value':1000,'samples':99999999999}}", 250e6,  0 },
        { "{'commit':{'value':1000,'samples':1.5}}",         1000,   0 },
    };
    /* clang-format on */
    for (size_t i = 0; i < G_N_ELEMENTS(rows); i++) {
        g_autofree char *text = g_strdelimit(g_strdup(rows[i].json), "'", '"');
        g_autoptr(json_t) json = json_loads(text, JSON_DECODE_ANY, NULL);
        Rates rates;

        g_test_message("row %zu: %s", i, text);
        g_assert_nonnull(json);
        rates_from_json(&rates, json);
        g_assert_cmpfloat(rates.value[RATE_COMMIT], ==, rows[i].value);
        g_assert_cmpuint(rates.samples[RATE_COMMIT], ==, rows[i].samples);
        g_assert_cmpfloat(rates.value[RATE_READ], ==, 800e6);
    }
    Rates none;
    rates_from_json(&none, NULL);
    g_assert_cmpfloat(none.value[RATE_SHARE], ==, 30e3);
    g_assert_cmpstr(rate_word(RATE_LAST), ==, "unknown");
}

/* What is not known of the last ones, or makes no sense: the value is the only one. */
static void
test_rates_last(void)
{
    /* clang-format off */
    static const struct { const char *json; double next; } lasts[] = {
        { "{'commit':{'value':1000,'samples':3}}",                            1500 },
        { "{'commit':{'value':1000,'samples':3,'last':[]}}",                  1500 },
        { "{'commit':{'value':1000,'samples':3,'last':7}}",                   1500 },
        { "{'commit':{'value':1000,'samples':3,'last':[5000,-1]}}",           1500 },
        { "{'commit':{'value':1000,'samples':3,'last':[5000,'x']}}",          1500 },
        { "{'commit':{'value':1000,'samples':3,'last':[5000,4000]}}",         4000 },
        { "{'commit':{'value':1000,'samples':0,'last':[5000,4000]}}",         2000 },
        { "{'commit':{'value':1,'samples':9,'last':[5,5,5,5,5,5,9,9,9,9]}}",  5 },
    };
    /* clang-format on */
    for (size_t i = 0; i < G_N_ELEMENTS(lasts); i++) {
        g_autofree char *text = g_strdelimit(g_strdup(lasts[i].json), "'", '"');
        g_autoptr(json_t) json = json_loads(text, 0, NULL);
        Rates rates;

        g_test_message("row %zu: %s", i, text);
        rates_from_json(&rates, json);
        g_assert_true(rates_add(&rates, RATE_COMMIT, 2000, 1));
        g_assert_cmpfloat(rates.value[RATE_COMMIT], ==, lasts[i].next);
    }
}

/* What QEMU has never done here is as quick as the most like that it has. */
static void
test_rates_expect(void)
{
    Rates rates;

    rates_init(&rates);
    rates.value[RATE_COMMIT] = 1e6;
    g_assert_cmpfloat(rates_expect(&rates, RATE_FILL), ==, 250e6);
    g_assert_true(rates_add(&rates, RATE_COMMIT, 6e8, 1));
    g_assert_cmpfloat(rates_expect(&rates, RATE_COMMIT), ==, 6e8);
    g_assert_cmpfloat(rates_expect(&rates, RATE_FILL), ==, 6e8);
    g_assert_cmpfloat(rates_expect(&rates, RATE_COLD), ==, 400e6);
    g_assert_true(rates_add(&rates, RATE_FILL, 3e8, 1));
    g_assert_cmpfloat(rates_expect(&rates, RATE_COMMIT), ==, 6e8);
    g_assert_cmpfloat(rates_expect(&rates, RATE_FILL), ==, 3e8);
}

int
main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/rates/learn", test_rates_learn);
    g_test_add_func("/rates/forget", test_rates_forget);
    g_test_add_func("/rates/json", test_rates_json);
    g_test_add_func("/rates/garbage", test_rates_garbage);
    g_test_add_func("/rates/last", test_rates_last);
    g_test_add_func("/rates/expect", test_rates_expect);
    return g_test_run();
}
