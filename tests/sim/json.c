/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * Reading JSON; checksums, quicker than by the library.
 */
#include "json_tree.h"

#include <glib.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#pragma GCC diagnostic ignored "-Wmissing-prototypes"
#define WRAP(name) __wrap_##name
#define DEEPEST 64

typedef struct {
    const char *at, *end, *begin;
    unsigned depth;
    bool once; /* a name that is there twice is a mistake */
} Reader;

static json_t *read_value(Reader *r);

static void
skip(Reader *r)
{
    while (r->at < r->end && (*r->at == ' ' || *r->at == '\n' || *r->at == '\r' || *r->at == '\t'))
        r->at++;
}

static inline bool
take(Reader *r, char c)
{
    skip(r);
    if (r->at == r->end || *r->at != c)
        return false;
    r->at++;
    return true;
}

static bool
read_code(Reader *r, gunichar *ret_code)
{
    *ret_code = 0;
    for (unsigned i = 0; i < 4; i++, r->at++) {
        if (r->at == r->end || !g_ascii_isxdigit(*r->at))
            return false;
        *ret_code = *ret_code << 4 | (gunichar)g_ascii_xdigit_value(*r->at);
    }
    return true;
}

/* After a backslash */
static bool
read_escape(Reader *r, GString *text)
{
    static const char from[] = "\"\\/bfnrt", to[] = "\"\\/\b\f\n\r\t";
    char c = r->at < r->end ? *r->at++ : '\0';
    const char *known = c != '\0' ? strchr(from, c) : NULL;
    gunichar code, low;

    if (known != NULL) {
        g_string_append_c(text, to[known - from]);
        return true;
    }
    if (c != 'u' || !read_code(r, &code) || code == 0 || (code >= 0xDC00 && code < 0xE000))
        return false;
    if (code >= 0xD800 && code < 0xDC00) {
        if (r->end - r->at < 6 || r->at[0] != '\\' || r->at[1] != 'u')
            return false;
        r->at += 2;
        if (!read_code(r, &low) || low < 0xDC00 || low >= 0xE000)
            return false;
        code = 0x10000 + ((code - 0xD800) << 10) + (low - 0xDC00);
    }
    g_string_append_unichar(text, code);
    return true;
}

/* What has escapes or is not ASCII; the reader is behind the first quote. NULL = a mistake */
static GString *
read_strange(Reader *r)
{
    g_autoptr(GString) text = g_string_new(NULL);

    while (r->at < r->end && *r->at != '"') {
        if (*r->at >= 0 && *r->at < ' ')
            return NULL;
        if (*r->at != '\\')
            g_string_append_c(text, *r->at++);
        else if (r->at++, !read_escape(r, text))
            return NULL;
    }
    if (!take(r, '"') || !g_utf8_validate(text->str, (gssize)text->len, NULL))
        return NULL;
    return g_steal_pointer(&text);
}

/* Plain ones are borrowed from the text; others are put into "ret_strange". */
static bool
read_text(Reader *r, const char **ret_text, size_t *ret_length, GString **ret_strange)
{
    if (!take(r, '"'))
        return false;
    const char *from = r->at;
    unsigned strange = 0;
    while (r->end - r->at >= 16 && (strange = json_strange_of(r->at)) == 0)
        r->at += 16;
    if (strange != 0)
        r->at += __builtin_ctz(strange);
    while (r->at < r->end && *r->at != '"' && *r->at != '\\' && *r->at >= ' ')
        r->at++;
    *ret_text = from;
    *ret_length = (size_t)(r->at - from);
    if (r->at < r->end && *r->at == '"') {
        r->at++;
        return true;
    }
    r->at = from;
    *ret_strange = read_strange(r);
    if (*ret_strange == NULL)
        return false;
    *ret_text = (*ret_strange)->str;
    *ret_length = (*ret_strange)->len;
    return true;
}

