/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "hypervisor/xml.h"

#include <libxml/parser.h>

G_DEFINE_AUTOPTR_CLEANUP_FUNC(xmlParserCtxt, xmlFreeParserCtxt)

xmlDoc *
xml_read(const char *text, const char *root, GError **error)
{
    const int options = XML_PARSE_NONET | XML_PARSE_NOERROR | XML_PARSE_NOWARNING;
    size_t length = strlen(text);

    xmlInitParser();
    g_autoptr(xmlParserCtxt) context = xmlNewParserCtxt();
    if (context == NULL || length > G_MAXINT) {
        error_set(error, ERR_CORRUPT, "the %s XML cannot be read: too large", root);
        return NULL;
    }
    g_autoptr(xmlDoc) doc = xmlCtxtReadMemory(context, text, (int)length, NULL, NULL, options);
    if (doc == NULL) {
        const xmlError *last = xmlCtxtGetLastError(context);
        g_autofree char *why = g_strdup(last != NULL ? last->message : "unknown reason");
        error_set(error, ERR_CORRUPT, "the %s XML cannot be read: line %d: %s", root,
                  last != NULL ? last->line : 0, g_strchomp(why));
        return NULL;
    }
    if (doc->intSubset != NULL || doc->extSubset != NULL) {
        error_set(error, ERR_CORRUPT, "the %s XML has a DOCTYPE, which is not accepted", root);
        return NULL;
    }
    xmlNode *top = xmlDocGetRootElement(doc);
    if (top == NULL || strcmp((const char *)top->name, root) != 0) {
        error_set(error, ERR_CORRUPT, "the XML is not a <%s> but a <%s>", root,
                  top != NULL ? (const char *)top->name : "");
        return NULL;
    }
    return g_steal_pointer(&doc);
}

static xmlNode *
element_from(xmlNode *node, const char *name)
{
    for (; node != NULL; node = node->next)
        if (node->type == XML_ELEMENT_NODE &&
            (name == NULL || strcmp((const char *)node->name, name) == 0))
            return node;
    return NULL;
}

xmlNode *
xml_child(xmlNode *node, const char *name)
{
    return node != NULL ? element_from(node->children, name) : NULL;
}

xmlNode *
xml_next(xmlNode *node, const char *name)
{
    return element_from(node->next, name);
}

char *
xml_attr(xmlNode *node, const char *name)
{
    xmlChar *value = node != NULL ? xmlGetNoNsProp(node, BAD_CAST name) : NULL;
    char *copy = g_strdup((const char *)value);

    xmlFree(value);
    return copy;
}

bool
xml_attr_is(xmlNode *node, const char *name, const char *value)
{
    g_autofree char *now = xml_attr(node, name);

    return g_strcmp0(now, value) == 0;
}

xmlNode *
xml_disk(xmlNode *devices, const char *target)
{
    xmlNode *disk = xml_child(devices, "disk");

    while (disk != NULL && !xml_attr_is(xml_child(disk, "target"), "dev", target))
        disk = xml_next(disk, "disk");
    return disk;
}

void
xml_set(xmlNode *node, const char *name, const char *value)
{
    xmlSetProp(node, BAD_CAST name, BAD_CAST value); /* escapes when it is written */
}

char *
xml_text(xmlNode *node)
{
    xmlChar *value = node != NULL ? xmlNodeGetContent(node) : NULL;
    char *copy = g_strdup((const char *)value);

    xmlFree(value);
    return copy;
}

char *
xml_write(xmlDoc *doc)
{
    xmlBuffer *buffer = xmlBufferCreate();

    xmlNodeDump(buffer, doc, xmlDocGetRootElement(doc), 0, 0);
    char *text = g_strdup((const char *)xmlBufferContent(buffer));
    xmlBufferFree(buffer);
    return text;
}
