/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * How fast a storage domain was: what estimates are made of. Kept per domain (storage/rates.c) and
 * updated by every merge that ends.
 *
 * Threads: plain data.
 */
#pragma once

#include "base/cleanup.h"

#include <stdbool.h>
#include <stdint.h>

/* clang-format off */
#define RATE_TABLE(X)                                                                             \
    /* rate        word       until it was measured */                                             \
    X(RATE_COMMIT, "commit",  250e6)  /* bytes/s: QEMU's commit over clusters of the base, VM runs */ \
    X(RATE_COLD,   "cold",    400e6)  /* bytes/s: the storage daemon's commit, VM off */            \
    X(RATE_COPY,   "copy",    500e6)  /* bytes/s: our builder, copying */                           \
    X(RATE_SHARE,  "share",   30e3)   /* calls/s: our builder, sharing; checks included */          \
    X(RATE_READ,   "read",    800e6)  /* bytes/s: comparing content, old and new count */     \
    X(RATE_FILL,   "fill",    250e6)  /* bytes/s: QEMU's commit or block copy into new clusters */
/* clang-format on */
#define X(rate, word, guess) rate,
typedef enum { RATE_TABLE(X) RATE_LAST } Rate;
#undef X
const char *rate_word(Rate rate);

#define RATES_KEPT 7

typedef struct {
    double value[RATE_LAST];            /* never 0: the median of the last */
    unsigned samples[RATE_LAST];        /* 0 = a guess */
    double last[RATE_LAST][RATES_KEPT]; /* the newest first; 0 = none */
} Rates;

void rates_init(Rates *rates); /* the guesses */
/* One more measurement: amount (bytes or calls) in so many seconds. One that was disturbed by other
 * work on the storage changes little, four in a row all. What took under 50 ms says nothing and is
 * not taken. True if it was. */
bool rates_add(Rates *rates, Rate rate, double amount, double seconds);
/* What to expect: of commit and fill, if one was never measured, the other tells more than a
 * guess. */
double rates_expect(const Rates *rates, Rate rate);
json_t *rates_to_json(const Rates *rates);
/* Members that are missing or make no sense are left at the guess. */
void rates_from_json(Rates *ret_rates, const json_t *json);
