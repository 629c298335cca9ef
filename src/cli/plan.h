/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * Plans for people. Pure; the caller frees the texts.
 */
#pragma once

#include "base/cleanup.h"

#include <stdbool.h>

/* What a delete would do: a line for each run, a total, and what is in the way. all: every strategy
 * of every run, too, with what it would cost or why it is not possible. width 0 = do not wrap. */
char *plan_text(const json_t *plan, unsigned width, bool utf8, bool all);
/* What was planned for the disks of a job, and below it what was done; "" if it has no plan. */
char *plan_and_outcome_text(const json_t *job, unsigned width);
