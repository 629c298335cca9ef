/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include "base/error.h"

/* hv_edit_sources(), also telling whether anything is different now. */
char *edit_sources(const char *xml, const char *const *targets, const char *const *sources,
                   const char *const *formats, unsigned n, bool *ret_changed, GError **error);
