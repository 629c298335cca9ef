/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * Aligned columns. Cells are escaped here, so no caller can forget it. The last column wraps
 * at words when a width is given and the text does not fit. Widths are those of a terminal: wide
 * characters count two, combining ones none.
 */
#pragma once

#include "base/cleanup.h"

typedef struct Table Table;

/* Headers; one that begins with '>' is aligned to the right. If all are empty none is printed. */
Table *table_new(const char *first_header, ...) G_GNUC_NULL_TERMINATED;
void table_free(Table *table);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(Table, table_free)
/* As many cells as there are headers; empty ones print as "-" where there is a header. */
void table_row(Table *table, ...);
unsigned table_rows(const Table *table);
/* width 0 = do not wrap; the caller frees the text */
char *table_text(const Table *table, unsigned width);
unsigned text_width(const char *text);
