/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "agent/built.h"

#include "agent/operation.h"

Qcow2Source *
sources_of(const json_t *volumes, unsigned *ret_n)
{
    size_t n = json_array_size(volumes);
    Qcow2Source *sources = g_new0(Qcow2Source, n + 1);

    for (size_t i = 0; i < n; i++) {
        sources[i].path = json_text(json_array_get(volumes, i), "path");
        sources[i].format = json_text(json_array_get(volumes, i), "format");
    }
    *ret_n = (unsigned)n;
    return sources;
}

uint64_t
built_add(Qcow2Built *sum, const Qcow2Built *built)
{
    sum->bytes_shared += built->bytes_shared;
    sum->bytes_copied += built->bytes_copied;
    sum->bytes_written += built->bytes_written;
    sum->share_calls += built->share_calls;
    sum->copy_calls += built->copy_calls;
    return built->bytes_shared + built->bytes_copied + built->bytes_written;
}

bool
any_is_built(const json_t *entries)
{
    for (size_t i = 0; i < json_array_size(entries); i++) {
        const char *dest = json_text(json_array_get(entries, i), "dest");
        g_autofree char *unfinished = qcow2_build_name(dest);
        if (file_may_be_there(dest) || file_may_be_there(unfinished))
            return true;
    }
    return false;
}
