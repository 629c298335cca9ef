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

#include <emmintrin.h>
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

/* Of sixteen bytes a bit for each that is a quote, a backslash, a control character or not ASCII */
static inline unsigned
json_strange_of(const char *text)
{
    __m128i bytes = _mm_loadu_si128((const __m128i *)(const void *)text);
    __m128i strange = _mm_or_si128(_mm_cmplt_epi8(bytes, _mm_set1_epi8(' ')),
                                   _mm_or_si128(_mm_cmpeq_epi8(bytes, _mm_set1_epi8('"')),
                                                _mm_cmpeq_epi8(bytes, _mm_set1_epi8('\\'))));

    return (unsigned)_mm_movemask_epi8(strange);
}

/* No control characters, quotes, backslashes, and nothing beyond ASCII */
bool json_is_plain(const char *text, size_t length);
/* Of UTF-8, which is not checked; plain: see JsonText. */
json_t *json_text_new(const char *text, size_t length, bool plain);
/* NULL = there is none */
JsonMember *json_member(const json_t *object, const char *key, size_t length);
/* At the end; there is none of that name. The value is consumed. */
void json_append_member(json_t *object, const char *key, size_t length, bool plain,
                        json_t *take_value);
