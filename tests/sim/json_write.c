/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "json_tree.h"

#include <glib.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#pragma GCC diagnostic ignored "-Wmissing-prototypes"

#define FEW 64
#define PAGE 4096
#define ROOM ((size_t)128 << 20) /* larger than what heap_collect() looks through for addresses */
#define SLACK 256                /* what is put between two looks at the room, but for texts */

/* All texts are written here first: what is handed out is as long as it need be. In memory of its
 * own, for what is written to in the heap or in variables is saved with each world. */
static char *place, *place_end;

/* What libc made of one: most come again and again. They lie in front of that place. */
#define REALS 64
typedef struct {
    double value;
    size_t length; /* 0 = none yet */
    char text[48];
} Real;
static Real *reals;

static char *write_value(char *at, const json_t *json, size_t flags, unsigned depth);

static inline char *
put(char *at, const char *text, size_t n)
{
    memcpy(at, text, n);
    return at + n;
}

static inline void
need(const char *at, size_t n)
{
    if (__builtin_expect(n + SLACK > (size_t)(place_end - at), 0))
        g_error("JSON: a text is too long");
}

static char *
put_strange(char *at, const char *text, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        if (text[i] == '"' || text[i] == '\\' || (text[i] >= 0 && text[i] < ' '))
            at += g_snprintf(at, 8, "\\u%04x", text[i]);
        else
            *at++ = text[i];
    }
    return at;
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

static inline char *
put_text(char *at, const char *text, size_t n, bool plain)
{
    need(at, 6 * n);
    *at++ = '"';
    if (plain) {
        json_copy_bytes(at, text, n); /* it lies in a chunk of heap.c, and is not the last */
        at += n;
    } else {
        at = put_strange(at, text, n);
    }
    *at++ = '"';
    return at;
}

static char *
put_number(char *to, json_int_t value)
{
    static const char pairs[] = "00010203040506070809101112131415161718192021222324"
                                "25262728293031323334353637383940414243444546474849"
                                "50515253545556575859606162636465666768697071727374"
                                "75767778798081828384858687888990919293949596979899";
    char digits[24], *at = digits + sizeof digits;
    uint64_t left = value < 0 ? -(uint64_t)value : (uint64_t)value;

    for (; left >= 10; left /= 100) {
        at -= 2;
        memcpy(at, pairs + 2 * (left % 100), 2);
    }
    if (left > 0 || at == digits + sizeof digits)
        *--at = (char)('0' + left);
    if (value < 0)
        *--at = '-';
    size_t n = (size_t)(digits + sizeof digits - at);
    json_copy_few(to, at, n);
    return to + n;
}

static const Real *
real_of(double value)
{
    uint64_t bits;

    memcpy(&bits, &value, sizeof bits);
    Real *real = &reals[(bits * UINT64_C(0x9E3779B97F4A7C15) >> 32) % REALS];
    if (real->length > 0 && memcmp(&real->value, &value, sizeof value) == 0)
        return real;
    g_ascii_formatd(real->text, sizeof real->text, "%.17g", value);
    if (strpbrk(real->text, ".e") == NULL)
        g_strlcat(real->text, ".0", sizeof real->text);
    real->value = value;
    real->length = strlen(real->text);
    return real;
}

static char *
put_real(char *at, double value)
{
    if (value > -1e15 && value < 1e15 && (double)(int64_t)value == value)
        return put(put_number(at, (json_int_t)value), ".0", 2);
    const Real *real = real_of(value);
    return put(at, real->text, real->length);
}

static inline char *
new_line(char *at, size_t flags, unsigned depth)
{
    static const char blanks[] = "                                                                ";
    size_t indent = flags & JSON_MAX_INDENT, n = MIN(indent * depth, sizeof blanks - 1);

    if (indent == 0)
        return at;
    *at++ = '\n';
    for (size_t i = 0; i < n; i += 16)
        memcpy(at + i, blanks, 16);
    return at + n;
}

