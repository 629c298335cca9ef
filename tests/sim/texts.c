/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * g_strdup() in the product's objects, of which a schedule has thousands: a VM is copied again and
 * again, and consists of texts. Nobody changes what it has given in place, so one text is enough;
 * what lies in a frozen tree is not of the heap, and free() leaves it alone. And g_str_hash(): the
 * same numbers, so that tables have the same order, in half of the time.
 */
#include "json_tree.h"
#include "state.h"

#include <glib.h>
#include <string.h>

#pragma GCC diagnostic ignored "-Wmissing-prototypes"

char *
__wrap_g_strdup(const char *text)
{
    return text == NULL || json_is_frozen(text) ? (char *)text : heap_text(text);
}

/* 33 times what there was, plus the next one, for each character: of four at a time */
guint
__wrap_g_str_hash(const void *text)
{
    const signed char *c = text;
    size_t n = strlen(text);
    guint h = 5381;

    for (; n >= 4; n -= 4, c += 4)
        h = h * (33 * 33 * 33 * 33) + (guint)c[0] * (33 * 33 * 33) + (guint)c[1] * (33 * 33) +
            (guint)c[2] * 33 + (guint)c[3];
    for (; n > 0; n--, c++)
        h = h * 33 + (guint)*c;
    return h;
}