static json_t *
read_string(Reader *r)
{
    g_autoptr(GString) strange = NULL;
    const char *text;
    size_t length;

    if (!read_text(r, &text, &length, &strange))
        return NULL;
    return strange == NULL ? json_text_new(text, length, true) : json_stringn_nocheck(text, length);
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
read_member(Reader *r, json_t *object)
{
    g_autoptr(GString) strange = NULL;
    const char *key;
    size_t length;

    if (!read_text(r, &key, &length, &strange) || !take(r, ':'))
        return false;
    json_t *value = read_value(r);
    if (value == NULL)
        return false;
    JsonName name = { key, (uint32_t)length, json_tag(key, length), strange == NULL };
    if (json_member((JsonObject *)object, &name) == NULL) {
        json_append_member(object, &name, value);
        return true;
    }
    json_set_member(object, &name, value);
    return !r->once;
}

static bool
read_members(Reader *r, json_t *object)
{
    if (take(r, '}'))
        return true;
    do {
        if (!read_member(r, object))
            return false;
    } while (take(r, ','));
    return take(r, '}');
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
    skip(r);
    if (r->at == r->end)
        return NULL;
    switch (*r->at) {
    case '{':
    case '[':
        return read_compound(r, *r->at == '{');
    case '"':
        return read_string(r);
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

/* NULL: it cannot be understood. */
static json_t *
read_all(Reader *r, size_t flags)
{
    json_t *json = NULL;

    skip(r);
    if (r->at < r->end && ((flags & JSON_DECODE_ANY) != 0 || *r->at == '{' || *r->at == '['))
        json = read_value(r);
    skip(r);
    if (json != NULL && r->at == r->end)
        return json;
    json_decref(json);
    return NULL;
}

json_t *
json_loadb(const char *text, size_t length, size_t flags, json_error_t *error)
{
    Reader r = { .at = text, .end = text + length, .begin = text };
    json_t *json = json_recall(text, length, flags);

    if (json != NULL)
        return json;
    r.once = (flags & JSON_REJECT_DUPLICATES) != 0;
    bool freezes = json_freeze_begin(length);
    json = read_all(&r, flags);
    if (freezes)
        json = json_freeze_end(text, length, flags, json);
    if (json != NULL)
        return json;
    if (error != NULL) {
        *error = (json_error_t){ .line = 1, .position = (int)(r.at - r.begin) };
        g_strlcpy(error->text, "it cannot be understood", sizeof error->text);
        for (const char *at = text; at < r.at; at++)
            error->line += *at == '\n';
    }
    return NULL;
}

json_t *
json_loads(const char *text, size_t flags, json_error_t *error)
{
    return json_loadb(text, strlen(text), flags, error);
}

/* ---- checksums ---- */

static inline void
stir(uint64_t h[2], const char *text)
{
    uint64_t word;

    memcpy(&word, text, sizeof word);
    for (unsigned k = 0; k < 2; k++) {
        h[k] = (h[k] ^ word) * UINT64_C(0xBF58476D1CE4E5B9);
        h[k] ^= h[k] >> (29 + k);
    }
}

/* As long as a SHA-256, and as good against chance. */
char *
WRAP(g_compute_checksum_for_string)(GChecksumType type, const char *text, gssize length)
{
    uint64_t h[2] = { UINT64_C(0x9E3779B97F4A7C15), UINT64_C(0xD1342543DE82EF95) };
    size_t n = length < 0 ? strlen(text) : (size_t)length, i = 0;
    char rest[8] = "";

    (void)type;
    for (; i + 8 <= n; i += 8)
        stir(h, text + i);
    memcpy(rest, text + i, n - i);
    if (i < n)
        stir(h, rest);
    h[0] ^= n;
    return g_strdup_printf("%016" G_GINT64_MODIFIER "x%016" G_GINT64_MODIFIER
                           "x%016" G_GINT64_MODIFIER "x%016" G_GINT64_MODIFIER "x",
                           h[0], h[1], h[0] * 7 + h[1], h[1] * 11 + h[0]);
}
