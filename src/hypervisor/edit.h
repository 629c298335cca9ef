/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include "hypervisor/xml.h"

/* hv_edit_sources(), also telling whether anything is different now. */
char *edit_sources(const char *xml, const char *const *targets, const char *const *sources,
                   const char *const *formats, unsigned n, bool *ret_changed, GError **error);

/* The element and the blank text before it, so that no empty line stays. */
void edit_remove(xmlNode *node);
/* Without any <backingStore>; false = it had none. */
bool edit_remove_backing(xmlNode *disk);
/* Another file for a disk of a domain. */
bool edit_disk(xmlNode *disk, const char *target, const char *source, const char *format,
               bool *ret_changed, GError **error);
