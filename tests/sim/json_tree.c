/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "json_tree.h"

#include <glib.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#pragma GCC diagnostic ignored "-Wmissing-prototypes"
#define HERE 192 /* bytes for members in an object; more go into rooms */
#define MORE 1000

static json_t is_true = { JSON_TRUE, (size_t)-1 }, is_false = { JSON_FALSE, (size_t)-1 },
              is_null = { JSON_NULL, (size_t)-1 };

static void *
value_new(json_type type, size_t bytes)
{
    json_t *json = json_freezes ? json_frozen_room(bytes) : malloc(bytes);

    g_assert(json != NULL);
    json->type = type;
    json->refcount = json_freezes ? (size_t)-1 : 1;
    return json;
}

/* ---- strings ---- */

json_t *
json_text_new(const char *text, size_t length, bool plain)
{
    JsonText *string = value_new(JSON_STRING, sizeof *string + length + 1);

    string->length = length;
    string->plain = plain;
    json_copy_few(string->text, text, length);
    string->text[length] = '\0';
    return &string->json;
}

/* The string that this is all of, if it lies in a frozen tree; NULL. No text holds what comes
 * before it there. */
static json_t *
frozen_string(const char *text)
{
    if (!json_is_frozen(text) || !json_is_frozen(text - offsetof(JsonText, text)))
        return NULL;
    json_t head;
    memcpy(&head, text - offsetof(JsonText, text), sizeof head);
    bool is_one = head.type == JSON_STRING && head.refcount == (size_t)-1;
    return is_one ? (json_t *)(void *)(text - offsetof(JsonText, text)) : NULL;
}

json_t *
json_string(const char *text)
{
    json_t *frozen = frozen_string(text);
    if (frozen != NULL)
        return frozen;
    size_t length = text != NULL ? strlen(text) : 0;
    bool plain = json_is_plain(text, length);

    if (text == NULL || (!plain && !g_utf8_validate(text, (gssize)length, NULL)))
        return NULL;
    json_t *known = json_frozen_text(text, length, plain);
    return known != NULL ? known : json_text_new(text, length, plain);
}

json_t *
json_stringn_nocheck(const char *text, size_t length)
{
    return json_text_new(text, length, json_is_plain(text, length));
}

const char *
json_string_value(const json_t *json)
{
    return json_is_string(json) ? ((const JsonText *)json)->text : NULL;
}

size_t
json_string_length(const json_t *json)
{
    return json_is_string(json) ? ((const JsonText *)json)->length : 0;
}

/* ---- numbers and words ---- */

/* The smallest are most of them; like true and false they are never freed. */
static JsonNumber few[64];

json_t *
json_integer(json_int_t value)
{
    bool is_small = value >= 0 && value < (json_int_t)G_N_ELEMENTS(few);
    JsonNumber *number = is_small ? &few[value] : value_new(JSON_INTEGER, sizeof *number);

    if (is_small)
        number->json = (json_t){ JSON_INTEGER, (size_t)-1 };
    number->integer = value;
    return &number->json;
}

json_t *
json_real(double value)
{
    JsonNumber *number = value_new(JSON_REAL, sizeof *number);

    number->real = value;
    return &number->json;
}

json_int_t
json_integer_value(const json_t *json)
{
    return json_is_integer(json) ? ((const JsonNumber *)json)->integer : 0;
}

double
json_real_value(const json_t *json)
{
    return json_is_real(json) ? ((const JsonNumber *)json)->real : 0;
}

double
json_number_value(const json_t *json)
{
    return json_is_integer(json) ? (double)json_integer_value(json) : json_real_value(json);
}

json_t *
json_true(void)
{
    return &is_true;
}

json_t *
json_false(void)
{
    return &is_false;
}

json_t *
json_null(void)
{
    return &is_null;
}

/* ---- names of members ---- */

extern const char etext[], __init_array_start[]; /* the linker's: constants lie in between */

JsonName *json_names;

__attribute__((noinline)) static const JsonName *
learn(JsonName *place, const char *key)
{
    size_t length = strlen(key);

    *place = (JsonName){ key, (uint32_t)length, json_tag(key, length), json_is_plain(key, length) };
    return place;
}

/* Where it is kept; NULL = it is no constant */
static inline JsonName *
name_place(const char *key)
{
    bool is_constant = (uintptr_t)key - (uintptr_t)etext < (uintptr_t)(__init_array_start - etext);

    return is_constant && json_names != NULL
               ? &json_names[((uintptr_t)key ^ (uintptr_t)key >> 12) % JSON_NAMES]
               : NULL;
}

/* NULL = name_of() must learn it. */
static inline const JsonName *
known_name(const char *key)
{
    const JsonName *place = name_place(key);

    return place != NULL && place->key == key ? place : NULL;
}

/* buffer: for one that is no constant */
static const JsonName *
name_of(const char *key, JsonName *buffer)
{
    JsonName *place = name_place(key);

    if (place == NULL)
        return learn(buffer, key);
    return place->key == key ? place : learn(place, key);
}

/* ---- objects ---- */

void
json_object_seed(size_t seed)
{
    (void)seed;
}

