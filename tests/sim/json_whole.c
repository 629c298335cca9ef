/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * What goes through whole trees: freeing, comparing, copying.
 */
#include "json_tree.h"

#include <glib.h>
#include <stdlib.h>
#include <string.h>

#pragma GCC diagnostic ignored "-Wmissing-prototypes"

static void
rooms_free(void *room)
{
    while (room != NULL) {
        void *before;
        memcpy(&before, room, sizeof before);
        free(room);
        room = before;
    }
}

static void
items_free(json_t **items, size_t n)
{
    for (size_t i = 0; items != NULL && i < n; i++)
        json_decref(items[i]);
    free(items);
}

void
json_delete(json_t *json)
{
    if (json_is_object(json)) {
        JsonObject *object = (JsonObject *)json;
        for (const JsonMember *m = object->first; m != NULL; m = m->next)
            json_decref(m->value);
        rooms_free(object->rooms);
        items_free(object->own, object->slots);
    } else if (json_is_array(json)) {
        items_free(((JsonArray *)json)->items, ((JsonArray *)json)->size);
    }
    free(json);
}

/* Objects that are like the same one (or that one) can differ in what somebody asked for, only. */
static bool
same_own(const json_t *a, const json_t *b)
{
    const JsonObject *one = (const JsonObject *)a, *other = (const JsonObject *)b;

    if (one->own == NULL && other->own == NULL)
        return true;
    for (const JsonMember *m = json_first(a); m != NULL; m = m->next)
        if (json_is_compound(m->value) && !json_equal(json_value(a, m), json_value(b, m)))
            return false;
    return true;
}

static bool
same_members(const json_t *a, const json_t *b)
{
    JsonObject *other = (JsonObject *)b;

    if (json_object_size(a) != json_object_size(b))
        return false;
    if (json_first(a) == json_first(b))
        return same_own(a, b);
    for (const JsonMember *m = json_first(a); m != NULL; m = m->next) {
        JsonName name = json_name_of(m);
        const JsonMember *its =
            json_member(other->like != NULL ? (JsonObject *)other->like : other, &name);
        if (its == NULL || !json_equal(json_value(a, m), json_value(b, its)))
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
        same = json_equal(json_item(a, i), json_item(b, i));
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

static json_t *
copy_object(const JsonObject *object)
{
    json_t *json = object->like != NULL ? json_like(&object->like->json) : json_object();
    JsonObject *copy = (JsonObject *)json;

    for (const JsonMember *m = object->first; m != NULL; m = m->next) {
        JsonName name = json_name_of(m);
        json_append_member(json, &name, json_deep_copy(m->value));
    }
    if (object->own == NULL)
        return json;
    copy->own = calloc(copy->slots, sizeof *copy->own);
    g_assert(copy->own != NULL);
    for (uint32_t i = 0; i < copy->slots; i++)
        copy->own[i] = json_deep_copy(object->own[i]);
    return json;
}

static json_t *
copy_array(const JsonArray *array)
{
    json_t *json = array->like != NULL ? json_like(&array->like->json) : json_array();
    JsonArray *copy = (JsonArray *)json;

    if (array->items == NULL)
        return json;
    copy->size = copy->room = array->size;
    copy->items = calloc(copy->size, sizeof *copy->items);
    g_assert(copy->items != NULL);
    for (size_t i = 0; i < copy->size; i++)
        copy->items[i] = json_deep_copy(array->items[i]);
    return json;
}

json_t *
json_deep_copy(const json_t *json)
{
    if (json == NULL)
        return NULL;
    if (json_is_object(json))
        return copy_object((const JsonObject *)json);
    if (json_is_array(json))
        return copy_array((const JsonArray *)json);
    /* others never change: jansson's functions for that are not used */
    return json_incref((json_t *)json);
}
