/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * JSON that a test of the command line brings along.
 */
#pragma once

#include "cli/cli.h"

static inline json_t *
parse(const char *text)
{
    json_error_t problem;
    json_t *doc = json_loads(text, JSON_DECODE_ANY, &problem);

    if (doc == NULL)
        g_error("the test's own JSON is wrong at %d: %s", problem.position, problem.text);
    return doc;
}
