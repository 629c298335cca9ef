/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "cli/table.h"
#include "cli/doc.h"

#include <string.h>

#define GAP 2
#define NARROWEST 20 /* a last column with less room than this is not wrapped */

struct Table {
    GPtrArray *headers;
    GPtrArray *cells; /* row after row */
    bool *right;
    bool titled;
};

Table *
table_new(const char *first_header, ...)
{
    Table *table = g_new0(Table, 1);
    va_list list;

    table->headers = g_ptr_array_new_with_free_func(g_free);
    table->cells = g_ptr_array_new_with_free_func(g_free);
    table->right = g_new0(bool, 32);
    va_start(list, first_header);
    for (const char *h = first_header; h != NULL; h = va_arg(list, const char *)) {
        g_assert(table->headers->len < 32);
        table->right[table->headers->len] = *h == '>';
        table->titled = table->titled || *h != '\0';
        g_ptr_array_add(table->headers, g_strdup(*h == '>' ? h + 1 : h));
    }
    va_end(list);
    return table;
}

void
table_free(Table *table)
{
    if (table == NULL)
        return;
    g_ptr_array_unref(table->headers);
    g_ptr_array_unref(table->cells);
    g_free(table->right);
    g_free(table);
}

void
table_row(Table *table, ...)
{
    va_list list;

    va_start(list, table);
    for (guint i = 0; i < table->headers->len; i++) {
        const char *cell = va_arg(list, const char *);
        bool empty = cell == NULL || *cell == '\0';
        g_ptr_array_add(table->cells,
                        empty ? g_strdup(table->titled ? "-" : "") : escape_text(cell, false));
    }
    va_end(list);
}

unsigned
table_rows(const Table *table)
{
    return table->cells->len / table->headers->len;
}

unsigned
text_width(const char *text)
{
    unsigned width = 0;

    for (; *text != '\0'; text = g_utf8_next_char(text)) {
        gunichar c = g_utf8_get_char(text);
        width += g_unichar_iszerowidth(c) ? 0 : g_unichar_iswide(c) ? 2 : 1;
    }
    return width;
}

static void
pad(GString *out, unsigned n)
{
    g_string_append_printf(out, "%*s", (int)n, "");
}

static void
append_wrapped(GString *out, const char *text, unsigned indent, unsigned width)
{
    g_auto(GStrv) words = g_strsplit(text, " ", -1);
    unsigned room = width > indent ? width - indent : 0;
    unsigned used = 0;

    if (room < NARROWEST || text_width(text) <= room) {
        g_string_append(out, text);
        return;
    }
    for (char **word = words; *word != NULL; word++) {
        unsigned w = text_width(*word);
        if (used > 0 && used + 1 + w > room) {
            g_string_append_c(out, '\n');
            pad(out, indent);
            used = 0;
        }
        g_string_append_printf(out, "%s%s", used > 0 ? " " : "", *word);
        used += w + (used > 0 ? 1 : 0);
    }
}

static void
append_row(GString *out, const Table *table, char **cells, const unsigned *widths, unsigned width)
{
    guint n = table->headers->len;
    unsigned indent = 0;

    for (guint i = 0; i < n; i++) {
        unsigned spare = widths[i] - text_width(cells[i]);
        if (i + 1 == n && !table->right[i]) {
            append_wrapped(out, cells[i], indent, width);
            break;
        }
        if (table->right[i])
            pad(out, spare);
        g_string_append(out, cells[i]);
        if (i + 1 < n)
            pad(out, (table->right[i] ? 0 : spare) + GAP);
        indent += widths[i] + GAP;
    }
    while (out->len > 0 && out->str[out->len - 1] == ' ')
        g_string_truncate(out, out->len - 1);
    g_string_append_c(out, '\n');
}

char *
table_text(const Table *table, unsigned width)
{
    GString *out = g_string_new(NULL);
    guint n = table->headers->len;
    g_autofree unsigned *widths = g_new0(unsigned, n);

    for (guint i = 0; i < n; i++)
        widths[i] = text_width(table->headers->pdata[i]);
    for (guint i = 0; i < table->cells->len; i++)
        widths[i % n] = MAX(widths[i % n], text_width(table->cells->pdata[i]));
    if (table->titled)
        append_row(out, table, (char **)table->headers->pdata, widths, width);
    for (guint i = 0; i < table->cells->len; i += n)
        append_row(out, table, (char **)table->cells->pdata + i, widths, width);
    return g_string_free(out, FALSE);
}
