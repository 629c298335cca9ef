/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * What a search is when it was read: a tree of terms. For search*.c alone.
 */
#pragma once

#include "api/search.h"

typedef enum { OP_EQ, OP_NE, OP_LT, OP_GT, OP_LE, OP_GE, OP_ANY } SearchOp;

typedef struct {
    const char *path; /* of search_fields; NULL = any text */
    SearchOp op;
    char *value; /* as compared: in lower case unless case matters */
} SearchTerm;

/* A term, or what joins others. */
typedef struct {
    enum { NODE_TERM, NODE_ALL, NODE_ANY } kind;
    SearchTerm term;  /* of NODE_TERM */
    GPtrArray *parts; /* of the others: SearchNode, owned; NULL of a term */
} SearchNode;

struct Search {
    SearchNode *root; /* NULL = there is no term: all match */
    const char *sort; /* path; NULL = as they come */
    bool descending;
    int64_t page; /* from 1; 0 = not given */
    bool case_sensitive;
    const char *kind;
};

/* ---- fields ---- */

typedef struct {
    const char *kind, *field, *path;
} SearchField;

extern const SearchField search_fields[]; /* the last one has no kind */

/* ERR_INVALID: no field of this kind is called so. */
bool search_field(const char *kind, const char *field, const char **ret_path, GError **error);

/* ---- values ---- */

char *search_folded(const Search *search, const char *text);
