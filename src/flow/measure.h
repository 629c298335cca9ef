/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * Inside of flow/: counting what ends. Threads: any.
 */
#pragma once

#include "base/meter.h"
#include "flow/core.h"

Meter *measure_new(void);
/* A flow whose end is durable. */
void measure_ended(Meter *meter, const FlowRow *row);
