/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * From the text of a search to its tree.
 */
#include "api/search_tree.h"

#include <string.h>

#define MOST_DEPTH 50 /* of parentheses: each is a call of each function here */

/* ---- the tree ---- */

static void
node_free(SearchNode *node)
{
    g_free(node->term.value);
    g_clear_pointer(&node->parts, g_ptr_array_unref);
    g_free(node);
}

G_DEFINE_AUTOPTR_CLEANUP_FUNC(SearchNode, node_free)

static SearchNode *
node_new(int kind)
{
    SearchNode *node = g_new0(SearchNode, 1);

    node->kind = kind;
    if (kind != NODE_TERM)
        node->parts = g_ptr_array_new_with_free_func((GDestroyNotify)node_free);
    return node;
}

void
search_free(Search *search)
{
    if (search == NULL)
        return;
    g_clear_pointer(&search->root, node_free);
    g_free(search);
}

char *
search_folded(const Search *search, const char *text)
{
    return search->case_sensitive ? g_strdup(text) : g_utf8_strdown(text, -1);
}

/* ---- words ---- */

typedef struct {
    const char *at;
    char *text; /* NULL = the end */
    bool quoted;
    bool op;
    bool parenthesis;
    int depth; /* of those that are open */
} Word;

static bool
is_op_char(char c)
{
    return c != '\0' && strchr("=!<>", c) != NULL;
}

static bool
is_joint(const char *p, const char *end)
{
    return (end - p == 3 && g_ascii_strncasecmp(p, "and", 3) == 0) ||
           (end - p == 2 && g_ascii_strncasecmp(p, "or", 2) == 0);
}

/* A name may hold parentheses: "web(old)" is one word, but "web)" ends before what was not opened
 * in it, and so does "and(". */
static const char *
bare_end(const char *start, bool value)
{
    const char *p = start;
    int open = 0;

    for (; *p != '\0' && !g_ascii_isspace(*p) && *p != '"' && !is_op_char(*p); p++) {
        if ((*p == ')' && open == 0) || (*p == '(' && !value && is_joint(start, p)))
            break;
        open += (*p == '(') - (*p == ')');
    }
    return p;
}

/* value: what comes is compared with, so that an opening parenthesis is a part of it. */
static bool
word_read(Word *word, bool value, GError **error)
{
    const char *p = word->at + strspn(word->at, " \t\r\n");
    const char *end = p + 1;

    g_clear_pointer(&word->text, g_free);
    word->quoted = *p == '"';
    word->op = is_op_char(*p);
    word->parenthesis = *p == ')' || (*p == '(' && !value);
    if (*p == '\0')
        return true;
    if (word->quoted) {
        end = strchr(++p, '"');
        if (end == NULL)
            return error_set(error, ERR_INVALID, "search: the closing quote is missing");
    } else if (word->op) {
        end = p + strspn(p, "=!<>");
    } else if (!word->parenthesis) {
        end = bare_end(p, value);
    }
    word->at = end + (word->quoted ? 1 : 0);
    word->text = g_strndup(p, (gsize)(end - p));
    return true;
}

static bool
word_next(Word *word, GError **error)
{
    return word_read(word, false, error);
}

static bool
word_is(const Word *word, const char *keyword)
{
    return word->text != NULL && !word->quoted && !word->op &&
           g_ascii_strcasecmp(word->text, keyword) == 0;
}

/* ---- terms ---- */

static bool
op_from_word(const char *text, SearchOp *ret_op, GError **error)
{
    static const char *const words[] = { "=", "!=", "<", ">", "<=", ">=" };

    for (unsigned op = 0; op < G_N_ELEMENTS(words); op++) {
        if (g_str_equal(words[op], text)) {
            *ret_op = (SearchOp)op;
            return true;
        }
    }
    return error_set(error, ERR_INVALID, "search: unknown operator '%.10s'", text);
}

static bool
parse_term(const Search *search, Word *word, SearchNode *node, GError **error)
{
    g_autofree char *first = g_steal_pointer(&word->text);
    bool quoted = word->quoted;
    SearchTerm *term = &node->term;

    if (!word_next(word, error))
        return false;
    if (quoted || word->text == NULL || !word->op) { /* a bare word */
        term->op = OP_ANY;
        term->value = search_folded(search, first);
        return true;
    }
    if (!search_field(search->kind, first, &term->path, error) ||
        !op_from_word(word->text, &term->op, error) || !word_read(word, true, error))
        return false;
    if (word->text == NULL || word->op || word->parenthesis)
        return error_set(error, ERR_INVALID, "search: a value is missing after '%.60s'", first);
    term->value = search_folded(search, word->text);
    return word_next(word, error);
}

/* ---- what joins them ---- */

static bool
ends_terms(const Word *word)
{
    return word->text == NULL || word_is(word, "sortby") || word_is(word, "page") ||
           word_is(word, ")");
}

