/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "api/xml.h"

#include <libxml/parser.h>
#include <libxml/parserInternals.h>
#include <libxml/tree.h>
#include <string.h>

G_DEFINE_AUTOPTR_CLEANUP_FUNC(xmlParserCtxt, xmlFreeParserCtxt)
G_DEFINE_AUTOPTR_CLEANUP_FUNC(xmlDoc, xmlFreeDoc)

void
xml_init(void)
{
    xmlInitParser();
}

/* What members of a wrapper are called where it is not the name without its "s". */
static const struct {
    const char *plural, *singular;
} irregular[] = {
    { "volumes_removed", "volume" },
    { "classes", "class" },
    { "branches", "branch" },
};

/* NULL if the name is not a plural. The caller frees it. */
static char *
singular_of(const char *name)
{
    size_t length = strlen(name);

    for (size_t i = 0; i < G_N_ELEMENTS(irregular); i++)
        if (g_str_equal(name, irregular[i].plural))
            return g_strdup(irregular[i].singular);
    if (length > 3 && g_str_has_suffix(name, "ies"))
        return g_strdup_printf("%.*sy", (int)length - 3, name);
    if (length > 1 && name[length - 1] == 's' && name[length - 2] != 's')
        return g_strndup(name, length - 1);
    return NULL;
}

/* ---- writing ---- */

static bool
is_attribute(const char *key, const json_t *value)
{
    return json_is_string(value) &&
           (g_str_equal(key, "id") || g_str_equal(key, "href") || g_str_equal(key, "rel"));
}

/* XML 1.0 has no words for most control characters: they become U+FFFD. */
static void
put_escaped(GString *out, const char *text)
{
    for (const char *p = text; *p != '\0'; p = g_utf8_next_char(p)) {
        gunichar c = g_utf8_get_char(p);
        if (c == '<')
            g_string_append(out, "&lt;");
        else if (c == '>')
            g_string_append(out, "&gt;");
        else if (c == '&')
            g_string_append(out, "&amp;");
        else if (c == '"')
            g_string_append(out, "&quot;");
        else if (c == '\t' || c == '\n' || c == '\r')
            g_string_append_printf(out, "&#%u;", c);
        else if (c < 0x20 || c == 0xfffe || c == 0xffff)
            g_string_append_unichar(out, 0xfffd);
        else
            g_string_append_unichar(out, c);
    }
}

static void
put_scalar(GString *out, const json_t *value)
{
    char number[G_ASCII_DTOSTR_BUF_SIZE];

    if (json_is_string(value))
        put_escaped(out, json_string_value(value));
    else if (json_is_integer(value))
        g_string_append_printf(out, "%" JSON_INTEGER_FORMAT, json_integer_value(value));
    else if (json_is_real(value))
        g_string_append(out,
                        g_ascii_formatd(number, sizeof number, "%.15g", json_real_value(value)));
    else if (json_is_boolean(value))
        g_string_append(out, json_is_true(value) ? "true" : "false");
}

static void put_member(GString *out, const char *name, const json_t *value);

static void
put_array(GString *out, const char *name, const json_t *array)
{
    g_autofree char *single = singular_of(name);
    const json_t *item;
    size_t i;

    if (single != NULL && json_array_size(array) == 0) {
        g_string_append_printf(out, "<%s/>", name);
        return;
    }
    if (single != NULL)
        g_string_append_printf(out, "<%s>", name);
    json_array_foreach (array, i, item) {
        put_member(out, single != NULL ? single : name, item);
    }
    if (single != NULL)
        g_string_append_printf(out, "</%s>", name);
}

static void
put_object(GString *out, const char *name, const json_t *object)
{
    json_t *members = (json_t *)object; /* jansson's iterators know no const */
    const char *key;
    json_t *value;

    g_string_append_printf(out, "<%s", name);
    json_object_foreach (members, key, value) {
        if (!is_attribute(key, value))
            continue;
        g_string_append_printf(out, " %s=\"", key);
        put_escaped(out, json_string_value(value));
        g_string_append_c(out, '"');
    }
    g_string_append_c(out, '>');
    size_t start = out->len;
    json_object_foreach (members, key, value) {
        if (!is_attribute(key, value))
            put_member(out, key, value);
    }
    if (out->len == start) {
        g_string_truncate(out, start - 1);
        g_string_append(out, "/>");
        return;
    }
    g_string_append_printf(out, "</%s>", name);
}

static void
put_member(GString *out, const char *name, const json_t *value)
{
    if (json_is_object(value)) {
        put_object(out, name, value);
        return;
    }
    if (json_is_array(value)) {
        put_array(out, name, value);
        return;
    }
    if (json_is_null(value) || (json_is_string(value) && *json_string_value(value) == '\0'))
        return; /* libgovirt complains about elements without text */
    g_string_append_printf(out, "<%s>", name);
    put_scalar(out, value);
    g_string_append_printf(out, "</%s>", name);
}

char *
xml_write(const char *root, const json_t *document)
{
    GString *out = g_string_new("<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n");

    put_object(out, root, document);
    g_string_append_c(out, '\n');
    return g_string_free(out, FALSE);
}

/* ---- reading ---- */