/* Before a member or an item that is not the first */
static inline char *
put_comma(char *at, size_t flags)
{
    *at++ = ',';
    if ((flags & (JSON_COMPACT | JSON_MAX_INDENT)) == 0)
        *at++ = ' ';
    return at;
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

static inline char *
write_member(char *at, const json_t *object, const JsonMember *m, size_t flags, unsigned depth)
{
    at = new_line(at, flags, depth);
    at = put_text(at, m->key, m->length, m->plain);
    *at++ = ':';
    if ((flags & JSON_COMPACT) == 0)
        *at++ = ' ';
    return write_value(at, json_value(object, m), flags, depth);
}

static char *
write_sorted(char *at, const json_t *object, size_t flags, unsigned depth)
{
    size_t n = json_object_size(object), i = 0;
    const JsonMember *few[FEW];
    const JsonMember **members = n > G_N_ELEMENTS(few) ? g_new(const JsonMember *, n) : few;

    for (const JsonMember *m = json_first(object); m != NULL; m = m->next)
        members[i++] = m;
    sort(members, n);
    for (i = 0; i < n; i++)
        at = write_member(i > 0 ? put_comma(at, flags) : at, object, members[i], flags, depth);
    if (members != few)
        g_free(members);
    return at;
}

static char *
write_object(char *at, const json_t *object, size_t flags, unsigned depth)
{
    const JsonMember *first = json_first(object);

    *at++ = '{';
    if ((flags & JSON_SORT_KEYS) != 0)
        at = write_sorted(at, object, flags, depth + 1);
    else
        for (const JsonMember *m = first; m != NULL; m = m->next)
            at = write_member(m != first ? put_comma(at, flags) : at, object, m, flags, depth + 1);
    if (first != NULL)
        at = new_line(at, flags, depth);
    *at++ = '}';
    return at;
}

static char *
write_array(char *at, const json_t *array, size_t flags, unsigned depth)
{
    size_t n = json_array_size(array);

    *at++ = '[';
    for (size_t i = 0; i < n; i++) {
        if (i > 0)
            at = put_comma(at, flags);
        at = new_line(at, flags, depth + 1);
        at = write_value(at, json_item(array, i), flags, depth + 1);
    }
    if (n > 0)
        at = new_line(at, flags, depth);
    *at++ = ']';
    return at;
}

static char *
write_value(char *at, const json_t *json, size_t flags, unsigned depth)
{
    const JsonText *text = (const JsonText *)json;

    need(at, 0);
    switch (json_typeof(json)) {
    case JSON_OBJECT:
        return write_object(at, json, flags, depth);
    case JSON_ARRAY:
        return write_array(at, json, flags, depth);
    case JSON_STRING:
        return put_text(at, text->text, text->length, text->plain);
    case JSON_INTEGER:
        return put_number(at, json_integer_value(json));
    case JSON_TRUE:
        return put(at, "true", 4);
    case JSON_FALSE:
        return put(at, "false", 5);
    case JSON_REAL:
        return put_real(at, json_real_value(json));
    case JSON_NULL:
    default:
        return put(at, "null", 4);
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

static void
prepare(void)
{
    reals = mmap(NULL, ROOM, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE,
                 -1, 0);
    g_assert(reals != MAP_FAILED);
    place = (char *)(reals + REALS);
    place_end = (char *)reals + ROOM;
}

static char *
handed_out(const char *text, size_t bytes)
{
    char *own = malloc(bytes);

    g_assert(own != NULL);
    return memcpy(own, text, bytes);
}

char *
json_dumps(const json_t *json, size_t flags)
{
    const json_t *frozen = frozen_of(json);
    size_t bytes = 0;
    const char *known = frozen != NULL ? json_recall_dump(frozen, flags, &bytes) : NULL;

    if (!json_is_object(json) && !json_is_array(json) && (flags & JSON_ENCODE_ANY) == 0)
        return NULL;
    if (known != NULL)
        return handed_out(known, bytes);
    if (place == NULL)
        prepare();
    char *end = write_value(place, json, flags, 0);
    *end++ = '\0';
    bytes = (size_t)(end - place);
    if (frozen != NULL)
        json_keep_dump(frozen, flags, place, bytes);
    return handed_out(place, bytes);
}
