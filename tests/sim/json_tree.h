/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * jansson's functions for the simulator, quicker than jansson's own: they were a third of a
 * schedule's time, and are not what is tested. Objects are lists: theirs are short. The linker
 * takes these before the library's; both must never be mixed (nm -u shows whether a function is
 * missing here).
 *
 *     json_tree.c    values
 *     json_whole.c   whole trees of them
 *     json.c, json_write.c
 *     json_frozen.c  texts that are read again and again
 *     json_pack.c    json_pack(), json_unpack()
 *
 * Most texts that are read were read before: the same manifest, the same answer. So what a text
 * says is kept as a frozen tree, which never changes; who reads the text again gets an object or an
 * array that is only "like" a frozen one. What it holds comes into being when somebody asks for an
 * object or an array in it, and it gets members of its own when it is changed.
 *
 * Threads: one.
 */
#pragma once

#include <emmintrin.h>
#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

typedef struct JsonMember {
    struct JsonMember *next;
    json_t *value;
    uint32_t length, tag; /* tag: of its name, json_tag() */
    uint32_t slot;        /* in "own" of those that are like its object */
    bool plain;           /* as in JsonText */
    char key[];
} JsonMember;

typedef struct JsonObject JsonObject;
struct JsonObject {
    json_t json;
    size_t size;
    JsonMember *first, *last;
    uint64_t names[4];    /* bits of tags: what is not in here is no member */
    JsonMember *expected; /* the one after that which was found last: often it is asked for next */
    const JsonObject *like; /* frozen; NULL = it has members of its own */
    json_t **own;           /* objects and arrays in it that somebody has asked for; may be NULL */
    uint32_t slots;         /* how many objects and arrays it holds */
    char *room, *room_end;  /* for more members of its own */
    void *rooms;            /* all of them but "here", one leads to the next; NULL = none */
    char here[];            /* the first one; of one that is like another there is none */
};

typedef struct JsonArray JsonArray;
struct JsonArray {
    json_t json;
    size_t size, room;
    json_t **items;        /* if it is like another: as "own" above */
    const JsonArray *like; /* frozen; NULL = it has items of its own */
};

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

static inline bool
json_is_compound(const json_t *json)
{
    return json_typeof(json) <= JSON_ARRAY;
}

static inline uint32_t
json_tag(const char *key, size_t length)
{
    const unsigned char *at = (const unsigned char *)key;

    uint32_t few = length == 0
                       ? 0
                       : (uint32_t)length ^ (uint32_t)at[0] << 8 ^ (uint32_t)at[length - 1] << 16 ^
                             (uint32_t)at[length / 2] << 24;

    return few * UINT32_C(0x9E3779B1);
}

static inline bool
json_may_have(const JsonObject *object, uint32_t tag)
{
    uint32_t bit = tag >> 24;

    return (object->names[bit / 64] >> bit % 64 & 1) != 0;
}

static inline void
json_note_name(JsonObject *object, uint32_t tag)
{
    uint32_t bit = tag >> 24;

    object->names[bit / 64] |= UINT64_C(1) << bit % 64;
}

/* n bytes, quicker than memcpy() if they are few */
static inline void
json_copy_few(char *to, const char *from, size_t n)
{
    if (n >= 16) {
        for (size_t at = 0; at + 16 < n; at += 16)
            memcpy(to + at, from + at, 16);
        memcpy(to + n - 16, from + n - 16, 16);
    } else if (n >= 8) {
        memcpy(to, from, 8);
        memcpy(to + n - 8, from + n - 8, 8);
    } else if (n >= 4) {
        memcpy(to, from, 4);
        memcpy(to + n - 4, from + n - 4, 4);
    } else if (n > 0) {
        to[0] = from[0];
        to[n / 2] = from[n / 2];
        to[n - 1] = from[n - 1];
    }
}

/* The same; up to 15 more are read and written. */
static inline void
json_copy_bytes(char *to, const char *from, size_t n)
{
    for (size_t at = 0; at < n; at += 16) {
        __m128i bytes = _mm_loadu_si128((const __m128i *)(const void *)(from + at));
        _mm_storeu_si128((__m128i *)(void *)(to + at), bytes);
    }
}

/* For who only reads: the first of its own or of the one that it is like, and the values. */
static inline const JsonMember *
json_first(const json_t *json)
{
    const JsonObject *object = (const JsonObject *)json;

    return object->like != NULL ? object->like->first : object->first;
}

static inline const json_t *
json_value(const json_t *json, const JsonMember *member)
{
    const JsonObject *object = (const JsonObject *)json;
    bool is_own =
        object->own != NULL && json_is_compound(member->value) && object->own[member->slot] != NULL;

    return is_own ? object->own[member->slot] : member->value;
}

static inline const json_t *
json_item(const json_t *json, size_t index)
{
    const JsonArray *array = (const JsonArray *)json;

    if (array->like == NULL || (array->items != NULL && array->items[index] != NULL))
        return array->items[index];
    return array->like->items[index];
}

/* What is known of a name; it begins at "key". */
typedef struct {
    const char *key;
    uint32_t length, tag;
    bool plain;
} JsonName;

static inline JsonName
json_name_of(const JsonMember *member)
{
    return (JsonName){ member->key, member->length, member->tag, member->plain };
}

/* No control characters, quotes, backslashes, and nothing beyond ASCII */
bool json_is_plain(const char *text, size_t length);
/* Of UTF-8, which is not checked; plain: see JsonText. */
json_t *json_text_new(const char *text, size_t length, bool plain);
/* Of its own ones, or of those of a frozen one. NULL = there is none */
JsonMember *json_member(JsonObject *object, const JsonName *name);
/* The value is consumed; append: at the end, there is none of that name. */
void json_set_member(json_t *object, const JsonName *name, json_t *take_value);
void json_append_member(json_t *object, const JsonName *name, json_t *take_value);

/* Nearly all names are constants of the program: what is known of those, by their address. It stays
 * true in all worlds, so it lies where frozen trees do. NULL = nothing is kept */
#define JSON_NAMES 4096
extern JsonName *json_names;

/* ---- json_frozen.c ---- */

/* From now on texts are kept. Only for who puts back what state.h has saved in the reverse order in
 * which it was saved, as explore.c does: memory of frozen trees, which is not saved, is handed out
 * again from where it was handed out then. */
void json_freeze_texts(void);
extern bool json_freezes; /* just now: what is made is frozen */
void *json_frozen_room(size_t bytes);
/* Is it there? */
bool json_is_frozen(const void *at);
/* What this text says, if it is known; NULL. */
json_t *json_recall(const char *text, size_t length, size_t flags);
/* A short one that is made again and again; NULL = it is not kept */
json_t *json_frozen_text(const char *text, size_t length, bool plain);
/* Frozen from here on; false: no more can be kept. */
bool json_freeze_begin(size_t length);
/* NULL: the text was a mistake. Returns one that is like it. */
json_t *json_freeze_end(const char *text, size_t length, size_t flags, json_t *json);
/* An object or an array: like a frozen one, or of its own */
json_t *json_like(const json_t *frozen);
void json_melt_object(JsonObject *object); /* it gets members of its own */
void json_melt_array(JsonArray *array);
/* What json_dumps() wrote of a frozen one; NULL = it has not yet. */
const char *json_recall_dump(const json_t *frozen, size_t flags, size_t *ret_bytes);
void json_keep_dump(const json_t *frozen, size_t flags, const char *text, size_t bytes);
