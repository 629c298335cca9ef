/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * A map, extent by extent: without gaps, and no two in a row that could be one.
 */
#pragma once

#include "../lib/image_tools.h"

typedef struct {
    ExtentKind kind;
    uint64_t host;
} Sector;

typedef struct {
    Extent last;
    uint64_t end;
    GArray *sectors; /* of Sector, one for each 512 bytes */
} Mapped;

static inline void
mark(GArray *sectors, uint64_t guest, uint64_t length, ExtentKind kind, uint64_t host)
{
    for (uint64_t at = guest; at < guest + length; at += 512) {
        bool has_host = kind == EXTENT_DATA || kind == EXTENT_ZERO_ALLOCATED;
        Sector s = { kind, has_host ? host + at - guest : 0 };
        g_array_append_val(sectors, s);
    }
}

static inline bool
take_extent(const Extent *e, void *data)
{
    Mapped *m = data;

    g_assert_cmpuint(e->guest, ==, m->end);
    g_assert_cmpuint(e->length, >, 0);
    if (m->end > 0 && e->kind == m->last.kind)
        g_assert_true((e->kind == EXTENT_DATA || e->kind == EXTENT_ZERO_ALLOCATED) &&
                      e->host != m->last.host + m->last.length);
    m->last = *e;
    m->end += e->length;
    if (m->sectors != NULL)
        mark(m->sectors, e->guest, e->length, e->kind, e->host);
    return true;
}
