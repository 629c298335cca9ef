/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "json_tree.h"

#include <glib.h>
#include <stdarg.h>
#include <string.h>

#pragma GCC diagnostic ignored "-Wmissing-prototypes"

typedef struct {
    const char *at;
    va_list args;
    bool failed;
} Format;

static bool
is_between(char c)
{
    return c == ' ' || c == ',' || c == ':' || c == '\n' || c == '\t';
}

static char
next(Format *f)
{
    while (is_between(*f->at))
        f->at++;
    return *f->at != '\0' ? *f->at++ : '\0';
}

static bool
take(Format *f, char c)
{
    if (*f->at != c)
        return false;
    f->at++;
    return true;
}

/* ---- packing ---- */

static json_t *pack(Format *f, char what);

static json_t *
pack_object(Format *f)
{
    json_t *object = json_object();
    char what;

    while ((what = next(f)) != '}') {
        g_assert(what == 's');
        const char *key = va_arg(f->args, const char *);
        json_t *value = pack(f, next(f));
        if (value != NULL && json_object_set_new(object, key, value) < 0)
            f->failed = true;
    }
    return object;
}

static json_t *
pack_array(Format *f)
{
    json_t *array = json_array();
    char what;

    while ((what = next(f)) != ']') {
        json_t *value = pack(f, what);
        if (value != NULL)
            json_array_append_new(array, value);
    }
    return array;
}

/* "?": null if there is none; "*": nothing at all */
static json_t *
or_nothing(Format *f, json_t *value)
{
    bool null = take(f, '?'), nothing = !null && take(f, '*');

    if (value != NULL || nothing)
        return value;
    f->failed = f->failed || !null;
    return json_null();
}

/* NULL: it is left out. */
static json_t *
pack(Format *f, char what)
{
    switch (what) {
    case '{':
        return pack_object(f);
    case '[':
        return pack_array(f);
    case 's':
        return or_nothing(f, json_string(va_arg(f->args, const char *)));
    case 'o':
        return or_nothing(f, va_arg(f->args, json_t *));
    case 'O':
        return or_nothing(f, json_incref(va_arg(f->args, json_t *)));
    case 'i':
        return json_integer(va_arg(f->args, int));
    case 'I':
        return json_integer(va_arg(f->args, json_int_t));
    case 'f':
        return json_real(va_arg(f->args, double));
    case 'b':
        return va_arg(f->args, int) ? json_true() : json_false();
    case 'n':
        return json_null();
    default:
        g_error("json_pack: what is '%c'?", what);
    }
}

json_t *
json_pack(const char *format, ...)
{
    Format f = { .at = format };

    va_start(f.args, format);
    json_t *json = pack(&f, next(&f));
    va_end(f.args);
    if (!f.failed)
        return json;
    json_decref(json);
    return NULL;
}

/* ---- unpacking: texts in objects ---- */

static bool
unpack(Format *f, const json_t *json, char what)
{
    if (what == 's') {
        const char **ret = va_arg(f->args, const char **);
        if (!json_is_string(json))
            return false;
        *ret = json_string_value(json);
        return true;
    }
    if (what != '{')
        g_error("json_unpack: what is '%c'?", what);
    while ((what = next(f)) != '}') {
        const char *key = va_arg(f->args, const char *);
        if (!unpack(f, json_object_get(json, key), next(f)))
            return false;
    }
    return true;
}

int
json_unpack(json_t *json, const char *format, ...)
{
    Format f = { .at = format };

    va_start(f.args, format);
    bool ok = unpack(&f, json, next(&f));
    va_end(f.args);
    return ok ? 0 : -1;
}
