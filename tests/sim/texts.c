/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * g_strdup() in the product's objects, of which a schedule has thousands: a VM is copied again and
 * again, and consists of texts. Nobody changes what it has given in place, so one text is enough;
 * what lies in a frozen tree is not of the heap, and free() leaves it alone.
 */
#include "json_tree.h"
#include "state.h"

#pragma GCC diagnostic ignored "-Wmissing-prototypes"

char *
__wrap_g_strdup(const char *text)
{
    return text == NULL || json_is_frozen(text) ? (char *)text : heap_text(text);
}