static bool
bad(GError **error, const xmlNode *node, const char *what)
{
    return error_set(error, ERR_INVALID, "XML line %ld, element <%s>: %s", xmlGetLineNo(node),
                     (const char *)node->name, what);
}

static bool
is_member_of(const char *child, const char *parent)
{
    g_autofree char *single = singular_of(parent);

    return g_str_equal(child, "link") || g_strcmp0(single, child) == 0;
}

/* Takes value. */
static void
add_member(json_t *object, const char *parent, const char *name, json_t *value)
{
    json_t *there = json_object_get(object, name);

    if (json_is_array(there)) {
        json_array_append_new(there, value);
    } else if (there != NULL) { /* a scalar given twice: whoever reads it will refuse the array */
        json_t *both = json_array();
        json_array_append(both, there);
        json_array_append_new(both, value);
        json_object_set_new(object, name, both);
    } else if (is_member_of(name, parent)) {
        json_t *list = json_array();
        json_array_append_new(list, value);
        json_object_set_new(object, name, list);
    } else {
        json_object_set_new(object, name, value);
    }
}

static bool
read_attributes(json_t *object, const xmlNode *node, GError **error)
{
    for (xmlAttr *attribute = node->properties; attribute != NULL; attribute = attribute->next) {
        xmlChar *value = xmlNodeGetContent((xmlNode *)attribute);
        if (value == NULL)
            return bad(error, node, "an attribute cannot be read");
        json_object_set_new(object, (const char *)attribute->name, json_string((char *)value));
        xmlFree(value);
    }
    return true;
}

static json_t *
read_element(const xmlNode *node, unsigned depth, GError **error)
{
    g_autoptr(json_t) object = json_object();
    g_autoptr(GString) text = g_string_new(NULL);

    if (depth > XML_MAX_DEPTH) {
        bad(error, node, "more than " G_STRINGIFY(XML_MAX_DEPTH) " levels");
        return NULL;
    }
    if (!read_attributes(object, node, error))
        return NULL;
    for (const xmlNode *child = node->children; child != NULL; child = child->next) {
        if (child->type == XML_TEXT_NODE || child->type == XML_CDATA_SECTION_NODE)
            g_string_append(text, (const char *)child->content);
        if (child->type != XML_ELEMENT_NODE)
            continue;
        json_t *value = read_element(child, depth + 1, error);
        if (value == NULL)
            return NULL;
        add_member(object, (const char *)node->name, (const char *)child->name, value);
    }
    if (json_object_size(object) == 0 && text->len > 0)
        return json_string(text->str);
    if (strspn(text->str, " \t\r\n") != text->len) {
        bad(error, node, "text beside attributes or elements");
        return NULL;
    }
    return g_steal_pointer(&object);
}

/* Called when the parser sees <!DOCTYPE: nothing of it is looked at. */
static void
refuse_doctype(void *data, const xmlChar *name, const xmlChar *external, const xmlChar *system)
{
    xmlParserCtxt *parser = data;

    *(bool *)parser->_private = true;
    xmlStopParser(parser);
}

static bool
say_syntax(xmlParserCtxt *parser, GError **error)
{
    const xmlError *problem = xmlCtxtGetLastError(parser);
    g_autofree char *message = NULL;

    if (problem == NULL || problem->message == NULL)
        return error_set(error, ERR_INVALID, "the body is not XML");
    message = g_utf8_make_valid(problem->message, -1);
    return error_set(error, ERR_INVALID, "XML line %d, column %d: %s", problem->line, problem->int2,
                     g_strstrip(message));
}

static xmlDoc *
parse(const char *text, size_t size, GError **error)
{
    g_autoptr(xmlParserCtxt) parser = xmlNewParserCtxt();
    bool doctype = false;

    if (parser == NULL || size > G_MAXINT) {
        error_set(error, ERR_INVALID, "the body cannot be read as XML");
        return NULL;
    }
    parser->_private = &doctype;
    parser->sax->internalSubset = refuse_doctype;
    g_autoptr(xmlDoc) doc =
        xmlCtxtReadMemory(parser, text, (int)size, NULL, NULL,
                          XML_PARSE_NONET | XML_PARSE_NOERROR | XML_PARSE_NOWARNING);
    if (doctype) {
        error_set(error, ERR_INVALID, "XML with a DOCTYPE is not accepted");
        return NULL;
    }
    if (doc == NULL) {
        say_syntax(parser, error);
        return NULL;
    }
    return g_steal_pointer(&doc);
}

json_t *
xml_read(const char *text, size_t size, const char *root, GError **error)
{
    g_autoptr(xmlDoc) doc = parse(text, size, error);

    if (doc == NULL)
        return NULL;
    const xmlNode *top = xmlDocGetRootElement(doc);
    if (top == NULL) {
        error_set(error, ERR_INVALID, "XML without an element");
        return NULL;
    }
    if (root != NULL && !g_str_equal(top->name, root)) {
        error_set(error, ERR_INVALID, "XML line %ld: the element is <%s>, expected <%s>",
                  xmlGetLineNo(top), (const char *)top->name, root);
        return NULL;
    }
    g_autoptr(json_t) value = read_element(top, 1, error);
    if (value == NULL)
        return NULL;
    if (!json_is_object(value)) {
        bad(error, top, "elements are expected, not text");
        return NULL;
    }
    return g_steal_pointer(&value);
}
