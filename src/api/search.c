/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "api/search.h"

#include <string.h>

typedef enum { OP_EQ, OP_NE, OP_LT, OP_GT, OP_LE, OP_GE, OP_ANY } Op;

/* Fields of a search and where the documents have them: "vm.name" is a member of a member (of each
 * in a list), "=Default" is the same for all, "" is what a client may ask for and nothing has,
 * what begins with "~" is put there for the search alone, and "?false" is for those that have none.
 */
/* clang-format off */
static const struct { const char *kind, *field, *path; } fields[] = {
    { "vm", "name", "name" }, { "vm", "id", "id" }, { "vm", "status", "status" },
    { "vm", "description", "description" }, { "vm", "comment", "comment" },
    { "vm", "memory", "memory" }, { "vm", "type", "type" }, { "vm", "host", "host.name" },
    { "vm", "host.name", "host.name" }, { "vm", "cluster", "cluster.name" }, { "vm", "cluster.name", "cluster.name" },
    { "vm", "datacenter", "=Default" }, { "vm", "has_illegal_images", "has_illegal_images?false" },
    { "vm", "storage", "~storage" }, { "vm", "storage.name", "~storage" }, { "vm", "template", "=Blank" },
    { "vm", "template.name", "=Blank" }, { "vm", "next_run_config_exists", "next_run_configuration_exists" },
    { "vm", "os", "os.type" }, { "vm", "creationdate", "creation_time" }, { "vm", "uptime", "" }, { "vm", "fqdn", "fqdn" },
    { "vm", "ip", "" }, { "vm", "pool", "" }, { "vm", "tag", "" }, { "vm", "quota", "" }, { "vm", "users.name", "" },
    { "vm", "compatibility_level", "=4.7" }, { "vm", "architecture", "cpu.architecture" },
    { "disk", "name", "name" }, { "disk", "alias", "alias" }, { "disk", "id", "id" },
    { "disk", "status", "status" }, { "disk", "format", "format" }, { "disk", "description", "description" },
    { "disk", "provisioned_size", "provisioned_size" }, { "disk", "vm_names", "vms.vm.name" },
    { "disk", "vms.name", "vms.vm.name" }, { "disk", "disk_type", "storage_type" },
    { "disk", "storage", "storage_domains.storage_domain.name" },
    { "disk", "storage.name", "storage_domains.storage_domain.name" },
    { "disk", "datacenter", "=Default" }, { "disk", "bootable", "" }, { "disk", "shareable", "shareable" },
    { "disk", "wipe_after_delete", "wipe_after_delete" }, { "disk", "quota", "" },
    { "job", "correlation_id", "correlation_id" }, { "job", "status", "status" },
    { "job", "kind", "kind" }, { "job", "id", "id" },
    { "job", "vm", "vm.name" }, { "job", "vm.name", "vm.name" }, { "job", "vm.id", "vm.id" },
    { "event", "severity", "severity" }, { "event", "code", "code" }, { "event", "type", "code" },
    { "event", "message", "description" }, { "event", "time", "time" }, { "event", "id", "id" },
    { "event", "correlation_id", "correlation_id" }, { "event", "vm", "vm.name" },
    { "event", "vm.name", "vm.name" }, { "event", "vms.name", "vm.name" }, { "event", "event_vm", "vm.name" },
    { "event", "vm.id", "vm.id" }, { "event", "user", "user.name" }, { "event", "user.name", "user.name" },
    { "event", "usrname", "user.name" }, { "event", "event_host", "host.name" }, { "event", "event_datacenter", "data_center.name" },
    { "event", "datacenter", "data_center.name" },
    { "event", "host", "host.name" }, { "event", "host.name", "host.name" },
    { "event", "cluster", "cluster.name" }, { "event", "origin", "origin" }, { "event", "custom_id", "custom_id" },
    { "host", "name", "name" }, { "host", "id", "id" }, { "host", "status", "status" }, { "host", "type", "type" },
    { "host", "address", "address" }, { "host", "cluster", "cluster.name" }, { "host", "datacenter", "=Default" },
    { "host", "comment", "comment" }, { "host", "tag", "" },
    { "cluster", "name", "name" }, { "cluster", "id", "id" }, { "cluster", "description", "description" },
    { "cluster", "comment", "comment" }, { "cluster", "datacenter", "=Default" }, { "cluster", "datacenter.name", "=Default" },
    { "cluster", "architecture", "cpu.architecture" },
    { "data_center", "name", "name" }, { "data_center", "id", "id" },
    { "data_center", "status", "status" }, { "data_center", "description", "description" },
    { "data_center", "storage", "~storage" }, { "data_center", "storage.name", "~storage" },
    { "data_center", "clusters.name", "=Default" },
    { "storage_domain", "name", "name" }, { "storage_domain", "id", "id" }, { "storage_domain", "type", "type" },
    { "storage_domain", "status", "~status" }, { "storage_domain", "datacenter", "=Default" },
    { "storage_domain", "description", "description" }, { "storage_domain", "comment", "comment" },
    { "template", "name", "name" }, { "template", "id", "id" }, { "template", "status", "status" },
    { "template", "datacenter", "=Default" }, { "template", "cluster", "cluster.name" }, { "template", "vm.name", "" },
    { "template", "description", "description" },
    { "tag", "name", "name" }, { "tag", "id", "id" }, { "tag", "description", "description" },
    /* of what there is none */
    { "none", "name", "" }, { "none", "id", "" }, { "none", "description", "" }, { "none", "comment", "" },
    { "none", "status", "" }, { "none", "type", "" }, { "none", "datacenter", "" }, { "none", "cluster", "" },
    { "none", "vm.name", "" },
    { "user", "name", "name" }, { "user", "usrname", "user_name" }, { "user", "role", "role" },
    { "session", "id", "id" }, { "session", "kind", "kind" }, { "session", "address", "address" },
};
/* clang-format on */

