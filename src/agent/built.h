/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * Volumes that an operation builds out of others, as its row.data tells of them: shared by merges
 * (build.c, graft.c) and clones (clone*.c). Threads: any.
 */
#pragma once

#include "qcow2/build.h"

#include <jansson.h>

/* What a build reads: [{"path", "format"}], base first. The texts are borrowed; g_free(). */
Qcow2Source *sources_of(const json_t *volumes, unsigned *ret_n);
/* Adds to a sum what one volume took; returns how many bytes that was. */
uint64_t built_add(Qcow2Built *sum, const Qcow2Built *built);
/* Is any of these volumes there, be it half built? [{"dest"}] */
bool any_is_built(const json_t *entries);
