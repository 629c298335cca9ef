/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * Which job is the newest one. Its row alone tells it: manager_jobs() makes documents of all. (A
 * file of its own, since a "Flow" is another thing for the manager than for the simulator.)
 */
#include "flow/core.h"

char *flow_newest_job(const Manager *manager); /* flows.h */

char *
flow_newest_job(const Manager *manager)
{
    g_autoptr(GPtrArray) rows = store_flow_list(manager->store, false, NULL, NULL, NULL);

    for (guint i = rows != NULL ? rows->len : 0; i-- > 0;)
        if (((const FlowRow *)rows->pdata[i])->parent == NULL)
            return g_strdup(((const FlowRow *)rows->pdata[i])->id);
    return NULL;
}
