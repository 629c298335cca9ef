/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "storage/domain.h"
#include "storage/files.h"

static char *
rates_file(const Domain *domain)
{
    return g_build_filename(domain->path, DOMAIN_FOLDER, "rates.json", NULL);
}

bool
rates_load(const Domain *domain, Rates *ret_rates, GError **error)
{
    g_autofree char *file = rates_file(domain);
    g_autofree char *text = NULL;
    g_autoptr(json_t) json = NULL;
    json_error_t why;
    size_t length = 0;

    rates_init(ret_rates);
    if (!file_read(file, &text, &length, error))
        return false;
    if (text == NULL)
        return true;
    json = json_loadb(text, length, JSON_REJECT_DUPLICATES, &why);
    if (!json_is_object(json))
        return error_set(error, ERR_CORRUPT, "%s is damaged: line %d: %s", file, why.line,
                         json == NULL ? why.text : "it is no object");
    rates_from_json(ret_rates, json_object_get(json, "rates"));
    return true;
}

/* Into a folder that is not the domain's any more (unmounted) nothing is put. */
bool
rates_save(const Domain *domain, const Rates *rates, GError **error)
{
    g_autofree char *file = rates_file(domain);
    g_autoptr(json_t) json = json_pack("{s:i, s:o}", "livemerge", 1, "rates", rates_to_json(rates));
    autolibc char *text = json_dumps(json, JSON_INDENT(2));

    return domain_is_there(domain, error) && file_put(file, text, error);
}
