/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * oVirt's system options: those of them that are true of us.
 */
#include "api/routes.h"

#define VERSION "4.7" /* of the one cluster */

static const struct {
    const char *name, *value;
} options[] = {
    { "VdcVersion", "4.5" },
    { "ProductRPMVersion", "4.5.6-1" },
    { "SupportedClusterLevels", VERSION },
    { "LiveMergeEnabled", "true" },
    { "LiveSnapshotEnabled", "true" },
    { "MemorySnapshotSupported", "true" },
    { "SearchResultsLimit", "-1" },
};

bool
get_option(Call *call, Reply *reply, GError **error)
{
    const char *version = call_query(call, "version");

    for (size_t i = 0; i < G_N_ELEMENTS(options); i++) {
        if (!g_str_equal(options[i].name, call->id))
            continue;
        json_t *list = json_array();
        if (version == NULL || g_str_equal(version, "general") || g_str_equal(version, VERSION))
            json_array_append_new(list,
                                  json_pack("{s:s, s:s}", "value", options[i].value, "version",
                                            version != NULL ? version : "general"));
        reply->body = doc_new(options[i].name, "/options/%s", options[i].name);
        doc_text(reply->body, "name", options[i].name);
        json_object_set_new(reply->body, "values", doc_list("system_option_value", list));
        return true;
    }
    return error_set(error, ERR_NOT_FOUND, "there is no system option '%s'", call->id);
}
