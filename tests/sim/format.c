/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * g_strdup_printf() in the product's objects: paths, names, SQL. Nearly all is made of texts and
 * whole numbers; for those libc's does much that is not needed.
 */
#include <glib.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
#include <string.h>

#pragma GCC diagnostic ignored "-Wmissing-prototypes"
#define LONGEST 1024

typedef struct {
    char text[LONGEST];
    size_t length;
} Line;

static bool
put(Line *line, const char *text, size_t length)
{
    if (length > sizeof line->text - line->length)
        return false;
    memcpy(line->text + line->length, text, length);
    line->length += length;
    return true;
}

static bool
put_number(Line *line, uint64_t number, bool minus)
{
    char digits[24], *at = digits + sizeof digits;

    do
        *--at = (char)('0' + number % 10);
    while ((number /= 10) > 0);
    if (minus)
        *--at = '-';
    return put(line, at, (size_t)(digits + sizeof digits - at));
}

static bool
put_signed(Line *line, int64_t number)
{
    return put_number(line, number < 0 ? -(uint64_t)number : (uint64_t)number, number < 0);
}

/* format: behind a percent sign; where it goes on is put into it. False: libc must do it */
static bool
put_one(Line *line, const char **format, va_list *args)
{
    bool is_long = **format == 'l';
    char kind = *(*format += is_long);

    (*format)++;
    if (kind == 's' && !is_long) {
        const char *text = va_arg(*args, const char *);
        return text != NULL && put(line, text, strlen(text));
    }
    if (kind == 'd' || kind == 'i')
        return put_signed(line, is_long ? va_arg(*args, long) : va_arg(*args, int));
    if (kind == 'u')
        return put_number(line, is_long ? va_arg(*args, unsigned long) : va_arg(*args, unsigned),
                          false);
    return false;
}

static bool
put_all(Line *line, const char *format, va_list *args)
{
    for (;;) {
        const char *percent = strchrnul(format, '%');
        if (!put(line, format, (size_t)(percent - format)))
            return false;
        if (*percent == '\0')
            return put(line, "", 1);
        format = percent + 1;
        if (!put_one(line, &format, args))
            return false;
    }
}

char *
__wrap_g_strdup_printf(const char *format, ...)
{
    Line line;
    va_list args, again;

    line.length = 0;
    va_start(args, format);
    va_copy(again, args);
    char *text = put_all(&line, format, &args) ? g_memdup2(line.text, line.length)
                                               : g_strdup_vprintf(format, again);
    va_end(again);
    va_end(args);
    return text;
}
