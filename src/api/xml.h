/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * The one JSON form of our documents, written as XML and read from it.
 *
 * Form: an object is an element; its members id, href and rel are attributes, the others child
 * elements. An array under a singular key repeats that element ({"vm":[{},{}]}). An array under a
 * plural key is wrapped: {"pauses":[{}]} is <pauses><pause/></pauses>. Nulls and empty texts
 * are left out.
 *
 * Reading gives the same form, but all scalars are texts and collections always have their
 * wrapper: <disks><disk id="1"/></disks> is {"disk":[{"id":"1"}]}. An empty element is {}.
 *
 * Threads: any, after xml_init().
 */
#pragma once

#include "base/cleanup.h"
#include "base/error.h"

#define XML_MAX_DEPTH 100

void xml_init(void);
char *xml_write(const char *root, const json_t *document);
/* Untrusted input. ERR_INVALID says line and column. A DOCTYPE is refused, nothing is fetched, no
 * entity but the five of XML is known. The root element must be called `root` (NULL = any). */
json_t *xml_read(const char *text, size_t size, const char *root, GError **error);
