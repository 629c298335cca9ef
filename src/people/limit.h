/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * How often somebody may fail: a number of tries at once, and then one each so often.
 *
 * Promise: memory is bounded: of more keys than most, those are forgotten first that have failed
 * least. Threads: any.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

typedef struct Limit Limit;

Limit *limit_new(unsigned tries, unsigned refill_ms, unsigned most);
void limit_free(Limit *limit);
/* Milliseconds until the next try is allowed; 0 = now. */
int64_t limit_wait(Limit *limit, const char *key);
void limit_spend(Limit *limit, const char *key);
