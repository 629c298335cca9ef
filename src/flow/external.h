/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * Inside of flow/: rows of other programs' jobs (external.c), which are never turned.
 */
#pragma once

#include "base/text.h"
#include "flow/job_view.h"

#define EXTERNAL_JOB "external-job"
#define EXTERNAL_STEP "external-step"

bool external_is(const FlowRow *row);
/* The document of manager_job(); steps may be NULL. */
json_t *external_job_to_json(const FlowRow *row, const GPtrArray *steps);
