/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * What fixes and recovery have kept for a person goes after the configured time.
 */
#include "agent/operation.h"

#include "base/log.h"
#include "base/text.h"
#include "storage/salvage.h"

/* An undo that is under way reads what would go. */
static bool
doctor_works(Agent *agent)
{
    WITH_LOCK(&agent->lock);
    GHashTableIter it;
    void *op;

    g_hash_table_iter_init(&it, agent->operations);
    while (g_hash_table_iter_next(&it, NULL, &op))
        if (g_str_has_prefix(((Operation *)op)->row.kind, "doctor-") && !operation_ended(op))
            return true;
    return false;
}

static Domain *
nth_domain(Agent *agent, guint n)
{
    WITH_LOCK(&agent->lock);

    return n < agent->domains->len ? agent->domains->pdata[n] : NULL;
}

void
agent_expire_kept(Agent *agent, unsigned days)
{
    if (days == 0 || doctor_works(agent))
        return;
    for (guint i = 0; !agent_stopping(agent); i++) {
        const Domain *domain = nth_domain(agent, i);
        g_autoptr(GError) error = NULL;
        Expired gone = { 0 };

        if (domain == NULL)
            return;
        if (!trash_expire(domain, days, &gone, &error))
            log_warn("what is kept in %s for %u days: %s; it stays until the next try",
                     domain->path, days, error->message);
        g_autofree char *size = size_text(gone.bytes);
        if (gone.files > 0 || gone.undos > 0)
            log_info("kept for %u days in %s, now gone: %u files (%s), what %u fixes needed to be "
                     "undone",
                     days, domain->path, gone.files, size, gone.undos);
    }
}
