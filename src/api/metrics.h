/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * GET /metrics: what Prometheus reads. Beside the API, since it has neither oVirt's form nor its
 * paths. Threads: any.
 */
#pragma once

#include "api/routes.h"
#include "base/meter.h"

#define METRICS_PATH "/metrics"

/* Counts requests to the API. */
Meter *metrics_new(void);
void metrics_count(Meter *meter, const HttpRequest *request, const HttpResponse *response,
                   int64_t began_us);
void metrics_answer(const Api *api, const HttpRequest *request, HttpResponse *response);
