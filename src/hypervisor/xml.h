/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * A thin layer over libxml2 for domain XML. No network, no DOCTYPE, so no entities but the five of
 * XML itself.
 *
 * Ownership: strings returned are GLib's and belong to the caller; nodes belong to the document.
 */
#pragma once

#include "base/error.h"

#include <libxml/tree.h>

G_DEFINE_AUTOPTR_CLEANUP_FUNC(xmlDoc, xmlFreeDoc)

/* root: the wanted name of the root element. ERR_CORRUPT if it is another or not XML. */
xmlDoc *xml_read(const char *text, const char *root, GError **error);
/* The element children with this name (NULL = any): the first, and the one after node. */
xmlNode *xml_child(xmlNode *node, const char *name);
xmlNode *xml_next(xmlNode *node, const char *name);
char *xml_attr(xmlNode *node, const char *name); /* NULL = not there; node may be NULL */
bool xml_attr_is(xmlNode *node, const char *name, const char *value);
/* The <disk> of this target; devices may be NULL. NULL: there is none. */
xmlNode *xml_disk(xmlNode *devices, const char *target);
void xml_set(xmlNode *node, const char *name, const char *value);
char *xml_text(xmlNode *node); /* node may be NULL: NULL */
char *xml_write(xmlDoc *doc);