json_t *
json_object(void)
{
    size_t bytes = json_freezes ? 0 : HERE;
    JsonObject *object = value_new(JSON_OBJECT, sizeof *object + bytes);

    object->size = object->slots = 0;
    memset(object->names, 0, sizeof object->names);
    object->first = object->last = object->expected = NULL;
    object->like = NULL;
    object->own = NULL;
    object->room = object->here;
    object->room_end = object->here + bytes;
    object->rooms = NULL;
    return &object->json;
}

size_t
json_object_size(const json_t *json)
{
    return json_is_object(json) ? ((const JsonObject *)json)->size : 0;
}

static inline bool
same_word(const char *a, const char *b)
{
    uint64_t one, other;

    memcpy(&one, a, sizeof one);
    memcpy(&other, b, sizeof other);
    return one == other;
}

/* They are short: quicker than memcmp() */
static inline bool
is_same_name(const char *own, const char *key, size_t length)
{
    size_t at = 0;

    if (length < 8) {
        while (at < length && own[at] == key[at])
            at++;
        return at == length;
    }
    for (; at + 8 < length; at += 8)
        if (!same_word(own + at, key + at))
            return false;
    return same_word(own + length - 8, key + length - 8);
}

static inline bool
is_called(const JsonMember *m, const JsonName *name)
{
    return m->tag == name->tag && m->length == name->length &&
           is_same_name(m->key, name->key, name->length);
}

static inline JsonMember *
find(JsonObject *object, const JsonName *name)
{
    JsonMember *m = object->expected;

    if (!json_may_have(object, name->tag))
        return NULL;
    if (m == NULL || !is_called(m, name))
        for (m = object->first; m != NULL && !is_called(m, name);)
            m = m->next;
    if (m != NULL)
        object->expected = m->next;
    return m;
}

JsonMember *
json_member(JsonObject *object, const JsonName *name)
{
    return find(object, name);
}

/* Of the frozen one that this one is like: its own, once somebody has asked for it */
__attribute__((noinline)) static json_t *
own_value(JsonObject *object, const JsonMember *member)
{
    if (object->own == NULL)
        object->own = calloc(object->slots, sizeof *object->own);
    g_assert(object->own != NULL);
    json_t **place = &object->own[member->slot];
    if (*place == NULL)
        *place = json_like(member->value);
    return *place;
}

static inline json_t *
get(JsonObject *object, const JsonName *name)
{
    const JsonMember *member =
        find(object->like != NULL ? (JsonObject *)object->like : object, name);

    if (member == NULL)
        return NULL;
    if (object->like == NULL || !json_is_compound(member->value))
        return member->value;
    return own_value(object, member);
}

/* What is rare is apart, here and below: who calls no other function saves no registers. */
__attribute__((noinline)) static json_t *
get_slowly(JsonObject *object, const char *key)
{
    JsonName buffer;

    return get(object, name_of(key, &buffer));
}

json_t *
json_object_get(const json_t *json, const char *key)
{
    if (!json_is_object(json) || key == NULL)
        return NULL;
    const JsonName *name = known_name(key);
    return name != NULL ? get((JsonObject *)json, name) : get_slowly((JsonObject *)json, key);
}

static inline size_t
bytes_of(const JsonName *name)
{
    return (offsetof(JsonMember, key) + name->length + 1 + 7) / 8 * 8;
}

static inline void
append(JsonObject *object, JsonMember *member, const JsonName *name, json_t *take_value)
{
    member->next = NULL;
    member->value = take_value;
    member->length = name->length;
    member->tag = name->tag;
    member->slot = object->slots;
    member->plain = name->plain;
    object->slots += json_is_compound(take_value);
    json_note_name(object, member->tag);
    json_copy_few(member->key, name->key, name->length);
    member->key[name->length] = '\0';
    if (object->last != NULL)
        object->last->next = member;
    else
        object->first = member;
    object->last = member;
    object->size++;
}

static void
more_room(JsonObject *object, size_t bytes)
{
    size_t more = sizeof(void *) + MAX(bytes, MORE);
    char *room = malloc(more);

    g_assert(room != NULL);
    memcpy(room, &object->rooms, sizeof(void *));
    object->rooms = room;
    object->room = room + sizeof(void *);
    object->room_end = room + more;
}

__attribute__((noinline)) static void
append_slowly(JsonObject *object, const JsonName *name, json_t *take_value)
{
    if (json_freezes) {
        append(object, json_frozen_room(bytes_of(name)), name, take_value);
        return;
    }
    more_room(object, bytes_of(name));
    json_append_member(&object->json, name, take_value);
}

/* Members go with their object. */
void
json_append_member(json_t *json, const JsonName *name, json_t *take_value)
{
    JsonObject *object = (JsonObject *)json;
    size_t bytes = bytes_of(name);

    if (json_freezes || (size_t)(object->room_end - object->room) < bytes) {
        append_slowly(object, name, take_value);
        return;
    }
    JsonMember *member = (JsonMember *)(void *)object->room;
    object->room += bytes;
    append(object, member, name, take_value);
}

