/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "storage/domain.h"
#include "storage/files.h"

#include <stdio.h>

#define FORMAT 1

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
    if (json_integer_value(json_object_get(json, "livemerge")) > FORMAT)
        return error_set(error, ERR_REFUSED,
                         "%s is of a later format; use the version that wrote it", file);
    rates_from_json(ret_rates, json_object_get(json, "rates"));
    return true;
}

/* Nobody else's, and none that a later version understands, is replaced; a damaged one is kept. */
static bool
may_replace(const Domain *domain, const char *file, GError **error)
{
    g_autoptr(GError) problem = NULL;
    g_autofree char *aside = g_strconcat(file, ".damaged", NULL);
    Rates rates;

    if (rates_load(domain, &rates, &problem))
        return true;
    if (!g_error_matches(problem, ERR, ERR_CORRUPT)) {
        g_propagate_error(error, g_steal_pointer(&problem));
        return false;
    }
    return rename(file, aside) == 0 ||
           error_set_errno(error, "%s; keeping it as %s", problem->message, aside);
}

/* Into a folder that is not the domain's any more (unmounted) nothing is put. */
bool
rates_save(const Domain *domain, const Rates *rates, GError **error)
{
    g_autofree char *file = rates_file(domain);
    g_autoptr(json_t) json =
        json_pack("{s:i, s:o}", "livemerge", FORMAT, "rates", rates_to_json(rates));
    autolibc char *text = json_dumps(json, JSON_INDENT(2));

    return domain_is_there(domain, error) && may_replace(domain, file, error) &&
           file_put(file, text, error);
}
