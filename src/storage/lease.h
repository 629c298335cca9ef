/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * The lease of a storage domain: who deletes volumes there, or repairs them while no VM uses them.
 * One holder at a time, whichever host or process it is.
 *
 *     DIR/.livemerge/lease.lock   locked by the holder
 *     DIR/.livemerge/lease.json   who had it last, and its number
 *
 * How it is used: lease_hold() before anything is looked at that decides what is deleted, then
 * lease_check() right before each act that cannot be taken back, then lease_drop(). Inside of a
 * process any number of users hold it together, with one number.
 *
 * Promise: each change of the holder raises the number (a fencing token). While somebody in this
 * process holds the lease its number stays the same, or the lease is lost and lease_check() says
 * so: what was decided under an older number is never carried out. The death of a holder frees it.
 *
 * The interface is made for more than the lock of one host: acquire() may take long (a lease on
 * shared storage: sanlock), and a lease may be lost at any time from outside.
 *
 * Ownership: a Domain owns its Lease. Threads: any. Errors: ERR_BUSY (somebody else has it, or it
 * was lost: may be tried again; names domain, holder and what frees it), ERR_STORAGE.
 */
#pragma once

#include "base/cleanup.h"
#include "base/error.h"

#include <stdint.h>

typedef struct Lease Lease;

typedef struct {
    /* Waits up to budget_ms. */
    bool (*acquire)(Lease *lease, unsigned budget_ms, int64_t *ret_token, GError **error);
    void (*release)(Lease *lease);
    /* Asks the storage: is it still ours, under this number? */
    bool (*check)(Lease *lease, int64_t token, GError **error);
    /* Is it known to be lost? Asks nobody; for long work. */
    bool (*lost)(Lease *lease);
    void (*free)(Lease *lease);
} LeaseOps;

/* What each implementation begins with; lease.c fills it in. */
struct Lease {
    const LeaseOps *ops;
    GMutex lock; /* held while it is acquired, too */
    unsigned users;
    int64_t token; /* while there are users */
};

void lease_init(Lease *lease, const LeaseOps *ops);
void lease_free(Lease *lease); /* nobody holds it */

typedef struct {
    Lease *lease; /* NULL = not held */
    int64_t token;
} LeaseHold;

/* No lease at all (a Domain that was not opened): held. ret_hold must be empty. */
bool lease_hold(Lease *lease, unsigned budget_ms, LeaseHold *ret_hold, GError **error);
bool lease_check(const LeaseHold *hold, GError **error);
bool lease_is_lost(const LeaseHold *hold);
void lease_drop(LeaseHold *hold);
G_DEFINE_AUTO_CLEANUP_CLEAR_FUNC(LeaseHold, lease_drop)
/* For who acts on behalf of one who holds it: is it held in this process, and still ours? */
bool lease_confirm(Lease *lease, GError **error);

/* The lock of one host (lease_local.c): a lock of an open file description, which the kernel frees
 * when its holder dies. folder: DIR/.livemerge. what: "storage domain gold (DIR)", for messages. */
char *lease_local_holder(const char *folder); /* who had it last; NULL = not known */
Lease *lease_local_new(const char *folder, const char *what);