typedef struct {
    const char *path; /* NULL = any text */
    Op op;
    char *value;             /* as compared: in lower case unless case matters */
    bool starts_alternative; /* an "or" stood before it */
} Term;

struct Search {
    GPtrArray *terms;
    const char *sort; /* path; NULL = as they come */
    bool descending;
    int64_t page; /* from 1; 0 = not given */
    bool case_sensitive;
    const char *kind;
};

static void
term_free(Term *term)
{
    g_free(term->value);
    g_free(term);
}

void
search_free(Search *search)
{
    if (search == NULL)
        return;
    g_ptr_array_free(search->terms, TRUE);
    g_free(search);
}

/* ---- words ---- */

typedef struct {
    const char *at;
    char *text; /* NULL = the end */
    bool quoted;
    bool op;
} Word;

static bool
is_op_char(char c)
{
    return c != '\0' && strchr("=!<>", c) != NULL;
}

static bool
word_next(Word *word, GError **error)
{
    const char *p = word->at + strspn(word->at, " \t\r\n");
    const char *end = p;

    g_clear_pointer(&word->text, g_free);
    word->quoted = *p == '"';
    word->op = is_op_char(*p);
    if (*p == '\0')
        return true;
    if (word->quoted) {
        end = strchr(++p, '"');
        if (end == NULL)
            return error_set(error, ERR_INVALID, "search: the closing quote is missing");
        word->at = end + 1;
    } else {
        while (*end != '\0' && !g_ascii_isspace(*end) && *end != '"' &&
               is_op_char(*end) == word->op)
            end++;
        word->at = end;
    }
    word->text = g_strndup(p, (gsize)(end - p));
    return true;
}

static bool
word_is(const Word *word, const char *keyword)
{
    return word->text != NULL && !word->quoted && !word->op &&
           g_ascii_strcasecmp(word->text, keyword) == 0;
}

/* ---- parsing ---- */

static bool
field_path(const char *kind, const char *field, const char **ret_path, GError **error)
{
    for (size_t i = 0; i < G_N_ELEMENTS(fields); i++) {
        if (g_str_equal(fields[i].kind, kind) && g_ascii_strcasecmp(fields[i].field, field) == 0) {
            *ret_path = fields[i].path;
            return true;
        }
    }
    return error_set(error, ERR_INVALID, "search: a %s has no field '%.60s' to search by", kind,
                     field);
}

static bool
op_from_word(const char *text, Op *ret_op, GError **error)
{
    static const char *const words[] = { "=", "!=", "<", ">", "<=", ">=" };

    for (unsigned op = 0; op < G_N_ELEMENTS(words); op++) {
        if (g_str_equal(words[op], text)) {
            *ret_op = (Op)op;
            return true;
        }
    }
    return error_set(error, ERR_INVALID, "search: unknown operator '%.10s'", text);
}

static char *
folded(const Search *search, const char *text)
{
    return search->case_sensitive ? g_strdup(text) : g_utf8_strdown(text, -1);
}

static bool
parse_term(Search *search, Word *word, bool alternative, GError **error)
{
    g_autofree char *first = g_steal_pointer(&word->text);
    bool quoted = word->quoted;
    Term *term = g_new0(Term, 1);

    g_ptr_array_add(search->terms, term);
    term->starts_alternative = alternative;
    if (!word_next(word, error))
        return false;
    if (quoted || word->text == NULL || !word->op) { /* a bare word */
        term->op = OP_ANY;
        term->value = folded(search, first);
        return true;
    }
    if (!field_path(search->kind, first, &term->path, error) ||
        !op_from_word(word->text, &term->op, error) || !word_next(word, error))
        return false;
    if (word->text == NULL || word->op)
        return error_set(error, ERR_INVALID, "search: a value is missing after '%.60s'", first);
    term->value = folded(search, word->text);
    return word_next(word, error);
}

