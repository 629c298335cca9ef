/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "json_tree.h"

#include <glib.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#pragma GCC diagnostic ignored "-Wmissing-prototypes"

#define FEW 64
#define PAGE 4096

typedef struct {
    char *text;
    size_t length, room;
    size_t flags;
} Writer;

static void write_value(Writer *w, const json_t *json, unsigned depth);

/* Where n bytes can be put */
static inline char *
room(Writer *w, size_t n)
{
    if (w->length + n >= w->room) {
        w->room = 2 * w->room + n + 2000;
        w->text = realloc(w->text, w->room);
        g_assert(w->text != NULL);
    }
    return w->text + w->length;
}

__attribute__((always_inline)) static inline void
put(Writer *w, const char *text, size_t n)
{
    memcpy(room(w, n), text, n);
    w->length += n;
}

static void
put_strange(Writer *w, const char *text, size_t n)
{
    char escape[8];

    for (size_t i = 0; i < n; i++) {
        if (text[i] == '"' || text[i] == '\\' || (text[i] >= 0 && text[i] < ' ')) {
            g_snprintf(escape, sizeof escape, "\\u%04x", text[i]);
            put(w, escape, 6);
        } else {
            put(w, text + i, 1);
        }
    }
}

bool
json_is_plain(const char *text, size_t length)
{
    size_t i = 0;

    for (; i + 16 <= length; i += 16)
        if (json_strange_of(text + i) != 0)
            return false;
    if (i == length)
        return true;
    if (((uintptr_t)(text + i) & (PAGE - 1)) <= PAGE - 16) /* so what follows can be read */
        return (json_strange_of(text + i) & ((1U << (length - i)) - 1)) == 0;
    for (; i < length; i++)
        if (text[i] == '"' || text[i] == '\\' || (signed char)text[i] < ' ')
            return false;
    return true;
}

static void
put_text(Writer *w, const char *text, size_t n, bool plain)
{
    if (!plain) {
        put(w, "\"", 1);
        put_strange(w, text, n);
        put(w, "\"", 1);
        return;
    }
    char *at = room(w, n + 2 + 16);
    *at = '"';
    json_copy_bytes(at + 1, text, n); /* it lies in a chunk of heap.c, and is not the last */
    at[n + 1] = '"';
    w->length += n + 2;
}

static void
put_number(Writer *w, json_int_t value)
{
    char digits[24], *at = digits + sizeof digits;
    uint64_t left = value < 0 ? -(uint64_t)value : (uint64_t)value;

    do
        *--at = (char)('0' + left % 10);
    while ((left /= 10) > 0);
    if (value < 0)
        *--at = '-';
    put(w, at, (size_t)(digits + sizeof digits - at));
}

static void
put_real(Writer *w, double value)
{
    char text[40];

    if (value > -1e15 && value < 1e15 && (double)(int64_t)value == value) {
        put_number(w, (json_int_t)value);
        put(w, ".0", 2);
        return;
    }
    g_ascii_formatd(text, sizeof text, "%.17g", value);
    put(w, text, strlen(text));
    if (strpbrk(text, ".e") == NULL)
        put(w, ".0", 2);
}

static void
new_line(Writer *w, unsigned depth)
{
    static const char blanks[] = "                                                                ";
    size_t indent = w->flags & JSON_MAX_INDENT;

    if (indent == 0)
        return;
    put(w, "\n", 1);
    put(w, blanks, MIN(indent * depth, sizeof blanks - 1));
}

/* The key's first eight bytes as a number that is as small as it comes early; what lies behind the
 * key can be read, too. */
static uint64_t
rank_of(const JsonMember *m)
{
    uint64_t word, mask = m->length < 8 ? (UINT64_C(1) << 8 * m->length) - 1 : UINT64_MAX;

    memcpy(&word, m->key, sizeof word);
    return GUINT64_FROM_BE(word & mask);
}

static bool
comes_later(const JsonMember *a, const JsonMember *b, uint64_t rank_a, uint64_t rank_b)
{
    return rank_a != rank_b ? rank_a > rank_b : strcmp(a->key, b->key) > 0;
}

