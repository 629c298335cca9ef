/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * g_strdup_printf() in the product's objects: paths, names, SQL. Nearly all is made of texts and
 * whole numbers, some with zeros in front; for those libc's does much that is not needed.
 */
#include <glib.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
#include <string.h>

#pragma GCC diagnostic ignored "-Wmissing-prototypes"
#define LONGEST 1024
#define DIGITS 32

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

/* At least so many digits, with zeros in front */
static bool
put_number(Line *line, uint64_t number, unsigned base, unsigned least)
{
    char digits[DIGITS], *at = digits + sizeof digits, *enough = at - least;

    do {
        *--at = "0123456789abcdef"[base == 16 ? number & 15 : number % 10];
        number = base == 16 ? number >> 4 : number / 10;
    } while (number > 0);
    while (at > enough)
        *--at = '0';
    return put(line, at, (size_t)(digits + sizeof digits - at));
}

static bool
put_signed(Line *line, int64_t number, unsigned least)
{
    if (number >= 0)
        return put_number(line, (uint64_t)number, 10, least);
    return least == 0 && put(line, "-", 1) && put_number(line, -(uint64_t)number, 10, 0);
}

/* 0N; anything else is left to be refused */
static unsigned
least_digits(const char **format)
{
    unsigned least = 0;

    if (**format != '0')
        return 0;
    while (**format >= '0' && **format <= '9' && least < DIGITS / 10)
        least = least * 10 + (unsigned)(*(*format)++ - '0');
    return least;
}

/* format: behind a percent sign; where it goes on is put into it. False: libc must do it */
static bool
put_one(Line *line, const char **format, va_list *args)
{
    unsigned least = least_digits(format);
    bool is_long = **format == 'l';
    char kind = *(*format += is_long);

    (*format)++;
    if (kind == 's' && !is_long && least == 0) {
        const char *text = va_arg(*args, const char *);
        return text != NULL && put(line, text, strlen(text));
    }
    if (kind == 'd' || kind == 'i')
        return put_signed(line, is_long ? va_arg(*args, long) : va_arg(*args, int), least);
    if (kind == 'u' || kind == 'x')
        return put_number(line, is_long ? va_arg(*args, unsigned long) : va_arg(*args, unsigned),
                          kind == 'x' ? 16 : 10, least);
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