void
json_set_member(json_t *json, const JsonName *name, json_t *take_value)
{
    JsonObject *object = (JsonObject *)json;

    json_melt_object(object);
    JsonMember *member = find(object, name);
    if (member == NULL) {
        json_append_member(json, name, take_value);
        return;
    }
    if (json_is_compound(take_value) && !json_is_compound(member->value))
        member->slot = object->slots++;
    json_decref(member->value);
    member->value = take_value;
}

__attribute__((noinline)) static int
set_slowly(json_t *json, const char *key, json_t *take_value)
{
    JsonName buffer;

    if (!json_is_object(json) || key == NULL || take_value == NULL || json == take_value) {
        json_decref(take_value);
        return -1;
    }
    json_set_member(json, name_of(key, &buffer), take_value);
    return 0;
}

int
json_object_set_new(json_t *json, const char *key, json_t *take_value)
{
    JsonObject *object = (JsonObject *)json;
    const JsonName *name = key != NULL ? known_name(key) : NULL;

    if (name == NULL || !json_is_object(json) || take_value == NULL || json == take_value ||
        object->like != NULL || json_may_have(object, name->tag))
        return set_slowly(json, key, take_value);
    json_append_member(json, name, take_value);
    return 0;
}

int
json_object_del(json_t *json, const char *key)
{
    JsonObject *object = (JsonObject *)json;
    JsonMember *before = NULL;
    JsonName buffer;

    if (!json_is_object(json))
        return -1;
    json_melt_object(object);
    JsonMember *member = json_member(object, name_of(key, &buffer));
    if (member == NULL)
        return -1;
    if (object->first == member)
        object->first = member->next;
    else
        for (before = object->first; before->next != member; before = before->next)
            ;
    if (before != NULL)
        before->next = member->next;
    if (object->last == member)
        object->last = before;
    object->size--;
    object->expected = NULL;
    json_decref(member->value);
    return 0;
}

void *
json_object_iter(json_t *json)
{
    if (!json_is_object(json))
        return NULL;
    json_melt_object((JsonObject *)json);
    return ((JsonObject *)json)->first;
}

void *
json_object_iter_next(json_t *json, void *iter)
{
    return json_is_object(json) && iter != NULL ? ((JsonMember *)iter)->next : NULL;
}

const char *
json_object_iter_key(void *iter)
{
    return iter != NULL ? ((JsonMember *)iter)->key : NULL;
}

json_t *
json_object_iter_value(void *iter)
{
    return iter != NULL ? ((JsonMember *)iter)->value : NULL;
}

void *
json_object_key_to_iter(const char *key)
{
    return key != NULL ? (void *)(uintptr_t)(key - offsetof(JsonMember, key)) : NULL;
}

/* ---- arrays ---- */

json_t *
json_array(void)
{
    JsonArray *array = value_new(JSON_ARRAY, sizeof *array);

    array->size = array->room = 0;
    array->items = NULL;
    array->like = NULL;
    return &array->json;
}

size_t
json_array_size(const json_t *json)
{
    return json_is_array(json) ? ((const JsonArray *)json)->size : 0;
}

json_t *
json_array_get(const json_t *json, size_t index)
{
    JsonArray *array = (JsonArray *)json;

    if (index >= json_array_size(json))
        return NULL;
    if (array->like == NULL)
        return array->items[index];
    json_t *frozen = array->like->items[index];
    if (!json_is_compound(frozen))
        return frozen;
    if (array->items == NULL)
        array->items = calloc(array->size, sizeof *array->items);
    g_assert(array->items != NULL);
    if (array->items[index] == NULL)
        array->items[index] = json_like(frozen);
    return array->items[index];
}

static void
make_room(JsonArray *array)
{
    size_t bytes = (2 * array->room + 4) * sizeof *array->items;

    if (json_freezes) {
        json_t **items = json_frozen_room(bytes);
        if (array->size > 0)
            memcpy(items, array->items, array->size * sizeof *items);
        array->items = items;
    } else {
        array->items = realloc(array->items, bytes);
    }
    g_assert(array->items != NULL);
    array->room = 2 * array->room + 4;
}

int
json_array_append_new(json_t *json, json_t *take_value)
{
    JsonArray *array = (JsonArray *)json;

    if (!json_is_array(json) || take_value == NULL || json == take_value) {
        json_decref(take_value);
        return -1;
    }
    if (array->like != NULL)
        json_melt_array(array);
    if (array->size == array->room)
        make_room(array);
    array->items[array->size++] = take_value;
    return 0;
}

int
json_array_remove(json_t *json, size_t index)
{
    JsonArray *array = (JsonArray *)json;

    if (index >= json_array_size(json))
        return -1;
    json_melt_array(array);
    json_decref(array->items[index]);
    array->size--;
    memmove(array->items + index, array->items + index + 1,
            (array->size - index) * sizeof *array->items);
    return 0;
}

int
json_array_extend(json_t *json, json_t *other)
{
    if (!json_is_array(json) || !json_is_array(other))
        return -1;
    size_t n = json_array_size(other);
    for (size_t i = 0; i < n; i++)
        json_array_append_new(json, json_incref(json_array_get(other, i)));
    return 0;
}
