/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * docs/routes.md: every route of the table, and whose it is.
 */
#include "api/openapi.h"
#include "api/routes.h"

#include <string.h>

/* Where oVirt has no such path or method, or means something else by it. */
static const struct {
    const char *method, *path; /* method NULL = all of them */
} ours[] = {
    { NULL, "openapi.json" },       { NULL, "vms/*/removesnapshots" },
    { NULL, "vms/*/doctor" },       { NULL, "doctor" },
    { NULL, "jobs/*/cancel" },      { NULL, "jobs/*/resume" },
    { NULL, "events/stream" },      { NULL, "storagedomains/import" },
    { "PUT", "vms/*/snapshots/*" }, { "PUT", "users/*" },
    { NULL, "users/*/password" },   { NULL, "users/*/sessions" },
    { NULL, "users/*/sessions/*" }, { NULL, "certificate" },
    { NULL, "certificate/renew" },
};

static bool
is_ours(const Route *route)
{
    for (size_t i = 0; i < G_N_ELEMENTS(ours); i++)
        if (g_str_equal(ours[i].path, route->path) &&
            (ours[i].method == NULL || g_str_equal(ours[i].method, route->method)))
            return true;
    return false;
}

static const char *
whose(const Route *route)
{
    if (is_ours(route))
        return "ours";
    if (route->handler == get_nothing || route->handler == get_none)
        return "oVirt's, always empty";
    return "oVirt's";
}

char *
routes_document(void)
{
    GString *out = g_string_new(
        "# Routes of the REST API\n\n"
        "Made from the program's table by `make docs`. Paths are below `/ovirt-engine/api`; `*` is "
        "an id. Each `GET` can be a `HEAD`, too.\n"
        "[api.md](api.md) tells how they are used, and what of oVirt's API there is not.\n\n"
        "| method | path | right | whose | |\n| --- | --- | --- | --- | --- |\n");

    for (const Route *route = api_routes; route->method != NULL; route++) {
        const Note *note = note_of_route(route);
        const char *summary = note != NULL ? note->summary : "";
        g_string_append_printf(out, "| %s | `/%s` | %s | %s | %s |\n", route->method, route->path,
                               right_word(route->right), whose(route),
                               g_str_equal(summary, "Empty") ? "" : summary);
    }
    return g_string_free(out, FALSE);
}
