/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "model/rates.h"

#include <limits.h>

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
    }
}

/* False for NaN as well. */
static bool
makes_sense(double value)
{
    return value >= MIN_RATE && value <= MAX_RATE;
}

bool
rates_add(Rates *rates, Rate rate, double amount, double seconds)
{
    double value;

    if (rate >= RATE_LAST || !(seconds >= MIN_SECONDS) || !makes_sense(amount / seconds))
        return false;
    value = amount / seconds;
    if (rates->samples[rate] > 0)
        value = (rates->value[rate] + value) / 2;
    rates->value[rate] = value;
    if (rates->samples[rate] < INT_MAX)
        rates->samples[rate]++;
    return true;
}

json_t *
rates_to_json(const Rates *rates)
{
    json_t *json = json_object();

    for (int i = 0; i < RATE_LAST; i++)
        json_object_set_new(json, table[i].word,
                            json_pack("{s:f, s:I}", "value", rates->value[i], "samples",
                                      (json_int_t)rates->samples[i]));
    return json;
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
    }
}
