/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * Ids, names and sizes as people and programs write them. Pure but for
 * id_new(), which reads the random seam.
 */
#pragma once

#include "base/error.h"

#include <stdint.h>

char *id_new(void);             /* a random UUID, lower case; the caller frees it */
bool id_is_valid(const char *); /* 8-4-4-4-12 hexadecimal digits */
/* Tests: ids from now on come from this seed, in one order. */
void id_seed(uint64_t seed);

/* A name that a user gave to a snapshot: valid UTF-8, 1 to 255 bytes, no control
 * characters. Slashes and dots are fine: names never become file names. */
bool name_check(const char *what, const char *name, GError **error);

/* A word of a command that a person is told to type, quoted if the shell would take it for
 * something else; the caller frees it. */
char *shell_word(const char *text);

/* Frees what was there, and puts a copy of text (NULL = nothing) in its place. */
void text_replace(char **at, const char *text);

/* "12.3 MiB"; the caller frees it */
char *size_text(uint64_t bytes);
/* "1.2 s", "35 ms" */
char *seconds_text(double seconds);
