/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "wire/json.h"

/* Looked at before parsing: jansson recurses once a level, up to 2048, which is too much for the
 * stack of an HTTP thread. */
static bool
is_shallow(const char *text, size_t size)
{
    bool in_string = false;
    int depth = 0;

    for (size_t i = 0; i < size; i++) {
        if (in_string && text[i] == '\\')
            i++;
        else if (text[i] == '"')
            in_string = !in_string;
        else if (in_string)
            continue;
        else if (text[i] == '{' || text[i] == '[')
            depth++;
        else if (text[i] == '}' || text[i] == ']')
            depth--;
        if (depth > WIRE_MAX_DEPTH)
            return false;
    }
    return true;
}

bool
wire_parse_object(const char *text, size_t size, json_t **ret_json, GError **error)
{
    json_error_t where;

    if (!is_shallow(text, size))
        return error_set(error, ERR_INVALID, "the JSON text is nested deeper than %d levels",
                         WIRE_MAX_DEPTH);
    g_autoptr(json_t) parsed = json_loadb(text, size, JSON_REJECT_DUPLICATES, &where);
    if (parsed == NULL)
        return error_set(error, ERR_INVALID, "malformed JSON at line %d, column %d: %s", where.line,
                         where.column, where.text);
    if (!json_is_object(parsed))
        return error_set(error, ERR_INVALID, "the JSON text is not an object: it must be {...}");
    *ret_json = g_steal_pointer(&parsed);
    return true;
}