static SearchNode *parse_any(const Search *search, Word *word, GError **error);

static SearchNode *
parse_group(const Search *search, Word *word, GError **error)
{
    g_autoptr(SearchNode) inner = NULL;

    if (++word->depth > MOST_DEPTH) {
        error_set(error, ERR_INVALID, "search: more than %d parentheses are open", MOST_DEPTH);
        return NULL;
    }
    if (!word_next(word, error) || (inner = parse_any(search, word, error)) == NULL)
        return NULL;
    word->depth--;
    if (!word_is(word, ")")) {
        error_set(error, ERR_INVALID, "search: a closing parenthesis is missing%s%.60s",
                  word->text != NULL ? " before " : "", word->text != NULL ? word->text : "");
        return NULL;
    }
    return word_next(word, error) ? g_steal_pointer(&inner) : NULL;
}

static SearchNode *
parse_part(const Search *search, Word *word, GError **error)
{
    if (word->op || word_is(word, "and") || word_is(word, "or") || ends_terms(word)) {
        const char *before = word->text == NULL ? "the end" : word->text;
        error_set(error, ERR_INVALID, "search: a %s is missing before %.60s",
                  word->op ? "field" : "term", before);
        return NULL;
    }
    if (word_is(word, "("))
        return parse_group(search, word, error);
    g_autoptr(SearchNode) node = node_new(NODE_TERM);
    return parse_term(search, word, node, error) ? g_steal_pointer(&node) : NULL;
}

/* Terms without a word between them are joined by "and". */
static SearchNode *
parse_all(const Search *search, Word *word, GError **error)
{
    g_autoptr(SearchNode) all = node_new(NODE_ALL);

    do {
        if (word_is(word, "and") && all->parts->len > 0 && !word_next(word, error))
            return NULL;
        SearchNode *part = parse_part(search, word, error);
        if (part == NULL)
            return NULL;
        g_ptr_array_add(all->parts, part);
    } while (!ends_terms(word) && !word_is(word, "or"));
    return g_steal_pointer(&all);
}

static SearchNode *
parse_any(const Search *search, Word *word, GError **error)
{
    g_autoptr(SearchNode) any = node_new(NODE_ANY);

    do {
        if (word_is(word, "or") && any->parts->len > 0 && !word_next(word, error))
            return NULL;
        SearchNode *part = parse_all(search, word, error);
        if (part == NULL)
            return NULL;
        g_ptr_array_add(any->parts, part);
    } while (word_is(word, "or"));
    return g_steal_pointer(&any);
}

/* ---- what stands behind them ---- */

static bool
parse_sort(Search *search, Word *word, GError **error)
{
    if (!word_next(word, error))
        return false;
    if (word->text == NULL)
        return error_set(error, ERR_INVALID, "search: a field is missing after sortby");
    if (!search_field(search->kind, word->text, &search->sort, error) || !word_next(word, error))
        return false;
    search->descending = word_is(word, "desc");
    return (!word_is(word, "asc") && !search->descending) || word_next(word, error);
}

static bool
parse_page(Search *search, Word *word, GError **error)
{
    if (!word_next(word, error))
        return false;
    if (word->text == NULL ||
        !g_ascii_string_to_signed(word->text, 10, 1, 1000000, &search->page, NULL))
        return error_set(error, ERR_INVALID, "search: a number from 1 is missing after page");
    return word_next(word, error);
}

static bool
parse_whole(Search *search, Word *word, GError **error)
{
    if (!word_next(word, error))
        return false;
    if (!ends_terms(word) && (search->root = parse_any(search, word, error)) == NULL)
        return false;
    while (word_is(word, "sortby") || word_is(word, "page"))
        if (!(word_is(word, "sortby") ? parse_sort : parse_page)(search, word, error))
            return false;
    return word->text == NULL ||
           error_set(error, ERR_INVALID,
                     word_is(word, ")") ? "search: a parenthesis was not opened before '%.60s'"
                                        : "search: '%.60s' cannot come after sortby or page",
                     word->text);
}

/* "Vms: name=x" */
static const char *
skip_prefix(const char *text)
{
    const char *p = text + strspn(text, " \t");
    size_t letters = strspn(p, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz_");

    return letters > 0 && p[letters] == ':' ? p + letters + 1 : text;
}

Search *
search_parse(const char *kind, const char *text, bool case_sensitive, GError **error)
{
    Search *search = g_new0(Search, 1);
    Word word = { .at = skip_prefix(text) };

    search->kind = kind;
    search->case_sensitive = case_sensitive;
    if (!g_utf8_validate(text, -1, NULL)) {
        error_set(error, ERR_INVALID, "search: it is not valid UTF-8");
        search_free(search);
        return NULL;
    }
    bool good = parse_whole(search, &word, error);
    g_free(word.text);
    if (good)
        return search;
    search_free(search);
    return NULL;
}
