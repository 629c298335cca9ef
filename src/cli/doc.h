/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * Reading the API's documents, and writing times and names for people. Pure but for the clock.
 *
 * Paths are member names with dots: "vm.name". A missing member reads as "", 0 or false: an older
 * or newer manager must not break the program. Numbers and booleans may be JSON strings, as
 * oVirt's own engine writes them.
 */
#pragma once

#include "base/cleanup.h"

#include <stdbool.h>
#include <stdint.h>

const json_t *doc_at(const json_t *doc, const char *path); /* NULL = absent; borrowed */
const char *doc_text(const json_t *doc, const char *path); /* never NULL; borrowed */
double doc_number(const json_t *doc, const char *path, double otherwise);
uint64_t doc_bytes(const json_t *doc, const char *path);
bool doc_bool(const json_t *doc, const char *path);
/* The array of a collection: {"disk":[…]}, or nested {"disks":{"disk":[…]}} with outer "disks".
 * Borrowed; NULL (which jansson takes for empty) = none. */
const json_t *doc_items(const json_t *doc, const char *outer, const char *inner);

/* The caller frees all of these. */

/* Control characters, text direction marks and broken UTF-8 as \n, \x1b, \u202e. */
char *escape_text(const char *text, bool keep_newlines);
char *short_id(const char *id); /* the first 8 characters */
/* "2026-01-31 12:34:56" in local time; "" if it is no date */
char *date_text(const char *iso8601);
/* "3 h ago"; "" if it is no date or in the future */
char *age_text(const char *iso8601);
/* "8 s", "2 min 10 s", "3 h 5 min"; "" if negative */
char *duration_text(double seconds);
double seconds_between(const char *iso8601_start, const char *iso8601_end); /* -1 = unknown */
