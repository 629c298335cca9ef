/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * jansson's functions for the simulator, quicker than jansson's own: they were a third of a
 * schedule's time, and are not what is tested. Objects are lists: theirs are short. The linker
 * takes these before the library's; both must never be mixed (nm -u shows whether a function is
 * missing here).
 *
 *     json_tree.c  values
 *     json.c, json_write.c
 *     json_pack.c  json_pack(), json_unpack()
 *
 * Threads: one.
 */
#pragma once

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>

typedef struct JsonMember {
    struct JsonMember *next;
    json_t *value;
    unsigned length;
    bool plain; /* as in JsonText */
    char key[];
} JsonMember;

typedef struct {
    json_t json;
    size_t size;
    JsonMember *first, *last;
} JsonObject;

typedef struct {
    json_t json;
    size_t size, room;
    json_t **items;
} JsonArray;

typedef struct {
    json_t json;
    size_t length;
    bool plain; /* nothing in it needs to be escaped */
    char text[];
} JsonText;

typedef struct {
    json_t json;
    union {
        json_int_t integer;
        double real;
    };
} JsonNumber;

/* No control characters, quotes, backslashes, and nothing beyond ASCII */
bool json_is_plain(const char *text, size_t length);
/* Of UTF-8, which is not checked; plain: see JsonText. */
json_t *json_text_new(const char *text, size_t length, bool plain);
/* NULL = there is none */
JsonMember *json_member(const json_t *object, const char *key, size_t length);
/* At the end; there is none of that name. The value is consumed. */
void json_append_member(json_t *object, const char *key, size_t length, bool plain,
                        json_t *take_value);
