/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * oVirt's search language, as far as clients use it, over documents:
 *
 *     [Prefix:] TERM {and|or TERM} [sortby FIELD [asc|desc]] [page N]
 *     TERM = FIELD OP VALUE, or a bare word that any text of the document may match, or (TERM
 * {and|or TERM}) OP = one of = != < > <= >=;  VALUE bare or in double quotes, "*" stands for
 * anything
 *
 * "and" binds tighter than "or". A value may hold parentheses that are closed in it: name=web(old).
 * Case is ignored unless asked. A field that documents of this kind do not have is an error, never
 * a match for all: a client that creates what it does not find would else take the wrong object.
 */
#pragma once

#include "base/cleanup.h"
#include "base/error.h"

#include <stdint.h>

typedef struct Search Search;

/* kind: the singular key of the collection ("vm", "job"). */
Search *search_parse(const char *kind, const char *text, bool case_sensitive, GError **error);
void search_free(Search *search);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(Search, search_free)
/* A new array of those that match, sorted as asked, at most max (< 0 = all), the page asked for.
 * beside: for each document an object of what it can be searched by and does not show, as the
 * fields "~NAME" in search_fields.c; NULL = nothing. */
json_t *search_apply(const Search *search, const json_t *documents, const json_t *beside,
                     int64_t max);
