/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * The API's description in OpenAPI 3.1, made from the routes table (routes.c), what is to be said
 * of each route (notes.c) and the documents' members (schemas.c). tests/unit/api_openapi_test.c
 * holds them together, and tests/e2e/test_openapi.py runs every example.
 *
 * Threads: constant tables and pure functions.
 */
#pragma once

#include "api/routes.h"

/* What is to be said of a route; each has one, found by method and path. */
typedef struct {
    const char *method, *path;
    const char *summary;
    const char *query;   /* names of parameters (api_parameters), apart by spaces; NULL = none */
    const char *gives;   /* schema of the answer; "a|b" = one of them; "stream" = server-sent
                          events; NULL = the route's element */
    const char *takes;   /* schema of what is sent; NULL = nothing is */
    const char *example; /* of what is sent, JSON */
    int status;          /* 0 = 200 */
} Note;
extern const Note api_notes[];                 /* ends with a row of NULLs */
const Note *note_of_route(const Route *route); /* NULL = nobody has written one */

typedef struct {
    const char *name;
    const char *type; /* as of a member */
    const char *text;
    const char *example; /* JSON; NULL = it is used in no example */
} Parameter;
extern const Parameter api_parameters[]; /* ends with a NULL name */

/* A member of a document. The first row of a schema has its name, the others NULL. */
typedef struct {
    const char *schema;
    const char *member; /* with a "!" at the end: always there; "...": those of the schema that
                           the type names, but for what this one has said of itself */
    /* text, uuid, time, integer, number, flag, uri, object, any; a|b|c: one of these words; NAME: a
     * schema; [T]: an array of T; {K:T}: a collection, an object with one member K, an array of T
     */
    const char *type;
    const char *text; /* NULL = the name says it */
} SchemaRow;
/* They end with a row of NULLs. */
extern const SchemaRow api_answers[], api_answers_around[], api_sent[];
const SchemaRow *schema_find(const char *name); /* its first row; NULL = there is none */

/* The ids that stand in examples, by the kind of path segment before them. */
#define EXAMPLE_VM "5d2a3b6e-0001-4000-8000-000000000001"
#define EXAMPLE_SNAPSHOT "5d2a3b6e-0002-4000-8000-000000000001"
#define EXAMPLE_DISK "5d2a3b6e-0003-4000-8000-000000000001"
#define EXAMPLE_JOB "5d2a3b6e-0004-4000-8000-000000000001"

json_t *openapi_document(void);
/* The same as text, as it is served and kept in docs/openapi.json. */
char *openapi_text(void);
/* docs/routes.md (listing.c) */
char *routes_document(void);
