/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * JSON and checksums, quicker than by the libraries: they were most of a schedule's time, and are
 * not what is tested. What is unusual (escapes, mistakes) is left to jansson.
 */
#include <glib.h>
#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#pragma GCC diagnostic ignored "-Wmissing-prototypes"
#define WRAP(name) __wrap_##name
#define REAL(name) __real_##name
#define DEEPEST 32
#define MOST_KEYS 128

/* ---- reading ---- */

typedef struct {
    const char *at, *end;
    unsigned depth;
} Reader;

static json_t *read_value(Reader *r);

static void
skip(Reader *r)
{
    while (r->at < r->end && (*r->at == ' ' || *r->at == '\n' || *r->at == '\r' || *r->at == '\t'))
        r->at++;
}

static bool
take(Reader *r, char c)
{
    skip(r);
    if (r->at == r->end || *r->at != c)
        return false;
    r->at++;
    return true;
}

static bool
read_text(Reader *r, const char **ret_text, size_t *ret_length)
{
    if (!take(r, '"'))
        return false;
    const char *from = r->at;
    while (r->at < r->end && *r->at != '"') {
        if (*r->at == '\\' || (signed char)*r->at < ' ')
            return false;
        r->at++;
    }
    *ret_text = from;
    *ret_length = (size_t)(r->at - from);
    return take(r, '"');
}

static json_t *
read_real(Reader *r, const char *from)
{
    char text[40] = "", *end;

    while (r->at < r->end && *r->at != '\0' && strchr("0123456789.eE+-", *r->at) != NULL)
        r->at++;
    if ((size_t)(r->at - from) >= sizeof text)
        return NULL;
    memcpy(text, from, (size_t)(r->at - from));
    double value = strtod(text, &end);
    return *end == '\0' ? json_real(value) : NULL;
}

static json_t *
read_number(Reader *r)
{
    const char *from = r->at;
    bool minus = *from == '-';
    json_int_t value = 0;

    r->at += minus;
    const char *digits = r->at;
    for (; r->at < r->end && *r->at >= '0' && *r->at <= '9'; r->at++)
        value = value * 10 + (*r->at - '0');
    size_t n = (size_t)(r->at - digits);
    bool real = r->at < r->end && (*r->at == '.' || *r->at == 'e' || *r->at == 'E');

    if (n == 0 || n > 18 || (n > 1 && *digits == '0'))
        return NULL;
    if (real)
        return read_real(r, from);
    return json_integer(minus ? -value : value);
}

static bool
read_members(Reader *r, json_t *object)
{
    size_t n = 0;

    if (take(r, '}'))
        return true;
    do {
        const char *key;
        size_t length;
        if (!read_text(r, &key, &length) || !take(r, ':'))
            return false;
        json_t *value = read_value(r);
        if (value == NULL || json_object_setn_new_nocheck(object, key, length, value) < 0)
            return false;
        n++;
    } while (take(r, ','));
    return take(r, '}') && json_object_size(object) == n;
}

static bool
read_items(Reader *r, json_t *array)
{
    if (take(r, ']'))
        return true;
    do {
        json_t *value = read_value(r);
        if (value == NULL || json_array_append_new(array, value) < 0)
            return false;
    } while (take(r, ','));
    return take(r, ']');
}

static json_t *
read_compound(Reader *r, bool object)
{
    json_t *json = object ? json_object() : json_array();

    r->at++;
    bool ok = ++r->depth < DEEPEST && (object ? read_members(r, json) : read_items(r, json));
    r->depth--;
    if (ok)
        return json;
    json_decref(json);
    return NULL;
}

static bool
read_word(Reader *r, const char *word)
{
    size_t n = strlen(word);

    if ((size_t)(r->end - r->at) < n || memcmp(r->at, word, n) != 0)
        return false;
    r->at += n;
    return true;
}

static json_t *
read_value(Reader *r)
{
    const char *text;
    size_t length;

    skip(r);
    if (r->at == r->end)
        return NULL;
    switch (*r->at) {
    case '{':
    case '[':
        return read_compound(r, *r->at == '{');
    case '"':
        return read_text(r, &text, &length) ? json_stringn_nocheck(text, length) : NULL;
    case 't':
        return read_word(r, "true") ? json_true() : NULL;
    case 'f':
        return read_word(r, "false") ? json_false() : NULL;
    case 'n':
        return read_word(r, "null") ? json_null() : NULL;
    default:
        return read_number(r);
    }
}

json_t *REAL(json_loadb)(const char *text, size_t length, size_t flags, json_error_t *error);
json_t *
WRAP(json_loadb)(const char *text, size_t length, size_t flags, json_error_t *error)
{
    Reader r = { text, text + length, 0 };

    skip(&r);
    if (r.at < r.end && (*r.at == '{' || *r.at == '[')) {
        json_t *json = read_value(&r);
        skip(&r);
        if (json != NULL && r.at == r.end)
            return json;
        json_decref(json);
    }
    return REAL(json_loadb)(text, length, flags, error);
}

