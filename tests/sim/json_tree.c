/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "json_tree.h"

#include <glib.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#pragma GCC diagnostic ignored "-Wmissing-prototypes"

static json_t is_true = { JSON_TRUE, (size_t)-1 }, is_false = { JSON_FALSE, (size_t)-1 },
              is_null = { JSON_NULL, (size_t)-1 };

static void *
value_new(json_type type, size_t bytes)
{
    json_t *json = malloc(bytes);

    g_assert(json != NULL);
    json->type = type;
    json->refcount = 1;
    return json;
}

/* ---- strings ---- */

bool
json_is_plain(const char *text, size_t length)
{
    size_t i = 0;

    for (; i + 16 <= length; i += 16)
        if (json_strange_of(text + i) != 0)
            return false;
    for (; i < length; i++)
        if (text[i] == '"' || text[i] == '\\' || (signed char)text[i] < ' ')
            return false;
    return true;
}

json_t *
json_text_new(const char *text, size_t length, bool plain)
{
    JsonText *string = value_new(JSON_STRING, sizeof *string + length + 1);

    string->length = length;
    string->plain = plain;
    memcpy(string->text, text, length);
    string->text[length] = '\0';
    return &string->json;
}

json_t *
json_string(const char *text)
{
    size_t length = text != NULL ? strlen(text) : 0;
    bool plain = json_is_plain(text, length);

    if (text == NULL || (!plain && !g_utf8_validate(text, (gssize)length, NULL)))
        return NULL;
    return json_text_new(text, length, plain);
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

/* ---- objects ---- */

void
json_object_seed(size_t seed)
{
    (void)seed;
}

json_t *
json_object(void)
{
    JsonObject *object = value_new(JSON_OBJECT, sizeof *object);

    object->size = 0;
    object->first = object->last = NULL;
    return &object->json;
}

size_t
json_object_size(const json_t *json)
{
    return json_is_object(json) ? ((const JsonObject *)json)->size : 0;
}

JsonMember *
json_member(const json_t *object, const char *key, size_t length)
{
    /* names of one length mostly differ in the first letter; of no length the end is compared */
    for (JsonMember *m = ((const JsonObject *)object)->first; m != NULL; m = m->next)
        if (m->length == length && m->key[0] == (length > 0 ? key[0] : '\0') &&
            memcmp(m->key, key, length) == 0)
            return m;
    return NULL;
}

json_t *
json_object_get(const json_t *json, const char *key)
{
    const JsonMember *member =
        json_is_object(json) && key != NULL ? json_member(json, key, strlen(key)) : NULL;

    return member != NULL ? member->value : NULL;
}

void
json_append_member(json_t *json, const char *key, size_t length, bool plain, json_t *take_value)
{
    JsonObject *object = (JsonObject *)json;
    JsonMember *member = malloc(sizeof *member + length + 1);

    g_assert(member != NULL);
    *member = (JsonMember){ NULL, take_value, (unsigned)length, plain };
    memcpy(member->key, key, length);
    member->key[length] = '\0';
    if (object->last != NULL)
        object->last->next = member;
    else
        object->first = member;
    object->last = member;
    object->size++;
}

int
json_object_setn_new_nocheck(json_t *json, const char *key, size_t length, json_t *take_value)
{
    if (!json_is_object(json) || key == NULL || take_value == NULL || json == take_value) {
        json_decref(take_value);
        return -1;
    }
    JsonMember *member = json_member(json, key, length);
    if (member != NULL) {
        json_decref(member->value);
        member->value = take_value;
        return 0;
    }
    json_append_member(json, key, length, json_is_plain(key, length), take_value);
    return 0;
}

int
json_object_set_new(json_t *json, const char *key, json_t *take_value)
{
    return json_object_setn_new_nocheck(json, key, key != NULL ? strlen(key) : 0, take_value);
}

static void
member_free(JsonMember *member)
{
    json_decref(member->value);
    free(member);
}

int
json_object_del(json_t *json, const char *key)
{
    JsonObject *object = (JsonObject *)json;
    JsonMember *before = NULL;
    JsonMember *member = json_is_object(json) ? json_member(json, key, strlen(key)) : NULL;

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
    member_free(member);
    return 0;
}

void *
json_object_iter(json_t *json)
{
    return json_is_object(json) ? ((JsonObject *)json)->first : NULL;
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
    return index < json_array_size(json) ? ((const JsonArray *)json)->items[index] : NULL;
}

int
json_array_append_new(json_t *json, json_t *take_value)
{
    JsonArray *array = (JsonArray *)json;

    if (!json_is_array(json) || take_value == NULL || json == take_value) {
        json_decref(take_value);
        return -1;
    }
    if (array->size == array->room) {
        array->room = 2 * array->room + 4;
        array->items = realloc(array->items, array->room * sizeof *array->items);
        g_assert(array->items != NULL);
    }
    array->items[array->size++] = take_value;
    return 0;
}

int
json_array_remove(json_t *json, size_t index)
{
    JsonArray *array = (JsonArray *)json;

    if (index >= json_array_size(json))
        return -1;
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

/* ---- all of them ---- */

void
json_delete(json_t *json)
{
    if (json_is_object(json)) {
        JsonMember *next;
        for (JsonMember *m = ((JsonObject *)json)->first; m != NULL; m = next) {
            next = m->next;
            member_free(m);
        }
    } else if (json_is_array(json)) {
        JsonArray *array = (JsonArray *)json;
        for (size_t i = 0; i < array->size; i++)
            json_decref(array->items[i]);
        free(array->items);
    }
    free(json);
}

static bool
same_members(const json_t *a, const json_t *b)
{
    if (json_object_size(a) != json_object_size(b))
        return false;
    for (const JsonMember *m = ((const JsonObject *)a)->first; m != NULL; m = m->next) {
        const JsonMember *other = json_member(b, m->key, m->length);
        if (other == NULL || !json_equal(m->value, other->value))
            return false;
    }
    return true;
}

static bool
same_items(const json_t *a, const json_t *b)
{
    size_t n = json_array_size(a);
    bool same = n == json_array_size(b);

    for (size_t i = 0; same && i < n; i++)
        same = json_equal(json_array_get(a, i), json_array_get(b, i));
    return same;
}

int
json_equal(const json_t *a, const json_t *b)
{
    if (a == NULL || b == NULL || json_typeof(a) != json_typeof(b))
        return 0;
    if (a == b)
        return 1;
    switch (json_typeof(a)) {
    case JSON_OBJECT:
        return same_members(a, b);
    case JSON_ARRAY:
        return same_items(a, b);
    case JSON_STRING:
        return json_string_length(a) == json_string_length(b) &&
               memcmp(json_string_value(a), json_string_value(b), json_string_length(a)) == 0;
    case JSON_INTEGER:
        return json_integer_value(a) == json_integer_value(b);
    case JSON_REAL:
        return memcmp(&((const JsonNumber *)a)->real, &((const JsonNumber *)b)->real,
                      sizeof(double)) == 0;
    case JSON_TRUE:
    case JSON_FALSE:
    case JSON_NULL:
    default:
        return 1;
    }
}

json_t *
json_deep_copy(const json_t *json)
{
    json_t *copy;

    if (json == NULL)
        return NULL;
    switch (json_typeof(json)) {
    case JSON_OBJECT:
        copy = json_object();
        for (const JsonMember *m = ((const JsonObject *)json)->first; m != NULL; m = m->next)
            json_append_member(copy, m->key, m->length, m->plain, json_deep_copy(m->value));
        return copy;
    case JSON_ARRAY:
        copy = json_array();
        for (size_t i = 0; i < json_array_size(json); i++)
            json_array_append_new(copy, json_deep_copy(json_array_get(json, i)));
        return copy;
    case JSON_STRING: /* they never change: jansson's functions for that are not used */
    case JSON_INTEGER:
    case JSON_REAL:
    case JSON_TRUE:
    case JSON_FALSE:
    case JSON_NULL:
    default:
        return json_incref((json_t *)json);
    }
}
