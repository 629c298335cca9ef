/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * Reading JSON that somebody else wrote.
 */
#pragma once

#include "base/cleanup.h"
#include "base/error.h"

#define WIRE_MAX_DEPTH 100

/* Strict: one object, no duplicate members, at most WIRE_MAX_DEPTH levels. Errors are ERR_INVALID
 * and say where. The caller owns *ret_json. */
bool wire_parse_object(const char *text, size_t size, json_t **ret_json, GError **error);