json_t *
WRAP(json_loads)(const char *text, size_t flags, json_error_t *error)
{
    return WRAP(json_loadb)(text, strlen(text), flags, error);
}

/* ---- writing ---- */

typedef struct {
    char *text;
    size_t length, room;
    size_t flags;
    bool strange;
} Writer;

static void write_value(Writer *w, const json_t *json, unsigned depth);

static void
put(Writer *w, const char *text, size_t n)
{
    if (w->length + n >= w->room) {
        w->room = 2 * w->room + n + 512;
        w->text = realloc(w->text, w->room);
        g_assert(w->text != NULL);
    }
    memcpy(w->text + w->length, text, n);
    w->length += n;
}

static void
put_text(Writer *w, const char *text, size_t n)
{
    for (size_t i = 0; i < n; i++)
        w->strange = w->strange || text[i] == '"' || text[i] == '\\' || (signed char)text[i] < ' ';
    put(w, "\"", 1);
    put(w, text, n);
    put(w, "\"", 1);
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
    g_snprintf(text, sizeof text, "%.17g", value);
    w->strange = w->strange || strchr(text, 'e') != NULL || strchr(text, '.') == NULL;
    put(w, text, strlen(text));
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

static int
compare(const void *a, const void *b)
{
    return strcmp(*(const char *const *)a, *(const char *const *)b);
}

static void
write_members(Writer *w, json_t *object, unsigned depth)
{
    const char *keys[MOST_KEYS], *key;
    bool compact = (w->flags & JSON_COMPACT) != 0;
    size_t n = 0;
    json_t *value;

    w->strange = w->strange || json_object_size(object) > MOST_KEYS;
    if (w->strange)
        return;
    json_object_foreach (object, key, value)
        keys[n++] = key;
    if ((w->flags & JSON_SORT_KEYS) != 0)
        qsort(keys, n, sizeof *keys, compare);
    for (size_t i = 0; i < n; i++) {
        if (i > 0)
            put(w, ", ", compact || (w->flags & JSON_MAX_INDENT) != 0 ? 1 : 2);
        new_line(w, depth + 1);
        put_text(w, keys[i], strlen(keys[i]));
        put(w, ": ", compact ? 1 : 2);
        write_value(w, json_object_get(object, keys[i]), depth + 1);
    }
    if (n > 0)
        new_line(w, depth);
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
        write_value(w, json_array_get(array, i), depth + 1);
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
        write_members(w, (json_t *)json, depth);
        put(w, "}", 1);
        return;
    case JSON_ARRAY:
        put(w, "[", 1);
        write_items(w, json, depth);
        put(w, "]", 1);
        return;
    case JSON_STRING:
        put_text(w, json_string_value(json), json_string_length(json));
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
    case JSON_NULL:
        put(w, "null", 4);
        return;
    case JSON_REAL:
        put_real(w, json_real_value(json));
        return;
    default:
        w->strange = true;
    }
}

char *REAL(json_dumps)(const json_t *json, size_t flags);
char *
WRAP(json_dumps)(const json_t *json, size_t flags)
{
    Writer w = { .flags = flags };

    if (!json_is_object(json) && !json_is_array(json))
        return REAL(json_dumps)(json, flags);
    write_value(&w, json, 0);
    put(&w, "", 1);
    if (!w.strange)
        return w.text;
    free(w.text);
    return REAL(json_dumps)(json, flags);
}

/* ---- checksums ---- */

/* As long as a SHA-256, and as good against chance. */
char *
WRAP(g_compute_checksum_for_string)(GChecksumType type, const char *text, gssize length)
{
    uint64_t h[2] = { UINT64_C(0x9E3779B97F4A7C15), UINT64_C(0xD1342543DE82EF95) };
    size_t n = length < 0 ? strlen(text) : (size_t)length;

    (void)type;
    for (size_t i = 0; i < n; i += 8) {
        uint64_t word = 0;
        memcpy(&word, text + i, MIN(8, n - i));
        for (unsigned k = 0; k < 2; k++) {
            h[k] = (h[k] ^ word) * UINT64_C(0xBF58476D1CE4E5B9);
            h[k] ^= h[k] >> (29 + k);
        }
    }
    h[0] ^= n;
    return g_strdup_printf("%016" G_GINT64_MODIFIER "x%016" G_GINT64_MODIFIER
                           "x%016" G_GINT64_MODIFIER "x%016" G_GINT64_MODIFIER "x",
                           h[0], h[1], h[0] * 7 + h[1], h[1] * 11 + h[0]);
}