static void
sort(const JsonMember **members, size_t n)
{
    uint64_t few[FEW], *ranks = n > FEW ? g_new(uint64_t, n) : few;

    for (size_t i = 0; i < n; i++) {
        const JsonMember *one = members[i];
        uint64_t rank = rank_of(one);
        size_t k = i;
        for (; k > 0 && comes_later(members[k - 1], one, ranks[k - 1], rank); k--) {
            members[k] = members[k - 1];
            ranks[k] = ranks[k - 1];
        }
        members[k] = one;
        ranks[k] = rank;
    }
    if (ranks != few)
        g_free(ranks);
}

static void
write_members(Writer *w, const json_t *object, unsigned depth)
{
    size_t n = json_object_size(object), i = 0;
    bool compact = (w->flags & JSON_COMPACT) != 0;
    const JsonMember *few[FEW];
    const JsonMember **members = n > G_N_ELEMENTS(few) ? g_new(const JsonMember *, n) : few;

    for (const JsonMember *m = json_first(object); m != NULL; m = m->next)
        members[i++] = m;
    if ((w->flags & JSON_SORT_KEYS) != 0)
        sort(members, n);
    for (i = 0; i < n; i++) {
        if (i > 0)
            put(w, ", ", compact || (w->flags & JSON_MAX_INDENT) != 0 ? 1 : 2);
        new_line(w, depth + 1);
        put_text(w, members[i]->key, members[i]->length, members[i]->plain);
        put(w, ": ", compact ? 1 : 2);
        write_value(w, json_value(object, members[i]), depth + 1);
    }
    if (n > 0)
        new_line(w, depth);
    if (members != few)
        g_free(members);
}

static void
write_items(Writer *w, const json_t *array, unsigned depth)
{
    bool plain = (w->flags & (JSON_COMPACT | JSON_MAX_INDENT)) == 0;
    size_t n = json_array_size(array);

    for (size_t i = 0; i < n; i++) {
        if (i > 0)
            put(w, ", ", plain ? 2 : 1);
        new_line(w, depth + 1);
        write_value(w, json_item(array, i), depth + 1);
    }
    if (n > 0)
        new_line(w, depth);
}

static void
write_value(Writer *w, const json_t *json, unsigned depth)
{
    switch (json_typeof(json)) {
    case JSON_OBJECT:
        put(w, "{", 1);
        write_members(w, json, depth);
        put(w, "}", 1);
        return;
    case JSON_ARRAY:
        put(w, "[", 1);
        write_items(w, json, depth);
        put(w, "]", 1);
        return;
    case JSON_STRING:
        put_text(w, json_string_value(json), json_string_length(json),
                 ((const JsonText *)json)->plain);
        return;
    case JSON_INTEGER:
        put_number(w, json_integer_value(json));
        return;
    case JSON_TRUE:
        put(w, "true", 4);
        return;
    case JSON_FALSE:
        put(w, "false", 5);
        return;
    case JSON_REAL:
        put_real(w, json_real_value(json));
        return;
    case JSON_NULL:
    default:
        put(w, "null", 4);
        return;
    }
}

/* The frozen one of which it is still a copy; NULL = none */
static const json_t *
frozen_of(const json_t *json)
{
    const JsonObject *object = (const JsonObject *)json;
    const JsonArray *array = (const JsonArray *)json;

    if (json_is_object(json))
        return object->like != NULL && object->own == NULL ? &object->like->json : NULL;
    return json_is_array(json) && array->like != NULL && array->items == NULL ? &array->like->json
                                                                              : NULL;
}

char *
json_dumps(const json_t *json, size_t flags)
{
    Writer w = { .flags = flags };
    const json_t *frozen = frozen_of(json);
    size_t bytes = 0;
    const char *known = frozen != NULL ? json_recall_dump(frozen, flags, &bytes) : NULL;

    if (!json_is_object(json) && !json_is_array(json) && (flags & JSON_ENCODE_ANY) == 0)
        return NULL;
    if (known != NULL) {
        put(&w, known, bytes);
        return w.text;
    }
    write_value(&w, json, 0);
    put(&w, "", 1);
    if (frozen != NULL)
        json_keep_dump(frozen, flags, w.text, w.length);
    return w.text;
}
