/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * Numbers that a program counts while it runs, written in Prometheus' text format.
 *
 * How: a table says which numbers there are; each has one value for every set of labels that it was
 * counted with. They begin at nothing when the program starts, as Prometheus expects of counters.
 *
 * Ownership: the table must outlive the Meter. Threads: any.
 */
#pragma once

#include <glib.h>

typedef struct {
    const char *name;      /* "livemerge_merges_total" */
    const char *type;      /* "counter", "gauge", "histogram" */
    const char *help;      /* one line */
    const double *buckets; /* of a histogram: upper limits, rising, ended by 0; NULL */
} MeterKind;

typedef struct Meter Meter;

Meter *meter_new(const MeterKind *kinds); /* ends with a NULL name */
void meter_free(Meter *meter);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(Meter, meter_free)

/* So much more of a counter or gauge, or one value seen of a histogram. Labels follow as pairs of
 * name and value, ended by NULL; a value may hold any text. The name must be in the table. */
void meter_add(Meter *meter, const char *name, double value, ...) G_GNUC_NULL_TERMINATED;

/* All that was counted, in the order of the table; of what was never counted only what it is. */
void meter_write(Meter *meter, GString *into);
