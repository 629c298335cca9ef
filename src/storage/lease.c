/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "storage/lease.h"

void
lease_init(Lease *lease, const LeaseOps *ops)
{
    lease->ops = ops;
    g_mutex_init(&lease->lock);
}

void
lease_free(Lease *lease)
{
    if (lease == NULL)
        return;
    g_mutex_clear(&lease->lock);
    lease->ops->free(lease);
}

/* lock held. One that is lost stays so until all have let go who still believe in its number. */
static bool
join(Lease *lease, unsigned budget_ms, GError **error)
{
    if (lease->users > 0)
        return lease->ops->check(lease, lease->token, error);
    return lease->ops->acquire(lease, budget_ms, &lease->token, error);
}

bool
lease_hold(Lease *lease, unsigned budget_ms, LeaseHold *ret_hold, GError **error)
{
    if (lease == NULL)
        return true;
    WITH_LOCK(&lease->lock);

    if (!join(lease, budget_ms, error))
        return false;
    lease->users++;
    *ret_hold = (LeaseHold){ lease, lease->token };
    return true;
}

bool
lease_check(const LeaseHold *hold, GError **error)
{
    return hold->lease == NULL || hold->lease->ops->check(hold->lease, hold->token, error);
}

bool
lease_is_lost(const LeaseHold *hold)
{
    return hold->lease != NULL && hold->lease->ops->lost(hold->lease);
}

void
lease_drop(LeaseHold *hold)
{
    Lease *lease = hold->lease;

    if (lease == NULL)
        return;
    hold->lease = NULL;
    WITH_LOCK(&lease->lock);

    if (--lease->users == 0)
        lease->ops->release(lease);
}

bool
lease_confirm(Lease *lease, GError **error)
{
    if (lease == NULL)
        return true;
    WITH_LOCK(&lease->lock);

    if (lease->users == 0)
        return error_set(error, ERR_INTERNAL, "the lease is not held; nothing was done");
    return lease->ops->check(lease, lease->token, error);
}
