/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "model/rates.h"

#include <limits.h>
#include <stdlib.h>
#include <string.h>

#define MIN_SECONDS 0.05 /* shorter ones measure the clock and the caches */
#define MIN_RATE 1.0     /* what is beyond these two makes no sense, and estimates stay finite */
#define MAX_RATE 1e13

static const struct {
    const char *word;
    double guess;
} table[RATE_LAST] = {
#define X(rate, word, guess) [rate] = { word, guess },
    RATE_TABLE(X)
#undef X
};

const char *
rate_word(Rate rate)
{
    return rate < RATE_LAST ? table[rate].word : "unknown";
}

void
rates_init(Rates *rates)
{
    for (int i = 0; i < RATE_LAST; i++) {
        rates->value[i] = table[i].guess;
        rates->samples[i] = 0;
        memset(rates->last[i], 0, sizeof rates->last[i]);
    }
}

/* False for NaN as well. */
static bool
makes_sense(double value)
{
    return value >= MIN_RATE && value <= MAX_RATE;
}

static int
by_value(const void *a, const void *b)
{
    const double *x = a, *y = b;

    return *x < *y ? -1 : *x > *y;
}

/* There is one at least. */
static double
median(const double *last)
{
    double sorted[RATES_KEPT] = { last[0] };
    size_t n = 1;

    for (; n < RATES_KEPT && last[n] > 0; n++)
        sorted[n] = last[n];
    qsort(sorted, n, sizeof *sorted, by_value);
    return (sorted[(n - 1) / 2] + sorted[n / 2]) / 2;
}

bool
rates_add(Rates *rates, Rate rate, double amount, double seconds)
{
    if (rate >= RATE_LAST || !(seconds >= MIN_SECONDS) || !makes_sense(amount / seconds))
        return false;
    double *last = rates->last[rate];
    memmove(last + 1, last, (RATES_KEPT - 1) * sizeof *last);
    last[0] = amount / seconds;
    rates->value[rate] = median(last);
    if (rates->samples[rate] < INT_MAX)
        rates->samples[rate]++;
    return true;
}

double
rates_expect(const Rates *rates, Rate rate)
{
    Rate other = rate == RATE_COMMIT ? RATE_FILL : rate == RATE_FILL ? RATE_COMMIT : rate;

    return rates->value[rates->samples[rate] > 0 || rates->samples[other] == 0 ? rate : other];
}

static json_t *
last_to_json(const double *last)
{
    json_t *list = json_array();

    for (size_t i = 0; i < RATES_KEPT && last[i] > 0; i++)
        json_array_append_new(list, json_real(last[i]));
    return list;
}

json_t *
rates_to_json(const Rates *rates)
{
    json_t *json = json_object();

    for (int i = 0; i < RATE_LAST; i++)
        json_object_set_new(json, table[i].word,
                            json_pack("{s:f, s:I, s:o}", "value", rates->value[i], "samples",
                                      (json_int_t)rates->samples[i], "last",
                                      last_to_json(rates->last[i])));
    return json;
}

/* Of files that say nothing of them, or no sense, the value is the only one. */
static void
last_from_json(double *last, const json_t *list, double value)
{
    size_t n = MIN(json_array_size(list), RATES_KEPT);

    for (size_t i = 0; i < n; i++)
        last[i] = json_number_value(json_array_get(list, i));
    for (size_t i = 0; i < n; i++)
        if (!makes_sense(last[i]))
            n = 0;
    memset(last + n, 0, (RATES_KEPT - n) * sizeof *last);
    if (n == 0)
        last[0] = value;
}

void
rates_from_json(Rates *ret_rates, const json_t *json)
{
    rates_init(ret_rates);
    for (int i = 0; i < RATE_LAST; i++) {
        const json_t *member = json_object_get(json, table[i].word);
        double value = json_number_value(json_object_get(member, "value"));
        json_int_t samples = json_integer_value(json_object_get(member, "samples"));

        if (!makes_sense(value) || samples < 0 || samples > INT_MAX)
            continue;
        ret_rates->value[i] = value;
        ret_rates->samples[i] = (unsigned)samples;
        if (samples > 0)
            last_from_json(ret_rates->last[i], json_object_get(member, "last"), value);
    }
}