static bool
parse_sort(Search *search, Word *word, GError **error)
{
    if (!word_next(word, error))
        return false;
    if (word->text == NULL)
        return error_set(error, ERR_INVALID, "search: a field is missing after sortby");
    if (!field_path(search->kind, word->text, &search->sort, error) || !word_next(word, error))
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
parse_all(Search *search, Word *word, GError **error)
{
    bool joined = true, alternative = false; /* what stood before the next term */

    while (word->text != NULL) {
        if (word_is(word, "sortby") || word_is(word, "page")) {
            bool sort = word_is(word, "sortby");
            if (!(sort ? parse_sort : parse_page)(search, word, error))
                return false;
        } else if (word_is(word, "and") || word_is(word, "or")) {
            if (joined)
                return error_set(error, ERR_INVALID, "search: a term is missing before '%s'",
                                 word->text);
            joined = true;
            alternative = word_is(word, "or");
            if (!word_next(word, error))
                return false;
            if (word->text == NULL)
                return error_set(error, ERR_INVALID, "search: it ends in 'and' or 'or'");
        } else if (word->op) {
            return error_set(error, ERR_INVALID, "search: a field is missing before '%.10s'",
                             word->text);
        } else { /* terms without a word between them are joined by "and" */
            if (!parse_term(search, word, alternative, error))
                return false;
            joined = alternative = false;
        }
    }
    return true;
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

    search->terms = g_ptr_array_new_with_free_func((GDestroyNotify)term_free);
    search->kind = kind;
    search->case_sensitive = case_sensitive;
    if (!g_utf8_validate(text, -1, NULL)) {
        error_set(error, ERR_INVALID, "search: it is not valid UTF-8");
        search_free(search);
        return NULL;
    }
    bool good = word_next(&word, error) && parse_all(search, &word, error);
    g_free(word.text);
    if (good)
        return search;
    search_free(search);
    return NULL;
}

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

/* The values as texts; empty = the document has none. */
static GPtrArray *
values_at(const json_t *document, const char *path)
{
    GPtrArray *texts = g_ptr_array_new_with_free_func(g_free);
    g_auto(GStrv) with_default = g_strsplit(path, "?", 2);
    g_auto(GStrv) names = g_strsplit(*path != '\0' ? with_default[0] : "", ".", -1);

    if (*path == '=')
        g_ptr_array_add(texts, g_strdup(path + 1));
    else if (*path != '\0')
        collect(texts, document, names);
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
any_text_matches(const Search *search, const Term *term, const json_t *document)
{
    for (size_t i = 0; i < G_N_ELEMENTS(fields); i++) {
        if (!g_str_equal(fields[i].kind, search->kind))
            continue;
        g_autoptr(GPtrArray) texts =
            *fields[i].path != '=' ? values_at(document, fields[i].path) : g_ptr_array_new();
        for (guint k = 0; k < texts->len; k++) {
            g_autofree char *text = folded(search, texts->pdata[k]);
            if (glob_match(term->value, text))
                return true;
        }
    }
    return false;
}

static bool
value_matches(const Term *term, const char *text)
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
term_matches(const Search *search, const Term *term, const json_t *document)
{
    if (term->op == OP_ANY)
        return any_text_matches(search, term, document);

    g_autoptr(GPtrArray) texts = values_at(document, term->path);
    for (guint i = 0; i < texts->len; i++) {
        g_autofree char *text = folded(search, texts->pdata[i]);
        if (value_matches(term, text))
            return term->op != OP_NE;
    }
    return term->op == OP_NE;
}

bool
search_match(const Search *search, const json_t *document)
{
    bool all = true;

    for (guint i = 0; i < search->terms->len; i++) {
        const Term *term = search->terms->pdata[i];
        if (term->starts_alternative) {
            if (all)
                return true;
            all = true;
        }
        all = all && term_matches(search, term, document);
    }
    return all;
}

static int
compare_documents(const void *a, const void *b, void *data)
{
    const Search *search = data;
    g_autoptr(GPtrArray) x = values_at(*(json_t *const *)a, search->sort);
    g_autoptr(GPtrArray) y = values_at(*(json_t *const *)b, search->sort);
    int order = compare_values(x->len > 0 ? x->pdata[0] : "", y->len > 0 ? y->pdata[0] : "");

    return search->descending ? -order : order;
}

json_t *
search_apply(const Search *search, const json_t *documents, int64_t max)
{
    g_autoptr(GPtrArray) found = g_ptr_array_new(); /* borrowed from documents */
    json_t *result = json_array();
    json_t *document;
    size_t i;

    json_array_foreach (documents, i, document) {
        if (search_match(search, document))
            g_ptr_array_add(found, document);
    }
    if (search->sort != NULL)
        g_ptr_array_sort_with_data(found, compare_documents, (void *)search);

    /* a page without max holds a hundred, as in oVirt */
    int64_t size = max >= 0 ? max : search->page > 0 ? 100 : (int64_t)found->len;
    int64_t first = search->page > 1 ? (search->page - 1) * size : 0;
    for (int64_t n = first; n < first + size && n < found->len; n++)
        json_array_append(result, found->pdata[n]);
    return result;
}
