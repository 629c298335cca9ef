/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "api/search.h"

#include "api/search_tree.h"

#include <string.h>

/* ---- matching ---- */

/* NULL = it has none */
static char *
scalar_text(const json_t *value)
{
    if (json_is_string(value))
        return g_strdup(json_string_value(value));
    if (json_is_integer(value))
        return g_strdup_printf("%" JSON_INTEGER_FORMAT, json_integer_value(value));
    if (json_is_boolean(value))
        return g_strdup(json_is_true(value) ? "true" : "false");
    return NULL;
}

static void
collect(GPtrArray *texts, const json_t *value, char *const *names)
{
    const json_t *member;
    size_t i;

    if (json_is_array(value)) {
        json_array_foreach ((json_t *)value, i, member)
            collect(texts, member, names);
    } else if (*names != NULL) {
        collect(texts, json_object_get(value, *names), names + 1);
    } else {
        char *text = scalar_text(value);
        if (text != NULL)
            g_ptr_array_add(texts, text);
    }
}

/* A document, and what is told beside it for the search alone; that may be NULL. Borrowed. */
typedef struct {
    json_t *document;
    const json_t *beside;
} Candidate;

/* The values as texts; empty = the document has none. */
static GPtrArray *
values_at(const Candidate *candidate, const char *path)
{
    const json_t *holder = *path == '~' ? candidate->beside : candidate->document;
    GPtrArray *texts = g_ptr_array_new_with_free_func(g_free);
    g_auto(GStrv) with_default = g_strsplit(path, "?", 2);
    g_auto(GStrv) names =
        g_strsplit(*path != '\0' ? with_default[0] + (*path == '~') : "", ".", -1);

    if (*path == '=')
        g_ptr_array_add(texts, g_strdup(path + 1));
    else if (*path != '\0')
        collect(texts, holder, names);
    if (texts->len == 0 && *path != '\0' && with_default[1] != NULL)
        g_ptr_array_add(texts, g_strdup(with_default[1]));
    return texts;
}

/* "*" stands for any text. Not recursive: the pattern is the user's. */
static bool
glob_match(const char *pattern, const char *text)
{
    const char *star = NULL, *retry = NULL;

    while (*text != '\0') {
        if (*pattern == '*') {
            star = ++pattern;
            retry = text;
        } else if (*pattern == *text) {
            pattern++;
            text++;
        } else if (star != NULL) {
            pattern = star;
            text = ++retry;
        } else {
            return false;
        }
    }
    return pattern[strspn(pattern, "*")] == '\0';
}

static int
severity_rank(const char *text)
{
    static const char *const words[] = { "normal", "warning", "error", "alert" };

    for (int i = 0; i < (int)G_N_ELEMENTS(words); i++)
        if (g_ascii_strcasecmp(words[i], text) == 0)
            return i;
    return -1;
}

/* Numbers by size, severities by weight, all else as texts. */
static int
compare_values(const char *a, const char *b)
{
    gint64 x, y;

    if (g_ascii_string_to_signed(a, 10, G_MININT64, G_MAXINT64, &x, NULL) &&
        g_ascii_string_to_signed(b, 10, G_MININT64, G_MAXINT64, &y, NULL))
        return (x > y) - (x < y);
    if (severity_rank(a) >= 0 && severity_rank(b) >= 0)
        return severity_rank(a) - severity_rank(b);
    return strcmp(a, b);
}

static bool
is_number(const char *text)
{
    return g_ascii_string_to_signed(text, 10, G_MININT64, G_MAXINT64, NULL, NULL);
}

static bool
any_text_matches(const Search *search, const SearchTerm *term, const Candidate *candidate)
{
    for (const SearchField *row = search_fields; row->kind != NULL; row++) {
        if (!g_str_equal(row->kind, search->kind))
            continue;
        g_autoptr(GPtrArray) texts =
            *row->path != '=' ? values_at(candidate, row->path) : g_ptr_array_new();
        for (guint k = 0; k < texts->len; k++) {
            g_autofree char *text = search_folded(search, texts->pdata[k]);
            if (glob_match(term->value, text))
                return true;
        }
    }
    return false;
}

static bool
value_matches(const SearchTerm *term, const char *text)
{
    if (term->op == OP_EQ || term->op == OP_NE)
        return glob_match(term->value, text);
    if (is_number(text) && !is_number(term->value))
        return false; /* "memory > 1GB" */
    int order = compare_values(text, term->value);
    return (term->op == OP_LT && order < 0) || (term->op == OP_GT && order > 0) ||
           (term->op == OP_LE && order <= 0) || (term->op == OP_GE && order >= 0);
}

/* One of several values is enough; "is not" means that none is. */
static bool
term_matches(const Search *search, const SearchTerm *term, const Candidate *candidate)
{
    if (term->op == OP_ANY)
        return any_text_matches(search, term, candidate);

    g_autoptr(GPtrArray) texts = values_at(candidate, term->path);
    for (guint i = 0; i < texts->len; i++) {
        g_autofree char *text = search_folded(search, texts->pdata[i]);
        if (value_matches(term, text))
            return term->op != OP_NE;
    }
    return term->op == OP_NE;
}

static bool
node_matches(const Search *search, const SearchNode *node, const Candidate *candidate)
{
    bool any = node->kind == NODE_ANY;

    if (node->kind == NODE_TERM)
        return term_matches(search, &node->term, candidate);
    for (guint i = 0; i < node->parts->len; i++)
        if (node_matches(search, node->parts->pdata[i], candidate) == any)
            return any;
    return !any;
}

/* ---- what is found ---- */

static int
compare_candidates(const void *a, const void *b, void *data)
{
    const Search *search = data;
    g_autoptr(GPtrArray) x = values_at(a, search->sort);
    g_autoptr(GPtrArray) y = values_at(b, search->sort);
    int order = compare_values(x->len > 0 ? x->pdata[0] : "", y->len > 0 ? y->pdata[0] : "");

    return search->descending ? -order : order;
}

json_t *
search_apply(const Search *search, const json_t *documents, const json_t *beside, int64_t max)
{
    g_autoptr(GArray) found = g_array_new(FALSE, FALSE, sizeof(Candidate));
    json_t *result = json_array();
    json_t *document;
    size_t i;

    json_array_foreach ((json_t *)documents, i, document) {
        const Candidate candidate = { document, json_array_get(beside, i) };
        if (search->root == NULL || node_matches(search, search->root, &candidate))
            g_array_append_val(found, candidate);
    }
    if (search->sort != NULL)
        g_array_sort_with_data(found, compare_candidates, (void *)search);

    /* a page without max holds a hundred, as in oVirt */
    int64_t size = max >= 0 ? max : search->page > 0 ? 100 : (int64_t)found->len;
    int64_t first = search->page > 1 ? (search->page - 1) * size : 0;
    for (int64_t n = first; n < first + size && n < found->len; n++)
        json_array_append(result, g_array_index(found, Candidate, n).document);
    return result;
}
