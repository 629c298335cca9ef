/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * For api_bad_input_test.c: wrong values of the members and parameters that are documented.
 */
#pragma once

#include "api_bad.h"

/* ---- members ---- */

static inline bool
is_scalar(const char *type)
{
    static const char *const words[] = {
        "text", "uuid", "time", "integer", "number", "flag", NULL
    };

    return strchr(type, '|') != NULL || g_strv_contains(words, type);
}

/* The route's example, of things that are here, with another value of one member. */
static inline char *
with_member(const Note *note, const char *member, const char *value)
{
    g_autoptr(json_t) body = parse(note->example);
    json_t *snapshots = json_object_get(json_object_get(body, "snapshots"), "snapshot");
    json_t *snapshot = json_object_get(body, "snapshot");

    json_object_del(body, "disk");
    if (json_is_array(snapshots))
        json_object_set_new(json_array_get(snapshots, 0), "id", json_string(SNAP_1));
    if (json_is_object(snapshot))
        json_object_set_new(snapshot, "id", json_string(SNAP_1));
    json_object_set_new(body, member, json_loads(value, JSON_DECODE_ANY, NULL));
    autolibc char *text = json_dumps(body, 0);
    return g_strdup(text);
}

static inline void
try_member(const Route *route, const char *member, const char *value)
{
    g_autofree char *path = path_of(route, -1, NULL);
    g_autofree char *headers = as_administrator(JSON_TYPE);
    g_autofree char *body = with_member(note_of(route), member, value);
    int status = attempt(route->method, path, headers, body, 0, member);

    if (status != 400)
        g_error("%s %s takes %s: %d, wanted 400", route->method, path, body, status);
}

typedef enum { ANOTHER_KIND, TOO_LARGE, TWICE } Wrong;

/* As XML has it: a list where one is meant. */
static inline void
try_twice(const Route *route, const char *member)
{
    g_autofree char *path = path_of(route, -1, NULL);
    g_autofree char *headers = as_administrator(XML_TYPE);
    g_autofree char *body = g_strdup_printf("<%s><%s>1</%s><%s>2</%s></%s>", route->body_root,
                                            member, member, member, member, route->body_root);

    attempt(route->method, path, headers, body, 400, NULL);
    try_member(route, member, "[\"1\", \"2\"]");
}

static inline void
try_wrong(const Route *route, const SchemaRow *row, Wrong wrong)
{
    g_autofree char *member = g_strndup(row->member, strcspn(row->member, "!"));
    bool list = row->type[0] == '{' || row->type[0] == '[';

    if (wrong == ANOTHER_KIND && list)
        try_member(route, member, "3");
    if (!is_scalar(row->type))
        return;
    if (wrong == ANOTHER_KIND)
        try_member(route, member, "{\"wheels\": 4}");
    if (wrong == TWICE)
        try_twice(route, member);
    if (wrong == TOO_LARGE && !g_str_equal(row->type, "text")) {
        try_member(route, member, "9223372036854775807");
        try_member(route, member, "\"1e300\"");
    }
}

/* Each documented member of what it takes. */
static inline void
try_members(const Route *route, Wrong wrong)
{
    const SchemaRow *first = schema_of(note_of(route)->takes);

    for (const SchemaRow *row = first; row->member != NULL; row++) {
        if (row != first && row->schema != NULL)
            return;
        try_wrong(route, row, wrong);
    }
}

/* ---- parameters ---- */

static inline const Parameter *
parameter_of(const char *name)
{
    for (const Parameter *parameter = api_parameters; parameter->name != NULL; parameter++)
        if (g_str_equal(parameter->name, name))
            return parameter;
    g_error("there is no parameter %s", name);
}

static inline bool
is_number(const char *name)
{
    const char *type = parameter_of(name)->type;

    return g_str_equal(type, "integer") || g_str_equal(type, "number");
}

static inline void
try_parameter(const Route *route, const char *name)
{
    static const char *const values[] = { "99999999999999999999", "1e9", "x",
                                          "-99999999999999999999" };
    g_autofree char *path = path_of(route, -1, NULL);

    for (size_t i = 0; i < G_N_ELEMENTS(values); i++) {
        g_autofree char *whole = g_strdup_printf("%s?%s=%s", path, name, values[i]);
        attempt(route->method, whole, administrator, "", 400, name);
    }
}

/* Each that is a number. */
static inline void
try_parameters(const Route *route)
{
    const char *query = note_of(route)->query;
    g_auto(GStrv) names = g_strsplit(query != NULL ? query : "", " ", -1);

    for (char **name = names; *name != NULL; name++)
        if (**name != '\0' && is_number(*name))
            try_parameter(route, *name);
}
