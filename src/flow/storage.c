/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * What the agents say of their storage domains: room, sharing, who deletes there.
 */
#include "flow/core.h"

#define STORAGE_MS 3000 /* a list is shown without what a storage that hangs does not tell */

static void
add_domains(Host *host, json_t *all)
{
    g_autoptr(json_t) answer = NULL;
    size_t i;
    json_t *domain;

    if (!host_call_within(host, STORAGE_MS, "GET", "/v1/storage", NULL, &answer, NULL))
        return;
    json_array_foreach (json_object_get(answer, "domains"), i, domain) {
        json_t *told = json_deep_copy(domain);
        json_object_set_new(told, "host", json_string(host->name));
        json_array_append_new(all, told);
    }
}

static bool
host_is_up(Host *host)
{
    WITH_LOCK(&host->manager->lock);

    return host->up;
}

json_t *
manager_storage(Manager *m)
{
    json_t *all = json_array();

    for (guint i = 0; i < m->hosts->len; i++)
        if (host_is_up(m->hosts->pdata[i]))
            add_domains(m->hosts->pdata[i], all);
    return all;
}
